"""What goes on meanwhile: in order, within bounds, with errors in their place, and nothing left running."""

import itertools
import threading
import time

import pytest

from uipad_cli.engine.overlap import ahead, in_threads


@pytest.fixture(autouse=True)
def nothing_left_running():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


class Source:
    """A generator that notes how far it was drawn, and that it was closed."""

    def __init__(self, count, fault=None):
        self.count, self.fault, self.drawn, self.closed = count, fault, 0, False

    def items(self):
        try:
            for number in range(self.count):
                self.drawn += 1
                yield number
            if self.fault is not None:
                raise self.fault
        finally:
            self.closed = True


def settle(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    assert condition()


@pytest.mark.parametrize("most", [1, 3, 100])
def test_items_keep_their_order(most):
    source = Source(50)
    assert list(ahead(source.items(), most)) == list(range(50))
    assert source.closed
    assert list(ahead(Source(0).items(), most)) == []


def test_no_more_is_drawn_than_may_wait():
    source = Source(50)
    items = ahead(source.items(), 3)
    assert source.drawn == 0
    for taken in range(5):
        assert next(items) == taken
        settle(lambda taken=taken: source.drawn == taken + 4)
        time.sleep(0.01)
        assert source.drawn == taken + 4
    items.close()
    assert source.closed
    assert source.drawn <= 9


def test_an_error_comes_in_its_place():
    items = ahead(Source(3, ZeroDivisionError("oh")).items(), 10)
    assert list(itertools.islice(items, 3)) == [0, 1, 2]
    with pytest.raises(ZeroDivisionError, match="oh"):
        next(items)


def test_a_consumer_that_fails_stops_the_source():
    source = Source(1000)

    def consume():
        for item in ahead(source.items(), 2):
            if item == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    assert source.closed
    assert source.drawn <= 6


def test_groups_are_worked_on_in_order_and_before_their_turn():
    started = []

    def work(number):
        started.append(number)
        time.sleep(0.002 * (number % 3))
        return -number

    groups = [range(start, start + 4) for start in range(0, 40, 4)]
    made = in_threads(work, groups, threads=3, most=2)
    for group in groups:
        assert next(made) == [-number for number in group]
        assert max(started) < group[0] + 12
    assert next(made, None) is None
    assert sorted(started) == list(range(40))
    assert list(in_threads(work, [], threads=3, most=2)) == []
    assert list(in_threads(work, [[1], [], [2]], threads=3, most=2)) == [[-1], [], [-2]]


def test_what_work_raises_is_raised_in_the_turn_of_its_group():
    begun = []

    def work(number):
        begun.append(number)
        return 1 // (number - 5)

    made = in_threads(work, [[number] for number in range(1000)], threads=2, most=2)
    assert [next(made) for _ in range(5)] == [[1 // (number - 5)] for number in range(5)]
    with pytest.raises(ZeroDivisionError):
        next(made)
    assert len(begun) <= 8


def test_no_work_goes_on_once_it_is_closed():
    begun = []

    def work(number):
        begun.append(number)
        time.sleep(0.01)

    made = in_threads(work, [range(0, 50), range(50, 100)], threads=2, most=1)
    next(made)
    made.close()
    count = len(begun)
    assert count < 100
    time.sleep(0.03)
    assert len(begun) == count
