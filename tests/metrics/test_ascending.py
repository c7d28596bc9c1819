import tempfile

import numpy as np
import pytest

from uipad_cli.metrics import ascending
from uipad_cli.metrics.ascending import Ascending, levels, passed_by, values_at


@pytest.fixture(params=[(1 << 25, 1 << 20, 1 << 14), (400, 64, 8), (8, 8, 8), (4000, 1 << 20, 1 << 14)])
def sizes(request, monkeypatch):
    """All in memory; many runs in small blocks; one or two values at a time; runs that are read whole."""
    for name, size in zip(("RUN", "BLOCK", "PIECE"), request.param, strict=True):
        monkeypatch.setattr(ascending, name, size)


def filled(parts, kind=np.float32):
    found = Ascending(kind)
    for part in parts:
        found.add(part.copy())
    return found


def some_parts(seed):
    """Scores of images of different sizes, some without any, some of one value, with ties and without."""
    rng = np.random.default_rng(seed)
    parts = [rng.normal(rng.normal(), 1, size=rng.integers(0, 300)).astype(np.float32) for _ in range(9)]
    parts += [np.full(150, 0.5, np.float32), np.zeros(7, np.float32), np.full(9, -0.0, np.float32)]
    if seed % 2:
        parts = [np.round(part * seed / 2).astype(np.float32) for part in parts]
    return [parts[place] for place in rng.permutation(len(parts))]


@pytest.mark.parametrize("seed", range(6))
def test_all_values_come_back_in_ascending_order_as_often_as_wanted(sizes, seed):
    parts = some_parts(seed)
    found, whole = filled(parts), np.sort(np.concatenate(parts))
    assert found.size == whole.size
    for _ in range(2):
        assert np.array_equal(np.concatenate(list(found.blocks())), whole)
    found.add(np.array([0.25, -9], np.float32))
    assert np.array_equal(np.concatenate(list(found.blocks())), np.sort(np.append(whole, [0.25, -9])))


@pytest.mark.parametrize("seed", range(6))
def test_levels_are_the_distinct_values_and_their_counts(sizes, seed):
    parts = some_parts(seed)
    pieces = list(levels(filled(parts)))
    values, counts = np.unique(np.concatenate(parts), return_counts=True)
    assert all(piece[0].size for piece in pieces)
    assert np.array_equal(np.concatenate([piece[0] for piece in pieces]), values)
    assert np.array_equal(np.concatenate([piece[1] for piece in pieces]), counts)


@pytest.mark.parametrize("seed", range(6))
def test_values_at_places_are_those_of_the_sorted_array(sizes, seed):
    parts = some_parts(seed)
    whole = np.sort(np.concatenate(parts))
    places = np.sort(np.random.default_rng(seed).integers(0, whole.size, 200))
    places[0], places[-1] = 0, whole.size - 1
    assert np.array_equal(values_at(filled(parts), places), whole[places])


@pytest.mark.parametrize("seed", range(6))
def test_what_passes_a_score_is_counted(sizes, seed):
    parts, others = some_parts(seed), some_parts(seed + 2)
    whole = np.concatenate(parts)
    asked = filled([*others, np.array([-99, 99], np.float32), whole[::7]])
    blocks = list(asked.blocks())
    found = list(passed_by(filled(parts), blocks))
    scores = np.concatenate(blocks)
    above, not_below = (np.concatenate(counts) for counts in zip(*found, strict=True))
    assert np.array_equal(above, [np.count_nonzero(whole > score) for score in scores])
    assert np.array_equal(not_below, [np.count_nonzero(whole >= score) for score in scores])


def test_nothing_has_no_blocks(sizes):
    assert list(Ascending(np.uint64).blocks()) == []
    assert list(levels(filled([np.empty(0, np.float32)]))) == []


def test_numbers_of_64_bits_keep_all_of_them(sizes):
    values = np.random.default_rng(0).integers(0, 1 << 64, 500, dtype=np.uint64)
    found = filled(np.array_split(values, 7), np.uint64)
    assert np.array_equal(np.concatenate(list(found.blocks())), np.sort(values))


def test_few_values_need_no_file(monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: pytest.fail("a file"))
    assert sum(block.size for block in filled([np.zeros(1000, np.float32)] * 50).blocks()) == 50_000


def test_blocks_are_small(monkeypatch):
    monkeypatch.setattr(ascending, "RUN", 1 << 12)
    monkeypatch.setattr(ascending, "BLOCK", 1 << 12)
    monkeypatch.setattr(ascending, "PIECE", 1 << 6)
    parts = [np.random.default_rng(seed).normal(size=700).astype(np.float32) for seed in range(40)]
    assert max(block.nbytes for block in filled(parts).blocks()) <= 1 << 12
