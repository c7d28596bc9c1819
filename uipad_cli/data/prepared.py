"""What `uipad prepare` writes: CATEGORY/SPLIT/DEFECT/{rgb,height,valid,gt}/STEM.* and one manifest that lists it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from uipad_cli.data import choose_category, files
from uipad_cli.data.geometry import GeometryFacts, HeightScale, Preparation
from uipad_cli.data.places import is_plain
from uipad_cli.errors import DataError, first_fault
from uipad_cli.records import Item

MANIFEST = "manifest.json"
FORMAT: Literal["uipad-prepared"] = "uipad-prepared"
FAR = 1e12  # metres or degrees: no scan is as large
VERSION: Literal[3] = 3  # since then, the pitch is that of the prepared pair, and 0 where nothing says it


class PairEntry(BaseModel):
    """One pair: the hash of its source files and settings, its size, and what its geometry is like.

    The pitch among the latter holds for neighbouring pixels of the prepared images; 0 where it is not known.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    height: int
    width: int
    mask: bool
    geometry: GeometryFacts

    @field_validator("geometry")
    @classmethod
    def _measure(cls, facts: GeometryFacts) -> GeometryFacts:
        """A manifest may come from anywhere: of its figures areas are made, and means."""
        if not all(abs(value) < FAR for value in asdict(facts).values()) or facts.pitch_m < 0:
            raise ValueError(f"no figures of a scan: {facts}")
        return facts


class CategoryEntry(BaseModel):
    """One category; `pairs` maps SPLIT/DEFECT/STEM to its entry, sorted as its source lists them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    dataset: str
    height_scale: HeightScale
    counts: dict[str, int]
    pairs: dict[str, PairEntry]

    @field_validator("height_scale")
    @classmethod
    def _measure(cls, scale: HeightScale) -> HeightScale:
        if not abs(scale.low) < FAR > abs(scale.high):
            raise ValueError("no part is as high")
        return scale


class Manifest(BaseModel):
    """All that is known of a prepared folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["uipad-prepared"] = FORMAT
    version: Literal[2, 3] = VERSION
    uipad: str
    preparation: Preparation
    categories: dict[str, CategoryEntry]


def recognise(root: Path) -> bool:
    """True where a manifest of this format lies in the folder."""
    path = root / MANIFEST
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return FORMAT.encode() in file.read(4096)


def read_manifest(root: Path) -> Manifest:
    """The manifest of a prepared folder; of an older one, without what it says of the pitch. Raises DataError."""
    path = root / MANIFEST
    if not path.is_file():
        raise DataError(f"{root}: not a prepared folder ({MANIFEST} is missing)", "make one with uipad prepare")
    try:
        manifest = Manifest.model_validate(files.read_json(path))
    except ValidationError as error:
        raise DataError(f"{path}: {first_fault(error)}", "prepare again into a new folder") from error
    for category, entry in manifest.categories.items():
        for name in entry.pairs:
            _check_name(f"{category}/{name}", path)
    return manifest if manifest.version == VERSION else _without_pitch(manifest)


def categories(root: Path) -> list[str]:
    """Names of the categories, sorted. Raises DataError."""
    return sorted(read_manifest(root).categories)


def scan(root: Path, category: str, split: str) -> list[Item]:
    """The pairs of a split that the manifest lists. Raises DataError."""
    manifest = read_manifest(root)
    category = choose_category(sorted(manifest.categories), category)
    entry = manifest.categories[category]
    return [
        item(root, f"{category}/{name}", mask=pair.mask, pitch=pair.geometry.pitch_m or None)
        for name, pair in entry.pairs.items()
        if name.startswith(f"{split}/")
    ]


def item(root: Path, name: str, *, mask: bool, pitch: float | None = None) -> Item:
    """The prepared pair CATEGORY/SPLIT/DEFECT/STEM under `root`; pitch: metres from pixel to pixel, where known."""
    category, split, defect, stem = name.split("/")
    folder = root / category / split / defect
    return Item(
        category,
        split,
        defect,
        stem,
        rgb=folder / "rgb" / f"{stem}.png",
        geometry=folder / "height" / f"{stem}.tiff",
        geometry_kind="height",
        mask=folder / "gt" / f"{stem}.png" if mask else None,
        valid=folder / "valid" / f"{stem}.png",
        pitch=pitch,
    )


def _without_pitch(manifest: Manifest) -> Manifest:
    """A manifest of version 2 as one of today: its pitch was that of the raw points, whoever had made up their x, y."""

    def unknown(pair: PairEntry) -> PairEntry:
        return pair.model_copy(update={"geometry": replace(pair.geometry, pitch_m=0.0)})

    categories = {
        name: entry.model_copy(update={"pairs": {key: unknown(pair) for key, pair in entry.pairs.items()}})
        for name, entry in manifest.categories.items()
    }
    return manifest.model_copy(update={"version": VERSION, "categories": categories})


def _check_name(name: str, path: Path) -> None:
    """A manifest may come from anywhere: its names must stay inside its folder."""
    parts = name.split("/")
    if len(parts) != 4 or not all(map(is_plain, parts)):
        raise DataError(f"{path}: {name!r} is not a name of the form CATEGORY/SPLIT/DEFECT/STEM", "prepare again")
