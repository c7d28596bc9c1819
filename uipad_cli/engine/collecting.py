"""A run and a test split → everything that figures are made of: scores, maps and masks of its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from uipad_cli.data.framing import Framing, seen
from uipad_cli.data.pairs import Pairs, load_mask
from uipad_cli.engine.judging import Judged, judge
from uipad_cli.engine.scratch import Images, Stored
from uipad_cli.methods.base import Method
from uipad_cli.records import GOOD, Report

Mask = npt.NDArray[np.bool_]


class Seen(Images[np.bool_]):
    """The pixels [H0,W0] of images of these shapes that all of some framings look at; do not write into them."""

    def __init__(self, framings: Sequence[Framing], shapes: Sequence[tuple[int, int]]) -> None:
        self.shapes = shapes
        self._framings = tuple(framings)

    def _make(self, place: int) -> Mask:
        return _seen_by_all(self._framings, *self.shapes[place])


@lru_cache(maxsize=4)  # images of a data set are of one size, or of few
def _seen_by_all(framings: tuple[Framing, ...], height: int, width: int) -> Mask:
    found: Mask = np.logical_and.reduce([seen(framing, height, width) for framing in framings])
    found.flags.writeable = False
    return found


@dataclass(frozen=True)
class Collected:
    """Parts of a test split in their order: names, defects and scores [n], maps and masks [H0,W0] of each, on disk.

    framing: what was looked at; seconds: to read and judge each.
    """

    framing: Framing
    names: list[str] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    maps: Stored[np.float32] = field(default_factory=lambda: Stored(np.float32))
    masks: Stored[np.bool_] = field(default_factory=lambda: Stored(np.bool_))
    seconds: list[float] = field(default_factory=list)

    @property
    def seen(self) -> Seen:
        """The pixels [H0,W0] of each part that the framing looks at."""
        return Seen((self.framing,), self.maps.shapes)

    @property
    def labels(self) -> list[bool]:
        """True for the defective."""
        return [defect != GOOD for defect in self.defects]


def collect(
    method: Method,
    pairs: Pairs,
    report: Report,
    task: str = "score",
    each: Callable[[Judged, Mask], None] = lambda judged, mask: None,
) -> Collected:
    """Judge all pairs; `each` sees every part and its mask, in order. Raises DataError, WeightsError, ResourceError."""
    found = Collected(pairs.framing)
    for judged in judge(method, pairs, report, task=task):
        mask = load_mask(judged.item, judged.sample.valid.shape, pairs.preparation.longest)
        found.names.append(judged.item.name)
        found.defects.append(judged.item.defect)
        found.scores.append(judged.score)
        found.maps.append(judged.map)
        found.masks.append(mask)
        found.seconds.append(judged.seconds)
        each(judged, mask)
    return found
