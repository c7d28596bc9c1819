"""The exact areas against the curve as it is usually drawn: by thresholds, with the regions found again at each.

`pytest tests/metrics/test_speed.py -m slow -s` prints the figures of docs/protocol.md; nothing is asserted on time.
"""

import sys
import time
import tracemalloc

import cv2
import numpy as np
import pytest
from scipy import ndimage

from uipad_cli.engine.scratch import Stored
from uipad_cli.metrics.region import pixel_metrics

THRESHOLDS = 100


def smooth_image(index, size):
    """A map [size,size] of smooth noise with up to three blurred defects in it, and its mask."""
    rng = np.random.default_rng(index)
    mask = np.zeros((size, size), bool)
    for _ in range(index % 4):
        row, column, height, width = *rng.integers(0, size - size // 8, 2), *rng.integers(size // 40, size // 8, 2)
        mask[row : row + height, column : column + width] = True
    noise = cv2.GaussianBlur(rng.normal(size=(size, size)).astype(np.float32), (0, 0), 6) * 12
    shown = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), size / 70) * rng.uniform(0, 5)
    return (noise + shown + 0.3 * rng.normal()).astype(np.float32), mask


def by_opencv(mask):
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return labels, count - 1


def by_scipy(mask):
    return ndimage.label(mask, structure=np.ones((3, 3)))


def drawn_aupro(maps, masks, thresholds, limit, labelled):
    """The curve by thresholds, area by trapezoids up to the limit, divided by it."""
    low, high = min(map_.min() for map_ in maps), max(map_.max() for map_ in maps)
    rates, overlaps = [0.0], [0.0]
    for threshold in np.linspace(high, low, thresholds):
        alarms = normal = 0
        found = []
        for map_, mask in zip(maps, masks, strict=True):
            above = map_ >= threshold
            labels, count = labelled(mask)
            found += [np.mean(above[labels == label]) for label in range(1, count + 1)]
            alarms += np.count_nonzero(above & ~mask)
            normal += np.count_nonzero(~mask)
        rates.append(alarms / normal)
        overlaps.append(float(np.mean(found)))
    fine = np.linspace(0, limit, 10_001)
    up = np.interp(fine, rates, overlaps)
    return float(np.mean((up[1:] + up[:-1]) / 2))


def stored(images, size):
    maps, masks = Stored(np.float32), Stored(np.bool_)
    for index in range(images):
        map_, mask = smooth_image(index, size)
        maps.append(map_)
        masks.append(mask)
    return maps, masks


@pytest.mark.parametrize("labelled", [by_opencv, by_scipy])
def test_both_draw_the_same_curve(labelled):
    maps, masks = stored(8, 96)
    drawn = drawn_aupro(list(maps), list(masks), 2000, 0.3, labelled)
    assert drawn == pytest.approx(pixel_metrics(maps, masks).aupro[0.3], abs=2e-3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_how_much_sooner(capsys):
    """110 maps of 800 x 800; ours read from disk, four limits and the pixel AUROC; the curve from memory, one limit."""
    maps, masks = stored(110, 800)
    began = time.perf_counter()
    exact = pixel_metrics(maps, masks)
    ours = time.perf_counter() - began
    tracemalloc.start()
    pixel_metrics(maps, masks)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5e8
    told = [f"exact {ours:.1f} s, {peak / 1e6:.0f} MB (AUPRO@30 {exact.aupro[0.3]:.4f}, {exact.regions} regions)"]
    all_maps, all_masks = list(maps), list(masks)
    for labelled in (by_opencv, by_scipy):
        began = time.perf_counter()
        drawn = drawn_aupro(all_maps, all_masks, THRESHOLDS, 0.3, labelled)
        usual = time.perf_counter() - began
        assert drawn == pytest.approx(exact.aupro[0.3], abs=0.05)
        name = labelled.__name__.replace("_", " ")
        told.append(f"{THRESHOLDS} thresholds {name} {usual:.0f} s ({drawn:.4f}): {usual / ours:.1f} times as long")
    with capsys.disabled():
        sys.stdout.write("\n" + "; ".join(told) + "\n")
