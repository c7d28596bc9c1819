"""Whatever the numbers of a readable pair are: a finite verdict that JSON can say, or an error that names its file."""

import json
import math
import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import hypothesis
import numpy as np
import pytest
import safetensors.numpy
from forged import forge
from hypothesis import strategies as st
from program import call

from uipad_cli.data import files
from uipad_cli.data.folder import pair
from uipad_cli.data.geometry import Preparation
from uipad_cli.engine.inspector import Settings, open_inspector
from uipad_cli.engine.prepare import prepare
from uipad_cli.engine.record import file_hash, read_record
from uipad_cli.errors import DataError, ResourceError, UsageError, WeightsError
from uipad_cli.records import ANOMALOUS, GOOD, UNSURE, silent

LARGEST, LEAST = np.finfo(np.float32).max, np.finfo(np.float32).smallest_subnormal
SPECIAL = [
    0.0, -0.0, float("nan"), float("inf"), float("-inf"), LARGEST, -LARGEST, LARGEST / 2, LEAST, -LEAST, 1e-38, 1e-30,
    1e-20, 1e-10, 1e10, 1e19, 1e20, 1e30, 0.4, 0.5, 0.6, -0.5, 1.0, 1000.0, 65535.0, 65504.0, 16777217.0,
]  # fmt: skip
NANS = np.array([0x7FC00000, 0x7F800001, 0xFFC00000, 0x7FFFFFFF, 0xFF800001], np.uint32).view(np.float32)
MISSING = [*NANS, 0.0, -0.0, float("inf"), float("-inf"), -1e-30, -1.0, -LARGEST]  # what a sensor may mean by nothing
SIZES = [
    *[(40, 40)] * 20, *[(64, 48)] * 20, *[(30, 31)] * 20, (1, 4000), (4000, 1), (2, 2000), (2000, 2), (3, 500),
    (16, 16), (112, 112), (113, 61), *((height, width) for height in range(1, 9) for width in range(1, 9)),
]  # fmt: skip
SETTINGS = {"deadline": None, "database": None, "derandomize": True, "print_blob": False}
QUIET = [
    hypothesis.HealthCheck.too_slow,
    hypothesis.HealthCheck.data_too_large,
    hypothesis.HealthCheck.large_base_example,
]


@st.composite
def depths(draw, size):
    """Depth [H,W] float32 in metres: a part as it would be, and what a broken sensor could have made of it."""
    height, width = size
    rows, columns = np.indices(size)
    base = draw(st.sampled_from([*["part"] * 8, "plane", "constant", "noise", "special", "missing", "steps"]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if base == "part":
        shape = np.hypot(rows - height / 2, columns - width / 2) < min(height, width) / 3
        rise = draw(st.sampled_from([0.0, 1e-9, 1e-3, 0.01, 0.02, 0.3, -0.01]))
        depth = 0.5 - rise * shape + random.normal(0, draw(st.sampled_from([0.0, 1e-4, 1e-3])), size)
    elif base == "plane":
        depth = (
            0.5 + rows * draw(st.sampled_from([0.0, 1e-6, 1e-3, 1.0])) + columns * draw(st.sampled_from([0.0, 1e-5]))
        )
    elif base == "constant":
        depth = np.full(size, draw(st.sampled_from(SPECIAL)))
    elif base == "noise":
        depth = random.random(size) * draw(st.sampled_from([1e-30, 1e-6, 1.0, 1e6, 1e30]))
    elif base == "special":
        depth = random.choice(SPECIAL, size)
    elif base == "missing":
        depth = np.zeros(size)
        depth[draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))] = draw(st.sampled_from(SPECIAL))
    else:
        depth = np.where(rows % 2 == 0, *draw(st.tuples(st.sampled_from(SPECIAL), st.sampled_from(SPECIAL))))
    with np.errstate(over="ignore", invalid="ignore"):
        depth = depth.astype(np.float32)
    for value in draw(st.lists(st.sampled_from([*SPECIAL, *MISSING * 6]), max_size=3)):
        share = draw(st.sampled_from([0.001, 0.3, 0.6, 0.99]))
        depth[random.random(size) < share] = value
    return depth


@st.composite
def pairs(draw):
    """Colour [H,W,3] uint8, and depth [H,W] or points [H,W,3] float32 of one size."""
    size = draw(st.sampled_from(SIZES))
    depth = draw(depths(size))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    colour = draw(st.sampled_from([None, 0, 255, 128]))
    rgb = random.integers(0, 256, (*size, 3), np.uint8) if colour is None else np.full((*size, 3), colour, np.uint8)
    if draw(st.booleans()):
        return rgb, depth
    rows, columns = np.indices(size)
    with np.errstate(over="ignore", invalid="ignore"):
        across = [((place - place.mean()) / max(size)).astype(np.float32) * depth for place in (columns, rows)]
    points = np.stack([*across, depth], axis=2)
    if draw(st.booleans()):
        points[random.random((*size, 3)) < draw(st.sampled_from([0.01, 0.5]))] = draw(
            st.sampled_from([*SPECIAL, *MISSING * 3])
        )
    return rgb, points


