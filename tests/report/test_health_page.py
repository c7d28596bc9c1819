import base64
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
from pages import Page, check_still

from uipad_cli.render import MAGENTA
from uipad_cli.report.health import Category, Measure, Property, build_page, draw_edges, histogram
from uipad_cli.report.page import Picture

CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
HOSTILE = "<script>alert('x')</script>\" onload=\"steal()&amp;"


def _jpeg(value=7):
    return cv2.imencode(".jpg", np.full((4, 6, 3), value, np.uint8))[1].tobytes()


def _category(name="cable_gland", **changes):
    category = Category(
        name=name,
        counts={"train": {"good": 36}, "test": {"good": 7, "cut": 5}},
        facts={"sizes": "400 x 400 (48)"},
        measures=[Measure("points missing", "%", [10.0, 12.5, 40.0])],
        properties=[Property("mean of x", 0.9876, True), Property("time of the file", 0.5, False)],
        warnings=2,
        pictures=[Picture("some parts", _jpeg())],
    )
    return replace(category, **changes)


def _page(*categories, **changes):
    parts = {"title": "Health of parts", "warnings": [], "failures": [], "findings": [], "notes": []}
    return build_page(**{**parts, "categories": categories, **changes})


def test_the_verdict_counts_the_warnings():
    assert "No warnings" in Page(_page(_category())).texts
    assert "1 warning" in Page(_page(_category(), warnings=["one"])).texts
    texts = Page(_page(_category(), warnings=["the plane leans", "a twin"])).texts
    assert texts.index("2 warnings") < texts.index("the plane leans") < texts.index("a twin")


def test_lists_stand_under_their_heads_and_empty_ones_are_left_out():
    html = _page(_category(), failures=["a.png: damaged"], findings=["xyz: in metres"])
    texts = Page(html).texts
    assert texts[texts.index("Pairs that could not be prepared") + 1] == "a.png: damaged"
    assert texts[texts.index("What was found out about the files") + 1] == "xyz: in metres"
    assert "Good to know" not in texts


def test_nothing_is_fetched_and_nothing_runs():
    check_still(_page(_category(), _category("tire"), warnings=["one"]), CSP)


def test_hostile_text_stays_text():
    category = _category(
        HOSTILE,
        counts={HOSTILE: {"good": 1}},
        facts={HOSTILE: HOSTILE},
        measures=[Measure(HOSTILE, HOSTILE, [1.0, 2.0])],
        properties=[Property(HOSTILE, 1.0, True)],
        pictures=[Picture(HOSTILE, _jpeg())],
    )
    lists = {key: [HOSTILE] for key in ("warnings", "failures", "findings", "notes")}
    html = _page(category, title=HOSTILE, **lists)
    page = Page(html)
    assert "<script" not in html
    # title twice, four lists, heading, split, fact and its text, measure, property, caption
    assert page.texts.count(HOSTILE) == 13
    assert [image["alt"] for image in page.all("img")] == [HOSTILE]
    assert not [attributes for _, attributes in page.elements if "onload" in attributes]


def test_counts_facts_and_properties_are_shown():
    texts = Page(_page(_category())).texts
    for text in ("36", "12", "good 7, cut 5", "sizes", "400 x 400 (48)", "mean of x", "0.99", "0.50", "some parts"):
        assert text in texts, text


def test_what_gives_the_label_away_stands_out():
    meters = [span["class"] for span in Page(_page(_category())).all("span") if "meter" in span.get("class", "")]
    assert meters == ["meter bad", "meter"]
    assert re.findall(r'style="width: ([^"]*)"', _page(_category())) == ["97.5%", "0.0%"]


def test_several_categories_are_linked():
    page = Page(_page(_category(), _category("tire", warnings=0)))
    assert [link["href"] for link in page.all("a")] == [f"#{head['id']}" for head in page.all("h2")]
    assert ": 2 warnings" in page.texts
    assert ": no warnings" in page.texts


def test_pictures_are_embedded_whole():
    pictures = [Picture("a", _jpeg(1)), Picture("b", _jpeg(200))]
    for image, picture in zip(Page(_page(_category(pictures=pictures))).all("img"), pictures, strict=True):
        kind, data = image["src"].split(",")
        assert kind == "data:image/jpeg;base64"
        assert base64.b64decode(data, validate=True) == picture.image


def test_a_bare_category_still_stands():
    bare = _category(counts={}, facts={}, measures=[Measure("tilt", "°", [])], properties=[], pictures=[])
    assert Page(_page(bare)).all("svg") == []
    assert Page(_page()).texts.count("No warnings") == 1


def test_histogram_holds_every_pair():
    rng = np.random.default_rng(0)
    for size in (1, 2, 40, 500):
        figure = histogram(Measure("tilt", "°", rng.normal(20, 3, size).tolist()))
        assert sum(int(bar.label.split()[0]) for bar in figure.bars) == size
        assert all(bar.x >= 0 and bar.x + bar.width <= 300 and 0 <= bar.y < 72 for bar in figure.bars)
        assert figure.low < figure.high
    assert len(histogram(Measure("tilt", "°", [0.1] * 9)).bars) == 1
    assert len(histogram(Measure("tilt", "°", [0.0, 1.0])).bars) == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_figures_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match="'tilt' must be finite"):
        histogram(Measure("tilt", "°", [1.0, value]))


def test_other_files_than_jpeg_are_refused():
    with pytest.raises(ValueError, match="'sheet' of tire is no JPEG"):
        _page(_category("tire", pictures=[Picture("sheet", b"<svg onload=alert(1)>")]))


def test_lines_are_drawn_over_a_lightened_photo():
    photo = np.full((6, 8, 3), 64, np.uint8)
    lines = np.zeros((6, 8), np.bool_)
    lines[2, 3] = True
    drawn = draw_edges(photo, lines)
    assert tuple(drawn[2, 3]) == MAGENTA
    assert (drawn[~lines] == 128).all()
    assert (photo == 64).all()
    with pytest.raises(ValueError, match="lines are"):
        draw_edges(photo, lines[:5])
