import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from program import call

from uipad_cli.data import files
from uipad_cli.data.framing import Framing
from uipad_cli.data.scans import read_file
from uipad_cli.engine.calibration import Calibration
from uipad_cli.engine.judging import Judged
from uipad_cli.engine.pictures import found_mask
from uipad_cli.engine.record import read_record
from uipad_cli.engine.sealed import write_sealed
from uipad_cli.engine.verdicts import findings, regions_of
from uipad_cli.records import Item, Sample

SIZE = 56
FRAMING = Framing(resize=SIZE, crop=SIZE)
UNITS = {"colour": (1.0, 2.0), "geometry": (1.0, 2.0), "pair": (1.0, 2.0)}


def calibration(**changes):
    known = {
        "threshold": 2.0,
        "unsure_from": 1.8,
        "scores": (1.2, 1.8, 2.0),
        "source": "validation",
        "precision": "fp32",
    }
    return Calibration(**{**known, "map_low": 1.0, "map_high": 2.0, "voices": UNITS, **changes})


def judged(score=3.0, peak=4.0, voices=None, pitch=0.0005):
    map_ = np.ones((SIZE, SIZE), np.float32)
    map_[14:28, 28:42] = peak
    height = np.zeros((SIZE, SIZE), np.float32)
    height[14:28, 28:42] = -0.002
    spoken = {}
    for voice, loud in (voices or {}).items():
        spoken[voice] = np.ones((1, 4, 4), np.float32)
        spoken[voice][0, 1, 2] = loud
    sample = Sample(np.zeros((SIZE, SIZE, 3), np.uint8), height, np.ones((SIZE, SIZE), bool), pitch)
    item = Item("pegs", "test", "sunk", "000", Path("a.png"), Path("a.tiff"), "height")
    return Judged(item, sample, map_, score, 0.1, 0.05, spoken)


def found_in(part, known=None, **options):
    known = known or calibration()
    return findings(part, regions_of(part, known), known, FRAMING, **options)


def test_a_finding_says_where_how_large_how_high_and_how_deep():
    (found,) = found_in(judged())
    told = found.document()
    assert told["box"] == [28, 14, 14, 14]
    assert told["area_px"] == 196
    assert told["area_mm2"] == pytest.approx(196 * 0.25)
    assert told["peak"] == pytest.approx(3.0)  # (4 - 1) / (2 - 1)
    assert told["height_above_surroundings_mm"] == pytest.approx(-2.0)
    assert told["speaks"] is None
    json.dumps(told, allow_nan=False)


def test_without_metric_geometry_nothing_is_said_in_millimetres():
    (found,) = found_in(judged(pitch=None))
    assert (found.area_mm2, found.above_mm) == (None, pytest.approx(-2.0))
    (found,) = found_in(judged(), geometry=False)
    assert (found.area_mm2, found.above_mm) == (None, None)


@pytest.mark.parametrize(
    ("voices", "speaks"),
    [
        ({"colour": 4.0, "geometry": 1.2, "pair": 5.0}, "colour"),
        ({"colour": 1.2, "geometry": 2.1, "pair": 9.0}, "geometry"),
        ({"colour": 3.0, "geometry": 3.5, "pair": 1.0}, "geometry"),
        ({"colour": 1.9, "geometry": 1.2, "pair": 4.0}, "pair"),  # neither image is strange by itself
        ({"colour": 1.9, "geometry": 1.2}, "colour"),
        ({"colour": 1.9, "geometry": 1.2, "pair": 1.8}, "colour"),  # nobody is above its upper end: the loudest
        ({}, None),
    ],
)
def test_the_image_that_is_strange_by_itself_speaks_else_the_pair(voices, speaks):
    (found,) = found_in(judged(voices=voices))
    assert found.speaks == speaks
    assert set(found.voices) == set(voices)
    for voice, loud in voices.items():
        assert found.voices[voice] == pytest.approx(loud - 1, abs=1e-5)


