"""INP-Former (Luo et al., CVPR 2025): rebuild a part from prototypes found in that part itself, one image at a time.

A decoder that only mixes a few prototypes cannot copy a defect. The paper knows colour alone; here a second network of
the same kind reads the geometry, and the two maps are averaged. What the pictures go through before and the maps after
(framing, enlarging, blur) is as in every other method here, so that figures compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from uipad_cli.core import losses, scoring
from uipad_cli.core.backbone import Encoder, check_state, group_means
from uipad_cli.core.compute import Compute
from uipad_cli.core.model import CrossAttention, FeedForward, PrototypeExtractor, initialise
from uipad_cli.methods.base import Descent, check_known, descend, hash_seed, looks
from uipad_cli.records import Batch, Batches, Modality, Progress, Report, Scores

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
        mixed: Tensor = self.attention(self.norm(tokens), self.norm(prototypes)).float()
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


class INPFormerMethod:
    """INP-Former behind the one interface."""

    Options: ClassVar[type[BaseModel]] = INPFormerOptions
    trains: ClassVar[bool] = True

    def __init__(self, encoder: Encoder, options: BaseModel, compute: Compute, seed: int) -> None:
        assert isinstance(options, INPFormerOptions)
        self.options, self.compute, self.seed = options, compute, seed
        self.encoder = encoder.to(compute.device)
        self.modalities = self.alone = MODALITIES[options.modalities]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hash_seed(seed, 2))
            self.networks = nn.ModuleDict(
                {
                    name: INPFormer(encoder.width, prototypes=options.prototypes, blocks=options.blocks)
                    for name in self.modalities
                }
            )
        self.networks.to(compute.device)

    def fit(self, batches: Batches, report: Report, resume: Mapping[str, Tensor] | None = None) -> None:
        """Encode every look at every good pair once, then train the networks side by side. Raises CollapseError."""
        features = self._encode_all(batches, report)
        self.networks.train()

        def loss_of_step(indices: Tensor, _: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            chosen = features[indices].to(self.compute.device, torch.float32)
            with self.compute.training_autocast():
                seen = self._by_modality(chosen)
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
        groups = self._groups(batch)
        # one image at a time: how the product with a handful of prototypes rounds depends on the size of the batch
        maps = torch.cat([self._maps(groups[place : place + 1], batch) for place in range(len(groups))])
        counted = scoring.measured_places(batch.valid.cpu(), self.encoder.grid, self.options.measured)
        return Scores(maps, scoring.image_score(maps, self.options.top, counted))

    @torch.no_grad()
    def gauges(self, batch: Batch) -> dict[str, float]:
        """How many prototypes serve, mean over modalities, and how badly good parts are rebuilt."""
        good_distance = float(self.score(batch).map.mean())
        seen = self._rebuild(self._groups(batch))
        return {"effective_prototypes": _effective_prototypes(seen), "good_distance": good_distance}

    def state(self) -> dict[str, Tensor]:
        """Weights of the networks, each name led by its modality."""
        return {name: value.detach().cpu().contiguous() for name, value in self.networks.state_dict().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave. Raises ValueError naming keys that do not fit."""
        check_state(self.state(), state)
        self.networks.load_state_dict(dict(state))
        self.networks.eval()

    def _groups(self, batch: Batch) -> Tensor:
        """The m modalities through the shared encoder in one batch → group means [B,m,G,N,D], float32."""
        images = torch.cat([getattr(batch, name) for name in self.modalities]).to(self.compute.device)
        with self.compute.autocast():
            groups = group_means(self.encoder(images), GROUPS)
        return torch.stack(groups.chunk(len(self.modalities)), dim=1)  # [mB,G,N,D] -> [B,m,G,N,D]

    def _encode_all(self, batches: Batches, report: Report) -> Tensor:
        """Group means of all looks [n,m,G,N,D]; half precision on the host, the encoder never changes."""
        encoded: list[Tensor] = []
        for done, batch in enumerate(batches, start=1):
            for look in looks(batch, self.encoder.patch, self.options.phases):
                encoded.append(self._groups(look).half().cpu())
            report(Progress("encode", done, len(batches)))
        return torch.cat(encoded)

    def _by_modality(self, groups: Tensor) -> list[Rebuilt]:
        """[B,m,G,N,D] → what each modality's network made of its own features."""
        return [self.networks[name](groups[:, place]) for place, name in enumerate(self.modalities)]

    def _rebuild(self, groups: Tensor) -> list[Rebuilt]:
        """The same, as in judging."""
        self.networks.eval()
        with self.compute.autocast():
            return self._by_modality(groups)

    def _maps(self, groups: Tensor, batch: Batch) -> Tensor:
        """[B,m,G,N,D] → map [B,H,W] on the CPU, mean of the modalities' maps."""
        grid, (height, width), sigma = self.encoder.grid, batch.rgb.shape[-2:], self.options.blur
        maps = [
            scoring.anomaly_map(seen.target, seen.rebuilt, grid=grid, size=(height, width), sigma=sigma)
            for name, seen in zip(self.modalities, self._rebuild(groups), strict=True)
            if batch.known in (None, name)
        ]
        return torch.stack(maps).mean(dim=0).cpu()

    def _loss(self, seen: list[Rebuilt]) -> tuple[Tensor, dict[str, float]]:
        """Sum over the networks: they share no weight, only the bound that clips their common gradient."""
        rebuilding = torch.stack([rebuilding_loss(one.rebuilt, one.target, self.options.mining) for one in seen])
        coherence = torch.stack([coherence_loss(one.tokens, one.prototypes) for one in seen])
        values = {
            "reconstruction": float(rebuilding.detach().mean()),
            "coherence": float(coherence.detach().mean()),
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


def _effective_prototypes(seen: list[Rebuilt]) -> float:
    return sum(losses.effective_prototypes(one.tokens, one.prototypes) for one in seen) / len(seen)
