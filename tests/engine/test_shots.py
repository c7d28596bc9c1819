"""A few good pairs of a category are enough to train on, and one model can know every category."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from uipad_cli import config
from uipad_cli.cli import app, main
from uipad_cli.data import scenes
from uipad_cli.data.prepared import read_manifest
from uipad_cli.engine import infer
from uipad_cli.engine.ablate import ablate, read_rows
from uipad_cli.engine.evaluate import evaluate
from uipad_cli.engine.heatmap import Request, heatmap
from uipad_cli.engine.inspector import Settings
from uipad_cli.engine.prepare import prepare
from uipad_cli.engine.record import RunConfig, read_record
from uipad_cli.engine.selection import chosen_pairs
from uipad_cli.engine.train import filled, train
from uipad_cli.errors import DataError, UsageError

SIZE = 112


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """Two categories, prepared, of parts of different height."""
    root = tmp_path_factory.mktemp("several")
    made = {"train": 4, "validation": 2, "test_good": 2, "test_per_defect": 1, "size": SIZE, "seed": 1}
    scenes.write(root / "raw", categories=["pegs", "flange"], **made)
    prepare(root / "raw", root / "prepared", workers=1)
    return root / "prepared"


@pytest.fixture(scope="module")
def together(several, tmp_path_factory):
    """One quick model of both."""
    out = tmp_path_factory.mktemp("together") / "run"
    train(several, out, category="all", configuration=quick_config())
    return out


def quick_config(*more):
    training = ["options.training.steps=12", "options.training.batch=4", "options.training.warmup_steps=4"]
    framing = ["backbone=tiny", "precision=fp32", "batch=4", f"framing.resize={SIZE}", f"framing.crop={SIZE}"]
    return config.merge([], [*framing, *training, *more])


def drawn(data, category, **settings):
    chosen = chosen_pairs(data, category, None, RunConfig(**settings))
    return [item.name for item in chosen.training.items], [item.name for item in chosen.kept.items]


def test_so_many_pairs_are_drawn_by_the_seed(world, several):
    everything, kept_back = drawn(world.prepared, "pegs")
    draws = [drawn(world.prepared, "pegs", shots=2, seed=seed)[0] for seed in range(8)]
    assert {len(draw) for draw in draws} == {2}
    assert len({tuple(draw) for draw in draws}) > 3
    assert set().union(*draws) == set(everything)
    assert draws[0] == drawn(world.prepared, "pegs", shots=2, seed=0)[0]
    assert drawn(world.prepared, "pegs", shots=len(everything)) == (everything, kept_back)
    both, _ = drawn(several, "all", shots=1)
    assert [name.split("/")[0] for name in both] == ["flange", "pegs"]
    turns, _ = drawn(several, "all", shots=2)
    assert [name.split("/")[0] for name in turns] == ["flange", "pegs", "flange", "pegs"]
    with pytest.raises(UsageError, match="shots is 7, but pegs has 6 good training pairs"):
        drawn(world.prepared, "pegs", shots=7)


@pytest.mark.parametrize("method", ["uipad", "patchcore"])
def test_one_pair_is_enough(world, tmp_path, quick, method):
    own = [one for one in quick if not one.startswith("options")] if method == "patchcore" else quick
    settings = config.merge([], own, {"method": method, "shots": 1})
    summary = train(world.prepared, tmp_path / "run", category="pegs", configuration=settings)
    assert summary.record.training["pairs"] == 1
    assert summary.record.config.shots == 1
    (result,) = evaluate(tmp_path / "run", world.prepared, out=tmp_path / "eval")
    assert 0 <= result.metrics["image_auroc"] <= 1


def test_shots_come_from_the_command_line(world, tmp_path, quick, capsys):
    told = ["train", world.prepared, "--category", "pegs", "--out", tmp_path / "run", "--shots", 2, "--json"]
    assert main([str(part) for part in told] + [part for one in quick for part in ("--set", one)]) == 0
    assert json.loads(capsys.readouterr().out)["training"]["pairs"] == 2
    assert CliRunner().invoke(app, ["train", "d", "--category", "a", "--out", "o", "--shots", "0"]).exit_code == 2


def test_one_model_of_all_is_judged_by_category(several, together, tmp_path):
    record = read_record(together)
    assert (record.category, record.learned) == ("all", ("flange", "pegs"))
    assert record.training["pairs"] == 8
    assert record.calibration.samples == 4
    scales = [entry.height_scale for entry in read_manifest(several).categories.values()]
    assert record.height_scale.high == max(scale.high for scale in scales)
    assert record.height_scale.low == min(scale.low for scale in scales)
    results = evaluate(together, several, out=tmp_path / "eval")
    assert [result.record.category for result in results] == ["flange", "pegs"]
    assert {result.counts["good"] for result in results} == {2}
    assert (tmp_path / "eval" / "pegs" / "sheet.jpg").is_file()
    written = heatmap(Request(together, several, tmp_path / "heat", prototypes=True))
    assert {path.relative_to(tmp_path / "heat").parts[0] for path in written} == {"flange", "pegs"}


def test_one_model_of_all_infers_what_it_knows(world, several, together, tmp_path):
    heard = []
    infer.infer(infer.Request(several, None, Settings(together, tmp_path)), tell=heard.append)
    listed = [name for entry in read_manifest(several).categories.values() for name in entry.pairs]
    assert len(heard) == len(listed)
    (result,) = evaluate(together, world.prepared, out=tmp_path / "eval")  # holds pegs only
    assert result.record.category == "pegs"


def test_a_run_of_all_goes_on_and_is_not_made_for_other_categories(several, together, tmp_path):
    again = train(several, together, category="all", configuration=quick_config())
    assert again.seconds == 0
    fewer = tmp_path / "prepared"
    shutil.copytree(several, fewer)
    manifest = json.loads((fewer / "manifest.json").read_text())
    del manifest["categories"]["flange"]
    (fewer / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match="other settings"):
        train(fewer, together, category="all", configuration=quick_config())
    with pytest.raises(UsageError, match=r"both know pegs"):
        evaluate(two_runs(together, tmp_path / "runs"), fewer)
    assert not (tmp_path / "runs" / "eval").exists()
    (result,) = evaluate(together, fewer, out=tmp_path / "eval", missing="depth")
    assert result.record.calibration == read_record(together).missing["depth"]


def two_runs(run, folder):
    shutil.copytree(run, folder / "one")
    shutil.copytree(run, folder / "two")
    return folder


def test_every_category_has_validation_parts_or_none_has(several, tmp_path):
    lacking = tmp_path / "prepared"
    shutil.copytree(several, lacking)
    manifest = json.loads((lacking / "manifest.json").read_text())
    pairs = manifest["categories"]["flange"]["pairs"]
    manifest["categories"]["flange"]["pairs"] = {name: pairs[name] for name in pairs if "validation" not in name}
    (lacking / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="no good validation pairs of flange"):
        drawn(lacking, "all")


def test_a_run_that_knew_nothing_of_shots_is_recognised(several, together):
    before = json.loads((together / "checkpoint.json").read_text())
    for key in ("shots",):
        del before["config"][key]
    one = {"category": "pegs", "data_sha256": "a", "weights_sha256": None, "config": before["config"]}
    whole = filled(one)
    assert (whole["categories"], whole["config"]["shots"]) == ([], None)
    assert filled(whole) == whole
    for nonsense in (None, [], {"category": 1}, {**one, "config": {"no": 1}}):
        assert filled(nonsense) == nonsense


def test_a_category_named_all_is_itself(several, tmp_path):
    named = tmp_path / "prepared"
    shutil.copytree(several, named)
    (named / "flange").rename(named / "all")
    manifest = json.loads((named / "manifest.json").read_text())
    manifest["categories"]["all"] = manifest["categories"].pop("flange")
    (named / "manifest.json").write_text(json.dumps(manifest))
    names, _ = drawn(named, "all")
    assert {name.split("/")[0] for name in names} == {"all"}


def test_no_known_category_is_an_error(several, together, tmp_path):
    scenes.write(
        tmp_path / "raw", categories=["gear"], train=1, validation=1, test_good=1, test_per_defect=1, size=SIZE, seed=1
    )
    prepare(tmp_path / "raw", tmp_path / "gear", workers=1)
    with pytest.raises(DataError, match="no category 'all'"):
        evaluate(together, tmp_path / "gear", out=tmp_path / "eval")


def test_a_table_has_one_line_for_a_model_of_all(several, tmp_path, quick):
    (tmp_path / "few.yaml").write_text("shots: 2\n")
    rows = read_rows([tmp_path / "few.yaml"], quick, {})
    table = ablate(several, tmp_path / "out", rows, seeds=2, categories=["all"])
    heard = []
    again = ablate(several, tmp_path / "out", rows, seeds=2, categories=["all"], report=heard.append)
    assert again.document() == table.document()
    assert sum("made before" in step.note for step in heard) == 2
    (tmp_path / "many.yaml").write_text("shots: 5\n")
    with pytest.raises(UsageError, match="shots is 5, but flange has 4"):
        ablate(several, tmp_path / "out", rows + read_rows([tmp_path / "many.yaml"], quick, {}), categories=["all"])
    assert [(record.category, record.seed) for record in table.records] == [("all", 0), ("all", 1)]
    assert "pegs/red_round" in table.records[0].by_defect
    crossed = [line.defect for line in table.defects() if line.cross_modal]
    assert crossed == ["flange/ring_swap", "pegs/blue_square", "pegs/red_round"]
    assert table.document()["defects"][0]["kind"] is not None
