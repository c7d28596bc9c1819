"""A comparison of parts with those of the calibration → sentences, a table, JSON, and a page to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uipad_cli.engine.fingerprint import FIGURES, QUIET
from uipad_cli.report.drift import Dot, Line, Scatter, Strip, Table, build_page

if TYPE_CHECKING:
    from uipad_cli.engine.drift import Drift, Row

_FAILURES = 3  # that a sentence names
_CURES = {
    "line changed": "if the change is meant, calibrate by good parts of the new line (`uipad calibrate RUN DATA`) or "
    "train again; if not, look at light, camera, fixture and sensor",
    "more defective parts": "no change of light, camera, fixture or sensor shows in so many parts: look at the parts",
    "both": "look at the line first, then at the parts",
}
_UNTOLD = (
    "so few parts cannot show whether light, camera, fixture or sensor have changed: look at the parts, then there"
)


def sentences(drift: Drift) -> list[str]:
    """The verdict first, then what it rests on and what to do, for people."""
    told = [f"{drift.folder.name}: {headline(drift)}"]
    alarms = drift.compared.alarms
    if alarms is not None:
        told.append(
            f"{alarms.count} of {len(drift.now)} parts score as high as one in {len(drift.now) / alarms.promised:.0f} "
            f"good parts does; {alarms.promised:.1f} would be usual (p {alarms.p:.2g})"
        )
    if drift.compared.verdict in _CURES:
        untold = drift.compared.verdict == "more defective parts" and not drift.compared.reachable
        told.append(_UNTOLD if untold else _CURES[drift.compared.verdict])
    if drift.failures:
        more = f" and {len(drift.failures) - _FAILURES} more" if len(drift.failures) > _FAILURES else ""
        pairs = "1 pair was" if len(drift.failures) == 1 else f"{len(drift.failures)} pairs were"
        told.append(f"{pairs} not read: {'; '.join(drift.failures[:_FAILURES])}{more}")
    return [*told, *drift.notes]


def headline(drift: Drift) -> str:
    """The verdict and its reasons."""
    compared = drift.compared
    counted = f"{len(drift.now)} parts against {len(drift.before)} good ones of the calibration"
    if compared.verdict == "too few parts to tell":
        wanted = "calibrate by more" if compared.needed is None else f"it takes {compared.needed} parts"
        best = f"{counted} give p {compared.least_p:.2g} at best, and {compared.needed_p:.2g} is asked"
        return f"{compared.verdict}: {best}; {wanted}"
    if compared.verdict == "steady":
        return f"{compared.verdict}: {counted} show no change"
    if compared.verdict not in ("line changed", "both"):
        return f"{compared.verdict}: {counted}"
    reasons = [told_change(row) for row in compared.rows if row.moved]
    if not reasons:
        reasons = ["what the backbone sees" if compared.features_moved else "the scores of ordinary parts"]
    since = "" if drift.since is None else f" since part {drift.since}"
    parts = " and more defective parts" if compared.verdict == "both" else ""
    return f"line changed{since}{parts}: {', '.join(reasons)}; {counted}"


def told_change(row: Row) -> str:
    """A figure before and after and by how much, such as `brightness 132 → 97 (-26 %)`."""
    figure, after = FIGURES[row.name], _after(row)
    shift = _change(row.name, row.before, after)
    unit = f" {figure.unit}" if figure.unit else ""
    return f"{row.name} {row.before:.{figure.digits}f} → {after:.{figure.digits}f}{unit} ({shift})"


def rows(drift: Drift) -> tuple[list[str], list[list[object]]]:
    """Columns and rows of a table for people."""
    compared = drift.compared
    body: list[list[object]] = []
    for row in compared.rows:
        figure = FIGURES[row.name]
        before, now = (f"{value:.{figure.digits}f}" for value in (row.before, row.now))
        since = [] if compared.change is None else [f"{row.now if row.since is None else row.since:.{figure.digits}f}"]
        name = f"{row.name}, {figure.unit}" if figure.unit else row.name
        shift = _change(row.name, row.before, _after(row))
        body.append([name, before, now, *since, shift, _p(row.p), _moved(row.moved)])
    blank = [] if compared.change is None else [None]
    seen = f"{compared.features_shift:.1f} spreads"
    scores, features = _moved(compared.bulk_moved), _moved(compared.features_moved)
    body.append(["what the backbone sees", None, None, *blank, seen, _p(compared.features_p), features])
    body.append(["lower half of the scores", None, None, *blank, None, _p(compared.bulk_p), scores])
    body.append(
        ["order of arrival", None, None, *blank, None, _p(compared.order_p), _moved(compared.change is not None)]
    )
    if compared.alarms is not None:
        usual, count = f"{compared.alarms.promised:.1f}", str(compared.alarms.count)
        more = _moved(compared.verdict in ("more defective parts", "both"))
        body.append(["parts that score as few good ones do", usual, count, *blank, None, _p(compared.alarms.p), more])
    head = [] if drift.since is None else [f"since {drift.since}"]
    return ["figure", "before", "now", *head, "change", "p", ""], body


def document(drift: Drift) -> dict[str, Any]:
    """The JSON of `drift`."""
    compared = drift.compared
    return {
        "folder": str(drift.folder),
        "verdict": compared.verdict,
        "sentences": sentences(drift),
        "alpha": drift.alpha,
        "parts": len(drift.now),
        "calibration": {"parts": len(drift.before), "source": drift.record.calibration.source},
        "figures": [vars(row) for row in compared.rows],
        "features": {
            "p": compared.features_p, "shift": compared.features_shift, "moved": compared.features_moved
        },
        "scores": {"p": compared.bulk_p, "moved": compared.bulk_moved},
        "alarms": None if compared.alarms is None else vars(compared.alarms),
        "change": None if compared.change is None else {"since": drift.since, **vars(compared.change)},
        "order_p": compared.order_p,
        "least_p": compared.least_p,
        "page": str(drift.page),
        "judged": [
            {"part": name, "score": one.score, **one.named} for name, one in zip(drift.names, drift.now, strict=True)
        ],
        "failures": list(drift.failures),
    }  # fmt: skip


def page_of(drift: Drift) -> str:
    """HTML text of the page."""
    calibration, compared = drift.record.calibration, drift.compared
    change = None if compared.change is None else compared.change.place
    before = [f"good part {place + 1} of the calibration" for place in range(len(drift.before))]
    names = list(drift.names)
    alarm = [one.score > calibration.threshold for one in drift.now]
    quiet = [one.named[QUIET] for one in drift.before]
    strips = [
        Strip(
            f"Score of each part, {'in order' if drift.ordered else 'folder by folder: no order is known'}",
            _dots(before, [one.score for one in drift.before], [False] * len(before)),
            _dots(names, [one.score for one in drift.now], alarm),
            [Line("threshold", calibration.threshold), Line("unsure from", calibration.unsure_from)],
            change,
        ),
        Strip(
            "Quiet level of each part's map, which defects hardly move",
            _dots(before, quiet, [False] * len(before)),
            _dots(names, [one.named[QUIET] for one in drift.now], alarm),
            [Line("least of good parts", min(quiet)), Line("most of good parts", max(quiet))],
            change,
        ),
    ]
    points = compared.points.tolist()
    plane = compared.points.shape[1] == 2
    scatter = (
        Scatter(
            "What the backbone sees: first two principal components of all parts together",
            [(x, y, label) for (x, y), label in zip(points, before, strict=False)],
            [(x, y, label, flag) for (x, y), label, flag in zip(points[len(before) :], names, alarm, strict=True)],
        )
        if plane
        else None
    )
    columns, body = rows(drift)
    return build_page(
        title=f"Drift of {drift.folder.resolve().name}",
        verdict=headline(drift),
        steady=compared.verdict == "steady",
        notes=sentences(drift)[1:],
        strips=strips,
        scatter=scatter,
        table=Table(columns[:-1], [([_text(cell) for cell in row[:-1]], bool(row[-1])) for row in body]),
        settings={
            "Run": drift.record.category,
            "Calibration": f"{len(drift.before)} good parts ({calibration.source})",
            "Chance of a false alarm": f"{drift.alpha:g}",
        },
    )


def _after(row: Row) -> float:
    return row.since if row.stepped and row.since is not None else row.now


def _dots(names: list[str], values: list[float], flags: list[bool]) -> list[Dot]:
    return [Dot(f"{name}: {value:.4g}", value, flag) for name, value, flag in zip(names, values, flags, strict=True)]


def _change(name: str, before: float, after: float) -> str:
    figure = FIGURES[name]
    if figure.relative and before:
        return f"{100 * (after - before) / abs(before):+.0f} %"
    return f"{after - before:+.{figure.digits}f}"


def _p(p: float | None) -> str | None:
    return None if p is None else f"{p:.2g}"


def _moved(moved: bool) -> str:
    return "moved" if moved else ""


def _text(cell: object) -> str:
    return "–" if cell is None else str(cell)
