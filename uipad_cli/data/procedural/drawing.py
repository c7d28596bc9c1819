"""A scene of layers → height and material maps of one view of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from uipad_cli.data.procedural.design import POLAR, WAVES, Layers, Surroundings

CELL = 14
ADDED, ABSENT, RECOLOURED, RELEVELLED = 1, -1, 2, 3  # what is wrong with a layer; 0 = nothing
VISIBLE_COLOUR = 0.05  # change of albedo, relative to the brighter of before and after
VISIBLE_ROUGHNESS = 0.3  # pixels
VISIBLE_RELIEF = 0.012  # change of height, as a share of the scene's range


@dataclass(frozen=True)
class Maps:
    """One view of each scene; maps [B,H,W], albedo [B,3,H,W] linear.

    height and fine in pixels; gloss, metal 0..1; recoloured, reshaped: 1 where a flaw shows in the material or in the
    relief; relevelled: 1 where the relief is as it should be, but lies too low or too high; content [B,K,h,w]: share of
    each cell of CELL pixels that a layer covers.
    """

    height: Tensor
    fine: Tensor
    albedo: Tensor
    gloss: Tensor
    metal: Tensor
    recoloured: Tensor
    reshaped: Tensor
    relevelled: Tensor
    content: Tensor


def view_grid(poses: Tensor, size: int) -> Tensor:
    """Where the pixels of views with these poses [B,2,3] lie in the plane of their scene [B,2,size,size]."""
    axis = torch.arange(size, device=poses.device) - (size - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    pixels = torch.stack((x, y, torch.ones_like(x))).flatten(1)  # [3,S*S]
    return torch.matmul(poses, pixels).reshape(-1, 2, size, size)


def draw(
    layers: Layers, flaw: Tensor, around: Surroundings, poses: Tensor, size: int, noise: Tensor, depth: Tensor
) -> Maps:
    """Draw scenes as seen with `poses` [B,2,3].

    flaw [B,K]: 0 a layer of the part, ADDED a flaw that is drawn, ABSENT a layer whose absence is the flaw, RECOLOURED,
    RELEVELLED one in a wrong colour, at a wrong height; noise [B,2,size,size]: two fields of fine texture of unit
    variance; depth [B]: height range of each scene in pixels.
    """
    place = view_grid(poses, size)
    pattern, stray = _pattern(place, around), _stray(place, around)
    grain = noise[:, 0]
    height = torch.zeros_like(grain)
    fine = torch.zeros_like(grain)
    gloss, metal = torch.zeros_like(grain), torch.zeros_like(grain)
    albedo = around.floor[:, :, None, None] * (1 + 0.15 * grain)[:, None]
    recoloured, reshaped, relevelled = (torch.zeros_like(grain) for _ in range(3))
    content = []

    def each(values: Tensor) -> Tensor:
        return values[:, None, None]

    for index in range(layers.angle.shape[1]):
        inside, across, along = _inside(layers, index, place, stray)
        cover = (inside + 0.5).clamp(0, 1)
        content.append(functional.avg_pool2d(cover, CELL))
        bevel = each(layers.bevel[:, index])
        edge = (inside / bevel).clamp(0, 1)
        top = edge * (2 - edge)
        barrel = (1 - across.square()).clamp(min=0).sqrt()
        share = each(layers.round[:, index])
        profile = top * (1 - share + share * barrel) * (1 + each(layers.slope[:, index]) * along)
        drawn = each((flaw[:, index] != ABSENT).float())
        lift = profile * each(layers.rise[:, index])
        height = height + lift * drawn
        rough = cover * each(layers.rough[:, index])
        fine = fine + drawn * cover * (each(layers.rough[:, index]) * noise[:, 1] - fine)
        opaque = cover * each(layers.opaque[:, index])
        relative = 1 + each(layers.motif[:, index]) * pattern + each(layers.grain[:, index]) * grain
        colour = layers.colour[:, index, :, None, None] * relative.clamp(min=0.1)[:, None]
        change = opaque[:, None] * (colour - albedo)
        if bool(flaw[:, index].any()):
            is_flaw = each((flaw[:, index].abs() == ADDED).float())
            contrast = change.abs().amax(1) / torch.maximum(albedo, albedo + change).amax(1).clamp(min=0.04)
            recoloured = torch.maximum(recoloured, is_flaw * (contrast > VISIBLE_COLOUR).float())
            moved = (lift.abs() > VISIBLE_RELIEF * each(depth)) | (rough > VISIBLE_ROUGHNESS)
            reshaped = torch.maximum(reshaped, is_flaw * moved.float())
            whole = (cover > 0.5).float()
            recoloured = torch.maximum(recoloured, whole * each((flaw[:, index] == RECOLOURED).float()))
            relevelled = torch.maximum(relevelled, whole * each((flaw[:, index] == RELEVELLED).float()))
        opaque = opaque * drawn
        albedo = albedo + opaque[:, None] * (colour - albedo)
        gloss = gloss + opaque * (each(layers.gloss[:, index]) - gloss)
        metal = metal + opaque * (each(layers.metal[:, index]) - metal)
    shown = torch.stack(content, dim=1)
    return Maps(height, fine, albedo.clamp(0, 1), gloss, metal, recoloured, reshaped, relevelled, shown)


def _inside(layers: Layers, index: int, place: Tensor, stray: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Depth inside the outline in pixels [B,S,S], and the place across and along the shape, -1..1 on it."""

    def each(values: Tensor) -> Tensor:
        return values[:, index, None, None]

    x = place[:, 0] - each(layers.centre[..., 0]) + each(layers.wobble) * stray[:, 0]
    y = place[:, 1] - each(layers.centre[..., 1]) + each(layers.wobble) * stray[:, 1]
    cosine, sine = each(layers.angle.cos()), each(layers.angle.sin())
    u, v = x * cosine + y * sine, y * cosine - x * sine
    period_u, period_v = each(layers.period[..., 0]), each(layers.period[..., 1])
    count_u, count_v = each(layers.count[..., 0]), each(layers.count[..., 1])
    if index in POLAR:
        radius = each(layers.around)
        polar = radius > 0
        turn = torch.atan2(v, u)
        u = torch.where(polar, torch.hypot(u, v) - radius, u)
        v = torch.where(polar, turn * radius, v)
        steps = (2 * math.pi * radius / period_v).floor().clamp(min=1)
        period_v = torch.where(polar, 2 * math.pi * radius.clamp(min=1) / steps, period_v)
        count_v = torch.where(polar, steps, count_v)
        count_u = torch.where(polar, torch.zeros_like(count_u), count_u)
    u = u - period_u * (u / period_u).round().clamp(-count_u, count_u)
    v = v - period_v * (v / period_v).round().clamp(-count_v, count_v)
    half_u, half_v = each(layers.half[..., 0]), each(layers.half[..., 1])
    corner = each(layers.corner) * torch.minimum(half_u, half_v)
    over_u, over_v = u.abs() - half_u + corner, v.abs() - half_v + corner
    outside = torch.hypot(over_u.clamp(min=0), over_v.clamp(min=0))
    inside = corner - outside - torch.maximum(over_u, over_v).clamp(max=0)
    hollow = each(layers.hollow)
    ring = torch.minimum(inside, hollow - inside)
    inside = torch.where(hollow > 0, ring, inside)
    return inside, (v / half_v).clamp(-1, 1), (u / half_u).clamp(-1, 1)


