"""What a run knows of its verdicts: the scores of good parts it never learned from, and the bounds drawn from them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from uipad_cli.errors import UsageError
from uipad_cli.metrics.calibrate import bounds_from_good, p_values, parts_needed
from uipad_cli.records import ANOMALOUS, GOOD, UNSURE, Voice

Rule = Literal["good parts", "given", "f1", "cost"]


class Calibration(BaseModel):
    """Where verdicts change, and what scores, maps and voices of good parts are like, computed in `precision`.

    Above `threshold` a part is anomalous, above `unsure_from` and up to there unsure. rule: where these come from; what
    `rate`, `unsure_rate`, `promised` and `rate_bound` mean is told in metrics/calibrate.py (None under other rules).
    scores: of the good parts of `source`, ascending. map_low, map_high: what is usual in their maps and the most they
    show, the fixed ends of colours; voices: the same of each voice.
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

    def excess(self, score: float) -> float:
        """A value of a map in calibrated units: 0 is usual on good parts, 1 the most that good parts show."""
        return (score - self.map_low) / (self.map_high - self.map_low)

    def given(self, threshold: float) -> Calibration:
        """With a threshold of the user's own, and no band."""
        told = {"threshold": threshold, "unsure_from": threshold, "rule": "given"}
        nothing = {"rate": None, "unsure_rate": None, "promised": False, "rate_bound": None}
        return self.model_copy(update={**told, **nothing})

    def bounded(self, rate: float | None, unsure: float | None) -> Calibration:
        """With bounds for these rates from its own good parts. Raises UsageError where they cannot be drawn."""
        try:
            drawn = bounds_from_good(self.scores, rate, unsure)
        except ValueError as error:
            raise UsageError(str(error), "give more good parts, or another rate") from error
        return self.model_copy(update={**vars(drawn), "rule": "good parts"})

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
        band = f"at most {self.unsure_rate:.2g} of good parts are not called good"
        if self.promised:
            return [
                first,
                f"promised: a good part raises an alarm with a chance of at most {self.rate:.3g}, and {band}, if it "
                "comes from the same line as those parts",
                f"with 19 in 20 such sets of {self.samples} parts, the rate stays below {self.rate_bound:.2g}; "
                "nothing is promised of how many defects are found",
            ]
        return [
            first,
            f"{self.samples} good parts cannot promise a rate of {self.rate:g}: that takes {parts_needed(self.rate)}; "
            f"they promise {1 / (self.samples + 1):.2g}, at their largest score",
            f"the threshold takes the logarithms of good scores for normal; {band}, whatever they are",
        ]
