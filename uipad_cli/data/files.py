"""Files on disk ↔ arrays: the only place that decodes or encodes; every reader checks and explains."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import tifffile

from uipad_cli.data.headers import Header, probe
from uipad_cli.data.markup import parse_json
from uipad_cli.data.numbers import read_ppm
from uipad_cli.data.rasters import read_tiff, tiff_header, untagged
from uipad_cli.errors import DataError, ResourceError

BYTE_CAP = 512 * 1024 * 1024
JSON_CAP = 64 * 1024 * 1024
JSON_PARTS = 4_000_000  # values; each takes many times its letters
_silence = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel  # before and since version 5
_silence(0)  # what is wrong is told once, by name

TEMPORARY = ".uipad-*.tmp"  # what a killed writer leaves behind; may be deleted once its process has ended

Colour = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


# ---- readers ----------------------------------------------------------------------------------------------------


def read_rgb(path: Path) -> Colour:
    """Colour image -> uint8 [H0,W0,3], RGB order, from png, jpg, bmp, ppm, tif, or the colours of a pcd or ply.

    An orientation tag is not applied (the geometry would not follow), alpha is dropped, 16-bit colour is scaled to
    8 bit, one 8-bit channel is repeated three times (grey cameras). One 16-bit channel is refused: that is how depth
    images look. Raises DataError.
    """
    data = read_bytes(path)
    header = _image_header(data, path)
    if header.format in ("ply", "pcd"):
        return _cloud_colours(data, path)
    if header.bits > 8 and header.channels == 1:
        raise DataError(
            f"{path}: a one-channel image of {header.bits} bits, which looks like depth, where colour is expected",
            "pass the colour image here; convert a grey image to 8 bits",
        )
    if header.format == "pnm" and header.channels == 3:
        return read_ppm(data, path)
    image = decode(data, path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def read_mask(path: Path) -> Mask:
    """Defect mask -> bool [H0,W0]: True where any channel holds an id above 0. Raises DataError."""
    data = read_bytes(path)
    header = _image_header(data, path)
    if header.format in ("ply", "pcd"):
        raise DataError(f"{path}: points where a mask is expected", "save the mask as png")
    if header.format == "jpeg":
        raise DataError(f"{path}: a JPEG cannot hold a mask, its compression invents ids", "save the mask as png")
    flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION  # drops alpha, keeps 16 bits
    image = decode(data, path, flags)
    return np.asarray(image.reshape(*image.shape[:2], -1).any(axis=2))


def read_valid(path: Path) -> Mask:
    """Mask of measured pixels -> bool [H0,W0], True where measured. Raises DataError."""
    return read_mask(path)


def read_map(path: Path) -> tuple[Floats, dict[str, Any]]:
    """Float tiff of one channel -> float32 [H0,W0] (NaN kept) and the facts stored with it. Raises DataError."""
    raster, description = read_tiff(read_bytes(path), path)
    if raster.ndim != 2 or raster.dtype.kind != "f":
        raise DataError(f"{path}: {describe(raster)} where a float map of one channel is expected")
    with np.errstate(over="ignore", invalid="ignore"):
        values = raster.astype(np.float32, copy=False)
    unseen = np.isnan(values)
    if unseen.any():  # some kinds of NaN make a noise wherever they are computed with
        values = np.where(unseen, np.float32(np.nan), values)
    if np.isinf(values).any():
        raise DataError(f"{path}: holds infinite numbers where a float map is expected", "let uipad write it again")
    try:
        info = parse_json(description)
    except (ValueError, RecursionError):
        info = {}
    return values, info if isinstance(info, dict) else {}


def read_json(path: Path) -> Any:
    """JSON value of a file. Raises DataError as `json_value`, and for a file larger than JSON_CAP."""
    return json_value(read_bytes(path, JSON_CAP), path)


def json_value(data: bytes, path: Path) -> Any:
    """JSON value of the bytes of a file.

    Raises DataError for text that is not JSON, holds numbers that are not finite, and has more than JSON_PARTS.
    """
    if sum(data.count(mark) for mark in (b",", b"[", b"{")) > JSON_PARTS:
        raise DataError(f"{path}: holds more than {JSON_PARTS} values")
    try:
        return parse_json(data.decode("utf-8"))
    except RecursionError as error:
        raise DataError(f"{path}: nested too deeply") from error
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON: {error}", "delete the file and let it be written again") from error


def read_bytes(path: Path, cap: int = BYTE_CAP) -> bytes:
    """All bytes of a file. Raises DataError where it is missing, empty, unreadable or larger than `cap`."""
    try:
        if not path.is_file():
            what = "a folder or a special file, not a file" if path.exists() else "no such file"
            raise DataError(f"{path}: {what}", "check the path")
        size = path.stat().st_size
        if size > cap:
            raise DataError(f"{path}: {size} bytes, more than the limit of {cap}")
        if size == 0:
            raise DataError(f"{path}: the file is empty", "copy or export it again")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}", "check its permissions") from error


# ---- writers ----------------------------------------------------------------------------------------------------


def write_bytes(path: Path, data: bytes) -> None:
    """Write all or nothing. Raises ResourceError."""
    write_atomically(path, lambda temporary: temporary.write_bytes(data), len(data))


def write_last(path: Path, data: bytes) -> None:
    """Write what stands for all that was written before it, so that a loss of power keeps either. Raises ResourceError.

    Names are settled, too: these and, on the disks that keep a journal, all that were given before.
    """
    write_bytes(path, data)
    with suppress(OSError, AttributeError):  # Windows opens no folders
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_atomically(path: Path, write: Callable[[Path], object], size: int) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to disk, then rename it. Raises ResourceError.

    size: bytes that will be written, for the message when they find no room.
    """
    temporary = _temporary(path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, size, error) from error
    finally:
        with suppress(OSError):  # gone already after a successful rename
            temporary.unlink()


