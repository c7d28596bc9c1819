"""Figures of an ablation → its two tables, for people, as Markdown and as LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DASH = "–"
COLLAPSED = "collapsed"
CAPTION = (
    "Figures in %, mean ± standard deviation over seeds (n − 1); a seed's figure is the mean over its categories. "
    "Runs that collapsed are left out of the means and counted."
)
BY_DEFECT = "Image AUROC by defect"

Heads = list[str]
Body = list[list[str]]

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$", DASH: "--",
}  # fmt: skip


@dataclass(frozen=True)
class Spread:
    """A share 0..1 over seeds: mean and deviation, None where undefined; how many of its runs collapsed."""

    mean: float | None
    deviation: float | None
    collapsed: int
    runs: int

    def text(self, *, counted: bool) -> str:
        """Per cent for people; `counted` says how many runs collapsed."""
        if self.runs and self.collapsed == self.runs:
            return COLLAPSED
        told = DASH if self.mean is None else f"{100 * self.mean:.1f}"
        if self.deviation is not None:
            told += f" ± {100 * self.deviation:.1f}"
        return f"{told} ({self.collapsed} of {self.runs} {COLLAPSED})" if counted and self.collapsed else told


@dataclass(frozen=True)
class Line:
    """What one configuration came to; `paper` is what its authors print, seconds are medians."""

    row: str
    image_auroc: Spread
    aupro_30: Spread
    cross_modal: Spread
    paper: str | None
    training_seconds: float | None
    seconds_per_pair: float | None


@dataclass(frozen=True)
class DefectLine:
    """Image AUROC of one defect of one category, one cell for each configuration."""

    category: str
    defect: str
    cross_modal: bool
    cells: Sequence[Spread]


def figures(lines: Sequence[Line]) -> tuple[Heads, Body]:
    """The first table; the paper's column only where a row has its values."""
    printed = any(line.paper for line in lines)
    heads = [
        "row", "image AUROC", "AUPRO@30", "cross-modal AUROC", *(["paper"] if printed else []),
        "training s per category", "ms per pair",
    ]  # fmt: skip
    body = [
        [
            line.row, line.image_auroc.text(counted=True), line.aupro_30.text(counted=False),
            line.cross_modal.text(counted=False), *([line.paper or DASH] if printed else []),
            _number(line.training_seconds), _number(line.seconds_per_pair, times=1000),
        ]
        for line in lines
    ]  # fmt: skip
    return heads, body


def defects(rows: Sequence[str], lines: Sequence[DefectLine]) -> tuple[Heads, Body]:
    """The second table: a line for each defect of each category, a column for each configuration."""
    body = [
        [
            line.category,
            f"{line.defect} (cross-modal)" if line.cross_modal else line.defect,
            *(cell.text(counted=True) for cell in line.cells),
        ]
        for line in lines
    ]
    return ["category", "defect", *rows], body


def markdown(facts: str, lines: Sequence[Line], by_defect: Sequence[DefectLine], notes: Sequence[str]) -> str:
    """Both tables as a page. facts: what was measured, in a sentence; notes: lines that explain single runs."""
    parts = ["# Ablation", "", facts, "", CAPTION, "", *_markdown_table(*figures(lines))]
    parts += ["", f"## {BY_DEFECT}", "", *_markdown_table(*defects([line.row for line in lines], by_defect))]
    if notes:
        parts += ["", "## Runs that collapsed", "", *(f"- {note}" for note in notes)]
    return "\n".join([*parts, ""])


def latex(facts: str, lines: Sequence[Line], by_defect: Sequence[DefectLine]) -> str:
    """Both tables as plain `tabular`, no package needed."""
    first = _latex_table(*figures(lines), words=1)
    second = _latex_table(*defects([line.row for line in lines], by_defect), words=2)
    return "\n".join([f"% {facts}", f"% {CAPTION}", *first, "", f"% {BY_DEFECT}", *second, ""])


def _markdown_table(heads: Heads, body: Body) -> list[str]:
    ruled = [heads, ["---"] * len(heads), *body]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in ruled]


def _latex_table(heads: Heads, body: Body, *, words: int) -> list[str]:
    """words: columns of words, to the left; figures stand to the right."""
    columns = "l" * words + "r" * (len(heads) - words)
    told = [" & ".join(_escape(cell) for cell in line) + r" \\" for line in (heads, *body)]
    return [rf"\begin{{tabular}}{{{columns}}}", r"\hline", told[0], r"\hline", *told[1:], r"\hline", r"\end{tabular}"]


def _escape(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)


def _number(value: float | None, *, times: float = 1) -> str:
    if value is None:
        return DASH
    value *= times
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
