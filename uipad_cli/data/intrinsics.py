"""The numbers of a pinhole camera, given by hand or by a file as cameras write them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from uipad_cli.data import files
from uipad_cli.data.markup import YAML_CAP, parse_yaml
from uipad_cli.data.sensor import Intrinsics
from uipad_cli.errors import UipadError, UsageError

_HOW = (
    "fx,fy,cx,cy in pixels, one focal length, or a file: json or yaml with fx, fy, cx, cy, intrinsic_matrix, K or"
    " camera_matrix, or the xml of a PCL grabber"
)
_XML = {"fx": "focal_length_x", "fy": "focal_length_y", "cx": "principal_point_x", "cy": "principal_point_y"}
_LARGEST = 1e9  # pixels
_MATRICES = ("intrinsic_matrix", "camera_matrix", "K", "k")


def parse_intrinsics(text: str) -> Intrinsics:
    """A camera from `fx,fy,cx,cy`, from one focal length, or from the file of that name. Raises UsageError."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return _from_file(Path(text))
    if len(numbers) == 1:
        numbers *= 2
    if len(numbers) not in (2, 4):
        raise UsageError(f"--intrinsics {text}: {len(numbers)} numbers", _HOW)
    return _camera(numbers, text)


def _from_file(path: Path) -> Intrinsics:
    try:
        text = files.read_bytes(path, YAML_CAP).decode("utf-8-sig")
    except (UipadError, UnicodeDecodeError) as error:
        raise UsageError(f"--intrinsics {path}: neither numbers nor a file that can be read: {error}", _HOW) from error
    found = _from_xml(text) if text.lstrip().startswith("<") else _from_mapping(text)
    if found is None:
        raise UsageError(f"--intrinsics {path}: holds no camera", _HOW)
    return _camera(found, str(path))


def _from_xml(text: str) -> list[float] | None:
    """Tags alone, no parser: the depth camera where there are two."""
    depth = re.search(r"<depth>(.*?)</depth>", text, re.DOTALL)
    part = depth.group(1) if depth else text
    found = {name: re.search(rf"<{tag}>\s*([-+.\deE]+)\s*</{tag}>", part) for name, tag in _XML.items()}
    if any(match is None for match in found.values()):
        return None
    try:
        return [float(match.group(1)) for match in found.values() if match is not None]
    except ValueError:
        return None


def _from_mapping(text: str) -> list[float] | None:
    """JSON is YAML, but for tabs, which some cameras write."""
    try:
        content = parse_yaml(text.replace("\t", " "))
    except ValueError:
        return None
    for place in _mappings(content, 3):
        keys = {key.lower(): value for key, value in place.items() if isinstance(key, str)}
        if all(_is_number(keys.get(name)) for name in ("fx", "fy", "cx", "cy")):
            return [float(keys[name]) for name in ("fx", "fy", "cx", "cy")]
        for name in _MATRICES:
            if (found := _from_matrix(place.get(name))) is not None:
                return found
    return None


def _mappings(content: Any, deep: int) -> list[dict[Any, Any]]:
    if not isinstance(content, dict) or deep == 0:
        return []
    return [content, *(inner for value in content.values() for inner in _mappings(value, deep - 1))]


def _from_matrix(matrix: Any) -> list[float] | None:
    """fx, fy, cx, cy of a 3 x 3 matrix: rows, nine numbers by row or by column, or {data: nine numbers}."""
    if isinstance(matrix, dict):
        matrix = matrix.get("data")
    if not isinstance(matrix, list):
        return None
    flat = [number for row in matrix for number in (row if isinstance(row, list) else [row])]
    if len(flat) != 9 or not all(_is_number(number) for number in flat):
        return None
    across = flat[2] or flat[6]  # by row, else by column as Open3D writes it
    return [float(flat[0]), float(flat[4]), float(across), float(flat[5] or flat[7])]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST


def _camera(numbers: list[float], told: str) -> Intrinsics:
    names = ("fx", "fy", "cx", "cy")
    try:
        return Intrinsics(**dict(zip(names, numbers, strict=False)))
    except ValueError as error:
        raise UsageError(f"--intrinsics {told}: a focal length is not above 0", _HOW) from error
