"""The record of a run (checkpoint.json): what it was asked for, learned from and calibrated by; no tensors."""

from __future__ import annotations

import hashlib
import importlib
import platform
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from uipad_cli import __version__
from uipad_cli.data.framing import Framing
from uipad_cli.data.geometry import HeightScale, Preparation
from uipad_cli.data.places import is_plain
from uipad_cli.data.relief import GeometryImage
from uipad_cli.engine.calibration import Calibration
from uipad_cli.engine.sealed import SEAL, check_seal, read_unchecked
from uipad_cli.errors import UsageError, WeightsError, first_fault
from uipad_cli.records import Missing

FORMAT = "uipad-checkpoint"
VERSION = 4
RECORD = "checkpoint.json"
EXPORT = "export.json"  # in the folder of an exported model (engine/exported.py)
METHOD_FILE = "method.safetensors"
BACKBONE_FILE = "backbone.safetensors"
CALIBRATION_FILE = "calibration.safetensors"
TRAINING_FILE = "training.safetensors"
LOG_FILE = "log.jsonl"
FAR = 1e12  # no score is as large
SHAPING = ("torch", "timm", "numpy")
TRAIN_AGAIN = "train again with `uipad train`"
BEGIN_AGAIN = "remove its folder and begin again"  # of a run that is not finished


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

    @field_validator("category", "categories")
    @classmethod
    def _name_folders(cls, told: str | tuple[str, ...]) -> str | tuple[str, ...]:
        """A record may come from anywhere: what is written for its categories lies in folders of these names."""
        for name in (told,) if isinstance(told, str) else told:
            if not is_plain(name):
                raise ValueError(f"{name!r} is not the name of a category")
        return told

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

    @model_validator(mode="after")
    def _measure(self) -> Checkpoint:
        """What scores and maps are divided by and compared with is finite, or verdicts would not be."""
        for one in (self.calibration, *self.missing.values()):
            ends = [(one.map_low, one.map_high), *one.voices.values()]
            told = [*one.scores, *(end for both in ends for end in both)]
            if not all(abs(value) < FAR for value in told) or not all(high - low > 1 / FAR for low, high in ends):
                raise ValueError("calibration: its scores and ends of maps are no finite numbers, low below high")
        if not all(abs(end) < FAR for end in (self.height_scale.low, self.height_scale.high)):
            raise ValueError("height_scale: no part is as high")
        return self


def versions() -> dict[str, str]:
    """Versions of everything that shapes a result, as far as it is installed."""
    found = {"uipad": __version__, "python": platform.python_version()}
    for name in SHAPING:
        with suppress(ImportError):
            found[name] = str(importlib.import_module(name).__version__)
    return found


def file_hash(path: Path, head: bytes = b"") -> str:
    """SHA-256 of a file, in hexadecimal; `head` stands in for as many bytes at its beginning.

    Raises WeightsError where it cannot be read.
    """
    digest = hashlib.sha256(head)
    try:
        with path.open("rb") as stream:
            stream.seek(len(head))
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})", "check the path") from error
    return digest.hexdigest()


def check_file(path: Path, hashes: Mapping[str, str], cure: str) -> None:
    """Raise WeightsError with this cure where a file is missing, or its hash is not the recorded one."""
    if not path.is_file():
        raise WeightsError(f"{path}: missing", cure)
    if file_hash(path) != hashes.get(path.name):
        raise WeightsError(f"{path}: damaged, its hash is not the recorded one", cure)


def find_runs(path: Path) -> list[Path]:
    """Finished runs at `path`: the folder itself, or those right below it. Raises WeightsError when there is none."""
    if (path / RECORD).is_file():
        return [path]
    found = sorted(record.parent for record in path.glob(f"*/{RECORD}"))
    if found:
        return found
    if (path / TRAINING_FILE).exists():
        raise WeightsError(f"{path}: training was not finished", "finish it with the same `uipad train` again")
    if (path / EXPORT).is_file():
        raise WeightsError(f"{path}: an exported model, which only `uipad infer` takes", "give the run it was made of")
    raise WeightsError(f"{path}: no {RECORD} here or one folder below", "give the folder that `uipad train --out` made")


def find_run(path: Path) -> Path:
    """The only finished run at `path`. Raises WeightsError as `find_runs`, UsageError where there are several."""
    runs = find_runs(path)
    if len(runs) > 1:
        names = ", ".join(one.name for one in runs[:5])
        raise UsageError(f"{path} holds several runs", f"name one of them: {names}")
    return runs[0]


def read_record(folder: Path) -> Checkpoint:
    """Read and check checkpoint.json. Raises WeightsError."""
    path = folder / RECORD
    content, data = read_unchecked(path, TRAIN_AGAIN)
    if content.get("format") != FORMAT:
        raise WeightsError(f"{path}: not a uipad checkpoint", "give the folder that `uipad train --out` made")
    if content.get("version") != VERSION:
        programs = content.get("versions")
        written_by = programs.get("uipad", "unknown") if isinstance(programs, dict) else "unknown"
        raise WeightsError(
            f"{path}: checkpoint version {content.get('version')}, written by uipad {written_by}; "
            f"uipad {__version__} reads version {VERSION}",
            f"use that uipad, or {TRAIN_AGAIN}",
        )
    check_seal(path, data, TRAIN_AGAIN)
    del content[SEAL]
    try:
        return Checkpoint.model_validate(content)
    except ValidationError as error:
        raise WeightsError(f"{path}: {first_fault(error)}", TRAIN_AGAIN) from error
