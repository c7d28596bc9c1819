"""Samples of a measurement → what is told of them: medians and spread, growth, and how far two results lie apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Timing:
    """Seconds of `count` repetitions: their median, and what 10 % and 90 % of them stay below."""

    median: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Deviation:
    """Absolute differences: the largest, their mean, and the largest as a share of the reference's 1-99 % range.

    relative: None where that range is empty.
    """

    largest: float
    mean: float
    relative: float | None


def timing(samples: Sequence[float]) -> Timing:
    """Seconds of each repetition → median and spread. Raises ValueError where there is none."""
    if not samples:
        raise ValueError("nothing was measured")
    low, median, high = np.quantile(np.asarray(samples, np.float64), (0.1, 0.5, 0.9)).tolist()
    return Timing(median, low, high, len(samples))


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float | None:
    """The power of its size that something grows by: the slope of a line through the logarithms, least squares.

    None for fewer than two sizes, and for what is not above zero.
    """
    given, found = np.asarray(sizes, np.float64), np.asarray(values, np.float64)
    if given.shape != found.shape:
        raise ValueError(f"{given.size} sizes and {found.size} values")
    if len(set(given.tolist())) < 2 or (given <= 0).any() or (found <= 0).any():
        return None
    across, up = np.log(given), np.log(found)
    moved = across - across.mean()
    return float((moved * (up - up.mean())).sum() / (moved**2).sum())


def deviation(reference: ArrayLike, found: ArrayLike) -> Deviation:
    """How far results of any shape lie from the reference, number by number. Raises ValueError for another shape."""
    wanted, there = np.asarray(reference, np.float64), np.asarray(found, np.float64)
    if wanted.shape != there.shape or not wanted.size:
        raise ValueError(f"results of shape {there.shape} cannot be held against {wanted.shape}")
    apart = np.abs(wanted - there)
    low, high = np.quantile(wanted, (0.01, 0.99)).tolist()
    relative = float(apart.max()) / (high - low) if high > low else None
    return Deviation(float(apart.max()), float(apart.mean()), relative)
