"""More values than memory should hold, in ascending order: sorted runs in a temporary file, merged block by block.

Each run is as long as sorting in memory may be; a merge reads a piece of each, and everything up to the lowest of the
pieces' ends is the next block. Each value is sorted twice, written once and read once for every time of going through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from uipad_cli.metrics.scratch import Number, ScratchFile

RUN = 1 << 25  # bytes that are sorted at a time; so few need no file
BLOCK = 1 << 20  # bytes of a block, made up of pieces of all runs
PIECE = 1 << 14  # bytes of a piece at least, so that reading stays cheap where there are hundreds of runs

Scores = NDArray[np.float32]
Counts = NDArray[np.int64]


class Ascending(Generic[Number]):
    """Collects values of one type and gives them back in ascending order; in memory lie about 2 RUN and a BLOCK."""

    def __init__(self, kind: type[Number]) -> None:
        self.size = 0
        self._kind = np.dtype(kind)
        self._waiting: list[NDArray[Number]] = []
        self._waiting_bytes = 0
        self._file: ScratchFile | None = None
        self._runs: list[tuple[int, int]] = []  # first byte and number of values

    def add(self, values: NDArray[Number]) -> None:
        """Add values [n], which are kept as they are: the caller leaves them alone. Raises ScratchError."""
        self.size += values.size
        self._waiting.append(values)
        self._waiting_bytes += values.nbytes
        if self._waiting_bytes > RUN:
            self._file = self._file or ScratchFile()
            run = self._sorted()
            self._runs.append((self._file.append(run), run.size))
            self._waiting_bytes = 0

    def blocks(self) -> Iterator[NDArray[Number]]:
        """All values, in ascending blocks; equal ones may be in two of them. Raises ScratchError."""
        if self._waiting:
            self._waiting = [self._sorted()]
        length = max(BLOCK // (len(self._runs) + len(self._waiting) or 1), PIECE) // self._kind.itemsize
        runs = [self._read(start, count, length) for start, count in self._runs]
        runs += [_cut(run, length) for run in self._waiting]
        pieces = {place: piece for place, run in enumerate(runs) if (piece := next(run, None)) is not None}
        while pieces:
            # What was not read yet is not below the end of its run's piece, so up to the lowest end all is at hand.
            bound = min(piece[-1] for piece in pieces.values())
            found = []
            for place, piece in list(pieces.items()):
                stop = int(np.searchsorted(piece, bound, side="right"))
                found.append(piece[:stop])
                rest = piece[stop:] if stop < piece.size else next(runs[place], None)
                if rest is None:
                    del pieces[place]
                else:
                    pieces[place] = rest
            # stable: the one that merges what comes sorted
            yield found[0] if len(found) == 1 else np.sort(np.concatenate(found), kind="stable")

    def _sorted(self) -> NDArray[Number]:
        values = np.concatenate(self._waiting)
        self._waiting = []
        values.sort()
        return values

    def _read(self, start: int, count: int, length: int) -> Iterator[NDArray[Number]]:
        assert self._file is not None  # there are runs
        for first in range(0, count, length):
            yield self._file.read(start + first * self._kind.itemsize, min(length, count - first), self._kind)


def _cut(run: NDArray[Number], length: int) -> Iterator[NDArray[Number]]:
    for first in range(0, run.size, length):
        yield run[first : first + length]


def levels(values: Ascending[np.float32]) -> Iterator[tuple[Scores, Counts]]:
    """Pieces of the distinct values, ascending, and how often each comes; none is empty, no value is in two of them."""
    last, times = np.empty(0, np.float32), 0  # the value that the next block may go on with
    for block in values.blocks():
        first = np.flatnonzero(np.append(True, block[1:] != block[:-1]))
        found, counts = block[first], np.diff(first, append=block.size)
        if last.size and found[0] == last[0]:
            counts[0] += times
        elif last.size:
            yield last, np.array([times])
        last, times = found[-1:], int(counts[-1])
        if found.size > 1:
            yield found[:-1], counts[:-1]
    if last.size:
        yield last, np.array([times])


def values_at(values: Ascending[np.float32], places: Counts) -> Scores:
    """The values at these ascending places [n] of the sorted order, from 0 on."""
    found = np.empty(places.size, np.float32)
    passed = start = 0
    for level, counts in levels(values):
        upto = passed + np.cumsum(counts)
        passed = int(upto[-1])
        stop = int(np.searchsorted(places, passed, side="left"))
        found[start:stop] = level[np.searchsorted(upto, places[start:stop], side="right")]
        start = stop
    return found


def passed_by(values: Ascending[np.float32], asked: Iterable[Scores]) -> Iterator[tuple[Counts, Counts]]:
    """For each of the ascending blocks of scores: how many values are above each score, and how many not below it."""
    steps = levels(values)
    level, upto = np.empty(0, np.float32), np.zeros(1, np.int64)  # how many values lie below each, and below the next
    for scores in asked:
        above, not_below = np.zeros((2, scores.size), np.int64)
        start = 0
        while start < scores.size:
            stop = int(np.searchsorted(scores, level[-1], side="right")) if level.size else 0
            here = scores[start:stop]
            above[start:stop] = values.size - upto[np.searchsorted(level, here, side="right")]
            not_below[start:stop] = values.size - upto[np.searchsorted(level, here, side="left")]
            start = max(start, stop)
            if start < scores.size:
                step = next(steps, None)
                if step is None:
                    break  # all values are below the other scores
                level, upto = step[0], upto[-1] + np.append(0, np.cumsum(step[1]))
        yield above, not_below
