"""Are these parts like those before, part by part and in the order they came? Tests that hold for a handful of parts.

All are permutation tests: if nothing has changed, every way to call n of the n + m parts "before" is as likely as the
one that was seen, whatever the figures are distributed like. All ways are tried where there are few, else some are
drawn and the one that was seen counts among them, so that P(p <= a) <= a for every a (Phipson and Smyth 2010).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

DRAWS = 19_999
_AT_ONCE = 1 << 22  # numbers of a step in memory at a time
_TIE = 1e-9  # relative; what differs by less is rounding
_TO_SIGMA = 1.4826  # of the median absolute deviation, for a normal law
_SLACK = 1e-9  # (n + 1) times a rate is a whole number more often than its floating-point product is

Floats = NDArray[np.float64]
Verdict = Literal["steady", "line changed", "more defective parts", "both", "too few parts to tell"]


@dataclass(frozen=True)
class Relabelled:
    """Ways to call n of n + m parts "before": ways [w,n+m] bool, the first as seen; exact: True where these are all."""

    ways: NDArray[np.bool_]
    exact: bool


def relabelled(before: int, now: int, *, draws: int = DRAWS, seed: int = 0) -> Relabelled:
    """All ways where there are at most `draws` of them, else so many drawn at random besides the one that was seen.

    Raises ValueError for fewer than 1 part on either side.
    """
    if before < 1 or now < 1:
        raise ValueError(f"{before} and {now} parts cannot be compared: at least one is needed on either side")
    count = before + now
    if math.comb(count, before) <= draws:
        chosen = np.array(list(itertools.combinations(range(count), before)))  # the first is 0 .. before - 1
        ways = np.zeros((len(chosen), count), np.bool_)
        np.put_along_axis(ways, chosen, True, axis=1)
        return Relabelled(ways, True)
    seen = np.arange(count) < before
    generator = np.random.default_rng(seed)
    return Relabelled(np.stack([seen, *(generator.permutation(seen) for _ in range(draws))]), False)


def least_p(before: int, now: int, draws: int = DRAWS) -> float:
    """The least p that so many parts can give in a test of two sides: two of all ways are the farthest apart."""
    return min(1.0, max(2 / math.comb(before + now, before), 1 / (draws + 1)))


def parts_needed(before: int, p: float, most: int = 10_000) -> int | None:
    """So many parts now can give this p against those before, and not fewer; None where `most` cannot."""
    return next((now for now in range(1, most + 1) if least_p(before, now) <= p), None)


def shift_p(values: ArrayLike, ways: Relabelled) -> float:
    """p of no shift of a figure, values [n+m], those before first: rank sum of Mann and Whitney 1947, with midranks."""
    ranks = midranks(np.asarray(values, dtype=np.float64))
    return _two_sided(_of_ways(ways, lambda before: before @ ranks))


def lower_half_p(values: ArrayLike, ways: Relabelled) -> float:
    """p of no shift of the lower half of a figure, values [n+m]: what a few defective parts do not move.

    Mean rank of the lower half of those before, less that of those now; an odd one in the middle counts.
    """
    found = np.asarray(values, dtype=np.float64)
    order = np.argsort(found, kind="stable")
    ranks = midranks(found)[order]

    def apart(before: NDArray[np.bool_]) -> Floats:
        return _lower_mean(before[:, order], ranks) - _lower_mean(~before[:, order], ranks)

    return _two_sided(_of_ways(ways, apart))


def energy_p(points: ArrayLike, ways: Relabelled) -> float:
    """p of one and the same distribution of points [n+m,k], those before first: the energy distance.

    Source: Székely and Rizzo 2004; 2 E|X - Y| - E|X - X'| - E|Y - Y'| with Euclidean distances.
    """
    found = np.asarray(points, dtype=np.float64)
    apart = np.stack([np.sqrt(((found - one) ** 2).sum(axis=1)) for one in found])
    sums, total = apart.sum(axis=1), float(apart.sum())
    before = int(ways.ways[0].sum())
    now = len(found) - before

    def energy(chosen: NDArray[np.bool_]) -> Floats:
        within = ((chosen @ apart) * chosen).sum(axis=1)
        between = chosen @ sums - within
        rest = total - 2 * between - within
        return np.asarray(2 * between / (before * now) - within / before**2 - rest / now**2)

    return _share_as_far(_of_ways(ways, energy))


@dataclass(frozen=True)
class Alarms:
    """How many parts are as surprising as good ones seldom are, how many of good ones would be, and p of no more."""

    count: int
    promised: float
    p: float


def alarms(good: ArrayLike, scores: ArrayLike, rate: float) -> Alarms:
    """Are there more parts with a p-value <= `rate` among scores [m] than good parts [n] promise?

    The p-values rest on the same n parts, so their count is not binomial but, for any distribution of scores, a
    Pólya urn: r + 1 of n + 2 balls after one draw, and so on; p is its exact tail. A rate that n parts cannot tell is
    taken as 1/(n + 1).
    """
    ordered, found = np.sort(np.asarray(good, dtype=np.float64)), np.asarray(scores, dtype=np.float64)
    size = ordered.size
    rank = min(size, max(1, math.floor((size + 1) * rate + _SLACK)))
    count = int((found > ordered[-rank]).sum())
    return Alarms(count, found.size * rank / (size + 1), _urn_tail(count, found.size, rank, size + 1 - rank))


def conclude(*, reachable: bool, line: bool, bulk: bool, tail: bool, explained: bool) -> Verdict:
    """What the tests mean together.

    reachable: so few parts could have shown a change of all of them; line: what defects do not move (features, named
    figures, quiet maps) is another one for most parts, or since a place in their order; bulk: the lower half of the
    scores is; tail: more alarms than good parts raise; explained: the lower half may have moved along, by weaker
    evidence than `bulk` takes. A line that moves it explains alarms, so nothing is said of the parts then. Where
    nothing but scores has moved, alarms mean defects, however many parts have one; without alarms it is the line.
    Alarms count where parts are too few to tell of the line.
    """
    if not reachable and not line:
        return "more defective parts" if tail else "too few parts to tell"
    if line:
        return "both" if tail and not (bulk or explained) else "line changed"
    if tail:
        return "more defective parts"
    return "line changed" if bulk else "steady"


@dataclass(frozen=True)
class Change:
    """The place of the first part after a change, and p of no change at any place."""

    place: int
    p: float


def change_point(columns: ArrayLike, *, draws: int = DRAWS, seed: int = 0) -> Change | None:
    """Where the figures of parts in their order, columns [m,c], change most; None for fewer than four parts.

    The largest standardised CUSUM of the ranks over all places and columns, against the same parts in other orders.
    Source: Pettitt 1979; for p, permutation in place of his approximation.
    """
    found = np.asarray(columns, dtype=np.float64)
    count = len(found)
    if count < 4:
        return None
    ranks = np.stack([midranks(column) for column in found.T], axis=1)
    widths = ranks.std(axis=0)
    scores = (ranks - ranks.mean(axis=0)) / np.where(widths > 0, widths, 1)
    first = np.arange(1, count)
    weight = np.sqrt(first * (count - first) / count)[None, :, None]
    generator = np.random.default_rng(seed)
    rows = max(1, _AT_ONCE // found.size)
    largest, place = [], 0
    for start in range(0, draws + 1, rows):
        orders = generator.permuted(np.tile(np.arange(count), (min(rows, draws + 1 - start), 1)), axis=1)
        if start == 0:
            orders[0] = np.arange(count)
        sums = np.abs(np.cumsum(scores[orders], axis=1)[:, :-1]) / weight
        largest.append(sums.max(axis=(1, 2)))
        if start == 0:
            place = 1 + int(sums[0].max(axis=1).argmax())
    return Change(place, _share_as_far(np.concatenate(largest)))


def scaled(points: ArrayLike, floor: float) -> Floats:
    """Points [N,F] less their median, by their robust spread, which counts as `floor` where it is less."""
    found = np.asarray(points, dtype=np.float64)
    return np.asarray((found - np.median(found, axis=0)) / np.maximum(spread(found), floor))


def spread(values: ArrayLike) -> Floats:
    """Robust standard deviation of values [N] or [N,F] along their first axis, by the median absolute deviation."""
    found = np.asarray(values, dtype=np.float64)
    return np.asarray(_TO_SIGMA * np.median(np.abs(found - np.median(found, axis=0)), axis=0))


def shift_of(before: ArrayLike, now: ArrayLike, floor: float, *, since: ArrayLike | None = None) -> float:
    """How far the middle of points has moved, [n] or [n,F] → [m] or [m,F], in spreads of those before.

    These count as `floor` at least; root mean square over F coordinates. From about 1 on, most parts are elsewhere.
    since: points that the move is counted from in place of those before.
    """
    first = np.asarray(before, dtype=np.float64)
    start = np.median(first if since is None else np.asarray(since, dtype=np.float64), axis=0)
    moved = (np.median(np.asarray(now, dtype=np.float64), axis=0) - start) / np.maximum(spread(first), floor)
    return math.sqrt(float(np.mean(moved**2))) if moved.size else 0.0


def lower_half_shift(before: ArrayLike, now: ArrayLike) -> float:
    """How far the middle of the lower half of a figure has moved, [n] → [m], in spreads of those before."""
    first, second = (np.sort(np.asarray(part, dtype=np.float64)) for part in (before, now))
    moved = np.median(second[: (second.size + 1) // 2]) - np.median(first[: (first.size + 1) // 2])
    return abs(float(moved)) / max(float(spread(first)), 1e-9)


def principal(points: ArrayLike, wanted: int) -> Floats:
    """The first principal coordinates [N,wanted] of points [N,F], fewer where there are fewer; signs are fixed."""
    found = np.asarray(points, dtype=np.float64)
    centred = found - found.mean(axis=0)
    left, sizes, right = np.linalg.svd(centred, full_matrices=False)
    kept = min(wanted, len(sizes))
    signs = np.sign(right[:kept][np.arange(kept), np.abs(right[:kept]).argmax(axis=1)]) if kept else np.zeros(0)
    return np.asarray(left[:, :kept] * sizes[:kept] * signs)


def midranks(values: Floats) -> Floats:
    """Ranks 1..N of values [N], the mean of those that are equal."""
    ordered = np.sort(values)
    return np.asarray((np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") + 1) / 2)


def _of_ways(ways: Relabelled, statistic: Callable[[NDArray[np.bool_]], Floats]) -> Floats:
    """A statistic of each way, some ways at a time."""
    rows = max(1, _AT_ONCE // ways.ways.shape[1])
    starts = range(0, len(ways.ways), rows)
    return np.concatenate([statistic(ways.ways[start : start + rows]) for start in starts])


def _lower_mean(chosen: NDArray[np.bool_], ranks: Floats) -> Floats:
    """Mean rank of the lower half of those chosen [w,N], in ascending order."""
    half = (int(chosen[0].sum()) + 1) // 2
    lower = chosen & (np.cumsum(chosen, axis=1) <= half)
    return np.asarray(lower @ ranks / half)


def _two_sided(statistics: Floats) -> float:
    return _share_as_far(np.abs(statistics - statistics.mean()))


def _share_as_far(statistics: Floats) -> float:
    """Share of the ways that are as extreme as the first, which is among them."""
    room = _TIE * max(1e-300, float(np.abs(statistics).max()))
    return float(np.mean(statistics >= statistics[0] - room))


def _urn_tail(count: int, drawn: int, black: int, white: int) -> float:
    """Chance of at least `count` black balls among `drawn`, each put back with another one of its colour."""
    heads = range(count, drawn + 1)
    base = _log_beta(black, white)
    logs = [math.log(math.comb(drawn, head)) + _log_beta(black + head, white + drawn - head) - base for head in heads]
    return min(1.0, math.fsum(math.exp(one) for one in logs))


def _log_beta(first: float, second: float) -> float:
    return math.lgamma(first) + math.lgamma(second) - math.lgamma(first + second)
