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
from encoded import png_chunks, png_of

SIZE = 64
FOCAL = 80
PAIRS = {"train": (0, 1, 2, 3), "test": (4, 5)}
FIRST, SECOND_TEST = "train/good/0", "test/defect/5"
CAMERA = ("--intrinsics", f"{FOCAL},{FOCAL}")
NO_PLANE = ("--plane", "none")
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


def resized_png(data: bytes, width: int, height: int) -> bytes:
    """A PNG that declares another size than it has."""
    (kind, head), *rest = png_chunks(data)
    return png_of([(kind, struct.pack(">II", width, height) + head[8:]), *rest])


def animated_png(first: Array, second: Array) -> bytes:
    head, *body, end = png_chunks(encoded(".png", first))
    control = struct.pack(">IIIIIHHBB", 0, SIZE, SIZE, 0, 0, 1, 10, 0, 0)
    other = b"".join(data for kind, data in png_chunks(encoded(".png", second)) if kind == b"IDAT")
    later = struct.pack(">I", 1) + control[4:]
    frames = [(b"acTL", struct.pack(">II", 2, 0)), (b"fcTL", control), *body, (b"fcTL", later)]
    return png_of([head, *frames, (b"fdAT", struct.pack(">I", 2) + other), end])


TURNED = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # orientation 6: a quarter turn


def turned_jpeg() -> bytes:
    data, body = encoded(".jpg", rgb(0)), b"Exif\0\0" + TURNED
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def turned_png() -> bytes:
    head, *rest = png_chunks(encoded(".png", rgb(0)))
    return png_of([head, (b"eXIf", TURNED), *rest])


def jpeg_of_size(width: int, height: int) -> bytes:
    data = bytearray(encoded(".jpg", rgb(0)))
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    return bytes(data)


def sized_bmp(array: Array, width: int, height: int) -> bytes:
    """A BMP that declares another size than it has; below zero, its first line is on top."""
    data = encoded(".bmp", array)
    return data[:18] + struct.pack("<ii", width, height) + data[26:]


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
    "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwAbEhQXFBEbFxYXHhwbIChCKyglJShROj0wQmBVZWRfVV1baniZgWpxkHNbXYW1hpCeo6utq2eAvMm6"
    "pseZqKuk/8AAFAgAQABABEMRAE0RAFkRAEsRAP/EABgAAQADAQAAAAAAAAAAAAAAAAADBAUG/8QAFBABAAAAAAAAAAAAAAAAAAAAAP/aAA4E"
    "QwBNAFkASwAAPwDaW0DoAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAH//Z"
)


# ---- cases ------------------------------------------------------------------------------------------------------

Spoil = Callable[[Own], Path | None]  # returns the file that must be named


@dataclass(frozen=True)
class Case:
    """One bad input.

    verdict: fine (exit 0), left out (exit 6, all other pairs as ever), refused (exit 3 unless `code` says otherwise).
    colour, height: how the pair compares with the unspoiled one where it is fine; pair: its name, becomes: its new one.
    options: those of the command; a plane takes time, and few need one. tells: what must be said, beside the name of
    the file. foreign: a library words the message.
    """

    name: str
    verdict: Literal["fine", "left out", "refused"]
    spoil: Spoil
    base: Literal["xyz", "depth"] = "xyz"
    tells: str = ""
    colour: Literal["same", "near", "grey", "other"] = "same"
    height: Literal["same", "near"] = "same"
    pair: str = FIRST
    becomes: str = ""
    options: tuple[str, ...] = (*CAMERA, *NO_PLANE)
    code: int = 0
    foreign: bool = False

    @property
    def exit_code(self) -> int:
        return self.code or {"fine": 0, "left out": 6, "refused": 3}[self.verdict]


def colour(data: Callable[[], bytes], suffix: str = "") -> Spoil:
    return lambda own: own.replace("rgb", data(), suffix)


def geometry(data: Callable[[], bytes], suffix: str = "") -> Spoil:
    return lambda own: own.replace("geometry", data(), suffix)


def depth(name: str, verdict: Any, data: Callable[[], bytes], suffix: str = "", **more: Any) -> Case:
    return Case(name, verdict, geometry(data, suffix), "depth", **more)


def gt(name: str, verdict: Any, data: Callable[[], bytes], suffix: str = "", **more: Any) -> Case:
    return Case(name, verdict, lambda own: own.replace("gt", data(), suffix, 5), pair=SECOND_TEST, **more)


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    """One byte in the middle is another one."""
    place = len(data) // 2
    return data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :]


ALPHA = np.where(COLUMN < 32, 0, 255).astype(np.uint8)[..., None]
HOLE = np.s_[20:24, 40:44]
DAMAGED, CUT = "the file is damaged", "is cut short"

