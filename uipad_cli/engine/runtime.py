"""Device, precision, seed of the machine at hand, and signals that ask for an orderly end."""

from __future__ import annotations

import atexit
import math
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Literal

from uipad_cli.errors import EXIT_INTERRUPT, EXIT_TERMINATED, ResourceError, Terminated, UsageError

if TYPE_CHECKING:  # an exported model judges where torch is not installed
    import torch

    from uipad_cli.core.compute import Compute

Purpose = Literal["train", "score"]
GRACE, LONG_GRACE = 1.5, 8.0  # seconds from a signal to the end: services are killed after ten
_ENDS: dict[int, tuple[float, int]] = {
    signal.SIGINT: (GRACE, EXIT_INTERRUPT),
    signal.SIGTERM: (LONG_GRACE, EXIT_TERMINATED),
}
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # the program's name → torch's


def choose_compute(device: str, precision: str, purpose: Purpose, *, compiled: bool = False) -> Compute:
    """Where to compute and how precisely.

    `auto` takes CUDA where there is one; it trains in bf16 where the hardware multiplies it natively, and scores in
    float32, so that a score and its threshold mean the same on every device and in every batch.
    compiled: score with a compiled network. Raises UsageError for an unknown name, ResourceError for a device that is
    not there.
    """
    import torch

    from uipad_cli.core.compute import Compute

    chosen = _device(device)
    if precision == "auto":
        fast = purpose == "train" and has_bf16(chosen)
        return Compute(chosen, torch.bfloat16 if fast else torch.float32, compiled)
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}", f"choose one of: auto, {', '.join(PRECISIONS)}")
    return Compute(chosen, getattr(torch, PRECISIONS[precision]), compiled)


def precision_name(compute: Compute) -> str:
    """Name of the precision that `compute` uses."""
    return next(name for name, told in PRECISIONS.items() if str(compute.dtype) == f"torch.{told}")


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 natively."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, check, lambda: False)() for check in checks)


def _device(name: str) -> torch.device:
    import torch

    # read when cuBLAS starts: 8 MiB of work space instead of the 32 of large GPUs, and always the same sums
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:2:16:8")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"unknown device {name!r}", "choose one of: auto, cpu, cuda, cuda:1")
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise ResourceError(f"device {name} is not there: {count} CUDA device(s) found", "use --device auto")
    return device


def bound_the_end(last_words: Callable[[int], None]) -> None:
    """From now on Ctrl-C ends this process within GRACE seconds, SIGTERM within LONG_GRACE, whatever it is doing.

    Until then it may save and tidy up; after that `last_words` hears the exit code, and the process is gone, as by a
    kill: what it has written is whole, and the same command goes on. For the main thread of the program.
    """
    if os.name == "nt":  # where pipes cannot be waited for
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)  # heard even while a library holds the main thread

    def wait() -> None:
        end, code = math.inf, 0
        while (left := end - time.monotonic()) > 0:
            heard, _, _ = select.select([reader], [], [], None if math.isinf(left) else left)
            number = os.read(reader, 1)[0] if heard else 0
            if number in _ENDS and time.monotonic() + _ENDS[number][0] < end:  # Ctrl-C is sooner than SIGTERM
                end, code = time.monotonic() + _ENDS[number][0], _ENDS[number][1]
        last_words(code)
        os._exit(code)

    threading.Thread(target=wait, daemon=True).start()


def run_program(run: Callable[[list[str]], int], last_words: Callable[[int], None]) -> int:
    """Run the program on its own command line and end with the exit code of `run`, as soon as asked to and at once.

    Python would take all modules apart before it ends: with torch that is a second, in which it obeys no signal.
    """
    codes = [EXIT_INTERRUPT]  # of what comes before or after `run`
    atexit.register(_vanish, codes)  # the first to register is the last to run
    bound_the_end(last_words)
    codes[0] = run(sys.argv[1:])
    return codes[0]


def _vanish(codes: list[int]) -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # no stream, a full disk, closed
            codes[0] = codes[0] or ResourceError.exit_code
    os._exit(codes[0])


class StopRequest:
    """While entered, SIGTERM and Ctrl-C only leave a wish; `obey` ends the work at a point where nothing is lost.

    A second signal ends the program at once.
    """

    def __init__(self) -> None:
        self.wished: int | None = None

    def __enter__(self) -> StopRequest:
        self._before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        for number in self._before:
            signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def obey(self) -> None:
        """Raise Terminated or KeyboardInterrupt if a signal has come."""
        if self.wished == signal.SIGTERM:
            raise Terminated("terminated", "the same command goes on from the last saved step")
        if self.wished == signal.SIGINT:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.wished is not None:
            os._exit(EXIT_TERMINATED if number == signal.SIGTERM else EXIT_INTERRUPT)
        self.wished = number
