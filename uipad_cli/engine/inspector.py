"""A loaded run that judges pairs: files and one JSON line for each, for `infer` and its `--watch`."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from uipad_cli.data import files
from uipad_cli.data.geometry import Preparation
from uipad_cli.data.pairs import Pairs
from uipad_cli.data.places import inside
from uipad_cli.data.ply_out import write_ply
from uipad_cli.data.samples import colour_path
from uipad_cli.data.sensor import parse_unit
from uipad_cli.data.surface import surface
from uipad_cli.engine.calibration import Calibration
from uipad_cli.engine.exported import Kind, exported_for, open_export
from uipad_cli.engine.judges import Judge
from uipad_cli.engine.judging import Judged, OnError, at_full_size, judge, pairs_of, without
from uipad_cli.engine.pictures import Mask, draw, heat_overlay
from uipad_cli.engine.record import Checkpoint, find_run
from uipad_cli.engine.runtime import choose_compute, precision_name
from uipad_cli.engine.verdicts import findings, regions_mask, regions_of
from uipad_cli.errors import UipadError, UsageError
from uipad_cli.records import Item, Missing, Progress, Report

ERROR = "error"  # the verdict on a pair that cannot be read

Line = Mapping[str, object]
Tell = Callable[[Line], None]
Taken = Callable[[str], bool]


@dataclass(frozen=True)
class Settings:
    """How an inspector judges and what it writes below `out`.

    unit: of the geometry files, None = as the training data was prepared; missing: the file of a pair that is not
    there; threshold: of the user's own; ply: also write a point cloud of each part; engine: what runs the model, a run
    for torch and an export for the others.
    """

    model: Path
    out: Path
    threshold: float | None = None
    device: str = "auto"
    precision: str = "auto"
    unit: str | None = None
    missing: Missing | None = None
    ply: bool = False
    engine: Literal["torch"] | Kind = "torch"
    compiled: bool = False


@dataclass(frozen=True)
class Inspector:
    """A run that is ready to judge; its calibration is that of the settings."""

    settings: Settings
    record: Checkpoint
    scorer: Judge

    @property
    def calibration(self) -> Calibration:
        """Where verdicts change."""
        return self.record.calibration

    def judge(
        self, items: Sequence[Item], report: Report, on_error: OnError | None = None, *, taken: Taken | None = None
    ) -> Generator[Line, None, None]:
        """The JSON line of every pair, its files written; errors as `judge` (engine/judging.py), and ResourceError.

        taken: whether files of a name below `out` must stay; those of a part that has the same name get a number then,
        and each line tells its "name". Without it they are replaced.
        """
        pairs = self._pairs(items)
        # a batch waits to be written while the next one is scored
        judged = judge(self.scorer, pairs, report, task="infer", on_error=on_error, waiting=pairs.batch_size + 1)
        with closing(judged):
            for one in judged:
                item = one.item
                name = item.name.strip("/") if item.category or item.split else item.stem
                told: Line = {}
                if taken is not None:
                    name = _free(name, taken)
                    told = {"name": name}
                large = at_full_size(one, self.record.preparation, self.settings.missing)
                stem = inside(self.settings.out, self.settings.out / name)
                yield {**self._line(large, stem), **told}

    @property
    def _preparation(self) -> Preparation:
        """That of the training data, in the unit that was told."""
        there = self.record.preparation
        if self.settings.unit is None:
            return there
        sensor = there.sensor.model_copy(update=parse_unit(self.settings.unit))
        return there.model_copy(update={"sensor": sensor})

    def _pairs(self, items: Sequence[Item]) -> Pairs:
        return replace(pairs_of(self.record, items, self.settings.missing), preparation=self._preparation)

    def _line(self, judged: Judged, stem: Path) -> Line:
        """Write the files of a part, remove those of an earlier part of this name; what is said of it."""
        began = time.perf_counter()
        item, calibration, missing = judged.item, self.calibration, self.settings.missing
        geometry = missing != "depth"
        regions = regions_of(judged, calibration)
        found = findings(judged, regions, calibration, self.record.config.framing, geometry=geometry)
        mask = regions_mask(regions, judged.map.shape)
        about = {"score": judged.score, "threshold": calibration.threshold, "low": calibration.map_low}
        map_path = stem.with_name(f"{stem.name}_map.tiff")
        files.write_tiff(map_path, judged.map, {**about, "high": calibration.map_high})
        drawn = draw(stem, judged, calibration, mask, geometry=geometry)
        ply = self._cloud(stem, judged, mask) if self.settings.ply and geometry else None
        if drawn.relief is None:
            stem.with_name(f"{stem.name}_relief.png").unlink(missing_ok=True)
        if ply is None:
            _points(stem).unlink(missing_ok=True)
        shown = item.rgb if item.geometry_kind == "height" else colour_path(item, self.record.preparation.light)
        there: dict[str, object] = {"rgb": str(shown), "depth": str(item.geometry)}
        if missing is not None:
            there |= {missing: None, "missing": missing}
        return {
            **there,
            "score": judged.score,
            "p_value": calibration.p_value(judged.score),
            "threshold": calibration.threshold,
            "unsure_from": calibration.unsure_from,
            "verdict": calibration.verdict(judged.score),
            "regions": [finding.document() for finding in found],
            "map": str(map_path),
            "heatmap": str(drawn.heat),
            "relief": None if drawn.relief is None else str(drawn.relief),
            "mask": str(drawn.mask),
            **({} if ply is None else {"ply": str(ply)}),
            "timing": {
                "read": judged.read_seconds,
                "score": judged.seconds - judged.read_seconds,
                "write": time.perf_counter() - began,
            },
        }

    def _cloud(self, stem: Path, judged: Judged, mask: Mask) -> Path | None:
        """Write <stem>_points.ply: the part as points, coloured as its heat map, with its scores in calibrated units.

        None where no point was measured and looked at.
        """
        found = surface(judged.item, judged.sample, self._preparation)
        there = np.isfinite(found.points).all(axis=2) & ~np.isnan(judged.map)
        if not there.any():
            return None
        calibration = self.calibration
        score = calibration.excess(judged.map)
        path = _points(stem)
        told = f"{'metres' if found.metric else 'no unit: the sensor told none'}; axes of the {found.frame}"
        write_ply(
            path,
            found.points[there],
            heat_overlay(judged, calibration, mask)[there],
            {"score": score[there].astype(np.float32)},
            ["score: 0 is usual on good parts, 1 their upper end", told],
        )
        return path


def unjudged(rgb: Path, geometry: Path, missing: Missing | None, error: UipadError) -> Line:
    """The JSON line of a pair that cannot be judged: its verdict is "error"."""
    named = {"rgb": str(rgb), "depth": str(geometry)} | ({} if missing is None else {missing: None})
    return {**named, "verdict": ERROR, "error": error.message}


def _points(stem: Path) -> Path:
    """Where the points of a part go: never over a scan of the same name, should OUT be the folder of the pairs."""
    return stem.with_name(f"{stem.name}_points.ply")


def _free(name: str, taken: Taken) -> str:
    """The name itself, or with the first number from 2 on that makes it a free one."""
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    return next(one for one in itertools.chain([name], numbered) if not taken(one))


def open_inspector(settings: Settings, report: Report) -> Inspector:
    """Load the run. Raises UsageError for a threshold that is no number and for several runs, WeightsError."""
    if settings.threshold is not None and not math.isfinite(settings.threshold):
        raise UsageError(f"--threshold {settings.threshold} is not a finite number", "give a score, such as 0.12")
    record, scorer, precision = _load(settings)
    record = without(record, settings.missing)
    if precision != record.calibration.precision and settings.threshold is None:
        told = f"note: the threshold was found in {record.calibration.precision}, not in the precision of these scores"
        report(Progress("note", 0, 0, note=told))
    if settings.threshold is not None:
        record = record.model_copy(
            update={"calibration": record.calibration.told("given", settings.threshold, settings.threshold)}
        )
    return Inspector(settings, record, scorer)


def _load(settings: Settings) -> tuple[Checkpoint, Judge, str]:
    """The record of a run, what judges by it, and the precision in which it computes."""
    folder = settings.model
    if settings.engine != "torch":
        if settings.compiled:
            raise UsageError("--compile: an exported model is compiled already", "leave --compile out")
        if settings.missing is not None:
            told = f"--missing {settings.missing}: an exported model judges whole pairs alone"
            raise UsageError(told, "leave --engine out, and give the run")
        return open_export(folder, settings.engine, settings.device, settings.precision)
    kind = exported_for(folder)
    if kind is not None:
        told = f"{folder} is an export for {kind}, and --engine torch takes a run"
        raise UsageError(told, f"add --engine {kind}, or give the folder that `uipad train --out` made")
    from uipad_cli.engine.checkpoint import load_run  # with torch, which nothing else here needs

    run = find_run(folder)
    compute = choose_compute(settings.device, settings.precision, "score", compiled=settings.compiled)
    record, method = load_run(run, compute)
    return record, method, precision_name(method.compute)
