"""One pair prepared, in this process or in a pool; what is finished is noted in a journal that outlives a kill."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from uipad_cli.data import JOURNAL, files, prepared
from uipad_cli.data.geometry import Preparation
from uipad_cli.data.places import inside, open_in_place
from uipad_cli.data.prepared import PairEntry
from uipad_cli.data.samples import colour_path, load_mask, prepare_pair
from uipad_cli.engine.runtime import StopRequest
from uipad_cli.errors import DataError, ResourceError
from uipad_cli.records import Item

ALGORITHM = 2  # part of every key: raise it when the same files would give other heights
_LONGEST_NAME = 250  # bytes of a stem: with .tiff, it is what file systems take
_PAIRS_PER_WORKER = 16  # fewer do not repay the start of a process


@dataclass(frozen=True)
class Task:
    """One raw pair to prepare under `destination`; `known` is what an earlier run noted of it."""

    item: Item
    destination: Path
    preparation: Preparation
    known: PairEntry | None


@dataclass(frozen=True)
class Outcome:
    """What became of a task: an entry for the manifest, or the reason why there is none."""

    name: str
    entry: PairEntry | None
    skipped: bool = False
    error: str = ""
    cure: str = ""


class Line(BaseModel):
    """One line of the journal."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    entry: PairEntry


class Journal:
    """The pairs that were finished since the last manifest, appended as they finish."""

    def __init__(self, destination: Path) -> None:
        self._path = destination / JOURNAL
        self.entries: dict[str, PairEntry] = {}
        if self._path.is_file():
            for line in self._path.read_bytes().splitlines():
                self._recall(line)

    @property
    def exists(self) -> bool:
        """True where a run has begun and not ended."""
        return self._path.is_file()

    def begin(self) -> None:
        """Write down again what is known, without a line that a kill has cut. Raises ResourceError."""
        known = [Line(name=name, entry=entry).model_dump_json() for name, entry in self.entries.items()]
        files.write_bytes(self._path, "".join(f"{line}\n" for line in known).encode())

    def note(self, name: str, entry: PairEntry) -> None:
        """Add a finished pair. Raises ResourceError."""
        line = f"{Line(name=name, entry=entry).model_dump_json()}\n".encode()
        try:
            with open_in_place(self._path) as file:
                file.write(line)
        except OSError as error:
            raise files.unwritable(self._path, len(line), error) from error

    def end(self) -> None:
        """Forget everything: the manifest knows it now."""
        self._path.unlink(missing_ok=True)

    def _recall(self, text: bytes) -> None:
        try:
            line = Line.model_validate_json(text)
        except ValidationError:  # cut by a kill
            return
        self.entries[line.name] = line.entry


def run_all(tasks: Sequence[Task], workers: int) -> Generator[Outcome, None, None]:
    """Outcomes as they come; workers 0 takes every core that pays, 1 stays in this process.

    Raises ResourceError where the disk is full or a process dies.
    """
    count = workers or max(1, min(usable_cores(), len(tasks) // _PAIRS_PER_WORKER))
    if count == 1:
        yield from map(prepare_one, tasks)
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads of torch in a broken state
    with ProcessPoolExecutor(min(count, max(1, len(tasks))), context, _enter_worker) as pool:
        with _deaf():
            futures = [pool.submit(prepare_one, task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise ResourceError(
                "a worker process died (most often for lack of memory)", "run again, with fewer --workers"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _deaf() -> Iterator[None]:
    """Signals wait until the block has ended, so that no process is left half started; those never hear of Ctrl-C."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    here = threading.current_thread() is threading.main_thread()  # where Python hears signals
    with StopRequest() if here else nullcontext() as stop:  # another thread may take what this one has blocked
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which new processes inherit
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if stop is not None:
        stop.obey()


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare_one(task: Task) -> Outcome:
    """Prepare one pair, unless its files and settings are those of an earlier run. Raises ResourceError."""
    item = task.item
    target = prepared.item(task.destination, item.name, mask=item.mask is not None)
    try:
        if len(os.fsencode(item.stem)) > _LONGEST_NAME:
            raise DataError(f"{item.rgb}: a name too long for the files that are made of it", "give it a shorter one")
        key = _key(item, task.preparation)
        if task.known is not None and task.known.key == key and _complete(target):
            return Outcome(item.name, task.known, skipped=True)
        return Outcome(item.name, _write(item, task, target, key))
    except DataError as error:
        return Outcome(item.name, None, error=error.message, cure=error.cure or "")


def outputs(item: Item) -> list[Path]:
    """The files of a prepared pair."""
    return [path for path in (item.rgb, item.geometry, item.valid, item.mask) if path is not None]


def _complete(target: Item) -> bool:
    return all(path.is_file() for path in outputs(target))


def _key(item: Item, preparation: Preparation) -> str:
    """Hash of all that the outcome depends on."""
    facts = [item.geometry_kind, item.depth_range, item.camera]
    settings = [ALGORITHM, prepared.VERSION, *facts, preparation.model_dump(mode="json")]
    digest = hashlib.blake2b(json.dumps(settings).encode(), digest_size=16)
    for path in outputs(replace(item, rgb=colour_path(item, preparation.light))):
        data = files.read_bytes(path)
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def _write(item: Item, task: Task, target: Item, key: str) -> PairEntry:
    for path in outputs(target):
        inside(task.destination, path)
    preparation = task.preparation
    rgb, geometry = prepare_pair(item, preparation)
    if target.mask is not None:
        mask = load_mask(item, geometry.valid.shape, preparation.longest)
        files.write_png(target.mask, mask.astype(np.uint8) * 255)
    if target.valid is not None:
        files.write_png(target.valid, geometry.valid.astype(np.uint8) * 255)
    files.write_tiff(target.geometry, geometry.height, {"unit": "m"})
    files.write_png(target.rgb, rgb)
    height, width = geometry.valid.shape
    return PairEntry(key=key, height=height, width=width, mask=item.mask is not None, geometry=geometry.facts)


def _enter_worker() -> None:
    """A worker leaves Ctrl-C to its parent, keeps to one thread, and does not outlive its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
