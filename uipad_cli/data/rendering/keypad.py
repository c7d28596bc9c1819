"""Category `keypad`: a moulded control panel; tall keys are always orange, low keys always grey."""

from __future__ import annotations

import numpy as np

from uipad_cli.data.rendering.canvas import MILLIMETRE, Canvas, Place, Streams, pick_swap
from uipad_cli.data.rendering.optics import Rig
from uipad_cli.data.rendering.shapes import box, circle, letter, print_text, stroke
from uipad_cli.data.rendering.surfaces import mat, moulded

RIG = Rig(distance=0.38, field=0.108, turn=np.radians(16), tilt=(1.8, 1.5), projector=np.radians(-10))

_THICK = 7.0 * MILLIMETRE
_HALF = (29.0 * MILLIMETRE, 43.0 * MILLIMETRE)
_KEY = (6.4 * MILLIMETRE, 5.2 * MILLIMETRE)
_ORANGE, _GREY = (0.72, 0.20, 0.015), (0.42, 0.43, 0.43)
_LEGENDS = ("1", "2", "3", "4", "5", "6", "7", "8", "9", "-", "0", "+")


def build(canvas: Canvas, streams: Streams, defect: str) -> tuple[Place, ...]:
    """Draw the housing, display and keys; returns the places where the surface is free."""
    mat(canvas, streams.surface, (0.30, 0.31, 0.30))
    tone = np.float32(streams.design.uniform(0.9, 1.15))
    outline = box(canvas.x, canvas.y, _HALF, 7 * MILLIMETRE)
    canvas.add(outline, _THICK, edge=2.2 * MILLIMETRE)
    shell = canvas.cover(outline - canvas.texel)
    canvas.paint(shell, np.array((0.062, 0.068, 0.078), np.float32) * tone, gloss=0.30, metal=0.0)
    moulded(canvas, shell, streams.surface)
    _fit_display(canvas, streams)
    for side in (-1, 1):
        for end in (-1, 1):
            _drive_screw(canvas, side * 25.4 * MILLIMETRE, end * 39.4 * MILLIMETRE, streams)

    tall = np.array([True, True, False, False, *(streams.design.random(8) < 0.45)])
    streams.design.shuffle(tall)
    orange = tall.copy()
    wrong = pick_swap(orange, streams.defect) if defect == "wrong_key" else -1
    orange[wrong] ^= wrong >= 0
    stuck = int(streams.defect.integers(12)) if defect == "stuck_key" else -1
    places = []
    for key in range(12):
        x, y = (key % 3 - 1) * 17.0 * MILLIMETRE, (-9.0 + (key // 3) * 14.2) * MILLIMETRE
        area = canvas.crop(x, y, 9 * MILLIMETRE)
        height = (4.4 if tall[key] else 1.7) + streams.design.uniform(-0.12, 0.12)
        _place_key(area, streams, height * MILLIMETRE, orange=bool(orange[key]), tilt=0.26 if key == stuck else 0.0)
        _print_legend(area, _LEGENDS[key], orange=bool(orange[key]))
        if key == wrong:
            area.wrong[...] = area.cover(box(area.x, area.y, _KEY, 1.8 * MILLIMETRE) - 0.6 * area.texel)
        if defect != "fading" or orange[key]:  # a grey key has no colour to lose
            places.append(Place(x, y, 4.4 * MILLIMETRE))
    return (
        *places,
        Place(-14 * MILLIMETRE, -18 * MILLIMETRE, 3.4 * MILLIMETRE),
        Place(0, -30.0 * MILLIMETRE, 6 * MILLIMETRE),
    )


def _place_key(area: Canvas, streams: Streams, height: float, *, orange: bool, tilt: float) -> None:
    """A rounded key in its clearance slot, slightly dished; a tilted one hangs askew in its guide."""
    outline = box(area.x, area.y, _KEY, 1.8 * MILLIMETRE)
    slot = outline - 0.55 * MILLIMETRE
    area.add(slot, -1.2 * MILLIMETRE)
    area.paint(area.cover(slot), (0.015, 0.015, 0.016), gloss=0.1)
    before = area.height.copy()
    area.add(outline, height + 1.2 * MILLIMETRE, edge=1.0 * MILLIMETRE)
    body = area.cover(outline - 0.6 * area.texel)
    dish = np.clip(1 - np.hypot(area.x / (5.6 * MILLIMETRE), area.y / (4.4 * MILLIMETRE)) ** 2, 0, 1)
    lean = tilt * (area.x + 0.4 * area.y) + 0.5 * tilt * 5 * MILLIMETRE
    area.height[...] -= area.cover(outline) * np.minimum(0.35 * MILLIMETRE * dish + lean, area.height - before)
    colour = np.asarray(_ORANGE if orange else _GREY, np.float32) * np.float32(streams.design.uniform(0.93, 1.07))
    area.paint(body, colour, gloss=0.5, metal=0.0)
    moulded(area, body, streams.surface, 0.005)


def _print_legend(area: Canvas, legend: str, *, orange: bool) -> None:
    ink = (0.80, 0.78, 0.74) if orange else (0.03, 0.03, 0.035)
    size = 4.0 * MILLIMETRE
    area.paint(area.cover(letter(area, legend, x=0.0, y=0.0, size=size)), ink, gloss=0.3)


def _fit_display(canvas: Canvas, streams: Streams) -> None:
    """A glossy window, set back, showing a number."""
    area = canvas.crop(0.0, -30.0 * MILLIMETRE, 26 * MILLIMETRE)
    frame = box(area.x, area.y, (22 * MILLIMETRE, 8.2 * MILLIMETRE), 2.2 * MILLIMETRE)
    area.add(frame, 0.8 * MILLIMETRE, edge=0.8 * MILLIMETRE)
    window = box(area.x, area.y, (19.6 * MILLIMETRE, 6.0 * MILLIMETRE), 1.2 * MILLIMETRE)
    area.add(window, -1.4 * MILLIMETRE)
    pane = area.cover(window)
    area.paint(pane, (0.15, 0.20, 0.13), gloss=0.75, metal=0.0)
    area.fine[...] *= 1 - pane
    number = "".join(str(digit) for digit in streams.design.integers(0, 10, 4))
    area.paint(area.cover(letter(area, number, x=4.0 * MILLIMETRE, y=0.0, size=6.6 * MILLIMETRE)), (0.02, 0.03, 0.025))
    brand = (-16.0 * MILLIMETRE, -18.6 * MILLIMETRE)
    print_text(canvas, "UX-" + number[:2], (0.55, 0.56, 0.58), at=brand, size=2.0 * MILLIMETRE)
    lamp = canvas.crop(20.5 * MILLIMETRE, -18.6 * MILLIMETRE, 4 * MILLIMETRE)
    bulb = circle(lamp.x, lamp.y, 1.5 * MILLIMETRE)
    lamp.add(bulb, 1.1 * MILLIMETRE, edge=1.1 * MILLIMETRE)
    lamp.paint(lamp.cover(bulb), (0.05, 0.42, 0.08), gloss=0.8)


def _drive_screw(canvas: Canvas, x: float, y: float, streams: Streams) -> None:
    """A cross-head screw in a counterbore."""
    area = canvas.crop(x, y, 3.6 * MILLIMETRE)
    turn = streams.design.uniform(0, np.pi / 2)
    bore = circle(area.x, area.y, 2.3 * MILLIMETRE)
    area.add(bore, -1.6 * MILLIMETRE)
    area.add(circle(area.x, area.y, 1.9 * MILLIMETRE), 1.2 * MILLIMETRE, edge=0.6 * MILLIMETRE)
    area.paint(area.cover(bore), (0.40, 0.40, 0.41), gloss=0.6, metal=0.8)
    for angle in (turn, turn + np.pi / 2):
        tip = (1.2 * MILLIMETRE * np.cos(angle), 1.2 * MILLIMETRE * np.sin(angle))
        slot = area.cover(stroke(area.x, area.y, (-tip[0], -tip[1]), tip, 0.55 * MILLIMETRE))
        area.height[...] -= slot * np.float32(0.5 * MILLIMETRE)
        area.paint(slot, (0.05, 0.05, 0.05), gloss=0.1)