@pytest.fixture(scope="module")
def inspector(world, tmp_path_factory):
    return open_inspector(Settings(world.run, tmp_path_factory.mktemp("judged"), device="cpu", ply=True), silent)


def write(folder, rgb, geometry, name="part"):
    """The pair as files; the geometry as a float tiff or npy, which keep every bit."""
    files.write_png(folder / "rgb" / f"{name}.png", rgb)
    kind = "xyz" if geometry.ndim == 3 else "depth"
    path = folder / kind / f"{name}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, geometry)
    return folder / "rgb" / f"{name}.png", path


def verdict(inspector, item):
    """What is said of a pair, checked to be finite and to lie in its files; None where an error tells why not."""
    try:
        (line,) = inspector.judge([item], silent)
    except DataError as error:
        assert error.message
        return None
    said = json.loads(json.dumps(line, allow_nan=False), parse_constant=pytest.fail)
    assert said["verdict"] in (GOOD, UNSURE, ANOMALOUS)
    assert math.isfinite(said["score"])
    assert 0 < said["p_value"] <= 1
    written, about = files.read_map(Path(said["map"]))
    assert not np.isinf(written).any()
    assert (about["low"], about["high"]) == (inspector.calibration.map_low, inspector.calibration.map_high)
    for name in ("heatmap", "mask", "relief"):
        picture = cv2.imread(said[name], cv2.IMREAD_UNCHANGED)
        assert picture.shape[:2] == written.shape
    if "ply" in said:
        assert Path(said["ply"]).read_bytes().startswith(b"ply\n")
    left = [path for path in inspector.settings.out.rglob("*") if path.match(files.TEMPORARY)]
    assert left == []
    return said["verdict"]


def tried(check, count):
    """Run a check of the pairs that hypothesis draws, so many of them."""
    settings = hypothesis.settings(max_examples=count, suppress_health_check=QUIET, **SETTINGS)
    settings(hypothesis.given(pairs())(check))()


@pytest.mark.filterwarnings("error")
def test_raw_pairs(inspector, tmp_path, cases):
    said = []

    def check(drawn):
        paths = write(tmp_path, *drawn)
        try:
            item = pair(*paths)
        except DataError:
            said.append(None)
            return
        said.append(verdict(inspector, item))

    tried(check, cases(30, 1500))
    assert len(said) >= cases(30, 1500)
    judged = [one for one in said if one is not None]
    assert len(judged) > len(said) / 20, "hardly any of them could be read: they say nothing"


@pytest.mark.filterwarnings("error")
def test_prepared_pairs(world, inspector, tmp_path, cases):
    """prepare alone may refuse one; what it made of the others is finite and judged."""
    said = []

    def check(drawn):
        shutil.rmtree(tmp_path / "raw", ignore_errors=True)
        shutil.rmtree(tmp_path / "ready", ignore_errors=True)
        write(tmp_path / "raw", *drawn)
        settings = Preparation(sensor=read_record(world.run).preparation.sensor)
        try:
            prepare(tmp_path / "raw", tmp_path / "ready", preparation=settings, workers=1, check=True)
        except (DataError, UsageError):
            said.append(None)
            return
        json.loads((tmp_path / "ready" / "manifest.json").read_text(), parse_constant=pytest.fail)
        json.loads((tmp_path / "ready" / "health.json").read_text(), parse_constant=pytest.fail)
        (item,) = files_of(tmp_path / "ready")
        said.append(verdict(inspector, item))

    tried(check, cases(15, 700))
    judged = [one for one in said if one is not None]
    if cases(False, True):  # of a few, which hypothesis draws otherwise from version to version, none may be readable
        assert len(judged) > len(said) / 20, "hardly any of them could be prepared: they say nothing"


def files_of(ready):
    from uipad_cli.data import prepared

    return [item for name in prepared.categories(ready) for item in prepared.scan(ready, name, "test")]


@pytest.mark.parametrize("known", ["rgb", "depth"])
def test_pairs_that_miss_a_file(world, inspector, tmp_path, cases, known):
    missing = {"rgb": "depth", "depth": "rgb"}[known]
    half = open_inspector(replace(inspector.settings, missing=missing, ply=False), silent)

    def check(drawn):
        rgb, geometry = write(tmp_path, *drawn)
        lone = rgb if known == "rgb" else geometry
        try:
            item = pair(lone, lone, depth=missing == "depth")
            (line,) = half.judge([item], silent)
        except DataError:
            return
        said = json.loads(json.dumps(line, allow_nan=False))
        assert math.isfinite(said["score"])
        assert said["verdict"] in (GOOD, UNSURE, ANOMALOUS)

    tried(check, cases(10, 200))


