"""Where a pinhole camera sees a relief: pose of the part, ray casting, sampling of maps at the points hit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uipad_cli.data.rendering.canvas import FloatArray

Pixels = tuple[FloatArray, FloatArray]
_ROUGH = 0.0004  # metres of depth between neighbours, from which a pixel is sampled more than once


@dataclass(frozen=True)
class Rig:
    """The fixed inspection station of one category.

    distance metres from the camera to the plane; field metres of plane that the image spans; turn radians, the part
    lies within plus or minus that; tilt degrees (about x, about y) of the plane; projector azimuth radians.
    """

    distance: float
    field: float
    turn: float
    tilt: tuple[float, float]
    projector: float


@dataclass(frozen=True)
class Camera:
    """Pinhole intrinsics in pixels: column u and row v look along ((u - cx) / focal, (v - cy) / focal, 1)."""

    focal: float
    cx: float
    cy: float
    size: int

    @classmethod
    def of(cls, rig: Rig, size: int) -> Camera:
        """The rig's camera at an image size; its centre never falls on a pixel, so no measured x or y is zero."""
        return cls(focal=size * rig.distance / rig.field, cx=size / 2 - 0.37, cy=size / 2 - 0.63, size=size)


@dataclass(frozen=True)
class Pose:
    """The part's frame seen from the camera: origin [3] metres and axes [3,3] (rows x, y, towards the camera)."""

    origin: FloatArray
    axes: FloatArray

    @classmethod
    def draw(cls, rig: Rig, rng: np.random.Generator) -> Pose:
        """A random pose within the rig's normal variation."""
        turn = rng.uniform(-rig.turn, rig.turn)
        about_x, about_y = np.radians(np.asarray(rig.tilt) + rng.uniform(-0.7, 0.7, 2))
        shift = rng.uniform(-0.035, 0.035, 2) * rig.field
        origin = np.array([shift[0], shift[1], rig.distance * rng.uniform(0.985, 1.02)])
        towards = -np.array([np.sin(about_y), np.sin(about_x), 1.0])
        towards /= np.linalg.norm(towards)
        across = np.array([np.cos(turn), np.sin(turn), 0.0])
        across -= towards * (across @ towards)
        across /= np.linalg.norm(across)
        down = np.cross(across, towards)
        return cls(origin, np.stack([across, down, towards]))

    @property
    def eye(self) -> FloatArray:
        """Camera centre [3] in the part's frame."""
        seen: FloatArray = -(self.axes @ self.origin)
        return seen


@dataclass(frozen=True)
class Hits:
    """What each pixel sees: row, column [H,W] on the grid, depth [H,W] metres along the optical axis."""

    row: FloatArray
    column: FloatArray
    depth: FloatArray


@dataclass(frozen=True)
class _Rays:
    """Grid column and row of every ray as linear functions of height [P]."""

    column: FloatArray
    row: FloatArray
    column_slope: FloatArray
    row_slope: FloatArray

    def at(self, height: FloatArray | float, chosen: npt.NDArray[np.intp] | slice) -> tuple[FloatArray, FloatArray]:
        return (
            self.row[chosen] + self.row_slope[chosen] * height,
            self.column[chosen] + self.column_slope[chosen] * height,
        )


def cast(relief: FloatArray, texel: float, *, camera: Camera, pose: Pose, pixels: Pixels) -> Hits:
    """First intersection of the pixels' rays with the relief [h,w] metres, a square grid centred on the part."""
    u, v = pixels
    looks = np.stack([(u - camera.cx) / camera.focal, (v - camera.cy) / camera.focal, np.ones(u.shape)], -1)
    x_step, y_step, drop = (looks.reshape(-1, 3) @ pose.axes.T).T
    eye, centre = pose.eye, (relief.shape[0] - 1) / 2
    rays = _Rays(
        column=((eye[0] - eye[2] * x_step / drop) / texel + centre).astype(np.float32),
        row=((eye[1] - eye[2] * y_step / drop) / texel + centre).astype(np.float32),
        column_slope=(x_step / drop / texel).astype(np.float32),
        row_slope=(y_step / drop / texel).astype(np.float32),
    )
    height = _refine(relief, rays, *_march(relief, rays))
    row, column = rays.at(height, slice(None))
    depth = (height.astype(np.float64) - eye[2]) / drop
    return Hits(*(values.reshape(u.shape) for values in (row, column, depth)))


