"""Exact area under the per-region-overlap curve (AUPRO) and pixel AUROC, from one sort of the normal scores.

A defective pixel is found at exactly those thresholds that its score passes. Let `lo` be the share of normal pixels
scoring above it and `hi` the share scoring at or above it: on the curve over the false positive rate the pixel is lost
up to `lo`, found from `hi` on, and ties are crossed on a straight line in between. The area up to a limit is therefore
a sum over the defective pixels, and no curve has to be drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

LIMITS = (0.3, 0.1, 0.05, 0.01)

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
    Raises ValueError, naming the image, for shapes or types that do not fit and for scores that are not finite.
    """
    if not all(0 < limit <= 1 for limit in limits):
        raise ValueError(f"limits {tuple(limits)} must lie above 0 and at most at 1")
    check_maps(maps, masks, seen)
    scores, weights, regions, unseen = _defective_pixels(maps, masks, seen)
    normal = sorted_normal_scores(maps, masks, seen)
    if scores.size == 0 or normal.size == 0:
        return PixelMetrics(None, dict.fromkeys(limits), regions, unseen)

    order = np.argsort(scores)  # sorted queries walk `normal` once instead of jumping through it
    scores, weights = scores[order], weights[order] / regions
    lo = (normal.size - np.searchsorted(normal, scores, side="right")) / normal.size
    hi = (normal.size - np.searchsorted(normal, scores, side="left")) / normal.size
    aupro = {limit: float(np.dot(weights, _area(lo, hi, limit))) / limit for limit in limits}
    return PixelMetrics(1 - float(np.mean(lo + hi)) / 2, aupro, regions, unseen)


def _area(lo: NDArray[np.float64], hi: NDArray[np.float64], limit: float) -> NDArray[np.float64]:
    """Area left of `limit` under a line that is 0 up to `lo`, climbs to 1 at `hi` and stays there."""
    found = np.maximum(limit - hi, 0)
    crossed = np.clip(limit - lo, 0, hi - lo)
    # crossed <= hi - lo, hence the quotient of a pixel without ties, 0 / 0, is 0
    height = np.divide(crossed, hi - lo, out=np.zeros_like(lo), where=hi > lo)
    area: NDArray[np.float64] = found + crossed * height / 2
    return area


def _defective_pixels(
    maps: Sequence[_Map], masks: Sequence[_Mask], seen: Sequence[_Mask] | None
) -> tuple[_Map, NDArray[np.float64], int, int]:
    """Scores of the seen defective pixels, one over the seen area of each pixel's region, regions seen and unseen."""
    scores: list[_Map] = []
    weights: list[NDArray[np.float64]] = []
    regions = unseen = 0
    for index, (map_, mask) in enumerate(zip(maps, masks, strict=True)):
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        inside = mask if seen is None else mask & seen[index]
        owners = labels[inside]
        areas = np.bincount(owners, minlength=count)
        present = np.count_nonzero(areas[1:])
        regions += int(present)
        unseen += int(count - 1 - present)
        scores.append(map_[inside])
        weights.append(1 / areas[owners])
    empty = np.empty(0)
    return np.concatenate([empty.astype(np.float32), *scores]), np.concatenate([empty, *weights]), regions, unseen


def sorted_normal_scores(maps: Sequence[_Map], masks: Sequence[_Mask], seen: Sequence[_Mask] | None) -> _Map:
    """All seen pixels outside the masks, ascending, in one array that is filled and sorted in place."""

    def normal(index: int) -> _Mask:
        return ~masks[index] if seen is None else ~masks[index] & seen[index]

    counts = [int(np.count_nonzero(normal(index))) for index in range(len(maps))]
    scores = np.empty(sum(counts), dtype=np.float32)
    start = 0
    for index, count in enumerate(counts):
        scores[start : start + count] = maps[index][normal(index)]
        start += count
    scores.sort()
    return scores


def check_maps(maps: Sequence[_Map], masks: Sequence[_Mask], seen: Sequence[_Mask] | None) -> None:
    """Raise ValueError as `pixel_metrics`."""
    lengths = [len(maps), len(masks)] + ([] if seen is None else [len(seen)])
    if len(set(lengths)) > 1:
        raise ValueError(f"maps, masks and seen must have one entry per image, got {lengths}")
    for index, map_ in enumerate(maps):
        # One type for all scores: a score rounded twice could break or make a tie.
        if map_.dtype != np.float32 or map_.ndim != 2 or map_.size == 0:
            raise ValueError(f"map {index} is {map_.dtype} {map_.shape}, expected float32 (height, width)")
        for name, marks in (("mask", masks), ("seen", seen)):
            if marks is not None and (marks[index].dtype != np.bool_ or marks[index].shape != map_.shape):
                found = f"{marks[index].dtype} {marks[index].shape}"
                raise ValueError(f"{name} {index} is {found}, expected bool {map_.shape} as its map")
        finite = np.isfinite(map_)
        if not (finite.all() if seen is None else finite[seen[index]].all()):
            wrong = ~finite if seen is None else ~finite & seen[index]
            row, column = np.argwhere(wrong)[0].tolist()
            raise ValueError(
                f"map {index} is {map_[row, column]} at row {row}, column {column}, expected finite scores"
            )
