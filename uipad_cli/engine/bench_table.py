"""What was measured, as tables and sentences for people: milliseconds, MiB, GFLOP."""

from __future__ import annotations

from uipad_cli.engine.bench import FULL, Bench
from uipad_cli.engine.bench_growth import Growth
from uipad_cli.engine.bench_stages import MODEL_STAGES
from uipad_cli.engine.bench_subject import RIVALS
from uipad_cli.metrics.timing import Timing

Cells = list[list[object]]
Shown = tuple[str, list[str], Cells]

MEBI = 2**20
GIGA = 1e9


def tables(bench: Bench) -> list[Shown]:
    """Title, column heads and rows of each; what was not measured is left out."""
    shown = [_model(bench), _road(bench), _throughput(bench), _memory(bench), _operations(bench), _accuracy(bench)]
    several = len(bench.operations) > 1
    return [one for one in (*shown, *([_methods(bench)] if several else []), *map(_growth, bench.growth)) if one[2]]


def sentences(bench: Bench) -> list[str]:
    """What stands before the tables."""
    return [
        *bench.machine.sentences(),
        f"{bench.subject} on {bench.backbone} ({bench.source}), {bench.size} px; pairs: {bench.pairs}; "
        f"median (10-90 %) of n repetitions, about {bench.request.seconds:g} s each",
    ]


def remarks(bench: Bench) -> list[str]:
    """What stands behind them."""
    told = [sentence for one in bench.growth for sentence in one.sentences()]
    counted = next((one.memory.counted for one in bench.measured if one.memory), None)
    if counted is not None:
        told.append(f"memory of one pair: {counted}")
    told += [
        f"{name} is measured with {', '.join(f'{key}={value}' for key, value in options.items())}: "
        f"10 % of the patches of {bench.request.parts} pairs"
        for name, options in RIVALS.items()
        if name in bench.operations and name != bench.subject
    ]
    return [*told, *bench.notes]


def _model(bench: Bench) -> Shown:
    """One pair, and where its time goes."""
    stages = [name for name in MODEL_STAGES if any(name in one.stages for one in bench.of(bench.subject))]
    rows: Cells = []
    for one in bench.of(bench.subject):
        parts = [_percent(one.stages.get(name)) for name in stages]
        cold = None if one.cold is None else f"{one.cold:.1f}"
        rows.append([one.path, *_spread(one.single.model), *parts, cold])
    return f"model, one pair: {bench.subject}", ["path", "ms", "10-90 %", "n", *stages, "first call s"], rows


def _road(bench: Bench) -> Shown:
    """Files to verdict."""
    found = bench.road
    title = "files to verdict, one pair"
    heads = ["stage", "ms", "10-90 %", "n", "share"]
    if found is None:
        return title, heads, []
    rows: Cells = [
        [name, _ms(share * found.whole.median), None, None, _percent(share)] for name, share in found.stages.items()
    ]
    rows.append(["all", *_spread(found.whole), f"{found.times_model:.2f} x model"])
    return f"{title}, {found.precision}", heads, rows


def _throughput(bench: Bench) -> Shown:
    """Pairs per second by batch size; the best of each path is marked."""
    mine = bench.of(bench.subject)
    copies = any(point.copied for one in mine for point in one.points)
    rows: Cells = []
    for one in mine:
        for place, point in sorted(enumerate(one.points), key=lambda entry: entry[1].batch):
            copied = [None if point.copied is None else f"{point.batch / point.copied.median:.2f}"] if copies else []
            mark = "best" if point is one.best else ""
            share = _percent(bench.share(one, place))
            rows.append([one.path, point.batch, f"{point.rate:.2f}", *copied, share, point.model.count, mark])
        if one.no_room is not None:
            rows.append([one.path, one.no_room, None, *([None] if copies else []), None, None, "no room"])
    with_copies = ["with copies"] if copies else []
    return "throughput", ["path", "batch", "pairs/s", *with_copies, "of the peak", "n", ""], rows


def _memory(bench: Bench) -> Shown:
    """Weights, and what one pair needs besides."""
    rows: Cells = [
        [one.method, one.path, _mib(one.memory.weights), _mib(one.memory.activations)]
        for one in bench.measured
        if one.memory
    ]
    return "memory", ["method", "path", "weights MiB", "one pair MiB"], rows


def _operations(bench: Bench) -> Shown:
    """Operations of one pair, and what the machine could do."""
    rows: Cells = [
        [f"{name}: {stage}", f"{count / GIGA:.2f}"]
        for name, stages in bench.operations.items()
        for stage, count in (*stages.items(), ("all", bench.total(name)))
    ]
    rows += [
        [f"square product [{one.edge}], {name}, per second", f"{one.rate / GIGA:.0f}"]
        for name, one in bench.peaks.items()
    ]
    return "operations, one pair", ["what", "GFLOP"], rows


def _accuracy(bench: Bench) -> Shown:
    """Fast paths against plain float32."""
    labelled = any(one.auroc is not None for one in bench.accuracy)
    rows: Cells = []
    for one in bench.accuracy:
        same = None if one.harmless is None else str(one.harmless)
        ranks = [one.auroc, one.reference_auroc, same] if labelled else []
        rows.append(
            [
                one.method, one.path, one.batch, f"{one.map.largest:.2e}", f"{one.map.mean:.2e}",
                _percent(one.map.relative, 2), f"{one.image.largest:.2e}", str(one.equal), *ranks,
            ]
        )  # fmt: skip
    more = ["AUROC", f"of {FULL}", "same within 0.002"] if labelled else []
    heads = ["method", "path", "batch", "map max", "map mean", "max of its range", "score max", "bitwise", *more]
    return f"against {FULL}, one pair at a time", heads, rows


def _methods(bench: Bench) -> Shown:
    """All methods side by side."""
    precisions = list(bench.peaks)
    first = bench.of(bench.subject)[0].single.model.median
    rows: Cells = []
    for name in bench.operations:
        plain = {one.precision: one for one in bench.of(name) if not one.compiled}
        times = [_ms(plain[precision].single.model.median) for precision in precisions]
        swept = max(plain.values(), key=lambda one: one.best.rate)
        weights = plain[precisions[0]].memory
        ratio = plain[precisions[0]].single.model.median / first
        best = swept.best
        rows.append(
            [
                name, *times, f"{best.rate:.2f}", f"{best.batch}, {swept.path}", f"{bench.total(name) / GIGA:.1f}",
                None if weights is None else _mib(weights.weights), f"{ratio:.2f}",
            ]
        )  # fmt: skip
    heads = ["method", *(f"ms {name}" for name in precisions), "pairs/s", "in batches of", "GFLOP", "weights MiB"]
    return "methods, one pair at a time", [*heads, f"time of {bench.subject}"], rows


def _growth(found: Growth) -> Shown:
    encoded = any(row.encoding is not None for row in found.rows)
    rows: Cells = [
        [row.size, f"{row.seconds:.3f}", *([_seconds(row.encoding)] if encoded else []), _mib(row.bytes)]
        for row in found.rows
    ]
    heads = [found.of, "seconds", *(["of these encoding"] if encoded else []), "peak MiB"]
    return f"growth: {found.task}", heads, rows


def _spread(found: Timing) -> list[object]:
    return [_ms(found.median), f"{1000 * found.low:.1f}–{1000 * found.high:.1f}", found.count]


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2f}"


def _seconds(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:.3f}"


def _mib(count: int | None) -> str | None:
    return None if count is None else f"{count / MEBI:.1f}"


def _percent(share: float | None, digits: int = 1) -> str | None:
    return None if share is None else f"{100 * share:.{digits}f} %"
