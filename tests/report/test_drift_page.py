import re
from dataclasses import replace

import pytest
from pages import Page, check_still

from uipad_cli.report.drift import HEIGHT, SQUARE, WIDTH, Dot, Line, Scatter, Strip, Table, build_page, scatter_chart
from uipad_cli.report.drift import strip_chart as chart

CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
HOSTILE = "<script>alert('x')</script>\" onload=\"steal()&amp;"
STRIP = Strip(
    "Score",
    [Dot("good 1: 1", 1.0, False), Dot("good 2: 2", 2.0, False)],
    [Dot("part0: 1.5", 1.5, False), Dot("part1: 4", 4.0, True), Dot("part2: 3", 3.0, False)],
    [Line("threshold", 2.5), Line("unsure from", 2.0)],
    change=1,
)
SCATTER = Scatter("Seen", [(0.0, 0.0, "good 1")], [(4.0, 1.0, "part0", False), (2.0, 5.0, "part1", True)])


def page(**changes):
    parts = {
        "title": "Drift of monday",
        "verdict": "line changed: brightness 132 → 97 (-26 %)",
        "steady": False,
        "notes": ["look at the light"],
        "strips": [STRIP],
        "scatter": SCATTER,
        "table": Table(["figure", "p"], [(["brightness", "0.0001"], True), (["contrast", "0.4"], False)]),
        "settings": {"Run": "nut"},
    }
    return build_page(**{**parts, **changes})


def test_the_verdict_comes_first():
    texts = Page(page()).texts
    assert texts[1:4] == ["Drift of monday", "line changed: brightness 132 → 97 (-26 %)", "look at the light"]
    assert Page(page()).all("p")[0]["class"] == "verdict bad"
    assert Page(page(steady=True)).all("p")[0]["class"] == "verdict"


def test_nothing_is_fetched_and_nothing_runs():
    check_still(page(), CSP)


def test_hostile_text_stays_text():
    strip = Strip(HOSTILE, [Dot(HOSTILE, 1, False)], [Dot(HOSTILE, 2, True)], [Line(HOSTILE, 1.5)])
    html = page(
        title=HOSTILE,
        verdict=HOSTILE,
        notes=[HOSTILE],
        strips=[strip],
        scatter=Scatter(HOSTILE, [(0, 0, HOSTILE)], [(1, 1, HOSTILE, True)]),
        table=Table([HOSTILE], [([HOSTILE], True)]),
        settings={HOSTILE: HOSTILE},
    )
    parsed = Page(html)
    assert "<script" not in html
    assert not [attributes for _, attributes in parsed.elements if "onload" in attributes]


def test_every_part_is_drawn_and_named():
    parsed = Page(page())
    kinds = [circle["class"] for circle in parsed.all("circle")]
    assert kinds == ["old", "old", "new", "bad", "new", "old", "new", "bad"]
    assert {"good 1: 1", "part1: 4", "part1"} <= set(parsed.texts)
    assert "Dashed: threshold 2.5, unsure from 2" in " ".join(parsed.texts)


def test_a_strip_chart_keeps_order_and_heights():
    found = chart(STRIP)
    assert [mark.x for mark in found.marks] == sorted(mark.x for mark in found.marks)
    assert all(0 < mark.x < WIDTH and 0 < mark.y < HEIGHT for mark in found.marks)
    assert found.marks[1].x < found.border_x < found.marks[2].x < found.change_x < found.marks[3].x
    threshold, unsure = (y for y, _, _ in found.levels)
    assert found.marks[3].y < found.marks[4].y < threshold < unsure == found.marks[1].y
    assert found.low < 1
    assert found.high > 4
    assert found.ends == ("part0", "part2")


def test_a_scatter_keeps_one_scale():
    first, second, third = scatter_chart(SCATTER).marks
    assert (second.x - first.x) / 4 == pytest.approx((first.y - third.y) / 5)
    assert all(0 < one < SQUARE for mark in (first, second, third) for one in (mark.x, mark.y))


def test_parts_that_are_all_alike_still_stand():
    alike = replace(
        STRIP, before=[Dot("a", 2.0, False)], now=[Dot("b", 2.0, False)], lines=[Line("t", 2.0)], change=None
    )
    assert {mark.y for mark in chart(alike).marks} == {HEIGHT / 2}
    assert scatter_chart(Scatter("s", [(1, 1, "a")], [(1, 1, "b", False)])).marks[0].x == SQUARE / 2
    html = page(strips=[alike], scatter=None)
    assert "nan" not in html
    assert len(Page(html).all("svg")) == 1
    assert not re.search(r'class="change"', html)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_figures_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match="'Score' must be finite"):
        chart(replace(STRIP, now=[Dot("a", value, False)]))
    with pytest.raises(ValueError, match="'Seen' must be finite"):
        scatter_chart(replace(SCATTER, now=[(value, 0, "a", False)]))
