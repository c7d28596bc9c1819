"""MVTec 3D-AD and everything laid out like it: CATEGORY/SPLIT/DEFECT/{rgb,xyz,gt}/STEM.*.

depth/, cloud/ or z/ may stand for xyz/, and pairs may lie in a split itself.
"""

from __future__ import annotations

from pathlib import Path

from uipad_cli.data import choose_category
from uipad_cli.data.layout import SPLIT_NAMES, judged, leaf, named_categories, refuse_half, subfolders
from uipad_cli.errors import DataError
from uipad_cli.records import Item


def recognise(root: Path) -> bool:
    """True for a folder of categories, or for one category."""
    return bool(categories(root))


def categories(root: Path) -> list[str]:
    """Names of the categories, sorted; the folder's own name where it is a category itself."""
    return named_categories(root, _is_category)


def scan(root: Path, category: str, split: str) -> list[Item]:
    """All pairs of a split; defect types are what folders there are, beside what lies in the split itself.

    Raises DataError for an unknown category, for files without a partner, and for pairs beside the splits.
    """
    category = choose_category(categories(root), category)
    items: list[Item] = []
    for folder in subfolders(root if _is_category(root) else root / category):
        named = SPLIT_NAMES.get(folder.name.lower())
        if named is None and leaf(folder) is not None:
            raise DataError(f"{folder}: pairs beside the splits", "move them into train/, validation/ or test/")
        if named == split:
            items += _of_split(folder, category, split)
    return items


def _of_split(folder: Path, category: str, split: str) -> list[Item]:
    refuse_half(folder)
    inner = leaf(folder)
    items = [] if inner is None else judged(inner, category, split)
    for defect in subfolders(folder):
        refuse_half(defect)
        pairs = leaf(defect)
        if pairs is not None:
            items += pairs.items(category, split, defect.name)
    return items


def _is_category(folder: Path) -> bool:
    splits = [split for split in subfolders(folder) if split.name.lower() in SPLIT_NAMES]
    return any(leaf(place) is not None for split in splits for place in (split, *subfolders(split)))
