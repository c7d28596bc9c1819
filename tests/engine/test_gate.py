import json
import shutil
from pathlib import Path

import pytest

from uipad_cli.cli import main
from uipad_cli.engine.gate import Demands
from uipad_cli.errors import DataError, UsageError
from uipad_cli.report.page import COLUMNS

FIGURES = dict.fromkeys(COLUMNS, 0.9)


def now(**changes):
    return {"gland": {**FIGURES, **changes}, "tire": dict(FIGURES), "mean": {**FIGURES, **changes}}


def failed(gate):
    return [(check.category, check.metric) for check in gate.checks if not check.passed]


def demand(least=(), earlier=None, tolerance=0.0):
    return Demands.of(least, earlier, tolerance, categories=["gland", "tire"], writes=Path("e/metrics.json"))


def baseline(tmp_path, figures):
    path = tmp_path / "old.json"
    mean = figures.pop("mean")
    path.write_text(json.dumps({"uipad": "0.1.0", "categories": figures, "mean": mean}))
    return path


def test_least_values_are_of_the_mean_or_of_a_category():
    demands = demand(["image_auroc=0.95", "gland.aupro_30=0.9", "tire.aupro_05 = 0.91"])
    assert failed(demands.gate(now())) == [("mean", "image_auroc"), ("tire", "aupro_05")]
    assert demands.gate(now()).exit_code() == 11
    assert demand(["image_auroc=0.9"]).gate(now()).exit_code() == 0


def test_without_demands_nothing_is_checked():
    gate = demand([]).gate(now())
    assert (gate.checks, gate.exit_code()) == ([], 0)


def test_a_figure_that_is_undefined_does_not_pass():
    assert failed(demand(["image_auroc=0"]).gate(now(image_auroc=None))) == [("mean", "image_auroc")]


def test_nothing_may_fall_below_the_baseline_by_more_than_the_tolerance(tmp_path):
    demands = demand([], baseline(tmp_path, now()), 0.005)
    assert failed(demands.gate(now(image_auroc=0.896, aupro_30=0.99))) == []
    assert failed(demands.gate(now(image_auroc=0.894))) == [("gland", "image_auroc"), ("mean", "image_auroc")]
    columns, rows = demands.gate(now(image_auroc=0.894)).rows()
    assert rows[0][:2] == ["gland", "image_auroc"]
    assert dict(zip(columns, rows[0], strict=True))["difference"] == pytest.approx(-0.006)
    json.dumps(demands.gate(now(image_auroc=None)).document(), allow_nan=False)


def test_a_category_that_is_gone_fails_and_means_of_other_categories_are_not_compared(tmp_path):
    demands = demand([], baseline(tmp_path, now()))
    fewer = {"gland": dict(FIGURES), "mean": dict(FIGURES)}
    assert {category for category, _ in failed(demands.gate(fewer))} == {"tire"}
    assert "mean" not in {check.category for check in demands.gate(fewer).checks}


@pytest.mark.parametrize(
    ("told", "hint"),
    [
        ("image_auroc", "share"),
        ("image_auroc=high", "share"),
        ("image_auroc=95", "share"),
        ("image_aurok=0.9", "auroc"),
    ],
)
def test_a_demand_that_is_none_is_explained(told, hint):
    with pytest.raises(UsageError) as caught:
        demand([told])
    assert hint in caught.value.message + caught.value.cure


def test_an_unknown_category_names_those_there_are():
    with pytest.raises(UsageError, match="no category 'glnd'") as caught:
        demand(["glnd.image_auroc=0.5"])
    assert "gland" in caught.value.cure


@pytest.mark.parametrize("tolerance", [float("inf"), float("nan")])
def test_a_tolerance_is_a_number(tolerance):
    with pytest.raises(UsageError, match="finite"):
        demand(tolerance=tolerance)


def test_an_evaluation_never_overwrites_its_own_baseline(world, tmp_path, capsys):
    arguments = ["eval", world.run, world.prepared, "--out", tmp_path]
    assert main([str(one) for one in arguments]) == 0
    before = (tmp_path / "metrics.json").read_bytes()
    assert main([str(one) for one in [*arguments, "--baseline", tmp_path / "x" / ".." / "metrics.json"]]) == 2
    assert (tmp_path / "metrics.json").read_bytes() == before
    assert "overwritten" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{}", "[1]", '{"categories": {}, "mean": 3}', "x", '{"categories": 1, "mean": {}}'])
def test_other_files_are_no_baseline(tmp_path, text):
    (tmp_path / "old.json").write_text(text)
    with pytest.raises(DataError, match=r"old\.json"):
        demand([], tmp_path / "old.json")
    (tmp_path / "old.json").write_text('{"categories": {"a": {"image_auroc": "high"}}, "mean": {}}')
    with pytest.raises(DataError, match="not a number"):
        demand([], tmp_path / "old.json")


def test_the_gate_by_command(world, tmp_path, capsys):
    arguments = ["eval", world.run, world.prepared, "--out", tmp_path / "e", "--json"]
    assert main([str(one) for one in [*arguments, "--min", "pixel_auroc=0"]]) == 0
    capsys.readouterr()
    again = [
        *arguments,
        "--baseline",
        shutil.copy(tmp_path / "e" / "metrics.json", tmp_path / "old.json"),
        "--min",
        "pegs.image_f1_max=1",
        "--min",
        "aupro_01=1",
    ]
    assert main([str(one) for one in again]) == 11
    told = capsys.readouterr()
    gate = json.loads(told.out)["gate"]
    assert gate["passed"] is False
    assert [check["metric"] for check in gate["checks"] if not check["passed"]][-1] == "aupro_01"
    assert all(check["difference"] in (0, None) for check in gate["checks"])
    assert "FAILED" in told.err
