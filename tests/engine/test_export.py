"""A run as a model for other engines: it says what torch says, without torch, and tells what is wrong with a folder."""

import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from program import call
from records import change_record

from uipad_cli import config
from uipad_cli.core import scoring
from uipad_cli.data import files, mvtec3d
from uipad_cli.engine import export, exported
from uipad_cli.engine.checkpoint import load_run
from uipad_cli.engine.inspector import Settings, open_inspector
from uipad_cli.engine.judging import judge, pairs_of
from uipad_cli.engine.record import file_hash
from uipad_cli.engine.runtime import choose_compute
from uipad_cli.engine.train import train
from uipad_cli.errors import ResourceError, UsageError, WeightsError
from uipad_cli.metrics.image_score import image_score, measured_places
from uipad_cli.records import ScoredArrays, silent

ENGINES = ("openvino", "onnx")
OTHER = {"openvino": "onnx", "onnx": "openvino"}
QUICK = {"patchcore": [], "inp_former": ["options.blocks=2", "options.training.steps=2"]}
CLOSE = 1e-4


def need(engine):
    if importlib.util.find_spec(exported.PACKAGE[engine]) is None:
        pytest.skip(f"pip install 'uipad[{engine}]'")


@pytest.fixture(scope="module")
def runs(world, tmp_path_factory):
    """A finished run of each method."""
    found = {"uipad": world.run}
    for method, options in QUICK.items():
        found[method] = tmp_path_factory.mktemp("runs") / method
        settings = [f"method={method}", "backbone=tiny-random", "framing.resize=56", "framing.crop=56", *options]
        merged = config.merge([], [*settings, "precision=fp32"])
        train(world.prepared, found[method], category="pegs", configuration=merged)
    return found


@pytest.fixture(scope="module")
def exports(runs, tmp_path_factory):
    """Each run for each engine, exported when it is asked for."""
    root, made = tmp_path_factory.mktemp("exports"), {}

    def folder(method, engine):
        if (method, engine) not in made:
            need(engine)
            made[method, engine] = export.export(export.Request(runs[method], root / f"{method}-{engine}", engine))
        return made[method, engine].folder

    return folder


@pytest.fixture
def copy(exports, tmp_path):
    return lambda engine: shutil.copytree(exports("uipad", engine), tmp_path / "copy")


@pytest.fixture
def pair(world):
    folder = world.raw / "pegs" / "test" / "good"
    return folder / "rgb" / "000.png", folder / "xyz" / "000.tiff"


@pytest.mark.parametrize(
    ("method", "engine"),
    [
        ("uipad", "openvino"),
        ("uipad", "onnx"),
        ("patchcore", "onnx"),
        ("inp_former", "openvino"),
        pytest.param("patchcore", "openvino", marks=pytest.mark.slow),
        pytest.param("inp_former", "onnx", marks=pytest.mark.slow),
    ],
)
def test_an_export_says_what_torch_says_in_batches_of_any_size(world, runs, exports, method, engine):
    record, torch_says = load_run(runs[method], choose_compute("cpu", "fp32", "score"))
    again, export_says, precision = exported.open_export(exports(method, engine), engine, "auto", "auto")
    assert (again, precision) == (record, "fp32")
    items = mvtec3d.scan(world.raw, "pegs", "test")[:4]
    for size in (1, 3):
        pairs = replace(pairs_of(record, items), batch_size=size)
        for one, other in zip(judge(torch_says, pairs, silent), judge(export_says, pairs, silent), strict=True):
            assert one.score == pytest.approx(other.score, abs=CLOSE)
            assert np.nanquantile(np.abs(one.map - other.map), 0.9) < CLOSE
            assert list(one.voices) == list(other.voices)
            for name, said in one.voices.items():
                assert said.shape == other.voices[name].shape
                assert np.quantile(np.abs(said - other.voices[name]), 0.9) < CLOSE


