"""Built-in scenes → prepare → train → eval → a page to open: the whole road without a download."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uipad_cli import config
from uipad_cli.data import choose_category, files, scenes
from uipad_cli.data.places import inside
from uipad_cli.engine.eval_page import write_page
from uipad_cli.engine.evaluate import CategoryResult, evaluate
from uipad_cli.engine.prepare import prepare
from uipad_cli.engine.train import train
from uipad_cli.errors import UsageError
from uipad_cli.records import Progress, Report, silent

COUNTS = {"train": 16, "validation": 8, "test_good": 10, "test_per_defect": 4, "size": 320}
SETTINGS = ("backbone=tiny",)
PAGE = "index.html"
NOTE = "Rendered parts: colour and organised 3D points, trained on good parts only."
SCENES_FILE = "scenes.json"


def demo(
    out: Path, *, categories: Sequence[str] = (), seed: int = 0, device: str = "auto", report: Report = silent
) -> tuple[list[CategoryResult], Path]:
    """Make data, runs, figures and `<out>/index.html`; what an earlier call finished is not done again.

    Raises UsageError for an unknown category, or a folder that holds another demo, ResourceError for links out of it.
    """
    known = (*scenes.CATEGORIES, *scenes.HELD_BACK)
    chosen = [choose_category(known, name) for name in categories] or list(scenes.CATEGORIES)
    raw, ready, runs = out / "data", out / "prepared", out / "runs"
    for name in chosen:
        for folder in (raw / name, ready, runs / name, out / "eval" / name):
            inside(out, folder / SCENES_FILE)
        _render(raw, name, seed, report)
    prepare(raw, ready, dataset="mvtec3d", categories=chosen, report=report).raise_for_failures()
    for name in chosen:
        report(Progress("note", 0, 0, note=f"category {name}"))
        merged = config.merge([], SETTINGS, {"seed": seed, "device": device})
        train(ready, runs / name, category=name, configuration=merged, report=report)
    results = evaluate(runs, ready, out=out / "eval", device=device, charts=True, report=report)
    page = out / PAGE
    write_page(page, results, title="uipad demo", notes=[NOTE])
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
