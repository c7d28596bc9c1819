"""What scores batches, by torch or without it, and how a batch that the memory does not take is scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np

from uipad_cli.data.pairs import joined, tensors
from uipad_cli.methods.parts import in_parts
from uipad_cli.records import Arrays, Batch, ScoredArrays, Scores

_FITS: WeakKeyDictionary[object, int] = WeakKeyDictionary()  # pairs at a time, of judges that ran out of memory


class TensorJudge(Protocol):
    """What scores batches of tensors: every method."""

    def score(self, batch: Batch) -> Scores:
        """Judge a batch."""


@runtime_checkable
class ArrayJudge(Protocol):
    """What scores batches of arrays, without torch: an exported model."""

    def score_arrays(self, arrays: Arrays) -> ScoredArrays:
        """Judge a batch."""


Judge = TensorJudge | ArrayJudge


def scored(by: Judge, framed: Sequence[Arrays], say: Callable[[str], None]) -> ScoredArrays:
    """What is said of pairs, each framed as a batch of its own; fewer at a time where memory is short, which is said.

    Whoever ran out of memory once is given no more than then sufficed. Raises ResourceError.
    """

    def shrunk(most: int) -> None:
        _FITS[by] = most
        say(f"note: not enough memory for a batch; {most} pair(s) at a time from here on")

    def some(chosen: slice) -> ScoredArrays:
        return _scored(by, joined(framed[chosen]))

    told = list(in_parts(some, len(framed), _FITS.get(by, len(framed)), shrunk))
    if len(told) == 1:
        return told[0]
    voices = {name: np.concatenate([one.voices[name] for one in told]) for name in told[0].voices}
    return ScoredArrays(np.concatenate([one.map for one in told]), np.concatenate([one.image for one in told]), voices)


def _scored(by: Judge, batch: Arrays) -> ScoredArrays:
    if isinstance(by, ArrayJudge):
        return by.score_arrays(batch)
    scores = by.score(tensors(batch))
    voices = {name: said.numpy() for name, said in scores.voices.items()}
    return ScoredArrays(scores.map.numpy(), scores.image.numpy(), voices)
