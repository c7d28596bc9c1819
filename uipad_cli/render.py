"""Pictures for people: heat map, overlay, relief, outline, contact sheet. Arrays in, uint8 RGB arrays out.

A heat map has fixed ends per category, (low, high) as good parts cover them: low is drawn dark blue and high at
40 % of the colours, so that good parts look quiet and the warm colours are left to what good parts never show. In units
of that range, 0 is usual and 1 the upper end of good parts; the colours end at 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
Mask = NDArray[np.bool_]

GOOD_SHARE = 0.4  # where the high end of good parts sits on the colour scale
TOP_UNIT = 2.0  # where the colours end, in units of what good parts show
MAGENTA = (255, 0, 200)  # in neither the photographs of parts nor the heat colours
WHITE = (255, 255, 255)

_SHOW = (0.25, 0.8)  # share of the scale where the overlay begins to show, and where it is at its strongest
_STRONGEST = 0.75
_UNSEEN = np.array((118, 118, 118), np.uint8), np.array((138, 138, 138), np.uint8)
_MISSING = np.array((206, 214, 226), np.uint8)
_PALE, _INK, _SOFT_INK = (244, 245, 247), (30, 34, 40), (90, 96, 106)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GAP, _LINE = 8, 22


@dataclass(frozen=True)
class Panel:
    """One tile of a contact sheet: image [H,W,3] uint8, or None for a blank tile, and the line below it."""

    image: Rgb | None
    caption: str = ""


@dataclass(frozen=True)
class Inspection:
    """One inspected part at its original size.

    rgb [H0,W0,3] uint8; height [H0,W0] float; valid [H0,W0] bool, where height was measured; map [H0,W0] float, NaN
    where never seen; mask [H0,W0] bool, the true defect, or None where nobody marked it.
    """

    rgb: Rgb
    height: NDArray[np.floating]
    valid: Mask
    map: NDArray[np.floating]
    mask: Mask | None = None
    found: Mask | None = None


SIDE_BY_SIDE_TITLES = ("photo", "relief", "true defect", "heat map", "on the relief")


def colorize(map_: NDArray[np.floating], low: float, high: float) -> Rgb:
    """Anomaly map [H,W] -> colours [H,W,3]: turbo from `low` up, `high` at 40 % of it; NaN is hatched in grey.

    Raises ValueError for another shape, infinite values, and where low < high does not hold.
    """
    share = _share_of_scale(map_, low, high)
    unseen = np.isnan(share)
    level = np.rint(255 * np.where(unseen, 0, share)).astype(np.uint8)
    colours = np.asarray(cv2.applyColorMap(level, cv2.COLORMAP_TURBO)[..., ::-1], dtype=np.uint8)
    return np.where(unseen[..., None], _hatch(level.shape), colours)


def overlay(rgb: Rgb, map_: NDArray[np.floating], low: float, high: float) -> Rgb:
    """Photo [H,W,3] under the heat map [H,W]: a quiet place shows the photo itself, a loud one its colour.

    Raises ValueError as `colorize` does, and for a photo of another size.
    """
    _check_rgb(rgb)
    _check_shape("map", map_, rgb.shape[:2])
    share = _share_of_scale(map_, low, high)
    begin, full = _SHOW
    ramp = np.clip((share - begin) / (full - begin), 0, 1)
    alpha = _STRONGEST * ramp * ramp * (3 - 2 * ramp)  # smooth at both ends
    alpha = np.where(np.isnan(share), 0.5, alpha)[..., None]
    return _to_uint8((1 - alpha) * rgb + alpha * colorize(map_, low, high))


def shade_height(height: NDArray[np.floating], valid: Mask) -> Rgb:
    """Relief of a height map [H,W], lit from the upper left, higher = lighter; unmeasured pixels are pale blue.

    Slopes and heights are scaled by their own spread, so that any unit will do.
    Raises ValueError for shapes that differ and heights that are valid but not finite.
    """
    _check_shape("valid", valid, height.shape)
    if height.ndim != 2 or height.size == 0 or valid.dtype != np.bool_:
        raise ValueError(f"expected height [H,W] and a bool mask, got {height.shape} and {valid.dtype}")
    if not np.isfinite(height[valid]).all():
        raise ValueError("height is not finite at a valid pixel")
    if not valid.any():
        return np.full((*height.shape, 3), _MISSING, np.uint8)
    above = np.where(valid, height, 0).astype(np.float64)
    bottom, top = np.quantile(above[valid], (0.01, 0.99))
    spread = max(float(top - bottom), float(np.finfo(np.float32).tiny))
    level, density = _smoothed(np.where(valid, (above - bottom) / spread, 0).clip(-1, 2), valid)
    grey = 255 * (0.08 + 0.55 * _hillshade(level, density) + 0.3 * level.clip(0, 1))
    # A lone missing pixel is filled from around it and only tinted, a hole is flat: noise stays calm, holes stand out.
    known = np.where(valid, 1, (1.6 * density).clip(0, 0.9))[..., None]
    return _to_uint8(known * grey[..., None] + (1 - known) * _MISSING)


def outline(image: Rgb, mask: Mask, color: tuple[int, int, int] = MAGENTA) -> Rgb:
    """Copy of image [H,W,3] with the contours of mask [H,W] bool drawn, thick enough to survive shrinking to a tile.

    Raises ValueError for another shape or type.
    """
    _check_rgb(image)
    _check_shape("mask", mask, image.shape[:2])
    if mask.dtype != np.bool_:
        raise ValueError(f"expected a bool mask, got {mask.dtype}")
    drawn = image.copy()
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, contours, -1, color, max(1, round(max(mask.shape) / 200)), cv2.LINE_AA)
    return drawn


def side_by_side(part: Inspection, caption: str, verdict: str = "", *, low: float, high: float) -> list[Panel]:
    """Row of five panels, titled by `SIDE_BY_SIDE_TITLES`; the third is blank where no mask is known.

    Both heat maps carry the contour of what was `found`, and the first of them the verdict.
    Raises ValueError where the arrays of `part` differ in size.
    """
    truth = None if part.mask is None else outline(part.rgb, part.mask)
    said = "not marked" if part.mask is None else ("" if part.mask.any() else "none")
    relief = shade_height(part.height, part.valid)
    heats = [overlay(image, part.map, low, high) for image in (part.rgb, relief)]
    on_photo, on_relief = heats if part.found is None else [outline(heat, part.found, WHITE) for heat in heats]
    return [
        Panel(part.rgb, caption),
        Panel(relief),
        Panel(truth, said),
        Panel(on_photo, verdict),
        Panel(on_relief),
    ]


def colour_bar(width: int) -> Rgb:
    """Legend [H,width,3] of the fixed colours, in calibrated units: 0 usual on good parts, 1 their upper end."""
    height, pad = 14, 10
    bar = np.full((height + 2 * pad + _LINE, width, 3), 255, np.uint8)
    units = np.linspace(0, TOP_UNIT, max(2, width - 2 * pad))
    bar[pad : pad + height, pad : width - pad] = colorize(np.repeat(units[None], height, axis=0), 0, 1)
    for value, text in ((0, "0 usual"), (1, "1 upper end of good parts"), (TOP_UNIT, f"{TOP_UNIT:g}")):
        x = pad + round((width - 2 * pad - 1) * value / TOP_UNIT)
        cv2.line(bar, (x, pad + height), (x, pad + height + 4), _INK, 1)
        _write(bar, text, (min(x, width - 4 * pad), pad + height + 18), width, _SOFT_INK)
    return bar


def contact_sheet(rows: Sequence[Sequence[Panel]], titles: Sequence[str], tile: int = 200) -> Rgb:
    """White sheet [H,W,3] with one row of tiles per entry, `titles` above the columns and captions below the tiles.

    Images keep their aspect and fit into squares of `tile` pixels. Text outside ASCII becomes "?".
    Raises ValueError for a row whose length differs from the titles, and for a tile below 16 pixels.
    """
    if tile < 16:
        raise ValueError(f"a tile of {tile} pixels is too small to show, expected at least 16")
    for index, row in enumerate(rows):
        if len(row) != len(titles):
            raise ValueError(f"row {index} has {len(row)} panels for {len(titles)} titles")
    step_x, step_y = tile + _GAP, tile + _LINE + _GAP
    sheet = np.full((_LINE + _GAP + step_y * len(rows), _GAP + step_x * len(titles), 3), 255, np.uint8)
    for column, title in enumerate(titles):
        _write(sheet, title, (_GAP + column * step_x, _LINE), tile, _INK)
    for index, row in enumerate(rows):
        top = _LINE + _GAP + index * step_y
        for column, panel in enumerate(row):
            left = _GAP + column * step_x
            sheet[top : top + tile, left : left + tile] = _fit(panel.image, tile)
            _write(sheet, panel.caption, (left, top + tile + 16), tile, _SOFT_INK)
    return sheet


def _share_of_scale(map_: NDArray[np.floating], low: float, high: float) -> NDArray[np.float64]:
    """Place on the colour scale, 0..1, NaN where unseen."""
    if map_.ndim != 2 or map_.size == 0:
        raise ValueError(f"expected a map [H,W], got {map_.shape}")
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(f"expected a range low < high, got {low} and {high}")
    if np.isinf(map_).any():
        raise ValueError("the map holds infinite values")
    units = (map_.astype(np.float64) - low) / (high - low)
    share: NDArray[np.float64] = np.interp(units, (0, 1, TOP_UNIT), (0, GOOD_SHARE, 1))
    return np.where(np.isnan(units), np.nan, share)


def _hatch(shape: tuple[int, ...]) -> Rgb:
    rows, columns = np.indices(shape)
    return np.where(((rows + columns) % 8 < 2)[..., None], _UNSEEN[1], _UNSEEN[0])


def _smoothed(level: NDArray[np.floating], valid: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean of the measured levels around each pixel, and the share 0..1 of pixels measured there."""
    density = cv2.GaussianBlur(valid.astype(np.float64), (0, 0), 1.2)
    total = cv2.GaussianBlur(level.astype(np.float64), (0, 0), 1.2)
    mean = np.divide(total, density, out=np.zeros_like(total), where=density > 1e-3)
    return mean, np.asarray(density, dtype=np.float64)


