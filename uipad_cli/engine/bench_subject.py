"""What is measured, and on what: methods on shared weights, and a few pairs, the user's or rendered ones."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uipad_cli.config import Configuration
from uipad_cli.core.backbone import Encoder, build_encoder
from uipad_cli.core.compute import Compute
from uipad_cli.data import DATASETS, dataset_name, documented, files, open_dataset, prepared, scenes
from uipad_cli.data.geometry import HeightScale, Preparation, foreground, height_scale
from uipad_cli.data.pairs import Pairs, load_sample
from uipad_cli.engine.checkpoint import build_method, load_run, method_class
from uipad_cli.engine.judging import check_preparation, known_categories, pairs_of
from uipad_cli.engine.record import Checkpoint, RunConfig, find_run
from uipad_cli.engine.runtime import choose_compute
from uipad_cli.engine.sensing import look
from uipad_cli.engine.train import complete
from uipad_cli.engine.weights import load_encoder
from uipad_cli.errors import DataError, UsageError, WeightsError
from uipad_cli.methods.base import Method
from uipad_cli.records import GOOD, UNLABELLED, Batch, Item

RIVALS: Mapping[str, Mapping[str, Any]] = {  # options of --against: PatchCore as in its paper, 10 % of the patches
    "patchcore": {"phases": 1, "coreset": 0.1, "sample": 0}
}
SCENES = (("pegs", GOOD), ("pegs", "blue_square"), ("flange", GOOD), ("flange", "dent"))
SCENE_SIZE = 400  # pixels
TAKEN = 4  # pairs that are measured by turns
RANDOM = "random weights"


@dataclass(frozen=True)
class Request:
    """What `uipad bench` was asked.

    configuration: method, backbone, seed and options where there is no run; batches, precisions: the first precision
    is the reference of the tables, none = those that the device has; seconds: of each measurement; parts: good parts
    that a memory is as large as.
    """

    configuration: Configuration
    run: Path | None = None
    data: Path | None = None
    against: Sequence[str] = ()
    batches: Sequence[int] = ()
    precisions: Sequence[str] = ()
    compiled: bool = False
    device: str = "auto"
    seconds: float = 3.0
    parts: int = 223
    random_weights: bool = False
    weights: Path | None = None
    growth: bool = False
    out: Path | None = None


@dataclass(frozen=True)
class Subject:
    """A method that can be built again for each way to compute; state: what it learned, None = it only pretends."""

    config: RunConfig
    encoder: Encoder
    source: str
    state: Mapping[str, Tensor] | None
    parts: int

    @property
    def name(self) -> str:
        """Of the method."""
        return self.config.method

    def method(self, compute: Compute) -> Method:
        """Ready to score, and for nothing else."""
        made = build_method(self.config, copy.deepcopy(self.encoder), Compute(torch.device("cpu")))
        if self.state is None:
            made.pretend(self.parts)
        else:
            made.restore(self.state)
        made.lighten(compute)
        made.graph().requires_grad_(False)
        return made

    def rival(self, name: str) -> Subject:
        """Another method on the same weights. Raises UsageError for one that is not there, or is this one."""
        if name == self.name:
            raise UsageError(f"--against {name}: it is measured anyway", "name another method")
        options = method_class(name).Options.model_validate(RIVALS.get(name, {}))
        config = self.config.model_copy(update={"method": name, "options": options.model_dump(mode="json")})
        return replace(self, config=config, state=None)


@dataclass(frozen=True)
class Workload:
    """Pairs to judge; labelled: they are all of a test split, good and defective; source: for people."""

    pairs: Pairs
    source: str
    labelled: bool = False

    @cached_property
    def taken(self) -> Sequence[Item]:
        """The few that are measured."""
        return list(self.pairs.items)[:TAKEN]

    @cached_property
    def framed(self) -> Batch:
        """All squares of these."""
        return self.pairs.batch([self.pairs.sample(item) for item in self.taken])

    def batch(self, size: int, first: int = 0) -> Batch:
        """So many pairs, by turns, all squares of each."""
        squares, there = self.pairs.framing.squares, len(self.taken)
        places = [(first + pair) % there * squares + square for pair in range(size) for square in range(squares)]
        framed = self.framed
        return Batch(framed.rgb[places], framed.geometry[places], framed.valid[places])


def opened(request: Request, folder: Path) -> tuple[Subject, Workload, Checkpoint | None]:
    """What is measured, and on what; rendered pairs are written into `folder`.

    Raises UsageError, DataError, WeightsError, ResourceError.
    """
    if request.run is None:
        subject = _described(request)
        return subject, _workload(request.data, subject.config, folder), None
    for key, origin in request.configuration.origins.items():
        raise UsageError(f"{origin}: the run has its own {key}", "leave it out")
    for option, given in (("--random-weights", request.random_weights), ("--weights", request.weights is not None)):
        if given:
            raise UsageError(f"{option}: the run has its own weights", "leave it out")
    record, method = load_run(find_run(request.run), choose_compute("cpu", "fp32", "score"))
    subject = Subject(record.config, method.encoder, record.backbone_source, method.state(), request.parts)
    if request.data is not None:
        return subject, _test_split(record, request.data), record
    workload = _workload(None, record.config, folder)
    update = {"preparation": workload.pairs.preparation, "height_scale": workload.pairs.scale}
    return subject, workload, record.model_copy(update=update)


def rendered(folder: Path, framing_of: RunConfig, kinds: Sequence[tuple[str, str]] = SCENES) -> Pairs:
    """Write rendered pairs as files of a camera and a 3D sensor: png, and points as tiff."""
    for place, (category, defect) in enumerate(kinds):
        scene = scenes.render(category, defect, seed=place, size=SCENE_SIZE)
        files.write_png(folder / "rgb" / f"{place:03d}.png", scene.rgb)
        files.write_tiff(folder / "xyz" / f"{place:03d}.tiff", scene.xyz)
    items = _test_items(folder, open_dataset(folder).categories(folder)[0])
    return _framed(items, Preparation(), None, framing_of)


def _described(request: Request) -> Subject:
    """A method as it would be after training."""
    config = complete(request.configuration)
    if request.random_weights and request.weights is None:
        encoder, source = build_encoder(config.backbone, config.framing.crop), RANDOM
    else:
        try:
            loaded = load_encoder(config.backbone, request.weights, config.framing.crop)
        except WeightsError as error:
            cure = f"give --random-weights: no time depends on them; or {error.cure}"
            raise WeightsError(error.message, cure) from error
        encoder, source = loaded.encoder, loaded.source
    return Subject(config, encoder, source, None, request.parts)


def _workload(data: Path | None, config: RunConfig, folder: Path) -> Workload:
    """Pairs without a run: what is not told of raw ones is found by a look at them."""
    if data is None:
        return Workload(rendered(folder, config), "built-in scenes")
    name = dataset_name(data)
    category = open_dataset(data).categories(data)[0]
    items = _test_items(data, category)
    if DATASETS[name] == prepared.__name__:
        manifest = prepared.read_manifest(data)
        pairs = _framed(items, manifest.preparation, manifest.categories[category].height_scale, config)
    else:
        pairs = _framed(items, look(items, Preparation(), documented(name))[0], None, config)
    return Workload(pairs, f"{data}: {category}")


def _test_split(record: Checkpoint, data: Path) -> Workload:
    """All test pairs of what the run knows."""
    check_preparation(record, data)
    names = known_categories(record, open_dataset(data).categories(data))
    items = [item for name in names for item in _test_items(data, name)]
    labelled = all(item.defect != UNLABELLED for item in items) and len({item.is_good for item in items}) == 2
    return Workload(pairs_of(record, items), f"{data}: {', '.join(names)}", labelled)


def _test_items(data: Path, category: str) -> list[Item]:
    items = open_dataset(data).scan(data, category, "test")
    if not items:
        raise DataError(f"{data}: category {category} has no test pairs", "give a data set with a test split")
    return items


def _framed(items: Sequence[Item], preparation: Preparation, scale: HeightScale | None, config: RunConfig) -> Pairs:
    """Pairs as the configuration wants to see them; without a scale, with that of the first few."""
    if scale is None:
        seen = [load_sample(item, preparation) for item in items[:TAKEN]]
        scale = height_scale(one.height[foreground(one.height, one.valid, preparation)] for one in seen)
    return Pairs(items, preparation, config.framing, scale, config.geometry, 1)
