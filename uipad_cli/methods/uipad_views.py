"""The ways in which UIP-AD looks at a pair: what is known, what is compared, and what good parts are like there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from torch import Tensor

from uipad_cli.records import Modality, Voice

MODALITIES: tuple[Modality, ...] = get_args(Modality)
VOICES: dict[Modality | None, Voice] = {None: "pair", "rgb": "colour", "geometry": "geometry"}  # by what is known
_PLACE = {"rgb": slice(0, 1), "geometry": slice(1, 2)}


@dataclass(frozen=True)
class View:
    """One way of looking at a pair: what is known, and the part of the comparison that is rebuilt from it."""

    name: str
    known: Modality | None
    part: int


def views_of(parts: int, dropout: float) -> list[View]:
    """Each modality from both images, and from itself alone where that was learned; or the fused pair."""
    if parts == 1:
        return [View("fused", None, 0)]
    views = [View(f"{name}_from_both", None, part) for part, name in enumerate(MODALITIES)]
    alone = [View(f"{name}_alone", name, part) for part, name in enumerate(MODALITIES)]
    return views + alone if dropout else views


def side_by_side(groups: Tensor, known: Modality | None) -> Tensor:
    """Features of what is known: [B,2,G,N,D] → [B,N,·]."""
    seen = groups if known is None else groups[:, _PLACE[known]]
    return seen.flatten(1, 2).transpose(1, 2).flatten(2)
