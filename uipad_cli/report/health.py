"""What is known of a data set → one self-contained HTML page: no script, no request; and edges over a photo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uipad_cli.render import MAGENTA
from uipad_cli.report.figures import Bar
from uipad_cli.report.page import Picture, template

Rgb = NDArray[np.uint8]

_BINS = 24
_WIDTH, _LANE = 300.0, 72.0  # drawing units of a histogram


@dataclass(frozen=True)
class Measure:
    """One figure of every pair of a category, in a unit for people."""

    title: str
    unit: str
    values: Sequence[float]


@dataclass(frozen=True)
class Property:
    """How well a property tells good from defective parts, and whether it gives the label away."""

    name: str
    auroc: float
    gives_away: bool


@dataclass(frozen=True)
class Category:
    """One category of the page.

    counts: pairs by split and defect. facts: head and text of the lines of a table.
    """

    name: str
    counts: Mapping[str, Mapping[str, int]]
    facts: Mapping[str, str]
    measures: Sequence[Measure]
    properties: Sequence[Property]
    warnings: int
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Histogram:
    """Bars of a measure over an axis from `low` to `high`, in drawing units."""

    title: str
    unit: str
    bars: Sequence[Bar]
    low: float
    high: float


def build_page(
    *,
    title: str,
    warnings: Sequence[str],
    failures: Sequence[str],
    findings: Sequence[str],
    notes: Sequence[str],
    categories: Sequence[Category],
) -> str:
    """HTML text of the page; every string is escaped, every picture embedded.

    warnings want something done; failures: pairs that could not be read; findings: what was found out about the
    files; notes are good to know. Raises ValueError for figures that are not finite and for a picture that is no JPEG.
    """
    for category in categories:
        for picture in category.pictures:
            if not picture.image.startswith(b"\xff\xd8\xff"):
                raise ValueError(f"picture {picture.caption!r} of {category.name} is no JPEG file")
    return template("health.html", figures=_figures, bar=_bar).render(
        title=title,
        warnings=warnings,
        lists=[
            ("Pairs that could not be prepared", failures),
            ("What was found out about the files", findings),
            ("Good to know", notes),
        ],
        sections=[(category, [histogram(measure) for measure in category.measures]) for category in categories],
        width=_WIDTH,
        lane=_LANE,
    )


def histogram(measure: Measure) -> Histogram:
    """Bars of a measure, at least as tall as can be seen; equal values give one bar.

    Raises ValueError, naming the measure, where a figure is not finite.
    """
    values = np.asarray(measure.values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"figures of {measure.title!r} must be finite")
    if values.size == 0:
        return Histogram(measure.title, measure.unit, (), 0.0, 0.0)
    low, high = float(values.min()), float(values.max())
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        places, low, high = np.full(values.size, _BINS // 2), low - 0.5, high + 0.5
    else:
        places = np.minimum((_BINS * (values - low) / (high - low)).astype(np.int64), _BINS - 1)
    counts = np.bincount(places, minlength=_BINS)
    step = _WIDTH / _BINS
    bars = []
    for place in np.flatnonzero(counts).tolist():
        count = int(counts[place])
        height = max(3.0, (_LANE - 6) * count / int(counts.max()))
        edges = [_figures(low + (high - low) * edge / _BINS) for edge in (place, place + 1)]
        label = f"{count} of {values.size}: {edges[0]} to {edges[1]} {measure.unit}"
        bars.append(Bar(place * step + 0.5, _LANE - height, step - 1, height, label))
    return Histogram(measure.title, measure.unit, bars, low, high)


def draw_edges(rgb: Rgb, lines: NDArray[np.bool_]) -> Rgb:
    """Copy of a photo [H,W,3], dark parts lightened, with the lines [H,W] of its geometry over it.

    Raises ValueError where the sizes differ.
    """
    if rgb.ndim != 3 or rgb.shape[:2] != lines.shape:
        raise ValueError(f"lines are {lines.shape}, the photo is {rgb.shape}")
    light = np.rint(255 * np.sqrt(rgb / 255.0)).astype(np.uint8)
    return np.where(lines[..., None], np.asarray(MAGENTA, dtype=np.uint8), light)


def _figures(value: float) -> str:
    return f"{value:.3g}"


def _bar(auroc: float) -> str:
    """Width of a meter: nothing at 0.5, full at 0 and at 1."""
    return f"{100 * min(max(2 * abs(auroc - 0.5), 0.0), 1.0):.1f}%"
