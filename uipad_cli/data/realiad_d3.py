"""Real-IAD D3: colour under five lights, a pseudo-3D image, and points, in two layouts.

As downloaded: realiad_d3_jsons/CATEGORY.json lists the files in realiad_d3_raw/CATEGORY/. As the authors' own code
reads it: CATEGORY/SPLIT/{GOOD,DEFECT}/{rgb/SAMPLE,xyz,ps,gt/rgb}.

Of the points only z is taken. Their x and y are said to be constants, which differ between good and bad parts: a
method that sees them is told the label.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from uipad_cli.data import SPLITS, choose_category, files
from uipad_cli.data.layout import by_stem, own_name, subfolders
from uipad_cli.data.places import is_plain
from uipad_cli.errors import DataError, first_fault
from uipad_cli.records import GOOD, Item

# NaN marks what was not measured, and a z of 0 is a height like any other. That z is in millimetres, how far pixels
# are apart, and that z points up (the authors fill holes with the least z, as one fills a background), is documented
# nowhere: all three are assumptions. Equal for all files, they cannot carry a label. At full size a pair is 20 Mpx.
DOCUMENTED: dict[str, object] = {"float_unit": 0.001, "missing": (), "pitch": 2e-5, "axis": "up", "longest": 1024}

PSEUDO = "ps"  # the light under which the pseudo-3D image is listed
_LISTS = "realiad_d3_jsons"
_RAW = "realiad_d3_raw"
_IMAGES = (".jpg", ".jpeg", ".png")
_POINTS = (".tiff", ".tif")
_HEAD = 64 * 1024  # bytes of a list that are looked at to recognise it
_LONGEST = 255  # bytes of a path in a list: disks refuse longer names with an error of their own

_LIGHT = re.compile(r"L05(?![0-9])")
_SAMPLE = re.compile(r"S[0-9]+")
_MODALITY = re.compile(r"(?:(?:^|[_-])(?:RGBL[0-9]+|L[0-9]+|RGB|XYZ|PS|PCD)(?![A-Za-z0-9]))+")


def _inside(text: str) -> str:
    parts = PurePosixPath(text).parts
    windows = PureWindowsPath(text)
    foreign = windows.drive or windows.root or "\\" in text or "\0" in text
    hidden = any(part.startswith(".") for part in parts)  # .. among them
    if not parts or foreign or hidden or len(text.encode()) > _LONGEST:
        raise ValueError(f"{text!r} is not the path of a file inside the data set")
    return text


def _optional(text: str | None) -> str | None:
    return _inside(text) if text else None


def _label(text: str) -> str:
    if not is_plain(_inside(text)):  # x/ and ./x are paths, too
        raise ValueError(f"{text!r} is not the name of a defect")
    return text


_Path = Annotated[str, AfterValidator(_inside)]
_OptionalPath = Annotated[str | None, AfterValidator(_optional)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Meta(_Frozen):
    prefix: _OptionalPath = None


class _Entry(_Frozen):
    anomaly_class: Annotated[str, AfterValidator(_label)]
    image_path: _Path
    xyz_path: _Path
    ps_path: _OptionalPath = None
    mask_path: _OptionalPath = None


class _List(_Frozen):
    meta: _Meta = _Meta()
    train: tuple[_Entry, ...] = ()
    validation: tuple[_Entry, ...] = ()
    test: tuple[_Entry, ...] = ()


@dataclass(frozen=True)
class _Scan:
    """The files of one sample; a good part has no mask."""

    defect: str
    image: Path
    points: Path
    pseudo: Path | None
    mask: Path | None


def recognise(root: Path) -> bool:
    """True where lists of the data set lie, or a folder of categories in the authors' layout, or one of them."""
    return bool(categories(root))


def categories(root: Path) -> list[str]:
    """Names of the categories as they are on disk, sorted: hyphens where published tables have underscores."""
    return sorted({*_lists(root), *_arranged(root)})


