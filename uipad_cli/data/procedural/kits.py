"""Kits: parts that carry pieces of a few sorts, of which one may wear the colour of another sort, or stand too low.

Nothing in such a flaw is strange by itself; what is wrong is the pair. A patch can only tell when it knows what shape
it belongs to, and how high that stands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from uipad_cli.data.procedural.design import LAYERS, Dice, Layers
from uipad_cli.data.procedural.drawing import RECOLOURED, RELEVELLED

SORTS = 3
KITS = 0.35  # share of the scenes that are kits
PIECES = LAYERS - 1  # all layers but the body
VISIBLE_SWAP = 0.25  # change of colour, as a share of the brighter one
VISIBLE_LEVEL = 0.03  # change of height, as a share of the scene's range


@dataclass(frozen=True)
class Kit:
    """Which scenes are kits [B], of what sort each piece is [B,PIECES] from 0 and how many sorts there are [B]."""

    present: Tensor
    sort: Tensor
    sorts: Tensor

    def merged(self, content: Tensor) -> Tensor:
        """Content [B,K,h,w] with all pieces of a sort as one layer: they are alike."""
        scenes = len(self.sort)
        own = torch.eye(LAYERS, device=content.device).repeat(scenes, 1, 1)
        shared = torch.zeros_like(own)
        shared[:, 0, 0] = 1.0
        shared[:, 1:, 1:].scatter_(1, self.sort[:, None], 1.0)  # piece j counts in row sort(j)
        return torch.einsum("bij,bjhw->bihw", torch.where(self.present[:, None, None] > 0, shared, own), content)


def draw_kit(dice: Dice, layers: Layers, size: int) -> tuple[Layers, Kit]:
    """Turn some scenes into kits: the layers above the body become pieces on a grid, of two or three sorts."""
    scenes = len(layers.angle)
    sorts = (2 + dice.chance(scenes, of=0.5)).long()
    sort = (dice.uniform(scenes, PIECES) * sorts[:, None]).long()
    kit = Kit(dice.chance(scenes, of=KITS), sort, sorts)
    half, corner, rise = _outlines(dice, scenes, size)
    body = layers[0:1]
    turn = (
        body.angle
        + dice.normal(scenes, PIECES) * 0.1
        + dice.uniform(scenes, PIECES, high=2 * math.pi) * dice.chance(scenes, 1, of=0.4)
    )
    nothing = torch.zeros(scenes, PIECES, device=dice.device)
    pieces = replace(
        _of_sort(layers[1 : 1 + SORTS], sort),
        centre=_places(dice, body, size),
        angle=turn,
        half=_pick(half, sort),
        corner=_pick(corner, sort),
        rise=_pick(rise, sort),
        hollow=nothing,
        count=nothing[..., None].repeat(1, 1, 2),
        around=nothing,
        opaque=torch.ones_like(nothing),
    )
    body = replace(body, half=body.half.clamp(min=0.4 * size), opaque=torch.ones_like(body.opaque))
    return _where(kit.present, body.on_top(pieces), layers), kit


def spoil_kit(dice: Dice, layers: Layers, kit: Kit, depth: Tensor) -> tuple[Layers, Tensor]:
    """Give one piece of each kit another sort's colour or another height; also the flaw codes [B,K] of `draw`.

    depth [B]: height range of each scene.
    """
    scenes = len(depth)
    scene = torch.arange(scenes, device=dice.device)
    piece = (dice.uniform(scenes) * PIECES).long()
    step = 1 + (dice.uniform(scenes) * (kit.sorts - 1)).long()
    wanted = (kit.sort[scene, piece] + step) % kit.sorts
    others = kit.sort == wanted[:, None]  # [B,PIECES]
    donor = 1 + others.float().argmax(dim=1)
    layer = 1 + piece
    before, after = layers.colour[scene, layer], layers.colour[scene, donor]
    seen = (after - before).abs().amax(1) > VISIBLE_SWAP * torch.maximum(after, before).amax(1)
    swap = (dice.chance(scenes, of=0.55) * others.any(1) * seen * kit.present) > 0
    high = dice.chance(scenes, of=0.3)
    factor = high * dice.uniform(scenes, low=1.4, high=2.0) + (1 - high) * dice.uniform(scenes, low=-0.2, high=0.6)
    old = layers.rise[scene, layer]
    level = ((kit.present > 0) & ~swap) & (old.abs() * (1 - factor).abs() > VISIBLE_LEVEL * depth)
    colour, rise = layers.colour.clone(), layers.rise.clone()
    colour[scene, layer] = torch.where(swap[:, None], after, before)
    rise[scene, layer] = torch.where(level, old * factor, old)
    flaw = torch.zeros_like(rise)
    flaw[scene, layer] = RECOLOURED * swap.float() + RELEVELLED * level.float()
    return replace(layers, colour=colour, rise=rise), flaw


def rearranged(dice: Dice, layers: Layers, kit: Kit, laid_out: Tensor) -> Layers:
    """Kits that are not laid out [B] with their pieces at each other's places."""
    order = dice.uniform(len(laid_out), PIECES).argsort(dim=1)
    centre = layers.centre.clone()
    centre[:, 1:] = torch.gather(centre[:, 1:], 1, order[..., None].expand(-1, -1, 2))
    return _where(kit.present * (1 - laid_out), replace(layers, centre=centre), layers)


