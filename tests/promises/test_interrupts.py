"""Ctrl-C ends every command soon, with exit code 130, and keeps what is done: the same command gives the same bytes."""

import os
import random
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import killing
import pytest

from uipad_cli.data import scenes
from uipad_cli.engine import preparing
from uipad_cli.engine.prepare import prepare
from uipad_cli.engine.runtime import GRACE
from uipad_cli.errors import EXIT_INTERRUPT, EXIT_TERMINATED, Terminated

STUCK = """
import hashlib
from uipad_cli.engine import infer
infer.open_inspector = lambda *_: print("stuck", flush=True) or hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""  # a library that holds the main thread and hears nothing


@pytest.fixture
def commands(world, quick, cases, tmp_path):
    """By verb: the arguments, but for the output, which is the last."""
    raw, prepared = world.raw, world.prepared
    if cases(False, True):  # so many pairs that there is time to come in between
        raw, prepared = tmp_path / "raw", tmp_path / "prepared"
        scenes.write(
            raw, categories=["pegs"], train=20, validation=0, test_good=60, test_per_defect=1, size=160, seed=1
        )
        prepare(raw, prepared, workers=1)
    settings = [part for one in [*quick, "options.training.steps=60"] for part in ("--set", one)]
    return {
        "train": ["train", world.prepared, "--category", "pegs", *settings, "--out"],
        "prepare": ["prepare", raw, "--workers", "2"],
        "eval": ["eval", world.run, prepared, "--out"],
        "infer": ["infer", prepared, "--model", world.run, "--out"],
        "heatmap": ["heatmap", world.run, prepared, "--out"],
    }


def test_ctrl_c_at_any_moment_keeps_what_is_done(commands, tmp_path, cases, tally):
    generator = random.Random(5)
    for verb, arguments in list(commands.items())[: cases(1, 5)]:
        whole = tmp_path / f"{verb}-whole"
        first, end = killing.timed([*arguments, whole], tmp_path / "cache", whole)
        ended, number = [], 0
        while len(ended) < cases(1, 10):
            number += 1
            assert number < 100
            out, cache = tmp_path / f"{verb}-{number}", tmp_path / f"cache-{verb}-{number}"
            moment = first + generator.uniform(*cases((0.2, 0.5), (0, 1))) * (end - first)
            stopped = killing.stopped_at([*arguments, out], cache, moment, signal.SIGINT)
            if stopped is not None and stopped.code not in (0, -signal.SIGINT):  # or it had done all it had to
                assert stopped.code == EXIT_INTERRUPT, stopped.said
                assert "error: interrupted" in stopped.said
                assert "Traceback" not in stopped.said
                if out.is_dir():
                    killing.check_whole(out)
                ended.append(stopped.seconds)
            killing.completed([*arguments, out], cache)
            assert killing.contents(out) == killing.contents(whole)
        tally(f"Ctrl-C at {len(ended)} random moments of {verb}: ended within {max(ended):.2f} s")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, EXIT_INTERRUPT), (signal.SIGTERM, EXIT_TERMINATED)])
def test_what_hears_nothing_is_ended_by_force(number, code, world, tmp_path):
    process = subprocess.Popen(
        killing.command("infer", world.prepared, "--model", world.run, "--out", tmp_path, before=STUCK),
        env=killing.environment(tmp_path / "cache"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "stuck\n"
    time.sleep(0.2)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)  # it would have gone on for minutes
    assert process.returncode == code
    assert "in the middle of a step; what was written is whole" in said
    assert GRACE < 2


def test_signals_wait_until_workers_have_started():
    threading.Thread(target=time.sleep, args=[1], daemon=True).start()  # takes the signal that the main thread blocks
    for number, end in ((signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)):
        began = []
        with pytest.raises(end), preparing._deaf():
            os.kill(os.getpid(), number)
            time.sleep(0.05)
            began.append(number)
        assert began


def test_workers_start_in_any_thread(world, tmp_path):
    with ThreadPoolExecutor(1) as pool:
        summary = pool.submit(prepare, world.raw, tmp_path / "prepared", workers=2).result()
    assert not summary.failures
    assert killing.contents(tmp_path / "prepared") == killing.contents(world.prepared)
