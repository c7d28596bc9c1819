from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from uipad_cli.metrics.comparison import (
    Estimate,
    bootstrap_aupro,
    delong,
    draw_images,
    holm,
    images_needed,
    interval,
    mean_of,
    paired_bootstrap_aupro,
    paired_bootstrap_auroc,
)
from uipad_cli.metrics.curves import PixelCounts, aupro

EDGES = np.linspace(-4, 7, 64)


def two_runs(rng, good, bad, apart=1.0, more=0.0):
    """Scores of two runs that share half of their variance; B is `more` apart."""
    labels = np.repeat([0, 1], [good, bad])
    part = rng.normal(size=labels.size)
    a, b = np.sqrt(0.5) * (part + rng.normal(size=(2, labels.size)))
    return a + apart * labels, b + (apart + more) * labels, labels


def counted(rng, shared, good, found=2.0):
    """Histograms of one run: the parts are `shared` [2,images] by the runs, and every region is as large."""
    offset, strength = np.sqrt(0.5) * (shared + rng.normal(size=shared.shape))

    def histograms(centres, total):
        passed = np.pad(1 / (1 + np.exp(-1.7 * (EDGES - centres[:, None]))), ((0, 0), (1, 1)))
        passed[:, -1] = 1
        return np.round(np.diff(passed, axis=1) * total).astype(np.int64)

    regions = histograms((0.5 * offset + found + strength)[good:], 500)
    return PixelCounts(histograms(0.5 * offset, 10000), regions, np.arange(good, offset.size))


def naive_delong(a, b, labels):
    """All pairs, one by one: difference, standard error and p."""
    components = []
    for scores in (a, b):
        good, bad = scores[labels == 0], scores[labels == 1]
        wins = np.array([[1.0 if y > x else 0.5 if y == x else 0.0 for x in good] for y in bad])
        components.append((wins.mean(), wins.mean(axis=1), wins.mean(axis=0)))
    (auroc_a, bad_a, good_a), (auroc_b, bad_b, good_b) = components
    contrast = np.array([-1, 1])
    covariance = np.cov([bad_a, bad_b]) / bad_a.size + np.cov([good_a, good_b]) / good_a.size
    error = np.sqrt(contrast @ covariance @ contrast)
    return auroc_b - auroc_a, error, 2 * norm.sf(abs(auroc_b - auroc_a) / error)


@pytest.mark.parametrize("levels", [2, 6, None])
def test_delong_is_that_of_all_pairs(levels):
    rng = np.random.default_rng(levels or 0)
    for good, bad in [(4, 5), (7, 28), (30, 11)]:
        a, b, labels = two_runs(rng, good, bad, more=0.3)
        if levels:
            a, b = np.round(a * levels / 3), np.round(b * levels / 3)
        value, error, p = naive_delong(a, b, labels)
        found = delong(a, b, labels)
        assert (found.value, found.error, found.p) == pytest.approx((value, error, p), abs=1e-12)
        assert found.value == pytest.approx(roc_auc_score(labels, b) - roc_auc_score(labels, a))
        assert (found.low, found.high) == pytest.approx(norm.interval(0.95, value, error), abs=1e-9)
        back = delong(b, a, labels)
        assert (back.value, back.error, back.p) == pytest.approx((-value, error, p), abs=1e-12)


def test_the_same_run_is_level():
    a, _, labels = two_runs(np.random.default_rng(0), 9, 20)
    for found in (delong(a, a, labels), paired_bootstrap_auroc(a, np.exp(a), labels)):
        assert (found.value, found.error, found.p, found.half_width) == (0, 0, 1, 0)


def test_a_difference_without_an_error_is_as_sure_as_swapping_makes_it():
    labels = [0, 0, 0, 1, 1, 1]
    found = delong([3, 3, 3, 3, 3, 3], [1, 2, 3, 4, 5, 6], labels)
    assert (found.value, found.error, found.p) == (0.5, 0, 1 / 32)


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1], [], [0, 0, 1], [0, 1, 1]])
def test_too_few_of_a_class_leave_it_open(labels):
    scores = np.arange(len(labels))
    assert delong(scores, scores, labels) is None
    assert paired_bootstrap_auroc(scores, scores, labels) is None


