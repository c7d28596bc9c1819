"""Scaled height → the image that the encoder reads as geometry; one arithmetic for real and for made-up surfaces.

Real ones are arrays, made-up ones are torch tensors on any device: what both can do is written here once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # scans are read where torch is not installed
    from torch import Tensor

GeometryImage = Literal["relief", "normals", "height"]
RELIEF_PIXELS = 40.0  # the height range of a part counts as this many pixels, whatever the unit and the sensor

Floats = npt.NDArray[np.float32]
Planes = TypeVar("Planes", Floats, "Tensor")


def geometry_image(scaled: Floats, kind: GeometryImage) -> Floats:
    """Scaled height [B,H,W], about 0..1 on the part → [B,3,H,W] float32; what it shows is told at `channels`."""
    padded = np.pad(scaled, ((0, 0), (1, 1), (1, 1)), mode="edge")
    return np.stack(channels(scaled, padded, kind, _inverse_root), axis=1)


def channels(
    scaled: Planes, padded: Planes, kind: GeometryImage, inverse_root: Callable[[Planes], Planes]
) -> tuple[Planes, Planes, Planes]:
    """Scaled height [B,H,W], and with its border repeated [B,H+2,W+2] → three planes, each [B,H,W].

    normals: unit normals as colours, 0..1, level ground is (0.5, 0.5, 1); height: the scaled height three times;
    relief: the normal's parts to the right and downwards, then the height. A normal looks up, so its third part says
    nothing that the first two do not. inverse_root: 1 / √x of such planes.
    """
    if kind == "height":
        return scaled, scaled, scaled
    rise, fall = slopes(padded)
    right, down, up = unit_normals(RELIEF_PIXELS * rise, RELIEF_PIXELS * fall, inverse_root)
    return 0.5 + 0.5 * right, 0.5 + 0.5 * down, scaled if kind == "relief" else 0.5 + 0.5 * up


def slopes(padded: Planes) -> tuple[Planes, Planes]:
    """Height with its border repeated [B,H+2,W+2] → its rise per pixel to the right and downwards [B,H,W] (Sobel)."""
    across = padded[..., 2:] - padded[..., :-2]
    right = (across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]) / 8
    down = padded[..., 2:, :] - padded[..., :-2, :]
    below = (down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]) / 8
    return right, below


def unit_normals(rise: Planes, fall: Planes, inverse_root: Callable[[Planes], Planes]) -> tuple[Planes, Planes, Planes]:
    """Slopes to the right and downwards → the parts of the normal to there and towards the viewer, each [B,H,W]."""
    up = inverse_root(1 + rise * rise + fall * fall)
    return -rise * up, -fall * up, up


def _inverse_root(values: Floats) -> Floats:
    return np.asarray(1 / np.sqrt(values), np.float32)
