"""Where and in which precision the arithmetic runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Compute:
    """A device and the precision of matrix products on it; weights and losses stay float32.

    compiled: score with a compiled network.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    compiled: bool = False

    def autocast(self) -> AbstractContextManager[object]:
        """Context in which matrix products run in `dtype`."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def training_autocast(self) -> AbstractContextManager[object]:
        """As `autocast`, but float32 instead of float16, whose gradients vanish unless they are scaled."""
        return nullcontext() if self.dtype == torch.float16 else self.autocast()


def each(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """`function` of tensors [B,...] → [B,...], in float32 on a CPU one image at a time.

    How a product rounds depends on its size, and there a score must not depend on its company. Elsewhere, and in what
    is exported or compiled, all at once.
    """
    first = tensors[0]
    exact = first.device.type == "cpu" and first.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if not exact or not first.shape[0] or recording() or torch.is_grad_enabled():
        return function(*tensors)
    # images by [None]: a slice keeps the strides of its batch, by which a convolution chooses its kernel
    return torch.cat([function(*(one[None] for one in image)) for image in zip(*tensors, strict=True)])


def recording() -> bool:
    """True while a network is exported, traced or compiled, for batches of any size."""
    return torch.compiler.is_compiling() or bool(torch.jit.is_tracing())  # type: ignore[attr-defined,no-untyped-call]


@contextmanager
def coarse(compute: Compute) -> Iterator[None]:
    """On CUDA, where less than float32 was asked for: products of float32 in TF32, whose inputs have 11 bits."""
    if compute.device.type != "cuda" or compute.dtype == torch.float32:
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
