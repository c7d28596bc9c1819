import numpy as np
import pytest

from uipad_cli.metrics.labelled import bounds_from_labelled, cost_loss, f1_loss


def brute(scores, labels, loss):
    """The least loss of all thresholds, tried one by one."""
    scores, labels = np.asarray(scores), np.asarray(labels, bool)
    levels = np.unique(scores)
    tried = [levels[0] - 1, *((levels[1:] + levels[:-1]) / 2), levels[-1]]
    missed = np.array([np.count_nonzero(labels & (scores <= one)) for one in tried])
    alarms = np.array([np.count_nonzero(~labels & (scores > one)) for one in tried])
    return float(loss(missed, alarms, int(labels.sum()), int((~labels).sum())).min())


def loss_at(found, scores, labels, loss):
    missed = np.array([np.count_nonzero(labels & (scores <= found.threshold))])
    alarms = np.array([np.count_nonzero(~labels & (scores > found.threshold))])
    assert (found.missed, found.false_alarms) == (missed[0], alarms[0])
    return float(loss(missed, alarms, int(labels.sum()), int((~labels).sum()))[0])


@pytest.mark.parametrize("loss", [f1_loss, cost_loss(10, 1), cost_loss(1, 10), cost_loss(0, 1)], ids=str)
def test_no_threshold_is_better(loss):
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels = rng.random(40) < 0.4
        labels[:2] = True, False
        scores = np.round(rng.normal(labels, 1), 1)  # with ties
        found = bounds_from_labelled(scores, labels, loss)
        assert loss_at(found, scores, labels, loss) == pytest.approx(brute(scores, labels, loss))
        assert found.unsure_from <= found.threshold


def test_a_dear_miss_lowers_the_threshold_and_a_dear_alarm_raises_it():
    rng = np.random.default_rng(1)
    labels = np.arange(200) < 80
    scores = rng.normal(labels * 1.5, 1)
    lenient, plain, strict = (
        bounds_from_labelled(scores, labels, cost_loss(*costs)).threshold for costs in ((1, 10), (1, 1), (10, 1))
    )
    assert strict < plain < lenient


def test_parts_that_are_apart_are_told_apart_half_way():
    found = bounds_from_labelled([1.0, 2.0, 5.0, 6.0], [0, 0, 1, 1], f1_loss)
    assert found.threshold == 3.5
    assert (found.missed, found.false_alarms) == (0, 0)


def test_a_script_that_acts_on_the_stored_threshold_pays_the_least():
    """On other parts of the same kind the stored threshold costs about as little as any does."""
    rng = np.random.default_rng(4)
    loss, paid, least = cost_loss(10, 1), [], []
    everywhere = np.linspace(-3, 4, 141)
    many = np.arange(4000) < 1000
    other = rng.normal(many * 2.0, 1)

    def cost(threshold):
        missed, alarms = np.sum(many & (other <= threshold)), np.sum(~many & (other > threshold))
        return float(loss(np.array([missed]), np.array([alarms]), 1000, 3000)[0])

    for _ in range(30):
        labels = np.arange(40) < 10
        paid.append(cost(bounds_from_labelled(rng.normal(labels * 2.0, 1), labels, loss).threshold))
        least.append(min(map(cost, everywhere)))
    assert np.mean(paid) < 1.6 * np.mean(least)


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1.0, 2.0], [0, 0], "needs both"),
        ([1.0, 2.0], [1, 1], "needs both"),
        ([1.0], [0, 1], "one length"),
        ([1.0, float("nan")], [0, 1], "finite"),
    ],
)
def test_bad_labels_are_refused(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        bounds_from_labelled(scores, labels, f1_loss)


@pytest.mark.parametrize("costs", [(0, 0), (-1, 1), (float("nan"), 1), (float("inf"), 1)])
def test_bad_costs_are_refused(costs):
    with pytest.raises(ValueError, match="costs"):
        cost_loss(*costs)
