"""Named columns of numbers, the common ground of the point formats: lines of text or packed rows → one array each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from itertools import chain, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from uipad_cli.data.headers import PIXEL_CAP, damaged
from uipad_cli.data.rasters import ARRAY_CAP, Raster
from uipad_cli.errors import DataError

HEADER_CAP = 64 * 1024  # bytes; no header of text is longer
LINE_CAP = 64 * 1024  # bytes; each number of a line takes ten times its length while it is read
WANTED = frozenset({"x", "y", "z", "rgb", "rgba", "red", "green", "blue"})  # no other column is ever decoded


@dataclass(frozen=True)
class Cloud:
    """Points of one file: `columns` holds those of WANTED, [N] each, as the file types them; `names` all there are.

    grid: height and width where the file is organised. cells: the point of each cell, [H*W], -1 where a cell holds
    none; None where point i lies in cell i.
    """

    columns: Mapping[str, Raster]
    names: tuple[str, ...]
    grid: tuple[int, int] | None = None
    cells: npt.NDArray[np.int64] | None = None


def whole(word: str) -> int:
    """A count as it is written in a header. Raises ValueError."""
    if not 0 < len(word) <= 18 or not word.isdigit():
        raise ValueError(f"{word[:40]!r} where a whole number is expected")
    return int(word)


def check_points(count: int, row: int, path: Path) -> None:
    """Raise DataError where `count` points of `row` bytes are none, or too many to be decoded."""
    if count == 0:
        raise DataError(f"{path}: holds no points", "scan the part again")
    if count > PIXEL_CAP or count * row > ARRAY_CAP:
        raise DataError(
            f"{path}: declares {count} points of {row} bytes, more than the limits of {PIXEL_CAP} points "
            f"and {ARRAY_CAP} bytes",
            "check that the file is not damaged, or thin the points out",
        )


def check_rest(data: bytes, end: int, path: Path) -> None:
    """Raise DataError where anything but blanks and zeros (padding) lies behind the last number."""
    if data[end:].strip(b"\0 \t\r\n"):
        raise damaged(path, f"its header promises less than it holds: {len(data) - end} bytes are left over")


def packed(data: bytes, place: int, stride: int, count: int, dtype: str) -> Raster:
    """`count` numbers of `data`, the first at byte `place`, `stride` bytes apart: [count], a view of the file."""
    return np.ndarray((count,), dtype, data, place, (stride,))


def lines(data: bytes, place: int, path: Path) -> Iterator[bytes]:
    """The lines from byte `place` on, without the blank ones. Raises DataError where one is longer than LINE_CAP."""
    end = place
    while len(data) - end > LINE_CAP:
        end = data.rfind(b"\n", end, end + LINE_CAP) + 1
        if end == 0:
            raise damaged(path, f"a line of it is longer than {LINE_CAP} bytes")
    stream = BytesIO(data)
    stream.seek(place)
    return (line for line in stream if not line.isspace())


def table(text: Iterator[bytes], count: int, width: int, path: Path) -> npt.NDArray[np.float64]:
    """The next `count` lines as numbers, [count,width]; a line with more or fewer is refused. Raises DataError."""
    rows = islice(text, count)
    first = next(rows, None)
    if first is None:
        raise damaged(path, f"it ends before the first of its {count} points")
    try:
        numbers = np.loadtxt(chain([first], rows), np.float64, comments=None, ndmin=2, encoding="latin1")
    except ValueError as error:
        raise damaged(path, str(error).partition(";")[0][:160]) from error  # what follows is advice for programmers
    if numbers.shape[1] != width:
        raise damaged(path, f"{numbers.shape[1]} numbers in a line where its header promises {width}")
    if len(numbers) != count:
        raise damaged(path, f"it ends after {len(numbers)} of its {count} points")
    return numbers


def typed(numbers: npt.NDArray[np.float64], name: str, dtype: str) -> Raster:
    """A column of text as the type its header gives it; a colour that is not a number becomes 0."""
    if name not in ("x", "y", "z"):
        numbers = np.nan_to_num(numbers)
    with np.errstate(over="ignore", invalid="ignore"):
        return numbers.astype(dtype)
