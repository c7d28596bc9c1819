"""UIP-AD as a method: features once, the paper's losses, eq. 11 as score, and the gauges against collapse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.nn import functional

from uipad_cli.core import losses, scoring
from uipad_cli.core.backbone import Encoder, check_state, group_means
from uipad_cli.core.compute import Compute
from uipad_cli.core.memory import PatchMemory
from uipad_cli.core.model import UIPAD, Modality, Reconstruction
from uipad_cli.core.residuals import Surprise, Whitening, soft_maximum
from uipad_cli.methods.base import check_known, descend, hash_seed, looks
from uipad_cli.methods.collapse import CollapseWatch, blindness, check_sight, collapse_gauges
from uipad_cli.methods.uipad_options import UIPADOptions
from uipad_cli.methods.uipad_views import MODALITIES, VOICES, View, side_by_side, views_of
from uipad_cli.records import Batch, Batches, Progress, Report, Scores, Voice

GROUPS = 2
FEATURE_FLOOR, RESIDUAL_FLOOR = 0.01, 0.05  # least variance of a direction when whitening, as a share of the mean one
CALIBRATED_PLACES = 20_000
REMEMBERED_FROM = 200_000  # places that those to be remembered are chosen from
PLAIN = ("cosine", "prototypes")  # scores that need no calibration


class UIPADMethod:
    """UIP-AD behind the one interface."""

    Options: ClassVar[type[BaseModel]] = UIPADOptions
    trains: ClassVar[bool] = True

    def __init__(self, encoder: Encoder, options: BaseModel, compute: Compute, seed: int) -> None:
        assert isinstance(options, UIPADOptions)
        self.options, self.compute, self.seed = options, compute, seed
        self.encoder = encoder.to(compute.device)
        self.parts = 2 if options.target == "modalities" else 1
        groups = GROUPS if options.comparison == "groups" else 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hash_seed(seed, 2))
            network = UIPAD(
                encoder.width, compared="modalities" if self.parts == 2 else "unified",
                **options.model_dump(include=_NETWORK),
            )  # fmt: skip
        self.network, self.standard = network, Whitening(2 * GROUPS, encoder.width)
        self.views = views_of(self.parts, options.dropout)
        self.alone = tuple(view.known for view in self.views if view.known)
        self.judges = {
            view.name: Surprise(
                groups * encoder.width, (1 if view.known else 2) * GROUPS * encoder.width, hash_seed(seed, 5)
            )
            for view in self.views
        }
        remembers = options.memory and self.parts == 2 and options.score not in PLAIN
        self.memories = {name: PatchMemory(GROUPS * encoder.width) for name in MODALITIES} if remembers else {}
        judges = nn.ModuleDict(self.judges)
        memories = nn.ModuleDict({str(name): memory for name, memory in self.memories.items()})
        self.learned = nn.ModuleDict(
            {"network": network, "standard": self.standard, "judges": judges, "memories": memories}
        )
        self.learned.to(compute.device)

    def fit(self, batches: Batches, report: Report, resume: Mapping[str, Tensor] | None = None) -> None:
        """Encode every good pair once, then train the network on those features. Raises CollapseError."""
        features = self._encode_all(batches, report)
        training = self.options.training
        watch = CollapseWatch(self.options.prototypes, training.total_steps(len(features)), report)
        self.learned.train()

        def loss_of_step(indices: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            chosen = features[indices].to(self.compute.device, torch.float32)
            count = max(1, round(self.options.tokens * chosen.shape[3]))
            places = torch.randperm(chosen.shape[3], generator=generator)[:count].sort().values
            dropped, which = torch.rand(2, generator=generator).tolist()
            known = MODALITIES[int(which < 0.5)] if self.alone and dropped < self.options.dropout else None
            with self.compute.training_autocast():
                seen = self.network(chosen[:, 0], chosen[:, 1], places.to(self.compute.device), known)
            return self._loss(_float(seen))

        descend(
            self.network, loss_of_step, training,
            samples=len(features), seed=self.seed, report=watch.look, resume=resume,
        )  # fmt: skip
        self.learned.eval()
        self._calibrate(features)
        check_sight(self.score, next(iter(batches)))

    @torch.no_grad()
    def score(self, batch: Batch) -> Scores:
        """Map [B,H,W] and image score [B] of a batch (eq. 11), from the modality that is there where one is missing.

        Raises UsageError where one is missing and the method has not learned to do without.
        """
        check_known(batch, self.alone)
        self.learned.eval()
        with self.compute.autocast():
            encoded = self._encoded(batch)
        distances, voices = self._distances(encoded, batch.known)
        height, width = batch.rgb.shape[-2:]
        maps = scoring.upsampled_map(
            distances, grid=self.encoder.grid, size=(height, width), sigma=self.options.blur
        ).cpu()
        counted = scoring.measured_places(batch.valid.cpu(), self.encoder.grid, self.options.measured)
        said = {name: value.reshape(-1, *self.encoder.grid).cpu() for name, value in voices.items()}
        return Scores(maps, scoring.image_score(maps, self.options.top, counted), said)

    @torch.no_grad()
    def gauges(self, batch: Batch) -> dict[str, float]:
        """Collapse gauges on good parts, and how far a pasted foreign patch stands out (1 = blind)."""
        self.learned.eval()
        groups = self._groups(batch)
        with self.compute.autocast():
            seen = _float(self.network(groups[:, 0], groups[:, 1]))
        return collapse_gauges(seen) | {"foreign_patch_ratio": blindness(self.score, batch)}

    @torch.no_grad()
    def owners(self, batch: Batch) -> Tensor:
        """Which prototype every place of a pair is nearest to: indices [B,h,w] of 0..M-1."""
        self.learned.eval()
        groups = self._groups(batch)
        with self.compute.autocast():
            seen = _float(self.network(groups[:, 0], groups[:, 1], None, batch.known))
        nearest = losses.similarities(seen.unified, seen.prototypes).argmax(dim=-1)
        return nearest.reshape(len(batch), *self.encoder.grid).cpu()

    def state(self) -> dict[str, Tensor]:
        """Network weights, what standardises the features, what good residuals are like, and good patches."""
        return {name: value.detach().cpu().contiguous() for name, value in self.learned.state_dict().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave. Raises ValueError naming keys that do not fit."""
        for name, memory in self.memories.items():  # as many patches as there were
            memory.make_room(state.get(f"memories.{name}.bank"))
        check_state(self.state(), state)
        self.learned.load_state_dict(state)
        self.learned.eval()

    def _groups(self, batch: Batch) -> Tensor:
        """Both modalities through the shared encoder in one batch → standardised group means [B,2,G,N,D], float32."""
        with self.compute.autocast():
            raw = self._encoded(batch)
        return self._standardised(raw)

    def _encoded(self, batch: Batch) -> Tensor:
        images = torch.cat((batch.rgb, batch.geometry)).to(self.compute.device)
        groups = torch.stack(group_means(self.encoder(images), GROUPS).chunk(2), dim=1)  # [2B,G,N,D] -> [B,2,G,N,D]
        return groups if self.options.features == "plain" else functional.normalize(groups.float(), dim=-1)

    def _standardised(self, groups: Tensor) -> Tensor:
        standard: Tensor = self.standard(groups.flatten(1, 2).float())
        return standard.reshape(groups.shape)

    @torch.no_grad()
    def _encode_all(self, batches: Batches, report: Report) -> Tensor:
        """Every training pair's standardised group means [n,2,G,N,D], several looks at each; kept in half precision.

        Always computed in float32, as scoring does: whitening makes small differences count.
        """
        encoded: list[Tensor] = []
        owners: list[Tensor] = []
        parts = 0
        for done, batch in enumerate(batches, start=1):
            for look in looks(batch, self.encoder.patch, self.options.phases):
                encoded.append(self._encoded(look).half().cpu())
                owners.append(torch.arange(parts, parts + len(batch)))
            parts += len(batch)
            report(Progress("encode", done, len(batches)))
        features = torch.cat(encoded)
        encoded.clear()
        self._remember(features, torch.cat(owners))
        count = features.shape[3]
        drawn = self._drawn(len(features) * count, 3 * CALIBRATED_PLACES, 6)
        samples = features.flatten(1, 2)[drawn // count, :, drawn % count]  # [·,2G,D]
        samples = samples.float().to(self.compute.device)
        if self.options.features == "white":
            self.standard.fit(samples, FEATURE_FLOOR)
        elif self.options.features == "centred":
            self.standard.centre(samples)
        for place in range(len(features)):
            features[place] = self._standardised(features[place : place + 1].to(self.compute.device))[0].half().cpu()
        return features

    def _remember(self, features: Tensor, owners: Tensor) -> None:
        """Some good places of each modality, of the parts `owners` [n], from features as the encoder gives them."""
        count = features.shape[3]
        drawn = self._drawn(len(features) * count, REMEMBERED_FROM, 9)
        for part, memory in enumerate(self.memories.values()):
            patches = features[drawn // count, part, :, drawn % count].flatten(1).float()
            seeds = hash_seed(self.seed, 3), hash_seed(self.seed, 4)
            memory.remember(patches.to(self.compute.device), owners[drawn // count], self.options.memory, seeds)

    def _drawn(self, count: int, wanted: int, stream: int) -> Tensor:
        """Indices of so many good places as wanted, in order."""
        generator = torch.Generator().manual_seed(hash_seed(self.seed, stream))
        return torch.randperm(count, generator=generator)[:wanted].sort().values

    @torch.no_grad()
    def _calibrate(self, features: Tensor) -> None:
        """Learn what residuals good places have, once for each way of looking."""
        if self.options.score in PLAIN:
            return
        share = max(1, CALIBRATED_PLACES // len(features))
        for view in self.views:
            generator = torch.Generator().manual_seed(hash_seed(self.seed, 7))
            residuals, inputs = [], []
            for pair in features:
                groups = pair[None].float().to(self.compute.device)
                places = torch.randperm(groups.shape[3], generator=generator)[:share]
                # every place is decoded, as when scoring: eq. 5 refines the prototypes from what is decoded
                seen = _float(self.network(groups[:, 0], groups[:, 1], None, view.known))
                residuals.append(self._residuals(seen, view)[0, places])
                inputs.append(side_by_side(groups, view.known)[0, places])
            self.judges[view.name].fit(torch.cat(residuals), torch.cat(inputs), RESIDUAL_FLOOR)

    def _residuals(self, seen: Reconstruction, view: View) -> Tensor:
        """[B,N,G·D]: what was there less what was rebuilt; directions alone where eq. 8 compares directions."""
        present, rebuilt = (pair.chunk(self.parts, dim=1)[view.part] for pair in (seen.present, seen.rebuilt))
        if self.options.distance == "cosine":
            present, rebuilt = functional.normalize(present, dim=-1), functional.normalize(rebuilt, dim=-1)
        return (present - rebuilt).transpose(1, 2).flatten(2)

    def _distances(self, encoded: Tensor, known: Modality | None) -> tuple[Tensor, dict[Voice, Tensor]]:
        """Of every place [B,C,N], and what each voice says of it [B,N], where they can be told apart."""
        groups = self._standardised(encoded)
        views = [view for view in self.views if known in (None, view.known)]
        ways = [known] if self.options.score in PLAIN else dict.fromkeys(view.known for view in views)
        rebuilt: dict[Modality | None, Reconstruction] = {}
        with self.compute.autocast():
            for one in ways:
                rebuilt[one] = _float(self.network(groups[:, 0], groups[:, 1], None, one))
        if self.options.score == "prototypes":
            return self._from_mixture(rebuilt[known])[:, None], {}
        if self.options.score == "cosine":
            seen = rebuilt[known]
            distances = losses.cosine_distance(seen.present, seen.rebuilt)
            return (distances if known is None else distances.chunk(self.parts, dim=1)[views[0].part]), {}
        found = [(VOICES[view.known], self._surprise(rebuilt[view.known], groups, view)) for view in views]
        found += [
            (VOICES[name], torch.stack([memory(places) for places in side_by_side(encoded.float(), name)]))
            for name, memory in self.memories.items()
            if known in (None, name)
        ]
        spoken = dict.fromkeys(voice for voice, _ in found)
        voices = {one: soft_maximum(torch.stack([said for voice, said in found if voice == one])) for one in spoken}
        return soft_maximum(torch.stack([said for _, said in found]))[:, None], voices if len(voices) > 1 else {}

    def _from_mixture(self, seen: Reconstruction) -> Tensor:
        """[B,N]: 1 − cos(x, x̃) of the fused feature; one image at a time, as `_surprise`."""
        pairs = zip(seen.unified, seen.prototypes, strict=True)
        mixtures = [losses.soft_reconstruction(x[None], p[None], self.options.temperature) for x, p in pairs]
        return losses.cosine_distance(seen.unified, torch.cat(mixtures))

    def _surprise(self, seen: Reconstruction, groups: Tensor, view: View) -> Tensor:
        """[B,N] of one way of looking; one image at a time: how a product rounds depends on its size."""
        judge, residuals = self.judges[view.name], self._residuals(seen, view)
        if self.options.score == "whitened":
            return torch.stack([judge.plain(one) for one in residuals])
        return torch.stack([judge(*pair) for pair in zip(residuals, side_by_side(groups, view.known), strict=True)])

    def _loss(self, seen: Reconstruction) -> tuple[Tensor, dict[str, float]]:
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
        return total, {name: float(part.detach()) for name, part in parts.items()} | collapse_gauges(seen)


_NETWORK = {"prototypes", "gather", "blocks", "fusion", "query", "attention", "residual", "refine", "comparison"}


def _float(seen: Reconstruction) -> Reconstruction:
    return Reconstruction(**{name: value.float() for name, value in vars(seen).items()})
