"""Curves to draw, and pixel histograms per image from which the AUPRO of any draw of images follows at once.

The histograms' edges are scores of normal pixels, so every point of a curve drawn from them is a point of the exact
one, for every draw of images. In between the curve is straight: with 4096 bins the normalised area is off by at most
0.0008 up to 0.3 and 0.0003 up to 0.05 where every image counts once (`region.pixel_metrics` is exact).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from uipad_cli.metrics.ascending import Ascending, values_at
from uipad_cli.metrics.ranking import checked_scores, cumulative_counts
from uipad_cli.metrics.region import checked_images, seen_regions

TAIL = 0.05  # share of the normal pixels, those with the highest scores, that get half of the bins
DRAWN_AT_ONCE = 1 << 20  # points of curves in memory at a time

Floats = NDArray[np.float64]
Points = tuple[Floats, Floats]

_Map = NDArray[np.float32]
_Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class PixelCounts:
    """Histograms of a category's seen pixels over the same bins of scores, from the lowest to the highest.

    normal [images,bins] int64: pixels outside the masks; regions [regions,bins] int64: pixels of each 8-connected
    defect region with a seen pixel, and owner [regions] int64, the place of its image.
    """

    normal: NDArray[np.int64]
    regions: NDArray[np.int64]
    owner: NDArray[np.int64]

    @property
    def images(self) -> int:
        """How many images were counted."""
        return int(self.normal.shape[0])


def roc_curve(scores: ArrayLike, labels: ArrayLike, most: int | None = None) -> Points | None:
    """False and true positive rates [points] at every distinct score, from (0, 0) to (1, 1), at most `most` of them.

    scores [M], higher = worse; labels [M] bool or 0/1, true = defective. None where only one class is present.
    Raises ValueError as `ranking.auroc`.
    """
    values, defective = checked_scores(scores, labels)
    if defective.all() or not defective.any():
        return None
    hits, flagged = cumulative_counts(values, defective)
    found, alarms = np.append(0, hits), np.append(0, flagged - hits)
    points = alarms / alarms[-1], found / found[-1]
    return points if most is None else thin(points, most)


def thin(points: Points, most: int) -> Points:
    """At most `most` points of a rising curve, its ends among them, spread evenly along its way up and to the right.

    Raises ValueError for fewer than 2.
    """
    if most < 2:
        raise ValueError(f"a curve has at least 2 points, not {most}")
    across, up = points
    if across.size <= most:
        return points
    way = across + up
    kept = np.unique(np.searchsorted(way, np.linspace(way[0], way[-1], most)).clip(0, way.size - 1))
    kept[0], kept[-1] = 0, way.size - 1  # of points at the same place searchsorted gives the first
    return across[kept], up[kept]


def count_pixels(
    maps: Sequence[_Map], masks: Sequence[_Mask], seen: Sequence[_Mask] | None = None, bins: int = 4096
) -> PixelCounts:
    """Count the scores of anomaly maps [H0,W0] float32 inside and outside the masks [H0,W0] bool, where `seen`.

    bins: at most so many, fewer where normal pixels take fewer values; half of them for the highest scores, TAIL of the
    normal pixels. Regions are those of `pixel_metrics`; its errors, and a ValueError for fewer than 8 bins. Each image
    is asked for twice; what stays of it are its histograms, 32 kB and as much for each region.
    """
    if bins < 8:
        raise ValueError(f"a curve needs at least 8 bins, not {bins}")
    outside = Ascending(np.float32)
    for map_, mask, looked in checked_images(maps, masks, seen):
        outside.add(map_[~mask & looked])
    edges = _edges(outside, bins)
    normal = np.zeros((len(maps), edges.size + 1), dtype=np.int64)
    regions: list[NDArray[np.int64]] = []
    for index, (map_, mask, looked) in enumerate(checked_images(maps, masks, seen)):
        scores = np.sort(map_[~mask & looked])  # then few edges are looked up among many scores, not the reverse
        below = np.searchsorted(scores, edges, side="left")
        normal[index] = np.diff(below, prepend=0, append=scores.size)
        regions.append(_regions(map_, mask, looked, edges))
    owner = np.repeat(np.arange(len(maps)), [len(counts) for counts in regions])
    empty = np.zeros((0, edges.size + 1), dtype=np.int64)
    return PixelCounts(normal, np.concatenate([empty, *regions]), owner.astype(np.int64))


def _edges(normal: Ascending[np.float32], bins: int) -> _Map:
    """Ascending lower edges of all bins but the first, from the scores of normal pixels."""
    if normal.size == 0:
        return np.empty(0, np.float32)
    most = bins - 2
    shares = np.concatenate(
        [np.linspace(0, 1 - TAIL, most - most // 2, endpoint=False), np.linspace(1 - TAIL, 1, most // 2)]
    )
    chosen = values_at(normal, np.floor(shares * (normal.size - 1)).astype(np.int64))
    values, times = np.unique(chosen, return_counts=True)
    # What scores just above many equal pixels, or above all of them, is found before they are: it needs its own bin.
    crowded = np.append(values[times > 1], values[-1])
    return np.unique(np.append(values, np.nextafter(crowded, np.float32(np.inf))))


def _regions(map_: _Map, mask: _Mask, looked: _Mask, edges: _Map) -> NDArray[np.int64]:
    """Histograms [regions,bins] of the regions of one image; those without a seen pixel are left out."""
    width = edges.size + 1
    inside, owners, _ = seen_regions(mask, looked)
    count = int(owners.max(initial=-1)) + 1
    places = np.searchsorted(edges, map_[inside], side="right")
    return np.bincount(owners * width + places, minlength=count * width).reshape(count, width)


def pro_curve(counts: PixelCounts, weights: ArrayLike | None = None) -> Points | None:
    """False positive rate and mean overlap of the regions [points], from (0, 0) to (1, 1).

    weights [images]: how often each image counts, once by default. None without normal pixels or without regions.
    """
    normal, overlap = _pooled(counts, _overlaps(counts), _weights(counts, weights))
    return None if np.isnan(normal).any() or np.isnan(overlap).any() else (normal[0], overlap[0])


def aupro(counts: PixelCounts, weights: ArrayLike | None = None, *, limit: float = 0.3) -> Floats:
    """Areas [draws] under the curves of overlap up to a false positive rate of `limit`, divided by it: 0..1.

    weights [draws,images] or [images]: how often each image counts in each draw; None is one draw of every image.
    NaN where a draw holds no normal pixel or no region. Raises ValueError for a limit outside 0..1 and other shapes.
    Source: Bergmann et al., The MVTec 3D-AD Dataset (2022), section 5.
    """
    if not 0 < limit <= 1:
        raise ValueError(f"limit {limit} must lie above 0 and at most at 1")
    drawn, overlaps = _weights(counts, weights), _overlaps(counts)
    at_once = max(1, DRAWN_AT_ONCE // (counts.normal.shape[1] + 1))
    blocks = [drawn[start : start + at_once] for start in range(0, len(drawn), at_once)]
    areas = [_area(*_pooled(counts, overlaps, block), limit) / limit for block in blocks]
    return np.concatenate([np.empty(0), *areas])


def _weights(counts: PixelCounts, weights: ArrayLike | None) -> Floats:
    drawn = np.atleast_2d(np.ones(counts.images) if weights is None else np.asarray(weights, dtype=np.float64))
    if drawn.ndim != 2 or drawn.shape[1] != counts.images:
        raise ValueError(f"weights {drawn.shape} must be (draws, {counts.images}), one for each image")
    return drawn


def _overlaps(counts: PixelCounts) -> Floats:
    """Histograms [images,bins] of the regions' shares, all regions of an image together."""
    of_image = np.zeros(counts.normal.shape)
    np.add.at(of_image, counts.owner, counts.regions / counts.regions.sum(axis=1, keepdims=True))
    return of_image


