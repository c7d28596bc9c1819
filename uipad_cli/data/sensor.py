"""What has to be known of a sensor to turn the numbers of its files into metres; found by looking, or told."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Encoding = Literal["linear", "rotated", "disparity"]
Axis = Literal["away", "up"]


class Intrinsics(BaseModel):
    """A pinhole camera in pixels: focal lengths and the point on its axis; None takes the middle of the image."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fx: float = Field(gt=0, allow_inf_nan=False)
    fy: float = Field(gt=0, allow_inf_nan=False)
    cx: float | None = Field(default=None, allow_inf_nan=False)
    cy: float | None = Field(default=None, allow_inf_nan=False)


class Sensor(BaseModel):
    """How the numbers of a geometry file become metres in front of a camera.

    unit: metres per count of whole numbers; float_unit: metres per 1.0 of floating point numbers. missing: numbers
    that stand for no measurement, beside everything that is not finite. encoding of 16-bit depth images: linear,
    rotated (SUN RGB-D: millimetres whose bits are rotated by three), disparity (the raw numbers of the first Kinect,
    as in NYU Depth). swapped: the bytes of every number lie in the other order than the file says. axis: z grows
    away from the sensor, or up toward it (height maps). camera: of depth images and unorganised points, None = a
    focal length of the longer side, which keeps planes planes but makes tilt approximate. pitch: metres from pixel to
    pixel of a height map and of points of which only z may be trusted.
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
