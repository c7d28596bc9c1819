"""One pair of files → arrays; no torch here, so that worker processes start fast."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from uipad_cli.data import files
from uipad_cli.data.geometry import Preparation, Prepared, backproject, prepare_geometry
from uipad_cli.errors import DataError
from uipad_cli.records import Item, Sample

Colour = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def load_sample(item: Item, preparation: Preparation) -> Sample:
    """Both files of a pair, raw or prepared: bitwise the same sample either way.

    Raises DataError naming the file, ResourceError where open3d is asked for and missing.
    """
    if item.geometry_kind != "height":
        rgb, prepared = prepare_pair(item, preparation)
        return Sample(rgb, prepared.height, prepared.valid)
    if item.valid is None:
        raise DataError(f"{item.geometry}: a prepared height without its mask of measured pixels", "prepare again")
    rgb = files.read_rgb(item.rgb)
    height, _ = files.read_map(item.geometry)
    valid = files.read_valid(item.valid)
    _check_sizes(item.rgb, rgb.shape[:2], item.geometry, height.shape)
    _check_sizes(item.geometry, height.shape, item.valid, valid.shape)
    if not np.isfinite(height).all():
        raise DataError(f"{item.geometry}: a prepared height that is not finite everywhere", "prepare again")
    return Sample(rgb, height, valid)


def prepare_pair(item: Item, preparation: Preparation) -> tuple[Colour, Prepared]:
    """Colour [H0,W0,3] uint8 and prepared geometry of a raw pair. Raises DataError, ResourceError."""
    rgb = files.read_rgb(item.rgb)
    wanted: Literal["xyz", "depth"] = "depth" if item.geometry_kind == "depth" else "xyz"
    geometry, kind = files.read_geometry(item.geometry, unit=preparation.unit, kind=wanted)
    _check_sizes(item.rgb, rgb.shape[:2], item.geometry, geometry.shape[:2])
    xyz = backproject(geometry, preparation.focal) if kind == "depth" else geometry
    try:
        return rgb, prepare_geometry(xyz, preparation)
    except DataError as error:  # the arrays do not know their file
        raise DataError(f"{item.geometry}: {error.message}", error.cure) from error


def load_mask(item: Item, shape: tuple[int, ...]) -> Mask:
    """Defect mask [H0,W0] of a pair, all False for a good part without one.

    Raises DataError for a defect without a mask file and for a mask of another size.
    """
    if item.mask is None:
        if item.is_good:
            return np.zeros(shape, dtype=np.bool_)
        raise DataError(f"{item.rgb}: a part with defect {item.defect!r} and no mask file", "add its mask in gt/")
    mask = files.read_mask(item.mask)
    _check_sizes(item.rgb, shape, item.mask, mask.shape)
    return mask


def _check_sizes(first: Path, one: tuple[int, ...], second: Path, other: tuple[int, ...]) -> None:
    if one != other:
        raise DataError(
            f"sizes differ: {first} is {one[1]} x {one[0]}, {second} is {other[1]} x {other[0]} pixels",
            "colour, geometry and mask must be registered pixel by pixel",
        )
