"""Points in ply and pcd files → xyz, organised as an image where the file is, and their colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from uipad_cli.data.columns import Cloud
from uipad_cli.data.pcd import parse_pcd
from uipad_cli.data.ply import parse_ply
from uipad_cli.data.rasters import Raster
from uipad_cli.errors import DataError

Colours = npt.NDArray[np.uint8]


def read_ply(data: bytes, path: Path) -> Raster:
    """Points of a ply file as they lie on disk: float32 or float64 [N,3], or [H,W,3] where they are organised.

    Organised: by a range_grid (a cell without a point is NaN), or by a width and a height in a comment or obj_info
    line whose product is the number of points. Raises DataError.
    """
    return _xyz(parse_ply(data, path), path)


def read_pcd(data: bytes, path: Path) -> Raster:
    """Points of a pcd file as they lie on disk, NaN included: float32 or float64 [N,3], or [H,W,3] if HEIGHT > 1.

    Raises DataError.
    """
    return _xyz(parse_pcd(data, path), path)


def cloud_colours(data: bytes, path: Path) -> Colours | None:
    """Colours of an organised ply or pcd file -> uint8 [H,W,3], RGB; None where it has none or is not organised.

    A cell of a range_grid without a point is black. Raises DataError.
    """
    cloud = parse_ply(data, path) if data.startswith(b"ply") else parse_pcd(data, path)
    found = cloud.columns
    if cloud.grid is None:
        return None
    if all(name in found and found[name].dtype == np.uint8 for name in ("red", "green", "blue")):
        colours = np.stack([found["red"], found["green"], found["blue"]], axis=-1)
    else:
        packed = [found[name] for name in ("rgb", "rgba") if name in found and found[name].dtype.itemsize == 4]
        if not packed:
            return None
        # 0x00RRGGBB or 0xAARRGGBB, often typed as a float: its bits are kept, its value means nothing
        bits = np.ascontiguousarray(packed[0]).view(packed[0].dtype.str.replace("f", "u"))
        colours = np.stack([bits >> 16 & 255, bits >> 8 & 255, bits & 255], axis=-1).astype(np.uint8)
    return _laid_out(colours, cloud, np.zeros(3, np.uint8))


def _xyz(cloud: Cloud, path: Path) -> Raster:
    missing = [name for name in ("x", "y", "z") if name not in cloud.columns]
    if missing:
        raise DataError(
            f"{path}: no single column {missing[0]} (it holds {', '.join(cloud.names)[:120]})",
            "export the points with their coordinates x, y, z",
        )
    axes = [cloud.columns[name] for name in ("x", "y", "z")]
    if any(axis.dtype.kind != "f" for axis in axes):
        kinds = ", ".join(str(axis.dtype.newbyteorder("=")) for axis in axes)
        raise DataError(f"{path}: x, y, z are {kinds}, where floating point numbers are expected", "save them as float")
    xyz = np.empty((len(axes[0]), 3), np.result_type(*axes).newbyteorder("="))
    for place, axis in enumerate(axes):
        xyz[:, place] = axis
    return _laid_out(xyz, cloud, np.full(3, np.nan, xyz.dtype))


def _laid_out(values: Raster, cloud: Cloud, empty: Raster) -> Raster:
    """[N,3] → [H,W,3] where the cloud is organised; a cell without a point gets `empty`."""
    if cloud.grid is None:
        return values
    if cloud.cells is not None:
        values = np.where(cloud.cells[:, None] >= 0, values[cloud.cells], empty)
    return np.ascontiguousarray(values.reshape(*cloud.grid, 3))
