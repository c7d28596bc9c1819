"""OUT/verdicts.jsonl: a line for each part that was judged, each on disk before the next part is.

Each has a "key", which tells its part from all others, and the "name" of its files below OUT where it has some.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from uipad_cli.data import files
from uipad_cli.data.places import open_in_place
from uipad_cli.engine.locking import hold, sweep
from uipad_cli.errors import ResourceError

NAME = "verdicts.jsonl"
_CHUNK = 64 * 1024


class VerdictLog:
    """An open log and what it knows. Of each key and name only a hash is kept: years of parts fit into memory."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file = file
        self._known: set[bytes] = set()
        self._names: set[bytes] = set()
        for line in _lines(file):
            self._note(line)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and _hash(key) in self._known

    def __len__(self) -> int:
        return len(self._known)

    def has_files(self, name: str) -> bool:
        """Whether files of this name belong to a line."""
        return _hash(name) in self._names

    def append(self, line: Mapping[str, object]) -> None:
        """Write a line with its "key" and flush it to disk, or leave the file as it was. Raises ResourceError."""
        data = memoryview(f"{json.dumps(line, allow_nan=False)}\n".encode())
        end = self._file.seek(0, os.SEEK_END)
        try:
            while data:  # an unbuffered write may take a part of it
                data = data[self._file.write(data) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(end)
            raise files.unwritable(self.path, len(data), error) from error
        self._note(line)

    def _note(self, line: Mapping[str, object]) -> None:
        self._known.add(_hash(str(line["key"])))
        if isinstance(line.get("name"), str):
            self._names.add(_hash(str(line["name"])))


@contextmanager
def open_log(folder: Path, say: Callable[[str], None]) -> Iterator[VerdictLog]:
    """The log of a folder, made where it is missing, for one process alone; a last line that was cut off is removed.

    Raises ResourceError where it cannot be written, and where another process writes it.
    """
    path = folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open_in_place(path)
    except OSError as error:
        raise files.unwritable(path, 0, error) from error
    with file:
        hold(file.fileno(), path, say)
        sweep(folder, deep=True)
        cut = _mend(file, path)
        if cut:
            say(f"{path}: its last line was cut off by a crash: {cut} bytes removed, that part is judged again")
        yield VerdictLog(path, file)


def _mend(file: BinaryIO, path: Path) -> int:
    """Remove what follows the last whole line; how many bytes that were. Raises ResourceError for another file."""
    size = end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _CHUNK)
        file.seek(start)
        place = file.read(end - start).rfind(b"\n")
        if place >= 0:
            end = start + place + 1
            break
        end = start
    file.seek(0)
    if not end and file.read(1) not in (b"", b"{"):  # not ours: nothing of it is removed
        raise ResourceError(f"{path}: not a log of verdicts", "give this run a folder of its own: --out")
    if end < size:
        file.truncate(end)
        os.fsync(file.fileno())
    return size - end


def _lines(file: BinaryIO) -> Iterator[Mapping[str, object]]:
    """All lines that have a key; a line of something else is passed over."""
    file.seek(0)
    with open(os.dup(file.fileno()), "rb") as lines:  # noqa: PTH123 - buffered, for its many lines
        for text in lines:
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue
            if isinstance(line, dict) and isinstance(line.get("key"), str):
                yield line


def _hash(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=12).digest()
