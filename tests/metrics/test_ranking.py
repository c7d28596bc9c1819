import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from uipad_cli.metrics.ranking import auroc, auroc_interval, average_precision, f1_max

METRICS = (auroc, average_precision, f1_max)


def _sklearn_f1_max(scores, labels):
    precision, recall, _ = precision_recall_curve(labels, scores)
    total = precision + recall
    return np.max(np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0))


@pytest.mark.parametrize("levels", [2, 3, 7, 1000, None])
@pytest.mark.parametrize("count", [2, 5, 40, 300])
def test_agrees_with_scikit_learn_whatever_the_ties(count, levels):
    rng = np.random.default_rng(count + (levels or 0))
    for _ in range(20):
        labels = rng.random(count) < rng.uniform(0.1, 0.9)
        labels[:2] = [False, True]
        scores = rng.normal(size=count) + 0.7 * labels
        if levels is not None:
            scores = np.round(scores * levels / 6)
        assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        assert average_precision(scores, labels) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
        assert f1_max(scores, labels) == pytest.approx(_sklearn_f1_max(scores, labels), abs=1e-12)


def test_all_scores_equal():
    scores, labels = [0.3] * 10, [1] * 4 + [0] * 6
    assert auroc(scores, labels) == 0.5
    assert average_precision(scores, labels) == pytest.approx(0.4)
    assert f1_max(scores, labels) == pytest.approx(2 * 0.4 / 1.4)


def test_perfect_and_reversed_ranking():
    labels = [0, 0, 1, 1]
    assert [metric([0.1, 0.2, 0.3, 0.4], labels) for metric in METRICS] == [1, 1, 1]
    assert auroc([4, 3, 2, 1], labels) == 0


def test_scores_far_apart_do_not_overflow():
    assert [metric([-1.7e308, 1.7e308], [0, 1]) for metric in METRICS] == [1, 1, 1]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1], []])
def test_one_class_is_undefined(metric, labels):
    assert metric([0.5] * len(labels), labels) is None


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.1, float("nan")], [0, 1], "image 1 is nan"),
        ([float("inf"), 0.2], [0, 1], "image 0 is inf"),
        ([0.1, 0.2], [0, 2], "label of image 1 is 2"),
        ([0.1, 0.2], [0.0, float("nan")], "label of image 1"),
        ([0.1, 0.2, 0.3], [0, 1], "same length"),
        ([[0.1, 0.2]], [[0, 1]], "same length"),
    ],
)
def test_bad_input_is_refused(metric, scores, labels, message):
    with pytest.raises(ValueError, match=message):
        metric(scores, labels)


@pytest.mark.parametrize(("level", "bounds"), [(0.95, (0, 1)), (0.85, (0.5, 1)), (0.5, (0.5, 1)), (0.3, (0.75, 1))])
def test_the_interval_of_a_case_that_can_be_counted(level, bounds):
    """Of the 16 draws of good 0, 2 and defective 1, 3 one has AUROC 0, four 0.5, four 0.75 and seven 1."""
    assert auroc_interval([0, 2, 1, 3], [0, 0, 1, 1], level=level, draws=20000) == bounds


@pytest.mark.parametrize("steps", [3, 1000])
def test_the_interval_is_that_of_the_aurocs_of_the_draws(steps):
    rng = np.random.default_rng(5)
    labels = np.arange(60) % 3 == 0
    scores = np.round((rng.normal(size=60) + labels) * steps / 6)
    bad, good = scores[labels], scores[~labels]
    found = [
        auroc([*rng.choice(good, good.size), *rng.choice(bad, bad.size)], [0] * good.size + [1] * bad.size)
        for _ in range(4000)
    ]
    low, high = auroc_interval(scores, labels, draws=4000)
    assert (low, high) == pytest.approx(np.quantile(found, [0.025, 0.975]), abs=0.01)
    assert low < auroc(scores, labels) < high


def test_the_interval_is_the_same_again_and_depends_on_ranks_alone():
    scores, labels = [0.1, 0.4, 0.2, 0.9, 0.3, 0.5], [0, 0, 0, 1, 1, 1]
    first = auroc_interval(scores, labels)
    assert first == auroc_interval(scores, labels)
    assert first == auroc_interval([np.exp(score) for score in scores], labels)


def test_ties_have_an_interval_of_one_point_and_perfect_rankings_a_wide_one():
    assert auroc_interval([0.3] * 10, [1] * 4 + [0] * 6) == (0.5, 0.5)
    assert auroc_interval([1, 2, 3, 4], [0, 0, 1, 1]) == (pytest.approx(0.025**0.5), 1)  # of two parts each


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1], []])
def test_one_class_has_no_interval(labels):
    assert auroc_interval([0.5] * len(labels), labels) is None


@pytest.mark.parametrize("wrong", [{"level": 0.0}, {"level": 1.0}, {"draws": 0}])
def test_an_interval_of_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match="must lie between"):
        auroc_interval([0, 1], [0, 1], **wrong)


def test_many_images_are_drawn_in_parts(monkeypatch):
    scores, labels = np.arange(40) % 7, np.arange(40) % 2
    whole = auroc_interval(scores, labels, draws=400)
    monkeypatch.setattr("uipad_cli.metrics.ranking.DRAWN_AT_ONCE", 400)
    assert auroc_interval(scores, labels, draws=400) == pytest.approx(whole, abs=0.05)


@pytest.mark.parametrize(("good", "bad"), [(10, 4), (4, 10), (20, 20)])
def test_where_nothing_overlaps_the_interval_still_has_a_width(good, bad):
    scores, labels = np.arange(good + bad, dtype=float), np.arange(good + bad) >= good
    bound = 0.025 ** (1 / min(good, bad))
    assert auroc_interval(scores, labels) == (pytest.approx(bound), 1.0)
    assert auroc_interval(-scores, labels) == (0.0, pytest.approx(1 - bound))


def test_that_bound_holds_in_nineteen_of_twenty_sets():
    """Of sets whose AUROC is known, the lower bound of those without overlap is above it in one of forty at most."""
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(4000):
        good, bad = rng.normal(size=8), rng.normal(1.5, size=6)  # AUROC 0.856
        if good.max() < bad.min():
            missed += auroc_interval(np.append(good, bad), np.arange(14) >= 8)[0] > 0.8556
    assert missed / 4000 <= 0.025