COLOUR = [
    Case("a jpg", "fine", colour(lambda: encoded(".jpg", rgb(0)), ".jpg"), colour="near"),
    Case("a progressive jpg", "fine", colour(lambda: encoded(".jpg", rgb(0), 2, 1), ".jpg"), colour="near"),
    Case("jpg with an orientation tag: not turned", "fine", colour(turned_jpeg, ".jpg"), colour="near"),
    Case("png with an orientation tag: not turned", "fine", colour(turned_png)),
    Case("tif with an orientation tag: not turned", "fine",
         colour(lambda: tiff(rgb(0), extratags=[(274, 3, 1, 6, True)]), ".tif")),
    Case("a CMYK jpg", "fine", colour(lambda: CMYK, ".jpg"), colour="other"),
    Case("a png called jpg", "fine", colour(lambda: encoded(".png", rgb(0)), ".jpg")),
    Case("a jpg called png", "fine", colour(lambda: encoded(".jpg", rgb(0))), colour="near"),
    Case("suffix in capitals", "fine", colour(lambda: encoded(".png", rgb(0)), ".PNG")),
    Case("grey, 8 bits: taken three times", "fine", colour(lambda: encoded(".png", rgb(0)[..., 0])), colour="grey"),
    Case("colour of 16 bits", "fine", colour(lambda: encoded(".png", rgb(0).astype(np.uint16) * 257))),
    Case("png with alpha, half of it transparent", "fine",
         colour(lambda: encoded(".png", np.concatenate([rgb(0), ALPHA], axis=2)))),
    Case("tif with alpha, half of it transparent", "fine",
         colour(lambda: tiff(np.concatenate([rgb(0), ALPHA], axis=2), extrasamples=["unassalpha"]), ".tif")),
    Case("planar tif", "fine",
         colour(lambda: tiff(np.moveaxis(rgb(0), 2, 0), planarconfig="separate"), ".tif")),
    Case("big-endian tif of 16 bits", "fine",
         colour(lambda: tiff(rgb(0).astype(np.uint16) * 257, byteorder=">"), ".tif")),
    Case("tif of two pages: the first", "fine", colour(lambda: tiff(np.stack([rgb(0), 255 - rgb(0)])), ".tif")),
    Case("animated png: the first picture", "fine", colour(lambda: animated_png(rgb(0), 255 - rgb(0)))),
    Case("ppm that counts to 1023", "fine",
         colour(lambda: b"P6\n64 64\n1023\n" + (rgb(0) * 1023.0 / 255).round().astype(">u2").tobytes(), ".ppm")),
    Case("ppm in numbers to read", "fine",
         colour(lambda: b"P3 # by hand\n64 64\n255\n" + b" ".join(b"%d" % one for one in rgb(0).ravel()), ".ppm")),
    Case("bmp with its first line on top", "fine",
         colour(lambda: sized_bmp(rgb(0)[::-1], SIZE, -SIZE), ".bmp")),
    Case("png cut in the middle", "left out", colour(lambda: half(encoded(".png", rgb(0)))), tells=CUT),
    Case("jpg cut in the middle", "left out", colour(lambda: half(encoded(".jpg", rgb(0))), ".jpg"), tells=CUT),
    Case("bmp cut in the middle", "left out", colour(lambda: half(encoded(".bmp", rgb(0))), ".bmp"), tells=DAMAGED),
    Case("ppm cut in the middle", "left out", colour(lambda: half(encoded(".ppm", rgb(0))), ".ppm"), tells=DAMAGED),
    Case("tif cut in the middle", "left out", colour(lambda: half(tiff(rgb(0))), ".tif"), tells=DAMAGED),
    Case("png without its last byte", "left out", colour(lambda: encoded(".png", rgb(0))[:-1]), tells=CUT),
    Case("png with one wrong byte", "left out", colour(lambda: flipped(encoded(".png", rgb(0)))), tells="checksum"),
    Case("png of half of its lines", "left out",
         colour(lambda: resized_png(encoded(".png", rgb(0)), SIZE, 2 * SIZE)), tells=DAMAGED),
    Case("colour of zero bytes", "left out", colour(lambda: b""), tells="is empty"),
    Case("colour of zeros", "left out", colour(lambda: bytes(5000)), tells="not an image"),
    Case("an error page called png", "left out", colour(lambda: b"<!DOCTYPE html><p>404"), tells="not an image"),
    Case("a gif called png", "left out", colour(lambda: b"GIF89a" + bytes(60)), tells="not an image"),
    Case("a webp called png", "left out", colour(lambda: b"RIFF<\0\0\0WEBPVP8 " + bytes(52)), tells="not an image"),
    Case("png that declares 60000 x 60000", "left out",
         colour(lambda: resized_png(encoded(".png", rgb(0)), 60000, 60000)), tells="more than the limit"),
    Case("jpg that declares 65535 x 65535", "left out", colour(lambda: jpeg_of_size(65535, 65535), ".jpg"),
         tells="more than the limit"),
    Case("ppm that declares 90000 x 90000", "left out", colour(lambda: b"P6\n90000 90000\n255\n" + bytes(99), ".ppm"),
         tells="more than the limit"),
    Case("bmp that declares 60000 x 60000", "left out",
         colour(lambda: sized_bmp(rgb(0), 60000, 60000), ".bmp"), tells="more than the limit"),
    Case("tif that declares 60000 x 60000", "left out",
         colour(lambda: with_tag(with_tag(tiff(rgb(0)), 256, 60000), 257, 60000), ".tif"), tells="more than the limit"),
    Case("tif of five channels", "left out",
         colour(lambda: tiff(np.concatenate([rgb(0), rgb(0)[..., :2]], axis=2)), ".tif"), tells=DAMAGED),
    Case("one channel of 16 bits for colour", "left out", colour(lambda: encoded(".png", counts(0))),
         tells="looks like depth"),
    Case("points for colour", "left out", colour(lambda: tiff(points(0)), ".tiff"), tells="looks like geometry"),
    Case("npy called png", "left out", colour(lambda: npy(rgb(0))), tells="looks like geometry"),
    Case("ply without colours", "left out", colour(ply), tells="without colours"),
    Case("colour of another size", "left out", colour(lambda: encoded(".png", rgb(0)[:, :60])), tells="sizes differ"),
    Case("colour of one pixel", "left out", colour(lambda: encoded(".png", rgb(0)[:1, :1])), tells="sizes differ"),
    Case("a file of 600 MB", "left out", lambda own: large(own.path("rgb")), tells="more than the limit"),
]  # fmt: skip


