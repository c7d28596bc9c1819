import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pages import Page

from uipad_cli.report import cloud as cloud_module
from uipad_cli.report.cloud import SCORE_CEILING, UNSEEN, Cloud, document, script_hash, thinned, viewer_script
from uipad_cli.report.page import template

VIEWER = Path(cloud_module.__file__).parent / "viewer"
HOSTILE = "</script><script>alert('x')</script><!--&amp;\u2028\u2029\"\\ onload=steal()"


def _cloud(count=500, seed=0, caption="hole/003", **changes):
    rng = np.random.default_rng(seed)
    made = Cloud(
        caption=caption,
        points=rng.normal([0.02, -0.3, 0.5], [0.05, 0.03, 0.004], (count, 3)).astype(np.float32),
        colours=rng.integers(0, 256, (count, 3), dtype=np.uint8),
        heat=rng.integers(0, 256, (count, 3), dtype=np.uint8),
        score=rng.uniform(0, 2, count).astype(np.float32),
    )
    return replace(made, **changes)


def _numbers(text, kind):
    return np.frombuffer(base64.b64decode(text, validate=True), kind)


def test_what_is_written_is_read_again():
    clouds = [_cloud(), _cloud(7, seed=1, caption="good/000")]
    parts = json.loads(document(clouds))
    assert [part["caption"] for part in parts] == ["hole/003", "good/000"]
    for cloud, part in zip(clouds, parts, strict=True):
        low, high = np.array(part["low"]), np.array(part["high"])
        points = low + _numbers(part["points"], "<u2").reshape(-1, 3) / 65535 * (high - low)
        assert part["count"] == len(points) == len(cloud.points)
        assert np.all(np.abs(points - cloud.points) <= (high - low) / 65535 * 0.51 + 1e-9)
        np.testing.assert_array_equal(_numbers(part["colours"], np.uint8).reshape(-1, 3), cloud.colours)
        np.testing.assert_array_equal(_numbers(part["heat"], np.uint8).reshape(-1, 3), cloud.heat)
        score = _numbers(part["score"], np.uint8) * part["score_high"] / 254
        assert np.all(np.abs(score - cloud.score) <= part["score_high"] / 254 * 0.51)
        assert not part["score_clipped"]


def test_scores_unseen_negative_and_beyond_the_ceiling():
    score = np.array([np.nan, -1, 0, SCORE_CEILING / 2, SCORE_CEILING, 80], np.float32)
    (part,) = json.loads(document([_cloud(6, score=score)]))
    assert _numbers(part["score"], np.uint8).tolist() == [UNSEEN, 0, 0, 127, 254, 254]
    assert (part["score_high"], part["score_clipped"]) == (SCORE_CEILING, True)


@pytest.mark.parametrize("score", [0.0, np.nan, -2.0])
def test_a_part_without_any_score_above_nothing(score):
    (part,) = json.loads(document([_cloud(6, score=np.full(6, score, np.float32))]))
    assert set(_numbers(part["score"], np.uint8).tolist()) <= {0, UNSEEN}
    assert part["score_high"] == 1.0


