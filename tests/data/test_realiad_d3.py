from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from uipad_cli.data import choose_category, eyecandies, files, mvtec3d, realiad_d3
from uipad_cli.data.rasters import read_tiff
from uipad_cli.data.sensor import Sensor
from uipad_cli.errors import DataError
from uipad_cli.records import Item

CATEGORY = "knob-cap"
LAYOUTS = ("download", "authors")
RAW = f"realiad_d3_raw/{CATEGORY}"
Edit = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="session")
def written(writers: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("realiad")
    for layout in LAYOUTS:
        writers.write_realiad_d3(root / layout, CATEGORY, layout=layout, size=32)
    return root


@pytest.fixture
def download(written: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written / "download", tmp_path / "download")


@pytest.fixture
def authors(written: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written / "authors", tmp_path / "authors")


def names(items: list[Item]) -> list[str]:
    return [f"{item.defect}/{item.stem}" for item in items]


def edit(root: Path, change: Edit) -> Path:
    """Change the list of the category and say where it is."""
    path = root / "realiad_d3_jsons" / f"{CATEGORY}.json"
    listing = json.loads(path.read_text())
    change(listing)
    path.write_text(json.dumps(listing))
    return path


# ---- both layouts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_scan(written: Path, layout: str) -> None:
    root = written / layout
    assert realiad_d3.recognise(root)
    assert not eyecandies.recognise(root)
    assert realiad_d3.categories(root) == [CATEGORY]
    train = realiad_d3.scan(root, CATEGORY, "train")
    assert names(train) == [f"good/S000{number}" for number in (1, 2, 3, 4)]
    assert names(realiad_d3.scan(root, CATEGORY, "validation")) == [
        "deformation/S0001",
        "good/S0005",
        "good/S0006",
        "scratch/S0001",
    ]
    test = realiad_d3.scan(root, CATEGORY, "test")
    assert names(test) == [
        "deformation/S0002",
        *[f"good/S000{number}" for number in (7, 8, 9)],
        "scratch/S0002",
        "scratch/S0003",
    ]
    assert realiad_d3.scan(root, CATEGORY, "calibration") == []
    for item in train + test:
        assert (item.category, item.geometry_kind, item.camera) == (CATEGORY, "z", None)
        assert [light for light, _ in item.lights] == ["1", "2", "3", "4", "5", realiad_d3.PSEUDO]
        lights = dict(item.lights)
        assert lights["5"] == item.rgb and "L05" in item.rgb.name
        assert lights["1"].name == item.rgb.name.replace("L05", "L01")
        assert "PS" in lights[realiad_d3.PSEUDO].name and "XYZ" in item.geometry.name
        number = item.stem.removeprefix("S")
        assert {number in path.name for path in (item.rgb, item.geometry, lights["ps"], item.mask or item.rgb)} == {
            True
        }
        assert (item.mask is None) == item.is_good


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_files_are_those_of_the_original(written: Path, layout: str) -> None:
    constants = {}
    for item in realiad_d3.scan(written / layout, CATEGORY, "test"):
        points, _ = read_tiff(item.geometry.read_bytes(), item.geometry)
        assert points.dtype == np.float32 and points.shape == (32, 32, 3)
        assert 0.01 < np.isnan(points[..., 2]).mean() < 0.2
        assert 59 < np.nanmin(points[..., 2]) < 60 < np.nanmax(points[..., 2]) < 61  # millimetres
        constants.setdefault(item.is_good, set()).update(map(tuple, points[..., :2].reshape(-1, 2).tolist()))
        assert files.read_rgb(item.rgb).shape == (64, 64, 3)
        assert item.rgb.suffix == ".jpg"
        if item.mask is not None:
            assert item.mask.stem == item.rgb.stem
            assert files.read_mask(item.mask).shape == (64, 64)
            assert files.read_mask(item.mask).any()
    assert [len(found) for found in constants.values()] == [1, 1]  # the label leaks into x and y
    assert constants[True] != constants[False]


def test_both_layouts_hold_the_same(written: Path) -> None:
    for one, other in zip(*(realiad_d3.scan(written / layout, CATEGORY, "test") for layout in LAYOUTS), strict=True):
        assert one.name == other.name
        assert one.geometry.read_bytes() == other.geometry.read_bytes()
        assert one.rgb.read_bytes() == other.rgb.read_bytes()


def test_what_is_documented_fits_the_sensor() -> None:
    documented = dict(realiad_d3.DOCUMENTED)
    assert documented.pop("longest") == 1024
    sensor = Sensor.model_validate(documented)
    assert (sensor.float_unit, sensor.missing, sensor.pitch, sensor.axis) == (0.001, (), 2e-5, "up")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_names_of_tables_and_of_folders(written: Path, layout: str) -> None:
    root = written / layout
    with pytest.raises(DataError, match="'knob-cap'"):
        realiad_d3.scan(root, "knob-kap", "train")
    name = choose_category(realiad_d3.categories(root), "knob_cap")
    assert name == CATEGORY
    assert [item.category for item in realiad_d3.scan(root, "knob_cap", "train")] == [CATEGORY] * 4


def test_a_lost_light_is_left_out(download: Path) -> None:
    first = realiad_d3.scan(download, CATEGORY, "train")[0]
    for light in ("2", realiad_d3.PSEUDO):
        dict(first.lights)[light].unlink()
    assert [light for light, _ in realiad_d3.scan(download, CATEGORY, "train")[0].lights] == ["1", "3", "4", "5"]


def test_an_empty_or_foreign_folder_is_not_recognised(tmp_path: Path) -> None:
    assert not realiad_d3.recognise(tmp_path)
    assert not realiad_d3.recognise(tmp_path / "absent")
    (tmp_path / "bagel").mkdir()
    (tmp_path / "bagel.json").write_text('{"bagel": 1}')
    (tmp_path / "rope").mkdir()
    (tmp_path / "rope.json").mkdir()
    assert not realiad_d3.recognise(tmp_path / "bagel.json")
    assert not realiad_d3.recognise(tmp_path)


# ---- as downloaded ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "folder"),
    [
        (f"{CATEGORY}/", RAW),
        ("elsewhere/deep/", "realiad_d3_raw/elsewhere/deep"),
        ("elsewhere", RAW),
        ("elsewhere", "elsewhere"),
        ("elsewhere", CATEGORY),
        (None, RAW),
        ("", CATEGORY),
        ("elsewhere", ""),
        ("elsewhere", f"{RAW}/elsewhere"),
    ],
)
def test_wherever_the_files_are_they_are_found(download: Path, prefix: str | None, folder: str) -> None:
    shutil.move(download / RAW, download / "moved")
    for inside in list((download / "moved").iterdir()):
        (download / folder).mkdir(parents=True, exist_ok=True)
        shutil.move(inside, download / folder / inside.name)
    edit(download, lambda listing: listing.update(meta={"prefix": prefix}))
    items = realiad_d3.scan(download, CATEGORY, "train")
    assert len(items) == 4
    assert items[0].rgb.is_relative_to(download / folder / "OK")


