"""Same seed, same machine, same versions: equal bytes, however the work is shared out; a stated tolerance elsewhere."""

import functools
import itertools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from textures import SIZE, batch

from uipad_cli import config
from uipad_cli.core.backbone import build_encoder
from uipad_cli.core.compute import Compute
from uipad_cli.data import files
from uipad_cli.engine import judging
from uipad_cli.engine.checkpoint import load_run, method_class
from uipad_cli.engine.evaluate import evaluate
from uipad_cli.engine.inspector import Settings, open_inspector
from uipad_cli.engine.judging import items_in, judge, split_pairs
from uipad_cli.engine.prepare import prepare
from uipad_cli.engine.record import read_record
from uipad_cli.engine.runtime import choose_compute
from uipad_cli.engine.train import train
from uipad_cli.records import silent

EAGER = 1e-4  # of the range of a map: how far a compiled network may be from the eager one, in fp32
THREADS = 1e-5  # of that range, and of an image score: how far other numbers of threads may be from each other
LEARNED = 1e-4  # the same of what was trained by them
HALF = 0.05  # of that range in the mean, and of an image score: how far bf16 may be from fp32
DEVICE = 1e-3  # of an image score: how far CUDA may be from a CPU in fp32 (tests/methods/test_cuda.py)
SETTINGS = {
    "uipad": [],
    "patchcore": ["method=patchcore"],
    "inp_former": ["method=inp_former"],
}
CHILD = """
import json, sys
from pathlib import Path
from uipad_cli import config
from uipad_cli.engine.evaluate import evaluate
from uipad_cli.engine.train import train
data, out, settings = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
train(data, out, category="pegs", configuration=config.merge([], settings), cache=False)
evaluate(out, data, out=out / "eval")
"""


def content(folder):
    """Bytes of all files of a folder by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def same(one, other):
    """Whether two folders hold the same; names what differs."""
    ours, theirs = content(one), content(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert ours


@pytest.fixture(scope="module")
def methods(pytestconfig):
    return list(SETTINGS) if pytestconfig.getoption("--long") else ["uipad"]


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    """Train once more, with this or that beside the settings; the folder."""
    count = itertools.count()
    options = ["backbone=tiny", "precision=fp32", f"framing.resize={SIZE}", f"framing.crop={SIZE}", "batch=4"]
    steps = [
        "options.blocks=2",
        "options.training.steps=3",
        "options.training.batch=4",
        "options.training.warmup_steps=2",
    ]

    def settings(method):
        return [*options, *SETTINGS[method], *([] if method == "patchcore" else steps)]

    def run(method, *, cache=False):
        out = tmp_path_factory.mktemp("runs") / str(next(count))
        train(world.prepared, out, category="pegs", configuration=config.merge([], settings(method)), cache=cache)
        return out

    run.settings = settings
    run.once = functools.cache(run)
    return run


@pytest.mark.parametrize("workers", [2, 3])
def test_prepare_with_any_number_of_workers(world, tmp_path, monkeypatch, cases, workers):
    if workers > cases(2, 3):
        pytest.skip("with --long")
    for count in (1, workers):
        (tmp_path / str(count)).mkdir()
        monkeypatch.chdir(tmp_path / str(count))
        prepare(world.raw, Path("ready"), workers=count, check=True)
    same(tmp_path / "1", tmp_path / str(workers))


def test_prepare_in_pieces_makes_the_same(world, tmp_path):
    """First half of the data, then all of it."""
    part = tmp_path / "raw"
    shutil.copytree(world.raw, part)
    for path in part.rglob("001.*"):
        path.unlink()
    prepare(part, tmp_path / "ready", workers=1)
    for path in world.raw.rglob("001.*"):
        shutil.copy(path, part / path.relative_to(world.raw))
    prepare(part, tmp_path / "ready", workers=1)
    prepare(part, tmp_path / "once", workers=1)
    same(tmp_path / "once", tmp_path / "ready")


def test_training_twice_with_other_readers_and_caches(methods, trained, tmp_path, monkeypatch, cases):
    """A cache that is cold, then warm, and none; scans read by one thread and by four."""
    monkeypatch.setenv("UIPAD_CACHE", str(tmp_path / "cache"))
    for method in methods:
        for cache, readers in cases([(True, 4)], [(True, 4), (True, 1), (False, 1), (False, 4)]):
            monkeypatch.setattr(judging, "READERS", readers)
            same(trained.once(method), trained(method, cache=cache))
        assert list((tmp_path / "cache").rglob("*.npy"))


def child(world, out, settings, threads):
    """Train and evaluate in a process of its own, whose torch has so many threads; the folder."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    told = [str(world.prepared), str(out), json.dumps(settings)]
    subprocess.run([sys.executable, "-c", CHILD, *told], env=environment, check=True, timeout=900)
    return out


def test_another_process_makes_the_same(world, methods, trained, tmp_path):
    """Of as many threads: nothing hangs on the order in which Python hashes, or on what ran before."""
    for method in methods:
        out = child(world, tmp_path / method, trained.settings(method), torch.get_num_threads())
        figures = (out / "eval").rename(tmp_path / f"eval-{method}")
        same(trained.once(method), out)
        evaluate(trained.once(method), world.prepared, out=tmp_path / f"here-{method}")
        same(tmp_path / f"here-{method}", figures)


