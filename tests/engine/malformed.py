"""Bad inputs, each with what must become of it: one pair of a small good data set, or the data set itself, is spoiled.

The data set is own/{train,test}/{rgb,xyz}, or depth/ for xyz/, with masks in test/gt/. Unless a case says otherwise, it
is the first pair that is spoiled, which any look at some of the files begins with.
"""

from __future__ import annotations

import base64
import os
import shutil
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import tifffile

SIZE = 64
FOCAL = 80
PAIRS = {"train": (0, 1, 2, 3), "test": (4, 5)}
FIRST, SECOND_TEST = "train/good/0", "test/defect/5"
CAMERA = ("--intrinsics", f"{FOCAL},{FOCAL}")
ROW, COLUMN = np.mgrid[:SIZE, :SIZE]
Array = Any


# ---- the good data set ------------------------------------------------------------------------------------------


def rgb(number: int) -> Array:
    return np.stack([60 + 2 * COLUMN, 40 + 2 * ROW, 200 - COLUMN - ROW + number], axis=-1).astype(np.uint8)


def counts(number: int) -> Array:
    """Millimetres of a block on a plane, some of them missing."""
    noise = np.random.default_rng(number).normal(0, 0.4, (SIZE, SIZE))
    depth = 600 + 0.3 * ROW + noise - 30 * ((abs(ROW - 32) < 12) & (abs(COLUMN - 30) < 10))
    depth[10:13, 20:23] = 0
    return depth.round().astype(np.uint16)


def points(number: int) -> Array:
    z = counts(number) / 1000
    middle = (SIZE - 1) / 2
    return np.stack([z * (COLUMN - middle) / FOCAL, z * (ROW - middle) / FOCAL, z], axis=-1).astype(np.float32)


def mask(number: int) -> Array:
    return (255 * ((abs(ROW - 30) < 4) & (abs(COLUMN - 30) < 4)) * (number == 5)).astype(np.uint8)


@dataclass(frozen=True)
class Own:
    """The data set in a folder; what it offers changes it."""

    root: Path
    base: str

    def path(self, what: str, number: int = 0) -> Path:
        split = next(name for name, numbers in PAIRS.items() if number in numbers)
        folder = self.base if what == "geometry" else what
        suffix = ".tiff" if folder == "xyz" else ".png"
        return self.root / split / folder / f"{number}{suffix}"

    def write(self) -> None:
        for split, numbers in PAIRS.items():
            for number in numbers:
                put(self.path("rgb", number), encoded(".png", rgb(number)))
                shape = tiff(points(number)) if self.base == "xyz" else encoded(".png", counts(number))
                put(self.path("geometry", number), shape)
                if split == "test":
                    put(self.path("gt", number), encoded(".png", mask(number)))

    def replace(self, what: str, data: bytes, suffix: str = "", number: int = 0) -> Path:
        """Another file in the place of one; returns it."""
        old = self.path(what, number)
        old.unlink()
        return put(old.with_suffix(suffix or old.suffix), data)

    def rename(self, stem: str, number: int = 0) -> Path:
        """Another name for both files of a pair; returns the colour image."""
        for what in ("geometry", "rgb"):
            old = self.path(what, number)
            new = old.with_name(f"{stem}{old.suffix}")
            old.rename(new)
        return new

    def all_geometry(self, make: Callable[[int], bytes], suffix: str) -> None:
        for numbers in PAIRS.values():
            for number in numbers:
                self.replace("geometry", make(number), suffix, number)

    def table(self, change: Callable[[list[str]], list[str]] = lambda lines: lines) -> Path:
        """pairs.csv, its lines changed."""
        lines = [f"rgb,{self.base},mask,split,label"]
        for split, numbers in PAIRS.items():
            for number in numbers:
                named = [self.path(what, number).relative_to(self.root).as_posix() for what in ("rgb", "geometry")]
                marked = f"test/gt/{number}.png" if split == "test" else ""
                lines.append(f"{','.join(named)},{marked},{split},{'defect' if number == 5 else 'good'}")
        return put(self.root / "pairs.csv", "".join(f"{line}\n" for line in change(lines)).encode())


# ---- files as bytes ---------------------------------------------------------------------------------------------


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def encoded(suffix: str, array: Array, *settings: int) -> bytes:
    """By cv2; three channels are RGB, four RGBA."""
    if array.ndim == 3:
        array = np.concatenate([array[..., 2::-1], array[..., 3:]], axis=-1)
    return bytes(cv2.imencode(suffix, np.ascontiguousarray(array), list(settings))[1].tobytes())


def tiff(array: Array, **settings: Any) -> bytes:
    buffer = BytesIO()
    named = {"photometric": "minisblack" if array.ndim == 2 else "rgb", **settings}
    tifffile.imwrite(buffer, array, metadata=None, software=False, **named)
    return buffer.getvalue()


