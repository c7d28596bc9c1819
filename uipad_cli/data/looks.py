"""What some files have in common: one strange file among them must not decide for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from uipad_cli.data.rasters import Raster
from uipad_cli.data.scans import Kind, is_cloud, is_measured
from uipad_cli.data.sensor import Sensor
from uipad_cli.errors import DataError

SAY_UNIT = "say what one count is: --unit mm, --unit 1/5000, --unit 0.00025 (metres), ..."
_DEEP = 5.0  # times the nearest quarter: a scan whose median is nearer lies before a sensor, not around zero
_UNLIKE = 30.0  # times the distance of another file: not in its unit
_DISTINCT = 16  # different counts that must share a factor before it means anything


@dataclass(frozen=True)
class Look:
    """One geometry file as it lies on disk."""

    path: Path
    kind: Kind
    raster: Raster


def native(raster: Raster, sensor: Sensor) -> Raster:
    """Numbers in the byte order of this machine."""
    return raster.byteswap() if sensor.swapped and raster.dtype.itemsize > 1 else raster


def depth_of(raster: Raster) -> Raster:
    """A depth image, or the last coordinate of points."""
    return raster[..., 2] if raster.ndim == 3 or is_cloud(raster) else raster


def depths(raster: Raster, sensor: Sensor) -> npt.NDArray[Any]:
    """The depths [n] of pixels that do not stand for a missing one."""
    return np.asarray(depth_of(raster)[is_measured(raster, sensor)])


def measured(looks: Sequence[Look], sensor: Sensor) -> npt.NDArray[Any]:
    """The depths [n] of all pixels that do not stand for a missing one."""
    return np.concatenate([depths(native(look.raster, sensor), sensor) for look in looks])


def alike(looks: list[Look], sensor: Sensor, *, told: bool) -> tuple[list[Look], list[str]]:
    """The files that are about as far away as most, and the paths of the others; all where there is no distance.

    told: the unit is known. Raises DataError where it is not, and no unit can be that of most files.
    """
    far = [_distance(look, sensor) for look in looks]
    most = max(([_like(one, other) for other in far] for one in far), key=sum)
    if 2 * sum(most) > len(looks):
        kept = [look for look, like in zip(looks, most, strict=True) if like]
        return kept, [str(look.path) for look, like in zip(looks, most, strict=True) if not like]
    there = [(distance, look.path) for distance, look in zip(far, looks, strict=True) if distance]
    if 2 * len(there) > len(looks) and not told:
        (least, near), (largest, distant) = min(there), max(there)
        raise DataError(
            f"{near} shows something {least:.3g} away, {distant} something {largest:.3g} away: in one unit?",
            "prepare the files of each unit by themselves",
        )
    return looks, []


def _like(one: float, other: float) -> bool:
    """True for distances on the same side of zero that may be in one unit."""
    return one * other > 0 and 1 / _UNLIKE < one / other < _UNLIKE


def _distance(look: Look, sensor: Sensor) -> float:
    """Median depth in its own unit; 0 where the scan does not lie before a sensor, as heights around zero.

    Below zero where z points toward the sensor.
    """
    values = measured([look], sensor)
    if not values.size:
        return 0.0
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return float(median) if 0 < median < _DEEP * low or 0 > median > _DEEP * high else 0.0


def cross_zero(looks: Sequence[Look], sensor: Sensor) -> bool:
    """True for height maps: depths below zero in most files, or heights around zero; a few such points are noise.

    Raises DataError where a few files lie below zero, and the others before a sensor.
    """
    values = [(look.path, measured([look], sensor)) for look in looks]
    below = [path for path, depth in values if depth.size and np.quantile(depth, 0.01) < 0]
    if 2 * len(below) > len(looks) or 2 * sum(_distance(look, sensor) > 0 for look in looks) <= len(looks):
        return True
    if below:
        raise DataError(
            f"{below[0]}: some of its points lie below zero, as in a height map, and none of most other files",
            "mend or remove it, or say where z points: --axis away or --axis up",
        )
    return False


def in_steps_of(looks: Sequence[Look], sensor: Sensor, factor: int, share: float) -> bool:
    """True where nearly all counts are multiples of a factor, and not of twice as much: that is a coarse sensor's.

    Raises DataError where it is true of some files, and not of others.
    """
    paths: dict[bool, list[Path]] = {True: [], False: []}
    for look in looks:
        counts = measured([look], sensor)
        if look.raster.dtype == np.uint16 and np.unique(counts).size >= _DISTINCT:
            steps = (counts % factor == 0).mean() > share and (counts % (2 * factor) == 0).mean() < 0.9
            paths[bool(steps)].append(look.path)
    if all(paths.values()):
        strange = len(paths[True]) <= len(paths[False])
        one, others = ("", " not") if strange else (" not", "")
        told = f"its counts are{one} all divisible by {factor}, those of other files are{others}: in one unit?"
        raise DataError(f"{paths[strange][0]}: {told}", SAY_UNIT)
    return bool(paths[True])