def scan(root: Path, category: str, split: str) -> list[Item]:
    """All samples of a split, sorted by defect and stem.

    Raises DataError for an unknown category, a list that is malformed or leads outside, and files that are missing.
    """
    name = choose_category(categories(root), category)
    if split not in SPLITS:
        return []
    lists = _lists(root)
    scans = _listed(root, name, split, lists[name]) if name in lists else _paired(_arranged(root)[name] / split)
    items = [_item(name, split, stem, one) for stem, one in zip(_stems(scans), scans, strict=True)]
    return sorted(items, key=lambda item: (item.defect, item.stem))


# ---- samples → items --------------------------------------------------------------------------------------------


def _item(category: str, split: str, stem: str, one: _Scan) -> Item:
    return Item(category, split, one.defect, stem, one.image, one.points, "z", one.mask, lights=_lights(one))


def _lights(one: _Scan) -> tuple[tuple[str, Path], ...]:
    """The same scan under the other lights, whose names differ in one digit, and the pseudo-3D image."""
    lights = []
    if _LIGHT.search(one.image.name):
        others = ((str(light), _LIGHT.sub(f"L0{light}", one.image.name)) for light in range(1, 6))
        lights = [(light, one.image.with_name(name)) for light, name in others]
    if one.pseudo is not None:
        lights.append((PSEUDO, one.pseudo))
    return tuple((light, path) for light, path in lights if path.is_file())


def _stems(scans: Sequence[_Scan]) -> list[str]:
    """Short names that are unique within a defect: folders such as S0012, or else the names of the images."""
    folders = [one.image.parent.name for one in scans]
    names = [one.image.stem for one in scans]
    for stems in (folders if all(map(_SAMPLE.fullmatch, folders)) else names, names):
        count = Counter(zip((one.defect for one in scans), stems, strict=True))
        if len(count) == len(scans):
            return stems
    defect, stem = count.most_common(1)[0][0]
    double = [str(one.image) for one in scans if (one.defect, one.image.stem) == (defect, stem)]
    raise DataError(f"{double[0]}: has the same name and defect as {double[1]}", "keep one of them")


def _defect(name: str) -> str:
    return GOOD if name.upper() in ("OK", "GOOD") else name


# ---- as downloaded ----------------------------------------------------------------------------------------------


def _lists(root: Path) -> dict[str, Path]:
    """The list of each category that is unpacked; all lists where no category is, so that scanning says what to do."""
    found = {path.stem: path for path in _visible(root / _LISTS, (".json",))}
    unpacked = {_alike(folder.name) for folder in (*subfolders(root / _RAW), *subfolders(root))}
    if not found:
        beside = [path for path in _visible(root, (".json",)) if _alike(path.stem) in unpacked and _is_list(path)]
        found = {path.stem: path for path in beside}
    return {name: path for name, path in found.items() if _alike(name) in unpacked} or found


