"""Pairs listed in a table: a .csv with a head line, or .jsonl with an object on each line.

Columns: rgb, and one of xyz, depth, cloud or z; where wanted mask, split, label, category, name. Paths are relative to
the table and stay inside its folder.
"""

from __future__ import annotations

import csv
import difflib
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from uipad_cli.data import SPLITS, choose_category, files
from uipad_cli.data.layout import DEFECT, GEOMETRY_NAMES, SPLIT_NAMES, defect_of, own_name
from uipad_cli.data.markup import parse_json
from uipad_cli.errors import DataError
from uipad_cli.records import GOOD, UNLABELLED, Item

NAMES = ("pairs.csv", "pairs.jsonl", "manifest.csv", "manifest.jsonl")
_SUFFIXES = (".csv", ".jsonl", ".ndjson")
_ALIASES = {"color": "rgb", "colour": "rgb", "image": "rgb", "gt": "mask", "defect": "label", "stem": "name"}
_COLUMNS = ("rgb", *GEOMETRY_NAMES, "mask", "split", "label", "category", "name")
_GOOD = ("good", "ok", "normal", "0", "false")
_BAD = ("bad", "ng", "anomaly", "anomalous", "defective", "1", "true")
_CAP = 64 * 1024 * 1024
_LINE_CAP = 250_000  # each takes a kilobyte
_ENDS = ("\n", "\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029")  # of a line
_COLUMN_CAP = 200  # each that is unknown is compared with those that are


@dataclass(frozen=True)
class _Row:
    """One line of a table, its columns by their proper names, and where it stands."""

    cells: Mapping[str, str]
    where: str


def recognise(root: Path) -> bool:
    """True for a table, and for a folder that holds one called pairs or manifest."""
    return _table(root) is not None


def categories(root: Path) -> list[str]:
    """What the column category holds, sorted; without one, the name of the folder. Raises DataError."""
    table = _found(root)
    return _categories(_rows(table), table)


def scan(root: Path, category: str, split: str) -> list[Item]:
    """The pairs of a split, in the order of the table. Raises DataError naming the line."""
    table = _found(root)
    rows = list(_rows(table))
    chosen = choose_category(_categories(rows, table), category)
    items: list[Item] = []
    seen: dict[str, str] = {}
    for row in rows:
        if _category(row, table) != chosen or _split(row) != split:
            continue
        item = _item(row, table.parent, chosen, split)
        if item.name in seen:
            raise DataError(f"{row.where}: {item.name} stands in {seen[item.name]} too", "give each pair a name")
        seen[item.name] = row.where
        items.append(item)
    return items


def _categories(rows: Iterable[_Row], table: Path) -> list[str]:
    return sorted({_category(row, table) for row in rows})


def _category(row: _Row, table: Path) -> str:
    return row.cells.get("category") or own_name(table.parent)


def _table(root: Path) -> Path | None:
    if root.is_file():
        return root if root.suffix.lower() in _SUFFIXES else None
    return next((root / name for name in NAMES if (root / name).is_file()), None)


def _found(root: Path) -> Path:
    table = _table(root)
    if table is None:
        raise DataError(f"{root}: no table of pairs", f"expected one of {', '.join(NAMES)}")
    return table


def _rows(table: Path) -> Iterator[_Row]:
    try:
        text = files.read_bytes(table, _CAP).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{table}: not UTF-8: {error}", "save the table as UTF-8") from error
    if max(text.count(end) for end in _ENDS) > _LINE_CAP:
        raise DataError(f"{table}: has more than {_LINE_CAP} lines", "make several tables of it")
    lines = _csv_lines(text, table) if table.suffix.lower() == ".csv" else _json_lines(text, table)
    empty = True
    for number, cells in lines:
        empty = False
        yield _Row(_named(cells, table), f"{table}, line {number}")
    if empty:
        raise DataError(f"{table}: lists no pairs", "a line for every pair: rgb, xyz or depth, and what else is known")


def _csv_lines(text: str, table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)  # a comma where none of them is there
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for line in reader:
            if None in line or None in line.values():
                raise DataError(f"{table}, line {reader.line_num}: has other columns than the head line", "mend it")
            yield reader.line_num, {key.strip(): value.strip() for key, value in line.items()}
    except csv.Error as error:
        raise DataError(f"{table}, line {reader.line_num}: {error}", "save the table again as CSV") from error


