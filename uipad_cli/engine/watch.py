"""`infer --watch`: each pair of a folder that is being filled is judged once, as it arrives, and its verdict kept."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from uipad_cli.engine.arrivals import Arrival, Incoming
from uipad_cli.engine.inspector import Inspector, Line, Tell, unjudged
from uipad_cli.engine.judging import check_preparation
from uipad_cli.engine.runtime import StopRequest
from uipad_cli.engine.verdict_log import VerdictLog, open_log
from uipad_cli.errors import DataError, Terminated
from uipad_cli.records import Item, Progress, Report

OnError = Literal["skip", "stop"]

POLL = 1.0  # seconds between two looks at the folder; a pair is read when it was the same at both
STEADY = 0.9 * POLL  # so that a look that comes a little early counts
PATIENCE = 10.0  # seconds after which a pair that cannot be read is tried once more, then given up
RESTS = 3  # at least so many times as long as a look took: a large folder may not keep the disk busy
NAP = 0.1  # seconds until a signal is noticed
TOLD = 3  # names in a sentence for people


@dataclass(frozen=True)
class Pace:
    """Time in seconds, and how to let it pass."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Followed:
    """What came of a watch: verdicts in their order, and why pairs could not be judged."""

    verdicts: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Wait:
    """A pair that is not judged yet: since when it is as it is, and since when it is known that it cannot be read."""

    key: str
    since: float
    refused: float | None = None


def follow(
    inspector: Inspector, folder: Path, *, idle: float | None, tell: Tell, report: Report, pace: Pace | None = None,
    on_error: OnError = "skip",
) -> Followed:  # fmt: skip
    """Judge what comes until a signal asks for an end, or nothing new has come for `idle` seconds.

    `tell` hears each line once it is in OUT/verdicts.jsonl; a pair that stays unreadable has one with the verdict
    "error", and the watch goes on, or stops with its DataError, as `on_error` says. Pictures of a part that came
    before under the same name are kept. Raises Terminated and KeyboardInterrupt after the part at hand, ResourceError,
    WeightsError, and DataError for a folder that was prepared otherwise than what the run has learned from.
    """

    def say(text: str) -> None:
        report(Progress("note", 0, 0, note=text))

    check_preparation(inspector.record, folder)
    incoming = Incoming(folder, inspector.record, inspector.settings.missing, say)
    with open_log(inspector.settings.out, say) as log, StopRequest() as stop:
        watch = _Watch(inspector, incoming, log, stop, pace or Pace(), on_error, report)
        say(f"watching {folder}, {len(log)} already judged; Ctrl-C ends")
        watch.run(idle, tell)
        say(_last_words(watch.done, incoming, stopped=watch.over))
        if stop.wished == signal.SIGTERM:
            raise Terminated("terminated", "the same command goes on with what came meanwhile")
        if stop.wished is not None:
            raise KeyboardInterrupt
        if watch.fault is not None:
            raise watch.fault
        return watch.done


def _last_words(done: Followed, incoming: Incoming, *, stopped: bool) -> str:
    told = [f"{len(done.verdicts)} judged"]
    if done.failures:
        told.append(f"{len(done.failures)} could not be")
    lonely = sorted(str(path) for path in incoming.waiting)
    if lonely:
        more = f" and {len(lonely) - TOLD} more" if len(lonely) > TOLD else ""
        told.append(f"without a partner: {', '.join(lonely[:TOLD])}{more}")
    return f"{'stopped, nothing is lost' if stopped else 'nothing new comes'}: {'; '.join(told)}"


