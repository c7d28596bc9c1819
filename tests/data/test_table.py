"""Pairs listed in a table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from uipad_cli.data import dataset_name, table
from uipad_cli.errors import DataError

WritePair = Callable[..., None]


@pytest.fixture
def root(tmp_path: Path, write_pair: WritePair) -> Path:
    for stem in ("a b", "ü"):
        write_pair(tmp_path / "parts", stem, size=24, mask=True)
    return tmp_path


def write(root: Path, text: str, name: str = "pairs.csv") -> Path:
    (root / name).write_text(text, encoding="utf-8")
    return root


ROW = "parts/rgb/a b.png,parts/xyz/a b.tiff"


def test_a_csv_with_everything(root: Path) -> None:
    write(
        root,
        "rgb,xyz,mask,split,label,category,note\n"
        f"{ROW},,train,,nut,first\n"
        "parts/rgb/ü.png,parts/xyz/ü.tiff,parts/gt/ü.png,test,bent,nut,\n"
        f"{ROW},,val,good,bolt,\n",
    )
    assert dataset_name(root) == "table"
    assert dataset_name(root / "pairs.csv") == "table"
    assert table.categories(root) == ["bolt", "nut"]
    (train,) = table.scan(root, "nut", "train")
    assert (train.name, train.geometry_kind, train.mask) == ("nut/train/good/a b", "xyz", None)
    (test,) = table.scan(root, "nut", "test")
    assert (test.name, test.mask) == ("nut/test/bent/ü", root / "parts" / "gt" / "ü.png")
    assert [item.name for item in table.scan(root, "bolt", "validation")] == ["bolt/validation/good/a b"]


def test_masks_stand_for_labels(root: Path) -> None:
    write(root, f"rgb,xyz,mask\n{ROW},\nparts/rgb/ü.png,parts/xyz/ü.tiff,parts/gt/ü.png\n")
    assert [item.defect for item in table.scan(root, root.name, "test")] == ["good", "defect"]
    write(root, f"rgb,xyz\n{ROW}\n")
    assert [item.defect for item in table.scan(root, root.name, "test")] == ["unlabelled"]


def test_columns_and_splits_are_called_as_folders_are(root: Path) -> None:
    write(root, f"rgb,points,split\n{ROW},training\n")
    (item,) = table.scan(root, root.name, "train")
    assert item.geometry_kind == "xyz"


def test_only_the_rows_of_a_split_are_opened(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, f"rgb,xyz,mask,split\n{ROW},,train\nparts/rgb/ü.png,parts/xyz/ü.tiff,parts/gt/ü.png,test\n")
    opened: list[object] = []
    monkeypatch.setattr(table, "defect_of", lambda mask: opened.append(mask) or "good")
    table.scan(root, root.name, "train")
    assert opened == []
    table.scan(root, root.name, "test")
    assert len(opened) == 1


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_other_marks_names_and_a_byte_order_mark(root: Path, mark: str) -> None:
    line = mark.join(("parts/rgb/ü.png", "parts/xyz/ü.tiff", "0", "x1"))
    write(root, "\ufeff" + mark.join(("Image", "cloud", "defect", "stem")) + f"\r\n{line}\r\n")
    (item,) = table.scan(root, root.name, "test")
    assert item.name == f"{root.name}/test/good/x1"


def test_json_lines(root: Path) -> None:
    rows: list[dict[str, object]] = [
        {"rgb": "parts/rgb/ü.png", "depth": "parts/xyz/ü.tiff", "label": True, "mask": None},
        {"rgb": "parts/rgb/a b.png", "z": "parts/xyz/a b.tiff", "split": "train"},
    ]
    write(root, "\n\n".join(json.dumps(row) for row in rows), "pairs.jsonl")
    (test,), (train,) = (table.scan(root, root.name, split) for split in ("test", "train"))
    assert (test.defect, test.geometry_kind) == ("defect", "depth")
    assert (train.defect, train.geometry_kind) == ("good", "z")


def test_what_is_no_column_of_ours_may_hold_anything(root: Path) -> None:
    row = {"rgb": "parts/rgb/ü.png", "xyz": "parts/xyz/ü.tiff", "boxes": [[1, 2]], "camera": {"id": 3}}
    write(root, json.dumps(row), "pairs.jsonl")
    assert len(table.scan(root, root.name, "test")) == 1
    write(root, json.dumps(row | {"mask": ["a.png"]}), "pairs.jsonl")
    with pytest.raises(DataError, match="line 1: a list or an object"):
        table.scan(root, root.name, "test")


@pytest.mark.parametrize("end", ["\n", "\r", "\u2028"])
def test_too_many_lines_whatever_ends_them(root: Path, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_LINE_CAP", 10)
    write(root, end.join(['{"rgb": "a.png", "xyz": "b.tiff"}'] * 12), "pairs.jsonl")
    with pytest.raises(DataError, match="more than 10 lines"):
        table.categories(root)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("rgb,xyz\n", "lists no pairs"),
        ("rgb,xyz\na.png\n", "other columns"),
        ("rgb,xyz\na.png,b.tiff,c\n", "other columns"),
        (f"rgb,xyz,maskk\n{ROW},\n", "did you mean 'mask'"),
        (f"rgb,image,xyz\nparts/rgb/ü.png,{ROW}\n", "two columns"),
        ("rgb,xyz\n,parts/xyz/ü.tiff\n", "no rgb"),
        ("rgb,xyz\nparts/rgb/ü.png,\n", "0 of xyz"),
        (f"rgb,xyz,depth\n{ROW},parts/xyz/ü.tiff\n", "2 of xyz"),
        (f"rgb,xyz,split\n{ROW},tests\n", "unknown split 'tests'"),
        (f"rgb,xyz\n{ROW}\n{ROW}\n", "stands in"),
        (f"rgb,xyz,label\n{ROW},../bent\n", "part of a file name"),
        (f"rgb,xyz,name\n{ROW},..\n", "part of a file name"),
        ("rgb,xyz\nnowhere.png,parts/xyz/ü.tiff\n", "no such file"),
        ("rgb,xyz\n../secret.png,parts/xyz/ü.tiff\n", "leads outside"),
        ("rgb,xyz\n/etc/passwd,parts/xyz/ü.tiff\n", "leads outside"),
        ("rgb,xyz\nlink/passwd,parts/xyz/ü.tiff\n", "leads outside"),
        ('rgb,xyz\n"a.png,b\n', "line"),
    ],
)
def test_slips_name_their_line(root: Path, text: str, reason: str) -> None:
    (root / "link").symlink_to("/etc")
    write(root, text)
    with pytest.raises(DataError, match=reason) as caught:
        table.scan(root, root.name, "test")
    assert "pairs.csv" in caught.value.message


@pytest.mark.parametrize("text", ["{", "[1]", '"a"', "[" * 100_000, '{"rgb": 3}'])
def test_lines_that_are_not_objects(root: Path, text: str) -> None:
    write(root, text, "pairs.jsonl")
    with pytest.raises(DataError, match="line 1"):
        table.scan(root, root.name, "test")


def test_text_in_another_encoding(root: Path) -> None:
    (root / "pairs.csv").write_bytes("rgb,xyz\nü,ü\n".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        table.categories(root)


def test_no_table(tmp_path: Path) -> None:
    assert not table.recognise(tmp_path)
    with pytest.raises(DataError, match="no table"):
        table.categories(tmp_path)
