"""Names from strangers: nothing is written or removed outside the output folder, and no name commands the terminal."""

import csv
import hashlib
import io
import json
import os
import shutil
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from encoded import npy_bytes
from forged import forge
from pages import Page
from program import call
from rich.console import Console

from uipad_cli import console
from uipad_cli.data import prepared
from uipad_cli.engine import exported
from uipad_cli.engine.prepare import prepare
from uipad_cli.engine.record import file_hash, read_record
from uipad_cli.records import Progress
from uipad_cli.report.cloud import Cloud, document
from uipad_cli.report.page import build_page

AWAY = "{away}"  # stands for a full path outside the output folder
PLANT = "planted"
LEADING_OUT = [  # each would lead to another folder, or is no name at all
    "", ".", "..", "../..", f"../../{PLANT}", f"../../../../{PLANT}", f"a/../../{PLANT}", f"a/../../../../{PLANT}",
    AWAY, f"/{AWAY}", f"a/{PLANT}", f"./{PLANT}", f"{PLANT}/", f"..\\..\\{PLANT}", f"a\\{PLANT}",
    f"\\\\server\\share\\{PLANT}",
    f"C:\\{PLANT}", f"C:/{PLANT}", f"{PLANT}\0.png", "\0", "\ud800", "x" * 300, "ü" * 200, f"..%2f..%2f{PLANT}/..",
]  # fmt: skip
HARMLESS = [  # each is the name of one file, however strange
    "a\nerror: forged", "a\rerror: forged", "a\tb", "\x1b[31mred", "\x1b]0;owned\x07", "\x9b31m", "\x7f", "\x01",
    "a\vb", "\u202egnp.exe", "\u2066left\u2069", "\u200b", "\u2028line", "\u2024\u2024", "\uff0e\uff0e", "\uff0fetc",
    "a\u2044b", "\u2215", "~", "~root", "$HOME", "${PATH}", "`id`", "$(id)", "-rf", "--help", "--out=x", "CON", "NUL",
    "aux.txt", "C:", "a.", "a ", " a", "...", "%2e%2e", "..%2f..", "%00", "[red]x", "a\u0301",
    "<img src=x onerror=alert(1)>", "o'clock \"now\"", "{{7*7}}", "{0}%s%n", ".hidden", ".uipad-0.tmp", "manifest.json",
    "metrics.json", "checkpoint.json", "x" * 200, "=cmd|' calc'!A0", "a,b;c", "😀",
]  # fmt: skip
NAMES = [*LEADING_OUT, *HARMLESS]


