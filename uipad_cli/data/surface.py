"""The points of a part, one for each pixel, for whatever is to be shown on it in three dimensions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from uipad_cli.data import files
from uipad_cli.data.framing import resize
from uipad_cli.data.geometry import Preparation, measured
from uipad_cli.data.samples import colour_path, origin, pitch_at
from uipad_cli.data.scans import REFERENCE, is_cloud, read_points, read_raster
from uipad_cli.data.sensor import Sensor
from uipad_cli.records import Item, Sample

Floats = npt.NDArray[np.float32]

RELIEF = 0.2  # heights of a surface whose pitch is not known, as a share of its longer side


@dataclass(frozen=True)
class Surface:
    """points [H,W,3] float32 metres, all three NaN where nothing was measured.

    frame: sensor, the axes of the sensor's own file (of its camera for a depth image: x right, y down, z away), so
    that the points lie on the scan; plane, x right, y up, z the height above the background, as one looks at the
    photograph; image, the same with y down, for what draws rows downwards (it is left-handed: viewers of points would
    show it mirrored). metric: False where the pitch is not known; the longer side is 1 then, and the heights reach
    from 0 to `RELIEF`. unit: metres of 1.0 in the sensor's own file: points / unit are its numbers.
    """

    points: Floats
    metric: bool
    frame: Literal["sensor", "plane", "image"]
    unit: float = 1.0


def surface(item: Item, sample: Sample, preparation: Preparation) -> Surface:
    """The points of a pair at the size of `sample.rgb`, to which `infer` brings its maps, too.

    In the sensor's frame where the files of a raw pair say x and y, else on the plane. `sample` must hold the
    geometry: a pair judged by its colour alone has no surface. Raises DataError as `read_points`.
    """
    size = (sample.rgb.shape[0], sample.rgb.shape[1])
    if item.geometry_kind != "height":
        points = read_points(item, preparation.sensor, _photo_size(item, sample, preparation))
        source = origin(item, preparation.sensor, points)
        if source in ("points", "camera"):
            there = measured(points)
            points = points if source == "camera" else _as_in_file(points, preparation.sensor)
            points[~there] = np.nan
            unit = preparation.sensor.float_unit if source == "points" else 1.0
            return Surface(resize(points, size, nearest=True), True, "sensor", unit)  # a mean is no point of the part
    flat = grid(_at_size(sample, size))
    return replace(flat, points=flat.points * np.array([1, -1, 1], np.float32), frame="plane")


def grid(sample: Sample) -> Surface:
    """The height [H0,W0] of a sample as points over its pixels, in the frame image; the first of them at x = y = 0."""
    seen = sample.height[sample.valid]
    low, span = (float(seen.min()), float(np.ptp(seen))) if seen.size else (0.0, 0.0)
    step = sample.pitch or 1 / max(sample.valid.shape)
    z = sample.height if sample.pitch else (sample.height - low) * (RELIEF / span if span > 0 else 1.0)
    x, y = np.meshgrid(*(np.arange(size) * step for size in sample.valid.shape[::-1]))
    points = np.stack([x, y, z], axis=-1).astype(np.float32)
    points[~sample.valid] = np.nan
    return Surface(points, sample.pitch is not None, "image")


def _photo_size(item: Item, sample: Sample, preparation: Preparation) -> tuple[int, int]:
    """(H0, W0) of the photograph as it lies on disk; only a cloud in no order is looked at for it."""
    rgb = sample.rgb
    if preparation.longest is not None and is_cloud(read_raster(item.geometry)):
        rgb = files.read_rgb(colour_path(item, preparation.light))
    return rgb.shape[0], rgb.shape[1]


def _as_in_file(points: Floats, sensor: Sensor) -> Floats:
    """Points as `read_points` gives them → along the axes of the file they were read from, still in metres."""
    if sensor.axis == "away":
        return points
    zero = np.array([0, 0, REFERENCE if sensor.axis == "up" else 0], np.float32)
    return (points - zero) * np.array([1, -1, -1], np.float32)


def _at_size(sample: Sample, size: tuple[int, int]) -> Sample:
    """A sample with its geometry at `size`."""
    was = sample.valid.shape
    if was == size:
        return sample
    pitch = None if sample.pitch is None else pitch_at(sample.pitch, was, size)
    height, valid = resize(sample.height, size), resize(sample.valid, size, nearest=True)
    return Sample(sample.rgb, height, valid, pitch)
