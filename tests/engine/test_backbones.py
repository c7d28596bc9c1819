import json
import shutil

import pytest
import safetensors.torch
import torch

from uipad_cli import config
from uipad_cli.core.backbone import build_encoder, group_means
from uipad_cli.engine import backbones
from uipad_cli.engine.backbones import compare
from uipad_cli.engine.evaluate import evaluate
from uipad_cli.engine.train import train
from uipad_cli.errors import DataError, UsageError, WeightsError

SETTINGS = ["framing.resize=112", "framing.crop=112", "precision=fp32", "batch=4"]
KINDS = ("both", "rgb", "geometry")


def settings(*more):
    return config.merge([], [*SETTINGS, *more])


@pytest.fixture(scope="module")
def table(world, tmp_path_factory):
    out = tmp_path_factory.mktemp("table")
    return compare(world.prepared, settings(), backbones=["gabor", "tiny-random"], out=out), out


def test_every_backbone_has_three_rows_with_figures(table):
    rows = table[0].measured
    assert [(row.backbone, row.modalities) for row in rows] == [
        (name, kind) for name in ("gabor", "tiny-random") for kind in KINDS
    ]
    for row in rows:
        assert row.category == "pegs"
        assert 0 <= row.interval[0] <= row.image_auroc <= row.interval[1] <= 1
        assert 0 <= row.pixel_auroc <= 1
        assert 0 <= row.aupro_30 <= 1
        assert (row.seconds is not None) == (row.modalities == "both")


def test_the_files_hold_the_table(table):
    told = json.loads((table[1] / "table.json").read_text())
    assert told == json.loads(json.dumps(table[0].document()))
    assert told["backbones"]["gabor"]["source"] == "hand-made"
    assert "untrained" in told["backbones"]["tiny-random"]["source"]
    page = (table[1] / "table.md").read_text()
    assert page.count("| pegs |") == 6
    assert "- gabor: hand-made" in page


@pytest.mark.parametrize("kind", KINDS)
def test_the_figures_are_those_of_train_and_eval(world, table, tmp_path, kind):
    chosen = settings("method=patchcore", "backbone=gabor", f"options.modalities={kind}")
    train(world.prepared, tmp_path / "run", category="pegs", configuration=chosen)
    (result,) = evaluate(tmp_path / "run", world.prepared, precision="fp32")
    row = next(row for row in table[0].measured if (row.backbone, row.modalities) == ("gabor", kind))
    for name in ("image_auroc", "pixel_auroc", "aupro_30"):
        assert getattr(row, name) == result.metrics[name]


def test_each_image_is_encoded_once():
    encoder = build_encoder("tiny", 56)
    remembering = backbones._Remembering(encoder)
    images = torch.rand(4, 3, 56, 56)
    first = remembering.group_means(images, 2)
    assert torch.equal(first, group_means(encoder(images), 2))
    assert torch.equal(remembering.group_means(images.flip(0), 2), first.flip(0))
    assert len(remembering.seconds) == 1
    remembering.group_means(torch.cat([images[:1], torch.rand(1, 3, 56, 56)]), 2)
    assert len(remembering.seconds) == 2
    assert len(remembering.known) == 5
    assert (remembering.width, remembering.grid) == (encoder.width, encoder.grid)


def test_a_file_of_weights_is_one_more_row(world, tmp_path):
    state = build_encoder("tiny-random", 112).vit.state_dict()
    safetensors.torch.save_file({key: value.clone() for key, value in state.items()}, tmp_path / "mine.safetensors")
    found = compare(world.prepared, settings(), backbones=["tiny-random"], weights=tmp_path / "mine.safetensors")
    plain, own = found.measured[:3], found.measured[3:]
    assert {row.backbone for row in own} == {"tiny + mine.safetensors"}
    assert [row.image_auroc for row in plain] == [row.image_auroc for row in own]
    assert "file" in found.document()["backbones"]["tiny + mine.safetensors"]["source"]


def test_progress_is_told_to_its_end(world):
    told = []
    compare(world.prepared, settings(), backbones=["gabor"], report=told.append)
    assert told[0].task == "pegs, gabor"
    assert [step.done for step in told] == list(range(1, told[-1].total + 1))


def without_defects(world, tmp_path):
    data = shutil.copytree(world.prepared, tmp_path / "prepared")
    manifest = json.loads((data / "manifest.json").read_text())
    pairs = manifest["categories"]["pegs"]["pairs"]
    kept = {name: pair for name, pair in pairs.items() if not name.startswith("test/") or "/good/" in name}
    manifest["categories"]["pegs"]["pairs"] = kept
    manifest["categories"]["pegs"]["counts"] = {}
    (data / "manifest.json").write_text(json.dumps(manifest))
    return data


def test_a_test_split_without_defects_leaves_the_figures_open(world, tmp_path):
    found = compare(without_defects(world, tmp_path), settings(), backbones=["gabor"], out=tmp_path / "out")
    for row in (*found.measured, *found.means()):
        assert (row.image_auroc, row.interval, row.pixel_auroc, row.aupro_30) == (None, None, None, None)
    assert "–" in (tmp_path / "out" / "table.md").read_text()


def test_the_mean_is_the_plain_mean_of_the_categories(world, tmp_path):
    data = shutil.copytree(world.prepared, tmp_path / "prepared")
    shutil.copytree(data / "pegs", data / "others")
    manifest = json.loads((data / "manifest.json").read_text())
    manifest["categories"]["others"] = manifest["categories"]["pegs"]
    (data / "manifest.json").write_text(json.dumps(manifest))
    found = compare(data, settings(), backbones=["gabor"])
    assert [row.category for row in found.measured] == ["pegs"] * 3 + ["others"] * 3
    for mean, row in zip(found.means(), found.measured[:3], strict=True):
        assert mean.aupro_30 == pytest.approx(row.aupro_30)
        assert mean.category == "mean"
    assert len(found.rows()[1]) == 9


@pytest.mark.parametrize(
    ("wrong", "error", "told"),
    [
        ({"backbones": ["gabor", "dinov2-bse"]}, UsageError, "dinov2-bse"),
        ({"categories": ["pgs"]}, DataError, "did you mean 'pegs'"),
        ({"weights": "gone.safetensors"}, WeightsError, "gone"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_encoded(world, tmp_path, wrong, error, told):
    if "weights" in wrong:
        wrong = {"weights": tmp_path / wrong["weights"]}
    with pytest.raises(error, match=told):
        compare(world.prepared, settings(), report=lambda step: pytest.fail("encoded"), **wrong)


@pytest.mark.parametrize("setting", ["method=uipad", "backbone=tiny", "options.modalities=rgb", "shots=2"])
def test_what_the_table_varies_cannot_be_set(world, setting):
    with pytest.raises(UsageError, match="not free in this table"):
        compare(world.prepared, settings(setting))


def test_an_unknown_option_is_named(world):
    with pytest.raises(UsageError, match=r"options\.coresett"):
        compare(world.prepared, settings("options.coresett=0.2"))
