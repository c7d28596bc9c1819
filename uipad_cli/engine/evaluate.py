"""Runs and a test split → figures, per category and as mean, and contact sheets."""

from __future__ import annotations

import math
import time
from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from uipad_cli import __version__
from uipad_cli.data import files
from uipad_cli.data.framing import seen
from uipad_cli.data.pairs import Pairs, load_mask
from uipad_cli.engine.checkpoint import Checkpoint, load_run
from uipad_cli.engine.judging import Judged, judge, runs_by_category, split_pairs, without
from uipad_cli.engine.pictures import sheet
from uipad_cli.engine.runtime import choose_compute
from uipad_cli.errors import DataError
from uipad_cli.methods.base import Method
from uipad_cli.metrics.ranking import auroc, average_precision, f1_max
from uipad_cli.metrics.region import pixel_metrics
from uipad_cli.records import GOOD, Missing, Progress, Report, silent
from uipad_cli.report.page import COLUMNS

SHEET_ROWS_PER_TYPE = 2
EXTREMES = 10  # pairs on the sheet of the clearest verdicts, and on that of the most mistaken ones

Shown = tuple[Judged, npt.NDArray[np.bool_] | None]


@dataclass(frozen=True)
class PartScore:
    """Score of one test part."""

    name: str
    defect: str
    score: float


@dataclass(frozen=True)
class CategoryResult:
    """Figures of one category; a metric is None where the test split leaves it undefined.

    seconds: everything, drawing included; seconds_per_pair: median time to read and judge a pair.
    """

    record: Checkpoint
    metrics: Mapping[str, float | None]
    by_defect: Mapping[str, float | None]
    counts: Mapping[str, int]
    scores: Sequence[PartScore]
    unseen_share: float
    seconds: float
    seconds_per_pair: float
    sheet: Path


def evaluate(
    run: Path, data: Path, *, out: Path | None = None, device: str = "auto", precision: str = "auto",
    missing: Missing | None = None, report: Report = silent,
) -> list[CategoryResult]:  # fmt: skip
    """Measure every run at `run` on the test split of what it learned, and write metrics.json, scores, sheets to `out`.

    missing: judge as if that file of every pair were not there.
    Raises WeightsError, DataError, ResourceError; UsageError where a run cannot do without.
    """
    compute = choose_compute(device, precision, "score")
    out = out or run / ("eval" if missing is None else f"eval-without-{missing}")
    results: list[CategoryResult] = []
    runs = {
        folder: [without(one, missing) for one in records] for folder, records in runs_by_category(run, data).items()
    }
    for folder, records in runs.items():
        _, method = load_run(folder, compute)
        for record in records:
            pairs = split_pairs(record, data, "test", missing)
            results.append(_measure(record, method, pairs, out / record.category, report))
            if results[-1].unseen_share > 0:
                report(Progress("note", 0, 0, note=_unseen(results[-1])))
    files.write_json(out / "metrics.json", document(results))
    return results


def document(results: Sequence[CategoryResult]) -> dict[str, object]:
    """The JSON of `eval`: figures per category, and their plain mean."""
    return {
        "uipad": __version__,
        "categories": {result.record.category: _figures(result) for result in results},
        "mean": mean_metrics(results),
    }


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


