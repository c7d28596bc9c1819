from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from uipad_cli.data import files

SHARED = Path(__file__).parents[3] / "shared" / "data"
Xyz = npt.NDArray[np.float32]


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("the real data lies beside the checkout, and is not here")
    return SHARED


@pytest.fixture
def cable_gland(shared: Path) -> Path:
    return shared / "mvtec3d_cable_gland"


def tilted_block(size: int = 64, *, top: float = 0.03, tilt: float = 0.2, noise: float = 0.0, seed: int = 0) -> Xyz:
    """A square block of `top` metres on a plane that leans by `tilt` radians, seen from 0.6 m; [size,size,3]."""
    generator = np.random.default_rng(seed)
    row, column = np.mgrid[:size, :size] * (0.1 / size) - 0.05
    height = np.where((np.abs(row) < 0.02) & (np.abs(column) < 0.02), top, 0.0)
    height = height + generator.normal(0, noise, height.shape) if noise else height
    normal = np.array([0.0, np.sin(tilt), -np.cos(tilt)])
    along = np.array([0.0, np.cos(tilt), np.sin(tilt)])
    points = column[..., None] * np.array([1.0, 0, 0]) + row[..., None] * along + height[..., None] * normal
    return (points + np.array([0, 0, 0.6])).astype(np.float32)


@pytest.fixture
def block() -> Callable[..., Xyz]:
    return tilted_block


@pytest.fixture
def write_pair() -> Callable[..., None]:
    """Write rgb/STEM.png and xyz/STEM.tiff (and gt/STEM.png) into a folder."""

    def write(folder: Path, stem: str, *, mask: bool = False, seed: int = 0, size: int = 64) -> None:
        generator = np.random.default_rng(seed)
        files.write_png(folder / "rgb" / f"{stem}.png", generator.integers(0, 256, (size, size, 3), dtype=np.uint8))
        xyz = tilted_block(size, noise=2e-4, seed=seed)
        xyz[generator.random((size, size)) < 0.2] = 0
        files.write_tiff(folder / "xyz" / f"{stem}.tiff", xyz)
        if mask:
            ids = np.zeros((size, size), np.uint8)
            ids[20:30, 20:30] = 252
            files.write_png(folder / "gt" / f"{stem}.png", ids)

    return write
