import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from records import change_record

from uipad_cli import config
from uipad_cli.data import files, scenes
from uipad_cli.data.scans import read_raster
from uipad_cli.engine import calibrate, fingerprint
from uipad_cli.engine.checkpoint import load_tensors, save_tensors
from uipad_cli.engine.drift import _incoming, compare, drift
from uipad_cli.engine.fingerprint import FIGURES, QUIET, Fingerprint, described, read_fingerprints, save_fingerprints
from uipad_cli.engine.prepare import prepare
from uipad_cli.engine.record import CALIBRATION_FILE, RECORD, file_hash, read_record
from uipad_cli.engine.train import train
from uipad_cli.errors import EXIT_GATE, DataError, UsageError, WeightsError
from uipad_cli.records import Sample

SIZE, CALIBRATED, CAME = 112, 8, 16
SETTINGS = [
    "method=patchcore", "backbone=tiny", "precision=fp32", f"framing.resize={SIZE}", f"framing.crop={SIZE}",
    "options.sample=500",
]  # fmt: skip


@dataclass(frozen=True)
class Line:
    raw: Path
    prepared: Path
    run: Path


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """Rendered flanges, and a run calibrated by eight good ones."""
    root = tmp_path_factory.mktemp("line")
    made = Line(root / "raw", root / "prepared", root / "run")
    scenes.write(
        made.raw, categories=["flange"], train=5, validation=CALIBRATED, test_good=CAME, test_per_defect=0, size=SIZE,
        seed=1,
    )  # fmt: skip
    prepare(made.raw, made.prepared, workers=1)
    train(made.prepared, made.run, category="flange", configuration=config.merge([], SETTINGS))
    return made


def arrived(line, folder, change):
    """The good test parts as a folder of pairs, each changed by `change(rgb, xyz, number)`."""
    good = line.raw / "flange" / "test" / "good"
    for number, path in enumerate(sorted((good / "rgb").glob("*.png"))):
        rgb, xyz = files.read_rgb(path), read_raster(good / "xyz" / f"{path.stem}.tiff").astype(np.float32)
        rgb, xyz = change(rgb, xyz, number)
        files.write_png(folder / "rgb" / f"part{number}.png", rgb)
        files.write_tiff(folder / "xyz" / f"part{number}.tiff", xyz)
    return folder


def as_it_came(rgb, xyz, number):
    return rgb, xyz


def darkened(rgb, xyz, number):
    return (0.75 * rgb).astype(np.uint8), xyz


def moved(rgb, xyz, number):
    step = round(0.08 * SIZE)
    return np.roll(rgb, step, axis=1), np.roll(xyz, step, axis=1)


def defective(rgb, xyz, number):
    """A foreign body, another one for each part."""
    row, column = np.random.default_rng(number).integers(40, 60, 2)
    there = slice(row, row + 14), slice(column, column + 14)
    rgb[there] = [(230, 20, 210), (20, 220, 30), (250, 250, 40)][number % 3]
    xyz[(*there, 2)] += 0.01 * (-1) ** number * (xyz[(*there, 2)] > 0)
    return rgb, xyz


class TestFourLines:
    def test_good_parts_are_steady(self, line, tmp_path):
        found = drift(line.run, arrived(line, tmp_path / "in", as_it_came), out=tmp_path / "out")
        assert found.compared.verdict == "steady"
        assert found.exit_code() == 0
        told = f"in: steady: {CAME} parts against {CALIBRATED} good ones of the calibration show no change"
        assert found.sentences()[0] == told

    def test_less_light_is_the_line(self, line, tmp_path):
        found = drift(line.run, arrived(line, tmp_path / "in", darkened), out=tmp_path / "out")
        assert found.compared.verdict == "line changed"
        assert found.exit_code() == EXIT_GATE
        assert found.since is None
        told = found.sentences()[0]
        assert "line changed: brightness " in told
        assert any(f"({percent} %)" in told.split("brightness of")[0] for percent in range(-30, -20))
        assert {row.name for row in found.compared.rows if row.moved} <= {
            "brightness", "brightness of the border", QUIET,
        }  # fmt: skip

    def test_a_shifted_fixture_is_the_line(self, line, tmp_path):
        found = drift(line.run, arrived(line, tmp_path / "in", moved), out=tmp_path / "out")
        assert found.compared.verdict == "line changed"
        across = next(row for row in found.compared.rows if row.name == "position across")
        assert across.moved
        assert across.now - across.before == pytest.approx(8, abs=2)

    def test_defects_are_the_parts(self, line, tmp_path):
        found = drift(line.run, arrived(line, tmp_path / "in", defective), out=tmp_path / "out")
        assert found.compared.verdict == "more defective parts"
        assert found.exit_code() == EXIT_GATE
        assert found.compared.alarms.count > CAME / 2
        assert not any(row.moved for row in found.compared.rows)
        told = " ".join(found.sentences())
        assert "no change of light, camera, fixture or sensor shows in so many parts: look at the parts" in told
        assert "as before" not in told


