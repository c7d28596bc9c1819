"""Arrays of all parts of a split, of which only those that are looked at lie in memory."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt

from uipad_cli.errors import ResourceError
from uipad_cli.metrics.scratch import ScratchError, ScratchFile

Number = TypeVar("Number", bound=np.generic)


@contextmanager
def told() -> Iterator[None]:
    """Raise ResourceError where temporary files find no room, or cannot be written or read."""
    try:
        yield
    except ScratchError as error:
        cure = "free some space, or let TMPDIR name a folder with more of it"
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            text = f"the disk is full (a temporary file needs {error.size} bytes, and is not finished)"
            raise ResourceError(f"{error.folder}: {text}", cure) from error
        text = f"a temporary file cannot be used: {error.strerror}"
        raise ResourceError(f"{error.folder}: {text}", "let TMPDIR name a folder that is writable") from error


class Images(Sequence[npt.NDArray[Number]], ABC):
    """Arrays [H0,W0] that are made anew whenever they are asked for; shapes: of all of them."""

    shapes: Sequence[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.shapes)

    @overload
    def __getitem__(self, place: int) -> npt.NDArray[Number]: ...
    @overload
    def __getitem__(self, place: slice) -> list[npt.NDArray[Number]]: ...
    def __getitem__(self, place: int | slice) -> npt.NDArray[Number] | list[npt.NDArray[Number]]:
        if isinstance(place, slice):
            return [self._make(one) for one in range(len(self))[place]]
        return self._make(range(len(self))[place])

    @abstractmethod
    def _make(self, place: int) -> npt.NDArray[Number]: ...


class Stored(Images[Number], Generic[Number]):
    """Arrays [H0,W0] of one type in a temporary file, which is gone with this object; bools take a bit each."""

    def __init__(self, kind: type[Number]) -> None:
        self.shapes: list[tuple[int, int]] = []
        self._kind: np.dtype[Any] = np.dtype(kind)
        self._starts: list[int] = []
        with told():
            self._file = ScratchFile()

    def append(self, image: npt.NDArray[Number]) -> None:
        """Store an array [H0,W0]. Raises ResourceError where the disk is full."""
        height, width = image.shape
        values: npt.NDArray[Any] = image
        with told():
            self._starts.append(self._file.append(np.packbits(values) if self._kind == np.bool_ else values))
        self.shapes.append((height, width))

    def _make(self, place: int) -> npt.NDArray[Number]:
        height, width = self.shapes[place]
        start, count = self._starts[place], height * width
        values: npt.NDArray[Any]
        with told():
            if self._kind == np.bool_:
                packed = self._file.read(start, -(-count // 8), np.dtype(np.uint8))
                values = np.unpackbits(packed, count=count).view(np.bool_)
            else:
                values = self._file.read(start, count, self._kind)
        return values.reshape(height, width)
