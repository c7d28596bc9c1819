from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import yaml

from uipad_cli.data import eyecandies, files, mvtec3d
from uipad_cli.data.sensor import Sensor
from uipad_cli.errors import DataError
from uipad_cli.records import Item

CLASS = "CandyCane"
Points = npt.NDArray[np.float64]


@pytest.fixture(scope="session")
def written(writers: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("eyecandies")
    writers.write_eyecandies(root, CLASS, good=3, bad=5, size=48)
    writers.write_eyecandies(root, "Lollipop", train=1, val=1, good=1, bad=1, private=0, size=48, seed=1)
    return root


@pytest.fixture
def tree(written: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written, tmp_path / "eyecandies")


def data(tree: Path, split: str) -> Path:
    return tree / CLASS / split / "data"


def of(tree: Path, defect: str) -> Item:
    return next(item for item in eyecandies.scan(tree, CLASS, "test") if item.defect == defect)


def partner(item: Item, kind: str) -> Path:
    return item.geometry.with_name(f"{item.stem}_{kind}")


def points(item: Item) -> Points:
    """Metres in the frame of the camera [H,W,3], from what the item says alone."""
    assert item.depth_range is not None and item.camera is not None
    (low, high), (fx, fy, cx, cy) = item.depth_range, item.camera
    counts = cv2.imread(str(item.geometry), cv2.IMREAD_UNCHANGED)
    depth = counts.astype(np.float64) / 65535 * (high - low) + low
    row, column = np.indices(depth.shape)
    return np.stack([(column - cx) / fx * depth, (row - cy) / fy * depth, depth], axis=-1)


def heights(points: Points) -> npt.NDArray[np.float64]:
    """Distance from the plane through the outermost pixels."""
    rim = np.concatenate([points[0], points[-1], points[:, 0], points[:, -1]])
    middle = rim.mean(axis=0)
    return np.asarray(np.abs((points - middle) @ np.linalg.svd(rim - middle)[2][-1]))


def test_the_files_are_those_of_the_original(written: Path) -> None:
    first = sorted(path.name for path in data(written, "train").glob("000_*"))
    assert len(first) == 17
    assert {path.name.split("_")[0] for path in data(written, "test_public").iterdir()} == {f"0{n}" for n in range(8)}
    secret = {path.name.split("_", 1)[1] for path in data(written, "test_private").iterdir()}
    assert len(secret) == 10
    assert not any("mask" in name or "metadata" in name or "params" in name for name in secret)
    depth = cv2.imread(str(data(written, "train") / "000_depth.png"), cv2.IMREAD_UNCHANGED)
    assert (depth.dtype, depth.min(), depth.max()) == (np.uint16, 0, 65535)
    assert yaml.safe_load((data(written, "train") / "000_metadata.yaml").read_text()) == {"anomalous": 0}
    union = np.zeros((48, 48), bool)
    item = of(written, "combined")
    for kind in eyecandies.DEFECTS:
        union |= files.read_mask(partner(item, f"{kind}_mask.png"))
    assert item.mask is not None
    assert union.any() and (files.read_mask(item.mask) == union).all()


def test_scan(tree: Path) -> None:
    assert eyecandies.recognise(tree)
    assert not mvtec3d.recognise(tree)
    assert eyecandies.categories(tree) == [CLASS, "Lollipop"]
    train = eyecandies.scan(tree, CLASS, "train")
    assert [item.name for item in train] == [f"{CLASS}/train/good/00{number}" for number in range(4)]
    assert train[1].rgb == data(tree, "train") / "001_image_4.png"
    assert train[1].geometry == data(tree, "train") / "001_depth.png"
    assert train[1].geometry_kind == "depth"
    assert dict(train[1].lights) == {str(n): data(tree, "train") / f"001_image_{n}.png" for n in range(6)}
    assert dict(train[1].lights)[eyecandies.DEFAULT_LIGHT] == train[1].rgb
    assert train[1].camera == (711.11, 711.11, 24, 24)
    assert train[0].depth_range != train[1].depth_range
    assert all(item.is_good and item.mask is None for item in train)
    assert [item.name for item in eyecandies.scan(tree, CLASS, "validation")] == [
        f"{CLASS}/validation/good/{stem}" for stem in ("00", "01")
    ]
    test = eyecandies.scan(tree, CLASS, "test")
    assert [item.defect for item in test] == ["bumps", "colors", "combined", "dents", *["good"] * 3, "normals"]
    assert all((item.mask is None) == item.is_good for item in test)
    assert all(item.mask is None or item.mask == partner(item, "mask.png") for item in test)
    assert len({item.name for item in test}) == 8
    assert eyecandies.scan(tree, CLASS, "test_private") == []


def test_the_root_may_be_one_class(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree / CLASS
    assert eyecandies.categories(root) == [CLASS]
    assert len(eyecandies.scan(root, CLASS, "train")) == 4
    monkeypatch.chdir(root)
    assert eyecandies.categories(Path()) == [CLASS]


def test_private_samples_alone_are_no_data_set(tree: Path) -> None:
    for split in ("train", "val", "test_public"):
        shutil.rmtree(tree / CLASS / split)
    assert eyecandies.categories(tree) == ["Lollipop"]
    with pytest.raises(DataError, match=f"no category '{CLASS}'"):
        eyecandies.scan(tree, CLASS, "test")


def test_an_empty_or_foreign_folder_is_not_recognised(tmp_path: Path) -> None:
    assert not eyecandies.recognise(tmp_path)
    (tmp_path / "Fudge" / "train" / "data").mkdir(parents=True)
    (tmp_path / "Fudge" / "train" / "data" / "notes.txt").write_text("nothing here")
    assert not eyecandies.recognise(tmp_path)
    assert not eyecandies.recognise(tmp_path / "Fudge" / "train" / "data" / "notes.txt")
    assert eyecandies.categories(tmp_path / "absent") == []


def test_other_files_are_passed_over(tree: Path) -> None:
    for name in (".DS_Store", "._000_depth.png", "Thumbs.db", "9_notes.txt", "000_image_7.png", "a_depth.png"):
        (data(tree, "train") / name).write_bytes(b"x")
    assert len(eyecandies.scan(tree, CLASS, "train")) == 4


def test_indices_are_what_names_there_are(tree: Path) -> None:
    for path in list(data(tree, "train").glob("00[12]_*")):
        index, kind = path.name.split("_", 1)
        path.rename(path.with_name(f"{int(index) * 7}_{kind}"))
    assert [item.stem for item in eyecandies.scan(tree, CLASS, "train")] == ["000", "003", "7", "14"]


def test_missing_lights_are_left_out(tree: Path) -> None:
    (data(tree, "train") / "000_image_0.png").unlink()
    (data(tree, "train") / "000_image_5.png").unlink()
    assert [light for light, _ in eyecandies.scan(tree, CLASS, "train")[0].lights] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("lost", ["image_4.png", "depth.png", "info_depth.yaml"])
def test_a_missing_partner_is_named(tree: Path, lost: str) -> None:
    (data(tree, "train") / f"002_{lost}").unlink()
    with pytest.raises(DataError, match=f"002_{lost}: no such file"):
        eyecandies.scan(tree, CLASS, "train")


# ---- geometry ---------------------------------------------------------------------------------------------------


def test_what_is_documented_fits_the_sensor() -> None:
    sensor = Sensor.model_validate(eyecandies.DOCUMENTED)
    assert (sensor.encoding, sensor.missing, sensor.axis, sensor.camera) == ("linear", (), "away", None)


def test_the_scan_is_a_candy_on_a_level_floor(tree: Path) -> None:
    height = heights(points(eyecandies.scan(tree, CLASS, "train")[0]))
    assert 0.015 < height.max() < 0.025
    assert height[:4].max() < 1e-5
    bump = of(tree, "bumps")
    assert bump.mask is not None
    step = np.diff(heights(points(bump)), axis=1)[files.read_mask(bump.mask)[:, 1:]]
    assert np.abs(step).max() > 0.004


@pytest.mark.parametrize("inverse", [True, False])
def test_the_pose_changes_no_height(tree: Path, writers: ModuleType, inverse: bool) -> None:
    """The documentation projects with inv(K @ pose), the code that comes with it with pose @ inv(K): both are rigid."""
    item = of(tree, "bumps")
    seen = points(item)
    assert item.camera is not None
    height, width = seen.shape[:2]
    matrix = np.eye(4)
    matrix[0, 0] = matrix[1, 1] = 711.11
    matrix[:2, 2] = width / 2, height / 2
    pose = writers.rigid_pose(np.random.default_rng(3))
    project = np.linalg.inv(matrix @ pose) if inverse else pose @ np.linalg.inv(matrix)
    row, column = np.indices((height, width))
    depth = seen[..., 2]
    rays = np.stack([column, row, np.ones_like(depth), 1 / depth], axis=-1)
    world = (depth[..., None] * (rays @ project.T))[..., :3]
    assert np.abs(world - seen).max() > 0.1
    some = np.random.default_rng(0).integers(0, height * width, (200, 2))
    here, there = seen.reshape(-1, 3)[some], world.reshape(-1, 3)[some]
    lengths = [np.linalg.norm(pair[:, 0] - pair[:, 1], axis=1) for pair in (here, there)]
    np.testing.assert_allclose(lengths[0], lengths[1], atol=1e-9)
    np.testing.assert_allclose(heights(seen), heights(world), atol=1e-9)


def test_the_camera_follows_the_size_of_the_image(tmp_path: Path) -> None:
    path = tmp_path / "00_depth.png"
    path.write_bytes(cv2.imencode(".png", np.ones((30, 41), np.uint16))[1].tobytes())
    assert eyecandies.camera(path) == (711.11, 711.11, 20.5, 15.0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xd8\xff\xe0 a photograph, as long as a header", "not a png"),
        (b"", "not a png"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "damaged"),
    ],
)
def test_a_depth_that_is_no_png_is_named(tree: Path, content: bytes, said: str) -> None:
    (data(tree, "train") / "001_depth.png").write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        eyecandies.scan(tree, CLASS, "train")
    assert "001_depth.png" in caught.value.message


def test_a_flipped_bit_in_the_size_is_noticed(tree: Path) -> None:
    path = data(tree, "train") / "001_depth.png"
    content = bytearray(path.read_bytes())
    content[18] ^= 64
    path.write_bytes(content)
    with pytest.raises(DataError, match="header"):
        eyecandies.scan(tree, CLASS, "train")


def test_a_depth_that_cannot_be_opened_is_named(tree: Path) -> None:
    (data(tree, "train") / "001_depth.png").unlink()
    (data(tree, "train") / "001_depth.png").mkdir()
    with pytest.raises(DataError, match=r"001_depth.png: cannot be read"):
        eyecandies.scan(tree, CLASS, "train")


BROKEN: list[tuple[Any, str]] = [
    ("normalization: {min: 1.5, max: 1.5}", "min must be less"),
    ("normalization: {min: 2.0, max: 1.5}", "min must be less"),
    ("normalization: {min: -1.0, max: 1.5}", "below 0"),
    ("normalization: {min: .nan, max: 1.5}", "min is nan"),
    ("normalization: {min: 0.5, max: .inf}", "max is inf"),
    ("normalization: {min: 0.5, max: 1" + "0" * 400 + "}", "max is 1000"),
    ("normalization: {min: 0.5}", "max is None"),
    ("normalization: {min: true, max: 3}", "min is True"),
    ("normalization: {min: low, max: 3}", "min is 'low'"),
    ("normalization: 3", "normalization"),
    ("other: 3", "normalization"),
    ("[1, 2]", "list"),
    ("just words", "str"),
    ("a: [", "not valid YAML"),
    ("a: !!python/object/apply:os.getcwd []", "not valid YAML"),
    ("a: !!timestamp x", "not valid YAML"),
    ("a: !!bool x", "not valid YAML"),
    ("a: !!int '" + "9" * 5000 + "'", "not valid YAML"),
    ("[" * 3000, "not valid YAML"),
    (b"\xff\xfe\x00", "not valid YAML"),
    (b"", "empty"),
    (b"#" * (64 * 1024 + 1), "more than the limit"),
]


@pytest.mark.parametrize(("content", "said"), BROKEN, ids=range(len(BROKEN)))
def test_a_broken_range_is_explained(tmp_path: Path, content: Any, said: str) -> None:
    path = tmp_path / "001_info_depth.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=said) as caught:
        eyecandies.lone_depth_range(tmp_path / "001_depth.png")
    assert str(path) in caught.value.message
    assert len(caught.value.message) < 300 + len(str(path)) and "\n" not in caught.value.message


def test_a_broken_range_stops_the_scan(tree: Path) -> None:
    (data(tree, "train") / "001_info_depth.yaml").write_text("normalization: {min: 2.0, max: 1.5}")
    with pytest.raises(DataError, match=r"001_info_depth.yaml: depths of 2 to 1.5 m"):
        eyecandies.scan(tree, CLASS, "train")


def test_a_lone_depth_finds_its_range(tree: Path, tmp_path: Path) -> None:
    item = eyecandies.scan(tree, CLASS, "train")[2]
    assert eyecandies.lone_depth_range(item.geometry) == item.depth_range
    alone = Path(shutil.copy(item.geometry, tmp_path / "002_depth.png"))
    assert eyecandies.lone_depth_range(alone) is None
    assert eyecandies.lone_depth_range(item.rgb) is None
    assert eyecandies.lone_depth_range(tmp_path / "absent_depth.png") is None


# ---- labels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flag", "good"), [("true", False), ("false", True), ("1", False), ("0", True)])
def test_flags_are_numbers_or_words(tree: Path, flag: str, good: bool) -> None:
    item = of(tree, "good" if good else "dents")
    partner(item, "metadata.yaml").write_text(f"anomalous: {flag}\n")
    assert item in eyecandies.scan(tree, CLASS, "test")


@pytest.mark.parametrize("content", ["anomalous: maybe", "anomalous: 2", "anomalous: 0.5", "anomalous:", "bumps: 1"])
def test_a_flag_that_says_nothing_is_explained(tree: Path, content: str) -> None:
    path = partner(of(tree, "dents"), "metadata.yaml")
    path.write_text(content)
    with pytest.raises(DataError, match="anomalous is") as caught:
        eyecandies.scan(tree, CLASS, "test")
    assert str(path) in caught.value.message


@pytest.mark.parametrize(("folder", "split"), [("val", "validation"), ("test_public", "test")])
def test_labels_must_be_there_where_they_are_asked_for(tree: Path, folder: str, split: str) -> None:
    (data(tree, folder) / "01_metadata.yaml").unlink()
    with pytest.raises(DataError, match=r"01_metadata.yaml: no such file"):
        eyecandies.scan(tree, CLASS, split)
    (data(tree, "train") / "001_metadata.yaml").unlink()
    assert len(eyecandies.scan(tree, CLASS, "train")) == 4


def test_training_parts_are_good(tree: Path) -> None:
    (data(tree, "train") / "001_metadata.yaml").write_text("anomalous: 1")
    with pytest.raises(DataError, match=r"001_metadata.yaml: an anomalous part in the training split"):
        eyecandies.scan(tree, CLASS, "train")


@pytest.mark.parametrize("kind", ["mask.png", "dents_mask.png"])
def test_a_good_part_with_a_marked_defect_is_refused(tree: Path, kind: str) -> None:
    item = of(tree, "good")
    files.write_png(partner(item, kind), np.full((48, 48), 255, np.uint8))
    with pytest.raises(DataError, match="not anomalous") as caught:
        eyecandies.scan(tree, CLASS, "test")
    assert f"{item.stem}_metadata.yaml" in caught.value.message
    assert f"{item.stem}_{kind}" in caught.value.message


def test_an_anomalous_part_with_an_empty_mask_is_refused(tree: Path) -> None:
    item = of(tree, "colors")
    files.write_png(partner(item, "mask.png"), np.zeros((48, 48), np.uint8))
    with pytest.raises(DataError, match="marks nothing") as caught:
        eyecandies.scan(tree, CLASS, "test")
    assert f"{item.stem}_metadata.yaml" in caught.value.message
    assert f"{item.stem}_mask.png" in caught.value.message


def test_the_union_of_the_masks_is_asked_for(tree: Path) -> None:
    item = of(tree, "combined")
    partner(item, "mask.png").unlink()
    with pytest.raises(DataError, match=rf"{item.stem}_mask.png: no such file"):
        eyecandies.scan(tree, CLASS, "test")
    for kind in eyecandies.DEFECTS:
        partner(item, f"{kind}_mask.png").unlink()
    found = of(tree, "unknown")
    assert (found.stem, found.mask) == (item.stem, None)


def test_a_defect_of_no_known_kind(tree: Path) -> None:
    item = of(tree, "normals")
    partner(item, "normals_mask.png").unlink()
    found = of(tree, "unknown")
    assert (found.stem, found.mask) == (item.stem, item.mask)


def test_masks_of_the_other_splits_are_not_read(tree: Path) -> None:
    for split in ("train", "val"):
        for path in data(tree, split).glob("*mask.png"):
            path.write_bytes(b"not read")
    assert len(eyecandies.scan(tree, CLASS, "train")) == 4
    assert len(eyecandies.scan(tree, CLASS, "validation")) == 2


def test_a_validation_part_that_is_said_to_be_anomalous(tree: Path) -> None:
    item = eyecandies.scan(tree, CLASS, "validation")[0]
    partner(item, "metadata.yaml").write_text("anomalous: 1")
    for kind in ("mask.png", "bumps_mask.png"):
        files.write_png(partner(item, kind), np.full((48, 48), 255, np.uint8))
    assert {found.defect: found.mask for found in eyecandies.scan(tree, CLASS, "validation")} == {
        "bumps": partner(item, "mask.png"),
        "good": None,
    }
