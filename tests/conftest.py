"""One small finished world, shared by the tests of the engine and of the command line."""

import signal
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import dataset_writers
import pytest

from uipad_cli import config
from uipad_cli.data import scenes
from uipad_cli.engine.prepare import prepare
from uipad_cli.engine.train import train

SIZE = 112
QUICK = [
    "backbone=tiny",
    "precision=fp32",
    f"framing.resize={SIZE}",
    f"framing.crop={SIZE}",
    "batch=4",
    "options.blocks=2",
    "options.training.steps=12",
    "options.training.batch=4",
    "options.training.warmup_steps=4",
]


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="tests/promises with all their cases, not a quick cut")


TALLY = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def tally(pytestconfig):
    """Keeps a line for the end of the run: what a test of a promise has tried, and what it has measured."""
    return pytestconfig.stash.setdefault(TALLY, []).append


def pytest_terminal_summary(terminalreporter, config):
    for line in config.stash.get(TALLY, []) if config.getoption("--long") else []:
        terminalreporter.write_line(f"tried: {line}")


@pytest.fixture(scope="session")
def cases(pytestconfig):
    """How many cases a test of a promise tries: cases(20, 1000) is 20 in the default suite, 1000 with --long."""
    return lambda few, many: many if pytestconfig.getoption("--long") else few


@pytest.fixture(scope="session", autouse=True)
def heeds_ctrl_c():
    """Ctrl-C stops the tests and what they start: a shell has what it starts in the background ignore it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class World:
    raw: Path
    prepared: Path
    run: Path


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """No test reads or fills the cache of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UIPAD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Rendered pegs, prepared, and a run trained on them for a few steps."""
    root = tmp_path_factory.mktemp("world")
    made = World(root / "raw", root / "prepared", root / "run")
    scenes.write(
        made.raw, categories=["pegs"], train=6, validation=3, test_good=3, test_per_defect=1, size=SIZE, seed=1
    )
    prepare(made.raw, made.prepared, workers=1)
    train(made.prepared, made.run, category="pegs", configuration=config.merge([], QUICK))
    return made


@pytest.fixture
def quick():
    """Settings of a training that takes a second."""
    return list(QUICK)


@pytest.fixture(scope="session")
def writers() -> ModuleType:
    """Tiny Eyecandies and Real-IAD D3, written as their documentation says."""
    return dataset_writers
