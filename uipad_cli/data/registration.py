"""How well a colour image lies on its geometry, and by how many pixels it is off; arrays only.

Where a part ends or bends, both images mostly have an edge of the same direction, though one may rise where the other
falls. An edge is therefore a complex number: its strength, at twice the angle of its gradient. The two edge images of
many pairs are laid over each other at every shift in reach, and the one at which most edges run alike is taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from uipad_cli.records import Sample

REACH = 24  # pixels of the edge images
LEAST_PAIRS = 3

_LONGEST = 800  # pixels of the longer side; larger pairs are looked at in halves, thirds, ...
_BLUR = 1.0  # pixels
_STRONGEST = 0.99  # quantile of the gradients that counts as a full edge
_NOISE = 2.0  # times the median gradient is no edge yet
_OUTLINE = 0.5  # weight of the outline of what was measured: a sensor's shadow moves it to one side
_LEAST_MEASURED = 0.25  # share of measured pixels around a pixel whose slope is believed

_LINE, _LINE_LENGTH = 0.3, 0.1  # of a drawn line: strength of its edge, pixels as a share of the longer side

_NEAR = 5.0  # pixels around the best shift that belong to its peak
_LEAST_AGREEMENT, _LEAST_LEAD, _WIDEST = 0.12, 0.1, 1.5
_TOLERATED = 2.0  # pixels of the edge images: shading and shadows move edges by up to one
_DRAWS = 100

Floats = npt.NDArray[np.float64]
Field = npt.NDArray[np.complex64]
Mask = npt.NDArray[np.bool_]
Colour = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Edges:
    """Edges of a pair, [h,w] complex each: strength 0..1 at twice the angle of the gradient.

    step: pixels of the pair in one pixel of these images.
    """

    colour: Field
    geometry: Field
    step: int


@dataclass(frozen=True)
class Shift:
    """By how many pixels the colour image lies to the right of the geometry and below it.

    now, best: agreement of the edges as they lie and at this shift, about 0 for unrelated images and 1 for the same
    edges. lead: share of `best` that no shift further away comes near to. spread: pixels that 9 of 10 shifts stay
    within when the pairs are drawn anew. certain: False where the edges do not tell the shift, for example of flat
    or even parts and of long straight edges; the figures then mean nothing. step: pixels that were looked at as one.
    """

    right: float
    down: float
    now: float
    best: float
    lead: float
    spread: float
    pairs: int
    certain: bool
    step: int = 1

    @property
    def is_off(self) -> bool:
        """True where the colour image certainly does not lie on the geometry."""
        return self.certain and float(np.hypot(self.right, self.down)) >= _TOLERATED * self.step


def edges(sample: Sample) -> Edges:
    """Edges of the colour image, and of the height with the outline of what was measured."""
    step = min(-(-max(sample.valid.shape) // _LONGEST), *sample.valid.shape)  # something is left of a strip
    rgb, height = _shrunk(sample.rgb.astype(np.float32), step), _shrunk(sample.height, step)
    density = _shrunk(sample.valid.astype(np.float32), step)
    seen = np.ones(height.shape, dtype=np.bool_)
    light = np.sqrt(rgb)  # dark edges count as much as bright ones
    colour = _strengths([_gradient(light[..., channel]) for channel in range(3)], seen)
    around = cv2.GaussianBlur(density, (0, 0), _BLUR)
    believed = cv2.erode((around > _LEAST_MEASURED).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    geometry = _strengths([_gradient(height)], believed)
    outline = _strengths([_gradient(_solid(density > 0.5))], seen)
    return Edges(colour, (geometry + _OUTLINE * outline).astype(np.complex64), step)


def estimate_shift(pairs: Iterable[Edges], *, reach: int = REACH) -> Shift:
    """The shift that the edges of all pairs agree on, to a fraction of a pixel.

    Pairs are looked at one by one and not kept. Raises ValueError where there is none or their sizes differ.
    """
    agreements: list[Floats] = []
    shape, step = (0, 0), 1
    for pair in pairs:
        if agreements and (pair.colour.shape != shape or pair.step != step):
            raise ValueError(f"edges of {pair.colour.shape} after edges of {shape}, expected pairs of one size")
        shape, step = (pair.colour.shape[0], pair.colour.shape[1]), pair.step
        agreements.append(agreement(pair, min(reach, min(shape) // 4)))
    if not agreements:
        raise ValueError("no pair to find a shift from")
    return _judged(np.stack(agreements), step)


def agreement(pair: Edges, reach: int) -> Floats:
    """[2·reach+1, 2·reach+1]: agreement of the edges for colour that lies that much lower (rows) and further right.

    A correlation coefficient over the pixels that overlap.
    """
    one, other = pair.colour, pair.geometry
    padded = [-(-(side + reach) // 32) * 32 for side in one.shape]  # room for shifts both ways, and small factors
    spectrum = np.fft.fft2(one, padded) * np.conj(np.fft.fft2(other, padded))
    places = np.arange(-reach, reach + 1)
    common = np.fft.ifft2(spectrum).real[np.ix_(places, places)]
    energy = _overlap_energy(one, reach) * _overlap_energy(other, reach)[::-1, ::-1]
    floor = max(1e-12, 1e-9 * float(energy.max()))
    return np.where(energy > floor, common / np.sqrt(np.maximum(energy, floor)), 0)


def moved(rgb: Colour, right: float, down: float) -> Colour:
    """Colour image [H0,W0,3] moved by that many pixels; what comes in from outside is black."""
    size = (rgb.shape[1], rgb.shape[0])
    matrix = np.array([[1, 0, right], [0, 1, down]], dtype=np.float64)
    return np.asarray(cv2.warpAffine(rgb, matrix, size, flags=cv2.INTER_LINEAR), dtype=np.uint8)


def lines(found: Edges, shape: tuple[int, int]) -> Mask:
    """Bool [H0,W0]: thin lines along the stronger edges of the geometry, without specks, at the size of the pair."""
    strength = np.minimum(np.abs(found.geometry), 1).astype(np.float32)
    octant = np.rint(np.angle(found.geometry) / 2 / (np.pi / 4)).astype(np.int64) % 4
    ridge = strength > _LINE
    for place, (down, right) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):  # across an edge of that direction
        for sign in (1, -1):
            beside = np.roll(strength, (sign * down, sign * right), axis=(0, 1))
            ridge &= (octant != place) | (strength >= beside)
    _, labels, sizes, _ = cv2.connectedComponentsWithStats(ridge.astype(np.uint8), connectivity=8)
    long = sizes[:, cv2.CC_STAT_AREA] >= _LINE_LENGTH * max(ridge.shape)
    long[0] = False
    kept = long[labels].astype(np.uint8)
    return np.asarray(cv2.resize(kept, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST) > 0)


def _judged(agreements: Floats, step: int) -> Shift:
    """agreements: [pairs, rows, columns]."""
    mean = agreements.mean(axis=0)
    reach = mean.shape[0] // 2
    right, down = _peak(mean)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    far = np.hypot(columns - right, rows - down) > _NEAR
    best = float(mean.max())
    second = float(mean[far].max()) if far.any() else best
    lead = (best - second) / best if best > 0 else 0.0
    generator = np.random.default_rng(0)
    drawn = generator.integers(len(agreements), size=(_DRAWS, len(agreements)))
    peaks = np.array([_peak(agreements[some].mean(axis=0)) for some in drawn])
    spread = float(np.quantile(np.hypot(peaks[:, 0] - right, peaks[:, 1] - down), 0.9))
    certain = (
        len(agreements) >= LEAST_PAIRS
        and max(abs(right), abs(down)) < reach - 0.5  # else the best may lie further out
        and best >= _LEAST_AGREEMENT
        and lead >= _LEAST_LEAD
        and spread <= _WIDEST
    )
    now = float(mean[reach, reach])
    return Shift(step * right, step * down, now, best, lead, step * spread, len(agreements), certain, step)


def _peak(surface: Floats) -> tuple[float, float]:
    """Columns and rows from the middle to the highest place, between the pixels by a parabola through three."""
    reach = surface.shape[0] // 2
    row, column = (int(place) for place in np.unravel_index(int(surface.argmax()), surface.shape))
    right = _vertex(surface[row, max(column - 1, 0) : column + 2])
    down = _vertex(surface[max(row - 1, 0) : row + 2, column])
    return column - reach + right, row - reach + down


def _vertex(three: Floats) -> float:
    if three.size < 3:  # at the rim
        return 0.0
    bend = float(three[0] - 2 * three[1] + three[2])
    return float(three[0] - three[2]) / (2 * bend) if bend < 0 else 0.0


def _strengths(gradients: list[Field], believed: Mask) -> Field:
    """Gradients [h,w] of the channels of one image → its edges; nothing where they are not believed."""
    tensor = gradients[0] * gradients[0]
    for gradient in gradients[1:]:
        tensor += gradient * gradient
    size = np.sqrt(np.abs(tensor))
    seen = size[believed]
    full = float(np.quantile(seen, _STRONGEST)) if seen.size else 0.0
    if full <= 0:
        full = float(seen.max(initial=0.0)) or 1.0
    noise = min(float(np.median(seen)) / full, 1.0) if seen.size else 0.0
    strength = np.where(believed, np.maximum(np.minimum(size / full, 1) - _NOISE * noise, 0), 0)
    unit = tensor / np.maximum(size * size, np.finfo(np.float32).tiny)
    return np.asarray(strength * unit, dtype=np.complex64)


def _gradient(image: npt.NDArray[np.floating]) -> Field:
    """Rise per pixel to the right, and downwards as the imaginary part, [h,w]."""
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), _BLUR)
    down, right = (np.gradient(smooth, axis=axis) if side > 1 else 0 * smooth for axis, side in enumerate(smooth.shape))
    return np.asarray(right + 1j * down, dtype=np.complex64)


def _solid(there: Mask) -> Floats:
    """Measured 1, missing 0, without lone pixels of either."""
    return cv2.medianBlur(there.astype(np.uint8), 5).astype(np.float64)


def _shrunk(image: npt.NDArray[np.float32], step: int) -> npt.NDArray[np.float32]:
    """Every step x step pixels as their mean; what is left over at the right and the bottom is dropped."""
    if step == 1:
        return image
    height, width = image.shape[0] // step, image.shape[1] // step
    cut = image[: height * step, : width * step]
    return np.asarray(cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA), dtype=np.float32)


def _overlap_energy(field: Field, reach: int) -> Floats:
    """[2·reach+1, 2·reach+1]: energy of a field inside the frame once it is moved up (rows) and left by that much."""
    height, width = field.shape
    total = np.zeros((height + 1, width + 1))
    total[1:, 1:] = (np.abs(field).astype(np.float64) ** 2).cumsum(axis=0).cumsum(axis=1)
    shift = np.arange(-reach, reach + 1)
    top, bottom = np.maximum(shift, 0), height + np.minimum(shift, 0)
    left, right = np.maximum(shift, 0), width + np.minimum(shift, 0)
    return np.asarray(
        total[np.ix_(bottom, right)]
        - total[np.ix_(top, right)]
        - total[np.ix_(bottom, left)]
        + total[np.ix_(top, left)]
    )
