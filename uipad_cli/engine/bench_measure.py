"""One method in one way to compute: its time at every batch size, where that goes, its memory and its operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from uipad_cli.core import scoring
from uipad_cli.core.compute import Compute
from uipad_cli.engine.bench_clock import Clock
from uipad_cli.engine.bench_memory import Memory, memory
from uipad_cli.engine.bench_stages import REST, model_seams, shares
from uipad_cli.engine.bench_subject import Workload
from uipad_cli.engine.runtime import precision_name
from uipad_cli.methods.base import Method
from uipad_cli.methods.scorer import scores_of
from uipad_cli.metrics.timing import Timing
from uipad_cli.records import Batch

SWEEP_SHARE = 1 / 3  # of the seconds of a measurement, for each batch size
SWEEP_LEAST = 3  # repetitions


@dataclass(frozen=True)
class Point:
    """Seconds of one batch: inputs on the device already, and of all that `score` does; None where there is no copy."""

    batch: int
    model: Timing
    copied: Timing | None

    @property
    def rate(self) -> float:
        """Pairs per second."""
        return self.batch / self.model.median


@dataclass(frozen=True)
class Measured:
    """All figures of a method in one precision.

    cold: seconds of the first call of what is compiled; stages: shares of the time of one pair, empty where nobody can
    look inside; points: by batch size, a single pair first; no_room: the size at which the device had no room left.
    """

    method: str
    precision: str
    compiled: bool
    cold: float | None
    stages: Mapping[str, float]
    points: Sequence[Point]
    memory: Memory | None
    no_room: int | None = None

    @property
    def path(self) -> str:
        """What it is called in tables."""
        return path(self.precision, self.compiled)

    @property
    def single(self) -> Point:
        """One pair."""
        return self.points[0]

    @property
    def best(self) -> Point:
        """Where most pairs go through."""
        return max(self.points, key=lambda point: point.rate)


def path(precision: str, compiled: bool) -> str:
    """What a way to compute is called in tables."""
    return f"{precision} compiled" if compiled else precision


def measure(method: Method, workload: Workload, clock: Clock, name: str) -> Measured:
    """One pair at a time, by a method that is not compiled."""
    one = workload.batch(1)
    work = judging(method, one)
    single = Point(1, clock.timed(work), _copied(method, one, clock))
    graph = method.graph()

    def as_written() -> object:  # a recorded graph can neither be looked into nor does it ask for memory
        return scores_of(graph, graph, one, clock.device)

    stages = shares(as_written, model_seams(method), clock, REST)
    used = memory(graph, as_written, clock.device)
    return Measured(name, precision_name(method.compute), False, None, stages, [single], used)


def swept(measured: Measured, method: Method, workload: Workload, clock: Clock, sizes: Sequence[int]) -> Measured:
    """The same with ever larger batches, until the device has no room for one."""
    quick = replace(clock, seconds=SWEEP_SHARE * clock.seconds, least=SWEEP_LEAST)
    points = list(measured.points)
    for size in sorted(set(sizes) - {1}):
        batch = workload.batch(size)
        try:
            points.append(Point(size, quick.timed(judging(method, batch)), _copied(method, batch, quick)))
        except torch.OutOfMemoryError:
            return replace(measured, points=points, no_room=size)
    return replace(measured, points=points)


def measure_compiled(
    build: Callable[[Compute], Method], compute: Compute, workload: Workload, clock: Clock, batches: Sequence[int],
    *, name: str,
) -> tuple[Method, Measured]:  # fmt: skip
    """The same compiled, once for each batch size, a single pair first; and the method that was compiled for that."""
    found: list[Point] = []
    cold, first = 0.0, None
    for size in dict.fromkeys((1, *batches)):
        method, batch = build(replace(compute, compiled=True)), workload.batch(size)
        seconds = clock.once(lambda method=method, batch=batch: method.score(batch))  # type: ignore[misc]
        if first is None:
            cold, first = seconds, method
        found.append(Point(size, clock.timed(judging(method, batch)), _copied(method, batch, clock)))
    assert first is not None
    return first, Measured(name, precision_name(compute), True, cold, {}, found, None)


def judging(method: Method, batch: Batch) -> Callable[[], object]:
    """Judge a batch whose images are on the device already, and leave there what is said of it."""
    device = method.compute.device
    if device.type == "cpu":
        return lambda: method.score(batch)
    scorer, run = method.graph(), method.run
    rgb, geometry, valid = (one.to(device) for one in (batch.rgb, batch.geometry, batch.valid))

    @torch.no_grad()
    def work() -> object:
        maps = run(rgb, geometry, None)[0]
        counted = scoring.measured_places(valid, scorer.grid, scorer.measured)
        return maps, scoring.image_score(maps, scorer.top, counted)

    return work


def _copied(method: Method, batch: Batch, clock: Clock) -> Timing | None:
    if clock.device.type == "cpu":
        return None
    return clock.timed(lambda: method.score(batch))
