import json
from dataclasses import replace

import numpy as np
import pytest

from uipad_cli import config
from uipad_cli.data import files
from uipad_cli.engine import compare as engine
from uipad_cli.engine.collecting import collect
from uipad_cli.engine.compare import compare
from uipad_cli.engine.comparison import CategoryComparison, Comparison, Figure
from uipad_cli.engine.evaluate import evaluate
from uipad_cli.engine.record import read_record
from uipad_cli.engine.train import train
from uipad_cli.errors import DataError
from uipad_cli.metrics.comparison import Estimate, delong
from uipad_cli.metrics.region import pixel_metrics


def trained(world, out, *settings):
    """A run like that of the world but for these settings."""
    recipe = out.parent / f"{out.name}.yaml"
    files.write_json(recipe, read_record(world.run).config.model_dump(mode="json"))
    train(world.prepared, out, category="pegs", configuration=config.merge([recipe], list(settings)))
    return out


@pytest.fixture(scope="module")
def other(world, tmp_path_factory):
    return trained(world, tmp_path_factory.mktemp("other") / "other", "seed=7")


@pytest.fixture(scope="module")
def compared(world, other, tmp_path_factory):
    out = tmp_path_factory.mktemp("compared")
    told = []
    return compare(world.run, other, world.prepared, out=out, report=told.append), out, told


def test_the_figures_are_those_of_eval(world, other, compared, tmp_path):
    comparison, _, _ = compared
    (found,) = comparison.categories
    assert (found.category, found.good, found.defective) == ("pegs", 3, 6)
    (a,), (b,) = (evaluate(run, world.prepared, out=tmp_path / run.name) for run in (world.run, other))
    image, pixels = found.figures["image_auroc"], found.figures["aupro_30"]
    assert (image.a, image.b) == (a.metrics["image_auroc"], b.metrics["image_auroc"])
    assert (pixels.a, pixels.b) == pytest.approx((a.metrics["aupro_30"], b.metrics["aupro_30"]), abs=0.001)
    labels = [part.defect != "good" for part in a.scores]
    assert image.difference == delong([part.score for part in a.scores], [part.score for part in b.scores], labels)
    assert pixels.difference.value == pytest.approx(pixels.b - pixels.a)
    assert pixels.difference.low <= pixels.difference.value <= pixels.difference.high
    assert found.check.value == pytest.approx(image.difference.value)


def test_table_sentences_and_document(world, compared):
    comparison, out, told = compared
    heads, body = comparison.rows()
    assert [len(row) for row in body] == [len(heads)]
    assert body[0][0] == "pegs"
    sentences = comparison.sentences()
    assert sentences[0] == "A is run, B is other."
    assert len(sentences) == 3
    assert "9 test images" in sentences[1]
    document = comparison.document()
    assert json.loads(json.dumps(document, allow_nan=False)) == json.loads((out / "comparison.json").read_text())
    alone, overall = (told["aupro_30"]["difference"] for told in (document["categories"]["pegs"], document["overall"]))
    assert alone == overall
    (few,) = comparison.notes
    assert "only 3 good and 6 defective" in few
    assert few in [step.note for step in told]
    assert {step.task for step in told} == {"pegs A", "pegs B", "note"}


def test_it_comes_out_the_same_again_and_the_other_way_round(world, other, compared):
    comparison, _, _ = compared
    assert compare(world.run, other, world.prepared) == comparison
    back = compare(other, world.run, world.prepared).categories[0]
    for metric, figure in comparison.categories[0].figures.items():
        assert back.figures[metric].difference.value == pytest.approx(-figure.difference.value)
        assert back.figures[metric].difference.p == pytest.approx(figure.difference.p)


def test_the_same_run_is_level_and_judged_once(world, tmp_path):
    told = []
    comparison = compare(world.run, world.run, world.prepared, report=told.append)
    for figure in comparison.categories[0].figures.values():
        assert (figure.difference.value, figure.difference.p) == (0, 1)
    assert comparison.sentences() == [
        "A and B are the same run, run.",
        "A and B are level in image AUROC (9 test images).",
        "A and B are level in AUPRO@30 (9 test images).",
    ]
    assert "pegs B" not in {step.task for step in told}
    (tmp_path / "run").symlink_to(world.run)
    assert compare(tmp_path, world.run, world.prepared).categories == comparison.categories