def test_a_list_may_lie_beside_its_category(download: Path) -> None:
    (download / "realiad_d3_jsons" / f"{CATEGORY}.json").rename(download / f"{CATEGORY}.json")
    shutil.rmtree(download / "realiad_d3_jsons")
    shutil.move(download / RAW, download / CATEGORY)
    (download / "notes.json").write_text("{}")
    assert realiad_d3.categories(download) == [CATEGORY]
    assert len(realiad_d3.scan(download, CATEGORY, "test")) == 6


def test_only_unpacked_categories_are_offered(download: Path) -> None:
    lists = download / "realiad_d3_jsons"
    shutil.copy(lists / f"{CATEGORY}.json", lists / "power_jack.json")
    (lists / "._knob-cap.json").write_bytes(b"x")
    assert realiad_d3.categories(download) == [CATEGORY]
    (download / RAW).rename(download / "realiad_d3_raw" / "knob_cap")
    assert realiad_d3.categories(download) == [CATEGORY]


def test_lists_without_data_say_what_to_do(download: Path) -> None:
    shutil.rmtree(download / "realiad_d3_raw")
    assert realiad_d3.categories(download) == [CATEGORY]
    with pytest.raises(DataError, match="nowhere") as caught:
        realiad_d3.scan(download, CATEGORY, "test")
    image = f"OK/S0001/{CATEGORY}_0001_OK_RGBL05_00000000000000.jpg"
    for place in (f"{RAW}/{image}", f"{CATEGORY}/{image}", f" {image}"):
        assert place in caught.value.message
    assert f"{CATEGORY}.zip" in caught.value.cure


@pytest.mark.parametrize("kind", ["RGBL05*.jpg", "XYZ*.tiff", "RGBL05*.png"])
def test_missing_files_are_named_and_counted(download: Path, kind: str) -> None:
    lost = sorted((download / RAW / "NG" / "scratch").glob(f"S000[23]/*{kind}"))
    for path in lost:
        path.unlink()
    with pytest.raises(DataError, match="1 more") as caught:
        realiad_d3.scan(download, CATEGORY, "test")
    assert str(lost[0]) in caught.value.message
    assert len(realiad_d3.scan(download, CATEGORY, "train")) == 4


