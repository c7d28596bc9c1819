from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from uipad_cli.data import files, mvtec3d
from uipad_cli.data.framing import Framing, frames
from uipad_cli.data.geometry import HeightScale, Preparation, scale_height
from uipad_cli.data.pairs import Pairs, load_mask, load_sample, to_batch
from uipad_cli.data.procedural import sensors
from uipad_cli.data.procedural.design import Dice, Surroundings
from uipad_cli.data.procedural.drawing import Maps
from uipad_cli.data.procedural.sensors import Sensor
from uipad_cli.data.relief import GeometryImage
from uipad_cli.data.scans import read_file
from uipad_cli.data.sensor import Intrinsics
from uipad_cli.data.sensor import Sensor as Sensing
from uipad_cli.errors import DataError
from uipad_cli.records import Item, Sample

WritePair = Callable[..., None]
SCALE = HeightScale(low=0.0, high=0.04)
FRAMING = Framing(resize=32, crop=28)


@pytest.fixture
def items(tmp_path: Path, write_pair: WritePair) -> list[Item]:
    for number in range(5):
        write_pair(tmp_path / "part" / "test" / "bent", f"{number:03}", mask=True, seed=number)
    return mvtec3d.scan(tmp_path, "part", "test")


def prepared_copy(item: Item, folder: Path) -> Item:
    """The same pair as `uipad prepare` would write it."""
    sample = load_sample(item, Preparation())
    files.write_tiff(folder / "height.tiff", sample.height, {"unit": "m"})
    files.write_png(folder / "valid.png", sample.valid.astype(np.uint8) * 255)
    return replace(item, geometry=folder / "height.tiff", geometry_kind="height", valid=folder / "valid.png")


class TestLoadSample:
    def test_shapes_and_types(self, items: list[Item]) -> None:
        sample = load_sample(items[0], Preparation())
        assert (sample.rgb.shape, sample.rgb.dtype) == ((64, 64, 3), np.uint8)
        assert (sample.height.shape, sample.height.dtype) == ((64, 64), np.float32)
        assert (sample.valid.shape, sample.valid.dtype) == ((64, 64), np.bool_)
        assert np.isfinite(sample.height).all()
        assert sample.height.max() == pytest.approx(0.03, abs=2e-3)
        assert 0.75 < sample.valid.mean() < 0.85

    def test_prepared_is_bitwise_the_same(self, items: list[Item], tmp_path: Path) -> None:
        raw = load_sample(items[0], Preparation())
        again = load_sample(prepared_copy(items[0], tmp_path / "ready"), Preparation(plane="none"))
        np.testing.assert_array_equal(raw.height.view(np.uint32), again.height.view(np.uint32))
        np.testing.assert_array_equal(raw.valid, again.valid)
        np.testing.assert_array_equal(raw.rgb, again.rgb)

    def test_depth_goes_through_the_camera(self, items: list[Item], tmp_path: Path) -> None:
        depth = (read_file(items[0].geometry, "xyz")[..., 2] * 10_000).round().astype(np.uint16)
        np.save(tmp_path / "depth.npy", depth)
        item = replace(items[0], geometry=tmp_path / "depth.npy", geometry_kind="depth")
        sensor = Sensing(unit=0.0001, camera=Intrinsics(fx=400, fy=400))
        sample = load_sample(item, Preparation(sensor=sensor, plane="none"))
        xyz = read_file(tmp_path / "depth.npy", "depth", sensor)
        np.testing.assert_array_equal(sample.height[sample.valid], -xyz[..., 2][sample.valid])
        np.testing.assert_allclose(xyz[..., 2], depth * 1e-4, rtol=1e-6)
        np.testing.assert_allclose(xyz[10, 50, 0], xyz[10, 50, 2] * (50 - 31.5) / 400, rtol=1e-5)

    def test_sizes_that_differ_name_both_files(self, items: list[Item], tmp_path: Path) -> None:
        files.write_png(tmp_path / "small.png", np.zeros((30, 40, 3), np.uint8))
        with pytest.raises(DataError) as caught:
            load_sample(replace(items[0], rgb=tmp_path / "small.png"), Preparation())
        for part in ("small.png", "40 x 30", "000.tiff", "64 x 64"):
            assert part in caught.value.message

    def test_a_plane_that_cannot_be_fitted_names_the_file(self, items: list[Item], tmp_path: Path) -> None:
        xyz = read_file(items[0].geometry, "xyz")
        xyz[:11], xyz[-11:], xyz[:, :11], xyz[:, -11:] = 0, 0, 0, 0
        files.write_tiff(tmp_path / "cut.tiff", xyz)
        item = replace(items[0], geometry=tmp_path / "cut.tiff")
        with pytest.raises(DataError, match=r"cut\.tiff: only") as caught:
            load_sample(item, Preparation())
        assert "--plane none" in caught.value.cure
        assert load_sample(item, Preparation(plane="none")).valid.any()

    def test_colour_given_as_geometry(self, items: list[Item]) -> None:
        for kind in ("xyz", "depth"):
            with pytest.raises(DataError, match="8-bit colour png"):
                load_sample(replace(items[0], geometry=items[0].rgb, geometry_kind=kind), Preparation())

    def test_damaged_prepared_files(self, items: list[Item], tmp_path: Path) -> None:
        item = prepared_copy(items[0], tmp_path)
        with pytest.raises(DataError, match="mask of measured"):
            load_sample(replace(item, valid=None), Preparation())
        files.write_tiff(item.geometry, np.full((64, 64), np.nan, np.float32))
        with pytest.raises(DataError, match="not finite"):
            load_sample(item, Preparation())


