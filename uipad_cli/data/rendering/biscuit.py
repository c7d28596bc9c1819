"""Category `biscuit`: stamped dough, baked; a chocolate drop always stands up, a dab of jam always lies in a hollow."""

from __future__ import annotations

import numpy as np

from uipad_cli.data.rendering.canvas import MILLIMETRE, Canvas, FloatArray, Place, Streams, pick_swap
from uipad_cli.data.rendering.optics import Rig
from uipad_cli.data.rendering.shapes import circle, letter, turned
from uipad_cli.data.rendering.surfaces import mat

RIG = Rig(distance=0.38, field=0.108, turn=np.radians(50), tilt=(-1.8, 1.0), projector=np.radians(75))

_HALF = (41.0 * MILLIMETRE, 33.0 * MILLIMETRE)
_THICK = 7.0 * MILLIMETRE
_DROPS = 6
_FAR = 0.71  # distance of the drops from the middle, over the half-axes
_CRUMB, _BROWN = (0.60, 0.40, 0.19), (0.30, 0.135, 0.045)
_CHOCOLATE, _JAM = (0.10, 0.042, 0.022), (0.60, 0.17, 0.02)


def build(canvas: Canvas, streams: Streams, defect: str) -> tuple[Place, ...]:
    """Draw the biscuit and what is on it; returns the places where the surface is free."""
    mat(canvas, streams.surface, (0.055, 0.13, 0.20))
    outline = _shape(canvas, streams.design)
    fracture = _fracture(canvas, outline, streams.defect) if defect == "broken_edge" else None
    _bake(canvas, outline, streams, fracture)
    _stamp(canvas, streams.design)
    _sprinkle(canvas, streams.design, outline if fracture is None else np.maximum(outline, fracture))
    chocolate = np.array([True, False, *(streams.design.random(_DROPS - 2) < 0.5)])
    streams.design.shuffle(chocolate)
    coloured = chocolate.copy()
    wrong = pick_swap(chocolate, streams.defect) if defect == "wrong_drop" else -1
    coloured[wrong] ^= wrong >= 0
    for place in range(_DROPS):
        x, y = _spot(place + streams.design.uniform(-0.13, 0.13), _FAR * streams.design.uniform(0.95, 1.03))
        area = canvas.crop(x, y, 7.0 * MILLIMETRE)
        _drop(area, streams, stands=bool(chocolate[place]), dark=bool(coloured[place]), wrong=place == wrong)
    if defect == "crack":
        _crack(canvas, outline, streams.defect)
    between = [_spot(place + 0.5, 0.74) for place in range(_DROPS)]
    return tuple(Place(x, y, 4.4 * MILLIMETRE) for x, y in between)


def _spot(place: float, far: float) -> tuple[float, float]:
    """Where a station of the ring of drops lies; whole numbers are drops, halves lie between them."""
    angle = 2 * np.pi * (place + 0.25) / _DROPS
    return far * _HALF[0] * float(np.cos(angle)), far * _HALF[1] * float(np.sin(angle))


def _shape(canvas: Canvas, rng: np.random.Generator) -> FloatArray:
    """Outline of a dough oval that ran a little in the oven, its edge crimped by the cutter."""
    across, down = canvas.x / np.float32(_HALF[0]), canvas.y / np.float32(_HALF[1])
    angle = np.arctan2(down, across)
    away = (np.abs(across) ** 2.5 + np.abs(down) ** 2.5) ** np.float32(1 / 2.5)
    limit = np.full(angle.shape, rng.uniform(0.975, 1.015), np.float32)
    for wave in range(2, 8):
        limit += np.float32(rng.normal(0, 0.026 / wave)) * np.cos(wave * angle + np.float32(rng.uniform(0, 2 * np.pi)))
    limit += np.float32(0.012) * np.abs(np.sin(17 * angle)) - np.float32(0.012)
    outline: FloatArray = (away - limit) * np.float32(0.5 * sum(_HALF))
    return outline + np.float32(0.25 * MILLIMETRE) * canvas.texture(rng, 2.5 * MILLIMETRE)


