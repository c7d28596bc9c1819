import pytest
import torch

from uipad_cli.core.optimizer import StableAdamW


def run(kind, gradients, **options):
    weight = torch.ones(4, requires_grad=True)
    optimizer = kind([weight], lr=1e-2, weight_decay=1e-4, **options)
    steps = []
    for gradient in gradients:
        before = weight.detach().clone()
        weight.grad = gradient.clone()
        optimizer.step()
        steps.append(weight.detach() - before)
    return weight.detach(), steps


@pytest.mark.parametrize("amsgrad", [True, False])
def test_equals_adamw_while_gradients_do_not_jump(amsgrad):
    gradients = [torch.tensor([1.0, -2.0, 0.5, 3.0]) * 0.9**step for step in range(20)]
    ours, _ = run(StableAdamW, gradients, amsgrad=amsgrad)
    theirs, _ = run(torch.optim.AdamW, gradients, amsgrad=amsgrad, eps=1e-10)
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_jump_of_the_gradient_shortens_the_step():
    gradients = [torch.full((4,), 1e-3)] * 20 + [torch.full((4,), 10.0)]
    _, ours = run(StableAdamW, gradients)
    _, theirs = run(torch.optim.AdamW, gradients, amsgrad=True, eps=1e-10)
    # the gradient is sqrt((1 - 0.999**21) / 0.001) times the root of its own mean square
    shortened = float(ours[-1].norm() / theirs[-1].norm())
    assert shortened == pytest.approx((0.001 / (1 - 0.999**21)) ** 0.5, rel=0.01)
