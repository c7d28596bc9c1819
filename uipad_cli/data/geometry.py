"""Organised points → height above the background; arrays only, the same code serves prepare, train and infer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from uipad_cli.data.holes import fill_holes
from uipad_cli.data.plane import border, fit_plane, height_above
from uipad_cli.data.sensor import Sensor
from uipad_cli.errors import DataError

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

FOREGROUND_NOISES = 5.0  # a pixel this many times the plane noise above the plane belongs to the part
_LEAST_FOREGROUND = 0.01  # share of the measured pixels; below it, the plane is the part itself
_LEAST_SOLID = 5e-4  # share of them that a small part covers with its inner pixels
_APART = 16  # pixels between points that are measured: from one pixel to the next, noise adds a tenth to the way
_LINES = 64  # rows, and columns, along which that is done
_SCALE_SAMPLES = 20_000  # heights that one part gives to the scale


class Preparation(BaseModel):
    """How geometry becomes height.

    plane: what is taken as height 0: a plane through the image border, the same found by open3d as peer methods do,
    or none (height = -z). sensor: what its numbers mean. light: the colour image to take where there are several.
    longest: pixels; pairs whose longer side is longer are scaled down to it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    plane: Literal["border", "open3d", "none"] = "border"
    sensor: Sensor = Sensor()
    light: str | None = None
    longest: int | None = Field(default=None, ge=64)
    seed: int = Field(default=0, ge=0, lt=2**31)


class HeightScale(BaseModel):
    """The heights in metres that become 0 and 1 in a batch, learned from the training parts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> HeightScale:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be less than high ({self.high})")
        return self


@dataclass(frozen=True)
class GeometryFacts:
    """What a person wants to know about one scan; shares of all pixels, heights over measured pixels in metres.

    Tilt is the angle between plane and image plane; noise the robust distance of border points from the plane.
    Both are 0 where no plane is fitted. Pitch is 0 where nothing tells it.
    """

    missing_share: float
    plane_tilt_degrees: float
    plane_noise_m: float
    foreground_share: float
    height_min: float
    height_max: float
    pitch_m: float


@dataclass(frozen=True)
class Prepared:
    """height [H0,W0] float32 metres, finite everywhere; valid [H0,W0] bool, True where measured."""

    height: Floats
    valid: Mask
    facts: GeometryFacts


def measured(xyz: Floats) -> Mask:
    """Bool [H0,W0]: True where a point [H0,W0,3] is finite and lies in front of the camera."""
    return np.asarray(np.isfinite(xyz).all(axis=-1) & (xyz[..., 2] > 0))


def prepare_geometry(xyz: Floats, preparation: Preparation) -> Prepared:
    """Points [H0,W0,3] -> height above the background, holes filled.

    Raises DataError where nothing is measured or no plane can be fitted, ResourceError where open3d is missing.
    """
    valid = measured(xyz)
    if not valid.any():
        raise DataError("every point is missing", "scan the part again")
    tilt = noise = 0.0
    if preparation.plane == "none":
        raw = np.where(valid, -xyz[..., 2], 0).astype(np.float32)
    else:
        plane = fit_plane(xyz, valid, seed=preparation.seed, way=preparation.plane)
        raw, tilt, noise = height_above(plane, xyz, valid), plane.tilt_degrees, plane.noise
    height = fill_holes(raw, valid)
    facts = GeometryFacts(
        missing_share=float(1 - valid.mean()),
        plane_tilt_degrees=tilt,
        plane_noise_m=noise,
        foreground_share=float(foreground(height, valid, preparation).mean()),
        height_min=float(raw[valid].min()),
        height_max=float(raw[valid].max()),
        pitch_m=pitch(xyz, valid),
    )
    return Prepared(height, valid, facts)


def pitch(xyz: Floats, valid: Mask) -> float:
    """Metres from pixel to pixel of measured points [H0,W0,3], in rows and columns alike; 0 where there are too few."""
    return sqrt(_spacing(xyz, valid) * _spacing(xyz.swapaxes(0, 1), valid.T))


def _spacing(points: Floats, valid: Mask) -> float:
    """Median distance in metres of points that are neighbours in a row, by those some pixels apart; 0 for too few."""
    apart = max(1, min(_APART, points.shape[1] // 8))
    every = -(-len(points) // _LINES)
    points, valid = points[::every], valid[::every]
    both = valid[:, apart:] & valid[:, :-apart]
    steps = (points[:, apart:] - points[:, :-apart])[both].astype(np.float64)
    return float(np.median(np.sqrt((steps**2).sum(axis=1)))) / apart if len(steps) else 0.0


def normals(xyz: Floats, valid: Mask) -> Floats:
    """Unit normals [H0,W0,3] float32 of measured points [H0,W0,3], facing the sensor at the origin.

    From the two neighbours in the row and in the column; (0,0,0) where one of the four was not measured.
    """
    found = np.zeros_like(xyz, dtype=np.float32)
    points = xyz.astype(np.float64)
    across = points[1:-1, 2:] - points[1:-1, :-2]
    down = points[2:, 1:-1] - points[:-2, 1:-1]
    normal = np.cross(down, across)
    normal *= -np.sign((normal * points[1:-1, 1:-1]).sum(axis=-1, keepdims=True))  # to the side of the sensor
    length = np.sqrt((normal**2).sum(axis=-1))
    there = valid[1:-1, 2:] & valid[1:-1, :-2] & valid[2:, 1:-1] & valid[:-2, 1:-1] & valid[1:-1, 1:-1] & (length > 0)
    found[1:-1, 1:-1][there] = normal[there] / length[there, None]
    return found


def foreground(height: Floats, valid: Mask, preparation: Preparation) -> Mask:
    """Bool [H0,W0]: measured pixels that belong to the part.

    They lie clearly above the plane, by the noise of the border strip. Without a plane, or where next to nothing
    rises above it but single pixels (a flat part that fills the image), every measured pixel counts.
    """
    if preparation.plane == "none":
        return valid
    rim = np.abs(height[border(*height.shape) & valid])
    noise = 1.4826 * float(np.median(rim)) if rim.size else 0.0
    part = valid & (height > FOREGROUND_NOISES * noise)
    if part.sum() > _LEAST_FOREGROUND * valid.sum():
        return part
    solid = cv2.erode(part.astype(np.uint8), np.ones((3, 3), np.uint8))  # a small part on a large table is one piece
    return part if solid.sum() > _LEAST_SOLID * valid.sum() else valid


def height_scale(samples: Iterable[Floats]) -> HeightScale:
    """1 % and 99 % of the foreground heights of the training parts; one 1-D array of metres per part.

    Raises DataError where there is no height or all heights are equal.
    """
    taken = [heights[:: -(-heights.size // _SCALE_SAMPLES)] for heights in samples if heights.size]
    if not taken:
        raise DataError("no foreground height to scale by", "check the xyz files, or try --plane none")
    low, high = np.quantile(np.concatenate(taken).astype(np.float64), (0.01, 0.99))
    if not low < high:
        raise DataError(
            f"the geometry of the training parts is flat: every height is {low:.6g} m",
            "check that the xyz or depth files hold real measurements",
        )
    return HeightScale(low=float(low), high=float(high))


def scale_height(height: Floats, scale: HeightScale) -> Floats:
    """Metres -> about 0..1 on the part, clipped to -0.5..1.5; any shape, float32."""
    scaled = (height - np.float32(scale.low)) / np.float32(scale.high - scale.low)
    return np.asarray(np.clip(scaled, -0.5, 1.5), dtype=np.float32)
