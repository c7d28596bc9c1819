"""One folder that explains itself: safetensors + JSON, written atomically, rebuilt from the folder alone.

    checkpoint.json          settings, framing, geometry, height scale, threshold, versions, hashes; written last, so a
                             folder that holds it is whole
    method.safetensors       what the method learned
    backbone.safetensors     the frozen backbone up to its last kept block
    calibration.safetensors  fingerprints of the good parts that it was calibrated by (engine/fingerprint.py)
    calibration-earlier...   the same of the calibration before, while a new one is written
    training.safetensors     where an unfinished run stands; gone when it is finished
    log.jsonl                loss and gauges of every step
"""  # fmt: skip

from __future__ import annotations

import importlib
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import numpy
import safetensors.torch
import timm
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from safetensors import SafetensorError
from torch import Tensor

from uipad_cli import __version__
from uipad_cli.core.backbone import Encoder, build_encoder, check_state
from uipad_cli.core.compute import Compute
from uipad_cli.data import files
from uipad_cli.data.framing import Framing
from uipad_cli.data.geometry import HeightScale, Preparation
from uipad_cli.data.relief import GeometryImage
from uipad_cli.engine.calibration import Calibration
from uipad_cli.engine.weights import file_hash
from uipad_cli.errors import UsageError, WeightsError, first_fault
from uipad_cli.methods import METHODS
from uipad_cli.methods.base import Method
from uipad_cli.records import Missing

FORMAT = "uipad-checkpoint"
VERSION = 3
RECORD = "checkpoint.json"
METHOD_FILE = "method.safetensors"
BACKBONE_FILE = "backbone.safetensors"
CALIBRATION_FILE = "calibration.safetensors"
TRAINING_FILE = "training.safetensors"
LOG_FILE = "log.jsonl"
TRAIN_AGAIN = "train again with `uipad train`"


class RunConfig(BaseModel):
    """What `uipad train` was asked for; `options` belong to the method."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str = "uipad"
    backbone: str = "dinov2-base"
    seed: int = Field(default=0, ge=0)
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    framing: Framing = Framing()
    geometry: GeometryImage = "relief"
    batch: int = Field(default=8, ge=1)
    shots: int | None = Field(default=None, ge=1)  # good pairs of each category that are learned from, None = all
    options: dict[str, Any] = Field(default_factory=dict)


class Claim(BaseModel):
    """Which parts a run learns from, and the weights it was given: hashes of the manifest's entries and of the file.

    category: a name, or `all` for one model of all `categories`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    category: str
    data_sha256: str
    weights_sha256: str | None
    categories: tuple[str, ...] = ()

    @property
    def learned(self) -> tuple[str, ...]:
        """Names of the categories whose parts it knows."""
        return self.categories or (self.category,)


class Checkpoint(Claim):
    """The record of a finished run (checkpoint.json)."""

    format: str = FORMAT
    version: int = VERSION
    config: RunConfig
    backbone_source: str
    preparation: Preparation
    height_scale: HeightScale
    calibration: Calibration
    missing: dict[Missing, Calibration] = {}  # where one file of a pair is missing
    gauges: dict[str, float]
    training: dict[str, float]
    versions: dict[str, str]
    sha256: dict[str, str]

    @field_validator("config", mode="before")
    @classmethod
    def _name_geometry(cls, config: Any) -> Any:
        """Records older than the choice of geometry are of height, whatever the default is now."""
        return {"geometry": "height", **config} if isinstance(config, dict) else config


def method_class(name: str) -> type[Method]:
    """The class behind a method's name. Raises UsageError naming the methods there are."""
    if name not in METHODS:
        raise UsageError(f"unknown method {name!r}", f"methods: {', '.join(METHODS)}")
    module, _, attribute = METHODS[name].partition(":")
    return cast("type[Method]", getattr(importlib.import_module(module), attribute))


def build_method(config: RunConfig, encoder: Encoder, compute: Compute) -> Method:
    """The untrained method that `config` describes."""
    kind = method_class(config.method)
    return kind(encoder, kind.Options.model_validate(config.options), compute, config.seed)


