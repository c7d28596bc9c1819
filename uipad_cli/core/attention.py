"""Attention between many tokens and a few prototypes, and the layers around it.

Without gradients an attention over, or by, a handful of prototypes multiplies the weights with the prototypes before
it touches the tokens: the same algebra, (x·Wq)·(p·Wk) = x·(Wq·Wkᵀ·pᵀ), at 768 channels and 12 prototypes a fifth of
the work.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from uipad_cli.core.compute import each

AttentionKind = Literal["softmax", "relu"]
FEW = 64  # so few prototypes, or fewer, are folded into the weights


class CrossAttention(nn.Module):
    """Multi-head attention of queries [B,Q,D] over a context [B,K,D] → [B,Q,D].

    softmax, or INP-Former's `relu`: weights are the positive parts of cosines times a learned scale per head, so that a
    query that resembles nothing gets nothing.
    """

    def __init__(self, width: int, heads: int, kind: AttentionKind = "softmax") -> None:
        super().__init__()
        self.heads = heads
        self.scale = nn.Parameter(torch.ones(heads, 1, 1)) if kind == "relu" else None
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.project = nn.Linear(width, width)

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        """Attend; the result has the shape of `queries`."""
        if self.scale is None and not torch.is_grad_enabled() and min(queries.shape[1], context.shape[1]) <= FEW:
            return each(self._by_few if context.shape[1] <= FEW else self._of_few, queries, context)
        key, value = self.key_value(context).chunk(2, dim=-1)
        query, key, value = (self._split(part) for part in (self.query(queries), key, value))
        if self.scale is None:
            attended = functional.scaled_dot_product_attention(query, key, value)
        else:
            cosines = functional.normalize(query, dim=-1) @ functional.normalize(key, dim=-1).transpose(-1, -2)
            attended = (cosines * self.scale).relu() @ value
        projected: Tensor = self.project(attended.transpose(1, 2).flatten(2))  # [B,heads,Q,d] -> [B,Q,D]
        return projected

    def _by_few(self, queries: Tensor, context: Tensor) -> Tensor:
        """The same where a few [B,K,D] are attended to: q·k = x·(Wq k), and the values are projected before the sum."""
        key, value = (self._split(part) for part in self.key_value(context).chunk(2, dim=-1))  # [B,heads,K,d]
        weight = self.query.weight.to(key.dtype).view(self.heads, -1, queries.shape[-1])  # [heads,d,D]
        keys = torch.einsum("bhkd,hdw->bwhk", key, weight).flatten(2)  # [B,D,heads·K]
        offsets = torch.einsum("bhkd,hd->bhk", key, self.query.bias.to(key.dtype).view(self.heads, -1)).flatten(1)
        project = self.project.weight.to(value.dtype).view(-1, self.heads, value.shape[-1])  # [D,heads,d]
        values = torch.einsum("bhkd,whd->bhkw", value, project).flatten(1, 2)  # [B,heads·K,D]
        found = torch.baddbmm(offsets[:, None], queries.to(keys.dtype), keys) * value.shape[-1] ** -0.5
        shares = found.reshape(*found.shape[:2], self.heads, -1).softmax(dim=-1).flatten(2)  # [B,Q,heads·K]
        return torch.baddbmm(self.project.bias.to(values.dtype), shares.to(values.dtype), values)

    def _of_few(self, queries: Tensor, context: Tensor) -> Tensor:
        """The same where a few [B,Q,D] attend: keys and values of the many are never made. A key's bias cancels."""
        query = self._split(self.query(queries))  # [B,heads,Q,d]
        weights = self.key_value.weight.to(query.dtype).chunk(2)
        keys, values = (part.view(self.heads, -1, part.shape[-1]) for part in weights)  # [heads,d,D]
        asked = torch.einsum("bhqd,hdw->bhqw", query, keys).flatten(1, 2)  # [B,heads·Q,D]
        context = context.to(asked.dtype)
        shares = (asked @ context.transpose(1, 2) * query.shape[-1] ** -0.5).softmax(dim=-1).to(asked.dtype)
        met = (shares @ context).reshape(query.shape[0], self.heads, -1, context.shape[-1])  # [B,heads,Q,D]
        attended = torch.einsum("bhqw,hdw->bqhd", met, values).flatten(2)
        bias = self.key_value.bias.chunk(2)[1].to(attended.dtype)
        projected: Tensor = self.project(attended + bias)
        return projected

    def _split(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        return tokens.reshape(batch, count, self.heads, width // self.heads).transpose(1, 2)  # -> [B,heads,Q,d]


class FeedForward(nn.Sequential):
    """D → 4D → D with GELU."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


def initialise(module: nn.Module) -> None:
    """INP-Former's start: linear weights from a normal of deviation 0.01 cut at three deviations, biases 0."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.01, a=-0.03, b=0.03)
        nn.init.zeros_(module.bias)
