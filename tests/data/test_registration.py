from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from uipad_cli.data import mvtec3d, scenes
from uipad_cli.data.geometry import Preparation, prepare_geometry
from uipad_cli.data.registration import Shift, agreement, edges, estimate_shift, lines, moved
from uipad_cli.data.samples import load_sample
from uipad_cli.records import Sample

SIZE = 160
SHIFTS = [(3, -2), (-7, 5), (0, 12), (-15, 0), (20, -20)]


def rolled(sample: Sample, right: int, down: int) -> Sample:
    return Sample(np.roll(sample.rgb, (down, right), axis=(0, 1)), sample.height, sample.valid)


def shift_of(samples: Sequence[Sample], right: int = 0, down: int = 0) -> Shift:
    return estimate_shift(edges(rolled(sample, right, down)) for sample in samples)


@cache
def scene_samples(category: str, count: int = 3, size: int = 256) -> list[Sample]:
    made = []
    for seed in range(count):
        scene = scenes.render(category, seed=seed, size=size)
        found = prepare_geometry(scene.xyz, Preparation())
        made.append(Sample(scene.rgb, found.height, found.valid))
    return made


def drawn(part: npt.NDArray[np.float64], seed: int) -> Sample:
    """A shape 0..1 [SIZE,SIZE] as a bright part of 10 mm, with the noise of a camera and of a scanner."""
    generator = np.random.default_rng(seed)
    rgb = 40 + 120 * part[..., None] + generator.normal(0, 4, (SIZE, SIZE, 3))
    height = 0.01 * part + generator.normal(0, 1e-4, part.shape)
    return Sample(rgb.clip(0, 255).astype(np.uint8), height.astype(np.float32), np.ones(part.shape, np.bool_))


def grid() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    row, column = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    return row, column


def disc(row: npt.NDArray[np.float64], column: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return (np.hypot(row, column) < 0.5).astype(np.float64)


def bar(row: npt.NDArray[np.float64], column: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return (np.abs(column) + 0 * row < 0.3).astype(np.float64)


class TestRealData:
    @pytest.fixture
    def pairs(self, cable_gland: Path) -> list[Sample]:
        items = [item for split in ("train", "test") for item in mvtec3d.scan(cable_gland, "cable_gland", split)]
        return [load_sample(item, Preparation()) for item in items[::6]]

    def test_a_known_shift_is_found_within_a_pixel(self, pairs: list[Sample]) -> None:
        here = shift_of(pairs)
        assert here.certain
        assert np.hypot(here.right, here.down) < 1  # MVTec has them on each other
        assert not here.is_off
        for right, down in SHIFTS:
            found = shift_of(pairs, right, down)
            assert found.certain and found.is_off
            assert found.right - here.right == pytest.approx(right, abs=0.3)
            assert found.down - here.down == pytest.approx(down, abs=0.3)
            assert found.now < 0.75 * found.best

    def test_images_of_other_parts_say_nothing(self, pairs: list[Sample]) -> None:
        others = [*pairs[5:], *pairs[:5]]
        mixed = [Sample(other.rgb, pair.height, pair.valid) for pair, other in zip(pairs, others, strict=True)]
        found = shift_of(mixed)
        assert not found.certain
        assert found.best < 0.1


class TestScenes:
    @pytest.mark.parametrize("category", ["pegs", "gear"])
    def test_a_known_shift_is_found_within_a_pixel(self, category: str) -> None:
        pairs = scene_samples(category)
        here = shift_of(pairs)
        assert here.certain and not here.is_off
        assert here.now > 0.6
        for right, down in [(0, 0), *SHIFTS[:2]]:
            found = shift_of(pairs, right, down)
            assert found.certain
            assert found.right == pytest.approx(right, abs=0.5)
            assert found.down == pytest.approx(down, abs=0.5)

    def test_large_pairs_are_looked_at_in_halves(self) -> None:
        pairs = [
            Sample(
                np.kron(pair.rgb, np.ones((4, 4, 1), np.uint8)),
                np.kron(pair.height, np.ones((4, 4), np.float32)),
                np.kron(pair.valid, np.ones((4, 4), np.bool_)),
            )
            for pair in scene_samples("gear")
        ]
        found = shift_of(pairs, 18, -10)
        assert found.step == 2
        assert found.certain and found.is_off
        assert (found.right, found.down) == pytest.approx((18, -10), abs=1.5)
        mask = lines(edges(pairs[0]), (1024, 1024))
        assert mask.shape == (1024, 1024)
        assert 0.001 < mask.mean() < 0.1

    def test_holes_of_the_scan_stand_for_a_part_that_was_cut_out(self) -> None:
        cut = [Sample(pair.rgb, np.zeros_like(pair.height), pair.height > 0.004) for pair in scene_samples("pegs")]
        found = shift_of(cut, 4, 3)
        assert found.certain
        assert (found.right, found.down) == pytest.approx((4, 3), abs=1)


class TestHonesty:
    def test_a_disc_is_enough(self) -> None:
        found = shift_of([drawn(disc(*grid()), seed) for seed in range(3)], 4, 3)
        assert found.certain
        assert (found.right, found.down) == pytest.approx((4, 3), abs=0.1)
        assert found.best > 0.95

    @pytest.mark.parametrize("shape", [bar, lambda row, column: 0 * row, lambda row, column: 1 - row**2 - column**2])
    def test_bars_and_flat_and_even_parts_do_not_tell(
        self, shape: Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64]], npt.NDArray[np.float64]]
    ) -> None:
        assert not shift_of([drawn(shape(*grid()).clip(0, 1), seed) for seed in range(4)], 4, 3).certain

    def test_noise_does_not_tell(self) -> None:
        generator = np.random.default_rng(0)
        pairs = [
            Sample(generator.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8), pair.height, pair.valid)
            for pair in (drawn(disc(*grid()), seed) for seed in range(6))
        ]
        assert not shift_of(pairs).certain

    def test_too_few_pairs_and_too_far_a_shift_do_not_tell(self) -> None:
        pairs = [drawn(disc(*grid()), seed) for seed in range(3)]
        assert not shift_of(pairs[:2]).certain
        assert not shift_of(pairs, 0, 60).certain

    @pytest.mark.parametrize("size", [4, 9, 40])
    def test_empty_and_small_pairs(self, size: int) -> None:
        blank = Sample(
            np.zeros((size, size, 3), np.uint8), np.zeros((size, size), np.float32), np.zeros((size, size), np.bool_)
        )
        found = estimate_shift([edges(blank)] * 3)
        assert not found.certain
        assert np.isfinite([found.right, found.down, found.now, found.best, found.lead, found.spread]).all()
        assert not lines(edges(blank), (size, size)).any()

    def test_pairs_that_cannot_be_laid_together_are_refused(self) -> None:
        with pytest.raises(ValueError, match="no pair"):
            estimate_shift([])
        pair = edges(drawn(disc(*grid()), 0))
        other = edges(Sample(np.zeros((99, 99, 3), np.uint8), np.zeros((99, 99), np.float32), np.ones((99, 99), bool)))
        with pytest.raises(ValueError, match="one size"):
            estimate_shift([pair, other])


