"""Every bad input through the command line: a short error that names the file, and nothing else changes."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import stat
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import malformed as corpus
import numpy as np
import pytest

from uipad_cli.cli import main
from uipad_cli.data import files, prepared

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "bad-input.md"
HEAD = """# What becomes of bad input

A pair that cannot be read is left out and named, the exit code is 6, and all other pairs are prepared as if it were
not there. What concerns the whole data set (files without a partner, a unit that cannot be told, a table or the labels
of a public data set that make no sense) stops the run with exit code 3, a wrong option with 2. Nothing is guessed: no
picture is turned, no number is mended, and what a file holds is told by its first bytes, not by its name. There is
never a traceback. What has no checksum (bmp, ppm, pgm, plain tif and npy, the inside of a jpg) can hold wrong bytes
that nobody notices.

`tests/engine/test_malformed.py` gives each of these to `uipad prepare`, and makes this page. Messages are shown without
"1 of 6 pairs could not be prepared"; … stands for what differs from one version of a library to the next.
"""
HAPPENS = {"fine": "taken", "left out": "left out, exit 6"}


Files = dict[str, bytes]  # by CATEGORY/SPLIT/DEFECT/KIND/NAME
Good = dict[tuple[str, bool], tuple[Path, Files]]  # the data set and what is made of it, by geometry and with a plane


@dataclass(frozen=True)
class Result:
    """What a run left and said; paths in `said` begin with own/."""

    code: int
    said: str
    out: Path
    spoiled: Path | None

    @property
    def error(self) -> str:
        """The first line of the error."""
        lines = [line for line in self.said.split("\n") if line.startswith("error: ")]
        return lines[0].removeprefix("error: ") if lines else ""


def call(own: Any, out: Path, options: tuple[str, ...]) -> tuple[int, str]:
    """Exit code and stderr of a run; nothing may come on stdout."""
    heard, printed = io.StringIO(), io.StringIO()
    told = [option.replace("own/", f"{own.root}/") for option in options]
    with redirect_stderr(heard), redirect_stdout(printed):
        code = main(["prepare", str(own.root), str(out), "--workers", "1", *told])
    assert printed.getvalue() == ""
    return code, heard.getvalue().replace(f"{own.root}", "own")


def contents(out: Path) -> Files:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Good:
    made = {}
    for base in ("xyz", "depth"):
        folder = tmp_path_factory.mktemp(base)
        own = corpus.Own(folder / "own", base)
        own.write()
        for plane in (True, False):
            code, said = call(own, folder / f"{plane}", corpus.CAMERA if plane else corpus.CAMERA + corpus.NO_PLANE)
            assert (code, "error" in said) == (0, False)
            made[base, plane] = (own.root, contents(folder / f"{plane}"))
    return made


def good_of(case: Any, clean: Good) -> tuple[Path, Files]:
    return clean[case.base, "--plane" not in case.options]


@pytest.fixture(autouse=True)
def locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The superuser reads everything: what is locked stays so for it, too."""

    def refusing(name: str) -> None:
        real = getattr(Path, name)

        def guarded(path: Path) -> Any:
            if path.exists() and stat.S_IMODE(path.stat().st_mode) == 0:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return real(path)

        monkeypatch.setattr(Path, name, guarded)

    if hasattr(os, "geteuid") and os.geteuid() == 0:
        refusing("read_bytes")
        refusing("iterdir")


def run(case: Any, folder: Path, good: Path) -> Result:
    own = corpus.Own(folder / "own", case.base)
    shutil.copytree(good, own.root)
    spoiled = case.spoil(own)
    code, said = call(own, folder / "out", case.options)
    if spoiled is not None and spoiled.exists() and stat.S_IMODE(spoiled.stat().st_mode) == 0:
        spoiled.chmod(0o700)
    return Result(code, said, folder / "out", spoiled)


RESULTS: dict[str, Result] = {}  # of this run, for the page


