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
    METHOD_FILE,
    RECORD,
    TRAIN_AGAIN,
    Checkpoint,
    RunConfig,
    check_file,
    file_hash,
    read_record,
)
from uipad_cli.errors import UsageError, WeightsError, first_fault
from uipad_cli.methods import METHODS
from uipad_cli.methods.base import Method


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
    check_file(path, hashes, cure)
    return load_tensors(path)


def save_run(folder: Path, method: Method, encoder: Encoder) -> dict[str, str]:
    """Write what a method and its backbone hold; returns the hashes for the record, which is written after."""
    save_tensors(folder / METHOD_FILE, method.state())
    save_tensors(folder / BACKBONE_FILE, encoder.vit.state_dict())
    return {name: file_hash(folder / name) for name in (METHOD_FILE, BACKBONE_FILE)}


def load_run(folder: Path, compute: Compute) -> tuple[Checkpoint, Method]:
    """Rebuild a finished run from its folder alone, every file checked against its hash. Raises WeightsError."""
    record = read_record(folder)
    for name in (METHOD_FILE, BACKBONE_FILE):
        check_file(folder / name, record.sha256, TRAIN_AGAIN)
    try:
        encoder = build_encoder(record.config.backbone, record.config.framing.crop)
        state = load_tensors(folder / BACKBONE_FILE)
        check_state(encoder.vit.state_dict(), state)
        encoder.vit.load_state_dict(state)
        method = build_method(record.config, encoder, Compute(torch.device("cpu")))
        method.restore(load_tensors(folder / METHOD_FILE))
        method.lighten(compute)
    except ValidationError as error:
        raise WeightsError(f"{folder / RECORD}: options.{first_fault(error)}", TRAIN_AGAIN) from error
    except (ValueError, UsageError) as error:
        raise WeightsError(f"{folder}: the checkpoint does not fit this uipad ({error})", TRAIN_AGAIN) from error
    return record, method