@pytest.fixture
def chosen(cases):
    """Names for the cut: every so manieth, each kind of them in every cut; all of them with --long."""

    def some(names, few, start=0):
        count = min(len(names), cases(few, len(names)))
        return [names[(start + place * len(names) // count) % len(names)] for place in range(count)]

    def of_both(few, start=0):
        return [*some(LEADING_OUT, few, start), *some(HARMLESS, max(1, few // 2), start)]

    return lambda few, start=0, names=None: of_both(few, start) if names is None else some(names, few, start)


@pytest.fixture(scope="module")
def few(world, tmp_path_factory):
    """The world with few parts: three to learn from, one good and one defective to judge."""
    root = tmp_path_factory.mktemp("few")
    for path in sorted(world.raw.rglob("*.*")):
        inner = path.relative_to(world.raw)
        split, defect = inner.parts[1:3]
        if (path.stem == "000" and (split, defect) in (("test", "good"), ("test", "scratch"))) or (
            split == "train" and path.stem < "003"
        ):
            (root / "raw" / inner).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, root / "raw" / inner)
    prepare(root / "raw", root / "prepared", workers=1)
    return replace(world, raw=root / "raw", prepared=root / "prepared")


@dataclass(frozen=True)
class Arena:
    """A folder in which everything lies that a program could spoil; it may write below `out` alone."""

    root: Path
    out: Path

    @property
    def away(self):
        return self.root / "away"

    def seen(self):
        """All that lies outside the output folder, and what is in it; links are told, not followed."""
        found = {}
        for folder, folders, names in os.walk(self.root):
            here = Path(folder)
            if here == self.out:
                folders.clear()
                continue
            for path in (here / name for name in (*folders, *names)):
                if path != self.out:
                    found[str(path)] = _about(path)
        return found

    def fill(self, name):
        return name.replace(AWAY, str(self.away / PLANT))


def _about(path):
    if path.is_symlink():
        return "link", str(path.readlink())
    if path.is_dir():
        return ("folder",)
    return "file", path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def arena(tmp_path, monkeypatch):
    root = tmp_path / "arena"
    here = root / "deep" / "down"
    (root / "away").mkdir(parents=True)
    (root / "home").mkdir()
    here.mkdir(parents=True)
    for folder in (root, root / "away", root / "home", root / "deep", here):
        (folder / "canary.txt").write_text("alive")
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(root / "home"))
    return Arena(root, here / "out")


@pytest.fixture
def run(arena, capsys):
    """Call the program; its code. It wrote below the output folder alone, and told people nothing that is no text."""

    def call_it(*arguments, codes):
        before = arena.seen()
        code, out, err = call(capsys, *arguments)
        assert arena.seen() == before, arguments
        assert code in codes, (arguments, code, err)
        assert readable(err), err
        assert out.isascii() and readable(out)
        return code, out, err

    return call_it


@pytest.fixture
def settings(quick):
    """Of a training that is over at once."""
    return [f"--set={one}" for one in (*quick, "options.training.steps=2", "options.training.warmup_steps=1")]


def readable(text):
    """Whether text is lines of letters alone."""
    return all(letter == "\n" or letter.isprintable() for letter in text)


def creatable(name):
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name and _encodes(name)


def _encodes(name):
    try:
        return len(name.encode()) <= 240
    except UnicodeEncodeError:
        return False


def copied(source, target):
    """A copy by hard links would let a write through: the files themselves."""
    shutil.copytree(source, target)
    return target


# ---- manifests --------------------------------------------------------------------------------------------------


def hostile_manifest(few, arena, place, name):
    """The output folder is a prepared one in whose manifest a part of every name is `name`, with decoys."""
    copied(few.prepared, arena.out)
    path = arena.out / "manifest.json"
    manifest = json.loads(path.read_text())
    entry = manifest["categories"].pop("pegs")
    if place == "category":
        manifest["categories"][name] = entry
        if creatable(name) and name != path.name:
            (arena.out / "pegs").rename(arena.out / name)
    else:
        manifest["categories"]["pegs"] = entry
        entry["pairs"] = {_named(key, place, name): pair for key, pair in entry["pairs"].items()}
    path.write_text(json.dumps(manifest))
    for category, one in manifest["categories"].items():
        for key in one["pairs"]:
            _decoys(arena, f"{category}/{key}")


def _named(key, place, name):
    split, defect, stem = key.split("/")
    return {
        "split": f"{name}/{defect}/{stem}", "defect": f"{split}/{name}/{stem}",
"stem": f"{split}/{defect}/{name if name in ('', '.', '..') or '/' in name else name + stem}",
    }[place]  # fmt: skip


def _decoys(arena, name):
    """A file where each file of a pair of this name would be, if that is outside the output folder."""
    if name.count("/") != 3 or "\0" in name or not _encodes(name):
        return
    item = prepared.item(arena.out, name, mask=True)
    for path in (item.rgb, item.geometry, item.mask, item.valid):
        place = Path(os.path.normpath(path))
        if place.is_relative_to(arena.root) and not place.is_relative_to(arena.out):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text("alive")


@pytest.mark.parametrize("place", ["category", "split", "defect", "stem"])
def test_a_manifest_leads_nowhere(few, arena, run, chosen, place):
    for name in chosen(2, start=len(place)):
        hostile_manifest(few, arena, place, arena.fill(name))
        leading = name in LEADING_OUT
        codes = {3} if leading else {0, 2, 3, 5, 6}
        results = arena.out / "results"
        run("infer", arena.out, "--model", few.run, "--out", results, codes=codes)
        if place == "category":
            run("eval", few.run, arena.out, "--out", results, codes=codes)
            run("heatmap", few.run, arena.out, "--out", results, codes=codes)
        # last of all, for it removes what it finds of pairs that are gone
        run("prepare", few.raw, arena.out, "--workers", 1, codes={3} if leading else {0, 2, 3, 5, 6})
        shutil.rmtree(arena.out)


def test_training_from_a_hostile_manifest_leads_nowhere(few, arena, run, chosen, settings):
    for given in chosen(1):
        name = arena.fill(given)
        hostile_manifest(few, arena, "category", name)
        run(
            "train", arena.out, f"--category={name}" if "\0" not in name else "--category=x",
            "--out", arena.out / "run", "--no-cache", *settings, codes={0, 2, 3},
        )  # fmt: skip
        shutil.rmtree(arena.out)


# ---- records of runs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["category", "categories"])
def test_a_record_leads_nowhere(few, arena, run, chosen, cases, place):
    if place not in cases(["category"], ["category", "categories"]):
        pytest.skip("with --long")
    for given in chosen(2, start=3):
        name = arena.fill(given)
        leading = name not in HARMLESS
        copied(few.run, arena.out)
        told = name if place == "category" else [name, "pegs"]
        forge(arena.out / "checkpoint.json", lambda record, told=told: record.update({place: told}))
        data = few.prepared
        if creatable(name) and not leading:
            hostile_manifest_beside(few, arena, name)
            data = arena.out / "data"
        codes = {4} if leading else {0, 2, 3, 5}
        for command in (
            ["eval", arena.out, data, "--report"],
            ["heatmap", arena.out, data, "--out", arena.out / "maps"],
        ):
            run(*command, codes=codes)
        run("infer", data, "--model", arena.out, "--out", arena.out / "results", codes=codes | ({6} - {4}))
        run("calibrate", arena.out, codes={4} if leading else {0})
        run("drift", arena.out, data, codes={4} if leading else {0, 2, 3, 11})
        shutil.rmtree(arena.out)


def hostile_manifest_beside(few, arena, name):
    """A prepared folder out/data with a category of this name, its files with it."""
    folder = copied(few.prepared, arena.out / "data")
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["categories"] = {name: manifest["categories"]["pegs"]}
    aside = (folder / "pegs").rename(folder / "aside")
    if name != "manifest.json":
        aside.rename(folder / name)
    path.write_text(json.dumps(manifest))


def test_an_export_leads_nowhere(few, arena, run, chosen):
    record = read_record(few.run).model_dump(mode="json")
    parity = dict.fromkeys(["map_range", "map_mean", "map_most", "map_max", "score_usual", "score_max"], 0.0)
    for given in chosen(8):
        name = arena.fill(given)
        arena.out.mkdir()
        (arena.out / "model.onnx").write_bytes(b"no network")
        about = {
            "format": "uipad-export", "version": exported.VERSION, "engine": "onnx", "record": record, "size": 112,
            "grid": [8, 8], "voices": [], "top": 0.01, "measured": 0.5, "versions": {},
            "parity": {"source": "x", "pairs": 1, **parity},
            "sha256": {"model.onnx": file_hash(arena.out / "model.onnx"), name: "0" * 64},
        }  # fmt: skip
        (arena.out / "export.json").write_text(json.dumps(about))
        forge(arena.out / "export.json", dict)
        arguments = [few.raw, "--model", arena.out, "--engine", "onnx", "--out", arena.out / "results"]
        run("infer", *arguments, codes={4})
        shutil.rmtree(arena.out)


def test_keys_of_safetensors_lead_nowhere(few, arena, run, chosen):
    pair = [few.raw / "pegs" / "test" / "good" / kind for kind in ("rgb/000.png", "xyz/000.tiff")]
    for given in chosen(1, names=[name for name in NAMES if name != "\ud800"]):
        name = arena.fill(given)
        for file in ("method.safetensors", "backbone.safetensors", "calibration.safetensors"):
            copied(few.run, arena.out)
            path = arena.out / file
            tensors = safetensors.numpy.load_file(path)
            for key in [f"category/{name}", name]:
                tensors[key] = np.zeros(1, np.int64)
            safetensors.numpy.save_file(tensors, path)
            hashes = {file: file_hash(path)}
            forge(arena.out / "checkpoint.json", lambda record, new=hashes: record["sha256"].update(new))
            command = ["infer", *pair, "--model", arena.out, "--out", arena.out / "results"]
            if file.startswith("calibration"):
                command = ["drift", arena.out, few.raw]
            run(*command, codes={0, 4} if file.startswith("calibration") else {4})
            shutil.rmtree(arena.out)


def test_a_baseline_leads_nowhere(few, arena, run, chosen):
    arena.out.mkdir()
    for name in chosen(1, start=len(LEADING_OUT)):
        figures = {"image_auroc": 0.5}
        told = {"categories": {arena.fill(name): figures, "pegs": figures}, "mean": figures}
        (arena.out / "metrics.json").write_text(json.dumps(told))
        arguments = [few.run, few.prepared, "--baseline", arena.out / "metrics.json", "--out", arena.out / "eval"]
        run("eval", *arguments, codes={0, 2, 3, 11})


# ---- raw data ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["rgb", "xyz", "mask", "split", "label", "category", "name"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_table_leads_nowhere(few, arena, run, chosen, kind, column):
    data = arena.root / "deep" / "table"
    copied(few.raw / "pegs" / "train" / "good", data)
    for name in chosen(2, start=len(column) + len(kind)):
        row = {
            "rgb": "rgb/000.png",
            "xyz": "xyz/000.tiff",
            "split": "train",
            "label": "good",
            "category": "c",
            "name": "n",
        }
        rows = [row | {column: arena.fill(name)}, row | {"name": "other"}]
        if kind == "csv":
            heads = list(rows[0])
            lines = [",".join(f'"{row.get(head, "")}"'.replace('o"clock', "x") for head in heads) for row in rows]
            text = "\n".join([",".join(heads), *lines]).encode("utf-8", "surrogatepass")
        else:
            text = "\n".join(json.dumps(row) for row in rows).encode()
        (data / f"pairs.{kind}").write_bytes(text)
        codes = {3} if name in LEADING_OUT and column in ("rgb", "xyz") and name else {0, 3, 5, 6}
        run("prepare", data, arena.out, "--workers", 1, "--check", codes=codes)
        (data / f"pairs.{kind}").unlink()
        shutil.rmtree(arena.out, ignore_errors=True)


@pytest.mark.parametrize("key", ["image_path", "xyz_path", "mask_path", "ps_path", "anomaly_class", "prefix"])
def test_a_list_of_realiad_d3_leads_nowhere(arena, run, chosen, writers, key):
    data = arena.root / "deep" / "d3"
    writers.write_realiad_d3(data, train=2, validation=(0, 0), test=(1, 1), size=16)
    path = data / "realiad_d3_jsons" / "knob-cap.json"
    whole = json.loads(path.read_text())
    for name in chosen(2, start=len(key)):
        told = json.loads(json.dumps(whole))
        if key == "prefix":
            told["meta"]["prefix"] = arena.fill(name)
        else:
            told["test"][1][key] = arena.fill(name)
        path.write_text(json.dumps(told))
        run("prepare", data, arena.out, "--workers", 1, codes={0, 3, 5, 6})
        shutil.rmtree(arena.out, ignore_errors=True)


@pytest.mark.parametrize("place", ["category", "defect", "stem"])
def test_folders_of_mvtec_lead_nowhere(few, arena, run, chosen, cases, place):
    if place not in cases(["stem"], ["category", "defect", "stem"]):
        pytest.skip("with --long")
    for name in chosen(1, start=len(place), names=[name for name in HARMLESS if creatable(name)]):
        data = copied(few.raw, arena.root / "deep" / "data")
        test = data / "pegs" / "test"
        if place == "category":
            (data / "pegs").rename(data / name)
        elif place == "defect":
            (test / "good").rename(test / name)
        else:
            (test / "good" / "rgb" / "000.png").rename(test / "good" / "rgb" / f"{name}.png")
            (test / "good" / "xyz" / "000.tiff").rename(test / "good" / "xyz" / f"{name}.tiff")
            (test / "good" / "gt" / "000.png").rename(test / "good" / "gt" / f"{name}.png")
        codes = {0, 3, 5, 6}
        run("prepare", data, arena.out, "--workers", 1, "--check", codes=codes)
        run("infer", data, "--model", few.run, "--out", arena.out / "results", codes=codes)
        run("eval", few.run, data, "--out", arena.out / "eval", "--report", codes=codes)
        run("heatmap", few.run, data, "--out", arena.out / "maps", codes=codes)
        shutil.rmtree(data)
        shutil.rmtree(arena.out, ignore_errors=True)


def test_folders_of_eyecandies_lead_nowhere(arena, run, chosen, writers):
    for name in chosen(1, names=[name for name in HARMLESS if creatable(name)]):
        data = arena.root / "deep" / "data"
        writers.write_eyecandies(data, name, train=2, val=0, good=1, bad=1, private=0, size=32)
        run("prepare", data, arena.out, "--workers", 1, codes={0, 3, 5, 6})
        shutil.rmtree(data)
        shutil.rmtree(arena.out, ignore_errors=True)


@pytest.mark.parametrize("watched", [True, False])
def test_files_of_a_folder_lead_nowhere(few, arena, run, chosen, watched):
    data = arena.root / "deep" / "folder"
    good = few.raw / "pegs" / "test" / "good"
    names = chosen(6, names=[name for name in HARMLESS if creatable(name)])
    for kind, suffix in (("rgb", ".png"), ("xyz", ".tiff")):
        (data / kind).mkdir(parents=True)
        for name in names:
            shutil.copy(good / kind / f"000{suffix}", data / kind / f"{name}{suffix}")
    more = ["--watch", "--idle", 0] if watched else []
    _, out, _ = run("infer", data, "--model", few.run, "--out", arena.out, "--json", *more, codes={0, 6})
    lines = [json.loads(line) for line in out.splitlines()]
    visible = [name for name in names if not name.startswith(".")]
    assert len(lines) == len(visible)
    assert all(Path(line["map"]).is_file() and Path(line["map"]).is_relative_to(arena.out) for line in lines)


def test_members_of_an_archive_lead_nowhere(few, arena, run, chosen):
    good = few.raw / "pegs" / "test" / "good"
    points = np.linspace(1, 2, 112 * 112 * 3, dtype=np.float32).reshape(112, 112, 3)
    arena.out.mkdir()
    for name in chosen(6, names=[name for name in NAMES if _encodes(name)]):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(zipfile.ZipInfo(f"{arena.fill(name)}.npy"), npy_bytes(points))
            archive.writestr(zipfile.ZipInfo(f"{arena.fill(name)}2.npy"), npy_bytes(points))
        (arena.out / "points.npz").write_bytes(buffer.getvalue())
        pair = [good / "rgb" / "000.png", arena.out / "points.npz"]
        run("infer", *pair, "--model", few.run, "--out", arena.out / "results", codes={0, 3})


@pytest.mark.parametrize("command", ["prepare", "train", "drift", "demo"])
def test_a_category_that_is_asked_for_leads_nowhere(few, arena, run, chosen, command):
    for name in chosen(4, names=[name for name in NAMES if "\0" not in name and name != "\ud800"]):
        asked = f"--category={arena.fill(name)}"
        arguments = {
            "prepare": [few.raw, arena.out, asked], "train": [few.prepared, asked, "--out", arena.out],
            "drift": [few.run, few.raw, asked, "--out", arena.out], "demo": ["--out", arena.out, asked],
        }[command]  # fmt: skip
        run(command, *arguments, codes={2, 3})


# ---- links ------------------------------------------------------------------------------------------------------


def linked(path, target):
    """A link in the place of a file or folder, which moves to its target if there is none yet."""
    if path.exists():
        if target.exists():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        else:
            path.rename(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


@pytest.mark.parametrize("link", ["pegs", "pegs/train", "pegs/train/good", "pegs/train/good/rgb", "pegs/test/good/gt"])
@pytest.mark.parametrize("change", ["another pair", "a pair less"])
def test_prepare_writes_and_removes_through_no_link(few, arena, run, link, change):
    raw = copied(few.raw, arena.root / "deep" / "raw")
    copied(few.prepared, arena.out)
    linked(arena.out / link, arena.away / "moved")
    split, kinds = ("test", ("rgb", "xyz", "gt")) if "test" in link else ("train", ("rgb", "xyz"))
    for kind in kinds:
        for path in sorted((raw / "pegs" / split / "good" / kind).glob("000.*")):
            path.unlink() if change == "a pair less" else shutil.copy(path, path.with_stem("new"))
    _, _, err = run("prepare", raw, arena.out, "--workers", 1, codes={5})
    assert "outside" in err


def test_prepare_through_no_link_in_workers_either(few, arena, run):
    copied(few.prepared, arena.out)
    (arena.out / "manifest.json").write_text("{}")
    (arena.out / "manifest.json").unlink()
    (arena.out / ".journal.jsonl").write_text("")
    shutil.rmtree(arena.out / "pegs")
    linked(arena.out / "pegs", arena.away)
    run("prepare", few.raw, arena.out, "--workers", 2, codes={5})


@pytest.mark.parametrize("name", ["manifest.json", ".journal.jsonl", "health.html", "health.json", ".uipad-0.tmp"])
def test_prepare_replaces_links_that_have_its_own_names(few, arena, run, name):
    raw = copied(few.raw, arena.root / "deep" / "raw")
    copied(few.prepared, arena.out)
    linked(arena.out / name, arena.away / "canary.txt" if name != "manifest.json" else arena.away / "manifest")
    shutil.copy(raw / "pegs/train/good/rgb/000.png", raw / "pegs/train/good/rgb/new.png")
    shutil.copy(raw / "pegs/train/good/xyz/000.tiff", raw / "pegs/train/good/xyz/new.tiff")
    run("prepare", raw, arena.out, "--workers", 1, "--check", codes={0})
    assert not (arena.out / name).is_symlink()


@pytest.mark.parametrize("command", ["prepare", "watch", "eval"])
def test_what_was_left_half_written_is_swept_in_the_folder_alone(few, arena, run, command):
    (arena.away / ".uipad-0.tmp").write_text("of somebody else")
    if command == "prepare":
        copied(few.prepared, arena.out)
    linked(arena.out / "pegs2", arena.away)
    linked(arena.out / ".uipad-1.tmp", arena.away / ".uipad-0.tmp")
    linked(arena.out / ".uipad-2.tmp", arena.away)
    (arena.out / ".uipad-3.tmp").write_text("")
    good = few.raw / "pegs" / "test" / "good"
    arguments = {
        "prepare": ["prepare", few.raw, arena.out, "--workers", 1],
        "watch": ["infer", good, "--model", few.run, "--watch", "--idle", 0, "--out", arena.out],
        "eval": ["eval", few.run, few.prepared, "--out", arena.out],
    }[command]  # fmt: skip
    run(*arguments, codes={0})
    assert not (arena.out / ".uipad-3.tmp").exists()


@pytest.mark.parametrize("log", ["link", "pipe"])
def test_training_writes_through_no_link(few, arena, run, settings, cases, log):
    if log == "pipe" and not cases(False, True):
        pytest.skip("with --long")
    for name in ("log.jsonl", "method.safetensors", "training.safetensors", "calibration.safetensors"):
        linked(arena.out / name, arena.away / "canary.txt")
    (arena.away / ".uipad-0.tmp").write_text("of somebody else")
    linked(arena.out / ".uipad-1.tmp", arena.away / ".uipad-0.tmp")
    linked(arena.out / "more", arena.away)
    if log == "pipe":  # which nobody reads
        (arena.out / "log.jsonl").unlink()
        os.mkfifo(arena.out / "log.jsonl")
    run("train", few.prepared, "--category", "pegs", "--out", arena.out, "--no-cache", *settings, codes={0})
    assert len((arena.out / "log.jsonl").read_text().splitlines()) == 2
    assert not (arena.out / ".uipad-1.tmp").is_symlink()


def test_a_lock_is_no_link(few, arena, run, settings):
    linked(arena.out / ".uipad-lock", arena.away / "canary.txt")
    run("train", few.prepared, "--category", "pegs", "--out", arena.out, "--no-cache", *settings, codes={5})


@pytest.mark.parametrize("command", ["folder", "watch", "pair"])
def test_infer_replaces_links_that_have_its_own_names(few, arena, run, command):
    good = few.raw / "pegs" / "test" / "good"
    folder = {"pair": arena.out, "folder": arena.out / "good/test/good", "watch": arena.out / "good/test/unlabelled"}[
        command
    ]
    names = [f"000_{kind}" for kind in ("map.tiff", "heat.png", "relief.png", "mask.png", "points.ply")]
    for name in names:
        linked(folder / name, arena.away / "canary.txt")
    what = [good / "rgb" / "000.png", good / "xyz" / "000.tiff"] if command == "pair" else [good]
    more = {"watch": ["--watch", "--idle", 0]}.get(command, [])
    run("infer", *what, "--model", few.run, "--out", arena.out, "--ply", *more, codes={0})
    assert not [name for name in names if (folder / name).is_symlink() or not (folder / name).is_file()]


def test_infer_writes_through_no_link(few, arena, run):
    linked(arena.out / "pegs", arena.away)
    for data in (few.raw, few.prepared):
        _, _, err = run("infer", data, "--model", few.run, "--out", arena.out, codes={5})
        assert "outside" in err


@pytest.mark.parametrize("there", [True, False])
def test_a_log_of_verdicts_is_no_link(few, arena, run, there):
    target = arena.away / "log"
    if there:
        target.write_text("{}\n")
    linked(arena.out / "verdicts.jsonl", target)
    good = few.raw / "pegs" / "test" / "good"
    arguments = ["infer", good, "--model", few.run, "--watch", "--idle", 0, "--out", arena.out]
    _, _, err = run(*arguments, codes={5})
    assert "link" in err


def test_a_pipe_in_the_place_of_a_log_holds_nobody_up(few, arena, run):
    arena.out.mkdir()
    os.mkfifo(arena.out / "verdicts.jsonl")
    good = few.raw / "pegs" / "test" / "good"
    run("infer", good, "--model", few.run, "--watch", "--idle", 0, "--out", arena.out, codes={5})


@pytest.mark.parametrize("link", ["eval", "eval/pegs", "eval-without-rgb", "results/pegs"])
def test_figures_are_written_through_no_link(few, arena, run, link):
    copied(few.run, arena.out)
    linked(arena.out / link, arena.away)
    more = {"eval-without-rgb": ["--missing", "rgb"], "results/pegs": ["--out", arena.out / "results"]}.get(link, [])
    _, _, err = run("eval", arena.out, few.prepared, "--report", *more, codes={5})
    assert "outside" in err


def test_figures_replace_links_that_have_their_names(few, arena, run):
    for name in ("metrics.json", "report.html", "pegs/scores.csv", "pegs/sheet.jpg", "pegs/borderline.jpg"):
        linked(arena.out / name, arena.away / "canary.txt")
    run("eval", few.run, few.prepared, "--report", "--out", arena.out, codes={0})
    assert "pegs" in (arena.out / "metrics.json").read_text()


def test_runs_that_are_links_out_of_their_folder_are_read_and_not_calibrated(few, arena, run):
    copied(few.run, arena.away / "run")
    linked(arena.out / "run", arena.away / "run")
    run("eval", arena.out, few.prepared, codes={0})
    _, _, err = run("calibrate", arena.out, codes={5})
    assert "outside" in err


def test_a_comparison_is_written_through_no_link(few, arena, run):
    copied(few.run, arena.out)
    linked(arena.out / "drift", arena.away)
    run("drift", arena.out, few.raw, codes={5})


@pytest.mark.parametrize("link", ["data", "data/pegs", "data/pegs/train", "prepared", "runs", "runs/pegs", "eval"])
def test_a_demo_writes_through_no_link(arena, run, link):
    linked(arena.out / link, arena.away)
    _, _, err = run("demo", "--out", arena.out, "--category", "pegs", codes={5})
    assert "outside" in err


@pytest.mark.parametrize("name", ["a,b", "a\nb", 'a"b', "=1+1"])
def test_a_table_of_scores_has_a_line_for_each_part(few, arena, run, name):
    data = copied(few.raw, arena.root / "deep" / "data")
    for path in sorted((data / "pegs" / "test" / "good").rglob("000.*")):
        path.rename(path.with_stem(name))
    run("eval", few.run, data, "--out", arena.out, codes={0})
    with (arena.out / "pegs" / "scores.csv").open(newline="") as file:
        assert [row["part"] for row in csv.DictReader(file)] == [f"pegs/test/good/{name}", "pegs/test/scratch/000"]


@pytest.mark.parametrize("link", ["pegs", "pegs/good"])
def test_heat_maps_are_written_through_no_link(few, arena, run, link):
    linked(arena.out / link, arena.away)
    _, _, err = run("heatmap", few.run, few.prepared, "--out", arena.out, codes={5})
    assert "outside" in err


def test_a_heat_map_replaces_a_link(few, arena, run):
    good = few.raw / "pegs" / "test" / "good"
    run("infer", good / "rgb/000.png", good / "xyz/000.tiff", "--model", few.run, "--out", arena.out, codes={0})
    linked(arena.out / "000_heat.png", arena.away / "canary.txt")
    run("heatmap", arena.out / "000_map.tiff", "--out", arena.out, codes={0})
    (arena.out / "000_heat.png").unlink()
    linked(arena.out / "000_heat.png", arena.out / "000_heat.png")  # to itself
    run("heatmap", arena.out / "000_map.tiff", "--out", arena.out, "--rgb", good / "rgb/000.png", codes={0})


def test_the_folder_that_was_named_may_be_a_link(few, tmp_path, capsys):
    (tmp_path / "disk").mkdir()
    out = linked(tmp_path / "out", tmp_path / "disk")
    assert call(capsys, "prepare", few.raw, out / "ready", "--workers", 1)[0] == 0
    assert call(capsys, "infer", few.raw, "--model", few.run, "--out", out)[0] == 0
    assert call(capsys, "heatmap", few.run, out / "ready", "--out", out)[0] == 0
    assert (tmp_path / "disk" / "pegs" / "test" / "good" / "000_map.tiff").is_file()


def test_data_may_be_links_and_is_not_written_through(few, arena, run):
    raw = arena.root / "deep" / "links"
    for path in sorted(few.raw.rglob("*")):
        if path.is_file():
            linked(raw / path.relative_to(few.raw), path)
    before = {path: _about(path) for path in sorted(few.raw.rglob("*"))}
    run("prepare", raw, arena.out, "--workers", 1, "--check", codes={0})
    run("infer", raw, "--model", few.run, "--out", arena.out / "results", codes={0})
    assert {path: _about(path) for path in sorted(few.raw.rglob("*"))} == before
    assert not [path for path in arena.out.rglob("*") if path.is_symlink()]


# ---- what people see --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["error", "note", "table", "verdict", "plain", "bars"])
def test_no_name_commands_the_terminal(monkeypatch, way):
    """Not even where colours are drawn: all codes of a terminal but those of colour and of bars stay out."""
    for name in (*HARMLESS, "[red]x[/]", "[/]", "[/nothing]"):
        monkeypatch.delenv("CI", raising=False)
        stream = io.StringIO()
        screen = Console(file=stream, force_terminal=way == "bars", width=2000, highlight=False)
        monkeypatch.setattr(console, "people", lambda screen=screen: screen)
        if way == "error":
            console.error(name, name)
        elif way == "note":
            console.notes([name])
        elif way == "table":
            console.table(name, [name, "value"], [[name, 1.0]])
        elif way == "verdict":
            told = {"verdict": "good", "rgb": name, "heatmap": name, "score": 1.0, "threshold": 2.0, "p_value": 0.5}
            console.verdict(told)
            console.verdict({"verdict": "error", "rgb": name, "error": name})
        else:
            with console.progress() as report:
                report(Progress(name, 1, 2, note=name))
                report(Progress(name, 2, 2, note=name))
                report(Progress("note", 0, 0, note=name))
        told = stream.getvalue()
        assert "".join(one if one.isprintable() else ascii(one)[1:-1] for one in name).strip() in told
        if way != "bars":
            assert readable(told), (name, told)
        assert not any(
            code in told for code in ("\x1b[31mred", "\x1b]", "\x07", "\x9b", "\u202e", "\u2028", "\nerror: forged")
        )


EVIL = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    'o\'clock "now" & <b>',
    "{{7*7}}",
    "]]>-->",
]


@pytest.mark.parametrize("evil", EVIL)
def test_pages_show_names_as_text(evil):
    points = np.zeros((2, 3), np.float32)
    colours = np.zeros((2, 3), np.uint8)
    text = document([Cloud(evil, points, colours, colours, np.zeros(2, np.float32))])
    assert "<" not in text
    html = build_page(title=evil, notes=[evil], mean={}, sections=[], settings={evil: evil})
    page = Page(html)
    assert page.all("script") == page.all("img") == page.all("b") == []
    assert page.texts.count(evil) >= 3


@pytest.mark.parametrize("evil", [name for name in EVIL if "/" not in name])
def test_pages_of_commands_show_names_as_text(few, arena, run, cases, evil):
    if evil not in cases(EVIL[1:2], EVIL):
        pytest.skip("with --long")
    data = copied(few.raw, arena.root / "deep" / "data")
    test = (data / "pegs" / "test" / "good").rename(data / "pegs" / "test" / f"d {evil}")
    for kind, suffix in (("rgb", ".png"), ("xyz", ".tiff"), ("gt", ".png")):
        (test / kind / f"000{suffix}").rename(test / kind / f"s {evil}{suffix}")
    (data / "pegs").rename(data / evil)
    run("prepare", data, arena.out, "--workers", 1, "--check", codes={0})
    run("eval", few.run, data, "--out", arena.out / "eval", "--report", codes={3})
    copied(few.run, arena.out / "run")
    forge(arena.out / "run" / "checkpoint.json", lambda record: record.update(category=evil))
    run("eval", arena.out / "run", data, "--out", arena.out / "eval", "--report", codes={0, 3})
    run("drift", arena.out / "run", data / evil / "test" / f"d {evil}", "--out", arena.out / "drift", codes={0, 3, 11})
    pages = sorted(arena.out.rglob("*.html"))
    assert len(pages) >= 2
    for path in pages:
        page = Page(path.read_text())
        assert not [tag for tag, told in page.elements if any(key.startswith("on") for key in told)]
        assert not [told for told in page.all("img") if not told["src"].startswith("data:")]
        assert evil not in path.read_text() or not set(evil) & set("<&\"'")
