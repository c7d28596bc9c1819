"""A finished run → one folder that judges without torch, once it was seen to say the same (engine/exported.py)."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from uipad_cli.data import files, scenes
from uipad_cli.data.geometry import HeightScale, Preparation, foreground, height_scale, prepare_geometry
from uipad_cli.data.pairs import tensors
from uipad_cli.engine.checkpoint import load_run
from uipad_cli.engine.exported import NETWORK, PACKAGE, Export, ExportedModel, Kind, Parity, open_network, package
from uipad_cli.engine.judging import check_preparation, items_in, pairs_of
from uipad_cli.engine.record import (
    BACKBONE_FILE,
    EXPORT,
    METHOD_FILE,
    Checkpoint,
    file_hash,
    find_run,
    versions,
)
from uipad_cli.engine.runtime import choose_compute
from uipad_cli.engine.sealed import write_sealed
from uipad_cli.errors import UipadError, UsageError, WeightsError
from uipad_cli.methods.base import Method
from uipad_cli.methods.scorer import Scorer
from uipad_cli.records import Arrays, Progress, Report, Sample, ScoredArrays, silent

COMPARED = 6  # pairs that both judge
FEW = 4  # of them in a batch after the first, which has one
CLOSE = 1e-3  # of the range of torch's maps: what may lie between both in float32
MOST = 0.9  # of the pixels; elsewhere, of two remembered patches as near as each other either may be the nearer one
SCENE_PIXELS = 320
INPUTS = ("rgb", "geometry")
ONE_FILE = 2**31 - 2**20  # bytes of weights that an .onnx file has room for


@dataclass(frozen=True)
class Request:
    """What `uipad export` was asked: a run, the new folder, for which engine, and pairs to compare both on."""

    run: Path
    out: Path
    engine: Kind
    data: Path | None = None


@dataclass(frozen=True)
class Exported:
    """An export that was written."""

    folder: Path
    about: Export

    def sentences(self) -> list[str]:
        """For people."""
        parity, size = self.about.parity, sum(path.stat().st_size for path in self.folder.iterdir())
        return [
            f"{self.folder}: {size / 1e6:.0f} MB for {self.about.engine}; "
            f"uipad infer ... --model {self.folder} --engine {self.about.engine}",
            f"on {parity.pairs} pairs ({parity.source}), maps of a range of {parity.map_range:.3g} differ from torch's "
            f"by {parity.map_mean:.1e} in the mean and {parity.map_max:.1e} at most, image scores by "
            f"{parity.score_max:.1e} at most",
        ]

    def document(self) -> dict[str, object]:
        """The JSON of `export`."""
        about = self.about.model_dump(mode="json", include={"engine", "size", "voices", "parity", "versions", "sha256"})
        return {"export": str(self.folder), **about}


def export(request: Request, *, report: Report = silent) -> Exported:
    """Write the scoring of a run as a network for another engine, and compare what both say.

    Raises UsageError, DataError, ResourceError, and WeightsError where the engine cannot take the network or says
    something else than torch; nothing is left behind then.
    """
    folder = _one_run(request)
    module = package(PACKAGE[request.engine], request.engine)
    record, method = load_run(folder, choose_compute("cpu", "fp32", "score"))
    batches, source = _batches(record, request.data)
    expected = [scored(method, one) for one in batches]
    graph = method.graph()
    size = sum((folder / name).stat().st_size for name in (METHOD_FILE, BACKBONE_FILE))
    with files.whole_folder(request.out, size) as building:
        report(Progress("export", 0, 2, "network"))
        _write(graph, record.config.framing.crop, request.engine, building)
        report(Progress("export", 1, 2, "comparison with torch"))
        run = open_network(building, request.engine)
        model = ExportedModel(run, graph.grid, graph.voices, graph.top, graph.measured)
        found = [model.score_arrays(one) for one in batches]
        parity = compared(found, expected, source, record.config.framing.squares)
        check_parity(parity, request.engine)
        about = Export(
            engine=request.engine, record=record, size=record.config.framing.crop, grid=graph.grid,
            voices=graph.voices, top=graph.top, measured=graph.measured, parity=parity,
            versions=versions() | {PACKAGE[request.engine]: str(module.__version__)},
            sha256={path.name: file_hash(path) for path in sorted(building.iterdir())},
        )  # fmt: skip
        write_sealed(building / EXPORT, about.model_dump(mode="json"))
    report(Progress("export", 2, 2))
    return Exported(request.out, about)


def compared(found: Sequence[ScoredArrays], expected: Sequence[ScoredArrays], source: str, squares: int = 1) -> Parity:
    """How far scores of the same batches are from what was expected; a pair's score is the worst of its squares."""
    maps, others = (np.concatenate([one.map for one in scores]) for scores in (expected, found))
    scores, their = (
        np.concatenate([one.image for one in scores]).reshape(-1, squares).max(axis=1) for scores in (expected, found)
    )
    apart, between = np.abs(others - maps), np.abs(their - scores)
    return Parity(
        source=source,
        pairs=len(scores),
        map_range=float(maps.max() - maps.min()),
        map_mean=float(apart.mean()),
        map_most=float(np.quantile(apart, MOST)),
        map_max=float(apart.max()),
        score_usual=float(np.median(between)),
        score_max=float(between.max()),
    )


