"""INP-Former (Luo et al., CVPR 2025): rebuild a part from prototypes found in that part itself, one image at a time.

A decoder that only mixes a few prototypes cannot copy a defect. The paper knows colour alone; here a second network of
the same kind reads the geometry, and the two maps are averaged. What the pictures go through before and the maps after
(framing, enlarging, blur) is as in every other method here, so that figures compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from uipad_cli.core import losses, scoring
from uipad_cli.core.attention import CrossAttention, FeedForward, initialise
from uipad_cli.core.backbone import Encoder, check_state, group_means
from uipad_cli.core.compute import Compute, each
from uipad_cli.core.model import PrototypeExtractor
from uipad_cli.methods.base import Shelf, check_known, hash_seed
from uipad_cli.methods.descent import Descent, descend
from uipad_cli.methods.features import encode_all
from uipad_cli.methods.scorer import Scorer, runner, scores_of
from uipad_cli.records import Batch, Batches, Modality, Report, Scores

GROUPS = 2
MODALITIES: dict[str, tuple[Modality, ...]] = {"late": ("rgb", "geometry"), "rgb": ("rgb",), "geometry": ("geometry",)}
TINIEST = 1e-12  # mean distance of a part that is rebuilt without any fault


class INPFormerOptions(BaseModel):
    """Choices of INP-Former; the defaults are the paper's.

    modalities: a network for each image and the mean of both maps (`late`), or one image alone · prototypes M · blocks
    of the decoder · coherence_weight: of the loss that ties prototypes to tokens · mining: exponent by which badly
    rebuilt places learn faster, 0 = all alike · phases: looks at each good part along either side, a fraction of a
    patch apart · blur, top, measured, training: as in UIP-AD.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    modalities: Literal["late", "rgb", "geometry"] = "late"
    prototypes: int = Field(default=6, ge=1)
    blocks: int = Field(default=8, ge=2, multiple_of=2)
    coherence_weight: float = Field(default=0.2, ge=0)
    mining: float = Field(default=3.0, ge=0)
    phases: Literal[1, 2, 3] = 1
    blur: float = Field(default=4.0, ge=0)
    top: float = Field(default=0.01, gt=0, le=1)
    measured: float = Field(default=0.25, ge=0, le=1)
    training: Descent = Descent()


@dataclass(frozen=True)
class Rebuilt:
    """What one network saw and rebuilt: target, rebuilt [B,G,N,D]; tokens [B,N,D] and their prototypes [B,M,D]."""

    target: Tensor
    rebuilt: Tensor
    tokens: Tensor
    prototypes: Tensor


