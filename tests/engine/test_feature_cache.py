import os
import time
from pathlib import Path

import numpy as np
import pytest

from uipad_cli.engine import feature_cache
from uipad_cli.engine.feature_cache import FeatureCache, OnDisk, cache_folder, open_cache
from uipad_cli.errors import ResourceError, UsageError
from uipad_cli.records import silent

KILO = 1000


def features(seed, count=500):
    return np.random.default_rng(seed).normal(size=(2, count // 2)).astype(np.float16)  # 2 bytes each


def cache(folder, limit, report=silent):
    return FeatureCache(folder, limit, report)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_what_is_kept_is_found_again_bit_for_bit(tmp_path, dtype):
    made = features(0).reshape(2, 25, 10).astype(dtype) / 3
    first = cache(tmp_path, 1e9)
    assert first.find("a") is None
    kept = first.keep("a", made)
    found = cache(tmp_path, 1e9).find("a")
    assert isinstance(kept, OnDisk)
    assert kept == found
    for look in range(2):
        assert np.array_equal(found[look], made[look])
        assert found[look].dtype == dtype


def test_thousands_of_parts_keep_no_file_open(tmp_path):
    shelf = cache(tmp_path, 1e9)
    before = len(list(Path("/proc/self/fd").iterdir()))
    kept = [shelf.keep(str(place), features(place).reshape(2, -1)) for place in range(40)]
    assert np.array_equal(kept[7][1], features(7).reshape(2, -1)[1])
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_what_another_program_has_removed_is_told(tmp_path):
    kept = cache(tmp_path, 1e9).keep("a", features(0).reshape(2, -1))
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:600])
    with pytest.raises(ResourceError, match="cut short"):
        kept[1]
    (tmp_path / "a.npy").unlink()
    with pytest.raises(ResourceError, match=r"a\.npy"):
        kept[0]


def test_a_cache_that_can_only_be_read_is_used(tmp_path, monkeypatch):
    cache(tmp_path, 1e9).keep("a", features(0).reshape(2, -1))

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "utime", refuse)
    assert cache(tmp_path, 1e9).find("a") is not None


def test_what_a_killed_program_left_is_removed_in_time(tmp_path):
    for name, age in ((".uipad-old.tmp", 2 * feature_cache.STALE), (".uipad-new.tmp", 0)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    cache(tmp_path, 1e9)
    assert [path.name for path in tmp_path.iterdir()] == [".uipad-new.tmp"]


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"no array at all"])
def test_a_damaged_file_is_as_good_as_none(tmp_path, damage):
    (tmp_path / "a.npy").write_bytes(damage)
    assert cache(tmp_path, 1e9).find("a") is None


def test_a_file_of_an_earlier_uipad_is_replaced(tmp_path):
    np.save(tmp_path / "a.npy", features(0))  # without a checksum
    shelf = cache(tmp_path, 1e9)
    assert shelf.find("a") is None
    kept = shelf.keep("a", features(1))
    assert np.array_equal(kept[1], features(1)[1])
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


def test_what_is_no_file_is_as_good_as_none(tmp_path):
    (tmp_path / "a.npy").mkdir()
    os.mkfifo(tmp_path / "b.npy")
    assert [cache(tmp_path, 1e9).find(key) for key in "ab"] == [None, None]


def test_a_damaged_file_that_is_replaced_counts_once(tmp_path):
    for key in "abc":
        cache(tmp_path, 1e9).keep(key, features(0))
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-1])
    now = cache(tmp_path, 4.4 * KILO)  # room for one more
    assert now.find("a") is None
    for key in "ad":
        now.keep(key, features(1))
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["a", "b", "c", "d"]


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    earlier = cache(tmp_path, 1e9)
    for age, key in enumerate("abc"):
        earlier.keep(key, features(age))
        os.utime(tmp_path / f"{key}.npy", (1000 + age, 1000 + age))
    now = cache(tmp_path, 3.9 * KILO)
    now.find("a")
    now.keep("d", features(9))
    assert sorted(path.stem for path in tmp_path.glob("*.npy")) == ["a", "c", "d"]


def test_a_run_that_needs_more_than_there_is_keeps_the_rest_in_memory_and_is_told_once(tmp_path):
    heard = []
    small = cache(tmp_path, 2.5 * KILO, lambda step: heard.append(step.note))
    kept = [small.keep(str(place), features(place)) for place in range(4)]
    assert [isinstance(one, OnDisk) for one in kept] == [True, True, False, False]
    assert all(np.array_equal(one[1], features(place)[1]) for place, one in enumerate(kept))
    assert len(heard) == 1
    assert "UIPAD_CACHE_GB" in heard[0]
    assert "memory" in heard[0]


def test_a_disk_that_is_nearly_full_is_left_alone(tmp_path, monkeypatch):
    heard = []
    monkeypatch.setattr(feature_cache, "SPARED", 1e18)
    kept = cache(tmp_path, 1e9, lambda step: heard.append(step.note)).keep("a", features(0))
    assert isinstance(kept, np.ndarray)
    assert "free" in heard[0]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    heard = []
    (tmp_path / "file").touch()
    made = features(0)
    assert cache(tmp_path / "file" / "below", 1e9, lambda step: heard.append(step.note)).keep("a", made) is made
    assert len(heard) == 1


def test_the_environment_says_where_and_how_much(tmp_path, monkeypatch):
    monkeypatch.setenv("UIPAD_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own" / "features"
    monkeypatch.setenv("UIPAD_CACHE_GB", "3")
    assert open_cache(silent).limit == 3e9
    monkeypatch.delenv("UIPAD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "uipad" / "features"
    for wrong in ("much", "-1", "nan", "inf"):
        monkeypatch.setenv("UIPAD_CACHE_GB", wrong)
        with pytest.raises(UsageError, match="gigabytes"):
            open_cache(silent)
