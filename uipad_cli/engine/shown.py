"""Which parts of a test split people should see: some of each kind, best, worst and borderline verdicts."""

from __future__ import annotations

import math
from bisect import insort

import numpy as np
import numpy.typing as npt

from uipad_cli.engine.calibration import Calibration
from uipad_cli.engine.judging import Judged

ROWS_PER_KIND = 2
EXTREMES = 10  # pairs on each sheet of verdicts

Part = tuple[Judged, npt.NDArray[np.bool_] | None]


class Shown:
    """Keeps the few parts that will be drawn, while all others pass by."""

    def __init__(self, calibration: Calibration) -> None:
        self.threshold = calibration.threshold
        self.kinds: dict[str, list[Part]] = {}
        self._by_margin: list[Part] = []
        self._nearest: list[Part] = []

    def look(self, judged: Judged, mask: npt.NDArray[np.bool_]) -> None:
        """The next part and its true defect [H0,W0]."""
        part = (judged, mask)
        kind = self.kinds.setdefault(judged.item.defect, [])
        if len(kind) < ROWS_PER_KIND:
            kind.append(part)
        insort(self._by_margin, part, key=lambda one: self._margin(one[0]))
        if len(self._by_margin) > 2 * EXTREMES:
            del self._by_margin[EXTREMES]
        insort(self._nearest, part, key=lambda one: abs(self._margin(one[0])))
        del self._nearest[EXTREMES:]

    def sheets(self) -> dict[str, list[Part]]:
        """By the name of the sheet; a part may be on several, but never on both of best and worst."""
        half = min(EXTREMES, math.ceil(len(self._by_margin) / 2))
        return {
            "sheet": [part for kind in self.kinds.values() for part in kind],
            "worst": self._by_margin[:half],
            "best": self._by_margin[half:][::-1],
            "borderline": self._nearest,
        }

    def _margin(self, judged: Judged) -> float:
        """How far the score is on its right side of the threshold; below 0 where the verdict is wrong."""
        return self.threshold - judged.score if judged.item.is_good else judged.score - self.threshold
