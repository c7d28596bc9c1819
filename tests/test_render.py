from dataclasses import replace

import cv2
import numpy as np
import pytest

from uipad_cli.render import (
    GOOD_SHARE,
    MAGENTA,
    SIDE_BY_SIDE_TITLES,
    TOP_UNIT,
    Inspection,
    Panel,
    colorize,
    colour_bar,
    contact_sheet,
    outline,
    overlay,
    shade_height,
    side_by_side,
)

TURBO = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[None], cv2.COLORMAP_TURBO)[0, :, ::-1]


def _places(colours):
    """Place of each colour in the turbo table."""
    return [int(np.flatnonzero((colour == TURBO).all(axis=1))[0]) for colour in colours]


def _photo(height=40, width=60, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _part(mask=None):
    photo = _photo()
    height = np.linspace(0, 0.01, photo[..., 0].size, dtype=np.float32).reshape(photo.shape[:2])
    return Inspection(photo, height, height > 0.001, np.zeros_like(height), mask)


def test_colours_climb_the_scale_with_the_score():
    values = np.linspace(-1, 30, 500, dtype=np.float32)[None]
    colours = colorize(values, 2.0, 5.0)
    assert (colours.dtype, colours.shape) == (np.uint8, (1, 500, 3))
    places = _places(colours[0])
    assert places == sorted(places)
    assert (places[0], places[-1]) == (0, 255)


def test_the_ends_of_good_parts_have_fixed_places():
    places = _places(colorize(np.array([[2.0, 5.0, 8.0, 9.5]]), 2.0, 5.0)[0])
    assert places == [0, round(255 * GOOD_SHARE), 255, 255]


def test_the_same_score_has_the_same_colour_in_every_image():
    quiet, loud = np.full((3, 3), 0.4), np.array([[0.4, 9.0]])
    assert np.array_equal(colorize(quiet, 0, 1)[0, 0], colorize(loud, 0, 1)[0, 0])


def test_unseen_pixels_are_grey_in_map_and_overlay():
    map_ = np.zeros((40, 60), np.float32)
    map_[:8] = np.nan
    colours = colorize(map_, 0, 1)
    assert (np.ptp(colours[:8].astype(int), axis=2) == 0).all()
    assert (colours[8:] == TURBO[0]).all()
    photo = _photo()
    blended = overlay(photo, map_, 0, 1)
    assert np.array_equal(blended[8:], photo[8:])
    assert np.abs(blended[:8].astype(int) - (photo[:8] / 2 + colours[:8] / 2)).max() <= 1


def test_overlay_leaves_quiet_places_to_the_photo_and_colours_loud_ones():
    photo = _photo()
    low, high = 0.2, 0.4
    map_ = np.full(photo.shape[:2], 0.3, np.float32)
    map_[10:20, 10:20] = 5.0
    blended = overlay(photo, map_, low, high)
    quiet = map_ < 1
    assert np.abs(blended[quiet].astype(int) - photo[quiet]).max() <= 1
    assert np.abs(blended[~quiet] - (0.25 * photo[~quiet] + 0.75 * TURBO[255])).max() <= 1
    at_the_end = overlay(photo, np.full(photo.shape[:2], high, np.float32), low, high)
    assert np.abs(at_the_end.astype(int) - photo).mean() < 20


def test_louder_scores_hide_more_of_the_photo():
    black = np.zeros((1, 50, 3), np.uint8)
    map_ = np.linspace(0, 3, 50)[None]
    share = overlay(black, map_, 0, 1).sum(axis=2) / np.maximum(colorize(map_, 0, 1).sum(axis=2), 1)
    assert (np.diff(share[0]) > -0.02).all()
    assert share[0, 0] == 0
    assert share[0, -1] == pytest.approx(0.75, abs=0.02)


def _cone(scale=1.0, offset=0.0):
    rows, columns = np.indices((60, 60))
    return (offset + scale * np.maximum(0, 20 - np.hypot(rows - 30, columns - 30))).astype(np.float64)


def test_relief_is_lit_from_the_upper_left():
    relief = shade_height(_cone(), np.ones((60, 60), bool)).astype(int)
    assert (np.ptp(relief, axis=2) == 0).all()
    assert relief[22, 22, 0] > relief[38, 38, 0] + 40
    assert relief[30, 30, 0] > relief[2, 2, 0]  # same slope, but higher


@pytest.mark.parametrize(("scale", "offset"), [(1e-5, 0.7), (1000.0, -4000.0)])
def test_relief_does_not_depend_on_the_unit(scale, offset):
    valid = np.ones((60, 60), bool)
    difference = shade_height(_cone(), valid).astype(int) - shade_height(_cone(scale, offset), valid)
    assert np.abs(difference).max() <= 1


def test_holes_are_marked_and_do_not_light_up_their_rim():
    valid = np.ones((60, 60), bool)
    valid[25:35, 25:35] = False
    height = np.where(valid, 1.0, np.nan) + np.arange(60) * 1e-3
    relief = shade_height(height, valid).astype(int)
    assert (relief[30, 30] == (206, 214, 226)).all()
    assert np.ptp(relief[15:45, 5:22, 0]) < 40


@pytest.mark.parametrize(
    "height", [np.zeros((5, 7)), np.full((5, 7), np.float32(0.7)), np.zeros((1, 1)), _cone()[30:31]]
)
def test_relief_of_flat_or_thin_maps(height):
    assert shade_height(height, np.ones(height.shape, bool)).shape == (*height.shape, 3)
    assert (shade_height(height, np.zeros(height.shape, bool)) == (206, 214, 226)).all()


def test_relief_of_a_spike_on_a_plane_stays_within_range():
    height = np.zeros((50, 50), np.float32)
    height[20, 20] = 1e6
    assert np.isfinite(shade_height(height, np.ones((50, 50), bool))).all()


def test_outline_draws_around_the_mask_and_leaves_the_input():
    image = np.zeros((100, 120, 3), np.uint8)
    mask = np.zeros((100, 120), bool)
    mask[30:60, 40:80] = True
    drawn = outline(image, mask)
    assert not image.any()
    assert np.abs(drawn[30, 60].astype(int) - MAGENTA).max() < 60  # a thin smooth line is a little dimmer
    assert not drawn[45, 60].any()
    assert not drawn[:25].any()
    assert (outline(image, mask, (0, 250, 0))[30, 60] > (0, 150, 0)).tolist() == [False, True, False]
    assert not outline(image, np.zeros_like(mask)).any()


def test_outline_of_a_large_photo_survives_shrinking():
    image, mask = np.zeros((800, 800, 3), np.uint8), np.zeros((800, 800), bool)
    mask[300:500, 300:500] = True
    shown = contact_sheet([[Panel(outline(image, mask))]], ["x"])[30:230, 8:208]
    assert shown[..., 0].max() > 120


def test_side_by_side_has_a_panel_per_title():
    mask = np.zeros((40, 60), bool)
    mask[5:9, 5:9] = True
    row = side_by_side(_part(mask), "hole 003", low=0, high=1)
    assert len(row) == len(SIDE_BY_SIDE_TITLES)
    assert row[0].caption == "hole 003"
    assert [panel.image.shape for panel in row] == [(40, 60, 3)] * 5
    assert not np.array_equal(row[2].image, row[0].image)
    good = side_by_side(_part(np.zeros_like(mask)), "good 001", low=0, high=1)
    assert np.array_equal(good[2].image, good[0].image)
    assert good[2].caption == "none"
    unmarked = side_by_side(_part(), "?", low=0, high=1)[2]
    assert (unmarked.image, unmarked.caption) == (None, "not marked")


def test_what_was_found_is_drawn_on_both_heat_maps_and_nowhere_else():
    found = np.zeros((40, 60), bool)
    found[10:20, 10:20] = True
    plain = side_by_side(_part(), "a", "good", low=0, high=1)
    drawn = side_by_side(replace(_part(), found=found), "a", "good", low=0, high=1)
    both = [(one.image, other.image) for one, other in zip(plain, drawn, strict=True)]
    differ = [one is not None and not np.array_equal(one, other) for one, other in both]
    assert differ == [False, False, False, True, True]
    assert drawn[3].caption == "good"


def test_the_legend_has_the_colours_of_the_maps_at_their_units():
    bar = colour_bar(600)
    assert bar.shape[1:] == (600, 3)
    ticks = np.flatnonzero((bar[27] < 60).all(axis=1))  # right below the colours
    assert ticks.tolist() == [10, 10 + round(579 / TOP_UNIT), 589]
    for unit in (0.0, 0.5, 1.5):
        x = 10 + round(579 * unit / TOP_UNIT)
        expected = colorize(np.array([[unit]]), 0, 1)[0, 0].astype(int)
        assert np.abs(bar[12, x + 2].astype(int) - expected).max() <= 6 + 20 * (unit == 0)


def test_sheet_has_a_tile_per_panel():
    row = side_by_side(_part(), "hole 003", low=0, high=1)
    one, three = (contact_sheet([row] * count, SIDE_BY_SIDE_TITLES, tile=100) for count in (1, 3))
    assert one.shape[1] == three.shape[1] == 8 + 5 * 108
    assert three.shape[0] - one.shape[0] == 2 * (100 + 30)
    assert (one.dtype, one.shape[2]) == (np.uint8, 3)
    assert (one[-1] == 255).all()
    assert (one[:, 0] == 255).all()


def test_sheet_keeps_the_aspect_and_centres_the_image():
    red = np.zeros((50, 100, 3), np.uint8)
    red[..., 0] = 200
    tile = contact_sheet([[Panel(red)]], ["t"], tile=80)[30:110, 8:88]
    is_red = (tile == (200, 0, 0)).all(axis=2)
    assert np.array_equal(np.flatnonzero(is_red.all(axis=1)), np.arange(20, 60))


def test_text_is_drawn_and_stays_in_its_column():
    blank = contact_sheet([[Panel(None), Panel(None)]], ["", ""], tile=100)
    long = contact_sheet(
        [[Panel(None, "a caption much longer than its tile is wide"), Panel(None)]], ["", ""], tile=100
    )
    changed = np.flatnonzero((blank != long).any(axis=(0, 2)))
    assert changed.min() >= 8
    assert 80 < changed.max() <= 8 + 100
    titled = contact_sheet([[Panel(None), Panel(None)]], ["photo", ""], tile=100)
    assert (blank[:30] != titled[:30]).any()
    assert contact_sheet([[Panel(None, "Rä\nder ∅" * 40)]], ["größe"], tile=16).shape[1] == 32


def test_an_empty_sheet_still_has_its_titles():
    assert contact_sheet([], ["photo"], tile=100).shape == (30, 116, 3)


MAP = np.zeros((40, 60))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: colorize(np.zeros(5), 0, 1), r"\[H,W\]"),
        (lambda: colorize(np.zeros((0, 5)), 0, 1), r"\[H,W\]"),
        (lambda: colorize(MAP, 1, 1), "low < high"),
        (lambda: colorize(MAP, float("nan"), 1), "low < high"),
        (lambda: colorize(MAP, 0, float("inf")), "low < high"),
        (lambda: colorize(np.array([[0, np.inf]]), 0, 1), "infinite"),
        (lambda: overlay(_photo(), MAP.T, 0, 1), r"map is \(60, 40\), expected \(40, 60\)"),
        (lambda: overlay(_photo()[..., 0], MAP, 0, 1), "uint8"),
        (lambda: overlay(_photo() / 255, MAP, 0, 1), "float64"),
        (lambda: shade_height(MAP, np.ones((60, 40), bool)), "valid is"),
        (lambda: shade_height(MAP, MAP), "bool"),
        (lambda: shade_height(np.full((4, 4), np.nan), np.ones((4, 4), bool)), "not finite"),
        (lambda: outline(_photo(), np.zeros((60, 40), bool)), "mask is"),
        (lambda: outline(_photo(), MAP), "bool"),
        (lambda: contact_sheet([[Panel(None)]], ["a", "b"]), "row 0 has 1 panels for 2 titles"),
        (lambda: contact_sheet([[Panel(MAP)]], ["a"]), "uint8"),
        (lambda: contact_sheet([], ["a"], tile=0), "at least 16"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