def _hillshade(level: NDArray[np.float64], density: NDArray[np.float64]) -> NDArray[np.float64]:
    """Brightness 0..1 of a surface lit from the upper left; its slopes fade out towards holes."""
    slope_y, slope_x = np.gradient(level) if min(level.shape) > 1 else (np.zeros_like(level),) * 2
    trust = np.clip(2 * density - 1, 0, 1)
    steepness = np.hypot(slope_x, slope_y)[trust > 0]
    typical = float(np.quantile(steepness, 0.9)) if steepness.size else 0.0
    scale = trust / max(typical, 1e-6)
    x, y = -slope_x * scale, -slope_y * scale
    toward_light = (1.4 - x - y) / np.sqrt(2 + 1.4**2)
    shade: NDArray[np.float64] = np.clip(toward_light / np.sqrt(x * x + y * y + 1), 0, 1)
    return shade


def _fit(image: Rgb | None, tile: int) -> Rgb:
    """Square tile with the image in its middle, or a pale one."""
    square = np.full((tile, tile, 3), _PALE, np.uint8)
    if image is None:
        return square
    _check_rgb(image)
    height, width = image.shape[:2]
    scale = tile / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    shrunk = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (tile - size[1]) // 2, (tile - size[0]) // 2
    square[top : top + size[1], left : left + size[0]] = shrunk
    return square


