"""Good parts, or labelled ones, and a finished run → where its verdicts change; the run keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from uipad_cli.data.pairs import Pairs
from uipad_cli.data.places import inside
from uipad_cli.engine.calibration import Calibration, Rule
from uipad_cli.engine.checkpoint import load_run
from uipad_cli.engine.fingerprint import Fingerprint, fingerprinted, save_fingerprints, settle
from uipad_cli.engine.judging import Judged, check_preparation, items_in, judge, pairs_of, voice_map
from uipad_cli.engine.locking import sole_writer
from uipad_cli.engine.record import CALIBRATION_FILE, RECORD, Checkpoint, find_runs, read_record
from uipad_cli.engine.runtime import choose_compute, precision_name
from uipad_cli.engine.sealed import write_sealed
from uipad_cli.errors import DataError, UsageError
from uipad_cli.methods.base import Method
from uipad_cli.metrics.calibrate import bounds_from_good, joined_ranges, map_range
from uipad_cli.metrics.labelled import Loss, bounds_from_labelled, cost_loss, f1_loss
from uipad_cli.records import GOOD, KNOWN, UNLABELLED, Item, Missing, Report, Voice, silent


@dataclass(frozen=True)
class Request:
    """What `uipad calibrate` was asked: a run, parts (None = the good ones it kept), and a way to draw the bounds.

    rate, unsure: of good parts; or a threshold of the user's own; or from labels by the best F1 or by these costs.
    """

    run: Path
    data: Path | None
    rate: float | None = None
    unsure: float | None = None
    threshold: float | None = None
    f1: bool = False
    cost_miss: float | None = None
    cost_false_alarm: float | None = None
    device: str = "auto"
    precision: str = "auto"


@dataclass(frozen=True)
class Calibrated:
    """A run and its new calibration."""

    folder: Path
    calibration: Calibration
    notes: Sequence[str]

    def sentences(self) -> list[str]:
        """For people."""
        return [f"{self.folder.name}: {told}" for told in (*self.notes, *self.calibration.sentences())]

    def document(self) -> dict[str, object]:
        """The JSON of `calibrate`."""
        return {
            "run": str(self.folder),
            **self.calibration.model_dump(mode="json"),
            "notes": [*self.notes, *self.calibration.sentences()],
        }


def calibrate(request: Request, *, report: Report = silent) -> list[Calibrated]:
    """Draw bounds anew and write them into every run at `request.run`.

    Raises UsageError for choices that exclude each other or cannot be held, DataError where the parts they need are not
    there, WeightsError, ResourceError.
    """
    loss = _checked(request)
    done, drawn = [], []
    for folder in find_runs(request.run):
        inside(request.run, folder / RECORD)
        record = read_record(folder)
        notes: list[str] = []
        seen: list[Fingerprint] = []
        if request.data is not None:
            record = _measured(folder, record, request, request.data, loss, notes, seen, report)
        if request.threshold is not None:
            told = record.calibration.told("given", request.threshold, request.threshold)
            record = record.model_copy(update={"calibration": told})
        elif loss is None:
            record = _bounded(record, request)
        if record.missing and (request.threshold is not None or loss is not None):
            notes.append("bounds of pairs that miss a file are as before")
        drawn.append((folder, record, seen))
        done.append(Calibrated(folder, record.calibration, notes))
    with ExitStack() as writers:  # of all of them, or of none
        for folder, _, _ in drawn:
            writers.enter_context(sole_writer(folder, report))
        for folder, record, seen in drawn:
            hashes = record.sha256 | ({CALIBRATION_FILE: save_fingerprints(folder, seen, record)} if seen else {})
            written = record.model_copy(update={"sha256": hashes})
            write_sealed(folder / RECORD, written.model_dump(mode="json"))
            settle(folder, written)
    return done


@dataclass(frozen=True)
class Kept:
    """Good parts that a run is calibrated by, and what they are (engine/calibration.py)."""

    pairs: Pairs
    source: str
    learned_from: bool = False
    mixture: bool = False


def calibrated(
    method: Method, kept: Kept, report: Report
) -> tuple[Calibration, dict[Missing, Calibration], list[Fingerprint]]:
    """Bounds and colours from good parts, the same where one file is missing, and fingerprints of the parts.

    Raises DataError, WeightsError.
    """
    seen: list[Fingerprint] = []
    whole = fingerprinted(method, kept.pairs, judge(method, kept.pairs, report, task="calibrate"), seen)
    calibration = _from_judged(whole, kept, precision_name(method.compute))
    missing = {}
    for name, known in KNOWN.items():
        if known in method.alone:
            half = judge(method, replace(kept.pairs, known=known), report, task="calibrate")
            missing[name] = _from_judged(half, kept, precision_name(method.compute))
    return calibration, missing, seen


def _from_judged(judged: Iterable[Judged], kept: Kept, precision: str) -> Calibration:
    """From parts judged one by one: their maps are not kept in memory together."""
    scores, ranges = [], []
    voices: dict[Voice, list[tuple[float, float]]] = {}
    for one in judged:
        scores.append(one.score)
        ranges.append(map_range([one.map]))
        for voice in one.voices:
            voices.setdefault(voice, []).append(map_range([voice_map(one, voice, kept.pairs.framing)]))
    low, high = joined_ranges(ranges)
    return Calibration(
        **vars(bounds_from_good(scores)),
        scores=tuple(sorted(scores)),
        source=kept.source,
        learned_from=kept.learned_from,
        mixture=kept.mixture,
        precision=precision,
        map_low=low,
        map_high=high,
        voices={voice: joined_ranges(found) for voice, found in voices.items()},
    ).bounded(None, None)


def _checked(request: Request) -> Loss | None:
    """The loss of a threshold from labels, None for another rule. Raises UsageError."""
    costs = request.cost_miss is not None or request.cost_false_alarm is not None
    rates = request.rate is not None or request.unsure is not None
    named = {
        "--threshold": request.threshold is not None,
        "--f1": request.f1,
        "--cost-miss or --cost-false-alarm": costs,
        "--fpr": rates,
    }
    chosen = [name for name, there in named.items() if there]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} are different ways to a threshold", "choose one of them")
    if request.threshold is not None and not np.isfinite(request.threshold):
        raise UsageError(f"--threshold {request.threshold} is not a finite number", "give a score, such as 1.9")
    if request.data is None and (request.f1 or costs):
        raise UsageError(f"{chosen[0]} needs labelled parts", "give DATA with a test split of good and defective parts")
    if request.f1:
        return f1_loss
    if not costs:
        return None
    try:
        return cost_loss(
            1.0 if request.cost_miss is None else request.cost_miss,
            1.0 if request.cost_false_alarm is None else request.cost_false_alarm,
        )
    except ValueError as error:
        raise UsageError(str(error), "such as --cost-miss 10 --cost-false-alarm 1") from error


def _measured(
    folder: Path, record: Checkpoint, request: Request, data: Path, loss: Loss | None, notes: list[str],
    seen: list[Fingerprint], report: Report,
) -> Checkpoint:  # fmt: skip
    """The record with what the parts of `data` say; the fingerprints of good ones go into `seen`."""
    check_preparation(record, data)
    _, method = load_run(folder, choose_compute(request.device, request.precision, "score"))
    items = items_in(record, data)
    if loss is not None:
        tested = [item for item in items if item.split == "test" and item.defect != UNLABELLED]
        return _from_labels(record, method, tested, loss, request, notes, report)
    good, source = _good_parts(items, data, notes)
    kept = Kept(pairs_of(record, good), source, mixture=len({item.category for item in good}) > 1)
    calibration, missing, prints = calibrated(method, kept, report)
    seen.extend(prints)
    return record.model_copy(update={"calibration": calibration, "missing": missing})


def _from_labels(
    record: Checkpoint, method: Method, labelled: Sequence[Item], loss: Loss, request: Request, notes: list[str],
    report: Report,
) -> Checkpoint:  # fmt: skip
    scores = [one.score for one in judge(method, pairs_of(record, labelled), report, task="calibrate")]
    try:
        found = bounds_from_labelled(scores, [not item.is_good for item in labelled], loss)
    except ValueError as error:
        raise DataError(f"{request.data}: {error}", "give labelled good and defective parts in a test split") from error
    notes.append(
        f"of these {len(labelled)} parts, {found.threshold:.4g} misses {found.missed} and raises {found.false_alarms} "
        "false alarm(s); on the parts that it was chosen by, eval will look better than on others"
    )
    rule: Rule = "f1" if request.f1 else "cost"
    told = record.calibration.told(rule, found.threshold, found.unsure_from, precision_name(method.compute))
    return record.model_copy(update={"calibration": told})


def _good_parts(items: Sequence[Item], data: Path, notes: list[str]) -> tuple[list[Item], str]:
    """Good parts that the run did not learn from, and what they are called. Raises DataError where there are none."""
    kept = [item for item in items if item.split == "validation" and item.is_good]
    if kept:
        return kept, "validation"
    kept = [item for item in items if item.split == "test" and item.defect in (GOOD, UNLABELLED)]
    if not kept:
        raise DataError(
            f"{data}: no good parts beside those learned from",
            "give a folder of good pairs, or a data set with a validation split",
        )
    unlabelled = sum(item.defect == UNLABELLED for item in kept)
    if unlabelled:
        notes.append(f"{unlabelled} parts without a label are taken to be good")
    else:
        notes.append("no validation split: the good test parts are taken, whose false alarms eval will then understate")
    return kept, data.name


def _bounded(record: Checkpoint, request: Request) -> Checkpoint:
    missing = {name: one.bounded(request.rate, request.unsure) for name, one in record.missing.items()}
    calibration = record.calibration.bounded(request.rate, request.unsure)
    return record.model_copy(update={"calibration": calibration, "missing": missing})
