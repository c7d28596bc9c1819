"""A prepared data set → what is wrong with it: figures, warnings, and a page to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from uipad_cli.data import files, prepared
from uipad_cli.data.geometry import Preparation
from uipad_cli.data.prepared import CategoryEntry
from uipad_cli.engine.health_category import CategoryHealth, find_twins, missing, tilt
from uipad_cli.engine.health_checks import notes, warnings
from uipad_cli.engine.health_files import chosen, examine_files
from uipad_cli.engine.health_page import section
from uipad_cli.engine.health_parts import Tell, look
from uipad_cli.records import Item, Progress, Report, silent
from uipad_cli.report.health import build_page

DOCUMENT, PAGE = "health.json", "health.html"
_FAILURES = 3  # that a sentence names


@dataclass(frozen=True)
class Health:
    """What an examination has to say.

    warnings: sentences, each a problem, its files and what to do; notes: what may be as it should. page: HTML text.
    """

    folder: Path
    categories: tuple[CategoryHealth, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    findings: tuple[str, ...]
    failures: tuple[str, ...]
    page: str

    def rows(self) -> tuple[list[str], list[list[object]]]:
        """Columns and rows of a table for people."""
        columns = ["category", "pairs", "missing %", "tilt °", "shift px", "agreement", "twins", "warnings"]
        return columns, [
            [
                category.category,
                len(category.parts),
                f"{100 * fmean(map(missing, category.parts)):.1f}",
                f"{fmean(map(tilt, category.parts)):.1f}",
                _shift(category),
                None if category.shift is None else f"{category.shift.now:.2f}",
                sum(twins.across for twins in category.twins),
                len(category.warnings),
            ]
            for category in self.categories
        ]

    def document(self) -> dict[str, Any]:
        """The JSON of an examination."""
        return {
            "folder": str(self.folder),
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "findings": list(self.findings),
            "failures": list(self.failures),
            "categories": {category.category: category.document() for category in self.categories},
        }

    def write(self) -> Path:
        """Write health.json and health.html into the folder; the path of the page. Raises ResourceError."""
        files.write_json(self.folder / DOCUMENT, self.document())
        page = self.folder / PAGE
        files.write_bytes(page, self.page.encode())
        return page


def examine(
    destination: Path,
    raw: Sequence[Item],
    *,
    findings: Sequence[str] = (),
    failures: Sequence[str] = (),
    report: Report = silent,
) -> Health:
    """Look at a prepared folder and the source pairs it was made from; writes nothing.

    The categories of `raw` are examined, all where it is empty. findings: what was found out about the source files,
    to be shown; failures: why pairs could not be prepared. Raises DataError, ResourceError.
    """
    manifest = prepared.read_manifest(destination)
    named = {item.category for item in raw}
    entries = {name: entry for name, entry in manifest.categories.items() if not named or name in named}
    opened = {
        name: chosen([item for item in raw if item.category == name], entry.pairs) for name, entry in entries.items()
    }  # fmt: skip
    total = sum(len(entry.pairs) + len(opened[name]) + 1 for name, entry in entries.items())
    done = 0

    def tell(note: str) -> None:
        nonlocal done
        done += 1
        report(Progress("check", done, total, note=note))

    categories, sections = [], []
    for name, entry in entries.items():
        category = _category(destination, name, entry, opened[name], manifest.preparation, tell)
        categories.append(category)
        sections.append(section(destination, category))
        tell(f"{name}, pictures")
    unread = _unread(failures)
    warned = (*unread, *(line for category in categories for line in category.warnings))
    noted = tuple(line for category in categories for line in category.notes)
    page = build_page(
        title=f"Health of {destination.resolve().name}",
        warnings=warned,
        failures=failures,
        findings=findings,
        notes=noted,
        categories=sections,
    )
    return Health(destination, tuple(categories), warned, noted, tuple(findings), tuple(failures), page)


def _category(
    root: Path, name: str, entry: CategoryEntry, opened: Sequence[Item], preparation: Preparation, tell: Tell
) -> CategoryHealth:
    parts, shift = look(root, name, entry, tell)
    properties = examine_files(opened, {part.name: part for part in parts}, preparation, tell)
    health = CategoryHealth(name, tuple(parts), entry.height_scale, shift, properties, find_twins(parts))
    return replace(health, warnings=warnings(health), notes=notes(health))


def _unread(failures: Sequence[str]) -> tuple[str, ...]:
    if not failures:
        return ()
    more = f" and {len(failures) - _FAILURES} more" if len(failures) > _FAILURES else ""
    pairs = "1 pair" if len(failures) == 1 else f"{len(failures)} pairs"
    return (f"{pairs} could not be prepared: {'; '.join(failures[:_FAILURES])}{more}. Mend the files or remove them.",)


def _shift(category: CategoryHealth) -> str | None:
    shift = category.shift
    return None if shift is None or not shift.certain else f"{shift.right:+.1f}, {shift.down:+.1f}"
