import pytest
import torch

from uipad_cli.core import scoring


def test_a_rebuilt_image_scores_zero_and_a_strange_place_stands_out_where_it_is():
    fused = torch.randn(1, 2, 16, 8, generator=torch.Generator().manual_seed(0))
    rebuilt = fused.clone()
    rebuilt[:, :, 6] *= -1  # row 1, column 2 of a 4x4 grid
    flat = scoring.anomaly_map(fused, fused, grid=(4, 4), size=(32, 32), sigma=2)
    found = scoring.anomaly_map(fused, rebuilt, grid=(4, 4), size=(32, 32), sigma=2)
    assert float(flat.abs().max()) < 1e-5
    row, column = divmod(int(found[0].argmax()), 32)
    assert (row // 8, column // 8) == (1, 2)


def test_comparisons_are_averaged():
    fused = torch.ones(1, 2, 4, 8)
    rebuilt = torch.stack((torch.ones(1, 4, 8), -torch.ones(1, 4, 8)), dim=1)
    assert torch.allclose(scoring.anomaly_map(fused, rebuilt, grid=(2, 2), size=(8, 8), sigma=0), torch.ones(1, 8, 8))


@pytest.mark.parametrize("sigma", [0.5, 2.0, 4.0])
def test_the_gaussian_keeps_a_constant_also_at_the_border(sigma):
    assert torch.allclose(scoring.gaussian_blur(torch.full((2, 40, 30), 3.0), sigma), torch.full((2, 40, 30), 3.0))


def test_the_gaussian_has_the_deviation_it_was_given():
    point = torch.zeros(1, 65, 65)
    point[0, 32, 32] = 1
    blurred = scoring.gaussian_blur(point, 4.0)[0]
    offsets = torch.arange(-32.0, 33.0)
    assert float((blurred.sum(0) * offsets**2).sum()) == pytest.approx(16, rel=0.03)
    assert torch.allclose(blurred, blurred.T)


def test_the_gaussian_mirrors_the_border():
    maps = torch.rand(2, 20, 14, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(maps[:, None], (6, 6, 6, 6), mode="reflect")
    weights = torch.exp(-(torch.arange(-6.0, 7.0) ** 2) / 8)
    kernel = (weights[:, None] * weights[None]) / weights.sum() ** 2
    expected = torch.nn.functional.conv2d(padded, kernel[None, None])[:, 0]
    assert torch.allclose(scoring.gaussian_blur(maps, 2.0), expected, atol=1e-6)


def test_image_score_is_the_mean_of_the_highest_share():
    maps = torch.arange(100.0).reshape(1, 10, 10)
    everywhere = torch.ones(1, 10, 10, dtype=torch.bool)
    assert scoring.image_score(maps, 0.02, everywhere).tolist() == [98.5]
    assert scoring.image_score(maps, 0.0001, everywhere).tolist() == [99.0]


def test_image_score_looks_at_counted_pixels_only_and_at_all_where_none_counts():
    maps = torch.arange(100.0).reshape(1, 10, 10)
    counted = maps < 50
    assert scoring.image_score(maps, 0.02, counted).tolist() == [49.0]
    assert scoring.image_score(maps, 0.02, torch.zeros_like(counted)).tolist() == [98.5]


def test_a_patch_counts_when_enough_of_it_was_measured():
    valid = torch.zeros(1, 8, 8, dtype=torch.bool)
    valid[0, 0, 0:4] = True  # a quarter of the first patch of a 2x2 grid
    valid[0, 4, 4:7] = True  # less than a quarter of the last
    counted = scoring.measured_places(valid, (2, 2), 0.25)
    assert counted[0, :4, :4].all()
    assert int(counted.sum()) == 16
    assert scoring.measured_places(valid, (2, 2), 0.0).all()
