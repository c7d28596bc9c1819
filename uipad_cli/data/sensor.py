"""What has to be known of a sensor to turn the numbers of its files into metres; found by looking, or told."""

from __future__ import annotations

from math import isfinite, nan
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from uipad_cli.errors import UsageError

Encoding = Literal["linear", "rotated", "disparity"]
Axis = Literal["away", "toward", "up"]

_UNITS = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "um": 1e-6}
_ENCODINGS: dict[str, Encoding] = {"kinect": "disparity", "sun": "rotated"}


class Intrinsics(BaseModel):
    """A pinhole camera in pixels: focal lengths and the point on its axis; None takes the middle of the image."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fx: float = Field(gt=0, allow_inf_nan=False)
    fy: float = Field(gt=0, allow_inf_nan=False)
    cx: float | None = Field(default=None, allow_inf_nan=False)
    cy: float | None = Field(default=None, allow_inf_nan=False)

    def centre(self, height: int, width: int) -> tuple[float, float]:
        """(cx, cy) in an image of that size."""
        return (width - 1) / 2 if self.cx is None else self.cx, (height - 1) / 2 if self.cy is None else self.cy


class Sensor(BaseModel):
    """How the numbers of a geometry file become metres in front of a camera.

    unit: metres per count of whole numbers; float_unit: metres per 1.0 of floating point numbers. missing: numbers
    that stand for no measurement, beside everything that is not finite. encoding of 16-bit depth images: linear,
    rotated (SUN RGB-D: millimetres whose bits are rotated by three), disparity (the raw numbers of the first Kinect,
    as in NYU Depth). swapped: the bytes of every number lie in the other order than the file says. axis: z grows
    away from the sensor; toward it, from below zero (OpenGL, y up); or up from anywhere (height maps). camera: of
    depth images and unorganised points, None = a focal length of the longer side, which keeps planes planes but makes
    tilt approximate. pitch: metres from pixel to pixel of a height map and of points of which only z may be trusted.
    only_z: in none of its files anything else may be.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    unit: float = Field(default=0.001, gt=0, allow_inf_nan=False)
    float_unit: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    missing: tuple[float, ...] = (0.0,)
    encoding: Encoding = "linear"
    swapped: bool = False
    axis: Axis = "away"
    camera: Intrinsics | None = None
    pitch: float = Field(default=1e-4, gt=0, allow_inf_nan=False)
    only_z: bool = False


def parse_unit(text: str) -> dict[str, object]:
    """What `--unit` says, as fields of `Sensor`: auto, m, cm, mm, um, a number of metres, 1/5000, kinect, or sun.

    Raises UsageError.
    """
    told = text.strip().lower()
    if told == "auto":
        return {}
    if told in _ENCODINGS:
        return {"encoding": _ENCODINGS[told]}
    number, _, divisor = told.partition("/")
    try:
        metres = _UNITS[told] if told in _UNITS else float(number) / float(divisor or 1)
    except (ValueError, ZeroDivisionError):
        metres = 0.0
    if not 1e-9 <= metres <= 1000:
        raise UsageError(
            f"--unit {text}: neither a unit nor the metres of one count",
            f"one of auto, {', '.join((*_UNITS, *_ENCODINGS))}, or a number such as 0.00025 or 1/5000",
        )
    return {"unit": metres, "float_unit": metres, "encoding": "linear"}


def parse_missing(text: str) -> dict[str, object]:
    """What `--missing` says: auto, nan (nothing but what is not finite), or numbers such as 0 or 0,65535.

    Raises UsageError.
    """
    told = text.strip().lower()
    if told == "auto":
        return {}
    if told in ("nan", "inf", "none"):
        return {"missing": ()}
    try:
        numbers = tuple(float(part) for part in told.split(","))
    except ValueError:
        numbers = (nan,)
    if not all(isfinite(number) for number in numbers):
        raise UsageError(f"--missing {text}: not a number", "auto, nan, or the numbers of missing pixels: 0,65535")
    return {"missing": numbers}