def _measure(record: Checkpoint, method: Method, pairs: Pairs, out: Path, report: Report) -> CategoryResult:
    began = time.perf_counter()
    maps: list[npt.NDArray[np.float32]] = []
    masks: list[npt.NDArray[np.bool_]] = []
    scores: list[PartScore] = []
    shown: list[Shown] = []
    by_margin: list[Shown] = []
    times: list[float] = []
    for judged in judge(method, pairs, report, task=record.category):
        mask = load_mask(judged.item, judged.sample.valid.shape, pairs.preparation.longest)
        maps.append(judged.map)
        masks.append(mask)
        times.append(judged.seconds)
        scores.append(PartScore(judged.item.name, judged.item.defect, judged.score))
        if sum(part.defect == judged.item.defect for part in scores) <= SHEET_ROWS_PER_TYPE:
            shown.append((judged, mask))
        insort(by_margin, (judged, mask), key=lambda one: _margin(one[0], record.calibration.threshold))
        if len(by_margin) > 2 * EXTREMES:
            del by_margin[EXTREMES]
    looked_at = [seen(record.config.framing, *mask.shape) for mask in masks]
    pixels = pixel_metrics(maps, masks, seen=looked_at)

    half = min(EXTREMES, math.ceil(len(by_margin) / 2))
    pictures = {"sheet": shown, "worst": by_margin[:half], "best": by_margin[half:][::-1]}
    for name, pairs_shown in pictures.items():
        if pairs_shown:
            files.write_jpeg(out / f"{name}.jpg", sheet(pairs_shown, record.calibration))
        else:
            (out / f"{name}.jpg").unlink(missing_ok=True)  # of another evaluation
    _write_scores(out / "scores.csv", scores, record.calibration.threshold)
    good = [part.score for part in scores if part.defect == GOOD]
    by_defect = {
        defect: auroc(*_against(good, [part.score for part in scores if part.defect == defect]))
        for defect in sorted({part.defect for part in scores} - {GOOD})
    }
    labels = [part.defect != GOOD for part in scores]
    values = [part.score for part in scores]
    metrics = {
        "image_auroc": auroc(values, labels),
        "image_ap": average_precision(values, labels),
        "image_f1_max": f1_max(values, labels),
        "pixel_auroc": pixels.pixel_auroc,
        **{f"aupro_{round(100 * limit):02d}": value for limit, value in pixels.aupro.items()},
    }
    threshold = record.calibration.threshold
    counts = {
        **{defect: sum(part.defect == defect for part in scores) for defect in [GOOD, *by_defect]},
        "false_alarms": sum(score > threshold for score in good),
        "missed": sum(part.defect != GOOD and part.score <= threshold for part in scores),
        "regions": pixels.regions,
        "regions_unseen": pixels.regions_unseen,
    }
    unseen = 1 - float(np.mean([part.mean() for part in looked_at]))
    seconds = time.perf_counter() - began
    ordered = {name: metrics[name] for name in COLUMNS}
    usual = float(np.median(times))
    return CategoryResult(record, ordered, by_defect, counts, scores, unseen, seconds, usual, out / "sheet.jpg")


def _unseen(result: CategoryResult) -> str:
    regions = result.counts["regions_unseen"]
    lost = f", and {regions} defect region(s) with it" if regions else ""
    return (
        f"{result.record.category}: {result.unseen_share:.0%} of the image was never looked at (NaN in the maps){lost};"
        " train --framing full or tile sees all of it"
    )


def _margin(judged: Judged, threshold: float) -> float:
    """How far the score is on its right side of the threshold; below 0 where the verdict is wrong."""
    return threshold - judged.score if judged.item.is_good else judged.score - threshold


def _against(good: Sequence[float], bad: Sequence[float]) -> tuple[list[float], list[bool]]:
    return [*good, *bad], [False] * len(good) + [True] * len(bad)


def _figures(result: CategoryResult) -> dict[str, object]:
    return {
        **result.metrics,
        "by_defect": dict(result.by_defect),
        "counts": dict(result.counts),
        "threshold": result.record.calibration.threshold,
        "unseen_share": result.unseen_share,
        "gauges": result.record.gauges,
        "seconds": result.seconds,
    }


def _write_scores(path: Path, scores: Sequence[PartScore], threshold: float) -> None:
    lines = ["part,defect,score,threshold,verdict"]
    for part in scores:
        if not math.isfinite(part.score):
            raise DataError(f"{part.name}: the score is {part.score}")
        verdict = "anomalous" if part.score > threshold else "good"
        lines.append(f"{part.name},{part.defect},{part.score!r},{threshold!r},{verdict}")
    files.write_bytes(path, ("\n".join(lines) + "\n").encode())
