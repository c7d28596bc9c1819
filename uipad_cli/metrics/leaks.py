"""Can the label of a test part be told from what has nothing to do with the part?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from uipad_cli.metrics.ranking import auroc

LEAST_PARTS = 5  # of either kind; fewer say nothing
GIVES_AWAY = 0.95
_FEW = 10  # of either kind: chance alone reaches 0.95 now and then, so every part must be told

Value = float | str | None


@dataclass(frozen=True)
class Leak:
    """How well one property tells defective parts from good ones.

    auroc: 1 where every defective part has more of it than any good one, 0 where less, 0.5 where it says nothing.
    named: True where the property is a name, not a number, so that there is no more and no less.
    """

    name: str
    auroc: float
    good: int
    defective: int
    named: bool = False

    @property
    def way(self) -> str:
        """What it is in defective parts, against good ones: higher, lower, or just different."""
        return "different" if self.named else "higher" if self.auroc > 0.5 else "lower"

    @property
    def strength(self) -> float:
        """0.5..1, whichever way round."""
        return max(self.auroc, 1 - self.auroc)

    @property
    def gives_away(self) -> bool:
        """True where the label can as good as be read off; with few parts, only where not one is mistaken."""
        needed = 1.0 if min(self.good, self.defective) < _FEW else GIVES_AWAY
        return self.strength >= needed


def ranked(properties: Mapping[str, Sequence[Value]], defective: Sequence[bool]) -> list[Leak]:
    """Every property that all parts have, the most telling one first.

    Names (a file format) are told one from all others, and the most telling one counts. Empty where there are fewer
    than LEAST_PARTS of either kind. Raises ValueError for lists of another length and for numbers that are not finite.
    """
    for name, values in properties.items():
        if len(values) != len(defective):
            raise ValueError(f"{name}: {len(values)} values for {len(defective)} parts")
    bad = sum(defective)
    good = len(defective) - bad
    if min(good, bad) < LEAST_PARTS:
        return []
    found = []
    for name, values in properties.items():
        if any(value is None for value in values):
            continue
        numbers = _numbers(values)
        shares = [auroc(column, defective) for column in numbers]
        telling = max((share for share in shares if share is not None), key=lambda share: abs(share - 0.5), default=0.5)
        found.append(Leak(name, telling, good, bad, named=any(isinstance(value, str) for value in values)))
    return sorted(found, key=lambda leak: -leak.strength)


def _numbers(values: Sequence[Value]) -> list[list[float]]:
    """The numbers themselves; names as 1 for each of them and 0 for the others."""
    if not any(isinstance(value, str) for value in values):
        return [[float(value) for value in values if value is not None]]
    return [[float(str(value) == kind) for value in values] for kind in sorted({str(value) for value in values})]
