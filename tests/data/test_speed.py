"""Whole-array geometry against the straightforward loop over pixels: the same points, and how much sooner.

`pytest tests/data/test_speed.py -m slow -s` prints the figures of docs/data.md; nothing is asserted on time.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from uipad_cli.data import eyecandies
from uipad_cli.data.geometry import measured
from uipad_cli.data.plane import fit_plane
from uipad_cli.data.samples import prepare_pair
from uipad_cli.data.scans import read_points, read_raster
from uipad_cli.data.sensor import Sensor
from uipad_cli.engine.prepare import prepare
from uipad_cli.engine.sensing import settings
from uipad_cli.records import Item

SENSOR = Sensor.model_validate(eyecandies.DOCUMENTED)


def points_by_loop(item: Item) -> Any:
    """One pixel after the other, as the formula of the data set is written down: depth · K⁻¹ (u, v, 1, 1/depth)."""
    counts = read_raster(item.geometry)
    assert item.depth_range is not None and item.camera is not None
    (low, high), (fx, fy, cx, cy) = item.depth_range, item.camera
    camera = np.array([[fx, 0, cx, 0], [0, fy, cy, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    inverse = np.linalg.inv(camera)
    points = np.zeros((*counts.shape, 3), np.float32)
    for row in range(counts.shape[0]):
        for column in range(counts.shape[1]):
            depth = float(counts[row, column]) / 65535 * (high - low) + low
            if depth > 0:
                points[row, column] = depth * (inverse @ np.array([column, row, 1, 1 / depth]))[:3]
    return points


def heights_by_loop(points: Any) -> Any:
    """Height above the background plane, one point after the other."""
    plane = fit_plane(points, measured(points))
    heights = np.zeros(points.shape[:2], np.float32)
    for row in range(points.shape[0]):
        for column in range(points.shape[1]):
            point = points[row, column]
            if point[2] > 0:
                heights[row, column] = float(np.dot(plane.normal, point)) + plane.offset
    return heights


@pytest.fixture
def items(writers: ModuleType, tmp_path: Path) -> list[Item]:
    writers.write_eyecandies(tmp_path / "raw", train=2, val=0, good=0, bad=0, private=0, size=64)
    return eyecandies.scan(tmp_path / "raw", "CandyCane", "train")


def test_the_same_points_and_heights(items: list[Item]) -> None:
    for item in items:
        points = points_by_loop(item)
        np.testing.assert_allclose(read_points(item, SENSOR, (64, 64)), points, atol=1e-6)
        _, prepared = prepare_pair(item, settings().model_copy(update={"sensor": SENSOR}))
        np.testing.assert_allclose(prepared.height[prepared.valid], heights_by_loop(points)[prepared.valid], atol=1e-6)


@pytest.mark.slow
def test_how_much_sooner(writers: ModuleType, tmp_path: Path) -> None:
    """Eyecandies at its own size, 512 x 512: reading, points and heights, then all of `prepare`."""
    writers.write_eyecandies(tmp_path / "raw", train=40, val=0, good=0, bad=0, private=0, size=512)
    items = eyecandies.scan(tmp_path / "raw", "CandyCane", "train")
    began = time.perf_counter()
    for item in items[:2]:
        heights_by_loop(points_by_loop(item))
    loop = (time.perf_counter() - began) / 2
    preparation = settings().model_copy(update={"sensor": SENSOR})
    prepare_pair(items[0], preparation)
    began = time.perf_counter()
    for item in items:
        prepare_pair(item, preparation)
    whole = (time.perf_counter() - began) / len(items)
    began = time.perf_counter()
    summary = prepare(tmp_path / "raw", tmp_path / "out")
    run = (time.perf_counter() - began) / summary.pairs
    told = [
        f"pixel by pixel {1000 * loop:.0f} s per thousand pairs",
        f"prepare_pair {1000 * whole:.0f} s: {loop / whole:.0f} times",
        f"uipad prepare, files written, {1000 * run:.0f} s: {loop / run:.0f} times",
    ]
    sys.stdout.write("\n" + "; ".join(told) + "\n")
