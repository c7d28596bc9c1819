"""What tells a collapsed model from a good one, and stops a training that has become worthless."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from uipad_cli.core import losses
from uipad_cli.core.model import Reconstruction
from uipad_cli.methods.base import CollapseError
from uipad_cli.records import Batch, Progress, Report, Scores

FOREIGN_PATCH = 0.15  # edge of the pasted patch of the blindness gauge, as a share of the image
PATIENCE = 50  # steps
BLIND_RATIO = 1.5  # map in a pasted foreign patch over the map there without it
CURE = (
    "use the default options (features: white, fusion: mean, target: modalities, coherence_weight: 0.2), "
    "or another backbone"
)


def collapse_gauges(seen: Reconstruction) -> dict[str, Tensor]:
    """Effective prototypes, their mean cosine, and the fused features' spread as a share of the plain mean's."""
    reference = losses.spread((seen.rgb + seen.geometry) / 2)
    return {
        "effective_prototypes": losses.effective_prototypes(seen.unified, seen.prototypes),
        "prototype_cosine": losses.prototype_cosine(seen.prototypes),
        "fused_spread": losses.spread(seen.unified) / reference.clamp(min=1e-12),
    }


class CollapseWatch:
    """Stops a training whose gauges have stood at their end stops for many steps, a quarter of it at most.

    A falling loss proves nothing: with one prototype for everything, or features that are all alike, it reaches zero.
    The count starts anew where a run is resumed.
    """

    def __init__(self, prototypes: int, steps: int, report: Report, patience: int = PATIENCE) -> None:
        self.single, self.report = prototypes == 1, report
        self.patience = min(patience, max(1, steps // 4))
        self.count = 0

    def look(self, progress: Progress) -> None:
        """Pass a training step on, then raise CollapseError naming the gauge if it is time."""
        self.report(progress)
        fault = self._fault(progress.values)
        self.count = self.count + 1 if fault else 0
        if self.count >= self.patience:
            raise CollapseError(
                f"the model collapsed by step {progress.done}: {fault}; its scores would be worthless", CURE
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


def blindness(score: Callable[[Batch], Scores], batch: Batch) -> float:
    """How many times higher the map is in a pasted foreign patch than there without it; 1 = blind."""
    rows, columns = _foreign_place(batch)
    before = score(batch).map[:, rows, columns].mean(dim=(1, 2))
    after = score(_with_foreign_patch(batch)).map[:, rows, columns].mean(dim=(1, 2))
    return float((after / before.clamp(min=1e-12)).mean())


def check_sight(score: Callable[[Batch], Scores], batch: Batch) -> None:
    """Raise CollapseError when a foreign patch on good parts does not stand out."""
    ratio = blindness(score, Batch(batch.rgb[:2], batch.geometry[:2], batch.valid[:2]))
    if ratio < BLIND_RATIO:
        raise CollapseError(f"the model is blind: a foreign patch scores {ratio:.2f} times what was there", CURE)


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
