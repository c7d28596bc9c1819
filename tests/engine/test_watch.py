"""A watched folder: pairs come in pieces, in any order, late, broken or twice, and each part is judged once."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from uipad_cli.cli import main
from uipad_cli.data import files, mvtec3d
from uipad_cli.engine.infer import Request, infer
from uipad_cli.engine.inspector import Settings, open_inspector
from uipad_cli.engine.judging import without
from uipad_cli.engine.watch import PATIENCE, Pace, follow
from uipad_cli.errors import DataError, PartialError
from uipad_cli.records import silent

FILES = ("map", "heatmap", "relief", "mask")


class Story:
    """Time that passes when somebody sleeps, and what happens at which second of it."""

    def __init__(self, *events):
        self.now, self.events = 0.0, deque(events)

    def sleep(self, seconds):
        self.now += seconds
        while self.events and self.events[0][0] <= self.now:
            self.events.popleft()[1]()

    @property
    def pace(self):
        return Pace(lambda: self.now, self.sleep)


@dataclass
class Heard:
    """What a watch told programs and people."""

    lines: list
    notes: list


@pytest.fixture(scope="module")
def loaded(world):
    return open_inspector(Settings(world.run, Path("nowhere")), silent)


@pytest.fixture
def incoming(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def watch(loaded, incoming, tmp_path):
    """Follow the folder until nothing has come for `idle` seconds of a story."""

    def run(*events, idle=20.0, inspector=None, folder=incoming, **settings):
        heard, story = Heard([], []), Story(*events)
        told = replace(loaded.settings, **{"out": tmp_path / "out", **settings})
        inspector = inspector or replace(loaded, settings=told)
        report = lambda step: heard.notes.append(step.note)  # noqa: E731
        follow(inspector, folder, idle=idle, tell=heard.lines.append, report=report, pace=story.pace)
        assert not story.events
        return heard

    return run


@pytest.fixture(scope="module")
def parts(world):
    """Bytes of the colour and the geometry file of two different parts."""
    found = {item.defect: item for item in mvtec3d.scan(world.raw, "pegs", "test")}
    return [(found[name].rgb.read_bytes(), found[name].geometry.read_bytes()) for name in sorted(found)[:2]]


def put(folder, stem, part, what="both"):
    for kind, suffix, data in (("rgb", "png", part[0]), ("xyz", "tiff", part[1])):
        if what in (kind, "both"):
            path = folder / kind / f"{stem}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def written(tmp_path):
    return [json.loads(line) for line in (tmp_path / "out" / "verdicts.jsonl").read_bytes().splitlines()]


class Stub:
    """An inspector that looks at nothing; `during` happens while it judges a part."""

    def __init__(self, loaded, out, during=lambda item: None, batch=8):
        config = loaded.record.config.model_copy(update={"batch": batch})
        self.settings = replace(loaded.settings, out=out)
        self.record = loaded.record.model_copy(update={"config": config})
        self.during, self.batches = during, []

    def judge(self, items, report, on_error=None, *, taken=None):
        self.batches.append([item.stem for item in items])
        for item in items:
            self.during(item)
            yield {"rgb": str(item.rgb), "depth": str(item.geometry), "verdict": "good"}


@pytest.mark.parametrize("first", ["rgb", "xyz"])
def test_a_pair_that_comes_in_pieces_is_judged_once_it_is_whole(watch, incoming, parts, tmp_path, loaded, first):
    second = "xyz" if first == "rgb" else "rgb"
    half = tuple(data[: len(data) // 2] for data in parts[0])
    seen = []
    heard = watch(
        (0.3, lambda: put(incoming, "7", half, first)),
        (1.6, lambda: put(incoming, "7", half, second)),
        (3.7, lambda: put(incoming, "7", parts[0], first)),
        (6.4, lambda: seen.append((tmp_path / "out" / "verdicts.jsonl").read_bytes())),
        (6.4, lambda: put(incoming, "7", parts[0], second)),
        idle=5,
    )
    assert seen == [b""]
    (line,) = heard.lines
    assert written(tmp_path) == [line]
    again = []
    infer(Request(incoming, None, replace(loaded.settings, out=tmp_path / "alone")), tell=again.append)
    assert again[0]["score"] == line["score"]
    assert (line["verdict"], line["rgb"]) == (again[0]["verdict"], str(incoming / "rgb" / "7.png"))
    assert Path(line["heatmap"]).is_file()


def test_a_partner_may_come_much_later_and_other_pairs_go_on(watch, incoming, parts, tmp_path):
    heard = watch(
        (0.1, lambda: put(incoming, "late", parts[0], "rgb")),
        (0.2, lambda: put(incoming, "early", parts[1])),
        (15, lambda: put(incoming, "lonely", parts[1], "xyz")),
        (30, lambda: put(incoming, "late", parts[0], "xyz")),
    )
    assert [Path(line["rgb"]).stem for line in heard.lines] == ["early", "late"]
    assert heard.notes[0] == f"watching {incoming}, 0 already judged; Ctrl-C ends"
    assert "2 judged; without a partner:" in heard.notes[-1]
    assert heard.notes[-1].endswith("lonely.tiff")
    assert len(heard.notes) == 2


def test_files_that_are_renamed_into_place_are_judged_then(watch, incoming, parts):
    def upload():
        put(incoming, "0", parts[0], "xyz")
        (incoming / "rgb").mkdir()
        (incoming / "rgb" / "0.png.part").write_bytes(parts[0][0])
        (incoming / "rgb" / ".0.png").write_bytes(parts[0][0])

    place = (9, lambda: (incoming / "rgb" / "0.png.part").rename(incoming / "rgb" / "0.png"))
    heard = watch((0.1, upload), place, idle=12)
    assert len(heard.lines) == 1
    assert len(heard.notes) == 2


def test_what_was_judged_is_not_judged_again_after_a_restart(watch, incoming, parts, tmp_path, monkeypatch):
    for stem, part in zip("ab", parts, strict=True):
        put(incoming, stem, part)
    first = watch(idle=0)
    assert len(first.lines) == 2
    assert all(line["key"].startswith(f"rgb/{stem}.png ") for line, stem in zip(first.lines, "ab", strict=True))
    monkeypatch.chdir(incoming.parent)
    second = watch((5, lambda: put(incoming, "c", parts[0])), folder=Path("in"))  # the same folder by another name
    assert "2 already judged" in second.notes[0]
    assert [Path(line["rgb"]).stem for line in second.lines] == ["c"]
    assert [line["verdict"] for line in written(tmp_path)] == [line["verdict"] for line in first.lines + second.lines]


def test_a_line_that_a_crash_cut_off_is_removed_and_its_part_judged_again(watch, incoming, parts, tmp_path):
    for stem, part in zip("ab", parts, strict=True):
        put(incoming, stem, part)
    first = watch(idle=0)
    log = tmp_path / "out" / "verdicts.jsonl"
    whole = log.read_bytes()
    head = whole.index(b"\n") + 1
    for tail in (whole[head:-1], whole[head : head + 5], b"\0" * 100_000):
        log.write_bytes(whole[:head] + tail)
        heard = watch(idle=0)
        assert f"{len(tail)} bytes removed" in heard.notes[0]
        assert [line["key"] for line in heard.lines] == [first.lines[1]["key"]]
        assert [line["key"] for line in written(tmp_path)] == [line["key"] for line in first.lines]
    log.write_bytes(b"{" * 70_000)
    assert len(watch(idle=0).lines) == 2


def test_another_part_under_the_same_name_is_judged_anew(watch, incoming, parts, tmp_path):
    heard = watch((1, lambda: put(incoming, "0", parts[0])), (8, lambda: put(incoming, "0", parts[1])))
    assert len(heard.lines) == 2
    assert len({line["score"] for line in heard.lines}) == 2
    assert len({line["key"] for line in written(tmp_path)}) == 2


def test_each_line_keeps_its_files_when_another_part_takes_its_name(watch, incoming, parts, tmp_path, monkeypatch):
    put(incoming, "0", parts[0])
    put(incoming, "0-2", parts[0])
    first = watch(idle=0).lines
    before = {line[kind]: Path(line[kind]).read_bytes() for line in first for kind in FILES}
    second = watch((1, lambda: put(incoming, "0", parts[1]))).lines
    monkeypatch.chdir(tmp_path)  # the same folder by another name
    third = watch((1, lambda: put(incoming, "0", parts[0])), out=Path("out")).lines
    names = [line["name"].rpartition("/")[2] for line in (*first, *second, *third)]
    assert names == ["0", "0-2", "0-3", "0-4"]
    lines = written(tmp_path)
    assert [files.read_map(tmp_path / line["map"])[1]["score"] for line in lines] == [line["score"] for line in lines]
    assert {path: Path(path).read_bytes() for path in before} == before
    assert len({(tmp_path / line[kind]).resolve() for line in lines for kind in FILES}) == len(FILES) * len(lines)


def test_a_part_that_has_no_line_leaves_its_name_to_the_next(watch, incoming, parts, tmp_path):
    put(incoming, "0", parts[0])
    (line,) = watch(idle=0).lines
    (tmp_path / "out" / "verdicts.jsonl").write_bytes(b"")
    assert [again["name"] for again in watch(idle=0).lines] == [line["name"]] == ["in/test/unlabelled/0"]


def test_nothing_of_an_earlier_part_lies_beside_the_files_of_a_later_one(incoming, parts, loaded, world, tmp_path):
    def judged(part, **settings):
        put(incoming, "0", part)
        told = replace(loaded.settings, model=world.run, out=out, **settings)
        heard = []
        rgb, depth = incoming / "rgb" / "0.png", incoming / "xyz" / "0.tiff"
        infer(Request(rgb, None if told.missing else depth, told), tell=heard.append)
        there = {str(path) for path in out.iterdir()}
        assert there == {heard[0][kind] for kind in (*FILES, "ply") if heard[0].get(kind)}

    out = tmp_path / "out"
    judged(parts[0], ply=True)
    judged(parts[1])
    judged(parts[0], ply=True)
    judged(parts[1], missing="depth")


def test_a_scan_beside_the_files_is_neither_removed_nor_overwritten(incoming, parts, loaded, world, tmp_path):
    put(incoming, "0", parts[0])
    (incoming / "0.ply").write_bytes(b"ply\nformat ascii 1.0\n")
    for ply in (True, False):
        settings = replace(loaded.settings, model=world.run, out=incoming, ply=ply)
        infer(Request(incoming / "rgb" / "0.png", incoming / "xyz" / "0.tiff", settings), tell=print)
        assert (incoming / "0_map.tiff").is_file()
        assert (incoming / "0_points.ply").is_file() == ply
        assert (incoming / "0.ply").read_bytes() == b"ply\nformat ascii 1.0\n"


def test_a_part_that_changes_while_it_is_judged_has_no_verdict_until_it_is_done(
    watch, incoming, parts, loaded, tmp_path
):
    left = [b"more", b"still more"]

    def write_on(item):
        if left:
            item.rgb.write_bytes(left.pop())

    put(incoming, "0", parts[0])
    stub = Stub(loaded, tmp_path / "out", write_on)
    heard = watch(inspector=stub)
    assert stub.batches == [["0"]] * 3
    assert len(heard.lines) == len(written(tmp_path)) == 1


def test_a_pair_that_cannot_be_read_has_one_line_and_stops_nobody(watch, incoming, parts, tmp_path):
    broken = (parts[0][0], parts[0][1][:3000])
    put(incoming, "bad", broken)
    put(incoming, "good", parts[0])
    heard = watch(idle=3)
    good, bad = written(tmp_path)
    assert heard.lines == [good, bad]
    assert Path(good["rgb"]).stem == "good"
    assert (good["verdict"] != "error", bad["verdict"]) == (True, "error")
    assert set(bad) == {"rgb", "depth", "verdict", "error", "key"}
    assert "bad.tiff" in bad["error"]
    assert "1 judged; 1 could not be" in heard.notes[-1]
    assert watch(idle=3).lines == []
    assert len(written(tmp_path)) == 2
    heard = watch((1, lambda: put(incoming, "bad", parts[0])))
    assert [Path(line["rgb"]).stem for line in heard.lines] == ["bad"]


def test_a_pair_is_tried_as_long_as_it_changes(watch, incoming, parts, tmp_path):
    pieces = [parts[0][1][: 2000 * n] for n in range(1, 8)]
    events = [
        (PATIENCE * 0.8 * n, lambda data=data: put(incoming, "0", (b"", data), "xyz")) for n, data in enumerate(pieces)
    ]
    put(incoming, "0", parts[0], "rgb")
    heard = watch(*events, (PATIENCE * 5.5, lambda: put(incoming, "0", parts[0], "xyz")))
    assert len(heard.lines) == len(written(tmp_path)) == 1


def test_a_file_that_is_taken_away_costs_nobody_anything(watch, incoming, parts, loaded, tmp_path):
    for stem in "abc":
        put(incoming, stem, parts[0])

    def take(item):
        if item.stem == "a" and item.rgb.exists():
            item.rgb.unlink()
            raise DataError(f"{item.rgb}: no such file", "check the path")

    heard = watch(inspector=Stub(loaded, tmp_path / "out", take))
    assert [Path(line["rgb"]).stem for line in heard.lines] == ["b", "c"]
    assert len(written(tmp_path)) == 2


def test_parts_are_judged_as_they_came_in_batches(watch, incoming, parts, loaded, tmp_path):
    for stem, when in (("a", 30), ("b", 10), ("c", 20), ("d", 10)):
        put(incoming, stem, parts[0])
        os.utime(incoming / "rgb" / f"{stem}.png", (5, 5))
        os.utime(incoming / "xyz" / f"{stem}.tiff", (when, when))
    stub = Stub(loaded, tmp_path / "out", batch=3)
    watch(inspector=stub)
    assert stub.batches == [["b", "d", "c"], ["a"]]


def test_a_folder_that_is_gone_is_waited_for_and_missed_once(watch, incoming, parts, tmp_path):
    away = tmp_path / "away"
    heard = watch(
        (2, lambda: incoming.rename(away)),
        (9, lambda: away.rename(incoming)),
        (12, lambda: put(incoming, "0", parts[0])),
    )
    assert len(heard.lines) == 1
    assert heard.notes[1:-1] == [f"{incoming} is gone: waiting until it is there again"]


def test_of_a_tree_the_categories_that_the_run_knows_are_judged(watch, incoming, parts, loaded, tmp_path):
    put(incoming / "nuts" / "test" / "good", "0", parts[0])
    put(incoming / "pegs" / "test" / "dent", "1", parts[0])
    put(incoming / "pegs" / "test", "2", parts[0])
    stub = Stub(loaded, tmp_path / "out")
    watch(inspector=stub)
    assert sorted(stub.batches[0]) == ["1", "2"]
    (incoming / "pegs").rename(incoming / "bolts")
    heard = watch(inspector=Stub(loaded, tmp_path / "other"))
    assert heard.lines == []
    assert "no category 'pegs'" in heard.notes[1]
    assert len(heard.notes) == 3


def test_other_formats_are_judged_once_they_are_whole(watch, world, incoming, loaded, tmp_path):
    shutil.copytree(world.prepared, incoming, dirs_exist_ok=True)
    (incoming / "manifest.json").rename(tmp_path / "manifest.json")
    stub = Stub(loaded, tmp_path / "out")
    watch((5, lambda: (tmp_path / "manifest.json").rename(incoming / "manifest.json")), inspector=stub)
    assert sum(map(len, stub.batches)) == len(written(tmp_path)) == 18
    table = tmp_path / "table"
    put(table, "0", (b"x", b"y"))
    (table / "pairs.csv").write_text("rgb,xyz\nrgb/0.png,xyz/0.tiff\nrgb/1.png,xyz/1.tiff\n")
    stub = Stub(loaded, tmp_path / "other")
    heard = watch((5, lambda: put(table, "1", (b"x", b"y"))), inspector=stub, folder=table)
    assert sorted(stub.batches[0]) == ["0", "1"]
    assert ["1.png: no such file" in note for note in heard.notes] == [False, True, False]


@pytest.mark.parametrize(("missing", "kind", "given"), [("depth", "rgb", "rgb"), ("rgb", "xyz", "depth")])
def test_with_one_file_missing_the_files_of_a_folder_are_followed(
    watch, incoming, parts, tmp_path, loaded, missing, kind, given
):
    record = without(loaded.record, missing)
    settings = replace(loaded.settings, out=tmp_path / "out", missing=missing)
    inspector = replace(loaded, settings=settings, record=record)
    path = incoming / kind / ("0.png" if kind == "rgb" else "0.tiff")
    half = tuple(data[: len(data) // 2] for data in parts[0])
    events = (1, lambda: put(incoming, "0", half, kind)), (4, lambda: put(incoming, "0", parts[0], kind))
    (incoming / kind).mkdir()
    heard = watch(*events, inspector=inspector, folder=incoming / kind)
    assert [line[given] for line in heard.lines] == [str(path)]
    path.write_bytes(b"nothing")
    watch(inspector=inspector, folder=incoming / kind)
    assert [written(tmp_path)[-1][name] for name in ("verdict", given, missing)] == ["error", str(path), None]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["{in}", "--idle", "3"], "--idle without --watch"),
        (["{in}", "--watch", "--idle", "inf"], "--idle inf"),
        (["{in}/rgb/0.png", "{in}/xyz/0.tiff", "--watch"], "a pair was given"),
        (["{in}/nowhere", "--watch"], "nowhere is not a folder"),
        (["{in}", "--watch", "--missing", "depth"], "follows a folder of single files"),
    ],
)
def test_what_makes_no_sense_is_a_usage_fault(capsys, world, incoming, parts, tmp_path, arguments, told):
    put(incoming, "0", parts[0])
    given = [argument.replace("{in}", str(incoming)) for argument in arguments]
    assert main(["infer", *given, "--model", str(world.run), "--out", str(tmp_path / "out")]) == 2
    assert told in capsys.readouterr().err.replace("\n", "")
    assert not (tmp_path / "out").exists()


def test_exit_codes_are_those_of_the_verdicts(capsys, world, incoming, parts, tmp_path):
    put(incoming, "0", parts[0])
    command = ["infer", str(incoming), "--model", str(world.run), "--watch", "--idle", "0", "--exit-code", "--json"]
    for threshold, code in (("0", 10), ("1e9", 0)):
        out = tmp_path / threshold
        assert main([*command, "--out", str(out), "--threshold", threshold]) == code
        assert capsys.readouterr().out == (out / "verdicts.jsonl").read_text()
        assert main([*command, "--out", str(out)]) == 0  # nothing new: nothing to raise an alarm about
    assert "1 already judged" in capsys.readouterr().err


@pytest.mark.parametrize("json_lines", [True, False])
def test_programs_and_people_hear_of_parts_that_cannot_be_judged(
    capsys, monkeypatch, world, incoming, parts, tmp_path, json_lines
):
    monkeypatch.setattr("uipad_cli.engine.watch.PATIENCE", 0.1)
    put(incoming, "0", (b"", parts[0][1]))
    out = tmp_path / "out"
    command = ["infer", str(incoming), "--model", str(world.run), "--watch", "--idle", "0", "--out", str(out)]
    assert main([*command, *(["--json"] if json_lines else [])]) == PartialError.exit_code
    (line,) = written(tmp_path)
    told, people = capsys.readouterr()
    assert told == ((out / "verdicts.jsonl").read_text() if json_lines else "")
    assert (f"error {line['rgb']}: {line['error']}" in people) != json_lines


def test_parts_that_could_not_be_judged_are_a_partial_failure(monkeypatch, world, incoming, parts, tmp_path):
    monkeypatch.setattr("uipad_cli.engine.watch.PATIENCE", 0.1)
    put(incoming, "0", (b"", parts[0][1]))
    put(incoming, "1", parts[0])
    outcome = infer(Request(incoming, None, Settings(world.run, tmp_path / "out"), True, 0.0), tell=print)
    with pytest.raises(PartialError, match=r"1 of 2 pairs could not be judged: .*0\.png: the file is empty"):
        outcome.raise_for_failures()


def test_a_pair_that_may_not_be_skipped_ends_the_watch_with_its_line(
    capsys, monkeypatch, world, incoming, parts, tmp_path
):
    monkeypatch.setattr("uipad_cli.engine.watch.PATIENCE", 0.1)
    put(incoming, "0", parts[0])
    put(incoming, "1", (b"", parts[0][1]))
    command = ["infer", str(incoming), "--model", str(world.run), "--watch", "--idle", "60", "--on-error", "stop"]
    command += ["--out", str(tmp_path / "out")]
    assert main(command) == DataError.exit_code
    said = capsys.readouterr().err
    assert "error: " in said
    assert "1.png: the file is empty" in said
    assert [line["verdict"] == "error" for line in written(tmp_path)] == [False, True]
    put(incoming, "2", parts[1])
    assert main([*command[:6], "0", *command[7:]]) == 0  # what was told once stops it no more
    assert len(written(tmp_path)) == 3


@pytest.mark.parametrize("choice", ["skip", "stop"])
def test_a_folder_is_judged_to_its_end_or_to_the_first_pair_that_cannot_be_read(
    capsys, world, incoming, parts, tmp_path, choice
):
    for stem in range(12):
        put(incoming, f"{stem:02d}", (b"", parts[0][1]) if stem in (5, 9) else parts[0])
    command = ["infer", str(incoming), "--model", str(world.run), "--out", str(tmp_path / "out"), "--json"]
    code = main([*command, "--on-error", choice])
    out, said = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    told = [Path(line["rgb"]).stem for line in lines]
    broken = [(Path(line["rgb"]).stem, line["error"].partition(": ")[2]) for line in lines if "error" in line]
    if choice == "skip":
        assert (code, told) == (PartialError.exit_code, [f"{stem:02d}" for stem in range(12)])
        assert broken == [("05", "the file is empty"), ("09", "the file is empty")]
        assert "2 of 12 pairs could not be judged" in said
    else:
        assert (code, told) == (DataError.exit_code, ["00", "01", "02", "03", "04", "05"])
        assert broken == [("05", "the file is empty")]
    assert len({line["score"] for line in lines if "score" in line}) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_and_nothing_is_lost(world, incoming, parts, tmp_path, number, code):
    put(incoming, "0", parts[0])
    command = [sys.executable, "-m", "uipad_cli", "infer", incoming, "--model", world.run, "--out", tmp_path / "out"]
    with subprocess.Popen([*command, "--watch", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        line = process.stdout.readline()
        process.send_signal(number)
        rest, told = process.communicate(timeout=60)
    assert (process.returncode, rest) == (code, b"")
    assert written(tmp_path) == [json.loads(line)]
    assert b"stopped, nothing is lost: 1 judged" in told
    assert b"Traceback" not in told
    assert not list(tmp_path.rglob(".uipad-*"))


def test_a_signal_ends_a_batch_after_the_part_at_hand(loaded, incoming, parts, tmp_path):
    for stem in "abc":
        put(incoming, stem, parts[0])
    stub = Stub(loaded, tmp_path / "out", lambda item: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        follow(stub, incoming, idle=None, tell=print, report=silent, pace=Story().pace)
    assert [Path(line["rgb"]).stem for line in written(tmp_path)] == ["a"]