def check_parity(parity: Parity, engine: Kind) -> None:
    """Raise WeightsError where an engine says something else than torch."""
    allowed = CLOSE * parity.map_range
    worst = max(parity.map_mean, parity.map_most, parity.score_usual)
    if not worst <= allowed:  # nor is it where it is not a number
        told = (
            f"{engine} says something else than torch: its maps or scores differ by {worst:.3g}, {allowed:.3g} is fine"
        )
        raise WeightsError(told, "try the other --format, or another version of its packages; torch judges as ever")


def _one_run(request: Request) -> Path:
    """The run to export. Raises UsageError for several, and for a folder that is not free; WeightsError."""
    run = find_run(request.run)
    out = request.out
    if out.exists() and not (out.is_dir() and next(out.iterdir(), None) is None):
        raise UsageError(f"{out}: not an empty folder", "choose a new one for --out")
    return run


def scored(method: Method, arrays: Arrays) -> ScoredArrays:
    """What a method says of a batch, as arrays."""
    scores = method.score(tensors(arrays))
    return ScoredArrays(scores.map.numpy(), scores.image.numpy())


def _batches(record: Checkpoint, data: Path | None) -> tuple[list[Arrays], str]:
    """Batches of one pair and of several, and where they are from. Raises DataError."""
    if data is None:
        scale, samples = _rendered()
        source = "built-in scenes"
        pairs = replace(pairs_of(record, []), scale=scale)
    else:
        check_preparation(record, data)
        items = items_in(record, data)
        pairs = pairs_of(record, items[:: max(1, len(items) // COMPARED)][:COMPARED])
        samples, source = [pairs.sample(item) for item in pairs.items], str(data)
    cuts = [0, *range(1, len(samples), FEW), len(samples)]
    return [pairs.arrays(samples[start:end]) for start, end in pairwise(cuts)], source


def _rendered() -> tuple[HeightScale, list[Sample]]:
    """Built-in scenes, and their range of heights."""
    shot = [scenes.render(name, seed=seed, size=SCENE_PIXELS) for seed in (0, 1) for name in scenes.CATEGORIES[:3]]
    found = [prepare_geometry(one.xyz, Preparation()) for one in shot]
    scale = height_scale(one.height[foreground(one.height, one.valid, Preparation())] for one in found)
    return scale, [Sample(one.rgb, of.height, of.valid) for one, of in zip(shot, found, strict=True)]


def _write(graph: Scorer, size: int, engine: Kind, folder: Path) -> None:
    """Write the network for an engine. Raises ResourceError where a package is missing, WeightsError."""
    write = {"openvino": _write_openvino, "onnx": _write_onnx}[engine]
    outputs = ["map", *(f"voice_{name}" for name in graph.voices)]  # geometry is an input
    try:
        with _quiet(), torch.no_grad():
            images = torch.rand(2, 2, 3, size, size)
            batch = {0: torch.export.Dim("batch", min=1)}
            program = torch.export.export(graph.eval(), tuple(images), dynamic_shapes=(batch, batch))
            write(program, outputs, size, folder)
    except (UipadError, OSError):
        raise
    except Exception as error:  # whatever a converter raises means the same to the user
        raise WeightsError(
            f"this network cannot be exported for {engine} ({_reason(error)})",
            "try the other --format, or another version of its packages",
        ) from error


def _reason(error: BaseException) -> str:
    """A line of what it began with: converters wrap faults in advice, and OpenVINO comes to the point at the end."""
    while error.__cause__ is not None:
        error = error.__cause__
    told = str(error).strip().splitlines() or [type(error).__name__]
    return told[-1 if type(error).__module__.startswith("openvino") else 0]


def _write_openvino(program: torch.export.ExportedProgram, outputs: Sequence[str], size: int, folder: Path) -> None:
    openvino = package("openvino", "openvino")
    model = openvino.convert_model(program)
    for port, name in zip((*model.inputs, *model.outputs), (*INPUTS, *outputs), strict=True):
        port.get_tensor().set_names({name})
    model.reshape({name: [-1, 3, size, size] for name in INPUTS})
    openvino.save_model(model, str(folder / NETWORK["openvino"]), compress_to_fp16=False)


def _write_onnx(program: torch.export.ExportedProgram, outputs: Sequence[str], size: int, folder: Path) -> None:
    package("onnxscript", "onnx")
    network = torch.onnx.export(program, input_names=INPUTS, output_names=outputs, dynamo=True, verbose=False)
    assert network is not None
    kept = [one.const_value for one in network.model.graph.initializers.values()]
    weights = sum(value.nbytes for value in kept if value is not None)
    network.save(folder / NETWORK["onnx"], external_data=weights > ONE_FILE)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what converters tell programmers, some of them by printing it."""
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
