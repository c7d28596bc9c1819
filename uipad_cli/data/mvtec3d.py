"""MVTec 3D-AD and everything laid out like it: CATEGORY/SPLIT/DEFECT/{rgb,xyz,gt}/STEM.*; depth/ may stand for xyz/."""

from __future__ import annotations

from pathlib import Path

from uipad_cli.data import SPLITS, choose_category
from uipad_cli.data.layout import leaf, named_categories, subfolders
from uipad_cli.records import Item


def recognise(root: Path) -> bool:
    """True for a folder of categories, or for one category."""
    return bool(categories(root))


def categories(root: Path) -> list[str]:
    """Names of the categories, sorted; the folder's own name where it is a category itself."""
    return named_categories(root, _is_category)


def scan(root: Path, category: str, split: str) -> list[Item]:
    """All pairs of a split; defect types are what folders there are.

    Raises DataError for an unknown category and for files without a partner.
    """
    category = choose_category(categories(root), category)
    base = root if _is_category(root) else root / category
    items: list[Item] = []
    for folder in subfolders(base / split):
        pairs = leaf(folder)
        if pairs is not None:
            items += pairs.items(category, split, folder.name)
    return items


def _is_category(folder: Path) -> bool:
    return any(leaf(defect) is not None for split in SPLITS for defect in subfolders(folder / split))
