"""Maps of a view → what a camera or a 3D sensor makes of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from uipad_cli.data.procedural.design import Dice, Surroundings
from uipad_cli.data.procedural.drawing import Maps
from uipad_cli.data.relief import GeometryImage, channels, slopes, unit_normals

Kind = Literal["photograph"] | GeometryImage
SHADOW_STEPS = (3.0, 7.0, 13.0)
FILL_STEPS = (1, 4, 12)


@dataclass
class Sensor:
    """One camera or 3D sensor over one batch of scenes; heights are scaled by the first view that it takes."""

    dice: Dice
    kind: Kind
    around: Surroundings
    depth: Tensor
    level: tuple[Tensor, Tensor] | None = field(default=None, init=False)
    blind: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.blind = self.dice.uniform(len(self.depth), 1, 1, low=0.02, high=0.4)

    def look(self, maps: Maps) -> Tensor:
        """One image [B,3,S,S] 0..1 of each scene."""
        if self.kind == "photograph":
            return photograph(self.dice, maps, self.around)
        relief = maps.height + 0.15 * maps.fine
        if self.level is None:
            shares = torch.tensor([0.03, 0.99], device=relief.device)
            low, high = torch.quantile(relief.flatten(1)[:, ::7], shares, dim=1)
            self.level = low, torch.maximum(high - low, 0.15 * self.depth)
        return surface_image(scan(self.dice, relief, self.level, self.blind), self.kind)


def surface_image(scaled: Tensor, kind: GeometryImage) -> Tensor:
    """Scaled height [B,S,S] → [B,3,S,S], as `geometry_image` of real scans (data/relief.py)."""
    return torch.stack(channels(scaled, _padded(scaled), kind, torch.rsqrt), dim=1)


def normals(height: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Height [B,S,S] → the parts of the unit normal to the right, downwards and towards the viewer, each [B,S,S]."""
    return unit_normals(*slopes(_padded(height)), torch.rsqrt)


def photograph(dice: Dice, maps: Maps, around: Surroundings) -> Tensor:
    """What a camera sees [B,3,S,S] 0..1; the lamp stands beside the camera, however the part lies."""
    right, down, up = normals(maps.height + maps.fine)
    light = around.light + 0.05 * dice.normal(*around.light.shape)
    light = light / light.norm(dim=1, keepdim=True)
    x, y, z = (part[:, None, None] for part in light.unbind(1))
    lit = (right * x + down * y + up * z).clamp(min=0) * _sunlit(maps.height, light)
    half = (x * x + y * y + (z + 1) ** 2).sqrt()
    mirror = ((right * x + down * y + up * (z + 1)) / half).clamp(0.01, 1)
    shine = mirror.log().mul(4 + 90 * maps.gloss).exp() * maps.gloss * around.shine[:, None, None] * lit
    ambient = around.ambient[:, None, None]
    light_here = (ambient * _open_sky(maps.height) + (1 - ambient) * lit)[:, None]
    diffuse = maps.albedo * ((1 - 0.6 * maps.metal)[:, None] * light_here)
    tint = 1 + maps.metal[:, None] * (2 * maps.albedo - 1)
    return _camera(dice, (1.6 * diffuse + shine[:, None] * tint) * around.lamp[:, :, None, None])


def scan(dice: Dice, relief: Tensor, level: tuple[Tensor, Tensor], blind: Tensor) -> Tensor:
    """What is left of a relief after a 3D sensor and hole filling [B,S,S], about 0..1 between the two levels.

    blind [B,1,1]: surfaces with less than this share facing up are not seen.
    """
    scenes, size, _ = relief.shape
    low, span = level
    scaled = (relief - low[:, None, None]) / span[:, None, None]
    noise = dice.log_uniform(scenes, 1, 1, low=0.0006, high=0.01)
    white = dice.normal(scenes, 1, size, size)
    scaled = scaled + noise * blur(white, dice.uniform(scenes, high=0.33))[:, 0]
    up = normals(relief)[2]
    steep = up < blind
    speckle = dice.uniform(scenes, size, size) < dice.uniform(scenes, 1, 1, high=0.8) ** 4
    return _fill(scaled, 1 - (steep | speckle).float()).clamp(-0.5, 1.5)