def test_a_good_part_stays_quiet_and_a_loud_one_always_shows_something():
    assert found_in(judged(score=1.5, peak=2.2)) == []  # one pixel in a thousand of a good part lies above its end
    assert not found_mask(judged(score=1.5, peak=2.2), calibration()).any()
    quiet = judged(score=1.5, peak=1.9)
    assert found_in(quiet) == []
    assert not found_mask(quiet, calibration()).any()
    (found,) = found_in(replace(quiet, score=2.5))
    assert found.peak == pytest.approx(0.9)
    assert found_mask(replace(quiet, score=2.5), calibration()).any()


@pytest.fixture
def pair(world):
    folder = world.raw / "pegs" / "test" / "stain"
    return folder / "rgb" / "000.png", folder / "xyz" / "000.tiff"


def test_the_exit_code_tells_good_unsure_and_anomalous(capsys, world, pair, tmp_path):
    judge = ["infer", *pair, "--model", world.run, "--out", tmp_path / "o", "--json"]
    score = json.loads(call(capsys, *judge)[1])["score"]
    path = tmp_path / "run" / "checkpoint.json"
    path.parent.mkdir()
    for name in ("method.safetensors", "backbone.safetensors"):
        (path.parent / name).symlink_to(world.run / name)
    record = read_record(world.run)
    for low, high, code, verdict in ((0.5, 0.9, 10, "anomalous"), (0.9, 1.1, 12, "unsure"), (1.1, 1.2, 0, "good")):
        bounds = {"unsure_from": low * score, "threshold": high * score}
        changed = record.model_copy(update={"calibration": record.calibration.model_copy(update=bounds)})
        write_sealed(path, changed.model_dump(mode="json"))
        again = ["infer", *pair, "--model", path.parent, "--out", tmp_path / "o", "--exit-code", "--json"]
        told = call(capsys, *again)
        assert told[0] == code
        assert json.loads(told[1])["verdict"] == verdict


def test_ply_holds_the_points_of_the_sensor_with_their_scores(capsys, world, pair, tmp_path):
    code, out, _ = call(capsys, "infer", *pair, "--model", world.run, "--out", tmp_path / "o", "--ply", "--json")
    line = json.loads(out)
    path = Path(line["ply"])
    assert code == 0
    head, _, body = path.read_bytes().partition(b"end_header\n")
    assert b"property float scalar_score" in head
    rows = np.frombuffer(body, [("xyz", "<f4", 3), ("rgb", "u1", 3), ("score", "<f4")])
    xyz = read_file(pair[1], "xyz")
    scores, about = files.read_map(Path(line["map"]))
    there = np.isfinite(xyz).all(axis=2) & (xyz[..., 2] > 0) & ~np.isnan(scores)
    assert len(rows) == np.count_nonzero(there)
    assert np.abs(rows["xyz"] - xyz[there]).max() < 1e-6
    assert (rows["rgb"] == files.read_rgb(Path(line["heatmap"]))[there]).all()
    units = (scores[there] - about["low"]) / (about["high"] - about["low"])
    assert np.abs(rows["score"] - units).max() < 1e-4


def test_pictures_have_the_size_of_the_photo_and_the_mask_that_of_the_regions(capsys, world, pair, tmp_path):
    arguments = ["infer", *pair, "--model", world.run, "--out", tmp_path / "o", "--threshold", 0, "--json"]
    line = json.loads(call(capsys, *arguments)[1])
    assert line["verdict"] == "anomalous"
    assert files.read_rgb(Path(line["relief"])).shape == files.read_rgb(pair[0]).shape
    mask = files.read_mask(Path(line["mask"]))
    assert mask.sum() == sum(region["area_px"] for region in line["regions"])
    x, y, width, height = line["regions"][0]["box"]
    assert mask[y : y + height, x : x + width].any()
    assert line["regions"][0]["area_mm2"] > 0
