"""Good pairs of a category, or of all of them → a checkpoint folder; stops in good order, resumes where it stood."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from uipad_cli import config as settings
from uipad_cli.config import Configuration
from uipad_cli.core.compute import Compute
from uipad_cli.engine.calibrate import Kept, calibrated
from uipad_cli.engine.checkpoint import build_method, load_tensors, method_class, save_run
from uipad_cli.engine.feature_cache import open_cache
from uipad_cli.engine.fingerprint import save_fingerprints
from uipad_cli.engine.locking import Held, sole_writer
from uipad_cli.engine.record import (
    BEGIN_AGAIN,
    CALIBRATION_FILE,
    RECORD,
    TRAINING_FILE,
    Checkpoint,
    Claim,
    RunConfig,
    read_record,
    versions,
)
from uipad_cli.engine.recorder import Recorder
from uipad_cli.engine.runtime import Purpose, StopRequest, choose_compute, precision_name
from uipad_cli.engine.sealed import read_sealed, write_sealed
from uipad_cli.engine.selection import Chosen, chosen_pairs
from uipad_cli.engine.weights import LoadedEncoder, fit_framing, load_encoder
from uipad_cli.errors import UsageError, WeightsError
from uipad_cli.methods.base import CollapseError, Method, Shelf
from uipad_cli.methods.features import part_of
from uipad_cli.methods.parts import in_parts
from uipad_cli.records import Batch, Progress, Report, silent

RUN_FILE = "run.json"
GAUGED_PAIRS = 4


@dataclass(frozen=True)
class TrainSummary:
    """What a finished training has to say."""

    folder: Path
    record: Checkpoint
    seconds: float

    def sentences(self) -> list[str]:
        """For people: what was learned, and what its verdicts promise."""
        record, training = self.record, self.record.training
        told = f"{training['pairs']:.0f} pairs, {training.get('steps', 0):.0f} steps, {self.seconds:.0f} s"
        return [f"{self.folder}: {record.category}, {told}", *record.calibration.sentences()]

    def document(self) -> dict[str, object]:
        """The JSON of `train`."""
        kept = self.record.model_dump(
            mode="json", include={"category", "calibration", "gauges", "training", "versions"}
        )
        return {"run": str(self.folder), "seconds": self.seconds, **kept}


def train(
    data: Path,
    out: Path,
    *,
    category: str,
    configuration: Configuration,
    weights: Path | None = None,
    cache: bool = True,
    report: Report = silent,
) -> TrainSummary:
    """Train on the prepared good pairs of one category, or of `all` together, and write the checkpoint folder `out`.

    An unfinished run of the same settings and data goes on where it stood, a finished one is left as it is.
    cache: keep the features of good parts on disk for the next run (engine/feature_cache.py), else in memory.
    Raises UsageError, DataError, WeightsError, ResourceError; CollapseError when the model went blind;
    Terminated or KeyboardInterrupt, after saving, when asked to stop.
    """
    config = complete(configuration)
    shelf = open_cache(report) if cache else None
    chosen = chosen_pairs(data, category, weights, config)
    with sole_writer(out, report) as held:
        if (out / RECORD).is_file():
            return _finished(out, chosen.claim, config, report)
        return _trained(held, chosen, config, weights, shelf, report)


def _trained(
    held: Held, chosen: Chosen, config: RunConfig, weights: Path | None, shelf: Shelf | None, report: Report
) -> TrainSummary:
    started, out = time.perf_counter(), held.folder
    training, claim = chosen.training, chosen.claim
    saved = _look(out, claim, config, report)
    loaded = load_encoder(config.backbone, weights, config.framing.crop)
    purpose: Purpose = "train" if method_class(config.method).trains else "score"
    method = build_method(config, loaded.encoder, choose_compute(config.device, config.precision, purpose))

    write_sealed(out / RUN_FILE, identity(claim, config))
    done = 0 if saved is None else int(saved["step"])
    with StopRequest() as stop, Recorder(out, report, stop, done=done) as recorder:
        try:
            method.fit(training, recorder.report, resume=saved, shelf=shelf)
        except CollapseError:
            _leave(out)
            raise
        stop.obey()
        scorer = _for_scoring(method, config, loaded)
        kept = Kept(chosen.kept, chosen.source, chosen.learned_from, mixture=len(claim.learned) > 1)
        calibration, missing, seen = calibrated(scorer, kept, recorder.report)
        record = Checkpoint(
            **claim.model_dump(),
            config=config,
            backbone_source=loaded.source,
            preparation=training.preparation,
            height_scale=training.scale,
            calibration=calibration,
            missing=missing,
            gauges=_gauged(scorer, next(iter(replace(training, batch_size=GAUGED_PAIRS)))),
            training={"pairs": float(len(training.items)), "steps": float(recorder.done), **recorder.last},
            versions=versions(),
            sha256=save_run(out, method, loaded.encoder) | {CALIBRATION_FILE: save_fingerprints(out, seen)},
        )
    held.check()
    write_sealed(out / RECORD, record.model_dump(mode="json"))
    _leave(out)
    return TrainSummary(out, record, time.perf_counter() - started)


def complete(configuration: Configuration) -> RunConfig:
    """The validated configuration, every default of the method's options filled in, the crop in whole patches.

    Raises UsageError.
    """
    config = settings.build(RunConfig, configuration)
    options = settings.build(method_class(config.method).Options, configuration, "options")
    framing = fit_framing(config.framing, config.backbone)
    return config.model_copy(update={"options": options.model_dump(mode="json"), "framing": framing})


def claimed(out: Path) -> Any:
    """The `identity` of the run in `out`, finished or not; None where there is none. Raises WeightsError, DataError."""
    if (out / RECORD).is_file():
        return read_record(out).model_dump(mode="json", include={*Claim.model_fields, "config"})
    return filled(read_sealed(out / RUN_FILE, BEGIN_AGAIN)) if (out / RUN_FILE).is_file() else None


def filled(found: Any) -> Any:
    """An `identity` that an older uipad wrote, with the defaults of what it did not know; anything else as it is."""
    try:
        claim = Claim.model_validate({name: found[name] for name in Claim.model_fields if name in found})
        return identity(claim, RunConfig.model_validate(found["config"]))
    except (KeyError, TypeError, ValidationError):
        return found


def identity(claim: Claim, config: RunConfig) -> dict[str, Any]:
    """What two trainings must share to be the same run."""
    return {**claim.model_dump(mode="json"), "config": config.model_dump(mode="json")}


def _look(out: Path, claim: Claim, config: RunConfig, report: Report) -> dict[str, Tensor] | None:
    """The saved training state of `out` where it has one. Raises UsageError where `out` is another run's."""
    if not (out / RUN_FILE).is_file():
        return None
    _check_same(out, "an unfinished", claimed(out), identity(claim, config))
    if not (out / TRAINING_FILE).is_file():
        return None
    saved = load_tensors(out / TRAINING_FILE)
    if "step" not in saved:
        raise WeightsError(f"{out / TRAINING_FILE}: not a training state", BEGIN_AGAIN)
    told = f"note: {out} holds an unfinished run of these settings, which goes on after step {int(saved['step'])}"
    report(Progress("note", 0, 0, note=told))
    return saved


