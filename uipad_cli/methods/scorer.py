"""The one road from framed images to scores: what `score`, an export and a recorded CUDA graph share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from uipad_cli.core import scoring
from uipad_cli.core.compute import Compute
from uipad_cli.core.graphs import OFTEN, Recorded
from uipad_cli.errors import ResourceError
from uipad_cli.records import Batch, Modality, Scores, Voice

Run = Callable[..., tuple[Tensor, ...]]


class Scorer(nn.Module):
    """Framed images → map and voices, with all that a method has learned.

    compute: where and how precisely; grid: tokens (h, w); voices: what is told apart where both images are known;
    top, measured: of the image score, which is no part of it; light: all is kept in the precision of `compute`.
    """

    grid: tuple[int, int]
    voices: tuple[Voice, ...] = ()
    top: float
    measured: float
    compute: Compute
    light: bool = False

    def products(self) -> AbstractContextManager[object]:
        """In which products run in the precision that was chosen, where not all is kept in it."""
        return nullcontext() if self.light else self.compute.autocast()

    def by_place(self, values: Tensor) -> Tensor:
        """[B,N] → [B,h,w]."""
        return values.reshape(values.shape[0], *self.grid)

    @staticmethod
    def by_image(values: Tensor, images: int) -> Tensor:
        """Of so many kinds of images one after the other [images·B,...] → [B,images,...]."""
        count = values.shape[0] // images  # no `chunk`, `len` or `unflatten`: they would fix an export's batch
        return torch.stack([values[place * count : (place + 1) * count] for place in range(images)], dim=1)

    def forward(self, rgb: Tensor, geometry: Tensor, known: Modality | None = None) -> tuple[Tensor, ...]:
        """Images [B,3,H,W] → map [B,H,W], then what each voice says [B,h,w]; the map alone where one is missing."""
        raise NotImplementedError


def runner(scorer: Scorer, compute: Compute) -> Run:
    """What runs the scorer, as it is now: itself, compiled if wished, on CUDA as a recorded graph."""
    run: Run = _compiled(scorer) if compute.compiled else scorer
    return Recorded(run) if compute.device.type == "cuda" else run


def _compiled(scorer: Scorer) -> Run:
    """Compiled for the size of batch that comes first, and for what comes OFTEN; else, as the last one, as it is."""
    compiled: Run = torch.compile(scorer, dynamic=False)
    calls: Counter[object] = Counter()
    shapes: set[object] = set()

    def run(rgb: Tensor, geometry: Tensor, known: Modality | None) -> tuple[Tensor, ...]:
        key = (tuple(rgb.shape), known)
        calls[key] += 1
        if not shapes or calls[key] >= OFTEN:
            shapes.add(key)
        return (compiled if key in shapes else scorer)(rgb, geometry, known)

    return run


@torch.no_grad()
def scores_of(run: Run, scorer: Scorer, batch: Batch, device: torch.device) -> Scores:
    """Map [B,H,W], image score [B] and voices of a batch, all of it worked out on the device."""
    rgb, geometry = (image.to(device, non_blocking=True) for image in (batch.rgb, batch.geometry))
    try:
        maps, *said = run(rgb, geometry, batch.known)
    except Exception as error:  # a compiler fails in many ways
        if not scorer.compute.compiled or isinstance(error, torch.OutOfMemoryError):
            raise
        reason = str(error).strip().partition("\n")[0]
        raise ResourceError(f"the network cannot be compiled here: {reason}", "leave --compile out") from error
    counted = scoring.measured_places(batch.valid.to(device, non_blocking=True), scorer.grid, scorer.measured)
    image = scoring.image_score(maps, scorer.top, counted)
    voices = dict(zip(scorer.voices, (one.cpu() for one in said), strict=False))
    return Scores(maps.cpu(), image.cpu(), voices)
