"""Arrays that lie on disk for as long as they are needed, so that memory does not grow with them."""

from __future__ import annotations

import os
import tempfile
import weakref
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.generic)


class ScratchError(OSError):
    """A temporary file found no room or could not be written or read; folder: where, size: bytes it needed so far."""

    def __init__(self, error: OSError, folder: Path, size: int) -> None:
        super().__init__(error.errno, error.strerror or str(error), str(folder))
        self.folder = folder
        self.size = size


class ScratchFile:
    """A temporary file without a name, to which arrays are appended; it is gone with this object, and with the process.

    It is written and read, not mapped: mapped pages would count as memory of the process. It lies where `tempfile` puts
    files, TMPDIR if that is set; a folder that lies in memory itself (tmpfs) gains nothing.
    """

    def __init__(self) -> None:
        self.size = 0
        self._folder = Path(os.environ.get("TMPDIR", "/tmp"))
        try:
            self._folder = Path(tempfile.gettempdir())
            # unbuffered: what a full disk did not take is not tried again when the file is closed
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - open as long as this object
        except OSError as error:
            raise ScratchError(error, self._folder, 0) from error
        weakref.finalize(self, self._file.close)

    def append(self, values: NDArray[Any]) -> int:
        """Write the values of an array; where in the file they begin, in bytes. Raises ScratchError."""
        start, data = self.size, np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
        try:
            self._file.seek(start)
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise ScratchError(error, self._folder, start + values.nbytes) from error
        self.size = start + values.nbytes
        return start

    def read(self, start: int, count: int, kind: np.dtype[Number]) -> NDArray[Number]:
        """`count` values that begin at the byte `start`. Raises ScratchError."""
        values = np.empty(count, dtype=kind)
        data = values.view(np.uint8).data
        try:
            self._file.seek(start)
            while data:
                got = self._file.readinto(data)
                if not got:
                    raise OSError(f"the temporary file ends {len(data)} bytes early")
                data = data[got:]
        except OSError as error:
            raise ScratchError(error, self._folder, self.size) from error
        return values
