from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from uipad_cli.data import choose_category, dataset_name, mvtec3d, open_dataset
from uipad_cli.errors import DataError, UsageError

WritePair = Callable[..., None]


@pytest.fixture
def tree(tmp_path: Path, write_pair: WritePair) -> Path:
    for category in ("cable_gland", "bagel"):
        for stem in ("000", "002", "010"):  # numbers have gaps
            write_pair(tmp_path / category / "train" / "good", stem, size=24)
        write_pair(tmp_path / category / "test" / "good", "001", size=24)
        write_pair(tmp_path / category / "test" / "thread", "000", size=24, mask=True)
    (tmp_path / "cable_gland" / "calibration").mkdir()
    (tmp_path / "license.txt").write_text("some licence")
    return tmp_path


def test_scan(tree: Path) -> None:
    assert mvtec3d.recognise(tree)
    assert mvtec3d.categories(tree) == ["bagel", "cable_gland"]
    train = mvtec3d.scan(tree, "bagel", "train")
    assert [item.name for item in train] == [f"bagel/train/good/{stem}" for stem in ("000", "002", "010")]
    assert train[1].rgb == tree / "bagel" / "train" / "good" / "rgb" / "002.png"
    assert train[1].geometry == tree / "bagel" / "train" / "good" / "xyz" / "002.tiff"
    assert train[1].geometry_kind == "xyz"
    assert all(item.is_good and item.mask is None for item in train)
    test = mvtec3d.scan(tree, "cable_gland", "test")
    assert [(item.defect, item.mask is not None) for item in test] == [("good", False), ("thread", True)]
    assert mvtec3d.scan(tree, "bagel", "validation") == []


def test_the_root_may_be_one_category(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree / "bagel"
    assert mvtec3d.categories(root) == ["bagel"]
    assert [item.stem for item in mvtec3d.scan(root, "bagel", "train")] == ["000", "002", "010"]
    monkeypatch.chdir(root)
    assert mvtec3d.categories(Path()) == ["bagel"]


def test_depth_may_stand_for_xyz(tree: Path) -> None:
    for folder in tree.glob("*/*/*/xyz"):
        folder.rename(folder.parent / "depth")
    assert {item.geometry_kind for item in mvtec3d.scan(tree, "bagel", "train")} == {"depth"}


@pytest.mark.parametrize("lost", ["rgb/002.png", "xyz/002.tiff"])
def test_a_file_without_partner_is_named(tree: Path, lost: str) -> None:
    (tree / "bagel" / "train" / "good" / lost).unlink()
    with pytest.raises(DataError, match=r"002\.") as caught:
        mvtec3d.scan(tree, "bagel", "train")
    assert "partner" in caught.value.message


def test_other_files_are_passed_over_and_doubles_refused(tree: Path) -> None:
    folder = tree / "bagel" / "train" / "good" / "rgb"
    for name in (".DS_Store", "._000.png", "Thumbs.db"):
        (folder / name).write_bytes(b"x")
    assert len(mvtec3d.scan(tree, "bagel", "train")) == 3
    (folder / "000.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match="same name"):
        mvtec3d.scan(tree, "bagel", "train")


def test_unknown_category_suggests_the_nearest(tree: Path) -> None:
    with pytest.raises(DataError, match="'cable_gland'") as caught:
        mvtec3d.scan(tree, "cable_glant", "train")
    assert "bagel, cable_gland" in caught.value.cure
    with pytest.raises(DataError, match="no category 'x'"):
        choose_category([], "x")


def test_opening(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert dataset_name(tree) == "mvtec3d"
    assert open_dataset(tree).categories(tree) == ["bagel", "cable_gland"]
    assert open_dataset(tree, "mvtec3d").recognise(tree)
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(DataError, match="does not look like"):
        open_dataset(empty)
    with pytest.raises(DataError, match="no such folder"):
        open_dataset(empty / "absent")
    with pytest.raises(DataError, match="format prepared"):
        open_dataset(tree, "prepared")
    with pytest.raises(UsageError, match="'mvtec3d'"):
        open_dataset(tree, "mvtec-3d")


def test_importing_the_room_loads_nothing_heavy() -> None:
    script = "import sys, uipad_cli.data; print([n for n in ('torch', 'cv2', 'numpy', 'tifffile') if n in sys.modules])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_real_category(cable_gland: Path) -> None:
    for root in (cable_gland, cable_gland / "cable_gland"):
        assert mvtec3d.categories(root) == ["cable_gland"]
        counts = {split: len(mvtec3d.scan(root, "cable_gland", split)) for split in ("train", "validation", "test")}
        assert counts == {"train": 36, "validation": 8, "test": 35}
    test = mvtec3d.scan(cable_gland, "cable_gland", "test")
    assert sorted({item.defect for item in test}) == ["bent", "cut", "good", "hole", "thread"]
    assert all(item.mask is not None for item in test)
    assert mvtec3d.scan(cable_gland, "cable_gland", "train")[1].stem == "006"