@pytest.mark.parametrize("test", [delong, paired_bootstrap_auroc])
def test_bad_input_is_refused(test):
    with pytest.raises(ValueError, match="same length"):
        test([1, 2, 3, 4], [1, 2, 3], [0, 0, 1, 1])
    with pytest.raises(ValueError, match="image 1 is nan"):
        test([1, 2, 3, 4], [1, np.nan, 3, 4], [0, 0, 1, 1])


def allowed(sets):
    """Four standard deviations of a share of 5 %."""
    return 4 * np.sqrt(0.05 * 0.95 / sets)


@pytest.mark.parametrize(("good", "bad"), [(10, 25), (17, 18), (100, 100), (40, 160)])
def test_level_runs_are_told_apart_as_often_as_promised(good, bad):
    rng, sets = np.random.default_rng(good), 1500
    runs = [two_runs(rng, good, bad) for _ in range(sets)]
    by_law = np.mean([delong(*run).p < 0.05 for run in runs])
    by_draws = np.mean([paired_bootstrap_auroc(*run, draws=300, seed=place).p < 0.05 for place, run in enumerate(runs)])
    assert by_law == pytest.approx(0.05, abs=allowed(sets))
    assert by_draws == pytest.approx(0.05, abs=allowed(sets))


@pytest.mark.parametrize("apart", [2.0, 3.0])
def test_near_the_ceiling_few_images_make_the_tests_careful(apart):
    rng, sets = np.random.default_rng(0), 1000
    runs = [two_runs(rng, 7, 28, apart) for _ in range(sets)]
    assert np.mean([delong(*run).p < 0.05 for run in runs]) < 0.05
    assert np.mean([paired_bootstrap_auroc(*run, draws=300).p < 0.05 for run in runs]) < 0.05


def test_a_difference_that_is_there_is_found():
    rng = np.random.default_rng(1)
    runs = [two_runs(rng, 100, 100, more=0.6) for _ in range(200)]
    assert np.mean([delong(*run).p < 0.05 for run in runs]) > 0.9
    assert np.mean([paired_bootstrap_auroc(*run, draws=300).p < 0.05 for run in runs]) > 0.9


@pytest.mark.parametrize(("good", "bad"), [(10, 25), (100, 100)])
def test_the_intervals_hold_the_true_difference(good, bad):
    law, rng, sets = NormalDist(), np.random.default_rng(2), 1000
    true = law.cdf(1.5 / np.sqrt(2)) - law.cdf(1 / np.sqrt(2))
    runs = [two_runs(rng, good, bad, more=0.5) for _ in range(sets)]
    for found in ([delong(*run) for run in runs], [paired_bootstrap_auroc(*run, draws=300) for run in runs]):
        held = np.mean([one.low <= true <= one.high for one in found])
        assert held == pytest.approx(0.95, abs=allowed(sets))


def test_both_tests_of_auroc_agree_on_many_images():
    run = two_runs(np.random.default_rng(3), 150, 250, more=0.25)
    law, draws = delong(*run), paired_bootstrap_auroc(*run, draws=4000)
    assert draws.value == pytest.approx(law.value)
    assert draws.error == pytest.approx(law.error, rel=0.06)
    assert (draws.low, draws.high) == pytest.approx((law.low, law.high), abs=0.2 * law.error)


def test_the_draws_are_the_aurocs_of_the_drawn_images():
    a, b, labels = two_runs(np.random.default_rng(4), 5, 6)
    a, b = np.round(2 * a), np.round(2 * b)
    found = paired_bootstrap_auroc(a, b, labels, draws=40, seed=9)
    for value, times in zip(found.draws, draw_images(labels, 40, 9), strict=True):
        there = np.repeat(np.arange(labels.size), times)
        wanted = roc_auc_score(labels[there], b[there]) - roc_auc_score(labels[there], a[there])
        assert value == pytest.approx(wanted, abs=1e-12)


