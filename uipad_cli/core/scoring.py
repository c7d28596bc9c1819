"""Eq. 11: what could not be rebuilt becomes a map, and the map a verdict's score."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from uipad_cli.core.compute import recording
from uipad_cli.core.losses import cosine_distance


def anomaly_map(
    fused: Tensor, rebuilt: Tensor, *, grid: tuple[int, int], size: tuple[int, int], sigma: float
) -> Tensor:
    """Features and their reconstruction [B,C,N,D] → map [B,H,W], mean of the C comparisons (eq. 11).

    grid: (h, w) with h·w = N; size: (H, W); sigma: deviation of the Gaussian in pixels of the map, 0 = none.
    """
    return upsampled_map(cosine_distance(fused.float(), rebuilt.float()), grid=grid, size=size, sigma=sigma)


def upsampled_map(distance: Tensor, *, grid: tuple[int, int], size: tuple[int, int], sigma: float) -> Tensor:
    """Distances of patches [B,C,N] → map [B,H,W], mean of the C comparisons; grid, size, sigma as in anomaly_map."""
    distance = distance.reshape(*distance.shape[:2], *grid)  # [B,C,N] -> [B,C,h,w]
    upsampled = functional.interpolate(distance, size=size, mode="bilinear", align_corners=False).mean(dim=1)
    return gaussian_blur(upsampled, sigma) if sigma > 0 else upsampled


def gaussian_blur(maps: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian over [B,H,W]; borders are mirrored, so they neither darken nor brighten.

    Two matrix products rather than convolutions, whose rounding depends on the size of the batch.
    """
    kept = _blur_matrix.__wrapped__ if recording() else _blur_matrix  # what is recorded may be no real tensor
    rows, columns = (kept(size, sigma, maps.device, maps.dtype) for size in maps.shape[-2:])
    across = maps @ columns.T  # [B,H,W]
    return (across.transpose(1, 2) @ rows.T).transpose(1, 2)


@cache  # recorded graphs point into it
def _blur_matrix(size: int, sigma: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    """[size,size]: row i holds the weights of all pixels in blurred pixel i."""
    radius = math.ceil(3 * sigma)
    offsets = torch.arange(-radius, radius + 1, device=device)
    kernel = torch.exp(-(offsets.double() ** 2) / (2 * sigma**2))
    sources = (torch.arange(size, device=device)[:, None] + offsets) % max(1, 2 * (size - 1))
    mirrored = torch.minimum(sources, 2 * (size - 1) - sources) if size > 1 else torch.zeros_like(sources)
    matrix = torch.zeros(size, size, dtype=torch.double, device=device)
    return matrix.scatter_add_(1, mirrored, (kernel / kernel.sum()).expand(size, -1)).to(dtype)


def image_score(maps: Tensor, share: float, counted: Tensor) -> Tensor:
    """Mean of the highest `share` of each map's counted pixels (INP-Former: 0.01): [B,H,W], bool [B,H,W] → [B].

    A map without any counted pixel is judged by all of them.
    """
    pixels, counts = maps.flatten(1), counted.flatten(1)
    counts = counts | ~counts.any(dim=1, keepdim=True)
    wanted = (share * counts.sum(dim=1).double()).round().clamp(min=1)  # [B]; the sizes of all tensors are known before
    most = max(1, round(share * pixels.shape[1]))
    highest = pixels.masked_fill(~counts, -torch.inf).topk(most, dim=1).values
    taken = torch.arange(most, device=maps.device) < wanted[:, None]
    return highest.masked_fill(~taken, 0).sum(dim=1) / wanted.to(highest.dtype)


def measured_places(valid: Tensor, grid: tuple[int, int], least: float) -> Tensor:
    """Pixels in patches of which at least the share `least` was measured: bool [B,H,W] → bool [B,H,W].

    What was filled in says nothing about the part, so it must not raise an alarm by itself.
    """
    measured = functional.adaptive_avg_pool2d(valid[:, None].float(), grid) >= least
    return functional.interpolate(measured.float(), size=valid.shape[-2:], mode="nearest")[:, 0] > 0
