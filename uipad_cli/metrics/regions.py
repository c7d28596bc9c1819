"""Places of an anomaly map that no good part shows: where they are, how large, how high."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]

TOP = 0.01  # share of the seen pixels that count as the finding where a part has no pixel above the limit
_RING = 0.02  # of the longer side: how far around a region its surroundings reach
_LEAST_RING = 4  # pixels


@dataclass(frozen=True)
class Region:
    """Neighbouring pixels (8-connected) above the limit: mask [H0,W0], box (x, y, width, height) in pixels, highest
    score and the pixel (x, y) it lies at."""

    mask: Mask
    box: tuple[int, int, int, int]
    area: int
    peak: float
    peak_at: tuple[int, int]


def find_regions(map_: Floats, limit: float) -> list[Region]:
    """Regions of a map [H0,W0] above `limit`, highest peak first; NaN marks pixels that were never seen.

    Without a pixel above the limit it is the highest hundredth, which is what made the score.
    """
    seen = ~np.isnan(map_)
    above = np.zeros(map_.shape, np.bool_)
    above[seen] = map_[seen] > limit
    if seen.any() and not above.any():
        above[seen] = map_[seen] >= np.quantile(map_[seen], 1 - TOP)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(above.astype(np.uint8), connectivity=8)
    regions = []
    for label in range(1, count):
        left, top, width, height, area = (int(value) for value in stats[label])
        here = labels[top : top + height, left : left + width] == label
        inside = np.where(here, map_[top : top + height, left : left + width], -np.inf)
        row, column = np.unravel_index(int(inside.argmax()), inside.shape)
        mask = np.zeros(map_.shape, np.bool_)
        mask[top : top + height, left : left + width] = here
        at = (left + int(column), top + int(row))
        regions.append(Region(mask, (left, top, width, height), area, float(inside.max()), at))
    return sorted(regions, key=lambda region: -region.peak)


def height_deviation(region: Mask, height: Floats, valid: Mask, others: Mask) -> float | None:
    """Mean height inside a region less the median around it, in the unit of `height`; None where nothing was measured.

    All arrays [H0,W0]; others: every region of the part, which are no surroundings. A dent is negative.
    """
    reach = max(_LEAST_RING, round(_RING * max(region.shape)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    around = (cv2.dilate(region.astype(np.uint8), kernel) > 0) & ~others & valid
    inside = region & valid
    if not inside.any() or not around.any():
        return None
    return float(height[inside].mean() - np.median(height[around]))