def test_many_pairs_are_counted_in_parts(monkeypatch):
    run = two_runs(np.random.default_rng(5), 20, 30)
    whole = paired_bootstrap_auroc(*run)
    monkeypatch.setattr("uipad_cli.metrics.comparison.PAIRS_AT_ONCE", 50)
    assert paired_bootstrap_auroc(*run) == whole


def test_classes_are_drawn_apart_one_less_of_each():
    drawn = draw_images([0, 1, 0, 0, 1, 1, 1], 500)
    assert set(drawn[:, [0, 2, 3]].sum(axis=1)) == {2}
    assert set(drawn[:, [1, 4, 5, 6]].sum(axis=1)) == {3}
    assert drawn.mean(axis=0) == pytest.approx(np.array([8, 9, 8, 8, 9, 9, 9]) / 12, abs=0.12)
    assert (draw_images([0, 1], 3) == 1).all()
    with pytest.raises(ValueError, match="at least 1"):
        draw_images([0, 1], 0)


def aupro_runs(rng, good, bad, more=0.0):
    shared = rng.normal(size=(2, good + bad))
    labels = np.repeat([0, 1], [good, bad])
    return counted(rng, shared, good), counted(rng, shared, good, 2 + more), labels


def test_aupro_of_level_runs_is_told_apart_about_as_often_as_promised():
    """Few images make p too small, as the docstring says."""
    rng, sets = np.random.default_rng(0), 1000
    few = [paired_bootstrap_aupro(*aupro_runs(rng, 10, 25), draws=200, seed=place).p for place in range(sets)]
    assert 0.03 < np.mean(np.array(few) < 0.05) < 0.1
    many = [paired_bootstrap_aupro(*aupro_runs(rng, 40, 160), draws=100, seed=place).p for place in range(sets // 4)]
    assert 0.01 < np.mean(np.array(many) < 0.05) < 0.09


def test_aupro_that_is_better_is_found():
    rng = np.random.default_rng(1)
    found = [paired_bootstrap_aupro(*aupro_runs(rng, 10, 40, more=1), draws=200) for _ in range(30)]
    assert np.mean([one.p < 0.05 for one in found]) > 0.9
    assert all(one.low <= one.value <= one.high for one in found)


def test_aupro_of_one_run_has_an_interval_around_it():
    counts, _, labels = aupro_runs(np.random.default_rng(2), 10, 25)
    found = bootstrap_aupro(counts, labels)
    assert found.value == aupro(counts)[0]
    assert found.low < found.value < found.high
    assert found.p is None
    assert (found.low, found.high) == interval(found.draws)
    assert found == bootstrap_aupro(counts, labels)
    mean = mean_of([found, bootstrap_aupro(counts, labels, seed=1)])
    assert (mean.value, mean.p) == (pytest.approx(found.value), None)
    assert mean.error < found.error


def test_the_same_counts_are_level():
    counts, _, labels = aupro_runs(np.random.default_rng(2), 4, 9)
    found = paired_bootstrap_aupro(counts, counts, labels)
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_aupro_needs_defects_and_more_than_one():
    counts, other, labels = aupro_runs(np.random.default_rng(2), 4, 3)
    none = PixelCounts(counts.normal, counts.regions[:0], counts.owner[:0])
    assert paired_bootstrap_aupro(none, none, labels) is None
    assert bootstrap_aupro(none, labels) is None
    assert paired_bootstrap_aupro(counts, other, [0, 0, 0, 0, 0, 0, 1]) is None
    assert bootstrap_aupro(counts, np.zeros(7)) is None
    with pytest.raises(ValueError, match="one for each image"):
        paired_bootstrap_aupro(counts, other, [0, 1, 1])


def test_draws_without_a_region_are_left_out():
    counts, other, labels = aupro_runs(np.random.default_rng(2), 4, 3)
    first = counts.owner == counts.owner[0]  # the others have a mask that nobody sees
    a, b = (replace(one, regions=one.regions[first], owner=one.owner[first]) for one in (counts, other))
    found = paired_bootstrap_aupro(a, b, labels)
    assert np.isnan(found.draws).any()
    assert np.isfinite([found.value, found.error, found.low, found.high, found.p]).all()


def test_an_interval_holds_its_share():
    assert interval(np.arange(101), 0.9) == pytest.approx((5, 95))
    assert interval([1.0, np.nan, 1.0]) == (1, 1)
    for draws, level in [([], 0.9), ([np.nan], 0.9), ([1.0], 1.0), ([1.0], 0.0)]:
        with pytest.raises(ValueError, match="must"):
            interval(draws, level)


def test_p_of_draws_counts_the_smaller_side_and_never_reaches_zero():
    one = Estimate(1.0, 1.0, 0.0, 2.0, 0.5, np.array([-1.0, 0.0, *range(1, 18)]))
    assert mean_of([one]).p == pytest.approx(2 * 3 / 20)
    assert mean_of([replace(one, draws=np.ones(99))]).p == pytest.approx(0.02)


def test_the_mean_of_laws_adds_variances():
    found = mean_of([Estimate(0.1, 0.03, 0, 0, 0.5), Estimate(0.3, 0.04, 0, 0, 0.5)])
    assert (found.value, found.error) == pytest.approx((0.2, 0.025))
    assert found.p == pytest.approx(2 * norm.sf(8))
    assert (found.low, found.high) == pytest.approx(norm.interval(0.95, 0.2, 0.025))


def test_the_mean_of_draws_is_as_narrow_as_that_of_laws():
    rng = np.random.default_rng(6)
    runs = [two_runs(rng, 50, 60, more=0.1) for _ in range(4)]
    law = mean_of([delong(*run) for run in runs])
    draws = mean_of([paired_bootstrap_auroc(*run, seed=place) for place, run in enumerate(runs)])
    assert draws.value == pytest.approx(law.value)
    assert draws.error == pytest.approx(law.error, rel=0.1)


def test_a_mean_of_nothing_or_of_mixed_kinds_is_refused():
    law = Estimate(0.1, 0.03, 0, 0, 0.5)
    for wrong in ([], [law, replace(law, draws=np.zeros(3))]):
        with pytest.raises(ValueError, match="of all estimates or of none"):
            mean_of(wrong)


def test_holm_asks_more_of_many():
    assert holm([0.04]) == [True]
    assert holm([0.04, 0.03]) == [False, False]
    assert holm([0.04, 0.02]) == [True, True]
    assert holm([0.2, None, 0.001, 0.0249]) == [False, False, True, True]
    assert holm([0.2, None, 0.001, 0.026]) == [False, False, True, False]
    assert holm([None]) == [False]
    assert holm([]) == []


def test_holm_keeps_false_finds_rare():
    rng = np.random.default_rng(7)
    assert np.mean([any(holm(list(rng.random(8)))) for _ in range(2000)]) == pytest.approx(0.05, abs=allowed(2000))


def test_so_many_images_would_find_it_four_times_out_of_five():
    rng = np.random.default_rng(8)
    first = [delong(*two_runs(rng, 500, 500, more=0.25)) for _ in range(20)]
    typical = Estimate(*(float(np.mean([getattr(one, name) for one in first])) for name in ("value", "error")), 0, 0)
    needed = images_needed(typical, 1000)
    found = [delong(*two_runs(rng, needed // 2, needed // 2, more=0.25)).p < 0.05 for _ in range(400)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.08)
    assert images_needed(replace(typical, value=0.0), 1000) is None
    assert images_needed(replace(typical, error=0.0), 1000) is None
