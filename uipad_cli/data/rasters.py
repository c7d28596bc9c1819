"""tiff and npy → arrays of numbers, with every size checked before memory is taken."""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import tifffile

from uipad_cli.data.headers import Header, check_size, damaged
from uipad_cli.errors import DataError

ARRAY_CAP = 1024 * 1024 * 1024  # bytes

_ORIENTATION, _EXTRA_SAMPLES = 274, 338  # tags
_SHORT = 3
_DEFLATE = (8, 32946)
_BY_OPENCV = (5, 32773)  # LZW, PackBits
_SHARED = 4  # times that all strips together may be as long as the file: each is read, also where they overlap
_COMPRESSIONS = (1, *_BY_OPENCV, *_DEFLATE)  # others can grow without a bound

_NPY_TROUBLE = (  # all that a damaged header has been seen to raise
    ValueError,
    TypeError,
    SyntaxError,
    TokenError,
    OverflowError,
    RecursionError,
    EOFError,
    MemoryError,
)

Raster = npt.NDArray[Any]

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # of what it logs, what matters is raised, too


def tiff_header(data: bytes, path: Path) -> Header:
    """Size and sample layout of the first page. Raises DataError."""
    with _first_page(data, path) as page:
        height, width, channels = _layout(page, path)
        return Header("tiff", width, height, channels, 8 * page.dtype.itemsize)


def untagged(data: bytes, path: Path) -> bytes:
    """The same file without a word on how to turn it, and on what its fourth channel means.

    Other decoders obey both: they turn the picture, although its geometry stays, and multiply its colours by alpha.
    And they say nothing of a strip that cannot be unpacked. Raises DataError.
    """
    changed = bytearray(data)
    with _first_page(data, path) as page:
        _check_inflated(page, path)
        for code, plain in ((_ORIENTATION, 1), (_EXTRA_SAMPLES, 0)):
            tag = page.tags.get(code)
            if tag is not None and tag.count == 1 and int(tag.dtype) == _SHORT:
                struct.pack_into(f"{page.parent.byteorder}H", changed, tag.valueoffset, plain)
    return bytes(changed)


def read_tiff(data: bytes, path: Path) -> tuple[Raster, str]:
    """The first page as [H0,W0] or [H0,W0,3], and its description.

    Other pages, and other files that the first one may point to, are never read. Raises DataError.
    """
    with _first_page(data, path) as page:
        height, width, channels = _layout(page, path)
        if channels not in (1, 3):
            raise DataError(f"{path}: {channels} channels where one (depth) or three (xyz) are expected")
        if int(page.compression) not in _COMPRESSIONS:
            raise DataError(f"{path}: its compression ({page.compression.name}) is not supported", "save it without")
        _check_numbers(page.dtype, page.shape, path)
        _check_inflated(page, path)
        array = _unpack(data, page, path) if int(page.compression) in _BY_OPENCV else np.asarray(page.asarray())
        if page.axes.startswith("S"):  # planar: [3,H0,W0]
            array = np.moveaxis(array, 0, -1)
        shape = (height, width) if channels == 1 else (height, width, 3)
        return np.ascontiguousarray(array.reshape(shape)), str(page.description)


def _unpack(data: bytes, page: Any, path: Path) -> Raster:
    """LZW is what OpenCV writes unless told otherwise; it reads it, too, with the channels turned round.

    PackBits by tifffile alone would take ten times the memory of the image, and of whatever a strip unpacks to.
    """
    told = f"{path}: a tiff ({page.compression.name}) of a kind that cannot be read"
    if page.dtype == np.float16 or page.axes.startswith("S"):
        raise DataError(told, "save it without compression")
    array = cv2.imdecode(np.frombuffer(untagged(data, path), np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None:
        raise damaged(path, f"its {page.compression.name} strips cannot be unpacked")
    if array.dtype != page.dtype or array.size != prod(page.shape):
        raise DataError(told, "save it without compression")
    return np.ascontiguousarray(array[..., ::-1]) if array.ndim == 3 else np.asarray(array)


def read_npy(data: bytes, path: Path) -> Raster:
    """Array of an npy file as [H0,W0] or [H0,W0,3]; a pickle is refused. Raises DataError."""
    stream = BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        if dtype.hasobject:
            raise DataError(f"{path}: holds Python objects, which are never loaded", "save a plain array")
        _check_numbers(dtype, shape, path)
        if prod(shape) * dtype.itemsize != len(data) - stream.tell():
            raise damaged(path, f"its header promises {dtype} {list(shape)}, which is not what follows")
        if len(shape) > 1:
            check_size(shape[1], shape[0], path)
        array = np.load(BytesIO(data), allow_pickle=False)
    except _NPY_TROUBLE as error:
        raise damaged(path, str(error)) from error
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or array.size == 0 or (array.ndim == 3 and array.shape[2] != 3):
        raise DataError(f"{path}: an array {list(shape)} where [H,W] (depth) or [H,W,3] (xyz) is expected")
    return np.ascontiguousarray(array)


def _check_numbers(dtype: np.dtype[Any], shape: tuple[int, ...], path: Path) -> None:
    """Raise DataError for words, dates, records, complex numbers and bits."""
    if dtype.kind not in "iuf":
        told = f"{str(dtype)[:40]} [{','.join(map(str, shape))[:40]}]"
        raise DataError(f"{path}: {told} where plain numbers are expected", "save it as float32")


@contextmanager
def _first_page(data: bytes, path: Path) -> Iterator[Any]:
    """The first page alone: no series, no OME or shaped metadata, no second file.

    A damaged file makes the parser raise nearly any exception, so this is the one place that catches them all.
    """
    try:
        with tifffile.TiffFile(BytesIO(data), _multifile=False, is_ome=False, is_shaped=False) as file:
            yield file.pages[0]
    except DataError:
        raise
    except Exception as error:
        if "imagecodecs" in str(error):
            raise DataError(f"{path}: its compression needs the package imagecodecs", "save it without") from error
        raise damaged(path, f"{type(error).__name__}: {error}") from error


def _layout(page: Any, path: Path) -> tuple[int, int, int]:
    """Height, width, channels of a page that is one plain image within the limits."""
    height, width, channels = int(page.imagelength), int(page.imagewidth), int(page.samplesperpixel)
    if height <= 0 or width <= 0 or int(page.imagedepth) != 1 or page.dtype is None:
        raise damaged(path, "it declares no picture")
    check_size(width, height, path)
    if page.nbytes > ARRAY_CAP:
        raise DataError(f"{path}: declares {page.nbytes} bytes, more than the limit of {ARRAY_CAP}")
    size = page.parent.filehandle.size
    if sum(min(count, size) for count in page.databytecounts) > _SHARED * size:
        raise damaged(path, f"its {len(page.databytecounts)} strips hold more than the file")
    return height, width, channels


def _check_inflated(page: Any, path: Path) -> None:
    """Refuse a deflated strip that is damaged, or unpacks to more than its place in the image, before it is taken."""
    if int(page.compression) not in _DEFLATE:
        return
    room = prod(page.chunks) * page.dtype.itemsize
    stream = page.parent.filehandle
    for offset, size in zip(page.dataoffsets, page.databytecounts, strict=False):
        stream.seek(offset)
        inflater = zlib.decompressobj()
        unpacked = len(inflater.decompress(stream.read(size), room + 1))
        if unpacked > room:
            raise damaged(path, f"a strip unpacks to more than {room} bytes")
        if size and unpacked < room and not inflater.eof:
            raise damaged(path, f"a strip ends after {unpacked} bytes")
