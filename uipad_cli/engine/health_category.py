"""What is known of a prepared category, and which of its parts are alike, out of line, or marked wrongly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from uipad_cli.data import SPLITS
from uipad_cli.data.geometry import HeightScale
from uipad_cli.data.registration import Shift
from uipad_cli.engine.health_files import Properties
from uipad_cli.engine.health_parts import Part
from uipad_cli.records import GOOD

LEAST_PARTS = 5  # before one of them can be out of line
_NOISES = 6.0
_HEIGHT = 0.5  # of the usual range of heights: a lesser difference is no matter
_WORST = 3  # parts that the document names


@dataclass(frozen=True)
class Twins:
    """Pairs SPLIT/DEFECT/STEM that are pixel by pixel the same in `what`."""

    what: str
    names: tuple[str, ...]

    @property
    def across(self) -> bool:
        """True where they lie in more than one split."""
        return len({name.split("/")[0] for name in self.names}) > 1

    @property
    def contradict(self) -> bool:
        """True where one of them is called good and the other not."""
        return self.what == "pairs" and len({name.split("/")[1] for name in self.names}) > 1


@dataclass(frozen=True)
class CategoryHealth:
    """All that is known of a category; warnings want something done, notes are good to know."""

    category: str
    parts: tuple[Part, ...]
    scale: HeightScale
    shift: Shift | None
    properties: Properties
    twins: tuple[Twins, ...]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Pairs by split and defect."""
        return {
            split: dict(sorted(Counter(part.defect for part in self.parts if part.split == split).items()))
            for split in SPLITS
            if any(part.split == split for part in self.parts)
        }

    @property
    def sizes(self) -> dict[str, int]:
        """Pairs by their size in pixels, the commonest first."""
        return dict(Counter(part.size for part in self.parts).most_common())

    def document(self) -> dict[str, Any]:
        """The category's part of the JSON."""
        marked = sorted(part.marked for part in self.parts if part.is_defective and part.marked)
        return {
            "counts": self.counts,
            "sizes": self.sizes,
            "missing_share": _figures(self.parts, missing),
            "tilt_degrees": _figures(self.parts, tilt),
            "height_m": {
                "low": self.scale.low,
                "high": self.scale.high,
                "bottom": _figures(self.parts, lambda part: part.bottom),
                "top": _figures(self.parts, lambda part: part.top),
            },
            "twins": [{"what": twins.what, "names": list(twins.names), "across": twins.across} for twins in self.twins],
            "masks": {
                "on_good": [part.name for part in marked_good(self.parts)],
                "without": [part.name for part in unmarked(self.parts)],
                "empty": [part.name for part in empty(self.parts)],
                "defect_share": _range(marked),
            },
            "registration": None if self.shift is None else {**vars(self.shift), "off": self.shift.is_off},
            "properties": [{**vars(leak), "gives_away": leak.gives_away} for leak in self.properties.leaks],
            "constant": {axis: list(names) for axis, names in self.properties.constant.items()},
            "warnings": list(self.warnings),
            "notes": list(self.notes),
        }


def missing(part: Part) -> float:
    """Share of the image that was not measured."""
    return part.entry.geometry.missing_share


def tilt(part: Part) -> float:
    """Degrees between the background plane and the image plane."""
    return part.entry.geometry.plane_tilt_degrees


def marked_good(parts: Iterable[Part]) -> list[Part]:
    """Parts called good that have a defect mask with something in it."""
    return [part for part in parts if part.defect == GOOD and part.marked]


def unmarked(parts: Iterable[Part]) -> list[Part]:
    """Defective parts without a mask file."""
    return [part for part in parts if part.is_defective and part.marked is None]


def empty(parts: Iterable[Part]) -> list[Part]:
    """Defective parts whose mask holds nothing."""
    return [part for part in parts if part.is_defective and part.marked == 0]


def find_twins(parts: Sequence[Part]) -> tuple[Twins, ...]:
    """Groups of pairs that are the same in both images, or in one of the two."""
    kinds: tuple[tuple[str, Callable[[Part], str]], ...] = (
        ("pairs", lambda part: part.colour + part.heights),
        ("colour images", lambda part: part.colour),
        ("heights", lambda part: part.heights),
    )
    found: list[Twins] = []
    for what, key in kinds:
        groups: dict[str, list[str]] = {}
        for part in parts:
            groups.setdefault(key(part), []).append(part.name)
        known = {twins.names for twins in found}
        found += [Twins(what, names) for names in map(tuple, groups.values()) if len(names) > 1 and names not in known]
    return tuple(found)


def outliers(parts: Sequence[Part], value: Callable[[Part], float], least: float) -> list[Part]:
    """Parts that differ from the median by more than `least` and six times the usual spread, the farthest first."""
    if len(parts) < LEAST_PARTS:
        return []
    middle = median(value(part) for part in parts)
    noise = 1.4826 * median(abs(value(part) - middle) for part in parts)
    limit = max(least, _NOISES * noise)
    out = [part for part in parts if abs(value(part) - middle) > limit]
    return sorted(out, key=lambda part: -abs(value(part) - middle))


def out_of_height(parts: Sequence[Part], scale: HeightScale) -> list[Part]:
    """Parts that end much higher or lower, or begin much higher or lower, than is usual."""
    usual = median(part.top for part in parts) - median(part.bottom for part in parts)
    least = _HEIGHT * max(usual, scale.high - scale.low)
    found = [*outliers(parts, lambda part: part.top, least), *outliers(parts, lambda part: part.bottom, least)]
    return list(dict.fromkeys(found))


def _figures(parts: Sequence[Part], value: Callable[[Part], float]) -> dict[str, Any]:
    values = [value(part) for part in parts]
    worst = sorted(parts, key=lambda part: -value(part))[:_WORST]
    return {
        "mean": fmean(values), "min": min(values), "max": max(values), "highest": [part.name for part in worst]
    }  # fmt: skip


def _range(values: Sequence[float]) -> dict[str, float] | None:
    return {"min": values[0], "median": median(values), "max": values[-1]} if values else None
