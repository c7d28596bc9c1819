"""Category `valve`: a cast iron cover with a brass outlet; a red seal always stands proud, a green one sits deep."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from uipad_cli.data.rendering.canvas import MILLIMETRE, Canvas, FloatArray, Place, Streams
from uipad_cli.data.rendering.optics import Rig
from uipad_cli.data.rendering.shapes import circle, hexagon, letter, ring, turned
from uipad_cli.data.rendering.surfaces import cast_iron, mat, spun_metal

RIG = Rig(distance=0.40, field=0.116, turn=np.radians(40), tilt=(1.4, 2.0), projector=np.radians(120))

_THICK = 7.0 * MILLIMETRE
_DECK = _THICK + 4.5 * MILLIMETRE
_EARS = ((-25.0, -25.0), (25.0, -25.0), (25.0, 25.0), (-25.0, 25.0))
_SEAL, _SEAL_WIDTH = 14.4 * MILLIMETRE, 3.8 * MILLIMETRE
_AXIS = 7.0 * MILLIMETRE
_THREAD = (33.0 * MILLIMETRE, 47.0 * MILLIMETRE)
_PITCH, _CREST = 2.3 * MILLIMETRE, 0.75 * MILLIMETRE
_BRASS, _ZINC = (0.60, 0.39, 0.12), (0.46, 0.47, 0.48)
_RED, _GREEN = (0.40, 0.065, 0.035), (0.045, 0.17, 0.085)
_SHADE = (0.03, 0.03, 0.032)


def build(canvas: Canvas, streams: Streams, defect: str) -> tuple[Place, ...]:
    """Draw the cover with its outlet, bolts and seal; returns the places where the surface is free."""
    mat(canvas, streams.surface, (0.19, 0.18, 0.155))
    _cast_body(canvas, streams)
    _screw_outlet(canvas, streams, stripped=defect == "stripped_thread")
    _face_deck(canvas.crop(0.0, 0.0, 22 * MILLIMETRE), streams)
    red = bool(streams.design.random() < 0.5)
    _lay_seal(canvas.crop(0.0, 0.0, 19 * MILLIMETRE), streams, proud=red, red=red != (defect == "wrong_seal"))
    if defect == "wrong_seal":
        half = _SEAL_WIDTH / 2 + 0.3 * MILLIMETRE
        canvas.wrong[...] = canvas.cover(ring(canvas.x, canvas.y, _SEAL - half, _SEAL + half))
    gone = int(streams.defect.integers(len(_EARS))) if defect == "missing_bolt" else -1
    for place, (x, y) in enumerate(_EARS):
        area = canvas.crop(x * MILLIMETRE, y * MILLIMETRE, 8.5 * MILLIMETRE)
        _fit_bolt(area, streams, present=place != gone)
    return _free_places()


def _free_places() -> tuple[Place, ...]:
    sides = [(angle, 26.2, 4.2) for angle in (158.0, 180.0, 202.0, 248.0, 270.0, 292.0)]
    corners = [(angle, 25.0, 3.2) for angle in (135.0, 225.0, 315.0)]
    return tuple(
        Place(
            far * float(np.cos(np.radians(angle))) * MILLIMETRE,
            far * float(np.sin(np.radians(angle))) * MILLIMETRE,
            radius * MILLIMETRE,
        )
        for angle, far, radius in sides + corners
    )


def _cast_body(canvas: Canvas, streams: Streams) -> None:
    """A round plate that flows into four ears, a raised deck and the cast pressure class."""
    outline = circle(canvas.x, canvas.y, 32.0 * MILLIMETRE)
    for x, y in _EARS:
        ear = circle(canvas.x - np.float32(x * MILLIMETRE), canvas.y - np.float32(y * MILLIMETRE), 8.5 * MILLIMETRE)
        outline = _blended(outline, ear, 5.0 * MILLIMETRE)
    canvas.add(outline, _THICK, edge=1.8 * MILLIMETRE)
    deck = np.clip(-circle(canvas.x, canvas.y, 21.5 * MILLIMETRE) / (1.6 * MILLIMETRE), 0, 1)
    canvas.height[...] += np.float32(_DECK - _THICK) * deck * deck * (3 - 2 * deck)
    text = ("CL150", "CL300", "CL600")[int(streams.design.integers(3))]
    area = canvas.crop(0.0, 26.4 * MILLIMETRE, 9.5 * MILLIMETRE)
    raised = np.clip(0.5 - letter(area, text, x=0.0, y=0.0, size=4.2 * MILLIMETRE) / (0.5 * MILLIMETRE), 0, 1)
    area.height[...] += np.float32(0.6 * MILLIMETRE) * raised
    tone = streams.design.uniform(0.9, 1.1)
    body = canvas.cover(outline - canvas.texel)
    cast_iron(canvas, body, streams.surface, (0.275 * tone, 0.27 * tone, 0.265 * tone))


def _blended(left: FloatArray, right: FloatArray, width: float) -> FloatArray:
    """The union of two outlines with a fillet of about `width`."""
    share = np.clip(0.5 + (right - left) / np.float32(2 * width), 0, 1)
    joined: FloatArray = right + share * (left - right) - np.float32(width) * share * (1 - share)
    return joined


def _screw_outlet(canvas: Canvas, streams: Streams, *, stripped: bool) -> None:
    """A brass spigot towards +x: a boss in the casting, a plain collar, a thread that may be worn off in part."""
    area = canvas.crop(39.0 * MILLIMETRE, 0.0, 15 * MILLIMETRE)
    along = area.x + np.float32(39.0 * MILLIMETRE)
    start, end = _THREAD
    _turn(area, 10.4 * MILLIMETRE, (along > 24 * MILLIMETRE) & (along <= 29.5 * MILLIMETRE))
    _turn(area, 9.0 * MILLIMETRE, (along > 29.5 * MILLIMETRE) & (along <= start))
    radius = 8.0 * MILLIMETRE
    lead = np.arcsin(np.clip(area.y / np.float32(radius), -1, 1)) / np.float32(2 * np.pi)
    phase = np.mod(along / np.float32(_PITCH) + lead + np.float32(streams.design.random()), 1.0)
    depth = np.float32(_CREST) * np.abs(2 * phase - 1)
    if stripped:
        depth = _wear(area, along, depth, streams.defect)
    point = np.clip((along - np.float32(end - 1.2 * MILLIMETRE)) * np.float32(0.8), 0, None)
    _turn(area, radius - depth - point, (along > start) & (along <= end))
    brass = (along > 29.5 * MILLIMETRE) & (along <= end) & (np.abs(area.y) < 9.0 * MILLIMETRE) & (area.height > 1e-3)
    marks = area.texture(streams.surface, 0.5 * MILLIMETRE, 4 * MILLIMETRE)
    tone = np.float32(streams.design.uniform(0.92, 1.06)) * (1 + 0.05 * marks)
    area.paint(brass.astype(np.float32), np.asarray(_BRASS, np.float32) * tone[..., None], gloss=0.5, metal=0.7)
    area.fine[...] *= 1 - brass


def _turn(area: Canvas, radius: float | FloatArray, where: npt.NDArray[np.bool_]) -> None:
    """Raise the surface to a lying cylinder around the outlet's axis, where a map [h,w] or [1,w] says so."""
    rise = np.square(np.float32(1) * radius) - np.square(area.y)
    top = np.where(rise > 0, np.float32(_AXIS) + np.sqrt(np.maximum(rise, 0.0)), 0.0)
    area.height[...] = np.where(where, np.maximum(area.height, top), area.height)


