"""Judged pairs → pictures on the category's fixed colour scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from uipad_cli.data import files
from uipad_cli.engine.calibration import Calibration
from uipad_cli.engine.judging import Judged
from uipad_cli.engine.verdicts import regions_mask, regions_of
from uipad_cli.render import (
    SIDE_BY_SIDE_TITLES,
    WHITE,
    Inspection,
    colour_bar,
    contact_sheet,
    outline,
    overlay,
    shade_height,
    side_by_side,
)

Picture = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Drawn:
    """Files of one part: heat map over the photo and over the shaded geometry, and the mask of what was found."""

    heat: Path
    relief: Path | None
    mask: Path


def heat_overlay(judged: Judged, calibration: Calibration, found: Mask, below: Picture | None = None) -> Picture:
    """The photo, or another picture of its size, with the heat map and the contour of what was found over it.

    A quiet part shows the picture itself. found: bool [H0,W0].
    """
    image = judged.sample.rgb if below is None else below
    return outline(overlay(image, judged.map, calibration.map_low, calibration.map_high), found, WHITE)


def found_mask(judged: Judged, calibration: Calibration) -> Mask:
    """Bool [H0,W0]: the places that the verdict rests on."""
    return regions_mask(regions_of(judged, calibration), judged.map.shape)


def draw(stem: Path, judged: Judged, calibration: Calibration, found: Mask, *, geometry: bool = True) -> Drawn:
    """Write <stem>_heat.png, <stem>_mask.png, and <stem>_relief.png where there is geometry. Raises ResourceError."""
    heat, relief, mask = (stem.with_name(f"{stem.name}_{kind}.png") for kind in ("heat", "relief", "mask"))
    files.write_png(heat, heat_overlay(judged, calibration, found))
    files.write_png(mask, found.astype(np.uint8) * 255)
    if geometry:
        below = shade_height(judged.sample.height, judged.sample.valid)
        files.write_png(relief, heat_overlay(judged, calibration, found, below))
    return Drawn(heat, relief if geometry else None, mask)


def sheet(parts: Sequence[tuple[Judged, Mask | None]], calibration: Calibration) -> Picture:
    """A row per part, titled by SIDE_BY_SIDE_TITLES, its verdict under the heat map, and the legend of the colours."""
    rows = []
    for judged, mask in parts:
        item, sample = judged.item, judged.sample
        found = found_mask(judged, calibration)
        seen = Inspection(sample.rgb, sample.height, sample.valid, judged.map, mask, found)
        said = calibration.verdict(judged.score)
        times = f"  {judged.score / calibration.threshold:.2f}x" if calibration.threshold > 0 else ""
        told = f"{said}{times}  p {calibration.p_value(judged.score):.2g}"
        rows.append(
            side_by_side(seen, f"{item.defect}/{item.stem}", told, low=calibration.map_low, high=calibration.map_high)
        )
    whole = contact_sheet(rows, SIDE_BY_SIDE_TITLES)
    return np.concatenate([whole, colour_bar(whole.shape[1])])