def _fracture(canvas: Canvas, outline: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Signed distance to a ragged bow that cuts off a piece of the rim between two drops; negative on what stays."""
    x, y = _spot(int(rng.integers(_DROPS)) + 0.5, 1.0)
    angle = np.arctan2(y, x) + rng.uniform(-0.15, 0.15)
    along, aside = turned(canvas.x, canvas.y, float(angle))
    rim = float(along[outline < 0].max())
    rough = 0.9 * canvas.texture(rng, 7 * MILLIMETRE) + 0.35 * canvas.texture(rng, 1.6 * MILLIMETRE)
    bow = np.float32(18.0) * aside**2
    cut: FloatArray = along - bow + MILLIMETRE * rough - np.float32(rim - rng.uniform(5.0, 7.0) * MILLIMETRE)
    return cut


def _bake(canvas: Canvas, outline: FloatArray, streams: Streams, fracture: FloatArray | None) -> None:
    """The dough: a soft rim, blisters and pores, browner towards the rim and on what rises; pale where broken."""
    blister = canvas.texture(streams.surface, 7 * MILLIMETRE)
    pore = canvas.texture(streams.surface, 1.1 * MILLIMETRE)
    grit = canvas.texture(streams.surface, 0.5 * MILLIMETRE)
    pit = np.clip(pore - 1.35, 0, 1.2)
    inset = np.clip(-outline / np.float32(6.5 * MILLIMETRE), 0, 1)
    swell = np.sqrt(1 - (1 - inset) ** 2)
    rise = swell * np.float32(_THICK) + inset * MILLIMETRE * (0.22 * blister + 0.07 * pore - 0.55 * pit)
    left = outline if fracture is None else np.maximum(outline, fracture)
    brown = np.clip(0.30 + 0.75 * (1 - inset) ** 1.5 + 0.11 * blister + 0.05 * pore, 0, 1)[..., None]
    tone = np.float32(streams.design.uniform(0.88, 1.1)) * (1 + 0.05 * grit - 0.28 * pit)[..., None]
    crust = (np.asarray(_CRUMB, np.float32) + brown * np.subtract(_BROWN, _CRUMB).astype(np.float32)) * tone
    inside = canvas.cover(left)
    canvas.paint(inside, crust, gloss=0.16, metal=0.0)
    canvas.fine[...] += inside * (MILLIMETRE * (0.035 * grit + 0.03 * pore) - canvas.fine)
    if fracture is not None:
        bare = np.clip(0.5 - np.abs(fracture + np.float32(0.7 * MILLIMETRE)) / np.float32(1.4 * MILLIMETRE), 0, 0.5) * 2
        canvas.paint(bare * inside, np.asarray(_CRUMB, np.float32) * (1.12 + 0.10 * grit[..., None]), gloss=0.05)
        slope = np.clip(-fracture / np.float32(1.4 * MILLIMETRE), 0, 1)
        rise = rise * (0.35 + 0.65 * slope)
    canvas.height[...] += rise * inside


def _stamp(canvas: Canvas, rng: np.random.Generator) -> None:
    """A pressed oval with letters, and the holes of the docker; softened by baking."""
    slip = rng.uniform(-0.6, 0.6, 2) * MILLIMETRE
    depth = np.float32(rng.uniform(1.0, 1.3) * MILLIMETRE)
    area = canvas.crop(slip[0], slip[1], 23 * MILLIMETRE)
    oval = (np.hypot(area.x / np.float32(1.45), area.y) - np.float32(13 * MILLIMETRE)) * np.float32(1.2)
    frame = np.abs(oval) - np.float32(0.75 * MILLIMETRE)
    text = letter(area, "TEA", x=0.0, y=0.0, size=8.5 * MILLIMETRE) - np.float32(0.4 * MILLIMETRE)
    pressed = np.clip(0.5 - np.minimum(frame, text) / np.float32(1.1 * MILLIMETRE), 0, 1)
    pressed = pressed * pressed * (3 - 2 * pressed)
    area.height[...] -= depth * pressed
    area.albedo[...] *= 1 - np.float32(0.16) * pressed[..., None]
    for side in (-1, 1):
        for place in (-1, 0, 1):
            shift = slip + rng.normal(0, 0.2, 2) * MILLIMETRE
            x, y = shift[0] + 8.5 * MILLIMETRE * place, shift[1] + 8.0 * MILLIMETRE * side
            hole = canvas.crop(x, y, 2.5 * MILLIMETRE)
            opening = np.clip(0.5 - circle(hole.x, hole.y, 0.85 * MILLIMETRE) / np.float32(0.7 * MILLIMETRE), 0, 1)
            hole.height[...] -= np.float32(2.2 * MILLIMETRE) * opening
            hole.albedo[...] *= 1 - np.float32(0.35) * opening[..., None]


def _sprinkle(canvas: Canvas, rng: np.random.Generator, outline: FloatArray) -> None:
    """Seeds and crumbs of chocolate baked into the surface, wherever they fell."""
    count = int(rng.integers(26, 44))
    for x, y, size, stretch, turn, tint in rng.random((count, 6)):
        right, down = (1.8 * x - 0.9) * _HALF[0], (1.8 * y - 0.9) * _HALF[1]
        area = canvas.crop(right, down, 2.2 * MILLIMETRE)
        nearest = (int(np.argmin(np.abs(canvas.y[:, 0] - down))), int(np.argmin(np.abs(canvas.x[0] - right))))
        if outline[nearest] > -2.5 * MILLIMETRE:
            continue
        long, short = turned(area.x, area.y, np.pi * turn)
        radius = np.float32((0.55 + 0.55 * size) * MILLIMETRE)
        body = np.clip(1.2 - np.hypot(long / np.float32(1 + 0.8 * stretch), short) / radius, 0, 1)
        area.height[...] += np.float32(0.45 * MILLIMETRE) * np.sqrt(body)
        seed = np.asarray((0.13, 0.06, 0.03) if tint < 0.6 else (0.42, 0.24, 0.09), np.float32)
        area.paint(np.clip(3 * body, 0, 1), seed, gloss=0.3)


def _drop(area: Canvas, streams: Streams, *, stands: bool, dark: bool, wrong: bool) -> None:
    """A lump that stands up or a filled hollow, of the same irregular outline, in chocolate or in jam."""
    rng = streams.design
    squeeze, turn = rng.uniform(0.88, 1.14), rng.uniform(0, np.pi)
    radius = rng.uniform(3.9, 4.6) * MILLIMETRE
    along, across = turned(area.x, area.y, turn)
    uneven = area.texture(streams.surface, 3.5 * MILLIMETRE)
    inside = np.hypot(along * np.float32(squeeze), across / np.float32(squeeze)) / np.float32(radius) + 0.06 * uneven
    dome = np.sqrt(np.clip(1 - inside**2, 0, 1))
    if stands:
        area.height[...] += np.float32(rng.uniform(2.6, 3.2) * MILLIMETRE) * dome
    else:
        brim = np.exp(-(((inside - 1.12) / 0.16) ** 2))
        area.height[...] += np.float32(rng.uniform(2.2, 2.8) * MILLIMETRE) * (0.16 * brim - dome**1.2)
    cover = np.clip(0.5 + (1 - inside) * np.float32(radius / area.texel), 0, 1)
    tone = np.float32(rng.uniform(0.9, 1.1)) * (1 + 0.06 * uneven[..., None])
    area.paint(cover, np.asarray(_CHOCOLATE if dark else _JAM, np.float32) * tone, gloss=0.42, metal=0.0)
    area.fine[...] *= 1 - cover
    if wrong:
        area.wrong[...] = np.maximum(area.wrong, cover)


def _crack(canvas: Canvas, outline: FloatArray, rng: np.random.Generator) -> None:
    """A meandering crack from the rim inwards, wide at the rim and closing towards its end."""
    x, y = _spot(int(rng.integers(_DROPS)) + 0.5, 1.0)
    far = float(np.hypot(x, y))
    along, aside = turned(canvas.x, canvas.y, float(np.arctan2(y, x)))
    wander = 1.5 * canvas.texture(rng, 7 * MILLIMETRE) + 0.3 * canvas.texture(rng, 1.4 * MILLIMETRE)
    reach = np.clip((along - np.float32(far - rng.uniform(17, 23) * MILLIMETRE)) / np.float32(12 * MILLIMETRE), 0, 1)
    width = np.float32(rng.uniform(0.75, 1.0) * MILLIMETRE) * np.sqrt(reach)
    gap = np.clip(1.3 - np.abs(aside + MILLIMETRE * wander) / np.maximum(width, 1e-6), 0, 1) * canvas.cover(outline)
    canvas.height[...] -= np.minimum(np.float32(3.4 * MILLIMETRE) * gap * np.sqrt(reach), canvas.height)
    canvas.albedo[...] *= 1 - np.float32(0.6) * gap[..., None]
