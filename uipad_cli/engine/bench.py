"""How fast, how large and how exact a method is on this machine: everything in one run, so that it can be compared.

Model time, stages, throughput and memory stand in bench_measure.py, the road from files in bench_files.py, what fast
paths give away in bench_accuracy.py, growth in bench_growth.py, the tables in bench_table.py.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from uipad_cli import __version__
from uipad_cli.core.compute import Compute
from uipad_cli.data import files
from uipad_cli.engine.bench_accuracy import Accuracy, Answers, answers, compared, in_company
from uipad_cli.engine.bench_clock import Clock, Machine, Peak, machine, peak
from uipad_cli.engine.bench_files import Road, road
from uipad_cli.engine.bench_growth import Growth, growths
from uipad_cli.engine.bench_measure import Measured, measure, measure_compiled, path, swept
from uipad_cli.engine.bench_stages import operations
from uipad_cli.engine.bench_subject import Request, Subject, Workload, opened
from uipad_cli.engine.record import Checkpoint
from uipad_cli.engine.runtime import choose_compute, has_bf16, precision_name
from uipad_cli.errors import ResourceError, UsageError
from uipad_cli.methods.base import Method
from uipad_cli.records import Progress, Report, silent

NAME = "bench.json"
SIZES = {"cpu": (1, 2, 4, 8), "cuda": (1, 2, 4, 8, 16, 32, 64)}
FULL = "fp32"


@dataclass
class Bench:
    """All that was measured: what of the first method alone, and every method's figures, the first one's first.

    operations: floating-point operations of a pair by stage, of each method; notes: what could not be measured.
    """

    request: Request
    machine: Machine
    subject: str
    backbone: str
    source: str
    pairs: str
    size: int
    peaks: dict[str, Peak] = field(default_factory=dict)
    measured: list[Measured] = field(default_factory=list)
    operations: dict[str, Mapping[str, int]] = field(default_factory=dict)
    road: Road | None = None
    accuracy: list[Accuracy] = field(default_factory=list)
    growth: Sequence[Growth] = ()
    notes: list[str] = field(default_factory=list)

    def of(self, method: str) -> list[Measured]:
        """Figures of a method, plain ones in the order of the precisions."""
        return [one for one in self.measured if one.method == method]

    def total(self, method: str) -> int:
        """Operations of a pair."""
        return sum(self.operations[method].values())

    def share(self, measured: Measured, place: int) -> float:
        """Operations per second at a batch size, as a share of what a square product reaches."""
        return self.total(measured.method) * measured.points[place].rate / self.peaks[measured.precision].rate

    def document(self) -> dict[str, object]:
        """The JSON of `bench`: seconds, bytes, operations."""
        request = self.request
        return {
            "uipad": __version__,
            "machine": {**asdict(self.machine), "busy": self.machine.busy},
            "method": self.subject,
            "backbone": {"name": self.backbone, "source": self.source},
            "pairs": self.pairs,
            "image_size": self.size,
            "run": None if request.run is None else str(request.run),
            "seconds": request.seconds,
            "parts": request.parts,
            "peaks": {name: asdict(one) for name, one in self.peaks.items()},
            "methods": [self._told(one) for one in self.measured],
            "operations": {name: dict(found) for name, found in self.operations.items()},
            "files": None if self.road is None else {**asdict(self.road), "times_model": self.road.times_model},
            "accuracy": [{**asdict(one), "harmless": one.harmless} for one in self.accuracy],
            "growth": [one.document() for one in self.growth],
            "notes": self.notes,
        }

    def _told(self, one: Measured) -> dict[str, object]:
        points = [
            {**asdict(point), "pairs_per_second": point.rate, "share_of_peak": self.share(one, place)}
            for place, point in enumerate(one.points)
        ]
        return {**asdict(one), "points": points, "best_batch": one.best.batch}


def bench(request: Request, *, report: Report = silent) -> Bench:
    """Measure; with `out`, bench.json there holds it all. Raises UsageError, DataError, WeightsError, ResourceError."""
    ways = _ways(request)
    device = ways[0].device
    sizes = _sizes(request, device)
    if request.out is not None:  # an unwritable folder is told before minutes of work
        trial = request.out / f"{NAME}.trial"  # not the file itself, which may hold another run's figures
        files.write_bytes(trial, b"")
        trial.unlink()
    found = machine(device)  # before anything here puts load on it
    with tempfile.TemporaryDirectory(prefix="uipad-bench-") as folder:
        subject, workload, record = opened(request, Path(folder) / "pairs")
        rivals = [subject.rival(name) for name in dict.fromkeys(request.against)]
        config = subject.config
        done = Bench(
            request, found, subject.name, config.backbone, subject.source, workload.source, config.framing.crop
        )
        work = _Work(done, ways, sizes, Clock(device, request.seconds), workload, _counter(report, request, ways))
        work.peaks()
        work.first(subject, record, Path(folder) / "out")
        for rival in rivals:
            work.rival(rival)
        if request.growth:
            work.step("growth")
            done.growth = growths(subject, ways[0], work.clock, report)
    if request.out is not None:
        files.write_json(request.out / NAME, done.document())
    return done


@dataclass(frozen=True)
class _Work:
    """What is measured one after the other, each method built anew for each way and gone after it."""

    done: Bench
    ways: Sequence[Compute]
    sizes: Sequence[int]
    clock: Clock
    workload: Workload
    step: Callable[[str], None]

    def peaks(self) -> None:
        """What the machine could do."""
        self.step("square products")
        for way in self.ways:
            self.done.peaks[precision_name(way)] = peak(way.dtype, self.clock)

    def first(self, subject: Subject, record: Checkpoint | None, out: Path) -> None:
        """The method that it is all about."""
        reference = self._reference(subject, self.sizes)
        for place, way in enumerate(self.ways):
            self.step(f"{subject.name}, {precision_name(way)}")
            method = subject.method(way)
            single = measure(method, self.workload, self.clock, subject.name)
            self.done.measured.append(swept(single, method, self.workload, self.clock, self.sizes))
            self._compare(method, reference, subject.name)
            if place == 0:
                self.step("files to verdict")
                self.done.road = road(subject, method, self.workload, record, self.clock, out)
        if self.done.request.compiled:
            self._compiled(subject, reference)

    def rival(self, subject: Subject) -> None:
        """A method beside it: one pair in every way, and the throughput in the fastest of these."""
        reference = self._reference(subject, ())
        found: list[Measured] = []
        for way in self.ways:
            self.step(f"{subject.name}, {precision_name(way)}")
            method = subject.method(way)
            found.append(measure(method, self.workload, self.clock, subject.name))
            self._compare(method, reference, subject.name)
        fastest = min(range(len(found)), key=lambda place: found[place].single.model.median)
        self.step(f"{subject.name}, batches")
        method = subject.method(self.ways[fastest])
        found[fastest] = swept(found[fastest], method, self.workload, self.clock, self.sizes)
        self.done.measured += found

    def _reference(self, subject: Subject, company: Sequence[int]) -> Answers:
        """What plain float32 says, and whether it says the same in company; its operations are counted besides."""
        self.step(f"{subject.name}, reference")
        method = subject.method(Compute(self.clock.device))
        self.done.operations[subject.name] = operations(method, self.workload.batch(1))
        reference = answers(method, self.workload)
        for size in company:
            if size > 1:
                try:
                    one = in_company(reference, method, self.workload, size, (subject.name, FULL))
                except torch.OutOfMemoryError:
                    break
                self.done.accuracy.append(one)
        return reference

    def _compare(self, method: Method, reference: Answers, name: str, compiled: bool = False) -> None:
        told = precision_name(method.compute)
        if told != FULL or compiled:
            found = answers(method, self.workload)
            self.done.accuracy.append(compared(reference, found, name, path(told, compiled)))

    def _compiled(self, subject: Subject, reference: Answers) -> None:
        """In the fastest precision: one pair, and the batch that most pairs go through in."""
        plain = self.done.of(subject.name)
        fastest = min(range(len(plain)), key=lambda place: plain[place].single.model.median)
        way, best = self.ways[fastest], plain[fastest].best.batch
        self.step(f"{subject.name}, {path(precision_name(way), True)}")
        try:
            method, found = measure_compiled(
                subject.method, way, self.workload, self.clock, (best,), name=subject.name
            )  # fmt: skip
        except (RuntimeError, ResourceError) as error:  # whatever a compiler says that is not there, or cannot
            told = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            self.done.notes.append(f"could not be compiled here: {told}")
            return
        self.done.measured.append(found)
        self._compare(method, reference, subject.name, compiled=True)


def _ways(request: Request) -> list[Compute]:
    """How to compute, the reference of the tables first. Raises UsageError, ResourceError."""
    first = choose_compute(request.device, request.precisions[0] if request.precisions else FULL, "score")
    names = request.precisions or ((FULL, "bf16") if has_bf16(first.device) else (FULL,))
    return list(dict.fromkeys(choose_compute(request.device, name, "score") for name in names))


def _sizes(request: Request, device: torch.device) -> list[int]:
    """Batch sizes, ascending. Raises UsageError; for what else no measurement can be made of, too."""
    if wrong := [size for size in request.batches if size < 1]:
        raise UsageError(f"--batch {wrong[0]} is no number of pairs", "give 1 or more")
    if not 0 < request.seconds < float("inf"):
        raise UsageError(f"--seconds {request.seconds} is no time to measure in", "give some seconds, such as 3")
    if request.parts < 1:
        raise UsageError(f"--parts {request.parts} is no number of good parts", "give 1 or more")
    return sorted(set(request.batches or SIZES[device.type]))


def _counter(report: Report, request: Request, ways: Sequence[Compute]) -> Callable[[str], None]:
    """Tells what is measured next."""
    rivals = len(dict.fromkeys(request.against))
    total = 3 + len(ways) + rivals * (2 + len(ways)) + request.compiled + request.growth
    count = itertools.count(1)

    def step(note: str) -> None:
        report(Progress("bench", next(count), total, note=note))

    return step