def _check_same(out: Path, kind: str, before: Any, now: Mapping[str, Any]) -> None:
    """Raise UsageError naming what differs between a run in `out` and the one that is asked for."""
    changed = _differences(before, now)
    if not changed:
        return
    words = {"data_sha256": "the prepared data", "weights_sha256": "the file given with --weights"}
    told = [next((word for key, word in words.items() if one.startswith(key)), one) for one in changed]
    cure = "choose another --out, or remove that folder"
    raise UsageError(f"{out} holds {kind} run with other settings: {', '.join(told)}", cure)


def _differences(before: Any, now: Any, prefix: str = "") -> list[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = sorted({*before, *now})
        return [told for key in keys for told in _differences(before.get(key), now.get(key), f"{prefix}{key}.")]
    return [] if before == now else [f"{prefix.rstrip('.')} was {before!r}, is {now!r}"]


def _finished(out: Path, claim: Claim, config: RunConfig, report: Report) -> TrainSummary:
    """An already finished run with these settings. Raises UsageError when it was made with others."""
    record = read_record(out)
    _check_same(out, "a finished", claimed(out), identity(claim, config))
    report(Progress("note", 0, 0, note=f"note: {out} holds this run already, finished; nothing is done"))
    _leave(out)  # should it have been killed right after its last file was written
    return TrainSummary(out, record, 0.0)


def _leave(out: Path) -> None:
    """Remove what only an unfinished run needs."""
    for name in (TRAINING_FILE, RUN_FILE):
        (out / name).unlink(missing_ok=True)


def _gauged(method: Method, batch: Batch) -> dict[str, float]:
    """Gauges of a batch, or of as many of its pairs as the memory takes."""
    return next(in_parts(lambda some: method.gauges(part_of(batch, some)), len(batch), len(batch), lambda _: None))


def _for_scoring(method: Method, config: RunConfig, loaded: LoadedEncoder) -> Method:
    """The same method in the precision that `infer` will score with: a threshold must come from the same arithmetic."""
    compute = choose_compute(config.device, config.precision, "score")
    if precision_name(compute) == "fp32":
        scorer = build_method(config, loaded.encoder, compute)
        scorer.restore(method.state())
    else:  # as `load_run` makes it; the encoder itself is still to be saved
        encoder = copy.deepcopy(loaded.encoder).cpu()
        scorer = build_method(config, encoder, Compute(torch.device("cpu")))
        scorer.restore(method.state())
        scorer.lighten(compute)
    return scorer
