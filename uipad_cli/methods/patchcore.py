"""PatchCore: the nearest good patch in the features of both images side by side, of one image, or of each apart.

The yardstick of every backbone here, and the baseline that a reconstruction has to beat on the same features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from uipad_cli.core import scoring
from uipad_cli.core.backbone import Encoder
from uipad_cli.core.compute import Compute, each
from uipad_cli.core.memory import Shorthand, chosen, damped_spreads, neighbourhood_means, relative_distance
from uipad_cli.methods.base import Shelf, check_known, hash_seed
from uipad_cli.methods.features import encode_all
from uipad_cli.methods.scorer import Scorer, runner, scores_of
from uipad_cli.records import Batch, Batches, Modality, Progress, Report, Scores, Voice

GROUPS = 2
# the images of each bank; what has a bank to itself can be judged alone
BANKS: dict[str, tuple[tuple[Modality, ...], ...]] = {
    "both": (("rgb", "geometry"),),
    "rgb": (("rgb",),),
    "geometry": (("geometry",),),
    "late": (("rgb",), ("geometry",)),
}
VOICES: dict[Modality, Voice] = {"rgb": "colour", "geometry": "geometry"}


class PatchCoreOptions(BaseModel):
    """Choices of PatchCore.

    modalities: features of both images side by side, of one alone, or a bank for each and the mean of both maps
    (`late`) · neighbourhood: edge in patches of the mean around each patch, odd · phases: looks
    at each good part along either side, a fraction of a patch apart · coreset: share of the good patches that is
    remembered, those that cover all of them · sample: how many are remembered besides, drawn at random, which tell how
    dense they lie · spread: so many of the nearest good patches tell how much good parts differ there, and distances
    are multiples of that; 0 = plain distances, as in the paper · blur, top, measured: as in UIP-AD.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    modalities: Literal["both", "rgb", "geometry", "late"] = "both"
    neighbourhood: Literal[1, 3, 5] = 1
    phases: Literal[1, 2, 3] = 2
    coreset: float = Field(default=0.05, gt=0, le=1)
    sample: int = Field(default=15_000, ge=0)
    spread: int = Field(default=5, ge=0, le=100)
    blur: float = Field(default=4.0, ge=0)
    top: float = Field(default=0.01, gt=0, le=1)
    measured: float = Field(default=0.25, ge=0, le=1)


@dataclass
class Bank:
    """Good patches [P,F] of these images, side by side, and the spread [P] around each."""

    images: tuple[Modality, ...]
    patches: Tensor
    spread: Tensor
    shorthand: Shorthand | None = None

    @property
    def name(self) -> str:
        """In a checkpoint."""
        return "_".join(self.images)

    def features(self, tokens: Mapping[Modality, Tensor]) -> Tensor:
        """[B,N,F] of its images."""
        return torch.cat([tokens[name] for name in self.images], dim=-1)

    def tensors(self) -> dict[str, Tensor]:
        """What it holds, by name."""
        return {"patches": self.patches, "spread": self.spread}


class PatchCoreScorer(Scorer):
    """Distances to the nearest good patch, as multiples of the spread there."""

    def __init__(self, encoder: Encoder, options: PatchCoreOptions, compute: Compute) -> None:
        super().__init__()
        self.options, self.compute, self.encoder, self.grid = options, compute, encoder, encoder.grid
        self.top, self.measured = options.top, options.measured
        self.banks = [
            Bank(images, torch.zeros(0, GROUPS * encoder.width * len(images)), torch.zeros(0))
            for images in BANKS[options.modalities]
        ]
        self.images = [name for bank in self.banks for name in bank.images]
        apart = len(self.banks) > 1  # `late`: each image has said its own
        self.voices = tuple(VOICES[bank.images[0]] for bank in self.banks if apart)

    def forward(self, rgb: Tensor, geometry: Tensor, known: Modality | None = None) -> tuple[Tensor, ...]:
        """As every `Scorer`."""
        tokens = self.tokens(self.groups(rgb, geometry))
        banks = [bank for bank in self.banks if known in (None, *bank.images)]
        found = [self._distances(bank.features(tokens), bank) for bank in banks]
        size = (int(rgb.shape[-2]), int(rgb.shape[-1]))
        maps = scoring.upsampled_map(torch.stack(found, dim=1), grid=self.grid, size=size, sigma=self.options.blur)
        said = found if self.voices and known is None else []
        return maps, *(self.by_place(one) for one in said)

    def groups(self, rgb: Tensor, geometry: Tensor) -> Tensor:
        """Group means of unit length [B,m,G,N,D] of the m images that are used."""
        images = {"rgb": rgb, "geometry": geometry}
        with self.products():
            seen = self.encoder.group_means(torch.cat([images[name] for name in self.images]), GROUPS)
        return self.by_image(functional.normalize(seen, dim=-1), len(self.images))

    def tokens(self, groups: Tensor) -> dict[Modality, Tensor]:
        """Group means [B,m,G,N,D] → [B,N,F] of each image that is used, averaged over the neighbourhood."""
        tokens = {name: groups[:, place].transpose(1, 2).flatten(2) for place, name in enumerate(self.images)}
        edge = self.options.neighbourhood
        return {name: neighbourhood_means(one, self.encoder.grid, edge) for name, one in tokens.items()}

    def _distances(self, features: Tensor, bank: Bank) -> Tensor:
        """[B,N,F] → [B,N]."""

        def met(features: Tensor) -> Tensor:
            neighbours = self.options.spread or 1
            asked = features.flatten(0, 1)
            found = relative_distance(asked, bank.patches, bank.spread, neighbours, shorthand=bank.shorthand)
            return found.reshape(features.shape[:2])

        return each(met, features)


