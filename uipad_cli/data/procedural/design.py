"""What a made-up scene is: layers of shapes with a relief and a material each, drawn at random.

Lengths are pixels of the rendered image, in a plane that every view of the scene shares. No part of the built-in
benchmark is described here: shapes, arrays, colours and textures are independent of each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

LAYERS = 9
POLAR = (2, 5)  # the layers that may lie around a circle
FLAWS = 4
WAVES = 3


@dataclass(frozen=True)
class Layers:
    """Shapes of a batch of scenes, one row per layer, later ones on top; every field [B,K] or [B,K,...].

    centre [B,K,2], angle, half [B,K,2]: half-width and half-height; corner: radius as a share of the smaller half;
    hollow: width of the ring that is left of a shape, 0 = solid; period [B,K,2] and count [B,K,2]: repetitions to
    either side; around: radius of the circle that they lie on, 0 = a straight array; wobble: how far outlines stray;
    rise: height of the slab, negative = a pocket; bevel: width of its edge; round: share of a barrel-shaped top;
    slope: tilt of the top; opaque 0..1: how much of the material below is covered; colour [B,K,3] linear; gloss;
    metal; motif: contrast of the regular pattern; grain: contrast of the fine texture; rough: height of fine relief.
    """

    centre: Tensor
    angle: Tensor
    half: Tensor
    corner: Tensor
    hollow: Tensor
    period: Tensor
    count: Tensor
    around: Tensor
    wobble: Tensor
    rise: Tensor
    bevel: Tensor
    round: Tensor
    slope: Tensor
    opaque: Tensor
    colour: Tensor
    gloss: Tensor
    metal: Tensor
    motif: Tensor
    grain: Tensor
    rough: Tensor

    def __getitem__(self, places: slice) -> Layers:
        """Some layers of every scene."""
        return Layers(**{one.name: getattr(self, one.name)[:, places] for one in fields(self)})

    def on_top(self, other: Layers) -> Layers:
        """The layers of `other` on top of these."""
        return Layers(
            **{one.name: torch.cat((getattr(self, one.name), getattr(other, one.name)), dim=1) for one in fields(self)}
        )


@dataclass(frozen=True)
class Surroundings:
    """What all layers of a scene share: [B,...].

    floor [B,3]: colour of what the part lies on; waves [B,W,2]: the regular pattern's wave vectors, radians per pixel;
    phase [B,W]; bend [B,W]: how far it is warped; fine [B,3]: width, stretch and direction of the fine texture;
    light [B,3]: unit vector to the lamp; ambient [B]; lamp [B,3] colour; shine [B]: strength of highlights.
    """

    floor: Tensor
    waves: Tensor
    phase: Tensor
    bend: Tensor
    fine: Tensor
    light: Tensor
    ambient: Tensor
    lamp: Tensor
    shine: Tensor


class Dice:
    """Random tensors of one generator, on its device."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator, self.device = generator, generator.device

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Between low and high."""
        return torch.rand(*shape, generator=self.generator, device=self.device) * (high - low) + low

    def log_uniform(self, *shape: int, low: float, high: float) -> Tensor:
        """Between low and high, every ratio as likely."""
        return self.uniform(*shape, low=math.log(low), high=math.log(high)).exp()

    def normal(self, *shape: int) -> Tensor:
        """Standard normal."""
        return torch.randn(*shape, generator=self.generator, device=self.device)

    def chance(self, *shape: int, of: float) -> Tensor:
        """1 with probability `of`, else 0."""
        return (self.uniform(*shape) < of).float()


def draw_layers(dice: Dice, scenes: int, size: int) -> Layers:
    """Layers [scenes, LAYERS] of parts about as large as a view of `size` pixels: a body, then what lies on it."""
    shape = (scenes, LAYERS)
    smaller = torch.linspace(0.0, 1.0, LAYERS, device=dice.device)  # later layers are smaller
    half = dice.log_uniform(*shape, low=0.08, high=0.5) * (1 - 0.6 * smaller) * size
    half = torch.stack((half, half * dice.log_uniform(*shape, low=0.12, high=1.0)), dim=-1).clamp(min=2.0)
    body = dice.uniform(scenes, 2, low=0.28, high=0.7) * size
    half = torch.cat((body[:, None], half[:, 1:]), dim=1)
    round_shape = dice.chance(*shape, of=0.35)
    half = torch.where((round_shape > 0)[..., None], half[..., :1].expand_as(half), half)
    repeated = dice.chance(*shape, of=0.45) * (smaller > 0)
    count = (dice.uniform(*shape, 2, low=0.0, high=6.0).floor() * dice.chance(*shape, 2, of=0.7)) * repeated[..., None]
    half = torch.where(count.amax(-1, keepdim=True) > 0, half * dice.uniform(*shape, 1, low=0.2, high=0.5), half)
    half = half.clamp(min=1.5)
    polar = torch.zeros(LAYERS, device=dice.device)
    polar[list(POLAR)] = 1.0
    around = dice.uniform(*shape, low=0.1, high=0.4) * size * polar * dice.chance(*shape, of=0.6)
    centre = dice.normal(*shape, 2) * (0.08 + 0.22 * smaller[:, None]) * size
    tone = _colours(dice, scenes, LAYERS)
    rise = _signed(dice, *shape, low=0.01, high=0.16) * size * dice.chance(*shape, of=0.75)
    rise = torch.cat((dice.uniform(scenes, 1, low=0.05, high=0.5) * size, rise[:, 1:]), dim=1)
    return Layers(
        centre=centre,
        angle=dice.uniform(*shape, high=2 * math.pi) * dice.chance(*shape, of=0.6),
        half=half,
        corner=torch.where(round_shape > 0, torch.ones_like(round_shape), dice.uniform(*shape, high=0.5)),
        hollow=half.amin(-1) * dice.uniform(*shape, low=0.08, high=0.6) * dice.chance(*shape, of=0.25) * (smaller > 0),
        period=2 * half * dice.uniform(*shape, 2, low=1.15, high=2.2),
        count=count,
        around=around,
        wobble=dice.log_uniform(*shape, low=0.5, high=9.0) * dice.chance(*shape, of=0.3),
        rise=rise,
        bevel=dice.log_uniform(*shape, low=1.0, high=12.0),
        round=dice.uniform(*shape) * dice.chance(*shape, of=0.45),
        slope=dice.normal(*shape) * 0.15 * dice.chance(*shape, of=0.4),
        opaque=dice.chance(*shape, of=0.8),
        colour=tone,
        gloss=dice.uniform(*shape) * dice.chance(*shape, of=0.7),
        metal=dice.chance(*shape, of=0.25),
        motif=dice.uniform(*shape, high=0.7) * dice.chance(*shape, of=0.35),
        grain=dice.log_uniform(*shape, low=0.01, high=0.35),
        rough=dice.log_uniform(*shape, low=0.02, high=1.2) * dice.chance(*shape, of=0.6),
    )


def draw_flaws(dice: Dice, scenes: int, size: int, depth: Tensor, spots: Tensor) -> Layers:
    """Small layers [scenes, FLAWS] that no good part has: stains, dents, scratches, foreign bodies, holes.

    depth [B]: the height range of the scene; spots [B,FLAWS,2]: where they lie.
    """
    shape = (scenes, FLAWS)
    half = dice.log_uniform(*shape, low=2.5, high=0.09 * size + 8.0)
    thin = dice.chance(*shape, of=0.35)
    across = torch.where(thin > 0, dice.uniform(*shape, low=0.8, high=2.5), half * dice.uniform(*shape, low=0.4))
    kind = dice.uniform(*shape)  # below 0.35 material only, above 0.75 relief only, between both
    raised, painted = (kind > 0.35).float(), (kind < 0.75).float()
    present = dice.chance(*shape, of=0.75)
    return Layers(
        centre=spots,
        angle=dice.uniform(*shape, high=2 * math.pi),
        half=torch.stack((torch.where(thin > 0, 1.6 * half, half), across), dim=-1),
        corner=torch.ones(shape, device=dice.device),
        hollow=torch.zeros(shape, device=dice.device),
        period=torch.ones(*shape, 2, device=dice.device),
        count=torch.zeros(*shape, 2, device=dice.device),
        around=torch.zeros(shape, device=dice.device),
        wobble=half * dice.uniform(*shape, low=0.05, high=0.5),
        rise=_signed(dice, *shape, low=0.025, high=0.3) * depth[:, None] * raised * present,
        bevel=(across * dice.uniform(*shape, low=0.3, high=1.3)).clamp(min=0.8),
        round=dice.uniform(*shape) * dice.chance(*shape, of=0.5),
        slope=torch.zeros(shape, device=dice.device),
        opaque=dice.uniform(*shape, low=0.35) * painted * present,
        colour=_colours(dice, scenes, FLAWS),
        gloss=dice.uniform(*shape),
        metal=dice.chance(*shape, of=0.2),
        motif=torch.zeros(shape, device=dice.device),
        grain=dice.log_uniform(*shape, low=0.01, high=0.35),
        rough=dice.log_uniform(*shape, low=0.05, high=1.5) * dice.chance(*shape, of=0.4) * present,
    )


def draw_surroundings(dice: Dice, scenes: int) -> Surroundings:
    """Patterns and lamps of `scenes` scenes."""
    wavelength = dice.log_uniform(scenes, WAVES, low=5.0, high=90.0)
    direction = dice.uniform(scenes, WAVES, high=2 * math.pi)
    waves = torch.stack((direction.cos(), direction.sin()), dim=-1) * (2 * math.pi / wavelength)[..., None]
    azimuth = dice.uniform(scenes, high=2 * math.pi)
    elevation = dice.uniform(scenes, low=0.45, high=1.35)
    light = torch.stack(
        (azimuth.cos() * elevation.cos(), azimuth.sin() * elevation.cos(), elevation.sin()), dim=-1
    )  # [B,3]
    fine = torch.stack(
        (
            dice.log_uniform(scenes, low=0.7, high=6.0),
            dice.log_uniform(scenes, low=1.0, high=14.0) ** dice.chance(scenes, of=0.5),
            dice.uniform(scenes, high=math.pi),
        ),
        dim=-1,
    )
    return Surroundings(
        floor=_colours(dice, scenes, 1)[:, 0] * dice.log_uniform(scenes, 1, low=0.05, high=1.0),
        waves=waves,
        phase=dice.uniform(scenes, WAVES, high=2 * math.pi),
        bend=dice.log_uniform(scenes, WAVES, low=0.05, high=2.0) * dice.chance(scenes, WAVES, of=0.5),
        fine=fine,
        light=light,
        ambient=dice.uniform(scenes, low=0.15, high=0.6),
        lamp=dice.uniform(scenes, 3, low=0.85, high=1.1),
        shine=dice.log_uniform(scenes, low=0.05, high=1.0),
    )


def _signed(dice: Dice, *shape: int, low: float, high: float) -> Tensor:
    return dice.log_uniform(*shape, low=low, high=high) * (2 * dice.chance(*shape, of=0.6) - 1)


def _colours(dice: Dice, scenes: int, count: int) -> Tensor:
    """Linear colours [scenes,count,3]: grey, tinted or strong, a few of them shared by the layers of a scene."""
    dark = dice.chance(scenes, 1, 1, of=0.3)
    value = dice.uniform(scenes, count, 1, low=0.02, high=0.95) ** (1 + dark)
    tint = dice.uniform(scenes, count, 3)
    strength = dice.uniform(scenes, count, 1) ** 2 * dice.chance(scenes, count, 1, of=0.6)
    colours = value * (1 - strength + strength * 1.6 * tint)
    palette = (dice.uniform(scenes, count) * 4).long()  # 0: the first colour again
    first = colours[:, :1].expand_as(colours)
    return torch.where((palette == 0)[..., None], first, colours).clamp(0.0, 1.0)
