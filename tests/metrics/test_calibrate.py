import numpy as np
import pytest

from uipad_cli.metrics.calibrate import map_range, threshold_from_good


def test_threshold_is_the_largest_good_score():
    assert threshold_from_good([0.1, 0.7, 0.4]) == 0.7
    assert threshold_from_good(np.float32([0.1])) == np.float64(np.float32(0.1))


def test_threshold_keeps_its_promise():
    rng = np.random.default_rng(0)
    trials, parts = 4000, 9
    scores = rng.normal(size=(trials, parts + 1))
    alarms = np.mean([row[-1] > threshold_from_good(row[:-1]) for row in scores])
    assert abs(alarms - 1 / (parts + 1)) < 0.02  # four standard deviations


@pytest.mark.parametrize(
    ("scores", "message"),
    [([], "at least one"), ([0.2, float("nan")], "image 1"), ([float("inf")], "image 0"), ([[0.1]], "list")],
)
def test_threshold_refuses(scores, message):
    with pytest.raises(ValueError, match=message):
        threshold_from_good(scores)


def test_range_is_median_of_medians_and_largest_quantile():
    maps = [np.linspace(0, top, 1001, dtype=np.float32).reshape(7, 143) for top in (1, 3, 2)]
    low, high = map_range(iter(maps))
    assert low == pytest.approx(1, abs=1e-6)
    assert high == pytest.approx(2.997, abs=1e-6)


def test_range_ignores_what_was_never_seen():
    map_ = np.arange(100, dtype=np.float32).reshape(10, 10)
    framed = np.full((20, 20), np.nan, np.float32)
    framed[5:15, 5:15] = map_
    assert map_range([framed]) == map_range([map_])


@pytest.mark.parametrize("value", [0.0, -5.0, 3e7, 1e-20])
def test_range_of_flat_maps_has_a_width(value):
    low, high = map_range([np.full((4, 4), value, np.float32)] * 2)
    assert high > low
    assert np.isfinite(1 / (high - low))


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ([], "at least one"),
        ([np.zeros((2, 2)), np.full((2, 2), np.nan)], "map 1 has no seen pixel"),
        ([np.array([[1.0, np.inf]])], "map 0 holds infinite"),
    ],
)
def test_range_refuses(maps, message):
    with pytest.raises(ValueError, match=message):
        map_range(maps)