def test_a_change_on_the_way_is_located(line, tmp_path):
    def later(rgb, xyz, number):
        return darkened(rgb, xyz, number) if number >= 9 else (rgb, xyz)

    found = drift(line.run, arrived(line, tmp_path / "in", later), out=tmp_path / "out")
    assert found.compared.verdict == "line changed"
    assert found.since in ("part8", "part9", "part10")  # in the order of numbers, not of letters
    assert f"line changed since part {found.since}: brightness" in found.sentences()[0]
    columns, rows = found.rows()
    assert f"since {found.since}" in columns
    assert {len(row) for row in rows} == {len(columns)}


def test_page_and_document(line, tmp_path):
    found = drift(line.run, arrived(line, tmp_path / "in", darkened), out=tmp_path / "out")
    assert found.page == tmp_path / "out" / "drift.html"
    assert "line changed: brightness" in found.page.read_text()
    document = json.loads((tmp_path / "out" / "drift.json").read_text())
    assert document == json.loads(json.dumps(found.document(), allow_nan=False))
    assert document["verdict"] == "line changed"
    assert document["parts"] == len(document["judged"]) == CAME
    assert document["calibration"] == {"parts": CALIBRATED, "source": "validation"}
    assert {row["name"] for row in document["figures"]} == set(FIGURES)


def test_of_a_data_set_only_the_test_split_is_compared(line):
    found = drift(line.run, line.prepared)
    assert len(found.now) == CAME
    assert found.compared.verdict == "steady"
    assert (line.run / "drift" / "drift.html").is_file()


def test_what_cannot_be_read_is_counted(line, tmp_path):
    folder = arrived(line, tmp_path / "in", as_it_came)
    (folder / "rgb" / "part3.png").write_bytes(b"no image")
    found = drift(line.run, folder, out=tmp_path / "out")
    assert len(found.now) == CAME - 1
    assert "part3" not in found.names
    assert any(told.startswith("1 pair was not read: ") and "part3.png" in told for told in found.sentences())
    for path in (folder / "rgb").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match="no pair could be read"):
        drift(line.run, folder, out=tmp_path / "out")


def few(folder, count):
    """The first parts of a folder, without the others."""
    for path in folder.glob("*/part*"):
        if int(path.stem.removeprefix("part")) >= count:
            path.unlink()
    return folder


def test_a_few_defective_parts_are_told(line, tmp_path):
    def ruined(rgb, xyz, number):
        rgb[30:80, 30:80] = (230, 20, 210)
        return defective(rgb, xyz, number)

    found = drift(line.run, few(arrived(line, tmp_path / "in", ruined), 6), out=tmp_path / "out")
    assert found.compared.least_p > found.compared.needed_p
    assert found.compared.alarms.count == 6
    assert found.compared.verdict == "more defective parts"
    assert found.exit_code() == EXIT_GATE
    told = " ".join(found.sentences())
    assert "so few parts cannot show whether light, camera, fixture or sensor have changed" in told
    assert "no change" not in told


def test_the_page_tells_an_order_only_where_there_is_one(line, tmp_path):
    found = drift(line.run, line.prepared, out=tmp_path / "one")
    assert "Score of each part, in order" in found.page.read_text()
    raw = shutil.copytree(line.raw, tmp_path / "raw")
    good, odd = (raw / "flange" / "test" / name for name in ("good", "odd"))
    for path in sorted(good.glob("*/*"))[::2]:
        target = odd / path.relative_to(good)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    prepare(raw, tmp_path / "prepared", workers=1)
    found = drift(line.run, tmp_path / "prepared", out=tmp_path / "two")
    assert {name.split("/")[0] for name in found.names} == {"good", "odd"}
    page = found.page.read_text()
    assert "Score of each part, folder by folder" in page
    assert "in order" not in page


def test_scores_of_a_run_that_learned_from_its_good_parts_are_not_compared(line, tmp_path):
    run = shutil.copytree(line.run, tmp_path / "run")
    told = {"learned_from": True, "source": "whatever they are called"}
    change_record(run / RECORD, lambda record: record["calibration"].update(told))
    found = drift(run, line.prepared)
    assert found.compared.alarms is None
    assert any("did not learn from, so scores are not compared" in told for told in found.sentences())


def test_a_few_parts_cannot_tell(line, tmp_path):
    folder = few(arrived(line, tmp_path / "in", darkened), 3)
    found = drift(line.run, folder, out=tmp_path / "out")
    assert found.compared.verdict == "too few parts to tell"
    assert found.exit_code() == 0
    assert f"it takes {found.compared.needed} parts" in found.sentences()[0]
    assert 3 < found.compared.needed < CAME


