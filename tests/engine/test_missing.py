"""One file of a pair is missing: it is not opened, the verdict says so, and the threshold is another."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from uipad_cli import config
from uipad_cli.data import mvtec3d, prepared
from uipad_cli.data.geometry import Preparation
from uipad_cli.data.samples import load_half, load_sample
from uipad_cli.engine import infer
from uipad_cli.engine.evaluate import evaluate
from uipad_cli.engine.inspector import Settings
from uipad_cli.engine.record import read_record
from uipad_cli.engine.train import train
from uipad_cli.errors import DataError, UsageError


def judge(world, given, missing, out, **settings):
    heard = []
    request = infer.Request(given, None, Settings(world.run, out, missing=missing, **settings))
    infer.infer(request, tell=heard.append)
    return heard


@pytest.fixture
def pair(world):
    item = mvtec3d.scan(world.raw, "pegs", "test")[0]
    return {"rgb": item.rgb, "depth": item.geometry}


@pytest.mark.parametrize(("missing", "there"), [("depth", "rgb"), ("rgb", "depth")])
def test_one_file_is_enough(world, tmp_path, pair, missing, there):
    (verdict,) = judge(world, pair[there], missing, tmp_path)
    record = read_record(world.run)
    assert verdict["missing"] == missing
    assert verdict[missing] is None
    assert verdict[there] == str(pair[there])
    assert verdict["threshold"] == record.missing[missing].threshold != record.calibration.threshold
    assert verdict["score"] > 0


def test_a_folder_is_judged_without_opening_what_is_missing(world, tmp_path):
    whole = judge(world, world.raw, "depth", tmp_path / "a")
    shutil.copytree(world.raw, tmp_path / "raw")
    for path in (tmp_path / "raw").rglob("*.tiff"):
        path.write_bytes(b"not a picture")
    spoiled = judge(world, tmp_path / "raw", "depth", tmp_path / "b")
    assert [one["score"] for one in spoiled] == [one["score"] for one in whole]
    assert len(whole) == 18
    items = mvtec3d.scan(world.raw, "pegs", "test")
    lone = judge(world, items[0].rgb.parent, "depth", tmp_path / "c")
    assert lone[0]["score"] == next(one["score"] for one in whole if one["rgb"] == lone[0]["rgb"])
    surfaces = judge(world, items[0].geometry.parent, "rgb", tmp_path / "d")
    assert [one["rgb"] for one in surfaces] == [None] * len(surfaces)
    half = load_half(replace(items[0], geometry=tmp_path / "nowhere.tiff"), Preparation(), "rgb")
    assert np.array_equal(half.rgb, load_sample(items[0], Preparation()).rgb)
    assert half.valid.all()
    surface = load_half(replace(items[0], rgb=tmp_path / "nowhere.png"), Preparation(), "geometry")
    assert np.array_equal(surface.height, load_sample(items[0], Preparation()).height)


def test_prepared_and_raw_halves_are_the_same(world):
    raw, ready = mvtec3d.scan(world.raw, "pegs", "test")[0], prepared.scan(world.prepared, "pegs", "test")[0]
    assert raw.name == ready.name
    one, other = (load_half(item, Preparation(), "geometry") for item in (raw, ready))
    assert np.array_equal(one.height, other.height)
    assert np.array_equal(one.valid, other.valid)


def test_figures_without_a_modality_have_their_own_folder_and_threshold(world):
    (result,) = evaluate(world.run, world.prepared, missing="depth")
    assert result.record.calibration == read_record(world.run).missing["depth"]
    figures = json.loads((world.run / "eval-without-depth" / "metrics.json").read_text())
    assert figures["categories"]["pegs"]["threshold"] == result.record.calibration.threshold


def test_both_files_and_a_missing_one_are_a_contradiction(world, tmp_path, pair):
    request = infer.Request(pair["rgb"], pair["depth"], Settings(world.run, tmp_path, missing="depth"))
    with pytest.raises(UsageError, match="both files are given"):
        infer.infer(request, tell=print)
    with pytest.raises(DataError, match="no such file"):
        judge(world, tmp_path / "nowhere.png", "depth", tmp_path)


def test_a_run_that_never_did_without_says_so(world, tmp_path, quick, pair):
    settings = [*quick, "options.dropout=0", "options.training.steps=4"]
    train(world.prepared, tmp_path / "run", category="pegs", configuration=config.merge([], settings))
    request = infer.Request(pair["rgb"], None, Settings(tmp_path / "run", tmp_path, missing="depth"))
    with pytest.raises(UsageError, match="cannot judge without depth") as caught:
        infer.infer(request, tell=print)
    assert "dropout" in caught.value.cure
