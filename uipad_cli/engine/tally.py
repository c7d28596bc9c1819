"""Records of single runs → the figures of an ablation, over categories and seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from uipad_cli import __version__
from uipad_cli.data import files
from uipad_cli.data.scenes import DEFECT_KINDS
from uipad_cli.report import ablation
from uipad_cli.report.ablation import DefectLine, Line, Spread

CROSS_MODAL = "cross-modal"


class Record(BaseModel):
    """What one run came to. collapsed: what the gauge said, in which case there are no figures.

    by_defect: image AUROC of each defect; training_seconds: None where the training was interrupted and went on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    row: str
    category: str
    seed: int
    identity: dict[str, Any]
    collapsed: str | None = None
    image_auroc: float | None = None
    aupro_30: float | None = None
    pixel_auroc: float | None = None
    by_defect: dict[str, float | None] = {}
    training_seconds: float | None = None
    seconds_per_pair: float | None = None
    steps: int = 0
    gauges: dict[str, float] = {}
    device: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Table:
    """Records of the rows whose names and papers' values are given, and the data that they are of."""

    data: Path
    rows: Mapping[str, str | None]
    records: Sequence[Record] = ()

    def lines(self) -> list[Line]:
        """The first table's figures."""
        return [self._line(row, paper) for row, paper in self.rows.items()]

    def defects(self) -> list[DefectLine]:
        """The second table's figures, by category and defect."""
        names = {record.category: set[str]() for record in self.records}
        for record in self.records:
            names[record.category].update(record.by_defect)
        return [
            DefectLine(
                category, defect, _is_cross_modal(defect), [self._cell(row, category, defect) for row in self.rows]
            )
            for category, found in names.items()
            for defect in sorted(found)
        ]  # fmt: skip

    def figures(self) -> tuple[list[str], list[list[str]]]:
        """Column heads and rows of the first table for people."""
        return ablation.figures(self.lines())

    def document(self) -> dict[str, object]:
        """The JSON of `ablate`."""
        return {
            "uipad": __version__,
            "rows": [asdict(line) for line in self.lines()],
            "defects": [
                {"category": line.category, "defect": line.defect, "kind": _kind(line.defect),
                 "rows": {name: asdict(cell) for name, cell in zip(self.rows, line.cells, strict=True)}}
                for line in self.defects()
            ],
            "records": [record.model_dump(mode="json") for record in self.records],
        }  # fmt: skip

    def write(self, out: Path) -> None:
        """Write table.json, table.md and table.tex. Raises ResourceError."""
        categories = dict.fromkeys(record.category for record in self.records)
        seeds = len({record.seed for record in self.records})
        facts = f"{self.data.name}: categories {', '.join(categories)}; {seeds} {'seed' if seeds == 1 else 'seeds'}."
        notes = [
            f"{one.row}, {one.category}, seed {one.seed}: {one.collapsed}" for one in self.records if one.collapsed
        ]
        lines, defects = self.lines(), self.defects()
        files.write_json(out / "table.json", self.document())
        files.write_bytes(out / "table.md", ablation.markdown(facts, lines, defects, notes).encode())
        files.write_bytes(out / "table.tex", ablation.latex(facts, lines, defects).encode())

    def _line(self, row: str, paper: str | None) -> Line:
        mine = [record for record in self.records if record.row == row]
        crossed = {one.category for one in self.records if any(map(_is_cross_modal, one.by_defect))}
        return Line(
            row,
            _spread(mine, lambda there: _mean([record.image_auroc for record in there])),
            _spread(mine, lambda there: _mean([record.aupro_30 for record in there])),
            _spread([record for record in mine if record.category in crossed], _cross_modal),
            paper,
            _median([record.training_seconds for record in mine]),
            _median([record.seconds_per_pair for record in mine]),
        )

    def _cell(self, row: str, category: str, defect: str) -> Spread:
        mine = [record for record in self.records if (record.row, record.category) == (row, category)]
        return _spread(mine, lambda there: there[0].by_defect.get(defect))


def _spread(records: Sequence[Record], figure: Callable[[Sequence[Record]], float | None]) -> Spread:
    """Over seeds, the figure of what did not collapse; None where one of them has none."""
    whole = [record for record in records if record.collapsed is None]
    by_seed = [[one for one in whole if one.seed == seed] for seed in sorted({one.seed for one in whole})]
    values = [figure(there) for there in by_seed]
    mean = _mean(values)
    there = [value for value in values if value is not None]
    deviation = statistics.stdev(there) if mean is not None and len(there) > 1 else None
    return Spread(mean, deviation, len(records) - len(whole), len(records))


def _cross_modal(records: Sequence[Record]) -> float | None:
    return _mean([value for one in records for name, value in one.by_defect.items() if _is_cross_modal(name)])


def _is_cross_modal(defect: str) -> bool:
    return _kind(defect) == CROSS_MODAL


def _kind(defect: str) -> str | None:
    """Of a DEFECT, or CATEGORY/DEFECT, of the built-in scenes."""
    return DEFECT_KINDS.get(defect.rpartition("/")[2])


def _mean(values: Sequence[float | None]) -> float | None:
    """Plain mean; None where there is no value, or one is undefined."""
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there and len(there) == len(values) else None


def _median(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None
