"""Outlines as signed distances (metres, negative inside), and lettering made of strokes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from uipad_cli.data.rendering.canvas import Canvas, Colour, FloatArray

# Poly-lines on a lattice of 5 x 7 points; each token is column and row.
_GLYPHS = {
    "0": "10 30 41 45 36 16 05 01 10",
    "1": "11 20 26",
    "2": "01 10 30 41 42 06 46",
    "3": "00 40 23 33 44 45 36 16 05",
    "4": "36 30 04 44",
    "5": "40 00 02 32 43 45 36 16 05",
    "6": "30 11 03 05 16 36 45 44 33 13 04",
    "7": "00 40 16",
    "8": "10 30 41 42 33 13 02 01 10/13 04 05 16 36 45 44 33",
    "9": "42 33 13 02 01 10 30 41 43 35 16",
    "A": "06 20 46/14 34",
    "C": "41 30 10 01 05 16 36 45",
    "E": "40 00 06 46/03 33",
    "L": "00 06 46",
    "R": "06 00 30 41 42 33 03/23 46",
    "T": "00 40/20 26",
    "U": "00 05 16 36 45 40",
    "X": "00 46/40 06",
    "+": "13 33/22 24",
    "-": "13 33",
}


def circle(x: FloatArray, y: FloatArray, radius: float) -> FloatArray:
    """Disc around the origin."""
    return np.hypot(x, y) - np.float32(radius)


def box(x: FloatArray, y: FloatArray, half: tuple[float, float], corner: float = 0.0) -> FloatArray:
    """Rectangle of half-width and half-height `half` around the origin, corners rounded."""
    across = np.abs(x) - np.float32(half[0] - corner)
    down = np.abs(y) - np.float32(half[1] - corner)
    outside = np.hypot(np.maximum(across, 0.0), np.maximum(down, 0.0))
    return outside + np.minimum(np.maximum(across, down), 0.0) - np.float32(corner)


def hexagon(x: FloatArray, y: FloatArray, half: float) -> FloatArray:
    """Regular hexagon around the origin, `half` from its middle to each side."""
    slant = np.float32(np.sqrt(0.75))
    sides = np.maximum(np.abs(0.5 * x + slant * y), np.abs(0.5 * x - slant * y))
    return np.maximum(np.abs(x), sides) - np.float32(half)


def ring(x: FloatArray, y: FloatArray, inner: float, outer: float) -> FloatArray:
    """Annulus around the origin."""
    return np.abs(np.hypot(x, y) - np.float32((inner + outer) / 2)) - np.float32((outer - inner) / 2)


def stroke(
    x: FloatArray, y: FloatArray, start: tuple[float, float], end: tuple[float, float], width: float
) -> FloatArray:
    """A line with round ends."""
    along = (end[0] - start[0], end[1] - start[1])
    length = max(along[0] ** 2 + along[1] ** 2, 1e-18)
    share = np.clip(((x - start[0]) * along[0] + (y - start[1]) * along[1]) / length, 0.0, 1.0)
    return np.hypot(x - start[0] - share * along[0], y - start[1] - share * along[1]) - np.float32(width / 2)


def turned(x: FloatArray, y: FloatArray, angle: float) -> tuple[FloatArray, FloatArray]:
    """Coordinates in a frame that is rotated by `angle` radians."""
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cosine + y * sine, y * cosine - x * sine


def toothed(x: FloatArray, y: FloatArray, teeth: int, radii: tuple[float, float]) -> FloatArray:
    """Spur gear outline with straight flanks, between the root and the tip radius."""
    root, tip = radii
    distance = np.hypot(x, y)
    pitch = 2 * np.pi / teeth
    offset = np.abs(np.mod(np.arctan2(y, x) + pitch / 2, pitch) - pitch / 2) * distance
    half_width = (0.29 - 0.13 * (distance - root) / (tip - root)) * pitch * root
    tooth = np.maximum(offset - half_width, distance - np.float32(tip))
    return np.minimum(distance - np.float32(root), tooth)


def letter(canvas: Canvas, text: str, *, x: float, y: float, size: float) -> FloatArray:
    """Signed distance [h,w] to text with capitals `size` high, centred on (x, y)."""
    unit = size / 6
    best = np.full((canvas.y.size, canvas.x.size), 1.0, np.float32)
    left = x - unit * (6 * len(text) - 2) / 2
    for place, glyph in enumerate(text):
        for line in _GLYPHS[glyph].split("/"):
            points = [
                (left + unit * (int(token[0]) + 6 * place), y + unit * (int(token[1]) - 3)) for token in line.split()
            ]
            for start, end in pairwise(points):
                best = np.minimum(best, stroke(canvas.x, canvas.y, start, end, 0.16 * size))
    return best


def print_text(canvas: Canvas, text: str, colour: Colour, *, at: tuple[float, float], size: float) -> None:
    """Print text on the canvas."""
    area = canvas.crop(*at, size * (0.6 * len(text) + 0.5))
    area.paint(area.cover(letter(area, text, x=0.0, y=0.0, size=size)), colour)
