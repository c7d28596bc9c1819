"""Any folder of pairs: rgb/ beside xyz/, cloud/ or depth/, in the folder itself or in a subfolder for each defect."""

from __future__ import annotations

from pathlib import Path

from uipad_cli.data import choose_category, mvtec3d
from uipad_cli.data.layout import Leaf, judged, leaf, own_name, subfolders
from uipad_cli.errors import DataError
from uipad_cli.records import UNLABELLED, Item


def recognise(root: Path) -> bool:
    """True where the folder, its subfolders, or a tree of categories hold pairs."""
    return root.is_dir() and bool(categories(root))


def categories(root: Path) -> list[str]:
    """The folder's own name, or the categories of a tree."""
    if leaf(root) is not None or (_leaves(root) and not mvtec3d.recognise(root)):
        return [own_name(root)]
    return mvtec3d.categories(root)


def scan(root: Path, category: str, split: str) -> list[Item]:
    """The pairs of a split, sorted; those outside a tree of splits are in split "test".

    Their subfolder is their defect; those of the folder itself are told by their masks, or have no label. Raises
    DataError for an unknown category and for files without a partner.
    """
    category = choose_category(categories(root), category)
    pairs = leaf(root)
    if pairs is None and mvtec3d.recognise(root):
        return mvtec3d.scan(root, category, split)
    if split != "test":
        return []
    if pairs is not None:
        return judged(pairs, category, split)
    return [item for folder, inner in _leaves(root) for item in inner.items(category, split, folder.name)]


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
    camera = eyecandies.camera(geometry) if found else None
    return Item("", "", UNLABELLED, rgb.stem, rgb, geometry, kind, depth_range=found, camera=camera)


def _leaves(root: Path) -> list[tuple[Path, Leaf]]:
    return [(folder, inner) for folder in subfolders(root) if (inner := leaf(folder)) is not None]
