"""Files of a folder, paired by stem: what the dataset formats share."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from uipad_cli.errors import DataError
from uipad_cli.records import GOOD, UNLABELLED, GeometryKind, Item

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
GEOMETRIES = (".tif", ".tiff", ".png", ".npy", ".npz", ".ply", ".pcd", ".exr", ".pgm")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
DEFECT = "defect"  # what a mask that is not empty says of its part
_COLOUR_FOLDERS = ("rgb", "color", "colour", "image", "images")
GEOMETRY_NAMES: dict[str, GeometryKind] = {
    "xyz": "xyz",
    "cloud": "xyz",
    "points": "xyz",
    "depth": "depth",
    "z": "z",
}
_MASK_FOLDERS = ("gt", "ground_truth", "mask", "masks")


@dataclass(frozen=True)
class Partners:
    """Files of two folders that are still being filled: pairs, and what is none yet or never.

    pairs: stem, and name of each file, sorted; waiting: files without a partner of the same stem; faults: files that
    cannot be told apart, or named.
    """

    pairs: list[tuple[str, str, str]]
    waiting: list[Path]
    faults: list[DataError]


@dataclass(frozen=True)
class Leaf:
    """A folder that holds pairs: colour and geometry files side by side, masks where there are any."""

    rgb: Path
    geometry: Path
    kind: GeometryKind
    mask: Path | None

    def items(self, category: str, split: str, defect: str) -> list[Item]:
        """Its pairs, sorted by stem. Raises DataError naming files without a partner, and names that are no text."""
        colours = by_stem(self.rgb, IMAGES)
        shapes = by_stem(self.geometry, GEOMETRIES)
        masks = {} if self.mask is None else by_stem(self.mask, IMAGES)
        lonely = [colours[stem] for stem in colours if stem not in shapes]
        lonely += [shapes[stem] for stem in shapes if stem not in colours]
        for path in (Path(category), Path(defect), *colours.values(), *shapes.values()):
            _check_name(path)
        if lonely:
            more = f" (and {len(lonely) - 1} more)" if len(lonely) > 1 else ""
            raise DataError(
                f"{lonely[0]}: has no partner of the same name in {self.rgb.name}/ and {self.geometry.name}/{more}",
                "add the missing file or remove this one",
            )
        strange = [masks[stem] for stem in masks if stem not in colours]
        if strange:
            raise DataError(f"{strange[0]}: a mask of no pair", f"name it like its image in {self.rgb.name}/")
        return [
            Item(category, split, defect, stem, colours[stem], shapes[stem], self.kind, masks.get(stem))
            for stem in sorted(colours)
        ]

    def partners(self) -> Partners:
        """What there is so far. Raises DataError where a folder cannot be listed."""
        found = Partners([], [], [])
        colours = _names(self.rgb, IMAGES, found.faults)
        shapes = _names(self.geometry, GEOMETRIES, found.faults)
        found.pairs.extend((stem, colours[stem], shapes[stem]) for stem in sorted(colours) if stem in shapes)
        found.waiting.extend(self.rgb / colours[stem] for stem in colours if stem not in shapes)
        found.waiting.extend(self.geometry / shapes[stem] for stem in shapes if stem not in colours)
        return found


def leaf(folder: Path) -> Leaf | None:
    """The pairs of a folder such as {rgb,xyz,gt} or {color,depth}, or None where it holds none."""
    rgb, geometry = halves(folder)
    if rgb is None or geometry is None:
        return None
    return Leaf(rgb, geometry, GEOMETRY_NAMES[geometry.name], _first(folder, _MASK_FOLDERS))


def halves(folder: Path) -> tuple[Path | None, Path | None]:
    """The folders of colour images and of geometry inside a folder, as far as they are there."""
    return _first(folder, _COLOUR_FOLDERS), _first(folder, tuple(GEOMETRY_NAMES))


def judged(pairs: Leaf, category: str, split: str) -> list[Item]:
    """Pairs that lie in a split itself: good ones in train and validation, in test without a label.

    Where there is a folder of masks, it is the masks that say which are good. Raises DataError as `Leaf.items`.
    """
    items = pairs.items(category, split, UNLABELLED if split == "test" else GOOD)
    return items if pairs.mask is None else [replace(item, defect=defect_of(item.mask)) for item in items]


def defect_of(mask: Path | None) -> str:
    """What a mask says of its part; what is wrong with one that cannot be read is told with its pair."""
    from uipad_cli.data.files import read_mask  # here, because names alone need no numpy

    try:
        return DEFECT if mask is not None and read_mask(mask).any() else GOOD
    except DataError:
        return DEFECT


def by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Files of a folder by stem, sorted; hidden files and other suffixes are passed over.

    Raises DataError where two files have the same stem.
    """
    found: dict[str, Path] = {}
    for path in entries(folder):
        if path.name.startswith(".") or path.suffix.lower() not in suffixes:
            continue
        if path.stem in found:
            raise _same_name(path, found[path.stem].name)
        found[path.stem] = path
    return found


