"""Points with colours and figures → a ply file that CloudCompare, MeshLab, Open3D and our own reader understand."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from uipad_cli.data import files

Floats = npt.NDArray[np.float32]
Colours = npt.NDArray[np.uint8]

_PREFIX = (
    "scalar_"  # CloudCompare takes what has "scal" in its name for a scalar field, and drops this when it shows it
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,40}")
_NORMAL = re.compile(
    r"n[xyz]|norm.*[xyz]$", re.IGNORECASE
)  # what CloudCompare takes for a normal, whatever else it says
_REMARK = 200  # characters


def write_ply(
    path: Path, points: Floats, colours: Colours, scalars: Mapping[str, Floats], comments: Sequence[str] = ()
) -> None:
    """Write points [N,3] float32, their colours [N,3] uint8, and figures [N] float32 by name; equal input, equal bytes.

    Binary, little-endian: x y z, red green blue, scalar_NAME for each figure. Points without coordinates or figures
    are left out by the caller. comments: made ASCII, and one line each. Raises ValueError for no point at all, for
    what is not finite, and for names and shapes that do not fit; ResourceError.
    """
    _check(points, colours, scalars)
    row = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3), *((f"{_PREFIX}{name}", "<f4") for name in scalars)])
    rows = np.empty(len(points), row)
    rows["xyz"], rows["rgb"] = points, colours
    for name, values in scalars.items():
        rows[f"{_PREFIX}{name}"] = values
    head = [
        "ply",
        "format binary_little_endian 1.0",
        *(f"comment {_one_line(comment)}" for comment in comments),
        f"element vertex {len(points)}",
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {colour}" for colour in ("red", "green", "blue")),
        *(f"property float {_PREFIX}{name}" for name in scalars),
        "end_header\n",
    ]
    files.write_bytes(path, "\n".join(head).encode("ascii") + rows.tobytes())


def _check(points: Floats, colours: Colours, scalars: Mapping[str, Floats]) -> None:
    """Raise ValueError for what cannot be written."""
    count = len(points)
    if count == 0:
        raise ValueError("no point to write")
    _check_array("points", points, "float32", (count, 3))
    _check_array("colours", colours, "uint8", (count, 3))
    for name, values in scalars.items():
        if not _NAME.fullmatch(name) or _NORMAL.search(name):
            raise ValueError(f"{name!r} cannot be the name of a figure: ASCII letters, digits and _, no nx, ny, nz")
        _check_array(name, values, "float32", (count,))


def _check_array(name: str, values: npt.NDArray[Any], dtype: str, shape: tuple[int, ...]) -> None:
    if values.dtype != dtype or values.shape != shape:
        raise ValueError(f"{name}: {dtype} {list(shape)} is expected, not {files.describe(values)}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: not finite everywhere")


def _one_line(comment: str) -> str:
    plain = " ".join(comment.split()).encode("ascii", "backslashreplace").decode("ascii")
    return re.sub(r"[^ -~]", "?", plain)[:_REMARK]
