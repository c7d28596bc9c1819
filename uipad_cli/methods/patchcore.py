"""PatchCore on both modalities: the nearest good patch in the concatenated features of the shared encoder.

The yardstick of every backbone here, and the baseline that a reconstruction has to beat on the same features.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from uipad_cli.core import scoring
from uipad_cli.core.backbone import Encoder, group_means
from uipad_cli.core.compute import Compute
from uipad_cli.core.memory import coreset, moved, nearest_distance, neighbourhood_means
from uipad_cli.methods.base import hash_seed
from uipad_cli.records import Batch, Batches, Progress, Report, Scores

GROUPS = 2


class PatchCoreOptions(BaseModel):
    """Choices of PatchCore.

    modalities: which images count · neighbourhood: edge in patches of the mean around each patch, odd · phases: looks
    at each good part along either side, a fraction of a patch apart · coreset: share of the good patches that is
    remembered · blur, top, measured: as in UIP-AD.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    modalities: Literal["both", "rgb", "geometry"] = "both"
    neighbourhood: Literal[1, 3, 5] = 1
    phases: Literal[1, 2, 3] = 2
    coreset: float = Field(default=0.05, gt=0, le=1)
    blur: float = Field(default=4.0, ge=0)
    top: float = Field(default=0.01, gt=0, le=1)
    measured: float = Field(default=0.25, ge=0, le=1)


class PatchCoreMethod:
    """PatchCore behind the one interface."""

    Options: ClassVar[type[BaseModel]] = PatchCoreOptions

    def __init__(self, encoder: Encoder, options: BaseModel, compute: Compute, seed: int) -> None:
        assert isinstance(options, PatchCoreOptions)
        self.options, self.compute, self.seed = options, compute, seed
        self.encoder = encoder.to(compute.device)
        self.bank = torch.zeros(0, self._width(), device=compute.device)

    @torch.no_grad()
    def fit(self, batches: Batches, report: Report, resume: Mapping[str, Tensor] | None = None) -> None:
        """Remember a coreset of the good patches; there is nothing to resume.

        An edge that runs through the middle of a patch looks different from one at its rim, and a few good parts do not
        show all of these: so each is looked at `phases` x `phases` times, moved by fractions of a patch.
        """
        found = []
        steps = [round(self.encoder.patch * phase / self.options.phases) for phase in range(self.options.phases)]
        for done, batch in enumerate(batches, start=1):
            for down, right in itertools.product(steps, steps):
                rgb, geometry = (moved(images, down, right) for images in (batch.rgb, batch.geometry))
                found.append(self._features(Batch(rgb, geometry, batch.valid)).flatten(0, 1).cpu())
            report(Progress("encode", done, len(batches)))
        patches = torch.cat(found)
        count = max(1, round(self.options.coreset * len(patches)))
        kept = patches if count == len(patches) else patches[coreset(patches, count, hash_seed(self.seed, 3))]
        self.bank = kept.to(self.compute.device)
        report(Progress("coreset", 1, 1, values={"patches": float(len(self.bank))}))

    @torch.no_grad()
    def score(self, batch: Batch) -> Scores:
        """Map [B,H,W] of distances to the nearest good patch, and image score [B]."""
        # one image at a time: how a product rounds depends on its size
        distances = torch.stack([nearest_distance(image, self.bank) for image in self._features(batch)])
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
        """The memory bank."""
        return {"bank": self.bank.detach().cpu().contiguous()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over a memory bank. Raises ValueError when it is not one of this encoder and these options."""
        bank = state.get("bank")
        if set(state) != {"bank"} or bank is None or bank.ndim != 2 or not len(bank) or bank.shape[1] != self._width():
            told = ", ".join(f"{name} {list(value.shape)}" for name, value in state.items()) or "nothing"
            raise ValueError(
                f"the memory bank [patches, {self._width()}] is missing or of another shape, found: {told}"
            )
        self.bank = bank.float().to(self.compute.device)

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