def test_the_image_score_is_that_of_torch():
    generator = np.random.default_rng(0)
    for edge, grid in ((56, 4), (112, 8), (96, 6)):
        valid = generator.random((5, edge, edge)) < np.linspace(0.1, 0.6, 5)[:, None, None]
        valid[0], valid[1, ::2, ::2] = False, True
        maps = generator.random((5, edge, edge)).astype(np.float32)
        for least in (0.0, 0.25, 0.5, 1.0):
            counted = measured_places(valid, (grid, grid), least)
            expected = scoring.measured_places(torch.from_numpy(valid), (grid, grid), least)
            np.testing.assert_array_equal(counted, expected.numpy())
            for share in (1e-6, 0.01, 0.5, 1.0):
                scores = scoring.image_score(torch.from_numpy(maps), share, expected)
                np.testing.assert_allclose(image_score(maps, share, counted), scores.numpy(), atol=1e-6)
    with pytest.raises(ValueError, match="whole patches"):
        measured_places(valid, (7, 7), 0.25)


WITHOUT = """
import sys
sys.modules.update(dict.fromkeys(("torch", "timm", "torchvision", "safetensors", "huggingface_hub", "jinja2")))
from uipad_cli.cli import main
sys.exit(main(sys.argv[1:]))
"""


def without_torch(*arguments):
    command = [sys.executable, "-c", WITHOUT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_pair_is_judged_without_torch_as_with_it(capsys, world, exports, pair, tmp_path, engine):
    code, out, _ = call(capsys, "infer", *pair, "--model", world.run, "--out", tmp_path / "t", "--json", "--exit-code")
    arguments = ["--model", exports("uipad", engine), "--engine", engine, "--out", tmp_path / "o", "--json"]
    done = without_torch("infer", *pair, *arguments, "--exit-code", "--ply")
    assert (done.returncode, done.stderr) == (code, "infer 1/1\n")
    told, expected = json.loads(done.stdout), json.loads(out)
    assert told["verdict"] == expected["verdict"]
    assert told["score"] == pytest.approx(expected["score"], abs=1e-3)
    assert told["p_value"] == expected["p_value"]
    assert files.read_map(tmp_path / "o" / "000_map.tiff")[0].shape == (112, 112)
    assert (tmp_path / "o" / "000_points.ply").is_file()


def test_a_folder_is_judged_in_batches_and_a_broken_pair_costs_itself(world, exports, tmp_path, capsys):
    raw = shutil.copytree(world.raw, tmp_path / "raw")
    (raw / "pegs" / "test" / "good" / "xyz" / "001.tiff").write_bytes(b"II*\0")
    arguments = ["--model", exports("uipad", "onnx"), "--engine", "onnx", "--out", tmp_path / "o", "--json"]
    code, out, err = call(capsys, "infer", raw, *arguments)
    assert (code, len(out.splitlines()), out.count('"verdict": "error"')) == (6, 18, 1)
    assert "001.tiff" in err


def test_what_needs_torch_says_so_where_it_is_not_installed(world, pair, tmp_path):
    for arguments in (
        ("infer", *pair, "--model", world.run, "--out", tmp_path / "o"),
        ("train", world.prepared, "--category", "pegs", "--out", tmp_path / "r"),
    ):
        done = without_torch(*arguments)
        assert done.returncode == 5
        assert "is not installed here" in done.stderr
        assert "--engine openvino" in done.stderr


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_that_is_not_installed_is_named(monkeypatch, world, exports, tmp_path, engine):
    folder = exports("uipad", engine)
    monkeypatch.setitem(sys.modules, exported.PACKAGE[engine], None)
    for attempt in (
        lambda: open_inspector(Settings(folder, tmp_path, engine=engine), silent),
        lambda: export.export(export.Request(world.run, tmp_path / "new", engine)),
    ):
        with pytest.raises(ResourceError) as caught:
            attempt()
        assert caught.value.cure == f"pip install 'uipad[{engine}]'"
    assert not list(tmp_path.iterdir())


def test_nobody_is_told_of_an_export(exports):
    exports("uipad", "openvino")
    assert sys.modules["openvino_telemetry"] is None


@pytest.mark.parametrize("engine", ENGINES)
def test_the_wrong_engine_and_the_wrong_folder_are_told_with_what_mends_them(world, exports, tmp_path, engine):
    folder = exports("uipad", engine)
    for kind, model, message, cure in (
        ("torch", folder, f"is an export for {engine}", f"add --engine {engine}"),
        (OTHER[engine], folder, f"is an export for {engine}", f"--format {OTHER[engine]}"),
        (engine, world.run, "is a run", f"uipad export {world.run} --out FOLDER --format {engine}"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            open_inspector(Settings(model, tmp_path, engine=kind), silent)
        assert cure in caught.value.cure
    for settings, message in (
        ({"missing": "depth"}, "--missing depth"),
        ({"device": "cuda"}, "--device cuda"),
        ({"precision": "fp16"}, "--precision fp16"),
    ):
        with pytest.raises(UsageError, match=message):
            open_inspector(Settings(folder, tmp_path, engine=engine, **settings), silent)
    with pytest.raises(WeightsError, match=r"export\.json: missing"):
        open_inspector(Settings(tmp_path, tmp_path, engine=engine), silent)


def test_other_commands_send_an_export_to_infer(capsys, world, exports):
    code, _, err = call(capsys, "eval", exports("uipad", "onnx"), world.prepared)
    assert code == 4
    assert "only `uipad infer` takes" in err


def test_openvino_computes_in_bfloat16_when_asked(exports, world, tmp_path):
    folder = exports("uipad", "openvino")
    notes = []
    inspector = open_inspector(
        Settings(folder, tmp_path, engine="openvino", precision="bf16"), lambda step: notes.append(step.note)
    )
    assert "not in the precision" in notes[0]
    (line, *_) = inspector.judge(mvtec3d.scan(world.raw, "pegs", "test")[:1], silent)
    assert np.isfinite(line["score"])


def change(folder, edit):
    change_record(folder / exported.EXPORT, edit)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_damaged_or_missing_file_is_refused(copy, engine):
    folder = copy(engine)
    for name in json.loads((folder / exported.EXPORT).read_text())["sha256"]:
        path = folder / name
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(WeightsError, match=f"{name}: damaged"):
            exported.open_export(folder, engine, "auto", "auto")
        path.unlink()
        with pytest.raises(WeightsError, match=f"{name}: missing"):
            exported.open_export(folder, engine, "auto", "auto")
        path.write_bytes(data)
    exported.open_export(folder, engine, "auto", "auto")


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda content: content.update(format="other"), "not a uipad export"),
        (lambda content: content.update(version=1), "version 1"),
        (lambda content: content["record"].update(version=2), "record of version 2"),
        (lambda content: content.pop("record"), "version None"),
        (lambda content: content.pop("grid"), "grid"),
        (lambda content: content.update(stray=1), "stray"),
        (lambda content: content.update(top=0), "top"),
        (lambda content: content["record"].pop("category"), "category"),
        (lambda content: content.update(sha256={}), "damaged"),
        (lambda content: content["sha256"].update({"../model.onnx": "0"}), "model.onnx"),
    ],
)
def test_an_export_json_that_does_not_fit_is_refused(copy, edit, told):
    folder = copy("onnx")
    change(folder, edit)
    with pytest.raises(WeightsError, match=told):
        exported.open_export(folder, "onnx", "auto", "auto")


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000, "3"])
def test_an_export_json_that_is_none_is_refused(copy, content):
    folder = copy("onnx")
    (folder / exported.EXPORT).write_text(content)
    with pytest.raises(WeightsError):
        exported.open_export(folder, "onnx", "auto", "auto")