def blur(images: Tensor, side: Tensor) -> Tensor:
    """[B,C,S,S] with a kernel (side, 1 - 2 side, side) in both directions; side [B]."""
    side = side[:, None, None, None]
    padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    across = side * (padded[..., 2:] + padded[..., :-2]) + (1 - 2 * side) * padded[..., 1:-1]
    return side * (across[..., 2:, :] + across[..., :-2, :]) + (1 - 2 * side) * across[..., 1:-1, :]


def _padded(height: Tensor) -> Tensor:
    """[B,S,S] with its border repeated [B,S+2,S+2]."""
    return functional.pad(height[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]


def _sunlit(height: Tensor, light: Tensor) -> Tensor:
    """1 where the lamp reaches the surface, towards 0 in cast shadows [B,S,S]; light [B,3]."""
    size = height.shape[-1]
    coarse = functional.avg_pool2d(height[:, None], 2, 2, ceil_mode=True)
    flat = light[:, :2].norm(dim=1, keepdim=True).clamp(min=1e-3)
    towards, climb = light[:, :2] / flat, (light[:, 2:] / flat)[..., None, None]
    axis = torch.linspace(-1, 1, coarse.shape[-1], device=height.device)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij")[::-1], dim=-1)
    blocked = torch.zeros_like(coarse)
    for step in SHADOW_STEPS:
        place = grid + (2 * step / size * towards)[:, None, None]
        ahead = functional.grid_sample(coarse, place, padding_mode="border", align_corners=True)
        blocked = torch.maximum(blocked, ahead - coarse - step * climb)
    dark = functional.interpolate((blocked / 3).clamp(0, 1), size=(size, size), mode="bilinear")
    return 1 - dark[:, 0]


def _open_sky(height: Tensor) -> Tensor:
    """1 on open ground, less in hollows [B,S,S]."""
    size = height.shape[-1]
    coarse = functional.avg_pool2d(height[:, None], 4, 4, ceil_mode=True)
    around = functional.avg_pool2d(coarse, 3, 1, 1, count_include_pad=False)
    around = functional.interpolate(around, size=(size, size), mode="bilinear")[:, 0]
    return torch.exp(-0.07 * (around - height).clamp(min=0))


def _camera(dice: Dice, radiance: Tensor) -> Tensor:
    """Exposure, blur, gamma and noise."""
    scenes = radiance.shape[0]
    exposure = (0.06 * dice.normal(scenes, 1, 1, 1)).exp() * (0.02 * dice.normal(scenes, 3, 1, 1)).exp()
    blurred = blur(radiance * exposure, dice.uniform(scenes, high=0.24))
    shown = blurred.clamp(1e-5, 1).log().mul(1 / 2.2).exp()
    return (shown + dice.log_uniform(scenes, 1, 1, 1, low=0.002, high=0.02) * dice.normal(*shown.shape)).clamp(0, 1)


def _fill(height: Tensor, seen: Tensor) -> Tensor:
    """Unseen pixels take the mean of the seen ones around them, near ones first; 0 far from any."""
    size = height.shape[-1]
    filled, sure = height * seen, seen
    for step in FILL_STEPS:
        pair = torch.stack((filled, sure), dim=1)
        if step > 1:
            pair = functional.avg_pool2d(pair, step, step, ceil_mode=True)
        pair = functional.avg_pool2d(pair, 3, 1, 1)
        if step > 1:
            pair = functional.interpolate(pair, size=(size, size), mode="bilinear")
        mean, weight = pair[:, 0] / pair[:, 1].clamp(min=1e-6), pair[:, 1]
        known = (weight > 0.05).float() * (1 - sure)
        filled, sure = filled + known * mean, sure + known
    return filled
