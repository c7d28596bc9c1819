"""Thresholds from labelled parts: the best F1, or the least cost; and how far other parts would have moved them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

DRAWS, BAND = 500, 0.05  # bootstrap draws, and the share of their thresholds that lie below the abstain band

Loss = Callable[[NDArray[np.int64], NDArray[np.int64], int, int], NDArray[np.float64]]


@dataclass(frozen=True)
class LabelledBounds:
    """Above `threshold`, which has the least loss, anomalous; from `unsure_from` on unsure.

    The band reaches down to where 5 % of redrawn thresholds lie lower. missed: defective parts at or below the
    threshold, false_alarms: good ones above it.
    """

    threshold: float
    unsure_from: float
    missed: int
    false_alarms: int


def f1_loss(missed: NDArray[np.int64], alarms: NDArray[np.int64], bad: int, good: int) -> NDArray[np.float64]:
    """1 - F1 at counts [k] of missed defects and false alarms."""
    found = bad - missed
    loss: NDArray[np.float64] = 1 - 2 * found / (2 * found + missed + alarms)
    return loss


def cost_loss(miss: float, false_alarm: float) -> Loss:
    """The cost of a part at counts [k] of missed defects and false alarms.

    Raises ValueError for costs below 0 or both 0.
    """
    if not (miss >= 0 and false_alarm >= 0 and 0 < miss + false_alarm < float("inf")):
        raise ValueError(f"costs must be finite, not negative and not both 0: {miss} and {false_alarm}")

    def loss(missed: NDArray[np.int64], alarms: NDArray[np.int64], bad: int, good: int) -> NDArray[np.float64]:
        total: NDArray[np.float64] = (miss * missed + false_alarm * alarms) / (bad + good)
        return total

    return loss


def bounds_from_labelled(scores: ArrayLike, labels: ArrayLike, loss: Loss, *, seed: int = 0) -> LabelledBounds:
    """The threshold of least loss, and the band of those that redrawn parts give (good and bad drawn apart).

    scores [n], higher = worse; labels [n], true = defective. Raises ValueError where a class is missing or a score is
    not finite.
    """
    values, defective = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.bool_)
    if values.ndim != 1 or values.shape != defective.shape or not np.isfinite(values).all():
        raise ValueError(f"scores {values.shape} and labels {defective.shape} must be two finite lists of one length")
    good, bad = values[~defective], values[defective]
    if not good.size or not bad.size:
        raise ValueError(f"{good.size} good and {bad.size} defective parts: a threshold from labels needs both")
    best, missed, alarms = _best(good, bad, loss)
    generator = np.random.default_rng(seed)
    drawn = [_best(generator.choice(good, good.size), generator.choice(bad, bad.size), loss)[0] for _ in range(DRAWS)]
    return LabelledBounds(best, min(float(np.quantile(drawn, BAND)), best), missed, alarms)


def _best(good: NDArray[np.float64], bad: NDArray[np.float64], loss: Loss) -> tuple[float, int, int]:
    """(threshold, missed, false alarms): half way between the two scores that it separates; the first of equals."""
    levels = np.unique(np.concatenate([good, bad]))
    steps = np.concatenate([[levels[0] - 1], levels])  # a part is anomalous above its threshold, so one lies below all
    missed = np.searchsorted(np.sort(bad), steps, side="right")
    alarms = good.size - np.searchsorted(np.sort(good), steps, side="right")
    place = int(np.argmin(loss(missed, alarms, bad.size, good.size)))
    threshold = steps[place] if place + 1 == steps.size else (steps[place] + steps[place + 1]) / 2
    if place == 0:
        threshold = np.nextafter(levels[0], -np.inf)
    return float(threshold), int(missed[place]), int(alarms[place])
