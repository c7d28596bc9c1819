"""How a relief looks under a lamp: Lambert, gloss, metal, cast shadow and dimmed crevices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uipad_cli.data.rendering.canvas import Canvas, FloatArray


@dataclass(frozen=True)
class Light:
    """One lamp and its surroundings: position [3] metres in the part's frame, strengths, tint [3]."""

    position: FloatArray
    strength: float
    ambient: float
    tint: FloatArray

    @classmethod
    def draw(cls, rng: np.random.Generator, turn: float) -> Light:
        """A lamp at the upper left of the station, in a frame rotated by `turn` radians."""
        azimuth = np.radians(-125 + rng.uniform(-28, 28)) - turn
        elevation = np.radians(rng.uniform(42, 60))
        away = 0.55 * np.array(
            [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)]
        )
        warmth = rng.uniform(-0.03, 0.03)
        tint = np.array([1 + warmth, 1.0, 1 - warmth], np.float32)
        return cls(away, rng.uniform(0.82, 1.1), rng.uniform(0.24, 0.36), tint)


def shade(canvas: Canvas, light: Light, eye: FloatArray) -> FloatArray:
    """Radiance [h,w,3] linear, that leaves the surface towards the eye [3]."""
    normal = normals(canvas.height + canvas.fine, canvas.texel)
    towards_light, fall_off = _towards(canvas, light.position)
    towards_eye, _ = _towards(canvas, eye)
    facing = np.maximum(_dot(normal, towards_light), 0.0)
    visible = sunlit(canvas.height, canvas.texel, light.position, softness=0.16)
    open_sky = _openness(canvas)

    lit = facing * visible * fall_off * np.float32(light.strength)
    sky = (0.62 + 0.38 * normal[2]) * open_sky * np.float32(light.ambient)
    halfway = [a + b for a, b in zip(towards_light, towards_eye, strict=True)]
    alignment = _dot(normal, halfway) / np.sqrt(_dot(halfway, halfway))
    exponent = np.exp2(2.5 + 6.0 * canvas.gloss)
    lobe = np.exp(exponent * np.minimum(alignment - 1.0, 0.0)) * visible * fall_off * np.float32(light.strength)
    mirror = _surroundings(normal, towards_eye) * (0.35 + 0.65 * open_sky) * np.float32(light.ambient)

    spread = canvas.lay[..., 0] * halfway[0] + canvas.lay[..., 1] * halfway[1]
    strokes = np.hypot(canvas.lay[..., 0], canvas.lay[..., 1])
    fan = strokes * np.exp(-40 * spread**2 / _dot(halfway, halfway)) * visible * np.float32(light.strength)

    metal = canvas.metal
    dull = (lit + sky) * (1 - 0.72 * metal)
    bright = metal * (1.6 * mirror + (0.35 + 0.6 * canvas.gloss) * lobe + 0.75 * fan)
    coat = (1 - metal) * canvas.gloss * (0.45 * lobe + 0.04 * mirror)
    radiance = canvas.albedo * (dull + bright)[..., None] + coat[..., None]
    seen: FloatArray = radiance * light.tint
    return seen


def normals(relief: FloatArray, texel: float) -> list[FloatArray]:
    """Unit normals of a relief [h,w] metres as three maps (x, y, up)."""
    down, across = np.gradient(relief, texel)
    up = 1 / np.sqrt(1 + across**2 + down**2)
    return [-across * up, -down * up, up]


def sunlit(height: FloatArray, texel: float, source: FloatArray, *, softness: float) -> FloatArray:
    """Share [h,w] 0..1 of a far source [3] that each point sees past the relief; `softness` widens the penumbra."""
    level = float(np.hypot(source[0], source[1]))
    aim, climb = source[:2] / level, float(source[2]) / level
    steps = int(np.ceil((float(height.max()) - float(height.min())) / climb / texel / 1.5)) + 1
    pad = int(1.5 * steps) + 2
    padded = np.pad(height, pad)
    hidden = np.zeros_like(height)
    rows, columns = height.shape
    for step in range(1, steps + 1):
        away = 1.5 * step
        down, right = pad + round(away * aim[1]), pad + round(away * aim[0])
        excess = padded[down : down + rows, right : right + columns] - height
        excess -= np.float32(away * texel * climb)
        excess *= np.float32(1 / (texel * (0.8 + away * softness)))
        np.maximum(hidden, excess, out=hidden)
    return 1 - np.minimum(hidden, 1.0)


def blur(maps: FloatArray, radius: int) -> FloatArray:
    """Mean over a square of 2 radius + 1 pixels, border repeated; maps [h,w] or [h,w,C]."""
    for axis in (0, 1):
        pads = [(radius + 1, radius) if a == axis else (0, 0) for a in range(maps.ndim)]
        total = np.cumsum(np.pad(maps, pads, mode="edge"), axis=axis)
        width, count = 2 * radius + 1, maps.shape[axis]
        ahead = np.take(total, np.arange(width, width + count), axis)
        maps = (ahead - np.take(total, np.arange(count), axis)) / width
    return maps


def _openness(canvas: Canvas) -> FloatArray:
    """Share [h,w] of the sky above each point, from how deep it lies below its surroundings."""
    depth = np.zeros_like(canvas.height)
    for reach in (0.0016, 0.005):
        radius = max(1, round(reach / canvas.texel))
        around = blur(blur(canvas.height, radius), radius)
        depth += np.maximum(around - canvas.height, 0.0) / np.float32(reach)
    share: FloatArray = np.exp(-0.55 * depth)
    return share


def _surroundings(normal: list[FloatArray], towards_eye: list[FloatArray]) -> FloatArray:
    """Brightness [h,w] of the room that a mirror-like surface reflects: a bright ceiling, darker walls."""
    facing = 2 * _dot(normal, towards_eye)
    up = facing * normal[2] - towards_eye[2]
    side = facing * normal[0] - towards_eye[0]
    return np.clip(0.35 + 0.75 * up + 0.55 * side, 0.05, 2.0)


def _towards(canvas: Canvas, target: FloatArray) -> tuple[list[FloatArray], FloatArray]:
    """Unit vectors from every point to a target [3], and the inverse-square fall-off relative to the origin."""
    x, y, z = (np.float32(value) for value in target)
    ray = [x - canvas.x, y - canvas.y, z - canvas.height]
    squared = _dot(ray, ray)
    shorten = 1 / np.sqrt(squared)
    return [part * shorten for part in ray], np.float32(target @ target) / squared


def _dot(left: Sequence[FloatArray], right: Sequence[FloatArray]) -> FloatArray:
    return left[0] * right[0] + left[1] * right[1] + left[2] * right[2]