def test_the_agreement_is_a_correlation() -> None:
    sample = drawn(disc(*grid()), 0)
    pair = edges(rolled(sample, 3, -2))
    surface = agreement(pair, 8)
    assert surface.shape == (17, 17)
    assert np.abs(surface).max() <= 1 + 1e-6
    assert np.unravel_index(surface.argmax(), surface.shape) == (8 - 2, 8 + 3)
    for right, down in ((3, -2), (0, 0), (-5, 8)):  # the same by hand, over what overlaps
        one = pair.colour[max(down, 0) : SIZE + min(down, 0), max(right, 0) : SIZE + min(right, 0)]
        other = pair.geometry[max(-down, 0) : SIZE + min(-down, 0), max(-right, 0) : SIZE + min(-right, 0)]
        norm = np.sqrt((np.abs(one) ** 2).sum() * (np.abs(other) ** 2).sum())
        assert surface[8 + down, 8 + right] == pytest.approx((one * other.conj()).real.sum() / norm, abs=1e-5)


def test_moved_undoes_a_roll() -> None:
    sample = drawn(disc(*grid()), 0)
    back = moved(rolled(sample, 3, -2).rgb, -3, 2)
    np.testing.assert_array_equal(back[10:-10, 10:-10], sample.rgb[10:-10, 10:-10])


def test_lines_follow_the_part() -> None:
    row, column = grid()
    found = lines(edges(drawn(disc(row, column), 0)), (SIZE, SIZE))
    away = np.abs(np.hypot(row, column) - 0.5)[found] * SIZE / 2
    assert found.sum() > 200
    assert away.max() < 2.5


@pytest.mark.parametrize("shape", [(1, 300), (1, 4000), (2, 4000), (4000, 3)])
def test_a_strip_has_a_shift_that_nobody_believes(shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    rgb = generator.integers(256, size=(*shape, 3), dtype=np.uint8)
    strip = Sample(rgb, generator.random(shape, dtype=np.float32), np.ones(shape, dtype=np.bool_))
    found = estimate_shift([edges(strip)] * 3)
    assert not found.certain
    assert np.isfinite([found.right, found.down, found.now, found.best, found.lead, found.spread]).all()
    assert lines(edges(strip), shape).shape == shape
