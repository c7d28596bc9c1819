"""Scaled height → the image that the encoder reads as geometry; one arithmetic for real and for made-up surfaces."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

GeometryImage = Literal["relief", "normals", "height"]
RELIEF_PIXELS = 40.0  # the height range of a part counts as this many pixels, whatever the unit and the sensor


def geometry_image(scaled: Tensor, kind: GeometryImage) -> Tensor:
    """Scaled height [B,H,W], about 0..1 on the part → [B,3,H,W].

    normals: unit normals as colours, 0..1, level ground is (0.5, 0.5, 1); height: the scaled height three times;
    relief: the normal's parts to the right and downwards, then the height. A normal looks up, so its third part says
    nothing that the first two do not.
    """
    if kind == "height":
        return scaled[:, None].repeat(1, 3, 1, 1)
    right, down, up = unit_normals(RELIEF_PIXELS * slopes(scaled))
    third = scaled if kind == "relief" else 0.5 + 0.5 * up
    return torch.stack((0.5 + 0.5 * right, 0.5 + 0.5 * down, third), dim=1)


def slopes(height: Tensor) -> Tensor:
    """Height [B,H,W] → its rise per pixel to the right and downwards [B,2,H,W] (Sobel, the border repeated)."""
    padded = functional.pad(height[:, None], (1, 1, 1, 1), mode="replicate")
    across = padded[..., 2:] - padded[..., :-2]
    right = (across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]) / 8
    down = padded[..., 2:, :] - padded[..., :-2, :]
    below = (down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]) / 8
    return torch.cat((right, below), dim=1)


def unit_normals(slope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Slopes [B,2,H,W] → the parts of the normal to the right, downwards and towards the viewer, each [B,H,W]."""
    right, down = -slope[:, 0], -slope[:, 1]
    up = (1 + right * right + down * down).rsqrt()
    return right * up, down * up, up
