"""A run and a test split → everything that figures are made of: scores, maps and masks of its parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from uipad_cli.data.framing import seen
from uipad_cli.data.pairs import Pairs, load_mask
from uipad_cli.engine.checkpoint import Checkpoint
from uipad_cli.engine.judging import Judged, judge
from uipad_cli.methods.base import Method
from uipad_cli.records import GOOD, Report

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Collected:
    """Parts of a test split in their order: names, defects and scores [n], maps and masks [H0,W0] of each.

    seen: the pixels that the framing looks at; seconds: to read and judge each.
    """

    names: list[str] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    maps: list[npt.NDArray[np.float32]] = field(default_factory=list)
    masks: list[Mask] = field(default_factory=list)
    seen: list[Mask] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def labels(self) -> list[bool]:
        """True for the defective."""
        return [defect != GOOD for defect in self.defects]


def collect(
    record: Checkpoint,
    method: Method,
    pairs: Pairs,
    report: Report,
    each: Callable[[Judged, Mask], None] = lambda judged, mask: None,
) -> Collected:
    """Judge all pairs; `each` sees every part with its mask, in order. Raises DataError, WeightsError."""
    found = Collected()
    for judged in judge(method, pairs, report, task=record.category):
        mask = load_mask(judged.item, judged.sample.valid.shape, pairs.preparation.longest)
        found.names.append(judged.item.name)
        found.defects.append(judged.item.defect)
        found.scores.append(judged.score)
        found.maps.append(judged.map)
        found.masks.append(mask)
        found.seen.append(seen(record.config.framing, *mask.shape))
        found.seconds.append(judged.seconds)
        each(judged, mask)
    return found
