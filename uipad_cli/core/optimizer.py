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
        """One update from the gradients at hand."""
        assert closure is None, "StableAdamW takes no closure"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, **{name: group[name] for name in self.defaults})

    def _update(
        self, parameter: Tensor, *, lr: float, betas: tuple[float, float], weight_decay: float, eps: float,
        amsgrad: bool,
    ) -> None:  # fmt: skip
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if not state:
            state["step"] = torch.zeros(())
            for moment in ("first", "second", "second_max") if amsgrad else ("first", "second"):
                state[moment] = torch.zeros_like(parameter)
        state["step"] += 1
        step = float(state["step"])
        state["first"].lerp_(gradient, 1 - betas[0])
        state["second"].mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
        second = state["second"]
        if amsgrad:
            second = torch.maximum(state["second_max"], second, out=state["second_max"])

        scale = (second / (1 - betas[1] ** step)).sqrt().add_(eps)
        excess = (gradient / scale).square().mean().sqrt().clamp(min=1.0)  # stays on the device
        parameter.mul_(1 - lr * weight_decay)
        parameter.addcdiv_(state["first"], scale * excess, value=-lr / (1 - betas[0] ** step))
