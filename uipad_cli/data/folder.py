"""Any folder of pairs: rgb/ beside xyz/, cloud/ or depth/, in the folder itself or in a subfolder for each defect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from uipad_cli.data import choose_category, mvtec3d
from uipad_cli.data.layout import SPLIT_NAMES, Leaf, Partners, judged, leaf, own_name, subfolders
from uipad_cli.errors import DataError
from uipad_cli.records import GOOD, UNLABELLED, Item


@dataclass(frozen=True)
class Place:
    """A folder of pairs that is still being filled: what its place says of them, and what lies in it."""

    category: str
    split: str
    defect: str
    leaf: Leaf
    partners: Partners

    def items(self) -> Iterator[Item]:
        """The pairs of which both files are there, whole or not, one by one: there may be many."""
        for stem, rgb, geometry in self.partners.pairs:
            paths = self.leaf.rgb / rgb, self.leaf.geometry / geometry
            yield Item(self.category, self.split, self.defect, stem, *paths, self.leaf.kind)


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


def so_far(root: Path) -> list[Place]:
    """The pairs of a folder, or of a tree of categories, that is still being filled: nothing there yet is no fault.

    Masks are not read: what is said of a part in `test` or beside the splits is its subfolder. Raises DataError where
    a folder cannot be listed.
    """
    inner = leaf(root)
    if inner is not None:
        return [_place(own_name(root), "test", UNLABELLED, inner)]
    found = []
    for folder in subfolders(root):
        pairs = leaf(folder)
        if folder.name.lower() in SPLIT_NAMES:
            found += _of_split(own_name(root), folder)
        elif pairs is not None:
            found.append(_place(own_name(root), "test", folder.name, pairs))
        else:
            splits = [split for split in subfolders(folder) if split.name.lower() in SPLIT_NAMES]
            found += [place for split in splits for place in _of_split(folder.name, split)]
    return found


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


def _of_split(category: str, folder: Path) -> list[Place]:
    split = SPLIT_NAMES[folder.name.lower()]
    unnamed = UNLABELLED if split == "test" else GOOD
    folders = [(folder, unnamed), *((deeper, deeper.name) for deeper in subfolders(folder))]
    return [_place(category, split, defect, inner) for place, defect in folders if (inner := leaf(place)) is not None]


def _place(category: str, split: str, defect: str, inner: Leaf) -> Place:
    return Place(category, split, defect, inner, inner.partners())


def _leaves(root: Path) -> list[tuple[Path, Leaf]]:
    return [(folder, inner) for folder in subfolders(root) if (inner := leaf(folder)) is not None]
