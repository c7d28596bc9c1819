"""Exact area under the per-region-overlap curve (AUPRO) and pixel AUROC, from one sort of the normal scores.

Images are looked at one at a time; scores are sorted on disk where they are many (`ascending`), and what is summed over
pixels is whole numbers, so no figure depends on how they were cut into blocks. Only areas and sums of the regions stay.

A defective pixel is found at exactly those thresholds that its score passes. Let `lo` be the share of normal pixels
scoring above it and `hi` the share scoring at or above it: on the curve over the false positive rate the pixel is lost
up to `lo`, found from `hi` on, and ties are crossed on a straight line in between. The area up to a limit is therefore
a sum over the defective pixels, and no curve has to be drawn.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from uipad_cli.metrics.ascending import Ascending, Counts, passed_by

LIMITS = (0.3, 0.1, 0.05, 0.01)
_SIGN = np.uint32(1 << 31)

_Map = NDArray[np.float32]
_Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class PixelMetrics:
    """Figures pooled over all pixels of a category; None where the data leave them undefined.

    `aupro` maps each limit of the false positive rate to the normalised area, 0..1. `regions` counts the 8-connected
    defect regions that were scored, `regions_unseen` those that the method never looked at.
    """

    pixel_auroc: float | None
    aupro: Mapping[float, float | None]
    regions: int
    regions_unseen: int


def pixel_metrics(
    maps: Sequence[_Map],
    masks: Sequence[_Mask],
    *,
    seen: Sequence[_Mask] | None = None,
    limits: Sequence[float] = LIMITS,
) -> PixelMetrics:
    """Score anomaly maps [H0,W0] float32 against masks [H0,W0] bool; sizes may differ between images.

    Pixels outside `seen` [H0,W0] bool are left out of everything. Regions are labelled on the full mask: a partly seen
    region counts with its seen pixels, a region without one is counted as unseen and not averaged.
    Each image is asked for once. Raises ValueError, naming the image, for shapes or types that do not fit and for
    scores that are not finite; ScratchError where the disk is full.
    """
    if not all(0 < limit <= 1 for limit in limits):
        raise ValueError(f"limits {tuple(limits)} must lie above 0 and at most at 1")
    normal, defective = Ascending(np.float32), Ascending(np.uint64)
    areas = [np.empty(0, np.int64)]
    regions = unseen = 0
    for map_, mask, looked in checked_images(maps, masks, seen):
        normal.add(map_[~mask & looked])
        inside, owners, missed = seen_regions(mask, looked)
        defective.add(_packed(map_[inside], regions + owners))
        areas.append(np.bincount(owners))
        regions += areas[-1].size
        unseen += missed
    if defective.size == 0 or normal.size == 0:
        return PixelMetrics(None, dict.fromkeys(limits), regions, unseen)

    parts = {limit: _Area(limit, regions, normal.size) for limit in limits}
    lost = 0  # twice the pairs of a defective pixel and a normal one that scores above it, once those that tie
    pixels, scores = itertools.tee(defective.blocks())
    for block, (above, not_below) in zip(pixels, passed_by(normal, map(_scores, scores)), strict=True):
        lost += int(above.sum() + not_below.sum())
        for part in parts.values():
            part.add(_owners(block), above, not_below)
    of_each = np.concatenate(areas)
    aupro = {limit: part.share(of_each) for limit, part in parts.items()}
    return PixelMetrics(1 - lost / (2 * normal.size * defective.size), aupro, regions, unseen)


class _Area:
    """Area left of a limit under the curve of each region, summed over its pixels, where it can be in whole numbers.

    A pixel's own curve is 0 up to `lo`, climbs to 1 at `hi` and stays there. Where hi lies left of the limit, its area
    is the limit less (lo + hi) / 2. What climbs across the limit has one score: what scores less begins where it ends.
    """

    def __init__(self, limit: float, regions: int, normal: int) -> None:
        self._limit, self._normal = limit, normal
        self._found, self._passed, self._climbing = np.zeros((3, regions), np.int64)
        self._climbed = 0.0  # area of a pixel that climbs across the limit

    def add(self, owners: Counts, above: Counts, not_below: Counts) -> None:
        """Pixels [n]: the region of each, and how many normal ones score above it, and at or above it."""
        lo, hi = above / self._normal, not_below / self._normal
        found = hi <= self._limit
        np.add.at(self._found, owners[found], 1)
        np.add.at(self._passed, owners[found], above[found] + not_below[found])
        climbing = (lo < self._limit) & (hi > self._limit)
        np.add.at(self._climbing, owners[climbing], 1)
        if climbing.any():
            self._climbed = float((self._limit - lo[climbing][0]) ** 2 / (2 * (hi[climbing][0] - lo[climbing][0])))

    def share(self, areas: Counts) -> float:
        """Mean over regions of `areas` pixels, divided by the limit."""
        passed = self._passed / (2 * self._normal * self._limit)
        return float(np.mean((self._found - passed + self._climbing * (self._climbed / self._limit)) / areas))


def _packed(scores: _Map, owners: Counts) -> NDArray[np.uint64]:
    """Scores and their regions as numbers that ascend with the scores."""
    bits = (scores + np.float32(0)).view(np.uint32)  # -0 becomes 0, with which it ties
    bits = np.where(bits >> 31, ~bits, bits | _SIGN)
    return bits.astype(np.uint64) << np.uint64(32) | owners.astype(np.uint64)


def _scores(packed: NDArray[np.uint64]) -> _Map:
    bits = (packed >> np.uint64(32)).astype(np.uint32)
    return np.where(bits >> 31, bits ^ _SIGN, ~bits).view(np.float32)


def _owners(packed: NDArray[np.uint64]) -> Counts:
    return (packed & np.uint64(0xFFFFFFFF)).astype(np.int64)


def seen_regions(mask: _Mask, looked: _Mask) -> tuple[_Mask, Counts, int]:
    """Seen defective pixels [H0,W0], the region of each [n], and the number of regions without any.

    Regions are 8-connected, and numbered from 0 on where a pixel was seen.
    """
    inside = mask & looked
    if not mask.any():
        return inside, np.empty(0, np.int64), 0
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    present, owners = np.unique(labels[inside], return_inverse=True)
    return inside, owners.astype(np.int64), int(count - 1 - present.size)


def checked_images(
    maps: Sequence[_Map], masks: Sequence[_Mask], seen: Sequence[_Mask] | None
) -> Iterator[tuple[_Map, _Mask, _Mask]]:
    """Map, mask and seen pixels of one image after the other. Raises ValueError as `pixel_metrics`."""
    lengths = [len(maps), len(masks)] + ([] if seen is None else [len(seen)])
    if len(set(lengths)) > 1:
        raise ValueError(f"maps, masks and seen must have one entry per image, got {lengths}")
    for index in range(len(maps)):
        map_, mask = maps[index], masks[index]
        # One type for all scores: a score rounded twice could break or make a tie.
        if map_.dtype != np.float32 or map_.ndim != 2 or map_.size == 0:
            raise ValueError(f"map {index} is {map_.dtype} {map_.shape}, expected float32 (height, width)")
        looked = np.ones(map_.shape, np.bool_) if seen is None else seen[index]
        for name, marks in (("mask", mask), ("seen", looked)):
            if marks.dtype != np.bool_ or marks.shape != map_.shape:
                found = f"{marks.dtype} {marks.shape}"
                raise ValueError(f"{name} {index} is {found}, expected bool {map_.shape} as its map")
        wrong = ~np.isfinite(map_) & looked
        if wrong.any():
            row, column = np.argwhere(wrong)[0].tolist()
            raise ValueError(
                f"map {index} is {map_[row, column]} at row {row}, column {column}, expected finite scores"
            )
        yield map_, mask, looked
