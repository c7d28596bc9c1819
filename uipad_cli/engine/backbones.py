"""Prepared data and backbones → one table: PatchCore on the features of each, on both images and on each alone.

Nothing is trained, so the figures tell how well a backbone's features separate good patches from defective ones. All
is computed in the precision that scoring takes, the memory of good patches too.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from uipad_cli import __version__
from uipad_cli import config as settings
from uipad_cli.config import Configuration
from uipad_cli.core.backbone import BUILT_IN, TINY, Encoder
from uipad_cli.data import choose_category, files, prepared
from uipad_cli.data.pairs import Pairs
from uipad_cli.data.prepared import Manifest
from uipad_cli.engine.collecting import collect
from uipad_cli.engine.feature_picture import feature_picture
from uipad_cli.engine.record import RunConfig
from uipad_cli.engine.runtime import choose_compute
from uipad_cli.engine.scratch import told
from uipad_cli.engine.weights import LoadedEncoder, fit_framing, load_encoder
from uipad_cli.errors import DataError, UsageError
from uipad_cli.methods.patchcore import PatchCoreMethod, PatchCoreOptions
from uipad_cli.metrics.ranking import auroc, auroc_interval
from uipad_cli.metrics.region import pixel_metrics
from uipad_cli.records import Progress, Report, silent

Modalities = Literal["both", "rgb", "geometry"]

LEVEL = 0.95
MEAN = "mean"
METRICS = {"image_auroc": "AUROC", "pixel_auroc": "pixels", "aupro_30": "PRO@30"}
TAKEN = {
    "method": "it is patchcore",
    "backbone": "give --backbone",
    "options.modalities": "all three are measured",
    "shots": "all good pairs are remembered",
}


@dataclass(frozen=True)
class Row:
    """Figures of one backbone on one category; None where the test split leaves them undefined.

    interval: bounds of the image AUROC at LEVEL; seconds: median time to encode a pair, where both images count.
    """

    category: str
    backbone: str
    modalities: Modalities
    image_auroc: float | None
    interval: tuple[float, float] | None
    pixel_auroc: float | None
    aupro_30: float | None
    seconds: float | None


@dataclass(frozen=True)
class Contestant:
    """A backbone under the name of its rows, and the settings that fit it."""

    name: str
    loaded: LoadedEncoder
    config: RunConfig
    options: PatchCoreOptions


@dataclass(frozen=True)
class Table:
    """All rows, by category, backbone and modalities."""

    contestants: Sequence[Contestant]
    measured: Sequence[Row]

    def means(self) -> list[Row]:
        """Plain mean over the categories per backbone and modalities, None where a category has no value."""
        means = []
        for one, modalities in itertools.product(self.contestants, get_args(Modalities)):
            rows = [row for row in self.measured if (row.backbone, row.modalities) == (one.name, modalities)]
            values = {name: _mean([getattr(row, name) for row in rows]) for name in (*METRICS, "seconds")}
            means.append(Row(MEAN, one.name, modalities, interval=None, **values))
        return means

    def document(self) -> dict[str, object]:
        """The JSON of `backbones`."""
        return {
            "uipad": __version__,
            "level": LEVEL,
            "backbones": {one.name: {"source": one.loaded.source, **_shared(one)} for one in self.contestants},
            "rows": [asdict(row) for row in self.measured],
            "mean": [asdict(row) for row in self.means()],
        }

    def rows(self) -> tuple[list[str], list[list[object]]]:
        """Column heads and rows of the table for people; means where there are several categories."""
        several = len({row.category for row in self.measured}) > 1
        body: list[list[object]] = [
            [
                row.category, row.backbone, row.modalities, row.image_auroc,
                None if row.interval is None else f"{row.interval[0]:.3f}–{row.interval[1]:.3f}",
                row.pixel_auroc, row.aupro_30, row.seconds,
            ]
            for row in [*self.measured, *(self.means() if several else [])]
        ]  # fmt: skip
        image, *pixels = METRICS.values()
        return ["category", "backbone", "images", image, f"{LEVEL:.0%}", *pixels, "s/pair"], body

    def markdown(self) -> str:
        """The same table as a page, with what each backbone is."""
        heads, body = self.rows()
        lines: list[Sequence[object]] = [heads, ["---"] * len(heads), *body]
        told = ["| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines]
        sources = [f"- {one.name}: {one.loaded.source}" for one in self.contestants]
        return "\n".join(["# PatchCore on the features of each backbone", "", *told, "", *sources, ""])

    def write(self, out: Path) -> None:
        """Write table.json and table.md. Raises ResourceError."""
        files.write_json(out / "table.json", self.document())
        files.write_bytes(out / "table.md", self.markdown().encode())


def compare(
    data: Path, configuration: Configuration, *, backbones: Sequence[str] = (), weights: Path | None = None,
    categories: Sequence[str] = (), out: Path | None = None, report: Report = silent,
) -> Table:  # fmt: skip
    """Measure backbones (default BUILT_IN) on categories (default all); `out` is written again after every step.

    weights: a file for one more row, `tiny` with these weights.
    Raises UsageError, DataError, WeightsError, ResourceError.
    """
    manifest = prepared.read_manifest(data)
    chosen = [choose_category(list(manifest.categories), wanted) for wanted in categories or manifest.categories]
    contestants = list(_contestants(configuration, backbones or BUILT_IN, weights))
    table = Table(contestants, ())
    for category, one in itertools.product(dict.fromkeys(chosen), contestants):
        training, test = (_pairs(data, manifest, category, split, one.config) for split in ("train", "test"))
        table = Table(contestants, (*table.measured, *_measure(one, category, training, test, report)))
        if out is not None:
            table.write(out)
            _draw(one, category, test, out)
    return table


def _contestants(configuration: Configuration, names: Sequence[str], weights: Path | None) -> Iterator[Contestant]:
    """Everything that can go wrong with a name, a setting or a file does so before the first pair is encoded."""
    for key, cure in TAKEN.items():
        if key in configuration.origins:
            raise UsageError(f"{configuration.origins[key]}: {key} is not free in this table", cure)
    config = settings.build(RunConfig, configuration)
    options = settings.build(PatchCoreOptions, configuration, "options")
    wanted: list[tuple[str, str, Path | None]] = [(name, name, None) for name in dict.fromkeys(names)]
    if weights is not None:
        wanted.append((f"{TINY} + {weights.name}", TINY, weights))
    framings = [fit_framing(config.framing, backbone) for _, backbone, _ in wanted]
    for (name, backbone, file), framing in zip(wanted, framings, strict=True):
        update = {"method": "patchcore", "backbone": backbone, "framing": framing, "options": {}}
        loaded = load_encoder(backbone, file, framing.crop)
        yield Contestant(name, loaded, config.model_copy(update=update), options)


def _pairs(data: Path, manifest: Manifest, category: str, split: str, config: RunConfig) -> Pairs:
    """The pairs of a split, of train the good ones. Raises DataError where there are none to learn from."""
    items = [item for item in prepared.scan(data, category, split) if split != "train" or item.is_good]
    if split == "train" and not items:
        raise DataError(f"{data}: category {category} has no good training pairs", "prepare its train/good folder")
    scale = manifest.categories[category].height_scale
    return Pairs(items, manifest.preparation, config.framing, scale, config.geometry, config.batch)


def _measure(one: Contestant, category: str, training: Pairs, test: Pairs, report: Report) -> list[Row]:
    """The three rows of a backbone on a category."""
    compute = choose_compute(one.config.device, one.config.precision, "score")
    encoder = _Remembering(one.loaded.encoder)
    kinds: tuple[Modalities, ...] = get_args(Modalities)
    steps = itertools.count(1)
    total = len(kinds) * (len(training) + 1 + len(test))  # batches, and a coreset

    def step(_: Progress) -> None:
        report(Progress(f"{category}, {one.name}", next(steps), total))

    rows = []
    for modalities in kinds:  # both first: it encodes whole batches of pairs
        options = one.options.model_copy(update={"modalities": modalities})
        method = PatchCoreMethod(encoder, options, compute, one.config.seed)
        method.fit(training, step)
        method.run = method.graph()  # its encoder looks images up, which no recorded graph could
        seconds = float(np.median(encoder.seconds)) if modalities == "both" else None
        rows.append(Row(category, one.name, modalities, **_figures(method, test, step), seconds=seconds))
    return rows


def _draw(one: Contestant, category: str, test: Pairs, out: Path) -> None:
    """A picture of what the backbone sees in the first test pair."""
    batch = next(iter(replace(test, batch_size=1)), None)
    if batch is not None:
        compute = choose_compute(one.config.device, one.config.precision, "score")
        files.write_png(out / f"{category}_{one.name}.png", feature_picture(one.loaded.encoder, batch, compute))


def _figures(method: PatchCoreMethod, test: Pairs, report: Report) -> dict[str, Any]:
    found = collect(method, test, report)
    with told():
        pixels = pixel_metrics(found.maps, found.masks, seen=found.seen, limits=(0.3,))
    return {
        "image_auroc": auroc(found.scores, found.labels),
        "interval": auroc_interval(found.scores, found.labels, level=LEVEL),
        "pixel_auroc": pixels.pixel_auroc,
        "aupro_30": pixels.aupro[0.3],
    }


class _Remembering(Encoder):
    """An encoder that looks at each image once and hands out the group means, which are all that PatchCore uses.

    seconds: time per pair, two images, of each call that had something to encode.
    """

    def __init__(self, encoder: Encoder) -> None:
        nn.Module.__init__(self)
        self.encoder = encoder
        self.register_buffer("mean", encoder.mean, persistent=False)
        self.known: dict[bytes, Tensor] = {}
        self.seconds: list[float] = []

    @property
    def width(self) -> int:
        return self.encoder.width

    @property
    def grid(self) -> tuple[int, int]:
        return self.encoder.grid

    @property
    def patch(self) -> int:
        return self.encoder.patch

    @torch.no_grad()
    def group_means(self, images: Tensor, groups: int) -> Tensor:
        """As `Encoder.group_means`, always of the same number of groups."""
        keys = [hashlib.sha256(image.numpy().tobytes()).digest() for image in images.cpu()]
        new = [place for place, key in enumerate(keys) if key not in self.known]
        if new:
            began = time.perf_counter()
            means = self.encoder.group_means(images[new], groups).cpu()
            self.seconds.append(2 * (time.perf_counter() - began) / len(new))
            self.known.update(zip((keys[place] for place in new), means, strict=True))
        return torch.stack([self.known[key] for key in keys]).to(images.device)


def _shared(one: Contestant) -> Mapping[str, object]:
    """What all rows of a backbone have in common besides its weights."""
    config, options = one.config, one.options.model_dump(mode="json", exclude={"modalities"})
    return {
        "framing": config.framing.model_dump(),
        "geometry": config.geometry,
        "seed": config.seed,
        "options": options,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there and len(there) == len(values) else None


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
