"""Figures of an evaluation → the page that a person opens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from uipad_cli.data import files, scenes
from uipad_cli.engine.evaluate import CategoryResult, folder_of, mean_metrics
from uipad_cli.engine.record import Checkpoint, versions
from uipad_cli.records import GOOD, UNSURE, Missing
from uipad_cli.report.cloud import thinned
from uipad_cli.report.page import DefectRow, Picture, Scored, Section, build_page
from uipad_cli.report.paper import printed

REPORT = "report.html"
MOST_POINTS = 500_000  # of all clouds of a page: about 9 MB
SHEETS = {  # name of a sheet → its caption
    "sheet": "parts of each kind",
    "worst": "the worst verdicts: farthest on the wrong side of the threshold, then nearest to it on the right one",
    "borderline": "the borderline verdicts: nearest to the threshold",
    "best": "the clearest verdicts",
}

SETTINGS: dict[str, Callable[[Checkpoint], str]] = {
    "method": lambda record: record.config.method,
    "backbone": lambda record: f"{record.config.backbone} ({record.backbone_source})",
    "seed": lambda record: str(record.config.seed),
    "framing": lambda record: ", ".join(f"{name} {value}" for name, value in record.config.framing),
    "geometry": lambda record: record.config.geometry,
    "good parts learned from": lambda record: f"{record.training['pairs']:.0f}",
    "steps": lambda record: f"{record.training.get('steps', 0):.0f}",
    "precision of the threshold": lambda record: record.calibration.precision,
}
COUNTS = {  # key of a count → what it is called on the page
    "false_alarms": "good, called anomalous",
    "missed": "defective, called good",
    "unsure_good": "good, unsure",
    "unsure_defective": "defective, unsure",
    "regions": "defect regions",
    "regions_unseen": "of them never looked at",
}


def write_page(path: Path, results: Sequence[CategoryResult], *, title: str, notes: Sequence[str] = ()) -> None:
    """Write the page of these results, charts and clouds included where they were kept. Raises ResourceError."""
    clouds = sum(len(result.charts.clouds) for result in results if result.charts is not None)
    page = build_page(
        title=title,
        notes=notes,
        mean=mean_metrics(results),
        sections=[_section(result, MOST_POINTS // max(1, clouds)) for result in results],
        settings=_settings(results),
    )
    files.write_bytes(path, page.encode())


def report_page(
    results: Sequence[CategoryResult], run: Path, data: Path, out: Path | None, missing: Missing | None
) -> Path:
    """Write the page of an evaluation beside its figures; where it lies. Raises ResourceError."""
    path = folder_of(run, out, missing) / REPORT
    write_page(path, results, title=f"uipad eval: {data.resolve().name}")
    return path


def _section(result: CategoryResult, points: int) -> Section:
    calibration, charts = result.record.calibration, result.charts
    notes = calibration.sentences()
    if result.unseen_share > 0:
        notes.append(f"The framing leaves {100 * result.unseen_share:.0f} % of the image unseen (hatched).")
    pictures = [
        Picture(f"{result.record.category}: {caption}", result.sheets[name].read_bytes())
        for name, caption in SHEETS.items()
        if name in result.sheets
    ]
    return Section(
        category=result.record.category,
        metrics=result.metrics,
        defects=[_row(result, kind) for kind in result.by_defect],
        counts={COUNTS.get(name, name): count for name, count in result.counts.items()},
        gauges=result.record.gauges,
        scored=Scored(
            good=[part.score for part in result.scores if part.defect == GOOD],
            bad=[part.score for part in result.scores if part.defect != GOOD],
            threshold=calibration.threshold,
            unsure_from=calibration.unsure_from,
            calibration=calibration.scores,
        ),
        notes=notes,
        pictures=pictures,
        paper=printed(result.record.category),
        intervals={} if charts is None else charts.intervals,
        roc=None if charts is None else charts.roc,
        pro=None if charts is None else charts.pro,
        clouds=[] if charts is None else [thinned(cloud, points) for cloud in charts.clouds],
    )


def _row(result: CategoryResult, kind: str) -> DefectRow:
    said = [result.record.calibration.verdict(part.score) for part in result.scores if part.defect == kind]
    built_in = result.record.category in (*scenes.CATEGORIES, *scenes.HELD_BACK) and kind in scenes.DEFECT_KINDS
    return DefectRow(
        name=f"{kind} ({scenes.DEFECT_KINDS[kind]})" if built_in else kind,
        parts=len(said),
        missed=said.count(GOOD),
        unsure=said.count(UNSURE),
        image_auroc=result.by_defect[kind],
        interval=None if result.charts is None else result.charts.by_defect.get(kind),
    )


def _settings(results: Sequence[CategoryResult]) -> Mapping[str, str]:
    """What all runs share; where they differ, category by category."""
    told: dict[str, str] = {}
    for name, of in SETTINGS.items():
        values = {result.record.category: of(result.record) for result in results}
        apart = ", ".join(f"{category} {value}" for category, value in values.items())
        told[name] = apart if len(set(values.values())) > 1 else next(iter(values.values()))
    trained, now = results[0].record.versions, versions()
    told |= {f"{name}, when it was trained": value for name, value in trained.items() if now.get(name) != value}
    return told | now