class _Watch:
    """The loop, and the pairs that are there and not judged yet."""

    def __init__(
        self, inspector: Inspector, incoming: Incoming, log: VerdictLog, stop: StopRequest, pace: Pace,
        on_error: OnError, report: Report,
    ) -> None:  # fmt: skip
        self.inspector, self.incoming, self.log, self.stop, self.pace = inspector, incoming, log, stop, pace
        self.on_error, self.report = on_error, report
        self.fault: DataError | None = None  # that nothing may come after
        self.waits: dict[tuple[Path, Path], _Wait] = {}
        self.done = Followed()

    @property
    def over(self) -> bool:
        """Whether a signal has come, or a pair that may not be skipped."""
        return self.stop.wished is not None or self.fault is not None

    def run(self, idle: float | None, tell: Tell) -> None:
        """Look, judge, rest; until a signal came, or nothing new has come for `idle` seconds."""
        batch = self.inspector.record.config.batch
        lonely: set[Path] = set()
        last = self.pace.clock()
        while True:
            began = self.pace.clock()
            ready, news = self._sort(self.incoming.look(self.log), began)
            looked = self.pace.clock() - began
            if news or not lonely.issuperset(self.incoming.waiting):
                last = began
            lonely = set(self.incoming.waiting)
            for start in range(0, len(ready), batch):
                self._judge(ready[start : start + batch], tell)
                last = self.pace.clock()
                if self.over:
                    return
            if idle is not None and not self.waits and self.pace.clock() - last >= idle:
                return
            self._rest(max(POLL, RESTS * looked))
            if self.over:
                return

    def _sort(self, fresh: Sequence[Arrival], now: float) -> tuple[list[Arrival], bool]:
        """Those that are to be read now, as they came; and whether any is new or has changed."""
        before, self.waits = self.waits, {}
        ready, news = [], False
        for one in fresh:
            wait = before.get(one.files)
            if wait is None or wait.key != one.key:
                wait, news = _Wait(one.key, now), True
            self.waits[one.files] = wait
            tried = wait.refused
            if now - wait.since >= STEADY and (tried is None or now - tried >= PATIENCE):
                ready.append(one)
        return sorted(ready, key=lambda one: (one.written, one.key)), news

    def _judge(self, chosen: Sequence[Arrival], tell: Tell) -> None:
        """Read and judge a batch, until a signal came; who cannot be read is tried again later."""
        left: dict[int, Arrival] = {}
        items: list[Item] = []
        for one in chosen:
            if self.incoming.changed(one):  # while others were judged
                continue
            try:
                item = self.incoming.item(one)
            except DataError as error:
                self._refuse(one, error, tell)
                if self.fault is not None:
                    return
                continue
            items.append(item)
            left[id(item)] = one

        def refuse(item: Item, error: DataError) -> None:
            self._refuse(left.pop(id(item)), error, tell)

        try:
            with closing(self.inspector.judge(items, self._notes, refuse, taken=self.log.has_files)) as verdicts:
                for verdict in verdicts:
                    if self.fault is not None:  # of a pair before this one
                        return
                    one = left.pop(next(iter(left)))  # verdicts come in the order of the items
                    if not self.incoming.changed(one):  # or it was read while it was written
                        line = {**verdict, "key": one.key}
                        self._keep(one, line)
                        self.done.verdicts.append(str(line["verdict"]))
                        tell(line)
                    if self.over:
                        return
        except DataError as error:  # a file was taken away between the verdict and its pictures
            self._refuse(next(iter(left.values())), error, tell)

    def _notes(self, progress: Progress) -> None:
        """Of what judging reports, only what is said in words: the next batch is nobody's progress."""
        if not progress.total:
            self.report(progress)

    def _refuse(self, one: Arrival, error: DataError, tell: Tell) -> None:
        """Note that a pair cannot be read; give it up if that is known for long and it is still the same."""
        wait = self.waits[one.files]
        if wait.refused is None:
            self.waits[one.files] = replace(wait, refused=self.pace.clock())
        elif self.incoming.there(one):
            line = {**unjudged(one.rgb, one.geometry, self.inspector.settings.missing, error), "key": one.key}
            self._keep(one, line)
            tell(line)
            # of a long watch, the first are told at its end, the others counted
            self.done.failures.append(error.message if len(self.done.failures) < TOLD else "")
            if self.on_error == "stop":
                self.fault = error

    def _keep(self, one: Arrival, line: Line) -> None:
        self.log.append(line)
        del self.waits[one.files]

    def _rest(self, seconds: float) -> None:
        end = self.pace.clock() + seconds
        while self.stop.wished is None and (left := end - self.pace.clock()) > 0:
            self.pace.sleep(min(NAP, left))
