import itertools
import json
import math

import numpy as np
import pytest

from uipad_cli.metrics import drift as tests

ALPHA, TRIALS = 0.1, 400
# four standard deviations of a share of TRIALS at ALPHA
ROOM = 4 * math.sqrt(ALPHA * (1 - ALPHA) / TRIALS)


def ways(before, now, draws=399, seed=0):
    return tests.relabelled(before, now, draws=draws, seed=seed)


class TestRelabelled:
    def test_all_ways_where_there_are_few(self):
        found = tests.relabelled(3, 4)
        assert found.exact
        assert found.ways.shape == (math.comb(7, 3), 7)
        assert (found.ways.sum(axis=1) == 3).all()
        assert len({tuple(way) for way in found.ways.tolist()}) == len(found.ways)
        assert found.ways[0].tolist() == [True] * 3 + [False] * 4

    def test_some_where_there_are_many(self):
        found = ways(10, 20)
        assert not found.exact
        assert found.ways.shape == (400, 30)
        assert found.ways[0, :10].all()
        assert (found.ways.sum(axis=1) == 10).all()

    def test_none_cannot_be_compared(self):
        with pytest.raises(ValueError, match="0 and 5 parts"):
            tests.relabelled(0, 5)

    def test_the_least_p_is_told_and_reached(self):
        low, high = [1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]
        assert tests.least_p(3, 4) == 2 / 35
        assert tests.shift_p(low + high, ways(3, 4)) == pytest.approx(2 / 35)
        assert tests.least_p(8, 20) == 1 / (tests.DRAWS + 1)
        assert tests.least_p(1, 1) == 1
        needed = tests.parts_needed(8, 0.001)
        assert tests.least_p(8, needed) <= 0.001 < tests.least_p(8, needed - 1)
        assert tests.parts_needed(1, 1e-6, most=100) is None


class TestNull:
    """Where nothing has changed, P(p <= a) <= a: heavy tails, ties, few parts."""

    @pytest.mark.parametrize(("before", "now"), [(4, 5), (8, 20)])
    @pytest.mark.parametrize("test", [tests.shift_p, tests.lower_half_p])
    @pytest.mark.parametrize("ties", [False, True])
    def test_of_a_figure(self, before, now, test, ties):
        generator = np.random.default_rng(1)
        found = []
        for trial in range(TRIALS):
            values = generator.standard_t(1.5, before + now)
            found.append(test(np.round(values) if ties else values, ways(before, now, seed=trial)))
        assert np.mean(np.array(found) <= ALPHA) <= ALPHA + ROOM

    def test_of_many_features_of_few_parts(self):
        generator = np.random.default_rng(2)
        found = []
        for trial in range(TRIALS):
            features = generator.standard_t(2, (28, 50)) * generator.exponential(size=50)
            points = tests.principal(tests.scaled(features, 0.05), 8)
            found.append(tests.energy_p(points, ways(8, 20, seed=trial)))
        assert np.mean(np.array(found) <= ALPHA) <= ALPHA + ROOM

    def test_of_alarms(self):
        generator = np.random.default_rng(3)
        for size, rate in ((8, 0.01), (30, 0.1)):
            scores = generator.lognormal(size=(4 * TRIALS, size + 20))
            found = [tests.alarms(row[:size], row[size:], rate).p for row in scores]
            assert np.mean(np.array(found) <= ALPHA) <= ALPHA + ROOM / 2

    def test_of_the_order(self):
        generator = np.random.default_rng(4)
        found = [
            tests.change_point(generator.standard_t(2, (20, 4)), draws=199, seed=trial).p for trial in range(TRIALS)
        ]
        assert np.mean(np.array(found) <= ALPHA) <= ALPHA + ROOM


