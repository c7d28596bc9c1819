"""A hand-made descriptor in the place of a backbone: textures and colours of a patch, without anything learned.

It is the row that every learned backbone has to beat. A patch of 14 x 14 pixels is told by 42 numbers: mean and half
the maximum of the Gabor energy (amplitude of the even and odd answers of the grey image) at three wavelengths and six
orientations, and mean and deviation of its three colours. Textures and colours are two layers, since the methods here
take two groups of layers and scale each to unit length: so neither drowns the other. That scaling would keep only the
direction of a vector, and a red as bright as a dark red; each layer therefore ends in a constant entry of ANCHOR, so
that for the usual short vectors the distance after the scaling is nearly the plain distance before it. Textures are
first multiplied by GAIN, with which both layers vary alike over made-up surfaces (data/procedural; spreads of 0.08 and
0.26 within an image, of 0.09 and 0.41 over all); colours are measured from mid grey.

Gabor energy: Jain and Farrokhnia, Unsupervised texture segmentation using Gabor filters, Pattern Recognition 1991.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from uipad_cli.core.compute import each

PATCH = 14
BANDS = ((4.0, 2.0), (8.0, 4.0), (16.0, 7.0))  # wavelength and deviation of the envelope, pixels
ORIENTATIONS = 6
TEXTURES = 2 * ORIENTATIONS * len(BANDS)
COLOURS = 6
GAIN = 4.0
ANCHOR = 1.0
MID_GREY = 0.5


class Grid(NamedTuple):
    """Patches of an image: (h, w), and their edges in pixels."""

    grid_size: tuple[int, int]
    patch_size: tuple[int, int]


class GaborBank(nn.Module):
    """The descriptor with those parts of a timm ViT that `Encoder` uses; its two blocks are textures and colours."""

    def __init__(self, image_size: int) -> None:
        super().__init__()
        if image_size < PATCH or image_size % PATCH:
            raise ValueError(f"an image of {image_size} pixels is not a whole number of patches of {PATCH}")
        edge = image_size // PATCH
        self.patch_embed = Grid((edge, edge), (PATCH, PATCH))
        self.blocks = ("texture", "colour")
        self.embed_dim = TEXTURES + 1
        for place, (wavelength, deviation) in enumerate(BANDS):
            self.register_buffer(f"kernels{place}", gabor_kernels(wavelength, deviation))

    def prune_intermediate_layers(self, indices: list[int], **_: Any) -> None:
        """Nothing to cut off: both layers are kept."""

    def forward_intermediates(self, images: Tensor, **_: Any) -> list[Tensor]:
        """[B,3,H,W] in 0..1 → textures and colours, each [B,N,D] float32, D = TEXTURES + 1."""
        with torch.autocast(images.device.type, enabled=False):
            textures = each(self._textures, images.float())
            return [_anchored(GAIN * textures), _anchored(_colours(images.float()))]

    def _textures(self, images: Tensor) -> Tensor:
        """[B,3,H,W] → mean and half maximum of the energies in each patch [B,N,TEXTURES]."""
        grey = images.mean(dim=1, keepdim=True)
        found = []
        for place in range(len(BANDS)):
            kernels = self.get_buffer(f"kernels{place}")  # [2O,1,k,k]
            margin = kernels.shape[-1] // 2
            padded = functional.pad(grey, (margin,) * 4, mode="replicate")
            even, odd = functional.conv2d(padded, kernels).chunk(2, dim=1)
            energy = torch.hypot(even, odd)  # [B,O,H,W]
            found += [functional.avg_pool2d(energy, PATCH), functional.max_pool2d(energy, PATCH) / 2]
        return torch.cat(found, dim=1).flatten(2).transpose(1, 2)


def gabor_kernels(wavelength: float, deviation: float) -> Tensor:
    """Even, then odd kernels of ORIENTATIONS directions [2O,1,k,k]: zero mean, absolute values that add up to one."""
    radius = math.ceil(3 * deviation)
    steps = torch.arange(-radius, radius + 1, dtype=torch.float32)
    angles = torch.arange(ORIENTATIONS)[:, None, None] * (math.pi / ORIENTATIONS)
    along = angles.cos() * steps[None, None, :] + angles.sin() * steps[None, :, None]  # [O,k,k]
    envelope = torch.exp(-(steps[None, :] ** 2 + steps[:, None] ** 2) / (2 * deviation**2))
    phase = along * (2 * math.pi / wavelength)
    kernels = torch.cat([envelope * phase.cos(), envelope * phase.sin()])  # [2O,k,k]
    kernels = kernels - envelope * (kernels.sum(dim=(1, 2), keepdim=True) / envelope.sum())
    return (kernels / kernels.abs().sum(dim=(1, 2), keepdim=True))[:, None]


def _colours(images: Tensor) -> Tensor:
    """[B,3,H,W] → mean from mid grey and deviation of each colour in each patch [B,N,COLOURS]."""
    batch, colours, height, width = images.shape
    patches = images.reshape(batch, colours, height // PATCH, PATCH, width // PATCH, PATCH)
    patches = patches.transpose(3, 4).flatten(4).flatten(2, 3)  # [B,3,h,14,w,14] -> [B,3,N,196]
    deviation, mean = torch.std_mean(patches, dim=-1, correction=0)  # [B,3,N] each
    return torch.cat([mean - MID_GREY, deviation], dim=1).transpose(1, 2)


def _anchored(values: Tensor) -> Tensor:
    """[B,N,V] → [B,N,TEXTURES + 1]: zeros up to the common width, then the constant entry."""
    filled = functional.pad(values, (0, TEXTURES - values.shape[-1]))
    return functional.pad(filled, (0, 1), value=ANCHOR)
