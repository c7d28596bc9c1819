"""How UIP-AD judges: features, the network's reconstructions, eq. 11's residuals, and what good parts show there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from uipad_cli.core import losses, scoring
from uipad_cli.core.backbone import Encoder
from uipad_cli.core.compute import Compute, coarse, each
from uipad_cli.core.memory import PatchMemory
from uipad_cli.core.model import UIPAD, WAYS, Modality, Reconstruction
from uipad_cli.core.residuals import Surprise, Whitening, soft_maximum
from uipad_cli.methods.base import hash_seed
from uipad_cli.methods.scorer import Scorer
from uipad_cli.methods.uipad_options import UIPADOptions
from uipad_cli.methods.uipad_views import MODALITIES, VOICES, View, side_by_side, views_of
from uipad_cli.records import Voice

GROUPS = 2
PLAIN = ("cosine", "prototypes")  # scores that need no calibration


class UIPADScorer(Scorer):
    """The network of the paper with what standardises its features, what good residuals are like, and good patches."""

    def __init__(self, encoder: Encoder, options: UIPADOptions, compute: Compute, seed: int) -> None:
        super().__init__()
        self.options, self.compute = options, compute
        self.encoder, self.grid = encoder, encoder.grid
        self.top, self.measured = options.top, options.measured
        self.parts = 2 if options.target == "modalities" else 1
        groups = GROUPS if options.comparison == "groups" else 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hash_seed(seed, 2))
            self.network = UIPAD(
                encoder.width, compared="modalities" if self.parts == 2 else "unified",
                **options.model_dump(include=_NETWORK),
            )  # fmt: skip
        self.standard = Whitening(2 * GROUPS, encoder.width)
        self.views = views_of(self.parts, options.dropout)
        self.judges: dict[str, Surprise] = {
            view.name: Surprise(
                groups * encoder.width, (1 if view.known else 2) * GROUPS * encoder.width, hash_seed(seed, 5)
            )
            for view in self.views
        }
        remembers = options.memory and self.parts == 2 and options.score not in PLAIN
        self.memories = {name: PatchMemory(GROUPS * encoder.width) for name in MODALITIES} if remembers else {}
        self.voices = self._voices()
        self.learned = nn.ModuleDict(
            {
                "network": self.network,
                "standard": self.standard,
                "judges": nn.ModuleDict(self.judges),
                "memories": nn.ModuleDict({str(name): memory for name, memory in self.memories.items()}),
            }
        )
        self.learned.to(compute.device)

    def forward(self, rgb: Tensor, geometry: Tensor, known: Modality | None = None) -> tuple[Tensor, ...]:
        """As every `Scorer`."""
        distances, said = self.distances(self._encoded(rgb, geometry), known)
        size = (int(rgb.shape[-2]), int(rgb.shape[-1]))
        maps = scoring.upsampled_map(distances, grid=self.grid, size=size, sigma=self.options.blur)
        return maps, *(self.by_place(one) for one in said)

    def seen(self, rgb: Tensor, geometry: Tensor, known: Modality | None) -> Reconstruction:
        """What the network makes of images [B,3,H,W]."""
        groups = self._groups(self._encoded(rgb, geometry))
        with self.products():
            return self.rebuilt(groups, (known,))[known]

    def encoded(self, rgb: Tensor, geometry: Tensor) -> Tensor:
        """Both modalities through the shared encoder in one batch → group means [B,2,G,N,D], float32."""
        seen = self.encoder.group_means(torch.cat((rgb, geometry)), GROUPS)
        groups = self.by_image(seen, 2)  # [2B,G,N,D] -> [B,2,G,N,D]
        return groups if self.options.features == "plain" else functional.normalize(groups.float(), dim=-1)

    def _encoded(self, rgb: Tensor, geometry: Tensor) -> Tensor:
        with self.products():
            return self.encoded(rgb, geometry)

    def standardised(self, groups: Tensor) -> Tensor:
        """Group means [B,2,G,N,D] as the network reads them; float32, for whitening makes small differences count."""
        standard: Tensor = self.standard(groups.flatten(1, 2).float())
        return standard.reshape(groups.shape)

    def rebuilt(
        self, groups: Tensor, known: Sequence[Modality | None] = (None,)
    ) -> dict[Modality | None, Reconstruction]:
        """What the network makes of standardised groups; of a known modality, its own reconstruction alone."""
        ways = [way for way in WAYS if way in known]
        found = self.network.ways(groups[:, 0], groups[:, 1], ways, lone=True)
        return found if self.light else {way: as_float(seen) for way, seen in found.items()}

    def residuals(self, seen: Reconstruction, view: View) -> Tensor:
        """[B,N,G·D]: what was there less what was rebuilt; directions alone where eq. 8 compares directions."""
        # of a known modality alone, the comparison has no other part
        pairs = (seen.present, seen.rebuilt)
        present, rebuilt = pairs if view.known else (pair.chunk(self.parts, dim=1)[view.part] for pair in pairs)
        if self.options.distance == "cosine":
            present, rebuilt = functional.normalize(present, dim=-1), functional.normalize(rebuilt, dim=-1)
        return (present - rebuilt).transpose(1, 2).flatten(2)

    def distances(self, encoded: Tensor, known: Modality | None) -> tuple[Tensor, list[Tensor]]:
        """Of every place [B,C,N], and what each of `voices` says of it [B,N], where both images are known."""
        known_by = [name for name in self.memories if known in (None, name)]
        met = [(VOICES[name], each(self.memories[name], side_by_side(encoded.float(), name))) for name in known_by]
        groups = self._groups(encoded)
        del encoded  # nobody else holds it, and memory on a device is dear
        if self.options.score in PLAIN:
            return self._plain(groups, known), []
        views = [view for view in self.views if known in (None, view.known)]
        inputs = side_by_side(groups, None)  # [B,N,2·G·D], colour first
        half = inputs.shape[-1] // 2
        features = {None: inputs, "rgb": inputs[..., :half], "geometry": inputs[..., half:]}
        with self.products():
            rebuilt = self.rebuilt(groups, [view.known for view in views])
            found = [
                (VOICES[view.known], self._surprise(rebuilt[view.known], features[view.known], view)) for view in views
            ]
        found += met
        said = [
            soft_maximum(torch.stack([value for one, value in found if one == voice]))
            for voice in (self.voices if known is None else ())
        ]
        return soft_maximum(torch.stack([value for _, value in found]))[:, None], said

    def lighten(self, compute: Compute) -> None:
        """Keep everything, the encoder too, there and in this precision; float32 is only moved."""
        self.compute = compute
        if compute.dtype != torch.float32:
            self.light = True
            self.encoder.lighten(compute.dtype)
            self.network.to(compute.dtype)
            for judge in self.judges.values():
                judge.lighten(compute)
            for memory in self.memories.values():
                memory.lighten(compute.device)
        self.encoder.to(compute.device)
        self.learned.to(compute.device)

    def _groups(self, encoded: Tensor) -> Tensor:
        """Standardised groups as the network wants them."""
        with coarse(self.compute):
            groups = self.standardised(encoded)
        return groups.to(self.compute.dtype) if self.light else groups

    def _plain(self, groups: Tensor, known: Modality | None) -> Tensor:
        """[B,C,N] of the scores that need no calibration."""
        with self.products():
            seen = as_float(self.rebuilt(groups, (known,))[known])
        if self.options.score == "prototypes":
            return each(self._from_mixture, seen.unified, seen.prototypes)[:, None]
        return losses.cosine_distance(seen.present, seen.rebuilt)

    def _voices(self) -> tuple[Voice, ...]:
        """What can be told apart where both images are known; a lone voice tells nothing."""
        if self.options.score in PLAIN:
            return ()
        spoken = dict.fromkeys([VOICES[view.known] for view in self.views] + [VOICES[name] for name in self.memories])
        return tuple(spoken) if len(spoken) > 1 else ()

    def _from_mixture(self, unified: Tensor, prototypes: Tensor) -> Tensor:
        """[B,N]: 1 − cos(x, x̃) of the fused feature."""
        return losses.cosine_distance(
            unified, losses.soft_reconstruction(unified, prototypes, self.options.temperature)
        )

    def _surprise(self, seen: Reconstruction, features: Tensor, view: View) -> Tensor:
        """[B,N] of one way of looking."""
        judge, residuals = self.judges[view.name], self.residuals(seen, view)
        if self.options.score == "whitened":
            return each(judge.plain, residuals)
        return each(judge, residuals, features)


def as_float(seen: Reconstruction) -> Reconstruction:
    """The same in float32."""
    return Reconstruction(**{name: value.float() for name, value in vars(seen).items()})


_NETWORK = {"prototypes", "gather", "blocks", "fusion", "query", "attention", "residual", "refine", "comparison"}
