import pytest
import torch

from uipad_cli.core.residuals import Surprise, Whitening, soft_maximum


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_whitened_samples_have_unit_variance_in_every_direction():
    samples = draw(5000, 2, 6) @ draw(6, 6, seed=1) + 3
    whitening = Whitening(2, 6)
    whitening.fit(samples, floor=0.0)
    white = whitening(samples.transpose(0, 1)).transpose(0, 1)
    for one in white.unbind(dim=1):
        assert torch.allclose(one.mean(dim=0), torch.zeros(6), atol=1e-3)
        assert torch.allclose(one.T @ one / len(one), torch.eye(6), atol=1e-3)


def test_a_floor_keeps_a_dead_direction_from_exploding():
    samples = draw(500, 1, 4)
    samples[..., 3] = 0
    whitening = Whitening(1, 4)
    whitening.fit(samples, floor=0.1)
    strange = torch.tensor([[[0.0, 0, 0, 1]]])
    assert torch.isfinite(whitening(strange)).all()
    assert float(whitening(strange).norm()) < 5


def test_centring_takes_only_the_mean_away():
    samples = draw(100, 2, 4) + 5
    whitening = Whitening(2, 4)
    whitening.centre(samples)
    assert torch.allclose(whitening(samples.transpose(0, 1)).mean(dim=1), torch.zeros(2, 4), atol=1e-5)
    assert torch.equal(whitening.matrix, torch.eye(4).repeat(2, 1, 1))


@pytest.fixture
def fitted():
    """Places with a feature above zero have residuals three times as long."""
    features = draw(4000, 3, seed=2)
    length = torch.where(features[:, :1] > 0, 3.0, 1.0)
    surprise = Surprise(4, 3, seed=0)
    surprise.fit(draw(4000, 4) * length, features, floor=0.01)
    return surprise


def test_the_same_residual_surprises_less_where_good_parts_vary_more(fitted):
    residual = torch.ones(1, 4)
    calm, rough = (float(fitted(residual, torch.tensor([[value, 0.0, 0.0]]))) for value in (-1.0, 1.0))
    assert calm > 1.2 * rough


def test_good_residuals_are_about_one_and_longer_ones_in_proportion(fitted):
    features = draw(1000, 3, seed=5)
    length = torch.where(features[:, :1] > 0, 3.0, 1.0)
    residuals = draw(1000, 4, seed=6) * length
    assert 0.8 < float(fitted(residuals, features).mean()) < 1.3
    assert float(fitted(5 * residuals, features).mean()) > 3


def test_features_far_from_all_good_ones_excuse_no_more_than_the_worst_good_place(fitted):
    residual = torch.ones(1, 4)
    far = float(fitted(residual, torch.full((1, 3), 1e4)))
    worst = float(fitted.plain(residual) * fitted.usual) / (
        0.5 * float(fitted.bounds[1].exp()) + 0.5 * float(fitted.usual)
    )
    assert far >= worst - 1e-5


def test_state_travels(fitted):
    copy = Surprise(4, 3, seed=9)
    copy.load_state_dict(fitted.state_dict())
    residuals, features = draw(7, 4), draw(7, 3)
    assert torch.equal(copy(residuals, features), fitted(residuals, features))


def test_a_soft_maximum_lies_between_mean_and_highest_and_keeps_what_is_usual():
    surprises = torch.tensor([[1.0, 1.0], [1.0, 3.0]])
    usual, high = soft_maximum(surprises).tolist()
    assert usual == pytest.approx(1)
    assert 2 < high < 3
