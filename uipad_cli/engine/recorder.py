"""Keeps a run's log and its training state while it trains, and obeys a wish to stop once both are safe."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType

from uipad_cli.data import files
from uipad_cli.engine.checkpoint import save_tensors
from uipad_cli.engine.record import LOG_FILE, TRAINING_FILE
from uipad_cli.engine.runtime import StopRequest
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
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = self.log.read_text(encoding="utf-8").splitlines()[: self.done] if self.log.is_file() else []
        if kept:
            self.last = {name: value for name, value in json.loads(kept[-1]).items() if name != "step"}
        for left in self.folder.glob(files.TEMPORARY):  # of a killed save
            left.unlink(missing_ok=True)
        self.stream = self.log.open("w", encoding="utf-8")
        self.stream.writelines(f"{line}\n" for line in kept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stream.close()

    def report(self, progress: Progress) -> None:
        """Log a step, save when it is time, pass it on, and stop here if a signal asked for it."""
        self.watcher(progress)
        if progress.training_state is not None:
            self.done, self.last = progress.done, dict(progress.values)
            self.stream.write(json.dumps({"step": progress.done, **progress.values}) + "\n")
            last = progress.done == progress.total
            if last or self.stop.wished is not None or time.monotonic() > self.save_after:
                began = time.monotonic()
                self.stream.flush()
                save_tensors(self.folder / TRAINING_FILE, progress.training_state())
                # large states are saved less often: never more than a twentieth of the time goes into saving
                self.save_after = time.monotonic() + max(SAVE_SECONDS, 20 * (time.monotonic() - began))
        self.stop.obey()
