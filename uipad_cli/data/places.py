"""Where files may be written: below the folder that was named, and through no link that leads out of it.

The folder itself may be a link: whoever names it knows. What lies in it may come from a stranger.
"""

from __future__ import annotations

import os
import stat
from io import FileIO
from pathlib import Path

from uipad_cli.errors import ResourceError

LONGEST = 255  # bytes of a name on most disks


def is_plain(name: str) -> bool:
    """Whether a name that came with data is one that a single file can have, and so leads nowhere else."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:  # half a letter
        return False
    one = Path(name).name == name and name not in ("", ".", "..")  # on Windows, C: is none
    return one and size <= LONGEST and not any(mark in name for mark in "/\\\0")


def inside(root: Path, path: Path) -> Path:
    """The path of a file to write, whose folder lies below `root` on the disk, too. Raises ResourceError.

    Its own name may be that of a link: `write_atomically` and `unlink` replace and remove the link itself.
    """
    home, folder = (Path(os.path.realpath(one)) for one in (root, path.parent))  # resolve() raises for loops
    if not folder.is_relative_to(home):
        raise ResourceError(f"{path}: leads to {folder}, outside {root}", "remove the link, or choose another folder")
    return path


def remove(root: Path, path: Path) -> None:
    """Delete a file below `root`, if it is there. Raises ResourceError as `inside`."""
    inside(root, path).unlink(missing_ok=True)


def open_in_place(path: Path) -> FileIO:
    """A file to read and to write at its end, made where it is missing, unbuffered; never what a link leads to.

    Raises ResourceError for a link and for what is no file, OSError.
    """
    if path.is_symlink():
        raise ResourceError(f"{path}: is a link, and nothing is written through it", "remove it")
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    number = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)  # a pipe nobody reads would block
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise ResourceError(f"{path}: not a file", "remove it")
    return FileIO(number, "r+")
