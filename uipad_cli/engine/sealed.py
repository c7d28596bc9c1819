"""JSON that ends with the hash of all that stands before it: no byte of the file changes unseen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uipad_cli.data import files
from uipad_cli.errors import DataError, WeightsError

SEAL = "sealed_sha256"


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object, keys in the order given, and its seal. Raises ValueError for NaN, ResourceError."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    body = text.removesuffix("\n}").encode()
    files.write_last(path, body + _seal(body))


def read_sealed(path: Path, cure: str) -> dict[str, Any]:
    """What `write_sealed` wrote. Raises WeightsError with this cure where it is anything else."""
    content, data = read_unchecked(path, cure)
    if SEAL not in content:
        raise WeightsError(f"{path}: of an earlier uipad, or damaged: it holds no hash of its own", cure)
    check_seal(path, data, cure)
    return {name: value for name, value in content.items() if name != SEAL}


def read_unchecked(path: Path, cure: str) -> tuple[dict[str, Any], bytes]:
    """A JSON object and the bytes of its file, for `check_seal` once it is known who wrote it.

    Raises WeightsError with this cure.
    """
    try:
        data = files.read_bytes(path, files.JSON_CAP)
        content = files.json_value(data, path)
    except DataError as error:
        raise WeightsError(error.message, cure) from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: holds something other than a record", cure)
    return content, data


def check_seal(path: Path, data: bytes, cure: str) -> None:
    """Raise WeightsError with this cure where the bytes of a file are not those that were written."""
    body = data[: -len(_seal(b""))]
    if data != body + _seal(body):
        raise WeightsError(f"{path}: damaged, the hash at its end is not its own", cure)


def _seal(body: bytes) -> bytes:
    """What stands behind the values of an object."""
    return f',\n  "{SEAL}": "{hashlib.sha256(body).hexdigest()}"\n}}\n'.encode()
