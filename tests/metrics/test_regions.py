import numpy as np
import pytest

from uipad_cli.metrics.regions import find_regions, height_deviation


def spotted():
    map_ = np.zeros((40, 60), np.float32)
    map_[5:10, 20:30] = 2.0
    map_[7, 25] = 3.0
    map_[30:32, 50:53] = 5.0
    map_[32, 53] = 1.5  # touches a corner: one region of eight neighbours
    return map_


def test_regions_have_box_area_and_peak_and_come_loudest_first():
    loud, wide = find_regions(spotted(), 1.0)
    assert (loud.box, loud.area, loud.peak) == ((50, 30, 4, 3), 7, 5.0)
    assert (wide.box, wide.area, wide.peak, wide.peak_at) == ((20, 5, 10, 5), 50, 3.0, (25, 7))
    assert wide.mask.sum() == 50
    assert not (wide.mask & loud.mask).any()


def test_what_was_never_seen_is_no_region():
    map_ = spotted()
    map_[:, :40] = np.nan
    assert len(find_regions(map_, 1.0)) == 1
    assert find_regions(np.full((4, 4), np.nan, np.float32), 1.0) == []


def test_without_a_pixel_above_the_limit_it_is_the_highest_hundredth():
    map_ = np.linspace(0, 1, 1000, dtype=np.float32).reshape(20, 50)
    (only,) = find_regions(map_, 2.0)
    assert only.area == 10
    assert only.peak == 1.0


def test_a_dent_is_negative_and_its_surroundings_are_not_other_regions():
    height = np.full((60, 60), 2.0, np.float32)
    height[20:30, 20:30] = 1.5
    height[20:30, 31:45] = 9.0  # another finding right beside it
    dent, bump = np.zeros((60, 60), bool), np.zeros((60, 60), bool)
    dent[20:30, 20:30] = bump[20:30, 31:45] = True
    valid = np.ones_like(dent)
    assert height_deviation(dent, height, valid, dent | bump) == pytest.approx(-0.5)
    assert height_deviation(bump, height, valid, dent | bump) == pytest.approx(7.0)
    valid[:] = False
    assert height_deviation(dent, height, valid, dent) is None