def test_a_network_that_is_none_is_refused(copy):
    folder = copy("onnx")
    (folder / "model.onnx").write_bytes(b"not a network")
    change(folder, lambda content: content.update(sha256={"model.onnx": file_hash(folder / "model.onnx")}))
    with pytest.raises(WeightsError, match="not a network for ONNX Runtime"):
        exported.open_export(folder, "onnx", "auto", "auto")


def test_the_command_compares_on_own_pairs_and_tells_it(capsys, world, runs, tmp_path, monkeypatch):
    need("onnx")
    convert = torch.onnx.export

    def loud(*given, **named):  # as some versions of onnxscript
        sys.stdout.write("10 rules applied")
        return convert(*given, **named)

    monkeypatch.setattr(torch.onnx, "export", loud)
    out = tmp_path / "a" / "new"
    arguments = ["export", runs["patchcore"], "--out", out, "--format", "onnx", "--data", world.prepared, "--json"]
    code, told, err = call(capsys, *arguments)
    assert code == 0
    document = json.loads(told)
    assert (document["export"], document["engine"], document["parity"]["pairs"]) == (str(out), "onnx", 6)
    assert document["parity"]["source"] == str(world.prepared)
    assert document["parity"]["map_mean"] < export.CLOSE * document["parity"]["map_range"]
    assert {"torch", "onnxruntime", "uipad"} <= set(document["versions"])
    assert sorted(path.name for path in out.iterdir()) == ["export.json", "model.onnx"]
    assert sorted(path.name for path in out.parent.iterdir()) == ["new"]
    assert f"--model {out} --engine onnx" in err
    code, _, err = call(capsys, *arguments)
    assert code == 2
    assert "not an empty folder" in err


