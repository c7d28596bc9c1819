import math
import sys

import numpy as np
import pytest
from scipy import stats

from uipad_cli.metrics.calibrate import (
    bounds_from_good,
    conformal_threshold,
    map_range,
    p_values,
    parts_needed,
)
from uipad_cli.metrics.distributions import beta_quantile, student_quantile

DRAWS = {
    "normal": lambda rng, shape: rng.normal(10, 1, shape),
    "lognormal": lambda rng, shape: rng.lognormal(0, 0.3, shape),
    "heavy tails": lambda rng, shape: 10 + rng.standard_t(2, shape),
    "few values": lambda rng, shape: rng.integers(1, 6, shape).astype(float),
}


@pytest.mark.parametrize("kind", DRAWS)
@pytest.mark.parametrize(("parts", "rate"), [(9, 0.1), (19, 0.1), (99, 0.01), (150, 0.05), (8, None)])
def test_the_promised_rates_hold_over_thousands_of_draws(kind, parts, rate):
    """Split-conformal coverage: neither alarms nor parts that are not called good come more often than promised."""
    trials = 4000
    scores = DRAWS[kind](np.random.default_rng(parts), (trials, parts + 1))
    found = [bounds_from_good(row[:-1], rate) for row in scores]
    assert all(one.promised for one in found)
    alarms = np.mean([row[-1] > one.threshold for row, one in zip(scores, found, strict=True)])
    not_good = np.mean([row[-1] > one.unsure_from for row, one in zip(scores, found, strict=True)])
    for share, held in ((alarms, found[0].rate), (not_good, found[0].unsure_rate)):
        assert share <= held + 4 * math.sqrt(held * (1 - held) / trials)
    if kind == "normal":  # without ties the promise is not held by being far too careful
        reached = math.floor((parts + 1) * found[0].rate + 1e-9) / (parts + 1)
        assert alarms >= reached - 4 * math.sqrt(reached * (1 - reached) / trials)


@pytest.mark.parametrize(("kind", "most"), [("normal", 0.014), ("lognormal", 0.016), ("heavy tails", 0.06)])
def test_what_eight_parts_cannot_promise_rests_on_the_shape_of_scores(kind, most):
    """Where logarithms are about normal the rate is about held; where they are not it is missed, and that is told."""
    trials = 4000
    scores = DRAWS[kind](np.random.default_rng(1), (trials, 9))
    found = [bounds_from_good(row[:-1], 0.01) for row in scores]
    assert not any(one.promised for one in found)
    assert np.mean([row[-1] > one.threshold for row, one in zip(scores, found, strict=True)]) <= most
    not_good = np.mean([row[-1] > one.unsure_from for row, one in zip(scores, found, strict=True)])
    assert not_good <= 1 / 9 + 4 * math.sqrt(1 / 9 * 8 / 9 / trials)  # and this holds whatever they are like


def test_the_bound_of_these_parts_holds_in_nineteen_sets_of_twenty():
    """Given the parts, the rate of false alarms of all parts to come is below `rate_bound` (Beta law)."""
    rng = np.random.default_rng(2)
    held = []
    for row in rng.uniform(size=(2000, 50)):  # of a uniform score, the rate above t is 1 - t
        found = bounds_from_good(row, 0.04)
        held.append(1 - found.threshold <= found.rate_bound)
    assert abs(np.mean(held) - 0.95) < 0.02


def test_thresholds_are_order_statistics():
    scores = np.arange(1, 20) / 10  # 19 parts
    assert conformal_threshold(scores, 0.05) == 1.9
    assert conformal_threshold(scores, 0.1) == 1.8
    assert conformal_threshold(scores, 0.049) is None
    assert conformal_threshold([0.1, 0.7, 0.4], 0.25) == 0.7
    found = bounds_from_good(scores, 0.05, 0.2)
    assert (found.threshold, found.unsure_from) == (1.9, 1.6)
    assert (found.rate, found.unsure_rate, found.promised) == (0.05, 0.2, True)


def test_without_a_rate_the_largest_good_score_is_the_threshold_until_there_are_enough():
    few = bounds_from_good([0.5, 0.7, 0.6])
    assert (few.threshold, few.rate, few.unsure_from) == (0.7, 0.25, 0.6)
    many = bounds_from_good(np.arange(200.0))
    assert (many.threshold, many.rate, many.unsure_rate) == (198.0, 0.01, 0.05)
    one = bounds_from_good([0.5])
    assert (one.threshold, one.unsure_from) == (0.5, 0.5)


