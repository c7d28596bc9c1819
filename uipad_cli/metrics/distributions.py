"""Quantiles of the few distributions that calibration needs, by plain numerics (scipy is 100 MB for two functions)."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

_GRID = 200_001


@lru_cache
def student_quantile(freedom: int, share: float) -> float:
    """The value that Student's t with `freedom` >= 1 degrees stays below with chance `share`, 0 < share < 1."""
    # t = sqrt(freedom) tan(angle) turns its density into cos(angle)^(freedom - 1), which ends at +-90 degrees
    angles = np.linspace(-math.pi / 2, math.pi / 2, _GRID)
    density = np.cos(angles).clip(min=0) ** (freedom - 1)
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return math.sqrt(freedom) * math.tan(float(np.interp(share, below / below[-1], angles)))


@lru_cache
def beta_quantile(first: int, second: int, share: float) -> float:
    """The value that a Beta variable with whole parameters >= 1 stays below with chance `share`, 0 < share < 1.

    Beta(a, b) <= x exactly where at least a of a + b - 1 coins of chance x fall on heads.
    """
    trials = first + second - 1
    heads = np.arange(first, trials + 1)
    logs = np.array(
        [math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) for k in heads.tolist()]
    )
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        reached = float(np.exp(logs + heads * math.log(middle) + (trials - heads) * math.log1p(-middle)).sum())
        low, high = (middle, high) if reached < share else (low, middle)
    return (low + high) / 2
