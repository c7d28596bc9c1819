"""Category `flange`: a turned aluminium disc with six stations.

A raised boss always wears an orange printed ring, a countersunk hole a dark blue one.
"""

from __future__ import annotations

import numpy as np

from uipad_cli.data.rendering.canvas import MILLIMETRE, Canvas, Place, Streams, pick_swap
from uipad_cli.data.rendering.optics import Rig
from uipad_cli.data.rendering.shapes import circle, print_text, ring
from uipad_cli.data.rendering.surfaces import mat, spun_metal

RIG = Rig(distance=0.42, field=0.112, turn=np.pi, tilt=(-1.6, 2.4), projector=np.radians(150))

_RADIUS = 41.0 * MILLIMETRE
_THICK = 7.0 * MILLIMETRE
_STATION = 29.0 * MILLIMETRE
_ORANGE, _NAVY = (0.66, 0.20, 0.02), (0.012, 0.035, 0.16)


def build(canvas: Canvas, streams: Streams, defect: str) -> tuple[Place, ...]:
    """Draw the disc, its hub and its stations; returns the places where the surface is free."""
    mat(canvas, streams.surface, (0.026, 0.060, 0.105))
    _turn_body(canvas, streams)
    bosses = np.array([True, False, *(streams.design.random(4) < 0.5)])
    streams.design.shuffle(bosses)
    orange = bosses.copy()
    wrong = pick_swap(orange, streams.defect) if defect == "ring_swap" else -1
    orange[wrong] ^= wrong >= 0
    angles = np.arange(6) * np.pi / 3
    spots = [(_STATION * float(np.cos(angle)), _STATION * float(np.sin(angle))) for angle in angles]
    for place, spot in enumerate(spots):
        area = canvas.crop(*spot, 9.5 * MILLIMETRE)
        _machine(area, boss=bool(bosses[place]))
        _print_ring(area, streams.design, orange=bool(orange[place]), wrong=place == wrong)
    number = "".join(str(digit) for digit in streams.design.integers(0, 10, 3))
    print_text(canvas, "A" + number, (0.03, 0.03, 0.03), at=(0.0, -14.0 * MILLIMETRE), size=2.3 * MILLIMETRE)
    between = [(angle + np.pi / 6, _STATION) for angle in angles] + [(angle, 13.6 * MILLIMETRE) for angle in angles[:4]]
    return tuple(
        Place(far * float(np.cos(angle)), far * float(np.sin(angle)), (5.2 if far == _STATION else 3.4) * MILLIMETRE)
        for angle, far in between
    )


def _turn_body(canvas: Canvas, streams: Streams) -> None:
    tone = streams.design.uniform(0.92, 1.06)
    outline = circle(canvas.x, canvas.y, _RADIUS)
    canvas.add(outline, _THICK, edge=1.0 * MILLIMETRE)
    spun_metal(canvas, canvas.cover(outline - canvas.texel), streams.surface, (0.43 * tone, 0.44 * tone, 0.46 * tone))
    canvas.add(ring(canvas.x, canvas.y, 37.6 * MILLIMETRE, 38.8 * MILLIMETRE), -0.7 * MILLIMETRE)
    hub = canvas.crop(0.0, 0.0, 21 * MILLIMETRE)
    hub.add(ring(hub.x, hub.y, 18.2 * MILLIMETRE, 19.4 * MILLIMETRE), -0.6 * MILLIMETRE)
    hub.add(
        circle(hub.x, hub.y, 17.6 * MILLIMETRE), streams.design.uniform(5.4, 6.2) * MILLIMETRE, edge=1.2 * MILLIMETRE
    )
    bore = circle(hub.x, hub.y, streams.design.uniform(8.8, 9.2) * MILLIMETRE)
    hub.level(bore - 1.1 * MILLIMETRE, float(hub.height.max()) - 0.9 * MILLIMETRE)
    hub.level(bore, 0.0)
    hub.paint(hub.cover(bore + hub.texel), (0.02, 0.045, 0.08), gloss=0.1, metal=0.0)


def _machine(area: Canvas, *, boss: bool) -> None:
    """A boss with a blind hole, or a countersunk through hole; both with the same outer diameter."""
    if boss:
        area.add(circle(area.x, area.y, 4.6 * MILLIMETRE), 3.4 * MILLIMETRE, edge=0.8 * MILLIMETRE)
        pilot = circle(area.x, area.y, 1.5 * MILLIMETRE)
        area.add(pilot, -2.5 * MILLIMETRE)
        area.paint(area.cover(pilot), (0.05, 0.05, 0.05), gloss=0.1)
        return
    sink = np.clip(4.6 * MILLIMETRE - np.hypot(area.x, area.y), 0.0, 2.2 * MILLIMETRE)
    area.height[...] -= sink
    through = circle(area.x, area.y, 2.5 * MILLIMETRE)
    area.level(through, 0.0)
    area.paint(area.cover(through), (0.02, 0.045, 0.08), gloss=0.1, metal=0.0)


def _print_ring(area: Canvas, rng: np.random.Generator, *, orange: bool, wrong: bool) -> None:
    """Enamel around a station, a little off its centre as screen printing is."""
    slip = rng.uniform(-0.25, 0.25, 2) * MILLIMETRE
    tone = np.float32(rng.uniform(0.9, 1.1))
    band = area.cover(ring(area.x - slip[0], area.y - slip[1], 5.3 * MILLIMETRE, 7.4 * MILLIMETRE))
    area.paint(band, np.asarray(_ORANGE if orange else _NAVY, np.float32) * tone, gloss=0.45, metal=0.0)
    if wrong:
        area.wrong[...] = np.maximum(area.wrong, area.cover(circle(area.x, area.y, 7.5 * MILLIMETRE)))
