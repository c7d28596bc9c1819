from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from uipad_cli.data.framing import Framing, frames, seen, unframe

SIZES = [(400, 400), (800, 600), (400, 900), (448, 448), (100, 37), (900, 400)]


def ramp(height: int, width: int) -> np.ndarray:
    row, column = np.mgrid[:height, :width]
    return (row / height + 2 * column / width).astype(np.float32)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("framing", [Framing(), Framing(resize=224, crop=224), Framing(resize=99, crop=50)])
def test_a_smooth_ramp_survives_the_round_trip(height: int, width: int, framing: Framing) -> None:
    image = ramp(height, width)
    framed = frames(image, framing)[0]
    assert framed.shape == (framing.crop, framing.crop)
    back = unframe(framed[None], framing, height, width)
    here = seen(framing, height, width)
    assert back.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(back), ~here)
    inner = here.copy()
    inner[1:-1, 1:-1] &= here[:-2, 1:-1] & here[2:, 1:-1] & here[1:-1, :-2] & here[1:-1, 2:]
    # the outermost half pixel of the crop repeats its edge, everything else is exact
    assert np.abs(back - image)[here].max() <= 2.5 / framing.resize + 0.5 / height + 1 / width
    assert np.median(np.abs(back - image)[here]) < 1e-3


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_positions_are_symmetric(height: int, width: int) -> None:
    framing = Framing()
    image = np.random.default_rng(0).random((height, width), dtype=np.float32)
    framed = frames(image, framing)[0]
    np.testing.assert_allclose(frames(image[::-1, ::-1], framing)[0], framed[::-1, ::-1], atol=1e-5)
    back = unframe(framed[None], framing, height, width)
    np.testing.assert_allclose(unframe(framed[::-1, ::-1][None], framing, height, width), back[::-1, ::-1], atol=1e-5)


def test_positions_are_exact() -> None:
    framing = Framing(resize=8, crop=4)
    score_map = np.arange(16, dtype=np.float32).reshape(4, 4)
    same = unframe(score_map[None], framing, 8, 8)
    np.testing.assert_array_equal(same[2:6, 2:6], score_map)
    assert np.isnan(same).sum() == 64 - 16
    # at 16 pixels a crop pixel lies between two: centres at quarter positions
    double = unframe(score_map[None], framing, 16, 16)
    assert double[4, 4] == 0
    assert double[5, 5] == pytest.approx(0.25 + 4 * 0.25)
    # at 4 pixels the two in the middle lie between crop pixels
    half = unframe(score_map[None], framing, 4, 4)
    np.testing.assert_allclose(half[1:3, 1:3], [[2.5, 4.5], [10.5, 12.5]])


def test_whole_square_is_seen_without_a_crop() -> None:
    framing = Framing(resize=392, crop=392)
    assert seen(framing, 123, 77).all()
    assert not np.isnan(unframe(np.ones((1, 392, 392), np.float32), framing, 123, 77)).any()


def test_the_share_that_is_seen() -> None:
    assert seen(Framing(), 448, 448).mean() == pytest.approx((392 / 448) ** 2)
    assert seen(Framing(), 1, 1).all()


def test_dtypes_and_channels() -> None:
    framing = Framing(resize=20, crop=16)
    rgb = np.random.default_rng(0).integers(0, 256, (31, 47, 3), dtype=np.uint8)
    assert frames(rgb, framing)[0].shape == (16, 16, 3)
    assert frames(rgb, framing)[0].dtype == np.uint8
    mask = rgb[..., 0] > 100
    framed = frames(mask, framing, nearest=True)[0]
    assert framed.dtype == np.bool_
    assert framed.any()
    assert not framed.all()


def test_shrinking_averages_areas() -> None:
    stripes = np.tile(np.array([0, 1], np.float32), (64, 32))
    np.testing.assert_allclose(frames(stripes, Framing(resize=32, crop=32))[0], 0.5, atol=1e-6)


def test_one_axis_grows_while_the_other_shrinks() -> None:
    stripes = np.tile(np.array([0, 1], np.float32), (10, 32))  # 10 rows grow to 32, 64 columns shrink
    np.testing.assert_allclose(frames(stripes, Framing(resize=32, crop=32))[0], 0.5, atol=1e-6)


def test_nan_in_a_map_stays_where_it_is() -> None:
    score_map = np.ones((4, 4), np.float32)
    score_map[0, 0] = np.nan
    back = unframe(score_map[None], Framing(resize=4, crop=4), 4, 4)
    assert np.isnan(back[0, 0])
    assert np.isfinite(back[2:, 2:]).all()


def test_wrong_sizes() -> None:
    with pytest.raises(ValidationError, match="larger than resize"):
        Framing(resize=100, crop=101)
    with pytest.raises(ValidationError):
        Framing(resize=0, crop=0)
    with pytest.raises(ValueError, match="392"):
        unframe(np.zeros((1, 3, 3), np.float32), Framing(), 10, 10)


def test_tiles_see_all_of_an_image_and_give_it_back() -> None:
    framing = Framing.model_validate("tile")
    assert (framing.squares, framing.starts) == (4, (0, 392))
    image = ramp(500, 300)
    squares = frames(image, framing)
    assert [square.shape for square in squares] == [(392, 392)] * 4
    assert squares[1].mean() > squares[0].mean()  # by row: the second is to the right
    back = unframe(np.stack(squares), framing, 500, 300)
    assert seen(framing, 500, 300).all()
    assert np.abs(back - image).max() < 0.01


def test_overlapping_tiles_are_averaged() -> None:
    framing = Framing(resize=12, crop=8, tiles=2)
    maps = np.stack([np.full((8, 8), value, np.float32) for value in (0, 1, 2, 3)])
    back = unframe(maps, framing, 12, 12)
    assert back[0, 0] == 0
    assert back[0, 6] == pytest.approx(0.5)
    assert back[6, 6] == pytest.approx(1.5)
    assert back[11, 11] == 3


def test_tiles_that_leave_gaps_say_so() -> None:
    framing = Framing(resize=16, crop=4, tiles=2)
    back = unframe(np.ones((4, 4, 4), np.float32), framing, 16, 16)
    np.testing.assert_array_equal(np.isnan(back), ~seen(framing, 16, 16))
    assert seen(framing, 16, 16).mean() == pytest.approx(0.25)


def test_names_and_whole_patches() -> None:
    full = Framing.model_validate("full")
    assert seen(full, 600, 400).all()
    assert full.in_patches(16) == Framing(resize=384, crop=384)
    assert Framing.model_validate("tile").in_patches(16) == Framing(resize=768, crop=384, tiles=2)
    assert Framing.model_validate("crop") == Framing()
    with pytest.raises(ValidationError, match="none of crop, full, tile"):
        Framing.model_validate("wide")
