import json

import pytest

from uipad_cli.engine import demo
from uipad_cli.errors import DataError, UsageError


@pytest.fixture
def small(monkeypatch, quick):
    counts = {"train": 4, "validation": 2, "test_good": 2, "test_per_defect": 1, "size": 112}
    monkeypatch.setattr(demo, "COUNTS", counts)
    monkeypatch.setattr(demo, "SETTINGS", (*quick, "options.training.steps=60"))


def test_the_demo_makes_a_page_and_does_nothing_twice(tmp_path, small):
    out = tmp_path / "demo"
    results, page = demo.demo(out, categories=["pegs", "gear"])
    text = page.read_text()
    assert [result.record.category for result in results] == ["gear", "pegs"]
    assert "cross-modal" in text
    assert text.count("data:image/jpeg;base64") == 8
    assert text.count('class="clouds"') == 2
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and "runs" in path.parts}
    again, _ = demo.demo(out, categories=["pegs", "gear"])
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [result.metrics for result in again] == [result.metrics for result in results]
    assert json.loads((out / "eval" / "metrics.json").read_text())["categories"].keys() == {"pegs", "gear"}
    with pytest.raises(UsageError, match="seed"):
        demo.demo(out, categories=["pegs"], seed=1)


def test_an_unknown_category_is_named(tmp_path):
    with pytest.raises(DataError, match="'pegs'"):
        demo.demo(tmp_path, categories=["pgs"])
