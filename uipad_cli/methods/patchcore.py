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
from uipad_cli.core.backbone import Encoder, group_means
from uipad_cli.core.compute import Compute
from uipad_cli.core.memory import chosen, damped_spreads, neighbourhood_means, relative_distance
from uipad_cli.methods.base import check_known, hash_seed, looks
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


class PatchCoreMethod:
    """PatchCore behind the one interface."""

    Options: ClassVar[type[BaseModel]] = PatchCoreOptions
    trains: ClassVar[bool] = False

    def __init__(self, encoder: Encoder, options: BaseModel, compute: Compute, seed: int) -> None:
        assert isinstance(options, PatchCoreOptions)
        self.options, self.compute, self.seed = options, compute, seed
        self.encoder = encoder.to(compute.device)
        self.alone = tuple(images[0] for images in BANKS[options.modalities] if len(images) == 1)
        self.banks = [
            Bank(images, torch.zeros(0, GROUPS * encoder.width * len(images)), torch.zeros(0))
            for images in BANKS[options.modalities]
        ]

    @torch.no_grad()
    def fit(self, batches: Batches, report: Report, resume: Mapping[str, Tensor] | None = None) -> None:
        """Remember a coreset of the good patches, of several looks at each part; there is nothing to resume."""
        found: list[list[Tensor]] = [[] for _ in self.banks]
        owners, parts = [], 0
        for done, batch in enumerate(batches, start=1):
            for look in looks(batch, self.encoder.patch, self.options.phases):
                tokens = self._tokens(look)
                for bank, kept in zip(self.banks, found, strict=True):
                    kept.append(bank.features(tokens).flatten(0, 1).cpu())
                owners.append(torch.arange(parts, parts + len(batch)).repeat_interleave(math.prod(self.encoder.grid)))
            parts += len(batch)
            report(Progress("encode", done, len(batches)))
        owner = torch.cat(owners)
        for bank, kept in zip(self.banks, found, strict=True):
            self._remember(bank, torch.cat(kept), owner)
        report(Progress("coreset", 1, 1, values={"patches": self._size()}))

    @torch.no_grad()
    def score(self, batch: Batch) -> Scores:
        """Map [B,H,W] of distances to the nearest good patch, as multiples of the spread there, and image score [B]."""
        check_known(batch, self.alone)
        tokens = self._tokens(batch)
        known = [bank for bank in self.banks if batch.known in (None, *bank.images)]
        # one image at a time: how a product rounds depends on its size
        distances = torch.stack(
            [torch.stack([self._distance(image, bank) for image in bank.features(tokens)]) for bank in known], dim=1
        )
        height, width = batch.rgb.shape[-2:]
        maps = scoring.upsampled_map(
            distances, grid=self.encoder.grid, size=(height, width), sigma=self.options.blur
        ).cpu()
        counted = scoring.measured_places(batch.valid.cpu(), self.encoder.grid, self.options.measured)
        apart = len(known) > 1  # `late`: each image has said its own
        voices = {VOICES[bank.images[0]]: distances[:, place] for place, bank in enumerate(known) if apart}
        said = {name: value.reshape(-1, *self.encoder.grid).cpu() for name, value in voices.items()}
        return Scores(maps, scoring.image_score(maps, self.options.top, counted), said)

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

    def _remember(self, bank: Bank, patches: Tensor, owner: Tensor) -> None:
        """Choose among the patches [P,F] of the parts `owner` [P]."""
        count = max(1, round(self.options.coreset * len(patches)))
        seeds = hash_seed(self.seed, 3), hash_seed(self.seed, 4)
        kept = chosen(patches, count, self.options.sample, seeds)
        bank.patches = patches[kept].to(self.compute.device)
        plain = torch.ones(len(kept), device=self.compute.device)
        parts = owner[kept].to(self.compute.device)
        bank.spread = damped_spreads(bank.patches, parts) if self.options.spread else plain

    def _distance(self, patches: Tensor, bank: Bank) -> Tensor:
        """[N,F] → [N]."""
        return relative_distance(patches, bank.patches, bank.spread, self.options.spread or 1)

    def _size(self) -> float:
        """Patches in all banks."""
        return float(sum(len(bank.patches) for bank in self.banks))

    def _tokens(self, batch: Batch) -> dict[Modality, Tensor]:
        """[B,N,F] of each image that is used: group means of unit length, averaged over the neighbourhood."""
        images = {"rgb": batch.rgb, "geometry": batch.geometry}
        names = [name for bank in self.banks for name in bank.images]
        with self.compute.autocast():
            seen = self.encoder(torch.cat([images[name] for name in names]).to(self.compute.device))
        groups = functional.normalize(group_means(seen, GROUPS), dim=-1)
        tokens = groups.permute(0, 2, 1, 3).flatten(2)  # [2B,G,N,D] -> [2B,N,G*D]
        tokens = neighbourhood_means(tokens, self.encoder.grid, self.options.neighbourhood)
        return dict(zip(names, tokens.chunk(len(names)), strict=True))
