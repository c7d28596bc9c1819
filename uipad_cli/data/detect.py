"""What a sensor's files hold, found by looking at some of them: unit, missing values, byte order, encoding, axis.

Every finding comes with its evidence, and where the evidence is not enough nothing is guessed: a depth that is wrong
by a constant factor looks as good as a right one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from uipad_cli.data.files import describe
from uipad_cli.data.looks import SAY_UNIT, Look, alike, cross_zero, depth_of, depths, in_steps_of, measured, native
from uipad_cli.data.rasters import Raster
from uipad_cli.data.scans import is_cloud, is_measured, metres
from uipad_cli.data.sensor import Sensor
from uipad_cli.errors import DataError

NEAREST, FARTHEST = 0.03, 6.0  # metres: between them a sensor stands before its part
_SENTINEL_SHARE = 5e-4  # of all pixels; a number that stands for "missing" is frequent
_SWAP_GAIN = 2.0  # times as many changes of the high byte as of the low one
_KINECT_LARGEST = 2047
_MARKS = frozenset({2047.0, 4095.0, 8191.0, 9999.0, 10000.0, 16383.0, 32767.0, 65534.0, 65535.0})
_LARGER = 5.0  # times as large as all others
_RARER = {"1/4000 m": 1 / 4000, "1/10000 m": 1 / 10000}
_WIDE = 2.0  # width over distance that no lens sees: 90 degrees


@dataclass
class Found:
    """What is known so far, and why."""

    sensor: Sensor
    told: frozenset[str]
    findings: list[str] = field(default_factory=list)

    def set(self, name: str, value: object, evidence: str) -> None:
        """Take a value over, unless it was told by the user or by the data set."""
        if name not in self.told:
            self.sensor = self.sensor.model_copy(update={name: value})
            self.findings.append(evidence)


@np.errstate(over="ignore", invalid="ignore")  # between numbers from one end of all floats to the other
def examine(looks: Sequence[Look], told: dict[str, object]) -> tuple[Sensor, list[str]]:
    """The sensor that made the files, and a sentence for everything that was found out.

    told: what need not be found out, by the names of `Sensor`. Raises DataError where the unit cannot be told.
    """
    found = Found(Sensor.model_validate(told), frozenset(told))
    whole = [look for look in looks if look.kind == "depth" and look.raster.dtype.kind in "iu"]
    floats = [look for look in looks if look.raster.dtype.kind == "f"]
    if whole:
        found.findings.append(f"depth: {_layout(whole)}")
        _byte_order(whole, found)
        _missing(whole, found)
        whole = _most(whole, found)
        _whole_unit(whole, found, alone=not floats)
    if floats:
        found.findings.append(f"{floats[0].kind}: {_layout(floats)}")
        _missing(floats, found)
        floats = _most(floats, found)
        _float_unit(floats, found, alone=not whole)
    _camera([*whole, *floats], found)
    if looks and all(look.kind == "z" for look in looks):
        found.set("only_z", True, f"points: only z counts, x and y are made of the pitch ({found.sensor.pitch:g} m)")
    return found.sensor, found.findings


def _layout(looks: Sequence[Look]) -> str:
    first = looks[0]
    order = "points in no order" if is_cloud(first.raster) else "organised"
    what = f"{describe(first.raster)}, {order}"
    return f"{what} ({len(looks)} files looked at, {first.path.suffix.lower()})"


# ---- byte order -------------------------------------------------------------------------------------------------


def _byte_order(looks: Sequence[Look], found: Found) -> None:
    """From pixel to pixel the high byte of a smooth surface changes far less often than the low one."""
    wide = [look.raster for look in looks if look.raster.dtype.itemsize == 2]
    if not any((raster & 255).any() for raster in wide):  # eight bits, scaled up: swapped, nothing would be left of it
        return
    high = float(np.mean([_changes(raster >> 8) for raster in wide]))
    low = float(np.mean([_changes(raster & 255) for raster in wide]))
    if high > _SWAP_GAIN * low:
        found.set(
            "swapped",
            True,
            f"byte order: the other one than the file says (as written, the high byte changes at {high:.0%} of the"
            f" pixels, the low one at {low:.0%})",
        )


def _changes(values: Raster) -> float:
    """Share of pixels that differ from their neighbour in the row."""
    return float((values[:, 1:] != values[:, :-1]).mean()) if values.shape[1] > 1 else 0.0


# ---- missing values ---------------------------------------------------------------------------------------------


def _missing(looks: Sequence[Look], found: Found) -> None:
    """Which numbers stand for no measurement; all that is not finite does without being asked."""
    if "missing" in found.told:
        return
    rasters = [native(look.raster, found.sensor) for look in looks]
    size = sum(depth_of(raster).size for raster in rasters)
    finite = found.sensor.model_copy(update={"missing": ()})
    values = np.concatenate([depths(raster, finite) for raster in rasters])
    strange = size - values.size
    missing: list[float] = []
    notes = [f"not finite in {strange / size:.1%}"] if strange else []
    zeros = sum(_zeros(raster) for raster in rasters)
    if zeros and _zero_is_missing(values, zeros):
        missing.append(0.0)
        notes.append(f"0 in {zeros / size:.1%}")
    sentinel = _sentinel(values[values != 0] if missing else values, size)
    if sentinel is not None:
        missing.append(sentinel)
        notes.append(f"{sentinel:g} in {float((values == sentinel).sum()) / size:.1%}, far from every other number")
    if not zeros and float(values.min(initial=1)) > 0:
        missing.insert(0, 0.0)  # none so far, but a depth of nothing is nothing
    merged = missing if found.sensor.missing == (0.0,) else [*found.sensor.missing, *missing]
    found.set("missing", tuple(dict.fromkeys(merged)), f"missing: {', '.join(notes) or 'nothing'} of the pixels")


def _zeros(raster: Raster) -> int:
    """Pixels where all numbers are zero."""
    return int((raster == 0).all(axis=-1).sum()) if raster.ndim == 3 or is_cloud(raster) else int((raster == 0).sum())


def _zero_is_missing(values: npt.NDArray[Any], zeros: int) -> bool:
    """Where nothing is below zero, nothing is at zero; a height map crosses it, and then only a heap at zero counts."""
    if float(values.min(initial=0)) >= 0:
        return True
    step = 1.0 if values.dtype.kind in "iu" else float(np.finfo(np.float32).eps)
    beside = max(int((values == step).sum()), int((values == -step).sum()))
    return zeros > _SENTINEL_SHARE * values.size and zeros > 10 * beside


def _sentinel(values: npt.NDArray[Any], size: int) -> float | None:
    """The largest or smallest number, where it is frequent and farther from all others than they are from each other.

    A level background is that, too: the number must be below zero, many times as large, or one that sensors use. A
    saturated 16-bit count stands for nothing measured, however near the others come.
    """
    if values.size < 2:
        return None
    for extreme in (values.max(), values.min()):
        others = values[values != extreme]
        count = values.size - others.size
        if count < max(16, _SENTINEL_SHARE * size) or not others.size:
            continue
        low, high = np.quantile(others, (0.01, 0.99)).tolist()
        gap = float(np.abs(others.astype(np.float64) - float(extreme)).min())
        full = values.dtype.kind in "iu" and extreme == np.iinfo(values.dtype).max
        strange = extreme < 0 or extreme > _LARGER * max(abs(low), abs(high)) or float(extreme) in _MARKS
        if full or (strange and gap > max(high - low, 1e-12)):
            return float(extreme)
    return None


# ---- unit -------------------------------------------------------------------------------------------------------


def _most(looks: list[Look], found: Found) -> list[Look]:
    """The files that count, and a sentence about those that do not."""
    kept, others = alike(looks, found.sensor, told=bool(found.told & {"unit", "float_unit", "encoding"}))
    if others:
        found.findings.append(f"unlike the others, and not counted: {', '.join(others)}")
    return kept


def _whole_unit(looks: Sequence[Look], found: Found, *, alone: bool) -> None:
    """alone: no other files hold floating point numbers."""
    if found.told & {"unit", "encoding"}:
        return
    counts = measured(looks, found.sensor)
    if not counts.size and not alone:
        return
    if not counts.size:
        raise DataError(f"{looks[0].path}: every pixel is missing", "scan the part again")
    median, largest = float(np.median(counts)), int(counts.max())
    where = f"counts of {int(counts.min())} to {largest}, median {median:.0f}"
    if largest < _KINECT_LARGEST and float(_KINECT_LARGEST) in found.sensor.missing:
        found.set("encoding", "disparity", f"unit: raw disparities of the first Kinect ({where}; 2047 is its missing)")
        return
    if float(counts.min()) < 0 and found.sensor.axis == "away":
        raise DataError(f"{looks[0].path}: negative counts: a height map, not a depth image", f"{SAY_UNIT} --axis up")
    near = NEAREST <= median * 0.001 <= FARTHEST
    if in_steps_of(looks, found.sensor, 8, 0.9):
        if near:
            raise DataError(
                f"{looks[0].path}: {where}, nearly all divisible by 8: millimetres with rotated bits as in SUN RGB-D,"
                f" {median / 8000:.2g} m away, or in steps of eight, {median / 1000:.2g} m away?",
                "say it: --unit sun, or --unit mm",
            )
        found.set("encoding", "rotated", f"unit: millimetres, bits rotated as in SUN RGB-D ({where}; nearly all / 8)")
        return
    if in_steps_of(looks, found.sensor, 5, 0.999):
        if near:
            raise DataError(
                f"{looks[0].path}: {where}, all divisible by 5: 1/5000 m, {median / 5000:.2g} m away, or millimetres in"
                f" steps of five, {median / 1000:.2g} m away?",
                "say it: --unit 1/5000, or --unit mm",
            )
        found.set("unit", 1 / 5000, f"unit: 1/5000 m ({where}, all divisible by 5: millimetres stored fivefold)")
        return
    if near:
        others = [f"{unit} ({median * metres:.2g} m)" for unit, metres in _RARER.items() if median * metres >= NEAREST]
        told = f"; some sensors count in {' or '.join(others)}: --unit" if others else ""
        found.set("unit", 0.001, f"unit: millimetres ({where}: the part is {median / 1000:.2f} m away{told})")
        return
    raise DataError(f"{looks[0].path}: {where}: in millimetres the part would be {median / 1000:.3g} m away", SAY_UNIT)


def _float_unit(looks: Sequence[Look], found: Found, *, alone: bool) -> None:
    """alone: no other files hold whole numbers, whose z points the same way."""
    values = measured(looks, found.sensor)
    if not values.size and not alone:
        return
    if not values.size:
        raise DataError(f"{looks[0].path}: every point is missing", "scan the part again")
    low, median, high = (float(value) for value in np.quantile(values, (0.001, 0.5, 0.999)))
    extent = float(np.median([_extent(look.raster, found.sensor) for look in looks]))
    where = f"z of {low:.4g} to {high:.4g}"
    seen = high < 0 and low > _WIDE * _WIDE * high and extent <= _WIDE * abs(median)  # from a place, not around zero
    below = low < 0 and "axis" not in found.told and cross_zero(looks, found.sensor)
    if "axis" not in found.told and seen:
        found.set("axis", "toward", f"axis: z points toward the sensor ({where}: all below zero, as in OpenGL)")
    elif below or (extent and extent > _WIDE * max(abs(median), high) and looks[0].kind != "z"):
        why = "some are below zero" if below else f"over a width of {extent:.3g}, more than any lens sees"
        if not alone and "axis" not in found.told:
            raise DataError(
                f"{looks[0].path}: {where}: {why}, as in a height map, among depth images of whole numbers",
                "mend or remove it, or prepare each kind by itself",
            )
        found.set("axis", "up", f"axis: z points up, a height map ({where}: {why})")
    if "float_unit" in found.told:
        return
    scale = extent if found.sensor.axis == "up" else abs(median)
    name = "width" if found.sensor.axis == "up" else "median distance"
    guess = _guess(scale)
    if guess is None:
        raise DataError(f"{looks[0].path}: {where}, {name} {scale:.3g}: metres or millimetres?", SAY_UNIT)
    found.set("float_unit", guess[0], f"unit: {guess[1]} ({where}, {name} {scale:.3g})")


def _guess(scale: float) -> tuple[float, Literal["metres", "millimetres"]] | None:
    """Metres or millimetres, where only one of them is a size at which parts are looked at."""
    if NEAREST <= scale <= FARTHEST:
        return 1.0, "metres"
    return (0.001, "millimetres") if NEAREST <= scale * 0.001 <= FARTHEST else None


def _extent(raster: Raster, sensor: Sensor) -> float:
    """Width of the measured points in their own unit, 0 for a depth image and for made up x and y."""
    if raster.ndim != 3 and not is_cloud(raster):
        return 0.0
    across = raster[is_measured(raster, sensor)][:, 0]
    if not across.size:
        return 0.0
    low, high = np.quantile(across, (0.01, 0.99)).tolist()
    return float(high - low)


# ---- camera -----------------------------------------------------------------------------------------------------


def _camera(looks: Sequence[Look], found: Found) -> None:
    images = [look for look in looks if look.kind == "depth" and not is_cloud(look.raster)]
    flat = [look for look in looks if look.kind == "z"]
    if "pitch" in found.told and not flat and not (images and found.sensor.axis == "up"):
        found.findings.append("pitch: not used, x and y are measured or seen by a camera")
    if "camera" in found.told and not images and not any(is_cloud(look.raster) for look in looks):
        found.findings.append("camera: not used, points in rows and columns need none")
    if not images:
        return
    if found.sensor.axis == "up":
        found.findings.append(f"grid: {found.sensor.pitch:g} m from pixel to pixel (--pitch)")
    elif found.sensor.camera is None:
        found.findings.append(
            "camera: not told (--intrinsics); one that looks at the middle is taken, tilt is approximate"
        )
    depth = metres(measured(images[:1], found.sensor), found.sensor)
    if depth.size and found.sensor.axis == "away":
        found.findings.append(f"distance: {float(np.median(depth)):.3g} m")
