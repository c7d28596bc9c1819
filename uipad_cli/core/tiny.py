"""`tiny`: the backbone of our own, small enough to travel inside the package.

A vision transformer that finds its way by neighbourhood alone. No position is added to a patch: what a patch knows of
its surroundings comes from depthwise convolutions over the grid (conditional positions, Chu et al. 2021), so the same
thing looks the same wherever it lies, and every image size is as good as those seen in training. The first blocks see
their own patch alone, the last attends to the whole image, those between mix neighbours (convolution first, attention
late: CoAtNet, Dai et al. 2021). With longer sight, every patch is unlike all others. The stem is two convolutions whose
windows overlap (Xiao et al. 2021), so that half a patch to the left is not another world.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import Mlp  # type: ignore[attr-defined]
from timm.models.vision_transformer import Attention  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.nn import functional

from uipad_cli.core.compute import each

PATCH = 14
WIDTH, DEPTH, HEADS, WIDENING = 192, 8, 3, 4
ALONE, ATTENDING = (0, 1), (7,)  # 0-based blocks that see their own patch only, and the whole image
CELLS = 32  # channels at half resolution
WINDOW = 11  # of the second convolution, in cells; a patch is seven of them
MARGIN = 5  # pixels that the stem sees past the image: one for a cell, two cells for a window
NEAR = 3  # edge of the neighbourhood in patches


class Stem(nn.Module):
    """Image [B,3,H,W] → patches [B,N,D]: half resolution, a nonlinearity, then windows a little larger than a patch."""

    def __init__(self, image_size: int) -> None:
        super().__init__()
        edge = image_size // PATCH
        self.patch_size, self.grid_size = (PATCH, PATCH), (edge, edge)
        self.cells = nn.Conv2d(3, CELLS, kernel_size=4, stride=2)
        self.proj = nn.Conv2d(CELLS, WIDTH, kernel_size=WINDOW, stride=PATCH // 2)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, images: Tensor) -> Tensor:
        """[B,3,H,W] → [B,N,D]."""
        around = functional.pad(images, (MARGIN,) * 4, mode="replicate")  # zeros would be an edge like no other
        patches = self.proj(functional.gelu(self.cells(around)))  # [B,D,h,w]
        found: Tensor = self.norm(patches.flatten(2).transpose(1, 2))
        return found


class Neighbours(nn.Module):
    """Depthwise convolution over the grid of patches [B,N,D] → [B,N,D]; the outermost patches are repeated outside."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, kernel_size=NEAR, groups=WIDTH)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """grid: (h, w) with h·w = N."""
        image = tokens.transpose(1, 2).view(tokens.shape[0], -1, *grid)  # [B,N,D] -> [B,D,h,w]
        mixed = each(self.conv, functional.pad(image, (NEAR // 2,) * 4, mode="replicate"))
        return mixed.flatten(2).transpose(1, 2)


class Block(nn.Module):
    """One block [B,N,D] → [B,N,D]: neighbours and the whole image where it looks at them, then each patch by itself."""

    def __init__(self, *, alone: bool = False, attends: bool = False) -> None:
        super().__init__()
        self.near = None if alone else Neighbours()
        self.attn_norm = nn.LayerNorm(WIDTH) if attends else None
        self.attn = Attention(WIDTH, num_heads=HEADS, qkv_bias=True) if attends else None
        self.norm = nn.LayerNorm(WIDTH)
        self.mlp = Mlp(WIDTH, WIDENING * WIDTH)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """grid: (h, w) with h·w = N."""
        if self.near is not None:
            tokens = tokens + self.near(tokens, grid)
        if self.attn is not None and self.attn_norm is not None:
            tokens = tokens + self.attn(self.attn_norm(tokens))
        mixed: Tensor = tokens + self.mlp(self.norm(tokens))
        return mixed


class TinyViT(nn.Module):
    """3.3 M parameters, with those parts of a timm ViT that `Encoder` uses; weights fit every image size."""

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.embed_dim = WIDTH
        self.patch_embed = Stem(image_size)
        self.blocks = nn.ModuleList(Block(alone=place in ALONE, attends=place in ATTENDING) for place in range(DEPTH))
        self.apply(_initialise)

    def prune_intermediate_layers(self, indices: list[int], **_: Any) -> None:
        """Nothing to cut off: every block is kept."""

    def forward_intermediates(self, images: Tensor, **_: Any) -> list[Tensor]:
        """[B,3,H,W], colour statistics removed, of whole patches → every block's tokens, DEPTH x [B,N,D]."""
        self._choose_attention(images)
        grid = images.shape[-2] // PATCH, images.shape[-1] // PATCH
        tokens, kept = self.patch_embed(images), []
        for block in self.blocks:
            tokens = block(tokens, grid)
            kept.append(tokens)
        return kept

    def _choose_attention(self, images: Tensor) -> None:
        """The fused kernel, but in bfloat16 on a CPU two plain products, which are about three times as fast there."""
        half = images.dtype != torch.float32 or torch.is_autocast_enabled("cpu")
        plain = images.device.type == "cpu" and half
        for place in ATTENDING:
            attention: Any = self.blocks[place].attn
            attention.fused_attn = not plain


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
