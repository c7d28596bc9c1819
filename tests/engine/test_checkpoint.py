import random
import shutil

import pytest
import torch
from records import change_record

from uipad_cli.core.compute import Compute
from uipad_cli.engine import checkpoint
from uipad_cli.engine.judging import pairs_of
from uipad_cli.engine.record import RECORD, find_runs, read_record
from uipad_cli.errors import WeightsError
from uipad_cli.records import Batch

CPU = Compute(torch.device("cpu"))


@pytest.fixture
def copy(world, tmp_path):
    return shutil.copytree(world.run, tmp_path / "run")


def change(folder, edit):
    change_record(folder / RECORD, edit)


def test_a_run_is_rebuilt_from_its_folder_alone(copy, monkeypatch):
    batch = Batch(torch.rand(1, 3, 112, 112), torch.rand(1, 3, 112, 112), torch.ones(1, 112, 112, dtype=torch.bool))
    _, first = checkpoint.load_run(copy, CPU)
    monkeypatch.setattr("uipad_cli.core.backbone.TINY_SEED", 1)  # another program may start tiny from other weights
    _, second = checkpoint.load_run(copy, CPU)
    assert torch.equal(first.score(batch).map, second.score(batch).map)


@pytest.mark.parametrize("name", ["method.safetensors", "backbone.safetensors"])
def test_a_flipped_byte_is_found(copy, name):
    path = copy / name
    original = path.read_bytes()
    chooser = random.Random(0)
    for place in [chooser.randrange(len(original)) for _ in range(5)]:
        damaged = bytearray(original)
        damaged[place] ^= 1 << chooser.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match="damaged"):
            checkpoint.load_run(copy, CPU)


@pytest.mark.parametrize("name", ["method.safetensors", "backbone.safetensors"])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(WeightsError, match=name):
        checkpoint.load_run(copy, CPU)


def test_another_version_says_who_wrote_it(copy):
    change(copy, lambda content: content.update(version=7, versions={"uipad": "9.1"}))
    with pytest.raises(WeightsError, match=r"version 7, written by uipad 9\.1.*reads version 4"):
        checkpoint.load_run(copy, CPU)


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda content: content.update(format="other"), "not a uipad checkpoint"),
        (lambda content: content.pop("category"), "category"),
        (lambda content: content["calibration"].update(threshold="high"), "threshold"),
        (lambda content: content["config"].update(method="gone"), "gone"),
        (lambda content: content["config"]["options"].update(stray=1), "stray"),
        (lambda content: content["config"]["options"].update(prototypes=5), "queries"),
        (lambda content: content.update(extra=1), "extra"),
        (lambda content: content["config"].update(backbone="vit_base_patch14_dinov2.nonsense"), "nonsense"),
        (lambda content: content.update(version=5, versions=[1]), "unknown"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(copy, edit, told):
    change(copy, edit)
    with pytest.raises(WeightsError, match=told):
        checkpoint.load_run(copy, CPU)


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000, "\0", "3"])
def test_a_record_that_is_no_record_is_refused(copy, content):
    (copy / RECORD).write_text(content)
    with pytest.raises(WeightsError):
        checkpoint.load_run(copy, CPU)


def test_the_geometry_of_a_run_goes_wherever_it_judges(copy):
    def geometry_of_pairs():
        return pairs_of(read_record(copy), []).geometry

    assert geometry_of_pairs() == "relief"
    change(copy, lambda content: content["config"].update(geometry="height"))
    assert geometry_of_pairs() == "height"
    change(copy, lambda content: content["config"].pop("geometry"))  # written before there was a choice
    assert geometry_of_pairs() == "height"
    change(copy, lambda content: content["config"].update(geometry="depth"))
    with pytest.raises(WeightsError, match=r"config\.geometry.*'relief', 'normals' or 'height'"):
        read_record(copy)


def test_runs_are_found_here_and_one_folder_below(world, tmp_path):
    assert find_runs(world.run) == [world.run]
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "pegs").symlink_to(world.run)
    assert find_runs(tmp_path / "runs") == [tmp_path / "runs" / "pegs"]
    with pytest.raises(WeightsError, match=r"no checkpoint\.json"):
        find_runs(tmp_path)
