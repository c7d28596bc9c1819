"""Raw pairs → a prepared copy: colour as it was, height above the background plane, validity, ground truth."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median

from uipad_cli import __version__
from uipad_cli.data import SPLITS, choose_category, dataset_name, documented, files, open_dataset, prepared
from uipad_cli.data.geometry import Floats, HeightScale, Preparation, foreground, height_scale
from uipad_cli.data.places import remove
from uipad_cli.data.prepared import MANIFEST, CategoryEntry, Manifest, PairEntry
from uipad_cli.engine.health import DOCUMENT, PAGE, Health, examine
from uipad_cli.engine.locking import LOCK, sole_writer
from uipad_cli.engine.prepare_summary import PrepareSummary, category_row
from uipad_cli.engine.preparing import Journal, Outcome, Task, outputs, run_all
from uipad_cli.engine.sensing import differences, look
from uipad_cli.errors import DataError, UsageError
from uipad_cli.records import GOOD, Item, Progress, Report, silent

UPSIDE_DOWN = 3.0  # times as far below the background as above it
OTHER_UNIT = 100.0  # times the usual range of heights, or one over it

Entries = Mapping[str, PairEntry]  # by SPLIT/DEFECT/STEM


def prepare(
    source: Path,
    destination: Path,
    *,
    dataset: str = "auto",
    categories: Sequence[str] = (),
    preparation: Preparation = Preparation(),  # noqa: B008  (frozen)
    workers: int = 0,
    check: bool = False,
    report: Report = silent,
) -> PrepareSummary:
    """Prepare categories (all where none is named) into `destination`; what is already there is not done again.

    What `preparation` leaves open of the sensor is found by looking. A pair that cannot be read is left out and told
    in the summary. check: write a health report, too. Raises UsageError, ResourceError, and DataError where the data
    set is malformed, its unit cannot be told, or no pair at all can be prepared.
    """
    _check_folders(source, destination)
    name = dataset_name(source, dataset)
    chosen, items = _scan(source, name, categories)
    with sole_writer(destination, report, deep=True) as held:
        preparation, findings = look(items, preparation, documented(name))
        for finding in findings:
            report(Progress("note", 0, 0, note=f"{name}: {finding}"))
        journal = Journal(destination)
        old = _old_manifest(destination, journal, chosen, preparation)
        outcomes = _run(_tasks(items, destination, preparation, old, journal), workers, journal, report)
        held.check()
        strange = _out_of_line(outcomes, items)
        outcomes |= strange
        _take_back(destination, [item for item in items if item.name in strange])
        for note in [*_upside_down(outcomes, preparation), *_untrained(chosen, items)]:
            report(Progress("note", 0, 0, note=note))
        failures = tuple(outcome.error for outcome in outcomes.values() if outcome.entry is None)
        if len(failures) == len(items):
            cure = next(iter(outcomes.values())).cure or "mend the files and run again"
            raise DataError(f"none of {len(items)} pairs could be prepared: {failures[0]}", cure)
        _remove_stale(destination, chosen, old, outcomes)
        entries = dict(old.categories)
        for category in chosen:
            entries.pop(category, None)
            pairs = _good_pairs(category, items, outcomes)
            if pairs:
                entry = old.categories.get(category)
                scale = _scale(destination, category, pairs, entry, preparation)
                entries[category] = _category_entry(source, name, pairs, scale)
        manifest = Manifest(uipad=__version__, preparation=preparation, categories=dict(sorted(entries.items())))
        held.check()
        files.write_json(destination / MANIFEST, manifest.model_dump(mode="json"))
        journal.end()
        health = _check(destination, items, findings, failures, report) if check else None
        if not check and entries != old.categories:
            for old_file in (DOCUMENT, PAGE):  # of what lay here before
                (destination / old_file).unlink(missing_ok=True)
    done = [outcome for outcome in outcomes.values() if outcome.entry is not None]
    rows = tuple(category_row(category, entry) for category, entry in manifest.categories.items() if category in chosen)
    return PrepareSummary(
        destination, len(done), sum(outcome.skipped for outcome in done), failures, tuple(findings), rows, health
    )


def _check(
    destination: Path, items: Sequence[Item], findings: Sequence[str], failures: Sequence[str], report: Report
) -> Health:
    """Write the health report, and tell what it says."""
    health = examine(destination, items, findings=findings, failures=failures, report=report)
    page = health.write()
    told = [f"warning: {line}" for line in health.warnings] + [f"note: {line}" for line in health.notes]
    count = len(health.warnings)
    told.append(f"{'nothing' if not count else f'{count} thing(s)'} to warn of; open {page}")
    for line in told:
        report(Progress("note", 0, 0, note=line))
    return health


def _check_folders(source: Path, destination: Path) -> None:
    raw, ready = (Path(os.path.realpath(path)) for path in (source, destination))  # resolve() raises for loops
    if raw == ready or raw in ready.parents or ready in raw.parents:
        raise UsageError(
            f"{destination}: the prepared copy must not be {source} itself, or lie inside it, or around it",
            "choose another folder: the raw data is never touched",
        )


def _old_manifest(destination: Path, journal: Journal, chosen: Sequence[str], preparation: Preparation) -> Manifest:
    """What an earlier run has left, or an empty manifest. Raises UsageError where the two cannot live together."""
    if not (destination / MANIFEST).is_file():
        left = [path for path in destination.glob("*") if not path.match(files.TEMPORARY) and path.name != LOCK]
        if left and not journal.exists:
            raise UsageError(f"{destination}: not empty, and not made by uipad prepare", "choose a new folder")
        return Manifest(uipad=__version__, preparation=preparation, categories={})
    old = prepared.read_manifest(destination)
    if old.preparation == preparation:
        return old
    others = sorted(set(old.categories) - set(chosen))
    if others:
        raise UsageError(
            f"{destination}: holds {', '.join(others)} prepared with other settings:"
            f" {differences(old.preparation, preparation)}",
            "use the same settings, say them (--missing, --unit, ...) for all, or take another folder",
        )
    (destination / MANIFEST).unlink()  # from here on, until the end, its files are of two kinds
    return old.model_copy(update={"preparation": preparation})


def _scan(source: Path, name: str, categories: Sequence[str]) -> tuple[list[str], list[Item]]:
    """The categories to prepare and all their pairs, in order."""
    if name == "prepared":
        raise UsageError(f"{source} is a prepared folder already", "give the folder of the raw data set")
    reader = open_dataset(source, name)
    offered = reader.categories(source)
    chosen = sorted({choose_category(offered, wanted) for wanted in categories}) or offered
    items = [item for category in chosen for split in SPLITS for item in reader.scan(source, category, split)]
    doubles = [name for name, count in Counter(item.name for item in items).items() if count > 1]
    if doubles:
        raise DataError(f"{source}: two pairs are called {doubles[0]}", "keep one, or rename one")
    if not items:
        raise DataError(f"{source}: no pairs in {', '.join(chosen)}", "expected CATEGORY/train/good/{rgb,xyz}")
    return chosen, items


def _tasks(
    items: Sequence[Item], destination: Path, preparation: Preparation, old: Manifest, journal: Journal
) -> list[Task]:
    known = dict(_named(old))
    known |= journal.entries
    return [Task(item, destination, preparation, known.get(item.name)) for item in items]


def _out_of_line(outcomes: Mapping[str, Outcome], items: Sequence[Item]) -> dict[str, Outcome]:
    """Outcomes to take back: parts a hundred times as high as is usual in their category come from another unit."""
    back = {}
    for category in {item.category for item in items}:
        entries = {item: outcomes[item.name].entry for item in items if item.category == category}
        spans = {
            item: entry.geometry.height_max - entry.geometry.height_min for item, entry in entries.items() if entry
        }
        usual = median(spans.values()) if spans else 0.0
        for item, span in spans.items():
            if usual > 0 and not 1 / OTHER_UNIT < span / usual < OTHER_UNIT:
                told = f"heights over {span:.3g} m, where {usual:.3g} m are usual: is it in another unit?"
                back[item.name] = Outcome(item.name, None, error=f"{item.name} ({item.geometry}): {told}")
    return back


def _take_back(destination: Path, items: Sequence[Item]) -> None:
    """Delete what was made of pairs."""
    for item in items:
        for path in outputs(prepared.item(destination, item.name, mask=item.mask is not None)):
            remove(destination, path)


def _upside_down(outcomes: Mapping[str, Outcome], preparation: Preparation) -> list[str]:
    """A sentence where parts hang below their background: z points the other way, or the plane is the part's top."""
    facts = [outcome.entry.geometry for outcome in outcomes.values() if outcome.entry is not None]
    if preparation.plane == "none" or not facts:
        return []
    above, below = median(one.height_max for one in facts), -median(one.height_min for one in facts)
    if below <= UPSIDE_DOWN * above:
        return []
    other = "up" if preparation.sensor.axis == "away" else "away"
    return [
        f"warning: parts reach {1000 * below:.3g} mm below their background and {1000 * above:.3g} mm above it:"
        f" if z points the other way (heights, disparities), prepare with --axis {other}; if the border shows the"
        " part's top, with --plane none"
    ]


def _untrained(chosen: Sequence[str], items: Sequence[Item]) -> list[str]:
    """A sentence for every category that cannot be learned."""
    taught = {item.category for item in items if item.split == "train" and item.is_good}
    return [f"{name}: no good training pairs (train/), it can only be judged" for name in chosen if name not in taught]


def _named(manifest: Manifest) -> Iterator[tuple[str, PairEntry]]:
    """Entries by CATEGORY/SPLIT/DEFECT/STEM."""
    for category, entry in manifest.categories.items():
        for key, pair in entry.pairs.items():
            yield f"{category}/{key}", pair


def _run(tasks: Sequence[Task], workers: int, journal: Journal, report: Report) -> dict[str, Outcome]:
    journal.begin()
    outcomes: dict[str, Outcome] = {}
    with closing(run_all(tasks, workers)) as running:
        for outcome in running:
            outcomes[outcome.name] = outcome
            if outcome.entry is not None and not outcome.skipped:
                journal.note(outcome.name, outcome.entry)
            report(Progress("prepare", len(outcomes), len(tasks), note=_note(outcome)))
    return outcomes


def _note(outcome: Outcome) -> str:
    if outcome.entry is None:
        return f"failed: {outcome.error}"
    facts = outcome.entry.geometry
    unchanged = ", unchanged" if outcome.skipped else ""
    missing, tilt = facts.missing_share, facts.plane_tilt_degrees
    return f"{outcome.name}: {missing:.0%} missing, tilt {tilt:.1f}°{unchanged}"


