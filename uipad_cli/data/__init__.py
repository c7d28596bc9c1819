"""Files on disk → batches. Dataset formats are named here and imported when asked for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from uipad_cli.errors import DataError, UsageError
from uipad_cli.records import Item

DATASETS: dict[str, str] = {  # the first that recognises a folder reads it
    "prepared": "uipad_cli.data.prepared",
    "table": "uipad_cli.data.table",
    "eyecandies": "uipad_cli.data.eyecandies",
    "realiad_d3": "uipad_cli.data.realiad_d3",
    "mvtec3d": "uipad_cli.data.mvtec3d",
    "folder": "uipad_cli.data.folder",
}
JOURNAL = ".journal.jsonl"  # lies in a folder while it is prepared
SPLITS = ("train", "validation", "test")


class Dataset(Protocol):
    """What the module of a dataset format offers; DOCUMENTED may hold what it documents of its sensor (`Sensor`)."""

    def recognise(self, root: Path) -> bool:
        """True where `root` has this format; reads names, not pictures."""
        ...

    def categories(self, root: Path) -> list[str]:
        """Names of the categories, sorted."""
        ...

    def scan(self, root: Path, category: str, split: str) -> list[Item]:
        """All pairs of one split, sorted; empty where the split is absent. Raises DataError for unpaired files."""
        ...


def dataset_name(root: Path, name: str = "auto") -> str:
    """The format of `root`, a key of DATASETS; "auto" takes the first that recognises it.

    Raises DataError where nothing fits, UsageError for an unknown name.
    """
    if name not in ("auto", *DATASETS):
        raise UsageError(f"unknown dataset format {name!r}{_nearest(name, DATASETS)}", _choices(("auto", *DATASETS)))
    if not root.exists():
        raise DataError(f"{root}: no such folder", "check the path")
    if (root / JOURNAL).is_file() and not (root / "manifest.json").is_file():
        raise DataError(f"{root}: a prepared folder that was not finished", "run the same uipad prepare again")
    for known in DATASETS if name == "auto" else (name,):
        if _module(known).recognise(root):
            return known
    wanted = "any known dataset" if name == "auto" else f"the format {name}"
    raise DataError(
        f"{root}: does not look like {wanted}",
        "expected CATEGORY/train/good/{rgb,xyz}, a folder with rgb/ and xyz/, depth/ or cloud/, a table of pairs"
        " (pairs.csv, pairs.jsonl), or one made by uipad prepare",
    )


def open_dataset(root: Path, name: str = "auto") -> Dataset:
    """The module that reads `root`. Raises DataError where nothing fits, UsageError for an unknown name."""
    return _module(dataset_name(root, name))


def documented(name: str) -> dict[str, object]:
    """What the format `name` documents of its sensor, by the names of `Sensor`."""
    return dict(getattr(_module(name), "DOCUMENTED", {}))


def choose_category(names: Iterable[str], wanted: str) -> str:
    """The one of `names` that is `wanted`; where none is, - and _ are alike, as papers and disks differ there.

    Raises DataError that suggests the nearest name and lists all.
    """
    known = list(names)
    if wanted in known:
        return wanted
    alike = [name for name in known if name.replace("-", "_") == wanted.replace("-", "_")]
    if len(alike) == 1:
        return alike[0]
    raise DataError(f"no category {wanted!r}{_nearest(wanted, known)}", _choices(known))


def _module(name: str) -> Dataset:
    return cast(Dataset, import_module(DATASETS[name]))


def _nearest(wanted: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(wanted, list(names), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def _choices(names: Iterable[str]) -> str:
    listed = list(names)
    return f"choose one of: {', '.join(listed)}" if listed else "there is no category at all: check the folder"
