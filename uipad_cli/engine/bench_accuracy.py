"""What every fast path gives away: its maps and scores against those of plain float32 on the same device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from uipad_cli.engine.bench_subject import Workload
from uipad_cli.engine.judging import judge
from uipad_cli.methods.base import Method
from uipad_cli.metrics.ranking import auroc
from uipad_cli.metrics.timing import Deviation, deviation
from uipad_cli.records import Scores, silent

HARMLESS = 0.002  # change of the image AUROC that counts as none


@dataclass(frozen=True)
class Answers:
    """What a method says of the pairs that are measured: maps [n,H,W], scores [n]; auroc: of all, where labelled."""

    maps: Tensor
    images: Tensor
    auroc: float | None


@dataclass(frozen=True)
class Accuracy:
    """How far the answers of a fast path are from those of the reference.

    equal: bitwise; auroc, reference_auroc: of the image scores of all pairs, None where they have no labels.
    """

    method: str
    path: str
    batch: int
    map: Deviation
    image: Deviation
    equal: bool
    auroc: float | None
    reference_auroc: float | None

    @property
    def harmless(self) -> bool | None:
        """Whether the AUROC is as before; None where there is none."""
        if self.auroc is None or self.reference_auroc is None:
            return None
        return abs(self.auroc - self.reference_auroc) < HARMLESS


def answers(method: Method, workload: Workload) -> Answers:
    """One pair at a time."""
    found = [method.score(workload.batch(1, first)) for first in range(len(workload.taken))]
    maps, images = _joined(found)
    return Answers(maps, images, _auroc(method, workload))


def compared(reference: Answers, found: Answers, method: str, path: str) -> Accuracy:
    """A fast path, pair by pair."""
    return _accuracy(reference, found, method, path, 1)


def in_company(reference: Answers, method: Method, workload: Workload, size: int, named: tuple[str, str]) -> Accuracy:
    """So many pairs in one batch against each alone. named: the method and the path."""
    scores = method.score(workload.batch(size))
    squares, there = workload.pairs.framing.squares, len(workload.taken)
    places = [pair % there * squares + square for pair in range(size) for square in range(squares)]
    alone = Answers(reference.maps[places], reference.images[places], None)
    return _accuracy(alone, Answers(scores.map, scores.image, None), *named, size)


def _accuracy(reference: Answers, found: Answers, method: str, path: str, batch: int) -> Accuracy:
    equal = torch.equal(reference.maps, found.maps) and torch.equal(reference.images, found.images)
    return Accuracy(
        method, path, batch, deviation(reference.maps.numpy(), found.maps.numpy()),
        deviation(reference.images.numpy(), found.images.numpy()), equal, found.auroc,
        reference.auroc,
    )  # fmt: skip


def _joined(scores: Sequence[Scores]) -> tuple[Tensor, Tensor]:
    return torch.cat([one.map for one in scores]), torch.cat([one.image for one in scores])


def _auroc(method: Method, workload: Workload) -> float | None:
    if not workload.labelled:
        return None
    # one at a time as well: a network is compiled, or recorded, for one size
    said = [(one.score, not one.item.is_good) for one in judge(method, replace(workload.pairs, batch_size=1), silent)]
    return auroc([score for score, _ in said], [defective for _, defective in said])