def _is_list(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return b'"xyz_path"' in file.read(_HEAD)


def _alike(name: str) -> str:
    return name.replace("-", "_").lower()


def _listed(root: Path, category: str, split: str, path: Path) -> list[_Scan]:
    try:
        listing = _List.model_validate(files.read_json(path))
    except ValidationError as error:
        raise DataError(f"{path}: {first_fault(error)}", "unpack it again") from error
    entries: tuple[_Entry, ...] = getattr(listing, split)
    if not entries:
        return []
    base = _base(root, category, listing, path)
    scans = [_entry_scan(base, entry) for entry in entries]
    needed = [[file for file in (one.image, one.points, one.mask) if file is not None] for one in scans]
    lost = [file for paths in needed for file in [file for file in paths if not file.is_file()][:1]]
    if lost:
        more = f" (and files of {len(lost) - 1} more samples)" if len(lost) > 1 else ""
        raise DataError(f"{lost[0]}: no such file, but {path} lists it{more}", f"unpack {category}.zip again")
    _check_inside(root, scans)
    return scans


def _entry_scan(base: Path, entry: _Entry) -> _Scan:
    defect = _defect(entry.anomaly_class)
    pseudo = base / entry.ps_path if entry.ps_path else None
    mask = base / entry.mask_path if entry.mask_path and defect != GOOD else None
    return _Scan(defect, base / entry.image_path, base / entry.xyz_path, pseudo, mask)


def _base(root: Path, category: str, listing: _List, path: Path) -> Path:
    """The folder that listed paths start from: how the prefix joins them is documented nowhere."""
    prefix = listing.meta.prefix or ""
    tried = (f"{_RAW}/{prefix}", f"{_RAW}/{category}", prefix, category, "", f"{_RAW}/{category}/{prefix}")
    first = next(entry for split in SPLITS for entry in getattr(listing, split)).image_path
    for folder in tried:
        if (root / folder / first).is_file():
            return root / folder
    places = ", ".join(dict.fromkeys(str(PurePosixPath(folder) / first) for folder in tried))
    raise DataError(
        f"{path}: the first image it lists is nowhere in {root}; tried {places}",
        f"unpack {category}.zip into {root / _RAW}",
    )


def _check_inside(root: Path, scans: Sequence[_Scan]) -> None:
    """A list may come from anywhere, and so may the links beside it: none may make us read what lies elsewhere."""
    home = root.resolve()
    for one in scans:
        for path in (one.image, one.points, one.mask, *(light for _, light in _lights(one))):
            if path is not None and not path.resolve().is_relative_to(home):
                raise DataError(f"{path}: leads to {path.resolve()}, outside {root}", "put the files themselves there")


# ---- as the authors' code reads it ------------------------------------------------------------------------------


def _arranged(root: Path) -> dict[str, Path]:
    """The folder of each category in the authors' layout."""
    if _is_arranged(root):
        return {own_name(root): root}
    return {folder.name: folder for folder in subfolders(root) if _is_arranged(folder)}


def _is_arranged(folder: Path) -> bool:
    """GOOD in capitals tells it from MVTec 3D-AD. Names are compared: some disks open good where GOOD is asked for."""
    defects = (defect for split in SPLITS for defect in subfolders(folder / split))
    return any(defect.name == "GOOD" and (defect / "rgb").is_dir() and (defect / "xyz").is_dir() for defect in defects)


def _paired(folder: Path) -> list[_Scan]:
    """The samples of a split. The authors pair by order, which shifts all pairs where one file is lost: names pair."""
    scans: list[_Scan] = []
    lonely: list[Path] = []
    for inner in subfolders(folder):
        defect = _defect(inner.name)
        points = _by_sample(inner / "xyz", _POINTS)
        pseudo = _by_sample(inner / "ps", _IMAGES)
        masks = _by_sample(inner / "gt" / "rgb", _IMAGES) or _by_sample(inner / "gt", _IMAGES)
        for image in _colours(inner / "rgb"):
            sample, around = _sample(image), image.parent.name
            key = sample if sample in points else around
            if key not in points:
                lonely.append(image)
                continue
            mask = None if defect == GOOD else masks.get(sample, masks.get(around))
            scans.append(_Scan(defect, image, points.pop(key), pseudo.get(sample, pseudo.get(around)), mask))
        lonely += points.values()
    if lonely:
        more = f" (and {len(lonely) - 1} more)" if len(lonely) > 1 else ""
        raise DataError(
            f"{lonely[0]}: its sample has no partner in rgb/ (light L05) or xyz/{more}",
            "names must agree up to RGB or XYZ in them; add the missing file or remove this one",
        )
    return scans


def _colours(folder: Path) -> list[Path]:
    inside = [path for inner in (folder, *subfolders(folder)) for path in _visible(inner, _IMAGES)]
    return [path for path in inside if "RGB" in path.name and _LIGHT.search(path.name)]


def _by_sample(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in _visible(folder, suffixes):
        if found.setdefault(_sample(path), path) is not path:
            raise DataError(f"{path}: belongs to the same sample as {found[_sample(path)].name}", "keep one of them")
    return found


def _sample(path: Path) -> str:
    """What the names of all files of a sample share: that before RGBL05, XYZ and the like, or after it."""
    head, *tail = _MODALITY.split(path.stem, maxsplit=1)
    return head or "".join(tail).strip("_-") or path.stem


def _visible(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return list(by_stem(folder, suffixes).values()) if folder.is_dir() else []
