"""From the original image to the square that a network sees, and back: the two sides of one transform."""

from __future__ import annotations

from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

Number = TypeVar("Number", bound=np.generic)

_ROUNDING = 1e-9  # pixels; a centre on the very edge of the crop counts, on either side


class Framing(BaseModel):
    """Squeeze the whole image into a square of `resize` pixels, then keep its central `crop` pixels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    resize: int = Field(default=448, gt=0, le=4096)
    crop: int = Field(default=392, gt=0, le=4096)

    @model_validator(mode="after")
    def _crop_fits(self) -> Framing:
        if self.crop > self.resize:
            raise ValueError(f"crop ({self.crop}) must not be larger than resize ({self.resize})")
        return self

    @property
    def margin(self) -> int:
        """Pixels cut off at the top and at the left of the square."""
        return (self.resize - self.crop) // 2


def frame(image: npt.NDArray[Number], framing: Framing, *, nearest: bool = False) -> npt.NDArray[Number]:
    """[H0,W0] or [H0,W0,C] -> [crop,crop] or [crop,crop,C] of the same dtype (bool, uint8 or float32).

    An axis that shrinks is averaged over areas, one that grows is interpolated; `nearest` picks pixels (masks).
    """
    plain: npt.NDArray[Any] = image.view(np.uint8) if image.dtype == np.bool_ else image
    square = _resize_axis(_resize_axis(plain, framing.resize, 0, nearest), framing.resize, 1, nearest)
    cut = slice(framing.margin, framing.margin + framing.crop)
    framed = np.ascontiguousarray(square[cut, cut])
    return framed.view(np.bool_) if image.dtype == np.bool_ else framed


def unframe(score_map: npt.NDArray[np.float32], framing: Framing, height: int, width: int) -> npt.NDArray[np.float32]:
    """[crop,crop] -> float32 [height,width] in the original image, NaN where the crop never looked.

    Linear between pixel centres (align_corners False); the outermost half pixel repeats the edge.
    """
    if score_map.shape != (framing.crop, framing.crop):
        raise ValueError(f"a map [{framing.crop},{framing.crop}] is expected, not {list(score_map.shape)}")
    row, column = _sources(framing, height), _sources(framing, width)
    values = _interpolate(np.asarray(score_map, dtype=np.float64), row, framing.crop)
    values = _interpolate(values.T, column, framing.crop).T
    values[~seen(framing, height, width)] = np.nan
    return np.ascontiguousarray(values, dtype=np.float32)


def seen(framing: Framing, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Bool [height,width]: True where the centre of an original pixel lies inside the crop."""
    row, column = _sources(framing, height), _sources(framing, width)
    low, high = -0.5 - _ROUNDING, framing.crop - 0.5 + _ROUNDING
    return ((row >= low) & (row <= high))[:, None] & ((column >= low) & (column <= high))[None, :]


def _resize_axis(image: npt.NDArray[Any], size: int, axis: int, nearest: bool) -> npt.NDArray[Any]:
    """One axis at a time: cv2 would interpolate both as soon as one of them grows."""
    old = image.shape[axis]
    if old == size:
        return image
    way = cv2.INTER_NEAREST_EXACT if nearest else cv2.INTER_AREA if old > size else cv2.INTER_LINEAR
    shape = (image.shape[1], size) if axis == 0 else (size, image.shape[0])  # cv2 wants (width, height)
    return np.asarray(cv2.resize(image, shape, interpolation=way))


def _sources(framing: Framing, size: int) -> npt.NDArray[np.float64]:
    """Where the centre of every original pixel along one axis lies in the crop, in pixels."""
    centres = np.arange(size, dtype=np.float64) + 0.5
    return np.asarray(centres * (framing.resize / size) - 0.5 - framing.margin, dtype=np.float64)


def _interpolate(
    values: npt.NDArray[np.float64], places: npt.NDArray[np.float64], size: int
) -> npt.NDArray[np.float64]:
    """Rows of `values` at fractional `places`."""
    inside = np.clip(places, 0, size - 1)
    low = np.minimum(inside.astype(np.intp), max(size - 2, 0))
    weight = (inside - low)[:, None]
    mixed = values[low] * (1 - weight) + values[np.minimum(low + 1, size - 1)] * weight
    return np.asarray(mixed, dtype=np.float64)