def large(path: Path) -> Path:
    with path.open("r+b") as file:
        file.truncate(600 * 1024 * 1024)  # sparse: it takes no room
    return path


def half_in_millimetres(own: Own) -> None:
    for number in (0, 1, 4):
        own.replace("geometry", tiff(1000 * points(number)), number=number)


POINTS = [
    Case("big-endian tiff", "fine", geometry(lambda: tiff(points(0), byteorder=">")), options=CAMERA),
    Case("planar tiff", "fine", geometry(lambda: tiff(np.moveaxis(points(0), 2, 0), planarconfig="separate"))),
    Case("tiff with an orientation tag: not turned", "fine",
         geometry(lambda: tiff(points(0), extratags=[(274, 3, 1, 6, True)]))),
    Case("doubles", "fine", geometry(lambda: npy(points(0).astype(np.float64)), ".npy")),
    Case("big-endian npy, column by column", "fine",
         geometry(lambda: npy(np.asfortranarray(points(0).astype(">f4"))), ".npy")),
    Case("npz", "fine", geometry(lambda: npz(xyz=points(0)), ".npz")),
    Case("npy called tiff", "fine", geometry(lambda: npy(points(0)))),
    Case("organised ply", "fine", geometry(ply, ".ply")),
    Case("big-endian ply", "fine", geometry(lambda: ply("binary_big_endian"), ".ply")),
    Case("ply in numbers to read", "fine", geometry(lambda: ply("ascii"), ".ply")),
    Case("organised pcd", "fine", geometry(pcd, ".pcd")),
    Case("NaN in one coordinate of some points", "fine",
         geometry(lambda: tiff(but(points(0), (*HOLE, 1), np.nan))), height="near", options=CAMERA),
    Case("infinity in some points", "fine", geometry(lambda: tiff(but(points(0), HOLE, np.inf))), height="near"),
    Case("some points behind the sensor", "fine",
         geometry(lambda: tiff(but(points(0), (*HOLE, 2), -0.6))), height="near"),
    Case("tiff cut in the middle", "left out", geometry(lambda: half(tiff(points(0)))), tells=DAMAGED, foreign=True),
    Case("tiff of which the last byte is missing", "left out", geometry(lambda: tiff(points(0))[:-1]),
         tells=DAMAGED, foreign=True),
    Case("tiff of zero bytes", "left out", geometry(lambda: b""), tells="is empty"),
    Case("text called tiff", "left out", geometry(lambda: b"x y z\n0 0 0\n"), tells="not an image"),
    Case("tiff of two channels", "left out",
         geometry(lambda: tiff(points(0)[..., :2], planarconfig="contig", photometric="minisblack")),
         tells="2 channels"),
    Case("tiff of four channels", "left out",
         geometry(lambda: tiff(np.concatenate([points(0), points(0)[..., :1]], axis=2))), tells="4 channels"),
    Case("tiff of one channel", "left out", geometry(lambda: tiff(points(0)[..., 2])), tells="float32 [64,64]"),
    Case("tiff of whole numbers", "left out", geometry(lambda: tiff((1000 * points(0)).astype(np.int16))),
         tells="int16 [64,64,3]"),
    Case("colour tiff for points", "left out", geometry(lambda: tiff(rgb(0))), tells="uint8 [64,64,3]"),
    Case("colour png for points", "left out", geometry(lambda: encoded(".png", rgb(0)), ".png"), tells="8-bit colour"),
    Case("jpg for points", "left out", geometry(lambda: encoded(".jpg", rgb(0))), tells="8-bit colour jpeg"),
    Case("tiff that declares 60000 x 60000 points", "left out",
         geometry(lambda: with_tag(with_tag(tiff(points(0)), 256, 60000), 257, 60000)), tells="more than the limit"),
    Case("tiff that declares more lines than it holds", "left out",
         geometry(lambda: with_tag(tiff(points(0)), 257, 4 * SIZE)), tells=DAMAGED, foreign=True),
    Case("tiff that unpacks to a thousand times its size", "left out", geometry(bomb_tiff), tells="unpacks to more"),
    Case("all zero", "left out", geometry(lambda: tiff(0 * points(0))), tells="every point is missing"),
    Case("all NaN", "left out", geometry(lambda: tiff(np.nan * points(0))), tells="every point is missing"),
    Case("all infinite", "left out", geometry(lambda: tiff(np.full_like(points(0), np.inf))),
         tells="every point is missing"),
    Case("all behind the sensor", "left out", geometry(lambda: tiff(-points(0))), tells="every point is missing"),
    Case("one point at 1e30", "left out", geometry(lambda: tiff(but(points(0), (32, 32, 2), 1e30))),
         tells="0.tiff: a point 1e+30 m away", options=CAMERA),
    Case("millimetres among metres", "left out", geometry(lambda: tiff(1000 * points(0))), tells="another unit",
         options=CAMERA),
    Case("half of them in millimetres", "refused", half_in_millimetres, tells="in one unit?"),
    Case("a tenth of the points behind the sensor", "refused",
         geometry(lambda: tiff(but(points(0), np.s_[:6], -points(0)[:6]))), tells="below zero"),
    Case("micrometres among metres", "left out", geometry(lambda: tiff(1e6 * points(0))), tells="another unit"),
    Case("bytes of every number swapped", "left out", geometry(lambda: tiff(points(0).byteswap())),
         tells="own/train/xyz/0.tiff"),
    Case("background cut out", "left out",
         geometry(lambda: tiff(points(0) * (points(0)[..., 2:] < 0.59))), tells="along the image border",
         options=CAMERA),
    Case("noise without a surface", "left out",
         geometry(lambda: tiff(np.random.default_rng(0).random((SIZE, SIZE, 3)).astype(np.float32))),
         tells="the image border is not a plane", foreign=True, options=CAMERA),
    Case("points of another size", "left out", geometry(lambda: tiff(points(0)[:60])), tells="sizes differ"),
    Case("complex numbers", "left out", geometry(lambda: npy(points(0).astype(np.complex64)), ".npy"),
         tells="complex64"),
    Case("npy of bytes", "left out", geometry(lambda: npy(rgb(0)), ".npy"), tells="uint8 [64,64,3]"),
    Case("npy of whole numbers", "left out", geometry(lambda: npy((1000 * points(0)).astype(np.int64)), ".npy"),
         tells="int64 [64,64,3]"),
    Case("npy of true and false", "left out", geometry(lambda: npy(points(0) > 0), ".npy"), tells="bool [64,64,3]"),
    Case("npy of words", "left out", geometry(lambda: npy(points(0).astype("U8")), ".npy"), tells="<U8"),
    Case("npy of Python objects (a pickle)", "left out", geometry(lambda: npy(points(0).astype(object)), ".npy"),
         tells="never loaded"),
    Case("npy of four dimensions", "left out", geometry(lambda: npy(points(0)[None]), ".npy"), tells="[1, 64, 64, 3]"),
    Case("npy cut in the middle", "left out", geometry(lambda: half(npy(points(0))), ".npy"), tells="promises"),
    Case("npy that declares 60000 x 60000 points", "left out",
         geometry(lambda: npy_header((60000, 60000, 3)) + bytes(999), ".npy"), tells="promises"),
    Case("npy with a header of rubbish", "left out",
         geometry(lambda: b"\x93NUMPY\x01\x00\x10\x00{'descr': [}{)(\n" + bytes(99), ".npy"), tells=DAMAGED,
         foreign=True),
    Case("npz cut in the middle", "left out", geometry(lambda: half(npz(xyz=points(0))), ".npz"), tells=DAMAGED,
         foreign=True),
    Case("npz that declares 3 GB", "left out", geometry(lambda: npz_that_says(3 << 30), ".npz"),
         tells="more than the limit"),
    Case("npz that declares less than it holds", "left out", geometry(lambda: npz_that_says(9000), ".npz"),
         tells=DAMAGED, foreign=True),
    Case("encrypted npz", "left out", geometry(lambda: npz_that_says(flag=1), ".npz"), tells=DAMAGED, foreign=True),
    Case("npz of which nobody says which array is meant", "left out",
         geometry(lambda: npz(a=points(0), b=points(1)), ".npz"), tells="which of its arrays"),
    Case("zip without an array", "left out", geometry(odd_zip, ".npz"), tells="without an array"),
    Case("ply cut in the middle", "left out", geometry(lambda: half(ply()), ".ply"), tells="ends before"),
    Case("ply that declares a billion points", "left out", geometry(lambda: ply(count=10**9), ".ply"),
         tells="more than the limits"),
    Case("ply that declares fewer points than it holds", "left out", geometry(lambda: ply(count=4000), ".ply"),
         tells="less than it holds"),
    Case("ply with a list among its coordinates", "left out",
         geometry(lambda: ply(properties=["property list uchar float x", "property float y", "property float z"]),
                  ".ply"), tells="a list among"),
    Case("ply without z", "left out",
         geometry(lambda: ply(properties=["property float x", "property float y", "property float w"]), ".ply"),
         tells="no single column z"),
    Case("ply of whole numbers", "left out",
         geometry(lambda: ply(properties=[f"property int {axis}" for axis in "xyz"]), ".ply"), tells="floating point"),
    Case("ply with a word among its numbers", "left out",
         geometry(lambda: ply("ascii").replace(b"\n-0.", b"\nzero.", 1), ".ply"), tells=DAMAGED, foreign=True),
    Case("ply without the end of its header", "left out", geometry(lambda: ply()[:90], ".ply"), tells="end_header"),
    Case("points in no order, and no camera", "left out",
         geometry(lambda: ply(remark="", xyz=np.random.default_rng(0).permutation(points(0).reshape(-1, 3))), ".ply"),
         tells="in no order", options=NO_PLANE),
    Case("pcd cut in the middle", "left out", geometry(lambda: half(pcd()), ".pcd"), tells="ends before"),
    Case("pcd whose COUNT lies", "left out", geometry(lambda: pcd(COUNT="1 1 3"), ".pcd"), tells="ends before"),
    Case("pcd whose POINTS lie", "left out", geometry(lambda: pcd(POINTS="4000"), ".pcd"), tells="POINTS 4000"),
    Case("pcd that declares 99999 x 99999 points", "left out",
         geometry(lambda: pcd(WIDTH="99999", HEIGHT="99999", POINTS=str(99999**2)), ".pcd"),
         tells="more than the limit"),
    Case("pcd that is not compressed, and says so", "left out", geometry(lambda: pcd(DATA="binary_compressed"), ".pcd"),
         tells=DAMAGED),
    Case("pcd without a header", "left out", geometry(lambda: b"VERSION 0.7\n" + bytes(99), ".pcd"), tells="DATA line"),
    Case("exr that ends inside its header", "left out", geometry(lambda: exr(SIZE, SIZE)[:40], ".exr"), tells=DAMAGED),
    Case("exr without its lines", "left out", geometry(lambda: exr(SIZE, SIZE, bytes(200)), ".exr"),
         tells="cannot be 64 lines"),
    Case("exr that declares 60000 x 60000", "left out", geometry(lambda: exr(60000, 60000), ".exr"),
         tells="more than the limit"),
]  # fmt: skip


