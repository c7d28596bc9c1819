"""An exported model: one folder that judges without torch, by OpenVINO or ONNX Runtime.

    model.xml, model.bin     the network for OpenVINO, or
    model.onnx, ...          for ONNX Runtime (with files of weights beside it, if it has more than 2 GB)
    export.json              the record of the run it was made of, what the network says in which order, how far it is
                             from torch, hashes; written last, so a folder that holds it is whole
"""  # fmt: skip

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from uipad_cli import __version__
from uipad_cli.data.places import is_plain
from uipad_cli.engine.external import external_files
from uipad_cli.engine.record import EXPORT, RECORD, Checkpoint, check_file
from uipad_cli.engine.record import VERSION as RECORD_VERSION
from uipad_cli.engine.sealed import SEAL, check_seal, read_unchecked
from uipad_cli.errors import ResourceError, UsageError, WeightsError, first_fault
from uipad_cli.metrics.image_score import image_score, measured_places
from uipad_cli.records import Arrays, ScoredArrays, Voice

Kind = Literal["openvino", "onnx"]
Floats = npt.NDArray[np.float32]
Run = Callable[[Floats, Floats], Sequence[Floats]]

FORMAT: Literal["uipad-export"] = "uipad-export"
VERSION: Literal[2] = 2
NETWORK: dict[Kind, str] = {"openvino": "model.xml", "onnx": "model.onnx"}
PACKAGE: dict[Kind, str] = {"openvino": "openvino", "onnx": "onnxruntime"}
PRECISIONS: dict[Kind, tuple[str, ...]] = {"openvino": ("fp32", "bf16"), "onnx": ("fp32",)}
EXPORT_AGAIN = "export it again with `uipad export`"


class Parity(BaseModel):
    """How far the exported network is from torch, both in float32, on `pairs` pairs of `source`.

    Absolute deviations of map and image score: map_most is what 90 % of all pixels stay below, score_usual that of the
    median pair. map_range: of torch's maps, from the least to the highest.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    pairs: int
    map_range: float
    map_mean: float
    map_most: float
    map_max: float
    score_usual: float
    score_max: float


class Export(BaseModel):
    """What export.json holds; voices and grid: in which order and shape they come after the map; size: of the images.

    top, measured: of the image score, which is worked out beside the network.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["uipad-export"] = FORMAT
    version: Literal[2] = VERSION
    engine: Kind
    record: Checkpoint
    size: int = Field(gt=0)
    grid: tuple[int, int]
    voices: tuple[Voice, ...]
    top: float = Field(gt=0, le=1)
    measured: float = Field(ge=0, le=1)
    parity: Parity
    versions: dict[str, str]
    sha256: dict[str, str]


@dataclass(frozen=True)
class ExportedModel:
    """A network that runs, and what `Export` tells of it; judges as the method that it was made of."""

    run: Run
    grid: tuple[int, int]
    voices: tuple[Voice, ...]
    top: float
    measured: float

    def score_arrays(self, arrays: Arrays) -> ScoredArrays:
        """Map [B,H,W], image score [B] and voices [B,h,w] of a batch."""
        maps, *said = self.run(arrays.rgb, arrays.geometry)
        counted = measured_places(arrays.valid, self.grid, self.measured)
        voices = dict(zip(self.voices, said, strict=True))
        return ScoredArrays(maps, image_score(maps, self.top, counted), voices)


def exported_for(folder: Path) -> Kind | None:
    """The engine that an exported model is for; None where the folder holds none."""
    there = [kind for kind, name in NETWORK.items() if (folder / name).is_file()]
    return there[0] if there and (folder / EXPORT).is_file() else None


