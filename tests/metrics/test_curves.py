import tracemalloc

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_curve as sklearn_roc_curve

from uipad_cli.metrics.curves import aupro, count_pixels, pro_curve, roc_curve, thin
from uipad_cli.metrics.ranking import auroc
from uipad_cli.metrics.region import pixel_metrics

LIMITS = (0.3, 0.1, 0.05, 0.01)


def smooth_category(seed=0, images=12, size=128):
    """Maps as methods give them: smooth noise, an offset of the image, and blurred defects of all strengths."""
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for index in range(images):
        noise = cv2.GaussianBlur(rng.normal(size=(size, size)), (0, 0), 4) * 12 + 0.3 * rng.normal()
        mask = np.zeros((size, size), bool)
        for _ in range(index % 4):
            row, column, height, width = *rng.integers(0, size - 20, 2), *rng.integers(3, 20, 2)
            mask[row : row + height, column : column + width] = True
        shown = cv2.GaussianBlur(mask.astype(np.float64), (0, 0), 3) * rng.uniform(0, 5)
        maps.append((noise + shown).astype(np.float32))
        masks.append(mask)
    return maps, masks


def drawn_area(points, limit):
    """Trapezoids up to the limit, as anyone would write them."""
    across, up = points
    kept = across < limit
    xs = np.append(across[kept], limit)
    ys = np.append(up[kept], np.interp(limit, across, up))
    return np.sum(np.diff(xs) * (ys[1:] + ys[:-1]) / 2) / limit


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_the_roc_curve_is_that_of_scikit_learn(levels):
    rng = np.random.default_rng(levels)
    labels = np.arange(80) % 3 == 0
    scores = np.round((rng.normal(size=80) + labels) * levels / 4)
    false, true = roc_curve(scores, labels)
    wanted_false, wanted_true, _ = sklearn_roc_curve(labels, scores, drop_intermediate=False)
    assert false == pytest.approx(wanted_false)
    assert true == pytest.approx(wanted_true)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert drawn_area((false, true), 1.0) == pytest.approx(auroc(scores, labels))


@pytest.mark.parametrize("labels", [[0, 0], [1, 1], []])
def test_one_class_has_no_roc_curve(labels):
    assert roc_curve([0.5] * len(labels), labels) is None


def test_a_roc_curve_refuses_what_auroc_refuses():
    with pytest.raises(ValueError, match="image 1 is nan"):
        roc_curve([0.1, np.nan], [0, 1])


@pytest.mark.parametrize("most", [2, 3, 50, 4000])
def test_a_thinned_curve_keeps_its_ends_and_its_shape(most):
    rng = np.random.default_rng(0)
    labels = rng.random(3000) < 0.4
    scores = rng.normal(size=3000) + labels
    whole = roc_curve(scores, labels)
    across, up = roc_curve(scores, labels, most)
    assert across.size == up.size <= most
    assert (across[0], up[0], across[-1], up[-1]) == (0, 0, 1, 1)
    assert set(zip(across, up, strict=True)) <= set(zip(*whole, strict=True))
    longest = np.diff(whole[0] + whole[1]).max()
    assert np.diff(across + up).max() <= 2 / (most - 1) + longest + 1e-9


def test_one_point_is_no_curve():
    with pytest.raises(ValueError, match="at least 2"):
        thin((np.array([0.0, 1.0]), np.array([0.0, 1.0])), 1)


@pytest.mark.parametrize("seed", range(5))
def test_the_areas_are_those_of_the_exact_metric(seed):
    maps, masks = smooth_category(seed)
    exact = pixel_metrics(maps, masks, limits=LIMITS).aupro
    counts = count_pixels(maps, masks)
    assert counts.normal.shape[1] <= 4096
    found = {limit: aupro(counts, limit=limit)[0] for limit in LIMITS}
    assert found[0.3] == pytest.approx(exact[0.3], abs=0.0008)
    assert found[0.1] == pytest.approx(exact[0.1], abs=0.0024)
    assert found[0.05] == pytest.approx(exact[0.05], abs=0.0003)
    assert found[0.01] == pytest.approx(exact[0.01], abs=0.0013)


def test_few_bins_are_coarse_and_no_more():
    maps, masks = smooth_category()
    exact = pixel_metrics(maps, masks).aupro
    counts = count_pixels(maps, masks, bins=64)
    assert counts.normal.shape[1] <= 64
    assert aupro(counts, limit=0.3)[0] == pytest.approx(exact[0.3], abs=0.06)
    with pytest.raises(ValueError, match="8 bins"):
        count_pixels(maps, masks, bins=4)


