"""A watch that goes on for long: memory and open files stay flat, and each pair is judged once, in spite of kills."""

import itertools
import json
import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import killing
import pytest

from uipad_cli import config, render
from uipad_cli.data import files, scenes
from uipad_cli.engine.prepare import prepare
from uipad_cli.engine.train import train

SIZE = 56
BROKEN_EVERY = 541  # a pair that cannot be read
PAGES = os.sysconf("SC_PAGE_SIZE")
CURVE = "UIPAD_WATCH_CURVE"  # where to draw memory over pairs


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """A production line: a run of the smallest kind, and pairs that look like those it knows."""
    root = tmp_path_factory.mktemp("line")
    scenes.write(root / "raw", categories=["pegs"], train=6, validation=3, test_good=6, test_per_defect=1, size=SIZE)
    prepare(root / "raw", root / "prepared", workers=1)
    settings = [
        "backbone=tiny", "precision=fp32", f"framing.resize={SIZE}", f"framing.crop={SIZE}", "batch=8",
        "options.blocks=2", "options.training.steps=4", "options.training.batch=4",
    ]  # fmt: skip
    train(root / "prepared", root / "run", category="pegs", configuration=config.merge([], settings))
    pairs = [
        (path, path.parent.parent / "xyz" / f"{path.stem}.tiff")
        for path in sorted((root / "raw").glob("pegs/test/*/rgb/*.png"))
    ]
    return root / "run", pairs


class Watcher:
    """A watch in a process of its own, and what it takes of the machine as it goes on."""

    def __init__(self, run, incoming, out, cache):
        self.log = out / "verdicts.jsonl"
        self.arguments = ["infer", incoming, "--model", run, "--watch", "--idle", "8", "--out", out]
        self.cache, self.samples = cache, []
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            killing.command(*self.arguments),
            env=killing.environment(self.cache),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def judged(self):
        return self.log.read_bytes().count(b"\n") if self.log.exists() else 0

    def sample(self):
        """(pairs judged, bytes resident, open files), while it runs."""
        try:
            resident = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGES
            self.samples.append((self.judged(), resident, len(os.listdir(f"/proc/{self.process.pid}/fd"))))  # noqa: PTH208
        except (OSError, IndexError):
            pass

    def until(self, judged, every):
        """Wait until so many are judged, or it has ended."""
        while self.process.poll() is None and self.judged() < judged:
            time.sleep(every)
            self.sample()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def deliver(pairs, count, incoming):
    """Pairs come one after the other, hard links of the same few files; some are broken."""
    (incoming / "rgb").mkdir(parents=True)
    (incoming / "xyz").mkdir()
    for number, (photo, points) in zip(range(count), itertools.cycle(pairs), strict=False):
        if number % BROKEN_EVERY == 7:
            (incoming / "rgb" / f"{number:06d}.png").write_bytes(photo.read_bytes()[:200])
        else:
            os.link(photo, incoming / "rgb" / f"{number:06d}.png")
        os.link(points, incoming / "xyz" / f"{number:06d}.tiff")


def test_every_pair_is_judged_once_and_memory_is_flat(line, tmp_path, cases, tally):
    run, pairs = line
    count, kills = cases(60, 20_000), cases(1, 3)
    incoming, out = tmp_path / "in", tmp_path / "out"
    bringing = threading.Thread(target=deliver, args=(pairs, count, incoming))
    bringing.start()
    while not (incoming / "xyz").is_dir():
        time.sleep(0.01)
    watcher = Watcher(run, incoming, out, tmp_path / "cache")
    generator = random.Random(3)
    for part in range(kills):  # in the first half: the second one goes on for long
        watcher.until(int(count * (part + generator.random()) / (2 * kills)), 0.02)
        assert watcher.process.poll() is None
        watcher.kill()
        watcher.samples.clear()
        watcher.start()
    watcher.until(10**9, cases(0.1, 1.0))
    bringing.join()
    assert watcher.process.returncode == 6  # some could not be read

    lines = [json.loads(one) for one in watcher.log.read_text().splitlines()]
    named = sorted(Path(one["rgb"]).stem for one in lines)
    assert named == [f"{number:06d}" for number in range(count)]
    broken = {Path(one["rgb"]).stem: one["error"] for one in lines if one["verdict"] == "error"}
    assert sorted(broken) == [f"{number:06d}" for number in range(7, count, BROKEN_EVERY)]
    assert all("the PNG is cut short" in told for told in broken.values())
    assert len({one["name"] for one in lines if "name" in one}) == count - len(broken)
    scores = {}
    for one in lines:
        if one["verdict"] != "error":
            scores.setdefault(int(Path(one["rgb"]).stem) % len(pairs), set()).add(one["score"])
            assert Path(one["map"]).is_file()
    assert all(len(same) == 1 for same in scores.values())  # equal files, equal scores, before and after kills
    assert not list(out.rglob(".uipad-*.tmp"))
    check_flat(watcher.samples, count, tally, growth=cases(256, 48) * 2**20)  # a short one is not warm before its end


def check_flat(samples, count, tally, growth):
    """Memory and open files of the last start do not grow with what was judged."""
    start = samples[0][0]
    early = [one for one in samples if start < one[0] <= start + (count - start) * 0.3] or samples[:1]  # of a short one
    late = [one for one in samples if one[0] >= count * 0.9]
    assert late
    grown = max(one[1] for one in late) - max(one[1] for one in early)
    handles = max(one[2] for one in late) - max(one[2] for one in early)
    told = f"{count} watched pairs: {max(one[1] for one in late) / 2**20:.0f} MiB at the end"
    tally(f"{told}, {grown / 2**20:+.1f} MiB since the first third, {handles:+d} open files")
    if path := os.environ.get(CURVE):
        values = {"MiB": [one[1] / 2**20 for one in samples], "open files": [float(one[2]) for one in samples]}
        rows = [{"step": float(one[0])} | {name: values[name][at] for name in values} for at, one in enumerate(samples)]
        files.write_png(Path(path), render.curve(rows, left="MiB", right="open files"))
    assert grown < growth
    assert handles <= 4  # files that are being written at the moment
