"""Everything that can go wrong and is not a bug: one family, each kind with its exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

EXIT_BUG = 1
EXIT_ANOMALOUS = 10
EXIT_GATE = 11
EXIT_UNSURE = 12
EXIT_INTERRUPT = 130
EXIT_BROKEN_PIPE = 141
EXIT_TERMINATED = 143


class _Validation(Protocol):
    """What pydantic raises; the command line starts without it."""

    def errors(self) -> list[ErrorDetails]: ...


def out_of_memory(fault: BaseException) -> bool:
    """Whether a failure is for lack of memory: Python's own, that of a device, and torch's of the machine."""
    told = str(fault)
    return (
        isinstance(fault, MemoryError)
        or type(fault).__name__ == "OutOfMemoryError"
        or "not enough memory" in told
        or "can't allocate memory" in told
    )


def first_fault(error: _Validation) -> str:
    """The first thing that a model did not accept, and the key it stands under."""
    fault = error.errors()[0]
    return f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"


class UipadError(Exception):
    """A failure that the user can mend: what happened and where, then how to mend it.

    `message` names the file, pixel or key; `cure` says what to do about it.
    """

    exit_code = EXIT_BUG

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure


class UsageError(UipadError):
    """A wrong option, configuration key or value."""

    exit_code = 2


class DataError(UipadError):
    """An input file or data set that cannot be used."""

    exit_code = 3


class WeightsError(UipadError):
    """Weights or a checkpoint that are missing, wrong or hostile."""

    exit_code = 4


class ResourceError(UipadError):
    """Memory, disk or a device that is not there."""

    exit_code = 5


class PartialError(UipadError):
    """The work finished, but some items failed."""

    exit_code = 6


class StdoutClosed(UipadError):
    """Whoever read stdout has seen enough; nothing is wrong, so nothing is said."""

    exit_code = EXIT_BROKEN_PIPE


class Terminated(BaseException):
    """SIGTERM arrived; like KeyboardInterrupt it passes every handler of failures."""

    exit_code = EXIT_TERMINATED

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure
