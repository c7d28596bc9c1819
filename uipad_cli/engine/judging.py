"""The one scoring path: pairs → framed batches → method → maps in the original frame."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from weakref import WeakSet

import cv2
import numpy as np
import numpy.typing as npt

from uipad_cli.data import SPLITS, choose_category, files, open_dataset, prepared
from uipad_cli.data.framing import Framing, resize, unframe
from uipad_cli.data.geometry import HeightScale, Preparation
from uipad_cli.data.pairs import Pairs
from uipad_cli.data.samples import colour_path, pitch_at
from uipad_cli.engine.judges import Judge, scored
from uipad_cli.engine.overlap import ahead, in_threads
from uipad_cli.engine.record import Checkpoint, find_runs, read_record
from uipad_cli.engine.sensing import differences
from uipad_cli.errors import DataError, UsageError, WeightsError
from uipad_cli.records import (
    KNOWN,
    LEARN_ALONE,
    Arrays,
    Item,
    Missing,
    Progress,
    Report,
    Sample,
    Voice,
)

IMPOSSIBLE = 20.0  # times the usual height
READ_AHEAD = 2  # batches
READERS = min(4, os.cpu_count() or 1)  # threads

_COMPILED: WeakSet[object] = WeakSet()  # judges whose compilation was told of: a run of many categories has one

OnError = Callable[[Item, DataError], None]


@dataclass(frozen=True)
class Judged:
    """One pair and what the method says of it.

    map [H0,W0] float32 in the original frame, NaN where the framing never looked; voices [T,h,w]: per place of each of
    its squares; seconds: read_seconds to read and decode it, and its share of the scoring of its batch.
    """

    item: Item
    sample: Sample
    map: npt.NDArray[np.float32]
    score: float
    seconds: float
    read_seconds: float = 0.0
    voices: Mapping[Voice, npt.NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True)
class Refused:
    """A pair that cannot be read, and why."""

    item: Item
    error: DataError


def judge(
    by: Judge, pairs: Pairs, report: Report, *, task: str = "score", on_error: OnError | None = None, waiting: int = 0
) -> Generator[Judged, None, None]:
    """Judge every pair, batch by batch, in order; pairs of coming batches are read meanwhile.

    on_error: told of each pair that cannot be read, the others go on; without it the DataError is raised. waiting: so
    many may wait to be taken while others are scored, 0 = none is scored before it is asked for.
    Raises WeightsError when the score is not a number. What goes on meanwhile has ended when this has.
    """
    told = _told(by, pairs, task)
    with closing(ahead(told, waiting) if waiting else told) as events:
        for event in events:
            if isinstance(event, Judged):
                yield event
            elif isinstance(event, Progress):
                report(event)
            elif on_error is None:
                raise event.error
            else:
                on_error(event.item, event.error)


def _told(by: Judge, pairs: Pairs, task: str) -> Generator[Judged | Refused | Progress, None, None]:
    """What there is to say of all pairs, in their order."""
    starts = range(0, len(pairs.items), pairs.batch_size)
    batches = [pairs.items[start : start + pairs.batch_size] for start in starts]
    done, compiling = 0, getattr(getattr(by, "compute", None), "compiled", False) and by not in _COMPILED
    with closing(in_threads(partial(_read, pairs), batches, threads=READERS, most=READ_AHEAD)) as reading:
        for batch in reading:
            seconds = 0.0
            notes: list[str] = []
            verdicts = _judged(by, pairs, [one for one in batch if isinstance(one, _Read)], notes.append)
            for one in batch:
                if isinstance(one, Refused):
                    yield one
                    continue
                judged = next(verdicts)
                yield from (Progress("note", 0, 0, note=notes.pop(0)) for _ in range(len(notes)))
                seconds += judged.seconds - judged.read_seconds
                yield judged
            done += len(batch)
            if compiling and seconds:
                yield Progress(
                    "note", 0, 0, note=f"note: the first batch took {seconds:.0f} s, most of them to compile"
                )
                compiling = False
                _COMPILED.add(by)
            yield Progress(task, done, len(pairs.items))


def _judged(by: Judge, pairs: Pairs, read: Sequence[_Read], say: Callable[[str], None]) -> Iterator[Judged]:
    """One batch."""
    if not read:
        return
    began = time.perf_counter()
    scores = scored(by, [one.framed for one in read], say)
    seconds = (time.perf_counter() - began) / len(read)
    squares, size = pairs.framing.squares, pairs.framing.crop
    maps = scores.map.reshape(len(read), squares, size, size)
    worst = scores.image.reshape(len(read), squares).max(axis=1).tolist()  # of all squares of a part
    for place, (one, framed, score) in enumerate(zip(read, maps, worst, strict=True)):
        if not math.isfinite(score):
            raise WeightsError(f"{one.item.name}: the score is {score}", "the checkpoint is unusable, train again")
        height, width = one.sample.valid.shape
        own = slice(place * squares, (place + 1) * squares)
        voices = {name: said[own] for name, said in scores.voices.items()}
        map_ = unframe(framed, pairs.framing, height, width)
        yield Judged(one.item, one.sample, map_, score, one.seconds + seconds, one.seconds, voices)


@dataclass(frozen=True)
class _Read:
    """A pair that was read and framed, a batch of its own, and the seconds that this took."""

    item: Item
    sample: Sample
    framed: Arrays
    seconds: float


def _read(pairs: Pairs, item: Item) -> _Read | Refused:
    began = time.perf_counter()
    try:
        sample = pairs.sample(item)
        _check_unit(item, sample, pairs.scale)
    except DataError as error:
        return Refused(item, error)
    return _Read(item, sample, pairs.arrays([sample]), time.perf_counter() - began)


def _check_unit(item: Item, sample: Sample, scale: HeightScale) -> None:
    """Raise DataError for no heights, or such as no part of the category has: metres taken for millimetres, say."""
    if not sample.valid.any():
        raise DataError(f"{item.valid or item.geometry}: not one pixel was measured", "scan the part again")
    usual = max(abs(scale.low), abs(scale.high))
    here = float(np.quantile(np.abs(sample.height[sample.valid]), 0.99))
    if here > IMPOSSIBLE * usual:
        raise DataError(
            f"{item.geometry}: heights of {here:.3g} m, where the parts learned from have {usual:.3g} m",
            "is it the same sensor and the same unit? float images are metres, integer ones take `prepare --unit`",
        )


def at_full_size(judged: Judged, preparation: Preparation, missing: Missing | None = None) -> Judged:
    """A raw pair that was scaled down for judging (`longest`) with its photo, geometry and map as large as it came."""
    if preparation.longest is None or judged.item.geometry_kind == "height" or missing == "rgb":
        return judged
    photo = files.read_rgb(colour_path(judged.item, preparation.light))
    size = (photo.shape[0], photo.shape[1])
    scores = resize(np.nan_to_num(judged.map), size)
    scores[resize(np.isnan(judged.map), size, nearest=True)] = np.nan
    small = judged.sample
    pitch = None if small.pitch is None else pitch_at(small.pitch, small.valid.shape, size)
    height, valid = resize(small.height, size), resize(small.valid, size, nearest=True)
    return replace(judged, map=scores, sample=Sample(photo, height, valid, pitch))


def voice_map(judged: Judged, voice: Voice, framing: Framing) -> npt.NDArray[np.float32]:
    """What one voice says of a part, in the original frame [H0,W0]: patch by patch, NaN where never seen."""
    size = (framing.crop, framing.crop)
    squares = [cv2.resize(one, size, interpolation=cv2.INTER_NEAREST) for one in judged.voices[voice]]
    return unframe(np.stack(squares).astype(np.float32), framing, *judged.sample.valid.shape)


def without(record: Checkpoint, missing: Missing | None) -> Checkpoint:
    """The record with the calibration that holds where one file is missing. Raises UsageError where there is none."""
    if missing is None:
        return record
    if missing not in record.missing:
        raise UsageError(f"this run of {record.category} cannot judge without {missing}", LEARN_ALONE)
    return record.model_copy(update={"calibration": record.missing[missing]})


def pairs_of(record: Checkpoint, items: Sequence[Item], missing: Missing | None = None) -> Pairs:
    """Items as the run of `record` wants to see them: its preparation, framing, height scale, geometry and batch."""
    config = record.config
    known = KNOWN[missing] if missing else None
    return Pairs(
        list(items), record.preparation, config.framing, record.height_scale, config.geometry, config.batch, known
    )


def known_categories(record: Checkpoint, names: Sequence[str]) -> list[str]:
    """Those of several categories that the run knows; a lone one, whatever its name. Raises DataError for none."""
    if len(names) < 2:
        return list(names)
    return [name for name in names if name in record.learned] or [choose_category(names, record.category)]


def items_in(record: Checkpoint, folder: Path) -> list[Item]:
    """The pairs of a folder, whatever their labels, of categories that the run knows.

    A lone category may have any name. Raises DataError.
    """
    dataset = open_dataset(folder)
    names = known_categories(record, dataset.categories(folder))
    found = [item for name in names for split in SPLITS for item in dataset.scan(folder, name, split)]
    if not found:
        raise DataError(f"{folder}: no pairs found", "a folder of pairs holds rgb/ beside xyz/ or depth/")
    return found


def runs_by_category(path: Path, data: Path) -> dict[Path, list[Checkpoint]]:
    """The runs at `path`, and for each its record under the name of every category that it knows and the data holds.

    Raises WeightsError; DataError where a run knows none of the data's categories; UsageError where two know the same.
    """
    there = open_dataset(data).categories(data)
    owners: dict[str, Path] = {}
    found = {}
    for folder in find_runs(path):
        record = read_record(folder)
        names = [name for name in record.learned if name in there] or [choose_category(there, record.category)]
        for name in names:
            if name in owners:
                raise UsageError(f"{owners[name]} and {folder} both know {name}", "name one of them instead of both")
            owners[name] = folder
        found[folder] = [record.model_copy(update={"category": name, "categories": ()}) for name in names]
    return found


def split_pairs(record: Checkpoint, data: Path, split: str, missing: Missing | None = None) -> Pairs:
    """Pairs of the run's category in a raw or prepared data set. Raises DataError."""
    dataset = open_dataset(data)
    category = choose_category(dataset.categories(data), record.category)
    items = dataset.scan(data, category, split)
    if not items:
        raise DataError(f"{data}: category {category} has no {split} pairs", f"give a data set with a {split} split")
    check_preparation(record, data)
    return pairs_of(record, items, missing)


def check_preparation(record: Checkpoint, data: Path) -> None:
    """Raise DataError when a prepared data set was prepared otherwise than what the run has learned from."""
    if not prepared.recognise(data):
        return
    here = prepared.read_manifest(data).preparation
    if here != record.preparation:
        told = differences(record.preparation, here)
        raise DataError(
            f"{data} was prepared with other settings than the training data of this run: {told}",
            "prepare it with the settings of the training data",
        )