def _remove_stale(destination: Path, chosen: Sequence[str], old: Manifest, outcomes: Mapping[str, Outcome]) -> None:
    """Delete what an earlier run made of pairs that are gone, or that cannot be read any more."""
    for name, pair in _named(old):
        now = outcomes.get(name)
        if name.split("/")[0] in chosen and (now is None or now.entry is None):
            for path in outputs(prepared.item(destination, name, mask=pair.mask)):
                remove(destination, path)


def _good_pairs(category: str, items: Sequence[Item], outcomes: Mapping[str, Outcome]) -> dict[str, PairEntry]:
    entries = {item.name: outcomes[item.name].entry for item in items if item.category == category}
    return {name.split("/", 1)[1]: entry for name, entry in entries.items() if entry is not None}


def _category_entry(source: Path, dataset: str, pairs: Entries, scale: HeightScale) -> CategoryEntry:
    counts = {split: sum(key.startswith(f"{split}/") for key in pairs) for split in SPLITS}
    return CategoryEntry(
        source=str(source.resolve()), dataset=dataset, height_scale=scale, counts=counts, pairs=dict(pairs)
    )


def _scale(
    destination: Path, category: str, pairs: Entries, old: CategoryEntry | None, preparation: Preparation
) -> HeightScale:
    """From the good training parts; a category without them (only to be judged) takes every pair."""
    chosen = _scale_pairs(pairs)
    if old is not None and _scale_pairs(old.pairs) == chosen:
        return old.height_scale

    def foregrounds() -> Iterator[Floats]:
        for key in chosen:
            item = prepared.item(destination, f"{category}/{key}", mask=False)
            assert item.valid is not None
            height, valid = files.read_map(item.geometry)[0], files.read_valid(item.valid)
            yield height[foreground(height, valid, preparation)]

    try:
        return height_scale(foregrounds())
    except DataError as error:
        raise DataError(f"{category}: {error.message}", error.cure) from error


def _scale_pairs(pairs: Entries) -> dict[str, str]:
    """Keys of the pairs that the height scale is taken from."""
    keys = {name: pair.key for name, pair in pairs.items()}
    return {name: key for name, key in keys.items() if name.startswith(f"train/{GOOD}/")} or keys
