"""A judged part → its verdict, the places it rests on, and the JSON line that scripts read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uipad_cli.data.framing import Framing
from uipad_cli.engine.calibration import Calibration
from uipad_cli.engine.judging import Judged, voice_map
from uipad_cli.metrics.regions import Region, find_regions, height_deviation
from uipad_cli.records import GOOD, Voice

MILLIMETRES = 1000.0


@dataclass(frozen=True)
class Finding:
    """A place above the upper end of good parts.

    peak: in calibrated units (1 = that end); area_mm2: None without metric geometry; above_mm: mean height less the
    median around it, negative in a dent, None where nothing was measured: how a raised or sunk place of a good part
    would have it, too; voices: what each says of the place, in calibrated units; speaks: the one that it rests on.
    """

    region: Region
    peak: float
    area_mm2: float | None
    above_mm: float | None
    voices: dict[Voice, float]
    speaks: Voice | None

    def document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "box": list(self.region.box),
            "area_px": self.region.area,
            "area_mm2": self.area_mm2,
            "peak": self.peak,
            "peak_at": list(self.region.peak_at),
            "height_above_surroundings_mm": self.above_mm,
            "speaks": self.speaks,
            "voices": dict(self.voices),
        }


def regions_of(judged: Judged, calibration: Calibration) -> list[Region]:
    """Places above the upper end of good parts, the loudest first: none in a part that is called good, else some.

    One pixel in a thousand of a good part lies above that end, so there they say nothing.
    """
    if calibration.verdict(judged.score) == GOOD:
        return []
    return find_regions(judged.map, calibration.map_high)


def regions_mask(regions: Sequence[Region], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Bool [H0,W0]: inside any of the regions."""
    mask = np.zeros(shape, np.bool_)
    for region in regions:
        mask |= region.mask
    return mask


def findings(
    judged: Judged, regions: Sequence[Region], calibration: Calibration, framing: Framing, *, geometry: bool = True
) -> list[Finding]:
    """What there is to say of each region. geometry: False where the geometry was missing, and heights mean nothing."""
    if not regions:
        return []
    maps = {voice: voice_map(judged, voice, framing) for voice in judged.voices if voice in calibration.voices}
    everywhere = regions_mask(regions, judged.map.shape)
    sample, found = judged.sample, []
    for region in regions:
        voices = {voice: _excess(map_[region.mask], calibration.voices[voice]) for voice, map_ in maps.items()}
        above = height_deviation(region.mask, sample.height, sample.valid, everywhere) if geometry else None
        area = None if sample.pitch is None or not geometry else region.area * (sample.pitch * MILLIMETRES) ** 2
        peak = float(calibration.excess(region.peak))
        above_mm = None if above is None else above * MILLIMETRES
        found.append(Finding(region, peak, area, above_mm, voices, _speaker(voices)))
    return found


def _excess(values: npt.NDArray[np.float32], ends: tuple[float, float]) -> float:
    """The loudest place of a region in the units of its voice."""
    low, high = ends
    there = values[~np.isnan(values)]
    return float((there.max() - low) / (high - low)) if there.size else 0.0


def _speaker(voices: dict[Voice, float]) -> Voice | None:
    """An image that is above its upper end by itself, the louder one; else whatever is loudest, the pair included."""
    apart = {voice: value for voice, value in voices.items() if voice != "pair"}
    if not apart:
        return None
    loudest = max(apart, key=lambda voice: apart[voice])
    if apart[loudest] >= 1 or voices.get("pair", 0.0) <= apart[loudest]:
        return loudest
    return "pair"
