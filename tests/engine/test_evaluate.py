import csv
import errno
import gc
import json
import shutil
import tempfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from uipad_cli.data import files
from uipad_cli.engine import evaluate as engine
from uipad_cli.engine import shown
from uipad_cli.engine.eval_page import report_page
from uipad_cli.engine.evaluate import document, evaluate, mean_metrics, timed
from uipad_cli.errors import DataError, ResourceError, UsageError
from uipad_cli.metrics import ascending
from uipad_cli.report.page import COLUMNS


@pytest.fixture(scope="module")
def results(world, tmp_path_factory):
    return evaluate(world.run, world.prepared, out=tmp_path_factory.mktemp("eval"))


def test_the_document_holds_every_figure_per_category_and_as_mean(results):
    told = document(results)
    pegs = told["categories"]["pegs"]
    assert set(COLUMNS) <= set(pegs)
    assert told["mean"] == {name: pegs[name] for name in COLUMNS}
    assert set(pegs["by_defect"]) == {"red_round", "blue_square", "sunk", "stain", "scratch", "foreign_body"}
    assert pegs["counts"]["good"] == 3
    assert pegs["counts"]["regions"] >= 6
    assert timed(results) == told | {"seconds": {"pegs": results[0].seconds}}
    assert results[0].seconds > 0
    assert all(0 <= pegs[name] <= 1 for name in COLUMNS)
    json.dumps(told, allow_nan=False)


def test_scores_and_verdicts_are_written_for_every_part(results):
    path = results[0].sheets["sheet"].parent / "scores.csv"
    lines = list(csv.DictReader(path.open()))
    assert len(lines) == 9
    calibration = results[0].record.calibration
    for line in lines:
        assert line["verdict"] == calibration.verdict(float(line["score"]))
        assert float(line["p_value"]) == calibration.p_value(float(line["score"]))
    counts = results[0].counts
    assert counts["false_alarms"] == sum(line["verdict"] == "anomalous" and line["defect"] == "good" for line in lines)
    assert counts["unsure_good"] == sum(line["verdict"] == "unsure" and line["defect"] == "good" for line in lines)
    assert counts["unsure_defective"] == sum(line["verdict"] == "unsure" and line["defect"] != "good" for line in lines)
    assert counts["missed"] == sum(line["verdict"] == "good" and line["defect"] != "good" for line in lines)
    assert files.read_rgb(results[0].sheets["sheet"]).shape[0] > 1000


