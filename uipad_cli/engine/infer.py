"""One pair, or a folder of pairs → verdicts, anomaly maps and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from uipad_cli.data.folder import pair
from uipad_cli.data.layout import GEOMETRIES, IMAGES, by_stem, halves
from uipad_cli.engine.inspector import Settings, Tell, open_inspector, unjudged
from uipad_cli.engine.judging import check_preparation, items_in
from uipad_cli.engine.record import Checkpoint
from uipad_cli.engine.watch import OnError, follow
from uipad_cli.errors import EXIT_ANOMALOUS, EXIT_UNSURE, DataError, PartialError, UsageError
from uipad_cli.records import ANOMALOUS, UNSURE, Item, Missing, Report, silent


@dataclass(frozen=True)
class Request:
    """What `uipad infer` was asked: a pair (rgb, depth) or a folder (rgb alone), and how to judge.

    Where a file of the pair is missing, `rgb` is the only one, whichever it is. watch: follow the folder; idle: until
    nothing new has come for so many seconds, None = until a signal; on_error: what becomes of a folder of which a pair
    cannot be read.
    """

    rgb: Path
    depth: Path | None
    settings: Settings
    watch: bool = False
    idle: float | None = None
    on_error: OnError = "skip"


@dataclass(frozen=True)
class Outcome:
    """Verdicts in their order, and what could not be read."""

    verdicts: Sequence[str]
    failures: Sequence[str]

    def raise_for_failures(self) -> None:
        """Raise PartialError naming the first pairs that could not be judged."""
        if self.failures:
            told = "; ".join(self.failures[:3])
            count = f"{len(self.failures)} of {len(self.verdicts) + len(self.failures)} pairs could not be judged"
            raise PartialError(f"{count}: {told}", "mend or remove those files; all others are judged")

    def exit_code(self) -> int:
        """That of the worst verdict: anomalous before unsure before good."""
        if ANOMALOUS in self.verdicts:
            return EXIT_ANOMALOUS
        return EXIT_UNSURE if UNSURE in self.verdicts else 0


def infer(request: Request, *, tell: Tell, report: Report = silent) -> Outcome:
    """Judge, and write maps and pictures of every pair; `tell` hears each verdict.

    Raises UsageError, WeightsError, ResourceError; DataError for the pair that cannot be read where it is the only one,
    or where none may be skipped. A watch: as `follow`.
    """
    _check_watch(request)
    inspector = open_inspector(request.settings, report)
    if request.watch:
        done = follow(inspector, request.rgb, idle=request.idle, tell=tell, report=report, on_error=request.on_error)
        return Outcome(done.verdicts, done.failures)
    missing = request.settings.missing
    single = request.depth is not None or (missing is not None and request.rgb.is_file())
    items = _items(request, inspector.record)
    if not single:
        check_preparation(inspector.record, request.rgb)
    failures: list[str] = []

    def note_failure(item: Item, error: DataError) -> None:
        if single:
            raise error
        tell(unjudged(item.rgb, item.geometry, missing, error))
        if request.on_error == "stop":
            raise error
        failures.append(error.message)

    verdicts = []
    with closing(inspector.judge(items, report, on_error=note_failure)) as lines:
        for line in lines:
            tell(line)
            verdicts.append(str(line["verdict"]))
    return Outcome(verdicts, failures)


def _check_watch(request: Request) -> None:
    """Raise UsageError where --watch and --idle make no sense."""
    folder, missing = request.rgb, request.settings.missing
    if not request.watch:
        if request.idle is not None:
            raise UsageError("--idle without --watch", "add --watch, or leave --idle out")
        return
    if request.idle is not None and not math.isfinite(request.idle):
        raise UsageError(f"--idle {request.idle} is not a number of seconds", "give one, such as 60")
    if request.depth is not None or not folder.is_dir():
        what = f"{folder} is not a folder" if request.depth is None else "a pair was given"
        raise UsageError(f"--watch follows a folder, and {what}", "give the folder that the pairs will come to")
    rgb, geometry = halves(folder)
    there = None if missing is None else rgb if missing == "depth" else geometry
    if there is not None:
        raise UsageError(
            f"{folder}: with --missing {missing}, --watch follows a folder of single files", f"give {there}"
        )


def _items(request: Request, record: Checkpoint) -> list[Item]:
    """The pairs asked for, whatever their labels, of categories that the run knows. Raises UsageError, DataError."""
    missing = request.settings.missing
    if request.depth is not None and missing is not None:
        raise UsageError(f"--missing {missing}, and yet both files are given", "give the one that is there")
    if request.depth is not None or (missing is not None and not request.rgb.is_dir()):
        return [pair(request.rgb, request.depth or request.rgb, depth=missing == "depth")]
    if missing is not None and (there := _lone_files(request.rgb, missing)):
        return there
    if not request.rgb.is_dir():
        raise UsageError(
            f"{request.rgb} is not a folder, and no depth image was given",
            "give a pair (RGB DEPTH), a folder of pairs, or say --missing depth",
        )
    return items_in(record, request.rgb)


def _lone_files(folder: Path, missing: Missing) -> list[Item]:
    """The files that lie in a folder itself, each as a pair of which it is the only one. Raises DataError."""
    found = sorted(by_stem(folder, IMAGES if missing == "depth" else GEOMETRIES).items())
    return [pair(path, path, depth=missing == "depth") for _, path in found]
