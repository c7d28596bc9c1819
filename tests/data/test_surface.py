"""How far pixels are apart, where anything says it, and the points that a map is laid on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from uipad_cli.data import eyecandies, files, mvtec3d, prepared, realiad_d3
from uipad_cli.data.framing import working_size
from uipad_cli.data.geometry import Preparation, measured
from uipad_cli.data.samples import load_half, load_sample
from uipad_cli.data.scans import read_file
from uipad_cli.data.sensor import Intrinsics, Sensor
from uipad_cli.data.surface import RELIEF, grid, surface
from uipad_cli.engine.prepare import prepare
from uipad_cli.records import Item, Sample

Block = Callable[..., Any]
SIZE, PITCH = 96, 0.1 / 96  # of the block
BARE = Preparation(plane="none")


def with_sensor(longest: int | None = None, **sensor: Any) -> Preparation:
    return Preparation(plane="none", sensor=Sensor(**sensor), longest=longest)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Item]:
    """A raw pair of a kind whose geometry is the given array, under NAME.npy, or bytes."""

    def made(name: str, array: Any, kind: Any = "xyz", size: tuple[int, int] | None = None, **facts: Any) -> Item:
        path = tmp_path / name
        np.save(path, array)
        shape = size or array.shape[:2]
        colour = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
        files.write_png(tmp_path / f"{name}.png", colour)
        return Item("", "", "unlabelled", name, tmp_path / f"{name}.png", path, kind, **facts)

    return made


class TestPitch:
    @pytest.mark.parametrize("tilt", [0.0, 0.6])
    @pytest.mark.parametrize("longest", [None, 64])
    def test_points(self, make: Any, block: Block, tilt: float, longest: int | None) -> None:
        """Along the surface, whichever way it leans, and from pixel to pixel of what is looked at."""
        item = make("a.npy", block(SIZE, tilt=tilt))
        preparation = Preparation(longest=longest)
        sample = load_sample(item, preparation)
        assert sample.pitch == pytest.approx(PITCH * (1 if longest is None else SIZE / 64), rel=0.01)
        assert load_half(item, preparation, "geometry").pitch == sample.pitch
        assert load_half(item, preparation, "rgb").pitch is None

    def test_noise_adds_next_to_nothing(self, make: Any, block: Block) -> None:
        xyz = block(128, noise=0.5 * 0.1 / 128)
        assert load_sample(make("a.npy", xyz), Preparation()).pitch == pytest.approx(0.1 / 128, rel=0.01)

    def test_an_area_is_that_of_the_points(self, make: Any) -> None:
        """Rows lie closer together than columns: the square of the pitch is what one pixel covers."""
        row, column = np.mgrid[:80, :120] * np.array([0.001, 0.002])[:, None, None]
        sample = load_sample(make("a.npy", np.stack([column, row, np.ones_like(row)], axis=-1)), BARE)
        assert sample.pitch == pytest.approx(np.sqrt(0.001 * 0.002), rel=1e-4)

    def test_placeholders_say_nothing(self, make: Any, block: Block) -> None:
        xyz = block(SIZE)
        xyz[..., :2] = 0.25
        assert load_sample(make("a.npy", xyz), BARE).pitch is None

    def test_depth_needs_a_camera(self, make: Any) -> None:
        depth = np.full((60, 80), 2.0, np.float32)
        item = make("d.npy", depth, "depth")
        assert load_sample(item, BARE).pitch is None
        told = with_sensor(camera=Intrinsics(fx=400, fy=400))
        assert load_sample(item, told).pitch == pytest.approx(2 / 400, rel=1e-4)
        own = replace(item, camera=(500.0, 500.0, 40.0, 30.0))
        assert load_sample(own, BARE).pitch == pytest.approx(2 / 500, rel=1e-4)

    @pytest.mark.parametrize("kind", ["depth", "z"])
    def test_a_height_map_needs_its_grid(self, make: Any, kind: Any) -> None:
        heights = np.random.default_rng(0).normal(0, 0.001, (96, 128)).astype(np.float32)
        item = make("h.npy", heights, kind)
        assert load_sample(item, with_sensor(axis="up", missing=())).pitch is None  # 0.1 mm was not told
        told = load_sample(item, with_sensor(axis="up", missing=(), pitch=2e-5))
        assert told.pitch == 2e-5  # whatever the heights do
        assert load_sample(item, with_sensor(64, axis="up", missing=(), pitch=2e-5)).pitch == pytest.approx(4e-5)
        camera = Intrinsics(fx=9, fy=9)
        assert load_sample(item, with_sensor(axis="up", missing=(), camera=camera)).pitch is None

    def test_points_that_are_not_trusted(self, make: Any, block: Block) -> None:
        item = make("a.npy", block(SIZE))
        assert load_sample(item, with_sensor(only_z=True)).pitch is None
        assert load_sample(item, with_sensor(only_z=True, pitch=3e-4)).pitch == 3e-4

    def test_a_grid_is_brought_to_the_size_of_the_photograph(self, make: Any) -> None:
        item = make("z.npy", np.ones((40, 50), np.float32), "z", size=(80, 100))
        assert load_sample(item, with_sensor(pitch=2e-4)).pitch == pytest.approx(1e-4)
        assert load_sample(item, with_sensor(64, pitch=2e-4)).pitch == pytest.approx(1e-4 * 100 / 64, rel=0.01)

    def test_a_cloud_through_a_camera(self, make: Any) -> None:
        row, column = np.mgrid[:60, :80]
        cloud = np.stack([(column - 39.5) / 40, (row - 29.5) / 40, np.ones((60, 80))], axis=-1).reshape(-1, 3)
        mixed = np.random.default_rng(0).permutation(cloud).astype(np.float32)
        item = make("c.npy", mixed, size=(60, 80))
        seen = with_sensor(camera=Intrinsics(fx=40, fy=40))
        assert load_sample(item, seen).pitch == pytest.approx(1 / 40, rel=1e-4)

    @pytest.mark.parametrize("axis", ["away", "toward", "up"])
    def test_a_cloud_among_depth_images(self, make: Any, axis: Any) -> None:
        row, column = np.mgrid[:60, :80] * 0.002
        z = {"away": 0.5, "toward": -0.5, "up": 0.1}[axis]
        cloud = np.stack([column, row, np.full((60, 80), z)], axis=-1).reshape(-1, 3).astype(np.float32)
        item = make("c.npy", cloud, "depth", size=(60, 80))
        assert load_sample(item, with_sensor(axis=axis)).pitch == pytest.approx(0.002, rel=1e-4)

    def test_data_sets(self, writers: ModuleType, tmp_path: Path) -> None:
        writers.write_eyecandies(tmp_path / "candies", train=1, val=0, good=1, bad=1, private=0, size=64)
        (item,) = eyecandies.scan(tmp_path / "candies", "CandyCane", "train")
        pitch = load_sample(item, Preparation(light="4")).pitch
        assert pitch is not None
        assert 1.5 / 711.11 < pitch < 1.8 / 711.11 / np.cos(0.6)
        writers.write_realiad_d3(tmp_path / "d3", layout="authors", train=1, size=48)
        item = realiad_d3.scan(tmp_path / "d3", "knob-cap", "train")[0]
        documented: dict[str, Any] = {**realiad_d3.DOCUMENTED, "longest": None}
        assert load_sample(item, with_sensor(**documented)).pitch == pytest.approx(1e-5)  # colour is twice as large

    def test_real_points(self, cable_gland: Path) -> None:
        items = mvtec3d.scan(cable_gland, "cable_gland", "test")[::12]
        pitches = [load_sample(item, Preparation()).pitch for item in items]
        np.testing.assert_allclose(np.array(pitches, float), 2.5e-4, rtol=0.04)


class TestPrepared:
    @pytest.mark.parametrize("longest", [None, 64])
    def test_the_same_as_raw(self, tmp_path: Path, write_pair: Any, longest: int | None) -> None:
        for split in ("train", "test"):
            write_pair(tmp_path / "raw" / "part" / split / "good", "0", size=SIZE)
        prepare(tmp_path / "raw", tmp_path / "out", workers=1, preparation=Preparation(longest=longest))
        (ready,) = prepared.scan(tmp_path / "out", "part", "test")
        preparation = prepared.read_manifest(tmp_path / "out").preparation
        (raw,) = mvtec3d.scan(tmp_path / "raw", "part", "test")
        told = load_sample(ready, preparation)
        assert ready.pitch == told.pitch == load_sample(raw, preparation).pitch
        assert told.pitch == pytest.approx(PITCH * (SIZE / longest if longest else 1), rel=0.01)
        assert load_half(ready, preparation, "geometry").pitch == told.pitch
        assert load_half(ready, preparation, "rgb").pitch is None
        assert ready.pitch is not None
        flat = surface(ready, told, preparation)
        there = told.valid
        assert (flat.metric, flat.frame) == (True, "plane")
        assert flat.points.dtype == np.float32
        np.testing.assert_array_equal(np.isnan(flat.points), np.broadcast_to(~there[..., None], flat.points.shape))
        row, column = np.nonzero(there)
        wanted = np.stack([column * ready.pitch, -row * ready.pitch, told.height[there]], axis=-1)
        np.testing.assert_allclose(flat.points[there], wanted, rtol=1e-6)

    def test_depth_without_a_camera(self, tmp_path: Path) -> None:
        counts = 600 + np.random.default_rng(0).normal(0, 2, (SIZE, SIZE)).round()
        for split in ("train", "test"):
            files.write_png(tmp_path / "raw" / split / "rgb" / "0.png", np.zeros((SIZE, SIZE, 3), np.uint8))
            code = cv2.imencode(".png", counts.astype(np.uint16))[1].tobytes()
            files.write_bytes(tmp_path / "raw" / split / "depth" / "0.png", code)
        prepare(tmp_path / "raw", tmp_path / "out", workers=1)
        (item,) = prepared.scan(tmp_path / "out", "raw", "test")
        assert item.pitch is None
        assert not surface(item, load_sample(item, BARE), BARE).metric

    def test_what_older_folders_say_of_it_is_not_believed(self, tmp_path: Path, write_pair: Any) -> None:
        """There it was the pitch of the raw points, whatever they were scaled to or made up from."""
        for split in ("train", "test"):
            write_pair(tmp_path / "raw" / "part" / split / "good", "0", size=SIZE)
        prepare(tmp_path / "raw", tmp_path / "out", workers=1)
        path = tmp_path / "out" / prepared.MANIFEST
        old = json.loads(path.read_text())
        assert old["version"] == prepared.VERSION == 3
        path.write_text(json.dumps({**old, "version": 2}))
        (item,) = prepared.scan(tmp_path / "out", "part", "test")
        assert item.pitch is None
        assert load_sample(item, BARE).pitch is None
        assert prepared.read_manifest(tmp_path / "out").version == 3
        prepare(tmp_path / "raw", tmp_path / "out", workers=1)
        assert json.loads(path.read_text())["version"] == 3


class TestSurface:
    @pytest.mark.parametrize("axis", ["away", "toward", "up"])
    def test_points_lie_on_those_of_the_file(self, make: Any, block: Block, axis: Any) -> None:
        inside = block(SIZE, noise=1e-4)
        gone = np.random.default_rng(0).random((SIZE, SIZE)) < 0.2
        own = inside * (np.array([1, 1, 1]) if axis == "away" else np.array([1, -1, -1]))
        own = 1000 * (own + np.array([0, 0, 0.61])) if axis == "up" else 1000 * own  # z around 0, millimetres
        own[gone] = np.nan
        item = make("a.npy", own.astype(np.float32))
        preparation = with_sensor(axis=axis, float_unit=0.001, missing=())
        found = surface(item, load_sample(item, preparation), preparation)
        assert (found.metric, found.frame, found.unit) == (True, "sensor", 0.001)
        assert found.points.dtype == np.float32
        np.testing.assert_allclose(found.points / found.unit, own, atol=2e-4)  # 0.2 micrometres
        np.testing.assert_array_equal(np.isnan(found.points).all(axis=2), gone)

    @pytest.mark.parametrize("replaced", [True, False])
    def test_the_size_is_that_of_the_photograph(self, make: Any, block: Block, replaced: bool) -> None:
        """`infer` puts the photograph back in the place of the small one, and makes its map as large."""
        xyz = block(SIZE)
        item = make("a.npy", xyz)
        preparation = Preparation(longest=64)
        sample = load_sample(item, preparation)
        assert sample.valid.shape == (64, 64)
        if replaced:
            sample = replace(sample, rgb=files.read_rgb(item.rgb))
        found = surface(item, sample, preparation).points
        assert found.shape == sample.rgb.shape
        if replaced:
            np.testing.assert_array_equal(found, xyz)
        else:  # points of the part, no means
            assert {tuple(point) for point in found.reshape(-1, 3)} <= {tuple(point) for point in xyz.reshape(-1, 3)}

    def test_a_cloud_scaled_down_is_projected_at_its_own_size(self, make: Any) -> None:
        row, column = np.mgrid[:90, :120]
        whole = np.stack([(column - 59.5) / 50, (row - 44.5) / 50, np.ones((90, 120))], axis=-1).astype(np.float32)
        item = make("c.npy", np.random.default_rng(0).permutation(whole.reshape(-1, 3)), size=(90, 120))
        preparation = with_sensor(64, camera=Intrinsics(fx=50, fy=50))
        sample = load_sample(item, preparation)
        assert surface(item, sample, preparation).points.shape == (*working_size(90, 120, 64), 3)
        sample = replace(sample, rgb=files.read_rgb(item.rgb))
        np.testing.assert_allclose(surface(item, sample, preparation).points, whole, atol=1e-6)

    def test_depth_through_a_told_camera(self, make: Any) -> None:
        depth = np.random.default_rng(0).uniform(0.5, 0.6, (60, 80)).astype(np.float32)
        depth[3:9] = 0
        item = make("d.npy", depth, "depth")
        preparation = with_sensor(camera=Intrinsics(fx=400, fy=400), float_unit=1.0)
        found = surface(item, load_sample(item, preparation), preparation)
        seen = read_file(item.geometry, "depth", preparation.sensor)
        assert (found.metric, found.frame, found.unit) == (True, "sensor", 1.0)
        np.testing.assert_array_equal(found.points[measured(seen)], seen[measured(seen)])
        assert np.isnan(found.points[~measured(seen)]).all()

    @pytest.mark.parametrize("longest", [None, 64])
    def test_a_height_map_is_laid_on_the_plane(self, make: Any, longest: int | None) -> None:
        heights = np.random.default_rng(0).normal(0, 0.001, (90, 120)).astype(np.float32)
        item = make("h.npy", heights, "z")
        preparation = with_sensor(longest, axis="up", missing=(), pitch=2e-5)
        sample = replace(load_sample(item, preparation), rgb=files.read_rgb(item.rgb))
        found = surface(item, sample, preparation)
        assert (found.metric, found.frame) == (True, "plane")
        assert found.points.shape == (90, 120, 3)
        np.testing.assert_allclose(found.points[10, 50, :2], (50 * 2e-5, -10 * 2e-5), rtol=1e-5)

    def test_where_nothing_says_the_pitch(self, make: Any, block: Block) -> None:
        item = make("d.npy", block(SIZE)[..., 2], "depth")
        sample = load_sample(item, Preparation())
        found = surface(item, sample, Preparation())
        assert (found.metric, found.frame) == (False, "plane")
        assert np.nanmax(found.points[..., 0]) == pytest.approx(1 - 1 / SIZE)
        assert (np.nanmin(found.points[..., 2]), np.nanmax(found.points[..., 2])) == pytest.approx((0, RELIEF))

    def test_real_points_are_those_of_the_scan(self, cable_gland: Path) -> None:
        item = mvtec3d.scan(cable_gland, "cable_gland", "test")[0]
        found = surface(item, load_sample(item, Preparation()), Preparation())
        scan = read_file(item.geometry, "xyz")
        np.testing.assert_array_equal(found.points[measured(scan)], scan[measured(scan)])
        assert (found.frame, found.unit) == ("sensor", 1.0)


class TestGrid:
    def sample(self, pitch: float | None, height: Any) -> Sample:
        valid = np.ones(height.shape, np.bool_)
        valid[0, 1] = False
        return Sample(np.zeros((*height.shape, 3), np.uint8), height, valid, pitch)

    def test_metric(self) -> None:
        height = np.random.default_rng(0).random((4, 6), dtype=np.float32)
        found = grid(self.sample(0.5, height))
        assert (found.metric, found.frame) == (True, "image")
        np.testing.assert_array_equal(found.points[2, 3], (1.5, 1.0, height[2, 3]))
        assert np.isnan(found.points[0, 1]).all()
        assert np.isfinite(found.points).all(axis=2).sum() == 23

    def test_not_metric(self) -> None:
        height = np.random.default_rng(0).random((4, 6), dtype=np.float32)
        height[0, 1] = -99  # filled in, not measured
        found = grid(self.sample(None, height))
        assert not found.metric
        np.testing.assert_allclose(found.points[3, 5, :2], (5 / 6, 3 / 6))
        assert (np.nanmin(found.points[..., 2]), np.nanmax(found.points[..., 2])) == pytest.approx((0, RELIEF))

    def test_level_ground(self) -> None:
        assert not grid(self.sample(None, np.full((4, 6), 3, np.float32))).points[1:, :, 2].any()