def test_the_clearest_the_most_mistaken_and_the_borderline_verdicts_have_sheets(world, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(shown, "EXTREMES", 2)
    monkeypatch.setattr(engine, "sheet", lambda parts, _: drawn.append(parts) or np.zeros((8, 8, 3), np.uint8))
    (result,) = evaluate(world.run, world.prepared, out=tmp_path)
    threshold = result.record.calibration.threshold
    sides = {part.name: (1 if part.defect != "good" else -1) * (part.score - threshold) for part in result.scores}
    ordered = sorted(sides.values())
    _, worst, best, borderline = [[sides[judged.item.name] for judged, _ in parts] for parts in drawn]
    assert worst == ordered[:2]
    assert best == ordered[:-3:-1]
    assert borderline == sorted(ordered, key=abs)[:2]
    names = {"sheet.jpg", "worst.jpg", "best.jpg", "borderline.jpg", "scores.csv"}
    assert {path.name for path in (tmp_path / "pegs").iterdir()} == names
    assert {path.name for path in result.sheets.values()} == names - {"scores.csv"}


def test_the_page_is_written_where_it_is_asked_for(world, results, tmp_path):
    assert results[0].charts is None
    (result,) = evaluate(world.run, world.prepared, out=tmp_path, charts=True)
    assert report_page([result], world.run, world.prepared, tmp_path, None) == tmp_path / "report.html"
    assert result.metrics == results[0].metrics
    assert len(result.charts.clouds) == 4
    low, high = result.charts.intervals["aupro_30"]
    assert low <= result.metrics["aupro_30"] <= high
    text = (tmp_path / "report.html").read_text()
    assert text.count("data:image/jpeg;base64") == 4
    assert "red_round (cross-modal)" in text
    assert len(text) < 20e6
    for told in ("ROC of the images", "PRO of the pixels", "effective_prototypes", "Settings and versions"):
        assert told in text


def test_raw_and_prepared_data_give_the_same_figures(world, results, tmp_path):
    raw = evaluate(world.run, world.raw, out=tmp_path)
    assert raw[0].metrics == results[0].metrics
    assert [part.score for part in raw[0].scores] == [part.score for part in results[0].scores]


def test_scores_do_not_depend_on_labels(world, results, tmp_path):
    """The same pairs under scrambled labels and masks score the same."""
    raw = shutil.copytree(world.raw, tmp_path / "raw")
    test = raw / "pegs" / "test"
    (test / "stain").rename(test / "kept")
    (test / "sunk").rename(test / "stain")
    (test / "kept").rename(test / "sunk")
    for mask in (test / "stain" / "gt").iterdir():
        files.write_png(mask, np.full((112, 112), 255, np.uint8))
    scrambled = evaluate(world.run, raw, out=tmp_path / "eval")
    assert sorted(part.score for part in scrambled[0].scores) == sorted(part.score for part in results[0].scores)


def test_two_runs_of_one_category_do_not_mix(world, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "runs").mkdir(exist_ok=True)
        (tmp_path / "runs" / name).symlink_to(world.run)
    with pytest.raises(UsageError, match="both know pegs"):
        evaluate(tmp_path / "runs", world.prepared, out=tmp_path / "eval")


def test_the_mean_is_the_plain_mean_of_the_categories(results):
    other = replace(results[0], metrics=dict.fromkeys(COLUMNS, 0.25))
    mean = mean_metrics([results[0], other])
    for name in COLUMNS:
        assert mean[name] == pytest.approx((results[0].metrics[name] + 0.25) / 2)


def test_a_split_of_good_parts_only_has_no_image_figures(world, tmp_path):
    raw = shutil.copytree(world.raw, tmp_path / "raw")
    for folder in (raw / "pegs" / "test").iterdir():
        if folder.name != "good":
            shutil.rmtree(folder)
    told = document(evaluate(world.run, raw, out=tmp_path / "eval"))
    assert told["categories"]["pegs"]["image_auroc"] is None
    assert told["mean"]["aupro_30"] is None


def test_data_prepared_otherwise_is_refused(world, tmp_path):
    other = shutil.copytree(world.prepared, tmp_path / "prepared")
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["preparation"]["plane"] = "none"
    (other / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="other settings"):
        evaluate(world.run, other, out=tmp_path / "eval")


def test_a_data_set_without_the_category_names_those_it_has(world, tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(world.raw / "pegs", raw / "pgs")
    with pytest.raises(DataError) as caught:
        evaluate(world.run, raw, out=tmp_path / "eval")
    assert "pgs" in caught.value.cure + caught.value.message


def test_scores_that_are_sorted_on_disk_give_the_same_figures(world, results, tmp_path, monkeypatch):
    for name, size in (("RUN", 1 << 12), ("BLOCK", 1 << 10), ("PIECE", 1 << 6)):
        monkeypatch.setattr(ascending, name, size)
    (tmp_path / "room").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "room"))
    (result,) = evaluate(world.run, world.prepared, out=tmp_path / "eval", charts=True)
    assert result.metrics == results[0].metrics
    assert result.counts == results[0].counts
    assert list((tmp_path / "room").iterdir()) == []


@pytest.mark.parametrize("kept", [0, 2])
def test_a_full_disk_ends_an_evaluation_in_words(world, tmp_path, monkeypatch, kept):
    """The maps find no room; maps and masks do, and the sorted scores do not."""
    made, files_made = tempfile.TemporaryFile, []

    def full(data):
        raise OSError(errno.ENOSPC, "No space left on device")

    def limited(**settings):
        files_made.append(made(**settings))
        file = files_made[-1]
        write = full if len(files_made) > kept else file.write
        return SimpleNamespace(seek=file.seek, readinto=file.readinto, close=file.close, write=write)

    monkeypatch.setattr(ascending, "RUN", 1 << 16)
    monkeypatch.setattr(tempfile, "TemporaryFile", limited)
    with pytest.raises(ResourceError, match=r"the disk is full \(a temporary file needs \d+ bytes") as caught:
        evaluate(world.run, world.prepared, out=tmp_path / "eval")
    assert caught.value.message.startswith(tempfile.gettempdir())
    del caught  # its trace holds the maps
    gc.collect()
    assert all(file.closed for file in files_made)
