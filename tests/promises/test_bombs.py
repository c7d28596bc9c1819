"""Small files that ask for much: refused with a reason, or read within bounds, by a child whose memory is watched."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import encoded
import numpy as np
import pytest
from fuzzing import READERS, Feeder
from malformed import npy_header

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and peaks of memory are Linux's")

MIB = 1 << 20
READ, DATA, USAGE = "read", "DataError", "UsageError"


@dataclass(frozen=True)
class Bomb:
    """room: MiB at the peak of reading it, besides its own size; long: too large for the quick cut."""

    name: str
    reader: str
    make: Callable[[], bytes]
    what: str = DATA
    tells: str = ""
    room: int = 32
    long: bool = False


# ---- pictures ---------------------------------------------------------------------------------------------------


def png_lines(width: int, height: int, *others: tuple[bytes, bytes]) -> bytes:
    """16-bit colour of one value, deflated to a thousandth."""
    packer = zlib.compressobj(9)
    line = bytes(6 * width + 1)
    packed = b"".join(packer.compress(line) for _ in range(height)) + packer.flush()
    return encoded.raw_png(width, height, 16, 2, packed, *others)


@cache
def zeros(size: int) -> bytes:
    return zlib.compress(bytes(size), 9)


def small_png(*others: tuple[bytes, bytes]) -> bytes:
    return encoded.raw_png(16, 4, 8, 0, zlib.compress(bytes(17 * 4)), *others)


def frames(width: int, height: int, left: int = 0) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
    control = struct.pack(">IIIIIHHBB", 0, width, height, left, left, 1, 10, 0, 0)
    return (b"acTL", struct.pack(">II", 2**31 - 1, 0)), (b"fcTL", control)


def jpeg_scans(count: int, size: int) -> bytes:
    """A progressive JPEG whose first scan is followed by empty ones over the whole picture."""
    image = np.zeros((size, size, 3), np.uint8)
    data = bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes())
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    again = b"\xff\xda" + struct.pack(">HB", 8, 1) + bytes([1, 0, 1, 63, 0x10])
    return data[:second] + again * count + b"\xff\xd9"


def jpeg_remarks(before: bytes) -> bytes:
    """A JPEG with ten million empty remarks before one of its segments."""
    data = bytes(cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    place = data.index(before)
    return data[:place] + b"\xff\xfe\0\2" * 10_000_000 + data[place:]


def strips(count: int, strip: bytes, compression: int, bits: int = 32, width: int = 16, rows: int = 1) -> bytes:
    """A tiff of so many strips, which are all the same bytes of the file."""
    tags = [(256, 4, 1, width), (257, 4, 1, count * rows), (258, 3, 1, bits), (259, 3, 1, compression)]
    tags += [(262, 3, 1, 1), (277, 3, 1, 1), (278, 4, 1, rows), (339, 3, 1, 3 if bits == 32 else 1)]
    place = 8 + 2 + 12 * (len(tags) + 2) + 4
    offsets, sizes = (place, place + 4 * count) if count > 1 else (place + 8, len(strip))
    tags = sorted([*tags, (273, 4, count, offsets), (279, 4, count, sizes)])
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    start = place + 8 * count
    lists = struct.pack(f"<{count}I", *[start] * count) + struct.pack(f"<{count}I", *[len(strip)] * count)
    return head + bytes(4) + lists + strip


def pages(count: int, last: int = 0) -> bytes:
    """A tiff of a good page and so many empty ones, the last of which leads to byte `last`."""
    first = bytearray(strips(1, np.full(16, 0.5, "<f4").tobytes(), 1))
    struct.pack_into("<I", first, 8 + 2 + 12 * 10, len(first))
    page, start = struct.pack("<HHHII", 1, 256, 4, 1, 16), len(first)
    nexts = [start + 18 * (number + 1) for number in range(count - 1)] + [last]
    return bytes(first) + b"".join(page + struct.pack("<I", place) for place in nexts)


def own_page() -> bytes:
    """A tiff whose first page is followed by itself."""
    data = bytearray(pages(1))
    struct.pack_into("<I", data, 8 + 2 + 12 * 10, 8)
    return bytes(data)


NOISE = random.Random(0).randbytes(MIB)
PICTURES = [
    Bomb("png, 64 Mpx of 16 bits in 390 kB", "png", lambda: png_lines(8192, 8192), READ, room=640, long=True),
    Bomb("png, 65 Mpx", "png", lambda: png_lines(8192, 8320)[:9000], tells="cut short"),
    Bomb("png, 30000 x 30000 declared", "png", lambda: encoded.raw_png(30000, 30000, 16, 2, zeros(MIB)),
         tells="more than the limit"),
    Bomb("png, 64 Mpx declared of which nothing follows", "png", lambda: encoded.raw_png(8192, 8192, 8, 2, zeros(9)),
         tells="cannot be decoded", room=400),
    Bomb("png, text of 400 MB", "png", lambda: small_png((b"zTXt", b"k\0\0" + zeros(400 * MIB))), READ, long=True),
    Bomb("png, text of 40 MB", "png", lambda: small_png((b"zTXt", b"k\0\0" + zeros(40 * MIB))), READ),
    Bomb("png, colour profile of 40 MB", "png", lambda: small_png((b"iCCP", b"k\0\0" + zeros(40 * MIB))), READ),
    Bomb("png, a second header of 60000 x 60000", "png",
         lambda: small_png((b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 16, 2, 0, 0, 0))), tells="decoded"),
    Bomb("png, a frame of 60000 x 60000", "png", lambda: small_png(*frames(60000, 60000)), tells="decoded"),
    Bomb("png, a frame beside the picture", "png", lambda: small_png(*frames(16, 4, 9)), tells="decoded"),
    Bomb("png, 300,000 empty blocks", "png", lambda: small_png(*[(b"IDAT", b"")] * 300_000), READ),
    Bomb("jpeg of 5000 scans", "jpeg", lambda: jpeg_scans(5000, 64), tells="more than 100 scans"),
    Bomb("jpeg of ten million remarks", "jpeg", lambda: jpeg_remarks(b"\xff\xe0"), tells="the JPEG holds"),
    Bomb("jpeg of ten million remarks behind its size", "jpeg", lambda: jpeg_remarks(b"\xff\xc4"), tells="segments"),
    Bomb("jpeg of 64 Mpx and 100 scans", "jpeg", lambda: jpeg_scans(98, 8000), READ, room=800, long=True),
    Bomb("jpeg, 65500 x 65500 declared", "jpeg",
         lambda: READERS["jpeg"].seeds()[0].replace(struct.pack(">HH", 40, 48), struct.pack(">HH", 65500, 65500)),
         tells="more than the limit"),
    Bomb("bmp, 60000 x 60000 declared", "bmp",
         lambda: READERS["bmp"].seeds()[0].replace(struct.pack("<ii", 12, 10), struct.pack("<ii", 60000, 60000)),
         tells="more than the limit"),
    Bomb("bmp, 8000 x 8000 declared", "bmp",
         lambda: READERS["bmp"].seeds()[0].replace(struct.pack("<ii", 12, 10), struct.pack("<ii", 8000, 8000)),
         tells="cannot be decoded", room=640),
    Bomb("ppm, terabytes declared", "pnm", lambda: b"P6\n999999999 999999999\n65535\n" + bytes(99),
         tells="more than the limit"),
    Bomb("ppm in numbers, 64 Mpx declared", "pnm", lambda: b"P3 8192 8192 255 " + b"1 " * 1000,
         tells="cannot be"),
    Bomb("pgm in numbers, remarks alone", "array", lambda: b"P2 8 8 255 " + b"# \n" * 300_000, tells="remarks"),
]  # fmt: skip
TIFFS = [
    Bomb("tiff of a million pages", "tiff", lambda: pages(1_000_000), tells="plane", room=140),
    Bomb("tif of a million pages for colour", "tif", lambda: pages(1_000_000), tells="geometry"),
    Bomb("tiff whose pages go round", "tiff", lambda: pages(3, last=8), tells="plane"),
    Bomb("tiff whose page is followed by itself", "tiff", own_page, tells="plane"),
    Bomb("tiff, the same deflated megabyte 20,000 times", "tiff",
         lambda: strips(20_000, zlib.compress(bytes(64)) + NOISE, 8), tells="hold more than the file"),
    Bomb("tiff, the same plain megabyte 20,000 times", "tiff", lambda: strips(20_000, NOISE, 1),
         tells="hold more than the file"),
    Bomb("tif for colour, the same megabyte 20,000 times", "tif", lambda: strips(20_000, NOISE, 1, bits=8),
         tells="hold more than the file"),
    Bomb("tiff, a strip deflated to 40 MB in a place of 64 bytes", "tiff", lambda: strips(1, zeros(40 * MIB), 8),
         tells="unpacks to more"),
    Bomb("tif for colour, a strip deflated to 40 MB in a place of 16 bytes", "tif",
         lambda: strips(1, zeros(40 * MIB), 8, bits=8), tells="unpacks to more"),
    Bomb("tiff, PackBits of 64 MB in a place of 64 bytes", "tiff", lambda: strips(1, b"\x81\1" * (MIB // 2), 32773)),
    Bomb("tiff, 64 Mpx of floats deflated to 260 kB", "raster",
         lambda: strips(1, zeros(8192 * 8192 * 4), 8, width=8192, rows=8192), READ, room=800, long=True),
    Bomb("tiff, 2^31 lines declared", "tiff",
         lambda: encoded.raw_tiff(16, 2**31, 1, bytes(64)), tells="more than the limit"),
    Bomb("tiff, 64 Mpx declared of which nothing follows", "tiff",
         lambda: encoded.raw_tiff(8192, 8192, 8, zeros(64)), tells="damaged"),
]  # fmt: skip


# ---- arrays and points ------------------------------------------------------------------------------------------


def packed_array(header: bytes, size: int) -> bytes:
    """An npz of one array of zeros."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("xyz.npy", "w") as member:
        member.write(header)
        for _ in range(size // MIB):
            member.write(bytes(MIB))
    return buffer.getvalue()


def many_members(count: int) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(count):
            archive.writestr(f"{number}.npy", b"")
    return buffer.getvalue()


def nested(text: bytes) -> bytes:
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text


def lzf_pcd(points: int, packed: bytes, size: int | None = None) -> bytes:
    """Points that are unpacked from copies of one zero."""
    head = f"VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH {points}\nHEIGHT 1\n"
    told = 12 * points if size is None else size
    return f"{head}POINTS {points}\nDATA binary_compressed\n".encode() + struct.pack("<II", len(packed), told) + packed


def exr_that_says(width: int, height: int, tiled: bool = False) -> bytes:
    plane = np.zeros((4, 5), np.float32)
    data = bytearray(encoded.exr_bytes({"Z": plane}, 2))
    window = struct.pack("<4i", 0, 0, 4, 3)
    changed = bytes(data).replace(window, struct.pack("<4i", 0, 0, width - 1, height - 1))
    flags = bytes([2, 2, 0, 0]) if tiled else bytes([2, 0, 0, 0])
    return changed[:4] + flags + changed[8:] + bytes(200_000)


GRID = encoded.ply_bytes("binary_little_endian", np.ones((8, 9, 3), np.float32), grid=True)
ARRAYS = [
    Bomb("npy, petabytes declared", "array", lambda: npy_header((2**25, 2**25)) + bytes(99), tells="not what follows"),
    Bomb("npy, a number of 9000 digits", "array", lambda: nested(b"{'shape': (" + b"9" * 9000 + b",)}\n")),
    Bomb("npy, 9000 brackets", "array", lambda: nested(b"(" * 9000 + b"\n"), tells="damaged"),
    Bomb("npy, 9000 signs", "array", lambda: nested(b"-" * 9000 + b"1\n"), tells="damaged"),
    Bomb("npy, 4500 sums", "array", lambda: nested(b"1+" * 4500 + b"1\n"), tells="damaged"),
    Bomb("npz, 1 GiB of too many pixels", "array", lambda: packed_array(npy_header((16384, 16368)), 1023 * MIB),
         tells="more than the limit", room=2200, long=True),
    Bomb("npz, 80 MiB of too many pixels", "array", lambda: packed_array(npy_header((10240, 8192), "|i1"), 80 * MIB),
         tells="more than the limit", room=240),
    Bomb("npz, 100,000 arrays", "array", lambda: many_members(100_000), tells="more than 1000 arrays"),
    Bomb("ply, 64 million points declared", "cloud", lambda: GRID.replace(b"vertex 72", b"vertex 60000000"),
         tells="ends before"),
    Bomb("ply, 10^18 of them declared", "cloud", lambda: GRID.replace(b"vertex 72", b"vertex " + b"9" * 18),
         tells="more than the limits"),
    Bomb("ply, a grid of terabytes", "cloud", lambda: GRID.replace(b"num_cols 9", b"num_cols 999999999"),
         tells="more than the limit"),
    Bomb("ply, a line of 1 MB", "cloud",
         lambda: encoded.ply_bytes("ascii", np.ones((8, 9, 3), np.float32)) + b"1 " * (MIB // 2), tells="longer than"),
    Bomb("pcd, 48 MB in 550 kB", "cloud", lambda: lzf_pcd(4_000_000, b"\0\0" + b"\xe0\xff\0" * 181_818),
         tells="cannot be unpacked", room=120),
    Bomb("pcd, gigabytes declared", "cloud", lambda: lzf_pcd(60_000_000, b"\0\0" + b"\xe0\xff\0" * 99), room=1,
         tells="cannot be unpacked"),
    Bomb("pcd, another size than its points have", "cloud", lambda: lzf_pcd(12, b"\0\0", 2**32 - 1), tells="bytes for"),
    Bomb("exr, 64 Mpx of which nothing follows", "exr", lambda: exr_that_says(8000, 8000), tells="decoded", room=300),
    Bomb("exr, tiles of which nothing follows", "exr", lambda: exr_that_says(8000, 8000, tiled=True), tells="decoded",
         room=300),
    Bomb("exr, terabytes declared", "exr", lambda: exr_that_says(2**30, 2**30), tells="more than the limit"),
]  # fmt: skip


# ---- words ------------------------------------------------------------------------------------------------------


def laughs(line: str) -> bytes:
    """Ten times ten times ten, nine times over."""
    lines = ["a: &a {x: 1}"]
    for number in range(9):
        inner = ", ".join([f"*{chr(97 + number)} "] * 10)
        lines.append(f"{chr(98 + number)}: &{chr(98 + number)} {line.format(inner)}")
    return "\n".join([*lines, ""]).encode()


def three_deep() -> bytes:
    """A thousand tables of a thousand tables of a thousand keys, in 30 kB."""
    names = [f"k{number}" for number in range(1000)]
    inner = ", ".join(f"{name}: 1" for name in names)
    tables = [
        f"{one}: &{one} {{" + ", ".join(f"{name}: *{other} " for name in names) + "}" for one, other in ("ba", "cb")
    ]
    return "\n".join([f"a: &a {{{inner}}}", *tables, ""]).encode()


def odd_keys(count: int) -> bytes:
    generator = random.Random(0)
    words = ("".join(generator.choices("abcdefghiklmnopq", k=6)) for _ in range(count))
    return ("{" + ", ".join(f'"{word}": 1' for word in words) + "}").encode()


def texts() -> Iterator[Bomb]:
    for reader in ("json", "manifest", "baseline"):
        yield Bomb(f"{reader} 100,000 lists deep", reader, lambda: b"[" * 100_000, tells="nested too deeply")
        yield Bomb(f"{reader} 100,000 objects deep", reader, lambda: b'{"a":' * 100_000, tells="nested too deeply")
        yield Bomb(
            f"{reader}, a number of 10^6 digits", reader, lambda: b'{"a": 1' + b"0" * 10**6 + b"}", tells="is not"
        )
        yield Bomb(f"{reader}, a number of 400 digits", reader, lambda: b'{"a": 1' + b"0" * 400 + b"}", tells="is not")
        yield Bomb(f"{reader}, 1e999", reader, lambda: b'{"a": -1e999}', tells="-1e999")
        yield Bomb(f"{reader}, 21 million lists", reader, lambda: b"[" + b"[]," * 21_000_000 + b"0]", tells="values")
        yield Bomb(f"{reader}, a NUL behind it", reader, lambda: b"{}\0", tells="not valid JSON")
    yield Bomb(
        "json of 4 million numbers", "json", lambda: b"[" + b"1.5," * 3_999_998 + b"1]", READ, room=300, long=True
    )
    yield Bomb("lines, 100,000 columns", "lines", lambda: odd_keys(100_000), tells="columns")
    yield Bomb("lines, 900 deep", "lines", lambda: b'{"rgb": ' + b"[" * 900 + b"]" * 900 + b"}", tells="list or an")
    yield Bomb("lines, a number of 10^6 digits", "lines", lambda: b'{"rgb": 1' + b"0" * 10**6 + b"}", tells="not JSON")
    head = b",".join(b"a%d" % number for number in range(100_000))
    yield Bomb("table of 100,000 columns", "table", lambda: head + b"\n" + b"," * 99_999 + b"\n", tells="columns")
    yield Bomb("table of a million lines", "table", lambda: b"rgb,depth\n" + b"0.png,0.png\n" * 10**6, tells="lines")
    yield Bomb("lines, a million", "lines", lambda: b'{"rgb":"0.png","z":"0.png"}\n' * 10**6, tells="lines")
    yield Bomb(
        "table, a field of 5 MB", "table", lambda: b"rgb,depth\n" + b"a" * 5 * MIB + b",b\n", tells="larger than"
    )
    yield Bomb("table, a quote without end", "table", lambda: b'rgb,depth\n"' + b"a" * 2 * MIB, tells="larger than")
    yield Bomb("table, a NUL", "table", lambda: b"rgb,depth\n0\0.png,0.png\n", tells="leads outside")
    for reader, what in (("range", DATA), ("label", DATA), ("intrinsics", USAGE), ("configuration", USAGE)):
        for name, make in (("lists", lambda: laughs("[{}]")), ("merged keys", lambda: laughs("{{<<: [{}]}}"))):
            yield Bomb(f"{reader}, a billion laughs of {name}", reader, make, what)
        yield Bomb(f"{reader}, a billion keys", reader, three_deep, what)
        yield Bomb(f"{reader}, 100,000 lists deep", reader, lambda: b"[" * 100_000, what)
        yield Bomb(f"{reader}, 20,000 tables deep", reader, lambda: b"{a: " * 20_000, what)
        yield Bomb(f"{reader}, 30,000 dashes deep", reader, lambda: b"- " * 30_000, what)
        yield Bomb(f"{reader}, 450,000 numbers", reader, lambda: b"a: [" + b"1," * 450_000 + b"1]", what)
        for name, number in (("hex", b"0x" + b"f" * 9000), ("base 60", b"1" + b":1" * 9000)):
            told = b"anomalous: %s\nnormalization: {min: 0, max: %s}\nfx: %s\nfy: 1\ncx: 1\ncy: 1\n" % ((number,) * 3)
            yield Bomb(f"{reader}, a number of 9000 digits, {name}", reader, lambda told=told: told, what)
        yield Bomb(f"{reader}, a word of 60 kB", reader, lambda: b"plane: " + b"x" * 60_000, what)
        yield Bomb(f"{reader}, a NUL", reader, lambda: b"a: \0", what)


# ---- small and strange ------------------------------------------------------------------------------------------

POINTS = np.stack([*np.mgrid[:8, :9] * 0.01, np.full((8, 9), 0.6)], axis=-1)[..., [1, 0, 2]]


def with_value(place: tuple[int, ...], value: float, kind: str = "<f8") -> bytes:
    changed = POINTS.astype(kind)
    changed[place] = value
    return encoded.npy_bytes(changed)


def place_behind() -> bytes:
    changed = POINTS.copy()
    changed[2, 3] = 1e300, 0, -1
    return encoded.npy_bytes(changed)


def a_map(value: float, kind: str = "<f4", about: str = "{}") -> bytes:
    scores = np.full((8, 9), 0.5, kind)
    scores[2, 3] = value
    return encoded.tiff_bytes(scores, photometric="minisblack", metadata=None, description=about)


def flipped_strip() -> bytes:
    image = np.repeat(np.repeat(encoded.random_rgb(8, 8), 8, axis=0), 8, axis=1)
    data = bytearray(encoded.tiff_bytes(image, compression="zlib", photometric="rgb", rowsperstrip=64))
    data[len(data) * 2 // 3] ^= 16
    return bytes(data)


def lost_lines() -> bytes:
    """A JPEG with restart markers, of which a stretch with some of them is gone."""
    data = READERS["jpeg"].seeds()[2]
    first = data.index(b"\xff\xd0")
    return data[:first] + data[data.index(b"\xff\xd3") :]


PLAIN = "plain numbers are expected"
ODD = [
    Bomb("npy of words", "array", lambda: encoded.npy_bytes(POINTS.astype("U8")), tells=PLAIN),
    Bomb("npy of dates", "array", lambda: encoded.npy_bytes(np.zeros((8, 9), "<M8[s]")), tells=PLAIN),
    Bomb("npy of records", "array", lambda: encoded.npy_bytes(np.zeros((8, 9), [("z", "<f4")])), tells=PLAIN),
    Bomb("npy of true and false", "array", lambda: encoded.npy_bytes(POINTS > 0), tells=PLAIN),
    Bomb("tiff of bits", "tiff", lambda: strips(1, bytes(64), 1, bits=1, rows=8), tells=PLAIN),
    Bomb("a height of 1e300", "array", lambda: with_value((2, 3, 2), 1e300), READ),
    Bomb("a place of 1e300 behind the sensor", "array", place_behind, READ),
    Bomb("a map with an infinite score", "map", lambda: a_map(np.inf), tells="infinite"),
    Bomb("a map of doubles, one of 1e300", "map", lambda: a_map(1e300, "<f8"), tells="infinite"),
    Bomb("a map whose range is not finite", "map", lambda: a_map(0.7, about='{"low": 0.1, "high": 1e999}'), READ),
    Bomb("a map with NaN", "map", lambda: a_map(np.nan), READ),
    Bomb("a map with a NaN that signals", "map",
         lambda: a_map(7.0).replace(struct.pack("<f", 7), b"\1\0\x80\x7f"), READ),
    Bomb("a deflated strip with a wrong bit", "tif", flipped_strip, tells="damaged"),
    Bomb("a jpeg without some of its lines", "jpeg", lost_lines, tells="restart markers"),
]  # fmt: skip


BOMBS = [*PICTURES, *TIFFS, *ARRAYS, *texts(), *ODD]


@pytest.fixture(scope="module")
def feeder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Feeder]:
    with Feeder(tmp_path_factory.mktemp("bombs")) as ready:
        yield ready


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.name)
def test_a_bomb_does_no_harm(feeder: Feeder, bomb: Bomb, cases: Callable[[bool, bool], bool]) -> None:
    if bomb.long and not cases(False, True):
        pytest.skip("too large for the quick cut")
    data = bomb.make()
    outcome = feeder(bomb.reader, data)
    assert outcome.what == bomb.what, outcome.told
    assert bomb.tells in outcome.told
    # tables and JSON are held as bytes, as text, and as what they stand for, as far as they are taken
    assert outcome.peak <= bomb.room * MIB + 6 * len(data), f"{outcome.peak / MIB:.0f} MiB"


@pytest.mark.parametrize("reader", ["range", "label", "intrinsics", "configuration"])
@pytest.mark.parametrize(
    "tag", ["python/object/apply:os.system", "python/object/new:os.system", "python/name:os.system"]
)
def test_no_tag_runs_anything(feeder: Feeder, tmp_path: Path, reader: str, tag: str) -> None:
    trace = tmp_path / "ran"
    for text in (f"!!{tag} ['touch {trace}']\n", f"a: !!{tag} ['touch {trace}']\nnormalization: {{min: 0, max: 1}}\n"):
        outcome = feeder(reader, text.encode())
        assert outcome.what in (DATA, USAGE), outcome.told
    assert not trace.exists()


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("0.yaml", "from uipad_cli import config\nconfig.merge([path], [])"),
        ("00_depth.png", "from uipad_cli.data import eyecandies\neyecandies.camera(path)"),
        ("0.json", "from uipad_cli.data.intrinsics import parse_intrinsics\nparse_intrinsics(str(path))"),
        ("0.png", "from uipad_cli.data import files\nfiles.read_rgb(path)"),
    ],
)
def test_a_pipe_that_nobody_fills_is_not_waited_for(tmp_path: Path, name: str, code: str) -> None:
    os.mkfifo(tmp_path / name)
    program = f"import sys\nfrom pathlib import Path\npath = Path(sys.argv[1])\n{code}"
    command: list[Any] = [sys.executable, "-c", program, tmp_path / name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "special file" in done.stderr
