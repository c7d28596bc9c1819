"""What good parts alone can tell: where to raise the alarm, and which scores count as quiet."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

_TOP = 0.999  # share of a good map that may be shown at or below the upper end: one wild pixel does not set the scale


def threshold_from_good(scores: ArrayLike) -> float:
    """Largest score among good calibration parts; a part is called anomalous when it scores above this.

    What it promises: if the n calibration parts and the next good part are exchangeable (drawn alike, and none of them
    used for fitting), the next one exceeds the threshold with a chance of at most 1 / (n + 1). It promises nothing
    about how many defects are found.
    scores [n]. Raises ValueError where there is none, or one is not finite.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"a threshold needs a list of at least one good score, got shape {values.shape}")
    if bad := np.flatnonzero(~np.isfinite(values)).tolist():
        raise ValueError(f"score of good image {bad[0]} is {values[bad[0]]}, expected a finite number")
    return float(values.max())


def map_range(maps: Iterable[NDArray[np.floating]]) -> tuple[float, float]:
    """Range (low, high) that good maps cover, low < high: the fixed ends for drawing heat maps of a category.

    low is the median over the maps of each map's median, high the maximum over the maps of each map's 99.9 % quantile.
    maps: arrays of any shape; NaN marks pixels that were never seen and is left out.
    Raises ValueError, naming the map, where one is infinite or has no seen pixel, and where there is no map.
    """
    medians: list[float] = []
    tops: list[float] = []
    for index, map_ in enumerate(maps):
        values = np.asarray(map_, dtype=np.float64)
        values = values[~np.isnan(values)]
        if values.size == 0:
            raise ValueError(f"good map {index} has no seen pixel")
        if np.isinf(values).any():
            raise ValueError(f"good map {index} holds infinite scores")
        median, top = np.quantile(values, (0.5, _TOP))
        medians.append(float(median))
        tops.append(float(top))
    if not medians:
        raise ValueError("a range needs at least one good map, got none")
    low, high = float(np.median(medians)), max(tops)
    # Maps without any spread still need a range that can be divided by.
    return low, max(high, low + 1e-6 * max(1.0, abs(low)))