def versions() -> dict[str, str]:
    """Versions of everything that shapes a result."""
    return {
        "uipad": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "timm": str(timm.__version__),
        "numpy": numpy.__version__,
    }


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors atomically, without a second copy in memory. Raises ResourceError."""
    whole = {name: value.contiguous() for name, value in tensors.items()}
    size = sum(value.nbytes for value in whole.values())

    def write(temporary: Path) -> None:
        try:
            safetensors.torch.save_file(whole, temporary)
        except SafetensorError as error:  # its words for a full disk
            raise OSError(str(error)) from error

    files.write_atomically(path, write, size)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read tensors. Raises WeightsError."""
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: missing or not a whole safetensors file ({error})", TRAIN_AGAIN) from error


def load_checked(path: Path, hashes: Mapping[str, str], cure: str) -> dict[str, Tensor]:
    """Tensors of a run's file, checked against its hash in the record. Raises WeightsError with this cure."""
    if path.name not in hashes or not path.is_file():
        raise WeightsError(f"{path}: missing", cure)
    if file_hash(path) != hashes[path.name]:
        raise WeightsError(f"{path}: damaged, its hash is not the recorded one", cure)
    return load_tensors(path)


def save_run(folder: Path, method: Method, encoder: Encoder) -> dict[str, str]:
    """Write what a method and its backbone hold; returns the hashes for the record, which is written after."""
    save_tensors(folder / METHOD_FILE, method.state())
    save_tensors(folder / BACKBONE_FILE, encoder.vit.state_dict())
    return {name: file_hash(folder / name) for name in (METHOD_FILE, BACKBONE_FILE)}


def find_runs(path: Path) -> list[Path]:
    """Finished runs at `path`: the folder itself, or those right below it. Raises WeightsError when there is none."""
    if (path / RECORD).is_file():
        return [path]
    found = sorted(record.parent for record in path.glob(f"*/{RECORD}"))
    if found:
        return found
    if (path / TRAINING_FILE).exists():
        raise WeightsError(f"{path}: training was not finished", "finish it with `uipad train ... --resume`")
    raise WeightsError(f"{path}: no {RECORD} here or one folder below", "give the folder that `uipad train --out` made")


def read_record(folder: Path) -> Checkpoint:
    """Read and check checkpoint.json. Raises WeightsError."""
    path = folder / RECORD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: cannot be read ({error})", TRAIN_AGAIN) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise WeightsError(f"{path}: not a uipad checkpoint", "give the folder that `uipad train --out` made")
    if content.get("version") != VERSION:
        programs = content.get("versions")
        written_by = programs.get("uipad", "unknown") if isinstance(programs, dict) else "unknown"
        raise WeightsError(
            f"{path}: checkpoint version {content.get('version')}, written by uipad {written_by}; "
            f"uipad {__version__} reads version {VERSION}",
            f"use that uipad, or {TRAIN_AGAIN}",
        )
    try:
        return Checkpoint.model_validate(content)
    except ValidationError as error:
        raise WeightsError(f"{path}: {first_fault(error)}", TRAIN_AGAIN) from error


def load_run(folder: Path, compute: Compute) -> tuple[Checkpoint, Method]:
    """Rebuild a finished run from its folder alone, every file checked against its hash. Raises WeightsError."""
    record = read_record(folder)
    for name in (METHOD_FILE, BACKBONE_FILE):
        if not (folder / name).is_file():
            raise WeightsError(f"{folder / name}: missing", TRAIN_AGAIN)
        if file_hash(folder / name) != record.sha256.get(name):
            raise WeightsError(f"{folder / name}: damaged, its hash is not the recorded one", TRAIN_AGAIN)
    try:
        encoder = build_encoder(record.config.backbone, record.config.framing.crop)
        state = load_tensors(folder / BACKBONE_FILE)
        check_state(encoder.vit.state_dict(), state)
        encoder.vit.load_state_dict(state)
        method = build_method(record.config, encoder, compute)
        method.restore(load_tensors(folder / METHOD_FILE))
    except ValidationError as error:
        raise WeightsError(f"{folder / RECORD}: options.{first_fault(error)}", TRAIN_AGAIN) from error
    except (ValueError, UsageError) as error:
        raise WeightsError(f"{folder}: the checkpoint does not fit this uipad ({error})", TRAIN_AGAIN) from error
    return record, method
