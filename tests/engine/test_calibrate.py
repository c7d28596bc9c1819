import json
import shutil

import numpy as np
import pytest
from program import call
from records import change_record

from uipad_cli import config
from uipad_cli.engine.calibrate import Request, calibrate
from uipad_cli.engine.record import read_record
from uipad_cli.engine.train import train
from uipad_cli.errors import DataError, UsageError
from uipad_cli.metrics.calibrate import bounds_from_good


@pytest.fixture
def run(world, tmp_path):
    return shutil.copytree(world.run, tmp_path / "run")


def test_train_keeps_the_scores_and_draws_its_bounds_from_them(world):
    kept = read_record(world.run).calibration
    assert len(kept.scores) == 3
    assert list(kept.scores) == sorted(kept.scores)
    assert {name: getattr(kept, name) for name in vars(bounds_from_good(kept.scores))} == vars(
        bounds_from_good(kept.scores)
    )
    assert kept.threshold == kept.scores[-1]
    assert set(kept.voices) == {"colour", "geometry", "pair"}
    assert all(low < high for low, high in kept.voices.values())


def test_too_few_parts_say_how_many_are_needed_and_what_they_promise(capsys, run):
    code, out, err = call(capsys, "calibrate", run, "--fpr", 0.01, "--json")
    assert code == 0
    (told,) = json.loads(out)["runs"]
    assert told["promised"] is False
    assert told["rate_bound"] is None
    assert told["threshold"] > max(told["scores"]) == told["unsure_from"]
    for words in ("3 good parts cannot promise", "takes 99", "0.25"):
        assert words in err.replace("\n", " ")
    assert read_record(run).calibration.threshold == told["threshold"]


def test_a_rate_that_is_promised_says_what_it_promises(capsys, run):
    code, out, err = call(capsys, "calibrate", run, "--fpr", 0.3, "--unsure", 0.6, "--json")
    (told,) = json.loads(out)["runs"]
    assert (code, told["promised"], told["rate"], told["unsure_rate"]) == (0, True, 0.3, 0.6)
    assert told["threshold"] == told["scores"][-1]
    assert told["unsure_from"] == told["scores"][1]
    assert "promised" in err
    assert "nothing is promised of how many defects" in err.replace("\n", " ")
    missing = read_record(run).missing
    assert {one.rate for one in missing.values()} == {0.3}


def test_other_good_parts_give_their_own_scores(world, run, tmp_path):
    """A plain folder of good pairs: no labels, no splits; the pairs of training are never among them."""
    for kind in ("rgb", "xyz"):
        shutil.copytree(world.raw / "pegs" / "test" / "good" / kind, tmp_path / "good" / kind)
    before = read_record(run).calibration
    (done,) = calibrate(Request(run, tmp_path / "good"))
    assert done.calibration.scores != before.scores
    assert len(done.calibration.scores) == 3
    assert "taken to be good" in done.notes[0]
    assert read_record(run).calibration == done.calibration
    (again,) = calibrate(Request(run, world.raw))  # its validation split
    assert again.calibration == before
    assert again.notes == []


def test_a_threshold_of_ones_own_has_no_band_and_no_promise(capsys, run):
    assert call(capsys, "calibrate", run, "--threshold", 1.5)[0] == 0
    kept = read_record(run).calibration
    assert (kept.threshold, kept.unsure_from, kept.rule, kept.rate) == (1.5, 1.5, "given", None)
    assert [kept.verdict(score) for score in (1.4, 1.5, 1.6)] == ["good", "good", "anomalous"]
    assert call(capsys, "calibrate", run)[0] == 0  # back to what the good parts say
    assert read_record(run).calibration.rule == "good parts"


@pytest.mark.parametrize(
    "arguments", [["--f1"], ["--cost-miss", "10", "--cost-false-alarm", "1"], ["--cost-miss", "10"]]
)
def test_labelled_parts_give_the_threshold_of_least_loss(capsys, world, run, arguments):
    code, out, err = call(capsys, "calibrate", run, world.prepared, *arguments, "--json")
    (told,) = json.loads(out)["runs"]
    assert code == 0
    assert told["rule"] == ("f1" if "--f1" in arguments else "cost")
    assert told["unsure_from"] <= told["threshold"]
    assert "misses" in err
    assert "will look better than on others" in err.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--threshold", "1", "--fpr", "0.1"], "different ways"),
        (["--f1", "--cost-miss", "2"], "different ways"),
        (["--f1"], "needs labelled parts"),
        (["--threshold", "nan"], "finite"),
        (["--fpr", "0"], "must lie above 0"),
        (["--fpr", "2"], "below 1"),
        (["--fpr", "0.3", "--unsure", "0.1"], "not above the chance"),
        (["--unsure", "1.5"], "1 at most"),
    ],
)
def test_what_excludes_each_other_is_refused_and_leaves_the_run_alone(capsys, run, arguments, told):
    before = (run / "checkpoint.json").read_bytes()
    code, out, err = call(capsys, "calibrate", run, *arguments)
    assert (code, out) == (2, "")
    assert told in err.replace("\n", " ")
    assert (run / "checkpoint.json").read_bytes() == before


