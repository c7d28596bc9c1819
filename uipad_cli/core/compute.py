"""Where and in which precision the arithmetic runs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Compute:
    """A device and the precision of matrix products on it; weights and losses stay float32."""

    device: torch.device
    dtype: torch.dtype = torch.float32

    def autocast(self) -> AbstractContextManager[object]:
        """Context in which matrix products run in `dtype`."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def training_autocast(self) -> AbstractContextManager[object]:
        """As `autocast`, but float32 instead of float16, whose gradients vanish unless they are scaled."""
        return nullcontext() if self.dtype == torch.float16 else self.autocast()
