"""The background plane of an organised scan, fitted to the strip along the image border."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from uipad_cli.errors import DataError, ResourceError

Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_LEAST_POINTS = 30
_TRIES = 300
_TRY_POINTS = 1500
_INLIER_NOISES = 3.0
_LEAST_SHARE = 0.55  # of the border points near the plane
_WORST_NOISE = 0.05  # of the spread of the points: rougher than that is not a plane
_PRECISION = 1e-6  # of the distance: what float32 coordinates resolve
_NO_PLANE = "if the background is cut out or the part fills the image, use --plane none"

# the settings of published preprocessing, so that results can be compared
_OPEN3D_DISTANCE, _OPEN3D_POINTS, _OPEN3D_ROUNDS = 0.004, 50, 1000
_OPEN3D_TURN = threading.Lock()  # its seed is one for all threads


@dataclass(frozen=True)
class Plane:
    """normal · point + offset = height in metres, positive toward the camera; noise: robust spread of its points."""

    normal: tuple[float, float, float]
    offset: float
    noise: float = 0.0

    @property
    def tilt_degrees(self) -> float:
        """Angle between the plane and the image plane."""
        return float(np.degrees(np.arccos(min(1.0, abs(self.normal[2])))))


def border(height: int, width: int) -> Mask:
    """Bool [H0,W0]: the strip along the image border, 10 pixels or 2.5 % of the shorter side."""
    strip = max(10, round(0.025 * min(height, width)))
    mask = np.ones((height, width), dtype=np.bool_)
    mask[strip:-strip, strip:-strip] = False
    return mask


def fit_plane(
    xyz: npt.NDArray[np.float32], valid: Mask, *, seed: int = 0, way: Literal["border", "open3d"] = "border"
) -> Plane:
    """Plane through the measured points [H0,W0,3] of the border strip; equal input and seed, equal plane.

    Raises DataError where the border holds too few points or is no plane, ResourceError where open3d is missing.
    """
    points = xyz[border(*valid.shape) & valid].astype(np.float64)
    if len(points) < _LEAST_POINTS:
        raise DataError(f"only {len(points)} measured points along the image border: no plane can be fitted", _NO_PLANE)
    guess = _guess_with_open3d(points, seed) if way == "open3d" else _guess(points, seed)
    plane = guess if way == "open3d" else _refine(points, guess)
    distances = np.abs(_heights(plane, points))
    near = points[distances <= max(_INLIER_NOISES * plane.noise, _floor(points))]
    spread = float(np.sqrt(near.var(axis=0).sum())) if len(near) else 0.0
    if len(near) < _LEAST_SHARE * len(points) or plane.noise > _WORST_NOISE * spread:
        raise DataError(
            f"the image border is not a plane: its points lie {plane.noise:.3g} m off the best one"
            f" ({len(near)} of {len(points)} near it, over {spread:.3g} m)",
            _NO_PLANE,
        )
    return plane


def height_above(plane: Plane, xyz: npt.NDArray[np.float32], valid: Mask) -> npt.NDArray[np.float32]:
    """Float32 [H0,W0] metres above the plane, 0 where nothing was measured."""
    points = np.where(valid[..., None], xyz, 0).astype(np.float64)
    return np.where(valid, _heights(plane, points), 0).astype(np.float32)


def _heights(plane: Plane, points: Doubles) -> Doubles:
    """Written out, because a matrix product may round differently with the number of threads."""
    x, y, z = plane.normal
    return np.asarray(points[..., 0] * x + points[..., 1] * y + points[..., 2] * z + plane.offset)


def _facing(normal: Doubles, offset: float, noise: float) -> Plane:
    """The camera sits at the origin, so the offset is its own height above the plane."""
    sign = -1.0 if offset < 0 else 1.0
    x, y, z = (float(value) * sign for value in normal)
    return Plane((x, y, z), offset * sign, noise)


def _guess(points: Doubles, seed: int) -> Plane:
    """The plane through three points that has the least median distance to all: half of them may be wrong."""
    generator = np.random.default_rng(seed)
    some = generator.permutation(len(points))[:_TRY_POINTS]
    points = points[some]
    corners = points[generator.integers(0, len(points), size=(_TRIES, 3))]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.sqrt((normals**2).sum(axis=1))
    real = lengths > 1e-12 * float((points**2).sum(axis=1).max())
    if not real.any():
        raise DataError("the points along the image border lie on one line: no plane can be fitted", _NO_PLANE)
    normals = normals[real] / lengths[real, None]
    offsets = -(normals * corners[real, 0]).sum(axis=1)
    distances = np.abs(np.einsum("tc,pc->tp", normals, points) + offsets[:, None])
    medians = np.median(distances, axis=1)
    best = int(np.argmin(medians))
    return _facing(normals[best], float(offsets[best]), 1.4826 * float(medians[best]))


def _refine(points: Doubles, plane: Plane) -> Plane:
    """Least squares over the points near the plane, three times."""
    for _ in range(3):
        near = points[np.abs(_heights(plane, points)) <= max(_INLIER_NOISES * plane.noise, _floor(points))]
        centre = near.mean(axis=0)
        offsets = near - centre
        covariance = (offsets[:, :, None] * offsets[:, None, :]).sum(axis=0)
        normal = np.linalg.eigh(covariance)[1][:, 0]
        distance = -float((normal * centre).sum())
        noise = 1.4826 * float(np.median(np.abs((offsets * normal).sum(axis=1))))
        plane = _facing(normal, distance, noise)
    return plane


def _floor(points: Doubles) -> float:
    return _PRECISION * float(np.median(np.abs(points[:, 2])))


def _guess_with_open3d(points: Doubles, seed: int) -> Plane:
    open3d = _open3d()
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points))
    with _OPEN3D_TURN:
        open3d.utility.random.seed(seed)
        model, _ = cloud.segment_plane(_OPEN3D_DISTANCE, min(_OPEN3D_POINTS, len(points)), _OPEN3D_ROUNDS)
    plane = _facing(np.asarray(model[:3], dtype=np.float64), float(model[3]), 0.0)
    distances = np.abs(_heights(plane, points))
    near = distances[distances <= _OPEN3D_DISTANCE]
    return Plane(plane.normal, plane.offset, 1.4826 * float(np.median(near)) if near.size else 0.0)


def _open3d() -> Any:
    try:
        import open3d
    except (ImportError, OSError) as error:
        raise ResourceError(
            f"--plane open3d: open3d cannot be loaded ({error})",
            "pip install 'uipad[3d]'; where it is installed: apt-get install libgl1 libx11-6 libgomp1",
        ) from error
    return open3d