def test_costs_that_make_no_sense_are_refused(world, run):
    with pytest.raises(UsageError, match="costs"):
        calibrate(Request(run, world.prepared, cost_miss=0.0, cost_false_alarm=0.0))


def test_data_without_good_parts_or_labels_is_refused(world, run, tmp_path):
    raw = shutil.copytree(world.raw, tmp_path / "raw")
    shutil.rmtree(raw / "pegs" / "validation")
    shutil.rmtree(raw / "pegs" / "test" / "good")
    with pytest.raises(DataError, match="no good parts"):
        calibrate(Request(run, raw))
    with pytest.raises(DataError, match="needs both"):
        calibrate(Request(run, raw, f1=True))


def without_validation(world, folder):
    manifest = json.loads((world.prepared / "manifest.json").read_text())
    pairs = manifest["categories"]["pegs"]["pairs"]
    manifest["categories"]["pegs"]["pairs"] = {name: pair for name, pair in pairs.items() if name.startswith("train/")}
    folder.mkdir()
    (folder / "pegs").symlink_to(world.prepared / "pegs")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_without_a_validation_split_some_parts_are_set_aside(world, tmp_path, quick):
    data = without_validation(world, tmp_path / "prepared")
    record = train(data, tmp_path / "run", category="pegs", configuration=config.merge([], quick)).record
    assert record.training["pairs"] == 5
    assert len(record.calibration.scores) == 1
    assert record.calibration.source == "set aside from training"
    few = config.merge([], quick, {"shots": 2})
    record = train(data, tmp_path / "few", category="pegs", configuration=few).record
    assert (record.training["pairs"], len(record.calibration.scores)) == (2, 4)


def test_so_few_parts_that_none_can_be_spared_say_so(world, tmp_path, quick):
    data = without_validation(world, tmp_path / "prepared")
    manifest = json.loads((data / "manifest.json").read_text())
    pairs = manifest["categories"]["pegs"]["pairs"]
    manifest["categories"]["pegs"]["pairs"] = dict(list(pairs.items())[:3])
    (data / "manifest.json").write_text(json.dumps(manifest))
    record = train(data, tmp_path / "run", category="pegs", configuration=config.merge([], quick)).record
    assert (record.training["pairs"], len(record.calibration.scores)) == (3, 3)
    kept = record.calibration
    assert (kept.learned_from, kept.promised, kept.rate_bound) == (True, False, None)
    told = " ".join(kept.sentences())
    assert "nothing is promised" in told
    assert "with a chance of at most" not in told
    assert "were learned from" in told
    assert not kept.bounded(0.3, 0.6).promised


def test_every_verdict_has_a_p_value_of_the_kept_scores(world):
    kept = read_record(world.run).calibration
    assert kept.p_value(kept.scores[-1] + 1) == 1 / 4
    assert kept.p_value(kept.scores[0] - 1) == 1
    assert [kept.excess(value) for value in (kept.map_low, kept.map_high)] == [0, 1]
    assert np.isfinite(kept.excess(-5.0))


def test_the_mixture_of_several_categories_is_told(world, tmp_path, capsys):
    kept = read_record(world.run).calibration
    assert "over all categories together" not in " ".join(kept.sentences())
    assert "over all categories together" in " ".join(kept.model_copy(update={"mixture": True}).sentences())


def test_several_runs_are_all_calibrated_or_none(world, tmp_path, capsys):
    for name in ("a", "b"):
        shutil.copytree(world.run, tmp_path / "runs" / name)
    change_record(
        tmp_path / "runs" / "b" / "checkpoint.json",
        lambda record: record["calibration"].update(scores=record["calibration"]["scores"][:1]),
    )  # too few for an assumption
    before = (tmp_path / "runs" / "a" / "checkpoint.json").read_bytes()
    assert call(capsys, "calibrate", tmp_path / "runs", "--fpr", 0.01)[0] == 2
    assert (tmp_path / "runs" / "a" / "checkpoint.json").read_bytes() == before
    assert call(capsys, "calibrate", tmp_path / "runs", "--fpr", 0.6)[0] == 0
    assert read_record(tmp_path / "runs" / "b").calibration.rate == 0.6


def test_what_a_threshold_of_ones_own_does_not_change_is_told(capsys, run):
    before = read_record(run).missing
    assert "miss a file are as before" in call(capsys, "calibrate", run, "--threshold", 1.5)[2].replace("\n", " ")
    assert read_record(run).missing == before


def test_a_threshold_of_nothing_still_draws_its_sheets(capsys, world, run, tmp_path):
    call(capsys, "calibrate", run, "--threshold", 0)
    assert call(capsys, "eval", run, world.prepared, "--out", tmp_path / "e", "--report")[0] == 0


def test_labelled_scores_keep_their_precision(world, run):
    (done,) = calibrate(Request(run, world.prepared, f1=True, precision="bf16"))
    assert done.calibration.precision == "bf16"
