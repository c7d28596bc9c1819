"""UIP-AD: the network of the paper.

Where each equation stands:
    section 4.1   fusion Ψ and prototypes P_uip              Fusion, PrototypeExtractor
    eq. 4, 5      features ↔ prototypes, both residual        CPGBlock
    section 4.2   two decoders, one prototype cascade         UIPAD.decode
    eq. 6-10      losses                                      losses.py
    eq. 11        score                                       scoring.py

Deviations, each forced because the text is silent or fails as printed, and measured (docs/method.md):
    fusion        the mean of both modalities by default; the paper's trained MLP is `fusion="mlp"`
    query         each decoder starts from the tokens of the *other* modality by default, so that it has to know what
                  belongs together; the paper's decoder starts from its own, `query="own"`
    compared      each modality with its reconstruction by default; the paper's fused pair is `compared="unified"`
    attention     eq. 4 as printed (softmax, residual) by default; INP-Former's ReLU without residual can be chosen
    cascade       each block refines the prototypes once per decoder; the two refined sets are averaged
    comparison    two groups of layers as INP-Former; the paper's single map is `comparison="single"`
    gather        False leaves out the extractor: the same prototypes for every part (the paper's table 5, row A)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

FusionKind = Literal["mean", "mlp"]
Comparison = Literal["groups", "single"]
Compared = Literal["modalities", "unified"]
AttentionKind = Literal["softmax", "relu"]
Query = Literal["own", "other"]
Refinement = Literal["averaged", "private", "none"]
Modality = Literal["rgb", "geometry"]  # core imports nothing of ours, so the word stands here again


@dataclass(frozen=True)
class Reconstruction:
    """What the forward pass saw and rebuilt, in C comparisons of P parts with G groups each, C = P·G.

    P = 2 (colour, then geometry) or 1 (unified); G = groups of layers, or 1 for the single map.
    present, rebuilt [B,C,N,D]: what eq. 11 compares; unified [B,N,D] = F_unified; prototypes [B,M,D] = P_uip;
    rgb, geometry [B,N,D]: the unfused features F_rgb, F_3d.
    """

    present: Tensor
    rebuilt: Tensor
    unified: Tensor
    prototypes: Tensor
    rgb: Tensor
    geometry: Tensor


class UIPAD(nn.Module):
    """Unified intrinsic prototypes: fuse, extract prototypes, rebuild both modalities from them, fuse again."""

    def __init__(  # noqa: PLR0913 - the readings of the paper, each with a name and a default
        self, width: int, *, prototypes: int = 12, blocks: int = 2, fusion: FusionKind = "mean",
        comparison: Comparison = "groups", compared: Compared = "modalities", query: Query = "other",
        attention: AttentionKind = "softmax", residual: bool = True, refine: Refinement = "averaged",
        gather: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        heads = max(1, width // 64)
        self.comparison, self.compared, self.query, self.refine = comparison, compared, query, refine
        self.fusion = Fusion(width, fusion)
        self.extractor = PrototypeExtractor(width, prototypes, heads, gather)
        self.bottleneck = FeedForward(width)
        self.origin = nn.Parameter(torch.zeros(2, width))  # tells a decoder which image its tokens come from

        def decoder() -> nn.ModuleList:
            refining = refine != "none"
            return nn.ModuleList(CPGBlock(width, heads, attention, residual, refining) for _ in range(blocks))

        self.image_decoder, self.geometry_decoder = decoder(), decoder()
        self.apply(initialise)

    def forward(
        self, rgb_groups: Tensor, geometry_groups: Tensor, tokens: Tensor | None = None, known: Modality | None = None
    ) -> Reconstruction:
        """Group means of both modalities [B,G,N,D] → what was there and what could be rebuilt.

        tokens [n]: the decoders rebuild these places only (training); prototypes always see the whole part.
        known: the only modality that prototypes and decoders look at; None = both.
        """
        rgb, geometry = rgb_groups.mean(dim=1), geometry_groups.mean(dim=1)
        unified = self.fusion(*_only(known, rgb, geometry))
        prototypes = self.extractor(unified)

        if tokens is not None:
            rgb_groups, geometry_groups = rgb_groups[:, :, tokens], geometry_groups[:, :, tokens]
            rgb, geometry, unified = rgb[:, tokens], geometry[:, tokens], unified[:, tokens]
        decoded = self.decode(rgb, geometry, prototypes, known)

        present = (rgb_groups, geometry_groups) if self.comparison == "groups" else (rgb[:, None], geometry[:, None])
        if self.comparison == "groups":
            rebuilt = [_mirrored(steps, rgb_groups.shape[1]) for steps in decoded]
        else:
            rebuilt = [steps[:, -1:] for steps in decoded]
        join = self.fusion if self.compared == "unified" else _side_by_side
        return Reconstruction(join(*present), join(*rebuilt), unified, prototypes, rgb, geometry)

    def decode(
        self, rgb: Tensor, geometry: Tensor, prototypes: Tensor, known: Modality | None = None
    ) -> tuple[Tensor, Tensor]:
        """[B,N,D] of each modality and P_uip [B,M,D] → what every block made of them, 2 x [B,blocks,N,D]."""
        # float32 again: every block adds to this stream, and half precision would lose the small additions
        starts = [self.bottleneck(tokens).float() + self.origin[i] for i, tokens in enumerate((rgb, geometry))]
        starts = list(_only(known, *starts)) if known else starts if self.query == "own" else starts[::-1]
        image, surface = starts
        for_image = for_surface = prototypes
        image_steps, surface_steps = [], []
        for image_block, surface_block in zip(self.image_decoder, self.geometry_decoder, strict=True):
            image, by_image = image_block(image, for_image)
            surface, by_surface = surface_block(surface, for_surface)
            average = (by_image + by_surface) / 2
            for_image, for_surface = (by_image, by_surface) if self.refine == "private" else (average, average)
            image_steps.append(image)
            surface_steps.append(surface)
        return torch.stack(image_steps, dim=1), torch.stack(surface_steps, dim=1)


class Fusion(nn.Module):
    """Ψ: both modalities [..., D] → one [..., D]. `mean`, or the paper's concatenation and shallow MLP (`mlp`)."""

    def __init__(self, width: int, kind: FusionKind) -> None:
        super().__init__()
        self.mlp = (
            nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, width)) if kind == "mlp" else None
        )

    def forward(self, rgb: Tensor, geometry: Tensor) -> Tensor:
        """Fuse token by token."""
        if self.mlp is None:
            return (rgb + geometry) / 2
        fused: Tensor = self.mlp(torch.cat((rgb, geometry), dim=-1))
        return fused


