"""Category `circuit`: a populated board; where a chip is left out, bare pads show and nothing rises."""

from __future__ import annotations

import numpy as np

from uipad_cli.data.rendering.canvas import MILLIMETRE, Canvas, FloatArray, Place, Streams, pick_swap
from uipad_cli.data.rendering.optics import Rig
from uipad_cli.data.rendering.shapes import box, circle, letter, print_text, ring, stroke
from uipad_cli.data.rendering.surfaces import mat

RIG = Rig(distance=0.34, field=0.104, turn=np.radians(14), tilt=(-2.0, -2.0), projector=np.radians(20))

_HALF = (40.0 * MILLIMETRE, 32.0 * MILLIMETRE)
_THICK = 1.6 * MILLIMETRE
_SITES = ((-25.0, -15.5), (-5.0, -15.5), (-25.0, 6.5), (-5.0, 6.5))
_CANS = ((16.0, -20.5), (29.0, -20.5), (29.0, -7.5))
_GOLD, _TIN, _INK = (0.62, 0.42, 0.12), (0.52, 0.52, 0.53), (0.66, 0.66, 0.62)


def build(canvas: Canvas, streams: Streams, defect: str) -> tuple[Place, ...]:
    """Draw the board and its components; returns the places where the surface is free."""
    mat(canvas, streams.surface, (0.10, 0.12, 0.16))
    _etch(canvas, streams)
    fitted = np.array([True, False, *(streams.design.random(2) < 0.6)])
    streams.design.shuffle(fitted)
    ghost = pick_swap(fitted, streams.defect) if defect == "ghost_chip" else -1
    fitted[ghost] ^= ghost >= 0
    for site, (x, y) in enumerate(_SITES):
        area = canvas.crop(x * MILLIMETRE, y * MILLIMETRE, 10.5 * MILLIMETRE)
        _print_footprint(area, site)
        _fit_chip(area if fitted[site] else None, streams)
        if site == ghost:
            area.wrong[...] = area.cover(box(area.x, area.y, (8.0 * MILLIMETRE, 6.0 * MILLIMETRE)))
    _fit_passives(canvas, streams)
    gone = int(streams.defect.integers(len(_CANS))) if defect == "missing_can" else -1
    for place, (x, y) in enumerate(_CANS):
        area = canvas.crop(x * MILLIMETRE, y * MILLIMETRE, 6.5 * MILLIMETRE)
        _fit_can(area, streams.design.uniform(0, 2 * np.pi), present=place != gone)
    _fit_header(canvas.crop(16.0 * MILLIMETRE, 24.5 * MILLIMETRE, 21 * MILLIMETRE))
    free = [(-15.0, -4.6), (-25.0, -26.5), (-8.0, 25.0), (13.0, 3.0), (-33.0, 18.0), (8.0, -9.0)]
    return tuple(Place(x * MILLIMETRE, y * MILLIMETRE, 4.2 * MILLIMETRE) for x, y in free)


def _etch(canvas: Canvas, streams: Streams) -> None:
    """The bare board: solder mask over tracks, vias, mounting holes, an edge of laminate."""
    outline = box(canvas.x, canvas.y, _HALF, 2 * MILLIMETRE)
    canvas.add(outline, _THICK)
    inside = canvas.cover(outline)
    weave = canvas.texture(streams.surface, 0.9 * MILLIMETRE)
    green = np.asarray((0.012, 0.135, 0.050), np.float32) * np.float32(streams.design.uniform(0.88, 1.15))
    canvas.paint(inside, green * (1 + 0.04 * weave)[..., None], gloss=0.55, metal=0.0)
    canvas.fine[...] *= 1 - inside
    tracks = _route(canvas)
    canvas.paint(tracks * inside, green * np.float32(1.75), gloss=0.6)
    canvas.height[...] += tracks * np.float32(0.03 * MILLIMETRE)
    for x in (-36.5, 36.5):
        for y in (-28.5, 28.5):
            area = canvas.crop(x * MILLIMETRE, y * MILLIMETRE, 4 * MILLIMETRE)
            area.paint(area.cover(circle(area.x, area.y, 2.8 * MILLIMETRE)), _TIN, gloss=0.5, metal=0.8)
            hole = circle(area.x, area.y, 1.6 * MILLIMETRE)
            area.level(hole, 0.0)
            area.paint(area.cover(hole), (0.05, 0.06, 0.08), gloss=0.1, metal=0.0)


