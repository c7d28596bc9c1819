"""Missing pixels of a height map, filled: speckle by its surroundings, shadows by their lower side."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_WINDOW = 5
_ENOUGH = 0.25  # share of the window that must be measured for a mean
_JUMP = 10.0  # times the usual step between neighbours: more than that is an edge
_NOWHERE = np.float32(1e9)


def fill_holes(height: Floats, valid: Mask) -> Floats:
    """Height [H0,W0] with every pixel outside `valid` replaced; measured pixels keep their value, all is finite.

    A pixel with enough measured neighbours at about one height takes their mean. Any other is bridged along the
    shorter of its row and column gap: linearly where both ends agree; where they do not, the gap is what the sensor
    could not see past an edge, which lies on the lower side.
    """
    if valid.all() or not valid.any():
        return np.where(valid, height, 0).astype(np.float32)
    level = np.float32(np.median(height[valid]))
    known = np.where(valid, height - level, 0).astype(np.float32)
    jump = np.float32(_JUMP * _usual_step(known, valid))
    filled, sure = _fill_speckle(known, valid, jump)
    filled = _fill_gaps(filled, sure, jump)
    smooth = cv2.medianBlur(filled, _WINDOW)  # takes the streaks out of bridged rows and columns
    return np.where(valid, height, smooth + level).astype(np.float32)


def _usual_step(height: Floats, valid: Mask) -> float:
    """Median difference between measured neighbours: what noise and slope do from pixel to pixel."""
    down = np.abs(np.diff(height, axis=0))[valid[1:] & valid[:-1]]
    right = np.abs(np.diff(height, axis=1))[valid[:, 1:] & valid[:, :-1]]
    steps = np.concatenate([down, right])
    return float(np.median(steps)) if steps.size else 0.0


def _fill_speckle(height: Floats, valid: Mask, jump: np.float32) -> tuple[Floats, Mask]:
    count = _window_sum(valid.astype(np.float32))
    divisor = np.maximum(count, 1)
    mean = _window_sum(height) / divisor
    spread = np.sqrt(np.maximum(_window_sum(height * height) / divisor - mean * mean, 0))
    here = ~valid & (count >= _ENOUGH * _WINDOW**2) & (spread <= jump)
    return np.where(here, mean, height).astype(np.float32), valid | here


def _window_sum(values: Floats) -> Floats:
    """Sum over the window; a running sum would round differently with the number of threads."""
    ones = np.ones(_WINDOW, dtype=np.float32)
    return np.asarray(cv2.sepFilter2D(values, cv2.CV_32F, ones, ones, borderType=cv2.BORDER_CONSTANT), np.float32)


def _fill_gaps(height: Floats, valid: Mask, jump: np.float32) -> Floats:
    across, gap_across = _bridge(height, valid, jump)
    down, gap_down = _bridge(np.ascontiguousarray(height.T), np.ascontiguousarray(valid.T), jump)
    filled = np.where(gap_across <= gap_down.T, across, down.T)
    nowhere = np.minimum(gap_across, gap_down.T) >= _NOWHERE
    filled[nowhere] = np.median(height[valid]) if nowhere.any() else 0
    return np.where(valid, height, filled).astype(np.float32)


def _bridge(height: Floats, valid: Mask, jump: np.float32) -> tuple[Floats, Floats]:
    """Every pixel from the nearest known ones to its left and right, and the width of that gap.

    At the image border the one end that exists is taken, its distance counted twice.
    """
    width = height.shape[1]
    column = np.broadcast_to(np.arange(width, dtype=np.int32), height.shape)
    left = np.maximum.accumulate(np.where(valid, column, -1), axis=1)
    right = np.minimum.accumulate(np.where(valid, column, width)[:, ::-1], axis=1)[:, ::-1]
    no_left, no_right = left < 0, right >= width
    at_left = np.take_along_axis(height, np.maximum(left, 0), axis=1)
    at_right = np.take_along_axis(height, np.minimum(right, width - 1), axis=1)
    at_left, at_right = np.where(no_left, at_right, at_left), np.where(no_right, at_left, at_right)
    share = (column - left).astype(np.float32) / np.maximum(right - left, 1).astype(np.float32)
    line = at_left * (1 - share) + at_right * share
    value = np.where(np.abs(at_left - at_right) <= jump, line, np.minimum(at_left, at_right))
    gap = np.where(no_left, 2 * (right - column), np.where(no_right, 2 * (column - left), right - left))
    return value.astype(np.float32), np.where(no_left & no_right, _NOWHERE, gap).astype(np.float32)
