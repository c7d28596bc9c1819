"""How well image scores rank defective parts above good ones: exact, ties included."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def auroc(scores: ArrayLike, labels: ArrayLike) -> float | None:
    """Chance that a defective image scores above a good one, a tie counting one half.

    scores [M], higher = worse; labels [M] bool or 0/1, true = defective. None where only one class is present.
    Raises ValueError for lengths that differ, other labels, and scores that are not finite.
    """
    values, defective = _checked(scores, labels)
    good = np.sort(values[~defective])
    bad = values[defective]
    if good.size == 0 or bad.size == 0:
        return None
    # Each pair gives 2 for a win and 1 for a tie: counted in integers, so that only the division rounds.
    below = np.searchsorted(good, bad, side="left").sum(dtype=np.int64)
    not_above = np.searchsorted(good, bad, side="right").sum(dtype=np.int64)
    return int(below + not_above) / (2 * good.size * bad.size)


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float | None:
    """Precision at each distinct score, weighted by the recall gained there (a step curve, no interpolation).

    Arguments, None and errors as for `auroc`.
    """
    values, defective = _checked(scores, labels)
    if defective.all() or not defective.any():
        return None
    hits, flagged = _cumulative_counts(values, defective)
    gained = np.diff(hits, prepend=0)
    return float(np.sum(gained * (hits / flagged)) / hits[-1])


def f1_max(scores: ArrayLike, labels: ArrayLike) -> float | None:
    """Largest F1 over all thresholds; chosen on the test set, so a ceiling and not a promise.

    Arguments, None and errors as for `auroc`.
    """
    values, defective = _checked(scores, labels)
    if defective.all() or not defective.any():
        return None
    hits, flagged = _cumulative_counts(values, defective)
    return float(np.max(2 * hits / (flagged + hits[-1])))


def _cumulative_counts(values: NDArray[np.float64], defective: NDArray[np.bool_]) -> tuple[NDArray[np.int64], ...]:
    """(defective, all) images at or above each distinct score, from the highest down; tied images come together."""
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    last_of_tie = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), ranked.size - 1)
    hits = np.cumsum(defective[order], dtype=np.int64)[last_of_tie]
    return hits, last_of_tie.astype(np.int64) + 1


def _checked(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values = np.asarray(scores, dtype=np.float64)
    marks = np.asarray(labels)
    if values.ndim != 1 or marks.shape != values.shape:
        raise ValueError(f"scores {values.shape} and labels {marks.shape} must be two lists of the same length")
    if bad := np.flatnonzero(~np.isfinite(values)).tolist():
        raise ValueError(f"score of image {bad[0]} is {values[bad[0]]}, expected a finite number")
    if bad := np.flatnonzero((marks != 0) & (marks != 1)).tolist():
        raise ValueError(f"label of image {bad[0]} is {marks[bad[0]]}, expected 0 (good) or 1 (defective)")
    return values, marks.astype(np.bool_)
