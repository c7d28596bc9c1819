"""Surface defects that can strike any part: each changes relief, material or both at one place of a canvas."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from uipad_cli.data.rendering.canvas import MILLIMETRE, Canvas, FloatArray, Place

Strike = Callable[[Canvas, Place, np.random.Generator], None]


def strike(defect: str, canvas: Canvas, places: tuple[Place, ...], rng: np.random.Generator) -> None:
    """Draw a surface defect at one of the places, chosen at random by their size."""
    sizes = np.array([place.radius for place in places])
    SURFACE_DEFECTS[defect](canvas, places[int(rng.choice(len(places), p=sizes / sizes.sum()))], rng)


def dent(canvas: Canvas, place: Place, rng: np.random.Generator) -> None:
    """A shallow round hollow with a slight rim."""
    radius = min(place.radius, rng.uniform(3.2, 4.6) * MILLIMETRE)
    area, distance = _around(canvas, place, rng, reach=1.6 * radius)
    inside = distance / radius
    hollow = np.exp(-2.2 * inside**2) - 0.22 * np.exp(-18 * (inside - 1.05) ** 2)
    area.height[...] -= np.float32(rng.uniform(0.9, 1.5) * MILLIMETRE) * _faded(hollow, inside, 1.5)


def bump(canvas: Canvas, place: Place, rng: np.random.Generator) -> None:
    """A blister under the surface."""
    radius = min(place.radius, rng.uniform(2.6, 4.0) * MILLIMETRE)
    area, distance = _around(canvas, place, rng, reach=1.5 * radius)
    inside = np.minimum(distance / (1.15 * radius), 1.0)
    area.height[...] += np.float32(rng.uniform(0.8, 1.3) * MILLIMETRE) * (1 - inside**2) ** 1.5


def stain(canvas: Canvas, place: Place, rng: np.random.Generator) -> None:
    """A translucent blot of oil or dye, darker at its rim, with a few splashes."""
    radius = min(place.radius, rng.uniform(3.0, 4.5) * MILLIMETRE)
    area, distance = _around(canvas, place, rng, reach=2.6 * radius)
    edge = distance + 0.22 * radius * area.texture(rng, 0.7 * radius) - 0.8 * radius
    for _ in range(int(rng.integers(2, 5))):
        angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(1.0, 1.5) * radius
        drop = np.hypot(area.x - away * np.cos(angle), area.y - away * np.sin(angle))
        edge = np.minimum(edge, drop - rng.uniform(0.08, 0.22) * radius)
    film = np.clip(0.5 - edge / (3 * area.texel), 0, 1) * (0.62 + 0.3 * np.exp(-((edge / (0.25 * radius)) ** 2)))
    dye = np.array([(0.34, 0.24, 0.14), (0.16, 0.17, 0.19), (0.30, 0.33, 0.18)][int(rng.integers(3))], np.float32)
    thickness = film[..., None] * np.float32(rng.uniform(0.75, 1.0))
    area.albedo[...] *= 1 - thickness * (1 - dye)
    area.gloss[...] += film * (0.7 - area.gloss) * 0.5


def fading(canvas: Canvas, place: Place, rng: np.random.Generator) -> None:
    """Colour bleached or rubbed away towards a pale grey, in a soft patch."""
    radius = min(1.4 * place.radius, rng.uniform(5.0, 7.0) * MILLIMETRE)
    area, distance = _around(canvas, place, rng, reach=1.7 * radius)
    streaks = area.texture(rng, 0.5 * radius, 0.12 * radius)
    strength = np.clip(1.5 - 1.4 * distance / radius + 0.18 * streaks, 0, 1) * np.float32(rng.uniform(0.55, 0.75))
    pale = 0.5 * area.albedo.mean(-1, keepdims=True) + np.float32(0.24)
    area.albedo[...] += strength[..., None] * (pale - area.albedo)


def scratch(canvas: Canvas, place: Place, rng: np.random.Generator) -> None:
    """A thin curved groove with a raised lip; bare and bright in dark surfaces, dull in bright ones."""
    length = min(max(2.7 * place.radius, 10 * MILLIMETRE), rng.uniform(11, 18) * MILLIMETRE)
    area = canvas.crop(place.x, place.y, 0.6 * length)
    angle, bow = rng.uniform(0, np.pi), rng.uniform(-0.25, 0.25)
    along = area.x * np.cos(angle) + area.y * np.sin(angle)
    across = area.y * np.cos(angle) - area.x * np.sin(angle) - bow * along**2 / length
    across = across + 0.05 * MILLIMETRE * area.texture(rng, 1.5 * MILLIMETRE)
    reach = 1 - np.abs(2 * along / length)
    width = max(rng.uniform(0.55, 0.85) * MILLIMETRE, 1.3 * canvas.texel)
    groove = np.clip(1 - np.abs(across) / width, 0, 1) * np.clip(3 * reach, 0, 1)
    lip = np.exp(-(((np.abs(across) - 1.2 * width) / (0.5 * width)) ** 2)) * np.clip(3 * reach, 0, 1)
    area.height[...] += np.float32(MILLIMETRE) * (0.12 * lip - 0.55 * groove)
    before = area.albedo.mean(-1, keepdims=True)
    raw = np.where(before < 0.38, 0.45 * before + np.float32(0.30), 0.3 * before)
    area.albedo[...] += (0.85 * groove)[..., None] * (raw - area.albedo)


def hole(canvas: Canvas, place: Place, rng: np.random.Generator) -> None:
    """A deep pore with a ragged, dark opening."""
    radius = min(place.radius, rng.uniform(1.7, 2.6) * MILLIMETRE)
    area, distance = _around(canvas, place, rng, reach=1.8 * radius)
    edge = distance + 0.12 * radius * area.texture(rng, 0.5 * radius) - radius
    area.height[...] -= np.float32(rng.uniform(2.5, 3.5) * MILLIMETRE) * np.clip(0.4 - edge / (0.6 * radius), 0, 1)
    inside = np.clip(0.5 - edge / (0.5 * radius), 0, 1)
    area.albedo[...] *= 1 - 0.8 * inside[..., None]
    area.gloss[...] *= 1 - 0.8 * inside


def foreign_body(canvas: Canvas, place: Place, rng: np.random.Generator) -> None:
    """A curl of swarf, or a crumb of another material, that lies on the part."""
    size = min(place.radius, rng.uniform(3.0, 4.2) * MILLIMETRE)
    area = canvas.crop(place.x, place.y, 1.7 * size)
    body = _curl(area, size, rng) if rng.random() < 0.5 else _crumb(area, 0.62 * size, rng)
    area.height[...] += np.sqrt(body) * np.float32(rng.uniform(1.0, 1.6) * MILLIMETRE)
    tone = np.array([(0.55, 0.56, 0.58), (0.62, 0.42, 0.12), (0.045, 0.042, 0.04)][int(rng.integers(3))], np.float32)
    mottle = 1 + 0.18 * area.texture(rng, 0.8 * MILLIMETRE)
    area.paint(np.clip(3 * body, 0, 1), tone * mottle[..., None], gloss=0.5, metal=0.4)


SURFACE_DEFECTS: dict[str, Strike] = {
    "dent": dent,
    "bump": bump,
    "stain": stain,
    "fading": fading,
    "scratch": scratch,
    "hole": hole,
    "foreign_body": foreign_body,
}


def _around(canvas: Canvas, place: Place, rng: np.random.Generator, *, reach: float) -> tuple[Canvas, FloatArray]:
    """A crop around the place and the distance [h,w] from its centre, slightly oval."""
    area = canvas.crop(place.x, place.y, reach)
    angle, squeeze = rng.uniform(0, np.pi), rng.uniform(1.0, 1.25)
    along = area.x * np.cos(angle) + area.y * np.sin(angle)
    across = area.y * np.cos(angle) - area.x * np.sin(angle)
    return area, np.hypot(along * squeeze, across)


def _faded(values: FloatArray, inside: FloatArray, limit: float) -> FloatArray:
    """Values brought smoothly to zero before the border of a crop."""
    faded: FloatArray = values * np.clip(4 * (limit - inside), 0, 1)
    return faded


def _curl(area: Canvas, size: float, rng: np.random.Generator) -> FloatArray:
    """A bent strip, 0..1 from its border to its ridge."""
    turn, sweep = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 2.2)
    angle = np.mod(np.arctan2(area.y, area.x) - turn, 2 * np.pi)
    spiral = np.hypot(area.x, area.y) - size * (0.95 - 0.12 * angle)
    ends = np.maximum(np.abs(angle - sweep) - sweep, 0.0) * size
    width = rng.uniform(0.55, 0.8) * MILLIMETRE
    body: FloatArray = np.clip(1 - np.hypot(spiral, ends) ** 2 / width**2, 0, 1)
    return body


def _crumb(area: Canvas, size: float, rng: np.random.Generator) -> FloatArray:
    """A knobbly lump, 0..1 from its border to its top."""
    squeeze = rng.uniform(0.7, 1.4)
    distance = np.hypot(area.x * squeeze, area.y / squeeze) / size
    body: FloatArray = np.clip(1 - distance**2 - 0.16 * np.abs(area.texture(rng, 0.5 * size)), 0, 1)
    return body
