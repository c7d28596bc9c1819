"""One pair, or a folder of pairs → verdicts, anomaly maps and heat maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from uipad_cli.data import choose_category, files, open_dataset
from uipad_cli.data.folder import pair
from uipad_cli.data.framing import resize
from uipad_cli.data.geometry import Preparation
from uipad_cli.data.layout import GEOMETRIES, IMAGES, by_stem
from uipad_cli.data.samples import colour_path
from uipad_cli.data.sensor import parse_unit
from uipad_cli.engine.checkpoint import Checkpoint, find_runs, load_run
from uipad_cli.engine.judging import Judged, check_preparation, judge, pairs_of, without
from uipad_cli.engine.pictures import heat_overlay
from uipad_cli.engine.runtime import choose_compute, precision_name
from uipad_cli.errors import DataError, PartialError, UsageError
from uipad_cli.records import GOOD, Item, Missing, Progress, Report, silent

ANOMALOUS = "anomalous"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Request:
    """What `uipad infer` was asked: a pair (rgb, depth) or a folder (rgb alone), a run, and where results go.

    unit: of the geometry files, None = as the training data was prepared; missing: the file of a
    pair that is not there, so that `rgb` is the only one, whichever it is.
    """

    rgb: Path
    depth: Path | None
    model: Path
    out: Path
    threshold: float | None = None
    device: str = "auto"
    precision: str = "auto"
    unit: str | None = None
    missing: Missing | None = None


@dataclass(frozen=True)
class Outcome:
    """How many parts were judged and found anomalous, and which could not be read."""

    judged: int
    anomalous: int
    failures: Sequence[str]

    def raise_for_failures(self) -> None:
        """Raise PartialError naming the first pairs that could not be judged."""
        if self.failures:
            told = "; ".join(self.failures[:3])
            count = f"{len(self.failures)} of {self.judged + len(self.failures)} pairs could not be judged"
            raise PartialError(f"{count}: {told}", "mend or remove those files; all others are judged")


def infer(request: Request, *, tell: Callable[[Mapping[str, object]], None], report: Report = silent) -> Outcome:
    """Judge and write `<name>_map.tiff` (float) and `<name>_heat.png` below `out`; `tell` hears each verdict.

    Raises UsageError, WeightsError, ResourceError; DataError when a single pair cannot be read.
    """
    if request.threshold is not None and not math.isfinite(request.threshold):
        raise UsageError(f"--threshold {request.threshold} is not a finite number", "give a score, such as 0.12")
    runs = find_runs(request.model)
    if len(runs) > 1:
        names = ", ".join(folder.name for folder in runs[:5])
        raise UsageError(f"{request.model} holds several runs", f"name one of them: {names}")
    record, method = load_run(runs[0], choose_compute(request.device, request.precision, "score"))
    record = without(record, request.missing)
    single = request.depth is not None or (request.missing is not None and request.rgb.is_file())
    items = _items(request, record)
    if not single:
        check_preparation(record, request.rgb)
    if precision_name(method.compute) != record.calibration.precision and request.threshold is None:
        told = f"note: the threshold was found in {record.calibration.precision}, not in the precision of these scores"
        report(Progress("note", 0, 0, note=told))
    failures: list[str] = []

    def note_failure(item: Item, error: DataError) -> None:
        failures.append(error.message)

    verdicts = []
    on_error = None if single else note_failure
    pairs = pairs_of(record, items, request.missing)
    if request.unit is not None:
        sensor = record.preparation.sensor.model_copy(update=parse_unit(request.unit))
        pairs = replace(pairs, preparation=record.preparation.model_copy(update={"sensor": sensor}))
    for judged in judge(method, pairs, report, task="infer", on_error=on_error):
        verdict = _verdict(judged, record, request)
        tell(verdict)
        verdicts.append(verdict["verdict"])
    return Outcome(len(verdicts), verdicts.count(ANOMALOUS), failures)


def _items(request: Request, record: Checkpoint) -> list[Item]:
    """The pairs asked for, whatever their labels, of categories that the run knows. Raises UsageError, DataError."""
    if request.depth is not None and request.missing is not None:
        raise UsageError(f"--missing {request.missing}, and yet both files are given", "give the one that is there")
    if request.depth is not None or (request.missing is not None and not request.rgb.is_dir()):
        return [pair(request.rgb, request.depth or request.rgb, depth=request.missing == "depth")]
    if request.missing is not None and (there := _lone_files(request.rgb, request.missing)):
        return there
    if not request.rgb.is_dir():
        raise UsageError(
            f"{request.rgb} is not a folder, and no depth image was given",
            "give a pair (RGB DEPTH), a folder of pairs, or say --missing depth",
        )
    dataset = open_dataset(request.rgb)
    categories = dataset.categories(request.rgb)
    if len(categories) > 1:
        known = [name for name in categories if name in record.learned]
        categories = known or [choose_category(categories, record.category)]
    found = [item for name in categories for split in SPLITS for item in dataset.scan(request.rgb, name, split)]
    if not found:
        raise DataError(f"{request.rgb}: no pairs found", "a folder of pairs holds rgb/ beside xyz/ or depth/")
    return found


def _lone_files(folder: Path, missing: Missing) -> list[Item]:
    """The files that lie in a folder itself, each as a pair of which it is the only one. Raises DataError."""
    found = sorted(by_stem(folder, IMAGES if missing == "depth" else GEOMETRIES).items())
    return [pair(path, path, depth=missing == "depth") for _, path in found]


def _full_size(judged: Judged, preparation: Preparation, missing: Missing | None) -> Judged:
    """A raw pair that was scaled down for judging (`longest`) with its photo and map as large as it came."""
    if preparation.longest is None or judged.item.geometry_kind == "height" or missing == "rgb":
        return judged
    photo = files.read_rgb(colour_path(judged.item, preparation.light))
    size = (photo.shape[0], photo.shape[1])
    scores = resize(np.nan_to_num(judged.map), size)
    scores[resize(np.isnan(judged.map), size, nearest=True)] = np.nan
    return replace(judged, map=scores, sample=replace(judged.sample, rgb=photo))


def _verdict(judged: Judged, record: Checkpoint, request: Request) -> dict[str, object]:
    """Write the map and its picture; what the JSON line says."""
    item, calibration = judged.item, record.calibration
    threshold = calibration.threshold if request.threshold is None else request.threshold
    name = item.name.strip("/") if item.category or item.split else item.stem
    map_path, picture_path = request.out / f"{name}_map.tiff", request.out / f"{name}_heat.png"
    about = {"score": judged.score, "threshold": threshold, "low": calibration.map_low, "high": calibration.map_high}
    judged = _full_size(judged, record.preparation, request.missing)
    files.write_tiff(map_path, judged.map, about)
    files.write_png(picture_path, heat_overlay(judged, calibration))
    shown = item.rgb if item.geometry_kind == "height" else colour_path(item, record.preparation.light)
    there: dict[str, object] = {"rgb": str(shown), "depth": str(item.geometry)}
    if request.missing is not None:
        there |= {request.missing: None, "missing": request.missing}
    return {
        **there,
        "score": judged.score,
        "threshold": threshold,
        "verdict": ANOMALOUS if judged.score > threshold else GOOD,
        "map": str(map_path),
        "heatmap": str(picture_path),
        "seconds": judged.seconds,
    }