def test_pixels_are_those_that_both_see(world, tmp_path, monkeypatch):
    cropped = trained(world, tmp_path / "cropped", "framing.resize=128")
    kept = []
    monkeypatch.setattr(engine, "collect", lambda *given: kept.append(collect(*given)) or kept[-1])
    comparison = compare(world.run, cropped, world.prepared)
    whole, part = kept
    assert all(mask.all() for mask in whole.seen)
    for maps, value in ((whole.maps, "a"), (part.maps, "b")):
        exact = pixel_metrics(maps, whole.masks, seen=part.seen).aupro[0.3]
        assert getattr(comparison.categories[0].figures["aupro_30"], value) == pytest.approx(exact, abs=0.001)
    share = np.mean([mask.mean() for mask in part.seen])
    assert f"the {share:.0%} of it that both see" in comparison.notes[0]


def test_runs_that_see_other_parts_are_refused(world, other, monkeypatch):
    def fewer(method, pairs, report, task):
        kept = pairs.items if method.seed == 0 else pairs.items[1:]
        return collect(method, replace(pairs, items=kept), report, task)

    monkeypatch.setattr(engine, "collect", fewer)
    with pytest.raises(DataError, match="pegs: A and B do not see the same parts"):
        compare(world.run, other, world.prepared)


def test_categories_that_only_one_knows_are_told(world, other, monkeypatch):
    record = read_record(world.run)
    named = [record.model_copy(update={"category": name}) for name in ("pegs", "gear")]
    known = {world.run: {world.run: named}, other: {other: named[:1]}}
    monkeypatch.setattr(engine, "runs_by_category", lambda run, data: known[run])
    assert compare(world.run, other, world.prepared).notes[0] == "only A knows gear"
    assert compare(other, world.run, world.prepared).notes[0] == "only B knows gear"
    known[world.run] = {world.run: named[1:]}
    with pytest.raises(DataError, match="nothing to compare"):
        compare(world.run, other, world.prepared)


def test_one_side_may_lack_a_file(world, other):
    without_depth = compare(world.run, other, world.prepared, missing="depth")
    assert without_depth.categories[0].figures != compare(world.run, other, world.prepared).categories[0].figures


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path):
    a, b = tmp_path / "first" / "bagel", tmp_path / "second" / "bagel"
    assert engine._names(a, b) == ("first/bagel", "second/bagel")
    assert engine._names(a, tmp_path / "rope") == ("bagel", "rope")
    assert engine._names(a, a) == ("bagel", "bagel")


# ---- what several categories come to ----------------------------------------------------------------------------


def law(value, error, p):
    return Estimate(value, error, value - 1.96 * error, value + 1.96 * error, p)


def drawn(value, error, p, seed=0):
    draws = value + error * np.random.default_rng(seed).normal(size=2000)
    return replace(law(value, error, p), draws=draws)


def category(name, image, pixels):
    figures = {
        "image_auroc": Figure(0.9, None if image is None else 0.9 + image.value, image),
        "aupro_30": Figure(0.8, None if pixels is None else 0.8 + pixels.value, pixels),
    }
    return CategoryComparison(name, 20, 80, figures, None)


@pytest.fixture
def several():
    return Comparison(
        ("old", "new"),
        [
            category("bagel", law(0.05, 0.01, 1e-6), drawn(-0.03, 0.005, 0.001, 1)),
            category("rope", law(0.04, 0.019, 0.03), drawn(0.001, 0.01, 0.9, 2)),
            category("tire", law(-0.03, 0.012, 0.012), drawn(0.002, 0.01, 0.8, 3)),
            category("foam", None, None),
        ],
        [],
    )


