"""Any folder of pairs: rgb/ beside xyz/, cloud/ or depth/, in the folder itself, for each split, or for each defect."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from uipad_cli.data import choose_category, mvtec3d
from uipad_cli.data.layout import SPLIT_NAMES, Leaf, leaf, own_name, subfolders
from uipad_cli.errors import DataError
from uipad_cli.records import GOOD, UNLABELLED, Item

DEFECT = "defect"  # what a mask that is not empty says of its part


def recognise(root: Path) -> bool:
    """True where the folder, its subfolders, or a tree of categories hold pairs."""
    return bool(categories(root)) if root.is_dir() else False


def categories(root: Path) -> list[str]:
    """The folder's own name, or the categories of a tree: those of splits and defects, or of splits alone."""
    if leaf(root) is not None or _leaves(root):
        return [own_name(root)]
    return mvtec3d.categories(root) or [folder.name for folder in subfolders(root) if _splits(folder)]


def scan(root: Path, category: str, split: str) -> list[Item]:
    """The pairs of a split, sorted.

    A subfolder named after a split holds its pairs: good ones in train and validation, those of test told by their
    masks. Pairs of any other subfolder are in split "test" with its name as defect, pairs of the folder itself
    without a label. Raises DataError for an unknown category and for files without a partner.
    """
    category = choose_category(categories(root), category)
    pairs = leaf(root)
    if pairs is not None:
        return _judged(pairs, category, split, UNLABELLED) if split == "test" else []
    if not _leaves(root):
        if mvtec3d.recognise(root):
            return mvtec3d.scan(root, category, split)
        root = root / category
    items: list[Item] = []
    for folder, inner in _leaves(root):
        named = SPLIT_NAMES.get(folder.name.lower())
        if named == split:
            items += _judged(inner, category, split, UNLABELLED if split == "test" else GOOD)
        elif named is None and split == "test":
            items += inner.items(category, split, folder.name)
    return items


def pair(rgb: Path, geometry: Path, *, depth: bool = False) -> Item:
    """One pair given by hand; what the geometry holds is told by its numbers, or it is said to be depth.

    Raises DataError.
    """
    from uipad_cli.data import eyecandies, scans

    for path in (rgb, geometry):
        if not path.is_file():
            raise DataError(f"{path}: no such file", "check the path")
    kind = "depth" if depth else scans.kind_of(geometry)
    found = eyecandies.lone_depth_range(geometry) if kind == "depth" else None
    return Item(
        "",
        "",
        UNLABELLED,
        rgb.stem,
        rgb,
        geometry,
        kind,
        depth_range=found,
        camera=eyecandies.camera(geometry) if found else None,
    )


def _judged(pairs: Leaf, category: str, split: str, label: str) -> list[Item]:
    """Pairs of `label`, unless there is a folder of masks: those without a mask, or with an empty one, are good."""
    items = pairs.items(category, split, label)
    if pairs.mask is None:
        return items
    from uipad_cli.data.files import read_mask  # here, because names alone need no numpy

    marked = [item.mask is not None and bool(read_mask(item.mask).any()) for item in items]
    return [replace(item, defect=DEFECT if bad else GOOD) for item, bad in zip(items, marked, strict=True)]


def _splits(folder: Path) -> bool:
    return any(name.name.lower() in SPLIT_NAMES for name, _ in _leaves(folder))


def _leaves(root: Path) -> list[tuple[Path, Leaf]]:
    return [(folder, inner) for folder in subfolders(root) if (inner := leaf(folder)) is not None]
