"""Geometry files → points in metres: read as they lie on disk, then understood by what is known of the sensor."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from uipad_cli.data import clouds, files, numbers
from uipad_cli.data.headers import probe
from uipad_cli.data.rasters import Raster, read_npy, read_tiff
from uipad_cli.data.sensor import Intrinsics, Sensor
from uipad_cli.errors import DataError
from uipad_cli.records import Item

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Kind = Literal["xyz", "depth", "z"]

FARTHEST = 1e6  # metres: beyond it, a number is no distance
REFERENCE = 1.0  # metres: where a height map's zero is put in front of the sensor that is made up for it
DISPARITY_ZERO, DISPARITY_FACTOR = 1092.5, 351.3  # of the first Kinect, metres = factor / (zero - count)
_LEAST_CLOUD = 30  # points
_LEAST_SEEN = 0.01  # share of the points of a cloud that must fall into the image

_WHOLE_IMAGE = "export organised points, one for each pixel, or say what camera took them: --intrinsics fx,fy,cx,cy"


def read_raster(path: Path) -> Raster:
    """The numbers of a geometry file as they lie on disk.

    A depth image [H0,W0], organised points [H0,W0,3], or a cloud in no order [N,3]. The format is
    told by the first bytes, not by the name. Raises DataError; ResourceError where EXR files need a package.
    """
    data = files.read_bytes(path)
    header = probe(data, path)
    readers = {
        "tiff": lambda: read_tiff(data, path)[0],
        "npy": lambda: read_npy(data, path),
        "npz": lambda: numbers.read_npz(data, path),
        "ply": lambda: clouds.read_ply(data, path),
        "pcd": lambda: clouds.read_pcd(data, path),
        "exr": lambda: numbers.read_exr(data, path),
    }
    if header.format in readers:
        return readers[header.format]()
    if header.format == "pnm" and header.channels == 1:
        return numbers.read_pgm(data, path)
    if header.format != "png" or header.bits != 16 or header.channels != 1:
        colour = "colour" if header.channels > 2 else "grey"
        raise DataError(
            f"{path}: an {header.bits}-bit {colour} {header.format} image where xyz or depth is expected",
            "pass organised points (tif, npy, ply, pcd) or depth (16-bit one-channel png, tif, npy, pgm, exr);"
            " colour goes in as colour",
        )
    return files.decode(data, path, cv2.IMREAD_UNCHANGED)


def kind_of(path: Path) -> Kind:
    """What a geometry file holds: points where it has three numbers for each, else depth. Raises as `read_raster`.

    Where x and y are the same for all points, as in Real-IAD D3, they are placeholders, and only z counts.
    """
    raster = read_raster(path)
    if is_cloud(raster):
        return "xyz"
    if raster.ndim != 3:
        return "depth"
    points = raster[np.isfinite(raster).all(axis=2)]
    with np.errstate(over="ignore"):  # from one end of all numbers to the other
        across, down, away = np.ptp(points, axis=0) if len(points) else (1, 1, 0)
    return "z" if across == down == 0 and away > 0 else "xyz"


def kind_in(item: Item, sensor: Sensor) -> Kind:
    """What the geometry file of a raw pair holds, as far as its sensor may be trusted.

    Raises ValueError for a prepared one.
    """
    if item.geometry_kind == "height":
        raise ValueError(f"{item.geometry} is prepared")
    return "z" if sensor.only_z else item.geometry_kind


def is_cloud(raster: Raster) -> bool:
    """True for points [N,3] that are in no order; no depth image is three pixels wide."""
    return raster.ndim == 2 and raster.shape[1] == 3 and len(raster) >= _LEAST_CLOUD and raster.dtype.kind == "f"


def check_kind(raster: Raster, kind: Kind, path: Path) -> None:
    """Raise DataError where the numbers of a file cannot be what it should hold."""
    if kind == "depth" and not is_cloud(raster):
        if raster.ndim != 2 or raster.dtype.kind not in "iuf" or raster.dtype.itemsize == 1:
            raise DataError(
                f"{path}: {files.describe(raster)} where a depth image is expected (one channel, 16 bits or floats)",
                "pass the depth file, or say that this is an xyz file",
            )
    elif kind == "z" and is_cloud(raster):
        raise DataError(f"{path}: {files.describe(raster)}, points in no order, where only z counts", _WHOLE_IMAGE)
    elif raster.dtype.kind != "f" or (raster.ndim != 3 and not is_cloud(raster) and kind != "z"):
        raise DataError(
            f"{path}: {files.describe(raster)} where xyz is expected (three float channels)",
            "pass the xyz file, or say that this is a depth image",
        )


def read_points(item: Item, sensor: Sensor, size: tuple[int, int] | None) -> Floats:
    """The geometry of a raw pair; its own camera counts where none was told. Raises as `read_file`."""
    camera = item.camera
    if camera is not None and sensor.camera is None:
        sensor = sensor.model_copy(
            update={"camera": Intrinsics(fx=camera[0], fy=camera[1], cx=camera[2], cy=camera[3])}
        )
    return read_file(item.geometry, kind_in(item, sensor), sensor, size=size, depth_range=item.depth_range)


def read_file(
    path: Path,
    kind: Kind,
    sensor: Sensor = Sensor(),  # noqa: B008  (frozen)
    *,
    size: tuple[int, int] | None = None,
    depth_range: tuple[float, float] | None = None,
) -> Floats:
    """A geometry file → float32 [H0,W0,3] metres (x right, y down, z away), missing = (0,0,0).

    size: (H0, W0) of its colour image, into which a cloud in no order is projected. Raises as `read_raster`.
    """
    raster = read_raster(path)
    check_kind(raster, kind, path)
    if sensor.swapped and raster.dtype.itemsize > 1:
        raster = raster.byteswap()
    if kind == "depth" and not is_cloud(raster):
        return _from_depth(raster, path, sensor, depth_range)
    if kind == "z":
        return _from_heights(raster[..., 2] if raster.ndim == 3 else raster, sensor, path)
    points = _facing(raster, sensor)
    points[~(is_measured(raster, sensor) & (points[..., 2] > 0))] = 0
    if points.ndim == 2:
        points = _organise(points, None if sensor.axis == "up" else sensor.camera, size, path)
    _check_any(points, path, "point")
    return points


def backproject(depth: Floats, camera: Intrinsics | None) -> Floats:
    """Depth [H0,W0] in metres → xyz [H0,W0,3] of a pinhole camera; missing stays (0,0,0).

    Without a camera, one of a focal length of the longer side that looks at the middle.
    """
    height, width = depth.shape
    seen = camera or Intrinsics(fx=max(height, width), fy=max(height, width))
    cx, cy = seen.centre(height, width)
    slope_y = (np.arange(height, dtype=np.float64) - cy) / seen.fy
    slope_x = (np.arange(width, dtype=np.float64) - cx) / seen.fx
    return np.stack([depth * slope_x[None, :], depth * slope_y[:, None], depth], axis=-1).astype(np.float32)


def project(points: Floats, camera: Intrinsics, size: tuple[int, int], path: Path) -> Floats:
    """A cloud [N,3] in metres → organised points [H0,W0,3]: of those that fall on a pixel, the nearest is seen.

    Raises DataError where next to none falls into the image.
    """
    height, width = size
    points = points[points[:, 2] > 0]
    cx, cy = camera.centre(height, width)
    depth = points[:, 2].astype(np.float64)
    column = np.rint(points[:, 0] / depth * camera.fx + cx)
    row = np.rint(points[:, 1] / depth * camera.fy + cy)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    if inside.sum() <= _LEAST_SEEN * len(points):
        raise DataError(
            f"{path}: {int(inside.sum())} of {len(points)} points fall into the image of {width} x {height} pixels",
            "do the intrinsics belong to this sensor, and are the points in the frame of its colour camera?",
        )
    order = np.argsort(-depth[inside], kind="stable")  # far to near: the nearest is written last and stays
    pixel = (row[inside] * width + column[inside]).astype(np.int64)[order]
    organised = np.zeros((height * width, 3), dtype=np.float32)
    organised[pixel] = points[inside][order]
    return organised.reshape(height, width, 3)


def metres(raster: Raster, sensor: Sensor) -> Doubles:
    """Numbers as they lie on disk → metres, any shape; what they say of missing ones is nonsense."""
    if raster.dtype.kind == "f":
        return raster.astype(np.float64) * sensor.float_unit
    if sensor.encoding == "rotated" and raster.dtype == np.uint16:
        raster = (raster >> 3) | (raster << 13)
    if sensor.encoding == "disparity":
        gap = DISPARITY_ZERO - raster.astype(np.float64)
        return np.where(gap > 0, DISPARITY_FACTOR / np.where(gap > 0, gap, 1), 0)
    return raster.astype(np.float64) * sensor.unit


def _from_depth(raster: Raster, path: Path, sensor: Sensor, depth_range: tuple[float, float] | None) -> Floats:
    if sensor.axis == "up":
        return _from_heights(raster, sensor, path)
    with np.errstate(over="ignore", invalid="ignore"):
        if depth_range is not None:
            low, high = depth_range
            depth = (raster.astype(np.float64) / 65535 * (high - low) + low).astype(np.float32)
        else:
            depth = metres(raster, sensor).astype(np.float32)
            depth = -depth if sensor.axis == "toward" else depth
        depth[~(is_measured(raster, sensor) & np.isfinite(depth) & (depth > 0))] = 0
    _check_any(depth, path)
    return backproject(depth, sensor.camera)


def _from_heights(raster: Raster, sensor: Sensor, path: Path) -> Floats:
    """Points on a regular grid: what the file says of x and y is not asked."""
    with np.errstate(over="ignore", invalid="ignore"):
        z = metres(raster, sensor)
        z = {"away": z, "toward": -z, "up": REFERENCE - z}[sensor.axis].astype(np.float32)
    there = is_measured(raster, sensor) & np.isfinite(z) & (z > 0)
    x, y = np.meshgrid(*(np.arange(size) * sensor.pitch for size in raster.shape[::-1]))
    points = np.stack([x, y, z], axis=-1).astype(np.float32)
    points[~there] = 0
    _check_any(points, path)
    return points


def _facing(raster: Raster, sensor: Sensor) -> Floats:
    """Points in metres with y down and z away from the sensor."""
    with np.errstate(over="ignore", invalid="ignore"):
        points = metres(raster, sensor)
        if sensor.axis != "away":
            points = points * np.array([1.0, -1.0, -1.0])
        if sensor.axis == "up":
            points = points + np.array([0.0, 0.0, REFERENCE])
        return points.astype(np.float32)


def is_measured(raster: Raster, sensor: Sensor) -> Mask:
    """Bool of the shape of the image or the cloud: False for what the sensor marks as missing."""
    values = raster[..., None] if raster.ndim == 2 and not is_cloud(raster) else raster
    there = np.asarray(np.isfinite(values).all(axis=-1))
    for number in sensor.missing:
        if number == 0:  # a point on the axis has one or two zeros
            there &= (values != 0).any(axis=-1)
        elif values.dtype.kind == "f":
            there &= values[..., -1] != np.asarray(number).astype(values.dtype)
        elif number == int(number) and np.iinfo(values.dtype).min <= number <= np.iinfo(values.dtype).max:
            there &= values[..., -1] != int(number)
    return there


def _organise(points: Floats, camera: Intrinsics | None, size: tuple[int, int] | None, path: Path) -> Floats:
    """A cloud [N,3] as an image: as it stands if it holds one point for each pixel, else through the camera."""
    if size is None:
        raise DataError(f"{path}: {len(points)} points in no order, and no colour image to say where", _WHOLE_IMAGE)
    height, width = size
    if len(points) == height * width and _row_by_row(grid := points.reshape(height, width, 3)):
        return grid
    if camera is None:
        raise DataError(
            f"{path}: {len(points)} points in no order: which pixel of the image ({width} x {height}) sees which"
            " point is not known",
            _WHOLE_IMAGE,
        )
    return project(points, camera, size, path)


def _row_by_row(grid: Floats) -> bool:
    """True where x grows, or falls, along nearly every row, and so does y down nearly every column."""
    there = grid[..., 2] > 0
    across = np.diff(grid[..., 0], axis=1)[there[:, 1:] & there[:, :-1]]
    down = np.diff(grid[..., 1], axis=0)[there[1:] & there[:-1]]
    return bool(across.size and down.size) and all(
        max((steps > 0).mean(), (steps < 0).mean()) > 0.95 for steps in (across, down)
    )


def _check_any(found: Floats, path: Path, what: str = "pixel") -> None:
    """Raise DataError where nothing of a depth image [H0,W0] or of points [H0,W0,3] is a place before the sensor."""
    there = (found if found.ndim == 2 else found[..., 2]) > 0
    if not there.any():
        raise DataError(f"{path}: every {what} is missing (no finite {what} with z > 0)", "scan the part again")
    shown = there if found.ndim == 2 else there[..., None]
    largest = max(float(found.max(initial=0, where=shown)), -float(found.min(initial=0, where=shown)))
    if largest > FARTHEST:
        raise DataError(
            f"{path}: a {what} {largest:.3g} m away", "mend it, or say what marks a missing one: --missing 0,1e30"
        )
