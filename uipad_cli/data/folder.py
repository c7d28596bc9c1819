"""Any folder of pairs without labels: rgb/ beside xyz/ or depth/, in the folder itself or in its subfolders."""

from __future__ import annotations

from pathlib import Path

from uipad_cli.data import choose_category, mvtec3d
from uipad_cli.data.layout import leaf, own_name, subfolders
from uipad_cli.records import UNLABELLED, Item


def recognise(root: Path) -> bool:
    """True where the folder, its subfolders, or a tree of categories hold pairs."""
    return leaf(root) is not None or _holds_leaves(root) or mvtec3d.recognise(root)


def categories(root: Path) -> list[str]:
    """The folder's own name, or the categories of a tree."""
    if leaf(root) is not None or _holds_leaves(root):
        return [own_name(root)]
    return mvtec3d.categories(root)


def scan(root: Path, category: str, split: str) -> list[Item]:
    """All pairs; those outside a tree of splits are in split "test", with their subfolder as defect.

    Raises DataError for an unknown category and for files without a partner.
    """
    choose_category(categories(root), category)
    pairs = leaf(root)
    if pairs is None and not _holds_leaves(root):
        return mvtec3d.scan(root, category, split)
    if split != "test":
        return []
    if pairs is not None:
        return pairs.items(category, split, UNLABELLED)
    items: list[Item] = []
    for folder in subfolders(root):
        inner = leaf(folder)
        if inner is not None:
            items += inner.items(category, split, folder.name)
    return items


def _holds_leaves(root: Path) -> bool:
    return any(leaf(folder) is not None for folder in subfolders(root))
