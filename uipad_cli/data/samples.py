"""One pair of files → arrays; no torch here, so that worker processes start fast."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from uipad_cli.data import files
from uipad_cli.data.geometry import Preparation, Prepared, backproject, prepare_geometry
from uipad_cli.errors import DataError
from uipad_cli.records import GeometryKind, Item, Modality, Sample

Colour = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

GREY = 128  # of a photograph that is missing


def load_sample(item: Item, preparation: Preparation) -> Sample:
    """Both files of a pair, raw or prepared: bitwise the same sample either way.

    Raises DataError naming the file, ResourceError where open3d is asked for and missing.
    """
    if item.geometry_kind != "height":
        rgb, prepared = prepare_pair(item, preparation)
        return Sample(rgb, prepared.height, prepared.valid)
    rgb = files.read_rgb(item.rgb)
    height, valid = _heights(item)
    _check_sizes(item.rgb, rgb.shape[:2], item.geometry, height.shape)
    return Sample(rgb, height, valid)


def load_half(item: Item, preparation: Preparation, known: Modality) -> Sample:
    """The known half of a pair; the other file is not opened: grey instead of colour, level ground instead of geometry.

    Raises as `load_sample`.
    """
    if known == "rgb":
        rgb = files.read_rgb(item.rgb)
        return Sample(rgb, np.zeros(rgb.shape[:2], np.float32), np.ones(rgb.shape[:2], np.bool_))
    height, valid = _heights(item) if item.geometry_kind == "height" else _prepared(item, preparation)
    return Sample(np.full((*height.shape, 3), GREY, np.uint8), height, valid)


def prepare_pair(item: Item, preparation: Preparation) -> tuple[Colour, Prepared]:
    """Colour [H0,W0,3] uint8 and prepared geometry of a raw pair. Raises DataError, ResourceError."""
    rgb = files.read_rgb(item.rgb)
    geometry, kind = _geometry(item, preparation)
    _check_sizes(item.rgb, rgb.shape[:2], item.geometry, geometry.shape[:2])
    return rgb, _level(item, geometry, kind, preparation)


def _heights(item: Item) -> tuple[npt.NDArray[np.float32], Mask]:
    """A prepared height map and the mask of what was measured, of one size and finite. Raises DataError."""
    if item.valid is None:
        raise DataError(f"{item.geometry}: a prepared height without its mask of measured pixels", "prepare again")
    height, _ = files.read_map(item.geometry)
    valid = files.read_valid(item.valid)
    _check_sizes(item.geometry, height.shape, item.valid, valid.shape)
    if not np.isfinite(height).all():
        raise DataError(f"{item.geometry}: a prepared height that is not finite everywhere", "prepare again")
    return height, valid


def _prepared(item: Item, preparation: Preparation) -> tuple[npt.NDArray[np.float32], Mask]:
    found = _level(item, *_geometry(item, preparation), preparation)
    return found.height, found.valid


def _geometry(item: Item, preparation: Preparation) -> tuple[npt.NDArray[np.float32], GeometryKind]:
    wanted: Literal["xyz", "depth"] = "depth" if item.geometry_kind == "depth" else "xyz"
    return files.read_geometry(item.geometry, unit=preparation.unit, kind=wanted)


def _level(item: Item, geometry: npt.NDArray[np.float32], kind: GeometryKind, preparation: Preparation) -> Prepared:
    xyz = backproject(geometry, preparation.focal) if kind == "depth" else geometry
    try:
        return prepare_geometry(xyz, preparation)
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