def npy(array: Array) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npz(**arrays: Array) -> bytes:
    buffer = BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def npy_header(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    text = repr({"descr": kind, "fortran_order": False, "shape": shape}).ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, place = [], 8
    while place < len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        found.append((kind, data[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


def png(parts: list[tuple[bytes, bytes]]) -> bytes:
    told = [struct.pack(">I", len(body)) + kind + body for kind, body in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(one + struct.pack(">I", zlib.crc32(one[4:])) for one in told)


def resized_png(data: bytes, width: int, height: int) -> bytes:
    """A PNG that declares another size than it has."""
    (kind, head), *rest = chunks(data)
    return png([(kind, struct.pack(">II", width, height) + head[8:]), *rest])


def animated_png(first: Array, second: Array) -> bytes:
    head, *body, end = chunks(encoded(".png", first))
    control = struct.pack(">IIIIIHHBB", 0, SIZE, SIZE, 0, 0, 1, 10, 0, 0)
    other = b"".join(data for kind, data in chunks(encoded(".png", second)) if kind == b"IDAT")
    later = struct.pack(">I", 1) + control[4:]
    frames = [(b"acTL", struct.pack(">II", 2, 0)), (b"fcTL", control), *body, (b"fcTL", later)]
    return png([head, *frames, (b"fdAT", struct.pack(">I", 2) + other), end])


TURNED = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # orientation 6: a quarter turn


def turned_jpeg() -> bytes:
    data, body = encoded(".jpg", rgb(0)), b"Exif\0\0" + TURNED
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def turned_png() -> bytes:
    head, *rest = chunks(encoded(".png", rgb(0)))
    return png([head, (b"eXIf", TURNED), *rest])


def jpeg_of_size(width: int, height: int) -> bytes:
    data = bytearray(encoded(".jpg", rgb(0)))
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    return bytes(data)


def ply(order: str = "binary_little_endian", remark: str = f"width {SIZE} height {SIZE}", **settings: Any) -> bytes:
    """Points of the first pair as a ply file."""
    xyz = settings.get("xyz", points(0)).reshape(-1, 3)
    count = settings.get("count", len(xyz))
    head = ["ply", f"format {order} 1.0", f"comment {remark}", f"element vertex {count}"]
    head += settings.get("properties", [f"property float {axis}" for axis in "xyz"])
    body = {"<": xyz.astype("<f4").tobytes(), ">": xyz.astype(">f4").tobytes()}.get(
        {"binary_little_endian": "<", "binary_big_endian": ">"}.get(order, ""), b""
    ) or "".join(" ".join(repr(float(one)) for one in row) + "\n" for row in xyz).encode()
    return ("\n".join(head) + "\nend_header\n").encode() + body


def pcd(**header: str) -> bytes:
    """Points of the first pair as a pcd file, some lines of its header changed."""
    lines = {"VERSION": "0.7", "FIELDS": "x y z", "SIZE": "4 4 4", "TYPE": "F F F", "COUNT": "1 1 1"}
    lines |= {"WIDTH": str(SIZE), "HEIGHT": str(SIZE), "POINTS": str(SIZE**2), "DATA": "binary"}
    text = "".join(f"{key} {value}\n" for key, value in (lines | header).items())
    return text.encode() + points(0).astype("<f4").tobytes()


def pgm(values: Array, kind: str = ">u2") -> bytes:
    """16 bits, of which the rule says that the high byte comes first."""
    return b"P5\n%d %d\n65535\n" % values.shape[::-1] + values.astype(kind).tobytes()


def exr(width: int, height: int, body: bytes = b"") -> bytes:
    """The header of one float channel, and what follows it."""

    def attribute(name: str, kind: str, value: bytes) -> bytes:
        return name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value

    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    channels = b"Z\0" + struct.pack("<iiii", 2, 0, 1, 1) + b"\0"
    named = [("channels", "chlist", channels), ("compression", "compression", b"\0"), ("dataWindow", "box2i", window)]
    return b"\x76\x2f\x31\x01\x02\0\0\0" + b"".join(attribute(*one) for one in named) + b"\0" + body


def with_tag(data: bytes, code: int, value: int) -> bytes:
    """A tiff of which one tag holds another number."""
    changed = bytearray(data)
    with tifffile.TiffFile(BytesIO(data)) as file:
        tag = file.pages[0].tags[code]
    struct.pack_into("<H" if int(tag.dtype) == 3 else "<I", changed, tag.valueoffset, value)
    return bytes(changed)


def bomb_tiff() -> bytes:
    """A strip that unpacks to a thousand times its place."""
    data = tiff(np.zeros((SIZE, SIZE), np.float32), compression="zlib", photometric="minisblack")
    packed = zlib.compress(bytes(SIZE * SIZE * 4000))
    with tifffile.TiffFile(BytesIO(data)) as file:
        where, size = file.pages[0].tags[273], file.pages[0].tags[279]
    changed = bytearray(data + packed)
    struct.pack_into("<I", changed, where.valueoffset, len(data))
    struct.pack_into("<H" if int(size.dtype) == 3 else "<I", changed, size.valueoffset, len(packed) & 0xFFFF)
    return bytes(changed)


def npz_that_says(size: int | None = None, flag: int = 0) -> bytes:
    """An npz of which the directory declares another size, or an encrypted member."""
    data = bytearray(npz(xyz=points(0)))
    place = data.rindex(b"PK\1\2")
    if size is not None:
        struct.pack_into("<I", data, place + 24, size)
    for start, offset in ((place, 8), (0, 6)):
        struct.pack_into("<H", data, start + offset, struct.unpack_from("<H", data, start + offset)[0] | flag)
    return bytes(data)


def odd_zip() -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("points.txt", "0 0 0\n")
    return buffer.getvalue()


def but(array: Array, where: Any, value: Any) -> Array:
    """A copy of which a part is something else."""
    changed = array.copy()
    changed[where] = value
    return changed


# a flat CMYK picture, 64 x 64
CMYK = base64.b64decode(
    "@CMYK@"
)