def view(
    relief: FloatArray, texel: float, maps: FloatArray, *, camera: Camera, pose: Pose
) -> tuple[FloatArray, FloatArray]:
    """Maps [h,w,C] as the camera sees them [H,W,C], smooth along silhouettes, and the depth [H,W] at their centres."""
    size = camera.size
    v, u = np.mgrid[0:size, 0:size].astype(np.float64)
    hits = cast(relief, texel, camera=camera, pose=pose, pixels=(u, v))
    seen = sample(maps, hits.row, hits.column)
    rough = _steps(hits.depth) > _ROUGH
    offsets = np.array([(-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25)])
    spread = (u[rough][:, None] + offsets[:, 0], v[rough][:, None] + offsets[:, 1])
    around = cast(relief, texel, camera=camera, pose=pose, pixels=spread)
    seen[rough] = sample(maps, around.row, around.column).mean(1)
    return seen, hits.depth


def sample(maps: FloatArray, row: FloatArray, column: FloatArray) -> FloatArray:
    """Bilinear values [..., C] of maps [h,w,C] at grid positions; positions outside take the border."""
    rows, columns, channels = maps.shape
    row, column = np.clip(row, 0, rows - 1.001), np.clip(column, 0, columns - 1.001)
    top, left = row.astype(np.int64), column.astype(np.int64)
    down = (row - top).astype(np.float32)[..., None]
    right = (column - left).astype(np.float32)[..., None]
    flat, first = maps.reshape(-1, channels), top * columns + left
    upper = flat[first] * (1 - right) + flat[first + 1] * right
    lower = flat[first + columns] * (1 - right) + flat[first + columns + 1] * right
    mixed: FloatArray = upper * (1 - down) + lower * down
    return mixed


def _march(relief: FloatArray, rays: _Rays) -> tuple[FloatArray, FloatArray]:
    """Heights [P] just inside and just above the relief, walking down each ray about one grid cell at a time."""
    # Levels are multiples of one step, so that a change of the relief in one place moves no other point.
    step = float(0.75 / max(np.abs(rays.column_slope).max(), np.abs(rays.row_slope).max()))
    levels = np.arange(np.floor(float(relief.max()) / step) + 1, np.floor(float(relief.min()) / step) - 1, -1) * step
    inside = np.full(rays.row.shape, levels[-1], np.float32)
    above = np.full(rays.row.shape, levels[0], np.float32)
    flying = np.arange(rays.row.size)
    limit, flat = relief.shape[0] - 1, relief.ravel()
    for level in levels[1:-1]:
        row, column = rays.at(level, flying)
        cell = np.clip(row + 0.5, 0, limit).astype(np.int64) * (limit + 1)
        cell += np.clip(column + 0.5, 0, limit).astype(np.int64)
        hit = flat[cell] >= level
        inside[flying[hit]] = level
        flying = flying[~hit]
        above[flying] = level
    return inside, above


def _refine(relief: FloatArray, rays: _Rays, inside: FloatArray, above: FloatArray) -> FloatArray:
    """Close in on the surface between the two heights [P]."""
    maps = relief[..., None]

    def overlap(height: FloatArray) -> FloatArray:
        return sample(maps, *rays.at(height, slice(None)))[..., 0] - height

    low, high = np.maximum(overlap(inside), 0.0), np.minimum(overlap(above), -1e-9)
    guess: FloatArray = inside + (above - inside) * low / (low - high)
    for _ in range(2):
        guess[...] = np.clip(guess + overlap(guess), inside, above)
    return guess


def _steps(depth: FloatArray) -> FloatArray:
    """Largest difference [H,W] to the four neighbours."""
    steps = np.zeros_like(depth)
    across, down = np.abs(np.diff(depth, axis=1)), np.abs(np.diff(depth, axis=0))
    steps[:, 1:] = across
    np.maximum(steps[:, :-1], across, out=steps[:, :-1])
    np.maximum(steps[1:], down, out=steps[1:])
    np.maximum(steps[:-1], down, out=steps[:-1])
    return steps
