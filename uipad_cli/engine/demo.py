"""Built-in scenes → prepare → train → eval → a page to open: the whole road without a download."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uipad_cli import config
from uipad_cli.data import choose_category, files, scenes
from uipad_cli.engine.checkpoint import versions
from uipad_cli.engine.evaluate import CategoryResult, evaluate, mean_metrics
from uipad_cli.engine.prepare import prepare
from uipad_cli.engine.train import train
from uipad_cli.errors import UsageError
from uipad_cli.records import Progress, Report, silent
from uipad_cli.report.page import Picture, Section, build_page

COUNTS = {"train": 16, "validation": 8, "test_good": 10, "test_per_defect": 4, "size": 320}
SETTINGS = ("backbone=tiny",)
PAGE = "index.html"
SCENES_FILE = "scenes.json"


def demo(
    out: Path, *, categories: Sequence[str] = (), seed: int = 0, device: str = "auto", report: Report = silent
) -> tuple[list[CategoryResult], Path]:
    """Make data, runs, figures and `<out>/index.html`; what an earlier call finished is not done again.

    Raises UsageError for an unknown category, or a folder that holds another demo.
    """
    known = (*scenes.CATEGORIES, *scenes.HELD_BACK)
    chosen = [choose_category(known, name) for name in categories] or list(scenes.CATEGORIES)
    raw, ready, runs = out / "data", out / "prepared", out / "runs"
    for name in chosen:
        _render(raw, name, seed, report)
    prepare(raw, ready, dataset="mvtec3d", categories=chosen, report=report).raise_for_failures()
    for name in chosen:
        report(Progress("note", 0, 0, note=f"category {name}"))
        merged = config.merge([], SETTINGS, {"seed": seed, "device": device})
        train(ready, runs / name, category=name, configuration=merged, resume=True, report=report)
    results = evaluate(runs, ready, out=out / "eval", device=device, report=report)
    page = out / PAGE
    files.write_bytes(page, _page(results, seed).encode())
    return results, page


def _render(raw: Path, category: str, seed: int, report: Report) -> None:
    """Write a category's scenes, unless an earlier call has. Raises UsageError where it had other settings."""
    made = raw / category / SCENES_FILE
    wanted = {"seed": seed, **COUNTS}
    if made.is_file():
        if files.read_json(made) != wanted:
            raise UsageError(f"{raw.parent} holds a demo with another seed or other counts", "choose another --out")
        return
    scenes.write(raw, categories=[category], seed=seed, report=report, **COUNTS)
    files.write_json(made, wanted)


def _page(results: Sequence[CategoryResult], seed: int) -> str:
    notes = ["Rendered parts: colour and organised 3D points, trained on good parts only."]
    config_used = results[0].record.config
    settings = {
        "backbone": config_used.backbone,
        "seed": str(seed),
        "framing": f"resize {config_used.framing.resize}, crop {config_used.framing.crop}",
        **versions(),
    }
    return build_page(
        title="uipad demo",
        notes=notes,
        mean=mean_metrics(results),
        sections=[_section(result) for result in results],
        settings=settings,
    )


def _section(result: CategoryResult) -> Section:
    good = [part.score for part in result.scores if part.defect == "good"]
    bad = [part.score for part in result.scores if part.defect != "good"]
    calibration = result.record.calibration
    notes = [f"Threshold from {calibration.samples} good parts ({calibration.source})."]
    if result.unseen_share > 0:
        notes.append(f"The framing leaves {100 * result.unseen_share:.0f} % of the image unseen (hatched).")
    return Section(
        category=result.record.category,
        metrics=result.metrics,
        by_defect={f"{name} ({scenes.DEFECT_KINDS[name]})": value for name, value in result.by_defect.items()},
        counts=result.counts,
        gauges=result.record.gauges,
        good_scores=good,
        bad_scores=bad,
        threshold=calibration.threshold,
        notes=notes,
        pictures=[Picture(f"{result.record.category}: parts of each kind", result.sheet.read_bytes())],
    )