def first_of(split: str, **values: object) -> Edit:
    return lambda listing: listing[split][0].update(values)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (first_of("train", image_path="/etc/passwd"), "train.0.image_path"),
        (first_of("train", image_path="../../secret.jpg"), "train.0.image_path"),
        (first_of("train", image_path="OK/../../../secret.jpg"), "train.0.image_path"),
        (first_of("train", image_path=r"OK\S0001\a.jpg"), "train.0.image_path"),
        (first_of("train", image_path="C:/secret.jpg"), "train.0.image_path"),
        (first_of("train", image_path="OK/\0.jpg"), "train.0.image_path"),
        (first_of("train", image_path="OK/..jpg"), "train.0.image_path"),
        (first_of("train", image_path=""), "train.0.image_path"),
        (first_of("train", image_path="x" * 300), "train.0.image_path"),
        (first_of("train", image_path="\ud800.jpg"), "train.0.image_path"),
        (first_of("train", image_path=3), "train.0.image_path"),
        (first_of("train", xyz_path=None), "train.0.xyz_path"),
        (first_of("test", xyz_path="../x.tiff"), "test.0.xyz_path"),
        (first_of("test", ps_path="../x.jpg"), "test.0.ps_path"),
        (first_of("test", mask_path="/x.png"), "test.0.mask_path"),
        (first_of("test", anomaly_class="a/b"), "test.0.anomaly_class"),
        (first_of("test", anomaly_class=".."), "test.0.anomaly_class"),
        (first_of("test", anomaly_class=None), "test.0.anomaly_class"),
        (lambda listing: listing["test"].append("x"), "test.6"),
        (lambda listing: listing["test"].append({}), "test.6"),
        (lambda listing: listing.update(train={}), "train"),
        (lambda listing: listing.update(meta={"prefix": "../"}), "meta.prefix"),
        (lambda listing: listing.update(meta={"prefix": "/tmp/"}), "meta.prefix"),
        (lambda listing: listing.update(meta=[]), "meta"),
    ],
)
def test_a_malformed_or_hostile_list_is_refused(download: Path, change: Edit, said: str) -> None:
    path = edit(download, change)
    with pytest.raises(DataError, match=said) as caught:
        realiad_d3.scan(download, CATEGORY, "train")
    assert str(path) in caught.value.message


@pytest.mark.parametrize("content", ["[1, 2]", "3", "{", '{"train": [NaN]}'])
def test_what_is_no_list_is_explained(download: Path, content: str) -> None:
    path = download / "realiad_d3_jsons" / f"{CATEGORY}.json"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        realiad_d3.scan(download, CATEGORY, "train")
    assert str(path) in caught.value.message


def test_links_must_not_lead_outside(download: Path, tmp_path: Path) -> None:
    first = realiad_d3.scan(download, CATEGORY, "train")[0]
    for path in (first.rgb, first.geometry, dict(first.lights)["1"], dict(first.lights)["ps"]):
        inside = path.rename(download / "inside.bin")
        path.symlink_to(inside)
        assert len(realiad_d3.scan(download, CATEGORY, "train")) == 4
        path.unlink()
        outside = inside.rename(tmp_path / "outside.bin")
        path.symlink_to(outside)
        with pytest.raises(DataError, match="outside") as caught:
            realiad_d3.scan(download, CATEGORY, "train")
        assert str(path) in caught.value.message
        path.unlink()
        outside.rename(path)


def test_empty_and_absent_splits(download: Path) -> None:
    edit(download, lambda listing: (listing.update(validation=[]), listing.pop("test")))
    assert realiad_d3.scan(download, CATEGORY, "validation") == []
    assert realiad_d3.scan(download, CATEGORY, "test") == []
    edit(download, lambda listing: listing.clear())
    assert realiad_d3.scan(download, CATEGORY, "train") == []


def test_masks_of_good_parts_do_not_count_and_others_may_be_absent(download: Path) -> None:
    edit(download, lambda listing: [entry.pop("mask_path") for entry in listing["test"]])
    assert [item.mask for item in realiad_d3.scan(download, CATEGORY, "test")] == [None] * 6
    edit(download, lambda listing: [entry.update(mask_path="absent.png") for entry in listing["train"]])
    assert [item.mask for item in realiad_d3.scan(download, CATEGORY, "train")] == [None] * 4


def test_stems_are_unique_within_a_defect(download: Path) -> None:
    """Where two samples lie in one folder, the names of the images tell them apart."""
    here, there = (download / RAW / "OK" / f"S000{number}" for number in (1, 2))
    for path in there.iterdir():
        path.rename(here / path.name)
    edit(
        download,
        lambda listing: listing["train"][1].update(
            {
                key: path.replace("S0002", "S0001")
                for key, path in listing["train"][1].items()
                if key != "mask_path" and path
            }
        ),
    )
    items = realiad_d3.scan(download, CATEGORY, "train")
    assert [item.stem for item in items] == [item.rgb.stem for item in items]
    assert len({item.name for item in items}) == 4
    edit(download, lambda listing: listing["train"].append(listing["train"][0]))
    with pytest.raises(DataError, match="same name"):
        realiad_d3.scan(download, CATEGORY, "train")


