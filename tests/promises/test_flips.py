"""A byte that is not as it was written is noticed, wherever in a checkpoint, a training state, an export or a cache.

log.jsonl is not among them: it is a diary for people, and no verdict depends on it.
"""

import shutil

import numpy as np
import pytest
import torch
from exports import networks_with_numbers_in, write_export
from program import SMALL, call

from uipad_cli import config
from uipad_cli.core.compute import Compute
from uipad_cli.engine.checkpoint import load_run, load_tensors, save_tensors
from uipad_cli.engine.exported import open_export
from uipad_cli.engine.feature_cache import FeatureCache, cache_folder
from uipad_cli.engine.fingerprint import read_fingerprints
from uipad_cli.engine.record import EXPORT, RECORD, read_record
from uipad_cli.engine.sealed import read_sealed, write_sealed
from uipad_cli.engine.train import train
from uipad_cli.errors import WeightsError
from uipad_cli.records import silent

CPU = Compute(torch.device("cpu"))
RUN_FILES = ("checkpoint.json", "method.safetensors", "backbone.safetensors", "calibration.safetensors")


def flips(folder, names, count, seed):
    """Files of a folder, one of them with another byte at a time: half of them drawn by file, half by byte.

    Yields the name of the file; it is as before when the next one is asked for.
    """
    generator = np.random.default_rng(seed)
    ends = np.cumsum([(folder / name).stat().st_size for name in names])
    for turn in range(count):
        chosen = (
            turn // 2 % len(names) if turn % 2 else int(np.searchsorted(ends, generator.integers(ends[-1]), "right"))
        )
        path = folder / names[chosen]
        place, change = int(generator.integers(path.stat().st_size)), int(generator.integers(1, 256))
        change_byte(path, place, change)
        yield names[chosen]
        change_byte(path, place, change)


def change_byte(path, place, change):
    with path.open("r+b") as stream:
        stream.seek(place)
        old = stream.read(1)[0]
        stream.seek(place)
        stream.write(bytes([old ^ change]))


def cuts(folder, names, count, seed):
    """Files of a folder, one of them cut short at a time."""
    generator = np.random.default_rng(seed)
    for turn in range(count):
        path = folder / names[turn % len(names)]
        whole = path.read_bytes()
        path.write_bytes(whole[: int(generator.integers(len(whole)))])
        yield path.name
        path.write_bytes(whole)


def noticed(changed, read):
    """How many changes there were, each of them told as a WeightsError; without one, all is fine."""
    read()
    count = 0
    for name in changed:
        count += 1
        with pytest.raises(WeightsError):
            read(name)
            pytest.fail(f"a change of {name} was not noticed")
    read()
    return count


@pytest.fixture(scope="module")
def run(world, tmp_path_factory):
    return shutil.copytree(world.run, tmp_path_factory.mktemp("flips") / "run")


def reading(run):
    """Reads what uses a file of the run, or the whole run."""

    def read(name=None):
        if name is None:
            load_run(run, CPU)
        if name in (None, "calibration.safetensors"):
            read_fingerprints(run, read_record(run))
        elif name == RECORD:
            read_record(run)
        else:
            load_run(run, CPU)

    return read


def test_a_flipped_byte_of_a_run_is_noticed(run, cases):
    assert {path.name for path in run.iterdir() if path.is_file()} == {*RUN_FILES, "log.jsonl"}  # evaluations apart
    assert noticed(flips(run, RUN_FILES, cases(40, 1000), seed=1), reading(run)) == cases(40, 1000)


def test_a_run_that_was_cut_short_is_noticed(run, cases):
    assert noticed(cuts(run, RUN_FILES, cases(12, 100), seed=2), reading(run)) == cases(12, 100)


def test_commands_end_with_4(capsys, world, run, tmp_path, cases):
    pair = [world.raw / "pegs" / "test" / "good" / part for part in ("rgb/000.png", "xyz/000.tiff")]
    for name in flips(run, RUN_FILES, cases(8, 80), seed=3):
        command = ["infer", *pair, "--model", run, "--out", tmp_path / "o"]
        if name.startswith("calibration"):
            command = ["drift", run, world.prepared]
        code, out, err = call(capsys, *command)
        assert (code, out) == (4, "")
        assert str(run / name) in err.replace("\n", "")


