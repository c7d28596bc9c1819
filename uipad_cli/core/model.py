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

What nothing looks at is neither kept nor computed: the refinement (eq. 5) of the last block, and when a part is judged
from one image, what the other decoder would make of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from uipad_cli.core.attention import AttentionKind, CrossAttention, FeedForward, initialise

FusionKind = Literal["mean", "mlp"]
Comparison = Literal["groups", "single"]
Compared = Literal["modalities", "unified"]
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


MODALITIES: tuple[Modality, ...] = ("rgb", "geometry")
WAYS: tuple[Modality | None, ...] = ("rgb", None, "geometry")  # so that what one decoder is asked for lies together
REFINING = ("guided_norm", "refine", "prototype_out_norm", "prototype_feed_forward")  # what eq. 5 takes in a block


class UIPAD(nn.Module):
    """Unified intrinsic prototypes: fuse, extract prototypes, rebuild both modalities from them, fuse again."""

    def __init__(  # noqa: PLR0913 - the readings of the paper, each with a name and a default
        self, width: int, *, prototypes: int = 12, blocks: int = 2, fusion: FusionKind = "mean",
        comparison: Comparison = "groups", compared: Compared = "modalities", query: Query = "other",
        attention: AttentionKind = "softmax", residual: bool = True, refine: Refinement = "averaged",
        gather: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        assert blocks > 1, "`decode` leaves out what the last block is not asked for after the one before it"
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
        for last in self._blocks()[-1]:
            last.stop_refining()

    def forward(
        self, rgb_groups: Tensor, geometry_groups: Tensor, tokens: Tensor | None = None, known: Modality | None = None
    ) -> Reconstruction:
        """Group means of both modalities [B,G,N,D] → what was there and what could be rebuilt.

        tokens [n]: the decoders rebuild these places only (training); prototypes always see the whole part.
        known: the only modality that prototypes and decoders look at; None = both.
        """
        return self.ways(rgb_groups, geometry_groups, (known,), tokens=tokens)[known]

    def ways(
        self, rgb_groups: Tensor, geometry_groups: Tensor, known: Sequence[Modality | None], *,
        tokens: Tensor | None = None, lone: bool = False,
    ) -> dict[Modality | None, Reconstruction]:  # fmt: skip
        """`forward` for several of `known` at once, in the order of WAYS.

        lone: what is known alone is compared alone (P = 1), and nothing else is rebuilt from it.
        """
        rgb, geometry = rgb_groups.mean(dim=1), geometry_groups.mean(dim=1)
        unified = torch.cat([self.fusion(*_only(one, rgb, geometry)) for one in known])  # [W·B,N,D]
        prototypes = self.extractor(unified)

        if tokens is not None:
            rgb_groups, geometry_groups = rgb_groups[:, :, tokens], geometry_groups[:, :, tokens]
            rgb, geometry, unified = rgb[:, tokens], geometry[:, tokens], unified[:, tokens]
        decoded = self.decode(rgb, geometry, prototypes, known, lone=lone)

        grouped = self.comparison == "groups"
        present = (rgb_groups, geometry_groups) if grouped else (rgb[:, None], geometry[:, None])
        count = rgb_groups.shape[1]
        rebuilt = [
            _mirrored(steps, count) if grouped and steps.shape[0] else steps[:, -1:] if steps.shape[0] else steps
            for steps in decoded
        ]
        spans = [_wanted(known, name, lone) for name in MODALITIES]
        batch, found = rgb.shape[0], {}
        for place, one in enumerate(known):
            rows = [slice((place - span.start) * batch, (place - span.start + 1) * batch) for span in spans]
            here = slice(place * batch, (place + 1) * batch)
            if lone and one:
                side = MODALITIES.index(one)
                compared, made = present[side], rebuilt[side][rows[side]]
            else:
                join = self.fusion if self.compared == "unified" else _side_by_side
                compared, made = join(*present), join(rebuilt[0][rows[0]], rebuilt[1][rows[1]])
            found[one] = Reconstruction(compared, made, unified[here], prototypes[here], rgb, geometry)
        return found

    def decode(
        self, rgb: Tensor, geometry: Tensor, prototypes: Tensor, known: Sequence[Modality | None] = (None,), *,
        lone: bool = False,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """[B,N,D] of each modality and P_uip [W·B,M,D] → what every block made of them, 2 x [·,blocks,N,D].

        known: W ways of looking, one after the other; lone: as in `ways`, and only what is compared comes back.
        """
        begins = [self.bottleneck(one) + self.origin[side] for side, one in enumerate((rgb, geometry))]
        from_ = {"rgb": (0, 0), "geometry": (1, 1), None: (0, 1) if self.query == "own" else (1, 0)}
        streams = [torch.cat([begins[from_[one][side]] for one in known]) for side in (0, 1)]
        wanted = [_wanted(known, name, lone) for name in MODALITIES]
        rows = [slice(span.start * rgb.shape[0], span.stop * rgb.shape[0]) for span in wanted]
        averaged = self.refine == "averaged"
        cascade = [prototypes, prototypes]
        if not averaged:  # then no decoder needs to hear of what only the other one is asked for
            streams, cascade = ([one[own] for one, own in zip(both, rows, strict=True)] for both in (streams, cascade))
            rows = [slice(None), slice(None)]
        steps: tuple[list[Tensor], list[Tensor]] = ([], [])
        for place, blocks in enumerate(self._blocks()):
            after = len(self.image_decoder) - place - 1
            refined = list(cascade)
            for side, block in enumerate(blocks):
                asked = wanted[side].stop > wanted[side].start
                if not asked and not (averaged and after):
                    continue  # nobody looks at it, and it refines nothing that somebody looks at
                guided = block.guided(streams[side], cascade[side])
                refined[side] = block.refined(guided, cascade[side])
                if asked or after > 1:  # the last block is for what is looked at alone
                    streams[side] = block.settled(guided[rows[side]] if after == 1 else guided)
                    steps[side].append(streams[side][rows[side]] if after > 1 else streams[side])
            if averaged:
                refined = [(refined[0] + refined[1]) / 2] * 2 if after else refined
            cascade = [one[own] for one, own in zip(refined, rows, strict=True)] if after == 1 else refined
        image, surface = (torch.stack(made, dim=1) if made else prototypes.new_empty(0) for made in steps)
        return image, surface

    def _blocks(self) -> list[tuple[CPGBlock, CPGBlock]]:
        """The blocks of both decoders, side by side."""
        return list(zip(self.image_decoder, self.geometry_decoder, strict=True))  # type: ignore[arg-type]


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
        guided = self.guided(features, prototypes)
        return self.settled(guided), self.refined(guided, prototypes)

    def guided(self, features: Tensor, prototypes: Tensor) -> Tensor:
        """Eq. 4: F [B,N,D] by P [B,M,D] → [B,N,D]."""
        attended: Tensor = self.guide(self.feature_norm(features), self.prototype_norm(prototypes))
        return features + attended if self.residual else attended

    def refined(self, guided: Tensor, prototypes: Tensor) -> Tensor:
        """Eq. 5: P [B,M,D] by the features [B,N,D] that they have guided → [B,M,D]."""
        if not self.refining:
            return prototypes
        prototypes = prototypes + self.refine(self.prototype_norm(prototypes), self.guided_norm(guided))
        settled: Tensor = prototypes + self.prototype_feed_forward(self.prototype_out_norm(prototypes))
        return settled

    def settled(self, guided: Tensor) -> Tensor:
        """The feed-forward of the features [B,N,D]."""
        settled: Tensor = guided + self.feature_feed_forward(self.feature_out_norm(guided))
        return settled

    def stop_refining(self) -> None:
        """Leave out eq. 5 and all it needs: of the last block nobody looks at the prototypes."""
        for name in REFINING if self.refining else ():
            delattr(self, name)
        self.refining = False


def _only(known: Modality | None, rgb: Tensor, geometry: Tensor) -> tuple[Tensor, Tensor]:
    """Both, or the known one in the place of both."""
    return {None: (rgb, geometry), "rgb": (rgb, rgb), "geometry": (geometry, geometry)}[known]


def _wanted(known: Sequence[Modality | None], name: Modality, lone: bool) -> slice:
    """Which ways of looking the decoder of this modality is asked for."""
    asked = [place for place, one in enumerate(known) if not lone or one in (None, name)]
    assert asked == list(range(len(asked))) or asked == list(range(len(known) - len(asked), len(known))), known
    return slice(asked[0], asked[-1] + 1) if asked else slice(0, 0)


def _side_by_side(rgb: Tensor, geometry: Tensor) -> Tensor:
    """2 x [B,G,N,D] → [B,2·G,N,D], colour first."""
    return torch.cat((rgb, geometry), dim=1)


def _mirrored(steps: Tensor, groups: int) -> Tensor:
    """Decoder blocks [B,blocks,N,D] in reverse order, averaged in groups: the last blocks meet the first layers."""
    batch, blocks, tokens, width = steps.shape
    return steps.flip(1).reshape(batch, groups, blocks // groups, tokens, width).mean(dim=2)
