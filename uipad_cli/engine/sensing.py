"""What made these files: the user's word, the data set's documentation, and what a look at some of them tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ValidationError

from uipad_cli.data.detect import examine
from uipad_cli.data.geometry import Preparation
from uipad_cli.data.intrinsics import parse_intrinsics
from uipad_cli.data.looks import Look
from uipad_cli.data.samples import NORMALS, colour_path
from uipad_cli.data.scans import check_kind, kind_in, read_raster
from uipad_cli.data.sensor import Sensor, parse_missing, parse_unit
from uipad_cli.errors import DataError, UsageError
from uipad_cli.records import Item

LOOKS = 8  # files that are looked at


def settings(
    *,
    plane: str = "border",
    unit: str = "auto",
    missing: str = "auto",
    intrinsics: str | None = None,
    axis: str = "auto",
    pitch: float | None = None,
    light: str | None = None,
    longest: int | None = None,
) -> Preparation:
    """The options of the command line; what they leave open of the sensor is found by looking. Raises UsageError."""
    told = {**parse_unit(unit), **parse_missing(missing)}
    if intrinsics is not None:
        told["camera"] = parse_intrinsics(intrinsics)
    if axis != "auto":
        told["axis"] = axis
    if pitch is not None:
        told["pitch"] = pitch
    named = {"plane": plane, "sensor": told, "light": light, "longest": longest}
    try:
        return Preparation.model_validate({key: value for key, value in named.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"--{first['loc'][-1]} {first['input']}: {first['msg']}") from error


def look(
    items: Sequence[Item], preparation: Preparation, documented: Mapping[str, object]
) -> tuple[Preparation, list[str]]:
    """The preparation with all that was left open of its sensor filled in, and a sentence for every finding.

    Raises DataError where a file does not say what one count is, UsageError for a light that is not there.
    """
    known = dict(documented)
    longest = known.pop("longest", None)
    findings = []
    if longest is not None and preparation.longest is None:
        preparation = preparation.model_copy(update={"longest": longest})
        findings.append(f"size: scaled down to {longest} pixels on the longer side (--longest)")
    asked = {name: getattr(preparation.sensor, name) for name in preparation.sensor.model_fields_set}
    told = known | asked
    for name in sorted(set(known) - set(asked)):
        findings.append(f"{name}: {known[name]}, as the data set documents it")
    findings += [f"{name}: {value}, as told" for name, value in asked.items() if _is_news(name, asked)]
    findings += _colour(items, preparation)
    open_ = [item for item in items if item.depth_range is None]
    if len(open_) < len(items):
        first = next(item for item in items if item.depth_range is not None)
        findings.append(f"depth: 16-bit counts, nearest and farthest in metres in a file of each pair; {_focal(first)}")
        _check_use(asked, ("unit", "float_unit", "encoding", "axis"), "each pair says its own metres")
    sensor, found = _of_all(open_, told)
    return preparation.model_copy(update={"sensor": sensor}), findings + found


def _of_all(items: Sequence[Item], told: dict[str, object]) -> tuple[Sensor, list[str]]:
    """The one sensor of all categories; what stands for missing may differ. Raises DataError where more differs."""
    categories = list(dict.fromkeys(item.category for item in items))
    count = LOOKS if len(categories) == 1 else LOOKS // 2
    found: dict[str, tuple[Sensor, list[str]]] = {}
    for category in categories:
        looks = _looks([item for item in items if item.category == category], count)
        if looks:
            found[category] = examine(looks, told)
    if not found:
        return Sensor.model_validate(told), []
    (first, (sensor, findings)), *others = found.items()
    marks = dict.fromkeys(sensor.missing)
    for category, (other, _) in others:
        marks |= dict.fromkeys(other.missing)
        sensor = sensor.model_copy(update={"only_z": sensor.only_z and other.only_z})
        if other.model_copy(update={"missing": sensor.missing, "only_z": sensor.only_z}) != sensor:
            raise DataError(
                f"{category} is not made by the sensor of {first}: {differences(sensor, other)}",
                "prepare each into a folder of its own (--category), or say what holds for both",
            )
    if others:
        findings = [*findings, f"the same in {', '.join(name for name, _ in others)}"]
    return sensor.model_copy(update={"missing": tuple(marks)}), findings


def differences(one: BaseModel, other: BaseModel) -> str:
    """What two sensors or preparations do not agree in: the second's values, then the first's."""
    told = []
    for name, value in one:
        there = getattr(other, name)
        if value != there:
            inner = isinstance(value, BaseModel) and isinstance(there, BaseModel)
            told.append(differences(value, there) if inner else f"{name} {there} instead of {value}")
    return ", ".join(told)


def _is_news(name: str, asked: Mapping[str, object]) -> bool:
    """False for what `--unit` sets beside the unit."""
    return "unit" not in asked or name not in ("float_unit", "encoding")


def _check_use(asked: Mapping[str, object], names: Sequence[str], why: str) -> None:
    """Raise UsageError for what was told and cannot matter."""
    useless = [name for name in names if name in asked]
    if useless:
        option = {"float_unit": "unit", "encoding": "unit"}.get(useless[0], useless[0])
        raise UsageError(f"--{option} does not apply here: {why}", "leave it out")


def _looks(items: Sequence[Item], count: int) -> list[Look]:
    """Some files, evenly over all; one that cannot be read is a matter of its own pair."""
    step = max(1, -(-len(items) // count))
    looks = []
    for item in items[::step]:
        try:
            raster = read_raster(item.geometry)
            kind = kind_in(item, Sensor())
            check_kind(raster, kind, item.geometry)
        except DataError:
            continue
        looks.append(Look(item.geometry, kind, raster))
    return looks


def _colour(items: Sequence[Item], preparation: Preparation) -> list[str]:
    first = next((item for item in items if preparation.light in dict(item.lights)), items[0])
    try:
        chosen = colour_path(first, preparation.light)
    except DataError as error:  # none has it: a slip of the user's
        raise UsageError(error.message, error.cure) from error
    if preparation.light == NORMALS:
        return ["colour: the normals of the geometry, as told (--light)"]
    if not first.lights:
        if preparation.light is not None:
            raise UsageError(
                f"--light {preparation.light}: one image for each pair here", f"leave it out, or {NORMALS}"
            )
        return []
    names = [name for name, path in first.lights if path == chosen]
    return [f"colour: light {names[0] if names else chosen.name} of {', '.join(dict(first.lights))} (--light)"]


def _focal(item: Item) -> str:
    return "no camera" if item.camera is None else f"focal length {item.camera[0]:g} pixels"
