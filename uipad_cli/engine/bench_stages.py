"""Which stage of the work takes what: of time, or of operations. The code that is measured stays as it is.

A stage goes through functions, its seams. While they are measured, a wrapper stands in their place; what is entered
from within counts for the inner stage alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from inspect import isfunction
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from uipad_cli.core.model import PrototypeExtractor
from uipad_cli.engine.bench_clock import Clock
from uipad_cli.methods.base import Method
from uipad_cli.records import Batch

ENCODER, PROTOTYPES, DECODERS, REST = "encoder", "prototypes", "decoders", "score"
MODEL_STAGES = (ENCODER, PROTOTYPES, DECODERS, REST)


@dataclass(frozen=True)
class Seam:
    """A function that a stage goes through: an attribute of a module, of a class or of one object."""

    stage: str
    owner: Any
    name: str


class _Meter:
    """How much a reading grows in each stage, less what it grows in stages that are entered from there."""

    def __init__(self, read: Callable[[], float]) -> None:
        self.read = read
        self.totals: dict[str, float] = defaultdict(float)
        self.inner: list[float] = []

    def through(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, measured."""

        @wraps(function)
        def measured(*given: Any, **named: Any) -> Any:
            began = self.read()
            self.inner.append(0.0)
            try:
                return function(*given, **named)
            finally:
                grown = self.read() - began
                self.totals[stage] += grown - self.inner.pop()
                if self.inner:
                    self.inner[-1] += grown

        return measured


@contextmanager
def metered(seams: Sequence[Seam], read: Callable[[], float]) -> Iterator[Mapping[str, float]]:
    """While entered, how much `read` has grown in each stage so far; one call at a time."""
    meter = _Meter(read)
    before = [(seam, seam.name in vars(seam.owner), getattr(seam.owner, seam.name)) for seam in seams]
    try:
        for seam, _, function in before:
            setattr(seam.owner, seam.name, meter.through(seam.stage, function))
        yield meter.totals
    finally:
        for seam, own, function in reversed(before):
            if own:
                setattr(seam.owner, seam.name, function)
            else:  # it came from the class
                delattr(seam.owner, seam.name)


def model_seams(method: Method) -> list[Seam]:
    """What every method is made of: its encoder, and networks that own an extractor of prototypes."""
    found = _asked(ENCODER, method.encoder)
    for module in method.graph().modules():
        if isinstance(module, PrototypeExtractor):
            found += _asked(PROTOTYPES, module)
        elif any(isinstance(child, PrototypeExtractor) for child in module.children()):
            found += _asked(DECODERS, module)
    return sorted(found, key=lambda seam: MODEL_STAGES.index(seam.stage))


def _asked(stage: str, module: nn.Module) -> list[Seam]:
    """All that a module may be asked for: the public functions of its class."""
    names = [name for name, value in vars(type(module)).items() if isfunction(value) and not name.startswith("_")]
    return [Seam(stage, module, name) for name in names]


def shares(work: Callable[[], object], seams: Sequence[Seam], clock: Clock, rest: str) -> dict[str, float]:
    """Share of each stage in the time of some work, what is in none of them last; they add up to 1.

    To look at the clock takes time, and on CUDA waits for the device: whole times are measured without.
    """
    with metered(seams, clock.read) as totals:
        whole = sum(clock.samples(work, warm_up=0))
    return _with_rest(dict.fromkeys((seam.stage for seam in seams), 0.0) | dict(totals), whole, rest, 1 / whole)


@torch.no_grad()
def operations(method: Method, batch: Batch) -> dict[str, int]:
    """Floating-point operations of the products of a batch by stage; two for each multiply-add, as is the custom."""
    graph, device, seams = method.graph(), method.compute.device, model_seams(method)
    rgb, geometry = batch.rgb.to(device), batch.geometry.to(device)
    counter = FlopCounterMode(display=False)
    plain = sdpa_kernel(SDPBackend.MATH)  # torch 2.10 does not count the fused attention of a CPU
    with plain, counter, metered(seams, lambda: float(counter.get_total_flops())) as totals:
        graph(rgb, geometry)
    stages = dict.fromkeys((seam.stage for seam in seams), 0.0) | dict(totals)
    found = _with_rest(stages, float(counter.get_total_flops()), REST, 1.0)
    return {stage: round(count) for stage, count in found.items()}


def _with_rest(stages: Mapping[str, float], whole: float, rest: str, scale: float) -> dict[str, float]:
    left = max(0.0, whole - sum(stages.values()))
    return {stage: value * scale for stage, value in (*stages.items(), (rest, left))}
