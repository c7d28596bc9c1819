"""The one loop that trains those methods that learn by descent."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from uipad_cli.core.optimizer import StableAdamW
from uipad_cli.methods.base import CollapseError, hash_seed
from uipad_cli.records import Progress, Report


class Descent(BaseModel):
    """How a network is trained; the defaults are INP-Former's recipe.

    epochs: passes over all looks · least_steps: where these come to fewer steps, more passes · steps: exactly so many,
    whatever the others say.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(default=200, ge=1)
    least_steps: int = Field(default=1, ge=1)
    steps: int | None = Field(default=None, ge=1)
    batch: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    final_learning_rate: float = Field(default=1e-4, ge=0)
    warmup_steps: int = Field(default=100, ge=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    amsgrad: bool = True
    clip: float = Field(default=0.1, gt=0)

    def steps_per_epoch(self, samples: int) -> int:
        """Whole batches of one pass; a data set smaller than a batch is one batch."""
        return max(1, samples // self.batch)

    def total_steps(self, samples: int) -> int:
        """Steps of the whole training."""
        return self.steps or max(self.least_steps, self.epochs * self.steps_per_epoch(samples))

    def rate(self, step: int, total: int) -> float:
        """Learning rate of a 0-based step: linear warm-up, then a cosine down to the final rate."""
        warmup = min(self.warmup_steps, total // 4)
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        progress = (step - warmup) / max(1, total - warmup)
        height = (1 + math.cos(math.pi * progress)) / 2
        return self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * height


Values = Mapping[str, Tensor] | Mapping[str, float]
LossOfStep = Callable[[Tensor, torch.Generator], tuple[Tensor, Values]]


def descend(
    network: nn.Module,
    loss_of_step: LossOfStep,
    settings: Descent,
    *,
    samples: int,
    seed: int,
    report: Report,
    resume: Mapping[str, Tensor] | None = None,
) -> None:
    """Train `network` in place: the only optimiser loop.

    loss_of_step(indices [b], generator) → (loss, values to log [] each); a loss without a gradient has left the
    gradients where they belong (core/graphs.py). Every step's order and randomness derive from (seed, step) alone, so
    a resumed run takes the very steps that an unbroken one takes.
    Raises CollapseError when the loss is no longer a number.
    """
    parameters = dict(network.named_parameters())
    optimizer = StableAdamW(
        parameters.values(), lr=settings.learning_rate, betas=(0.9, settings.beta2),
        weight_decay=settings.weight_decay, amsgrad=settings.amsgrad,
    )  # fmt: skip
    per_epoch = settings.steps_per_epoch(samples)
    total = settings.total_steps(samples)
    first = 0 if resume is None else _load_training_state(network, optimizer, resume)
    for step in range(first, total):
        for group in optimizer.param_groups:
            group["lr"] = settings.rate(step, total)
        indices = _batch_indices(samples, settings.batch, seed, step // per_epoch, step % per_epoch)
        loss, values = loss_of_step(indices, torch.Generator().manual_seed(hash_seed(seed, 1, step)))
        if loss.requires_grad:
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters.values(), settings.clip)
        optimizer.step()
        told = _floats({"loss": loss.detach(), **values})
        if not math.isfinite(told["loss"]):
            raise CollapseError(
                f"training diverged: the loss is {told['loss']} at step {step + 1} of {total}",
                "lower options.training.learning_rate, or train with --precision fp32",
            )
        report(
            Progress(
                "train",
                step + 1,
                total,
                values={"loss": told["loss"], "learning_rate": settings.rate(step, total), **told},
                training_state=lambda done=step + 1: _training_state(network, optimizer, done),  # type: ignore[misc]
            )
        )


def _floats(values: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Numbers as numbers; those of a device come over together, one wait for all."""
    there = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    fetched = dict(zip(there, torch.stack(list(there.values())).tolist(), strict=True))
    return {name: fetched[name] if isinstance(value, Tensor) else value for name, value in values.items()}


def _batch_indices(samples: int, batch: int, seed: int, epoch: int, place: int) -> Tensor:
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(hash_seed(seed, 0, epoch)))
    return order[place * batch : (place + 1) * batch]


def _training_state(network: nn.Module, optimizer: StableAdamW, done: int) -> dict[str, Tensor]:
    """Everything that the next step depends on, as flat tensors: no code, no pickle; valid until that step."""
    state = {f"network/{name}": value.detach().cpu() for name, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        for moment, value in optimizer.state[parameter].items():
            state[f"optimizer/{moment}/{name}"] = value.detach().cpu()
    return state | {"step": torch.tensor(done)}


def _load_training_state(network: nn.Module, optimizer: StableAdamW, state: Mapping[str, Tensor]) -> int:
    network.load_state_dict(
        {name.removeprefix("network/"): value for name, value in state.items() if name.startswith("network/")}
    )
    parameters = dict(network.named_parameters())
    for key, value in state.items():
        if key.startswith("optimizer/"):
            _, moment, name = key.split("/", 2)
            target = value if moment == "step" else value.to(parameters[name].device)
            optimizer.state[parameters[name]][moment] = target.clone()
    return int(state["step"])
