"""What a method holds, and what it needs besides while it judges."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

OF_CUDA = "tensors, by torch's own count"
OF_CPU = "resident memory, by the kernel's own highest mark"
REPETITIONS = 5  # of which the median counts: what was freed may still be held, and what is held may be given back


@dataclass(frozen=True)
class Memory:
    """Bytes: weights, buffers and banks; and what one batch needs besides, None where the system does not tell.

    counted: how the latter was found.
    """

    weights: int
    activations: int | None
    counted: str


def memory(graph: nn.Module, work: Callable[[], object], device: torch.device) -> Memory:
    """Of a network, and of some work with it."""
    counted = OF_CUDA if device.type == "cuda" else OF_CPU
    return Memory(weights(graph), growth(work, device), counted)


def weights(graph: nn.Module) -> int:
    """Bytes of all tensors that a network holds; those that share their memory count once."""
    storages = {}
    for tensor in _held(graph, set()):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def growth(work: Callable[[], object], device: torch.device) -> int | None:
    """Bytes by which memory grows while some work is done, at the highest; None where the system does not tell."""
    work()  # what is made once and kept is no matter here
    found = [fresh_growth(work, device) for _ in range(REPETITIONS)]
    told = sorted(one for one in found if one is not None)
    return told[len(told) // 2] if told else None


def fresh_growth(work: Callable[[], object], device: torch.device) -> int | None:
    """The same of work that is done once."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device)) - before
    with suppress(OSError, AttributeError):  # what was freed goes back to the system, where the C library can do that
        ctypes.CDLL(None).malloc_trim(0)
    mark = _marked()
    work()
    return None if mark is None else max(0, _resident("VmHWM") - mark)


def _marked() -> int | None:
    """Bytes of now, which are the highest mark from now on; None where the kernel does not do that."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return _resident("VmRSS")
    except OSError:
        return None


def _resident(name: str) -> int:
    """Bytes. Raises OSError where the kernel does not tell."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    if found is None:
        raise OSError(f"/proc/self/status: no {name}")
    return 1024 * int(found[1])


def _held(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """Tensors in a module, in what it holds, and in what these hold: banks are no buffers of every method."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        if value.numel():
            yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _held(one, seen)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _held(one, seen)
    elif isinstance(value, nn.Module) or (is_dataclass(value) and not isinstance(value, type)):
        yield from _held(vars(value), seen)
