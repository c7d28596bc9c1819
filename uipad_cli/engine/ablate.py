"""Prepared data and configurations → one table: each is trained and judged on every category over several seeds.

    OUT/ROW/CATEGORY/SEED.json           what a run came to; with the same settings and data it is not made again
    OUT/ROW/CATEGORY/SEED/               the run itself, as `uipad train` makes it; gone once its record is written
    OUT/table.md, table.tex, table.json  written again after every row
"""  # fmt: skip

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from uipad_cli.config import Configuration, merge
from uipad_cli.data import files, prepared
from uipad_cli.data.prepared import Manifest
from uipad_cli.engine.evaluate import CategoryResult, evaluate, mean_metrics
from uipad_cli.engine.record import LOG_FILE, RECORD, Claim, RunConfig, versions
from uipad_cli.engine.runtime import choose_compute
from uipad_cli.engine.selection import check_shots, claim_of
from uipad_cli.engine.tally import Record, Table
from uipad_cli.engine.train import RUN_FILE, claimed, complete, filled, identity, train
from uipad_cli.engine.weights import load_encoder
from uipad_cli.errors import DataError, Terminated, UsageError
from uipad_cli.methods.base import CollapseError
from uipad_cli.records import Progress, Report, silent

AGAIN = "run the same command again to go on: what is finished is not made again"
PAPER = re.compile(r"#\s*Paper:\s*(\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)(?:\s|$)")


@dataclass(frozen=True)
class Row:
    """A configuration under the name of its file, checked. paper: what its authors print, image AUROC / AUPRO in %."""

    name: str
    configuration: Configuration
    config: RunConfig
    paper: str | None = None


@dataclass(frozen=True)
class Run:
    """One row on one category with one seed."""

    row: Row
    claim: Claim
    seed: int
    out: Path

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.row.name}, {self.claim.category}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Where it is trained."""
        return self.out / self.row.name / self.claim.category / str(self.seed)

    @property
    def record(self) -> Path:
        """Where its figures are kept."""
        return self.folder.with_name(f"{self.seed}.json")

    @property
    def identity(self) -> dict[str, Any]:
        """What its record must say to stand for it."""
        return identity(self.claim, self.row.config.model_copy(update={"seed": self.seed}))

    def known(self) -> Record | None:
        """Its record, where an earlier call has made the same run. Raises DataError for a file that is no JSON."""
        if not self.record.is_file():
            return None
        try:
            found = Record.model_validate(files.read_json(self.record))
        except ValidationError:  # of another version
            return None
        return found if filled(found.identity) == self.identity else None


def read_rows(paths: Sequence[Path], settings: Sequence[str], flags: Mapping[str, object | None]) -> list[Row]:
    """A row for each file, and for each *.yaml of a folder; settings and flags go over all. Raises UsageError."""
    found: dict[str, Path] = {}
    rows = []
    for path in itertools.chain.from_iterable(_files(path) for path in paths):
        if path.stem in found:
            raise UsageError(f"{found[path.stem]} and {path} would both be row {path.stem}", "rename one of them")
        found[path.stem] = path
        configuration = merge([path], settings, flags)
        if "seed" in configuration.origins:
            raise UsageError(f"{configuration.origins['seed']}: seed is not free in this table", "give --seeds")
        rows.append(Row(path.stem, configuration, complete(configuration), _paper(path)))
    return rows


def ablate(
    data: Path, out: Path, rows: Sequence[Row], *, seeds: int = 3, categories: Sequence[str] = (), keep: bool = False,
    report: Report = silent,
) -> Table:  # fmt: skip
    """Make every run that has no record yet, and the table; what can be known to fail does so before the first one.

    keep: the folders of the runs stay. Raises UsageError, DataError, WeightsError, ResourceError; Terminated or
    KeyboardInterrupt when asked to stop, and goes on from there when called again.
    """
    manifest = prepared.read_manifest(data)
    claims = [_claim(data, manifest, name) for name in dict.fromkeys(categories or manifest.categories)]
    for row, claim in itertools.product(rows, claims):
        for name in claim.learned:
            pairs = manifest.categories[name].pairs
            check_shots(row.config.shots, name, sum(pair.startswith("train/good/") for pair in pairs))
    runs = [Run(row, claim, seed, out) for row in rows for claim in claims for seed in range(seeds)]
    known = [run.known() for run in runs]
    _check([run.row for run, record in zip(runs, known, strict=True) if record is None])
    table = Table(data, {})
    for place, (run, found) in enumerate(zip(runs, known, strict=True), start=1):
        made = "" if found is None else ", made before"
        report(Progress("note", 0, 0, note=f"{run.title}: run {place} of {len(runs)}{made}"))
        record = found or _make(run, data, keep, _watch(report, run, place - 1, len(runs)))
        table = Table(data, {**table.rows, run.row.name: run.row.paper}, (*table.records, record))
        report(Progress("ablate", place, len(runs), note=run.title))
        if place % (len(claims) * seeds) == 0:
            table.write(out)
    return table


def _files(path: Path) -> list[Path]:
    """The path itself, or the configurations of a folder."""
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.yaml"), key=_natural)
    if not found:
        raise UsageError(f"{path}: no *.yaml here", "give a YAML file, or the folder that holds them")
    return found


def _natural(path: Path) -> list[str | int]:
    """Order of names as people mean it: 6 before 12."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.stem)]


