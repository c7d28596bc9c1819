"""The 3D view in a real browser: what it draws, what it says, what it asks for."""

import browser
import numpy as np
import pytest

from uipad_cli.engine.eval_page import report_page
from uipad_cli.engine.evaluate import evaluate
from uipad_cli.report.cloud import Cloud, document, script_hash, viewer_script
from uipad_cli.report.page import template

POINTS = 100_000
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>Clouds</title>
<style>
{% import "cloud.html" as cloud %}
:root { --paper: #fff; --ink: #1d2128; --soft: #626a76; --line: #e1e4e9; --tint: #f5f6f8; --good: #2b7a78;
  --bad: #c2452d; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181d; --ink: #e4e7ec; --soft: #9aa3b0; --line: #2d333c;
  --tint: #1d2128; --good: #5fb8b3; --bad: #ee7f68; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 64rem; padding: 2rem 1.25rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; overflow-wrap: anywhere; }
figure { margin: 1rem 0; } figure + figure { margin-top: 60rem; }
figcaption { color: var(--soft); font-size: .85rem; margin: .4rem 0; }
{{ cloud.styles() }}
</style>
</head>
<body>
<h1>Clouds</h1>
{% for document in documents %}
{{ cloud.clouds(document, "Two parts of a category.") }}
{% endfor %}
{{ cloud.script(viewer) }}
</body>
</html>
"""
POLICY = "default-src 'none'; script-src '{}'; style-src 'unsafe-inline'; img-src data:"

pytestmark = pytest.mark.skipif(browser.find() is None, reason=browser.MISSING)

# What the tests ask the page for.
LIBRARY = """
const figure = at => document.querySelectorAll("figure.cloud")[at];
const drawn = at => figure(at).dataset.drawn;
const button = (at, text) => [...figure(at).querySelectorAll("button")].find(one => one.textContent === text);
const readout = () => { const one = figure(0).querySelector(".readout"); return one.hidden ? "" : one.textContent; };
const pixels = at => {
  const canvas = figure(at).querySelector("canvas");
  const copy = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  let sum = 0, covered = 0;
  for (let i = 0; i < data.length; i += 4) {
    sum = (sum * 31 + data[i] + 7 * data[i + 1] + 13 * data[i + 2] + 17 * data[i + 3]) % 1e9;
    covered += data[i + 3] > 0;
  }
  return [sum, covered * 4 / data.length];
};
const later = async at => {
  for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
  await new Promise(done => setTimeout(done, 100));
  return pixels(at);
};
const middle = () => {
  const place = figure(0).querySelector("canvas").getBoundingClientRect();
  return [place.left + place.width / 2, place.top + place.height / 2];
};
"""


def _part(seed, count=POINTS):
    """A round part with a ring and a dent, of which the dent is hot."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(count * 4 / np.pi))) + 2
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    inside = np.argsort(np.hypot(x, y).ravel(), kind="stable")[:count]
    x, y = x.ravel()[inside], y.ravel()[inside]
    far = np.hypot(x, y)
    dent = np.exp(-(((x - 0.4) ** 2 + (y + 0.3 * (1 + seed)) ** 2) / 0.01))
    z = 0.006 * np.exp(-((far - 0.6) ** 2) / 0.02) - 0.004 * dent + rng.normal(0, 5e-5, count)
    light = 150 + 12000 * z + rng.normal(0, 6, count)
    colours = np.clip(np.stack([light + 40, light + 10, light - 30], axis=1), 0, 255)
    heat = colours * (1 - 0.8 * dent[:, None]) + np.array([220, 60, 10]) * 0.8 * dent[:, None]
    points = np.stack([0.05 * x, 0.05 * y, z + 0.4], axis=1).astype(np.float32)
    score = np.where(far > 0.9, np.nan, 0.3 + 1.6 * dent).astype(np.float32)
    return Cloud(f"part {seed}", points, colours.astype(np.uint8), heat.astype(np.uint8), score)


def _write(path, *figures):
    script = viewer_script()
    text = (
        template("cloud.html")
        .environment.from_string(PAGE)
        .render(
            documents=[document(parts) for parts in figures], viewer=script, policy=POLICY.format(script_hash(script))
        )
    )
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page of two figures, the first of two parts, the second below the window."""
    return _write(tmp_path_factory.mktemp("clouds") / "page.html", [_part(0), _part(1, 30_000)], [_part(2)])


@pytest.fixture(scope="module")
def chromium():
    with browser.Browser() as running:
        yield running


@pytest.fixture
def tab(chromium, page):
    """The page, its first figure drawn."""
    opened = _open(chromium, page)
    yield opened
    assert opened.complaints == []
    assert opened.fetched == [page.as_uri()]
    opened.close()


def _open(chromium, page, **window):
    opened = chromium.open(page, **window)
    opened.evaluate(LIBRARY)
    opened.wait("drawn(0)")
    return opened


def _settled(tab):
    """Sum and cover of the pixels as soon as they stay the same: nothing moves on by itself."""
    before = None
    for _ in range(50):
        now = tab.evaluate("later(0)")
        if now == before:
            return now
        before = now
    raise AssertionError("the view never comes to rest")


def _press(tab, text):
    tab.evaluate(f"button(0, {text!r}).click()")
    return _settled(tab)


def test_both_clouds_are_drawn_in_time(tab):
    assert tab.seconds < 10
    assert tab.evaluate("drawn(0)") == str(POINTS)
    assert _settled(tab)[1] > 0.2
    assert tab.evaluate("drawn(1) === undefined")  # below the window, not begun
    tab.evaluate("figure(1).scrollIntoView()")
    tab.wait("drawn(1)")
    assert tab.evaluate("pixels(1)")[1] > 0.2


def test_buttons_change_what_is_drawn(tab):
    heat = _settled(tab)
    photo = _press(tab, "photo")
    assert heat[0] != photo[0]
    assert heat[1] == photo[1]  # other colours, the same places
    assert _press(tab, "heat map") == heat
    assert _press(tab, "10x") != heat
    assert _press(tab, "1x") == heat
    assert _press(tab, "part 1") != heat
    assert tab.evaluate("drawn(0)") == "30000"
    pressed = "[...figure(0).querySelectorAll('[aria-pressed=true]')].map(one => one.textContent)"
    assert tab.evaluate(pressed) == ["part 1", "heat map", "1x"]


def test_mouse_wheel_and_keys_move_the_view(tab):
    seen = [_settled(tab)]
    x, y = tab.evaluate("middle()")
    tab.drag((x, y), (x + 120, y + 30))
    seen.append(_settled(tab))
    tab.mouse("mouseWheel", x, y, deltaX=0, deltaY=-300)
    seen.append(_settled(tab))
    tab.evaluate("figure(0).querySelector('canvas').focus()")
    tab.key("ArrowLeft")
    seen.append(_settled(tab))
    assert len({total for total, _ in seen}) == 4
    assert _press(tab, "reset view") == seen[0]


def test_a_button_works_from_the_keyboard(tab):
    heat = _settled(tab)
    tab.evaluate("button(0, 'photo').focus()")
    tab.key("Enter")
    assert _settled(tab)[0] != heat[0]


def test_the_score_stands_under_the_pointer(tab):
    x, y = tab.evaluate("middle()")
    tab.mouse("mouseMoved", x, y)
    assert tab.wait("readout()") == "0.30 x"
    tab.mouse("mouseMoved", 2, 2)
    tab.wait("readout() === ''")


def test_the_page_scrolls_on_over_a_cloud(tab):
    before = _settled(tab)
    x, y = tab.evaluate("middle()")
    tab.evaluate("scrollBy(0, 40)")
    tab.mouse("mouseWheel", x, y, deltaX=0, deltaY=120)
    tab.wait("scrollY > 100")
    assert _settled(tab) == before


def test_a_page_of_more_figures_than_browsers_keep_contexts(chromium, tmp_path):
    tab = _open(chromium, _write(tmp_path / "many.html", *([_part(seed, 2000)] for seed in range(20))))
    for at in range(20):
        tab.evaluate(f"figure({at}).scrollIntoView()")
        tab.wait(f"drawn({at})")
    assert min(tab.evaluate("[...Array(20).keys()].map(at => pixels(at)[1])")) > 0.2
    tab.evaluate("figure(0).scrollIntoView(); button(0, 'photo').click()")
    assert _settled(tab)[1] > 0.2
    assert tab.complaints == []
    tab.close()


def test_a_narrow_dark_window(chromium, page):
    tab = _open(chromium, page, width=390, height=844, dark=True)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert _settled(tab)[1] > 0.2
    assert tab.complaints == []
    tab.close()


def test_without_webgl_a_sentence_stands_there(page):
    with browser.Browser(browser.NO_WEBGL) as running:
        tab = running.open(page)
        shown = tab.evaluate("[...document.querySelectorAll('.instead')].map(p => p.checkVisibility() && p.innerText)")
        assert len(shown) == 2
        assert all("no WebGL" in text for text in shown)
        assert tab.evaluate("document.querySelector('figure.cloud canvas').checkVisibility()") is False
        assert tab.evaluate("document.querySelectorAll('button').length") == 0
        assert tab.complaints == []
        assert tab.fetched == [page.as_uri()]


def test_the_page_of_an_evaluation_opens_whole(chromium, world, tmp_path):
    """What `eval --report` writes: nothing is asked for outside, nothing is complained of, its parts are drawn."""
    results = evaluate(world.run, world.prepared, out=tmp_path, charts=True)
    tab = chromium.open(report_page(results, world.run, world.prepared, tmp_path, None), width=1100, height=900)
    assert tab.seconds < 10
    assert tab.complaints == []
    assert len(tab.fetched) == 1
    tab.evaluate("document.querySelector('figure.cloud').scrollIntoView()")
    tab.wait("document.querySelector('figure.cloud').dataset.drawn")
    assert tab.evaluate("document.querySelectorAll('.cloud [aria-label=Part] button').length") == 4
    assert tab.evaluate("document.querySelectorAll('svg').length") == 3  # scores, ROC, PRO
    assert tab.complaints == []
    tab.close()
