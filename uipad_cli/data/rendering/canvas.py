"""The board a rendered part is built on: relief and material over a plane grid, in the frame of the part.

Lengths are metres; x runs right and y down along the grid, heights grow towards the camera. A signed distance is
negative inside an outline.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
Colour = tuple[float, float, float]
MILLIMETRE = 1e-3


@dataclass(frozen=True)
class Place:
    """A disc of undisturbed surface, where a surface defect may lie: centre and radius in metres."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Streams:
    """Independent random streams of one scene; all but `defect` are shared by a damaged part and its good twin."""

    design: np.random.Generator
    surface: np.random.Generator
    pose: np.random.Generator
    light: np.random.Generator
    sensor: np.random.Generator
    defect: np.random.Generator

    @classmethod
    def of(cls, seed: int, category: str, defect: str) -> Streams:
        """Streams that depend on these three values alone."""
        keys = [seed, stable_key(category)]
        design, surface, pose, light, sensor = (np.random.default_rng([*keys, part]) for part in range(5))
        return cls(design, surface, pose, light, sensor, np.random.default_rng([*keys, 5, stable_key(defect)]))


def stable_key(name: str) -> int:
    """The same 32-bit integer for a name on every machine and in every process."""
    return zlib.crc32(name.encode())


@dataclass(frozen=True)
class Canvas:
    """Maps over the plane grid, drawn on in place; a crop shares memory with its canvas.

    x [1,w], y [h,1] metres; height [h,w] metres above the plane; fine [h,w] metres, relief too small for the scanner
    that only the light sees; albedo [h,w,3] linear 0..1; gloss, metal [h,w] 0..1; lay [h,w,2], direction of tool
    marks, longer where they are stronger; wrong [h,w] 0..1, the footprint of an element that does not belong.
    """

    texel: float
    x: FloatArray
    y: FloatArray
    height: FloatArray
    fine: FloatArray
    albedo: FloatArray
    gloss: FloatArray
    metal: FloatArray
    lay: FloatArray
    wrong: FloatArray

    @classmethod
    def blank(cls, reach: float, texel: float) -> Canvas:
        """A flat black square from -reach to reach."""
        half = int(np.ceil(reach / texel))
        axis = (np.arange(-half, half + 1) * texel).astype(np.float32)
        shape = (axis.size, axis.size)
        maps = [np.zeros(shape, np.float32) for _ in range(5)]
        height, fine, gloss, metal, wrong = maps
        albedo, lay = np.zeros((*shape, 3), np.float32), np.zeros((*shape, 2), np.float32)
        return cls(texel, axis[None, :], axis[:, None], height, fine, albedo, gloss, metal, lay, wrong)

    def crop(self, x: float, y: float, reach: float) -> Canvas:
        """The square of half-width `reach` around (x, y), which becomes the origin of the crop."""
        columns, rows = self._span(self.x[0], x, reach), self._span(self.y[:, 0], y, reach)
        part = (rows, columns)
        return Canvas(
            self.texel,
            self.x[:, columns] - np.float32(x),
            self.y[rows] - np.float32(y),
            self.height[part],
            self.fine[part],
            self.albedo[part],
            self.gloss[part],
            self.metal[part],
            self.lay[part],
            self.wrong[part],
        )

    def cover(self, distance: FloatArray) -> FloatArray:
        """Share of each grid cell inside an outline, from its signed distance."""
        share: FloatArray = np.clip(0.5 - distance / self.texel, 0.0, 1.0)
        return share

    def add(self, distance: FloatArray, height: float, *, edge: float = 0.0) -> None:
        """Put a slab with a rounded edge on the surface; a negative height cuts a pocket instead."""
        rise = self.cover(distance)
        if edge > 0.0:
            inset = np.clip(-distance / edge, 0.0, 1.0)
            rounded = np.sqrt(np.clip(1.0 - (1.0 - inset) ** 2, 0.0, 1.0))
            share = min(1.0, edge / abs(height))
            rise = rise * (1.0 - share) + rounded * share
        self.height[...] += rise * np.float32(height)

    def level(self, distance: FloatArray, height: float) -> None:
        """Set everything inside an outline to one height."""
        self.height[...] += self.cover(distance) * (np.float32(height) - self.height)

    def paint(
        self, cover: FloatArray, colour: Colour | FloatArray, *, gloss: float | None = None, metal: float | None = None
    ) -> None:
        """Blend a material over the surface, by `cover` [h,w] 0..1."""
        target = np.asarray(colour, np.float32)
        self.albedo[...] += cover[..., None] * (target - self.albedo)
        if gloss is not None:
            self.gloss[...] += cover * (np.float32(gloss) - self.gloss)
        if metal is not None:
            self.metal[...] += cover * (np.float32(metal) - self.metal)

    def texture(self, rng: np.random.Generator, across: float, down: float | None = None) -> FloatArray:
        """Smooth noise [h,w] of about unit variance with features of `across` x `down` metres."""
        cells = (max(1.0, (down or across) / self.texel), max(1.0, across / self.texel))
        return smooth_noise(rng, (self.y.size, self.x.size), cells)

    def _span(self, axis: FloatArray, centre: float, reach: float) -> slice:
        first = int(np.floor((centre - reach - float(axis[0])) / self.texel))
        last = int(np.ceil((centre + reach - float(axis[0])) / self.texel)) + 1
        first = min(max(first, 0), axis.size - 1)
        return slice(first, max(min(last, axis.size), first + 1))


def pick_swap(kinds: npt.NDArray[np.bool_], rng: np.random.Generator) -> int:
    """An element of the more frequent kind: were it of the other kind, both kinds would still occur."""
    common = 2 * int(kinds.sum()) >= kinds.size
    return int(rng.choice(np.flatnonzero(kinds == common)))


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[float, float]) -> FloatArray:
    """Cubic B-spline noise [h,w] float32, mean 0, variance about 1, one knot per `cells` pixels (down, across)."""
    down, across = _spline(shape[0], cells[0]), _spline(shape[1], cells[1])
    knots = rng.standard_normal((down.shape[1], across.shape[1]), dtype=np.float32)
    spread = np.sqrt(np.mean(np.sum(down**2, 1)) * np.mean(np.sum(across**2, 1)))
    noise: FloatArray = down @ knots @ across.T / np.float32(spread)
    return noise


def _spline(count: int, cell: float) -> FloatArray:
    """Interpolation matrix [count, knots] of a uniform cubic B-spline."""
    place = np.arange(count, dtype=np.float32) / np.float32(cell)
    first = place.astype(np.int64)
    t = place - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], 1) / 6
    matrix = np.zeros((count, int(first[-1]) + 4), np.float32)
    np.put_along_axis(matrix, first[:, None] + np.arange(4), weights.astype(np.float32), 1)
    return matrix
