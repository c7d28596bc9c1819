"""Inputs that are bred by what they reach in our own parsing code: `guided.py READER RUNS FOLDER`, with atheris.

FOLDER takes what is bred, and the file that breaks a promise; the exit code is 0 where none does. The readers, and what
they must give, are those of tests/support/fuzzing.py; `itself` has a fault that only steps lead to.
"""

from __future__ import annotations

import resource
import sys
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parents[1] / "support"), str(Path(__file__).parents[2])]
OURS = ("config", *(f"data.{name}" for name in (
    "clouds", "columns", "eyecandies", "files", "headers", "intrinsics", "layout", "markup", "numbers", "pcd", "ply",
    "prepared", "rasters", "realiad_d3", "scans", "table",
)))  # fmt: skip
with atheris.instrument_imports(include=["uipad_cli.data", "uipad_cli.config"]):
    for module in OURS:
        import_module(f"uipad_cli.{module}")
import fuzzing  # noqa: E402

from uipad_cli.data import numbers  # noqa: E402
from uipad_cli.errors import UipadError  # noqa: E402

LARGEST = 8192  # bytes of one input
STEPS = b"PLY1"


def target(reader: fuzzing.Reader, folder: Path) -> Callable[[bytes], None]:
    """What is done with each input: a refusal that is allowed is none of our business, all else passes."""
    path = folder / "home" / reader.place
    (folder / "home").mkdir()
    reader.settle(folder / "home")
    path.parent.mkdir(parents=True, exist_ok=True)

    def read(data: bytes) -> None:
        path.write_bytes(data)
        began = time.process_time()
        try:
            reader.read(path)
        except UipadError as error:
            if type(error).__name__ not in reader.refuses or len(error.message) > fuzzing.LONGEST:
                raise
        assert time.process_time() - began < fuzzing.SECONDS

    return read


@atheris.instrument_func
def stepwise(data: bytes) -> None:
    """Blind luck finds it once in four billion inputs."""
    for place, letter in enumerate(STEPS):
        if data[place : place + 1] != bytes([letter]):
            return
    raise ValueError("found")


def main(name: str, runs: str, folder: Path) -> None:
    corpus = folder / "corpus"
    corpus.mkdir(parents=True)
    seeds = [b"????"] if name == "itself" else fuzzing.READERS[name].seeds()
    for number, seed in enumerate(seeds):
        (corpus / f"seed{number}").write_bytes(seed)
    numbers.find_spec = lambda _: None  # type: ignore[assignment]  # the header of an exr is ours, no more
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", RuntimeWarning)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # it measures resident memory, libraries included; a minute on the clock, since others may want the processor
    limits = [
        f"-rss_limit_mb={fuzzing.ROOM >> 20}",
        "-timeout=60",
        f"-max_len={LARGEST}",
        f"-artifact_prefix={folder}/",
    ]
    told = [sys.argv[0], f"-runs={runs}", "-seed=1", *limits, str(corpus)]
    atheris.Setup(told, stepwise if name == "itself" else target(fuzzing.READERS[name], folder))
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
