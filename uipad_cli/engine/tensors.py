"""Tensors in files of strangers: nothing of them is run, and nothing takes more than the size of its file explains."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from uipad_cli.data.numbers import one_thread
from uipad_cli.errors import ResourceError, WeightsError

HEADER_CAP = 4 * 2**20  # bytes of a .safetensors file that tell what it holds: some 30,000 tensors
TIED = 2  # times the size of a .pth file that its tensors may have, where several share their numbers
SPARE_BYTES = 2**30
SPARE_SECONDS = 5  # of a processor
BYTES_PER_SECOND = 20e6
WAIT_SECONDS = 120
DTYPES = (
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
)
_NO_TENSORS, _TOO_LARGE, _UNWRITABLE = range(10, 13)  # exit codes of the child, beside those of Python
_TOLD = {
    _NO_TENSORS: ("holds something other than named tensors", "give a plain state dict"),
    _TOO_LARGE: ("promises more numbers than it has", "fetch it again"),
}
# A .pth file is a pickle. torch runs nothing that is not on its list, but what is there can still be asked for
# terabytes, or for years: it is unpacked in a process of its own.
_CHILD = """
import sys
sys.path[:] = sys.argv[3:]
from uipad_cli.engine.tensors import unpack
sys.exit(unpack(sys.argv[1], sys.argv[2]))
"""


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors file. Raises ValueError that says what is wrong with it."""
    try:
        with path.open("rb") as stream:
            if int.from_bytes(stream.read(8), "little") > HEADER_CAP:
                raise ValueError(f"its header would have more than {HEADER_CAP} bytes")
        return safetensors.torch.load_file(path)
    except Exception as error:  # of its own, of torch, of the disk
        raise ValueError(str(error).strip() or type(error).__name__) from error


def read_pickled(path: Path) -> dict[str, Tensor]:
    """Tensors of a .pth file that holds nothing but weights. Raises WeightsError, ResourceError."""
    with tempfile.TemporaryDirectory(prefix="uipad-") as folder:
        unpacked = Path(folder) / "tensors.safetensors"
        command = [sys.executable, "-I", "-c", _CHILD, os.fspath(path.absolute()), os.fspath(unpacked), *sys.path]
        wait = WAIT_SECONDS + path.stat().st_size / BYTES_PER_SECOND
        quiet = subprocess.DEVNULL
        try:
            code = subprocess.run(
                command, stdin=quiet, stdout=quiet, stderr=quiet, check=False, timeout=wait, env=one_thread()
            ).returncode
        except subprocess.TimeoutExpired:
            code = 1
        except OSError as error:
            told = f"{path}: cannot be unpacked, no process can be started: {error.strerror}"
            raise ResourceError(told) from error
        if code == _UNWRITABLE:
            raise ResourceError(f"{folder}: no room to unpack {path}", "free some space, or give a .safetensors file")
        if code != 0:
            cure = "give a .safetensors file, or a .pth file with a plain state dict"
            told, cure = _TOLD.get(code, ("not a file of weights only; nothing of it was run", cure))
            raise WeightsError(f"{path}: {told}", cure)
        try:
            return read_safetensors(unpacked)
        except ValueError as error:
            raise ResourceError(f"{path}: could not be unpacked ({error})") from error


def unpack(source: str, target: str) -> int:
    """The child: the tensors of a .pth file as .safetensors; returns its exit code."""
    size = os.stat(source).st_size  # noqa: PTH116 - one call in a process that does nothing else
    _bound(size)
    try:
        content = torch.load(source, map_location="cpu", weights_only=True)  # raises nearly anything: it ends the child
    except MemoryError:
        return _TOO_LARGE
    for wrapper in ("model", "state_dict", "teacher"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) and _plain(value) for name, value in content.items()
    ):
        return _NO_TENSORS
    if sum(value.nbytes for value in content.values()) > TIED * size:
        return _TOO_LARGE
    own = {name: value.detach().contiguous().clone() for name, value in content.items()}
    try:
        safetensors.torch.save_file(own, target)
    except (SafetensorError, OSError):  # its words for a full disk
        return _UNWRITABLE
    return 0


def _plain(value: Tensor) -> bool:
    dense = value.layout == torch.strided and value.device.type == "cpu" and not value.is_nested
    return dense and value.dtype in DTYPES and type(value) in (Tensor, torch.nn.Parameter)


def _taken() -> int:
    """Bytes of memory that this process has asked for, as RLIMIT_DATA counts them; 0 where it cannot be told."""
    with suppress(OSError, ValueError, IndexError):
        told = Path("/proc/self/status").read_text(encoding="ascii").partition("VmData:")[2]
        return 1024 * int(told.split()[0])
    return 0


def _bound(size: int) -> None:
    """Limits to memory and processor time from here on, above what the libraries have taken."""
    torch.set_num_threads(1)
    try:
        import resource
    except ImportError:  # Windows
        return
    seconds = int(time.process_time() + SPARE_SECONDS + size / BYTES_PER_SECOND)
    for limit, most in (
        (resource.RLIMIT_DATA, _taken() + SPARE_BYTES + 4 * size),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, HEADER_CAP + TIED * size),
        (resource.RLIMIT_CORE, 0),
    ):
        with suppress(OSError, ValueError):
            resource.setrlimit(limit, (most, most))
