"""What a comparison of two runs comes to: figures → a table, sentences and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from uipad_cli import __version__
from uipad_cli.metrics.comparison import ALPHA, DRAWS, LEVEL, POWER, Estimate, holm, images_needed, mean_of

METRICS = {"image_auroc": ("image AUROC", "DeLong"), "aupro_30": ("AUPRO@30", "bootstrap")}


@dataclass(frozen=True)
class Figure:
    """A figure of both runs, 0..1, and its difference b − a; None where the test images leave it undefined."""

    a: float | None
    b: float | None
    difference: Estimate | None

    @property
    def p(self) -> float | None:
        """Of no difference."""
        return None if self.difference is None else self.difference.p


@dataclass(frozen=True)
class CategoryComparison:
    """Both runs on the test images of one category: figures by the names of METRICS.

    check: the difference of image AUROC once more, over images drawn anew instead of by the normal law.
    """

    category: str
    good: int
    defective: int
    figures: Mapping[str, Figure]
    check: Estimate | None

    @property
    def images(self) -> int:
        """Number of test images."""
        return self.good + self.defective


@dataclass(frozen=True)
class Comparison:
    """Runs A and B under their names, category by category; notes: what makes the comparison less than it seems."""

    names: tuple[str, str]
    categories: Sequence[CategoryComparison]
    notes: Sequence[str]

    def overall(self, metric: str) -> tuple[Figure, int, int]:
        """The plain mean over the categories that have a difference; how many those are, and their images."""
        there = [one for one in self.categories if one.figures[metric].difference is not None]
        found = [one.figures[metric] for one in there]
        differences = [figure.difference for figure in found if figure.difference is not None]
        if not differences:
            return (self.categories[0].figures[metric] if len(self.categories) == 1 else Figure(None, None, None)), 0, 0
        a, b = (float(np.mean([getattr(figure, side) for figure in found])) for side in ("a", "b"))
        return Figure(a, b, mean_of(differences)), len(there), sum(one.images for one in there)

    def significant(self, metric: str) -> list[bool]:
        """For each category, whether it tells the runs apart, all of them taken together (Holm)."""
        return holm([one.figures[metric].p for one in self.categories])

    def rows(self) -> tuple[list[str], list[list[object]]]:
        """Column heads and rows of the table for people; a star where a difference is significant."""
        body: list[list[object]] = [[one.category] for one in self.categories]
        if len(body) > 1:
            body.append(["mean"])
        for metric in METRICS:
            figures = [one.figures[metric] for one in self.categories]
            starred = self.significant(metric)
            if len(figures) > 1:
                mean, _, _ = self.overall(metric)
                figures, starred = [*figures, mean], [*starred, *holm([mean.p])]
            for row, figure, star in zip(body, figures, starred, strict=True):
                row += [figure.a, figure.b, _difference(figure), _p(figure.p) and f"{_p(figure.p)}{' *' * star}"]
        return ["category", "AUROC A", "B", "B − A", "p", "PRO@30 A", "B", "B − A", "p"], body

    def sentences(self) -> list[str]:
        """What a person needs to know: which run is which, then for each figure whether one is better."""
        a, b = self.names
        told = [f"A and B are the same run, {a}." if a == b else f"A is {a}, B is {b}."]
        for metric, (label, test) in METRICS.items():
            told.append(_verdict(label, test, *self.overall(metric), len(self.categories)))
            if len(self.categories) > 1:
                told += self._by_category(metric, label)
        return told

    def document(self) -> dict[str, object]:
        """The JSON of `compare`."""
        return {
            "uipad": __version__,
            "a": self.names[0],
            "b": self.names[1],
            "level": LEVEL,
            "alpha": ALPHA,
            "draws": DRAWS,
            "categories": {one.category: self._category(place) for place, one in enumerate(self.categories)},
            "overall": {
                metric: {**_told(figure, test, *holm([figure.p])), "categories": count, "images": images}
                for metric, (_, test) in METRICS.items()
                for figure, count, images in [self.overall(metric)]
            },
            "sentences": self.sentences(),
            "notes": list(self.notes),
        }

    def _category(self, place: int) -> dict[str, object]:
        one = self.categories[place]
        figures = {
            metric: _told(one.figures[metric], test, self.significant(metric)[place])
            for metric, (_, test) in METRICS.items()
        }
        check = None if one.check is None else _estimate(one.check)
        return {"good": one.good, "defective": one.defective, **figures, "image_auroc_bootstrap": check}

    def _by_category(self, metric: str, label: str) -> list[str]:
        wins: dict[str, list[str]] = {"A": [], "B": []}
        differences = [one.figures[metric].difference for one in self.categories]
        for one, found, star in zip(self.categories, differences, self.significant(metric), strict=True):
            if star and found is not None:
                wins["B" if found.value > 0 else "A"].append(one.category)
        tested = sum(found is not None for found in differences)
        if not tested:
            return []
        better = [f"{side} is significantly better on {', '.join(names)}" for side, names in wins.items() if names]
        found_in = "; ".join(better) or "none tells A and B apart"
        return [f"{label} by category (Holm's correction for {tested} tests): {found_in}."]


def _verdict(label: str, test: str, figure: Figure, categories: int, images: int, of: int) -> str:
    found = figure.difference
    if found is None or found.p is None:
        if figure.a is None or figure.b is None:
            return f"{label}: the test images leave it undefined."
        return f"{label}: {_difference(figure)} from A to B; too few test images to tell what that means."
    scope = f"{images} test images" + (f" of {categories} of {of} categories" if of > 1 else "")
    certain = f"{_points(found.value)} ± {_points(found.half_width)} points"
    if not found.value:
        return f"A and B are level in {label}" + (f" ({certain}, {scope})." if found.error else f" ({scope}).")
    side = "B" if found.value > 0 else "A"
    p = f"p {'' if found.p < 0.001 else '= '}{_p(found.p)}, {test}"
    if found.p <= ALPHA:
        return f"{side} is better by {certain} of {label} ({p}); with {scope} this is significant."
    needed = images_needed(found, images)
    if needed is None:
        more = ""
    else:
        about = float(f"{needed:.1e}")  # two digits: it rests on an error that is itself an estimate
        more = f": about {about:,.0f} images would be needed to tell a difference this large {POWER:.0%} of the time"
    return f"{side} is ahead by {certain} of {label} ({p}); with {scope} this is not significant{more}."


def _told(figure: Figure, test: str, significant: bool) -> dict[str, object]:
    found = figure.difference
    difference = None if found is None else {**_estimate(found), "test": test, "significant": significant}
    return {"a": figure.a, "b": figure.b, "difference": difference}


def _estimate(found: Estimate) -> dict[str, object]:
    names = ("value", "error", "low", "high", "p")
    return {name: getattr(found, name) for name in names}


def _points(share: float) -> str:
    points = abs(100 * share)
    return f"{points:.1f}" if points >= 0.1 or not points else f"{points:.1g}"


def _difference(figure: Figure) -> str | None:
    if figure.a is None or figure.b is None:
        return None
    value = f"{figure.b - figure.a:+.3f}"
    return value if figure.difference is None else f"{value} ± {figure.difference.half_width:.3f}"


def _p(p: float | None) -> str | None:
    return None if p is None else "< 0.001" if p < 0.001 else f"{p:.2g}"
