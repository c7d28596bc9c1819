"""UIP-AD as a method: features once, the paper's losses, eq. 11 as score, and the gauges against collapse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from uipad_cli.core import losses, scoring
from uipad_cli.core.backbone import Encoder, check_state, group_means
from uipad_cli.core.compute import Compute
from uipad_cli.core.losses import AssignmentKind
from uipad_cli.core.model import UIPAD, Comparison, FusionKind, Reconstruction
from uipad_cli.methods.base import CollapseError, Descent, descend, hash_seed
from uipad_cli.records import Batch, Batches, Progress, Report, Scores

GROUPS = 2
FOREIGN_PATCH = 0.15  # edge of the pasted patch of the blindness gauge, as a share of the image


COLLAPSE_PATIENCE = 50  # steps
BLIND_RATIO = 1.5  # map in a pasted foreign patch over the map there without it
COLLAPSE_CURE = "use the default options (fusion: mean, target: fused, coherence_weight: 0.2), or another backbone"


class UIPADOptions(BaseModel):
    """Every reading of the paper in one place; the defaults learn, configs/ablations/literal.yaml is the printed text.

    prototypes M · blocks per decoder · fusion Ψ · target of eq. 8: the detached fused feature (`fused`) or x̃
    (`prototypes`) · comparison: two groups or the single map · assignment in eq. 9, 10 · temperature τ of eq. 7 ·
    weights λ · centre: subtract each modality's mean before eq. 9 · tokens: share of places decoded per training step ·
    blur in pixels of the framed image · top: share of pixels that make the image score · measured: least share
    of a patch that the 3D sensor must have seen for it to count there · training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prototypes: int = Field(default=12, ge=1)
    blocks: int = Field(default=8, ge=2, multiple_of=2)
    fusion: FusionKind = "mean"
    target: Literal["fused", "prototypes"] = "fused"
    comparison: Comparison = "groups"
    assignment: AssignmentKind = "soft"
    temperature: float = Field(default=0.1, gt=0)
    coherence_weight: float = Field(default=0.2, ge=0)
    consistency_weight: float = Field(default=0.1, ge=0)
    entropy_weight: float = Field(default=0.01, ge=0)
    centre: bool = True
    tokens: float = Field(default=0.25, gt=0, le=1)
    blur: float = Field(default=4.0, ge=0)
    top: float = Field(default=0.01, gt=0, le=1)
    measured: float = Field(default=0.25, ge=0, le=1)
    training: Descent = Descent()


