"""What an image file says about itself, read before anything is decoded: no library is trusted with a damaged file."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from uipad_cli.errors import DataError

PIXEL_CAP = 64 * 1024 * 1024
PNG_HEADER = 33  # bytes: signature, then the chunk that holds the size
SCAN_CAP = 100  # of a jpeg, each of which may go over the whole picture; progressive ones have about ten
SEGMENT_CAP = 10_000  # in a JPEG
REASON_CAP = 300  # letters: what is quoted from a damaged file can be as long as it

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # colour type -> channels; a palette holds colours
_JPEG_BARE = frozenset(range(0xD0, 0xD8)) | {0x01}  # markers without a length
_JPEG_SEGMENT = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")  # what is not a part of a scan
_JPEG_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

_MARKS = (
    (b"\x93NUMPY", "npy"),
    (b"PK\x03\x04", "npz"),
    (b"ply", "ply"),
    (b"# .PCD", "pcd"),
    (b"VERSION", "pcd"),  # its comment line is optional
    (b"\x76\x2f\x31\x01", "exr"),
)
_PNM_HEADER = 1024  # bytes that hold its three numbers, comments included


@dataclass(frozen=True)
class Header:
    """Size and sample layout as the file declares them.

    format: png, jpeg, bmp or pnm, whose size is known, or tiff, npy, npz, ply, pcd or exr, whose readers look inside.
    """

    format: str
    width: int = 0
    height: int = 0
    channels: int = 0
    bits: int = 0


def probe(data: bytes, path: Path) -> Header:
    """Header of an image given as bytes, by its first bytes, whatever it is called.

    Raises DataError for an unknown format, a file that is cut short or damaged, and more than PIXEL_CAP pixels.
    """
    try:
        header = _parse(data)
    except (struct.error, IndexError) as error:
        raise damaged(path, "it ends inside its header") from error
    except ValueError as error:
        raise damaged(path, str(error)) from error
    if header is None:
        raise DataError(
            f"{path}: not an image file that can be read (its first bytes are {data[:8]!r})",
            "use png, jpg, bmp, ppm or tif for colour; tif, 16-bit png, npy, npz, ply, pcd, exr or pgm for geometry",
        )
    check_size(header.width, header.height, path)
    return header


def png_size(head: bytes, path: Path) -> tuple[int, int]:
    """Width and height from the first PNG_HEADER bytes of a png. Raises DataError as `probe`."""
    if len(head) < PNG_HEADER:
        raise damaged(path, "it ends inside its header")
    try:
        kind, body, checksum = struct.unpack_from(">4s13sI", head, len(_PNG) + 4)
        header = _png_header(kind, body)
    except ValueError as error:
        raise damaged(path, str(error)) from error
    if zlib.crc32(kind + body) != checksum:
        raise damaged(path, "wrong checksum of its header")
    check_size(header.width, header.height, path)
    return header.width, header.height


def is_png(head: bytes) -> bool:
    """True for the first bytes of a png."""
    return head.startswith(_PNG)


def check_size(width: int, height: int, path: Path) -> None:
    """Raise DataError where an image declares more than PIXEL_CAP pixels."""
    if width * height > PIXEL_CAP:
        raise DataError(
            f"{path}: declares {width} x {height} pixels, more than the limit of {PIXEL_CAP}",
            "check that the file is not damaged, or scale it down",
        )


def damaged(path: Path, reason: str) -> DataError:
    """The one way to say that a file is broken."""
    return DataError(f"{path}: the file is damaged: {reason[:REASON_CAP]}", "copy or export it again")


def _parse(data: bytes) -> Header | None:
    if data.startswith(_PNG):
        return _png(data)
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if data.startswith(b"BM"):
        return _bmp(data)
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return Header("tiff")
    if data[:2] in (b"P2", b"P3", b"P5", b"P6") and data[2:3].isspace():
        return _pnm(data)
    return next((Header(name) for start, name in _MARKS if data.startswith(start)), None)


def _png(data: bytes) -> Header:
    """Walk all chunks: a cut or flipped byte is found here instead of inside a decoder."""
    header = None
    place = len(_PNG)
    while place < len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if end > len(data):
            break
        if zlib.crc32(memoryview(data)[place + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise ValueError(f"wrong checksum of the chunk at byte {place}")
        if header is None:
            header = _png_header(kind, data[place + 8 : end - 4])
        if kind == b"IEND":
            return header
        place = end
    raise ValueError(f"the PNG is cut short at byte {len(data)}")


def _png_header(kind: bytes, body: bytes) -> Header:
    if kind != b"IHDR":
        raise ValueError("the PNG does not begin with its header")
    width, height, bits, colour = struct.unpack_from(">IIBB", body)
    if colour not in _PNG_CHANNELS or width == 0 or height == 0:
        raise ValueError("the PNG header holds impossible values")
    return Header("png", width, height, _PNG_CHANNELS[colour], bits)


def _jpeg(data: bytes) -> Header:
    place = 2
    for _ in range(SEGMENT_CAP):
        if data[place] != 0xFF:
            break
        marker = data[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
        elif marker in _JPEG_BARE:
            place += 2
        elif marker in _JPEG_FRAME:
            bits, height, width, channels = struct.unpack_from(">BHHB", data, place + 4)
            _check_scans(data, place)
            return Header("jpeg", width, height, channels, bits)
        else:
            place += 2 + int(struct.unpack_from(">H", data, place + 2)[0])
    raise ValueError("the JPEG holds no picture")


def _check_scans(data: bytes, frame: int) -> None:
    """Raise ValueError where a JPEG has no end, too many scans, or fewer restart markers than its size asks for.

    Decoders say nothing of lines that are lost, and go over the whole picture for every scan.
    """
    scans, interval, place = 0, 0, frame
    for _ in range(SEGMENT_CAP):
        match = _JPEG_SEGMENT.search(data, place)
        if match is None:
            break
        marker, place = match[1][0], match.end()
        if marker == 0xD9:
            return
        if place + 2 > len(data):
            break
        length = struct.unpack_from(">H", data, place)[0]
        if marker == 0xDD:
            interval = struct.unpack_from(">H", data, place + 2)[0]
        if marker == 0xDA:
            scans += 1
            if scans > SCAN_CAP:
                raise ValueError(f"the JPEG holds more than {SCAN_CAP} scans")
            if interval:
                _check_restarts(data, frame, place, interval)
        place += length
    else:
        raise ValueError(f"the JPEG holds more than {SEGMENT_CAP} segments")
    raise ValueError(f"the JPEG is cut short at byte {len(data)}")


def _check_restarts(data: bytes, frame: int, scan: int, interval: int) -> None:
    """frame: the byte of the marker of the frame; scan: the byte behind that of a scan, with restarts in it."""
    height, width, channels = struct.unpack_from(">HHB", data, frame + 5)
    if data[frame + 1] not in (0xC0, 0xC1) or data[scan + 2] != channels:
        return  # scans of a part of the channels, whose sizes differ
    sampling = data[frame + 11 : frame + 10 + 3 * channels : 3]
    across, down = (max(each) for each in zip(*((one >> 4, one & 15) for one in sampling), strict=True))
    if channels == 1 or 0 in (across, down):
        across = down = 1
    blocks = -(-width // (8 * across)) * -(-height // (8 * down))
    match = _JPEG_SEGMENT.search(data, scan)
    end = match.start() if match else len(data)
    found = sum(data.count(bytes([0xFF, marker]), scan, end) for marker in range(0xD0, 0xD8))
    if found < -(-blocks // interval) - 1:
        raise ValueError(f"{found} of {-(-blocks // interval) - 1} restart markers are in the JPEG")


def _bmp(data: bytes) -> Header:
    width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
    if width <= 0 or height == 0:
        raise ValueError("the BMP header holds impossible values")
    return Header("bmp", width, abs(height), max(1, bits // 8), 8)


def _pnm(data: bytes) -> Header:
    text = re.sub(rb"#[^\r\n]*", b" ", data[2:_PNM_HEADER])
    numbers = [int(number) for number in re.findall(rb"\d+", text)[:3]]
    if len(numbers) < 3 or min(numbers) == 0 or numbers[2] > 65535:
        raise ValueError("the header of the PNM holds impossible values")
    width, height, largest = numbers
    return Header("pnm", width, height, 3 if data[1:2] in b"36" else 1, 16 if largest > 255 else 8)
