"""What would fail on this machine, and how to mend it."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from uipad_cli import __version__
from uipad_cli.core.backbone import ALIASES, TINY, build_encoder, hub_repository
from uipad_cli.engine.feature_cache import LIMIT, open_cache
from uipad_cli.engine.judging import READ_AHEAD, READERS
from uipad_cli.engine.preparing import usable_cores
from uipad_cli.engine.runtime import choose_compute, has_bf16
from uipad_cli.engine.weights import cached_weights, check_embedded, forbidden
from uipad_cli.errors import ResourceError, UsageError, WeightsError
from uipad_cli.records import silent

PACKAGES = ("torch", "timm", "numpy", "cv2", "tifffile", "safetensors", "pydantic", "typer", "rich", "yaml", "jinja2")
NEEDED_GIB = 2.0

Status = Literal["ok", "note", "fails"]


@dataclass(frozen=True)
class Finding:
    """One examined thing; `cure` says how to mend what is not ok."""

    name: str
    status: Status
    detail: str
    cure: str = ""


def examine() -> list[Finding]:
    """Look at everything that the commands need."""
    checks: list[Callable[[], list[Finding]]] = [
        _programs,
        _opencv,
        _open3d,
        _device,
        _bounds,
        _weights,
        _disk,
        _forward,
    ]
    return [finding for check in checks for finding in check()]


def rows(findings: Sequence[Finding]) -> tuple[list[str], list[list[object]]]:
    """Column heads and rows of the table for people."""
    body: list[list[object]] = [
        [finding.name, finding.status, f"{finding.detail}{' → ' + finding.cure if finding.cure else ''}"]
        for finding in findings
    ]
    return ["what", "status", "found"], body


def document(findings: Sequence[Finding]) -> dict[str, object]:
    """The JSON of `doctor`."""
    return {"uipad": __version__, "healthy": exit_code(findings) == 0, "findings": [asdict(one) for one in findings]}


def exit_code(findings: Sequence[Finding]) -> int:
    """0 when everything that is needed works."""
    return ResourceError.exit_code if any(finding.status == "fails" for finding in findings) else 0


def _programs() -> list[Finding]:
    found = [Finding("uipad", "ok", f"{__version__}, Python {platform.python_version()}, {platform.platform()}")]
    for name in PACKAGES:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            found.append(Finding(name, "fails", f"cannot be imported ({error})", "pip install uipad again"))
        else:
            found.append(Finding(name, "ok", str(getattr(module, "__version__", None) or _version(name) or "")))
    return found


def _opencv() -> list[Finding]:
    installed = [
        name
        for name in ("opencv-python", "opencv-python-headless", "opencv-contrib-python")
        if _version(name) is not None
    ]
    if len(installed) < 2:
        return []
    cure = f"pip uninstall {' '.join(installed)}, then pip install opencv-python-headless"
    return [Finding("opencv", "note", f"{' and '.join(installed)} overwrite each other", cure)]


def _open3d() -> list[Finding]:
    if _version("open3d") is None and _version("open3d-cpu") is None:
        return [Finding("open3d", "note", "not installed; only `prepare --plane open3d` needs it")]
    try:
        module = importlib.import_module("open3d")
    except (ImportError, OSError) as error:
        cure = "apt-get install libegl1 libgl1 libx11-6 libusb-1.0-0 libgomp1, or pip uninstall open3d"
        return [Finding("open3d", "note", f"installed, but does not import ({error})", cure)]
    return [Finding("open3d", "ok", str(module.__version__))]


def _device() -> list[Finding]:
    compute = choose_compute("auto", "auto", "train")
    detail = f"{torch.get_num_threads()} threads"
    if compute.device.type == "cuda":
        detail = torch.cuda.get_device_name(compute.device)
    fast = "bf16 in hardware" if has_bf16(compute.device) else "no bf16 in hardware, fp32 is used"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        Finding("device", "ok", f"{compute.device.type}: {detail}"),
        Finding("precision", "ok", f"training {str(compute.dtype).removeprefix('torch.')} ({fast})"),
        Finding("memory", "ok" if memory >= NEEDED_GIB else "fails", f"{memory:.1f} GiB", ""),
    ]


def _bounds() -> list[Finding]:
    """How much is done at a time, how much is kept, and where to say otherwise."""
    threads = (
        f"torch {torch.get_num_threads()} threads (OMP_NUM_THREADS), prepare {usable_cores()} processes (--workers)"
    )
    found = [Finding("at a time", "ok", f"{threads}, {READERS} threads read up to {READ_AHEAD} batches ahead")]
    try:
        cache = open_cache(silent)
    except UsageError as error:
        return [*found, Finding("feature cache", "fails", error.message, error.cure)]
    told = f"{cache.folder}: {cache.held / 1e9:.1f} of at most {cache.limit / 1e9:g} GB ({LIMIT})"
    return [*found, Finding("feature cache", "ok", told)]


def _weights() -> list[Finding]:
    found = [_embedded()]
    for alias in ALIASES:
        repository = hub_repository(alias)
        cached = cached_weights(repository) if repository else None
        if cached is not None:
            found.append(Finding(f"backbone {alias}", "ok", str(cached)))
        else:
            cure = "the first `uipad train` fetches them from the hub; without a network give --weights FILE"
            if told := forbidden():
                cure = f"{told} forbids fetching them; give --weights FILE"
            found.append(Finding(f"backbone {alias}", "note", "no weights on this machine", cure))
    return found


def _embedded() -> Finding:
    try:
        card = check_embedded()
    except WeightsError as error:
        return Finding(f"backbone {TINY}", "fails", error.message, error.cure)
    return Finding(f"backbone {TINY}", "ok", f"weights in the package, sha256 {card['sha256'][:12]}")


def _disk() -> list[Finding]:
    found = []
    for name, folder in (("disk here", Path.cwd()), ("disk for temporary files", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(folder).free / 2**30
        try:
            with tempfile.NamedTemporaryFile(dir=folder) as trial:
                trial.write(b"x")
        except OSError as error:
            found.append(Finding(name, "fails", f"{folder} cannot be written ({error})", "work in another folder"))
            continue
        short = free < NEEDED_GIB
        cure = f"free some space: {NEEDED_GIB:.0f} GiB are a sensible least" if short else ""
        found.append(Finding(name, "fails" if short else "ok", f"{folder}: {free:.1f} GiB free", cure))
    return found


def _forward() -> list[Finding]:
    compute = choose_compute("auto", "auto", "score")
    encoder = build_encoder(TINY, 28).to(compute.device)
    with compute.autocast():
        layers = encoder(torch.zeros(1, 3, 28, 28, device=compute.device))
    fine = bool(torch.isfinite(layers).all())
    return [Finding("forward pass", "ok" if fine else "fails", f"{TINY}: {tuple(layers.shape)}")]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