class UIPADMethod:
    """UIP-AD behind the one interface."""

    Options: ClassVar[type[BaseModel]] = UIPADOptions
    trains: ClassVar[bool] = True

    def __init__(self, encoder: Encoder, options: BaseModel, compute: Compute, seed: int) -> None:
        assert isinstance(options, UIPADOptions)
        self.options, self.compute, self.seed = options, compute, seed
        self.encoder = encoder.to(compute.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hash_seed(seed, 2))
            self.network = UIPAD(
                encoder.width,
                prototypes=options.prototypes,
                blocks=options.blocks,
                fusion=options.fusion,
                comparison=options.comparison,
            )
        self.network.to(compute.device)
        # what moves each modality's mean onto the mean of both, for eq. 9 [2,D]
        self.shifts = torch.zeros(2, encoder.width, device=compute.device)

    def fit(self, batches: Batches, report: Report, resume: Mapping[str, Tensor] | None = None) -> None:
        """Encode every good pair once, then train the network on those features. Raises CollapseError."""
        features = self._encode_all(batches, report)
        means = torch.stack([pair.float().mean(dim=(1, 2)) for pair in features]).mean(dim=0)  # [n,2,G,N,D] -> [2,D]
        means = means.to(self.compute.device)
        self.shifts = means.mean(dim=0) - means
        steps = self.options.training.total_steps(len(features))
        collapse = CollapseWatch(self.options.prototypes, patience=min(COLLAPSE_PATIENCE, max(1, steps // 4)))
        self.network.train()

        def loss_of_step(indices: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            chosen = features[indices].to(self.compute.device, torch.float32)
            count = max(1, round(self.options.tokens * chosen.shape[3]))
            places = torch.randperm(chosen.shape[3], generator=generator)[:count].sort().values
            with self.compute.training_autocast():
                seen = self.network(chosen[:, 0], chosen[:, 1], places.to(self.compute.device))
            return self._loss(_float(seen))

        def watch(progress: Progress) -> None:
            report(progress)
            collapse.look(progress.values, progress.done)

        descend(
            self.network, loss_of_step, self.options.training,
            samples=len(features), seed=self.seed, report=watch, resume=resume,
        )  # fmt: skip
        self.network.eval()
        ratio = self.gauges(_first(next(iter(batches)), 2))["foreign_patch_ratio"]
        if ratio < BLIND_RATIO:
            raise CollapseError(
                f"the model is blind: a foreign patch scores {ratio:.2f} times what was there", COLLAPSE_CURE
            )

    @torch.no_grad()
    def score(self, batch: Batch) -> Scores:
        """Map [B,H,W] and image score [B] of a batch (eq. 11)."""
        self.network.eval()
        seen = self._forward(batch)
        height, width = batch.rgb.shape[-2:]
        maps = scoring.anomaly_map(
            seen.fused, seen.rebuilt, grid=self.encoder.grid, size=(height, width), sigma=self.options.blur
        ).cpu()
        counted = scoring.measured_places(batch.valid.cpu(), self.encoder.grid, self.options.measured)
        return Scores(maps, scoring.image_score(maps, self.options.top, counted))

    @torch.no_grad()
    def gauges(self, batch: Batch) -> dict[str, float]:
        """Collapse gauges on good parts, and how far a pasted foreign patch stands out (1 = blind)."""
        self.network.eval()
        seen = self._forward(batch)
        rows, columns = _foreign_place(batch)
        before = self.score(batch).map[:, rows, columns].mean(dim=(1, 2))
        after = self.score(_with_foreign_patch(batch)).map[:, rows, columns].mean(dim=(1, 2))
        stands_out = after / before.clamp(min=1e-12)
        return _collapse_gauges(seen) | {"foreign_patch_ratio": float(stands_out.mean())}

    def state(self) -> dict[str, Tensor]:
        """Network weights and the modality shifts."""
        weights = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        return {name: value.detach().cpu().contiguous() for name, value in (weights | {"shifts": self.shifts}).items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave. Raises ValueError naming keys that do not fit."""
        check_state(self.state(), state)
        self.network.load_state_dict(
            {name.removeprefix("network."): value for name, value in state.items() if name != "shifts"}
        )
        self.shifts = state["shifts"].to(self.compute.device)
        self.network.eval()

    def _groups(self, batch: Batch) -> Tensor:
        """Both modalities through the shared encoder in one batch → group means [B,2,G,N,D], float32."""
        images = torch.cat((batch.rgb, batch.geometry)).to(self.compute.device)
        with self.compute.autocast():
            groups = group_means(self.encoder(images), GROUPS)
        return torch.stack(groups.chunk(2), dim=1)  # [2B,G,N,D] -> [B,2,G,N,D]

    def _encode_all(self, batches: Batches, report: Report) -> Tensor:
        """Every training pair's group means [n,2,G,N,D]; half precision on the host, the encoder never changes."""
        encoded: list[Tensor] = []
        total = len(batches)
        for done, batch in enumerate(batches, start=1):
            encoded.append(self._groups(batch).half().cpu())
            report(Progress("encode", done, total))
        return torch.cat(encoded)

    def _forward(self, batch: Batch) -> Reconstruction:
        groups = self._groups(batch)
        with self.compute.autocast():
            seen: Reconstruction = self.network(groups[:, 0], groups[:, 1])
        return _float(seen)

    def _loss(self, seen: Reconstruction) -> tuple[Tensor, dict[str, float]]:
        """Eq. 6: L_s + λ_a L_a + λ_p L_p, and the coherence that ties the prototypes to the data."""
        options = self.options
        if options.target == "fused":
            target = seen.fused.detach()
        else:
            shares = losses.soft_reconstruction(seen.fused.flatten(1, 2), seen.prototypes, options.temperature)
            target = shares.reshape(seen.fused.shape)
        shifts = self.shifts if options.centre else torch.zeros_like(self.shifts)
        kind, temperature = options.assignment, options.temperature
        parts = {
            "reconstruction": losses.reconstruction_loss(seen.rebuilt, target),
            "coherence": losses.coherence_loss(seen.unified, seen.prototypes, temperature),
            "consistency": losses.assignment_consistency_loss(
                seen.rgb + shifts[0], seen.geometry + shifts[1], seen.prototypes, temperature=temperature, kind=kind
            ),
            "entropy": losses.prototype_entropy_loss(seen.unified, seen.prototypes, temperature=temperature, kind=kind),
        }
        total = (
            parts["reconstruction"]
            + options.coherence_weight * parts["coherence"]
            + options.consistency_weight * parts["consistency"]
            + options.entropy_weight * parts["entropy"]
        )
        return total, {name: float(part.detach()) for name, part in parts.items()} | _collapse_gauges(seen)


def _collapse_gauges(seen: Reconstruction) -> dict[str, float]:
    reference = losses.spread((seen.rgb + seen.geometry) / 2)
    return {
        "effective_prototypes": losses.effective_prototypes(seen.unified, seen.prototypes),
        "prototype_cosine": losses.prototype_cosine(seen.prototypes),
        "fused_spread": losses.spread(seen.unified) / max(reference, 1e-12),
    }


class CollapseWatch:
    """Stops a training whose gauges have stood at their end stops for `patience` steps.

    A falling loss proves nothing: with one prototype for everything, or features that are all alike, it reaches zero.
    """

    def __init__(self, prototypes: int, patience: int) -> None:
        self.single = prototypes == 1
        self.patience = patience
        self.count = 0

    def look(self, values: Mapping[str, float], step: int) -> None:
        """Raise CollapseError naming the gauge."""
        fault = self._fault(values)
        self.count = self.count + 1 if fault else 0
        if self.count >= self.patience:
            raise CollapseError(
                f"the model collapsed by step {step}: {fault}; its scores would be worthless", COLLAPSE_CURE
            )

    def _fault(self, values: Mapping[str, float]) -> str:
        if values["fused_spread"] < 0.02:
            return f"the fusion threw the image away (fused_spread {values['fused_spread']:.4f}, a whole image has 1)"
        if self.single:
            return ""
        if values["effective_prototypes"] < 1.05:
            return f"one prototype serves every place (effective_prototypes {values['effective_prototypes']:.2f})"
        if values["prototype_cosine"] > 0.998:
            return f"all prototypes became one point (prototype_cosine {values['prototype_cosine']:.4f})"
        return ""


def _foreign_place(batch: Batch) -> tuple[slice, slice]:
    """Rows and columns of a square in the middle of the images."""
    height, width = batch.rgb.shape[-2:]
    edge = round(FOREIGN_PATCH * height)
    top, left = (height - edge) // 2, (width - edge) // 2
    return slice(top, top + edge), slice(left, left + edge)


def _with_foreign_patch(batch: Batch) -> Batch:
    """The batch with a checkered square in the middle of both images."""
    rgb, geometry = batch.rgb.clone(), batch.geometry.clone()
    rows, columns = _foreign_place(batch)
    edge = rows.stop - rows.start
    checks = ((torch.arange(edge)[:, None] // 7 + torch.arange(edge)[None] // 7) % 2).float()
    for image in (rgb, geometry):
        image[:, :, rows, columns] = checks
    return Batch(rgb, geometry, batch.valid)


def _first(batch: Batch, count: int) -> Batch:
    return Batch(batch.rgb[:count], batch.geometry[:count], batch.valid[:count])


def _float(seen: Reconstruction) -> Reconstruction:
    return Reconstruction(**{name: value.float() for name, value in vars(seen).items()})
