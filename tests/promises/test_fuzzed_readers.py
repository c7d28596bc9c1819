"""Broken files of every kind, read in a child: refused in words or read well, in 5 s and 1 GiB, and nothing else."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fuzzing import LIMIT, READERS, ROOM, SECONDS, WALL, Feeder, Outcome, Tally
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mutations import LIES, broken

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and peaks of memory are Linux's")

NAMES = [name for name in READERS if name != "itself"]
SLOW = ("exr",)  # each look at one starts a process
NATIVE = ("png", "jpeg", "bmp", "tif")  # decoded by OpenCV in the process itself
MEASURED: dict[str, Tally] = {}


@pytest.fixture(scope="module")
def feeder(tmp_path_factory: pytest.TempPathFactory, pytestconfig: Any) -> Iterator[Feeder]:
    with Feeder(tmp_path_factory.mktemp("fuzzed")) as ready:
        yield ready
    if pytestconfig.getoption("--long"):
        terminal, capture = map(pytestconfig.pluginmanager.get_plugin, ("terminalreporter", "capturemanager"))
        with capture.global_and_fixture_disabled():
            terminal.write_line(f"\n{sum(tally.files for tally in MEASURED.values())} files")
            for name, tally in MEASURED.items():
                terminal.write_line(f"{name}: {tally}")


def check(outcome: Outcome) -> None:
    """Count it, and raise where it is not what it should be; the file is in the message."""
    MEASURED.setdefault(outcome.reader, Tally()).add(outcome)
    assert not outcome.fault(), f"{outcome.fault()}\n{outcome.data[:4000]!r}"


@pytest.mark.parametrize("name", NAMES)
def test_files_that_are_as_they_should_be_are_read(feeder: Feeder, name: str) -> None:
    """At least one seed of each reader gets to its end: what is made of them is not refused at the door alone."""
    found = [feeder(name, data) for data in READERS[name].seeds()]
    for outcome in found:
        check(outcome)
    assert any(outcome.what == "read" for outcome in found)


@pytest.mark.parametrize("name", NAMES)
def test_broken_files(feeder: Feeder, name: str, cases: Callable[[int, int], int]) -> None:
    count = cases(3, 200) if name in SLOW else cases(25, 4000 if name in NATIVE else 1500)
    refused = 0
    for data in broken(READERS[name].seeds(), count, seed=3):
        outcome = feeder(name, data)
        check(outcome)
        refused += outcome.what != "read"
    assert refused or name in ("journal", "verdicts", "candy")  # a broken line of these is passed over


# ---- headers from a grammar -------------------------------------------------------------------------------------

numbers = st.one_of(st.sampled_from(LIES), st.integers(-2, 40), st.integers(-(2**64), 2**64))
sizes = st.one_of(st.integers(0, 12), numbers)
words = st.sampled_from(["x", "y", "z", "rgb", "red", "green", "blue", "nx", "vertex_indices", "", "x" * 300])
floats = st.lists(st.floats(width=32), max_size=80).map(lambda many: struct.pack(f"<{len(many)}f", *many))
body = st.one_of(st.binary(max_size=400), floats)
Draw = st.DrawFn


def text_body(draw: Draw) -> bytes:
    rows = draw(st.lists(st.lists(st.floats() | numbers, max_size=7), max_size=9))
    return "".join(" ".join(map(str, row)) + "\n" for row in rows).encode()


@st.composite
def ply_files(draw: Draw) -> bytes:
    order = draw(st.sampled_from(["ascii", "binary_little_endian", "binary_big_endian", "ascii", "zip"]))
    lines = ["ply", f"format {order} 1.0"]
    kinds = st.sampled_from(["float", "double", "uchar", "int", "uint8", "float64", "list uchar int", "list float int"])
    for element in draw(st.lists(st.sampled_from(["vertex", "vertex", "range_grid", "face", "v"]), max_size=3)):
        lines.append(f"element {element} {draw(sizes)}")
        lines += [f"property {draw(kinds)} {draw(words)}" for _ in range(draw(st.integers(0, 5)))]
        if element == "vertex" and draw(st.booleans()):
            lines += [f"property float {axis}" for axis in "xyz"]
    lines += [f"obj_info num_cols {draw(sizes)}", f"obj_info num_rows {draw(sizes)}"] * draw(st.integers(0, 1))
    return "\n".join([*lines, "end_header", ""]).encode() + (text_body(draw) if order == "ascii" else draw(body))


@st.composite
def pcd_files(draw: Draw) -> bytes:
    fields = draw(st.lists(words.filter(bool), min_size=1, max_size=5)) if draw(st.booleans()) else ["x", "y", "z"]
    encoding = draw(st.sampled_from(["ascii", "binary", "binary_compressed"]))
    sizes_of = [draw(st.sampled_from([4, 4, 4, 8, 1, 2, 3, 0])) for _ in fields]
    kinds = [draw(st.sampled_from("FFFUI?")) for _ in fields]
    counts = [draw(st.one_of(st.just(1), sizes)) for _ in fields]
    width, height = draw(sizes), draw(sizes)
    points = draw(st.one_of(st.just(width * height), sizes))
    rows = {"FIELDS": fields, "SIZE": sizes_of, "TYPE": kinds, "COUNT": counts, "WIDTH": [width], "HEIGHT": [height]}
    lines = [" ".join(map(str, [key, *values])) for key, values in rows.items()]
    head = "\n".join(["VERSION 0.7", *lines, f"POINTS {points}", f"DATA {encoding}", ""]).encode()
    inside = text_body(draw) if encoding == "ascii" else draw(body)
    if encoding == "binary_compressed":
        lie = draw(st.one_of(st.just(len(inside)), sizes)) % 2**32
        inside = struct.pack("<II", lie, draw(sizes) % 2**32) + inside
    return head + inside


@st.composite
def pnm_files(draw: Draw) -> bytes:
    kind, gaps = draw(st.sampled_from(["P2", "P3", "P5", "P6", "P1", "P7"])), st.sampled_from(" \n\t")
    told = [kind, draw(sizes), draw(sizes), draw(st.one_of(st.sampled_from([255, 65535, 256, 1]), numbers))]
    remarks = st.sampled_from(["", "", "# 7 7", "#9\n"])
    head = "".join(f"{one}{draw(gaps)}{draw(remarks)}" for one in told)
    return head.encode() + (text_body(draw) if kind in ("P2", "P3") else draw(body))


@st.composite
def npy_files(draw: Draw) -> bytes:
    kind = draw(st.sampled_from(["<f4", "<f8", ">u2", "|O", "<U9", "|V0", "<M8[s]", "|b1", "<c8", "<f2", "|u1", ""]))
    shape = tuple(draw(st.lists(sizes, max_size=4)))
    told: dict[str, object] = {"descr": kind, "fortran_order": draw(st.booleans() | numbers), "shape": shape}
    text = draw(st.sampled_from([repr(told), repr(told)[:-1], f"({told!r})", repr(list(told.items()))])) + "\n"
    version = draw(st.sampled_from([b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\0\0"]))
    length = struct.pack("<H" if version == b"\1\0" else "<I", len(text))
    return b"\x93NUMPY" + version + length + text.encode() + draw(body)


@st.composite
def tiff_files(draw: Draw) -> bytes:
    order = draw(st.sampled_from("<>"))
    tags = [256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 338, 339, 270, 34377]
    plain = {256: 4, 257: 4, 258: 32, 259: 1, 262: 1, 273: 8, 277: 1, 278: 4, 279: 64, 339: 3}
    entries = {tag: (4, 1, value) for tag, value in plain.items()} if draw(st.booleans()) else {}
    for tag in draw(st.lists(st.sampled_from(tags), max_size=6)):
        entries[tag] = (draw(st.integers(0, 19)), draw(sizes) % 2**32, draw(sizes) % 2**32)
    rows = [struct.pack(f"{order}HHII", tag, *entry) for tag, entry in sorted(entries.items())]
    place = draw(st.sampled_from([8, 8, 8, 0, 4, 2**31, 2**32 - 1]))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", place, len(rows))
    after = struct.pack(f"{order}I", draw(st.sampled_from([0, 8, 2**31])))
    return head + b"".join(rows) + after + draw(body)


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def documents(*seeds: bytes) -> st.SearchStrategy[bytes]:
    """JSON of the right keys and any values: one place of a good document holds something else."""

    @st.composite
    def changed(draw: Draw) -> bytes:
        document = json.loads(draw(st.sampled_from(seeds)))
        place = document
        while isinstance(place, dict | list) and place:
            key = draw(st.sampled_from(list(place) if isinstance(place, dict) else list(range(len(place)))))
            if not isinstance(place[key], dict | list) or draw(st.integers(0, 3)) == 0:
                place[key] = draw(values)
                break
            place = place[key]
        return json.dumps(document).encode()

    return changed()


tables = st.lists(st.lists(st.text(max_size=6) | st.sampled_from(["rgb", "depth", "0.png", "../a", "/"]), max_size=6))
csvs = tables.map(lambda rows: "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogatepass"))
GRAMMARS: dict[str, tuple[str, Callable[[], st.SearchStrategy[bytes]]]] = {
    "ply": ("cloud", ply_files),
    "pcd": ("cloud", pcd_files),
    "pcd for colours": ("colours of points", pcd_files),
    "pnm": ("pnm", pnm_files),
    "pgm": ("array", pnm_files),
    "npy": ("array", npy_files),
    "tiff": ("tiff", tiff_files),
    "tif": ("tif", tiff_files),
    "map": ("map", tiff_files),
    "manifest": ("manifest", lambda: documents(*READERS["manifest"].seeds())),
    "list": ("list", lambda: documents(*READERS["list"].seeds())),
    "baseline": ("baseline", lambda: documents(*READERS["baseline"].seeds())),
    "lines": ("lines", lambda: documents(*READERS["lines"].seeds()[0].splitlines())),
    "csv": ("table", lambda: csvs),
    "camera": ("intrinsics", lambda: values.map(lambda value: json.dumps(value).encode())),
    "any yaml": ("configuration", lambda: st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace"))),
    "any bytes": ("png", lambda: st.binary(max_size=60)),
}


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_files_from_a_grammar(feeder: Feeder, grammar: str, cases: Callable[[int, int], int]) -> None:
    name, files = GRAMMARS[grammar]

    @settings(
        max_examples=cases(15, 600), deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    @given(files())
    def tried(data: bytes) -> None:
        check(feeder(name, data))

    tried()


# ---- the watchman himself ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("does", "what"),
    [
        (b"hang", "takes too long"),
        (b"wait", "hangs"),
        (b"die", "dies (-11)"),
        (b"eat", "read"),
        (b"starve", "out of memory"),
        (b"talk", "endless message"),
        (b"fail", "KeyError"),
    ],
)
def test_everything_that_must_not_happen_is_noticed(tmp_path: Path, does: bytes, what: str) -> None:
    assert ROOM < LIMIT
    with Feeder(tmp_path, seconds=1 if does == b"hang" else SECONDS, wall=1 if does == b"wait" else WALL) as feeder:
        outcome = feeder("itself", does)
        assert outcome.what == what
        assert outcome.fault()
        feeder.wall = WALL
        assert feeder("itself", b"refuse").what == "DataError"  # by another child, where that one is gone
        assert not feeder("itself", b"").fault()