@pytest.mark.parametrize(("rate", "parts"), [(0.01, 99), (0.1, 9), (0.05, 19), (0.001, 999), (0.3, 3), (0.9, 1)])
def test_so_many_parts_promise_a_rate_and_one_less_does_not(rate, parts):
    assert parts_needed(rate) == parts
    assert conformal_threshold(np.arange(parts), rate) is not None
    if parts > 1:
        assert conformal_threshold(np.arange(parts - 1), rate) is None


def test_p_values_are_valid_and_never_zero():
    good = [1.0, 2.0, 2.0, 3.0]
    assert p_values(good, [0.5, 2.0, 2.5, 3.0, 9.0]).tolist() == [1.0, 0.8, 0.4, 0.4, 0.2]
    rng = np.random.default_rng(0)
    drawn = np.array([p_values(row[:-1], row[-1:])[0] for row in rng.normal(size=(4000, 13))])
    for level in (0.1, 0.25, 0.5):
        assert np.mean(drawn <= level) <= level + 0.03


def test_verdict_and_p_value_agree():
    """A part that is called anomalous has a p-value of at most the promised rate, and no other has."""
    rng = np.random.default_rng(3)
    for _ in range(200):
        good, new = rng.normal(size=39), rng.normal(2, 1, size=50)
        found = bounds_from_good(good, 0.05)
        assert ((new > found.threshold) == (p_values(good, new) <= 0.05)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "at least one"),
        (([0.2, float("nan")],), "image 1"),
        (([float("inf")],), "image 0"),
        (([[0.1]],), "list"),
        (([0.1, 0.2, 0.3], 0.0), "above 0"),
        (([0.1, 0.2, 0.3], 1.0), "below 1"),
        (([0.1, 0.2, 0.3], 0.3, 0.2), "not above"),
        (([0.1, 0.2, 0.3], 0.3, 1.5), "1 at most"),
        (([0.1, 0.2], 0.01), "takes 99"),
    ],
)
def test_bounds_refuse(arguments, message):
    with pytest.raises(ValueError, match=message):
        bounds_from_good(*arguments)


def test_a_single_score_below_zero_takes_no_logarithm():
    found = bounds_from_good([-1.0, 0.0, 1.0, 0.5], 0.01)
    assert np.isfinite(found.threshold)
    assert found.threshold > 1.0


@pytest.mark.parametrize(("freedom", "share"), [(1, 0.9), (2, 0.99), (7, 0.99), (30, 0.95), (500, 0.999), (9, 0.5)])
def test_student_quantiles(freedom, share):
    assert student_quantile(freedom, share) == pytest.approx(stats.t.ppf(share, freedom), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("first", "second"), [(1, 1), (1, 99), (3, 4), (9, 1), (50, 5000)])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_beta_quantiles(first, second, share):
    assert beta_quantile(first, second, share) == pytest.approx(stats.beta.ppf(share, first, second), rel=1e-6)


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


@pytest.mark.slow
def test_the_table_of_rates_in_docs_verdicts(capsys):
    """Rates measured over 20,000 draws of good parts and the next one; docs/verdicts.md shows them."""
    trials, rows = 20_000, []
    for parts, rate in ((8, None), (8, 0.01), (19, 0.05), (99, 0.01), (300, 0.01)):
        cells = []
        for draw in DRAWS.values():
            scores = draw(np.random.default_rng(parts), (trials, parts + 1))
            found = [bounds_from_good(row[:-1], rate) for row in scores]
            shares = [
                100 * np.mean([row[-1] > getattr(one, edge) for row, one in zip(scores, found, strict=True)])
                for edge in ("threshold", "unsure_from")
            ]
            cells.append(f"{shares[0]:.1f} / {shares[1]:.1f}")
            assert shares[1] / 100 <= found[0].unsure_rate + 0.01
            assert not found[0].promised or shares[0] / 100 <= found[0].rate + 0.01
        told = f"{100 * found[0].rate:.1f} / {100 * found[0].unsure_rate:.1f}"
        rows.append(f"| {parts} | {told}{'' if found[0].promised else ' (not promised)'} | {' | '.join(cells)} |")
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(rows) + "\n")