class TestFingerprints:
    def test_are_kept_with_the_run(self, line):
        kept = read_fingerprints(line.run, read_record(line.run))
        assert len(kept) == CALIBRATED
        assert sorted(one.score for one in kept) == list(read_record(line.run).calibration.scores)
        assert {one.category for one in kept} == {"flange"}
        assert {len(one.features) for one in kept} == {2 * 2 * 192}
        assert set(kept[0].named) == set(FIGURES)

    def test_an_older_run_is_cured_by_calibrating(self, line, tmp_path):
        run = shutil.copytree(line.run, tmp_path / "run")
        kept = read_fingerprints(run, read_record(run))
        (run / CALIBRATION_FILE).unlink()
        change_record(run / RECORD, lambda record: record["sha256"].pop(CALIBRATION_FILE))
        with pytest.raises(WeightsError, match=CALIBRATION_FILE) as caught:
            drift(run, line.prepared)
        assert "uipad calibrate RUN DATA" in caught.value.cure
        calibrate.calibrate(calibrate.Request(run, line.prepared))
        again = read_fingerprints(run, read_record(run))
        assert [one.named for one in again] == [one.named for one in kept]
        assert all(np.array_equal(one.features, other.features) for one, other in zip(again, kept, strict=True))

    def test_a_damaged_file_is_told(self, line, tmp_path):
        run = shutil.copytree(line.run, tmp_path / "run")
        data = bytearray((run / CALIBRATION_FILE).read_bytes())
        data[-3] ^= 1
        (run / CALIBRATION_FILE).write_bytes(data)
        with pytest.raises(WeightsError, match="damaged"):
            drift(run, line.prepared)

    @pytest.mark.parametrize("definition", [None, 0, fingerprint.DEFINITION + 1])
    def test_of_another_meaning_are_refused(self, line, tmp_path, definition):
        run = shutil.copytree(line.run, tmp_path / "run")
        tensors = load_tensors(run / CALIBRATION_FILE)
        del tensors["definition"]
        if definition is not None:
            tensors["definition"] = torch.tensor([definition])
        save_tensors(run / CALIBRATION_FILE, tensors)
        told = {CALIBRATION_FILE: file_hash(run / CALIBRATION_FILE)}
        change_record(run / RECORD, lambda record: record["sha256"].update(told))
        with pytest.raises(WeightsError, match=f"of definition {definition or 0}, ") as caught:
            drift(run, line.prepared)
        assert "uipad calibrate RUN DATA" in caught.value.cure

    def test_are_there_after_calibrations_that_were_stopped(self, line, tmp_path, monkeypatch):
        def stopped(path, value):
            raise KeyboardInterrupt

        def kept():
            return [one.named for one in read_fingerprints(run, read_record(run))]

        run = shutil.copytree(line.run, tmp_path / "run")
        before, other = kept(), calibrate.Request(run, arrived(line, tmp_path / "in", darkened))
        monkeypatch.setattr(calibrate, "write_sealed", stopped)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                calibrate.calibrate(other)
            assert kept() == before
        monkeypatch.undo()
        calibrate.calibrate(calibrate.Request(run, None, rate=0.2))  # without other parts
        assert kept() == before
        calibrate.calibrate(other)
        assert len(kept()) == CAME
        assert {path.name for path in run.glob("calibration*")} == {CALIBRATION_FILE}

    def test_keep_their_categories(self, line, tmp_path):
        parts = [
            Fingerprint(name, score, dict.fromkeys(FIGURES, score), np.full(3, score, np.float32))
            for name, score in (("b", 1.0), ("a", 2.0), ("b", 3.0))
        ]
        sha256 = {CALIBRATION_FILE: save_fingerprints(tmp_path, parts)}
        found = read_fingerprints(tmp_path, read_record(line.run).model_copy(update={"sha256": sha256}))
        assert [(one.category, one.score, one.named, one.features.tolist()) for one in found] == [
            (one.category, one.score, one.named, one.features.tolist()) for one in parts
        ]

    def test_another_meaning_takes_another_number(self):
        """Where these figures change, fingerprint.DEFINITION must, or runs from before give false alarms."""
        draw = np.random.default_rng(0)
        height = draw.random((40, 60)).astype(np.float32)
        sample = Sample(draw.integers(0, 256, (40, 60, 3), np.uint8), height, height < 0.9)
        assert fingerprint.DEFINITION == 1
        assert described(sample) == pytest.approx(
            {
                "brightness": 127.339, "contrast": 37.830, "red to blue": 0.987, "sharpness": 359.795,
                "brightness of the border": 127.550, "missing geometry": 9.958, "mean height": 446.494,
                "spread of heights": 261.259, "position across": 50.370, "position down": 47.951,
            }, rel=1e-3,
        )  # fmt: skip

    def test_say_what_a_person_sees(self):
        height = np.zeros((40, 80), np.float32)
        height[10:20, 40:60] = 0.01
        valid = np.ones((40, 80), np.bool_)
        valid[:, :8] = False
        grey = np.full((40, 80, 3), 100, np.uint8)
        found = described(Sample(grey, height, valid))
        assert found["brightness"] == found["brightness of the border"] == pytest.approx(100)
        assert found["contrast"] == found["sharpness"] == pytest.approx(0, abs=1e-3)
        assert found["missing geometry"] == pytest.approx(10)
        assert (found["position across"], found["position down"]) == (62.5, 37.5)
        assert found["mean height"] == pytest.approx(10 * 200 / (40 * 72), rel=1e-5)
        bare = described(Sample(grey, np.zeros_like(height), np.zeros_like(valid)))
        assert np.isfinite(list(bare.values())).all()
        assert (bare["position across"], bare["missing geometry"]) == (50, 100)


