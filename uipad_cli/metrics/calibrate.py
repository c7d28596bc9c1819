"""What good parts alone can tell: where to raise the alarm, how surprising a score is, and which scores count as quiet.

Split-conformal prediction (Vovk et al. 2005; Angelopoulos and Bates 2021): n good parts that nothing was learned from
and the next good part are exchangeable, so its rank among them is uniform, whatever scores are distributed like.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from uipad_cli.metrics.distributions import beta_quantile, student_quantile

USUAL_RATE, USUAL_UNSURE = 0.01, 0.05  # of good parts that raise an alarm, and that are not called good
CONFIDENCE = 0.95
_TOP = 0.999  # share of a good map that may be shown at or below the upper end: one wild pixel does not set the scale
_SLACK = 1e-9  # (n + 1) times a rate is a whole number more often than its floating-point product is


@dataclass(frozen=True)
class Bounds:
    """Where verdicts change: above `threshold` anomalous, above `unsure_from` and up to there unsure, below it good.

    rate, unsure_rate: the largest chance that the next good part is called anomalous, and that it is not called good;
    promised: True where these hold for scores of any distribution, False where `threshold` takes their logarithms for
    normal, because fewer than `parts_needed(rate)` parts promise nothing so rare; rate_bound: the largest rate of
    false alarms that these very parts leave possible, with `CONFIDENCE` over all draws of them; None if not promised.
    """

    threshold: float
    unsure_from: float
    rate: float
    unsure_rate: float
    promised: bool
    rate_bound: float | None


def bounds_from_good(scores: ArrayLike, rate: float | None = None, unsure: float | None = None) -> Bounds:
    """Threshold and abstain band from scores [n] of good parts that nothing was learned from.

    rate: of false alarms, None = 0.01, or the least that so few parts promise; unsure: of good parts that are not
    called good, None = 0.05, or twice the least. Raises ValueError where there is no score, one is not finite, a rate
    lies outside 0..1, `unsure` is below `rate`, or fewer than three parts are asked for more than they promise.
    """
    good = np.sort(_checked(scores))
    least = 1 / (good.size + 1)
    asked = max(USUAL_RATE, least) if rate is None else rate
    if unsure is None:
        unsure = max(USUAL_UNSURE, asked, 2 * least if asked >= least else least)
    if not 0 < asked < 1 or not asked <= unsure <= 1:
        raise ValueError(
            f"the chance of a false alarm ({asked:g}) must lie above 0 and below 1, and not above the chance that a "
            f"good part is not called good ({unsure:g}), which is 1 at most"
        )
    held = conformal_threshold(good, asked)
    band = conformal_threshold(good, unsure)
    lower = float(good[-1]) if band is None else band
    unsure_rate = max(unsure, least)
    if held is not None:
        above = good.size - int(
            np.searchsorted(good, held, side="left")
        )  # ties count as above: nothing is promised less
        bound = beta_quantile(above, good.size + 1 - above, CONFIDENCE)
        return Bounds(held, min(lower, held), asked, unsure_rate, True, bound)
    return Bounds(max(_prediction_limit(good, asked), lower), lower, asked, unsure_rate, False, None)


def conformal_threshold(scores: ArrayLike, rate: float) -> float | None:
    """The score that the next good part exceeds with a chance of at most `rate`; None where n parts cannot promise it.

    The ceil((n + 1)(1 - rate))-th smallest of the scores [n]. Errors as `bounds_from_good`.
    """
    good = np.sort(_checked(scores))
    place = math.ceil((good.size + 1) * (1 - rate) - _SLACK)
    return None if place > good.size else float(good[max(place, 1) - 1])


def parts_needed(rate: float) -> int:
    """So many good parts promise a rate of false alarms, and not fewer: the smallest n with 1/(n + 1) <= rate."""
    return max(1, math.ceil(1 / rate - 1 - _SLACK))


def p_values(good: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """How often a good part would score as high or higher: (1 + good scores at or above it) / (n + 1), for scores [m].

    For good parts P(p <= a) <= a for every a (Vovk et al. 2005). The least that n parts can say is 1/(n + 1).
    """
    ordered = np.sort(_checked(good))
    below = np.searchsorted(ordered, np.asarray(scores, dtype=np.float64), side="left")
    found: NDArray[np.float64] = (1 + ordered.size - below) / (ordered.size + 1)
    return found


def _prediction_limit(good: NDArray[np.float64], rate: float) -> float:
    """What the next of n + 1 scores exceeds with the chance `rate`, were their logarithms normal.

    Hahn and Meeker 1991: mean + t(n - 1, 1 - rate) s sqrt(1 + 1/n); of the scores themselves where one is not positive.
    """
    if good.size < 3:
        raise ValueError(
            f"{good.size} good parts say nothing of a rate of {rate:g}: that takes {parts_needed(rate)}, or at least 3 "
            "and an assumption"
        )
    positive = bool(good[0] > 0)
    values = np.log(good) if positive else good
    reach = student_quantile(good.size - 1, 1 - rate) * math.sqrt(1 + 1 / good.size)
    limit = float(values.mean() + reach * values.std(ddof=1))
    return math.exp(limit) if positive else limit


def map_range(maps: Iterable[NDArray[np.floating]]) -> tuple[float, float]:
    """Range (low, high) that good maps cover, low < high: the fixed ends for drawing heat maps of a category.

    low is the median over the maps of each map's median, high the maximum over the maps of each map's 99.9 % quantile.
    maps: arrays of any shape; NaN marks pixels that were never seen and is left out.
    Raises ValueError, naming the map, where one is infinite or has no seen pixel, and where there is no map.
    """
    ranges = []
    for index, map_ in enumerate(maps):
        values = np.asarray(map_, dtype=np.float64)
        values = values[~np.isnan(values)]
        if values.size == 0:
            raise ValueError(f"good map {index} has no seen pixel")
        if np.isinf(values).any():
            raise ValueError(f"good map {index} holds infinite scores")
        median, top = np.quantile(values, (0.5, _TOP)).tolist()
        ranges.append((median, top))
    return joined_ranges(ranges)


def joined_ranges(ranges: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The range of all maps from the range of each: the median of the lows, the largest high.

    Maps without any spread still get a range that can be divided by. Raises ValueError where there is none.
    """
    if not ranges:
        raise ValueError("a range needs at least one good map, got none")
    lows, highs = zip(*ranges, strict=True)
    low, high = float(np.median(lows)), max(highs)
    return low, max(high, low + 1e-6 * max(1.0, abs(low)))


def _checked(scores: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"a threshold needs a list of at least one good score, got shape {values.shape}")
    if bad := np.flatnonzero(~np.isfinite(values)).tolist():
        raise ValueError(f"score of good image {bad[0]} is {values[bad[0]]}, expected a finite number")
    return values
