"""What every method offers, and the one loop that trains those that learn by descent."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from uipad_cli.core.backbone import Encoder
from uipad_cli.core.compute import Compute
from uipad_cli.core.memory import moved
from uipad_cli.core.optimizer import StableAdamW
from uipad_cli.errors import UipadError, UsageError
from uipad_cli.methods.scorer import Scorer
from uipad_cli.records import LEARN_ALONE, Batch, Batches, Modality, Progress, Report, Scores

Halves = npt.NDArray[np.float16]


class CollapseError(UipadError):
    """Training went on, but the model no longer distinguishes anything: its scores would be worthless."""

    exit_code = 4


class Shelf(Protocol):
    """Keeps features from one run to the next, by what they were made from."""

    def find(self, key: str) -> Halves | None:
        """The features of this key, mapped into memory; None where there are none."""

    def keep(self, key: str, features: Halves) -> Halves:
        """Keep features; returns them mapped into memory, or as they are where there is no room."""


class Method(Protocol):
    """One way to find defects. The engine knows nothing else about it.

    The constructor takes the frozen encoder, the options, where to compute, and the seed of everything random.
    trains: False where `fit` only remembers features, which must then be computed as precisely as those it judges.
    """

    Options: ClassVar[type[BaseModel]]
    trains: ClassVar[bool]
    encoder: Encoder
    compute: Compute

    def __init__(self, encoder: Encoder, options: BaseModel, compute: Compute, seed: int) -> None: ...

    @property
    def alone(self) -> Sequence[Modality]:
        """Modalities that `score` can judge by themselves, where a batch says that it knows no other."""

    def fit(
        self, batches: Batches, report: Report, resume: Mapping[str, Tensor] | None = None, shelf: Shelf | None = None
    ) -> None:
        """Learn from good parts only; `batches` can be iterated again.

        resume: what `training_state` once gave; shelf: where features are kept from one run to the next.
        """

    def score(self, batch: Batch) -> Scores:
        """Judge a batch: deterministic, the same for a pair alone and in company."""

    def gauges(self, batch: Batch) -> dict[str, float]:
        """Health figures of the fitted method, measured on good parts."""

    def graph(self) -> Scorer:
        """All of scoring but the image score, as one network of images alone: what is exported."""

    def lighten(self) -> None:
        """Keep all weights, the encoder's too, in the precision they are used in; the method can only score then."""

    def pretend(self, parts: int) -> None:
        """Hold so much as `fit` would keep of so many good parts, of random content: to measure time by."""

    def state(self) -> dict[str, Tensor]:
        """All that `fit` learned, on the CPU."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave; `score` works from then on. Raises ValueError when it does not fit."""


@runtime_checkable
class PrototypeOwners(Protocol):
    """A method whose prototypes own places."""

    def owners(self, batch: Batch) -> Tensor:
        """Which prototype every place of a pair is nearest to: indices [B,h,w] of 0..M-1, on the CPU."""


def check_known(batch: Batch, alone: Sequence[Modality]) -> None:
    """Raise UsageError where a batch knows one modality only, and the method cannot judge that one by itself."""
    if batch.known is not None and batch.known not in alone:
        raise UsageError(f"this run cannot judge {batch.known} alone", LEARN_ALONE)


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


LossOfStep = Callable[[Tensor, torch.Generator], tuple[Tensor, dict[str, float]]]


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

    loss_of_step(indices [b], generator) → (loss, values to log). Every step's order and randomness derive from
    (seed, step) alone, so a resumed run takes the very steps that an unbroken one takes.
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
        if not torch.isfinite(loss):
            raise CollapseError(
                f"training diverged: the loss is {float(loss.detach())} at step {step + 1} of {total}",
                "lower options.training.learning_rate, or train with --precision fp32",
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters.values(), settings.clip)
        optimizer.step()
        report(
            Progress(
                "train",
                step + 1,
                total,
                values={"loss": float(loss.detach()), "learning_rate": settings.rate(step, total), **values},
                training_state=lambda done=step + 1: _training_state(network, optimizer, done),  # type: ignore[misc]
            )
        )


def looks(batch: Batch, patch: int, phases: int) -> Iterator[Batch]:
    """The batch `phases` x `phases` times, moved by fractions of a patch; what comes into view is mirrored.

    An edge that runs through the middle of a patch looks different from one at its rim, and a few good parts do not
    show all of these.
    """
    steps = [round(patch * phase / phases) for phase in range(phases)]
    for down, right in itertools.product(steps, steps):
        yield Batch(moved(batch.rgb, down, right), moved(batch.geometry, down, right), batch.valid)


def hash_seed(*parts: int) -> int:
    """A well-mixed 63-bit seed from small integers; neighbouring inputs give unrelated streams."""
    value = 0x9E3779B97F4A7C15
    for part in parts:
        value = (value ^ (part + 0x9E3779B97F4A7C15 + (value << 6) + (value >> 2))) & (2**64 - 1)
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & (2**64 - 1)
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB & (2**64 - 1)
        value ^= value >> 31
    return value >> 1


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
