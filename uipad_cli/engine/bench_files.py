"""From the files of one pair to its verdict, stage by stage, along the very road that `infer` goes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from uipad_cli.data import files, pairs, samples
from uipad_cli.engine import judges, judging
from uipad_cli.engine.bench_clock import Clock
from uipad_cli.engine.bench_stages import Seam, shares
from uipad_cli.engine.bench_subject import Subject, Workload
from uipad_cli.engine.calibrate import Kept, calibrated
from uipad_cli.engine.inspector import Inspector, Settings
from uipad_cli.engine.record import Checkpoint, versions
from uipad_cli.engine.runtime import precision_name
from uipad_cli.methods.base import Method
from uipad_cli.metrics.timing import Timing, timing
from uipad_cli.records import silent

DECODE, GEOMETRY, FRAMING, MODEL, MAP, WRITE, REST = (
    "decode", "geometry", "framing", "model", "map", "write", "rest"
)  # fmt: skip
SHARE = 0.5  # of the seconds of a measurement, for the stages


@dataclass(frozen=True)
class Road:
    """Seconds from the files of a pair to all that is written of it, and the share of each stage."""

    precision: str
    whole: Timing
    stages: Mapping[str, float]

    @property
    def times_model(self) -> float:
        """The whole as a multiple of the model."""
        return 1 / self.stages[MODEL]


def road(
    subject: Subject, method: Method, workload: Workload, record: Checkpoint | None, clock: Clock, out: Path
) -> Road:
    """Judge one pair after the other, and write it below `out`."""
    told = record or _made_up(subject, method, workload)
    inspector = Inspector(Settings(out, out), told, method)
    turns = itertools.cycle(workload.taken)

    def work() -> None:
        with closing(inspector.judge([next(turns)], silent)) as lines:
            for _ in lines:
                pass

    whole = timing(clock.samples(work))
    half = Clock(clock.device, SHARE * clock.seconds, clock.least, clock.now)
    return Road(precision_name(method.compute), whole, shares(work, _seams(method), half, REST))


def _seams(method: Method) -> list[Seam]:
    """What the road consists of; reading is done in threads, but of one pair alone, one thing after the other."""
    return [
        *(Seam(DECODE, files, name) for name in ("read_rgb", "read_map", "read_valid")),
        Seam(DECODE, samples, "read_points"),
        Seam(GEOMETRY, samples, "prepare_geometry"),
        Seam(GEOMETRY, pairs, "geometry_image"),
        Seam(FRAMING, pairs.Pairs, "arrays"),
        *(Seam(FRAMING, judges, name) for name in ("joined", "tensors")),
        Seam(MODEL, method, "score"),
        Seam(MAP, judging, "unframe"),
        Seam(WRITE, Inspector, "_line"),
    ]


def _made_up(subject: Subject, method: Method, workload: Workload) -> Checkpoint:
    """A record by which every part is anomalous, which is most to write."""
    few = pairs.Pairs(
        workload.taken, workload.pairs.preparation, subject.config.framing, workload.pairs.scale,
        subject.config.geometry, 1,
    )  # fmt: skip
    calibration, _, _ = calibrated(method, Kept(few, workload.source), silent)
    lowest = min(calibration.scores) - 1
    return Checkpoint(
        category=workload.taken[0].category, data_sha256="", weights_sha256=None, config=subject.config,
        backbone_source=subject.source, preparation=workload.pairs.preparation, height_scale=workload.pairs.scale,
        calibration=calibration.told("given", lowest, lowest), gauges={}, training={}, versions=versions(), sha256={},
    )  # fmt: skip
