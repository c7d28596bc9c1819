"""Heat maps of a whole test split, or of one map that `infer` wrote."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from uipad_cli.data import files
from uipad_cli.data.pairs import Pairs, load_mask
from uipad_cli.data.places import inside
from uipad_cli.engine.checkpoint import load_run
from uipad_cli.engine.judging import at_full_size, judge, runs_by_category, split_pairs
from uipad_cli.engine.pictures import draw, found_mask, sheet
from uipad_cli.engine.prototype_picture import TITLES, prototype_row
from uipad_cli.engine.record import Checkpoint
from uipad_cli.engine.runtime import choose_compute
from uipad_cli.errors import DataError, UsageError
from uipad_cli.methods.base import Method, PrototypeOwners
from uipad_cli.metrics.calibrate import map_range
from uipad_cli.records import UNLABELLED, Report, silent
from uipad_cli.render import colorize, contact_sheet, overlay


@dataclass(frozen=True)
class Request:
    """What `uipad heatmap` was asked: a run and a data set, or one map and the colour image below it."""

    source: Path
    data: Path | None
    out: Path
    rgb: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    prototypes: bool = False


def heatmap(request: Request, *, report: Report = silent) -> list[Path]:
    """Draw what was asked; the paths written. Raises UsageError, WeightsError, DataError."""
    if request.source.is_dir() or request.data is not None:
        if request.data is None:
            raise UsageError(f"{request.source} is a run: which data set shall it look at?", "give RUN and DATA")
        if request.rgb is not None:
            raise UsageError("--rgb belongs to a single MAP.tiff", "leave it out with RUN and DATA")
        return _of_runs(request, request.data, report)
    if request.prototypes:
        raise UsageError("--prototypes belongs to a run, a map knows of none", "give RUN and DATA")
    return [_of_map(request)]


def _of_runs(request: Request, data: Path, report: Report) -> list[Path]:
    """`<out>/<category>/<defect>/<stem>.png` for every test pair: photo, relief, true defect and heat map in a row."""
    compute = choose_compute(request.device, request.precision, "score")
    written = []
    for folder, records in runs_by_category(request.source, data).items():
        _, method = load_run(folder, compute)
        if request.prototypes and not isinstance(method, PrototypeOwners):
            kind = records[0].config.method
            raise UsageError(f"--prototypes: {kind} has none to show", "give a run of the method uipad")
        for record in records:
            pairs = split_pairs(record, data, "test")
            written += _of_pairs(method, pairs, record, request.out, report)
            if request.prototypes and isinstance(method, PrototypeOwners):
                written += _of_prototypes(method, pairs, record, request.out)
    return written


def _of_pairs(method: Method, pairs: Pairs, record: Checkpoint, out: Path, report: Report) -> list[Path]:
    written = []
    for judged in judge(method, pairs, report, task=record.category):
        shown = at_full_size(judged, pairs.preparation)
        mask = None if shown.item.defect == UNLABELLED else load_mask(shown.item, shown.sample.valid.shape)
        stem = inside(out, out / record.category / shown.item.defect / shown.item.stem)
        row = stem.with_name(f"{stem.name}.png")
        files.write_png(row, sheet([(shown, mask)], record.calibration))
        drawn = draw(stem, shown, record.calibration, found_mask(shown, record.calibration))
        written += [path for path in (row, drawn.heat, drawn.relief, drawn.mask) if path is not None]
    return written


def _of_prototypes(method: PrototypeOwners, pairs: Pairs, record: Checkpoint, out: Path) -> list[Path]:
    """`<out>/<category>/<defect>/<stem>_prototypes.png` of every pair: what each prototype owns, a row per square."""
    written = []
    for item, batch in zip(pairs.items, replace(pairs, batch_size=1), strict=True):
        rows = []
        for photo, owners in zip(batch.rgb, method.owners(batch), strict=True):
            image = np.ascontiguousarray((photo * 255).round().byte().permute(1, 2, 0).numpy())
            rows.append(prototype_row(image, owners.numpy(), f"{item.defect}/{item.stem}"))
        written.append(inside(out, out / record.category / item.defect / f"{item.stem}_prototypes.png"))
        files.write_png(written[-1], contact_sheet(rows, TITLES))
    return written


def _of_map(request: Request) -> Path:
    """One float map as colours, over the photo where one is given; the map's own range where it carries none."""
    scores, about = files.read_map(request.source)
    low, high = about.get("low"), about.get("high")
    if not isinstance(low, float) or not isinstance(high, float) or not low < high:
        if not np.isfinite(scores).any() or np.isinf(scores).any():
            raise DataError(f"{request.source}: no finite scores to draw", "give a map that `uipad infer` wrote")
        low, high = map_range([scores])
    if request.rgb is None:
        picture = colorize(scores, low, high)
    else:
        photo = files.read_rgb(request.rgb)
        if photo.shape[:2] != scores.shape:
            raise DataError(
                f"{request.rgb} is {photo.shape[1]}x{photo.shape[0]}, "
                f"{request.source} is {scores.shape[1]}x{scores.shape[0]}",
                "give the colour image that the map belongs to",
            )
        picture = overlay(photo, scores, low, high)
    path = request.out / f"{request.source.stem.removesuffix('_map')}_heat.png"
    # resolve() raises for loops of links
    if request.rgb is not None and os.path.realpath(path) == os.path.realpath(request.rgb):
        raise UsageError(f"{path} would overwrite the photo itself", "choose another --out")
    files.write_png(path, picture)
    return path
