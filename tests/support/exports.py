"""Folders that look like exports, without the minutes that an export takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uipad_cli.engine.exported import Export, Kind, Parity
from uipad_cli.engine.record import EXPORT, Checkpoint, file_hash
from uipad_cli.engine.sealed import write_sealed


def write_export(folder: Path, engine: Kind, record: Checkpoint) -> None:
    """Write an export.json for whatever lies in the folder."""
    parity = Parity(source="", pairs=1, map_range=1, map_mean=0, map_most=0, map_max=0, score_usual=0, score_max=0)
    about = Export(
        engine=engine, record=record, size=record.config.framing.crop, grid=(8, 8), voices=(), top=0.01, measured=0.5,
        parity=parity, versions={},
        sha256={path.name: file_hash(path) for path in folder.iterdir() if path.name != EXPORT},
    )  # fmt: skip
    write_sealed(folder / EXPORT, about.model_dump(mode="json"))


def networks_with_numbers_in(location: str) -> list[Any]:
    """ONNX models that take numbers from the file of that name: one of them itself, one in a branch of it."""
    from onnx import TensorProto, helper

    told = TensorProto(name="w", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("offset", "0"), ("length", "16"), ("location", location)):
        told.external_data.add(key=key, value=value)
    one = [helper.make_tensor_value_info(name, 1, [4]) for name in ("rgb", "map")]
    then = helper.make_graph([helper.make_node("Add", ["rgb", "w"], ["map"])], "then", [], one[1:], [told])
    choice = helper.make_node("If", ["geometry"], ["map"], then_branch=then, else_branch=then)
    ask = helper.make_tensor_value_info("geometry", 9, [1])
    inner = helper.make_graph([choice], "g", [one[0], ask], one[1:])
    outer = helper.make_graph(then.node, "g", one[:1], one[1:], [told])
    opsets = [helper.make_opsetid("", 17)]
    return [helper.make_model(graph, opset_imports=opsets, ir_version=9) for graph in (outer, inner)]