def test_categories_are_told_apart_after_holm_and_the_mean_is_one_test(several):
    told = several.sentences()
    assert told[0] == "A is old, B is new."
    assert told[1].startswith(
        "B is better by 2.0 ± 1.6 points of image AUROC (p = 0.015, DeLong); with 300 test images"
    )
    assert told[1].endswith("of 3 of 4 categories this is significant.")
    assert told[2] == (
        "image AUROC by category (Holm's correction for 3 tests): A is significantly better on tire; "
        "B is significantly better on bagel, rope."
    )
    assert told[3].startswith("A is ahead by 0.9 ±")
    assert "not significant: about" in told[3]
    assert told[4] == "AUPRO@30 by category (Holm's correction for 3 tests): A is significantly better on bagel."


def test_what_is_significant_alone_may_not_be_among_others(several):
    weak = category("tire", law(-0.03, 0.014, 0.03), None)
    comparison = replace(several, categories=[*several.categories[:2], weak])
    assert comparison.significant("image_auroc") == [True, False, False]
    assert "B is significantly better on bagel." in comparison.sentences()[2]
    none = replace(several, categories=[several.categories[1], weak])
    assert "none tells A and B apart" in none.sentences()[2]


def test_the_table_has_stars_dashes_and_a_mean(several):
    heads, body = several.rows()
    assert all(len(row) == len(heads) for row in body)
    assert [row[0] for row in body] == ["bagel", "rope", "tire", "foam", "mean"]
    assert body[0][3:5] == ["+0.050 ± 0.020", "< 0.001 *"]
    assert body[3][2:5] == [None, None, None]
    assert body[4][1] == pytest.approx(0.9)
    assert body[4][3:5] == ["+0.020 ± 0.016", "0.015 *"]


def test_the_document_says_what_is_undefined(several):
    document = several.document()
    assert document["categories"]["foam"]["image_auroc"] == {"a": 0.9, "b": None, "difference": None}
    assert document["overall"]["image_auroc"]["categories"] == 3
    assert document["overall"]["image_auroc"]["images"] == 300
    json.dumps(document, allow_nan=False)


def test_a_lone_category_of_one_class_is_undefined(several):
    lone = replace(several, categories=[category("foam", None, None)])
    assert lone.sentences()[1:] == [
        "image AUROC: the test images leave it undefined.",
        "AUPRO@30: the test images leave it undefined.",
    ]
    assert lone.document()["overall"]["image_auroc"]["difference"] is None


def test_one_image_of_a_class_has_a_difference_and_no_test(several):
    figures = {"image_auroc": Figure(0.9, 0.95, None), "aupro_30": Figure(None, None, None)}
    lone = replace(several, categories=[CategoryComparison("foam", 1, 8, figures, None)])
    assert lone.rows()[1][0][1:5] == [0.9, 0.95, "+0.050", None]
    assert lone.sentences()[1] == (
        "image AUROC: +0.050 from A to B; too few test images to tell what that means."
    )  # fmt: skip


AGAIN = "images would be needed to tell a difference this large 80% of the time."


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (law(0.012, 0.0045, 1), "B is better by 1.2 ± 0.9 points of image AUROC (p = 0.0077, DeLong); {}this is {}."),
        (law(-0.04, 0.001, 1e-9), "A is better by 4.0 ± 0.2 points of image AUROC (p < 0.001, DeLong); {}this is {}."),
        (law(0.01, 0.02, 0.6), "B is ahead by 1.0 ± 3.9 points of image AUROC (p = 0.62, DeLong); {}this is not {}: "
         f"about 3,100 {AGAIN}"),
        (law(4e-4, 0.02, 1), "B is ahead by 0.04 ± 3.9 points of image AUROC (p = 0.98, DeLong); {}this is not {}: "
         f"about 2,000,000 {AGAIN}"),
        (law(0.0, 0.02, 1.0), "A and B are level in image AUROC (0.0 ± 3.9 points, 100 test images)."),
    ],
)  # fmt: skip
def test_the_sentence_of_one_category(several, image, told):
    lone = replace(several, categories=[category("rope", image, drawn(0.1, 0.01, 0.001))])
    assert lone.sentences()[1] == told.format("with 100 test images ", "significant")
