"""Judged pairs → pictures on the category's fixed colour scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from uipad_cli.engine.checkpoint import Calibration
from uipad_cli.engine.judging import Judged
from uipad_cli.render import SIDE_BY_SIDE_TITLES, Inspection, contact_sheet, overlay, side_by_side

Picture = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def heat_overlay(judged: Judged, calibration: Calibration) -> Picture:
    """The photo with its heat map over it, original size; a quiet part shows the photo."""
    return overlay(judged.sample.rgb, judged.map, calibration.map_low, calibration.map_high)


def sheet(parts: Sequence[tuple[Judged, Mask | None]], calibration: Calibration) -> Picture:
    """A row per part: photo, relief, true defect, heat map; the caption holds name and score against the threshold."""
    rows = []
    for judged, mask in parts:
        item = judged.item
        seen = Inspection(judged.sample.rgb, judged.sample.height, judged.sample.valid, judged.map, mask)
        caption = f"{item.defect}/{item.stem}  {judged.score / calibration.threshold:.2f}x"
        rows.append(side_by_side(seen, caption, low=calibration.map_low, high=calibration.map_high))
    return contact_sheet(rows, SIDE_BY_SIDE_TITLES)
