"""What could tell good from defective parts without a look at the part: its files, and how they were recorded."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from uipad_cli.data import files
from uipad_cli.data.geometry import Preparation
from uipad_cli.data.headers import probe
from uipad_cli.data.rasters import tiff_header
from uipad_cli.data.samples import colour_path
from uipad_cli.data.scans import is_measured, read_raster
from uipad_cli.engine.health_parts import Part, Tell, spread_out
from uipad_cli.errors import DataError
from uipad_cli.metrics.leaks import LEAST_PARTS, Leak, Value, ranked
from uipad_cli.records import GOOD, UNLABELLED, Item

MOST = 100  # parts of either kind that are looked at
CONSTANTS = 20  # files that are looked at where there are no labels to tell

# How files were named and copied is no part of an image.
NUMBERED = ("number in the file name", "time of the file")  # grow from file to file
OUTSIDE = (*NUMBERED, "length of the file name")


@dataclass(frozen=True)
class FileFacts:
    """What is known of a pair before anybody looks at the part.

    properties by their names, None where a pair has no such thing; constant: which of x and y are one and the same
    number in every measured point.
    """

    properties: Mapping[str, Value]
    constant: tuple[str, ...]


@dataclass(frozen=True)
class Properties:
    """How well each property tells the labels, and the pairs whose x or y is a placeholder; `looked_at` of points."""

    leaks: tuple[Leak, ...]
    constant: Mapping[str, tuple[str, ...]]  # by "x", "y": SPLIT/DEFECT/STEM
    looked_at: int


def chosen(raw: Sequence[Item], names: Collection[str]) -> list[Item]:
    """The source pairs worth opening: labelled test parts of both kinds, or a few that hold points.

    names: SPLIT/DEFECT/STEM of what was prepared.
    """
    there = [item for item in raw if _key(item) in names]
    test = [item for item in there if item.split == "test" and item.defect != UNLABELLED]
    good = [item for item in test if item.defect == GOOD]
    bad = [item for item in test if item.defect != GOOD]
    if min(len(good), len(bad)) >= LEAST_PARTS:
        return [*_some(good, MOST), *_some(bad, MOST)]
    return list(_some([item for item in there if item.geometry_kind == "xyz"], CONSTANTS))


def examine_files(items: Sequence[Item], parts: Mapping[str, Part], preparation: Preparation, tell: Tell) -> Properties:
    """Properties of the `chosen` pairs of a category; parts by SPLIT/DEFECT/STEM. Raises DataError, ResourceError."""
    constant: dict[str, list[str]] = {"x": [], "y": []}
    columns: dict[str, list[Value]] = {}
    for item in items:
        facts = file_facts(item, parts[_key(item)], preparation)
        for name, value in facts.properties.items():
            columns.setdefault(name, []).append(value)
        for axis in facts.constant if item.geometry_kind == "xyz" else ():  # elsewhere nobody reads x and y
            constant[axis].append(_key(item))
        tell(f"{item.name}, source files")
    labels = [item.defect for item in items]
    for name in NUMBERED:
        if name in columns and _folder_by_folder(columns[name], labels):
            del columns[name]
    defective = [label != GOOD for label in labels]
    points = sum(item.geometry_kind == "xyz" for item in items)
    return Properties(
        tuple(ranked(columns, defective)), {axis: tuple(names) for axis, names in constant.items() if names}, points
    )


def file_facts(item: Item, part: Part, preparation: Preparation) -> FileFacts:
    """Properties of one pair's source files. Raises DataError, ResourceError."""
    colour = colour_path(item, preparation.light)
    data = files.read_bytes(colour)
    header = probe(data, colour)
    if header.format == "tiff":
        header = tiff_header(data, colour)
    numbers = re.findall(r"\d+", item.stem)
    across, down, constant = _placeholders(item, preparation)
    properties: dict[str, Value] = {
        "size of the colour file": len(data),
        "size of the geometry file": _stat(item.geometry).st_size,
        "format of the colour file": f"{header.format}, {header.channels} x {header.bits} bits",
        "width of the image": header.width or part.entry.width,
        "height of the image": header.height or part.entry.height,
        "brightness along the image border": part.border,
        "share of missing points": part.entry.geometry.missing_share,
        "mean of x": across,
        "mean of y": down,
        "number in the file name": float(numbers[-1]) if numbers and len(numbers[-1]) < 16 else None,
        "length of the file name": len(item.stem),
        "time of the file": _stat(colour).st_mtime,
    }
    return FileFacts(properties, constant)


def _placeholders(item: Item, preparation: Preparation) -> tuple[float | None, float | None, tuple[str, ...]]:
    """Means of x and y over the measured points as they lie on disk, and which of the two never change."""
    if item.geometry_kind not in ("xyz", "z"):
        return None, None, ()
    raster = read_raster(item.geometry)
    if raster.shape[-1] != 3 or raster.dtype.kind != "f":
        return None, None, ()
    points = raster[is_measured(raster, preparation.sensor)]
    if not len(points):
        return None, None, ()
    across, down = (_channel(points[:, place]) for place in (0, 1))
    flat = tuple(axis for axis, (_, same) in (("x", across), ("y", down)) if same)
    return across[0], down[0], flat


def _channel(values: npt.NDArray[np.floating]) -> tuple[float | None, bool]:
    """Mean, None where it is beyond all numbers, and whether all values are the same."""
    with np.errstate(over="ignore"):
        mean = float(values.mean(dtype=np.float64))
    return mean if np.isfinite(mean) else None, bool(values.size > 1 and values.min() == values.max())


def _folder_by_folder(values: Sequence[Value], labels: Sequence[str]) -> bool:
    """True where one label comes after the other: so does any copy, and any numbering, of one folder after another."""
    numbers = [value for value in values if isinstance(value, float)]
    if len(numbers) < len(labels):
        return False
    order = [label for _, label in sorted(zip(numbers, labels, strict=True))]
    return sum(one != other for one, other in pairwise(order)) < len(set(labels))


def _key(item: Item) -> str:
    return item.name.split("/", 1)[1]


def _some(items: Sequence[Item], most: int) -> Iterator[Item]:
    return (items[place] for place in spread_out(len(items), most))


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", "check the path") from error
