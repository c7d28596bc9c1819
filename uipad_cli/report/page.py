"""Results → one self-contained HTML page: no script, no request, readable on paper, laptop and telephone."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from numpy.typing import NDArray

# Key of a metric -> head of its column.
COLUMNS = {
    "image_auroc": "Image AUROC",
    "image_ap": "AP",
    "image_f1_max": "F1 max",
    "pixel_auroc": "Pixel AUROC",
    "aupro_30": "AUPRO @ 30",
    "aupro_10": "@ 10",
    "aupro_05": "@ 5",
    "aupro_01": "@ 1",
}

_BINS = 48
_WIDTH, _LANE = 720.0, 64.0  # drawing units of the score figure: its width and the height of a lane


@dataclass(frozen=True)
class Picture:
    """An image for the page: what it shows, and the bytes of a PNG or JPEG file."""

    caption: str
    image: bytes


@dataclass(frozen=True)
class Section:
    """Results of one category.

    Metrics are shares 0..1 under the keys of `COLUMNS`, None where undefined; `by_defect` is the image AUROC of each
    defect type against all good parts. A part is called anomalous when its score is above `threshold`.
    """

    category: str
    metrics: Mapping[str, float | None]
    by_defect: Mapping[str, float | None]
    counts: Mapping[str, int]
    gauges: Mapping[str, float]
    good_scores: Sequence[float]
    bad_scores: Sequence[float]
    threshold: float
    notes: Sequence[str]
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram in drawing units, and how many images it stands for."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True)
class Figure:
    """Scores of good and defective parts over one axis: two lanes of bars and the place of the threshold."""

    good: Sequence[Bar]
    bad: Sequence[Bar]
    threshold_x: float
    low: float
    high: float


def template(name: str, **filters: Callable[..., object]) -> Template:
    """A template of this folder, in which everything is escaped, with these filters and `data_uri`."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters, data_uri=data_uri)
    return environment.get_template(name)


def build_page(
    *,
    title: str,
    notes: Sequence[str],
    mean: Mapping[str, float | None],
    sections: Sequence[Section],
    settings: Mapping[str, str],
) -> str:
    """HTML text of the page; every string is escaped, every picture embedded.

    `mean` holds the plain means over the categories under the keys of `COLUMNS`; a metric that is absent or None is
    shown as a dash. Raises ValueError, naming the category, for scores or a threshold that are not finite and for a
    picture that is no PNG.
    """
    for section in sections:
        for picture in section.pictures:
            if _media_type(picture.image) is None:
                raise ValueError(f"picture {picture.caption!r} of {section.category} is no PNG or JPEG file")
    return template("page.html", percent=_percent, figures=_figures, bar=_bar_width).render(
        title=title,
        notes=notes,
        mean=mean,
        sections=[(section, score_figure(section)) for section in sections],
        settings=settings,
        columns=COLUMNS,
        width=_WIDTH,
        lane=_LANE,
    )


def score_figure(section: Section) -> Figure | None:
    """Two histograms over a common axis that holds all scores and the threshold; None where there is no score.

    The threshold is an edge between two bars, so that no bar stands on both sides of it.
    Raises ValueError, naming the category, where a number is not finite.
    """
    good, bad = (np.asarray(scores, dtype=np.float64) for scores in (section.good_scores, section.bad_scores))
    everything = np.concatenate([good, bad, [section.threshold]])
    if not np.isfinite(everything).all():
        raise ValueError(f"scores and threshold of {section.category} must be finite")
    if good.size + bad.size == 0:
        return None
    step = float(np.ptp(everything)) / _BINS or (abs(section.threshold) or 1.0) / _BINS
    axis = _Axis(section.threshold, step, 0, 0)
    places = np.concatenate([axis.places(good), axis.places(bad)])
    axis = replace(axis, first=min(int(places.min()), 0), last=max(int(places.max()), -1))
    low, high = axis.edge(axis.first), axis.edge(axis.last + 1)
    return Figure(_lane(good, axis, 0), _lane(bad, axis, 1), -axis.first * axis.bar_width, low, high)


@dataclass(frozen=True)
class _Axis:
    """Bins (edge(k), edge(k + 1)] counted from the threshold, k from `first` to `last`."""

    threshold: float
    step: float
    first: int
    last: int

    @property
    def bar_width(self) -> float:
        return _WIDTH / (self.last + 1 - self.first)

    def edge(self, place: int) -> float:
        return self.threshold + place * self.step

    def places(self, scores: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.ceil((scores - self.threshold) / self.step).astype(np.int64) - 1


def _lane(scores: NDArray[np.float64], axis: _Axis, lane: int) -> list[Bar]:
    places, counts = np.unique(axis.places(scores), return_counts=True)
    bars: list[Bar] = []
    for place, count in zip(places.tolist(), counts.tolist(), strict=True):
        height = max(3.0, (_LANE - 10) * count / int(counts.max()))
        label = f"{count} of {scores.size}: {_figures(axis.edge(place))} to {_figures(axis.edge(place + 1))}"
        x = (place - axis.first) * axis.bar_width
        bars.append(Bar(x + 0.5, (lane + 1) * _LANE - height, axis.bar_width - 1, height, label))
    return bars


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def _figures(value: float) -> str:
    return f"{value:.4g}"


def _bar_width(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.1f}%"


def data_uri(image: bytes) -> str:
    """A PNG or JPEG file as the address of an image inside a page."""
    return f"data:{_media_type(image)};base64,{base64.b64encode(image).decode('ascii')}"


def _media_type(image: bytes) -> str | None:
    signatures = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
    return next((name for signature, name in signatures.items() if image.startswith(signature)), None)