def made_up(count, seed, *, brightness=0.0, score=0.0):
    generator = np.random.default_rng(seed)
    return [
        Fingerprint(
            "nut",
            float(generator.lognormal(score, 0.1)),
            {
                name: float(generator.normal(100 + brightness * (name == "brightness"), 5))
                for name in FIGURES
            },
            generator.normal(size=30).astype(np.float32),
        )
        for _ in range(count)
    ]  # fmt: skip


FLOORS = {"mean height": 1.0, QUIET: 1.0}


class TestCompare:
    def test_three_sigma_of_brightness(self):
        for seed in range(5):
            found = compare(made_up(8, seed), made_up(20, 100 + seed, brightness=-15), 0.01, floors=FLOORS)
            assert found.verdict == "line changed"
            assert next(row for row in found.rows if row.name == "brightness").moved

    def test_a_steady_line_is_left_alone(self):
        told = [
            compare(made_up(8, seed), made_up(12, 100 + seed), 0.1, floors=FLOORS, ordered=True, seed=seed).verdict
            for seed in range(60)
        ]
        assert sum(one != "steady" for one in told) <= 60 * 0.1 + 4 * (60 * 0.1 * 0.9) ** 0.5

    def test_a_change_that_does_not_matter_is_none(self):
        before = [
            replace(one, named=dict.fromkeys(FIGURES, 100 + 0.001 * place)) for place, one in enumerate(made_up(12, 0))
        ]
        now = [
            replace(one, named=dict.fromkeys(FIGURES, 100.5 + 0.001 * place))
            for place, one in enumerate(made_up(20, 1))
        ]
        found = compare(before, now, 0.01, floors={"mean height": 2.0, QUIET: 2.0})
        assert next(row for row in found.rows if row.name == "brightness").p < 0.001
        assert not next(row for row in found.rows if row.name == "brightness").moved
        assert found.verdict == "steady"

    def test_scores_of_parts_that_were_learned_from_are_not_compared(self):
        found = compare(made_up(8, 0), made_up(20, 1, score=2), 0.01, floors=FLOORS, fair=False)
        assert found.verdict == "steady"
        assert found.alarms is None and found.bulk_p is None
        assert next(row for row in found.rows if row.name == QUIET).p is None

    def test_a_method_without_a_backbone(self):
        bare = [replace(one, features=np.zeros(0, np.float32)) for one in made_up(28, 0)]
        found = compare(bare[:8], bare[8:], 0.01, floors=FLOORS, ordered=True)
        assert found.verdict == "steady"
        assert found.features_p is None


def test_a_run_of_several_categories_is_compared_one_at_a_time(line, tmp_path):
    record = read_record(line.run).model_copy(update={"category": "all", "categories": ("flange", "pegs")})
    items, category = _incoming(record, line.prepared, None)
    assert (len(items), category) == (CAME, "flange")
    folder = arrived(line, tmp_path / "monday", as_it_came)
    with pytest.raises(UsageError, match="parts of monday") as caught:
        _incoming(record, folder, None)
    assert "--category: flange, pegs" in caught.value.cure
    items, category = _incoming(record, folder, "pegs")
    assert (len(items), category) == (CAME, "pegs")


def test_wrong_questions(line, tmp_path):
    for alpha in (0, 0.001, 1.0, float("nan")):
        with pytest.raises(UsageError, match="--alpha"):
            drift(line.run, line.prepared, alpha=alpha)
    with pytest.raises(UsageError, match="knows no nut") as caught:
        drift(line.run, line.prepared, category="nut")
    assert "flange" in caught.value.cure
    for name in ("a", "b"):
        (tmp_path / name).symlink_to(line.run)
    with pytest.raises(UsageError, match="several runs"):
        drift(tmp_path, line.prepared)
