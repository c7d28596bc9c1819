"""UIP-AD as a method: features once, the paper's losses, eq. 11 as score, and the gauges against collapse."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from typing import ClassVar

import torch
from pydantic import BaseModel
from torch import Tensor
from torch.nn import functional

from uipad_cli.core import losses
from uipad_cli.core.backbone import Encoder, check_state
from uipad_cli.core.compute import Compute
from uipad_cli.core.graphs import RecordedStep
from uipad_cli.core.model import REFINING, Reconstruction
from uipad_cli.methods.base import Shelf, check_known, hash_seed
from uipad_cli.methods.collapse import CollapseWatch, blindness, check_sight, collapse_gauges
from uipad_cli.methods.descent import descend
from uipad_cli.methods.features import Features, encode_all
from uipad_cli.methods.scorer import Scorer, runner, scores_of
from uipad_cli.methods.uipad_options import UIPADOptions
from uipad_cli.methods.uipad_scorer import PLAIN, UIPADScorer, as_float
from uipad_cli.methods.uipad_views import MODALITIES, side_by_side
from uipad_cli.records import Batch, Batches, Modality, Report, Scores

FEATURE_FLOOR, RESIDUAL_FLOOR = 0.01, 0.05  # least variance of a direction when whitening, as a share of the mean one
CALIBRATED_PLACES, CALIBRATED_AT_ONCE = 20_000, 16
REMEMBERED_FROM = 200_000  # places that those to be remembered are chosen from


class UIPADMethod:
    """UIP-AD behind the one interface."""

    Options: ClassVar[type[BaseModel]] = UIPADOptions
    trains: ClassVar[bool] = True

    def __init__(self, encoder: Encoder, options: BaseModel, compute: Compute, seed: int) -> None:
        assert isinstance(options, UIPADOptions)
        self.options, self.compute, self.seed = options, compute, seed
        self.encoder = encoder.to(compute.device)
        self.scorer = UIPADScorer(self.encoder, options, compute, seed)
        self.run = runner(self.scorer, compute)
        self.network, self.learned, self.memories = self.scorer.network, self.scorer.learned, self.scorer.memories
        self.alone = tuple(view.known for view in self.scorer.views if view.known)

    def fit(
        self, batches: Batches, report: Report, resume: Mapping[str, Tensor] | None = None, shelf: Shelf | None = None
    ) -> None:
        """Encode every good pair once, then train the network on those features. Raises CollapseError."""
        features = self._features(batches, report, shelf)
        training = self.options.training
        watch = CollapseWatch(self.options.prototypes, training.total_steps(len(features)), report)
        self.learned.train()

        def draw(indices: Tensor, generator: torch.Generator) -> tuple[tuple[Tensor, Tensor], Modality | None]:
            chosen = features[indices]
            count = max(1, round(self.options.tokens * chosen.shape[3]))
            places = torch.randperm(chosen.shape[3], generator=generator)[:count].sort().values
            dropped, which = torch.rand(2, generator=generator).tolist()
            known = MODALITIES[int(which < 0.5)] if self.alone and dropped < self.options.dropout else None
            return (chosen, places.to(self.compute.device)), known

        def loss(drawn: tuple[Tensor, Tensor], known: Modality | None) -> tuple[Tensor, dict[str, Tensor]]:
            chosen, places = drawn
            with self.compute.training_autocast():
                seen = self.network(chosen[:, 0], chosen[:, 1], places, known)
            return self._loss(as_float(seen))

        # a trained fusion is indexed, and the gradient of an index sorts, which waits for the device
        recorded = self.compute.device.type == "cuda" and self.options.fusion == "mean"
        loss_of_step = RecordedStep(self.network, draw, loss) if recorded else lambda *step: loss(*draw(*step))
        if resume is not None:
            resume = _without_idle(resume, {f"network/{name}" for name in self.network.state_dict()})
        descend(
            self.network, loss_of_step, training,
            samples=len(features), seed=self.seed, report=watch.look, resume=resume,
        )  # fmt: skip
        self.learned.eval()
        self._calibrate(features)
        self.run = runner(self.scorer, self.compute)
        check_sight(self.score, next(iter(batches)))

    @torch.no_grad()
    def score(self, batch: Batch) -> Scores:
        """Map [B,H,W] and image score [B] of a batch (eq. 11), from the modality that is there where one is missing.

        Raises UsageError where one is missing and the method has not learned to do without.
        """
        check_known(batch, self.alone)
        self.learned.eval()
        return scores_of(self.run, self.scorer, batch, self.compute.device)

    @torch.no_grad()
    def gauges(self, batch: Batch) -> dict[str, float]:
        """Collapse gauges on good parts, and how far a pasted foreign patch stands out (1 = blind)."""
        self.learned.eval()
        seen = self._seen(batch)
        told = {name: float(value) for name, value in collapse_gauges(seen).items()}
        return told | {"foreign_patch_ratio": blindness(self.score, batch)}

    @torch.no_grad()
    def owners(self, batch: Batch) -> Tensor:
        """Which prototype every place of a pair is nearest to: indices [B,h,w] of 0..M-1."""
        self.learned.eval()
        seen = self._seen(batch)
        nearest = losses.similarities(seen.unified, seen.prototypes).argmax(dim=-1)
        return nearest.reshape(len(batch), *self.encoder.grid).cpu()

    def graph(self) -> Scorer:
        """All of scoring but the image score, as one network."""
        return self.scorer.eval()

    def lighten(self, compute: Compute) -> None:
        """Only score from now on, there and so precisely, all weights kept in that precision."""
        self.compute = compute
        self.scorer.lighten(compute)
        self.run = runner(self.scorer, compute)

    def pretend(self, parts: int) -> None:
        """Hold so much as `fit` would keep of so many good parts, of random content: to measure time by."""
        places = parts * self.options.phases**2 * math.prod(self.encoder.grid)
        for memory in self.memories.values():
            count = min(self.options.memory, places)
            bank = torch.randn(count, memory.bank.shape[1], generator=torch.Generator().manual_seed(self.seed))
            memory.make_room(bank)
            memory.bank.copy_(functional.normalize(bank, dim=-1))

    def state(self) -> dict[str, Tensor]:
        """Network weights, what standardises the features, what good residuals are like, and good patches."""
        return {name: value.detach().cpu().contiguous() for name, value in self.learned.state_dict().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave. Raises ValueError naming keys that do not fit."""
        for name, memory in self.memories.items():  # as many patches as there were
            memory.make_room(state.get(f"memories.{name}.bank"))
        wanted = self.state()
        state = _without_idle(state, wanted)
        check_state(wanted, state)
        self.learned.load_state_dict(state)
        self.learned.eval()
        self.run = runner(self.scorer, self.compute)

    def _seen(self, batch: Batch) -> Reconstruction:
        """What the network makes of a batch, as in judging."""
        return as_float(self.scorer.seen(*self._images(batch), batch.known))

    def _encoded(self, batch: Batch) -> Tensor:
        return self.scorer.encoded(*self._images(batch))

    def _images(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return batch.rgb.to(self.compute.device), batch.geometry.to(self.compute.device)

    @torch.no_grad()
    def _features(self, batches: Batches, report: Report, shelf: Shelf | None) -> Features:
        """Every training pair's standardised group means, rows [2,G,N,D], several looks at each.

        Always computed in float32, as scoring does: whitening makes small differences count.
        """
        length = "" if self.options.features == "plain" else " of unit length"
        kind = f"{' '.join(MODALITIES)}, group means{length}, {torch.float32}"
        features = encode_all(
            batches, self._encoded, self.encoder, report, phases=self.options.phases, kind=kind, shelf=shelf
        )
        self._remember(features)
        samples = features.at(self._drawn(features.places, 3 * CALIBRATED_PLACES, 6)).flatten(1, 2)  # [·,2G,D]
        if self.options.features == "white":
            self.scorer.standard.fit(samples, FEATURE_FLOOR)
        elif self.options.features == "centred":
            self.scorer.standard.centre(samples)
        features.change(self.scorer.standardised)
        return features

    def _remember(self, features: Features) -> None:
        """Some good places of each modality, from features as the encoder gives them."""
        drawn = self._drawn(features.places, REMEMBERED_FROM, 9)
        owners = features.owners[drawn // features.shape[2]]
        for part, memory in enumerate(self.memories.values()):
            patches = features.at(drawn, slice(part, part + 1)).flatten(1)
            seeds = hash_seed(self.seed, 3), hash_seed(self.seed, 4)
            memory.remember(patches, owners, self.options.memory, seeds)

    def _drawn(self, count: int, wanted: int, stream: int) -> Tensor:
        """Indices of so many good places as wanted, in order."""
        generator = torch.Generator().manual_seed(hash_seed(self.seed, stream))
        return torch.randperm(count, generator=generator)[:wanted].sort().values

    @torch.no_grad()
    def _calibrate(self, features: Features) -> None:
        """Learn what residuals good places have, once for each way of looking."""
        if self.options.score in PLAIN:
            return
        share = max(1, CALIBRATED_PLACES // len(features))
        at_once = CALIBRATED_AT_ONCE if self.compute.device.type == "cuda" else 1
        for known in dict.fromkeys(view.known for view in self.scorer.views):
            views = [view for view in self.scorer.views if view.known == known]
            generator = torch.Generator().manual_seed(hash_seed(self.seed, 7))
            residuals: dict[str, list[Tensor]] = {view.name: [] for view in views}
            inputs: list[Tensor] = []
            for rows in torch.split(torch.arange(len(features)), at_once):
                groups = features[rows]
                # every place is decoded, as when scoring: eq. 5 refines the prototypes from what is decoded
                seen = self.scorer.rebuilt(groups, (known,))[known]
                places = torch.stack([torch.randperm(groups.shape[3], generator=generator)[:share] for _ in rows])
                drawn = torch.arange(len(rows))[:, None], places
                inputs.append(side_by_side(groups, known)[drawn].flatten(0, 1))
                for view in views:
                    residuals[view.name].append(self.scorer.residuals(seen, view)[drawn].flatten(0, 1))
            for view in views:
                self.scorer.judges[view.name].fit(torch.cat(residuals[view.name]), torch.cat(inputs), RESIDUAL_FLOOR)

    def _loss(self, seen: Reconstruction) -> tuple[Tensor, dict[str, Tensor]]:
        """Eq. 6: L_s + λ_a L_a + λ_p L_p, and the coherence that ties the prototypes to the data."""
        options = self.options
        target = seen.present.detach()
        if options.target == "prototypes":
            shares = losses.soft_reconstruction(seen.present.flatten(1, 2), seen.prototypes, options.temperature)
            target = shares.reshape(seen.present.shape)
        kind, temperature = options.assignment, options.temperature
        parts = {
            "reconstruction": losses.reconstruction_loss(seen.rebuilt, target, options.distance),
            "coherence": losses.coherence_loss(seen.unified, seen.prototypes, temperature),
            "consistency": losses.assignment_consistency_loss(
                seen.rgb, seen.geometry, seen.prototypes, temperature=temperature, kind=kind
            ),
            "entropy": losses.prototype_entropy_loss(seen.unified, seen.prototypes, temperature=temperature, kind=kind),
        }
        total = (
            parts["reconstruction"]
            + options.coherence_weight * parts["coherence"]
            + options.consistency_weight * parts["consistency"]
            + options.entropy_weight * parts["entropy"]
        )
        return total, {name: part.detach() for name, part in parts.items()} | collapse_gauges(seen)


def _without_idle(state: Mapping[str, Tensor], wanted: Container[str]) -> dict[str, Tensor]:
    """A state of before, less the refinement in the last blocks, which nothing ever looked at."""
    idle = set(REFINING)
    return {
        name: value
        for name, value in state.items()
        if name in wanted or name.startswith("optimizer/") or not idle & set(name.split("."))
    }
