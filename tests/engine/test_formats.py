"""Every data set and every kind of own data, from files on disk to prepared pairs."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from uipad_cli.cli import main
from uipad_cli.data import files, open_dataset, prepared, realiad_d3
from uipad_cli.data.folder import pair
from uipad_cli.data.pairs import load_sample
from uipad_cli.engine.prepare import prepare
from uipad_cli.engine.sensing import settings
from uipad_cli.errors import DataError, UsageError
from uipad_cli.records import Progress

SHARED = Path(__file__).parents[3] / "shared" / "data"


def heights(root: Path, category: str, split: str = "test") -> dict[str, Any]:
    return {item.name: files.read_map(item.geometry)[0] for item in prepared.scan(root, category, split)}


def found(summary: Any, word: str) -> str:
    return " | ".join(finding for finding in summary.findings if word in finding)


class TestEyecandies:
    @pytest.fixture
    def raw(self, writers: ModuleType, tmp_path: Path) -> Path:
        writers.write_eyecandies(tmp_path / "raw", train=3, val=1, good=2, bad=5, private=1, size=64)
        return tmp_path / "raw"

    def test_all_of_it(self, raw: Path, tmp_path: Path) -> None:
        summary = prepare(raw, tmp_path / "out", workers=1)
        (row,) = summary.categories
        assert (row.category, row.train, row.validation, row.test) == ("CandyCane", 3, 1, 7)
        assert summary.failures == ()
        assert "light 4 of 0, 1, 2, 3, 4, 5" in found(summary, "colour")
        assert "711.11" in found(summary, "depth")
        assert prepared.read_manifest(tmp_path / "out").categories["CandyCane"].dataset == "eyecandies"
        defects = {item.defect for item in prepared.scan(tmp_path / "out", "CandyCane", "test")}
        assert defects == {"good", "bumps", "dents", "colors", "normals", "combined"}
        for height in heights(tmp_path / "out", "CandyCane", "train").values():
            assert 0.01 < height.max() < 0.03  # a candy of about 2 cm on a floor seen at a slant
            assert np.abs(height[:3]).max() < 1e-3

    def test_a_light_of_choice_changes_colour_alone(self, raw: Path, tmp_path: Path) -> None:
        prepare(raw, tmp_path / "four", workers=1)
        prepare(raw, tmp_path / "none", workers=1, preparation=settings(light="0"))
        for one, other in zip(
            *(prepared.scan(tmp_path / name, "CandyCane", "test") for name in ("four", "none")), strict=True
        ):
            assert one.geometry.read_bytes() == other.geometry.read_bytes()
            assert one.rgb.read_bytes() != other.rgb.read_bytes()
        with pytest.raises(UsageError, match="light 'ps'") as caught:
            prepare(raw, tmp_path / "out", workers=1, preparation=settings(light="ps"))
        assert "0, 1, 2, 3, 4, 5, normals" in str(caught.value.cure)

    def test_a_scan_without_the_chosen_light_costs_itself(self, raw: Path, tmp_path: Path) -> None:
        (gone, *_) = sorted((raw / "CandyCane" / "train" / "data").glob("*_image_0.png"))
        gone.unlink()
        summary = prepare(raw, tmp_path / "out", workers=1, preparation=settings(light="0"))
        (failure,) = summary.failures
        assert "has no image of light '0'" in failure
        assert summary.categories[0].train == 2


class TestRealIADD3:
    @pytest.fixture(params=["download", "authors"])
    def raw(self, request: pytest.FixtureRequest, writers: ModuleType, tmp_path: Path) -> Path:
        writers.write_realiad_d3(tmp_path / "raw", layout=request.param, train=3, size=48)
        return tmp_path / "raw"

    def test_all_of_it(self, raw: Path, tmp_path: Path) -> None:
        summary = prepare(raw, tmp_path / "out", categories=["knob_cap"], workers=1)
        (row,) = summary.categories
        assert (row.category, row.train, row.validation, row.test) == ("knob-cap", 3, 4, 6)
        assert summary.failures == ()
        for name in ("axis", "float_unit", "pitch"):
            assert "as the data set documents it" in found(summary, name)
        for height in heights(tmp_path / "out", "knob-cap", "train").values():
            assert height.shape == (96, 96)  # as large as the colour image
            assert 0.0002 < height.max() < 0.0004  # a cap of 0.3 mm
        item = prepared.scan(tmp_path / "out", "knob-cap", "test")[0]
        assert load_sample(item, settings()).valid.mean() > 0.9

    def test_the_pseudo_3d_image_can_stand_for_colour(self, raw: Path, tmp_path: Path) -> None:
        prepare(raw, tmp_path / "colour", workers=1)
        prepare(raw, tmp_path / "pseudo", workers=1, preparation=settings(light="ps"))
        one, other = (prepared.scan(tmp_path / name, "knob-cap", "test")[0] for name in ("colour", "pseudo"))
        assert one.rgb.read_bytes() != other.rgb.read_bytes()

    def test_labels_cannot_be_read_off_x_and_y(self, raw: Path, tmp_path: Path) -> None:
        """The placeholders of one class, put into every file, change no prepared byte."""
        prepare(raw, tmp_path / "before", workers=1)
        items = [item for split in ("train", "validation", "test") for item in realiad_d3.scan(raw, "knob-cap", split)]
        constants = set()
        for item in items:
            points = tifffile.TiffFile(item.geometry).pages[0].asarray()
            constants.add(tuple(points[0, 0, :2].tolist()))
            points[..., :2] = np.random.default_rng(len(constants)).normal(size=2)
            files.write_tiff(item.geometry, points)
        assert len(constants) == 2  # good and bad could be told apart
        prepare(raw, tmp_path / "after", workers=1)
        for name in ("train", "validation", "test"):
            one, other = (heights(tmp_path / folder, "knob-cap", name) for folder in ("before", "after"))
            assert one.keys() == other.keys()
            assert all(one[key].tobytes() == other[key].tobytes() for key in one)

    def test_large_pairs_are_scaled_down(self, raw: Path, tmp_path: Path) -> None:
        prepare(raw, tmp_path / "out", workers=1, preparation=settings(longest=64))
        for item in prepared.scan(tmp_path / "out", "knob-cap", "test"):
            assert files.read_rgb(item.rgb).shape[:2] == (64, 64)
            assert item.is_good or (item.mask is not None and files.read_mask(item.mask).any())


def write_own(root: Path, write: Any, count: int = 3) -> None:
    """Own depth images of a block on a plane, in colour, under train/ and test/."""
    row, column = np.mgrid[:64, :64]
    for split in ("train", "test"):
        for number in range(count):
            noise = np.random.default_rng(number).normal(0, 0.3, (64, 64))
            depth = 600 + 0.3 * row + noise - 30 * ((abs(row - 32) < 12) & (abs(column - 32) < 12))
            files.write_png(root / split / "rgb" / f"{number}.png", np.full((64, 64, 3), 90 + number, np.uint8))
            write(root / split / "depth", str(number), depth)


def write_counts(folder: Path, stem: str, counts: Any) -> None:
    files.write_bytes(folder / f"{stem}.png", cv2.imencode(".png", counts.round().astype(np.uint16))[1].tobytes())


class TestOwnSensor:
    @pytest.mark.parametrize(
        ("name", "write"),
        [
            ("millimetres", write_counts),
            ("fivefold", lambda folder, stem, depth: write_counts(folder, stem, 5 * (depth + 1500).round())),
            ("float metres", lambda folder, stem, depth: files.write_tiff(folder / f"{stem}.tiff", depth / 1000)),
            ("float mm", lambda folder, stem, depth: files.write_tiff(folder / f"{stem}.tiff", depth)),
        ],
    )
    def test_units_give_the_same_heights(self, tmp_path: Path, name: str, write: Any) -> None:
        write_own(tmp_path / "own", write)
        summary = prepare(tmp_path / "own", tmp_path / "out", workers=1, preparation=settings(intrinsics="600"))
        assert found(summary, "unit")
        assert (summary.categories[0].train, summary.categories[0].test) == (3, 3)
        for height in heights(tmp_path / "out", "own").values():
            assert np.median(height[24:40, 24:40]) == pytest.approx(0.03, abs=2e-3)

    def test_one_file_in_another_unit_is_left_out(self, tmp_path: Path) -> None:
        write_own(tmp_path / "own", lambda folder, stem, depth: files.write_tiff(folder / f"{stem}.tiff", depth), 6)
        path = tmp_path / "own" / "test" / "depth" / "3.tiff"
        files.write_tiff(path, files.read_map(path)[0] * 1000)
        summary = prepare(tmp_path / "own", tmp_path / "out", workers=1)
        (failure,) = summary.failures
        assert "own/test/unlabelled/3" in failure
        assert "another unit" in failure

    def test_a_unit_that_cannot_be_told_stops_the_run(self, tmp_path: Path) -> None:
        write_own(tmp_path / "own", lambda folder, stem, depth: write_counts(folder, stem, depth * 50 + 1))
        with pytest.raises(DataError, match="in millimetres the part would be"):
            prepare(tmp_path / "own", tmp_path / "out", workers=1)
        told = settings(unit="0.00002", intrinsics="600")
        assert prepare(tmp_path / "own", tmp_path / "out", workers=1, preparation=told).failures == ()

    @pytest.mark.parametrize("made_up", [False, True])
    def test_a_pair_by_hand_has_only_z_where_training_had(self, tmp_path: Path, made_up: bool) -> None:
        def write(folder: Path, stem: str, depth: Any) -> None:
            across = np.broadcast_to(np.arange(depth.shape[1]), depth.shape)
            points = np.stack([across, 2 * across, depth], axis=-1) if made_up else depth
            files.write_tiff(folder.parent / "z" / f"{stem}.tiff", (points / 1000).astype(np.float32))

        write_own(tmp_path / "own", write)
        summary = prepare(tmp_path / "own", tmp_path / "out", workers=1)
        assert found(summary, "only z counts")
        preparation = prepared.read_manifest(tmp_path / "out").preparation
        item = open_dataset(tmp_path / "own").scan(tmp_path / "own", "own", "train")[0]
        by_hand = load_sample(pair(item.rgb, item.geometry), preparation)
        assert (by_hand.height == load_sample(item, preparation).height).all()

    def test_a_cloud_has_no_z_image(self, tmp_path: Path) -> None:
        write_own(tmp_path / "own", lambda folder, stem, depth: files.write_tiff(folder.parent / "z" / stem, depth))
        for number, path in enumerate(sorted((tmp_path / "own").rglob("z/*"))):
            points = np.random.default_rng(number).random((64, 3)).astype(np.float32)
            path.unlink()
            np.save(path.with_suffix(".npy"), points if number == 0 else np.full((64, 64), 0.5 + points[0, 0] / 9))
        summary = prepare(tmp_path / "own", tmp_path / "out", workers=1, preparation=settings(plane="none"))
        (failure,) = summary.failures
        assert "points in no order, where only z counts" in failure

    def test_a_part_below_its_background_is_told(self, tmp_path: Path) -> None:
        write_own(tmp_path / "own", lambda folder, stem, depth: files.write_tiff(folder / f"{stem}.tiff", 1200 - depth))
        seen: list[Progress] = []
        prepare(tmp_path / "own", tmp_path / "out", workers=1, report=seen.append)
        assert any("--axis up" in step.note for step in seen)

    def test_normals_can_stand_for_colour(self, tmp_path: Path) -> None:
        write_own(tmp_path / "own", lambda folder, stem, depth: files.write_tiff(folder / f"{stem}.tiff", depth))
        told = settings(light="normals", intrinsics="600")
        summary = prepare(tmp_path / "own", tmp_path / "out", workers=1, preparation=told)
        assert "normals" in found(summary, "colour")
        picture = files.read_rgb(prepared.scan(tmp_path / "out", "own", "train")[0].rgb)
        assert picture.shape == (64, 64, 3)
        assert not picture[0].any()  # at the rim there is no neighbour
        assert np.median(picture[26:38, 26:38, 2]) > 200  # level ground faces the sensor

    def test_a_table_of_points_alone(self, tmp_path: Path) -> None:
        if not SHARED.is_dir():
            pytest.skip("the real data lies beside the checkout, and is not here")
        rows = []
        for name in ("five_people", "organized_edge_1", "mOSD_learn13", "mOSD_test55"):
            files.write_bytes(tmp_path / "own" / f"{name}.pcd", (SHARED / "pcl_organised" / f"{name}.pcd").read_bytes())
            rows.append({"rgb": f"{name}.pcd", "cloud": f"{name}.pcd"})
        text = "\n".join(json.dumps(row) for row in rows)
        files.write_bytes(tmp_path / "own" / "pairs.jsonl", text.encode())
        summary = prepare(tmp_path / "own", tmp_path / "out", workers=1, preparation=settings(plane="none"))
        assert summary.failures == ()
        assert summary.pairs == 4


@pytest.mark.parametrize("name", ["eyecandies", "realiad_d3"])
def test_raw_pairs_score_as_their_prepared_copies(
    writers: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Through all of the command line: what `prepare` found out, `infer` goes by."""
    raw, ready, run = (tmp_path / part for part in ("raw", "ready", "run"))
    if name == "eyecandies":
        writers.write_eyecandies(raw, train=3, val=0, good=2, bad=2, private=0, size=64)
    else:
        writers.write_realiad_d3(raw, train=3, size=48)
    assert main(["prepare", str(raw), str(ready), "--longest", "80"]) == 0
    category = prepared.categories(ready)[0]
    quick = ["backbone=gabor", "method=patchcore", "framing.resize=56", "framing.crop=56", "precision=fp32"]
    told = [part for setting in quick for part in ("--set", setting)]
    assert main(["train", str(ready), "--category", category, "--out", str(run), *told]) == 0
    capsys.readouterr()
    scores = []
    for folder in (raw, ready):
        assert main(["infer", str(folder), "--model", str(run), "--out", str(tmp_path / "o"), "--json"]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        scores.append([line["score"] for line in lines])
        photos = [files.read_rgb(Path(line["rgb"])).shape[:2] for line in lines]
        assert [files.read_map(Path(line["map"]))[0].shape for line in lines] == photos  # as large as it came
    assert scores[0] == scores[1]
    item = open_dataset(raw).scan(raw, category, "test")[0]
    told = ["--model", str(run), "--out", str(tmp_path / "o"), "--json"]
    assert main(["infer", str(item.rgb), str(item.geometry), *told]) == 0
    alone = json.loads(capsys.readouterr().out)["score"]
    assert alone in scores[0]
