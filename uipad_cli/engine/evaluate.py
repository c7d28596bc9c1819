"""Runs and a test split → figures, per category and as mean, and contact sheets."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np

from uipad_cli import __version__
from uipad_cli.data import files
from uipad_cli.data.pairs import Pairs
from uipad_cli.data.places import inside
from uipad_cli.engine.calibration import Calibration
from uipad_cli.engine.charts import Charts
from uipad_cli.engine.checkpoint import load_run
from uipad_cli.engine.collecting import collect
from uipad_cli.engine.gate import Demands
from uipad_cli.engine.judging import runs_by_category, split_pairs, without
from uipad_cli.engine.locking import sole_writer
from uipad_cli.engine.pictures import sheet
from uipad_cli.engine.record import Checkpoint
from uipad_cli.engine.runtime import choose_compute
from uipad_cli.engine.scratch import told
from uipad_cli.engine.shown import Shown
from uipad_cli.errors import DataError
from uipad_cli.methods.base import Method
from uipad_cli.metrics.ranking import auroc, average_precision, f1_max
from uipad_cli.metrics.region import pixel_metrics
from uipad_cli.records import ANOMALOUS, GOOD, UNSURE, Missing, Progress, Report, silent
from uipad_cli.report.page import COLUMNS

METRICS, SCORES = "metrics.json", "scores.csv"


@dataclass(frozen=True)
class PartScore:
    """Score of one test part."""

    name: str
    defect: str
    score: float


@dataclass(frozen=True)
class CategoryResult:
    """Figures of one category; a metric is None where the test split leaves it undefined.

    seconds: everything, drawing included; seconds_per_pair: median time to read and judge a pair; sheets: pictures by
    what they show; charts: what a page draws, where one was asked for.
    """

    record: Checkpoint
    metrics: Mapping[str, float | None]
    by_defect: Mapping[str, float | None]
    counts: Mapping[str, int]
    scores: Sequence[PartScore]
    unseen_share: float
    seconds: float
    seconds_per_pair: float
    sheets: Mapping[str, Path]
    charts: Charts | None = None


def evaluate(  # noqa: PLR0913 - what `uipad eval` can be asked
    run: Path,
    data: Path,
    *,
    out: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    compiled: bool = False,
    missing: Missing | None = None,
    charts: bool = False,
    report: Report = silent,
) -> list[CategoryResult]:
    """Measure every run at `run` on the test split of what it learned, and write metrics.json, scores, sheets to `out`.

    missing: judge as if that file of every pair were not there; charts: also keep what a page draws.
    Raises WeightsError, DataError, ResourceError; UsageError where a run cannot do without.
    """
    compute = choose_compute(device, precision, "score", compiled=compiled)
    out = folder_of(run, out, missing)
    results: list[CategoryResult] = []
    runs = {
        folder: [without(one, missing) for one in records] for folder, records in runs_by_category(run, data).items()
    }
    with sole_writer(out, report, deep=True) as held:
        for folder, records in runs.items():
            _, method = load_run(folder, compute)
            for record in records:
                pairs = split_pairs(record, data, "test", missing)
                results.append(_measure(record, method, pairs, out, report, charts))
                if results[-1].unseen_share > 0:
                    report(Progress("note", 0, 0, note=_unseen(results[-1])))
        held.check()
        files.write_json(out / METRICS, document(results))
    return results


def folder_of(run: Path, out: Path | None, missing: Missing | None) -> Path:
    """Where an evaluation writes. Raises ResourceError where that of a run is a link which leads out of it."""
    if out is not None:
        return out
    return inside(run, run / ("eval" if missing is None else f"eval-without-{missing}") / METRICS).parent


def demanded(
    run: Path, data: Path, out: Path | None, missing: Missing | None, *, least: Sequence[str], baseline: Path | None,
    tolerance: float,
) -> Demands:  # fmt: skip
    """What a gate asks of an evaluation, checked before it begins. Raises UsageError, DataError, WeightsError."""
    known = [record.category for records in runs_by_category(run, data).values() for record in records]
    writes = folder_of(run, out, missing) / METRICS
    return Demands.of(least, baseline, tolerance, categories=known, writes=writes)


def figures(results: Sequence[CategoryResult]) -> dict[str, Mapping[str, float | None]]:
    """The metrics of every category, and their mean as `mean`."""
    return {**{result.record.category: result.metrics for result in results}, "mean": mean_metrics(results)}


def document(results: Sequence[CategoryResult]) -> dict[str, object]:
    """What metrics.json holds: figures per category, and their plain mean; the same for the same run and data."""
    return {
        "uipad": __version__,
        "categories": {result.record.category: _figures(result) for result in results},
        "mean": mean_metrics(results),
    }


def timed(results: Sequence[CategoryResult]) -> dict[str, object]:
    """The JSON of `eval`: what metrics.json holds, and how long each category took."""
    return document(results) | {"seconds": {result.record.category: result.seconds for result in results}}


def mean_metrics(results: Sequence[CategoryResult]) -> dict[str, float | None]:
    """Plain mean over the categories, as the papers print it; None where a category has no value."""
    means: dict[str, float | None] = {}
    for name in COLUMNS:
        values = [result.metrics[name] for result in results]
        means[name] = None if None in values else float(np.mean([value for value in values if value is not None]))
    return means


def rows(results: Sequence[CategoryResult]) -> tuple[list[str], list[list[object]]]:
    """Column heads and rows of the table for people."""
    body: list[list[object]] = [[result.record.category, *result.metrics.values()] for result in results]
    if len(results) > 1:
        body.append(["mean", *mean_metrics(results).values()])
    return ["category", *COLUMNS.values()], body


def _measure(
    record: Checkpoint, method: Method, pairs: Pairs, out: Path, report: Report, charts: bool
) -> CategoryResult:
    began = time.perf_counter()
    out = inside(out, out / record.category / SCORES).parent
    shown = Shown(record.calibration)
    found = collect(method, pairs, report, record.category, shown.look)
    with told():
        pixels = pixel_metrics(found.maps, found.masks, seen=found.seen)
    for name, parts in shown.sheets().items():
        if parts:
            files.write_jpeg(out / f"{name}.jpg", sheet(parts, record.calibration))
        else:
            (out / f"{name}.jpg").unlink(missing_ok=True)  # of another evaluation
    scores = [PartScore(*one) for one in zip(found.names, found.defects, found.scores, strict=True)]
    _write_scores(out / SCORES, scores, record.calibration)
    by_defect = {kind: auroc(*against(scores, kind)) for kind in sorted(set(found.defects) - {GOOD})}
    metrics = {
        "image_auroc": auroc(found.scores, found.labels),
        "image_ap": average_precision(found.scores, found.labels),
        "image_f1_max": f1_max(found.scores, found.labels),
        "pixel_auroc": pixels.pixel_auroc,
        **{f"aupro_{round(100 * limit):02d}": value for limit, value in pixels.aupro.items()},
    }
    return CategoryResult(
        record=record,
        metrics={name: metrics[name] for name in COLUMNS},
        by_defect=by_defect,
        counts={
            **{kind: found.defects.count(kind) for kind in [GOOD, *by_defect]},
            **_verdict_counts(scores, record.calibration),
            "regions": pixels.regions,
            "regions_unseen": pixels.regions_unseen,
        },
        scores=scores,
        unseen_share=1 - float(np.mean([part.mean() for part in found.seen])),
        seconds=time.perf_counter() - began,
        seconds_per_pair=float(np.median(found.seconds)),
        sheets={name: out / f"{name}.jpg" for name, parts in shown.sheets().items() if parts},
        charts=Charts.of(found, shown, record.calibration) if charts else None,
    )


def against(scores: Sequence[PartScore], kind: str) -> tuple[list[float], list[bool]]:
    """Scores and labels of the good parts and those with one kind of defect."""
    chosen = [part for part in scores if part.defect in (GOOD, kind)]
    return [part.score for part in chosen], [part.defect != GOOD for part in chosen]


def _verdict_counts(scores: Sequence[PartScore], calibration: Calibration) -> dict[str, int]:
    """Verdicts that are wrong, and those that are none."""
    said = [(part.defect == GOOD, calibration.verdict(part.score)) for part in scores]
    return {
        "false_alarms": said.count((True, ANOMALOUS)),
        "missed": said.count((False, GOOD)),
        "unsure_good": said.count((True, UNSURE)),
        "unsure_defective": said.count((False, UNSURE)),
    }


def _unseen(result: CategoryResult) -> str:
    regions = result.counts["regions_unseen"]
    lost = f", and {regions} defect region(s) with it" if regions else ""
    return (
        f"{result.record.category}: {result.unseen_share:.0%} of the image was never looked at (NaN in the maps){lost};"
        " train --framing full or tile sees all of it"
    )


def _figures(result: CategoryResult) -> dict[str, object]:
    return {
        **result.metrics,
        "by_defect": dict(result.by_defect),
        "counts": dict(result.counts),
        "threshold": result.record.calibration.threshold,
        "unsure_from": result.record.calibration.unsure_from,
        "unseen_share": result.unseen_share,
        "gauges": result.record.gauges,
    }


def _write_scores(path: Path, scores: Sequence[PartScore], calibration: Calibration) -> None:
    table = StringIO()
    lines = csv.writer(table, lineterminator="\n")  # names may hold commas and line breaks
    lines.writerow(["part", "defect", "score", "threshold", "verdict", "p_value"])
    for part in scores:
        if not math.isfinite(part.score):
            raise DataError(f"{part.name}: the score is {part.score}")
        told = [calibration.threshold, calibration.verdict(part.score), calibration.p_value(part.score)]
        lines.writerow([part.name, part.defect, part.score, *told])
    files.write_bytes(path, table.getvalue().encode())