HOSTILE = [1e999, -1e999, float("nan"), 1e308, -1e308, 5e-324, 0.0, 1e30, -1.0]


@pytest.mark.parametrize("place", ["map_low", "map_high", "threshold", "unsure_from", "scores", "voices", "height"])
def test_no_number_of_a_record_makes_one(world, tmp_path, capsys, cases, place):
    """A stranger's calibration, sealed as it should be: refused, or verdicts as ever."""
    good = world.raw / "pegs" / "test" / "scratch"
    for value in HOSTILE[: cases(4, len(HOSTILE))]:
        run = tmp_path / "run"
        shutil.copytree(world.run, run)

        def spoil(record, value=value):
            own = record["calibration"]
            if place == "scores":
                own["scores"] = [value, *own["scores"][1:]]
            elif place == "voices":
                own["voices"] = {name: [value, high] for name, (_, high) in own["voices"].items()}
            elif place == "height":
                record["height_scale"] = {"low": value, "high": 1e308}
            else:
                own[place] = value

        forge(run / "checkpoint.json", spoil)
        arguments = [good / "rgb" / "000.png", good / "xyz" / "000.tiff", "--model", run, "--out", tmp_path / "out"]
        code, out, _ = call(capsys, "infer", *arguments, "--json", "--ply")
        assert code in ((0, 3, 4) if math.isfinite(value) else (4,))
        if code == 0:
            said = json.loads(out, parse_constant=pytest.fail)
            assert math.isfinite(said["score"])
            assert said["verdict"] in (GOOD, UNSURE, ANOMALOUS)
        shutil.rmtree(run)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), LARGEST, 1e20, 0.0])
@pytest.mark.parametrize("file", ["method.safetensors", "backbone.safetensors"])
def test_no_weights_make_one(world, tmp_path, capsys, cases, file, value):
    """Weights of a stranger whose hashes are right."""
    good = world.raw / "pegs" / "test" / "scratch"
    names = sorted(safetensors.numpy.load_file(world.run / file))
    random = np.random.default_rng(zlib.crc32(file.encode()))
    for name in random.choice(names, cases(1, 20)).tolist():
        run = tmp_path / "run"
        shutil.copytree(world.run, run)
        tensors = safetensors.numpy.load_file(run / file)
        spoiled = tensors[name].copy()
        spoiled.reshape(-1)[: max(1, spoiled.size // 2)] = value if spoiled.dtype.kind == "f" else 0
        safetensors.numpy.save_file({**tensors, name: spoiled}, run / file)
        hashes = {file: file_hash(run / file)}
        forge(run / "checkpoint.json", lambda record, new=hashes: record["sha256"].update(new))
        arguments = [good / "rgb" / "000.png", good / "xyz" / "000.tiff", "--model", run, "--out", tmp_path / "out"]
        code, out, err = call(capsys, "infer", *arguments, "--json", "--ply")
        assert code in (0, 4), (name, err)
        if code == 0:
            said = json.loads(out, parse_constant=pytest.fail)
            assert math.isfinite(said["score"])
            assert not np.isinf(files.read_map(Path(said["map"]))[0]).any()
        shutil.rmtree(run)


@pytest.mark.parametrize("name", ["pitch_m", "height_max", "low", "high"])
def test_no_number_of_a_manifest_makes_one(world, tmp_path, capsys, cases, name):
    """Beside JSON numbers that no float can hold, which no reader of ours takes."""
    for value in HOSTILE[: cases(4, len(HOSTILE))]:
        ready = tmp_path / "ready"
        shutil.copytree(world.prepared, ready)
        manifest = json.loads((ready / "manifest.json").read_text())
        entry = manifest["categories"]["pegs"]
        entry["pairs"] = {key: one for key, one in entry["pairs"].items() if key.startswith("test/s")}
        for one in (
            [entry["height_scale"]] if name in ("low", "high") else [one["geometry"] for one in entry["pairs"].values()]
        ):
            one[name] = value
        text = json.dumps(manifest).replace("-Infinity", "-1e999").replace("Infinity", "1e999")
        (ready / "manifest.json").write_text(text)
        arguments = [ready, "--model", world.run, "--out", tmp_path / "out", "--json"]
        code, out, _ = call(capsys, "infer", *arguments)
        assert code in (0, 3)
        for line in out.splitlines():
            said = json.loads(line, parse_constant=pytest.fail)
            assert math.isfinite(said["score"])
        shutil.rmtree(ready)


def test_errors_of_the_family_are_all_that_is_raised():
    """What `verdict` lets pass is an error with an exit code of its own."""
    assert {DataError.exit_code, WeightsError.exit_code, ResourceError.exit_code, UsageError.exit_code} == {2, 3, 4, 5}