def test_weights_that_one_file_has_no_room_for_lie_beside_it(monkeypatch, runs, tmp_path):
    need("onnx")
    monkeypatch.setattr(export, "ONE_FILE", 1000)
    done = export.export(export.Request(runs["patchcore"], tmp_path / "new", "onnx"))
    assert sorted(done.about.sha256) == ["model.onnx", "model.onnx.data"]
    exported.open_export(tmp_path / "new", "onnx", "auto", "auto")
    (tmp_path / "new" / "model.onnx.data").unlink()
    with pytest.raises(WeightsError, match=r"model\.onnx\.data: missing"):
        exported.open_export(tmp_path / "new", "onnx", "auto", "auto")


@pytest.mark.parametrize("fault", ["elsewhere", "nan", "cannot"])
def test_an_export_that_says_something_else_is_not_left_behind(monkeypatch, runs, tmp_path, fault):
    need("onnx")

    def cannot(*arguments, **settings):
        raise RuntimeError("no such operator\nand much more")

    def wrong(rgb, geometry):
        return [np.full_like(rgb[:, 0], np.nan if fault == "nan" else 0.5)]

    if fault == "cannot":
        monkeypatch.setattr(torch.export, "export", cannot)
    else:
        monkeypatch.setattr(export, "_write", lambda graph, size, engine, folder: (folder / "model.onnx").touch())
        monkeypatch.setattr(export, "open_network", lambda folder, engine: wrong)
    told = r"no such operator\)" if fault == "cannot" else "something else than torch"
    with pytest.raises(WeightsError, match=told):
        export.export(export.Request(runs["inp_former"], tmp_path / "new", "onnx"))
    assert not list(tmp_path.iterdir())


def test_parity_is_worked_out_over_all_pairs():
    expected = [ScoredArrays(np.zeros((1, 10, 10), np.float32), np.zeros(1, np.float32))]
    expected += [ScoredArrays(np.full((2, 10, 10), 4, np.float32), np.full(2, 4, np.float32))]
    found = [replace(one, map=one.map.copy(), image=one.image.copy()) for one in expected]
    found[0].map[0, 0, 0], found[1].image[1] = 3, 4.5
    parity = export.compared(found, expected, "somewhere")
    assert (parity.pairs, parity.source, parity.map_range, parity.map_max) == (3, "somewhere", 4, 3)
    assert (parity.map_mean, parity.map_most, parity.score_usual, parity.score_max) == (pytest.approx(0.01), 0, 0, 0.5)


def test_parity_of_a_pair_is_that_of_its_worst_square():
    expected = [ScoredArrays(np.zeros((4, 10, 10), np.float32), np.array([0, 1, 5, 0], np.float32))]
    found = [replace(expected[0], image=np.array([0.5, 1, 5, 4.5], np.float32))]
    parity = export.compared(found, expected, "somewhere", 2)
    assert (parity.pairs, parity.score_usual, parity.score_max) == (2, 0, 0)


def test_a_folder_of_several_runs_is_not_exported(runs, tmp_path):
    for name in "ab":
        (tmp_path / "runs" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "runs" / name).symlink_to(runs["patchcore"])
    with pytest.raises(UsageError, match="several runs"):
        export.export(export.Request(tmp_path / "runs", tmp_path / "new", "onnx"))
