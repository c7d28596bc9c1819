"""Comparison, drift and measurements as scripts call them."""

import json

from program import call


def test_compare_says_of_one_run_and_itself_that_they_are_level(capsys, world, tmp_path):
    code, out, err = call(capsys, "compare", world.run, world.run, world.prepared, "--out", tmp_path, "--json")
    told = json.loads(out)
    assert code == 0
    assert told == json.loads((tmp_path / "comparison.json").read_text())
    assert "level" in err
    code, out, _ = call(capsys, "compare", world.run, tmp_path / "nowhere", world.prepared)
    assert (code, out) == (4, "")


def test_drift_writes_a_page_and_its_exit_code_is_asked_for(capsys, world, tmp_path):
    arguments = ["drift", world.run, world.raw, "--out", tmp_path / "d", "--alpha", 0.05]
    code, out, err = call(capsys, *arguments, "--json")
    told = json.loads(out)
    assert code == 0
    assert (tmp_path / "d" / "drift.html").is_file()
    assert told == json.loads((tmp_path / "d" / "drift.json").read_text())
    wanted = 0 if told["verdict"] in ("steady", "too few parts to tell") else 11
    assert call(capsys, *arguments, "--exit-code")[:2] == (wanted, "")
    assert told["verdict"].split(":")[0] in err


def test_bench_measures_a_run_and_writes_what_it_says(capsys, world, tmp_path):
    arguments = ["bench", world.run, "--data", world.prepared, "--seconds", 0.01, "--batch", 1, "--precision", "fp32"]
    code, out, err = call(capsys, *arguments, "--out", tmp_path, "--json")
    told = json.loads(out)
    assert code == 0
    assert told == json.loads((tmp_path / "bench.json").read_text())
    assert told["run"] == str(world.run)
    assert "files to verdict" in err
    assert "torch" in err
    code, out, err = call(capsys, *arguments, "--method", "patchcore")
    assert (code, out) == (2, "")
    assert "the run has its own method" in err
