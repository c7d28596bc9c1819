"""Backbone weights: built in, from the hub by way of timm, or from a file; never a silent partial load."""

from __future__ import annotations

import difflib
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import huggingface_hub
import timm
import torch
from huggingface_hub import constants
from torch import Tensor

from uipad_cli.core.backbone import (
    ALIASES,
    BUILT_IN,
    GABOR,
    TINY,
    TINY_RANDOM,
    Encoder,
    build_encoder,
    hub_repository,
    patch_size,
    timm_name,
)
from uipad_cli.data.framing import Framing
from uipad_cli.engine.record import file_hash
from uipad_cli.engine.tensors import DTYPES, read_pickled, read_safetensors
from uipad_cli.errors import UsageError, WeightsError

HUB_FILE = "model.safetensors"
HUB_SECONDS = 5.0
OFFLINE = "UIPAD_OFFLINE"
EMBEDDED = Path(__file__).parent.parent / "weights" / "tiny.safetensors"
EMBEDDED_CARD = EMBEDDED.with_suffix(".json")
FIXED = {GABOR: "hand-made", TINY_RANDOM: "fixed seed, untrained"}


@dataclass(frozen=True)
class LoadedEncoder:
    """An encoder and where its weights came from.

    source: `embedded sha256:...`, `file sha256:...`, `hub REPOSITORY`, or that it has none.
    """

    encoder: Encoder
    source: str


def fit_framing(framing: Framing, backbone: str) -> Framing:
    """The framing in whole patches of `backbone`."""
    return framing.in_patches(_patch(backbone))


def load_encoder(backbone: str, weights: Path | None, image_size: int) -> LoadedEncoder:
    """Build a backbone and give it its weights.

    Raises UsageError for an unknown name and for weights of what takes none, WeightsError for weights that are missing
    or do not fit.
    """
    _patch(backbone)
    if backbone in FIXED:
        if weights is not None:
            raise UsageError(f"backbone {backbone} takes no weights", "leave --weights out, or name another --backbone")
        return LoadedEncoder(build_encoder(backbone, image_size), FIXED[backbone])
    if weights is not None:
        return LoadedEncoder(_fill(backbone, image_size, weights), f"file sha256:{file_hash(weights)}")
    if backbone == TINY:
        check_embedded()
        return LoadedEncoder(_fill(backbone, image_size, EMBEDDED), f"embedded sha256:{file_hash(EMBEDDED)}")
    repository = hub_repository(backbone)
    if repository is None:
        raise WeightsError(f"timm knows no pretrained weights for {backbone}", "give them with --weights FILE")
    return LoadedEncoder(_from_hub(backbone, repository, image_size), f"hub {repository}")


def check_embedded() -> dict[str, Any]:
    """The model card of the weights that travel in the package, once their hash agrees. Raises WeightsError."""
    cure = "install uipad again"
    try:
        card: dict[str, Any] = json.loads(EMBEDDED_CARD.read_text(encoding="utf-8"))
        expected = card["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{EMBEDDED_CARD}: cannot be read ({error})", cure) from error
    if file_hash(EMBEDDED) != expected:
        raise WeightsError(f"{EMBEDDED}: damaged, its hash is not the one on its card", cure)
    return card


def cached_weights(repository: str) -> Path | None:
    """The hub's file of weights where an earlier download left it on this machine."""
    found = huggingface_hub.try_to_load_from_cache(repository, HUB_FILE)
    return Path(found) if isinstance(found, str) else None


def forbidden() -> str:
    """What forbids any use of the network; empty where nothing does."""
    told = os.environ.get(OFFLINE, "").strip()
    if told.lower() not in ("", "0", "false", "no", "off"):  # a slip of the pen must not open what was to be shut
        return f"{OFFLINE}={told}"
    hub = os.environ.get("HF_HUB_OFFLINE", "")
    return f"HF_HUB_OFFLINE={hub}" if hub.lower() in ("1", "true", "yes", "on") else ""


def hub_answers() -> bool:
    """Whether the hub's host can be reached; through a proxy only the download itself can tell."""
    if forbidden():
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    address = urlparse(constants.ENDPOINT)
    try:
        socket.create_connection((address.hostname, address.port or 443), timeout=HUB_SECONDS).close()
    except OSError:
        return False
    return True


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors file, or of a .pth file that holds nothing but weights; nothing in it is executed.

    Raises WeightsError, ResourceError.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file", "check the path given with --weights")
    if path.suffix != ".safetensors":
        return read_pickled(path)
    try:
        return read_safetensors(path)
    except ValueError as error:
        raise WeightsError(f"{path}: not a whole safetensors file ({error})", "fetch it again") from error


def _patch(backbone: str) -> int:
    try:
        return patch_size(backbone)
    except ValueError as error:
        near = difflib.get_close_matches(backbone, [*BUILT_IN, *ALIASES, *timm.list_models("vit_*")], n=3, cutoff=0.4)
        names = ", ".join(near) if near else ", ".join([*BUILT_IN, *ALIASES])
        raise UsageError(f"unknown backbone {backbone!r}: {error}", f"for example: {names}") from error


def _fill(backbone: str, image_size: int, path: Path) -> Encoder:
    state = read_weights(path)
    for key, value in state.items():
        if value.dtype not in DTYPES:
            raise WeightsError(f"{path}: {key} holds numbers of type {value.dtype}", "convert them to float32")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise WeightsError(f"{path}: {key} holds NaN or infinite values", "fetch the file again")
    try:
        return build_encoder(backbone, image_size, weights=state)
    except ValueError as error:
        cure = f"give weights of {timm_name(backbone)} as timm or the authors publish them, or name their --backbone"
        raise WeightsError(f"{path} does not fit backbone {backbone}: {error}", cure) from error


def _from_hub(backbone: str, repository: str, image_size: int) -> Encoder:
    told = forbidden()
    first = f"do without {told} and " if told else ""
    ways_out = (
        f"{first}connect to the network once (the weights are kept in {constants.HF_HUB_CACHE}), or give a downloaded "
        f"file with --weights FILE; --backbone tiny needs no download"
    )
    cached = cached_weights(repository)
    if cached is None and not hub_answers():
        why = f"{told} forbids the download" if told else "no hub"
        raise WeightsError(f"no weights for backbone {backbone}: {repository} is not on this machine, {why}", ways_out)
    try:  # this one file alone: timm would take a pickle where there is no other
        path = cached or huggingface_hub.hf_hub_download(repository, HUB_FILE)
        return build_encoder(backbone, image_size, pretrained=str(path))
    except Exception as error:  # whatever a download raises means the same to the user
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"no weights for backbone {backbone}: {repository} did not come ({told})", ways_out
        ) from error
