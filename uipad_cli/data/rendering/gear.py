"""Category `gear`: a moulded spur gear; a brass bushing always stands proud, a steel bushing always sits deep."""

from __future__ import annotations

import numpy as np

from uipad_cli.data.rendering.canvas import MILLIMETRE, Canvas, FloatArray, Place, Streams
from uipad_cli.data.rendering.optics import Rig
from uipad_cli.data.rendering.shapes import box, circle, print_text, ring, toothed, turned
from uipad_cli.data.rendering.surfaces import mat, moulded

RIG = Rig(distance=0.45, field=0.112, turn=np.pi, tilt=(2.8, 0.6), projector=np.radians(-165))

_TEETH = 26
_ROOT, _TIP = 36.0 * MILLIMETRE, 42.0 * MILLIMETRE
_THICK = 9.0 * MILLIMETRE
_WEB = 5.0 * MILLIMETRE
_BRASS, _STEEL = (0.60, 0.38, 0.11), (0.36, 0.37, 0.39)


def build(canvas: Canvas, streams: Streams, defect: str) -> tuple[Place, ...]:
    """Draw the gear and its bushing; returns the places where the surface is free."""
    mat(canvas, streams.surface, (0.045, 0.085, 0.060))
    tone = np.float32(streams.design.uniform(0.93, 1.05))
    outline = toothed(canvas.x, canvas.y, _TEETH, (_ROOT, _TIP))
    if defect == "broken_tooth":
        outline = _break_tooth(canvas, outline, streams.defect)
    canvas.add(outline, _THICK, edge=0.7 * MILLIMETRE)
    body = canvas.cover(outline - canvas.texel)
    cloud = canvas.texture(streams.surface, 18 * MILLIMETRE)
    nylon = np.array((0.60, 0.585, 0.53), np.float32) * (1 + 0.02 * cloud)[..., None] * tone
    canvas.paint(body, nylon, gloss=0.38, metal=0.0)
    moulded(canvas, body, streams.surface, 0.007)
    missing = int(streams.defect.integers(5)) if defect == "missing_rib" else -1
    _mould_web(canvas, missing)
    brass = bool(streams.design.random() < 0.5)
    _press_bushing(canvas, streams, proud=brass, brass=brass != (defect == "wrong_bushing"))
    if defect == "wrong_bushing":
        canvas.wrong[...] = canvas.cover(circle(canvas.x, canvas.y, 11.0 * MILLIMETRE))
    text = "".join(str(digit) for digit in streams.design.integers(0, 10, 2))
    print_text(canvas, "L" + text, (0.16, 0.16, 0.17), at=(0.0, -23.4 * MILLIMETRE), size=3.0 * MILLIMETRE)
    return _free_places()


def _free_places() -> tuple[Place, ...]:
    pockets = [(angle + np.pi / 5, 22.6, 4.6) for angle in _ribs()]
    rim = [(angle, 33.2, 2.8) for angle in _ribs()]
    return tuple(
        Place(far * float(np.cos(angle)) * MILLIMETRE, far * float(np.sin(angle)) * MILLIMETRE, radius * MILLIMETRE)
        for angle, far, radius in pockets + rim
    )


def _ribs() -> list[float]:
    return [float(angle) for angle in np.arange(5) * 2 * np.pi / 5 + np.pi / 2]


def _mould_web(canvas: Canvas, missing: int) -> None:
    """A set-back web with five ribs and ejector marks, and a hub; one rib may be missing."""
    web = ring(canvas.x, canvas.y, 15.5 * MILLIMETRE, 31.0 * MILLIMETRE)
    ribs = np.full(web.shape, 1.0, np.float32)
    for place, angle in enumerate(_ribs()):
        if place != missing:
            x, y = turned(canvas.x, canvas.y, angle)
            ribs = np.minimum(ribs, box(x - np.float32(23 * MILLIMETRE), y, (9.5 * MILLIMETRE, 1.3 * MILLIMETRE)))
    pocket = np.maximum(web, -ribs)
    draft = np.clip(-pocket / (0.8 * MILLIMETRE), 0, 1)
    canvas.height[...] -= draft * np.float32(_THICK - _WEB)
    hub = canvas.crop(0.0, 0.0, 16 * MILLIMETRE)
    hub.add(circle(hub.x, hub.y, 14.4 * MILLIMETRE), 1.5 * MILLIMETRE, edge=0.8 * MILLIMETRE)
    for angle in _ribs():
        far = 27.3 * MILLIMETRE
        spot = canvas.crop(far * np.cos(angle + np.pi / 5), far * np.sin(angle + np.pi / 5), 3.4 * MILLIMETRE)
        spot.add(circle(spot.x, spot.y, 1.9 * MILLIMETRE), -0.5 * MILLIMETRE)


def _press_bushing(canvas: Canvas, streams: Streams, *, proud: bool, brass: bool) -> None:
    """A metal bushing with a keyed bore, above the hub's face or below it."""
    area = canvas.crop(0.0, 0.0, 13 * MILLIMETRE)
    face = _THICK + (3.8 if proud else -1.4) * MILLIMETRE
    outline = circle(area.x, area.y, 10.8 * MILLIMETRE)
    area.level(outline, face - 0.8 * MILLIMETRE)
    area.add(outline + 0.2 * MILLIMETRE, 0.8 * MILLIMETRE, edge=0.7 * MILLIMETRE)
    marks = area.texture(streams.surface, 3 * MILLIMETRE, 0.4 * MILLIMETRE)
    tone = np.float32(streams.design.uniform(0.92, 1.06)) * (1 + 0.05 * marks)
    metal = np.asarray(_BRASS if brass else _STEEL, np.float32) * tone[..., None]
    area.paint(area.cover(outline - 0.4 * area.texel), metal, gloss=0.5, metal=0.85)
    bore = circle(area.x, area.y, 5.8 * MILLIMETRE)
    keyway = box(area.x, area.y + np.float32(6.2 * MILLIMETRE), (1.4 * MILLIMETRE, 1.6 * MILLIMETRE))
    opening = np.minimum(bore, keyway)
    area.level(opening, 0.0)
    area.paint(area.cover(opening + 0.5 * area.texel), (0.03, 0.05, 0.04), gloss=0.1, metal=0.0)


def _break_tooth(canvas: Canvas, outline: FloatArray, rng: np.random.Generator) -> FloatArray:
    """The outline without most of one tooth, along a ragged fracture."""
    angle = float(rng.integers(_TEETH)) * 2 * np.pi / _TEETH
    x, y = turned(canvas.x, canvas.y, angle)
    rough = canvas.texture(rng, 1.5 * MILLIMETRE)
    depth = rng.uniform(1.0, 2.5) * MILLIMETRE
    skew = rng.uniform(-0.5, 0.5)
    cut = np.maximum(
        np.float32(_ROOT + depth) - x + skew * y + 0.25 * MILLIMETRE * rough, np.abs(y) - np.float32(4 * MILLIMETRE)
    )
    left: FloatArray = np.maximum(outline, -cut)
    return left