def _write(sheet: Rgb, text: str, origin: tuple[int, int], width: int, color: tuple[int, int, int]) -> None:
    """One line of small text with its base line at origin (x, y), cut with dots where it is wider than `width`."""
    text = text.encode("ascii", "replace").decode()
    scale = 0.42
    shown = text
    while shown and cv2.getTextSize(shown, _FONT, scale, 1)[0][0] > width:
        text = text[:-1]
        shown = f"{text}..." if text else ""
    cv2.putText(sheet, shown, origin, _FONT, scale, color, 1, cv2.LINE_AA)


def _to_uint8(values: NDArray[np.float64]) -> Rgb:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def _check_rgb(image: Rgb) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"expected an image [H,W,3] uint8, got {image.shape} {image.dtype}")


def _check_shape(name: str, array: NDArray[np.generic], shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} is {array.shape}, expected {shape}")


def tile(rows: Sequence[Sequence[Rgb]]) -> Rgb:
    """Images [S,S,3] of one size, side by side in each row, rows one below the other."""
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)


def curve(records: Sequence[Mapping[str, float]], *, left: str, right: str) -> Rgb:
    """Two figures of a training log over its steps: `left` smoothed, on the left axis, `right` where it was taken."""
    width, height, frame = 960, 480, 64
    picture = np.full((height, width, 3), 255, np.uint8)
    last = max(record["step"] for record in records)
    cv2.rectangle(picture, (frame, frame), (width - frame, height - frame), _SOFT_INK, 1)
    for name, colour, column in ((left, (32, 86, 168), 8), (right, (190, 70, 20), width - frame + 6)):
        found = [(record["step"], record[name]) for record in records if name in record]
        if not found:
            continue
        steps, values = np.array(found, dtype=np.float64).T
        window = max(1, len(values) // 100)
        values = np.convolve(
            np.pad(values, (window // 2, window - 1 - window // 2), "edge"), np.ones(window) / window, "valid"
        )
        low, high = float(values.min()), float(values.max())
        x = frame + (width - 2 * frame) * steps / last
        y = height - frame - (height - 2 * frame) * (values - low) / max(high - low, 1e-9)
        points = np.stack((x, y), axis=1).round().astype(np.int32)
        cv2.polylines(picture, [points], isClosed=False, color=colour, thickness=2, lineType=cv2.LINE_AA)
        for value, line in ((high, frame + 5), (low, height - frame)):
            cv2.putText(picture, f"{value:.2f}", (column, line), _FONT, 0.5, colour, 1, cv2.LINE_AA)
        cv2.putText(
            picture, name, (column if column < width // 2 else width - 110, 40), _FONT, 0.55, colour, 1, cv2.LINE_AA
        )
    cv2.putText(picture, f"step {int(last)}", (width - frame - 90, height - 24), _FONT, 0.5, _INK, 1, cv2.LINE_AA)
    return picture
