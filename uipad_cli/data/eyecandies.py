"""Eyecandies: rendered sweets under six lights, each with a depth image: CLASS/SPLIT/data/INDEX_KIND.{png,yaml,txt}.

Two things that lie there are not used. NNN_pose.txt moves all points of a scan as one rigid body, which changes no
distance between them and so no height above the floor: points stay in the frame of the camera. test_private has
neither labels nor masks, its answers are kept by the authors: nothing can be measured on it, and it is not read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from uipad_cli.data import choose_category, files
from uipad_cli.data.headers import PNG_HEADER, is_png, png_size
from uipad_cli.data.layout import entries, named_categories
from uipad_cli.data.markup import YAML_CAP, parse_yaml
from uipad_cli.errors import DataError
from uipad_cli.records import GOOD, Item

# 0 all spots, 1 bottom, 2 right, 3 top, 4 left, 5 global. The left spot is what M3DM and CFM convert, and most
# published numbers stand on their conversion.
DEFAULT_LIGHT = "4"
LIGHTS = ("0", "1", "2", "3", "4", "5")
FOCAL = 711.11  # pixels; one camera took all images
DEFECTS = ("bumps", "dents", "colors", "normals")
COMBINED = "combined"
UNKNOWN = "unknown"

# Counts are shares of the range that lies beside each image, so there is no unit to find out. No count stands for
# missing either: 0 and 65535 are the near and the far end of the floor, and the authors leave out only what is 0 m
# away once it is in metres. The camera depends on the size, so every item has its own.
DOCUMENTED: dict[str, object] = {"encoding": "linear", "missing": (), "swapped": False, "axis": "away"}

_SPLITS = {"train": "train", "validation": "val", "test": "test_public"}
_NAME = re.compile(
    r"([0-9]+)_("
    r"(?:image_[0-5]|depth|normals|(?:(?:bumps|dents|colors|normals)_)?mask)\.png"
    r"|(?:info_depth|metadata|obj_params)\.yaml|pose\.txt)"
)
_NEEDED = (f"image_{DEFAULT_LIGHT}.png", "depth.png", "info_depth.yaml")
_MASKS = ("mask.png", *(f"{defect}_mask.png" for defect in DEFECTS))
_FARTHEST = 1e9  # metres; beyond it, and for what is not a number at all, a range makes no sense

Parts = dict[str, Path]  # what follows the index in a file's name → the file


def recognise(root: Path) -> bool:
    """True for a folder of classes, or for one class."""
    return bool(categories(root))


def categories(root: Path) -> list[str]:
    """Names of the classes, sorted; the folder's own name where it is a class itself."""
    return named_categories(root, _is_category)


def scan(root: Path, category: str, split: str) -> list[Item]:
    """All samples of a split, sorted by defect and index; "test" is test_public.

    Raises DataError for an unknown class, for missing files, and for labels that contradict the masks.
    """
    name = choose_category(categories(root), category)
    base = root if _is_category(root) else root / name
    if split not in _SPLITS:
        return []
    folder = base / _SPLITS[split] / "data"
    items = [_item(name, split, folder, index, parts) for index, parts in _samples(folder).items()]
    return sorted(items, key=lambda item: (item.defect, int(item.stem), item.stem))


def lone_depth_range(path: Path) -> tuple[float, float] | None:
    """Metres of the smallest and the largest count of one NNN_depth.png, from the yaml beside it; None without one.

    Raises DataError where that yaml is of no use.
    """
    ending = "_depth.png"
    if not path.name.endswith(ending):
        return None
    beside = path.with_name(f"{path.name.removesuffix(ending)}_info_depth.yaml")
    return _depth_range(beside) if beside.is_file() else None


