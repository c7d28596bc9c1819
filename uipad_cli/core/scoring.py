"""Eq. 11: what could not be rebuilt becomes a map, and the map a verdict's score."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from uipad_cli.core.losses import cosine_distance


def anomaly_map(
    fused: Tensor, rebuilt: Tensor, *, grid: tuple[int, int], size: tuple[int, int], sigma: float
) -> Tensor:
    """Features and their reconstruction [B,C,N,D] → map [B,H,W], mean of the C comparisons (eq. 11).

    grid: (h, w) with h·w = N; size: (H, W); sigma: deviation of the Gaussian in pixels of the map, 0 = none.
    """
    distance = cosine_distance(fused.float(), rebuilt.float())
    distance = distance.reshape(*distance.shape[:2], *grid)  # [B,C,N] -> [B,C,h,w]
    upsampled = functional.interpolate(distance, size=size, mode="bilinear", align_corners=False).mean(dim=1)
    return gaussian_blur(upsampled, sigma) if sigma > 0 else upsampled


def gaussian_blur(maps: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian over [B,H,W]; borders are mirrored, so they neither darken nor brighten."""
    radius = math.ceil(3 * sigma)
    offsets = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    padded = functional.pad(maps[:, None], (radius, radius, radius, radius), mode="reflect")
    blurred = functional.conv2d(functional.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
    return blurred[:, 0]


def image_score(maps: Tensor, share: float) -> Tensor:
    """Mean of the highest `share` of each map's pixels (INP-Former: 0.01): [B,H,W] → [B]."""
    pixels = maps.flatten(1)
    count = max(1, round(share * pixels.shape[1]))
    return pixels.topk(count, dim=1).values.mean(dim=1)
