"""Keeps a run's log and its training state while it trains, and obeys a wish to stop once both are safe."""

from __future__ import annotations

import json
import os
import time
from io import BufferedWriter
from pathlib import Path
from types import TracebackType

from uipad_cli.data import files
from uipad_cli.data.places import open_in_place
from uipad_cli.engine.checkpoint import save_tensors
from uipad_cli.engine.record import BEGIN_AGAIN, LOG_FILE, TRAINING_FILE
from uipad_cli.engine.runtime import StopRequest
from uipad_cli.errors import WeightsError
from uipad_cli.records import Progress, Report

SAVE_SECONDS = 60.0


class Recorder:
    """A `Report` between a method and whoever watches: one log line a step, the training state every minute.

    done: steps that a resumed run has behind it; later lines of the old log are dropped, they come again.
    """

    def __init__(self, folder: Path, watcher: Report, stop: StopRequest, *, done: int) -> None:
        self.folder, self.watcher, self.stop = folder, watcher, stop
        self.done, self.last = done, dict[str, float]()
        self.save_after = time.monotonic() + SAVE_SECONDS
        self.log = folder / LOG_FILE

    def __enter__(self) -> Recorder:
        kept = self._kept()
        files.write_bytes(self.log, b"".join(b"%s\n" % line for line in kept))  # all of it, whenever a kill comes
        self.stream = BufferedWriter(open_in_place(self.log))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stream.close()
        except OSError as fault:
            if error is None:
                raise files.unwritable(self.log, 0, fault) from fault

    def _kept(self) -> list[bytes]:
        """Lines of the log of the steps that are done. Raises WeightsError."""
        if not self.done:
            return []
        try:
            kept = self.log.read_bytes().splitlines()[: self.done]
            told = json.loads(kept[self.done - 1])
            self.last = {name: float(value) for name, value in told.items() if name != "step"}
        except (OSError, ValueError, IndexError, AttributeError, TypeError, RecursionError) as error:
            told = f"{self.log}: damaged, it does not tell the {self.done} steps that are done"
            raise WeightsError(told, BEGIN_AGAIN) from error
        return kept

    def report(self, progress: Progress) -> None:
        """Log a step, save when it is time, pass it on, and stop here if a signal asked for it."""
        self.watcher(progress)
        if progress.training_state is not None:
            self.done, self.last = progress.done, dict(progress.values)
            line = f"{json.dumps({'step': progress.done, **progress.values})}\n".encode()
            last = progress.done == progress.total
            saves = last or self.stop.wished is not None or time.monotonic() > self.save_after
            try:
                self.stream.write(line)
                if saves:  # the log tells all steps of the state, whatever is lost after it
                    self.stream.flush()
                    os.fsync(self.stream.fileno())
            except OSError as error:
                raise files.unwritable(self.log, len(line), error) from error
            if saves:
                began = time.monotonic()
                save_tensors(self.folder / TRAINING_FILE, progress.training_state())
                # large states are saved less often: never more than a twentieth of the time goes into saving
                self.save_after = time.monotonic() + max(SAVE_SECONDS, 20 * (time.monotonic() - began))
        self.stop.obey()