def test_every_byte_of_a_record_counts(tmp_path, cases):
    """Each byte, also white space and the seal itself."""
    path = tmp_path / "a.json"
    write_sealed(path, {"threshold": 0.5, "name": "é", "list": [1, None, True]})
    whole = path.read_bytes()
    assert read_sealed(path, "")["threshold"] == 0.5
    changes = [1, 32, 41, 128] if not cases(0, 1) else range(1, 256)
    for place in range(len(whole)):
        for change in changes:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])
            with pytest.raises(WeightsError):
                read_sealed(path, "")
    for added in (whole + b" ", whole + b"\n", b" " + whole, whole[:-1], b"", b"{}", whole.replace(b"\n", b"\r\n")):
        path.write_bytes(added)
        with pytest.raises(WeightsError):
            read_sealed(path, "")


def test_every_byte_of_saved_tensors_counts(tmp_path, cases):
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"step": torch.tensor([3]), "moment": torch.rand(2, 3)})
    whole = path.read_bytes()
    assert int(load_tensors(path)["step"]) == 3
    changes = [1, 32, 41] if not cases(0, 1) else range(1, 256)
    for place in range(len(whole)):
        for change in changes:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])
            with pytest.raises(WeightsError):
                load_tensors(path)
    for other in (whole + b"\0", whole[:-1], whole[:90], b""):
        path.write_bytes(other)
        with pytest.raises(WeightsError):
            load_tensors(path)


# ---- unfinished runs, exports, the cache ------------------------------------------------------------------------


def test_a_flipped_byte_of_a_training_state_is_noticed(stopped, cases):
    names = ("training.safetensors", "run.json")

    def read(name=None):
        if name in (None, names[0]):
            load_tensors(stopped / names[0])
        if name in (None, names[1]):
            read_sealed(stopped / names[1], "")

    assert noticed(flips(stopped, names, cases(40, 1000), seed=4), read) == cases(40, 1000)
    assert noticed(cuts(stopped, names, cases(6, 60), seed=5), read) == cases(6, 60)


def test_a_training_does_not_go_on_from_a_damaged_state(capsys, world, stopped, cases):
    command = ["train", world.prepared, "--category", "pegs", "--out", stopped]
    command += [part for told in SMALL for part in ("--set", told)]
    before = {path.name: path.read_bytes() for path in stopped.iterdir()}
    for name in flips(stopped, ("training.safetensors", "run.json"), cases(4, 20), seed=6):
        code, out, err = call(capsys, *command)
        assert (code, out) == (4, "")
        assert name in err
        assert "remove" in err
    assert {path.name: path.read_bytes() for path in stopped.iterdir()} == before


def test_a_flipped_byte_of_an_export_is_noticed(world, tmp_path, cases):
    pytest.importorskip("onnxruntime")
    (tmp_path / "model.onnx").write_bytes(networks_with_numbers_in("own.bin")[0].SerializeToString())
    (tmp_path / "own.bin").write_bytes(bytes(16))
    write_export(tmp_path, "onnx", read_record(world.run))
    names = (EXPORT, "model.onnx", "own.bin")

    def read(name=None):
        open_export(tmp_path, "onnx", "auto", "auto")

    assert noticed(flips(tmp_path, names, cases(40, 1000), seed=7), read) == cases(40, 1000)
    assert noticed(cuts(tmp_path, names, cases(6, 60), seed=8), read) == cases(6, 60)


def test_a_flipped_byte_of_the_feature_cache_is_noticed(tmp_path, cases):
    shelf = FeatureCache(tmp_path, 1e9, silent)
    for key in "abc":
        shelf.keep(key, np.random.default_rng(0).normal(size=(2, 3, 50)).astype(np.float16))
    for changed in (flips, cuts):
        for name in changed(tmp_path, ("a.npy", "b.npy", "c.npy"), cases(60, 1000), seed=9):
            assert shelf.find(name[0]) is None
    assert all(shelf.find(key) for key in "abc")
    (tmp_path / "b.npy").rename(tmp_path / "d.npy")
    assert shelf.find("d") is None  # what was kept by another name


def test_a_training_with_a_damaged_cache_comes_to_the_same(world, tmp_path, monkeypatch, cases):
    monkeypatch.setenv("UIPAD_CACHE", str(tmp_path / "cache"))

    def trained(name):
        merged = config.merge([], ["method=patchcore", *SMALL])
        train(world.prepared, tmp_path / name, category="pegs", configuration=merged)
        return (tmp_path / name / "method.safetensors").read_bytes()

    expected = trained("before")
    kept = {path.name: path.read_bytes() for path in cache_folder().glob("*.npy")}
    assert len(kept) == 6
    for turn in range(cases(1, 8)):
        generator = np.random.default_rng(turn)
        for name, data in kept.items():
            change_byte(cache_folder() / name, int(generator.integers(len(data))), int(generator.integers(1, 256)))
        assert trained(f"after{turn}") == expected
        assert {path.name: path.read_bytes() for path in cache_folder().glob("*.npy")} == kept
