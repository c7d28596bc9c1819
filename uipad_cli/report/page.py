"""Results → one self-contained HTML page: no request, readable on paper, laptop and telephone.

Its only script is the viewer of point clouds, which a content security policy names by its hash; without clouds there
is none.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from uipad_cli.report.cloud import Cloud, document, script_hash, viewer_script
from uipad_cli.report.figures import LANE, SQUARE, WIDTH, Histogram, Points, curve_path, histogram

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

PRO_LIMIT = 0.3  # the papers' limit of the false positive rate


@dataclass(frozen=True)
class Picture:
    """An image for the page: what it shows, and the bytes of a PNG or JPEG file."""

    caption: str
    image: bytes


@dataclass(frozen=True)
class DefectRow:
    """One kind of defect: its parts and what was said of them, and the image AUROC against all good parts, 0..1.

    interval: 95 % by bootstrap, None where undefined.
    """

    name: str
    parts: int
    missed: int
    unsure: int
    image_auroc: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Scored:
    """Image scores of a category, and where verdicts change: anomalous above `threshold`, unsure above `unsure_from`.

    calibration: scores of the good parts that these and the p-values come from.
    """

    good: Sequence[float]
    bad: Sequence[float]
    threshold: float
    unsure_from: float
    calibration: Sequence[float]


@dataclass(frozen=True)
class Section:
    """Results of one category.

    Metrics are shares 0..1 under the keys of `COLUMNS`, None where undefined; `intervals` holds 95 % bounds of some of
    them, `paper` what the paper prints. roc, pro: curves [points], None where undefined. clouds: parts to turn.
    """

    category: str
    metrics: Mapping[str, float | None]
    defects: Sequence[DefectRow]
    counts: Mapping[str, int]
    gauges: Mapping[str, float]
    scored: Scored
    notes: Sequence[str]
    pictures: Sequence[Picture]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    paper: Mapping[str, float] = field(default_factory=dict)
    roc: Points | None = None
    pro: Points | None = None
    clouds: Sequence[Cloud] = ()


@dataclass(frozen=True)
class _Drawn:
    """A section with its figures; clouds as JSON, "" where there is none."""

    section: Section
    histogram: Histogram | None
    roc: str
    pro: str
    clouds: str


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
    script = viewer_script() if any(section.clouds for section in sections) else ""
    return template("page.html", percent=_percent, figures=_figures, bar=_bar_width, bounds=_bounds).render(
        title=title,
        notes=notes,
        mean=mean,
        sections=[_drawn(section) for section in sections],
        settings=settings,
        columns=COLUMNS,
        width=WIDTH,
        lane=LANE,
        square=SQUARE,
        pro_limit=PRO_LIMIT,
        viewer=script,
        **({"script_hash": script_hash(script)} if script else {}),
    )


def _drawn(section: Section) -> _Drawn:
    scored = section.scored
    try:
        figure = histogram(
            scored.good, scored.bad,
            threshold=scored.threshold, unsure_from=scored.unsure_from, calibration=scored.calibration,
        )  # fmt: skip
    except ValueError as error:
        raise ValueError(f"{section.category}: {error}") from error
    return _Drawn(
        section,
        figure,
        "" if section.roc is None else curve_path(section.roc),
        "" if section.pro is None else curve_path(section.pro, PRO_LIMIT),
        document(section.clouds) if section.clouds else "",
    )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def _bounds(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{100 * interval[0]:.1f} – {100 * interval[1]:.1f}"


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