class TestLoadMask:
    def test_masks(self, items: list[Item]) -> None:
        mask = load_mask(items[0], (64, 64))
        assert mask.sum() == 100
        good = replace(items[0], defect="good", mask=None)
        assert not load_mask(good, (3, 5)).any()
        assert load_mask(good, (3, 5)).shape == (3, 5)

    def test_a_defect_without_mask_and_a_mask_of_another_size(self, items: list[Item]) -> None:
        with pytest.raises(DataError, match="no mask file"):
            load_mask(replace(items[0], mask=None), (64, 64))
        with pytest.raises(DataError, match="sizes differ"):
            load_mask(items[0], (64, 65))


class TestBatches:
    @pytest.mark.parametrize(("right", "down"), [(0.0, 0.0), (0.02, 0.0), (0.0, -0.015), (-0.01, 0.02)])
    def test_a_tilted_plane_has_one_colour(self, right: float, down: float) -> None:
        row, column = np.mgrid[:28, :28].astype(np.float32)
        scaled = 0.5 + right * (column - 14) + down * (row - 14)  # rises in scaled height per pixel
        sample = Sample(
            np.zeros((28, 28, 3), np.uint8), (0.04 * scaled).astype(np.float32), np.ones((28, 28), np.bool_)
        )
        seen = to_batch([sample], Framing(resize=28, crop=28), SCALE, "normals").geometry[0]
        normal = np.array([-40 * right, -40 * down, 1.0])
        colour = 0.5 + 0.5 * normal / np.linalg.norm(normal)
        inner = seen[:, 1:-1, 1:-1]
        np.testing.assert_allclose(inner, np.broadcast_to(colour[:, None, None], inner.shape), atol=1e-4)
        assert (seen.shape, seen.dtype) == ((3, 28, 28), torch.float32)
        if right == down == 0:
            assert torch.equal(seen, torch.tensor([0.5, 0.5, 1.0])[:, None, None].expand(3, 28, 28))

    def test_height_out_of_range_is_level(self) -> None:
        steep = np.broadcast_to(np.linspace(0.1, 0.9, 28, dtype=np.float32), (28, 28))
        sample = Sample(np.zeros((28, 28, 3), np.uint8), steep, np.ones((28, 28), np.bool_))
        seen = to_batch([sample], Framing(resize=28, crop=28), SCALE, "normals").geometry[0]
        assert torch.equal(seen, torch.tensor([0.5, 0.5, 1.0])[:, None, None].expand(3, 28, 28))

    def test_height_is_repeated_three_times(self, items: list[Item]) -> None:
        samples = [load_sample(item, Preparation()) for item in items[:2]]
        seen = to_batch(samples, FRAMING, SCALE, "height").geometry
        for sample, image in zip(samples, seen, strict=True):
            scaled = scale_height(frames(sample.height, FRAMING)[0], SCALE)
            np.testing.assert_array_equal(image, np.stack([scaled] * 3))
        assert seen.max() == pytest.approx(0.75, abs=0.05)

    @pytest.mark.parametrize("kind", ["relief", "normals", "height"])
    def test_made_up_surfaces_become_the_same_image(
        self, items: list[Item], kind: GeometryImage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        samples = [load_sample(item, Preparation()) for item in items[:2]]
        scaled = torch.from_numpy(np.stack([scale_height(frames(one.height, FRAMING)[0], SCALE) for one in samples]))
        monkeypatch.setattr(sensors, "scan", lambda *_: scaled)
        flat = Maps(*[torch.zeros_like(scaled)] * 9)
        sensor = Sensor(Dice(torch.Generator().manual_seed(0)), kind, cast("Surroundings", None), torch.ones(2))
        assert torch.equal(sensor.look(flat), to_batch(samples, FRAMING, SCALE, kind).geometry)

    def test_shapes_types_and_ranges(self, items: list[Item]) -> None:
        batch = to_batch([load_sample(item, Preparation()) for item in items[:2]], FRAMING, SCALE, "normals")
        assert batch.rgb.shape == batch.geometry.shape == (2, 3, 28, 28)
        assert batch.valid.shape == (2, 28, 28)
        assert (batch.rgb.dtype, batch.geometry.dtype) == (torch.float32, torch.float32)
        assert batch.valid.dtype == torch.bool
        assert 0 <= batch.rgb.min() < batch.rgb.max() <= 1
        assert 0 <= batch.geometry.min() < batch.geometry.max() <= 1
        assert not torch.equal(batch.geometry[:, 0], batch.geometry[:, 1])

    def test_samples_of_different_sizes_share_a_batch(self, tmp_path: Path, write_pair: WritePair) -> None:
        write_pair(tmp_path / "part" / "test" / "good", "a", size=40)
        write_pair(tmp_path / "part" / "test" / "good", "b", size=90)
        samples = [load_sample(item, Preparation()) for item in mvtec3d.scan(tmp_path, "part", "test")]
        assert len(to_batch(samples, FRAMING, SCALE, "normals")) == 2

    @pytest.mark.parametrize("framing", [FRAMING, Framing(resize=37, crop=29)])
    @pytest.mark.parametrize("kind", ["relief", "normals", "height"])
    def test_pairs_iterate_again_and_in_order(self, items: list[Item], framing: Framing, kind: GeometryImage) -> None:
        pairs = Pairs(items, Preparation(), framing, SCALE, kind, 2)
        assert len(pairs) == 3
        first, second = list(pairs), list(pairs)
        assert [len(batch) for batch in first] == [2, 2, 1]
        for one, other in zip(first, second, strict=True):
            assert torch.equal(one.rgb, other.rgb)
            assert torch.equal(one.geometry, other.geometry)
        alone = torch.cat([batch.geometry for batch in replace(pairs, batch_size=1)])
        assert torch.equal(alone, torch.cat([batch.geometry for batch in first]))
        assert len(replace(pairs, items=[])) == 0
        with pytest.raises(ValueError, match="batch_size"):
            replace(pairs, batch_size=0)