@contextmanager
def whole_folder(folder: Path, size: int) -> Iterator[Path]:
    """A folder to fill, which is at `folder` once the block has ended, and nowhere where it fails.

    folder: not there, or empty; size: as in `write_atomically`. Raises ResourceError.
    """
    temporary = _temporary(folder.parent)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for path in temporary.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        temporary.replace(folder)
    except OSError as error:
        raise unwritable(folder, size, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(folder: Path) -> Path:
    """A name that nobody else gives, and that tells whose it is."""
    return folder / TEMPORARY.replace("*", f"{os.getpid()}-{secrets.token_hex(6)}")


def write_png(path: Path, array: npt.NDArray[np.uint8]) -> None:
    """Write uint8 [H0,W0] or RGB [H0,W0,3] losslessly. Raises ResourceError."""
    write_bytes(path, _encode(".png", array, []))


def write_jpeg(path: Path, array: npt.NDArray[np.uint8]) -> None:
    """Write a picture for people, uint8 [H0,W0] or RGB [H0,W0,3]; never data. Raises ResourceError."""
    write_bytes(path, encode_jpeg(array))


def encode_jpeg(array: npt.NDArray[np.uint8]) -> bytes:
    """Bytes of a JPEG file of uint8 [H0,W0] or RGB [H0,W0,3]."""
    return _encode(".jpg", array, [cv2.IMWRITE_JPEG_QUALITY, 88])


def write_tiff(path: Path, array: npt.NDArray[Any], info: Mapping[str, Any] | None = None) -> None:
    """Write float32 [H0,W0] or [H0,W0,3], with `info` as JSON in its description; equal input, equal bytes.

    Raises ResourceError.
    """
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise ValueError(f"a float tiff is written from [H,W] or [H,W,3], not {describe(array)}")
    buffer = BytesIO()
    tifffile.imwrite(
        buffer,
        np.ascontiguousarray(array, dtype=np.float32),
        photometric="minisblack" if array.ndim == 2 else "rgb",
        description=None if info is None else json.dumps(dict(info), allow_nan=False),
        metadata=None,
        software=False,
    )
    write_bytes(path, buffer.getvalue())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value, keys in the order given. Raises ValueError for NaN or infinity, ResourceError."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_last(path, f"{text}\n".encode())


# ---- decoding ---------------------------------------------------------------------------------------------------


def _image_header(data: bytes, path: Path) -> Header:
    header = probe(data, path)
    if header.format == "tiff":
        header = tiff_header(data, path)
    if header.format in ("npy", "npz", "exr") or header.bits > 16:
        raise DataError(
            f"{path}: holds numbers ({header.format}), which looks like geometry, where an image is expected",
            "pass the colour image or mask here, and the xyz or depth file as geometry",
        )
    return header


def _cloud_colours(data: bytes, path: Path) -> Colour:
    from uipad_cli.data.clouds import cloud_colours  # on demand: few have colour there alone

    colours = cloud_colours(data, path)
    if colours is None:
        raise DataError(f"{path}: points without colours in rows and columns", "pass the colour image here")
    return colours


def decode(data: bytes, path: Path, flags: int) -> npt.NDArray[Any]:
    """An image by cv2, after its header was looked at. Raises DataError."""
    if data[:2] in (b"II", b"MM"):
        data = untagged(data, path)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # its words are for programmers, and many
        image = None
    if image is None:
        raise DataError(f"{path}: the file is damaged: the picture cannot be decoded", "copy or export it again")
    return image


def _encode(suffix: str, array: npt.NDArray[np.uint8], settings: Sequence[int]) -> bytes:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise ValueError(f"a {suffix} is written from uint8 [H,W] or [H,W,3], not {describe(array)}")
    image = array if array.ndim == 2 else cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
    done, code = cv2.imencode(suffix, image, settings)
    if not done:
        raise ValueError(f"the {suffix} encoder refused {describe(array)}")
    return code.tobytes()


def describe(array: npt.NDArray[Any]) -> str:
    """Type and shape of an array, for messages."""
    return f"{array.dtype} [{','.join(map(str, array.shape))}]"


def unwritable(path: Path, size: int, error: OSError) -> ResourceError:
    """What to say of a file of so many bytes that could not be written."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return ResourceError(f"{path}: the disk is full ({size} bytes to write)", "free some space, then run again")
    return ResourceError(f"{path}: cannot be written: {error.strerror or error}", "choose a folder that is writable")