def _json_lines(text: str, table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found = parse_json(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{table}, line {number}: not JSON: {error}", "one object on each line") from error
        if not isinstance(found, dict):
            raise DataError(f"{table}, line {number}: not an object", 'such as {"rgb": "a.png", "depth": "b.png"}')
        several = [key for key, value in found.items() if isinstance(value, list | dict)]
        if any(_ALIASES.get(key.lower(), key.lower()) in _COLUMNS for key in several):
            raise DataError(f"{table}, line {number}: a list or an object in a column", "a plain value for each name")
        found = {key: value for key, value in found.items() if key not in several}
        if any("\ud800" <= letter <= "\udfff" for value in found.values() for letter in _plain(value)):
            raise DataError(f"{table}, line {number}: half a letter (a lone surrogate)", "save the table as UTF-8")
        yield number, {key: _plain(value) for key, value in found.items() if value is not None}


def _plain(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _named(cells: Mapping[str, str], table: Path) -> dict[str, str]:
    """Cells by their proper column; a column that is nearly one of them is a slip, any other is passed over."""
    if len(cells) > _COLUMN_CAP:
        raise DataError(f"{table}: has more than {_COLUMN_CAP} columns", "leave out those that are not needed")
    named: dict[str, str] = {}
    for key, value in cells.items():
        column = _ALIASES.get(key.lower(), key.lower())
        if column not in _COLUMNS:
            near = difflib.get_close_matches(column, _COLUMNS, n=1, cutoff=0.75)
            if near:
                raise DataError(f"{table}: unknown column {key!r}; did you mean {near[0]!r}?", "mend the head line")
            continue
        if column in named and value and named[column]:
            raise DataError(f"{table}: two columns stand for {column!r}", "keep one of them")
        named[column] = named.get(column) or value
    return named


def _item(row: _Row, folder: Path, category: str, split: str) -> Item:
    cells = row.cells
    given = [column for column in GEOMETRY_NAMES if cells.get(column)]
    if not cells.get("rgb") or len(given) != 1:
        what = "no rgb" if not cells.get("rgb") else f"{len(given)} of {', '.join(GEOMETRY_NAMES)}"
        raise DataError(f"{row.where}: {what}", "each line names one rgb file and one geometry file")
    rgb, geometry = _inside(cells["rgb"], folder, row), _inside(cells[given[0]], folder, row)
    mask = _inside(cells["mask"], folder, row) if cells.get("mask") else None
    defect = _defect(cells.get("label", ""), split)
    if defect == UNLABELLED and "mask" in cells:  # a table with masks marks every defect
        defect = defect_of(mask)
    name = cells.get("name") or rgb.stem
    for part, value in (("name", name), ("label", defect), ("category", category)):
        if not value.strip(".") or any(mark in value for mark in "/\\\0"):
            raise DataError(f"{row.where}: {part} {value!r} cannot be part of a file name", "without / and \\")
    return Item(category, split, defect, name, rgb, geometry, GEOMETRY_NAMES[given[0]], mask)


def _split(row: _Row) -> str:
    told = (row.cells.get("split") or "test").lower()
    if told not in SPLIT_NAMES:
        raise DataError(f"{row.where}: unknown split {told!r}", f"one of {', '.join(SPLITS)}")
    return SPLIT_NAMES[told]


def _defect(label: str, split: str) -> str:
    if not label:
        return UNLABELLED if split == "test" else GOOD
    if label.lower() in _GOOD:
        return GOOD
    return DEFECT if label.lower() in _BAD else label


def _inside(text: str, folder: Path, row: _Row) -> Path:
    """A path of the table; a table may come from anywhere, so it must stay inside its folder."""
    path = folder / text
    if "\0" in text or Path(text).is_absolute() or not _real(path).is_relative_to(_real(folder)):
        raise DataError(
            f"{row.where}: {text!r} leads outside {folder}", "put the table above its files, paths relative"
        )
    if not os.path.isfile(path):  # noqa: PTH113  (pathlib raises for a name that is too long)
        raise DataError(f"{row.where}: {path}: no such file", "mend the path, or leave the line out")
    return path


def _real(path: Path) -> Path:
    """Without links; pathlib raises where one leads to itself."""
    return Path(os.path.realpath(path))
