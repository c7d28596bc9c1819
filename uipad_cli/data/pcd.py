"""pcd → columns: ascii, binary and compressed (LZF), any order of fields, organised where HEIGHT is above 1."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from uipad_cli.data import columns
from uipad_cli.data.columns import Cloud
from uipad_cli.data.headers import check_size, damaged
from uipad_cli.data.rasters import Raster
from uipad_cli.errors import DataError

_SIZES = {"F": (4, 8), "U": (1, 2, 4, 8), "I": (1, 2, 4, 8)}


@dataclass(frozen=True)
class _Field:
    name: str
    dtype: str  # of one value, little-endian
    size: int  # bytes of one value
    count: int  # values of one point

    @property
    def bytes(self) -> int:
        return self.size * self.count

    @property
    def wanted(self) -> bool:
        return self.count == 1 and self.name in columns.WANTED


@dataclass(frozen=True)
class _Header:
    fields: tuple[_Field, ...]
    width: int
    height: int
    encoding: str
    start: int  # the byte behind the header

    @property
    def points(self) -> int:
        return self.width * self.height

    @property
    def row(self) -> int:
        """Bytes of one point."""
        return sum(field.bytes for field in self.fields)


def parse_pcd(data: bytes, path: Path) -> Cloud:
    """The points of a pcd file; organised where its HEIGHT is above 1. Raises DataError."""
    try:
        header = _header(data)
    except ValueError as error:
        raise damaged(path, str(error)) from error
    check_size(header.width, header.height, path)
    columns.check_points(header.points, header.row, path)
    if header.encoding == "ascii":
        found = _text(data, header, path)
    elif header.encoding == "binary":
        found = _packed(data, header, path)
    elif header.encoding == "binary_compressed":
        found = _compressed(data, header, path)
    else:
        raise DataError(f"{path}: DATA {header.encoding[:40]} is not supported", "save it as DATA binary")
    names = tuple(field.name for field in header.fields)
    return Cloud(found, names, (header.height, header.width) if header.height > 1 else None)


# ---- header -----------------------------------------------------------------------------------------------------


def _header(data: bytes) -> _Header:
    """Raises ValueError."""
    entries, start = _entries(data)
    names = entries.get("FIELDS", entries.get("COLUMNS", []))
    many = entries.get("COUNT", ["1"] * len(names))
    if not names or not len(names) == len(entries.get("SIZE", [])) == len(entries.get("TYPE", [])) == len(many):
        raise ValueError("its header does not give every field of FIELDS a SIZE, a TYPE and a COUNT")
    fields = tuple(map(_field, names, entries["TYPE"], entries["SIZE"], many))
    wanted = [field.name for field in fields if field.wanted]
    if len(set(wanted)) != len(wanted):
        raise ValueError("its header declares a field twice")
    height = _number(entries, "HEIGHT", "1")
    width = _number(entries, "WIDTH", entries.get("POINTS", [""])[0])
    points = _number(entries, "POINTS", str(width * height))
    if points != width * height:
        raise ValueError(f"WIDTH {width} x HEIGHT {height} is not its number of POINTS {points}")
    return _Header(fields, width, height, entries["DATA"][0].lower(), start)


def _entries(data: bytes) -> tuple[dict[str, list[str]], int]:
    """Words of each line by its keyword, and the byte behind the last line, which is DATA. Raises ValueError."""
    entries: dict[str, list[str]] = {}
    start = 0
    while "DATA" not in entries:
        end = data.find(b"\n", start, columns.HEADER_CAP)
        if end < 0:
            raise ValueError("it has no DATA line")
        words = data[start:end].decode("ascii", "replace").split()
        start = end + 1
        if not words or words[0].startswith("#"):
            continue
        if words[0] in entries or len(words) == 1:
            raise ValueError(f"the line {words[0][:40]} of its header is empty or comes twice")
        entries[words[0]] = words[1:]
    return entries, start


def _field(name: str, kind: str, size: str, count: str) -> _Field:
    if columns.whole(size) not in _SIZES.get(kind, ()):
        raise ValueError(f"the field {name[:40]} has an unknown TYPE {kind[:40]} of SIZE {size}")
    if columns.whole(count) == 0:
        raise ValueError(f"the field {name[:40]} has COUNT 0")
    dtype = "<" + {"F": "f", "U": "u", "I": "i"}[kind] + size
    return _Field(name, dtype, int(size), int(count))


def _number(entries: dict[str, list[str]], key: str, default: str) -> int:
    return columns.whole(entries.get(key, [default])[0])


# ---- numbers ----------------------------------------------------------------------------------------------------


def _text(data: bytes, header: _Header, path: Path) -> dict[str, Raster]:
    width = sum(field.count for field in header.fields)
    columns.check_points(header.points, 8 * width, path)
    if 2 * header.points * width > len(data) - header.start + 1:
        raise damaged(path, f"its header promises {header.points} points, more than the file can hold")
    rows = columns.lines(data, header.start, path)
    numbers = columns.table(rows, header.points, width, path)
    if next(rows, None) is not None:
        raise damaged(path, f"its header promises {header.points} points, but more follow")
    found, place = {}, 0
    for field in header.fields:
        if field.wanted:
            found[field.name] = columns.typed(numbers[:, place], field.name, field.dtype)
        place += field.count
    return found


def _packed(data: bytes, header: _Header, path: Path) -> dict[str, Raster]:
    """One point after the other."""
    end = header.start + header.points * header.row
    if end > len(data):
        raise damaged(path, f"it ends before the last of the {header.points} points that its header promises")
    columns.check_rest(data, end, path)
    found, place = {}, header.start
    for field in header.fields:
        if field.wanted:
            found[field.name] = columns.packed(data, place, header.row, header.points, field.dtype)
        place += field.bytes
    return found


def _compressed(data: bytes, header: _Header, path: Path) -> dict[str, Raster]:
    """One field after the other, all points of each."""
    place = header.start + 8
    if place > len(data):
        raise damaged(path, "it ends in front of its points")
    packed, size = struct.unpack_from("<II", data, header.start)
    if place + packed > len(data):
        raise damaged(path, f"it ends inside its {packed} compressed bytes")
    if size != header.points * header.row:
        raise damaged(path, f"{size} bytes for {header.points} points of {header.row} bytes")
    columns.check_rest(data, place + packed, path)
    try:
        body = _unpack(data[place : place + packed], size)
    except (IndexError, ValueError) as error:
        raise damaged(path, "its compressed points cannot be unpacked") from error
    found, place = {}, 0
    for field in header.fields:
        if field.wanted:
            found[field.name] = columns.packed(body, place, field.size, header.points, field.dtype)
        place += field.bytes * header.points
    return found


def _unpack(packed: bytes, size: int) -> bytes:
    """LZF: runs of literal bytes, and copies of up to 264 bytes from up to 8192 bytes back.

    Raises ValueError or IndexError for what does not unpack to exactly `size` bytes.
    """
    out = bytearray()
    place, end = 0, len(packed)
    while place < end and len(out) < size:
        control = packed[place]
        if control < 32:
            stop = place + control + 2
            out += packed[place + 1 : stop]
            place = stop
            continue
        length = (control >> 5) + 2
        if length == 9:
            place += 1
            length += packed[place]
        back = ((control & 31) << 8) + packed[place + 1] + 1
        place += 2
        start = len(out) - back
        if start < 0:
            raise ValueError("a copy from in front of the first byte")
        if back < length:  # the copy overlaps what it writes
            out += (out[start:] * (length // back + 1))[:length]
        else:
            out += out[start : start + length]
    if place != end or len(out) != size:
        raise ValueError("not the size that was promised")
    return bytes(out)