class PrototypeExtractor(nn.Module):
    """UCP (section 4.1): M learnable queries gather one sample's prototypes from its fused features.

    gather False: the queries themselves are the prototypes, whatever the sample.
    """

    def __init__(self, width: int, prototypes: int, heads: int, gather: bool = True) -> None:
        super().__init__()
        self.gather = gather
        self.queries = nn.Parameter(torch.randn(prototypes, width))
        self.norm = nn.LayerNorm(width)
        self.attention = CrossAttention(width, heads)
        self.feed_forward = FeedForward(width)
        self.feed_forward_norm = nn.LayerNorm(width)

    def forward(self, unified: Tensor) -> Tensor:
        """F_unified [B,N,D] → P_uip [B,M,D]."""
        queries = self.queries.expand(unified.shape[0], -1, -1)
        if not self.gather:
            return queries
        prototypes = queries + self.attention(self.norm(queries), self.norm(unified))
        gathered: Tensor = prototypes + self.feed_forward(self.feed_forward_norm(prototypes))
        return gathered


class CPGBlock(nn.Module):
    """Cross-modal prototype guided attention: prototypes guide features (eq. 4), features refine prototypes (eq. 5).

    residual False leaves F out of eq. 4, as INP-Former does; refining False leaves out eq. 5.
    """

    def __init__(
        self, width: int, heads: int, attention: AttentionKind = "softmax", residual: bool = True, refining: bool = True
    ) -> None:
        super().__init__()
        self.residual, self.refining = residual, refining
        self.feature_norm, self.prototype_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.guide = CrossAttention(width, heads, attention)
        self.feature_out_norm, self.feature_feed_forward = nn.LayerNorm(width), FeedForward(width)
        if refining:
            self.guided_norm, self.refine = nn.LayerNorm(width), CrossAttention(width, heads)
            self.prototype_out_norm, self.prototype_feed_forward = nn.LayerNorm(width), FeedForward(width)

    def forward(self, features: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor]:
        """F [B,N,D], P [B,M,D] → the same, one step further."""
        context = self.prototype_norm(prototypes)
        guided = self.guide(self.feature_norm(features), context)  # eq. 4
        features = features + guided if self.residual else guided
        if self.refining:
            prototypes = prototypes + self.refine(context, self.guided_norm(features))  # eq. 5
            prototypes = prototypes + self.prototype_feed_forward(self.prototype_out_norm(prototypes))
        features = features + self.feature_feed_forward(self.feature_out_norm(features))
        return features, prototypes


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
        key, value = self.key_value(context).chunk(2, dim=-1)
        query, key, value = (self._split(part) for part in (self.query(queries), key, value))
        if self.scale is None:
            attended = functional.scaled_dot_product_attention(query, key, value)
        else:
            cosines = functional.normalize(query, dim=-1) @ functional.normalize(key, dim=-1).transpose(-1, -2)
            attended = (cosines * self.scale).relu() @ value
        projected: Tensor = self.project(attended.transpose(1, 2).flatten(2))  # [B,heads,Q,d] -> [B,Q,D]
        return projected

    def _split(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        return tokens.reshape(batch, count, self.heads, width // self.heads).transpose(1, 2)  # -> [B,heads,Q,d]


class FeedForward(nn.Sequential):
    """D → 4D → D with GELU."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


def _only(known: Modality | None, rgb: Tensor, geometry: Tensor) -> tuple[Tensor, Tensor]:
    """Both, or the known one in the place of both."""
    return {None: (rgb, geometry), "rgb": (rgb, rgb), "geometry": (geometry, geometry)}[known]


def _side_by_side(rgb: Tensor, geometry: Tensor) -> Tensor:
    """2 x [B,G,N,D] → [B,2·G,N,D], colour first."""
    return torch.cat((rgb, geometry), dim=1)


def _mirrored(steps: Tensor, groups: int) -> Tensor:
    """Decoder blocks [B,blocks,N,D] in reverse order, averaged in groups: the last blocks meet the first layers."""
    batch, blocks, tokens, width = steps.shape
    return steps.flip(1).reshape(batch, groups, blocks // groups, tokens, width).mean(dim=2)


def initialise(module: nn.Module) -> None:
    """INP-Former's start: linear weights from a normal of deviation 0.01 cut at three deviations, biases 0."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.01, a=-0.03, b=0.03)
        nn.init.zeros_(module.bias)