def _pattern(place: Tensor, around: Surroundings) -> Tensor:
    """Regular pattern [B,S,S], about -1..1: waves, each bent by the one before."""
    total = torch.zeros_like(place[:, 0])
    before = torch.zeros_like(total)
    for wave in range(WAVES):
        vector = around.waves[:, wave, :, None, None]
        swing = (place * vector).sum(1) + around.phase[:, wave, None, None] + around.bend[:, wave, None, None] * before
        before = swing.sin()
        total = total + before
    return torch.div(total, WAVES**0.5)


def _stray(place: Tensor, around: Surroundings) -> Tensor:
    """Two smooth fields [B,2,S,S] of about unit size that push outlines around."""
    phase = around.phase[:, :2, None, None]
    first = (place.flip(1) * 0.045 + phase).sin()
    return first + 0.5 * (place.flip(1) * 0.13 + place * 0.07 + 2 * phase).sin()


def texture(dice_noise: Tensor, fine: Tensor, turn: Tensor) -> Tensor:
    """White noise [B,C,S,S] → fine texture of unit variance.

    fine [B,3]: width in pixels, stretch and direction; turn [B]: how the view is rotated against the scene.
    """
    size = dice_noise.shape[-1]
    fy = torch.fft.fftfreq(size, device=fine.device)[:, None]
    fx = torch.fft.rfftfreq(size, device=fine.device)[None]
    angle = (fine[:, 2] - turn)[:, None, None]
    along, across = fx * angle.cos() + fy * angle.sin(), fy * angle.cos() - fx * angle.sin()
    width = fine[:, 0, None, None]
    falloff = -2 * (math.pi * width) ** 2 * ((along * fine[:, 1, None, None]) ** 2 + across**2)
    spectrum = falloff.exp()[:, None] * torch.fft.rfft2(dice_noise)
    field = torch.fft.irfft2(spectrum, s=(size, size))
    return torch.div(field, field.std(dim=(2, 3), keepdim=True).clamp(min=1e-6))