class PatchCoreMethod:
    """PatchCore behind the one interface."""

    Options: ClassVar[type[BaseModel]] = PatchCoreOptions
    trains: ClassVar[bool] = False

    def __init__(self, encoder: Encoder, options: BaseModel, compute: Compute, seed: int) -> None:
        assert isinstance(options, PatchCoreOptions)
        self.options, self.compute, self.seed = options, compute, seed
        self.encoder = encoder.to(compute.device)
        self.alone = tuple(images[0] for images in BANKS[options.modalities] if len(images) == 1)
        self.scorer = PatchCoreScorer(self.encoder, options, compute)
        self.run, self.banks = runner(self.scorer, compute), self.scorer.banks

    @torch.no_grad()
    def fit(
        self, batches: Batches, report: Report, resume: Mapping[str, Tensor] | None = None, shelf: Shelf | None = None
    ) -> None:
        """Remember a coreset of the good patches, of several looks at each part; there is nothing to resume."""
        kind = f"{' '.join(self.scorer.images)}, group means of unit length, {self.compute.dtype}"
        features = encode_all(
            batches,
            self._groups,
            self.encoder,
            report,
            phases=self.options.phases,
            kind=kind,
            dtype=torch.float32,
            shelf=shelf,
        )
        owner = features.owners.repeat_interleave(math.prod(self.encoder.grid))
        for bank in self.banks:
            patches = [bank.features(self.scorer.tokens(row))[0].cpu() for row in features]
            self._remember(bank, torch.cat(patches), owner)
        self.run = runner(self.scorer, self.compute)
        report(Progress("coreset", 1, 1, values={"patches": self._size()}))

    @torch.no_grad()
    def score(self, batch: Batch) -> Scores:
        """Map [B,H,W] of distances to the nearest good patch, as multiples of the spread there, and image score [B]."""
        check_known(batch, self.alone)
        return scores_of(self.run, self.scorer, batch, self.compute.device)

    def graph(self) -> Scorer:
        """All of scoring but the image score, as one network."""
        return self.scorer.eval()

    def lighten(self, compute: Compute) -> None:
        """Only score from now on, there and so precisely, patches looked up in half of float32's precision."""
        self.compute = self.scorer.compute = compute
        if compute.dtype != torch.float32:
            self.scorer.light = True
            self.encoder.lighten(compute.dtype)
            for bank in self.banks:
                bank.shorthand = Shorthand.of(bank.patches, compute.device)
                if compute.device.type == "cuda":
                    bank.patches = bank.patches.new_empty(0, bank.patches.shape[1])
        self.encoder.to(compute.device)
        for bank in self.banks:
            bank.patches, bank.spread = bank.patches.to(compute.device), bank.spread.to(compute.device)
        self.run = runner(self.scorer, compute)

    def pretend(self, parts: int) -> None:
        """Hold so much as `fit` would keep of so many good parts, of random content: to measure time by."""
        places = parts * self.options.phases**2 * math.prod(self.encoder.grid)
        count = min(places, max(1, round(self.options.coreset * places)) + self.options.sample)
        for bank in self.banks:
            patches = torch.randn(count, bank.patches.shape[1], generator=torch.Generator().manual_seed(self.seed))
            bank.patches = functional.normalize(patches, dim=-1).to(self.compute.device)
            bank.spread = torch.ones(count, device=self.compute.device)

    def gauges(self, batch: Batch) -> dict[str, float]:
        """How many patches are remembered, and how far good parts are from them."""
        return {"bank": self._size(), "good_distance": float(self.score(batch).map.mean())}

    def state(self) -> dict[str, Tensor]:
        """Each memory bank, and the spread around each of its patches, under the names of its images."""
        kept = {f"{bank.name}.{kind}": value for bank in self.banks for kind, value in bank.tensors().items()}
        return {name: value.detach().cpu().contiguous() for name, value in kept.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over memory banks. Raises ValueError when they are not of this encoder and these options."""
        told = ", ".join(f"{name} {list(value.shape)}" for name, value in state.items()) or "nothing"
        if extra := set(state) - set(self.state()):
            raise ValueError(f"not of these options: {', '.join(sorted(extra))}; found: {told}")
        for bank in self.banks:
            patches, spread = state.get(f"{bank.name}.patches"), state.get(f"{bank.name}.spread")
            width = bank.patches.shape[1]
            fits = patches is not None and patches.ndim == 2 and len(patches) and patches.shape[1] == width
            if patches is None or spread is None or not fits or spread.shape != patches.shape[:1]:
                raise ValueError(
                    f"the memory bank {bank.name}.patches [patches, {width}] and its {bank.name}.spread [patches] are "
                    f"missing or of another shape, found: {told}"
                )
            bank.patches, bank.spread = (value.float().to(self.compute.device) for value in (patches, spread))
        self.run = runner(self.scorer, self.compute)

    def _groups(self, batch: Batch) -> Tensor:
        return self.scorer.groups(batch.rgb.to(self.compute.device), batch.geometry.to(self.compute.device))

    def _remember(self, bank: Bank, patches: Tensor, owner: Tensor) -> None:
        """Choose among the patches [P,F] of the parts `owner` [P]."""
        count = max(1, round(self.options.coreset * len(patches)))
        seeds = hash_seed(self.seed, 3), hash_seed(self.seed, 4)
        kept = chosen(patches, count, self.options.sample, seeds)
        bank.patches = patches[kept].to(self.compute.device)
        plain = torch.ones(len(kept), device=self.compute.device)
        parts = owner[kept].to(self.compute.device)
        bank.spread = damped_spreads(bank.patches, parts) if self.options.spread else plain

    def _size(self) -> float:
        """Patches in all banks."""
        return float(sum(len(bank.spread) for bank in self.banks))  # a light bank on CUDA has no other patches
