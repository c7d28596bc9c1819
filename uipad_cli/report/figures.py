"""Results → drawing units: histograms of scores and curves, which the page draws as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

BINS = 48
WIDTH, LANE = 720.0, 64.0  # drawing units of the score figure: its width and the height of a lane
SQUARE = 300.0  # width and height of a curve's figure

Points = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram in drawing units, and how many images it stands for."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True)
class Histogram:
    """Scores of good and defective parts over one axis: two lanes of bars, and places on the axis.

    band_x: where the verdict becomes unsure; marks: the scores that the threshold was drawn from; p_values: places
    from which on a good part would score with that chance or less, as (x, text).
    """

    good: Sequence[Bar]
    bad: Sequence[Bar]
    threshold_x: float
    band_x: float
    low: float
    high: float
    marks: Sequence[float]
    p_values: Sequence[tuple[float, str]]


def histogram(
    good_scores: Sequence[float],
    bad_scores: Sequence[float],
    *,
    threshold: float,
    unsure_from: float,
    calibration: Sequence[float],
) -> Histogram | None:
    """Two histograms over one axis that holds all scores, the calibration's too; None where there is no score.

    The threshold is an edge between two bars, so that no bar stands on both sides of it. calibration: good scores [n]
    that p-values are counted from. Raises ValueError where a number is not finite.
    """
    good, bad = (np.asarray(scores, dtype=np.float64) for scores in (good_scores, bad_scores))
    marks = np.asarray(calibration, dtype=np.float64)
    everything = np.concatenate([good, bad, marks, [threshold, unsure_from]])
    if not np.isfinite(everything).all():
        raise ValueError("scores and threshold must be finite")
    if good.size + bad.size == 0:
        return None
    step = float(np.ptp(everything)) / BINS or (abs(threshold) or 1.0) / BINS
    axis = _Axis(threshold, step, 0, 0)
    places = axis.places(everything)
    axis = replace(axis, first=min(int(places.min()), 0), last=max(int(places.max()), -1))
    low, high = axis.edge(axis.first), axis.edge(axis.last + 1)
    ordered = sorted(calibration)
    told = [(axis.x(score), f"p {(len(ordered) - place) / (len(ordered) + 1):.2g}") for place, score in _steps(ordered)]
    return Histogram(
        _lane(good, axis, 0),
        _lane(bad, axis, 1),
        axis.x(threshold),
        axis.x(unsure_from),
        low,
        high,
        [axis.x(score) for score in ordered],
        told,
    )


def curve_path(points: Points, limit: float = 1.0) -> str:
    """The `d` of an SVG path of a rising curve, in a square of `SQUARE` units whose width stands for 0..limit."""
    across, up = points
    inside = across <= limit
    if not inside.all():  # the curve goes on to the rim
        across = np.append(across[inside], limit)
        up = np.append(up[inside], np.interp(limit, *points))
    places = zip((SQUARE * across / limit).round(1).tolist(), (SQUARE * (1 - up)).round(1).tolist(), strict=True)
    return "M" + "L".join(f"{x:g},{y:g}" for x, y in places)


def _steps(ordered: Sequence[float]) -> list[tuple[int, float]]:
    """Where p-values are written: just above the middle score and above the largest."""
    count = len(ordered)
    return [(place, ordered[place]) for place in sorted({count // 2 - 1, count - 1}) if place >= 0]


@dataclass(frozen=True)
class _Axis:
    """Bins (edge(k), edge(k + 1)] counted from the threshold, k from `first` to `last`."""

    threshold: float
    step: float
    first: int
    last: int

    @property
    def bar_width(self) -> float:
        return WIDTH / (self.last + 1 - self.first)

    def edge(self, place: int) -> float:
        return self.threshold + place * self.step

    def x(self, score: float) -> float:
        return ((score - self.threshold) / self.step - self.first) * self.bar_width

    def places(self, scores: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.ceil((scores - self.threshold) / self.step).astype(np.int64) - 1


def _lane(scores: NDArray[np.float64], axis: _Axis, lane: int) -> list[Bar]:
    places, counts = np.unique(axis.places(scores), return_counts=True)
    bars: list[Bar] = []
    for place, count in zip(places.tolist(), counts.tolist(), strict=True):
        height = max(3.0, (LANE - 10) * count / int(counts.max()))
        label = f"{count} of {scores.size}: {axis.edge(place):.4g} to {axis.edge(place + 1):.4g}"
        x = (place - axis.first) * axis.bar_width
        bars.append(Bar(x + 0.5, (lane + 1) * LANE - height, axis.bar_width - 1, height, label))
    return bars
