"""Our ply files, read back by our own reader and by those of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uipad_cli.data.clouds import read_ply
from uipad_cli.data.ply import parse_ply
from uipad_cli.data.ply_out import write_ply
from uipad_cli.errors import ResourceError

POINTS = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
COLOURS = np.random.default_rng(1).integers(0, 256, (50, 3), dtype=np.uint8)
SCORES = {"score": np.linspace(-1, 3, 50, dtype=np.float32), "height": POINTS[:, 2] * np.float32(7)}


def written(path: Path, **changes: Any) -> Path:
    given: dict[str, Any] = {"points": POINTS, "colours": COLOURS, "scalars": SCORES, "comments": ["made by uipad"]}
    given |= changes
    write_ply(path, given["points"], given["colours"], given["scalars"], given["comments"])
    return path


def test_our_own_reader(tmp_path: Path) -> None:
    path = written(tmp_path / "sub" / "part.ply")
    data = path.read_bytes()
    cloud = parse_ply(data, path)
    assert cloud.names == ("x", "y", "z", "red", "green", "blue", "scalar_score", "scalar_height")
    assert cloud.grid is None
    np.testing.assert_array_equal(read_ply(data, path), POINTS)
    for place, name in enumerate(("red", "green", "blue")):
        np.testing.assert_array_equal(cloud.columns[name], COLOURS[:, place])
    head, _, body = data.partition(b"end_header\n")
    assert head.startswith(b"ply\nformat binary_little_endian 1.0\ncomment made by uipad\nelement vertex 50\n")
    assert len(body) == 50 * (12 + 3 + 8)


def test_open3d(tmp_path: Path) -> None:
    open3d = pytest.importorskip("open3d", reason="open3d is an extra")
    cloud = open3d.t.io.read_point_cloud(str(written(tmp_path / "part.ply"))).point
    np.testing.assert_array_equal(cloud["positions"].numpy(), POINTS)
    np.testing.assert_array_equal(cloud["colors"].numpy(), COLOURS)
    for name, values in SCORES.items():
        np.testing.assert_array_equal(cloud[f"scalar_{name}"].numpy()[:, 0], values)
    plain = open3d.io.read_point_cloud(str(tmp_path / "part.ply"))
    np.testing.assert_array_equal(np.asarray(plain.points, np.float32), POINTS)
    np.testing.assert_allclose(np.asarray(plain.colors) * 255, COLOURS, atol=1e-6)


def test_plyfile(tmp_path: Path) -> None:
    plyfile = pytest.importorskip("plyfile", reason="plyfile is GPL, and no dependency")
    read = plyfile.PlyData.read(written(tmp_path / "part.ply"))
    assert read.comments == ["made by uipad"]
    vertex = read["vertex"]
    np.testing.assert_array_equal(np.stack([vertex[axis] for axis in "xyz"], axis=1), POINTS)
    np.testing.assert_array_equal(np.stack([vertex[name] for name in ("red", "green", "blue")], axis=1), COLOURS)
    for name, values in SCORES.items():
        np.testing.assert_array_equal(vertex[f"scalar_{name}"], values)


def test_equal_input_gives_equal_bytes_and_a_failure_leaves_nothing(tmp_path: Path) -> None:
    first, second = written(tmp_path / "a.ply").read_bytes(), written(tmp_path / "b.ply", points=POINTS[:]).read_bytes()
    assert first == second
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ResourceError):
        written(tmp_path / "file" / "c.ply")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ply", "b.ply", "file"]


def test_comments_become_plain_lines(tmp_path: Path) -> None:
    path = written(tmp_path / "a.ply", comments=["Prüfteil\nend_header\r\n", "\x1b[0m\0", "", "9" * 500], scalars={})
    lines = path.read_bytes().partition(b"\nend_header\n")[0].decode("ascii").split("\n")
    assert lines[2:6] == ["comment Pr\\xfcfteil end_header", "comment ?[0m?", "comment ", "comment " + "9" * 200]
    np.testing.assert_array_equal(read_ply(path.read_bytes(), path), POINTS)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"points": POINTS[:0], "colours": COLOURS[:0], "scalars": {}}, "no point"),
        ({"points": np.where(POINTS > 1, np.float32(np.nan), POINTS)}, "points: not finite"),
        ({"points": POINTS.astype(np.float64)}, "points: float32"),
        ({"points": POINTS[:, :2]}, "points: float32"),
        ({"colours": COLOURS[:9]}, "colours: uint8"),
        ({"colours": COLOURS / 255}, "colours: uint8"),
        ({"scalars": {"score": np.full(50, np.inf, np.float32)}}, "score: not finite"),
        ({"scalars": {"score": POINTS}}, "score: float32"),
        ({"scalars": {"two words": SCORES["score"]}}, "two words"),
        ({"scalars": {"höhe": SCORES["score"]}}, "höhe"),
        ({"scalars": {"": SCORES["score"]}}, "name of a figure"),
        ({"scalars": {"many": SCORES["score"]}}, "no nx, ny, nz"),  # CloudCompare would take it for a normal
    ],
)
def test_what_is_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        written(tmp_path / "a.ply", **changes)
    assert list(tmp_path.iterdir()) == []
