import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from uipad_cli.metrics.region import pixel_metrics

LIMITS = (1.0, 0.3, 0.1, 0.05, 0.01)


def _neighbours_labelled(mask):
    """8-connected labels by flood fill, 0 outside."""
    labels, count = np.zeros(mask.shape, int), 0
    for start in zip(*np.nonzero(mask), strict=True):
        if labels[start]:
            continue
        count += 1
        labels[start], stack = count, [start]
        while stack:
            row, column = stack.pop()
            for r in range(max(row - 1, 0), min(row + 2, mask.shape[0])):
                for c in range(max(column - 1, 0), min(column + 2, mask.shape[1])):
                    if mask[r, c] and not labels[r, c]:
                        labels[r, c] = count
                        stack.append((r, c))
    return labels, count


def _drawn_aupro(maps, masks, limits):
    """The curve itself: one point per distinct score, trapezoids, interpolation at the limit."""
    regions, normal = [], np.concatenate([m[~g] for m, g in zip(maps, masks, strict=True)]).astype(np.float64)
    for map_, mask in zip(maps, masks, strict=True):
        labels, count = _neighbours_labelled(mask)
        regions += [map_[labels == k].astype(np.float64) for k in range(1, count + 1)]
    rates, overlaps = [0.0], [0.0]
    for threshold in np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]:
        rates.append(float(np.mean(normal >= threshold)))
        overlaps.append(float(np.mean([np.mean(region >= threshold) for region in regions])))
    rates.append(1.0)
    overlaps.append(1.0)
    return {limit: _area_up_to(rates, overlaps, limit) / limit for limit in limits}


def _area_up_to(rates, overlaps, limit):
    area = 0.0
    for x0, x1, y0, y1 in zip(rates, rates[1:], overlaps, overlaps[1:], strict=False):
        if x1 <= limit:
            area += (x1 - x0) * (y0 + y1) / 2
        elif x0 < limit:
            middle = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            area += (limit - x0) * (y0 + middle) / 2
    return area


def _random_category(rng, levels, images=3):
    """Maps of different sizes; the first mask has several regions, the last image is good."""
    maps, masks = [], []
    for index in range(images):
        height, width = rng.integers(8, 20, 2)
        mask = rng.random((height, width)) < rng.uniform(0.05, 0.3)
        if index == images - 1 and images > 1:
            mask[:] = False
        else:
            mask[0, 0], mask[-1, -1], mask[0, -1] = True, True, False
        scores = rng.normal(size=mask.shape) + rng.uniform(0, 2) * mask
        maps.append((np.round(scores * levels / 6) if levels else scores).astype(np.float32))
        masks.append(mask)
    return maps, masks


@pytest.mark.parametrize("levels", [1, 2, 4, 16, None])
def test_equals_the_drawn_curve(levels):
    rng = np.random.default_rng(levels or 99)
    for images in (1, 2, 3, 5) * 6:
        maps, masks = _random_category(rng, levels, images)
        found = pixel_metrics(maps, masks, limits=LIMITS)
        drawn = _drawn_aupro(maps, masks, LIMITS)
        assert {limit: pytest.approx(drawn[limit], abs=1e-12) for limit in LIMITS} == found.aupro
        assert found.regions == sum(_neighbours_labelled(mask)[1] for mask in masks)
        assert found.regions_unseen == 0


@pytest.mark.parametrize("levels", [1, 3, 16, None])
def test_pixel_auroc_equals_scikit_learn(levels):
    rng = np.random.default_rng(levels or 7)
    for _ in range(20):
        maps, masks = _random_category(rng, levels)
        truth = roc_auc_score(np.concatenate([g.ravel() for g in masks]), np.concatenate([m.ravel() for m in maps]))
        assert pixel_metrics(maps, masks).pixel_auroc == pytest.approx(truth, abs=1e-12)


def test_a_constant_map_gets_half_the_limit():
    mask = np.zeros((12, 9), bool)
    mask[2:4, 3:5] = True
    found = pixel_metrics([np.full((12, 9), 3.25, np.float32)], [mask], limits=LIMITS)
    assert found.aupro == {limit: pytest.approx(limit / 2, abs=1e-15) for limit in LIMITS}
    assert found.pixel_auroc == 0.5


def test_perfect_and_inverted_maps():
    mask = np.zeros((10, 10), bool)
    mask[4:6, 4:6] = True
    assert pixel_metrics([mask.astype(np.float32)], [mask]).aupro == dict.fromkeys((0.3, 0.1, 0.05, 0.01), 1)
    worst = pixel_metrics([-mask.astype(np.float32)], [mask])
    assert set(worst.aupro.values()) == {0}
    assert worst.pixel_auroc == 0


def test_every_region_counts_the_same_whatever_its_size():
    mask = np.zeros((40, 40), bool)
    mask[:20, :20] = mask[30, 30] = True  # 400 pixels that are found, 1 that is not
    map_ = np.where(mask, 1, 0).astype(np.float32)
    map_[30, 30] = -1
    found = pixel_metrics([map_], [mask])
    assert found.regions == 2
    assert found.aupro[0.3] == pytest.approx(0.5)


