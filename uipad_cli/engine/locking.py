"""One writer to a folder: a second program that would write into it is refused, and what a killed one left is swept."""

from __future__ import annotations

import fnmatch
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from uipad_cli.data import files
from uipad_cli.errors import ResourceError
from uipad_cli.records import Progress, Report

LOCK = ".uipad-lock"  # lies in a folder while it is written, and after a kill; then it holds nobody up
DEEPEST = 4  # folders
TRIES = 100  # to take a lock that others take and let go
STALE = 3600.0  # seconds after which a half-written file is nobody's, whoever wrote it
_WRITER = re.compile(r"\.uipad-(\d+)-")
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True)
class Held:
    """A folder that this process alone writes."""

    folder: Path
    descriptor: int

    def check(self) -> None:
        """Raise ResourceError where the folder was removed meanwhile: what is to come would stand for all of it."""
        if not _lies_at(self.folder / LOCK, self.descriptor):
            told = f"{self.folder}: was removed while it was written, and with it what was done so far"
            raise ResourceError(told, "run the same command again")


@contextmanager
def sole_writer(folder: Path, report: Report, *, deep: bool = False) -> Iterator[Held]:
    """Hold a folder, made where it is missing, for this process alone; half-written files of a killed one are removed.

    deep: sweep below it, too. The lock ends with the process, however that ends; folders that were made for it and
    stayed empty are removed. Raises ResourceError where another process holds it, and where it cannot be written.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    path = folder / LOCK
    try:
        descriptor = _taken(path, lambda text: report(Progress("note", 0, 0, note=text)))
    except OSError as error:
        told = f"{folder}: cannot be written: {error.strerror or error}"
        raise ResourceError(told, "choose a folder that is writable") from error
    try:
        sweep(folder, deep=deep)
        yield Held(folder, descriptor)
    finally:
        if _lies_at(path, descriptor):
            with suppress(OSError):  # before it is let go: whoever takes it then sees that it is no longer there
                path.unlink()
        os.close(descriptor)
        with suppress(OSError):
            for empty in made:
                empty.rmdir()


def hold(descriptor: int, path: Path, say: Callable[[str], None]) -> None:
    """Lock an open file for as long as it is open, also by a process that is killed. Raises ResourceError."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        cure = "wait until it has ended, or give this one another folder"
        raise ResourceError(f"{path}: another uipad writes it", cure) from error
    except OSError as error:  # some network disks have no locks
        say(f"{path}: cannot be locked ({error.strerror or error}): see that no other uipad writes it")


def sweep(folder: Path, *, deep: bool) -> None:
    """Remove what killed writers have left half done; links are not followed, and what is being written stays.

    deep: also in folders below it, as far down as CATEGORY/SPLIT/DEFECT/KIND.
    """
    for here, below, names in os.walk(folder):
        if not deep or len(Path(here).relative_to(folder).parts) >= DEEPEST:
            below.clear()
        for name in fnmatch.filter(names, files.TEMPORARY):
            left = Path(here) / name
            with suppress(OSError):
                if _nobodys(left):
                    left.unlink()


def _nobodys(left: Path) -> bool:
    """Whether the process that wrote a temporary file has ended, as far as its name and its age tell."""
    if time.time() - left.stat().st_mtime > STALE:
        return True
    writer = _WRITER.match(left.name)
    if writer is None or os.name == "nt":  # where asking for a process would end it
        return writer is None
    number = int(writer[1])  # this process's own: of one before it, in a container every start has the same number
    return number == os.getpid() or _has_ended(number)


def _has_ended(number: int) -> bool:
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # of another user
        return False
    try:  # a worker whose parent was killed, too, is counted until somebody asks for it: in a container nobody may
        return Path(f"/proc/{number}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except (OSError, IndexError):  # no such files on this system, or it has ended just now
        return False


def _taken(path: Path, say: Callable[[str], None]) -> int:
    """Descriptor of the lock, held. Raises ResourceError, OSError."""
    for tries in range(TRIES):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = _opened(path)
        except (FileNotFoundError, FileExistsError):  # another process has let go of it, and removed its empty folder
            if tries == TRIES - 1:
                raise
            time.sleep(0.01)
            continue
        try:
            hold(descriptor, path.parent, say)
        except BaseException:
            os.close(descriptor)
            raise
        if _lies_at(path, descriptor) or tries == TRIES - 1:
            return descriptor
        os.close(descriptor)  # what was locked is no longer what lies there
    raise AssertionError("the last try has ended")


def _opened(path: Path) -> int:
    """The lock, made where it is missing; that of another user, left by a kill, can be held without being written."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o666)
    except PermissionError:
        return os.open(path, os.O_RDONLY | _FLAGS)


def _lies_at(path: Path, descriptor: int) -> bool:
    """Whether the file of this name is the open one."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))  # noqa: PTH116 - beside that of a descriptor
    except OSError:
        return False
