"""A folder that is being filled: what is whole so far is listed as a finished one would be, and nothing is a fault."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from uipad_cli.data import SPLITS, folder
from uipad_cli.errors import DataError
from uipad_cli.records import Item

WritePair = Callable[..., None]
FORMS = ("", "dent", "bagel/test", "bagel/test/dent", "bagel/train/good", "bagel/validation", "bagel/Training")


def pairs(root: Path) -> list[Item]:
    return [item for place in folder.so_far(root) for item in place.items()]


@pytest.mark.parametrize("form", FORMS)
def test_whole_pairs_are_listed_as_by_scan(tmp_path: Path, write_pair: WritePair, form: str) -> None:
    for stem in ("b", "a"):
        write_pair(tmp_path / "line 1" / form, stem, size=24)
    for root in (tmp_path / "line 1", tmp_path / "line 1" / form.partition("/")[0]):
        names = folder.categories(root)
        whole = [item for name in names for split in SPLITS for item in folder.scan(root, name, split)]
        assert pairs(root) == whole
        assert len(whole) == 2


def test_half_a_pair_waits(tmp_path: Path, write_pair: WritePair) -> None:
    assert folder.so_far(tmp_path) == []
    write_pair(tmp_path, "a", size=24)
    (tmp_path / "xyz").rename(tmp_path / "later")
    assert folder.so_far(tmp_path) == []
    (tmp_path / "later").rename(tmp_path / "xyz")
    (tmp_path / "rgb" / "b.png").touch()
    (tmp_path / "xyz" / "c.tiff").touch()
    assert [item.stem for item in pairs(tmp_path)] == ["a"]
    found = folder.so_far(tmp_path)[0].partners
    assert found.waiting == [tmp_path / "rgb" / "b.png", tmp_path / "xyz" / "c.tiff"]
    assert found.faults == []


@pytest.mark.parametrize("name", [".0.png", "0.png.tmp", "0.png.part", "0.partial", "0.png.crdownload", ".png"])
def test_names_of_unfinished_writers_are_passed_over(tmp_path: Path, write_pair: WritePair, name: str) -> None:
    write_pair(tmp_path, "0", size=24)
    (tmp_path / "rgb" / "0.png").rename(tmp_path / "rgb" / name)
    found = folder.so_far(tmp_path)[0].partners
    assert (found.pairs, found.waiting) == ([], [tmp_path / "xyz" / "0.tiff"])


def test_what_can_be_no_pair_is_told_and_the_others_go_on(tmp_path: Path, write_pair: WritePair) -> None:
    for stem in ("0", "1"):
        write_pair(tmp_path, stem, size=24)
    (tmp_path / "rgb" / "0.jpg").touch()
    Path(os.fsdecode(os.fsencode(tmp_path / "rgb") + b"/\xff.png")).touch()
    assert [item.stem for item in pairs(tmp_path)] == ["1"]
    faults = folder.so_far(tmp_path)[0].partners.faults
    assert ["has the same name as 0.jpg" in fault.message for fault in faults] == [True, False]
    assert "not UTF-8" in faults[1].message


def test_a_folder_that_cannot_be_listed_is_a_data_error(tmp_path: Path, write_pair: WritePair, monkeypatch) -> None:
    write_pair(tmp_path, "0", size=24)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="cannot be listed: Permission denied"):
        folder.so_far(tmp_path)