def test_diagonal_neighbours_are_one_region():
    mask = np.eye(6, dtype=bool)
    assert pixel_metrics([np.zeros((6, 6), np.float32)], [mask]).regions == 1


def test_unseen_border_is_left_out_as_if_cropped_away():
    rng = np.random.default_rng(3)
    for _ in range(20):
        maps, _ = _random_category(rng, 8)
        masks = [np.zeros(m.shape, bool) for m in maps]
        seen = [np.zeros(m.shape, bool) for m in maps]
        for mask, window in zip(masks, seen, strict=True):
            window[2:-2, 2:-2] = True
            mask[3:5, 3:6] = mask[0, 0] = True  # one region inside the window, one outside
        for map_, window in zip(maps, seen, strict=True):
            map_[~window] = np.nan
        found = pixel_metrics(maps, masks, seen=seen)
        cropped = pixel_metrics([m[2:-2, 2:-2] for m in maps], [g[2:-2, 2:-2] for g in masks])
        assert (found.regions, found.regions_unseen) == (len(maps), len(maps))
        assert (found.pixel_auroc, found.aupro) == (cropped.pixel_auroc, cropped.aupro)


def test_a_region_cut_in_two_by_the_window_stays_one_region():
    mask = np.zeros((9, 9), bool)
    mask[1, 2:7] = mask[1:6, 2] = mask[1:6, 6] = True  # an arch whose top is outside the window
    seen = np.zeros((9, 9), bool)
    seen[3:] = True
    map_ = np.zeros((9, 9), np.float32)
    map_[:, 2] = 1
    found = pixel_metrics([map_], [mask], seen=[seen])
    assert (found.regions, found.regions_unseen) == (1, 0)
    normal = np.count_nonzero(seen & ~mask)
    assert found.aupro[0.3] == pytest.approx(_drawn_arch(normal), abs=1e-12)


def _drawn_arch(normal):
    """Half of the region is found together with the 3 normal pixels of its column, the rest ties with all others."""
    rate = 3 / normal
    climb = 0.5 + 0.5 * (0.3 - rate) / (1 - rate)
    return (rate * 0.5 / 2 + (0.3 - rate) * (0.5 + climb) / 2) / 0.3


def test_nothing_to_measure_is_undefined():
    zeros, none, all_ = np.zeros((5, 5), np.float32), np.zeros((5, 5), bool), np.ones((5, 5), bool)
    for maps, masks, seen, regions, unseen in [
        ([zeros], [none], None, 0, 0),
        ([zeros], [all_], None, 1, 0),
        ([zeros], [all_], [none], 0, 1),
        ([], [], None, 0, 0),
    ]:
        found = pixel_metrics(maps, masks, seen=seen, limits=(0.3, 0.1))
        assert (found.pixel_auroc, found.aupro) == (None, {0.3: None, 0.1: None})
        assert (found.regions, found.regions_unseen) == (regions, unseen)


def test_input_is_left_as_it_was():
    maps, masks = _random_category(np.random.default_rng(0), None)
    before = [m.copy() for m in maps]
    pixel_metrics(maps, masks)
    assert all(np.array_equal(a, b) for a, b in zip(maps, before, strict=True))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused_where_seen(value):
    maps = [np.zeros((4, 5), np.float32), np.zeros((6, 7), np.float32)]
    masks = [np.zeros(m.shape, bool) for m in maps]
    masks[0][0, 0] = True
    maps[1][2, 3] = value
    with pytest.raises(ValueError, match=r"map 1 is .* at row 2, column 3"):
        pixel_metrics(maps, masks)
    seen = [np.ones(m.shape, bool) for m in maps]
    with pytest.raises(ValueError, match=r"map 1 is .* at row 2, column 3"):
        pixel_metrics(maps, masks, seen=seen)
    seen[1][2, 3] = False
    assert pixel_metrics(maps, masks, seen=seen).pixel_auroc == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks": [np.zeros((4, 5), bool), np.zeros((5, 4), bool)]}, "mask 1"),
        ({"masks": [np.zeros((4, 5), bool), np.full((4, 5), 255, np.uint8)]}, "mask 1 is uint8"),
        ({"masks": [np.zeros((4, 5), bool)]}, "one entry per image"),
        ({"maps": [np.zeros((4, 5)), np.zeros((4, 5))]}, "map 0 is float64"),
        ({"maps": [np.zeros((4, 5), np.float32), np.zeros((0, 5), np.float32)]}, "map 1"),
        ({"seen": [np.ones((4, 5), bool), np.ones((4, 6), bool)]}, "seen 1"),
        ({"limits": (0.3, 0.0)}, "limits"),
        ({"limits": (1.5,)}, "limits"),
        ({"limits": (float("nan"),)}, "limits"),
    ],
)
def test_bad_input_is_refused(change, message):
    good = {"maps": [np.zeros((4, 5), np.float32)] * 2, "masks": [np.zeros((4, 5), bool)] * 2}
    call = {**good, **change}
    with pytest.raises(ValueError, match=message):
        pixel_metrics(call.pop("maps"), call.pop("masks"), **call)


def test_labels_of_the_test_are_those_of_opencv():
    mask = np.random.default_rng(1).random((30, 30)) < 0.4
    assert _neighbours_labelled(mask)[1] == cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] - 1
