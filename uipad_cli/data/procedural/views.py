"""Pairs of views of made-up scenes: two photographs and two scans of one part, the second of each with flaws."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from uipad_cli.data.procedural.design import (
    FLAWS,
    LAYERS,
    Dice,
    Layers,
    Surroundings,
    draw_flaws,
    draw_layers,
    draw_surroundings,
)
from uipad_cli.data.procedural.drawing import ABSENT, ADDED, Maps, draw, texture
from uipad_cli.data.procedural.kits import draw_kit, rearranged, spoil_kit
from uipad_cli.data.procedural.sensors import Kind, Sensor

SCANS: tuple[tuple[Kind, float], ...] = (("relief", 0.55), ("normals", 0.3), ("height", 0.15))  # shares of the scans
LAID_OUT = 0.85  # share of scenes whose layers keep their places from view to view
FREE_TURN = 0.3  # share of scenes that lie at any angle in the second view
MISSING = 0.06  # chance of a later layer not to be there in the second view
LEFT_OUT = 0.04  # of a flaw that a sensor may not see: neither sound nor flawed
SCENES_AT_ONCE = 6  # small chunks stay in a processor's cache; the scans of one chunk are all of one kind


@dataclass(frozen=True)
class Views:
    """Two views of each scene; the first is of a good part, the second of the same part with flaws.

    images [2,B,3,S,S] 0..1: photographs or scans; poses [2,B,2,3]: pixel of a view, from its middle → place in the
    scene; flawed [B,S,S]: 1 where the second image shows a flaw, LEFT_OUT where it may; content [B,K,h,w]: which layers
    fill the patches of the first view; laid_out [B]: 1 where the layers of both views lie at the same places.
    """

    images: Tensor
    poses: Tensor
    flawed: Tensor
    content: Tensor
    laid_out: Tensor


def make_views(generator: torch.Generator, pairs: int, size: int) -> Views:
    """Draw `pairs` pairs of views of `size` pixels, a pure function of the generator's state.

    Drawing a scene takes longer than looking at it, so each is looked at by a camera and by a 3D sensor.
    """
    dice, parts = Dice(generator), []
    for start in range(0, pairs, 2 * SCENES_AT_ONCE):
        parts += _make(dice, min(SCENES_AT_ONCE, (pairs - start + 1) // 2), size)
    return Views(
        images=torch.cat([part.images for part in parts], dim=1)[:, :pairs],
        poses=torch.cat([part.poses for part in parts], dim=1)[:, :pairs],
        flawed=torch.cat([part.flawed for part in parts])[:pairs],
        content=torch.cat([part.content for part in parts])[:pairs],
        laid_out=torch.cat([part.laid_out for part in parts])[:pairs],
    )


def _make(dice: Dice, scenes: int, size: int) -> list[Views]:
    """The same scenes as photographs and as scans."""
    layers, kit = draw_kit(dice, draw_layers(dice, scenes, size), size)
    around = draw_surroundings(dice, scenes)
    poses = _poses(dice, scenes, size)
    depth = layers.rise.abs().amax(1).clamp(min=0.05 * size)
    spots = dice.uniform(scenes, FLAWS, 2, low=-0.45, high=0.45) * size
    spots = (poses[1, :, None, :, :2] @ spots[..., None])[..., 0] + poses[1, :, None, :, 2]
    laid_out = dice.chance(scenes, of=LAID_OUT) * (1 - kit.present * dice.chance(scenes, of=0.5))
    other = rearranged(dice, _varied(dice, layers, torch.maximum(laid_out, kit.present), size), kit, laid_out)
    other, wrong = spoil_kit(dice, other, kit, depth)
    nothing = torch.zeros(scenes, LAYERS, device=dice.device)
    late = torch.arange(LAYERS, device=dice.device) >= LAYERS // 2
    absent = ABSENT * dice.chance(scenes, LAYERS, of=MISSING) * late
    flaw = torch.cat((torch.where(wrong != 0, wrong, absent), ADDED * torch.ones_like(spots[..., 0])), dim=1)
    good = draw(layers, nothing, around, poses[0], size, _noise(dice, around, poses[0], size), depth)
    spoiled = other.on_top(draw_flaws(dice, scenes, size, depth, spots))
    bad = draw(spoiled, flaw, around, poses[1], size, _noise(dice, around, poses[1], size), depth)
    return [
        Views(
            _look(Sensor(dice, kind, around, depth), good, bad),
            poses, _flawed(bad, kind), kit.merged(good.content), laid_out,
        )
        for kind in ("photograph", _scan(float(dice.uniform(1))))
    ]  # fmt: skip


def _scan(draw: float) -> Kind:
    """What a scan shows, for a draw 0..1."""
    for kind, share in SCANS:
        draw -= share
        if draw < 0:
            return kind
    return SCANS[-1][0]


def _flawed(maps: Maps, kind: Kind) -> Tensor:
    """What such a sensor sees of the flaws [B,S,S]; a camera sees a wrong height by shadows at most."""
    seen = torch.maximum(maps.recoloured, maps.reshaped) if kind == "photograph" else maps.reshaped
    return torch.maximum(seen, maps.relevelled * (1.0 if kind in ("relief", "height") else LEFT_OUT))


def _look(sensor: Sensor, *views: Maps) -> Tensor:
    return torch.stack([sensor.look(maps) for maps in views])


def _noise(dice: Dice, around: Surroundings, poses: Tensor, size: int) -> Tensor:
    turn = torch.atan2(poses[:, 1, 0], poses[:, 0, 0])
    return texture(dice.normal(len(poses), 2, size, size), around.fine, turn)


def _poses(dice: Dice, scenes: int, size: int) -> Tensor:
    """Two poses of each scene [2,B,2,3]: one anywhere, one close to it."""
    turn = dice.uniform(scenes, high=2 * math.pi)
    zoom = dice.log_uniform(scenes, low=0.7, high=1.45)
    shift = dice.normal(scenes, 2) * 0.16 * size
    free = dice.chance(scenes, of=FREE_TURN)
    turns = torch.stack((turn, turn + dice.normal(scenes) * (0.15 + 3.0 * free)))
    zooms = torch.stack((zoom, zoom * (0.05 * dice.normal(scenes)).exp()))
    shifts = torch.stack((shift, shift + dice.normal(scenes, 2) * 7.0))
    rotation = torch.stack((turns.cos(), -turns.sin(), turns.sin(), turns.cos()), dim=-1).reshape(2, -1, 2, 2)
    return torch.cat((rotation * zooms[..., None, None], shifts[..., None]), dim=-1)


def _varied(dice: Dice, layers: Layers, laid_out: Tensor, size: int) -> Layers:
    """The same layers with the differences that good parts have: small ones, or other places for the upper layers."""
    shape = layers.angle.shape
    upper = (torch.arange(shape[1], device=dice.device) >= LAYERS // 3) * (1 - laid_out)[:, None]
    return replace(
        layers,
        centre=layers.centre + upper[..., None] * dice.normal(*shape, 2) * 0.2 * size,
        colour=(layers.colour * (1 + 0.05 * dice.normal(*shape, 1))).clamp(0, 1),
        rise=layers.rise * (1 + 0.02 * dice.normal(*shape)),
    )