def _names(folder: Path, suffixes: tuple[str, ...], faults: list[DataError]) -> dict[str, str]:
    """Names of a folder's files by stem, as `by_stem` sees them, in a tenth of its time: a watched folder may be large.

    faults: takes what is wrong with files that are left out. Raises DataError where the folder cannot be listed.
    """
    try:
        with os.scandir(folder) as inside:
            names = sorted(entry.name for entry in inside)
    except OSError as error:
        raise _unlisted(folder, error) from error
    found: dict[str, str] = {}
    alike: set[str] = set()
    for name in names:
        stem, dot, suffix = name.rpartition(".")
        if f".{suffix}".lower() not in suffixes or name.startswith(".") or not dot:
            continue
        if not name.isascii() or "\\" in name:
            try:
                _check_name(folder / name)
            except DataError as error:
                faults.append(error)
                continue
        if stem in found:
            faults.append(_same_name(folder / name, found[stem]))
            alike.add(stem)
        found[stem] = name
    return {stem: name for stem, name in found.items() if stem not in alike} if alike else found


def _same_name(path: Path, other: str) -> DataError:
    return DataError(f"{path}: has the same name as {other}", "keep one of them")


def _unlisted(folder: Path, error: OSError) -> DataError:
    return DataError(f"{folder}: cannot be listed: {error.strerror or error}", "check its permissions")


def refuse_half(folder: Path) -> None:
    """Raise DataError for colour images without a folder of geometry beside them, or the other way round."""
    rgb, geometry = halves(folder)
    if (rgb is None) != (geometry is None):
        names = _COLOUR_FOLDERS if rgb is None else GEOMETRY_NAMES
        raise DataError(
            f"{rgb or geometry}: beside it there is none of {'/, '.join(names)}/", "add what is missing, or remove it"
        )


def _check_name(path: Path) -> None:
    """Names go into lists of text, and become paths again elsewhere. Raises DataError."""
    name = os.fsencode(path.name)
    if name.decode("utf-8", "replace") != path.name:
        raise DataError(f"{path.parent}: the name {name!r} is not UTF-8", "rename it")
    if b"\\" in name:
        raise DataError(f"{path}: a backslash in its name", "rename it")


def subfolders(folder: Path) -> list[Path]:
    """Visible folders inside a folder, sorted; none where it does not exist."""
    if not folder.is_dir():
        return []
    return [path for path in entries(folder) if path.is_dir() and not path.name.startswith(".")]


def named_categories(root: Path, is_category: Callable[[Path], bool]) -> list[str]:
    """Names of the categories in a folder, sorted; the folder's own name where it is a category itself."""
    if is_category(root):
        return [own_name(root)]
    return [folder.name for folder in subfolders(root) if is_category(folder)]


def own_name(root: Path) -> str:
    """The name of a folder, also where it is given as "."."""
    return root.resolve().name or "data"


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, sorted. Raises DataError where it cannot be listed."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise _unlisted(folder, error) from error


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)
