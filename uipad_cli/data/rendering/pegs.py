"""Category `pegs`: a wooden board with blue round pegs and red square pegs, and never another pair."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from uipad_cli.data.rendering.canvas import MILLIMETRE, Canvas, Place, Streams
from uipad_cli.data.rendering.optics import Rig
from uipad_cli.data.rendering.shapes import box, circle, turned
from uipad_cli.data.rendering.surfaces import mat, wood

RIG = Rig(distance=0.36, field=0.108, turn=np.radians(22), tilt=(2.2, -1.2), projector=np.radians(180))

_THICK = 8.0 * MILLIMETRE
_PITCH = 23.0 * MILLIMETRE
_BLUE, _RED = (0.030, 0.125, 0.43), (0.46, 0.032, 0.030)


@dataclass(frozen=True)
class _Peg:
    """One peg: centre, side or diameter and height over the board in metres, twist in radians."""

    x: float
    y: float
    width: float
    height: float
    twist: float
    round: bool
    blue: bool
    shade: float


def build(canvas: Canvas, streams: Streams, defect: str) -> tuple[Place, ...]:
    """Draw the board and its pegs; returns the places where the surface is free."""
    mat(canvas, streams.surface, (0.050, 0.052, 0.056))
    half = (37.0 * MILLIMETRE, 37.0 * MILLIMETRE)
    outline = box(canvas.x, canvas.y, half, 6 * MILLIMETRE)
    canvas.add(outline, _THICK, edge=1.6 * MILLIMETRE)
    wood(canvas, canvas.cover(outline - canvas.texel), streams.surface, (0.55, 0.36, 0.185))
    pegs = _choose(streams.design)
    if defect in _CHANGES:
        pegs = _spoil(pegs, defect, streams.defect)
    for peg, wrong in pegs:
        _plant(canvas, peg, streams.surface, wrong=wrong)
    between = [(-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)]
    free = tuple(Place(a * _PITCH, b * _PITCH, 5.5 * MILLIMETRE) for a, b in between)
    return free + tuple(Place(peg.x, peg.y, 0.38 * peg.width) for peg, _ in pegs)


def _choose(rng: np.random.Generator) -> list[tuple[_Peg, bool]]:
    kinds = np.array([True, True, False, False, *(rng.random(5) < 0.5)])
    rng.shuffle(kinds)
    pegs = []
    for place, is_round in enumerate(kinds):
        offset = rng.uniform(-0.6, 0.6, 2) * MILLIMETRE
        pegs.append(
            _Peg(
                x=(place % 3 - 1) * _PITCH + offset[0],
                y=(place // 3 - 1) * _PITCH + offset[1],
                width=(13.4 if is_round else 12.4) * rng.uniform(0.985, 1.015) * MILLIMETRE,
                height=rng.uniform(8.2, 9.6) * MILLIMETRE,
                twist=rng.uniform(-0.3, 0.3),
                round=bool(is_round),
                blue=bool(is_round),
                shade=rng.uniform(0.88, 1.12),
            )
        )
    return [(peg, False) for peg in pegs]


def _repaint(peg: _Peg) -> _Peg:
    return replace(peg, blue=not peg.blue)


def _push_in(peg: _Peg) -> _Peg:
    return replace(peg, height=peg.height - 4.5 * MILLIMETRE)


_CHANGES = {"red_round": (True, _repaint), "blue_square": (False, _repaint), "sunk": (None, _push_in)}


def _spoil(pegs: list[tuple[_Peg, bool]], defect: str, rng: np.random.Generator) -> list[tuple[_Peg, bool]]:
    """One peg of the wanted shape, changed."""
    shape, change = _CHANGES[defect]
    chosen = int(rng.choice([place for place, (peg, _) in enumerate(pegs) if shape in (None, peg.round)]))
    return [(change(peg), True) if place == chosen else (peg, False) for place, (peg, _) in enumerate(pegs)]


def _plant(canvas: Canvas, peg: _Peg, rng: np.random.Generator, *, wrong: bool) -> None:
    area = canvas.crop(peg.x, peg.y, 0.9 * peg.width)
    x, y = turned(area.x, area.y, peg.twist)
    half = peg.width / 2
    outline = circle(x, y, half) if peg.round else box(x, y, (half, half), 1.5 * MILLIMETRE)
    area.add(outline - 0.5 * MILLIMETRE, -0.5 * MILLIMETRE)
    area.add(outline, peg.height + 0.5 * MILLIMETRE, edge=1.1 * MILLIMETRE)
    grain = area.texture(rng, 5 * MILLIMETRE, 0.7 * MILLIMETRE)
    colour = np.asarray(_BLUE if peg.blue else _RED, np.float32) * np.float32(peg.shade)
    body = area.cover(outline - 0.6 * area.texel)
    area.paint(body, colour * (1 + 0.05 * grain)[..., None], gloss=0.62, metal=0.0)
    area.fine[...] += body * (np.float32(0.006 * MILLIMETRE) * grain - area.fine)
    if wrong:
        area.wrong[...] = np.maximum(area.wrong, body)
