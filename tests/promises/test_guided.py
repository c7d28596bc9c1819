"""A fuzzer that is led by coverage, over our own parsing code; where atheris is there, which few Pythons have."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(find_spec("atheris") is None, reason="needs atheris, which is there for Python 3.11")

SCRIPT = Path(__file__).with_name("guided.py")
FEW = ("cloud", "table", "configuration")  # of the quick cut
READERS = (
    *FEW, "png", "jpeg", "bmp", "pnm", "tif", "colours of points", "tiff", "array", "exr", "map", "json", "manifest",
    "lines", "list", "range", "label", "intrinsics", "baseline",
)  # fmt: skip
FOUND = 77  # exit code of atheris after an exception


def bred(name: str, runs: int, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), name, str(runs), str(folder)]
    there = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, env=there)


@pytest.mark.parametrize("name", READERS)
def test_nothing_that_is_bred_breaks_a_promise(tmp_path: Path, name: str, cases: Callable[[int, int], int]) -> None:
    if name not in FEW and cases(0, 1) == 0:
        pytest.skip("one of those that the long cut takes")
    runs = cases(300, 20_000)
    done = bred(name, runs, tmp_path / "bred")
    assert done.returncode == 0, done.stderr[-4000:]
    assert f"Done {runs} runs" in done.stderr
    assert re.search(r"NEW_FUNC|NEW |REDUCE", done.stderr)  # coverage is seen, and led by


def test_it_is_led_by_what_is_reached(tmp_path: Path) -> None:
    done = bred("itself", 200_000, tmp_path / "bred")
    assert done.returncode == FOUND, done.stderr[-2000:]
    assert "found" in done.stderr + done.stdout