@pytest.fixture
def threads():
    """Set how many threads torch has, until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [2, 3])
def test_judging_with_any_number_of_threads(world, methods, trained, threads, cases, count):
    """They may share out a sum in other ways: all but the last bits are the same, whatever their number."""
    if count > cases(2, 3):
        pytest.skip("with --long")
    for method in methods:
        run = trained.once(method)
        threads(1)
        maps, scores = judged(run, world)
        threads(count)
        others, their = judged(run, world)
        assert np.nanmax(np.abs(maps - others)) < THREADS * (np.nanmax(maps) - np.nanmin(maps))
        assert np.allclose(scores, their, rtol=THREADS)


def test_training_with_another_number_of_threads(world, methods, trained, threads, cases):
    """Gradients of norms and prototypes, and the mean of a loss, are summed thread by thread: their last bits differ.

    Nothing else does: what is not trained is the same, and as many threads make the same again.
    """
    if not cases(False, True):
        pytest.skip("with --long")
    for method in methods:
        first = trained.once(method)
        usual = torch.get_num_threads()
        threads(3 if usual == 2 else 2)
        one, again = trained(method), trained(method)
        threads(usual)
        same(one, again)
        if method == "patchcore":
            same(one, first)
            continue
        assert (one / "backbone.safetensors").read_bytes() == (first / "backbone.safetensors").read_bytes()
        (maps, scores), (others, their) = judged(one, world), judged(first, world)
        assert np.nanmax(np.abs(maps - others)) < LEARNED * (np.nanmax(maps) - np.nanmin(maps))
        assert np.allclose(scores, their, rtol=LEARNED)


def test_evaluating_twice(world, methods, trained, tmp_path):
    for method in methods:
        for place in ("one", "two"):
            evaluate(trained.once(method), world.prepared, out=tmp_path / method / place, charts=True)
        same(tmp_path / method / "one", tmp_path / method / "two")
        assert {"scores.csv", "sheet.jpg"} <= {path.name for path in (tmp_path / method / "one" / "pegs").iterdir()}


@pytest.mark.parametrize("known", [None, "rgb", "depth"])
def test_judging_one_by_one_and_in_company(world, methods, trained, tmp_path, cases, known):
    """Every file, and every number that is no time."""
    if known and not cases(False, True):
        pytest.skip("with --long")
    for method in methods:
        if known and known not in read_record(trained.once(method)).missing:
            continue
        inspector = open_inspector(
            Settings(trained.once(method), tmp_path, device="cpu", missing=known, ply=True), silent
        )
        lines = []
        for size in (1, 8, 3):
            out = tmp_path / method / str(size)
            record = inspector.record.model_copy(
                update={"config": inspector.record.config.model_copy(update={"batch": size})}
            )
            now = replace(inspector, settings=replace(inspector.settings, out=out), record=record)
            told = list(now.judge(items_in(record, world.raw), silent))
            text = json.dumps([{key: value for key, value in line.items() if key != "timing"} for line in told])
            lines.append(text.replace(str(out), ""))
        assert lines[0] == lines[1] == lines[2]
        same(tmp_path / method / "1", tmp_path / method / "8")
        same(tmp_path / method / "1", tmp_path / method / "3")


def judged(run, world, precision="fp32", *, compiled=False):
    """Maps [N,H,W] and scores [N] of the test split."""
    _, method = load_run(run, choose_compute("cpu", precision, "score", compiled=compiled))
    found = list(judge(method, split_pairs(read_record(run), world.prepared, "test"), silent))
    return np.stack([one.map for one in found]), np.array([one.score for one in found])


def test_bf16_stays_within_its_tolerance(world, methods, trained):
    for method in methods:
        (maps, scores), (others, their) = (judged(trained.once(method), world, name) for name in ("fp32", "bf16"))
        assert 0 < np.nanmean(np.abs(maps - others)) < HALF * (np.nanmax(maps) - np.nanmin(maps))
        assert np.allclose(scores, their, rtol=HALF)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with g++ on a CPU")
def test_compiled_and_eager_stay_within_their_tolerance(world, methods, trained, cases):
    if not cases(False, True):
        pytest.skip("with --long: it compiles for half a minute")
    for method in methods:
        (maps, scores), (others, their) = (judged(trained.once(method), world, compiled=on) for on in (False, True))
        assert np.nanmax(np.abs(maps - others)) < EAGER * (np.nanmax(maps) - np.nanmin(maps))
        assert np.allclose(scores, their, rtol=EAGER)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_stays_within_its_tolerance_and_says_the_same_twice(methods):
    for name in methods:
        kind = method_class(name)
        small = {"blocks": 2, "training": {"steps": 10, "batch": 4, "warmup_steps": 2}}
        options = kind.Options.model_validate(small if kind.trains else {})
        whole = kind(build_encoder("tiny", SIZE), options, Compute(torch.device("cpu")), seed=0)
        whole.fit([batch([0, 1, 2, 3])], silent)
        there = kind(build_encoder("tiny", SIZE), options, Compute(torch.device("cuda")), seed=1)
        there.restore(whole.state())
        here, found, again = whole.score(batch([4, 5])), there.score(batch([4, 5])), there.score(batch([4, 5]))
        assert torch.allclose(here.image, found.image, rtol=DEVICE)
        assert torch.equal(found.map, again.map)


def test_a_map_on_disk_holds_the_bits_that_were_scored(world, trained, tmp_path):
    run = trained.once("uipad")
    inspector = open_inspector(Settings(run, tmp_path, device="cpu"), silent)
    lines = list(inspector.judge(items_in(inspector.record, world.prepared), silent))
    expected = {item.item.name: item.map for item in _all(run, world)}
    for line in lines:
        name = str(Path(line["map"]).relative_to(tmp_path)).removesuffix("_map.tiff")
        if name in expected:
            assert np.array_equal(files.read_map(Path(line["map"]))[0], expected.pop(name), equal_nan=True)
    assert not expected


def _all(run, world):
    _, method = load_run(run, choose_compute("cpu", "fp32", "score"))
    return list(judge(method, split_pairs(read_record(run), world.prepared, "test"), silent))
