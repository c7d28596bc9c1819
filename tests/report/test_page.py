import base64
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
from pages import Page, check_still

from uipad_cli.report.cloud import Cloud, script_hash, viewer_script
from uipad_cli.report.figures import WIDTH, curve_path, histogram
from uipad_cli.report.page import COLUMNS, DefectRow, Picture, Scored, Section, build_page
from uipad_cli.report.paper import printed

CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
HOSTILE = "<script>alert('x')</script>\" onload=\"steal()&amp;"


def _png(value=7):
    return cv2.imencode(".png", np.full((4, 6, 3), value, np.uint8))[1].tobytes()


def _section(category="cable_gland", **changes):
    section = Section(
        category=category,
        metrics={key: 0.1 * index + 0.0123 for index, key in enumerate(COLUMNS, start=1)},
        defects=[DefectRow("bent", 5, 1, 2, 0.9876, (0.9, 1.0)), DefectRow("cut", 4, 0, 0, None, None)],
        counts={"good": 21, "defect regions": 112},
        gauges={"prototype usage": 0.012345678},
        scored=Scored([0.1, 0.2, 0.25], [0.2, 0.6, 0.9, 0.95], 0.25, 0.22, [0.12, 0.22, 0.25]),
        notes=["two pairs were left out"],
        pictures=[Picture("one of each", _png())],
    )
    return replace(section, **changes)


def _page(*sections, **changes):
    parts = {"title": "Results", "notes": ["The backbone is untrained."], "mean": {"image_auroc": 0.77777}}
    return build_page(**{**parts, "sections": sections, "settings": {"torch": "2.15.0"}, **changes})


def test_nothing_is_fetched_and_nothing_runs():
    check_still(_page(_section(), _section("tire")), CSP)


def test_hostile_text_stays_text():
    section = _section(
        HOSTILE,
        defects=[DefectRow(HOSTILE, 1, 0, 0, 0.5, None)],
        counts={HOSTILE: 1},
        gauges={HOSTILE: 0.5},
        notes=[HOSTILE],
        pictures=[Picture(HOSTILE, _png())],
    )
    html = _page(section, title=HOSTILE, notes=[HOSTILE], settings={HOSTILE: HOSTILE})
    page = Page(html)
    assert "<script" not in html
    # title twice, note, summary, heading, note, count, defect type, caption, gauge, setting and its value
    assert page.texts.count(HOSTILE) == 12
    assert [image["alt"] for image in page.all("img")] == [HOSTILE]
    assert not [attributes for _, attributes in page.elements if "onload" in attributes]


def test_every_number_is_shown_as_formatted():
    section = _section()
    texts = Page(_page(section)).texts
    for share in section.metrics.values():
        assert f"{100 * share:.1f}" in texts
    for text in ("98.8", "21", "112", "0.01235", "threshold 0.25", "77.8", "2.15.0"):
        assert text in texts, text


def _rows(html):
    return [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr><th scope=\"row\">.*?</tr>", html, re.S)]


def test_summary_has_a_row_per_category_and_the_mean():
    html = _page(_section(metrics={"image_auroc": 0.5, "aupro_01": None}), _section("tire", metrics={"image_ap": 1.0}))
    blank = ["–"] * 7
    assert _rows(html)[:3] == [["50.0", *blank], ["–", "100.0", *blank[1:]], ["77.8", *blank]]
    summary = html[html.index('<table class="summary">') : html.index("</table>")]
    assert len(re.findall(r'<th scope="col">', summary)) == 1 + len(COLUMNS)


def test_notes_come_before_every_figure():
    html = _page(_section())
    assert html.index("The backbone is untrained.") < html.index("<table")


def test_pictures_are_embedded_whole():
    pictures = [Picture("a", _png(1)), Picture("b", _png(200))]
    images = Page(_page(_section(pictures=pictures))).all("img")
    assert len(images) == 2
    for image, picture in zip(images, pictures, strict=True):
        kind, data = image["src"].split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data, validate=True) == picture.image
        assert cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR).shape == (4, 6, 3)


def test_links_of_the_summary_lead_to_the_sections():
    page = Page(_page(_section(), _section("tire")))
    assert [link["href"] for link in page.all("a")] == [f"#{heading['id']}" for heading in page.all("h2") if heading]


def test_a_page_without_results_still_stands():
    empty = Scored([], [], 0.25, 0.25, [0.25])
    bare = _section(defects=[], counts={}, gauges={}, scored=empty, notes=[], pictures=[], metrics={})
    for html in (_page(bare), _page(notes=[], settings={}, mean={})):
        page = Page(html)
        assert page.all("svg") == []
        assert "–" in page.texts


