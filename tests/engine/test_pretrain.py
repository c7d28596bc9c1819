import json
import os
import signal

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch

from uipad_cli.data import files
from uipad_cli.data.procedural import photos
from uipad_cli.data.procedural.sensors import surface_image
from uipad_cli.engine import pretrain
from uipad_cli.engine.pretrain import PretrainConfig
from uipad_cli.engine.record import file_hash
from uipad_cli.engine.weights import load_encoder
from uipad_cli.errors import DataError, UsageError
from uipad_cli.records import Progress

CONFIG = PretrainConfig(steps=4, device="cpu", precision="fp32")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(pretrain, "LESSONS", ((56, 4, 0.5), (84, 3, 0.5)))
    monkeypatch.setattr(pretrain, "EXAM_PAIRS", 4)
    monkeypatch.setattr(pretrain, "EXAM_EDGE", 56)
    monkeypatch.setattr(pretrain, "EXAM_EVERY", 2)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for place in range(3):
        (root / f"part{place}").mkdir()
        files.write_png(root / f"part{place}" / "photo.png", generator.integers(0, 256, (70, 90, 3), np.uint8))
    (root / "notes.txt").write_text("not a picture")
    return root


def test_it_writes_weights_that_train_takes_a_card_a_curve_and_a_picture(tmp_path):
    out = tmp_path / "out"
    summary = pretrain.pretrain(out, config=CONFIG)
    assert {path.name for path in out.iterdir()} == {
        "tiny.safetensors", "tiny.json", "curve.png", "views.png", "log.jsonl"
    }  # fmt: skip
    card = json.loads((out / "tiny.json").read_text())
    assert card == summary.card
    assert card["sha256"] == file_hash(out / "tiny.safetensors")
    assert card["command"] == "uipad pretrain out --steps 4 --seed 0"
    assert 0 <= card["exam_auroc"] <= 1
    assert {value.dtype for value in safetensors.torch.load_file(out / "tiny.safetensors").values()} == {torch.float16}
    encoder = load_encoder("tiny", out / "tiny.safetensors", 112).encoder
    assert encoder(torch.rand(1, 3, 112, 112)).isfinite().all()
    assert cv2.imread(str(out / "curve.png")).std() > 1
    assert cv2.imread(str(out / "views.png")).std() > 10
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert [line["step"] for line in lines if "exam_auroc" in line] == [2, 4]
    assert "--weights" in summary.sentence()


def stop_after(step):
    """A way to report that a Ctrl-C after this step has been wished for: it is saved, then obeyed."""

    def report(progress: Progress):
        if progress.done == step and progress.training_state is not None:
            os.kill(os.getpid(), signal.SIGINT)

    return report


def test_a_stopped_run_resumes_to_the_same_bytes_and_a_finished_one_is_left_alone(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    pretrain.pretrain(whole, config=CONFIG)
    with pytest.raises(KeyboardInterrupt):
        pretrain.pretrain(broken, config=CONFIG, report=stop_after(2))
    with pytest.raises(UsageError, match="other settings"):
        pretrain.pretrain(broken, config=CONFIG.model_copy(update={"seed": 3}))
    pretrain.pretrain(broken, config=CONFIG)
    assert (broken / "tiny.safetensors").read_bytes() == (whole / "tiny.safetensors").read_bytes()
    assert (broken / "log.jsonl").read_text() == (whole / "log.jsonl").read_text()
    said = []
    assert pretrain.pretrain(whole, config=CONFIG, report=said.append).card["steps"] == 4
    assert "holds this backbone already" in said[0].note
    with pytest.raises(UsageError, match="other settings"):
        pretrain.pretrain(whole, config=CONFIG.model_copy(update={"seed": 3}))


def test_it_learns_to_tell_flaws_on_a_few_scenes(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "LESSONS", ((84, 4, 1.0),))
    config = CONFIG.model_copy(update={"steps": 30})
    pretrain.pretrain(tmp_path / "out", config=config)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:5])


def test_images_of_ones_own(tmp_path, pictures):
    summary = pretrain.pretrain(tmp_path / "out", config=CONFIG, images=pictures)
    assert "3 images" in summary.card["data"]
    assert summary.card["command"].endswith("--images DIR")


def test_pairs_of_ones_own_show_colour_and_geometry(world):
    found = photos.find_photos(world.prepared)
    assert len(found) == 9  # good parts of train and validation
    generator = torch.Generator().manual_seed(0)
    many = [found.views(generator, 2, 56) for _ in range(8)]
    for views in many:
        assert views.images.shape == (2, 2, 3, 56, 56)
        assert views.images.isfinite().all()
    scans = [torch.equal(views.images[0], surface_image(views.images[0, :, 2], "relief")) for views in many]
    assert any(scans)
    assert not all(scans)
    assert any(views.flawed.any() for views in many)


def test_views_of_photos_differ_only_where_they_are_marked(pictures):
    found = photos.find_photos(pictures)
    views = found.views(torch.Generator().manual_seed(1), 8, 56)
    again = found.views(torch.Generator().manual_seed(1), 8, 56)
    assert torch.equal(views.images, again.images)
    assert 0 < views.flawed.mean() < 0.5


def test_a_folder_without_images_is_named(tmp_path):
    for missing in (tmp_path, tmp_path / "no"):
        with pytest.raises(DataError) as caught:
            pretrain.pretrain(tmp_path / "out", config=CONFIG, images=missing)
        assert str(missing) in caught.value.message
    assert not (tmp_path / "out").exists()


def test_a_broken_image_is_named(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"bad\.png"):
        pretrain.pretrain(tmp_path / "out", config=CONFIG, images=tmp_path)
