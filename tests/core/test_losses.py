import math

import pytest
import torch

from uipad_cli.core import losses

KINDS = ["soft", "hard", "straight", "balanced"]


def features(*shape, seed=0, **options):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_(
        options.get("gradient", False)
    )


def test_soft_reconstruction_of_a_prototype_is_that_prototype():
    prototypes = torch.eye(4)[None]
    rebuilt = losses.soft_reconstruction(prototypes, prototypes, temperature=0.01)
    assert torch.allclose(rebuilt, prototypes, atol=1e-6)


def test_a_high_temperature_gives_the_mean_prototype():
    prototypes = features(1, 4, 8)
    rebuilt = losses.soft_reconstruction(features(1, 5, 8, seed=1), prototypes, temperature=1e6)
    assert torch.allclose(rebuilt, prototypes.mean(1, keepdim=True).expand_as(rebuilt), atol=1e-5)


def test_reconstruction_loss_is_zero_for_the_same_direction_and_two_for_the_opposite():
    tokens = features(2, 5, 8)
    assert float(losses.reconstruction_loss(tokens, 3 * tokens)) == pytest.approx(0, abs=1e-6)
    assert float(losses.reconstruction_loss(tokens, -tokens)) == pytest.approx(2, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_consistency_is_zero_when_both_modalities_agree_and_two_when_they_never_do(kind):
    prototypes = torch.eye(4)[None]
    same = losses.assignment_consistency_loss(prototypes, prototypes, prototypes, temperature=0.01, kind=kind)
    turned = losses.assignment_consistency_loss(
        prototypes, prototypes.roll(1, dims=1), prototypes, temperature=0.01, kind=kind
    )
    assert float(same) == pytest.approx(0, abs=1e-6)
    assert float(turned) == pytest.approx(2, abs=1e-4)


@pytest.mark.parametrize("kind", ["soft", "hard", "straight"])
def test_entropy_is_minus_log_m_when_all_prototypes_are_used_alike_and_zero_when_one_is(kind):
    prototypes = torch.eye(4)[None]
    even = losses.prototype_entropy_loss(prototypes, prototypes, temperature=0.01, kind=kind)
    single = losses.prototype_entropy_loss(prototypes[:, :1], prototypes, temperature=0.01, kind=kind)
    assert float(even) == pytest.approx(-math.log(4), abs=1e-4)
    assert float(single) == pytest.approx(0, abs=1e-4)


def test_soft_losses_have_gradients_and_the_printed_ones_have_none():
    rgb, geometry = features(2, 6, 8, seed=1), features(2, 6, 8, seed=2)
    for kind in KINDS:
        prototypes = features(2, 4, 8, gradient=True)
        consistency = losses.assignment_consistency_loss(rgb, geometry, prototypes, temperature=0.1, kind=kind)
        entropy = losses.prototype_entropy_loss(rgb, prototypes, temperature=0.1, kind=kind)
        assert (consistency + entropy).requires_grad == (kind != "hard")
        if kind in ("soft", "straight"):
            for loss in (consistency, entropy):
                (gradient,) = torch.autograd.grad(loss, prototypes, retain_graph=True)
                assert float(gradient.norm()) > 1e-4


def test_straight_assignments_are_one_hot_and_learn_like_soft_ones():
    tokens, prototypes = features(2, 6, 8, seed=1), features(2, 4, 8, gradient=True)
    weights = features(2, 6, 4, seed=3)
    found = {
        kind: losses.assignments(tokens, prototypes, temperature=0.1, kind=kind)
        for kind in ("straight", "soft", "hard")
    }
    assert torch.allclose(found["straight"], found["hard"], atol=1e-6)
    slopes = [torch.autograd.grad((found[kind] * weights).sum(), prototypes)[0] for kind in ("straight", "soft")]
    assert torch.allclose(*slopes)


def test_balanced_assignments_use_every_prototype_alike_even_where_one_is_nearest_to_all():
    tokens, prototypes = features(1, 60, 8, seed=1), features(1, 4, 8, seed=2)
    tokens = tokens + 3 * prototypes[:, :1]
    soft, balanced = (
        losses.assignments(tokens, prototypes, temperature=0.1, kind=kind) for kind in ("soft", "balanced")
    )
    assert float(soft.mean(dim=1)[0, 0]) > 0.9
    assert torch.allclose(balanced.mean(dim=1), torch.full((1, 4), 0.25), atol=0.02)
    assert torch.allclose(balanced.sum(dim=-1), torch.ones(1, 60), atol=1e-5)
    best = prototypes[:, :1].expand(1, 60, 8)
    assert float(losses.prototype_entropy_loss(best, prototypes, temperature=0.1, kind="balanced")) < -1.3


def test_coherence_moves_the_prototypes_and_never_the_features():
    tokens, prototypes = features(2, 6, 8, seed=1, gradient=True), features(2, 4, 8, gradient=True)
    losses.coherence_loss(tokens, prototypes, 0.1).backward()
    assert tokens.grad is None
    assert float(prototypes.grad.norm()) > 0


def test_gauges_of_a_healthy_and_a_collapsed_set():
    prototypes = torch.eye(4)[None]
    assert losses.effective_prototypes(prototypes, prototypes) == pytest.approx(4, rel=1e-3)
    assert losses.effective_prototypes(prototypes[:, :1], prototypes) == pytest.approx(1, rel=1e-3)
    assert losses.prototype_cosine(prototypes) == pytest.approx(0, abs=1e-6)
    assert losses.prototype_cosine(torch.ones(1, 4, 4)) == pytest.approx(1, rel=1e-5)
    assert losses.spread(torch.ones(1, 5, 4)) == pytest.approx(0, abs=1e-6)
    assert losses.spread(features(1, 500, 64)) == pytest.approx(1, abs=0.1)
