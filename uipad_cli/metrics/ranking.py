"""How well image scores rank defective parts above good ones: exact, ties included."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

DRAWN_AT_ONCE = 1 << 22  # images of a bootstrap in memory at a time


def auroc(scores: ArrayLike, labels: ArrayLike) -> float | None:
    """Chance that a defective image scores above a good one, a tie counting one half.

    scores [M], higher = worse; labels [M] bool or 0/1, true = defective. None where only one class is present.
    Raises ValueError for lengths that differ, other labels, and scores that are not finite.
    """
    values, defective = checked_scores(scores, labels)
    good = np.sort(values[~defective])
    bad = values[defective]
    if good.size == 0 or bad.size == 0:
        return None
    # Each pair gives 2 for a win and 1 for a tie: counted in integers, so that only the division rounds.
    below = np.searchsorted(good, bad, side="left").sum(dtype=np.int64)
    not_above = np.searchsorted(good, bad, side="right").sum(dtype=np.int64)
    return int(below + not_above) / (2 * good.size * bad.size)


def auroc_interval(
    scores: ArrayLike, labels: ArrayLike, *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """Bounds that hold the share `level` of the AUROC over images drawn anew: a percentile bootstrap.

    Good and defective images are each drawn `draws` times with replacement, as many as there are (Efron and Tibshirani
    1993, chapter 13). Where nothing overlaps no draw does either, so there the bound is exact: the m images of
    the smaller class, paired off with others, win m times out of m, unlikely for an AUROC below ((1 - level)/2)^(1/m).
    Arguments, None and errors as for `auroc`; ValueError also for a level outside 0..1.
    """
    values, defective = checked_scores(scores, labels)
    if not 0 < level < 1 or draws < 1:
        raise ValueError(f"level {level} must lie between 0 and 1, draws {draws} must be at least 1")
    if defective.all() or not defective.any():
        return None
    levels, places = np.unique(values, return_inverse=True)
    good, bad = places[~defective], places[defective]
    if good.max() < bad.min() or bad.max() < good.min():
        bound = ((1 - level) / 2) ** (1 / min(good.size, bad.size))
        return (bound, 1.0) if good.max() < bad.min() else (0.0, 1 - bound)
    generator = np.random.default_rng(seed)
    wins = np.empty(draws, dtype=np.int64)
    at_once = max(1, DRAWN_AT_ONCE // values.size)
    for start in range(0, draws, at_once):
        count = min(at_once, draws - start)
        good_at = _drawn_counts(good, levels.size, count, generator)
        bad_at = _drawn_counts(bad, levels.size, count, generator)
        below = np.cumsum(good_at, axis=1) - good_at
        wins[start : start + count] = np.sum(bad_at * (2 * below + good_at), axis=1)  # 2 a win, 1 a tie
    low, high = np.quantile(wins / (2 * good.size * bad.size), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _drawn_counts(
    places: NDArray[np.int64], levels: int, draws: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """How often each level comes up when as many of `places` are drawn with replacement: [draws,levels]."""
    drawn = places[generator.integers(places.size, size=(draws, places.size))]
    flat = drawn + levels * np.arange(draws)[:, None]
    return np.bincount(flat.ravel(), minlength=draws * levels).reshape(draws, levels)


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float | None:
    """Precision at each distinct score, weighted by the recall gained there (a step curve, no interpolation).

    Arguments, None and errors as for `auroc`.
    """
    values, defective = checked_scores(scores, labels)
    if defective.all() or not defective.any():
        return None
    hits, flagged = cumulative_counts(values, defective)
    gained = np.diff(hits, prepend=0)
    return float(np.sum(gained * (hits / flagged)) / hits[-1])


def f1_max(scores: ArrayLike, labels: ArrayLike) -> float | None:
    """Largest F1 over all thresholds; chosen on the test set, so a ceiling and not a promise.

    Arguments, None and errors as for `auroc`.
    """
    values, defective = checked_scores(scores, labels)
    if defective.all() or not defective.any():
        return None
    hits, flagged = cumulative_counts(values, defective)
    return float(np.max(2 * hits / (flagged + hits[-1])))


def cumulative_counts(values: NDArray[np.float64], defective: NDArray[np.bool_]) -> tuple[NDArray[np.int64], ...]:
    """(defective, all) images at or above each distinct score, from the highest down; tied images come together."""
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    last_of_tie = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), ranked.size - 1)
    hits = np.cumsum(defective[order], dtype=np.int64)[last_of_tie]
    return hits, last_of_tie.astype(np.int64) + 1


def checked_scores(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores [M] float64 and labels [M] bool. Raises ValueError as `auroc`."""
    values = np.asarray(scores, dtype=np.float64)
    marks = np.asarray(labels)
    if values.ndim != 1 or marks.shape != values.shape:
        raise ValueError(f"scores {values.shape} and labels {marks.shape} must be two lists of the same length")
    if bad := np.flatnonzero(~np.isfinite(values)).tolist():
        raise ValueError(f"score of image {bad[0]} is {values[bad[0]]}, expected a finite number")
    if bad := np.flatnonzero((marks != 0) & (marks != 1)).tolist():
        raise ValueError(f"label of image {bad[0]} is {marks[bad[0]]}, expected 0 (good) or 1 (defective)")
    return values, marks.astype(np.bool_)
