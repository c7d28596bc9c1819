"""SIGKILL at random moments of prepare, train and eval: nothing half is left, the same command gives the same bytes."""

import random
from pathlib import Path

import killing
import pytest

from uipad_cli.data import scenes

SAVE_OFTEN = "from uipad_cli.engine import recorder\nrecorder.SAVE_SECONDS = 0.0"  # else once a minute
STEPS = 40


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills") / "raw"
    scenes.write(folder, categories=["pegs"], train=6, validation=2, test_good=2, test_per_defect=1, size=112, seed=1)
    return folder


@pytest.fixture
def commands(raw, world, quick):
    """By verb: the arguments, but for the output, which is the last."""
    settings = [part for one in [*quick, f"options.training.steps={STEPS}"] for part in ("--set", one)]
    return {
        "prepare": ["prepare", raw, "--workers", "2"],
        "train": ["train", world.prepared, "--category", "pegs", *settings, "--out"],
        "eval": ["eval", world.run, world.prepared, "--report", "--out"],
    }


def test_a_kill_at_any_moment_costs_no_more_than_time(commands, tmp_path, cases, tally):
    for verb in cases(["prepare", "train"], ["prepare", "train", "eval"]):
        arguments, undisturbed = commands[verb], tmp_path / f"{verb}-undisturbed"
        first, whole = killing.timed([*arguments, undisturbed], tmp_path / f"{verb}-cache", undisturbed)
        expected = killing.contents(undisturbed)
        generator, hits, number = random.Random(verb), 0, 0
        while hits < cases(1, 50):
            number += 1
            assert number < 200
            told, cache = [*arguments, tmp_path / f"{verb}-{number}"], tmp_path / f"{verb}-cache-{number}"
            for _ in range(2 if number % 5 == 0 and verb == "train" else 1):  # some are killed again
                moment = first + generator.uniform(*cases((0.2, 0.5), (-0.05, 1))) * (whole - first)
                hits += (
                    killing.stopped_at(told, cache, moment, before=SAVE_OFTEN if verb == "train" else "") is not None
                )
                if told[-1].is_dir():
                    killing.check_whole(told[-1])
                    assert set(killing.contents(told[-1])) - set(expected) <= _passing(told[-1])
            killing.completed(told, cache)
            assert killing.contents(told[-1]) == expected, f"killed after {moment:.3f} of {whole:.3f} s"
        tally(f"SIGKILL at {hits} random moments of {verb}")


def _passing(out: Path) -> set[str]:
    """What lies there only while a command works."""
    temporary = {path.relative_to(out).as_posix() for path in out.rglob(".uipad-*.tmp")}
    return temporary | {".uipad-lock", ".journal.jsonl", "run.json", "training.safetensors"}