def _route(canvas: Canvas) -> FloatArray:
    """Cover of the copper tracks: bundles that run straight, then at 45 degrees, with a via at each end."""
    bundles = (
        ((-16.0, -17.5), (7.0, -4.0), 6, 0.0, 1.1),
        ((-16.0, 4.5), (6.0, 14.0), 5, 0.0, 1.1),
        ((3.5, 2.0), (22.0, 12.0), 6, 0.0, 1.1),
        ((-34.0, -22.0), (-34.0, 12.0), 3, 1.2, 0.0),
        ((3.5, -18.5), (12.0, -13.0), 4, 0.0, 1.1),
        ((-28.0, 15.0), (6.0, 24.0), 4, 0.0, 1.2),
    )
    tracks = np.zeros_like(canvas.height)
    for start, end, count, across, down in bundles:
        for lane in range(count):
            first = ((start[0] + lane * across) * MILLIMETRE, (start[1] + lane * down) * MILLIMETRE)
            last = ((end[0] + lane * across) * MILLIMETRE, (end[1] + lane * down) * MILLIMETRE)
            rise = last[1] - first[1]
            knee = (last[0] - np.sign(last[0] - first[0]) * abs(rise), first[1]) if across == 0.0 else first
            for a, b in ((first, knee), (knee, last)):
                _lay(canvas, tracks, a, b)
            via = canvas.crop(*last, 1.2 * MILLIMETRE)
            via.paint(via.cover(ring(via.x, via.y, 0.2 * MILLIMETRE, 0.45 * MILLIMETRE)), _GOLD, gloss=0.5, metal=0.6)
    return tracks


def _lay(canvas: Canvas, tracks: FloatArray, start: tuple[float, float], end: tuple[float, float]) -> None:
    middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    reach = max(abs(end[0] - start[0]), abs(end[1] - start[1])) / 2 + MILLIMETRE
    area = canvas.crop(*middle, reach)
    a, b = (start[0] - middle[0], start[1] - middle[1]), (end[0] - middle[0], end[1] - middle[1])
    cover = area.cover(stroke(area.x, area.y, a, b, 0.5 * MILLIMETRE))
    top = round((float(area.y[0, 0]) + middle[1] - float(canvas.y[0, 0])) / canvas.texel)
    left = round((float(area.x[0, 0]) + middle[0] - float(canvas.x[0, 0])) / canvas.texel)
    window = tracks[top : top + cover.shape[0], left : left + cover.shape[1]]
    np.maximum(window, cover, out=window)


def _print_footprint(area: Canvas, site: int) -> None:
    """Pads in two rows, a printed frame and the site's name."""
    for side in (-1, 1):
        for pin in range(6):
            x, y = (pin - 2.5) * 2.2 * MILLIMETRE, side * 4.9 * MILLIMETRE
            pad = area.cover(box(area.x - np.float32(x), area.y - np.float32(y), (0.6 * MILLIMETRE, 1.1 * MILLIMETRE)))
            area.paint(pad, _GOLD, gloss=0.5, metal=0.7)
    frame = np.abs(box(area.x, area.y, (7.6 * MILLIMETRE, 3.2 * MILLIMETRE))) - np.float32(0.17 * MILLIMETRE)
    area.paint(area.cover(frame), _INK, gloss=0.2)
    print_text(area, f"U{site + 1}", _INK, at=(-6.6 * MILLIMETRE, -8.0 * MILLIMETRE), size=1.8 * MILLIMETRE)


def _fit_chip(area: Canvas | None, streams: Streams) -> None:
    """A black package on twelve bent legs with a printed number; without an area only the random draw is made."""
    number = "".join(str(digit) for digit in streams.design.integers(0, 10, 4))
    slip = streams.design.uniform(-0.2, 0.2, 2) * MILLIMETRE
    if area is None:
        return
    x, y = area.x - np.float32(slip[0]), area.y - np.float32(slip[1])
    for side in (-1, 1):
        for pin in range(6):
            leg_x, leg_y = np.float32((pin - 2.5) * 2.2 * MILLIMETRE), np.float32(side * 4.5 * MILLIMETRE)
            leg = box(x - leg_x, y - leg_y, (0.45 * MILLIMETRE, 1.1 * MILLIMETRE))
            slope = np.clip((np.float32(5.6 * MILLIMETRE) - side * y) / np.float32(1.6 * MILLIMETRE), 0.15, 1)
            area.height[...] += area.cover(leg) * slope * np.float32(1.0 * MILLIMETRE)
            area.paint(area.cover(leg), _TIN, gloss=0.55, metal=0.8)
    body = box(x, y, (7.3 * MILLIMETRE, 3.9 * MILLIMETRE), 0.3 * MILLIMETRE)
    area.level(body, _THICK + 2.6 * MILLIMETRE)
    black = area.cover(body - 0.6 * area.texel)
    area.paint(black, (0.030, 0.030, 0.032), gloss=0.28, metal=0.0)
    dimple = circle(x + np.float32(5.9 * MILLIMETRE), y - np.float32(2.4 * MILLIMETRE), 0.65 * MILLIMETRE)
    area.add(dimple, -0.25 * MILLIMETRE)
    text = letter(area, number, x=slip[0], y=slip[1] - 0.3 * MILLIMETRE, size=2.2 * MILLIMETRE)
    area.paint(area.cover(text), (0.34, 0.34, 0.33), gloss=0.15)


