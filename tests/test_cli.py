"""The program as scripts see it: streams, exit codes, and one clear error for every kind of bad input."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from program import call

from uipad_cli.cli import main
from uipad_cli.data import files, scenes
from uipad_cli.data.scans import read_file


@pytest.fixture
def pair(world):
    """A good test pair: colour and organised points."""
    folder = world.raw / "pegs" / "test" / "good"
    return folder / "rgb" / "000.png", folder / "xyz" / "000.tiff"


def test_infer_json_is_one_line_with_every_field_and_files_that_exist(capsys, world, pair, tmp_path):
    code, out, _ = call(capsys, "infer", *pair, "--model", world.run, "--out", tmp_path / "o", "--json")
    verdict = json.loads(out)
    assert code == 0
    assert out.count("\n") == 1
    assert set(verdict) == {
        "rgb", "depth", "score", "p_value", "threshold", "unsure_from", "verdict", "regions", "map", "heatmap",
        "relief", "mask", "timing",
    }  # fmt: skip
    above = [verdict["score"] > verdict[name] for name in ("threshold", "unsure_from")]
    assert verdict["verdict"] == ("anomalous" if above[0] else "unsure" if above[1] else "good")
    assert set(verdict["timing"]) == {"read", "score", "write"}
    assert all(Path(verdict[name]).is_file() for name in ("map", "heatmap", "relief", "mask"))
    scores, about = files.read_map(Path(verdict["map"]))
    assert scores.shape == (112, 112)
    assert about["score"] == verdict["score"]
    assert files.read_rgb(Path(verdict["heatmap"])).shape == (112, 112, 3)


@pytest.mark.parametrize(("place", "missing"), [(0, "depth"), (1, "rgb")])
def test_people_are_told_which_file_was_missing(capsys, world, pair, tmp_path, place, missing):
    arguments = ["infer", pair[place], "--missing", missing, "--model", world.run, "--out", tmp_path / "o"]
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (0, "")
    assert f"{pair[place]} (without {missing}): score" in err.replace("\n", "")


def test_a_folder_gives_the_same_verdicts_as_its_pairs(capsys, world, pair, tmp_path):
    _, single, _ = call(capsys, "infer", *pair, "--model", world.run, "--out", tmp_path / "o", "--json")
    for folder in (world.raw, world.prepared):
        code, out, _ = call(capsys, "infer", folder, "--model", world.run, "--out", tmp_path / folder.name, "--json")
        verdicts = [json.loads(line) for line in out.splitlines()]
        assert code == 0
        assert len(verdicts) == 18
        (same,) = [
            verdict for verdict in verdicts if "/test/good/" in verdict["rgb"] and verdict["rgb"].endswith("000.png")
        ]
        assert same["score"] == json.loads(single)["score"]
        assert len({verdict["map"] for verdict in verdicts}) == 18


def test_a_plain_folder_of_pairs(capsys, world, pair, tmp_path):
    for source, name in zip(pair, ("rgb/part 1 ü.png", "xyz/part 1 ü.tiff"), strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(source, tmp_path / name)
    code, out, _ = call(capsys, "infer", tmp_path, "--model", world.run, "--out", tmp_path / "o", "--json")
    assert code == 0
    assert Path(json.loads(out)["map"]).is_file()


@pytest.mark.parametrize(("threshold", "code"), [(0.0, 10), (1e9, 0)])
def test_exit_code_tells_the_verdict_when_asked(capsys, world, pair, tmp_path, threshold, code):
    arguments = ["infer", *pair, "--model", world.run, "--out", tmp_path, "--threshold", threshold]
    assert call(capsys, *arguments, "--exit-code")[0] == code
    assert call(capsys, *arguments)[0] == 0


def test_without_json_stdout_stays_empty(capsys, world, pair, tmp_path):
    _, out, err = call(capsys, "infer", *pair, "--model", world.run, "--out", tmp_path)
    assert out == ""
    assert "score" in err
    assert "threshold" in err


def test_a_bad_pair_does_not_stop_a_folder(capsys, world, tmp_path):
    raw = shutil.copytree(world.raw, tmp_path / "raw")
    broken = raw / "pegs" / "test" / "good" / "xyz" / "001.tiff"
    broken.write_bytes(broken.read_bytes()[:1000])
    code, out, err = call(capsys, "infer", raw, "--model", world.run, "--out", tmp_path / "o", "--json")
    assert code == 6
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == 18
    assert [Path(line["depth"]).name for line in lines if line["verdict"] == "error"] == ["001.tiff"]
    assert "1 of 18 pairs" in err
    assert "001.tiff" in err


def test_a_prepared_pair_without_any_measured_pixel_costs_itself(capsys, world, tmp_path):
    data = shutil.copytree(world.prepared, tmp_path / "p")
    files.write_png(data / "pegs" / "test" / "good" / "valid" / "001.png", np.zeros((112, 112), np.uint8))
    code, out, err = call(capsys, "infer", data, "--model", world.run, "--out", tmp_path / "o", "--json")
    assert code == 6
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == 18
    assert [Path(line["depth"]).name for line in lines if line["verdict"] == "error"] == ["001.tiff"]
    assert "not one pixel was measured" in err.replace("\n", " ")


def test_features_are_kept_for_the_next_run_unless_told_otherwise(capsys, world, tmp_path, quick, monkeypatch):
    monkeypatch.setenv("UIPAD_CACHE", str(tmp_path / "cache"))
    settings = [part for setting in quick for part in ("--set", setting)]
    train = ["train", world.prepared, "--category", "pegs", *settings, "--out"]
    assert call(capsys, *train, tmp_path / "without", "--no-cache")[0] == 0
    assert not (tmp_path / "cache").exists()
    assert call(capsys, *train, tmp_path / "with")[0] == 0
    assert list((tmp_path / "cache" / "features").glob("*.npy"))
    same = [(tmp_path / name / "method.safetensors").read_bytes() for name in ("with", "without")]
    assert same[0] == same[1]


def test_the_whole_road_by_command(capsys, world, tmp_path, quick):
    settings = [part for setting in quick for part in ("--set", setting)]
    code, out, _ = call(capsys, "prepare", world.raw, tmp_path / "p", "--workers", "1", "--json")
    assert code == 0
    assert json.loads(out)["pairs"] == 18
    train = ["train", tmp_path / "p", "--category", "pegs", "--out", tmp_path / "r", *settings, "--json"]
    code, out, err = call(capsys, *train)
    assert code == 0
    assert json.loads(out)["training"]["steps"] == 12
    code, out, err = call(capsys, "eval", tmp_path / "r", tmp_path / "p", "--json")
    assert code == 0
    assert "pegs" in json.loads(out)["categories"]
    assert "AUPRO" in err
    assert (tmp_path / "r" / "eval" / "metrics.json").is_file()
    code, out, _ = call(capsys, "heatmap", tmp_path / "r", tmp_path / "p", "--out", tmp_path / "h")
    assert code == 0
    assert len(list((tmp_path / "h").rglob("*.png"))) == 36
    assert call(capsys, "heatmap", tmp_path / "r", tmp_path / "p", "--out", tmp_path / "h", "--prototypes")[0] == 0
    code, out, _ = call(capsys, "eval", tmp_path / "r", tmp_path / "p", "--missing", "rgb", "--json")
    assert code == 0
    assert json.loads(out)["categories"]["pegs"]["image_auroc"] is not None
    assert (tmp_path / "r" / "eval-without-rgb" / "metrics.json").is_file()
    assert len(list((tmp_path / "h").rglob("*_prototypes.png"))) == 9
    before = (tmp_path / "r" / "checkpoint.json").read_bytes()
    code, _, err = call(capsys, *train, "--resume")  # which scripts may still say
    assert (code, "holds this run already, finished" in err) == (0, True)
    assert call(capsys, *train, "--seed", "7")[0] == 2
    assert (tmp_path / "r" / "checkpoint.json").read_bytes() == before


def test_backbones_compares_them_in_a_table(capsys, world, tmp_path):
    arguments = ["backbones", world.prepared, "--backbone", "gabor", "--set", "framing.resize=112"]
    code, out, err = call(capsys, *arguments, "--set", "framing.crop=112", "--out", tmp_path / "o", "--json")
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "o" / "table.json").read_text())
    assert [row["modalities"] for row in json.loads(out)["rows"]] == ["both", "rgb", "geometry"]
    assert "PRO@30" in err
    code, out, err = call(capsys, "backbones", world.prepared, "--backbone", "gabr")
    assert (code, out) == (2, "")
    assert "gabor" in err


def damaged_depth(kind, folder):
    """A geometry file that is wrong in one way."""
    xyz = np.ones((112, 112, 3), np.float32)
    path = folder / f"{kind}.tiff"
    if kind == "colour as depth":
        path = folder / "colour.png"
        files.write_png(path, np.full((112, 112, 3), 90, np.uint8))
    elif kind == "all missing":
        files.write_tiff(path, np.zeros_like(xyz))
    elif kind == "nan everywhere":
        files.write_tiff(path, np.full_like(xyz, np.nan))
    elif kind == "infinite everywhere":
        files.write_tiff(path, np.full_like(xyz, np.inf))
    elif kind == "millimetres":
        files.write_tiff(path, scenes.render("pegs", size=112).xyz * 1000)
    elif kind == "other size":
        files.write_tiff(path, np.ones((100, 112, 3), np.float32))
    elif kind == "truncated":
        files.write_tiff(path, xyz)
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("x y z\n0 0 0\n")
    return path


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("missing", "no such file"),
        ("other size", "112 x 100"),
        ("colour as depth", "colour.png"),
        ("all missing", "all missing.tiff"),
        ("nan everywhere", "nan everywhere.tiff"),
        ("infinite everywhere", "infinite everywhere.tiff"),
        ("millimetres", "same unit"),
        ("truncated", "truncated.tiff"),
        ("empty", "empty.tiff"),
        ("text", "text.tiff"),
    ],
)
def test_bad_geometry_is_a_short_data_error(capsys, world, pair, tmp_path, kind, told):
    path = damaged_depth(kind, tmp_path)
    code, out, err = call(capsys, "infer", pair[0], path, "--model", world.run, "--out", tmp_path / "o", "--json")
    assert code == 3
    assert out == ""
    assert told in err
    assert len(err.splitlines()) <= 6
    assert not (tmp_path / "o").exists()


def test_a_few_nan_and_infinite_points_are_missing_points_and_not_an_error(capsys, world, pair, tmp_path):
    xyz = read_file(pair[1], "xyz").copy()
    xyz[10:14, 10:14] = np.nan
    xyz[20:24, 20:24] = np.inf
    files.write_tiff(tmp_path / "a.tiff", xyz)
    arguments = [pair[0], tmp_path / "a.tiff", "--model", world.run, "--out", tmp_path / "o", "--json"]
    code, out, _ = call(capsys, "infer", *arguments)
    assert code == 0
    assert np.isfinite(json.loads(out)["score"])


def test_results_never_overwrite_their_inputs(capsys, world, pair, tmp_path):
    for source, name in zip(pair, ("000.png", "000.tiff"), strict=True):
        shutil.copy(source, tmp_path / name)
    before = [(tmp_path / name).read_bytes() for name in ("000.png", "000.tiff")]
    arguments = [tmp_path / "000.png", tmp_path / "000.tiff", "--model", world.run, "--out", tmp_path]
    assert call(capsys, "infer", *arguments)[0] == 0
    assert [(tmp_path / name).read_bytes() for name in ("000.png", "000.tiff")] == before
    heat = tmp_path / "000_heat.png"
    assert call(capsys, "heatmap", tmp_path / "000_map.tiff", "--rgb", heat, "--out", tmp_path)[0] == 2


def test_the_unit_of_a_depth_image_can_be_said(capsys, world, tmp_path):
    scene = scenes.render("pegs", size=112)
    files.write_png(tmp_path / "rgb.png", scene.rgb)
    scores = []
    for unit in (0.0002, 0.0001):
        counts = np.round(scene.xyz[..., 2] / unit).astype(np.uint16)
        path = tmp_path / f"depth{unit}.png"
        path.write_bytes(cv2.imencode(".png", counts)[1].tobytes())
        arguments = [
            tmp_path / "rgb.png",
            path,
            "--model",
            world.run,
            "--out",
            tmp_path / "o",
            "--unit",
            unit,
            "--json",
        ]
        code, out, _ = call(capsys, "infer", *arguments)
        assert code == 0
        scores.append(json.loads(out)["score"])
    assert scores[0] == pytest.approx(scores[1], rel=0.3)


def test_json_reaches_a_file_while_people_watch_a_terminal(world, pair, tmp_path):
    code = (
        "import pty, sys, os\n"
        "pid, fd = pty.fork()\n"
        "if pid == 0:\n"
        f"    os.dup2(os.open({str(tmp_path / 'v.json')!r}, os.O_WRONLY | os.O_CREAT), 1)\n"
        "    from uipad_cli.cli import main\n"
        f"    sys.exit(main(['infer', {str(pair[0])!r}, {str(pair[1])!r}, '--model', {str(world.run)!r},"
        f" '--out', {str(tmp_path / 'o')!r}, '--json']))\n"
        "try:\n"
        "    while os.read(fd, 4096): pass\n"
        "except OSError: pass\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run([sys.executable, "-c", code], check=False, env=environment)
    assert done.returncode == 0
    assert json.loads((tmp_path / "v.json").read_text())["verdict"] in ("good", "anomalous")


def test_usage_faults_exit_with_2(capsys, world, pair, tmp_path):
    for arguments in (
        ["infer"],
        ["infer", *pair],
        ["nonsense"],
        ["infer", pair[0], "--model", world.run],
        ["infer", *pair, "--model", world.run, "--threshold", "nan"],
        ["infer", *pair, "--model", world.run, "--precision", "fp8"],
        ["infer", *pair, "--model", world.run, "--device", "tpu"],
        ["train", world.prepared, "--category", "pegs", "--out", tmp_path / "r", "--set", "seed"],
        ["train", world.prepared, "--category", "pegs", "--out", tmp_path / "r", "--backbone", "resnet18"],
        ["prepare", world.raw, world.raw],
        ["heatmap", world.run],
    ):
        code, out, _ = call(capsys, *arguments)
        assert (code, out) == (2, ""), arguments


def test_a_device_that_is_not_there_exits_with_5(capsys, world, pair, tmp_path):
    code, _, err = call(capsys, "infer", *pair, "--model", world.run, "--device", "cuda:99", "--out", tmp_path)
    assert code == 5
    assert "cuda:99" in err


def test_missing_weights_exit_with_4_before_anything_is_made(capsys, world, tmp_path):
    out = tmp_path / "r"
    arguments = ["--category", "pegs", "--out", out, "--backbone", "tiny", "--weights", tmp_path / "gone.pth"]
    code, _, err = call(capsys, "train", world.prepared, *arguments)
    assert code == 4
    assert "gone.pth" in err
    assert not out.exists()


def test_a_run_that_is_none_exits_with_4(capsys, pair, tmp_path):
    code, _, err = call(capsys, "infer", *pair, "--model", tmp_path, "--out", tmp_path / "o")
    assert code == 4
    assert "checkpoint.json" in err


def test_an_output_that_cannot_be_written_exits_with_5(capsys, world, pair, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    code, _, err = call(capsys, "infer", *pair, "--model", world.run, "--out", tmp_path / "file")
    assert code == 5
    assert "file" in err


def test_a_heat_map_of_a_map(capsys, world, pair, tmp_path):
    _, out, _ = call(capsys, "infer", *pair, "--model", world.run, "--out", tmp_path, "--json")
    path = json.loads(out)["map"]
    code, _, _ = call(capsys, "heatmap", path, "--rgb", pair[0], "--out", tmp_path / "h")
    assert code == 0
    drawn = files.read_rgb(tmp_path / "h" / "000_heat.png")
    assert np.array_equal(drawn, files.read_rgb(Path(json.loads(out)["heatmap"])))
    assert call(capsys, "heatmap", path, "--out", tmp_path / "plain")[0] == 0
    assert call(capsys, "heatmap", path, "--out", tmp_path / "plain", "--prototypes")[0] == 2
    assert not np.array_equal(files.read_rgb(tmp_path / "plain" / "000_heat.png"), drawn)


def test_a_bare_float_tiff_can_be_drawn_and_a_blank_one_not(capsys, tmp_path):
    files.write_tiff(tmp_path / "m.tiff", np.random.default_rng(0).random((20, 30)).astype(np.float32))
    assert call(capsys, "heatmap", tmp_path / "m.tiff", "--out", tmp_path / "h")[0] == 0
    assert cv2.imread(str(tmp_path / "h" / "m_heat.png")).shape == (20, 30, 3)
    files.write_tiff(tmp_path / "b.tiff", np.full((20, 30), np.nan, np.float32))
    assert call(capsys, "heatmap", tmp_path / "b.tiff", "--out", tmp_path / "h")[0] == 3


def test_doctor_names_versions_device_weights_and_disk(capsys):
    code, out, err = call(capsys, "doctor", "--json")
    told = json.loads(out)
    assert code in (0, 5)
    assert told["healthy"] == (code == 0)
    names = {finding["name"] for finding in told["findings"]}
    assert {"uipad", "torch", "device", "precision", "backbone tiny", "backbone dinov2-base", "open3d"} <= names
    (tiny,) = [finding for finding in told["findings"] if finding["name"] == "backbone tiny"]
    assert (tiny["status"], "sha256" in tiny["detail"]) == ("ok", True)
    assert "uipad doctor" in err


def test_doctor_names_what_is_done_and_kept_at_a_time(capsys, monkeypatch):
    found = {one["name"]: one for one in json.loads(call(capsys, "doctor", "--json")[1])["findings"]}
    assert re.search(r"torch \d+ threads .*prepare \d+ processes .*threads read up to 2", found["at a time"]["detail"])
    assert "of at most 20 GB (UIPAD_CACHE_GB)" in found["feature cache"]["detail"]
    monkeypatch.setenv("UIPAD_CACHE_GB", "many")
    code, out, _ = call(capsys, "doctor", "--json")
    found = {one["name"]: one for one in json.loads(out)["findings"]}
    assert (code, found["feature cache"]["status"]) == (5, "fails")


def test_a_bug_exits_with_1_and_shows_its_trace_only_when_asked(capsys, monkeypatch, world, pair):
    def broken(*arguments, **options):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("uipad_cli.engine.infer.infer", broken)
    code, _, err = call(capsys, "infer", *pair, "--model", world.run)
    assert code == 1
    assert "bug" in err
    assert main(["--debug", "infer", *map(str, pair), "--model", str(world.run)]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("fault", "code"), [(OSError(28, "No space left on device"), 5), (MemoryError(), 5)])
def test_what_the_machine_refuses_exits_with_5(capsys, monkeypatch, world, pair, fault, code):
    def refuse(*arguments, **options):
        raise fault

    monkeypatch.setattr("uipad_cli.engine.infer.infer", refuse)
    assert call(capsys, "infer", *pair, "--model", world.run)[0] == code


def test_a_reader_that_stops_reading_is_no_fault():
    command = f"{sys.executable} -m uipad_cli doctor --json | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 141
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_the_program_ends_at_once_with_all_it_has_said():
    late = "import sys\nclass Late:\n    def __del__(self): print('taken apart')\nkeep = Late()\n"
    code = f"{late}from uipad_cli.cli import main\nprint('said before')\nsys.exit(main())"
    for arguments, exit_code in ((["--version"], 0), (["nonsense"], 2)):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == exit_code
        assert "said before" in done.stdout
        assert "taken apart" not in done.stdout


def test_python_m_runs_the_program():
    done = subprocess.run([sys.executable, "-m", "uipad_cli", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("uipad ")
