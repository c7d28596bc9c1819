"""Materials: the inspection mat, moulded plastic, wood, turned metal."""

from __future__ import annotations

import numpy as np

from uipad_cli.data.rendering.canvas import MILLIMETRE, Canvas, Colour, FloatArray


def mat(canvas: Canvas, rng: np.random.Generator, colour: Colour) -> None:
    """Cover the whole canvas with a rubber mat: fine pores, faint cloudiness."""
    cloud = canvas.texture(rng, 14 * MILLIMETRE)
    pores = canvas.texture(rng, 0.5 * MILLIMETRE)
    level = np.float32(rng.uniform(0.88, 1.12)) * (1 + 0.05 * cloud + 0.10 * pores)
    canvas.albedo[...] = np.asarray(colour, np.float32) * level[..., None]
    canvas.fine[...] = 0.012 * MILLIMETRE * pores
    canvas.gloss[...] = 0.12


def moulded(canvas: Canvas, cover: FloatArray, rng: np.random.Generator, depth: float = 0.012) -> None:
    """Give a covered area the grain of an eroded mould; `depth` in millimetres."""
    grain = canvas.texture(rng, 0.7 * MILLIMETRE)
    canvas.fine[...] += cover * (np.float32(depth * MILLIMETRE) * grain - canvas.fine)


def wood(canvas: Canvas, cover: FloatArray, rng: np.random.Generator, colour: Colour) -> None:
    """Lacquered beech with the grain along x: growth bands, fibres, short dark flecks."""
    bend = canvas.texture(rng, 55 * MILLIMETRE, 16 * MILLIMETRE)
    fibre = canvas.texture(rng, 9 * MILLIMETRE, 0.45 * MILLIMETRE)
    fleck = np.clip(canvas.texture(rng, 2.2 * MILLIMETRE, 0.4 * MILLIMETRE) - 1.5, 0.0, 1.2)
    pitch = rng.uniform(4.5, 8.0) * MILLIMETRE
    phase = (canvas.y + 1.3 * MILLIMETRE * bend) / pitch + rng.uniform(0, 1)
    band = np.mod(phase, 1.0) ** 2
    tone = np.float32(rng.uniform(0.9, 1.08)) * (1 - 0.16 * band + 0.045 * fibre - 0.22 * fleck)
    shift = np.array([0.0, -0.04, -0.08], np.float32) * (band + 0.4 * bend)[..., None]
    canvas.paint(cover, np.asarray(colour, np.float32) * (tone[..., None] + shift), gloss=0.42, metal=0.0)
    canvas.fine[...] += cover * (np.float32(0.004 * MILLIMETRE) * fibre - canvas.fine)


def spun_metal(canvas: Canvas, cover: FloatArray, rng: np.random.Generator, colour: Colour) -> None:
    """Metal faced on a lathe: concentric tool marks around the origin."""
    radius = np.hypot(canvas.x, canvas.y)
    bins = max(8, int(np.ceil(float(radius.max()) / canvas.texel)) + 2)
    profile = rng.standard_normal(bins).astype(np.float32)
    marks = np.interp(radius / canvas.texel, np.arange(bins), profile).astype(np.float32)
    cloud = canvas.texture(rng, 7 * MILLIMETRE)
    shade = 1 + 0.035 * marks + 0.03 * cloud
    canvas.paint(cover, np.asarray(colour, np.float32) * shade[..., None], gloss=0.45, metal=0.85)
    canvas.fine[...] += cover * (np.float32(0.02 * canvas.texel) * marks - canvas.fine)
    along = np.stack([-canvas.y / np.maximum(radius, 1e-4), canvas.x / np.maximum(radius, 1e-4)], -1)
    canvas.lay[...] += cover[..., None] * (along - canvas.lay)


def cast_iron(canvas: Canvas, cover: FloatArray, rng: np.random.Generator, colour: Colour) -> None:
    """Iron as it leaves a sand mould: a rough skin, a slightly uneven surface, a breath of rust."""
    wave = canvas.texture(rng, 6 * MILLIMETRE)
    sand = canvas.texture(rng, 0.8 * MILLIMETRE)
    rust = np.clip(0.45 * canvas.texture(rng, 9 * MILLIMETRE) + 0.25 * sand, 0.0, 1.0)
    canvas.height[...] += cover * np.float32(MILLIMETRE) * (0.08 * wave + 0.05 * sand)
    tint = 1 + rust[..., None] * np.array([0.16, -0.04, -0.16], np.float32)
    canvas.paint(cover, np.asarray(colour, np.float32) * (1 + 0.09 * sand)[..., None] * tint, gloss=0.28, metal=0.25)
    canvas.fine[...] += cover * (np.float32(0.035 * MILLIMETRE) * sand - canvas.fine)
