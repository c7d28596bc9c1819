"""Files of a folder, paired by stem: what the dataset formats share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from uipad_cli.errors import DataError
from uipad_cli.records import GeometryKind, Item

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
GEOMETRIES = (".tif", ".tiff", ".png", ".npy", ".npz", ".ply", ".pcd", ".exr", ".pgm")
SPLIT_NAMES = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
_COLOUR_FOLDERS = ("rgb", "color", "colour", "image", "images")
_GEOMETRY: dict[str, GeometryKind] = {
    "xyz": "xyz",
    "cloud": "xyz",
    "clouds": "xyz",
    "points": "xyz",
    "pcd": "xyz",
    "ply": "xyz",
    "depth": "depth",
    "height": "depth",
    "z": "z",
}
_MASK_FOLDERS = ("gt", "ground_truth", "mask", "masks")


@dataclass(frozen=True)
class Leaf:
    """A folder that holds pairs: colour and geometry files side by side, masks where there are any."""

    rgb: Path
    geometry: Path
    kind: GeometryKind
    mask: Path | None

    def items(self, category: str, split: str, defect: str) -> list[Item]:
        """Its pairs, sorted by stem. Raises DataError naming files without a partner."""
        colours = by_stem(self.rgb, IMAGES)
        shapes = by_stem(self.geometry, GEOMETRIES)
        masks = {} if self.mask is None else by_stem(self.mask, IMAGES)
        lonely = [colours[stem] for stem in colours if stem not in shapes]
        lonely += [shapes[stem] for stem in shapes if stem not in colours]
        if lonely:
            more = f" (and {len(lonely) - 1} more)" if len(lonely) > 1 else ""
            raise DataError(
                f"{lonely[0]}: has no partner of the same name in {self.rgb.name}/ and {self.geometry.name}/{more}",
                "add the missing file or remove this one",
            )
        return [
            Item(category, split, defect, stem, colours[stem], shapes[stem], self.kind, masks.get(stem))
            for stem in sorted(colours)
        ]


def leaf(folder: Path) -> Leaf | None:
    """The pairs of a folder such as {rgb,xyz,gt} or {color,depth}, or None where it holds none."""
    rgb = _first(folder, _COLOUR_FOLDERS)
    geometry = _first(folder, tuple(_GEOMETRY))
    if rgb is None or geometry is None:
        return None
    return Leaf(rgb, geometry, _GEOMETRY[geometry.name], _first(folder, _MASK_FOLDERS))


def by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Files of a folder by stem, sorted; hidden files and other suffixes are passed over.

    Raises DataError where two files have the same stem.
    """
    found: dict[str, Path] = {}
    for path in _entries(folder):
        if path.name.startswith(".") or path.suffix.lower() not in suffixes:
            continue
        if path.stem in found:
            raise DataError(f"{path}: has the same name as {found[path.stem].name}", "keep one of them")
        found[path.stem] = path
    return found


def subfolders(folder: Path) -> list[Path]:
    """Visible folders inside a folder, sorted; none where it does not exist."""
    if not folder.is_dir():
        return []
    return [path for path in _entries(folder) if path.is_dir() and not path.name.startswith(".")]


def named_categories(root: Path, is_category: Callable[[Path], bool]) -> list[str]:
    """Names of the categories in a folder, sorted; the folder's own name where it is a category itself."""
    if is_category(root):
        return [own_name(root)]
    return [folder.name for folder in subfolders(root) if is_category(folder)]


def own_name(root: Path) -> str:
    """The name of a folder, also where it is given as "."."""
    return root.resolve().name or "data"


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror or error}", "check its permissions") from error


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)
