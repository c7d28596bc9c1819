"""From the original image to the squares that a network sees, and back: the two sides of one transform."""

from __future__ import annotations

from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

Number = TypeVar("Number", bound=np.generic)

NAMED: dict[str, dict[str, int]] = {
    "crop": {},
    "full": {"resize": 392, "crop": 392},
    "tile": {"resize": 784, "crop": 392, "tiles": 2},
}

_ROUNDING = 1e-9  # pixels; a centre on the very edge of the crop counts, on either side


class Framing(BaseModel):
    """Squeeze the whole image into a square of `resize` pixels, then keep squares of `crop` pixels of it.

    tiles: squares along each axis, spread evenly from edge to edge; a single one is the middle. In place of its keys
    stands a name of `NAMED`: crop as INP-Former and the paper, which leaves 23 % of the image unseen; full, which
    sees all of it at once; tile, which sees all of it twice as close, in four squares, at four times the time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    resize: int = Field(default=448, gt=0, le=4096)
    crop: int = Field(default=392, gt=0, le=4096)
    tiles: int = Field(default=1, ge=1, le=8)

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, values: Any) -> Any:
        if isinstance(values, str):
            if values not in NAMED:
                raise ValueError(f"{values!r} is none of {', '.join(NAMED)}, and no table of keys")
            return NAMED[values]
        return values

    @model_validator(mode="after")
    def _crop_fits(self) -> Framing:
        if self.crop > self.resize:
            raise ValueError(f"crop ({self.crop}) must not be larger than resize ({self.resize})")
        return self

    @property
    def starts(self) -> tuple[int, ...]:
        """Where the squares begin along one axis, in pixels of the large square."""
        room = self.resize - self.crop
        if self.tiles == 1:
            return (room // 2,)
        return tuple(round(place * room / (self.tiles - 1)) for place in range(self.tiles))

    @property
    def squares(self) -> int:
        """How many squares one image becomes."""
        return self.tiles**2

    def in_patches(self, patch: int) -> Framing:
        """With the crop rounded down to whole patches (392 → 384 for patches of 16); what sees all still does."""
        crop = max(patch, self.crop // patch * patch)
        resize = self.tiles * crop if self.tiles * self.crop == self.resize else self.resize
        return self.model_copy(update={"crop": crop, "resize": resize})


def frames(image: npt.NDArray[Number], framing: Framing, *, nearest: bool = False) -> list[npt.NDArray[Number]]:
    """[H0,W0] or [H0,W0,C] -> squares [crop,crop] or [crop,crop,C] of the same dtype (bool, uint8, float32), by row.

    An axis that shrinks is averaged over areas, one that grows is interpolated; `nearest` picks pixels (masks).
    """
    large = resize(image, (framing.resize, framing.resize), nearest=nearest)
    cuts = [slice(start, start + framing.crop) for start in framing.starts]
    return [np.ascontiguousarray(large[down, right]) for down in cuts for right in cuts]


def working_size(height: int, width: int, longest: int | None) -> tuple[int, int]:
    """Height and width of an image scaled down, its shape kept, until its longer side has `longest` pixels."""
    longer = max(height, width)
    if longest is None or longer <= longest:
        return height, width
    return max(1, round(height * longest / longer)), max(1, round(width * longest / longer))


def resize(image: npt.NDArray[Number], size: tuple[int, int], *, nearest: bool = False) -> npt.NDArray[Number]:
    """[H0,W0] or [H0,W0,C] -> the same dtype at `size` (height, width), filtered as `frame` does."""
    plain: npt.NDArray[Any] = image.view(np.uint8) if image.dtype == np.bool_ else image
    done = np.ascontiguousarray(_resize_axis(_resize_axis(plain, size[0], 0, nearest), size[1], 1, nearest))
    return done.view(np.bool_) if image.dtype == np.bool_ else done


def unframe(score_maps: npt.NDArray[np.float32], framing: Framing, height: int, width: int) -> npt.NDArray[np.float32]:
    """Maps [T,crop,crop] of the squares of an image -> float32 [height,width] in it, NaN where none of them looked.

    Linear between pixel centres (align_corners False); the outermost half pixel repeats the edge. Where squares
    overlap, their mean.
    """
    wanted = (framing.squares, framing.crop, framing.crop)
    if score_maps.shape != wanted:
        raise ValueError(f"maps {list(wanted)} are expected, not {list(score_maps.shape)}")
    total = np.zeros((height, width))
    times = np.zeros((height, width))
    spans = [(_sources(framing, height, start), _sources(framing, width, start)) for start in framing.starts]
    places = [(spans[down][0], spans[right][1]) for down in range(framing.tiles) for right in range(framing.tiles)]
    for score_map, (row, column) in zip(score_maps, places, strict=True):
        inside = np.ix_(_looked(framing, row), _looked(framing, column))
        values = _interpolate(np.asarray(score_map, dtype=np.float64), row[inside[0][:, 0]], framing.crop)
        total[inside] += _interpolate(values.T, column[inside[1][0]], framing.crop).T
        times[inside] += 1
    with np.errstate(invalid="ignore"):
        return np.asarray(total / times, dtype=np.float32)


def seen(framing: Framing, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Bool [height,width]: True where the centre of an original pixel lies inside one of the squares."""
    rows = np.any([_looked(framing, _sources(framing, height, start)) for start in framing.starts], axis=0)
    columns = np.any([_looked(framing, _sources(framing, width, start)) for start in framing.starts], axis=0)
    return np.asarray(rows[:, None] & columns[None, :])


def _looked(framing: Framing, places: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Bool: places along one axis of a square that lie inside it."""
    return np.asarray((places >= -0.5 - _ROUNDING) & (places <= framing.crop - 0.5 + _ROUNDING))


def _resize_axis(image: npt.NDArray[Any], size: int, axis: int, nearest: bool) -> npt.NDArray[Any]:
    """One axis at a time: cv2 would interpolate both as soon as one of them grows."""
    old = image.shape[axis]
    if old == size:
        return image
    way = cv2.INTER_NEAREST_EXACT if nearest else cv2.INTER_AREA if old > size else cv2.INTER_LINEAR
    shape = (image.shape[1], size) if axis == 0 else (size, image.shape[0])  # cv2 wants (width, height)
    return np.asarray(cv2.resize(image, shape, interpolation=way))


def _sources(framing: Framing, size: int, start: int) -> npt.NDArray[np.float64]:
    """Where the centre of every original pixel along one axis lies in the square that begins at `start`, in pixels."""
    centres = np.arange(size, dtype=np.float64) + 0.5
    return np.asarray(centres * (framing.resize / size) - 0.5 - start, dtype=np.float64)


def _interpolate(
    values: npt.NDArray[np.float64], places: npt.NDArray[np.float64], size: int
) -> npt.NDArray[np.float64]:
    """Rows of `values` at fractional `places`."""
    inside = np.clip(places, 0, size - 1)
    low = np.minimum(inside.astype(np.intp), max(size - 2, 0))
    weight = (inside - low)[:, None]
    mixed = values[low] * (1 - weight) + values[np.minimum(low + 1, size - 1)] * weight
    return np.asarray(mixed, dtype=np.float64)
