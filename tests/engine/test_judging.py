"""The one scoring path: its order, its errors, and that nothing goes on once nobody asks."""

import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from uipad_cli.data import mvtec3d
from uipad_cli.engine.inspector import Settings, open_inspector
from uipad_cli.engine.judging import judge, pairs_of
from uipad_cli.errors import DataError, WeightsError
from uipad_cli.records import ScoredArrays, Scores, silent


@pytest.fixture(autouse=True)
def nothing_left_running():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


class Means:
    """Scores a pair by the mean of its colours; notes the sizes of its batches."""

    def __init__(self):
        self.batches = []

    def score(self, batch):
        self.batches.append(len(batch))
        map_ = batch.rgb.mean(dim=1) + batch.geometry.mean(dim=1)
        return Scores(map_, map_.mean(dim=(1, 2)), {"colour": batch.rgb[:, 0, ::14, ::14]})


class ArrayMeans:
    """The same of arrays."""

    def score_arrays(self, arrays):
        map_ = arrays.rgb.mean(axis=1) + arrays.geometry.mean(axis=1)
        return ScoredArrays(map_, map_.mean(axis=(1, 2)), {"colour": arrays.rgb[:, 0, ::14, ::14]})


@pytest.fixture(scope="module")
def loaded(world):
    return open_inspector(Settings(world.run, Path("nowhere")), silent)


@pytest.fixture
def items(world):
    return mvtec3d.scan(world.raw, "pegs", "train") + mvtec3d.scan(world.raw, "pegs", "test")


@pytest.fixture
def pairs(loaded, items):
    return replace(pairs_of(loaded.record, items), batch_size=4)


def broken(pairs, tmp_path, *places):
    """The same pairs, but that the geometry of some cannot be read."""
    (tmp_path / "broken.tiff").write_bytes(b"II*\0 and no more")
    items = list(pairs.items)
    for place in places:
        items[place] = replace(items[place], geometry=tmp_path / "broken.tiff")
    return replace(pairs, items=items)


@pytest.mark.parametrize("waiting", [0, 1, 5, 100])
def test_pairs_come_in_order_and_alike_however_many_may_wait(pairs, waiting):
    told = []
    method = Means()
    judged = list(judge(method, pairs, told.append, waiting=waiting))
    assert [one.item for one in judged] == list(pairs.items)
    assert [(step.done, step.total) for step in told] == [(4, 15), (8, 15), (12, 15), (15, 15)]
    assert method.batches == [4, 4, 4, 3]
    for one in judged:
        batch = pairs.batch([pairs.sample(one.item)])
        alone = Means().score(batch)
        assert one.score == pytest.approx(float(alone.image[0]), rel=1e-6)
        np.testing.assert_array_equal(one.map, alone.map[0].numpy())
        assert one.voices["colour"].shape == (1, 8, 8)
        assert 0 < one.read_seconds < one.seconds


def test_arrays_are_judged_as_tensors_are(pairs):
    for one, other in zip(judge(Means(), pairs, silent), judge(ArrayMeans(), pairs, silent), strict=True):
        assert one.score == pytest.approx(other.score, rel=1e-6)
        np.testing.assert_allclose(one.map, other.map, atol=1e-6)
        np.testing.assert_array_equal(one.voices["colour"], other.voices["colour"])


@pytest.mark.parametrize("waiting", [0, 5])
def test_a_broken_pair_is_told_in_its_place_and_the_others_go_on(pairs, tmp_path, waiting):
    spoiled = broken(pairs, tmp_path, 1, 6, 8, 9, 10, 11)
    told = []
    for one in judge(
        Means(), spoiled, lambda step: told.append(step.done), waiting=waiting,
        on_error=lambda item, error: told.append((threading.current_thread(), spoiled.items.index(item))),
    ):  # fmt: skip
        told.append(one.item)
    place = {item: number for number, item in enumerate(spoiled.items)}
    here = threading.current_thread()
    seen = [place.get(one, one) if not isinstance(one, tuple) else one for one in told]
    assert seen == [
        0, (here, 1), 2, 3, 4,
        4, 5, (here, 6), 7, 8,
        (here, 8), (here, 9), (here, 10), (here, 11), 12,
        12, 13, 14, 15,
    ]  # fmt: skip


@pytest.mark.parametrize("waiting", [0, 5])
def test_without_anybody_to_tell_a_broken_pair_ends_it_after_those_before(pairs, tmp_path, waiting):
    judged = []
    with pytest.raises(DataError, match=r"broken\.tiff"):
        for one in judge(Means(), broken(pairs, tmp_path, 6), silent, waiting=waiting):
            judged.append(one.item)
    assert judged == list(pairs.items[:6])


@pytest.mark.parametrize("waiting", [0, 5])
def test_nothing_more_is_scored_once_nobody_asks(pairs, waiting):
    method = Means()
    with closing(judge(method, pairs, silent, waiting=waiting)) as judged:
        next(judged)
    assert len(method.batches) <= 2
    method = Means()

    def fail(step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(judge(method, pairs, fail, waiting=waiting))
    assert len(method.batches) <= 3


@pytest.mark.parametrize("waiting", [0, 5])
def test_a_score_that_is_no_number_names_its_pair(pairs, waiting):
    class Broken(Means):
        def score(self, batch):
            scores = super().score(batch)
            image = scores.image.clone()
            if len(self.batches) == 2:
                image[1] = torch.nan
            return replace(scores, image=image)

    judged = []
    with pytest.raises(WeightsError, match=pairs.items[5].name):
        for one in judge(Broken(), pairs, silent, waiting=waiting):
            judged.append(one.item)
    assert judged == list(pairs.items[:5])


def test_an_inspector_whose_consumer_fails_leaves_no_thread(loaded, items, tmp_path):
    inspector = replace(loaded, settings=replace(loaded.settings, out=tmp_path))

    def consume():
        for line in inspector.judge(items, silent):
            raise ZeroDivisionError(line["score"])

    with pytest.raises(ZeroDivisionError):
        consume()