class PrototypeBlock(nn.Module):
    """One decoder block: tokens become a mix of prototypes; nothing of themselves passes around it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        # without a residual, tokens start with a variance of about 1e-5 at width 192: the usual eps would outweigh it
        self.norm, self.feed_forward_norm = nn.LayerNorm(width, eps=1e-8), nn.LayerNorm(width, eps=1e-8)
        self.attention = CrossAttention(width, heads, kind="relu")
        self.feed_forward = FeedForward(width)

    def forward(self, tokens: Tensor, prototypes: Tensor) -> Tensor:
        """Tokens [B,N,D] over prototypes [B,M,D] → [B,N,D]."""
        mixed: Tensor = self.attention(self.norm(tokens), self.norm(prototypes)).to(self.norm.weight.dtype)
        rebuilt: Tensor = mixed + self.feed_forward(self.feed_forward_norm(mixed))
        return rebuilt


class INPFormer(nn.Module):
    """The network of one modality: extract prototypes, then rebuild both groups of layers from them."""

    def __init__(self, width: int, *, prototypes: int, blocks: int) -> None:
        super().__init__()
        heads = max(1, width // 64)
        self.extractor = PrototypeExtractor(width, prototypes, heads)
        self.bottleneck = FeedForward(width)
        self.decoder = nn.ModuleList(PrototypeBlock(width, heads) for _ in range(blocks))
        self.apply(initialise)

    def forward(self, groups: Tensor) -> Rebuilt:
        """Group means of the encoder [B,G,N,D] → what was there and what could be rebuilt, float32."""
        tokens = groups.mean(dim=1)
        prototypes = self.extractor(tokens)
        decoded, steps = self.bottleneck(tokens), []
        for block in self.decoder:
            decoded = block(decoded, prototypes)
            steps.append(decoded)
        rebuilt = group_means(torch.stack(steps[::-1], dim=1), GROUPS)  # the last blocks meet the first layers
        return Rebuilt(groups.float(), rebuilt.float(), tokens.float(), prototypes.float())


class INPFormerScorer(Scorer):
    """A network for each image; the mean of their maps."""

    def __init__(self, encoder: Encoder, options: INPFormerOptions, compute: Compute, seed: int) -> None:
        super().__init__()
        self.options, self.compute, self.encoder, self.grid = options, compute, encoder, encoder.grid
        self.top, self.measured = options.top, options.measured
        self.modalities = MODALITIES[options.modalities]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hash_seed(seed, 2))
            networks = {
                name: INPFormer(encoder.width, prototypes=options.prototypes, blocks=options.blocks)
                for name in self.modalities
            }
        self.networks = nn.ModuleDict({str(name): network for name, network in networks.items()})
        self.networks.to(compute.device)

    def forward(self, rgb: Tensor, geometry: Tensor, known: Modality | None = None) -> tuple[Tensor, ...]:
        """As every `Scorer`."""
        groups = self.groups(rgb, geometry)
        shown = [place for place, name in enumerate(self.modalities) if known in (None, name)]
        # one image at a time: how the product with a handful of prototypes rounds depends on the size of the batch
        distances = [each(partial(self._distances, place), groups[:, place]) for place in shown]
        size = (int(rgb.shape[-2]), int(rgb.shape[-1]))
        maps = [scoring.upsampled_map(one, grid=self.grid, size=size, sigma=self.options.blur) for one in distances]
        return (torch.stack(maps).mean(dim=0),)

    def groups(self, rgb: Tensor, geometry: Tensor) -> Tensor:
        """The m modalities through the shared encoder in one batch → group means [B,m,G,N,D], float32."""
        given = {"rgb": rgb, "geometry": geometry}
        with self.products():
            groups = self.encoder.group_means(torch.cat([given[name] for name in self.modalities]), GROUPS)
        groups = groups.to(self.compute.dtype) if self.light else groups
        return self.by_image(groups, len(self.modalities))  # [mB,G,N,D] -> [B,m,G,N,D]

    def rebuild(self, groups: Tensor) -> list[Rebuilt]:
        """[B,m,G,N,D] → what each modality's network made of its own features."""
        return [self.networks[name](groups[:, place]) for place, name in enumerate(self.modalities)]

    def _distances(self, place: int, groups: Tensor) -> Tensor:
        """Group means [B,G,N,D] of one modality → [B,G,N]."""
        with self.products():
            seen = self.networks[self.modalities[place]](groups)
        return losses.cosine_distance(seen.target, seen.rebuilt)


