from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from uipad_cli.data import files
from uipad_cli.data.geometry import (
    HeightScale,
    Preparation,
    foreground,
    height_scale,
    measured,
    prepare_geometry,
    scale_height,
)
from uipad_cli.data.holes import fill_holes
from uipad_cli.data.plane import border, fit_plane, height_above
from uipad_cli.data.scans import backproject, read_file
from uipad_cli.data.sensor import Intrinsics, Sensor
from uipad_cli.errors import DataError, ResourceError

Block = Callable[..., Any]


def on_block(size: int) -> Any:
    row, column = np.mgrid[:size, :size] * (0.1 / size) - 0.05
    return (np.abs(row) < 0.02) & (np.abs(column) < 0.02)


class TestPlane:
    @pytest.mark.parametrize("tilt", [0.0, 0.2, -0.4])
    @pytest.mark.parametrize("scale", [1.0, 1000.0])  # metres and millimetres
    def test_height_and_tilt_are_recovered(self, block: Block, tilt: float, scale: float) -> None:
        xyz = block(tilt=tilt, top=0.03) * np.float32(scale)
        plane = fit_plane(xyz, measured(xyz))
        height = height_above(plane, xyz, measured(xyz)) / scale
        assert plane.tilt_degrees == pytest.approx(np.degrees(abs(tilt)), abs=0.01)
        np.testing.assert_allclose(height[on_block(64)], 0.03, atol=1e-5)
        np.testing.assert_allclose(height[~on_block(64)], 0, atol=1e-5)

    def test_noise_is_measured(self, block: Block) -> None:
        xyz = block(128, noise=5e-4)
        assert fit_plane(xyz, measured(xyz)).noise == pytest.approx(5e-4, rel=0.15)

    def test_outliers_on_a_third_of_the_border_do_not_matter(self, block: Block) -> None:
        xyz = block(128, noise=2e-4, tilt=0.3)
        xyz[:, :30, 2] -= 0.05  # a part that leaves the image
        plane = fit_plane(xyz, measured(xyz))
        assert plane.tilt_degrees == pytest.approx(np.degrees(0.3), abs=0.3)
        assert np.abs(height_above(plane, xyz, measured(xyz))[100:, 100:]).max() < 2e-3

    def test_equal_input_gives_an_equal_plane(self, block: Block) -> None:
        xyz = block(noise=5e-4)
        assert fit_plane(xyz, measured(xyz), seed=3) == fit_plane(xyz, measured(xyz), seed=3)

    def test_too_few_points(self, block: Block) -> None:
        xyz = block()
        xyz[border(64, 64)] = 0
        with pytest.raises(DataError, match="only 0 measured") as caught:
            fit_plane(xyz, measured(xyz))
        assert "--plane none" in caught.value.cure

    def test_a_line_is_no_plane(self, block: Block) -> None:
        xyz = np.zeros_like(block())
        xyz[0, :, 0], xyz[0, :, 2] = np.linspace(0, 1, 64), 1
        with pytest.raises(DataError, match="no plane"):
            fit_plane(xyz, measured(xyz))

    def test_a_rugged_border_is_no_plane(self, block: Block) -> None:
        xyz = block()
        xyz[..., 2] += np.random.default_rng(0).uniform(0, 0.1, (64, 64)).astype(np.float32)
        with pytest.raises(DataError, match="not a plane") as caught:
            fit_plane(xyz, measured(xyz))
        assert "--plane none" in caught.value.cure

    def test_open3d_finds_the_same_plane(self, block: Block) -> None:
        pytest.importorskip("open3d", reason="open3d is an extra")
        xyz = block(128, noise=5e-4, tilt=0.3)
        ours, theirs = fit_plane(xyz, measured(xyz)), fit_plane(xyz, measured(xyz), way="open3d")
        assert theirs.tilt_degrees == pytest.approx(ours.tilt_degrees, abs=0.5)
        assert theirs.offset == pytest.approx(ours.offset, abs=1e-3)
        assert theirs == fit_plane(xyz, measured(xyz), way="open3d")

    def test_missing_open3d_is_explained(self, block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "open3d", None)
        with pytest.raises(ResourceError, match="open3d cannot be loaded") as caught:
            prepare_geometry(block(), Preparation(plane="open3d"))
        assert "uipad[3d]" in caught.value.cure
        assert "\n" not in caught.value.message