def read_export(folder: Path, engine: Kind) -> Export:
    """Read and check export.json. Raises UsageError where the folder is for another engine, WeightsError."""
    path = folder / EXPORT
    if not path.is_file():
        if (folder / RECORD).is_file():
            cure = f"make one: uipad export {folder} --out FOLDER --format {engine}"
            raise UsageError(f"{folder} is a run, and --engine {engine} takes an export", cure)
        raise WeightsError(f"{path}: missing", "give the folder that `uipad export --out` made")
    content, data = read_unchecked(path, EXPORT_AGAIN)
    if content.get("format") != FORMAT:
        raise WeightsError(f"{path}: not a uipad export", EXPORT_AGAIN)
    record = content.get("record")
    of_record = record.get("version") if isinstance(record, dict) else None
    if (content.get("version"), of_record) != (VERSION, RECORD_VERSION):
        told = f"version {content.get('version')} with a record of version {of_record}"
        reads = f"uipad {__version__} reads {VERSION} with {RECORD_VERSION}"
        raise WeightsError(f"{path}: {told}; {reads}", EXPORT_AGAIN)
    check_seal(path, data, EXPORT_AGAIN)
    del content[SEAL]
    try:
        about = Export.model_validate(content)
    except ValidationError as error:
        raise WeightsError(f"{path}: {first_fault(error)}", EXPORT_AGAIN) from error
    if about.engine != engine:
        cure = f"add --engine {about.engine}, or export the run again with --format {engine}"
        raise UsageError(f"{folder} is an export for {about.engine}, not for {engine}", cure)
    return about


def open_export(folder: Path, engine: Kind, device: str, precision: str) -> tuple[Checkpoint, ExportedModel, str]:
    """The record of a run, its exported model, and the precision in which that computes.

    Every file is checked against its hash. Raises UsageError for what the engine cannot do, WeightsError, ResourceError
    where it is not installed.
    """
    about = read_export(folder, engine)
    chosen = _precision(engine, device, precision)
    names = {NETWORK[engine], *about.sha256}
    for name in sorted(names):
        if not is_plain(name):
            raise WeightsError(f"{folder}: {name!r} is no file of an export", EXPORT_AGAIN)
        check_file(folder / name, about.sha256, EXPORT_AGAIN)
    if engine == "onnx":
        _check_external(folder / NETWORK[engine], names)
    run = open_network(folder, engine, chosen)
    return about.record, ExportedModel(run, about.grid, about.voices, about.top, about.measured), chosen


def _check_external(path: Path, known: Collection[str]) -> None:
    """Raise WeightsError where a network takes numbers from a file that is not one of its export's."""
    try:
        stray = sorted(external_files(path) - set(known))
    except (ValueError, OSError) as error:
        raise WeightsError(f"{path}: not a network for ONNX Runtime ({error})", EXPORT_AGAIN) from error
    if stray:
        raise WeightsError(f"{path}: takes numbers from {stray[0]!r}, which is no file of the export", EXPORT_AGAIN)


def open_network(folder: Path, engine: Kind, precision: str = "fp32") -> Run:
    """The network of a folder, ready to run on the CPU. Raises WeightsError, ResourceError."""
    path = folder / NETWORK[engine]
    module = package(PACKAGE[engine], engine)
    try:
        return _openvino(module, path, precision) if engine == "openvino" else _onnx(module, path)
    except Exception as error:  # its own kinds, many
        told = str(error).strip().splitlines()
        raise WeightsError(
            f"{path}: {PACKAGE[engine]} cannot load it ({told[-1] if told else error!r})", EXPORT_AGAIN
        ) from error


def package(name: str, extra: Kind) -> Any:
    """A package of an optional engine. Raises ResourceError that names what to install."""
    # its tools would count their use over the network, which nobody has asked for
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise ResourceError(f"{name} cannot be loaded ({error})", f"pip install 'uipad[{extra}]'") from error


def _precision(engine: Kind, device: str, precision: str) -> str:
    """Raises UsageError for a device or precision that the engine does not have here."""
    if device not in ("auto", "cpu"):
        raise UsageError(f"--device {device}: --engine {engine} runs on the CPU", "leave it out, or --engine torch")
    known = PRECISIONS[engine]
    if precision not in ("auto", *known):
        raise UsageError(
            f"--precision {precision}: not with --engine {engine}", f"choose one of: auto, {', '.join(known)}"
        )
    return "fp32" if precision == "auto" else precision


def _openvino(openvino: Any, path: Path, precision: str) -> Run:
    hint = {"fp32": "f32", "bf16": "bf16"}[precision]
    model = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": hint})
    outputs = list(model.outputs)

    def run(rgb: Floats, geometry: Floats) -> list[Floats]:
        found = model({"rgb": rgb, "geometry": geometry})
        return [np.asarray(found[output], np.float32) for output in outputs]

    return run


def _onnx(onnxruntime: Any, path: Path) -> Run:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(rgb: Floats, geometry: Floats) -> list[Floats]:
        return list(session.run(None, {"rgb": rgb, "geometry": geometry}))

    return run
