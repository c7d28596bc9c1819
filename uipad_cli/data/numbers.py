"""Images of numbers in npz, pgm, ppm and exr → arrays, with every size checked before memory is taken."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import zipfile
import zlib
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from uipad_cli.data.columns import check_rest
from uipad_cli.data.headers import check_size, damaged
from uipad_cli.data.rasters import ARRAY_CAP, Raster, read_npy
from uipad_cli.errors import DataError, ResourceError

HEADER_CAP = 64 * 1024  # bytes of a pgm or ppm
MEMBER_CAP = 1000  # arrays in one npz
REMARK_CAP = 1000  # in an ascii pgm or ppm
DECODE_SECONDS = 10  # of a small picture
DECODE_SPEED = 1_000_000  # numbers a second, which is slow
DECODE_ROOM = 512 * 1024 * 1024  # bytes besides the numbers

_SMALLER = "check that the file is not damaged, or scale it down"
_KNOWN = ("xyz", "points", "depth", "z", "height", "arr_0")  # what is taken from an npz, first come first served
_ZIP_TROUBLE = (  # all that a damaged archive has been seen to raise
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ValueError,
    OSError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    IndexError,
    KeyError,
    OverflowError,
)

_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_PNM = re.compile(rb"P([2356])" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})\s")

_EXR_SIZES = (4, 2, 4)  # bytes of uint, half, float
_EXR_LINES = (1, 1, 1, 16, 32, 16, 32, 32, 32, 256)  # of one block, by compression; none after dwab is supported
_EXR_CHOICES = (("X", "Y", "Z"), ("Z",), ("DEPTH",), ("R", "G", "B"), ("Y",))
# The decoder speaks on stdout, which carries data here, and it is native code fed with files of strangers: it runs in
# a process of its own, with nothing but a pipe to write to.
_EXR_CHILD = """
import os, sys
pipe = os.fdopen(os.dup(1), "wb")
nowhere = os.open(os.devnull, os.O_WRONLY)
os.dup2(nowhere, 1)
os.dup2(nowhere, 2)
sys.path[:] = sys.argv[4:]
try:
    import resource
    resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[3]),) * 2)
except (ImportError, ValueError, OSError):
    pass
import numpy, OpenEXR
channels = OpenEXR.File(sys.argv[1], separate_channels=True).channels()
for name in sys.argv[2].split("\\n"):
    pipe.write(numpy.asarray(channels[name].pixels).astype("<f4").tobytes())
