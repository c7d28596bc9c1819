"""`tiny`: the backbone of our own, small enough to travel inside the package.

A plain ViT but for its stem: two convolutions with a nonlinearity between them cut the image into patches, which a
small network learns from far fewer images than one linear map (early convolutions, Xiao et al. 2021).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

PATCH = 14
POSITIONS = 28  # edge of the grid of positions: 392 px
WIDTH, DEPTH, HEADS = 192, 8, 3
STEM = 32


class Stem(nn.Module):
    """Image [B,3,H,W] → patches [B,N,D]: half resolution, a nonlinearity, then patches of 7 x 7 cells."""

    def __init__(self, img_size: int, patch_size: int, in_chans: int, embed_dim: int, **_: Any) -> None:
        super().__init__()
        edge = img_size // patch_size
        self.patch_size, self.grid_size, self.num_patches = (patch_size, patch_size), (edge, edge), edge * edge
        self.cells = nn.Conv2d(in_chans, STEM, kernel_size=4, stride=2, padding=1)
        self.act = nn.GELU()
        self.proj = nn.Conv2d(STEM, embed_dim, kernel_size=patch_size // 2, stride=patch_size // 2)

    def forward(self, images: Tensor) -> Tensor:
        """[B,3,H,W] → [B,N,D]."""
        patches: Tensor = self.proj(self.act(self.cells(images)))
        return patches.flatten(2).transpose(1, 2)


class TinyViT(VisionTransformer):
    """3.9 M parameters; without a class token, positions on a grid of POSITIONS x POSITIONS patches."""

    def __init__(self, image_size: int) -> None:
        super().__init__(
            img_size=image_size,
            patch_size=PATCH,
            embed_dim=WIDTH,
            depth=DEPTH,
            num_heads=HEADS,
            num_classes=0,
            class_token=False,
            global_pool="avg",
            embed_layer=Stem,
        )
        self.fc_norm = nn.Identity()  # nothing stands behind the blocks: methods read them directly
        edge = image_size // PATCH
        positions = build_sincos2d_pos_embed([edge, edge], dim=WIDTH).flatten(0, -2)
        self.positions.data.copy_(0.3 * positions[None])

    @property
    def positions(self) -> Tensor:
        """What is added to each patch for its place [1,N,D]."""
        assert self.pos_embed is not None
        return self.pos_embed

    def fit_positions(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict of another image size with its positions fitted to this one.

        A smaller image takes the middle of the grid of positions: neighbours are as far apart as they were in training.
        A larger one stretches it.
        """
        fitted = dict(weights)
        here, there = self.positions.shape[1], fitted.get("pos_embed", self.positions).shape[1]
        old, new = round(there**0.5), round(here**0.5)
        if old == new or old * old != there:
            return fitted
        grid = fitted["pos_embed"].reshape(1, old, old, -1)
        if new < old:
            first = (old - new) // 2
            grid = grid[:, first : first + new, first : first + new]
        else:
            image = grid.permute(0, 3, 1, 2).float()
            stretched = functional.interpolate(image, size=(new, new), mode="bicubic", align_corners=False)
            grid = stretched.permute(0, 2, 3, 1)
        return fitted | {"pos_embed": grid.flatten(1, 2).contiguous()}

    def forward_intermediates(self, x: Tensor, *arguments: Any, **options: Any) -> Any:
        """As timm has it."""
        self._choose_attention(x)
        return super().forward_intermediates(x, *arguments, **options)

    def _choose_attention(self, images: Tensor) -> None:
        """The fused kernel, but in bfloat16 on a CPU two plain products, which are about three times as fast there."""
        plain = images.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        for block in self.blocks:
            attention: Any = block.attn
            attention.fused_attn = not plain

    def blocks_at(self, images: Tensor, offset: tuple[int, int]) -> Tensor:
        """Images [B,3,S,S], colour statistics removed, of any whole number of patches → all blocks [B,L,N,D].

        offset: row and column of the grid of positions where the first patch stands.
        """
        self._choose_attention(images)
        tokens = self.patch_embed(images)
        edge = images.shape[-1] // PATCH
        grid = self.positions.reshape(1, POSITIONS, POSITIONS, -1)
        row, column = offset
        tokens = tokens + grid[:, row : row + edge, column : column + edge].flatten(1, 2)
        kept = []
        for block in self.blocks:
            tokens = block(tokens)
            kept.append(tokens)
        return torch.stack(kept, dim=1)
