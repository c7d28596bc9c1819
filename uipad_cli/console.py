"""The only place that prints: data for programs on stdout, everything for people on stderr."""

from __future__ import annotations

import json
import os
import string
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bars,
)
from rich.table import Table

from uipad_cli.errors import (
    EXIT_BUG,
    EXIT_INTERRUPT,
    ResourceError,
    StdoutClosed,
    Terminated,
    UipadError,
    out_of_memory,
)
from uipad_cli.records import Progress, Report

PLAIN_SECONDS = 10.0
LETTERS = frozenset(string.ascii_letters)
TRAINING = ("torch", "timm", "safetensors", "huggingface_hub", "jinja2")  # what judging an export does without
SHOWN_VALUES = ("loss", "effective_prototypes")


def people() -> Console:
    """The console of people: stderr as it is now."""
    return Console(stderr=True, highlight=False, emoji=False)


def shown(text: object) -> str:
    """Text for `people`: names in it may come from strangers, and neither command the terminal nor forge a line."""
    plain = (one if one.isprintable() else ascii(one)[1:-1] for one in str(text))
    return escape("".join(plain))


def error(message: str, cure: str = "") -> None:
    """One fault in two lines: what and where, then how to mend it."""
    people().print(f"[bold red]error:[/] {shown(message)}", soft_wrap=True)
    if cure:
        people().print(f"  [dim]→[/] {shown(cure)}", soft_wrap=True)


def explain(fault: BaseException) -> int:
    """Tell people what went wrong; the exit code that says so to scripts."""
    if isinstance(fault, StdoutClosed):
        return fault.exit_code
    if isinstance(fault, UipadError | Terminated):
        error(fault.message, fault.cure)
        return fault.exit_code
    if isinstance(fault, KeyboardInterrupt):
        error("interrupted")
        return EXIT_INTERRUPT
    if isinstance(fault, ModuleNotFoundError) and (name := str(fault.name).partition(".")[0]) in TRAINING:
        cure = "only `uipad infer --engine openvino` or `onnx` works without it; pip install uipad"
        error(f"{name} is not installed here", cure)
        return ResourceError.exit_code
    if out_of_memory(fault):
        told = (str(fault).splitlines() or [""])[0][:200] or "out of memory"
        cure = "a smaller backbone or framing may fit; of train also --set batch=1 or a smaller options.training.batch"
        error(f"not enough memory: {told}", cure)
    elif isinstance(fault, OSError):
        error(f"the machine refused: {fault}", "see `uipad doctor` for disk and memory")
    else:
        error(f"a bug in uipad: {type(fault).__name__}: {fault}", "please report it with the output of --debug")
        return EXIT_BUG
    return ResourceError.exit_code


def last_words(code: int) -> None:
    """A line of a program that is ended by force, from whatever thread: nothing that could wait for another one."""
    cursor = "\x1b[?25h" if os.isatty(2) else ""  # a bar has hidden it
    why = "interrupted" if code == EXIT_INTERRUPT else "terminated"
    told = f"{cursor}\nerror: {why} in the middle of a step; what was written is whole, the same command goes on\n"
    with suppress(OSError):
        os.write(2, told.encode())


def note(text: str) -> None:
    """A line for people."""
    people().print(shown(text), soft_wrap=True)


def notes(texts: Sequence[str]) -> None:
    """Lines for people."""
    for text in texts:
        note(text)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A small table for people; numbers to the right, words to the left, a dash where there is nothing to say."""
    grid = Table(title=shown(title), title_justify="left", title_style="bold", box=None, pad_edge=False)
    for place, column in enumerate(columns):
        words = any(isinstance(row[place], str) and not set(str(row[place])).isdisjoint(LETTERS) for row in rows)
        grid.add_column(shown(column), justify="left" if words else "right")
    for row in rows:
        grid.add_row(*(shown(_cell(value)) for value in row))
    people().print(grid)


def data(value: Mapping[str, object]) -> None:
    """One JSON document on stdout."""
    _write(json.dumps(value, indent=2, allow_nan=False))


def data_line(value: Mapping[str, object]) -> None:
    """One JSON document on a single line of stdout."""
    _write(json.dumps(value, allow_nan=False))


def verdict(value: Mapping[str, object]) -> None:
    """What `infer` says of a part, or why it could not be judged, for people."""
    color = {"good": "green", "unsure": "yellow"}.get(str(value["verdict"]), "red")
    part = shown(value["rgb"] or value["depth"])
    told = f" (without {value['missing']})" if "missing" in value else ""
    if "error" in value:
        people().print(f"[bold red]{value['verdict']}[/] {part}: {shown(value['error'])}", soft_wrap=True)
        return
    people().print(
        f"[bold {color}]{value['verdict']}[/] {part}{told}: score {value['score']:.4f}, threshold "
        f"{value['threshold']:.4f}, p {value['p_value']:.2g} → {shown(value['heatmap'])}",
        soft_wrap=True,
    )


def _write(text: str) -> None:
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python flushes into it again at its end
        raise StdoutClosed("stdout was closed by its reader") from error


@contextmanager
def progress(*, every: bool = False) -> Iterator[Report]:
    """A `Report` that draws a bar per task with rate and time left, or writes plain lines where nobody watches.

    every: a plain line for each step instead of one now and then.
    """
    console = people()
    if every or not console.is_terminal or os.environ.get("CI"):
        yield _PlainReport(0.0 if every else PLAIN_SECONDS).report
        return
    columns = (
        TextColumn("{task.description:<9}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("[dim]{task.fields[note]}"),
    )  # fmt: skip
    # stdout belongs to the JSON: rich must not move it to the console of people
    with Bars(*columns, console=console, redirect_stdout=False) as bars:
        yield _BarReport(bars).report


class _BarReport:
    def __init__(self, bars: Bars) -> None:
        self.bars = bars
        self.tasks: dict[str, TaskID] = {}

    def report(self, step: Progress) -> None:
        if not step.total:
            self.bars.console.print(shown(step.note), soft_wrap=True)
            return
        known = self.tasks.get(step.task)
        if known is None or self.bars.tasks[known].finished:
            known = self.bars.add_task(shown(step.task), total=step.total, note="", rate="")
            self.tasks[step.task] = known
        speed = self.bars.tasks[known].speed
        rate = f"{speed:.1f}/s" if speed else ""
        self.bars.update(known, completed=step.done, total=step.total, note=shown(_remark(step)), rate=rate)


class _PlainReport:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.started: dict[str, float] = {}
        self.printed: dict[str, float] = {}
        self.first: dict[str, int] = {}

    def report(self, step: Progress) -> None:
        if not step.total:
            note(step.note)
            return
        now = time.monotonic()
        started = self.started.setdefault(step.task, now)
        first = self.first.setdefault(step.task, step.done)
        last = step.done >= step.total
        if not last and now - self.printed.get(step.task, started) < self.seconds:
            return
        self.printed[step.task] = now
        # the first report starts the clock, so it does not count as work done since
        rate = (step.done - first) / (now - started) if now > started else 0.0
        speed = f"{rate:.1f}/s" if rate else ""
        left = f"{(step.total - step.done) / rate:.0f} s left" if rate and not last else ""
        told = ", ".join(filter(None, [f"{step.task} {step.done}/{step.total}", speed, left, _remark(step)]))
        note(told)
        if last:
            for memory in (self.started, self.printed, self.first):
                memory.pop(step.task, None)


def _remark(step: Progress) -> str:
    shown = [f"{name} {step.values[name]:.3g}" for name in SHOWN_VALUES if name in step.values]
    return " ".join([*shown, step.note]).strip()


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