pipe.close()
"""


# ---- npz --------------------------------------------------------------------------------------------------------


def read_npz(data: bytes, path: Path) -> Raster:
    """The one array of an npz file, or the one named xyz, points, depth, z, height or arr_0: [H,W] or [H,W,3].

    Nothing is unpacked beyond the size that the archive declares, and that is capped. Raises DataError.
    """
    if data.count(b"PK\1\2") > MEMBER_CAP:  # before a table of millions of names is built
        raise DataError(f"{path}: holds more than {MEMBER_CAP} arrays", "save the one that is meant in its own file")
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            member = _choose(archive.infolist(), path)
            with archive.open(member) as file:
                inflated = file.read(member.file_size + 1)
    except _ZIP_TROUBLE as error:
        raise damaged(path, str(error)[:160] or type(error).__name__) from error
    if len(inflated) != member.file_size:
        raise damaged(path, f"an array unpacks to {len(inflated)} bytes where {member.file_size} are declared")
    return read_npy(inflated, path)


def _choose(members: list[zipfile.ZipInfo], path: Path) -> zipfile.ZipInfo:
    arrays = {member.filename.removesuffix(".npy"): member for member in members if member.filename.endswith(".npy")}
    if not arrays:
        raise DataError(f"{path}: an archive without an array", "save the array with numpy.savez")
    names = list(arrays) if len(arrays) == 1 else [name for name in _KNOWN if name in arrays]
    if not names:
        raise DataError(
            f"{path}: which of its arrays is meant? it holds {', '.join(sorted(arrays))[:200]}",
            f"name the one that is meant: {', '.join(_KNOWN)}",
        )
    member = arrays[names[0]]
    if member.file_size > ARRAY_CAP:
        raise DataError(f"{path}: declares {member.file_size} bytes, more than the limit of {ARRAY_CAP}", _SMALLER)
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{path}: its compression is not supported", "save it with numpy.savez_compressed")
    return member


# ---- pgm, ppm ---------------------------------------------------------------------------------------------------


def read_pgm(data: bytes, path: Path) -> Raster:
    """Grey image, P5 or P2 -> uint8 or uint16 [H,W]; 16 bits are read big-endian, as the format demands.

    Raises DataError.
    """
    return _pnm(data, path, "25")[0][..., 0]


def read_ppm(data: bytes, path: Path) -> npt.NDArray[np.uint8]:
    """Colour image, P6 or P3 -> uint8 [H,W,3], RGB; what counts to another number than 255 is scaled.

    Raises DataError.
    """
    values, top = _pnm(data, path, "36")
    if top == 255:
        return values.astype(np.uint8, copy=False)
    return np.minimum(np.round(values * np.float32(255 / top)), 255).astype(np.uint8)


def _pnm(data: bytes, path: Path, kinds: str) -> tuple[Raster, int]:
    """Values [H,W,C] and the value that stands for white."""
    header = _PNM.match(data[:HEADER_CAP])
    if header is None or header[1].decode() not in kinds:
        raise damaged(path, f"it does not begin with P{' or P'.join(kinds)}, a width, a height and a greatest value")
    width, height, top = (int(word) for word in header.groups()[1:])
    if width == 0 or height == 0 or not 0 < top < 65536:
        raise damaged(path, f"it declares {width} x {height} pixels up to the value {top}")
    check_size(width, height, path)
    shape = (height, width, 1 if "2" in kinds else 3)
    count, kind = shape[0] * shape[1] * shape[2], np.dtype(">u2" if top > 255 else "u1")
    if header[1] in b"23":
        return _written(data[header.end() :], count, top, path).astype(kind.newbyteorder("=")).reshape(shape), top
    end = header.end() + count * kind.itemsize
    if end > len(data):
        raise damaged(path, f"it ends before the last of its {width} x {height} pixels")
    check_rest(data, end, path)
    values = np.frombuffer(data, kind, count, header.end())
    return values.astype(kind.newbyteorder("=")).reshape(shape), top


def _written(text: bytes, count: int, top: int, path: Path) -> npt.NDArray[np.int64]:
    """`count` numbers of an ascii image, [count]."""
    if text.count(b"#") > REMARK_CAP:
        raise damaged(path, f"more than {REMARK_CAP} remarks among its pixels")
    text = re.sub(rb"#[^\r\n]*", b"", text)
    if text.translate(None, b"0123456789 \t\r\n\v\f"):
        raise damaged(path, "something other than numbers among its pixels")
    if not 2 * count - 1 <= len(text) <= 16 * count + HEADER_CAP:  # before memory is taken for each
        raise damaged(path, f"{len(text)} characters cannot be {count} numbers")
    values = np.fromstring(text, np.int64, sep=" ")
    if len(values) != count:
        raise damaged(path, f"{len(values)} numbers where its header promises {count}")
    if values.max() > top:
        raise damaged(path, f"a pixel of {values.max()} where its header promises at most {top}")
    return values


# ---- exr --------------------------------------------------------------------------------------------------------


def one_thread() -> dict[str, str]:
    """The environment of a child whose memory is bounded: libraries take room for every thread that they start."""
    return {**os.environ, **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")}


def read_exr(data: bytes, path: Path) -> Raster:
    """Depth or xyz of an OpenEXR file -> float32 [H,W] or [H,W,3].

    Taken are the channels X, Y, Z, or else Z, or depth, or R, G, B, or Y, or the only one. The file is decoded from
    `path`, in a process of its own. Raises DataError, ResourceError where the package OpenEXR is missing.
    """
    try:
        width, height, names, size = _exr_header(data, path)
    except (struct.error, IndexError) as error:
        raise damaged(path, "it ends inside its header") from error
    except ValueError as error:
        raise damaged(path, str(error)) from error
    if find_spec("OpenEXR") is None:
        raise ResourceError(f"{path}: EXR needs the package OpenEXR", "pip install 'uipad[exr]'")
    what = [os.fspath(path.absolute()), "\n".join(names), str(4 * size + DECODE_ROOM)]
    command = [sys.executable, "-I", "-c", _EXR_CHILD, *what, *sys.path]
    seconds = DECODE_SECONDS + size / 4 / DECODE_SPEED
    try:
        child = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False, timeout=seconds, env=one_thread()
        )
    except subprocess.TimeoutExpired as error:
        raise damaged(path, f"its picture is not decoded within {seconds:.0f} seconds") from error
    except OSError as error:
        raise ResourceError(f"{path}: cannot be decoded, no process can be started: {error.strerror}") from error
    if child.returncode != 0 or len(child.stdout) != 4 * width * height * len(names):
        raise damaged(path, "its picture cannot be decoded")
    planes = np.frombuffer(child.stdout, "<f4").astype(np.float32).reshape(len(names), height, width)
    return planes[0] if len(names) == 1 else np.ascontiguousarray(np.moveaxis(planes, 0, -1))


def _exr_header(data: bytes, path: Path) -> tuple[int, int, list[str], int]:
    """Width, height, the channels to take, and the bytes of all there are.

    Raises DataError, or what a damaged header leads to.
    """
    magic, version = struct.unpack_from("<II", data)
    if magic != 0x01312F76 or version & 0xFF != 2:
        raise ValueError("it does not begin like an OpenEXR file")
    if version & 0x1800:
        raise DataError(f"{path}: an OpenEXR file of several parts or of deep samples", "save one flat part")
    found = _exr_attributes(data)
    missing = {"channels", "dataWindow", "compression"} - set(found)
    if missing:
        raise ValueError(f"its header holds no {min(missing)}")
    left, top, right, bottom = struct.unpack("<4i", found["dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    if width <= 0 or height <= 0:
        raise ValueError(f"it declares {width} x {height} pixels")
    check_size(width, height, path)
    channels = _exr_channels(found["channels"])
    size = width * height * sum(channels.values())
    if size > ARRAY_CAP:
        raise DataError(
            f"{path}: {width} x {height} pixels of {len(channels)} channels are more than {ARRAY_CAP} bytes", _SMALLER
        )
    if found["compression"][0] >= len(_EXR_LINES):
        raise DataError(f"{path}: its compression ({found['compression'][0]}) is not supported", "save it with ZIP")
    if not version & 0x200 and len(data) < 16 * (height // _EXR_LINES[found["compression"][0]]):
        raise ValueError(f"{len(data)} bytes cannot be {height} lines")
    spelled = {name.upper(): name for name in channels}
    for choice in (*_EXR_CHOICES, tuple(spelled) if len(spelled) == 1 else ("",)):
        if spelled.keys() >= set(choice):
            return width, height, [spelled[name] for name in choice], size
    raise DataError(
        f"{path}: which of its channels is meant? it holds {', '.join(channels)[:200]}",
        "save a file with X, Y, Z or with one channel of depth",
    )


def _exr_attributes(data: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    place = 8
    while data[place]:
        name, place = _exr_name(data, place)
        _, place = _exr_name(data, place)
        size = struct.unpack_from("<i", data, place)[0]
        place += 4 + size
        if size < 0 or place >= len(data) or len(found) == 1000:
            raise ValueError(f"the attribute {name[:40]!r} of its header makes no sense")
        found[name] = data[place - size : place]
    return found


def _exr_channels(data: bytes) -> dict[str, int]:
    """Bytes of one value by the name of its channel."""
    found: dict[str, int] = {}
    place = 0
    while data[place]:
        name, place = _exr_name(data, place)
        kind, *sampling = struct.unpack_from("<i4xii", data, place)
        place += 16
        if not 0 <= kind < len(_EXR_SIZES) or sampling != [1, 1] or name in found or len(found) == 1000:
            raise ValueError(f"the channel {name[:40]!r} makes no sense, or is not of full size")
        found[name] = _EXR_SIZES[kind]
    return found


def _exr_name(data: bytes, place: int) -> tuple[str, int]:
    """A name that ends with a zero, and the byte behind it."""
    end = data.find(b"\0", place, place + 256)
    if end < 0:
        raise ValueError("a name in its header has no end")
    return data[place:end].decode("utf-8", "replace"), end + 1
