"""Files as bytes: what an encoder writes, and what a liar would."""

from __future__ import annotations

import struct
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