class TestPower:
    def test_three_sigma_with_eight_and_twenty_parts(self):
        generator = np.random.default_rng(5)
        found = []
        for trial in range(40):
            values = generator.normal(132, 4, 28) - np.repeat([0, 12], [8, 20])
            found.append(tests.shift_p(values, ways(8, 20, draws=9999, seed=trial)))
        assert np.mean(np.array(found) <= 0.01 / 3 / 13) >= 0.9  # as strictly as a line is judged

    def test_one_feature_of_many(self):
        generator = np.random.default_rng(6)
        features = generator.normal(size=(28, 50))
        features[8:, :5] += 3
        points = tests.principal(tests.scaled(features, 0.05), 8)
        assert tests.energy_p(points, ways(8, 20, draws=1999)) == 1 / 2000

    def test_a_few_defects_do_not_move_the_lower_half(self):
        generator = np.random.default_rng(7)
        scores = generator.normal(1, 0.1, 60)
        scores[40:48] += 5
        assert tests.lower_half_p(scores, ways(20, 40)) > 0.05
        scores[20:] += 0.3
        assert tests.lower_half_p(scores, ways(20, 40)) < 0.01

    @pytest.mark.parametrize("place", [6, 10, 13])
    def test_where_the_order_changes(self, place):
        columns = np.random.default_rng(8).normal(size=(20, 3))
        columns[place:, 1] -= 8
        found = tests.change_point(columns, draws=1999)
        assert abs(found.place - place) <= 1
        assert found.p < 0.01

    def test_an_order_of_three_tells_nothing(self):
        assert tests.change_point(np.zeros((3, 1))) is None
        assert tests.change_point(np.zeros((9, 2)), draws=99).p == 1


class TestAgainstPlainCode:
    def test_energy(self):
        generator = np.random.default_rng(9)
        points = generator.normal(size=(7, 3))

        def energy(first):
            groups = [points[list(first)], points[[place for place in range(7) if place not in first]]]

            def apart(one, other):
                return np.mean([np.linalg.norm(a - b) for a in one for b in other])

            return 2 * apart(*groups) - apart(groups[0], groups[0]) - apart(groups[1], groups[1])

        every = [energy(chosen) for chosen in itertools.combinations(range(7), 3)]
        assert tests.energy_p(points, ways(3, 4)) == pytest.approx(np.mean(np.array(every) >= every[0] - 1e-12))

    def test_alarms(self):
        """Every order of good and incoming scores is as likely: counted one by one."""
        good, now = 4, 3
        counts = []
        for places in itertools.combinations(range(good + now), good):
            scores = np.arange(good + now, dtype=float)
            before, rest = scores[list(places)], np.delete(scores, places)
            counts.append(tests.alarms(before, rest, 0.4).count)
        for count in range(now + 1):
            found = next(
                tests.alarms(scores[list(places)], np.delete(scores, places), 0.4)
                for scores in [np.arange(7.0)]
                for places in itertools.combinations(range(7), 4)
                if tests.alarms(scores[list(places)], np.delete(scores, places), 0.4).count == count
            )
            assert found.p == pytest.approx(np.mean(np.array(counts) >= count))
            assert found.promised == pytest.approx(np.mean(counts))

    def test_alarms_count_p_values(self):
        found = tests.alarms([1, 2, 3, 4], [5, 4, 4.5], 0.01)  # four parts cannot tell 1 %: one in five
        assert (found.count, found.promised) == (2, 3 / 5)


class TestShift:
    def test_in_spreads_of_good_parts(self):
        before = np.array([1.0, 2, 3, 4, 5])
        assert tests.shift_of(before, before + 3, 0.1) == pytest.approx(3 / 1.4826)
        assert tests.shift_of(before, before + 3, 6.0) == pytest.approx(0.5)
        assert tests.shift_of(before, before + 3, 0.1, since=before + 3) == 0
        assert tests.shift_of(np.zeros((4, 0)), np.zeros((4, 0)), 1) == 0

    def test_of_the_lower_half(self):
        before, now = [1.0, 2, 3, 4], [1.0, 2, 30, 40]
        assert tests.lower_half_shift(before, now) == 0


CASES = {  # line, bulk, tail, explained
    (False, False, False, False): "steady",
    (False, False, False, True): "steady",
    (False, True, False, True): "line changed",
    (True, False, False, False): "line changed",
    (True, True, False, True): "line changed",
    (False, False, True, False): "more defective parts",
    (False, True, True, True): "more defective parts",
    (True, False, True, False): "both",
    (True, False, True, True): "line changed",
    (True, True, True, True): "line changed",
}


@pytest.mark.parametrize(("case", "told"), CASES.items(), ids=json.dumps)
def test_what_the_tests_mean_together(case, told):
    line, bulk, tail, explained = case
    assert tests.conclude(reachable=True, line=line, bulk=bulk, tail=tail, explained=explained) == told


@pytest.mark.parametrize("explained", [False, True])
def test_alarms_and_changes_on_the_way_count_where_parts_are_too_few_for_the_rest(explained):
    told = {
        (line, tail): tests.conclude(reachable=False, line=line, bulk=False, tail=tail, explained=explained)
        for line in (False, True)
        for tail in (False, True)
    }
    assert told == {
        (False, False): "too few parts to tell",
        (False, True): "more defective parts",
        (True, False): "line changed",
        (True, True): "line changed" if explained else "both",
    }
