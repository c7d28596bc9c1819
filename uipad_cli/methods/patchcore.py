"""PatchCore on both modalities: the nearest good patch in the concatenated features of the shared encoder.

The yardstick of every backbone here, and the baseline that a reconstruction has to beat on the same features.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from uipad_cli.records import Batch, Batches, Modality, Progress, Report, Scores

GROUPS = 2
ALONE: dict[str, tuple[Modality, ...]] = {"both": (), "rgb": ("rgb",), "geometry": ("geometry",)}


class PatchCoreOptions(BaseModel):
    """Choices of PatchCore.

    modalities: which images count · neighbourhood: edge in patches of the mean around each patch, odd · phases: looks
    at each good part along either side, a fraction of a patch apart · coreset: share of the good patches that is
    remembered, those that cover all of them · sample: how many are remembered besides, drawn at random, which tell how
    dense they lie · spread: so many of the nearest good patches tell how much good parts differ there, and distances
    are multiples of that; 0 = plain distances, as in the paper · blur, top, measured: as in UIP-AD.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    modalities: Literal["both", "rgb", "geometry"] = "both"
    neighbourhood: Literal[1, 3, 5] = 1
    phases: Literal[1, 2, 3] = 2
    coreset: float = Field(default=0.05, gt=0, le=1)
    sample: int = Field(default=15_000, ge=0)
    spread: int = Field(default=5, ge=0, le=100)
    blur: float = Field(default=4.0, ge=0)
    top: float = Field(default=0.01, gt=0, le=1)
    measured: float = Field(default=0.25, ge=0, le=1)


class PatchCoreMethod:
    """PatchCore behind the one interface."""

    Options: ClassVar[type[BaseModel]] = PatchCoreOptions
    trains: ClassVar[bool] = False

    def __init__(self, encoder: Encoder, options: BaseModel, compute: Compute, seed: int) -> None:
        assert isinstance(options, PatchCoreOptions)
        self.options, self.compute, self.seed = options, compute, seed
        self.encoder = encoder.to(compute.device)
        self.alone = ALONE[options.modalities]
        self.bank = torch.zeros(0, self._width(), device=compute.device)
        self.spread = torch.zeros(0, device=compute.device)

    @torch.no_grad()
    def fit(self, batches: Batches, report: Report, resume: Mapping[str, Tensor] | None = None) -> None:
        """Remember a coreset of the good patches, of several looks at each part; there is nothing to resume."""
        found, owners, parts = [], [], 0
        for done, batch in enumerate(batches, start=1):
            for look in looks(batch, self.encoder.patch, self.options.phases):
                features = self._features(look).cpu()
                found.append(features.flatten(0, 1))
                owners.append(torch.arange(parts, parts + len(features)).repeat_interleave(features.shape[1]))
            parts += len(batch.rgb)
            report(Progress("encode", done, len(batches)))
        patches = torch.cat(found)
        kept = self._chosen(patches)
        owner = torch.cat(owners)[kept].to(self.compute.device)
        self.bank = patches[kept].to(self.compute.device)
        plain = torch.ones(len(kept), device=self.compute.device)
        self.spread = damped_spreads(self.bank, owner) if self.options.spread else plain
        report(Progress("coreset", 1, 1, values={"patches": float(len(self.bank))}))

    @torch.no_grad()
    def score(self, batch: Batch) -> Scores:
        """Map [B,H,W] of distances to the nearest good patch, as multiples of the spread there, and image score [B]."""
        check_known(batch, self.alone)
        # one image at a time: how a product rounds depends on its size
        distances = torch.stack([self._distance(image) for image in self._features(batch)])
        height, width = batch.rgb.shape[-2:]
        maps = scoring.upsampled_map(
            distances[:, None], grid=self.encoder.grid, size=(height, width), sigma=self.options.blur
        ).cpu()
        counted = scoring.measured_places(batch.valid.cpu(), self.encoder.grid, self.options.measured)
        return Scores(maps, scoring.image_score(maps, self.options.top, counted))

    def gauges(self, batch: Batch) -> dict[str, float]:
        """How many patches are remembered, and how far good parts are from them."""
        return {"bank": float(len(self.bank)), "good_distance": float(self.score(batch).map.mean())}

    def state(self) -> dict[str, Tensor]:
        """The memory bank, and the spread around each of its patches."""
        return {"bank": self.bank.detach().cpu().contiguous(), "spread": self.spread.detach().cpu().contiguous()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over a memory bank. Raises ValueError when it is not one of this encoder and these options."""
        bank, spread = state.get("bank"), state.get("spread")
        fits = bank is not None and bank.ndim == 2 and len(bank) and bank.shape[1] == self._width()
        if bank is None or spread is None or len(state) != 2 or not fits or spread.shape != bank.shape[:1]:
            told = ", ".join(f"{name} {list(value.shape)}" for name, value in state.items()) or "nothing"
            raise ValueError(
                f"the memory bank [patches, {self._width()}] and its spread [patches] are missing or of another shape, "
                f"found: {told}"
            )
        self.bank = bank.float().to(self.compute.device)
        self.spread = spread.float().to(self.compute.device)

    def _chosen(self, patches: Tensor) -> Tensor:
        """Indices of the patches [P,F] that are remembered, in order."""
        count = max(1, round(self.options.coreset * len(patches)))
        return chosen(patches, count, self.options.sample, (hash_seed(self.seed, 3), hash_seed(self.seed, 4)))

    def _distance(self, patches: Tensor) -> Tensor:
        """[N,F] → [N]."""
        return relative_distance(patches, self.bank, self.spread, self.options.spread or 1)

    def _width(self) -> int:
        return GROUPS * self.encoder.width * (2 if self.options.modalities == "both" else 1)

    def _features(self, batch: Batch) -> Tensor:
        """[B,N,F]: group means of unit length, averaged over the neighbourhood, modalities side by side."""
        images = {"both": (batch.rgb, batch.geometry), "rgb": (batch.rgb,), "geometry": (batch.geometry,)}
        chosen = images[self.options.modalities]
        with self.compute.autocast():
            groups = group_means(self.encoder(torch.cat(chosen).to(self.compute.device)), GROUPS)
        tokens = functional.normalize(groups, dim=-1).permute(0, 2, 1, 3).flatten(2)  # [2B,G,N,D] -> [2B,N,G*D]
        tokens = neighbourhood_means(tokens, self.encoder.grid, self.options.neighbourhood)
        return torch.cat(tokens.chunk(len(chosen)), dim=-1)
