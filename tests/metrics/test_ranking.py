import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from uipad_cli.metrics.ranking import auroc, average_precision, f1_max

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