class TestHoles:
    def test_measured_pixels_stay_and_all_is_finite(self) -> None:
        generator = np.random.default_rng(0)
        height = generator.random((40, 50), dtype=np.float32)
        valid = generator.random((40, 50)) < 0.3
        valid[10:25] = False
        filled = fill_holes(np.where(valid, height, np.nan).astype(np.float32), valid)
        assert filled.dtype == np.float32
        np.testing.assert_array_equal(filled[valid], height[valid])
        assert np.isfinite(filled).all()
        assert filled.min() >= height[valid].min() - 1e-6
        assert filled.max() <= height[valid].max() + 1e-6

    def test_speckle_on_a_slope_is_interpolated(self) -> None:
        row, column = np.mgrid[:60, :60]
        slope = (0.001 * row + 0.002 * column).astype(np.float32)
        valid = np.random.default_rng(0).random(slope.shape) < 0.6
        error = np.abs(fill_holes(np.where(valid, slope, 0), valid) - slope)
        assert error[3:-3, 3:-3].mean() < 0.0005

    def test_a_shadow_beside_a_step_belongs_to_the_lower_side(self) -> None:
        step = np.zeros((60, 60), np.float32)
        step[20:40, 30:] = 0.03
        step += np.random.default_rng(0).normal(0, 1e-4, step.shape).astype(np.float32)
        valid = np.ones(step.shape, np.bool_)
        valid[20:40, 20:30] = False  # what the block hides
        filled = fill_holes(np.where(valid, step, 0), valid)
        assert np.abs(filled[20:40, 20:28]).max() < 1e-3  # beside that, two pixels of rim are lost at any edge

    def test_corners_edges_and_single_points(self) -> None:
        valid = np.zeros((20, 20), np.bool_)
        valid[10, 10] = True
        height = np.where(valid, 5, 0).astype(np.float32)
        np.testing.assert_array_equal(fill_holes(height, valid), np.full((20, 20), 5, np.float32))
        np.testing.assert_array_equal(fill_holes(height, ~valid & valid), np.zeros((20, 20), np.float32))
        np.testing.assert_array_equal(fill_holes(height, np.ones_like(valid)), height)

    def test_shadows_of_real_parts_stay_near_the_background(self, cable_gland: Path) -> None:
        folder = cable_gland / "cable_gland" / "train" / "good"
        xyz = read_file(folder / "xyz" / "000.tiff", "xyz")
        dark = files.read_rgb(folder / "rgb" / "000.png").max(axis=2) < 20
        prepared = prepare_geometry(xyz, Preparation())
        shadow = ~prepared.valid & dark
        assert (prepared.height[shadow] < 0.003).mean() > 0.95  # they reach up to 0.04 where holes are blurred over


class TestPrepareGeometry:
    def test_facts(self, block: Block) -> None:
        xyz = block(128, noise=2e-4, tilt=0.2)
        gone = np.random.default_rng(0).random((128, 128)) < 0.25
        xyz[gone] = 0
        prepared = prepare_geometry(xyz, Preparation())
        facts = prepared.facts
        np.testing.assert_array_equal(prepared.valid, ~gone)
        assert prepared.height.dtype == np.float32
        assert facts.missing_share == pytest.approx(0.25, abs=0.02)
        assert facts.plane_tilt_degrees == pytest.approx(np.degrees(0.2), abs=0.1)
        assert facts.foreground_share == pytest.approx(0.75 * on_block(128).mean(), abs=0.01)
        assert facts.height_max == pytest.approx(0.03, abs=2e-3)

    def test_without_a_plane_height_is_minus_z(self, block: Block) -> None:
        xyz = block()
        prepared = prepare_geometry(xyz, Preparation(plane="none"))
        np.testing.assert_array_equal(prepared.height, -xyz[..., 2])
        assert prepared.facts.plane_tilt_degrees == 0
        assert foreground(prepared.height, prepared.valid, Preparation(plane="none")).all()

    def test_points_that_are_not_finite_count_as_missing(self, block: Block) -> None:
        xyz = block()
        xyz[3, 4], xyz[5, 6, 1] = np.nan, np.inf
        prepared = prepare_geometry(xyz, Preparation())
        assert not prepared.valid[3, 4]
        assert not prepared.valid[5, 6]
        assert np.isfinite(prepared.height).all()

    def test_nothing_measured(self) -> None:
        with pytest.raises(DataError, match="missing"):
            prepare_geometry(np.zeros((8, 8, 3), np.float32), Preparation())

    def test_a_flat_part_that_fills_the_image_is_all_foreground(self) -> None:
        height = np.random.default_rng(0).normal(0, 1e-4, (50, 50)).astype(np.float32)
        valid = np.ones((50, 50), np.bool_)
        assert foreground(height, valid, Preparation()).all()

    def test_a_small_part_on_a_large_table_is_the_foreground(self) -> None:
        height = np.random.default_rng(0).normal(0, 1e-4, (400, 600)).astype(np.float32)
        height[200:235, 300:335] = 0.03  # half a per cent of the image
        height[::40, ::40] = 0.02  # specks
        valid = np.ones(height.shape, np.bool_)
        part = foreground(height, valid, Preparation())
        assert part.mean() < 0.01
        height[200:235, 300:335] = 0
        assert foreground(height, valid, Preparation()).all()

    def test_real_parts_agree(self, cable_gland: Path) -> None:
        paths = sorted(cable_gland.glob("cable_gland/*/*/xyz/*.tiff"))[::9]
        facts = [prepare_geometry(read_file(path, "xyz"), Preparation()).facts for path in paths]
        tilts = [one.plane_tilt_degrees for one in facts]
        assert max(tilts) - min(tilts) < 1.5
        assert all(0.30 < one.missing_share < 0.47 for one in facts)
        assert all(0.0003 < one.plane_noise_m < 0.001 for one in facts)
        assert all(0.13 < one.foreground_share < 0.18 for one in facts)
        assert all(0.036 < one.height_max < 0.043 for one in facts)

    @pytest.mark.parametrize("focal", [525.0, None])
    def test_real_depth_image_of_a_table(self, shared: Path, focal: float | None) -> None:
        path = shared / "pcl_organised" / "grabber" / "frame_20121214T142255.814212_depth.tiff"
        xyz = read_file(path, "depth", Sensor(camera=camera(focal)))
        facts = prepare_geometry(xyz, Preparation()).facts
        assert facts.plane_tilt_degrees == pytest.approx(43.8, abs=0.5 if focal else 8)
        assert facts.plane_noise_m < 0.004


