"""Files as bytes: what an encoder writes, and what a liar would."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from io import BytesIO
from typing import Any

import cv2
import numpy as np
import tifffile

XYZ = np.random.default_rng(0).random((8, 9, 3), dtype=np.float32) + 1
GREY16 = (np.arange(600, dtype=np.uint16) * 50 + 1).reshape(20, 30)


def random_rgb(height: int = 20, width: int = 30) -> Any:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encode(suffix: str, image: Any) -> bytes:
    done, code = cv2.imencode(suffix, image)
    assert done
    return bytes(code.tobytes())


def tiff_bytes(array: Any, **settings: Any) -> bytes:
    buffer = BytesIO()
    tifffile.imwrite(buffer, array, **settings)
    return buffer.getvalue()


def npy_bytes(array: Any) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def raw_tiff(width: int, height: int, compression: int, strip: bytes, bits: int = 32) -> bytes:
    """A float tiff of one strip, whose header may lie."""
    tags = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, compression), (262, 3, 1), (277, 3, 1)]
    tags += [(278, 4, height), (339, 3, 3)]
    place = 8 + 2 + 12 * (len(tags) + 2) + 4
    tags = sorted([*tags, (273, 4, place), (279, 4, len(strip))])
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + body + struct.pack("<I", 0) + strip


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and body of each chunk of a png, as far as they go."""
    found, place = [], 8
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        found.append((kind, data[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


def png_of(parts: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A png of these chunks, with checksums that fit."""
    told = [struct.pack(">I", len(body)) + kind + body for kind, body in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(one + struct.pack(">I", zlib.crc32(one[4:])) for one in told)


def raw_png(width: int, height: int, bits: int, colour: int, packed: bytes, *others: tuple[bytes, bytes]) -> bytes:
    """A png of any kind around compressed lines that may be anything; others: chunks in front of them."""
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return png_of([(b"IHDR", head), *others, (b"IDAT", packed), (b"IEND", b"")])


def interlaced_png(grey: Any) -> bytes:
    """Seven passes (Adam7) of an 8-bit grey image."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = [grey[row::down, column::right] for row, column, down, right in passes]
    lines = b"".join(b"\0" + line.tobytes() for part in parts if part.size for line in part)
    head = struct.pack(">IIBBBBB", grey.shape[1], grey.shape[0], 8, 0, 0, 0, 1)
    return png_of([(b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")])


def palette_png(width: int = 16, height: int = 12) -> bytes:
    lines = b"".join(b"\0" + bytes((row + column) % 4 for column in range(width)) for row in range(height))
    colours = (b"PLTE", bytes(range(12))), (b"tRNS", b"\0\xff\x80")
    return raw_png(width, height, 8, 3, zlib.compress(lines), *colours)


def pnm_bytes(kind: str, array: Any, top: int = 255, gap: str = "\n") -> bytes:
    head = f"{kind}{gap}{array.shape[1]} {array.shape[0]}{gap}{top}\n".encode()
    if kind in ("P2", "P3"):
        return head + " ".join(map(str, array.ravel())).encode()
    return head + bytes(array.astype(">u2" if top > 255 else "u1").tobytes())


def npz_bytes(packed: bool = True, **arrays: Any) -> bytes:
    buffer = BytesIO()
    (np.savez_compressed if packed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def ply_bytes(order: str, xyz: Any, *, colour: bool = True, grid: bool = False, remark: str = "") -> bytes:
    """Points [H,W,3] as ply: with colours, a list of faces behind them, and a range_grid where it is asked for."""
    height, width = xyz.shape[:2]
    count = height * width
    head = ["ply", f"format {order} 1.0", f"comment {remark}", f"obj_info num_cols {width}"]
    head += [f"obj_info num_rows {height}", f"element vertex {count}", *(f"property float {axis}" for axis in "xyz")]
    head += [f"property uchar {name}" for name in ("red", "green", "blue") if colour]
    head += [f"element range_grid {count}", "property list uchar int vertex_indices"] if grid else []
    points, shades = xyz.reshape(-1, 3), np.arange(count * 3).reshape(-1, 3) % 256
    sign = ">" if "big" in order else "<"
    if order == "ascii":
        lines = [
            " ".join([*map(str, row), *map(str, shade if colour else ())])
            for row, shade in zip(points, shades, strict=True)
        ]
        lines += [f"1 {cell}" if cell % 3 else "0" for cell in range(count)] if grid else []
        return "\n".join([*head, "end_header", *lines, ""]).encode()
    rows = (
        row.astype(f"{sign}f4").tobytes() + (shade.astype("u1").tobytes() if colour else b"")
        for row, shade in zip(points, shades, strict=True)
    )
    body = b"".join(rows)
    if grid:
        body += b"".join(b"\1" + struct.pack(f"{sign}i", cell) if cell % 3 else b"\0" for cell in range(count))
    return "\n".join([*head, "end_header", ""]).encode() + body


def lzf(data: bytes) -> bytes:
    """Literal runs, and for zeros copies of what stands one byte before."""
    out, place = bytearray(), 0
    while place < len(data):
        zeros = len(data[place : place + 264]) - len(data[place : place + 264].lstrip(b"\0"))
        if zeros > 12:
            out += b"\0\0" + bytes([7 << 5, zeros - 1 - 9, 0])
            place += zeros
            continue
        run = data[place : place + 32]
        out += bytes([len(run) - 1]) + run
        place += len(run)
    return bytes(out)


def pcd_bytes(encoding: str, xyz: Any) -> bytes:
    """Points [H,W,3] as pcd: x, y, z, a packed colour, and a field of two numbers."""
    height, width = xyz.shape[:2]
    count = height * width
    head = ["# .PCD v0.7", "VERSION 0.7", "FIELDS x y z rgb n", "SIZE 4 4 4 4 8", "TYPE F F F U F", "COUNT 1 1 1 1 2"]
    head += [f"WIDTH {width}", f"HEIGHT {height}", "VIEWPOINT 0 0 0 1 0 0 0", f"POINTS {count}", f"DATA {encoding}", ""]
    colours, extra = np.arange(count, dtype=np.uint32) * 65793, np.zeros((count, 2))
    fields = [*xyz.reshape(-1, 3).astype("<f4").T, colours, extra]
    if encoding == "ascii":
        rows = ("{} {} {} {} 0 0\n".format(*row, shade) for row, shade in zip(xyz.reshape(-1, 3), colours, strict=True))
        body = "".join(rows).encode()
    elif encoding == "binary":
        body = b"".join(field[row].tobytes() for row in range(count) for field in fields)
    else:
        plain = b"".join(np.ascontiguousarray(field).tobytes() for field in fields)
        packed = lzf(plain)
        body = struct.pack("<II", len(packed), len(plain)) + packed
    return "\n".join(head).encode() + body


def exr_bytes(channels: dict[str, Any], compression: int = 0, tail: bytes | None = None) -> bytes:
    """A flat OpenEXR file of float planes, plain (0) or deflated line by line (2); tail: what stands for the lines."""
    height, width = next(iter(channels.values())).shape

    def attribute(name: str, kind: str, value: bytes) -> bytes:
        return name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value

    listed = b"".join(name.encode() + b"\0" + struct.pack("<iiii", 2, 0, 1, 1) for name in sorted(channels)) + b"\0"
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    head = b"\x76\x2f\x31\x01\x02\0\0\0" + attribute("channels", "chlist", listed)
    head += attribute("compression", "compression", bytes([compression])) + attribute("dataWindow", "box2i", window)
    head += attribute("displayWindow", "box2i", window) + attribute("lineOrder", "lineOrder", b"\0")
    head += attribute("pixelAspectRatio", "float", struct.pack("<f", 1))
    head += attribute("screenWindowCenter", "v2f", bytes(8))
    head += attribute("screenWindowWidth", "float", struct.pack("<f", 1)) + b"\0"
    blocks = []
    for row in range(height):
        line = b"".join(channels[name][row].astype("<f4").tobytes() for name in sorted(channels))
        packed = _exr_line(line) if compression else line
        blocks.append(struct.pack("<ii", row, len(packed)) + packed)
    starts, place = b"", len(head) + 8 * height
    for block in blocks:
        starts += struct.pack("<Q", place)
        place += len(block)
    return head + (starts + b"".join(blocks) if tail is None else tail)


def _exr_line(line: bytes) -> bytes:
    """Even bytes before odd ones, differences, deflate; as it is where that saves nothing."""
    shuffled = np.frombuffer(line[::2] + line[1::2], np.uint8).astype(np.int32)
    shuffled[1:] = (shuffled[1:] - shuffled[:-1] + 128) % 256
    packed = zlib.compress(shuffled.astype(np.uint8).tobytes())
    return packed if len(packed) < len(line) else line