def _pooled(counts: PixelCounts, overlaps: Floats, weights: Floats) -> Points:
    """Points [draws,bins + 1] of the curves of all draws, the highest scores first; NaN where there is nothing."""
    return _rising(weights @ counts.normal), _rising(weights @ overlaps)


def _rising(heights: Floats) -> Floats:
    """Histograms [draws,bins] → shares in the highest bins, from none to all: [draws,bins + 1]."""
    passed = np.pad(np.cumsum(heights[:, ::-1], axis=1), ((0, 0), (1, 0)))
    whole = passed[:, -1:]
    return np.divide(passed, whole, out=np.full_like(passed, np.nan), where=whole > 0)


def _area(rates: Floats, overlaps: Floats, limit: float) -> Floats:
    """Areas [draws] of the trapezoids left of the limit; the one that it cuts counts up to there."""
    left, right = rates[:, :-1], rates[:, 1:]
    low, high = overlaps[:, :-1], overlaps[:, 1:]
    width = np.clip(limit - left, 0, right - left)
    share = np.divide(width, right - left, out=np.zeros_like(width), where=right > left)
    area: Floats = np.sum(width * (low + (high - low) * share / 2), axis=1)
    return area + 0 * overlaps[:, -1]  # NaN where there is nothing, also where no width was to be summed