def _outlines(dice: Dice, scenes: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Half sizes [B,SORTS,2], corners and rises [B,SORTS]: a round, an angular and a long sort, in any order."""
    broad = torch.ones(scenes, device=dice.device)
    aspect = torch.stack((broad, dice.uniform(scenes, low=0.65), dice.uniform(scenes, low=0.3, high=0.5)), dim=1)
    corner = torch.stack((broad, dice.uniform(scenes, high=0.35), dice.uniform(scenes)), dim=1)
    order = dice.uniform(scenes, SORTS).argsort(dim=1)
    aspect, corner = torch.gather(aspect, 1, order), torch.gather(corner, 1, order)
    large = dice.uniform(scenes, 1, low=0.045, high=0.095) * size * dice.uniform(scenes, SORTS, low=0.8)
    sign = 2 * dice.chance(scenes, 1, of=0.75) - 1
    rise = dice.log_uniform(scenes, SORTS, low=0.02, high=0.14) * size * sign
    return torch.stack((large, large * aspect), dim=-1).clamp(min=3.0), corner, rise


def _places(dice: Dice, body: Layers, size: int) -> Tensor:
    """Places [B,PIECES,2] on a grid of three by three that lies with the body."""
    scenes = len(body.angle)
    axis = torch.arange(3, device=dice.device) - 1.0
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).flatten(0, 1)  # [9,2]
    chosen = grid[dice.uniform(scenes, len(grid)).argsort(dim=1)[:, :PIECES]]
    chosen = chosen * dice.uniform(scenes, 1, 2, low=0.2, high=0.28) * size + 0.012 * size * dice.normal(*chosen.shape)
    x, y = chosen[..., 0], chosen[..., 1]
    cosine, sine = body.angle.cos(), body.angle.sin()
    return body.centre + torch.stack((x * cosine - y * sine, x * sine + y * cosine), dim=-1)


def _pick(values: Tensor, sort: Tensor) -> Tensor:
    """The values [B,SORTS,...] of each piece's sort → [B,PIECES,...]."""
    index = sort.reshape(*sort.shape, *[1] * (values.ndim - 2)).expand(-1, -1, *values.shape[2:])
    return torch.gather(values, 1, index)


def _of_sort(sorts: Layers, sort: Tensor) -> Layers:
    return Layers(**{name: _pick(values, sort) for name, values in vars(sorts).items()})


def _where(chosen: Tensor, yes: Layers, no: Layers) -> Layers:
    """`yes` in the scenes that are chosen [B] 0/1."""
    return Layers(
        **{
            name: torch.where(chosen.reshape(-1, *[1] * (values.ndim - 1)) > 0, values, getattr(no, name))
            for name, values in vars(yes).items()
        }
    )