def camera(focal: float | None) -> Intrinsics | None:
    return None if focal is None else Intrinsics(fx=focal, fy=focal)


class TestBackproject:
    def test_a_tilted_plane_stays_a_plane_for_any_focal_length(self) -> None:
        row, column = np.mgrid[:40, :50]
        depth = (1 / (1 + 0.002 * row + 0.001 * column)).astype(np.float32)  # inverse depth of a plane is linear
        for focal in (60.0, None):
            xyz = backproject(depth, camera(focal))
            plane = fit_plane(xyz, measured(xyz))
            assert np.abs(height_above(plane, xyz, measured(xyz))).max() < 1e-5

    def test_missing_stays_missing_and_scale_is_right(self) -> None:
        depth = np.full((5, 7), 2.0, np.float32)
        depth[1, 1] = 0
        xyz = backproject(depth, camera(100.0))
        assert not xyz[1, 1].any()
        np.testing.assert_allclose(xyz[2, 3], [0, 0, 2], atol=1e-7)
        np.testing.assert_allclose(xyz[4, 6], [0.06, 0.04, 2], atol=1e-7)

    def test_real_points_return(self, shared: Path) -> None:
        xyz = read_file(shared / "open3d_rgbd" / "maps" / "vertex_map.npy", "xyz")
        here = measured(xyz)
        again = backproject(xyz[..., 2], camera(525.0))
        np.testing.assert_allclose(again[here], xyz[here], atol=1e-5)


class TestScale:
    def test_quantiles_of_the_training_parts(self) -> None:
        heights = np.linspace(0.01, 0.03, 100_001, dtype=np.float32)
        scale = height_scale([heights, heights[:0], heights])
        assert scale.low == pytest.approx(0.0102, abs=1e-5)
        assert scale.high == pytest.approx(0.0298, abs=1e-5)
        scaled = scale_height(np.array([scale.low, scale.high, -9, 9], np.float32), scale)
        np.testing.assert_allclose(scaled, [0, 1, -0.5, 1.5], atol=1e-6)
        assert scaled.dtype == np.float32

    @pytest.mark.parametrize("samples", [[], [np.zeros(0, np.float32)], [np.ones(50, np.float32)]])
    def test_nothing_to_scale_by(self, samples: list[Any]) -> None:
        with pytest.raises(DataError):
            height_scale(samples)

    def test_settings_are_checked(self) -> None:
        with pytest.raises(ValidationError):
            HeightScale(low=1, high=1)
        sensors = ({"unit": 0}, {"unit": float("nan")}, {"camera": {"fx": -1, "fy": 1}}, {"axis": "down"})
        for wrong in (*({"sensor": one} for one in sensors), {"plane": "floor"}, {"colour": 1}, {"longest": 3}):
            with pytest.raises(ValidationError):
                Preparation.model_validate(wrong)
