"""Incoming parts against the good ones that a run was calibrated by: has the line changed, or the parts?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uipad_cli.data import files
from uipad_cli.data.places import inside
from uipad_cli.engine import drift_page
from uipad_cli.engine.checkpoint import load_run
from uipad_cli.engine.fingerprint import (
    FIGURES,
    QUIET,
    Fingerprint,
    fingerprinted,
    floors,
    read_fingerprints,
)
from uipad_cli.engine.judging import check_preparation, items_in, judge, pairs_of
from uipad_cli.engine.record import Checkpoint, find_run
from uipad_cli.engine.runtime import choose_compute, precision_name
from uipad_cli.errors import EXIT_GATE, DataError, UsageError
from uipad_cli.metrics import drift as tests
from uipad_cli.metrics.calibrate import USUAL_RATE
from uipad_cli.metrics.comparison import holm
from uipad_cli.records import UNLABELLED, Item, Report, silent

DOCUMENT, PAGE, FOLDER = "drift.json", "drift.html", "drift"
ALPHA, LEAST_ALPHA = 0.01, 0.002  # draws give no p that would be small enough for less
FEATURE_FLOOR = 0.05  # of their spread over the part: about what a defect on a twentieth of it can do
MOVED = 1.0  # spreads of good parts, from which on most parts are elsewhere
COMPONENTS = 8
MAY_EXPLAIN, ALMOST = 0.5, 0.05  # spreads, or a p, from which a shift of ordinary scores may explain alarms


@dataclass(frozen=True)
class Row:
    """One named figure: medians before, now, and since a change in the order; its p, and whether it moved.

    stepped: it is another one since the change, and was not before.
    """

    name: str
    before: float
    now: float
    since: float | None
    p: float | None
    moved: bool
    stepped: bool = False


@dataclass(frozen=True)
class Comparison:
    """All tests of two sets of fingerprints, before and now, and what they mean together.

    features_p, features_shift: of what the backbone sees, shift in spreads of good parts; bulk_p: of the lower half of
    the scores, order_p: of the order of the parts; None where these cannot be compared. change: in the order, None
    where none shows. needed: parts now that could show a change where these cannot. points [n+m,2]: principal
    coordinates of the features.
    """

    verdict: tests.Verdict
    rows: Sequence[Row]
    features_p: float | None
    features_shift: float
    features_moved: bool
    bulk_p: float | None
    bulk_moved: bool
    alarms: tests.Alarms | None
    order_p: float | None
    change: tests.Change | None
    least_p: float
    needed_p: float
    needed: int | None
    points: tests.Floats

    @property
    def reachable(self) -> bool:
        """Whether so many parts could show a change of the line in all of them."""
        return self.least_p <= self.needed_p


@dataclass(frozen=True)
class Drift:
    """What `uipad drift` has to say of a folder; before, now: fingerprints, the latter of the parts `names`.

    ordered: these are in an order of arrival, by their names.
    """

    record: Checkpoint
    folder: Path
    alpha: float
    before: Sequence[Fingerprint]
    now: Sequence[Fingerprint]
    names: Sequence[str]
    compared: Comparison
    failures: Sequence[str] = ()
    notes: Sequence[str] = ()
    page: Path = field(default=Path(PAGE))
    ordered: bool = False

    @property
    def since(self) -> str | None:
        """Name of the first part after the change."""
        change = self.compared.change
        return None if change is None else self.names[change.place]

    def sentences(self) -> list[str]:
        """The verdict first, then what it rests on and what to do, for people."""
        return drift_page.sentences(self)

    def rows(self) -> tuple[list[str], list[list[object]]]:
        """Columns and rows of a table for people."""
        return drift_page.rows(self)

    def document(self) -> dict[str, Any]:
        """The JSON of `drift`."""
        return drift_page.document(self)

    def exit_code(self) -> int:
        """0 where the line is steady or nothing can be told, else EXIT_GATE."""
        return EXIT_GATE if self.compared.verdict in ("line changed", "more defective parts", "both") else 0


def drift(
    run: Path, folder: Path, *, alpha: float = ALPHA, category: str | None = None, device: str = "auto",
    precision: str = "auto", out: Path | None = None, report: Report = silent,
) -> Drift:  # fmt: skip
    """Compare the pairs of a folder with the good parts of a run's calibration; writes drift.html and drift.json.

    alpha: chance of calling a steady line changed; category: of a run that knows several; out: default RUN/drift.
    Pairs that cannot be read are counted. Raises UsageError, DataError where no pair can be read, WeightsError where
    the run keeps no fingerprints, ResourceError.
    """
    if not LEAST_ALPHA <= alpha < 1:
        raise UsageError(f"--alpha {alpha} is not a chance from {LEAST_ALPHA} up to 1", f"the usual one is {ALPHA}")
    lone = find_run(run)
    target = out or inside(run, lone / FOLDER / PAGE).parent
    record, method = load_run(lone, choose_compute(device, precision, "score"))
    before = read_fingerprints(lone, record)
    check_preparation(record, folder)
    items, known = _incoming(record, folder, category)
    failures: list[str] = []
    now: list[Fingerprint] = []
    pairs = pairs_of(record, items)
    judged = judge(method, pairs, report, task="drift", on_error=lambda _, error: failures.append(error.message))
    ordered = _ordered(items)
    read = [one.item for one in fingerprinted(method, pairs, judged, now)]
    names = [item.stem if ordered else f"{item.defect}/{item.stem}" for item in read]
    if not now:
        raise DataError(f"{folder}: no pair could be read: {failures[0]}", "mend the files, or give another folder")
    if len(record.learned) > 1:
        before = [one for one in before if one.category == known] or before
    notes = []
    if precision_name(method.compute) != record.calibration.precision:
        notes.append(f"note: the calibration was computed in {record.calibration.precision}, these parts were not")
    fair = not record.calibration.learned_from  # such scores are too low for others
    if not fair:
        notes.append("note: the run keeps no good parts that it did not learn from, so scores are not compared")
    compared = compare(
        before, now, alpha, floors=floors(record), rate=record.calibration.rate, fair=fair, ordered=ordered
    )
    found = Drift(record, folder, alpha, before, now, names, compared, failures, notes, target / PAGE, ordered)
    files.write_bytes(target / PAGE, drift_page.page_of(found).encode())
    files.write_json(target / DOCUMENT, found.document())
    return found


def compare(
    before: Sequence[Fingerprint], now: Sequence[Fingerprint], alpha: float, *, floors: Mapping[str, float],
    rate: float | None = None, fair: bool = True, ordered: bool = False, seed: int = 0,
) -> Comparison:  # fmt: skip
    """Compare fingerprints; a steady line is called changed with a chance of at most `alpha`, and so are steady parts.

    A third of it goes to the line, whose tests share it (Holm), one to the order, one to the alarms. floors: least
    changes that count, of figures that leave them open; rate: of alarms that are promised, None = 0.01; fair: False
    where the scores before are of parts that were learned from; ordered: the parts now have an order.
    """
    size = len(before)
    ways = tests.relabelled(size, len(now), seed=seed)
    everyone = [*before, *now]
    scores = np.array([one.score for one in everyone])
    features = np.stack([one.features for one in everyone]).astype(np.float64)
    around = tests.scaled(features, FEATURE_FLOOR)
    points = tests.principal(around, COMPONENTS)
    figures = {name: np.array([one.named[name] for one in everyone]) for name in FIGURES}
    change = _change(figures[QUIET], around, points, size, seed) if ordered else None
    share = alpha / 3
    after = slice(size + change.place, None) if change is not None and change.p <= share else None

    found = _line_tests(figures, points, scores, ways, fair)
    significant = dict(zip(found, holm(list(found.values()), share), strict=True))
    tested = sum(p is not None for p in found.values())
    table = [_row(name, figures[name], size, after, found[name], significant[name], floors) for name in FIGURES]
    shift = tests.shift_of(features[:size], features[size:], FEATURE_FLOOR)
    stepped = _stepped(features, size, after, FEATURE_FLOOR)
    seen = stepped or (significant["features"] and shift >= MOVED)
    bulk_p, bulk_shift = found["bulk"], tests.lower_half_shift(scores[:size], scores[size:])
    bulk = significant["bulk"] and bulk_shift >= MOVED
    alarms = tests.alarms(scores[:size], scores[size:], USUAL_RATE if rate is None else rate) if fair else None
    reached, asked = tests.least_p(size, len(now)), share / tested
    verdict = tests.conclude(
        reachable=reached <= asked,
        line=seen or any(row.moved for row in table),
        bulk=bulk,
        tail=alarms is not None and alarms.p <= share,
        explained=bulk_shift >= MAY_EXPLAIN or (bulk_p is not None and bulk_p <= ALMOST),
    )
    return Comparison(
        verdict, table, features_p=found["features"], features_shift=shift, features_moved=seen,
        bulk_p=bulk_p, bulk_moved=bulk, alarms=alarms, order_p=None if change is None else change.p,
        change=change if stepped or any(row.stepped for row in table) else None,
        least_p=reached, needed_p=asked, needed=tests.parts_needed(size, asked),
        points=points[:, :2],
    )  # fmt: skip


def _line_tests(
    figures: Mapping[str, tests.Floats], points: tests.Floats, scores: tests.Floats, ways: tests.Relabelled, fair: bool
) -> dict[str, float | None]:
    """p of every test that the line is judged by; None where it cannot be."""
    of_figures = {
        name: tests.shift_p(values, ways) if fair or name != QUIET else None for name, values in figures.items()
    }
    seen = tests.energy_p(points, ways) if points.any() else None
    return {**of_figures, "features": seen, "bulk": tests.lower_half_p(scores, ways) if fair else None}


def _change(
    quiet: tests.Floats, around: tests.Floats, points: tests.Floats, size: int, seed: int
) -> tests.Change | None:
    """Where the order of the parts now shows a change: of quiet maps, of what is seen, or of how far that is away."""
    away = np.sqrt(((around[size:] - np.median(around[:size], axis=0)) ** 2).sum(axis=1))
    return tests.change_point(np.stack([quiet[size:], away, *points[size:, :3].T], axis=1), seed=seed)


def _row(
    name: str, values: tests.Floats, size: int, after: slice | None, p: float | None, significant: bool,
    floors: Mapping[str, float],
) -> Row:  # fmt: skip
    """A figure moved where p says so and most parts are farther from before than those are from each other."""
    figure = FIGURES[name]
    before, now = float(np.median(values[:size])), float(np.median(values[size:]))
    floor = floors[name] if figure.least is None else figure.least * (abs(before) if figure.relative else 1)
    moved = significant and tests.shift_of(values[:size], values[size:], floor) >= MOVED
    stepped = p is not None and _stepped(values, size, after, floor)
    since = None if after is None else float(np.median(values[after]))
    return Row(name, before, now, since, p, moved or stepped, stepped)


def _stepped(values: tests.Floats, size: int, after: slice | None, floor: float) -> bool:
    """Whether parts since a change are elsewhere than those before it, and than those of the calibration."""
    if after is None:
        return False
    good, until, since = values[:size], values[size : after.start], values[after]
    far = tests.shift_of(good, since, floor), tests.shift_of(good, since, floor, since=until)
    return min(far) >= MOVED


def _incoming(record: Checkpoint, folder: Path, category: str | None) -> tuple[list[Item], str]:
    """The pairs to compare in their order, and the category whose good parts they are compared with.

    Of a data set with splits the test split: the run has learned from the others. Raises DataError, UsageError.
    """
    if category is not None and category not in record.learned:
        raise UsageError(f"this run knows no {category}", f"choose one of: {', '.join(record.learned)}")
    items = items_in(record, folder)
    items = [item for item in items if item.split == "test"] or items
    items.sort(key=lambda item: (item.category, item.defect, _natural(item.stem)))
    there = list(dict.fromkeys(item.category for item in items))
    if len(record.learned) == 1:
        return items, record.category
    wanted = category or (there[0] if len(there) == 1 and there[0] in record.learned else None)
    if wanted is None:
        told = f"{folder}: parts of {', '.join(there)}; a line is compared one category at a time"
        raise UsageError(told, f"choose one with --category: {', '.join(record.learned)}")
    return ([item for item in items if item.category == wanted] if wanted in there else items), wanted


def _ordered(items: Sequence[Item]) -> bool:
    """Whether names tell an order of arrival: parts that lie in folders by their defects are sorted by these."""
    return len({(item.category, item.defect) for item in items}) == 1 or all(
        item.defect == UNLABELLED for item in items
    )


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts part2 before part10."""
    return [(int(one) if one.isdigit() else -1, one) for one in re.split(r"(\d+)", name)]
