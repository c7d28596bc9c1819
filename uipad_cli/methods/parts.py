"""Work on a batch that the memory does not take at once: in halves, and in halves of these."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar

from uipad_cli.errors import ResourceError, out_of_memory

Made = TypeVar("Made")

ONE_TOO_MANY = "take a smaller --backbone or --framing crop, or another --device"


def in_parts(work: Callable[[slice], Made], size: int, most: int, shrunk: Callable[[int], None]) -> Iterator[Made]:
    """`work` on slices of 0..size - 1, in their order, of at most `most`; fewer where it runs out of memory.

    shrunk: told how many are tried from then on. Raises ResourceError where one alone is too much.
    """
    start, most = 0, max(1, min(most, size))
    while start < size:
        end = min(start + most, size)
        try:
            made = work(slice(start, end))
        except Exception as fault:
            if not out_of_memory(fault):
                raise
            if end - start == 1:
                raise ResourceError(f"not enough memory for one pair ({_first_line(fault)})", ONE_TOO_MANY) from fault
        else:
            yield made
            start = end
            continue
        most = (end - start + 1) // 2
        _let_go()  # only now: as long as the fault was there, its frames held what they had taken
        shrunk(most)


def _first_line(fault: BaseException) -> str:
    return (str(fault).splitlines() or [type(fault).__name__])[0][:160]


def _let_go() -> None:
    """Give back what torch keeps for later; it knows nothing of it where nothing runs by torch."""
    torch = sys.modules.get("torch")
    if torch is not None:
        with suppress(RuntimeError):
            torch.cuda.empty_cache()
