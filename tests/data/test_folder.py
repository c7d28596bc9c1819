from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from uipad_cli.data import dataset_name, files, folder, mvtec3d
from uipad_cli.data.geometry import Preparation
from uipad_cli.data.pairs import load_sample
from uipad_cli.errors import DataError

WritePair = Callable[..., None]


def test_a_flat_folder(tmp_path: Path, write_pair: WritePair) -> None:
    root = tmp_path / "monday"
    for stem in ("b", "a"):
        write_pair(root, stem, size=24)
    assert dataset_name(root) == "folder"
    assert folder.categories(root) == ["monday"]
    items = folder.scan(root, "monday", "test")
    assert [item.name for item in items] == ["monday/test/unlabelled/a", "monday/test/unlabelled/b"]
    assert items[0].mask is None
    assert folder.scan(root, "monday", "train") == []
    assert load_sample(items[0], Preparation()).valid.shape == (24, 24)


@pytest.mark.parametrize("name", ["color", "image", "rgb"])
def test_other_names_and_depth(tmp_path: Path, name: str) -> None:
    files.write_png(tmp_path / name / "1.png", np.zeros((9, 9, 3), np.uint8))
    (tmp_path / "depth").mkdir()
    np.save(tmp_path / "depth" / "1.npy", np.ones((9, 9), np.uint16))
    (item,) = folder.scan(tmp_path, folder.categories(tmp_path)[0], "test")
    assert item.geometry_kind == "depth"
    assert item.rgb.parent.name == name


def test_subfolders_become_defects(tmp_path: Path, write_pair: WritePair) -> None:
    root = tmp_path / "test"
    write_pair(root / "bent", "000", size=24, mask=True)
    write_pair(root / "good", "000", size=24)
    items = folder.scan(root, "test", "test")
    assert [(item.defect, item.mask is not None) for item in items] == [("bent", True), ("good", False)]


def test_a_tree_of_categories_is_accepted(tmp_path: Path, write_pair: WritePair) -> None:
    write_pair(tmp_path / "bagel" / "train" / "good", "000", size=24)
    assert dataset_name(tmp_path) == "mvtec3d"
    assert dataset_name(tmp_path, "folder") == "folder"
    assert folder.categories(tmp_path) == ["bagel"]
    assert len(folder.scan(tmp_path, "bagel", "train")) == 1


def test_pairs_without_partner_and_wrong_category(tmp_path: Path, write_pair: WritePair) -> None:
    root = tmp_path / "monday"
    write_pair(root, "a", size=24)
    with pytest.raises(DataError, match="'monday'"):
        folder.scan(root, "mondey", "test")
    (root / "xyz" / "a.tiff").rename(root / "xyz" / "c.tiff")
    with pytest.raises(DataError, match="partner"):
        folder.scan(root, "monday", "test")


def test_nothing_to_recognise(tmp_path: Path) -> None:
    (tmp_path / "rgb").mkdir()
    assert not folder.recognise(tmp_path)


def test_real_colour_and_depth(shared: Path) -> None:
    root = shared / "open3d_rgbd" / "redwood"
    items = folder.scan(root, "redwood", "test")
    assert [item.stem for item in items] == ["00000", "00004"]
    sample = load_sample(items[0], Preparation(plane="none"))
    assert sample.height.min() == pytest.approx(-2.702)
    assert sample.valid.mean() == pytest.approx(0.87, abs=0.01)


def test_splits_without_defect_folders(tmp_path: Path, write_pair: WritePair) -> None:
    root = tmp_path / "nuts"
    for stem in ("0", "1"):
        write_pair(root / "Training", stem, size=24)
    write_pair(root / "val", "0", size=24)
    write_pair(root / "test", "good", size=24)
    write_pair(root / "test", "bad", size=24, mask=True)
    files.write_png(root / "test" / "gt" / "good.png", np.zeros((24, 24), np.uint8))
    write_pair(root / "test" / "dent", "7", size=24, mask=True)
    assert dataset_name(root) == "mvtec3d"
    for reader in (mvtec3d, folder):
        assert [item.name for item in reader.scan(root, "nuts", "train")] == ["nuts/train/good/0", "nuts/train/good/1"]
        assert [item.name for item in reader.scan(root, "nuts", "validation")] == ["nuts/validation/good/0"]
        names = [item.name for item in reader.scan(root, "nuts", "test")]
        assert names == ["nuts/test/defect/bad", "nuts/test/good/good", "nuts/test/dent/7"]
        assert reader.categories(tmp_path) == ["nuts"]
        assert len(reader.scan(tmp_path, "nuts", "train")) == 2
    write_pair(root / "more", "0", size=24)
    with pytest.raises(DataError, match="pairs beside the splits"):
        mvtec3d.scan(root, "nuts", "train")


def test_a_test_split_without_masks_has_no_labels(tmp_path: Path, write_pair: WritePair) -> None:
    write_pair(tmp_path / "train", "0", size=24)
    write_pair(tmp_path / "test", "0", size=24)
    (item,) = folder.scan(tmp_path, tmp_path.name, "test")
    assert item.defect == "unlabelled"


def test_a_cloud_folder(tmp_path: Path, write_pair: WritePair) -> None:
    write_pair(tmp_path, "0", size=24)
    (tmp_path / "xyz").rename(tmp_path / "cloud")
    (item,) = folder.scan(tmp_path, tmp_path.name, "test")
    assert item.geometry_kind == "xyz"


def test_a_pair_given_by_hand(tmp_path: Path, write_pair: WritePair) -> None:
    write_pair(tmp_path, "0", size=24)
    item = folder.pair(tmp_path / "rgb" / "0.png", tmp_path / "xyz" / "0.tiff")
    assert (item.geometry_kind, item.defect, item.stem) == ("xyz", "unlabelled", "0")
    with pytest.raises(DataError, match="no such file"):
        folder.pair(tmp_path / "rgb" / "0.png", tmp_path / "absent.tiff")
    np.save(tmp_path / "d.npy", np.ones((9, 9), np.uint16))
    assert folder.pair(tmp_path / "rgb" / "0.png", tmp_path / "d.npy").geometry_kind == "depth"
