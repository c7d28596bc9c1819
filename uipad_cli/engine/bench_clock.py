"""How long something takes here, and what this machine is: repetitions until the time is up, after a warm-up."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from uipad_cli.metrics.timing import Timing, timing

WARM_UP = 3  # repetitions that do not count; on a CPU as many of them as fit into the time of one measurement
LEAST, MOST = 5, 200  # repetitions that count
BUSY = 0.5  # load per core from which on others disturb
SMALLEST, LARGEST = 256, 8192  # edge of the square matrices
ENOUGH = 0.1  # seconds; a product that takes so long fills the device

Now = Callable[[], float]


@dataclass(frozen=True)
class Clock:
    """Measures for about `seconds` each time, `least` repetitions at least.

    now: seconds that pass by, from anywhere.
    """

    device: torch.device
    seconds: float
    least: int = LEAST
    now: Now = time.perf_counter

    def read(self) -> float:
        """The time when all that was asked of the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self.now()

    def once(self, work: Callable[[], object]) -> float:
        """Seconds of one call."""
        began = self.read()
        work()
        return self.read() - began

    def samples(self, work: Callable[[], object], warm_up: int = WARM_UP) -> list[float]:
        """Seconds of every repetition that counts."""
        began = self.now()
        for _ in range(warm_up):
            self.once(work)
            # on CUDA all of them: a further shape is recorded at its third call (core/graphs.py), which may not count
            if self.device.type != "cuda" and self.now() - began > self.seconds:
                break
        found: list[float] = []
        began = self.now()
        while len(found) < self.least or (len(found) < MOST and self.now() - began < self.seconds):
            found.append(self.once(work))
        return found

    def timed(self, work: Callable[[], object]) -> Timing:
        """Median and spread of `samples`."""
        return timing(self.samples(work))


@dataclass(frozen=True)
class Machine:
    """Where it was measured; load: of the last minute before it began, None where nobody tells."""

    device: str
    name: str
    torch: str
    threads: int
    cores: int
    load: float | None

    @property
    def busy(self) -> bool:
        """Whether something else takes its share of the cores."""
        return self.load is not None and self.load > BUSY * self.cores

    def sentences(self) -> list[str]:
        """For people."""
        told = f"{self.name} ({self.device}), torch {self.torch}, {self.threads} of {self.cores} threads"
        if not self.busy:
            return [told]
        return [
            told,
            f"warning: these figures are worthless: the load was {self.load:.1f} on {self.cores} cores before this "
            "began; measure again when nothing else runs",
        ]


@dataclass(frozen=True)
class Peak:
    """What the device reaches in a product of two square matrices [edge,edge], in operations per second."""

    edge: int
    rate: float
    count: int


def machine(device: torch.device) -> Machine:
    """The machine as it is now."""
    cuda = device.type == "cuda"
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    name = torch.cuda.get_device_name(device) if cuda else _processor()
    return Machine(str(device), name, torch.__version__, torch.get_num_threads(), os.cpu_count() or 1, load)


def peak(dtype: torch.dtype, clock: Clock) -> Peak:
    """The rate of a matrix product in this precision; float32 without TF32, as torch does unless it is told."""
    edge = SMALLEST
    while edge < LARGEST and clock.once(_product(edge, dtype, clock.device)) < ENOUGH:
        edge *= 2
    found = clock.timed(_product(edge, dtype, clock.device))
    return Peak(edge, 2 * edge**3 / found.median, found.count)


def _product(edge: int, dtype: torch.dtype, device: torch.device) -> Callable[[], object]:
    generator = torch.Generator(device).manual_seed(0)
    one, other = (torch.randn(edge, edge, generator=generator, device=device).to(dtype) for _ in range(2))
    one @ other  # the first product of a size chooses its kernel
    return lambda: one @ other


def _processor() -> str:
    """Its name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
