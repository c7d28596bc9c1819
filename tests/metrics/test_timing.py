import numpy as np
import pytest

from uipad_cli.metrics.timing import deviation, exponent, timing


def test_median_and_spread_come_from_all_repetitions():
    found = timing([float(place) for place in range(11)])
    assert (found.low, found.median, found.high, found.count) == (1.0, 5.0, 9.0, 11)
    one = timing([2.0])
    assert (one.low, one.median, one.high, one.count) == (2.0, 2.0, 2.0, 1)
    with pytest.raises(ValueError, match="nothing was measured"):
        timing([])


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_is_found(power):
    sizes = [8, 16, 32, 64]
    assert exponent(sizes, [3 * size**power for size in sizes]) == pytest.approx(power, abs=1e-9)


@pytest.mark.parametrize(("sizes", "values"), [([8], [1.0]), ([8, 8], [1.0, 2.0]), ([1, 2], [0.0, 1.0]), ([], [])])
def test_no_exponent_where_there_is_none(sizes, values):
    assert exponent(sizes, values) is None


def test_a_value_for_every_size():
    with pytest.raises(ValueError, match="2 sizes and 1 values"):
        exponent([1, 2], [1.0])


def test_deviation_is_absolute_and_relative_to_the_usual_range():
    reference = np.linspace(0, 1, 101).reshape(1, 101)
    found = reference.copy()
    found[0, 50] += 0.5
    told = deviation(reference, found)
    assert told.largest == pytest.approx(0.5)
    assert told.mean == pytest.approx(0.5 / 101)
    assert told.relative == pytest.approx(0.5 / 0.98)
    assert deviation([1.0, 1.0], [1.0, 2.0]).relative is None
    with pytest.raises(ValueError, match="cannot be held against"):
        deviation([1.0], [1.0, 2.0])