def test_a_flat_part_and_a_single_point():
    flat = np.array([[0, 0, 0.5], [1, 0, 0.5]], np.float32)
    for cloud in (_cloud(2, points=flat), _cloud(1)):
        (part,) = json.loads(document([cloud]))
        points = np.array(part["low"]) + _numbers(part["points"], "<u2").reshape(-1, 3) / 65535 * (
            np.array(part["high"]) - np.array(part["low"])
        )
        np.testing.assert_allclose(points, cloud.points, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": np.zeros((500, 2), np.float32)}, r"points of 'hole/003': float32 \[500, 2\] instead of float32"),
        ({"points": np.zeros((500, 3))}, "points of 'hole/003': float64"),
        ({"points": np.zeros(3, np.float32)}, "points of 'hole/003': float32"),
        ({"points": np.full((500, 3), np.nan, np.float32)}, "points of 'hole/003' must be finite"),
        ({"colours": np.zeros((499, 3), np.uint8)}, "colours of 'hole/003'"),
        ({"heat": np.zeros((500, 3), np.float32)}, "heat of 'hole/003': float32"),
        ({"score": np.zeros((500, 1), np.float32)}, "score of 'hole/003'"),
        ({"score": np.full(500, np.inf, np.float32)}, "scores of 'hole/003' must be finite or NaN"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes, message):
    for call in (lambda cloud: document([_cloud(3), cloud]), lambda cloud: thinned(cloud, 10)):
        with pytest.raises(ValueError, match=message):
            call(_cloud(**changes))


def test_a_part_without_points_is_refused():
    with pytest.raises(ValueError, match="'hole/003' has no points"):
        document([_cloud(0)])


def test_thinned_keeps_whole_points_in_their_order():
    cloud = _cloud(1000)
    few = thinned(cloud, 300)
    rows = [np.flatnonzero((cloud.points == point).all(axis=1))[0] for point in few.points]
    assert len(rows) == 300
    assert rows == sorted(set(rows))
    for name in ("colours", "heat", "score"):
        np.testing.assert_array_equal(getattr(few, name), getattr(cloud, name)[rows])
    np.testing.assert_array_equal(thinned(cloud, 300).points, few.points)
    assert thinned(cloud, 1000) is cloud
    assert len(thinned(cloud, 1).points) == 1
    with pytest.raises(ValueError, match="at least one point"):
        thinned(cloud, 0)


def test_thinned_leaves_no_holes():
    rows, columns = np.mgrid[0:200, 0:200]
    points = np.stack([columns, rows, 0 * rows], axis=-1).reshape(-1, 3).astype(np.float32)
    few = thinned(_cloud(len(points), points=points), 5000)
    counts, _, _ = np.histogram2d(few.points[:, 0], few.points[:, 1], bins=20, range=[[0, 200], [0, 200]])
    assert counts.std() < 0.5 * np.sqrt(12.5)  # by chance it would be about the square root of the mean
    assert counts.min() >= 6


def test_hostile_captions_stay_text():
    text = document([_cloud(3, caption=HOSTILE)])
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text)[0]["caption"] == HOSTILE
    html = str(template("cloud.html").module.clouds(text, HOSTILE))
    page = Page(html)
    assert [script["type"] for script in page.all("script")] == ["application/json"]
    assert text in html
    assert HOSTILE not in html
    assert any(HOSTILE in words for words in page.texts)


def test_the_page_holds_the_script_to_the_letter():
    html = str(template("cloud.html").module.script(viewer_script()))
    (inside,) = re.findall(r"<script>(.*?)</script>", html, re.S)
    assert inside == viewer_script()
    assert re.fullmatch(r"sha256-[A-Za-z0-9+/]{43}=", script_hash(inside))
    assert script_hash("") == "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


def test_the_bundle_is_the_one_that_was_built_from_these_sources():
    recorded = dict(reversed(line.split()) for line in (VIEWER / "viewer.sha256").read_text().splitlines())
    sources = {path.name for path in VIEWER.glob("*.mjs")}
    assert set(recorded) == sources | {"package.json", "viewer.js", "LICENSE.three.txt"}
    for name, digest in recorded.items():
        assert hashlib.sha256((VIEWER / name).read_bytes()).hexdigest() == digest, f"{name}: run {VIEWER}/build.sh"
    assert all(len((VIEWER / name).read_text().splitlines()) <= 300 for name in sources)


def test_the_bundle_is_small_harmless_and_carries_its_licence():
    script = viewer_script()
    assert len(script.encode()) < 2**20
    assert script.isascii()
    for forbidden in ("</script", "<script", "<!--", "eval(", "new Function", "XMLHttpRequest", "\r"):
        assert forbidden not in script
    # the name of a namespace, which nobody fetches
    assert set(re.findall(r"https?://[^\s\"'`]*", script)) <= {"http://www.w3.org/1999/xhtml"}
    licence = (VIEWER / "LICENSE.three.txt").read_text()
    assert "The MIT License" in licence
    assert licence.replace("©", "(c)").strip() in script


def test_versions_are_pinned_and_no_host_is_named():
    package = json.loads((VIEWER / "package.json").read_text())
    for versions in (package["dependencies"], package["devDependencies"]):
        assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions.values())
    assert {*package["dependencies"], *package["devDependencies"]} == {"three", "esbuild"}
    for path in VIEWER.iterdir():
        assert path.name == "viewer.js" or "://" not in path.read_text()
        assert "lock" not in path.name
