"""The image score of maps as arrays, for where torch is not installed; core/scoring.py says the same in tensors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def image_score(maps: Floats, share: float, counted: Mask) -> Floats:
    """Mean of the highest `share` of each map's counted pixels: [B,H,W], bool [B,H,W] → [B] float32.

    A map without any counted pixel is judged by all of them.
    """
    scores = []
    for score_map, counts in zip(maps, counted, strict=True):
        pixels = score_map[counts] if counts.any() else score_map.ravel()
        most = max(1, round(share * pixels.size))
        scores.append(np.partition(pixels, pixels.size - most)[-most:].mean())
    return np.asarray(scores, np.float32)


def measured_places(valid: Mask, grid: tuple[int, int], least: float) -> Mask:
    """Pixels in patches of which at least the share `least` was measured: bool [B,H,W] → bool [B,H,W]."""
    height, width = valid.shape[1:]
    if height % grid[0] or width % grid[1]:
        raise ValueError(f"{height} x {width} pixels are not whole patches of a grid of {grid[0]} x {grid[1]}")
    down, across = height // grid[0], width // grid[1]
    patches = valid.reshape(len(valid), grid[0], down, grid[1], across)  # [B,h,·,w,·]
    enough = patches.sum(axis=(2, 4), dtype=np.float32) / np.float32(down) / np.float32(across) >= np.float32(least)
    return np.asarray(enough.repeat(down, axis=1).repeat(across, axis=2))
