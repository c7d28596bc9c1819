"""What every method offers, and the one loop that trains those that learn by descent."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel
from torch import Tensor

from uipad_cli.core.backbone import Encoder
from uipad_cli.core.compute import Compute
from uipad_cli.core.memory import moved
from uipad_cli.errors import UipadError, UsageError
from uipad_cli.methods.scorer import Run, Scorer
from uipad_cli.records import LEARN_ALONE, Batch, Batches, Modality, Report, Scores

Floats = npt.NDArray[np.float16] | npt.NDArray[np.float32]


class CollapseError(UipadError):
    """Training went on, but the model no longer distinguishes anything: its scores would be worthless."""

    exit_code = 4


class Kept(Protocol):
    """Features of a part, [looks,C,G,N,D]: an array, or what reads one."""

    def __getitem__(self, look: int, /) -> Floats: ...


class Shelf(Protocol):
    """Keeps features from one run to the next, by what they were made from."""

    def find(self, key: str) -> Kept | None:
        """The features of this key, read look by look when they are asked for; None where there are none."""

    def keep(self, key: str, features: Floats) -> Kept:
        """Keep features; returns what `find` would, or the features where there is no room."""


class Method(Protocol):
    """One way to find defects. The engine knows nothing else about it.

    The constructor takes the frozen encoder, the options, where to compute, and the seed of everything random.
    run: what runs `graph` (methods/scorer.py); trains: False where `fit` only remembers features: they are then
    computed in the precision of scoring (products alone, where `lighten` keeps weights so, too) and kept as computed.
    """

    Options: ClassVar[type[BaseModel]]
    trains: ClassVar[bool]
    encoder: Encoder
    compute: Compute
    run: Run

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

    def lighten(self, compute: Compute) -> None:
        """Only score from now on, there and so precisely; all weights, the encoder's too, are kept in that precision.

        A method that was built on the CPU never takes more room on a device than it needs there.
        """

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
