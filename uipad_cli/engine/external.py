"""Which other files an .onnx network takes numbers from: older ONNX Runtimes follow any path that it names."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

# ONNX's own definition, as far as tensors lie below it: message → number of a field → its message
_BELOW = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_KEY, _VALUE = 1, 2  # fields of an entry
_FIXED = {1: 8, 5: 4}  # bytes of a value by its wire type
_VARINT, _BYTES = 0, 2


def external_files(path: Path) -> set[str]:
    """Names of files beside a network that hold numbers of it. Raises ValueError for what is no network, OSError."""
    if path.stat().st_size == 0:
        raise ValueError("the file is empty")
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return set(_locations(data, 0, len(data), "model"))
        except (IndexError, RecursionError) as error:
            raise ValueError("it ends too early, or is nested too deeply") from error


def _locations(data: mmap.mmap, start: int, end: int, kind: str) -> Iterator[str]:
    entry = {_KEY: b"", _VALUE: b""}
    for number, first, last in _fields(data, start, end):
        if kind == "entry" and number in entry:
            entry[number] = data[first:last]
        elif below := _BELOW.get(kind, {}).get(number):
            yield from _locations(data, first, last, below)
    if kind == "entry" and entry[_KEY] == b"location":
        yield entry[_VALUE].decode("utf-8")


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of every field of a message that is text, bytes or another message."""
    while start < end:
        tag, start = _varint(data, start)
        if tag >= 1 << 32:  # others would read it without its highest bits
            raise ValueError("a field without a number")
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, start = _varint(data, start)
        elif kind == _BYTES:
            size, start = _varint(data, start)
            yield number, start, min(start + size, end)
            start += size
        elif kind in _FIXED:
            start += _FIXED[kind]
        else:
            raise ValueError(f"a field of the kind {kind}")
    if start != end:
        raise ValueError("a field reaches beyond its end")


def _varint(data: mmap.mmap, start: int) -> tuple[int, int]:
    """A number of up to ten bytes, and where it ends."""
    value = 0
    for place in range(10):
        byte = data[start + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, start + place + 1
    raise ValueError("a number without an end")