def _wear(area: Canvas, along: FloatArray, depth: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Thread depth [h,w] with the crests torn off over some turns, on one flank more than on the other."""
    start, end = _THREAD
    middle = rng.uniform(start + 4 * MILLIMETRE, end - 4.5 * MILLIMETRE)
    lean = rng.uniform(-0.5, 0.5)
    ragged = 0.7 * MILLIMETRE * area.texture(rng, 1.5 * MILLIMETRE)
    beyond = (
        np.abs(along - np.float32(middle) + lean * area.y) + ragged - np.float32(rng.uniform(2.8, 3.6) * MILLIMETRE)
    )
    share = np.clip(0.5 - beyond / np.float32(0.8 * MILLIMETRE), 0, 1)
    flat = np.float32(0.95 * _CREST) + 0.06 * MILLIMETRE * area.texture(rng, 0.9 * MILLIMETRE)
    worn: FloatArray = depth + share * (np.maximum(depth, flat) - depth)
    return worn


def _face_deck(area: Canvas, streams: Streams) -> None:
    """The machined face, with a hexagonal brass plug in the middle."""
    face = circle(area.x, area.y, 19.0 * MILLIMETRE)
    area.level(face, _DECK - 0.35 * MILLIMETRE)
    tone = streams.design.uniform(0.94, 1.05)
    spun_metal(area, area.cover(face), streams.surface, (0.40 * tone, 0.40 * tone, 0.41 * tone))
    middle = area.crop(0.0, 0.0, 11 * MILLIMETRE)
    x, y = turned(middle.x, middle.y, streams.design.uniform(0, np.pi / 3))
    plug = np.maximum(hexagon(x, y, 7.4 * MILLIMETRE), circle(x, y, 8.2 * MILLIMETRE))
    middle.add(plug, 4.2 * MILLIMETRE, edge=0.9 * MILLIMETRE)
    middle.paint(middle.cover(plug - 0.5 * middle.texel), _BRASS, gloss=0.5, metal=0.75)
    middle.lay[...] *= 1 - middle.cover(plug)[..., None]
    socket = circle(x, y, 3.1 * MILLIMETRE)
    middle.add(socket, -2.6 * MILLIMETRE)
    middle.paint(0.7 * middle.cover(socket), (0.10, 0.065, 0.02))


def _lay_seal(area: Canvas, streams: Streams, *, proud: bool, red: bool) -> None:
    """A rubber ring in a groove of the face, above the face or below it."""
    half = _SEAL_WIDTH / 2
    groove = ring(area.x, area.y, _SEAL - half - 0.3 * MILLIMETRE, _SEAL + half + 0.3 * MILLIMETRE)
    floor = _DECK - 3.6 * MILLIMETRE
    area.level(groove, floor)
    area.lay[...] *= 1 - area.cover(groove)[..., None]
    area.paint(area.cover(groove), _SHADE, gloss=0.2, metal=0.0)
    top = (1.5 if proud else -0.9) * MILLIMETRE + _DECK
    outline = ring(area.x, area.y, _SEAL - half, _SEAL + half)
    inside = np.clip(outline / np.float32(half) + 1, 0, 1)
    bulge = np.sqrt(1 - inside**2)
    area.height[...] = np.maximum(area.height, np.where(inside < 1, top - half * (1 - bulge), 0.0))
    dust = area.texture(streams.surface, 2.5 * MILLIMETRE)
    tone = np.float32(streams.design.uniform(0.92, 1.08)) * (1 + 0.04 * dust)
    rubber = np.asarray(_RED if red else _GREEN, np.float32) * tone[..., None]
    area.paint(area.cover(outline), rubber, gloss=0.3, metal=0.0)
    area.fine[...] *= 1 - area.cover(groove)


def _fit_bolt(area: Canvas, streams: Streams, *, present: bool) -> None:
    """A zinc-plated hexagon bolt on a washer; absent, the hole in its spot face shows."""
    turn = streams.design.uniform(0, np.pi / 3)
    tone = np.float32(streams.design.uniform(0.92, 1.06))
    stand = streams.design.uniform(3.9, 4.3) * MILLIMETRE
    seat = circle(area.x, area.y, 7.0 * MILLIMETRE)
    area.level(seat, _THICK - 0.4 * MILLIMETRE)
    area.paint(area.cover(seat), (0.34, 0.34, 0.345), gloss=0.4, metal=0.8)
    area.fine[...] *= 1 - area.cover(seat)
    if not present:
        hole = circle(area.x, area.y, 3.2 * MILLIMETRE)
        area.level(hole, 0.0)
        area.paint(area.cover(hole), _SHADE, gloss=0.1, metal=0.0)
        return
    washer = circle(area.x, area.y, 6.3 * MILLIMETRE)
    area.add(washer, 0.9 * MILLIMETRE, edge=0.3 * MILLIMETRE)
    x, y = turned(area.x, area.y, turn)
    head = np.maximum(hexagon(x, y, 4.7 * MILLIMETRE), circle(x, y, 5.25 * MILLIMETRE))
    area.add(head, float(stand), edge=0.7 * MILLIMETRE)
    area.add(circle(x, y, 3.2 * MILLIMETRE), -0.3 * MILLIMETRE)
    zinc = np.asarray(_ZINC, np.float32) * tone
    area.paint(area.cover(washer - 0.5 * area.texel), zinc, gloss=0.5, metal=0.75)
