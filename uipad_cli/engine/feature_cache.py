"""Features of good parts on disk, from one run to the next: by content, bounded, and never in the way.

Where they lie: $UIPAD_CACHE, else $XDG_CACHE_HOME/uipad, else ~/.cache/uipad; at most $UIPAD_CACHE_GB gigabytes, 20
unless told. What was not used for longest goes first; what a run cannot keep there, it keeps in memory.
"""

from __future__ import annotations

import math
import os
import shutil
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np

from uipad_cli.data import files
from uipad_cli.errors import ResourceError, UsageError
from uipad_cli.methods.base import Floats, Kept
from uipad_cli.records import Progress, Report

FOLDER, LIMIT = "UIPAD_CACHE", "UIPAD_CACHE_GB"
USUAL_LIMIT = 20.0  # gigabytes
SPARED = 2e9  # bytes of a disk that others may need
CHECK = 4  # bytes behind the array of a file: a checksum of all that stands before them
STALE = 3600.0  # seconds after which a half-written file is nobody's
GONE = "run the same command again, with --no-cache where others need the cache's room"
_TROUBLE = (  # all that a damaged or made-up file has been seen to raise
    OSError, ValueError, EOFError, TypeError, SyntaxError, TokenError, RecursionError, MemoryError, OverflowError,
)  # fmt: skip


@dataclass(frozen=True)
class OnDisk:
    """Features [looks,...] of a part in a file, read look by look; nothing stays open, for there may be thousands."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, look: int) -> Floats:
        """[...] of one look. Raises ResourceError where another program has removed it."""
        count = math.prod(self.shape[1:])
        try:
            found = np.fromfile(self.path, self.dtype, count, offset=self.offset + self.dtype.itemsize * count * look)
        except OSError as error:
            raise ResourceError(f"{self.path}: {error.strerror or error}", GONE) from error
        if found.size != count:
            raise ResourceError(f"{self.path}: the file was cut short", GONE)
        return found.reshape(self.shape[1:])


class FeatureCache:
    """A `Shelf` (methods/base.py) of files in one folder; several programs may use it at a time.

    held: bytes there, of at most `limit`.
    """

    def __init__(self, folder: Path, limit: float, report: Report) -> None:
        self.folder, self.limit, self.report = folder, limit, report
        self._own: set[str] = set()  # of this run, never removed by it
        self._full = False
        for left in folder.glob(files.TEMPORARY):  # of a killed program
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > STALE:
                    left.unlink()
        self.held = sum(size for _, size, _ in self._files())

    def find(self, key: str) -> OnDisk | None:
        """As `Shelf.find`; a damaged file is as good as none."""
        path = self.folder / f"{key}.npy"
        try:
            found = _whole(path, key)
        except _TROUBLE:
            return None
        with suppress(OSError):  # a cache that is only read
            os.utime(path)  # the oldest use goes first
        self._own.add(path.name)
        return found

    def keep(self, key: str, features: Floats) -> Kept:
        """As `Shelf.keep`; told once where there is no room."""
        if self._full or not self._make_room(features.nbytes):
            return features
        path = self.folder / f"{key}.npy"

        def write(temporary: Path) -> None:
            with temporary.open("w+b") as stream:
                np.lib.format.write_array(stream, features, (1, 0), False)
                size = stream.tell()
                stream.seek(0)
                stream.write(_checksum(stream, size, key))

        before = path.stat().st_size if path.is_file() else 0  # of a damaged one
        try:
            files.write_atomically(path, write, features.nbytes)
        except ResourceError as error:
            self._give_up(error.message)
            return features
        self.held += features.nbytes - before
        kept = self.find(key)
        return features if kept is None else kept

    def _make_room(self, wanted: int) -> bool:
        """Remove what was not used for longest, as far as needed; False, and told, where that does not help."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            self._give_up(f"{self.folder}: {error.strerror or error}")
            return False
        if free < wanted + SPARED:
            self._give_up(f"{self.folder}: less than {SPARED / 1e9:.0f} GB of the disk are free")
            return False
        if self.held + wanted > self.limit:
            self._remove(self.held + wanted - self.limit)
        if self.held + wanted > self.limit:
            self._give_up(f"{self.folder}: this run's features alone need more than {self.limit / 1e9:g} GB ({LIMIT})")
            return False
        return True

    def _remove(self, wanted: float) -> None:
        for _, size, path in sorted(self._files()):
            if wanted <= 0:
                return
            if path.name not in self._own:
                path.unlink(missing_ok=True)
                self.held -= size
                wanted -= size

    def _files(self) -> list[tuple[float, int, Path]]:
        """When each was last used, and its size."""
        found = []
        for path in self.folder.glob("*.npy"):
            try:
                status = path.stat()
            except OSError:  # another program has removed it
                continue
            found.append((status.st_mtime, status.st_size, path))
        return found

    def _give_up(self, why: str) -> None:
        self._full = True
        told = f"note: no more features are kept on disk, the rest stays in memory: {why}"
        self.report(Progress("note", 0, 0, note=told))


def _whole(path: Path, key: str) -> OnDisk:
    """A file as `keep` has written it, read once from end to end. Raises one of _TROUBLE where it is any other."""
    if not path.is_file():
        raise ValueError("missing")
    with path.open("rb") as stream:
        size = path.stat().st_size - CHECK
        if size < 0 or _checksum(stream, size, key) != stream.read():
            raise ValueError("damaged, or of an earlier uipad")
        stream.seek(0)
        version = np.lib.format.read_magic(stream)
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(stream)
        offset = stream.tell()
    plain = version == (1, 0) and dtype in (np.float16, np.float32) and not by_column
    if not plain or len(shape) < 2 or min(shape) < 1 or offset + math.prod(shape) * dtype.itemsize != size:
        raise ValueError("not what is kept here")
    return OnDisk(path, offset, shape, dtype)


def _checksum(stream: BinaryIO, size: int, key: str) -> bytes:
    """Of the next `size` bytes, which it reads, and of the key that they are kept by; what stands behind them."""
    told = zlib.crc32(key.encode())
    while size > 0 and (block := stream.read(min(size, 1 << 20))):
        told = zlib.crc32(block, told)
        size -= len(block)
    return told.to_bytes(CHECK, "little")


def open_cache(report: Report) -> FeatureCache:
    """The cache of this user, as the environment says. Raises UsageError for a bound that is no number."""
    told = os.environ.get(LIMIT, "")
    try:
        limit = float(told) if told else USUAL_LIMIT
    except ValueError:
        limit = -1.0
    if not 0 <= limit < 1e6:
        raise UsageError(f"{LIMIT}={told} is not a number of gigabytes", "such as 20; train --no-cache keeps nothing")
    return FeatureCache(cache_folder(), limit * 1e9, report)


def cache_folder() -> Path:
    """Where features lie."""
    if own := os.environ.get(FOLDER):
        return Path(own) / "features"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uipad" / "features"
