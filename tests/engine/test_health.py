from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from uipad_cli.data import SPLITS, files, mvtec3d, prepared
from uipad_cli.engine.health import Health, examine
from uipad_cli.engine.prepare import prepare
from uipad_cli.records import Progress

REAL = Path(__file__).parents[3] / "shared" / "data" / "mvtec3d_cable_gland"
SIZE = 72
TEST = 6  # parts of either kind
Xyz = Callable[[np.ndarray], np.ndarray]  # type: ignore[type-arg]


def write_part(folder: Path, stem: str, *, seed: int, mask: bool | None = None, lean: float = 0.3, size: int = SIZE) -> None:
    """A lit block on a leaning plane; mask: None for no file, False for an empty one."""
    generator = np.random.default_rng(seed)
    row, column = np.mgrid[:size, :size] * 0.002
    top, left = generator.integers(16, 28, 2)
    block = np.zeros((size, size), np.bool_)
    block[top : top + 26, left : left + 22] = True
    depth = 0.6 + lean * row + generator.normal(0, 2e-4, row.shape)
    depth[block] -= 0.03
    rgb = 60 + 110 * block[..., None] + generator.normal(0, 6, (size, size, 3))
    xyz = np.stack([column, row, depth], axis=-1).astype(np.float32)
    xyz[generator.random((size, size)) < 0.1] = 0
    files.write_png(folder / "rgb" / f"{stem}.png", rgb.clip(0, 255).astype(np.uint8))
    files.write_tiff(folder / "xyz" / f"{stem}.tiff", xyz)
    if mask is not None:
        ids = np.zeros((size, size), np.uint8)
        ids[20:26, 20:26] = 255 * mask
        files.write_png(folder / "gt" / f"{stem}.png", ids)


def write_category(root: Path, category: str, seed: int = 0) -> None:
    folder = root / category
    for number in range(6):
        write_part(folder / "train" / "good", f"{number:03}", seed=seed + number)
    for number in range(2):
        write_part(folder / "validation" / "good", f"{number:03}", seed=seed + 20 + number)
    for number in range(TEST):
        write_part(folder / "test" / "good", f"{number:03}", seed=seed + 40 + number, mask=False)
        write_part(folder / "test" / "cut", f"{number:03}", seed=seed + 60 + number, mask=True)


@pytest.fixture
def nut(tmp_path: Path) -> Path:
    write_category(tmp_path / "raw", "nut")
    return tmp_path / "raw" / "nut"


def check(nut: Path, **options: object) -> Health:
    """Prepare the data set of a category and look at it."""
    raw, out = nut.parent, nut.parents[1] / "out"
    items = [item for name in mvtec3d.categories(raw) for split in SPLITS for item in mvtec3d.scan(raw, name, split)]
    prepare(raw, out, workers=1)
    return examine(out, items, **options)  # type: ignore[arg-type]


def only(health: Health) -> str:
    assert len(health.warnings) == 1, health.warnings
    return health.warnings[0]


def change_xyz(path: Path, change: Callable[[np.ndarray], None]) -> None:  # type: ignore[type-arg]
    xyz = files.read_bytes(path) and __import__("tifffile").imread(path)
    change(xyz)
    files.write_tiff(path, xyz)
