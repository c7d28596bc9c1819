from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from uipad_cli.data import dataset_name, prepared
from uipad_cli.data.geometry import Preparation
from uipad_cli.errors import DataError

GEOMETRY = {
    "missing_share": 0.4,
    "plane_tilt_degrees": 21.0,
    "plane_noise_m": 0.0005,
    "foreground_share": 0.15,
    "height_min": -0.002,
    "height_max": 0.04,
    "pitch_m": 0.0003,
}


def manifest(**changes: Any) -> dict[str, Any]:
    pair = {"key": "ab", "height": 400, "width": 300, "mask": False, "geometry": GEOMETRY}
    return {
        "format": "uipad-prepared",
        "version": prepared.VERSION,
        "uipad": "0",
        "preparation": {"plane": "none"},
        "categories": {
            "bagel": {
                "source": "/raw",
                "dataset": "mvtec3d",
                "height_scale": {"low": 0.0, "high": 0.04},
                "counts": {"train": 1, "validation": 0, "test": 2},
                "pairs": {
                    "train/good/000": pair,
                    "test/cut/000": {**pair, "mask": True},
                    "test/good/000": pair,
                    **changes.pop("pairs", {}),
                },
            }
        },
        **changes,
    }


def write(folder: Path, content: Any) -> None:
    (folder / "manifest.json").write_text(content if isinstance(content, str) else json.dumps(content))


def test_reading(tmp_path: Path) -> None:
    write(tmp_path, manifest())
    assert dataset_name(tmp_path) == "prepared"
    known = prepared.read_manifest(tmp_path)
    assert known.preparation == Preparation(plane="none")
    assert known.categories["bagel"].height_scale.high == 0.04
    assert known.categories["bagel"].pairs["test/cut/000"].geometry.height_max == 0.04
    assert prepared.categories(tmp_path) == ["bagel"]


def test_scanning_lists_what_the_manifest_lists(tmp_path: Path) -> None:
    write(tmp_path, manifest())
    (train,) = prepared.scan(tmp_path, "bagel", "train")
    assert train.geometry_kind == "height"
    assert train.geometry == tmp_path / "bagel" / "train" / "good" / "height" / "000.tiff"
    assert train.valid == tmp_path / "bagel" / "train" / "good" / "valid" / "000.png"
    cut, good = prepared.scan(tmp_path, "bagel", "test")
    assert (cut.defect, cut.mask) == ("cut", tmp_path / "bagel" / "test" / "cut" / "gt" / "000.png")
    assert (good.defect, good.mask) == ("good", None)
    assert prepared.scan(tmp_path, "bagel", "validation") == []
    with pytest.raises(DataError, match="'bagel'"):
        prepared.scan(tmp_path, "bagle", "test")


@pytest.mark.parametrize(
    "name", ["../../etc/000", "train/../000", "/train/good/000", "train/good", "train/good/a/b", "train//0", "a/b/c\\d"]
)
def test_names_stay_inside_the_folder(tmp_path: Path, name: str) -> None:
    pair = manifest()["categories"]["bagel"]["pairs"]["train/good/000"]
    write(tmp_path, manifest(pairs={name: pair}))
    with pytest.raises(DataError, match="CATEGORY/SPLIT"):
        prepared.scan(tmp_path, "bagel", "train")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"format": "uipad-prepared"', "not valid JSON"),
        (manifest(version=1), "version"),
        (manifest(extra=1), "extra"),
        (manifest(preparation={"plane": "floor"}), "preparation.plane"),
        ([], "manifest"),
    ],
)
def test_a_damaged_manifest_is_explained(tmp_path: Path, content: Any, reason: str) -> None:
    write(tmp_path, content)
    with pytest.raises(DataError, match=reason):
        prepared.read_manifest(tmp_path)


def test_other_folders_are_not_recognised(tmp_path: Path) -> None:
    assert not prepared.recognise(tmp_path)
    write(tmp_path, {"format": "something else"})
    assert not prepared.recognise(tmp_path)
    with pytest.raises(DataError, match="not a prepared folder"):
        prepared.read_manifest(tmp_path / "absent")
