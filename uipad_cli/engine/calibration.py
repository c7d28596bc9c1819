"""What a run knows of its verdicts: the scores of good parts it never learned from, and the bounds drawn from them."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from uipad_cli.errors import UsageError
from uipad_cli.metrics.calibrate import USUAL_RATE, bounds_from_good, p_values, parts_needed
from uipad_cli.records import ANOMALOUS, GOOD, UNSURE, Voice

Rule = Literal["good parts", "given", "f1", "cost"]


class Calibration(BaseModel):
    """Where verdicts change, and what scores, maps and voices of good parts are like, computed in `precision`.

    Above `threshold` a part is anomalous, above `unsure_from` and up to there unsure. rule: where these come from; what
    `rate`, `unsure_rate`, `promised` and `rate_bound` mean is told in metrics/calibrate.py (None under other rules).
    scores: of the good parts of `source`, ascending; learned_from: they were trained on, so that nothing is promised of
    others; mixture: they are of several categories. map_low, map_high: what is usual in their maps, and what 99.9 % of
    the pixels of each stay below, the fixed ends of colours; voices: the same of each voice.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float = Field(allow_inf_nan=False)
    unsure_from: float = Field(allow_inf_nan=False)
    rule: Rule = "good parts"
    rate: float | None = None
    unsure_rate: float | None = None
    promised: bool = False
    rate_bound: float | None = None
    scores: tuple[float, ...] = Field(min_length=1)
    source: str
    learned_from: bool = False
    mixture: bool = False
    precision: str
    map_low: float
    map_high: float
    voices: dict[Voice, tuple[float, float]] = {}

    @property
    def samples(self) -> int:
        """Good parts that it rests on."""
        return len(self.scores)

    def verdict(self, score: float) -> str:
        """good, unsure or anomalous."""
        return ANOMALOUS if score > self.threshold else UNSURE if score > self.unsure_from else GOOD

    def p_value(self, score: float) -> float:
        """How often a good part scores as high (metrics/calibrate.py)."""
        return float(p_values(self.scores, [score])[0])

    def excess(self, scores: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Values of a map in calibrated units: 0 is usual on good parts, 1 their upper end; any shape."""
        return (np.asarray(scores, np.float64) - self.map_low) / (self.map_high - self.map_low)

    def told(self, rule: Rule, threshold: float, unsure_from: float, precision: str | None = None) -> Calibration:
        """With bounds that do not come from good parts alone, of scores in `precision`; no rate is promised then."""
        update = {"threshold": threshold, "unsure_from": unsure_from, "precision": precision or self.precision}
        nothing = {"rate": None, "unsure_rate": None, "promised": False, "rate_bound": None}
        return self.model_copy(update={"rule": rule, **update, **nothing})

    def bounded(self, rate: float | None, unsure: float | None) -> Calibration:
        """With bounds for these rates from its own good parts. Raises UsageError where they cannot be drawn."""
        try:
            drawn = bounds_from_good(self.scores, rate, unsure)
        except ValueError as error:
            raise UsageError(f"--fpr, --unsure: {error}", "such as --fpr 0.05 --unsure 0.2") from error
        held = {} if not self.learned_from else {"promised": False, "rate_bound": None}
        return self.model_copy(update={**vars(drawn), "rule": "good parts", **held})

    def sentences(self) -> list[str]:
        """What it promises and what it cannot, for people."""
        where = f"threshold {self.threshold:.4g}, unsure from {self.unsure_from:.4g}"
        if self.rule != "good parts" or self.rate is None or self.unsure_rate is None:
            told = {
                "given": "as told",
                "f1": "the best F1 of labelled parts",
                "cost": "the least cost of labelled parts",
            }
            return [f"{where}: {told.get(self.rule, self.rule)}; no rate of false alarms is promised"]
        first = f"{where}, from {self.samples} good parts ({self.source})"
        band = f"a good part is not called good with a chance of at most {self.unsure_rate:.2g}"
        if self.learned_from:
            return [
                first,
                "nothing is promised: these parts were learned from, so their scores are too low, and other good parts "
                "will raise alarms; run `uipad calibrate RUN DATA` with good parts that were not",
            ]
        if not self.promised:
            return [
                first,
                f"{self.samples} good parts cannot promise a rate of {self.rate:g}: that takes "
                f"{parts_needed(self.rate)}; they promise {1 / (self.samples + 1):.2g}, at their largest score",
                f"the threshold takes the logarithms of good scores for normal; {band}, whatever they are",
            ]
        mixed = ", over all categories together: one of them may raise more" if self.mixture else ""
        usual = f" ({USUAL_RATE:g} would take {parts_needed(USUAL_RATE)} parts)" if self.rate > USUAL_RATE else ""
        return [
            first,
            f"promised: a good part raises an alarm with a chance of at most {self.rate:.3g}{usual}, and {band}, if it "
            f"comes from the same line as those parts{mixed}",
            f"in 19 of 20 such sets of {self.samples} parts, the rate stays below {self.rate_bound:.2g}; "
            "nothing is promised of how many defects are found",
        ]
