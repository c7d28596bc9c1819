"""Two runs and a test split → is one better than the other, or do the few test images leave that open?"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from uipad_cli.data import files
from uipad_cli.data.framing import Framing
from uipad_cli.engine.checkpoint import load_run
from uipad_cli.engine.collecting import Seen, collect
from uipad_cli.engine.comparison import CategoryComparison, Comparison, Figure
from uipad_cli.engine.judging import runs_by_category, split_pairs, without
from uipad_cli.engine.record import Checkpoint
from uipad_cli.engine.runtime import choose_compute
from uipad_cli.engine.scratch import told
from uipad_cli.errors import DataError
from uipad_cli.methods.base import Method
from uipad_cli.metrics.comparison import delong, paired_bootstrap_aupro, paired_bootstrap_auroc
from uipad_cli.metrics.curves import PixelCounts, aupro, count_pixels
from uipad_cli.metrics.ranking import auroc
from uipad_cli.records import GOOD, Missing, Progress, Report, silent

LIMIT = 0.3  # of the false positive rate
FEW = 10  # images of a class

Owners = Mapping[str, tuple[Path, Checkpoint]]


def compare(
    run_a: Path, run_b: Path, data: Path, *, device: str = "auto", precision: str = "auto",
    missing: Missing | None = None, out: Path | None = None, report: Report = silent,
) -> Comparison:  # fmt: skip
    """Compare two runs, or two folders of runs, on the test splits of what both know; comparison.json goes to `out`.

    missing: judge as if that file of every pair were not there.
    Raises WeightsError, ResourceError; UsageError where a run cannot do without; DataError where the runs have no
    category in common, or see other parts.
    """
    compute = choose_compute(device, precision, "score")
    owners_a, owners_b = (_owners(run, data, missing) for run in (run_a, run_b))
    shared = [category for category in owners_a if category in owners_b]
    if not shared:
        raise DataError(
            f"{run_a} knows {', '.join(owners_a)}, {run_b} knows {', '.join(owners_b)}: nothing to compare",
            "give two runs that learned the same category",
        )
    notes = [f"only A knows {category}" for category in owners_a if category not in owners_b]
    notes += [f"only B knows {category}" for category in owners_b if category not in owners_a]

    @lru_cache(maxsize=2)  # one model of all categories is loaded once
    def load(folder: Path) -> Method:
        return load_run(folder, compute)[1]

    found: list[CategoryComparison] = []
    for category in shared:
        (folder_a, record_a), (folder_b, record_b) = owners_a[category], owners_b[category]
        framings = record_a.config.framing, record_b.config.framing
        a = _judge(record_a, load(folder_a), data, missing, framings[1], _named(report, f"{category} A"))
        same = folder_a.resolve() == folder_b.resolve()
        b = a if same else _judge(record_b, load(folder_b), data, missing, framings[0], _named(report, f"{category} B"))
        found.append(_figures(category, a, b))
        notes += _remarks(found[-1], framings, a.looked)
    for text in notes:
        report(Progress("note", 0, 0, note=text))
    comparison = Comparison(_names(run_a, run_b), found, notes)
    if out is not None:
        files.write_json(out / "comparison.json", comparison.document())
    return comparison


@dataclass(frozen=True)
class _Verdicts:
    """What one run says of a test split; looked: share of the image that both runs look at."""

    parts: Sequence[tuple[str, str, tuple[int, ...]]]
    scores: Sequence[float]
    counts: PixelCounts
    looked: float


def _owners(run: Path, data: Path, missing: Missing | None) -> Owners:
    """The run that knows each category, and its record."""
    return {
        record.category: (folder, without(record, missing))
        for folder, records in runs_by_category(run, data).items()
        for record in records
    }


def _named(report: Report, task: str) -> Report:
    return lambda step: report(replace(step, task=task))


def _judge(
    record: Checkpoint, method: Method, data: Path, missing: Missing | None, other: Framing, report: Report
) -> _Verdicts:
    """Judge the test split and forget the maps: they are counted where the `other` framing looks as well."""
    found = collect(method, split_pairs(record, data, "test", missing), report, record.category)
    both = Seen((record.config.framing, other), found.maps.shapes)
    parts = list(zip(found.names, found.defects, found.maps.shapes, strict=True))
    looked = float(np.mean([part.mean() for part in both]))
    with told():
        counts = count_pixels(found.maps, found.masks, both)
    return _Verdicts(parts, found.scores, counts, looked)


def _figures(category: str, a: _Verdicts, b: _Verdicts) -> CategoryComparison:
    """Raises DataError where the runs did not judge the same parts."""
    if a.parts != b.parts:
        raise DataError(
            f"{category}: A and B do not see the same parts at the same size",
            "were both trained on data of one preparation? compare them on data prepared so",
        )
    labels = [defect != GOOD for _, defect, _ in a.parts]
    seed = zlib.crc32(category.encode())  # categories are drawn apart, and each the same in whatever company
    image = Figure(auroc(a.scores, labels), auroc(b.scores, labels), delong(a.scores, b.scores, labels))
    area_a, area_b = (
        None if np.isnan(area) else float(area) for one in (a, b) for area in aupro(one.counts, limit=LIMIT)
    )
    found = paired_bootstrap_aupro(a.counts, b.counts, labels, limit=LIMIT, seed=seed)
    check = paired_bootstrap_auroc(a.scores, b.scores, labels, seed=seed)
    figures = {"image_auroc": image, "aupro_30": Figure(area_a, area_b, found)}
    return CategoryComparison(category, len(labels) - sum(labels), sum(labels), figures, check)


def _remarks(found: CategoryComparison, framings: tuple[Framing, Framing], looked: float) -> list[str]:
    notes = []
    if framings[0] != framings[1]:
        notes.append(
            f"{found.category}: A and B frame the image differently; AUPRO is of the {looked:.0%} of it that both see, "
            "image scores are of what each sees"
        )
    if min(found.good, found.defective) < FEW:
        notes.append(
            f"{found.category}: only {found.good} good and {found.defective} defective test images; p of AUPRO is "
            "rough, and rather too small"
        )
    return notes


def _names(run_a: Path, run_b: Path) -> tuple[str, str]:
    """The folders' names, with as many of those above them as it takes to tell them apart."""
    a, b = run_a.resolve().parts, run_b.resolve().parts
    depth = next((depth for depth in range(1, max(len(a), len(b))) if a[-depth:] != b[-depth:]), 1)
    return "/".join(a[-depth:]), "/".join(b[-depth:])
