"""Figures of a category from maps on disk: the same as from maps in memory, and as little memory for more of them."""

import tracemalloc

import cv2
import numpy as np
import pytest

from uipad_cli.engine.scratch import Stored
from uipad_cli.metrics import ascending
from uipad_cli.metrics.curves import count_pixels
from uipad_cli.metrics.region import pixel_metrics

LIMITS = (1.0, 0.3, 0.1, 0.05, 0.01)


@pytest.fixture
def small(monkeypatch):
    """Sets how many bytes are sorted at a time, and how many a block has."""

    def change(run, block, piece):
        for name, size in (("RUN", run), ("BLOCK", block), ("PIECE", piece)):
            monkeypatch.setattr(ascending, name, size)

    return change


def smooth_image(index, size):
    """A map [size,size] of smooth noise with blurred defects in it, and its mask; every fourth is good."""
    rng = np.random.default_rng(index)
    mask = np.zeros((size, size), bool)
    for _ in range(index % 4):
        row, column, height, width = *rng.integers(0, size - size // 8, 2), *rng.integers(2, size // 8, 2)
        mask[row : row + height, column : column + width] = True
    noise = cv2.GaussianBlur(rng.normal(size=(size, size)).astype(np.float32), (0, 0), 4) * 12
    shown = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 3) * rng.uniform(0, 5)
    return (noise + shown + 0.3 * rng.normal()).astype(np.float32), mask


def category(kind, levels):
    """Maps, masks and seen pixels of images of several sizes."""
    rng = np.random.default_rng(3)
    images = [smooth_image(index, size) for index, size in enumerate([24, 40, 33] * 4)]
    maps, masks = [map_ for map_, _ in images], [mask for _, mask in images]
    seen = None
    if kind == "seen":
        seen = [rng.random(mask.shape) < 0.8 for mask in masks]
        for map_, window in zip(maps, seen, strict=True):
            map_[~window] = np.nan
    if kind == "good":
        masks = [np.zeros_like(mask) for mask in masks]
    if kind == "defective":
        masks = [np.ones_like(mask) for mask in masks]
    if kind == "mostly defective":
        masks = [rng.random(mask.shape) < 0.7 for mask in masks]
    if levels:
        maps = [np.round(map_ * levels / 4) for map_ in maps]
    return maps, masks, seen


def on_disk(images, kind):
    found = Stored(kind)
    for image in images:
        found.append(image)
    return found


@pytest.mark.parametrize("sizes", [(1 << 13, 1 << 9, 1 << 6), (1 << 10, 1 << 12, 16), (64, 8, 8)])
@pytest.mark.parametrize("levels", [None, 1, 3, 40])
@pytest.mark.parametrize("kind", ["usual", "seen", "good", "defective", "mostly defective"])
def test_figures_from_disk_are_those_from_memory(small, kind, levels, sizes):
    maps, masks, seen = category(kind, levels)
    figures, counts = pixel_metrics(maps, masks, seen=seen, limits=LIMITS), count_pixels(maps, masks, seen, bins=64)
    small(*sizes)
    stored = on_disk(maps, np.float32), on_disk(masks, np.bool_)
    looked = None if seen is None else on_disk(seen, np.bool_)
    assert pixel_metrics(*stored, seen=looked, limits=LIMITS) == figures
    again = count_pixels(*stored, looked, bins=64)
    for name in ("normal", "regions", "owner"):
        assert np.array_equal(getattr(again, name), getattr(counts, name))


@pytest.mark.parametrize("levels", [None, 2, 40])
def test_the_order_of_images_changes_nothing_but_the_last_digit(levels):
    maps, masks, _ = category("usual", levels)
    figures, back = pixel_metrics(maps, masks), pixel_metrics(maps[::-1], masks[::-1])
    assert back.pixel_auroc == figures.pixel_auroc
    assert back.aupro == pytest.approx(figures.aupro, abs=1e-15)


def peak(images, size=400):
    """Bytes that storing and measuring so many images took at most."""
    tracemalloc.start()
    maps, masks = Stored(np.float32), Stored(np.bool_)
    for index in range(images):
        map_, mask = smooth_image(index % 10, size)
        maps.append(map_)
        masks.append(mask)
    pixel_metrics(maps, masks)
    count_pixels(maps, masks, bins=256)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def test_four_times_the_images_take_no_more_memory(small):
    small(1 << 21, 1 << 18, 1 << 12)
    few, many = peak(20), peak(80)
    assert few < 20 * 400 * 400 * 4  # the maps themselves
    assert many < few + 1.5e6  # histograms, and the ends of more runs
