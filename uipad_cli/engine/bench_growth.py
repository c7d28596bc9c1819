"""How time and memory grow with what a user has more of: good parts, pixels, prototypes, categories."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from uipad_cli.core.backbone import TINY
from uipad_cli.core.compute import Compute
from uipad_cli.data.framing import Framing
from uipad_cli.data.pairs import Pairs
from uipad_cli.engine.bench_clock import Clock
from uipad_cli.engine.bench_measure import judging
from uipad_cli.engine.bench_memory import fresh_growth, growth
from uipad_cli.engine.bench_subject import Subject, Workload, rendered
from uipad_cli.engine.checkpoint import build_method, method_class
from uipad_cli.engine.weights import load_encoder
from uipad_cli.methods.base import CollapseError
from uipad_cli.methods.scorer import scores_of
from uipad_cli.metrics.timing import exponent
from uipad_cli.records import GOOD, Batch, Progress, Report

PAIRS = (8, 16, 32, 64)
PIXELS = (196, 280, 392, 560)
PROTOTYPES = (6, 12, 24, 48)
CATEGORIES = ("pegs", "flange", "keypad", "gear")
TOGETHER = (1, 2, 4)  # categories in one model
EACH = 8  # pairs of a category
STEPS = 20  # of a training, so that it is the same at every size
BATCH = 4
FRAMING = Framing()


@dataclass(frozen=True)
class Row:
    """What was measured at a size: seconds, those of encoding among them where something is learned, and bytes."""

    size: int
    seconds: float
    encoding: float | None
    bytes: int | None


Task = tuple[str, str, Sequence[int], Callable[[int], Row]]


@dataclass(frozen=True)
class Growth:
    """All sizes of one thing."""

    task: str
    of: str
    rows: Sequence[Row]

    @property
    def exponent(self) -> float | None:
        """The power of the size that the seconds grow by."""
        return exponent([row.size for row in self.rows], [row.seconds for row in self.rows])

    @property
    def bytes_exponent(self) -> float | None:
        """The same of the bytes; None where they are not known."""
        found = [row.bytes for row in self.rows if row.bytes]
        return exponent([row.size for row in self.rows], found) if len(found) == len(self.rows) else None

    @property
    def encoding_exponent(self) -> float | None:
        """The same of the seconds of encoding; None where nothing is learned."""
        found = [row.encoding for row in self.rows if row.encoding]
        return exponent([row.size for row in self.rows], found) if len(found) == len(self.rows) else None

    def sentences(self) -> list[str]:
        """For people."""
        powers = {
            "seconds": self.exponent,
            "encoding seconds": self.encoding_exponent,
            "bytes": self.bytes_exponent,
        }
        told = [f"{name} grow as {self.of}^{power:.2f}" for name, power in powers.items() if power is not None]
        first = f"{self.task}: {', '.join(told) or 'no growth can be told'}"
        if self.of != "categories":
            return [first]
        one, most = self.rows[0], self.rows[-1]
        each = most.size * one.seconds / one.size
        return [
            first,
            f"a model for each of {most.size}: about {each:.1f} s together, one of all: {most.seconds:.1f} s",
        ]

    def document(self) -> dict[str, object]:
        """For JSON."""
        rows = [asdict(row) for row in self.rows]
        powers = {
            "exponent": self.exponent,
            "encoding_exponent": self.encoding_exponent,
            "bytes_exponent": self.bytes_exponent,
        }
        return {"task": self.task, "of": self.of, **powers, "rows": rows}


def growths(subject: Subject, compute: Compute, clock: Clock, report: Report) -> list[Growth]:
    """Of the subject's method on `tiny`, with its options but for one look at each part and STEPS steps."""
    quick = replace(clock, seconds=min(clock.seconds, 1.0), least=3)
    with tempfile.TemporaryDirectory(prefix="uipad-bench-") as folder:
        pairs = rendered(Path(folder) / "pairs", subject.config, [(name, GOOD) for name in CATEGORIES])
        pairs = replace(pairs, framing=FRAMING)

        def trained(count: int) -> Row:
            return _trained(subject, compute, pairs, count)

        def together(count: int) -> Row:
            chosen = replace(pairs, items=pairs.items[:count])
            return replace(_trained(subject, compute, chosen, count * EACH), size=count)

        def scored(edge: int) -> Row:
            return _scored(subject, compute, pairs, quick, edge)

        def prototyped(count: int) -> Row:
            row = _scored(subject, compute, pairs, quick, FRAMING.crop, {"prototypes": count})
            return replace(row, size=count)

        tasks: list[Task] = [
            ("training", "pairs", PAIRS, trained),
            ("scoring", "pixels along an edge", PIXELS, scored),
        ]
        if "prototypes" in method_class(subject.name).Options.model_fields:
            tasks.append(("scoring", "prototypes", PROTOTYPES, prototyped))
        tasks.append(("training one model of all", "categories", TOGETHER, together))
        return [_grown(*task, report) for task in tasks]


def _grown(task: str, of: str, sizes: Sequence[int], measured: Callable[[int], Row], report: Report) -> Growth:
    rows = []
    for size in sizes:
        report(Progress("note", 0, 0, note=f"growth: {task}, {size} {of}"))
        rows.append(measured(size))
    return Growth(task, of, rows)


def _subject(subject: Subject, size: int, options: dict[str, Any]) -> Subject:
    """The same method on `tiny`, of squares of so many pixels."""
    config = subject.config
    framing = Framing(resize=size, crop=size)
    update = {"backbone": TINY, "framing": framing, "options": {**config.options, **options}}
    chosen = config.model_copy(update=update)
    return Subject(chosen, load_encoder(TINY, None, size).encoder, TINY, None, subject.parts)


def _scored(
    subject: Subject, compute: Compute, pairs: Pairs, clock: Clock, size: int, options: dict[str, Any] | None = None
) -> Row:
    """One pair; the size of the row is that of the options where there are some."""
    small = _subject(subject, size, options or {})
    method = small.method(compute)
    one = Workload(replace(pairs, framing=small.config.framing), "").batch(1)
    seconds = clock.timed(judging(method, one)).median
    graph = method.graph()
    bytes_ = growth(lambda: scores_of(graph, graph, one, compute.device), compute.device)  # a replay asks for none
    return Row(size, seconds, None, bytes_)


def _trained(subject: Subject, compute: Compute, pairs: Pairs, count: int) -> Row:
    """A training on so many pairs, the given ones by turns."""
    options = dict(subject.config.options)
    if "training" in options:
        options["training"] = {**options["training"], "steps": STEPS}
    if "phases" in options:
        options["phases"] = 1
    small = _subject(subject, pairs.framing.crop, options)
    method = build_method(small.config, small.encoder, Compute(compute.device))
    batches = _by_turns(pairs, count)
    began, encoded = time.perf_counter(), 0.0

    def note(progress: Progress) -> None:
        nonlocal encoded
        if progress.task == "encode":
            encoded = time.perf_counter() - began

    def work() -> None:
        with suppress(CollapseError):  # so few steps teach little: it is said when all of them are done
            method.fit(batches, note)

    bytes_ = fresh_growth(work, compute.device)
    if compute.device.type == "cuda":
        torch.cuda.synchronize(compute.device)
    return Row(count, time.perf_counter() - began, encoded, bytes_)


def _by_turns(pairs: Pairs, count: int) -> list[Batch]:
    """Batches of so many pairs in memory."""
    samples = [pairs.sample(item) for item in pairs.items]
    turns = itertools.islice(itertools.cycle(samples), count)
    every = list(turns)
    return [pairs.batch(every[start : start + BATCH]) for start in range(0, count, BATCH)]
