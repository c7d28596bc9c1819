"""The program in a process of its own, killed at a random moment, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import safetensors
import tifffile

Files = dict[str, bytes]  # by path below a folder


def command(*arguments: object, before: str = "") -> list[str]:
    """Command line of the program; `before` is Python that runs first, in the same process."""
    return [
        sys.executable,
        "-c",
        f"{before}\nfrom uipad_cli.cli import main\nraise SystemExit(main())",
        *map(str, arguments),
    ]


def environment(cache: Path) -> dict[str, str]:
    """That of the program: a cache of its own, and threads that do not get into each other's way."""
    return {**os.environ, "UIPAD_CACHE": str(cache), "OMP_NUM_THREADS": "1", "CI": "1"}


def completed(arguments: Sequence[object], cache: Path) -> subprocess.CompletedProcess[str]:
    """Run to the end, which must be a good one."""
    done = subprocess.run(
        command(*arguments), env=environment(cache), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done


def timed(arguments: Sequence[object], cache: Path, out: Path) -> tuple[float, float]:
    """Run to a good end: seconds until its first file lay in `out`, and until it ended."""
    began = time.monotonic()
    process = subprocess.Popen(command(*arguments), env=environment(cache), stderr=subprocess.PIPE, text=True)
    first = 0.0
    while process.poll() is None:
        if not first and out.is_dir() and any(out.iterdir()):
            first = time.monotonic() - began
        time.sleep(0.01)
    assert process.returncode == 0, process.communicate()[1]
    return first, time.monotonic() - began


@dataclass(frozen=True)
class Stopped:
    """A run that a signal has ended: its exit code, seconds from the signal to its end, and what it said."""

    code: int
    seconds: float
    said: str


def stopped_at(
    arguments: Sequence[object], cache: Path, seconds: float, number: int = signal.SIGKILL, before: str = ""
) -> Stopped | None:
    """Start, and signal after so many seconds, children included; None where it had ended before."""
    process = subprocess.Popen(
        command(*arguments, before=before),
        env=environment(cache),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        began = time.monotonic()
        os.killpg(process.pid, number)
        said = process.communicate(timeout=60)[1]
        return Stopped(process.returncode, time.monotonic() - began, said)
    return None


def contents(folder: Path) -> Files:
    """All files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_whole(folder: Path) -> int:
    """Every file below `folder` that has its final name can be read to its end; how many there are."""
    count = 0
    for path in folder.rglob("*"):
        if not path.is_file() or path.name.endswith(".tmp") or path.name == ".uipad-lock":
            continue
        count += 1
        match path.suffix:
            case ".json":
                json.loads(path.read_text())
            case ".safetensors":
                with safetensors.safe_open(path, "pt") as stored:
                    assert all(stored.get_tensor(name) is not None for name in stored.keys())  # noqa: SIM118
            case ".tiff":
                assert tifffile.imread(path).size > 0
            case ".png" | ".jpg":
                assert path.suffix == ".jpg" or path.read_bytes().endswith(b"IEND\xaeB`\x82")
                assert cv2.imread(str(path)) is not None
            case ".csv":
                assert path.read_bytes().endswith(b"\n")
            case ".html":
                assert path.read_bytes().rstrip().endswith(b"</html>")
            case ".jsonl":  # appended to: the last line alone may be cut
                for line in path.read_bytes().split(b"\n")[:-1]:
                    json.loads(line)
    return count


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of so many bytes at `folder`. Raises PermissionError where none may be mounted."""
    folder.mkdir()
    told = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(told, capture_output=True, check=False).returncode:
        raise PermissionError("no file system can be mounted here")
    try:
        yield folder
    finally:
        for _ in range(20):
            if not subprocess.run(["umount", str(folder)], capture_output=True, check=False).returncode:
                break
            time.sleep(0.1)
