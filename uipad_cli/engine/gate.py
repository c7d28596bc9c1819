"""A quality gate for scripts: figures of `eval` against least values, and against those of an earlier `eval`."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uipad_cli.data import files
from uipad_cli.errors import EXIT_GATE, DataError, UsageError
from uipad_cli.report.page import COLUMNS

MEAN = "mean"
Figures = Mapping[str, Mapping[str, float | None]]  # by category, or MEAN, then by metric


@dataclass(frozen=True)
class Check:
    """One figure that must not be below `least`; before: what it was, where there is a baseline."""

    category: str
    metric: str
    value: float | None
    least: float
    before: float | None = None

    @property
    def passed(self) -> bool:
        """A figure that is undefined, or not there any more, does not pass."""
        return self.value is not None and self.value >= self.least

    @property
    def difference(self) -> float | None:
        """From before to now."""
        return None if self.value is None or self.before is None else self.value - self.before


@dataclass(frozen=True)
class Gate:
    """All checks."""

    checks: Sequence[Check]

    @property
    def passed(self) -> bool:
        """True where every check did."""
        return all(check.passed for check in self.checks)

    def rows(self) -> tuple[list[str], list[list[object]]]:
        """Column heads and rows of the table of differences for people, failures first."""
        ordered = sorted(self.checks, key=lambda check: check.passed)
        body: list[list[object]] = [
            [
                one.category,
                one.metric,
                one.value,
                one.least,
                one.before,
                one.difference,
                "ok" if one.passed else "FAILED",
            ]
            for one in ordered
        ]
        return ["category", "figure", "now", "at least", "before", "difference", "gate"], body

    def document(self) -> dict[str, object]:
        """For JSON."""
        checks = [{**vars(one), "difference": one.difference, "passed": one.passed} for one in self.checks]
        return {"passed": self.passed, "checks": checks}

    def exit_code(self) -> int:
        """11 where a check failed."""
        return 0 if self.passed else EXIT_GATE


@dataclass(frozen=True)
class Demands:
    """What figures must hold: (category, metric, least value) each, and an earlier evaluation's less a tolerance."""

    least: Sequence[tuple[str, str, float]]
    baseline: Figures
    tolerance: float

    @staticmethod
    def of(
        least: Sequence[str], baseline: Path | None, tolerance: float, *, categories: Sequence[str], writes: Path
    ) -> Demands:
        """As told by --min, --baseline and --tolerance, for these categories and the metrics.json that will be written.

        Raises UsageError for what cannot be checked, and for a baseline that the evaluation would overwrite; DataError.
        """
        if not math.isfinite(tolerance):
            raise UsageError(f"--tolerance {tolerance} is not a finite number", "such as --tolerance 0.005")
        demands = read_least(least)
        for category, metric, _ in demands:
            if category not in (*categories, MEAN):
                near = difflib.get_close_matches(category, categories, n=1)
                hint = f"did you mean {near[0]}?" if near else f"here: {', '.join(categories)}"
                raise UsageError(f"--min {category}.{metric}: no category {category!r} here", hint)
        if baseline is not None and baseline.resolve() == writes.resolve():
            raise UsageError(f"{baseline} would be overwritten by this evaluation", "copy it, or choose another --out")
        return Demands(demands, {} if baseline is None else read_baseline(baseline), tolerance)

    def gate(self, now: Figures) -> Gate:
        """Check each. The baseline's mean counts where both are of the same categories."""
        checks = [Check(category, metric, now[category][metric], value) for category, metric, value in self.least]
        for category, figures in self.baseline.items():
            if category == MEAN and set(self.baseline) != set(now):
                continue
            for metric, before in figures.items():
                if before is not None:
                    there = now.get(category, {}).get(metric)
                    checks.append(Check(category, metric, there, before - self.tolerance, before))
        return Gate(checks)


def read_least(told: Sequence[str]) -> list[tuple[str, str, float]]:
    """(category, metric, value) of each METRIC=VALUE or CATEGORY.METRIC=VALUE; without a category it is the mean.

    Raises UsageError naming the nearest metric there is.
    """
    found = []
    for one in told:
        name, _, value = one.partition("=")
        category, _, metric = name.strip().rpartition(".")
        if metric not in COLUMNS:
            near = difflib.get_close_matches(metric, COLUMNS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"figures: {', '.join(COLUMNS)}"
            raise UsageError(f"--min {one}: no figure {metric!r}", hint)
        try:
            least = float(value)
        except ValueError:
            least = math.nan
        if not 0 <= least <= 1:
            raise UsageError(f"--min {one}: {value!r} is not a share of 0 to 1", "such as --min image_auroc=0.95")
        found.append((category or MEAN, metric, least))
    return found


def read_baseline(path: Path) -> Figures:
    """The figures of an earlier metrics.json, or of what `eval --json` printed. Raises DataError."""
    document = files.read_json(path)
    told = document.get("categories") if isinstance(document, dict) else None
    if not isinstance(told, dict) or not isinstance(document.get(MEAN), dict):
        raise DataError(f"{path}: not the figures of an evaluation", "give the metrics.json that `uipad eval` wrote")
    found = {**told, MEAN: document[MEAN]}
    return {name: {metric: _number(value, metric, path) for metric in COLUMNS} for name, value in found.items()}


def _number(figures: Any, metric: str, path: Path) -> float | None:
    value = figures.get(metric) if isinstance(figures, dict) else None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{path}: {metric} is {value!r}, not a number", "give the metrics.json that `uipad eval` wrote")
    return float(value)