def fivefold_but_one(own: Own) -> Path:
    own.all_geometry(lambda number: encoded(".png", counts(number) * (5 if number else 1)), ".png")
    return own.path("geometry")


DEPTH = [
    depth("a tiff of metres among pngs of millimetres", "fine", lambda: tiff((counts(0) / 1000).astype(np.float32)),
          ".tiff", height="near"),
    depth("a tiff of float millimetres among pngs", "fine", lambda: tiff(counts(0).astype(np.float32)), ".tiff"),
    depth("npy of 64-bit whole numbers", "fine", lambda: npy(counts(0).astype(np.int64)), ".npy"),
    depth("npy with one channel in a dimension of its own", "fine", lambda: npy(counts(0)[..., None]), ".npy"),
    depth("pgm", "fine", lambda: pgm(counts(0)), ".pgm"),
    Case("all pngs with their bytes swapped", "fine",
         lambda own: own.all_geometry(lambda number: encoded(".png", counts(number).byteswap()), ".png"), "depth",
         tells="byte order: the other one"),
    Case("all pgms against their own rule", "fine",
         lambda own: own.all_geometry(lambda number: pgm(counts(number), "<u2"), ".pgm"), "depth",
         tells="byte order: the other one"),
    Case("all fivefold millimetres, and that is said", "fine",
         lambda own: own.all_geometry(lambda number: encoded(".png", counts(number) * 5), ".png"), "depth",
         options=(*CAMERA, *NO_PLANE, "--unit", "1/5000")),
    Case("all fivefold millimetres, or millimetres in steps of five", "refused",
         lambda own: own.all_geometry(lambda number: encoded(".png", counts(number) * 5), ".png"), "depth",
         tells="--unit 1/5000"),
    depth("png of depth cut in the middle", "left out", lambda: half(encoded(".png", counts(0))), tells=CUT),
    depth("png of depth with one wrong byte", "left out", lambda: flipped(encoded(".png", counts(0))),
          tells="checksum"),
    depth("png of depth of zero bytes", "left out", lambda: b"", tells="is empty"),
    depth("png of depth of another size", "left out", lambda: encoded(".png", counts(0)[:, 4:]), tells="sizes differ"),
    depth("depth of 8 bits", "left out", lambda: encoded(".png", (counts(0) // 3).astype(np.uint8)),
          tells="8-bit grey"),
    depth("depth in colours to look at", "left out", lambda: encoded(".png", rgb(0)), tells="8-bit colour"),
    depth("depth in three channels of 16 bits", "left out",
          lambda: encoded(".png", np.stack([counts(0)] * 3, axis=2)), tells="16-bit colour"),
    depth("depth as jpg", "left out", lambda: encoded(".jpg", (counts(0) // 3).astype(np.uint8)),
          tells="8-bit grey jpeg"),
    depth("depth as ppm", "left out", lambda: encoded(".ppm", rgb(0)), tells="8-bit colour pnm"),
    depth("depth all zero", "left out", lambda: encoded(".png", 0 * counts(0)), tells="every pixel is missing"),
    depth("depth all 65535", "left out", lambda: encoded(".png", 0 * counts(0) + np.uint16(65535)),
          tells="own/train/depth/0.png"),
    depth("npy of bytes for depth", "left out", lambda: npy((counts(0) // 3).astype(np.uint8)), ".npy", tells="uint8"),
    depth("npy of true and false for depth", "left out", lambda: npy(counts(0) > 0), ".npy", tells="bool"),
    depth("npy of complex numbers for depth", "left out", lambda: npy(counts(0) * 1j), ".npy", tells="complex128"),
    depth("npy of counts below zero", "left out", lambda: npy(-counts(0).astype(np.int32)), ".npy",
          tells="own/train/depth/0.npy"),
    depth("points where depth is expected", "left out", lambda: tiff(points(0)), ".tiff", tells="float32 [64,64,3]"),
    depth("tiff of two channels for depth", "left out",
          lambda: tiff(np.stack([counts(0)] * 2, axis=2), planarconfig="contig", photometric="minisblack"), ".tiff",
          tells="2 channels"),
    depth("a tiff of NaN among pngs", "left out", lambda: tiff(np.full((SIZE, SIZE), np.nan, np.float32)), ".tiff",
          tells="every pixel is missing"),
    depth("a tiff of heights among pngs of depth", "refused",
          lambda: tiff(((608.0 - counts(0)) / 1000).astype(np.float32)), ".tiff", tells="0.tiff"),
    depth("png of depth with its bytes swapped, alone", "left out", lambda: encoded(".png", counts(0).byteswap()),
          tells="own/train/depth/0.png"),
    depth("pgm cut in the middle", "left out", lambda: half(pgm(counts(0))), ".pgm", tells="ends before"),
    depth("pgm that declares 90000 x 90000", "left out", lambda: b"P5\n90000 90000\n65535\n" + bytes(99), ".pgm",
          tells="more than the limit"),
    depth("pgm with a header of rubbish", "left out", lambda: b"P5\nsixty-four\n" + bytes(99), ".pgm", tells=DAMAGED),
    depth("fivefold millimetres among plain ones", "refused", lambda: encoded(".png", counts(0) * 5),
          tells="own/train/depth/0.png"),
    Case("plain millimetres among fivefold ones", "refused", fivefold_but_one, "depth",
         tells="own/train/depth/0.png"),
    Case("counts of which nobody can tell the unit", "refused",
         lambda own: own.all_geometry(lambda number: encoded(".png", counts(number) * 50 + 1), ".png"), "depth",
         tells="--unit"),
]  # fmt: skip


MASKS = [
    gt("mask of 16-bit ids", "fine", lambda: encoded(".png", (mask(5) > 0).astype(np.uint16) * 300)),
    gt("mask of ids of 1", "fine", lambda: encoded(".png", mask(5) // 255)),
    gt("mask in colours", "fine", lambda: encoded(".png", np.stack([0 * mask(5), mask(5), 0 * mask(5)], axis=2))),
    gt("mask as a tif with an orientation tag: not turned", "fine",
       lambda: tiff(mask(5), extratags=[(274, 3, 1, 6, True)]), ".tif"),
    gt("mask as jpg", "left out", lambda: encoded(".jpg", mask(5)), ".jpg", tells="cannot hold a mask"),
    gt("mask of another size", "left out", lambda: encoded(".png", mask(5)[:60]), tells="sizes differ"),
    gt("mask cut in the middle", "left out", lambda: half(encoded(".png", mask(5))), tells=CUT),
    gt("mask of zero bytes", "left out", lambda: b"", tells="is empty"),
    gt("mask that is text", "left out", lambda: b"scratch at 30, 30\n", tells="not an image"),
    gt("points for a mask", "left out", ply, tells="points where a mask"),
    Case("mask of no pair", "refused", lambda own: own.path("gt", 5).rename(own.path("gt", 5).with_name("5_mask.png")),
         tells="own/test/gt/5_mask.png"),
]  # fmt: skip


# ---- files and folders ------------------------------------------------------------------------------------------


def linked(path: Path, target: Path | str, *, folder: bool = False) -> Path:
    """A link in the place of a file or a folder."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(target, target_is_directory=folder)
    return path


def locked(path: Path) -> Path:
    path.chmod(0)
    return path


def in_place_of(path: Path, make: Callable[[Path], None]) -> Path:
    path.unlink()
    make(path)
    return path


def strangers(own: Own) -> None:
    for name in ("Thumbs.db", ".DS_Store", "._0.png", ".hidden.png", "notes.txt", "0.json"):
        put(own.root / "train" / "rgb" / name, b"anything")
    put(own.root / "README.md", b"anything")
    (own.root / "empty").mkdir()


def not_utf8(own: Own) -> Path:
    return own.rename(os.fsdecode(b"M\xfcller"))


def loop_of_folders(own: Own) -> None:
    linked(own.root / "again", own.root, folder=True)
    linked(own.root / "train" / "rgb" / "up", own.root / "train", folder=True)


def two_spellings(own: Own) -> Path:
    """The two ways to write an umlaut, of which some systems make one."""
    told = own.rename(unicodedata.normalize("NFC", "Müller"))
    shape = own.path("geometry").with_name(unicodedata.normalize("NFC", "Müller.tiff"))
    shape.rename(shape.with_name(unicodedata.normalize("NFD", "Müller.tiff")))
    return told


def damaged_and_marked_up(own: Own) -> Path:
    told = own.rename("[red]0 ü")
    told.write_bytes(b"")
    return told


def emptied(folder: Path) -> Path:
    for path in folder.iterdir():
        path.unlink()
    return folder


def named(name: str, stem: str, base: Any = "xyz") -> Case:
    return Case(name, "fine", lambda own: own.rename(stem), base, becomes=f"train/good/{stem}")


FILES = [
    named("a name with spaces and umlauts", "Teil 1 – größer (übrig)"),
    named("a name with a line break", "part\n0"),
    named("a name of 245 letters", "x" * 245),
    named("a name with dots, quotes and brackets", "v1.2 'x' [bold] {0} %s $HOME"),
    named("a name like an option", "--help"),
    Case("a damaged file with markup in its name", "left out", damaged_and_marked_up, tells="[red]0 ü.png"),
    Case("a name too long for what is made of it", "left out", lambda own: own.rename("x" * 251), "depth",
         tells="too long"),
    Case("a name that is not UTF-8", "refused", not_utf8, tells="M\\xfcller"),
    Case("a name with a backslash", "refused", lambda own: own.rename("a\\b"), tells="a\\b.png"),
    Case("one umlaut in two spellings", "refused", two_spellings, tells="no partner"),
    Case("strange files: Thumbs.db, .DS_Store, hidden pictures, notes, an empty folder", "fine", strangers),
    Case("pairs of several sizes", "fine", lambda own: smaller(own, 5), pair=SECOND_TEST, height="near",
         colour="other"),
    Case("no partner", "refused", lambda own: (own.path("geometry").unlink(), own.path("rgb"))[1], tells="no partner"),
    Case("a picture in a format that is not read", "refused",
         lambda own: (own.path("rgb").rename(own.path("rgb").with_suffix(".gif")), own.path("geometry"))[1],
         tells="no partner"),
    Case("two files of one name", "refused",
         lambda own: put(own.path("rgb").with_suffix(".jpg"), encoded(".jpg", rgb(0))), tells="same name"),
    Case("a link that leads to itself", "left out", lambda own: linked(own.path("rgb"), "0.png"), tells="no such file"),
    Case("a link to nowhere", "left out", lambda own: linked(own.path("geometry"), "gone.tiff"), tells="no such file"),
    Case("a link to a good file", "fine",
         lambda own: linked(own.path("rgb"), own.path("rgb").rename(own.root / "elsewhere.png")) and None),
    Case("a folder called 0.png", "left out", lambda own: in_place_of(own.path("rgb"), Path.mkdir), tells="not a file"),
    Case("a pipe called 0.png, which nobody fills", "left out",
         lambda own: in_place_of(own.path("rgb"), os.mkfifo), tells="not a file"),
    Case("a file that may not be read", "left out", lambda own: locked(own.path("geometry")),
         tells="cannot be read: Permission denied"),
    Case("a folder that may not be read", "refused", lambda own: locked(own.path("rgb").parent),
         tells="cannot be listed: Permission denied"),
    Case("folders that lead to themselves", "fine", loop_of_folders),
    Case("a folder of points that leads to itself", "refused",
         lambda own: linked(own.path("geometry").parent, "xyz", folder=True) and None,
         tells="own/train/rgb: beside it"),
    Case("an empty folder of colour images", "refused", lambda own: emptied(own.path("rgb").parent),
         tells="no partner"),
    Case("an empty folder", "refused", lambda own: (shutil.rmtree(own.root), own.root.mkdir())[1],
         tells="does not look like"),
    Case("no folder", "refused", lambda own: shutil.rmtree(own.root), tells="no such folder"),
    Case("a folder that leads to itself", "refused",
         lambda own: (shutil.rmtree(own.root), linked(own.root, "own", folder=True))[0], tells="own"),
]  # fmt: skip


def smaller(own: Own, number: int) -> None:
    """A pair of another size than the others."""
    own.replace("rgb", encoded(".png", rgb(number)[4:]), number=number)
    own.replace("geometry", tiff(points(number)[4:]), number=number)
    own.replace("gt", encoded(".png", mask(number)[4:]), number=number)


def table(name: str, verdict: Any, change: Callable[[list[str]], list[str]], **more: Any) -> Case:
    return Case(name, verdict, lambda own: own.table(change), **more)


def first(old: str, new: str) -> Callable[[list[str]], list[str]]:
    """The first line of pairs with something else in it."""
    return lambda lines: [lines[0], lines[1].replace(old, new), *lines[2:]]


def linked_table(own: Own) -> Path:
    linked(own.path("rgb"), "0.png")
    return own.table()


TABLES = [
    table("a table in the folder", "fine", lambda lines: lines),
    table("a table with semicolons", "fine", lambda lines: [line.replace(",", ";") for line in lines]),
    table("an empty table", "refused", lambda lines: [], tells="is empty"),
    table("a table with a head line alone", "refused", lambda lines: lines[:1], tells="lists no pairs"),
    table("a table that leads outside", "refused", first("train/rgb/0", "../../secret"), tells="leads outside"),
    table("a table with a full path", "refused", first("train/rgb/0", "/etc/passwd"), tells="leads outside"),
    table("a table with a file that is not there", "refused", first("rgb/0", "rgb/7"), tells="no such file"),
    table("a table with an endless name", "refused", first("rgb/0", "rgb/" + "x" * 300), tells="pairs.csv, line 2"),
    table("a table with a NUL in a name", "refused", first("rgb/0", "rgb/0\0"), tells="pairs.csv"),
    Case("a table with a link that leads to itself", "refused", linked_table, tells="pairs.csv, line 2"),
    table("a table with a column too many in a line", "refused", first("good", "good,7"), tells="other columns"),
    table("a table with a slip in its head line", "refused", lambda lines: ["rgb,xyz,maks,split,label", *lines[1:]],
          tells="did you mean"),
    table("a table with an unknown split", "refused", first(",train,", ",trial,"), tells="unknown split"),
    table("a table with a pair twice", "refused", lambda lines: [*lines, lines[1]], tells="stands in"),
    table("a table with a label that is a path", "refused", first("good", "../../good"), tells="file name"),
    Case("a table in Latin-1", "refused", lambda own: put(own.root / "pairs.csv", "rgb,xyz\nä,b\n".encode("latin-1")),
         tells="not UTF-8", foreign=True),
    Case("a table with half a letter (JSON)", "refused",
         lambda own: put(own.root / "pairs.jsonl", b'{"rgb": "\\ud800.png", "xyz": "0.tiff"}\n'),
         tells="half a letter"),
    Case("a table that is not JSON", "refused", lambda own: put(own.root / "pairs.jsonl", b'{"rgb": \n'),
         tells="not JSON", foreign=True),
]  # fmt: skip


def camera(name: str, text: str) -> Case:
    def spoil(own: Own) -> Path:
        return put(own.root / "camera.json", text.encode())

    return Case(
        name, "refused", spoil, "depth", options=("--intrinsics", "own/camera.json"), code=2, tells="--intrinsics"
    )


CAMERAS = [
    camera("a camera file that is not JSON", '{"fx": 80, '),
    camera("a camera file of zero bytes", ""),
    camera("a camera file without a focal length", '{"width": 64}'),
    camera("a camera file with a focal length of 0", '{"fx": 0, "fy": 80, "cx": 32, "cy": 32}'),
    Case("a camera file that is not there", "refused", lambda own: None, "depth", code=2, tells="gone.json",
         options=("--intrinsics", "own/gone.json")),
    Case("a camera of three numbers", "refused", lambda own: None, "depth", code=2, tells="3 numbers",
         options=("--intrinsics", "1,2,3")),
]  # fmt: skip


GROUPS = {
    "Colour images": COLOUR,
    "Points": POINTS,
    "Depth images": DEPTH,
    "Masks": MASKS,
    "Files and folders": FILES,
    "Tables of pairs": TABLES,
    "Cameras": CAMERAS,
}
CASES = [case for group in GROUPS.values() for case in group]