@pytest.mark.parametrize("levels", [1, 2, 5, 40])
def test_ties_are_crossed_as_in_the_exact_metric(levels):
    """With fewer levels than bins, nothing is lost."""
    for seed in range(5):
        maps, masks = smooth_category(seed, size=64)
        maps = [np.round(map_ * levels / 4) for map_ in maps]
        exact = pixel_metrics(maps, masks, limits=(1.0, *LIMITS)).aupro
        counts = count_pixels(maps, masks)
        for limit, value in exact.items():
            assert aupro(counts, limit=limit)[0] == pytest.approx(value, abs=1e-3 if levels == 40 else 1e-9)


def test_perfect_constant_and_inverted_maps():
    mask = np.zeros((10, 10), bool)
    mask[4:6, 4:6] = True
    for map_, wanted in [(mask, 1.0), (np.zeros((10, 10)), 0.15), (~mask, 0.0)]:
        assert aupro(count_pixels([map_.astype(np.float32)], [mask]))[0] == pytest.approx(wanted)


def test_counts_hold_every_seen_pixel_and_region_once():
    maps, masks = smooth_category()
    masks[3][:2, :5] = True  # a region that nobody sees
    seen = [np.ones_like(mask) for mask in masks]
    for window, map_ in zip(seen, maps, strict=True):
        window[:2] = False
        map_[:2] = np.nan
    counts = count_pixels(maps, masks, seen)
    exact = pixel_metrics(maps, masks, seen=seen)
    assert exact.regions_unseen >= 1
    assert len(counts.regions) == len(counts.owner) == exact.regions
    inside = [int((mask & window).sum()) for mask, window in zip(masks, seen, strict=True)]
    outside = [int((~mask & window).sum()) for mask, window in zip(masks, seen, strict=True)]
    assert counts.normal.sum(axis=1).tolist() == outside
    of_image = [int(counts.regions[counts.owner == index].sum()) for index in range(counts.images)]
    assert of_image == inside
    assert aupro(counts)[0] == pytest.approx(exact.aupro[0.3], abs=0.0008)


def test_weights_are_images_that_come_up_more_than_once():
    maps, masks = smooth_category(1)
    counts = count_pixels(maps, masks)
    weights = np.random.default_rng(0).integers(0, 3, size=(6, len(maps)))
    found = aupro(counts, weights)
    assert found.shape == (6,)
    for value, times in zip(found, weights, strict=True):
        many = [map_ for map_, count in zip(maps, times, strict=True) for _ in range(count)]
        marks = [mask for mask, count in zip(masks, times, strict=True) for _ in range(count)]
        assert value == pytest.approx(pixel_metrics(many, marks).aupro[0.3], abs=0.001)
        assert value == pytest.approx(drawn_area(pro_curve(counts, times), 0.3), abs=1e-12)
        assert value == aupro(counts, times)[0]


def test_many_draws_are_computed_in_parts(monkeypatch):
    counts = count_pixels(*smooth_category(2))
    weights = np.random.default_rng(0).integers(0, 3, size=(50, counts.images))
    whole = aupro(counts, weights)
    monkeypatch.setattr("uipad_cli.metrics.curves.DRAWN_AT_ONCE", 20000)
    assert aupro(counts, weights) == pytest.approx(whole, abs=1e-12)


def test_the_curve_rises_from_none_to_all():
    across, up = pro_curve(count_pixels(*smooth_category()))
    assert (across[0], up[0], across[-1], up[-1]) == (0, 0, 1, 1)
    assert (np.diff(across) >= 0).all()
    assert (np.diff(up) >= -1e-12).all()
    assert np.count_nonzero(across < 0.05) > 0.45 * across.size


def test_nothing_to_measure_is_undefined():
    zeros, none, all_ = np.zeros((5, 5), np.float32), np.zeros((5, 5), bool), np.ones((5, 5), bool)
    for maps, masks, seen in [
        ([zeros], [none], None), ([zeros], [all_], None), ([zeros], [all_], [none]), ([], [], None),
    ]:  # fmt: skip
        counts = count_pixels(maps, masks, seen)
        assert pro_curve(counts) is None
        assert np.isnan(aupro(counts)).all()


def test_a_draw_without_regions_is_undefined_and_the_others_are_not():
    maps, masks = smooth_category()
    counts = count_pixels(maps, masks)
    good = [not mask.any() for mask in masks]
    found = aupro(counts, [good, np.ones(len(good))])
    assert np.isnan(found).tolist() == [True, False]


@pytest.mark.parametrize("limit", [0.0, 1.5, float("nan")])
def test_a_limit_outside_is_refused(limit):
    with pytest.raises(ValueError, match="limit"):
        aupro(count_pixels(*smooth_category(size=32)), limit=limit)


def test_weights_of_other_images_are_refused():
    with pytest.raises(ValueError, match="one for each image"):
        aupro(count_pixels(*smooth_category(size=32)), np.ones((3, 5)))


def test_maps_are_not_copied_as_a_whole_but_once():
    maps, masks = smooth_category(images=20, size=256)
    tracemalloc.start()
    count_pixels(maps, masks)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * sum(map_.nbytes for map_ in maps) + 16e6
