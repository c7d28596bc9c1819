"""What a run of `prepare` has to say: figures of each category, findings, and what could not be prepared."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from uipad_cli.data.prepared import CategoryEntry
from uipad_cli.engine.health import Health
from uipad_cli.errors import PartialError


@dataclass(frozen=True)
class CategoryRow:
    """One category in figures: pairs by split, means over its pairs, the heights that become 0 and 1 (metres)."""

    category: str
    train: int
    validation: int
    test: int
    missing_share: float
    tilt_degrees: float
    noise_m: float
    height_low: float
    height_high: float


@dataclass(frozen=True)
class PrepareSummary:
    """What a run of `prepare` has to say: `pairs` are good now, `skipped` of them were already there."""

    folder: Path
    pairs: int
    skipped: int
    failures: tuple[str, ...]
    findings: tuple[str, ...]
    categories: tuple[CategoryRow, ...]
    health: Health | None = None

    def rows(self) -> tuple[list[str], list[list[object]]]:
        """Columns and rows of a table for people."""
        columns = ["category", "train", "validation", "test", "missing %", "tilt °", "noise mm", "height mm"]
        return columns, [
            [
                row.category,
                row.train,
                row.validation,
                row.test,
                f"{100 * row.missing_share:.1f}",
                f"{row.tilt_degrees:.1f}",
                f"{1000 * row.noise_m:.2f}",
                f"{1000 * row.height_low:.1f} to {1000 * row.height_high:.1f}",
            ]
            for row in self.categories
        ]

    def document(self) -> dict[str, Any]:
        """The JSON of `prepare`."""
        told = {name: getattr(self, name) for name in ("pairs", "skipped", "failures", "findings")}
        rows = [asdict(row) for row in self.categories]
        health = None if self.health is None else self.health.document()
        return {"folder": str(self.folder), **told, "categories": rows, "health": health}

    def raise_for_failures(self) -> None:
        """Raise PartialError naming the first files that could not be prepared."""
        if self.failures:
            count = f"{len(self.failures)} of {self.pairs + len(self.failures)} pairs could not be prepared"
            raise PartialError(
                f"{count}: {'; '.join(self.failures[:3])}", "mend or remove those files and run again; the rest is done"
            )


def category_row(category: str, entry: CategoryEntry) -> CategoryRow:
    """The figures of a category, from its manifest."""
    facts = [pair.geometry for pair in entry.pairs.values()]
    return CategoryRow(
        category,
        entry.counts["train"],
        entry.counts["validation"],
        entry.counts["test"],
        fmean(one.missing_share for one in facts),
        fmean(one.plane_tilt_degrees for one in facts),
        fmean(one.plane_noise_m for one in facts),
        entry.height_scale.low,
        entry.height_scale.high,
    )