def camera(depth: Path) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy in pixels of the camera that took a depth image; its size is read from the png header alone.

    Pixels are counted from 0 and stand for their index: the axis passes through W/2, not (W-1)/2. Raises DataError.
    """
    width, height = _png_size(depth)
    return FOCAL, FOCAL, width / 2, height / 2


# ---- files of a sample ------------------------------------------------------------------------------------------


def _is_category(folder: Path) -> bool:
    return any(_holds_samples(folder / split / "data") for split in _SPLITS.values())


def _holds_samples(folder: Path) -> bool:
    return folder.is_dir() and any(_NAME.fullmatch(path.name) for path in entries(folder))


def _samples(folder: Path) -> dict[str, Parts]:
    """The files of each index; the number of digits differs between splits, so indices are what names there are."""
    found: dict[str, Parts] = {}
    for path in entries(folder) if folder.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match is not None:
            found.setdefault(match[1], {})[match[2]] = path
    return dict(sorted(found.items()))


def _item(category: str, split: str, folder: Path, index: str, parts: Parts) -> Item:
    for kind in _NEEDED:
        if kind not in parts:
            beside = parts[min(parts)].name
            raise DataError(
                f"{folder / f'{index}_{kind}'}: no such file, though {beside} is there",
                f"a sample needs {', '.join(f'{index}_{needed}' for needed in _NEEDED)}: unpack it again",
            )
    defect = _defect(split, folder, index, parts)
    return Item(
        category,
        split,
        defect,
        index,
        rgb=parts[_NEEDED[0]],
        geometry=parts["depth.png"],
        geometry_kind="depth",
        mask=None if defect == GOOD else parts.get("mask.png"),
        lights=tuple((light, parts[f"image_{light}.png"]) for light in LIGHTS if f"image_{light}.png" in parts),
        depth_range=_depth_range(parts["info_depth.yaml"]),
        camera=camera(parts["depth.png"]),
    )


# ---- labels -----------------------------------------------------------------------------------------------------


def _defect(split: str, folder: Path, index: str, parts: Parts) -> str:
    """What is wrong with a part. Masks are read in the test split alone, or where a label says that something is."""
    if split == "train" and "metadata.yaml" not in parts:
        return GOOD  # the split holds nothing else
    label = folder / f"{index}_metadata.yaml"
    anomalous = _flag(label)
    if split == "train" and anomalous:
        raise DataError(f"{label}: an anomalous part in the training split", "training parts are good: move it away")
    if split != "test" and not anomalous:
        return GOOD
    marked = {kind: bool(files.read_mask(parts[kind]).any()) for kind in _MASKS if kind in parts}
    if anomalous and marked and "mask.png" not in marked:
        raise DataError(
            f"{folder / f'{index}_mask.png'}: no such file, though {next(iter(marked))} is one of its parts",
            "unpack it again, or join the masks of the four defects into it",
        )
    if anomalous and not marked.get("mask.png", True):
        raise _contradiction(label, "anomalous", parts["mask.png"], "marks nothing")
    if not anomalous:
        for kind, there in marked.items():
            if there:
                raise _contradiction(label, "not anomalous", parts[kind], "marks a defect")
        return GOOD
    kinds = [defect for defect in DEFECTS if marked.get(f"{defect}_mask.png", False)]
    return UNKNOWN if not kinds else kinds[0] if len(kinds) == 1 else COMBINED


def _contradiction(label: Path, says: str, mask: Path, shows: str) -> DataError:
    return DataError(f"{label} says {says}, {mask} {shows}", "one of the two is wrong: unpack the sample again")


def _flag(label: Path) -> bool:
    value = _mapping(label).get("anomalous")
    if not isinstance(value, bool | int) or value not in (0, 1):
        raise DataError(f"{label}: anomalous is {value!r:.40} where 0, 1, true or false is expected", "unpack it again")
    return bool(value)


# ---- yaml and png -----------------------------------------------------------------------------------------------


def _depth_range(path: Path) -> tuple[float, float]:
    inner = _mapping(path).get("normalization")
    if not isinstance(inner, dict):
        raise DataError(f"{path}: normalization: {{min, max}} is missing", "unpack it again")
    low, high = (_number(path, inner, key) for key in ("min", "max"))
    if not 0 <= low < high:
        raise DataError(
            f"{path}: depths of {low:g} to {high:g} m: min must be less than max, and neither below 0",
            "unpack it again",
        )
    return low, high


def _number(path: Path, values: dict[Any, Any], key: str) -> float:
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_FARTHEST < value < _FARTHEST:
        raise DataError(f"{path}: normalization.{key} is {value!r:.40} where metres are expected", "unpack it again")
    return float(value)


def _mapping(path: Path) -> dict[Any, Any]:
    data = files.read_bytes(path, YAML_CAP)
    try:
        value = parse_yaml(data)
    except ValueError as error:
        reason = " ".join(str(error).split())  # it draws over several lines
        raise DataError(f"{path}: not valid YAML: {reason:.200}", "unpack it again") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: holds {type(value).__name__} where keys and values are expected", "unpack it again")
    return value


def _png_size(path: Path) -> tuple[int, int]:
    """Width and height, from the first bytes: thousands of depth images need not be read to list them."""
    try:
        if not path.is_file():  # nobody may fill a pipe
            raise DataError(f"{path}: cannot be read: a folder or a special file", "copy or export it again")
        with path.open("rb") as file:
            head = file.read(PNG_HEADER)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}", "check its permissions") from error
    if not is_png(head):
        raise DataError(
            f"{path}: not a png, as depth images of Eyecandies are (its first bytes are {head[:8]!r})",
            "copy or export it again",
        )
    return png_size(head, path)