def _fit_can(area: Canvas, turn: float, *, present: bool) -> None:
    """An electrolytic capacitor: aluminium can with a black negative mark; absent, its two pads show."""
    area.paint(
        area.cover(np.abs(circle(area.x, area.y, 5.0 * MILLIMETRE)) - np.float32(0.17 * MILLIMETRE)), _INK, gloss=0.2
    )
    for side in (-1, 1):
        pad = circle(area.x - np.float32(side * 2.2 * MILLIMETRE), area.y, 1.1 * MILLIMETRE)
        area.paint(area.cover(pad), _GOLD, gloss=0.5, metal=0.7)
    if not present:
        return
    outline = circle(area.x, area.y, 4.4 * MILLIMETRE)
    area.add(outline, 9.0 * MILLIMETRE, edge=0.7 * MILLIMETRE)
    area.add(ring(area.x, area.y, 3.3 * MILLIMETRE, 3.7 * MILLIMETRE), -0.2 * MILLIMETRE)
    area.paint(area.cover(outline - 0.6 * area.texel), (0.56, 0.565, 0.58), gloss=0.4, metal=0.75)
    mark = area.x * np.float32(np.cos(turn)) + area.y * np.float32(np.sin(turn)) - np.float32(2.0 * MILLIMETRE)
    cap = np.maximum(circle(area.x, area.y, 3.2 * MILLIMETRE), -mark)
    area.paint(area.cover(cap), (0.02, 0.02, 0.022), gloss=0.35, metal=0.0)


def _fit_passives(canvas: Canvas, streams: Streams) -> None:
    """Small chip resistors and ceramic capacitors in rows."""
    rows = (
        (12.0, -1.0),
        (16.5, -1.0),
        (21.0, -1.0),
        (12.0, 16.5),
        (16.5, 16.5),
        (21.0, 16.5),
        (-15.0, 17.0),
        (-35.5, 2.0),
    )
    for place, (x, y) in enumerate(rows):
        slip = streams.design.uniform(-0.15, 0.15, 2)
        area = canvas.crop((x + slip[0]) * MILLIMETRE, (y + slip[1]) * MILLIMETRE, 3.2 * MILLIMETRE)
        half = (0.9 * MILLIMETRE, 1.7 * MILLIMETRE)
        pads = box(area.x, area.y, (half[0] + 0.25 * MILLIMETRE, half[1] + 0.6 * MILLIMETRE))
        area.paint(area.cover(pads), _TIN, gloss=0.5, metal=0.7)
        body = box(area.x, area.y, half, 0.15 * MILLIMETRE)
        area.add(body, (0.7 if place % 2 else 1.1) * MILLIMETRE, edge=0.15 * MILLIMETRE)
        area.paint(area.cover(body), _TIN, gloss=0.5, metal=0.7)
        middle = box(area.x, area.y, (half[0], 0.62 * half[1]))
        area.paint(area.cover(middle), (0.03, 0.03, 0.035) if place % 2 else (0.36, 0.24, 0.14), gloss=0.4, metal=0.0)


def _fit_header(area: Canvas) -> None:
    """A black pin header with gold pins."""
    block = box(area.x, area.y, (15.0 * MILLIMETRE, 2.6 * MILLIMETRE), 0.4 * MILLIMETRE)
    area.add(block, 2.8 * MILLIMETRE, edge=0.3 * MILLIMETRE)
    area.paint(area.cover(block - 0.6 * area.texel), (0.026, 0.026, 0.028), gloss=0.35, metal=0.0)
    for pin in range(10):
        x = area.x - np.float32((pin - 4.5) * 2.9 * MILLIMETRE)
        shaft = box(x, area.y, (0.55 * MILLIMETRE, 0.55 * MILLIMETRE), 0.15 * MILLIMETRE)
        area.add(shaft, 4.5 * MILLIMETRE, edge=0.2 * MILLIMETRE)
        area.paint(area.cover(shaft - 0.6 * area.texel), _GOLD, gloss=0.6, metal=0.8)
