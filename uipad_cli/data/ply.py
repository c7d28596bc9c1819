"""ply → columns: ascii and binary of both byte orders, and the grid where the points are organised."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from uipad_cli.data import columns
from uipad_cli.data.columns import Cloud
from uipad_cli.data.headers import check_size, damaged
from uipad_cli.data.rasters import Raster
from uipad_cli.errors import DataError

_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4"},
    **{"double": "f8", "float64": "f8"},
}
_WIDTH = re.compile(r"\b(?:num_cols|width)\W{1,5}(\d{1,9})\b", re.IGNORECASE)  # also "(Width = 640; Height = 480)"
_HEIGHT = re.compile(r"\b(?:num_rows|height)\W{1,5}(\d{1,9})\b", re.IGNORECASE)


@dataclass(frozen=True)
class _Property:
    name: str
    dtype: str  # of one value
    length: str = ""  # type of the number in front of a list; empty for a plain value


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    properties: tuple[_Property, ...]

    @property
    def listed(self) -> bool:
        return any(each.length for each in self.properties)

    @property
    def row(self) -> int:
        """Bytes of one row, where no property is a list."""
        return sum(int(each.dtype[1]) for each in self.properties)


@dataclass(frozen=True)
class _Header:
    """`order` is "" for ascii; `start` the byte behind the header; `vertex` the place of the vertices in `elements`."""

    order: str
    start: int
    elements: tuple[_Element, ...]
    vertex: int
    size: tuple[int, int]  # height and width as a remark declares them, else 0

    @property
    def grid(self) -> int | None:
        """Place of the range_grid among the elements: one list per cell, of the vertex it holds or of none."""
        names = [element.name for element in self.elements]
        return names.index("range_grid") if "range_grid" in names else None


def parse_ply(data: bytes, path: Path) -> Cloud:
    """The vertices of a ply file; organised where a range_grid, or a width and height in a remark, say so.

    Raises DataError.
    """
    try:
        header = _header(data)
    except ValueError as error:
        raise damaged(path, str(error)) from error
    vertex = header.elements[header.vertex]
    names = tuple(each.name for each in vertex.properties)
    if vertex.listed:
        raise DataError(f"{path}: a list among the properties of its vertices", "export plain points")
    columns.check_points(vertex.count, vertex.row if header.order else 8 * len(names), path)
    _check_grid(header, path)
    found, cells = (_packed if header.order else _text)(data, header, path)
    height, width = header.size
    if cells is None:
        return Cloud(found, names, header.size if height * width == vertex.count else None)
    if cells.min() < -1 or cells.max() >= vertex.count:
        raise damaged(path, f"its range_grid points beyond its {vertex.count} vertices")
    return Cloud(found, names, header.size, cells)


# ---- header -----------------------------------------------------------------------------------------------------


def _header(data: bytes) -> _Header:
    """Raises ValueError."""
    end = re.search(rb"\nend_header[ \t]*\r?\n", data[: columns.HEADER_CAP])
    if end is None:
        raise ValueError("it has no end_header line")
    first, *rest = (line.strip() for line in data[: end.start()].decode("ascii", "replace").split("\n"))
    if first != "ply":
        raise ValueError("it does not begin with the line ply")
    order, remarks = None, ""
    elements: list[tuple[str, int, list[_Property]]] = []
    for line in filter(None, rest):
        match line.split():
            case ["comment" | "obj_info", *_]:
                remarks += line + "\n"
            case ["format", name, "1.0"] if name in _ORDERS and order is None:
                order = _ORDERS[name]
            case ["element", name, count]:
                elements.append((name, columns.whole(count), []))
            case ["property", "list", length, kind, name] if elements and _TYPES.get(length, "f")[0] != "f":
                elements[-1][2].append(_Property(name, _type(kind), _type(length)))
            case ["property", kind, name] if elements:
                elements[-1][2].append(_Property(name, _type(kind)))
            case _:
                raise ValueError(f"the line {line[:60]!r} in its header makes no sense")
    names = [name for name, _, _ in elements]
    if order is None or "vertex" not in names:
        raise ValueError(f"its header declares no {'format' if order is None else 'element vertex'}")
    for each in (names, *([one.name for one in properties] for _, _, properties in elements)):
        if len(set(each)) != len(each):
            raise ValueError("its header declares an element or a property twice")
    made = tuple(_Element(name, count, tuple(properties)) for name, count, properties in elements)
    size = [int(found[1]) if (found := each.search(remarks)) else 0 for each in (_HEIGHT, _WIDTH)]
    return _Header(order, end.end(), made, names.index("vertex"), (size[0], size[1]))


def _type(name: str) -> str:
    if name not in _TYPES:
        raise ValueError(f"its header names an unknown type {name[:40]!r}")
    return _TYPES[name]


def _check_grid(header: _Header, path: Path) -> None:
    if header.grid is None:
        return
    height, width = header.size
    check_size(width, height, path)
    grid = header.elements[header.grid]
    if (
        header.grid < header.vertex
        or len(grid.properties) != 1
        or not grid.listed
        or grid.properties[0].dtype[0] == "f"
    ):
        raise damaged(path, "its range_grid is not one list per cell behind the vertices")
    if grid.count != height * width or grid.count == 0:
        raise damaged(path, f"a range_grid of {grid.count} cells, but num_cols {width} and num_rows {height}")


# ---- numbers ----------------------------------------------------------------------------------------------------

_Found = tuple[dict[str, Raster], npt.NDArray[np.int64] | None]  # columns, cells of the grid


def _text(data: bytes, header: _Header, path: Path) -> _Found:
    vertex = header.elements[header.vertex]
    width = len(vertex.properties)
    if 2 * vertex.count * width > len(data) - header.start + 1:
        raise damaged(path, f"its header promises {vertex.count} points, more than the file can hold")
    rows = columns.lines(data, header.start, path)
    for element in header.elements[: header.vertex]:
        _skip(rows, element.count)
    numbers = columns.table(rows, vertex.count, width, path)
    found = {
        each.name: columns.typed(numbers[:, place], each.name, each.dtype)
        for place, each in enumerate(vertex.properties)
        if each.name in columns.WANTED
    }
    if header.vertex + 1 == len(header.elements) and next(rows, None) is not None:
        raise damaged(path, f"its header promises {vertex.count} points, but more follow")
    if header.grid is None:
        return found, None
    for element in header.elements[header.vertex + 1 : header.grid]:
        _skip(rows, element.count)
    count = header.elements[header.grid].count
    cells = [_cell(line, path) for line in islice(rows, count)]
    if len(cells) != count:
        raise damaged(path, f"it ends after {len(cells)} of the {count} cells of its range_grid")
    return found, np.array(cells, np.int64)


def _skip(rows: Iterator[bytes], count: int) -> None:
    for _ in islice(rows, count):
        pass


def _cell(line: bytes, path: Path) -> int:
    match line.split():
        case [b"0"]:
            return -1
        case [b"1", word] if len(word) < 10 and word.isdigit():
            return int(word)
    raise damaged(path, f"a cell of its range_grid reads {line[:40]!r}")


def _packed(data: bytes, header: _Header, path: Path) -> _Found:
    vertex = header.elements[header.vertex]
    before, after = header.elements[: header.vertex], header.elements[header.vertex + 1 :]
    if any(element.listed for element in before):
        raise DataError(f"{path}: lists in front of its vertices, which are not read", "export the vertices first")
    place = header.start + sum(element.count * element.row for element in before)
    end = place + vertex.count * vertex.row
    if end > len(data):
        raise damaged(path, f"it ends before the last of the {vertex.count} points that its header promises")
    found = {}
    for each in vertex.properties:
        if each.name in columns.WANTED:
            found[each.name] = columns.packed(data, place, vertex.row, vertex.count, header.order + each.dtype)
        place += int(each.dtype[1])
    if header.grid is None:
        if not any(element.listed for element in after):
            columns.check_rest(data, end + sum(element.count * element.row for element in after), path)
        return found, None
    between = header.elements[header.vertex + 1 : header.grid]
    if any(element.listed for element in between):
        raise DataError(f"{path}: lists in front of its range_grid, which are not read", "export the grid first")
    end += sum(element.count * element.row for element in between)
    return found, _packed_cells(data, end, header, path)


def _packed_cells(data: bytes, place: int, header: _Header, path: Path) -> npt.NDArray[np.int64]:
    """Walk the lists of a binary range_grid, each of no vertex or of one."""
    assert header.grid is not None
    grid = header.elements[header.grid]
    kind, ahead = grid.properties[0], int(grid.properties[0].length[1])
    if place + ahead * grid.count > len(data):
        raise damaged(path, f"it ends inside the {grid.count} cells of its range_grid")
    order: Literal["big", "little"] = "big" if header.order == ">" else "little"
    size = int(kind.dtype[1])
    cells = np.full(grid.count, -1, np.int64)
    for cell in range(grid.count):
        many = int.from_bytes(data[place : place + ahead], order)
        place += ahead
        if many == 1:
            cells[cell] = place
            place += size
        elif many:
            raise damaged(path, f"a cell of its range_grid holds {many} vertices")
    if place > len(data):
        raise damaged(path, f"it ends inside the {grid.count} cells of its range_grid")
    held = cells >= 0
    raw = np.frombuffer(data, np.uint8)[cells[held, None] + np.arange(size)]
    cells[held] = raw.view(header.order + kind.dtype)[:, 0]
    return cells