class INPFormerMethod:
    """INP-Former behind the one interface."""

    Options: ClassVar[type[BaseModel]] = INPFormerOptions
    trains: ClassVar[bool] = True

    def __init__(self, encoder: Encoder, options: BaseModel, compute: Compute, seed: int) -> None:
        assert isinstance(options, INPFormerOptions)
        self.options, self.compute, self.seed = options, compute, seed
        self.encoder = encoder.to(compute.device)
        self.alone = MODALITIES[options.modalities]
        self.scorer = INPFormerScorer(self.encoder, options, compute, seed)
        self.run, self.networks = runner(self.scorer, compute), self.scorer.networks

    def fit(
        self, batches: Batches, report: Report, resume: Mapping[str, Tensor] | None = None, shelf: Shelf | None = None
    ) -> None:
        """Encode every look at every good pair once, then train the networks side by side. Raises CollapseError."""
        kind = f"{' '.join(self.scorer.modalities)}, group means, {self.compute.dtype}"
        features = encode_all(
            batches, self._groups, self.encoder, report, phases=self.options.phases, kind=kind, shelf=shelf
        )
        self.networks.train()

        def loss_of_step(indices: Tensor, _: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
            chosen = features[indices]
            with self.compute.training_autocast():
                seen = self.scorer.rebuild(chosen)
            return self._loss(seen)

        descend(
            self.networks, loss_of_step, self.options.training,
            samples=len(features), seed=self.seed, report=report, resume=resume,
        )  # fmt: skip
        self.networks.eval()

    @torch.no_grad()
    def score(self, batch: Batch) -> Scores:
        """Map [B,H,W], mean of the maps of those modalities that are known, and image score [B]."""
        check_known(batch, self.alone)
        self.networks.eval()
        return scores_of(self.run, self.scorer, batch, self.compute.device)

    @torch.no_grad()
    def gauges(self, batch: Batch) -> dict[str, float]:
        """How many prototypes serve, mean over modalities, and how badly good parts are rebuilt."""
        good_distance = float(self.score(batch).map.mean())
        with self.scorer.products():
            seen = self.scorer.rebuild(self._groups(batch))
        return {"effective_prototypes": float(_effective_prototypes(seen)), "good_distance": good_distance}

    def graph(self) -> Scorer:
        """All of scoring but the image score, as one network."""
        return self.scorer.eval()

    def lighten(self, compute: Compute) -> None:
        """Only score from now on, there and so precisely, all weights kept in that precision."""
        self.compute = self.scorer.compute = compute
        if compute.dtype != torch.float32:
            self.scorer.light = True
            self.encoder.lighten(compute.dtype)
            self.networks.to(compute.dtype)
        self.encoder.to(compute.device)
        self.networks.to(compute.device)
        self.run = runner(self.scorer, compute)

    def pretend(self, parts: int) -> None:
        """Nothing grows with the number of parts."""

    def state(self) -> dict[str, Tensor]:
        """Weights of the networks, each name led by its modality."""
        return {name: value.detach().cpu().contiguous() for name, value in self.networks.state_dict().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave. Raises ValueError naming keys that do not fit."""
        check_state(self.state(), state)
        self.networks.load_state_dict(dict(state))
        self.networks.eval()
        self.run = runner(self.scorer, self.compute)

    def _groups(self, batch: Batch) -> Tensor:
        return self.scorer.groups(batch.rgb.to(self.compute.device), batch.geometry.to(self.compute.device))

    def _loss(self, seen: list[Rebuilt]) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum over the networks: they share no weight, only the bound that clips their common gradient."""
        rebuilding = torch.stack([rebuilding_loss(one.rebuilt, one.target, self.options.mining) for one in seen])
        coherence = torch.stack([coherence_loss(one.tokens, one.prototypes) for one in seen])
        values = {
            "reconstruction": rebuilding.detach().mean(),
            "coherence": coherence.detach().mean(),
            "effective_prototypes": _effective_prototypes(seen),
        }
        return (rebuilding + self.options.coherence_weight * coherence).sum(), values


def rebuilding_loss(rebuilt: Tensor, target: Tensor, mining: float) -> Tensor:
    """Soft mining loss: mean of 1 − cos of whole maps [B,G,N,D], one cosine for each image and group.

    Mining acts on the gradient alone: at each token it is multiplied by (its distance / the group's mean distance in
    the batch) to the power `mining`, so that what is rebuilt well already is left in peace.
    """
    target = target.detach()
    if mining > 0:
        distance = losses.cosine_distance(rebuilt.detach(), target).clamp(min=0)  # [B,G,N]
        factor = (distance / distance.mean(dim=(0, 2), keepdim=True).clamp(min=TINIEST)) ** mining
        rebuilt.register_hook(lambda gradient: gradient * factor[..., None])  # type: ignore[no-untyped-call]
    return losses.cosine_distance(rebuilt.flatten(2), target.flatten(2)).mean()


def coherence_loss(tokens: Tensor, prototypes: Tensor) -> Tensor:
    """INP coherence loss: mean over tokens [B,N,D] of 1 − cos to the nearest of their prototypes."""
    return (1 - losses.similarities(tokens, prototypes).max(dim=-1).values).mean()


def _effective_prototypes(seen: list[Rebuilt]) -> Tensor:
    return torch.stack([losses.effective_prototypes(one.tokens, one.prototypes) for one in seen]).mean()
