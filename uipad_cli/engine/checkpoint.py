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

import errno
import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor

from uipad_cli.core.backbone import Encoder, build_encoder, check_state
from uipad_cli.core.compute import Compute
from uipad_cli.data import files
from uipad_cli.engine.record import (
    BACKBONE_FILE,
    BEGIN_AGAIN,
    METHOD_FILE,
    RECORD,
    TRAIN_AGAIN,
    Checkpoint,
    RunConfig,
    check_file,
    file_hash,
    read_record,
)
from uipad_cli.engine.tensors import read_safetensors
from uipad_cli.errors import UsageError, WeightsError, first_fault
from uipad_cli.methods import METHODS
from uipad_cli.methods.base import Method

_BEFORE = b'{"__metadata__":{"sha256":"'  # how a file of `save_tensors` begins, after the length of its header
_UNTOLD = b"0" * 64  # stands there while the hash is worked out


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


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors and the hash of the file atomically, without a second copy in memory. Raises ResourceError."""
    whole = {name: value.contiguous() for name, value in tensors.items()}
    size = sum(value.nbytes for value in whole.values())

    def write(temporary: Path) -> None:
        try:
            safetensors.torch.save_file(whole, temporary, metadata={"sha256": _UNTOLD.decode()})
        except SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))  # its words for a full disk
            raise OSError(int(number[1]) if number else errno.EIO, str(error)) from error
        told = file_hash(temporary).encode()
        with temporary.open("r+b") as stream:
            if stream.read(8 + len(_BEFORE) + len(_UNTOLD))[8:] != _BEFORE + _UNTOLD:
                raise RuntimeError("this version of safetensors writes its header in another order")
            stream.seek(8 + len(_BEFORE))
            stream.write(told)

    files.write_atomically(path, write, size)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read what `save_tensors` wrote, checked against the hash that it wrote with it. Raises WeightsError."""
    length = 8 + len(_BEFORE) + len(_UNTOLD)
    try:
        with path.open("rb") as stream:
            head = stream.read(length)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})", BEGIN_AGAIN) from error
    told = head[8 + len(_BEFORE) :]
    same = len(head) == length and told == file_hash(path, head[: -len(told)] + _UNTOLD).encode()
    if not same or head[8:].removesuffix(told) != _BEFORE:
        raise WeightsError(
            f"{path}: damaged, or of an earlier uipad: its hash is not the one that it holds", BEGIN_AGAIN
        )
    return _read(path, BEGIN_AGAIN)


def load_checked(path: Path, hashes: Mapping[str, str], cure: str) -> dict[str, Tensor]:
    """Tensors of a run's file, checked against its hash in the record. Raises WeightsError with this cure."""
    check_file(path, hashes, cure)
    return _read(path, cure)


def _read(path: Path, cure: str) -> dict[str, Tensor]:
    try:
        return read_safetensors(path)
    except ValueError as error:
        raise WeightsError(f"{path}: not a whole safetensors file ({error})", cure) from error


def save_run(folder: Path, method: Method, encoder: Encoder) -> dict[str, str]:
    """Write what a method and its backbone hold; returns the hashes for the record, which is written after."""
    save_tensors(folder / METHOD_FILE, method.state())
    save_tensors(folder / BACKBONE_FILE, encoder.vit.state_dict())
    return {name: file_hash(folder / name) for name in (METHOD_FILE, BACKBONE_FILE)}


def load_run(folder: Path, compute: Compute) -> tuple[Checkpoint, Method]:
    """Rebuild a finished run from its folder alone, every file checked against its hash. Raises WeightsError."""
    record = read_record(folder)
    learned, state = (load_checked(folder / name, record.sha256, TRAIN_AGAIN) for name in (METHOD_FILE, BACKBONE_FILE))
    try:
        encoder = build_encoder(record.config.backbone, record.config.framing.crop)
        check_state(encoder.vit.state_dict(), state)
        encoder.vit.load_state_dict(state)
        method = build_method(record.config, encoder, Compute(torch.device("cpu")))
        method.restore(learned)
        method.lighten(compute)
    except ValidationError as error:
        raise WeightsError(f"{folder / RECORD}: options.{first_fault(error)}", TRAIN_AGAIN) from error
    except (ValueError, UsageError) as error:
        raise WeightsError(f"{folder}: the checkpoint does not fit this uipad ({error})", TRAIN_AGAIN) from error
    return record, method
