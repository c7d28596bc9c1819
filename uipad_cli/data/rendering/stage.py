"""One shot of one part: build it, light it, photograph it and scan it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uipad_cli.data.rendering.canvas import Canvas, FloatArray, Place, Streams
from uipad_cli.data.rendering.defects import SURFACE_DEFECTS, strike
from uipad_cli.data.rendering.light import Light, normals, shade, sunlit
from uipad_cli.data.rendering.optics import Camera, Pose, Rig, view
from uipad_cli.data.rendering.sensor import photograph, scan

_OVERSAMPLING = 1.25  # grid cells per pixel
_REACH = 0.78  # half-width of the grid in fields of view: half the image's diagonal, and the part's shift
_PROJECTOR_RISE = 3.2  # height of the projector over its distance to the side


@dataclass(frozen=True)
class Category:
    """A kind of part: its station, how it is built, and which defects it can have.

    `build` draws on the canvas, with its own defects where one is named, and returns the places that are free for
    surface defects.
    """

    rig: Rig
    build: Callable[[Canvas, Streams, str], tuple[Place, ...]]
    defects: tuple[str, ...]


@dataclass(frozen=True)
class Shot:
    """rgb [H,W,3] uint8; xyz [H,W,3] float32 metres; wrong [H,W] bool, where an element shows that does not belong."""

    rgb: npt.NDArray[np.uint8]
    xyz: npt.NDArray[np.float32]
    wrong: npt.NDArray[np.bool_]


def shoot(category: Category, defect: str, streams: Streams, size: int) -> Shot:
    """Render a part; with streams of the same seed, pose, light and noise do not depend on the defect."""
    rig, camera = category.rig, Camera.of(category.rig, size)
    pose = Pose.draw(rig, streams.pose)
    canvas = Canvas.blank(_REACH * rig.field, rig.field / size / _OVERSAMPLING)
    places = category.build(canvas, streams, defect)
    if defect in SURFACE_DEFECTS:
        strike(defect, canvas, places, streams.defect)

    turn = float(np.arctan2(pose.axes[0, 1], pose.axes[0, 0]))
    radiance = shade(canvas, Light.draw(streams.light, turn), pose.eye)
    azimuth = rig.projector - turn
    projector = np.array([np.cos(azimuth), np.sin(azimuth), _PROJECTOR_RISE])
    hidden = 1 - sunlit(canvas.height, canvas.texel, projector, softness=0.0)
    maps = np.concatenate([radiance, np.stack([_weakness(canvas), hidden, canvas.wrong], -1)], -1)

    seen, depth = view(canvas.height, canvas.texel, maps, camera=camera, pose=pose)
    rgb = photograph(seen[..., :3], streams.sensor)
    xyz = scan(depth, weak=seen[..., 3], hidden=seen[..., 4], camera=camera, rng=streams.sensor)
    return Shot(rgb, xyz, seen[..., 5] > 0.5)


def _weakness(canvas: Canvas) -> FloatArray:
    """Chance [h,w] to lose a scanned point, on steep and on dark surfaces."""
    up = normals(canvas.height, canvas.texel)[2]
    dark = canvas.albedo.mean(-1)
    chance: FloatArray = np.clip(1.1 - 3.0 * up, 0.0, 0.95) + np.clip(0.3 - 2.5 * dark, 0.0, 0.3)
    return chance
