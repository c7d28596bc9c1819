import json
import os
import signal
import subprocess
import sys
import time

import pytest
import safetensors.torch

from uipad_cli import config
from uipad_cli.engine.checkpoint import load_run
from uipad_cli.engine.judging import judge, split_pairs
from uipad_cli.engine.record import read_record
from uipad_cli.engine.runtime import choose_compute
from uipad_cli.engine.train import RUN_FILE, train
from uipad_cli.errors import DataError, UipadError, UsageError
from uipad_cli.methods.base import CollapseError
from uipad_cli.records import Progress, silent


def run(world, out, settings, **options):
    return train(world.prepared, out, category="pegs", configuration=config.merge([], settings), **options)


def stop_at(step):
    def report(progress: Progress):
        if progress.task == "train" and progress.done == step:
            os.kill(os.getpid(), signal.SIGINT)

    return report


def test_a_finished_run_explains_itself(world):
    record = read_record(world.run)
    assert record.category == "pegs"
    assert record.config.options["blocks"] == 2
    assert record.config.options["temperature"] == 0.1  # defaults are written out
    assert record.backbone_source.startswith("embedded sha256:")
    assert record.calibration.samples == 3
    assert record.calibration.source == "validation"
    assert record.calibration.threshold > 0
    assert set(record.versions) == {"uipad", "python", "torch", "timm", "numpy"}
    assert {path.name for path in world.run.iterdir() if path.is_file()} == {
        "checkpoint.json", "method.safetensors", "backbone.safetensors", "calibration.safetensors", "log.jsonl",
    }  # fmt: skip
    log = [json.loads(line) for line in (world.run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == list(range(1, 13))
    assert {"loss", "effective_prototypes", "fused_spread", "prototype_cosine"} <= set(log[0])


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(world, tmp_path, quick):
    run(world, tmp_path / "again", quick)
    run(world, tmp_path / "other", [*quick, "seed=1"])
    weights = [
        (folder / "method.safetensors").read_bytes() for folder in (world.run, tmp_path / "again", tmp_path / "other")
    ]
    assert weights[0] == weights[1] != weights[2]


def test_the_geometry_image_can_be_chosen(world, tmp_path, quick):
    chosen = run(world, tmp_path / "height", [*quick, "geometry=height"]).record
    usual = read_record(world.run)
    assert (usual.config.geometry, chosen.config.geometry) == ("relief", "height")
    assert chosen.sha256["method.safetensors"] != usual.sha256["method.safetensors"]
    assert chosen.calibration.threshold != usual.calibration.threshold
    with pytest.raises(UsageError, match=r"geometry = 'depth'.*'relief', 'normals' or 'height'"):
        run(world, tmp_path / "depth", [*quick, "geometry=depth"])
    assert not (tmp_path / "depth").exists()


def test_good_patches_are_remembered_as_precisely_as_they_are_judged(world, tmp_path, quick):
    kept = [line for line in quick if not line.startswith(("options.", "precision="))]
    usual = run(world, tmp_path / "usual", [*kept, "method=patchcore", "options.sample=100"])
    exact = run(world, tmp_path / "exact", [*kept, "method=patchcore", "options.sample=100", "precision=fp32"])
    assert usual.record.sha256["method.safetensors"] == exact.record.sha256["method.safetensors"]
    assert usual.record.calibration.threshold == exact.record.calibration.threshold


def test_an_interrupted_run_resumes_to_the_same_bytes(world, tmp_path, quick):
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(world, out, quick, report=stop_at(5))
    assert int(safetensors.torch.load_file(out / "training.safetensors")["step"]) == 5
    assert not (out / "checkpoint.json").exists()
    summary = run(world, out, quick)
    assert summary.record.training["steps"] == 12
    assert (out / "method.safetensors").read_bytes() == (world.run / "method.safetensors").read_bytes()
    assert (out / "log.jsonl").read_text() == (world.run / "log.jsonl").read_text()
    assert not (out / "training.safetensors").exists()


def test_sigterm_saves_and_exits_143(world, tmp_path, quick):
    out = tmp_path / "run"
    settings = [*quick, "options.training.steps=2000"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    command = [
        sys.executable,
        "-m",
        "uipad_cli",
        "train",
        world.prepared,
        "--category",
        "pegs",
        "--out",
        out,
        *arguments,
    ]
    process = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True)
    log = out / "log.jsonl"
    while process.poll() is None and not (log.exists() and log.stat().st_size > 0):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    told = process.communicate()[1]
    assert process.returncode == 143, told
    assert "the same command goes on" in told
    assert "Traceback" not in told
    assert int(safetensors.torch.load_file(out / "training.safetensors")["step"]) >= 1


def test_a_stop_after_the_last_step_loses_nothing(world, tmp_path, quick):
    out = tmp_path / "run"

    def stop_at_calibration(progress: Progress):
        if progress.task == "calibrate":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(world, out, quick, report=stop_at_calibration)
    assert int(safetensors.torch.load_file(out / "training.safetensors")["step"]) == 12
    summary = run(world, out, quick)
    assert summary.record.training == read_record(world.run).training
    assert (out / "method.safetensors").read_bytes() == (world.run / "method.safetensors").read_bytes()


@pytest.mark.parametrize("wrong", ["device=cuda:99", "backbone=dinov2-small"])
def test_a_start_that_fails_leaves_the_folder_free(world, tmp_path, quick, wrong, monkeypatch):
    monkeypatch.setattr("uipad_cli.engine.weights.cached_weights", lambda repository: None)
    monkeypatch.setattr("uipad_cli.engine.weights.hub_answers", lambda: False)
    with pytest.raises(UipadError):
        run(world, tmp_path / "run", [*quick, wrong])
    assert not (tmp_path / "run").exists()


def test_a_finished_folder_is_not_overwritten(world, quick):
    before = (world.run / "checkpoint.json").read_bytes()
    said = []
    assert run(world, world.run, quick, report=said.append).record.category == "pegs"
    assert [one.note for one in said] == [f"note: {world.run} holds this run already, finished; nothing is done"]
    with pytest.raises(UsageError, match="seed was 0, is 7"):
        run(world, world.run, [*quick, "seed=7"])
    assert (world.run / "checkpoint.json").read_bytes() == before


def test_an_unfinished_folder_asks_for_the_same_settings(world, tmp_path, quick):
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(world, out, quick, report=stop_at(2))
    with pytest.raises(
        UsageError, match=r"an unfinished run with other settings: config\.options\.prototypes was 12, is 6"
    ):
        run(world, out, [*quick, "options.prototypes=6"])
    said = []
    run(world, out, quick, report=said.append)
    assert "which goes on after step 2" in said[0].note


def test_a_collapsed_run_leaves_a_folder_that_can_be_used_again(world, tmp_path, quick):
    literal = [
        "fusion=mlp", "target=prototypes", "comparison=single", "assignment=hard", "coherence_weight=0",
        "features=plain", "query=own", "distance=cosine", "score=cosine", "dropout=0",
    ]  # fmt: skip
    settings = [*quick, *(f"options.{one}" for one in literal), "options.training.steps=200"]
    with pytest.raises(CollapseError):
        run(world, tmp_path / "run", settings)
    assert not (tmp_path / "run" / RUN_FILE).exists()
    assert (tmp_path / "run" / "log.jsonl").exists()
    run(world, tmp_path / "run", quick)


@pytest.mark.parametrize(
    ("category", "error", "told"), [("pgs", DataError, "pegs"), ("", DataError, "pegs"), ("bagel", DataError, "pegs")]
)
def test_an_unknown_category_names_those_there_are(world, tmp_path, quick, category, error, told):
    with pytest.raises(error) as caught:
        train(world.prepared, tmp_path / "run", category=category, configuration=config.merge([], quick))
    assert told in f"{caught.value.message} {caught.value.cure}"
    assert not (tmp_path / "run").exists()


def test_raw_data_is_sent_to_prepare(world, tmp_path, quick):
    with pytest.raises(DataError) as caught:
        train(world.raw, tmp_path / "run", category="pegs", configuration=config.merge([], quick))
    assert "uipad prepare" in caught.value.cure


@pytest.mark.parametrize("setting", ["optoins.blocks=2", "options.blcks=2", "options.training.epoch=3", "method=uiapd"])
def test_unknown_settings_are_named_before_any_work(world, tmp_path, quick, setting):
    with pytest.raises(UsageError):
        run(world, tmp_path / "run", [*quick, setting])
    assert not (tmp_path / "run").exists()


def test_a_threshold_in_bf16_comes_from_the_very_scores_that_infer_will_give(world, tmp_path, quick):
    made = run(world, tmp_path / "half", [*[line for line in quick if "precision" not in line], "precision=bf16"])
    _, method = load_run(made.folder, choose_compute("cpu", "bf16", "score"))
    kept = split_pairs(made.record, world.prepared, "validation")
    scores = sorted(one.score for one in judge(method, kept, silent))
    assert made.record.calibration.precision == "bf16"
    assert list(made.record.calibration.scores) == scores
