"""One pair of files → arrays; no torch here, so that worker processes start fast."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from uipad_cli.data import files
from uipad_cli.data.framing import resize, working_size
from uipad_cli.data.geometry import Preparation, Prepared, measured, normals, prepare_geometry
from uipad_cli.data.scans import backproject, kind_in, read_points
from uipad_cli.data.sensor import Sensor
from uipad_cli.errors import DataError, UsageError
from uipad_cli.records import UNLABELLED, Item, Modality, Sample

Colour = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Origin = Literal["points", "camera", "grid", "unknown"]

NORMALS = "normals"  # the light under which the normals of the geometry are taken for the colour image
GREY = 128  # of a photograph that is missing


def load_sample(item: Item, preparation: Preparation) -> Sample:
    """Both files of a pair, raw or prepared: bitwise the same sample either way.

    Raises DataError naming the file, ResourceError where open3d is asked for and missing.
    """
    if item.geometry_kind != "height":
        rgb, prepared = prepare_pair(item, preparation)
        return Sample(rgb, prepared.height, prepared.valid, prepared.facts.pitch_m or None)
    rgb = files.read_rgb(item.rgb)
    height, valid = _heights(item)
    _check_sizes(item.rgb, rgb.shape[:2], item.geometry, height.shape)
    return Sample(rgb, height, valid, item.pitch)


def load_half(item: Item, preparation: Preparation, known: Modality) -> Sample:
    """The known half of a pair; the other file is not opened: grey instead of colour, level ground instead of geometry.

    Raises as `load_sample`.
    """
    if preparation.light == NORMALS:
        raise UsageError(f"{item.geometry}: colour is drawn from the geometry here", "give both files of the pair")
    if known == "rgb":
        rgb = files.read_rgb(colour_path(item, preparation.light))
        rgb = resize(rgb, working_size(rgb.shape[0], rgb.shape[1], preparation.longest))
        return Sample(rgb, np.zeros(rgb.shape[:2], np.float32), np.ones(rgb.shape[:2], np.bool_))
    if item.geometry_kind == "height":
        (height, valid), pitch = _heights(item), item.pitch
    else:
        found = _level(item, read_points(item, preparation.sensor, None), preparation)
        found = _scaled(found, working_size(found.valid.shape[0], found.valid.shape[1], preparation.longest))
        height, valid, pitch = found.height, found.valid, found.facts.pitch_m or None
    return Sample(np.full((*height.shape, 3), GREY, np.uint8), height, valid, pitch)


def prepare_pair(item: Item, preparation: Preparation) -> tuple[Colour, Prepared]:
    """Colour [H0,W0,3] uint8 and prepared geometry of a raw pair. Raises DataError, ResourceError, UsageError.

    The pitch among its facts is that of the sample: from pixel to pixel of these images, 0 where nothing says it.
    """
    path = colour_path(item, preparation.light)
    rgb = files.read_rgb(path)
    points = read_points(item, preparation.sensor, (rgb.shape[0], rgb.shape[1]))
    if kind_in(item, preparation.sensor) != "z":  # those are registered, but not pixel by pixel
        _check_sizes(path, rgb.shape[:2], item.geometry, points.shape[:2])
    size = working_size(rgb.shape[0], rgb.shape[1], preparation.longest)
    if preparation.light == NORMALS:
        rgb = _normals_picture(points)
    return resize(rgb, size), _scaled(_level(item, points, preparation), size)


def colour_path(item: Item, light: str | None) -> Path:
    """The colour image of a pair, or the one of `light`. Raises DataError where there is no such one.

    `NORMALS` is no file: it is drawn from the geometry, in the place of the image that gives it its size.
    """
    if light in (None, NORMALS) or not item.lights:  # a pair given by hand has the image that was given
        return item.rgb
    known = dict(item.lights)
    if light not in known:
        raise DataError(
            f"{item.rgb}: has no image of light {light!r}", f"choose one of: {', '.join((*known, NORMALS))}"
        )
    return known[light]


def origin(item: Item, sensor: Sensor, points: Floats) -> Origin:
    """Where x and y of the points [H0,W0,3] that `read_points` has made of a raw pair come from.

    points: measured, as a file of points says; camera: one that was told; grid: a told distance from pixel to pixel;
    unknown: none was told, they are made up, and no width or area can be had of them.
    """
    kind = kind_in(item, sensor)
    if kind == "xyz":
        there = points[..., 2] > 0
        placeholders = all(np.ptp(points[..., axis][there]) == 0 for axis in (0, 1))
        return "unknown" if placeholders else "points"
    on_grid = kind == "z" or sensor.axis == "up"
    if not on_grid and (sensor.camera is not None or item.camera is not None):
        return "camera"
    if kind == "depth" and not np.array_equal(points[..., 0], _made_up(points, sensor)):
        return "points"  # they may lie among depth images
    told = sensor.pitch != Sensor.model_fields["pitch"].default
    return "grid" if on_grid and told else "unknown"


def pitch_at(pitch: float, was: tuple[int, ...], size: tuple[int, ...]) -> float:
    """Metres from pixel to pixel of images of (height, width) `was`, when they are brought to `size`: equal areas."""
    return pitch * sqrt(was[0] * was[1] / (size[0] * size[1]))


def _made_up(points: Floats, sensor: Sensor) -> Floats:
    """x [H0,W0] of points of which only the depth, or the height, is measured."""
    if sensor.axis != "up":
        return backproject(points[..., 2], None)[..., 0]
    columns = (np.arange(points.shape[1]) * sensor.pitch).astype(np.float32)
    return np.where(points[..., 2] > 0, columns, np.float32(0))


def _pitch(item: Item, sensor: Sensor, points: Floats, found: float) -> float:
    """Metres from pixel to pixel of a raw pair, `found` among its points where they are measured; 0 where unknown."""
    source = origin(item, sensor, points)
    if source in ("points", "camera"):
        return found
    return sensor.pitch if source == "grid" else 0.0


def _normals_picture(points: Floats) -> Colour:
    """Normals of points [H0,W0,3] as colours, as pseudo-3D images show them; black where none is known."""
    found = normals(points, measured(points)) * np.array([1, 1, -1], np.float32)  # blue faces the sensor
    picture: Colour = np.rint((found + 1) * 127.5).astype(np.uint8)
    picture[~found.any(axis=2)] = 0
    return picture


def _heights(item: Item) -> tuple[Floats, Mask]:
    """A prepared height map and the mask of what was measured, of one size and finite. Raises DataError."""
    if item.valid is None:
        raise DataError(f"{item.geometry}: a prepared height without its mask of measured pixels", "prepare again")
    height, _ = files.read_map(item.geometry)
    valid = files.read_valid(item.valid)
    _check_sizes(item.geometry, height.shape, item.valid, valid.shape)
    if not np.isfinite(height).all():
        raise DataError(f"{item.geometry}: a prepared height that is not finite everywhere", "prepare again")
    return height, valid


def _level(item: Item, points: Floats, preparation: Preparation) -> Prepared:
    try:
        found = prepare_geometry(points, preparation)
    except DataError as error:  # the arrays do not know their file
        raise DataError(f"{item.geometry}: {error.message}", error.cure) from error
    pitch = _pitch(item, preparation.sensor, points, found.facts.pitch_m)
    return replace(found, facts=replace(found.facts, pitch_m=pitch))


def _scaled(found: Prepared, size: tuple[int, int]) -> Prepared:
    if found.valid.shape == size:
        return found
    facts = replace(found.facts, pitch_m=pitch_at(found.facts.pitch_m, found.valid.shape, size))
    return Prepared(resize(found.height, size), resize(found.valid, size, nearest=True), facts)


def load_mask(item: Item, shape: tuple[int, ...], longest: int | None = None) -> Mask:
    """Defect mask [H0,W0] of a pair, all False for a good part without one.

    longest: what raw pairs are scaled down to; a pixel that holds any defect keeps it. Raises DataError for a defect
    without a mask file and for a mask of another size.
    """
    if item.mask is None:
        if item.is_good:
            return np.zeros(shape, dtype=np.bool_)
        if item.defect == UNLABELLED:
            raise DataError(f"{item.rgb}: neither a label nor a mask", "label the parts to measure, or use uipad infer")
        raise DataError(f"{item.rgb}: a part with defect {item.defect!r} and no mask file", "add its mask in gt/")
    mask = files.read_mask(item.mask)
    size = working_size(mask.shape[0], mask.shape[1], longest)
    if size != mask.shape:
        mask = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA) > 0
    _check_sizes(item.rgb, shape, item.mask, mask.shape)
    return mask


def _check_sizes(first: Path, one: tuple[int, ...], second: Path, other: tuple[int, ...]) -> None:
    if one != other:
        raise DataError(
            f"sizes differ: {first} is {one[1]} x {one[0]}, {second} is {other[1]} x {other[0]} pixels",
            "colour, geometry and mask must be registered pixel by pixel",
        )