def figure_of(good, bad, threshold, **changes):
    return histogram(good, bad, **{"threshold": threshold, "unsure_from": threshold, "calibration": good, **changes})


def test_figure_counts_every_score_on_its_side_of_the_threshold():
    rng = np.random.default_rng(0)
    for _ in range(50):
        good, bad = rng.normal(0, 1, 30), rng.normal(1, 2, 60)
        threshold = float(good.max() if rng.random() < 0.5 else rng.normal(0, 3))
        figure = figure_of(good, bad, threshold, unsure_from=threshold - rng.random())
        assert figure.low <= min(good.min(), bad.min(), threshold)
        assert figure.high >= max(good.max(), bad.max(), threshold) - 1e-9
        assert 0 <= figure.band_x <= figure.threshold_x <= WIDTH
        for bars, scores in ((figure.good, good), (figure.bad, bad)):
            right = [int(bar.label.split()[0]) for bar in bars if bar.x > figure.threshold_x]
            everything = [int(bar.label.split()[0]) for bar in bars]
            assert sum(right) == np.count_nonzero(scores > threshold)
            assert sum(everything) == len(scores)
        assert all(bar.x >= 0 and bar.x + bar.width <= WIDTH and bar.width > 0 for bar in (*figure.good, *figure.bad))


def test_every_good_part_of_the_calibration_is_marked():
    figure = figure_of([5.0, 6.0], [9.0], 6.0, calibration=[0.5, 1.0, 6.0])
    assert len(figure.marks) == 3
    assert 0 <= figure.marks[0] < figure.marks[1] < figure.good[0].x


def test_p_values_stand_where_they_begin():
    figure = figure_of([1.0, 2.0, 3.0], [9.0], 3.0, calibration=[1.0, 2.0, 3.0])
    (middle, at_least_half), (last, least) = figure.p_values
    assert (at_least_half, least) == ("p 0.75", "p 0.25")
    assert middle < last == pytest.approx(figure.threshold_x)
    assert figure.marks == pytest.approx([middle, (middle + last) / 2, last])


@pytest.mark.parametrize("value", [0.0, -3.0, 1e-9, 1e9])
def test_figure_of_equal_scores(value):
    figure = figure_of([value] * 3, [], value)
    assert figure.low < figure.high
    assert (len(figure.good), len(figure.bad)) == (1, 0)
    assert figure.good[0].x < figure.threshold_x


@pytest.mark.parametrize("changes", [{"good": [float("nan")]}, {"bad": [float("inf")]}, {"threshold": float("nan")}])
def test_scores_that_are_not_finite_are_refused(changes):
    with pytest.raises(ValueError, match="tire: scores and threshold"):
        _page(_section("tire", scored=replace(_section().scored, **changes)))


def test_a_curve_ends_at_its_limit():
    points = np.array([0.0, 0.2, 0.6, 1.0]), np.array([0.0, 0.5, 0.9, 1.0])
    assert curve_path(points) == "M0,300L60,150L180,30L300,0"
    assert curve_path(points, 0.4) == "M0,300L150,150L300,90"


def test_curves_and_intervals_are_drawn_where_there_are_any():
    points = np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.9, 1.0])
    plain, drawn = (Page(_page(_section(**more))) for more in ({}, {"roc": points, "pro": points}))
    assert len(drawn.all("path")) == 2 + len(plain.all("path"))
    texts = " ".join(Page(_page(_section(roc=points, intervals={"image_auroc": (0.5, 0.75)}))).texts)
    assert "50.0 – 75.0" in texts
    assert "90.0 – 100.0" in texts  # of the defect


def test_the_papers_figure_stands_below_ours():
    assert printed("cable_gland") == {"image_auroc": 0.985, "aupro_30": 0.993}
    assert printed("CandyCane") == printed("candy_cane")
    assert printed("pegs") == {}
    texts = Page(_page(_section(paper=printed("cable_gland")))).texts
    assert "paper 98.5" in texts
    assert "paper 99.3" in texts


def test_clouds_bring_the_one_script_that_the_policy_names():
    cloud = Cloud(
        HOSTILE, *(np.zeros((2, 3), kind) for kind in (np.float32, np.uint8, np.uint8)), np.ones(2, np.float32)
    )
    html = _page(_section(clouds=[cloud]), _section("tire"))
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', html)
    assert policy == CSP.replace("; style-src", f"; script-src '{script_hash(viewer_script())}'; style-src", 1)
    assert html.count(viewer_script()) == 1
    assert html.count("<script") == 2  # the parts as data, and the viewer
    assert HOSTILE not in html


def test_other_files_than_png_are_refused():
    with pytest.raises(ValueError, match="'sheet' of tire is no PNG"):
        _page(_section("tire", pictures=[Picture("sheet", b"<svg onload=alert(1)>")]))
