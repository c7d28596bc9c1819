import json
import os
import signal

import pytest

from uipad_cli.cli import main
from uipad_cli.data import files
from uipad_cli.engine import ablate as engine
from uipad_cli.engine.ablate import ablate, read_rows
from uipad_cli.engine.tally import Record, Table
from uipad_cli.errors import DataError, UsageError, WeightsError
from uipad_cli.records import Progress


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A folder of three configurations; the last one loses its way at once."""
    folder = tmp_path_factory.mktemp("rows")
    (folder / "m-12.yaml").write_text("# Paper: 96.8 / 98.1\noptions: {training: {steps: 12}}\n")
    (folder / "m-6.yaml").write_text("options: {prototypes: 6, training: {steps: 12}}\n")
    (folder / "z_lost.yaml").write_text("options: {training: {steps: 20, learning_rate: 1e30}}\n")
    return folder


def arguments(world, out, paths, quick, *more):
    told = ["ablate", world.prepared, "--out", out, "--seeds", 1, *more]
    told += [part for path in paths for part in ("--config", path)]
    return [str(part) for part in told + [part for setting in quick for part in ("--set", setting)]]


def record(row, seed, image, *, category="pegs", collapsed=None, **more):
    figures = {"image_auroc": image, "aupro_30": image, "pixel_auroc": image}
    told = {} if collapsed else {"training_seconds": 10.0 * (seed + 1), "seconds_per_pair": 0.05, **figures, **more}
    return Record(
        row=row, category=category, seed=seed, identity={}, collapsed=collapsed, device="cpu", versions={}, **told
    )


def test_a_folder_of_rows_makes_tables_and_is_not_made_again(world, tmp_path, rows, quick, capsys, monkeypatch):
    out = tmp_path / "out"
    assert main(arguments(world, out, [rows], quick, "--json")) == 0
    told = capsys.readouterr()
    document = json.loads(told.out)
    assert document == files.read_json(out / "table.json")
    assert [line["row"] for line in document["rows"]] == ["m-6", "m-12", "z_lost"]
    assert "m-12, pegs, seed 0: run 2 of 3" in told.err
    assert "image AUROC" in told.err

    six, twelve, lost = document["records"]
    assert six["identity"]["config"]["options"]["prototypes"] == 6
    assert 0 <= six["image_auroc"] <= 1
    assert set(six["by_defect"]) >= {"red_round", "stain"}
    assert (six["steps"], six["collapsed"]) == (12, None)
    assert min(six["training_seconds"], six["seconds_per_pair"]) > 0
    assert "effective_prototypes" in six["gauges"]
    assert "training diverged" in lost["collapsed"]
    assert 0 < lost["steps"] < 20
    assert document["rows"][2]["image_auroc"] == {"mean": None, "deviation": None, "collapsed": 1, "runs": 1}
    assert document["rows"][1]["image_auroc"]["mean"] == twelve["image_auroc"]

    markdown, latex = (out / "table.md").read_text(), (out / "table.tex").read_text()
    assert "| z_lost | collapsed | collapsed | collapsed | – | – | – |" in markdown
    assert "| 96.8 / 98.1 |" in markdown
    assert "| pegs | red_round (cross-modal) |" in markdown
    assert f"- z_lost, pegs, seed 0: {lost['collapsed']}" in markdown
    assert r"z\_lost & collapsed" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 2
    assert sorted(path.name for path in (out / "m-6" / "pegs").iterdir()) == ["0.json"]  # the run itself is gone

    monkeypatch.setattr(engine, "train", lambda *_, **__: pytest.fail("trained again"))
    assert main(arguments(world, out, [rows], quick, "--json")) == 0
    again = capsys.readouterr()
    assert json.loads(again.out) == document
    assert "made before" in again.err


def test_other_settings_make_a_run_again_and_keep_leaves_it_there(world, tmp_path, rows, quick):
    def made(*more):
        (row,) = read_rows([rows / "m-6.yaml"], [*quick, *more], {})
        return ablate(world.prepared, tmp_path, [row], seeds=1, keep=True).records[0]

    first, second = made("options.training.steps=10"), made("options.training.steps=12")
    assert (first.steps, second.steps) == (10, 12)
    assert (tmp_path / "m-6" / "pegs" / "0" / "checkpoint.json").is_file()
    assert files.read_json(tmp_path / "m-6" / "pegs" / "0.json")["steps"] == 12


def test_an_interrupted_run_goes_on(world, tmp_path, rows, quick):
    chosen = read_rows([rows / "m-6.yaml"], quick, {})

    def stop(progress: Progress):
        if "train 5/12" in progress.note:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        ablate(world.prepared, tmp_path, chosen, seeds=1, report=stop)
    assert (tmp_path / "m-6" / "pegs" / "0" / "training.safetensors").is_file()
    seen = []
    table = ablate(world.prepared, tmp_path, chosen, seeds=1, report=lambda progress: seen.append(progress.note))
    assert "m-6, pegs, seed 0: train 6/12" in seen
    assert "m-6, pegs, seed 0: train 5/12" not in seen
    assert table.records[0].steps == 12
    assert table.records[0].training_seconds is None  # not known of a training in two parts


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("options: {prototyps: 6}", r"wrong\.yaml:1: unknown key 'options\.prototyps'"),
        ("optoins: {}", r"wrong\.yaml:1: unknown key 'optoins'"),
        ("seed: 3", r"wrong\.yaml:1: seed is not free"),
        ("# Paper: good\nbatch: 4", r"wrong\.yaml:1: .*is not image AUROC / AUPRO"),
        ("method: uiapd", "unknown method 'uiapd'"),
    ],
)
def test_a_wrong_row_fails_before_any_training(world, tmp_path, rows, quick, monkeypatch, capsys, text, told):
    monkeypatch.setattr(engine, "train", lambda *_, **__: pytest.fail("trained"))
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(text)
    with pytest.raises(UsageError, match=told):
        read_rows([rows, wrong], quick, {})
    assert main(arguments(world, tmp_path / "out", [rows, wrong], quick)) == 2
    assert not (tmp_path / "out").exists()


def test_missing_weights_of_the_last_row_stop_before_the_first(world, tmp_path, quick, monkeypatch):
    monkeypatch.setattr("uipad_cli.engine.weights.cached_weights", lambda repository: None)
    monkeypatch.setattr("uipad_cli.engine.weights.hub_answers", lambda: False)
    (tmp_path / "a.yaml").write_text("backbone: tiny\n")
    (tmp_path / "b.yaml").write_text("backbone: dinov2-small\n")
    chosen = read_rows([tmp_path], [setting for setting in quick if not setting.startswith("backbone")], {})
    with pytest.raises(WeightsError, match="dinov2-small"):
        ablate(world.prepared, tmp_path / "out", chosen, seeds=1)
    assert not (tmp_path / "out").exists()


def test_rows_are_named_once_and_a_folder_holds_some(tmp_path, rows):
    (tmp_path / "m-6.yaml").write_text("batch: 4")
    with pytest.raises(UsageError, match="would both be row m-6"):
        read_rows([rows, tmp_path / "m-6.yaml"], [], {})
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no \*\.yaml"):
        read_rows([tmp_path / "empty"], [], {})


def test_foreign_folders_and_damaged_records_are_named(world, tmp_path, rows, quick):
    chosen = read_rows([rows / "m-6.yaml"], quick, {})
    mine = tmp_path / "m-6" / "pegs" / "0" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("keep me")
    with pytest.raises(UsageError, match="not a run"):
        ablate(world.prepared, tmp_path, chosen, seeds=1)
    assert mine.read_text() == "keep me"
    (tmp_path / "m-6" / "pegs" / "0.json").write_text("{")
    with pytest.raises(DataError, match=r"0\.json"):
        ablate(world.prepared, tmp_path, chosen, seeds=1)


def test_figures_are_means_over_categories_and_deviations_over_seeds(tmp_path):
    crossed = [{"by_defect": {"red_round": one, "ring_swap": one + 0.2, "dent": 0.9}} for one in (0.5, 0.7)]
    records = [
        record("a_1", 0, 0.70, **crossed[0]),
        record("a_1", 0, 0.90, category="gear", by_defect={"hole": 1.0}),
        record("a_1", 1, 0.80, **crossed[1]),
        record("a_1", 1, 1.00, category="gear", by_defect={"hole": 0.5}),
        record("b", 0, 0.60, **crossed[0]),
        record("b", 0, 0.70, category="gear", by_defect={"hole": 1.0}),
        record("b", 1, None, collapsed="one prototype is left"),
        record("b", 1, 0.75, category="gear", by_defect={"hole": 1.0}),
    ]
    table = Table(tmp_path, {"a_1": "96.8 / 98.1", "b": None}, records)
    heads, (first, second) = table.figures()
    assert heads[:5] == ["row", "image AUROC", "AUPRO@30", "cross-modal AUROC", "paper"]
    # seeds 0.8 and 0.9; cross-modal 0.6 and 0.8; median of 10, 10, 20, 20 s
    assert first == ["a_1", "85.0 ± 7.1", "85.0 ± 7.1", "70.0 ± 14.1", "96.8 / 98.1", "15", "50"]
    # seeds 0.65 and, of gear alone, 0.75; the cross-modal defects of one seed
    assert second == ["b", "70.0 ± 7.1 (1 of 4 collapsed)", "70.0 ± 7.1", "60.0", "–", "10", "50"]
    table.write(tmp_path)
    markdown = (tmp_path / "table.md").read_text()
    assert "| pegs | dent | 90.0 ± 0.0 | 90.0 (1 of 2 collapsed) |" in markdown
    assert "| gear | hole | 75.0 ± 35.4 | 100.0 ± 0.0 |" in markdown
    assert "categories pegs, gear; 2 seeds" in markdown
    assert "- b, pegs, seed 1: one prototype is left" in markdown
    latex = (tmp_path / "table.tex").read_text()
    assert r"a\_1 & 85.0 $\pm$ 7.1 &" in latex
    assert r"\begin{tabular}{lrrrrrr}" in latex
    assert r"ring\_swap (cross-modal) & 80.0 $\pm$ 14.1" in latex


def test_what_is_nowhere_is_a_dash(tmp_path):
    table = Table(tmp_path, {"a": None}, [record("a", 0, None, by_defect={"hole": 0.5})])
    heads, (only,) = table.figures()
    assert "paper" not in heads
    assert only == ["a", "–", "–", "–", "10", "50"]
