"""StableAdamW: AdamW whose step is shortened where the update would be large (Wortsman et al. 2023, algorithm 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer


class StableAdamW(Optimizer):
    """AdamW with update clipping per tensor and, if wished, amsgrad, as INP-Former and Dinomaly train.

    The step of a tensor is divided by max(1, RMS of gradient / root of the second moment).
    """

    def __init__(
        self, parameters: Iterable[Tensor], *, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 1e-4, eps: float = 1e-10, amsgrad: bool = True,
    ) -> None:  # fmt: skip
        settings = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "eps": eps, "amsgrad": amsgrad}
        super().__init__(parameters, settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update from the gradients at hand, all tensors together: on CUDA a few kernels rather than hundreds."""
        assert closure is None, "StableAdamW takes no closure"
        for group in self.param_groups:
            there = [parameter for parameter in group["params"] if parameter.grad is not None]
            if there:
                self._update(there, **{name: group[name] for name in self.defaults})

    def _update(
        self, parameters: list[Tensor], *, lr: float, betas: tuple[float, float], weight_decay: float, eps: float,
        amsgrad: bool,
    ) -> None:  # fmt: skip
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["step"] = torch.zeros(())
                for moment in ("first", "second", "second_max") if amsgrad else ("first", "second"):
                    self.state[parameter][moment] = torch.zeros_like(parameter)
            self.state[parameter]["step"] += 1
        steps = [float(self.state[parameter]["step"]) for parameter in parameters]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        first, second = ([self.state[parameter][name] for parameter in parameters] for name in ("first", "second"))
        torch._foreach_lerp_(first, gradients, 1 - betas[0])
        torch._foreach_mul_(second, betas[1])
        torch._foreach_addcmul_(second, gradients, gradients, value=1 - betas[1])
        if amsgrad:
            highest = [self.state[parameter]["second_max"] for parameter in parameters]
            torch._foreach_maximum_(highest, second)
            second = highest

        scales = torch._foreach_div(second, [1 - betas[1] ** step for step in steps])
        torch._foreach_sqrt_(scales)
        torch._foreach_add_(scales, eps)
        torch._foreach_mul_(scales, _excesses(gradients, scales))
        torch._foreach_mul_(parameters, 1 - lr * weight_decay)
        torch._foreach_addcdiv_(parameters, first, scales, [-lr / (1 - betas[0] ** step) for step in steps])


def _excesses(gradients: list[Tensor], scales: tuple[Tensor, ...]) -> list[Tensor]:
    """How many times longer than its scale each gradient is, at least 1, [] each; they stay on the device."""
    ratios = torch._foreach_div(gradients, scales)
    if not ratios[0].is_cuda:
        return [ratio.square().mean().sqrt().clamp(min=1.0) for ratio in ratios]
    sizes = torch.tensor([ratio.numel() for ratio in ratios], dtype=torch.float32)
    sizes = sizes.sqrt().to(ratios[0].device, non_blocking=True)
    return list((torch.stack(torch._foreach_norm(ratios)) / sizes).clamp(min=1.0).unbind())
