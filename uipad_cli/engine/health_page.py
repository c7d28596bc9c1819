"""What was found in a category → its section of the health page, with pictures of the parts worth a look."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean, median

import numpy as np

from uipad_cli.data import files
from uipad_cli.data.registration import Shift, edges, lines, moved
from uipad_cli.engine.health_category import CategoryHealth, missing, out_of_height, tilt
from uipad_cli.engine.health_checks import direction
from uipad_cli.engine.health_parts import Part, load, spread_out
from uipad_cli.records import Sample
from uipad_cli.render import Panel, contact_sheet, shade_height
from uipad_cli.report.health import Category, Measure, Property, draw_edges
from uipad_cli.report.page import Picture

SHOWN = 8  # parts of a contact sheet
TILE = 300  # pixels
_MARGIN = 0.05  # of the longer side, around the lines of a part
_STRAY = 0.02  # share of the lines that may lie beyond the margin

Box = tuple[slice, slice]


def section(root: Path, health: CategoryHealth) -> Category:
    """One category of the page. Raises DataError, ResourceError."""
    parts = health.parts
    measures = [
        Measure("points missing", "%", [100 * missing(part) for part in parts]),
        Measure("tilt of the background plane", "°", [tilt(part) for part in parts]),
        Measure("top of the heights (99 %)", "mm", [1000 * part.top for part in parts]),
    ]
    properties = [Property(leak.name, leak.auroc, leak.gives_away) for leak in health.properties.leaks]
    pictures = [Picture(_caption(health.shift), _sheet(root, health))]
    return Category(health.category, health.counts, facts(health), measures, properties, len(health.warnings), pictures)


def facts(health: CategoryHealth) -> dict[str, str]:
    """Figures of a category for people."""
    parts = health.parts
    worst = max(parts, key=missing)
    steepest = max(parts, key=tilt)
    marked = sorted(part.marked for part in parts if part.is_defective and part.marked)
    pitch = 1000 * median(part.entry.geometry.pitch_m for part in parts)
    told = {
        "sizes in pixels": ", ".join(f"{size} ({count})" for size, count in health.sizes.items()),
        "points missing": (
            f"{100 * fmean(map(missing, parts)):.1f} % on average, {100 * missing(worst):.1f} % in {worst.name}"
        ),
        "tilt of the plane": f"{fmean(map(tilt, parts)):.1f}° on average, {tilt(steepest):.1f}° in {steepest.name}",
        "pixel pitch": f"{pitch:.3g} mm from pixel to pixel" if pitch else "not told by the geometry",
        "height scale": f"{1000 * health.scale.low:.2f} to {1000 * health.scale.high:.2f} mm",
        "registration": _registration(health.shift),
    }
    if marked:
        least, middle, most = (100 * float(share) for share in np.quantile(marked, (0, 0.5, 1)))
        told["marked defects"] = f"{least:.2g} to {most:.2g} % of the image, median {middle:.2g} %"
    return told


def _registration(shift: Shift | None) -> str:
    if shift is None:
        return "no pair to tell it from"
    seen = f"edges of {shift.pairs} pairs agree to {shift.now:.2f}"
    if not shift.certain:
        return f"cannot be told: {seen} as they lie"
    where = direction(shift) if shift.is_off else "colour and geometry lie on each other"
    exactly = f"right {shift.right:+.1f}, down {shift.down:+.1f}, ± {max(shift.spread, 0.1):.1f} pixels"
    return f"{where} ({exactly}); {seen} as they lie, to {shift.best:.2f} at the best shift"


def _caption(shift: Shift | None) -> str:
    told = (
        "Colour, height lit from the upper left (pale: not measured), and the edges of the geometry over the colour"
        " image, lightened and enlarged: where they do not follow the part, the two are not registered. What was not"
        " measured has an outline too: beside a part that is the shadow of the sensor."
    )
    return (
        f"{told} On the right the same with the colour image moved back."
        if shift is not None and shift.is_off
        else told
    )


def worth_a_look(health: CategoryHealth) -> list[Part]:
    """The parts of the contact sheet: the worst of each kind first, then some from all over the category."""
    parts = health.parts
    by_name = {part.name: part for part in parts}
    usual = float(np.median([tilt(part) for part in parts]))
    worst = [max(parts, key=missing), max(parts, key=lambda part: abs(tilt(part) - usual))]
    worst += out_of_height(parts, health.scale)[:1]
    worst += [by_name[name] for twins in health.twins if twins.across for name in twins.names[:2]][:2]
    some = [parts[place] for place in spread_out(len(parts), SHOWN)]
    return list(dict.fromkeys([*worst, *some]))[:SHOWN]


def _sheet(root: Path, health: CategoryHealth) -> bytes:
    """A JPEG: a row for each part worth a look."""
    shift = health.shift
    titles = ["colour", "height", "geometry edges over colour"]
    if shift is not None and shift.is_off:
        titles.append(f"colour moved by {-shift.right:+.1f}, {-shift.down:+.1f}")
    rows = []
    for part in worth_a_look(health):
        sample, _ = load(root, health.category, part.name, part.entry)
        rows.append(_row(part, sample, shift))
    return files.encode_jpeg(contact_sheet(rows, titles, TILE))


def _row(part: Part, sample: Sample, shift: Shift | None) -> list[Panel]:
    drawn = lines(edges(sample), (sample.valid.shape[0], sample.valid.shape[1]))
    box = _box(drawn)
    told = f"{100 * missing(part):.0f} % missing, tilt {tilt(part):.1f}"
    panels = [
        Panel(sample.rgb, part.name),
        Panel(shade_height(sample.height, sample.valid), told),
        Panel(draw_edges(sample.rgb[box], drawn[box])),
    ]
    if shift is not None and shift.is_off:
        back = moved(sample.rgb, -shift.right, -shift.down)
        panels.append(Panel(draw_edges(back[box], drawn[box])))
    return panels


def _box(drawn: files.Mask) -> Box:
    """Rows and columns that hold nearly all lines, with a margin; everything where there are none."""
    height, width = drawn.shape
    row, column = np.nonzero(drawn)
    if not row.size:
        return slice(0, height), slice(0, width)
    margin = round(_MARGIN * max(height, width))
    (top, left), (bottom, right) = (
        (int(np.quantile(row, share)), int(np.quantile(column, share))) for share in (_STRAY, 1 - _STRAY)
    )
    rows = slice(max(0, top - margin), min(height, bottom + margin + 1))
    return rows, slice(max(0, left - margin), min(width, right + margin + 1))