def _paper(path: Path) -> str | None:
    """What the file's head says about the paper, as `# Paper: 96.8 / 98.1`. Raises UsageError."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(itertools.takewhile(lambda line: line.startswith("#") or not line.strip(), lines), 1):
        if re.match(r"#\s*Paper:", line):
            if values := PAPER.match(line):
                return f"{values[1]} / {values[2]}"
            raise UsageError(f"{path}:{number}: {line!r} is not image AUROC / AUPRO", "write `# Paper: 96.8 / 98.1`")
    return None


def _claim(data: Path, manifest: Manifest, wanted: str) -> Claim:
    """What the runs on a category learn from. Raises DataError where there is nothing to learn from or to judge."""
    claim = claim_of(manifest, wanted)
    for name, split in itertools.product(claim.learned, ("train/good", "test")):
        if not any(pair.startswith(f"{split}/") for pair in manifest.categories[name].pairs):
            raise DataError(f"{data}: category {name} has no {split} pairs", f"prepare its {split} folder")
    return claim


def _check(rows: Iterable[Row]) -> None:
    """Devices and weights are there. Raises ResourceError, WeightsError."""
    configs = [row.config for row in rows]
    for device, precision in dict.fromkeys((config.device, config.precision) for config in configs):
        choose_compute(device, precision, "score")
    for backbone, crop in dict.fromkeys((config.backbone, config.framing.crop) for config in configs):
        load_encoder(backbone, None, crop)


def _make(run: Run, data: Path, keep: bool, report: Report) -> Record:
    """Train and judge; an unfinished training of the same run goes on."""
    config, folder = run.row.config, run.folder
    went_on = claimed(folder) == run.identity
    if not went_on:
        _clear(folder)
    origins = {**run.row.configuration.origins, "seed": "--seeds"}
    configuration = Configuration({**run.row.configuration.values, "seed": run.seed}, origins)
    try:
        trained = train(
            data, folder, category=run.claim.category, configuration=configuration, report=report
        )  # fmt: skip
        results = evaluate(folder, data, device=config.device, precision=config.precision, report=report)
        means = mean_metrics(results)
        figures: dict[str, Any] = {
            **{name: means[name] for name in ("image_auroc", "aupro_30", "pixel_auroc")},
            "by_defect": _by_defect(results),
            "training_seconds": None if went_on else trained.seconds,
            "seconds_per_pair": statistics.median(result.seconds_per_pair for result in results),
            "steps": int(trained.record.training["steps"]),
            "gauges": trained.record.gauges,
        }
    except CollapseError as error:
        figures = {"collapsed": error.message, **_last_step(folder / LOG_FILE)}
    except Terminated as stop:
        raise Terminated(stop.message, AGAIN) from stop
    device = str(choose_compute(config.device, config.precision, "score").device)
    about: dict[str, Any] = {
        "row": run.row.name,
        "category": run.claim.category,
        "seed": run.seed,
        "identity": run.identity,
    }
    record = Record(**about, **figures, device=device, versions=versions())
    files.write_json(run.record, record.model_dump(mode="json"))
    if not keep:
        _clear(folder)
    return record


def _by_defect(results: Sequence[CategoryResult]) -> dict[str, float | None]:
    """Image AUROC of each defect, of CATEGORY/DEFECT where one model knows several categories."""
    if len(results) == 1:
        return dict(results[0].by_defect)
    return {f"{one.record.category}/{name}": value for one in results for name, value in one.by_defect.items()}


def _last_step(log: Path) -> dict[str, Any]:
    """Where a collapsed training stood."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    last = json.loads(lines[-1]) if lines else {"step": 0}
    gauges = {name: value for name, value in last.items() if name != "step" and math.isfinite(value)}
    return {"steps": last["step"], "gauges": gauges}


def _clear(folder: Path) -> None:
    """Remove a run of ours. Raises UsageError where the folder holds something else."""
    if not folder.exists():
        return
    names = {path.name for path in folder.iterdir()}
    if names and names.isdisjoint((RECORD, RUN_FILE, LOG_FILE)):
        raise UsageError(f"{folder}: holds something that is not a run", "choose another --out, or remove that folder")
    shutil.rmtree(folder)


def _watch(report: Report, run: Run, done: int, total: int) -> Report:
    """A `Report` for the steps of one run: they become remarks on the one bar of the whole table."""

    def told(step: Progress) -> None:
        note = f"{run.title}: {step.task} {step.done}/{step.total}" if step.total else step.note
        report(Progress("ablate", done, total, note=note, values=step.values))

    return told