# ---- as the authors' code reads it ------------------------------------------------------------------------------


def test_it_is_not_mistaken_for_mvtec(authors: Path, write_pair: Callable[..., None], tmp_path: Path) -> None:
    for split, defect in (("train", "good"), ("test", "good"), ("test", "thread")):
        write_pair(tmp_path / "mvtec" / "bagel" / split / defect, "000", size=24)
    assert mvtec3d.recognise(tmp_path / "mvtec")
    assert not realiad_d3.recognise(tmp_path / "mvtec")
    for split in ("train", "validation", "test"):
        (authors / CATEGORY / split / "GOOD").rename(authors / CATEGORY / split / "moving")
        (authors / CATEGORY / split / "moving").rename(authors / CATEGORY / split / "good")
    assert not realiad_d3.recognise(authors)


def test_the_root_may_be_one_category(authors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = authors / CATEGORY
    assert realiad_d3.categories(root) == [CATEGORY]
    monkeypatch.chdir(root)
    assert len(realiad_d3.scan(Path(), CATEGORY, "test")) == 6


@pytest.mark.parametrize(
    ("image", "points"),
    [
        ("rgb/S0001/RGB_L05.jpg", "xyz/S0001.tiff"),
        ("rgb/S0001/0001_L05_RGB.jpg", "xyz/0001.tiff"),
        ("rgb/S0001/L05_RGB_0001.jpg", "xyz/XYZ_0001.tiff"),
        ("rgb/RGBL05_0001.jpg", "xyz/XYZ_0001.tiff"),
        ("rgb/x_0001_OK_RGBL05_2024.jpg", "xyz/x_0001_OK_XYZ_2025.tiff"),
        ("rgb/S0001/x-0001-RGBL05.JPG", "xyz/S0001-XYZ.TIFF"),
    ],
)
def test_names_pair(authors: Path, image: str, points: str) -> None:
    good = authors / CATEGORY / "train" / "GOOD"
    first = realiad_d3.scan(authors, CATEGORY, "train")[0]
    shutil.rmtree(good)
    for path, content in ((image, first.rgb), (points, first.geometry), ("ps/S0001.png", dict(first.lights)["ps"])):
        (good / path).parent.mkdir(parents=True, exist_ok=True)
        (good / path).write_bytes(content.read_bytes() if content.is_file() else b"x")
    (item,) = realiad_d3.scan(authors, CATEGORY, "train")
    assert (item.rgb, item.geometry) == (good / image, good / points)
    assert item.stem == ("S0001" if "/S0001/" in image else Path(image).stem)


@pytest.mark.parametrize("lost", ["rgb/S0002/knob-cap_0002_OK_L05_RGB.jpg", "xyz/knob-cap_0002_OK_XYZ.tiff"])
def test_a_file_without_partner_is_named(authors: Path, lost: str) -> None:
    """Paired by order, all later samples would be pairs of strangers."""
    (authors / CATEGORY / "train" / "GOOD" / lost).unlink()
    with pytest.raises(DataError, match="no partner") as caught:
        realiad_d3.scan(authors, CATEGORY, "train")
    assert "_0002_OK" in caught.value.message


def test_two_files_of_one_sample_are_refused(authors: Path) -> None:
    folder = authors / CATEGORY / "train" / "GOOD" / "xyz"
    shutil.copy(folder / "knob-cap_0002_OK_XYZ.tiff", folder / "knob-cap_0002_OK_XYZ_again.tiff")
    with pytest.raises(DataError, match="same sample"):
        realiad_d3.scan(authors, CATEGORY, "train")


def test_masks_may_lie_in_gt_itself_and_may_be_absent(authors: Path) -> None:
    folder = authors / CATEGORY / "test" / "scratch" / "gt"
    for path in list((folder / "rgb").iterdir()):
        path.rename(folder / path.name)
    masks = [item.mask for item in realiad_d3.scan(authors, CATEGORY, "test") if item.defect == "scratch"]
    assert [mask is not None and mask.parent for mask in masks] == [folder, folder]
    shutil.rmtree(folder)
    masks = [item.mask for item in realiad_d3.scan(authors, CATEGORY, "test") if item.defect == "scratch"]
    assert masks == [None, None]


def test_other_files_are_passed_over(authors: Path) -> None:
    good = authors / CATEGORY / "train" / "GOOD"
    for name in ("rgb/.DS_Store", "rgb/S0001/._x_L05_RGB.jpg", "rgb/S0001/Thumbs.db", "xyz/notes.txt", "ps/Thumbs.db"):
        (good / name).write_bytes(b"x")
    (authors / CATEGORY / "train" / "calibration").mkdir()
    assert len(realiad_d3.scan(authors, CATEGORY, "train")) == 4
