"""What is wrong with a category: every problem as one sentence that names the files and says what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from uipad_cli.data.registration import Shift
from uipad_cli.engine.health_category import (
    CategoryHealth,
    Twins,
    empty,
    marked_good,
    missing,
    out_of_height,
    outliers,
    tilt,
    unmarked,
)
from uipad_cli.engine.health_files import OUTSIDE
from uipad_cli.metrics.leaks import Leak

SHOWN = 3  # files that a sentence names
TILT, MISSING = 3.0, 0.2  # least differences that count: degrees, share of the image


def warnings(health: CategoryHealth) -> tuple[str, ...]:
    """What wants something done."""
    steps = (_sizes, _planes, _missing_points, _heights, _twins, _masks, _registration, _properties)
    return tuple(f"{health.category}: {sentence}" for step in steps for sentence in step(health))


def notes(health: CategoryHealth) -> tuple[str, ...]:
    """What is good to know and may be as it should."""
    steps = (_twins_within, _tall_defects, _untold_registration, _order)
    return tuple(f"{health.category}: {sentence}" for step in steps for sentence in step(health))


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def direction(shift: Shift) -> str:
    """Where the colour image lies, in words."""
    told = []
    if abs(shift.right) >= 0.5:
        told.append(f"{abs(shift.right):.1f} pixels to the {'right' if shift.right > 0 else 'left'}")
    if abs(shift.down) >= 0.5:
        told.append(f"{abs(shift.down):.1f} pixels {'down' if shift.down > 0 else 'up'}")
    return " and ".join(told) or "less than half a pixel away"


# ---- warnings ---------------------------------------------------------------------------------------------------


def _sizes(health: CategoryHealth) -> Iterator[str]:
    if len(health.sizes) > 1:
        told = ", ".join(f"{size} ({count})" for size, count in list(health.sizes.items())[:SHOWN])
        rarest = list(health.sizes)[-1]
        example = next(part.name for part in health.parts if part.size == rarest)
        yield (
            f"images of {len(health.sizes)} sizes: {told}, for example {example} with {rarest}. All are scaled to one"
            " size, so that parts look larger or smaller than they are: record and crop them alike."
        )


def _planes(health: CategoryHealth) -> Iterator[str]:
    if out := outliers(health.parts, tilt, TILT):
        usual = median(tilt(part) for part in health.parts)
        yield (
            f"the background plane of {listed([part.name for part in out])} leans {tilt(out[0]):.1f}° where"
            f" {usual:.1f}° are usual. Look at the scan: was the sensor moved, or was the plane laid through the part?"
        )


def _missing_points(health: CategoryHealth) -> Iterator[str]:
    usual = median(missing(part) for part in health.parts)
    out = [part for part in outliers(health.parts, missing, MISSING) if missing(part) > usual]
    if out:
        yield (
            f"{100 * missing(out[0]):.0f} % of the points of {listed([part.name for part in out])} are missing where"
            f" {100 * usual:.0f} % are usual. Scan again, or remove the pair."
        )


def _heights(health: CategoryHealth) -> Iterator[str]:
    out = [part for part in out_of_height(health.parts, health.scale) if not part.is_defective]
    if out:
        first = out[0]
        usual = [median(part.bottom for part in health.parts), median(part.top for part in health.parts)]
        yield (
            f"the heights of {listed([part.name for part in out])} reach from {_mm(first.bottom)} to {_mm(first.top)}"
            f" where {_mm(usual[0])} to {_mm(usual[1])} are usual. Is it another part, another unit, or a bad scan?"
        )


def _twins(health: CategoryHealth) -> Iterator[str]:
    for what in ("pairs", "colour images", "heights"):
        groups = [twins for twins in health.twins if twins.what == what and twins.across]
        if groups:
            yield (
                f"{what} that are pixel by pixel the same lie in different splits: {_equations(groups)}. What was"
                " learned from must not be judged: keep one of them and remove the others."
            )
    groups = [twins for twins in health.twins if twins.contradict and not twins.across]
    if groups:
        yield (
            f"pairs that are pixel by pixel the same have different labels: {_equations(groups)}. Find out which label"
            " is right and remove the other pair."
        )


def _masks(health: CategoryHealth) -> Iterator[str]:
    if good := marked_good(health.parts):
        yield (
            f"good parts whose mask marks a defect ({len(good)}): {listed([part.name for part in good])}. Empty the"
            " mask, or file the part under its defect."
        )
    if without := unmarked(health.parts):
        bad = sum(part.is_defective for part in health.parts)
        yield (
            f"defective parts without a mask file ({len(without)} of {bad}): {listed([part.name for part in without])}."
            " Add the masks; without them no pixel can be judged."
        )
    if nothing := empty(health.parts):
        yield (
            f"defective parts whose mask is empty ({len(nothing)}): {listed([part.name for part in nothing])}. Mark the"
            " defect, or file the part under good."
        )


def _registration(health: CategoryHealth) -> Iterator[str]:
    shift = health.shift
    if shift is not None and shift.is_off:
        yield (
            f"the colour image lies {direction(shift)} from where the geometry says (edges of {shift.pairs} pairs,"
            f" ± {max(shift.spread, 0.1):.1f}; they agree to {shift.now:.2f} as they lie and to {shift.best:.2f} moved"
            " back). Register the two cameras again, or move the colour images before you prepare."
        )


def _properties(health: CategoryHealth) -> Iterator[str]:
    found = health.properties
    telling = [leak for leak in found.leaks if leak.gives_away and leak.name not in OUTSIDE]
    if telling:
        told = _told(telling)
        yield (
            f"{telling[0].good} good and {telling[0].defective} defective test parts can be told apart without a look"
            f" at the part: {told}. Unless the defects themselves explain it, the two were recorded or saved"
            " differently, and a high score on such data says little: record and save both kinds in one way."
        )
    for axis, names in found.constant.items():
        yield (
            f"{axis} is one and the same number in every point of {len(names)} of {found.looked_at} files, such as"
            f" {listed(names)}: only z was measured there, so tilt and heights are wrong. Export all three coordinates,"
            " or list the files under the column z of a pairs.csv."
        )


# ---- notes ------------------------------------------------------------------------------------------------------


def _twins_within(health: CategoryHealth) -> Iterator[str]:
    groups = [twins for twins in health.twins if not twins.across and not twins.contradict]
    for what in dict.fromkeys(twins.what for twins in groups):
        same = [twins for twins in groups if twins.what == what]
        yield f"{what} that are pixel by pixel the same lie in one split: {_equations(same)}."


def _tall_defects(health: CategoryHealth) -> Iterator[str]:
    out = [part for part in out_of_height(health.parts, health.scale) if part.is_defective]
    if out:
        yield f"defective parts whose heights are out of line: {listed([part.name for part in out])}."


def _untold_registration(health: CategoryHealth) -> Iterator[str]:
    if health.shift is not None and not health.shift.certain:
        yield (
            f"whether colour and geometry lie on each other cannot be told from the edges of {health.shift.pairs}"
            " pairs (flat or even parts, few pairs, or images that have nothing in common): look at the pictures."
        )


def _order(health: CategoryHealth) -> Iterator[str]:
    telling = [leak for leak in health.properties.leaks if leak.gives_away and leak.name in OUTSIDE]
    if telling:
        told = _told(telling)
        yield (
            f"good and defective test parts differ in {told}. No image shows that; but if they were recorded at"
            " different times, light and camera may differ too."
        )


def _told(leaks: Sequence[Leak]) -> str:
    return ", ".join(f"{leak.name} ({leak.way} in defective ones, AUROC {leak.strength:.2f})" for leak in leaks)


def _equations(groups: Sequence[Twins]) -> str:
    return listed([" = ".join(twins.names[:SHOWN]) for twins in groups])


def _mm(metres: float) -> str:
    return f"{1000 * metres:.1f} mm"