@pytest.mark.parametrize("case", corpus.CASES, ids=[case.name for case in corpus.CASES])
def test_bad_input(case: Any, clean: Good, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    good, before = good_of(case, clean)
    result = RESULTS[case.name] = run(case, tmp_path, good)
    assert result.code == case.exit_code, result.said
    assert case.tells in result.said
    check_words(case, result)
    noise = capfd.readouterr()
    assert noise.out == ""
    assert [line for line in noise.err.splitlines() if not line.startswith("libpng ")] == []
    if case.verdict == "refused":
        assert not (result.out / prepared.MANIFEST).exists()
        assert contents(result.out) == {}
        return
    after = contents(result.out)
    check_whole(result.out, after)
    if case.verdict == "left out":
        assert without(after, case.pair) == without(before, case.pair)
        assert len(after) == len(without(before, case.pair)) + 1
        return
    becomes = case.becomes or case.pair
    assert without(after, becomes) == without(before, case.pair)
    compare(case, pair_of(before, case.pair), pair_of(after, becomes))


def check_words(case: Any, result: Result) -> None:
    assert "Traceback" not in result.said
    assert "bug" not in result.said
    lines = result.said.rstrip("\n").split("\n")
    if case.verdict == "fine":
        assert result.error == ""
        return
    start = next(place for place, line in enumerate(lines) if line.startswith("error: "))
    assert len(lines) - start <= 2
    if result.spoiled is not None and "\\" not in case.tells:
        assert result.spoiled.name in result.error


def check_whole(out: Path, after: Files) -> None:
    """The manifest lists exactly what is there, and every height is finite."""
    manifest = prepared.read_manifest(out)
    listed = {prepared.MANIFEST}
    for category, entry in manifest.categories.items():
        for name, pair in entry.pairs.items():
            item = prepared.item(out, f"{category}/{name}", mask=pair.mask)
            for path in (item.rgb, item.geometry, item.valid, item.mask):
                if path is not None:
                    listed.add(path.relative_to(out).as_posix())
            height, _ = files.read_map(item.geometry)
            assert np.isfinite(height).all()
            assert height.shape == files.read_rgb(item.rgb).shape[:2] == files.read_valid(item.valid).shape
    assert set(after) == listed


def is_of(path: str, pair: str) -> bool:
    """True for own/train/good/rgb/0.png and train/good/0."""
    split, defect, stem = pair.split("/", 2)
    parts = path.split("/")
    return len(parts) == 5 and parts[1:3] == [split, defect] and Path(path).stem == stem


def without(found: Files, pair: str) -> Files:
    return {path: data for path, data in found.items() if path != prepared.MANIFEST and not is_of(path, pair)}


def pair_of(found: Files, pair: str) -> Files:
    return {path.split("/")[3]: data for path, data in found.items() if is_of(path, pair)}


def compare(case: Any, before: Files, after: Files) -> None:
    assert set(after) == set(before)
    decoded = {}
    for name, found in (("before", before), ("after", after)):
        for kind, data in found.items():
            read = files.read_tiff if kind == "height" else None
            decoded[name, kind] = (
                read(data, Path(kind))[0] if read else files.decode(data, Path(kind), cv2.IMREAD_UNCHANGED)
            )
    if case.colour == "same":
        assert after["rgb"] == before["rgb"]
    elif case.colour == "near":
        assert np.abs(decoded["after", "rgb"].astype(int) - decoded["before", "rgb"]).max() <= 4
    elif case.colour == "grey":
        grey = decoded["after", "rgb"]
        assert (grey == decoded["before", "rgb"][..., 2:]).all()
    assert after.get("gt") == before.get("gt") or case.colour == "other"
    if case.height == "same":
        assert after["height"] == before["height"]
        assert after["valid"] == before["valid"]
    else:
        height, old = decoded["after", "height"], decoded["before", "height"]
        assert np.abs(height[-60:] - old[-60:]).max() < 3e-3


def test_a_mended_pair_is_added_to_the_others(clean: Good, tmp_path: Path) -> None:
    case = next(case for case in corpus.CASES if case.name == "millimetres among metres")
    good, before = good_of(case, clean)
    result = run(case, tmp_path, good)
    assert result.code == 6
    own = corpus.Own(tmp_path / "own", "xyz")
    shutil.copy(good / "train" / "xyz" / "0.tiff", own.path("geometry"))
    code, said = call(own, result.out, case.options)
    assert code == 0, said
    assert without(contents(result.out), "no/such/pair") == without(before, "no/such/pair")


def cell(text: str) -> str:
    text = re.sub(r"(at byte|at the byte) \d+", r"\1 …", text)  # encoders differ from one version to the next
    return re.sub(r"(.)\1{30,}", r"\1\1\1…", text).replace("|", "\\|").replace("\n", "⏎")


def row(number: int, case: Any, result: Result) -> str:
    happens = HAPPENS.get(case.verdict, f"refused, exit {case.exit_code}")
    message = result.error.removeprefix("1 of 6 pairs could not be prepared: ")
    if case.verdict == "fine" and case.tells:
        message = next(line for line in result.said.split("\n") if case.tells in line)
    if case.foreign:
        place = message.index(case.tells) + len(case.tells)
        message = f"{message[:place]}: …"
    return f"| {number} | {cell(case.name)} | {happens} | {f'`{cell(message)}`' if message else ''} |"


def page(results: dict[str, Result]) -> str:
    lines, number = [HEAD], 0
    for group, cases in corpus.GROUPS.items():
        lines += [f"## {group}", "", "| # | what is wrong | what happens | message |", "|--:|---|---|---|"]
        for case in cases:
            number += 1
            lines.append(row(number, case, results[case.name]))
        lines.append("")
    return "\n".join(lines)


def test_the_page_says_what_happens(clean: Good, tmp_path: Path) -> None:
    for case in corpus.CASES:
        if case.name not in RESULTS:
            RESULTS[case.name] = run(case, tmp_path / str(len(RESULTS)), good_of(case, clean)[0])
    told = page(RESULTS)
    if os.environ.get("UIPAD_WRITE_DOCS") == "1":
        PAGE.write_text(told, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == told, "run it again with UIPAD_WRITE_DOCS=1"


def test_the_cases_are_many_and_each_has_its_own_name() -> None:
    names = [case.name for case in corpus.CASES]
    assert len(names) == len(set(names)) > 150
