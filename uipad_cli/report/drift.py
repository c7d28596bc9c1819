"""Incoming parts beside those of the calibration → one self-contained HTML page: no script, no request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uipad_cli.report.page import template

WIDTH, HEIGHT, SQUARE = 720.0, 170.0, 340.0  # drawing units of a strip chart and of the scatter
_GAP, _MARGIN = 3.0, 0.06  # places between calibration and incoming parts; of the range above and below


@dataclass(frozen=True)
class Dot:
    """A part: its label, its figure, and whether it stands out."""

    label: str
    value: float
    flagged: bool


@dataclass(frozen=True)
class Line:
    """A level across a strip chart."""

    label: str
    value: float


@dataclass(frozen=True)
class Strip:
    """A figure of every part: those of the calibration on the left, then those that came, in order.

    change: place of the first part after a change. Two lines bound a band.
    """

    title: str
    before: Sequence[Dot]
    now: Sequence[Dot]
    lines: Sequence[Line]
    change: int | None = None


@dataclass(frozen=True)
class Scatter:
    """Parts in a plane: (x, y, label) of the calibration, (x, y, label, stands out) of those that came."""

    title: str
    before: Sequence[tuple[float, float, str]]
    now: Sequence[tuple[float, float, str, bool]]


@dataclass(frozen=True)
class Table:
    """Heads of columns; rows of cells, and whether each stands out."""

    columns: Sequence[str]
    rows: Sequence[tuple[Sequence[str], bool]]


@dataclass(frozen=True)
class Mark:
    """A circle in drawing units."""

    x: float
    y: float
    kind: str
    label: str


@dataclass(frozen=True)
class Chart:
    """Marks in a frame, levels as (y, label, value), and vertical places; low and high are the ends of the axis."""

    title: str
    marks: Sequence[Mark]
    levels: Sequence[tuple[float, str, float]]
    border_x: float
    change_x: float | None
    low: float
    high: float
    ends: tuple[str, str]


def build_page(
    *,
    title: str,
    verdict: str,
    steady: bool,
    notes: Sequence[str],
    strips: Sequence[Strip],
    scatter: Scatter | None,
    table: Table,
    settings: Mapping[str, str],
) -> str:  # fmt: skip
    """HTML text of the page; every string is escaped.

    Raises ValueError, naming the chart, where a figure is not finite.
    """
    return template("drift.html", figures=_figures).render(
        title=title,
        verdict=verdict,
        steady=steady,
        notes=notes,
        charts=[strip_chart(strip) for strip in strips],
        scatter=None if scatter is None else scatter_chart(scatter),
        table=table,
        settings=settings,
        width=WIDTH,
        height=HEIGHT,
        square=SQUARE,
    )


def strip_chart(strip: Strip) -> Chart:
    """Marks of a strip chart, evenly apart. Raises ValueError, naming it, where a figure is not finite."""
    dots = [*strip.before, *strip.now]
    values = np.array([dot.value for dot in dots] + [line.value for line in strip.lines], dtype=np.float64)
    low, high = _ends(values, strip.title)
    places = np.arange(len(dots)) + np.where(np.arange(len(dots)) < len(strip.before), 0.5, _GAP + 0.5)
    step = WIDTH / (len(dots) + _GAP)

    def height(value: float) -> float:
        return HEIGHT * (high - value) / (high - low)

    size = len(strip.before)
    marks = [
        Mark(
            float(place) * step, height(dot.value), "old" if rank < size else "bad" if dot.flagged else "new", dot.label
        )
        for rank, (place, dot) in enumerate(zip(places, dots, strict=True))
    ]
    return Chart(
        strip.title,
        marks,
        [(height(line.value), line.label, line.value) for line in strip.lines],
        (size + _GAP / 2) * step,
        None if strip.change is None else (size + _GAP + strip.change) * step,
        low,
        high,
        (strip.now[0].label.rsplit(":", 1)[0], strip.now[-1].label.rsplit(":", 1)[0]) if strip.now else ("", ""),
    )


def scatter_chart(scatter: Scatter) -> Chart:
    """Marks of a scatter, both axes of one scale. Raises ValueError, naming it, where a figure is not finite."""
    points = np.array([one[:2] for one in (*scatter.before, *scatter.now)], dtype=np.float64).reshape(-1, 2)
    low, high = _ends(points.ravel(), scatter.title)
    if len(points):
        middle = (points.max(axis=0) + points.min(axis=0)) / 2
        reach = max(float(np.ptp(points, axis=0).max()) * (0.5 + _MARGIN), 1e-9)
        points = SQUARE * (0.5 + (points - middle) / (2 * reach) * np.array([1, -1]))
    kinds = ["old"] * len(scatter.before) + ["bad" if flagged else "new" for *_, flagged in scatter.now]
    labels = [label for _, _, label in scatter.before] + [label for _, _, label, _ in scatter.now]
    marks = [Mark(x, y, kind, label) for (x, y), kind, label in zip(points.tolist(), kinds, labels, strict=True)]
    return Chart(scatter.title, marks, (), 0.0, None, low, high, ("", ""))


def _ends(values: NDArray[np.float64], title: str) -> tuple[float, float]:
    if not np.isfinite(values).all():
        raise ValueError(f"figures of {title!r} must be finite")
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    room = _MARGIN * (high - low) or 0.5
    return low - room, high + room


def _figures(value: float) -> str:
    return f"{value:.3g}"
