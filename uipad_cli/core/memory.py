"""Memory of good patches: a coreset of their features, and the distance to the nearest of them (PatchCore).

Roth et al., Towards Total Recall in Industrial Anomaly Detection, CVPR 2022: section 3.1 locally aware patch features,
3.2 coreset by greedy k-centre over random projections, 3.3 scores.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

PROJECTED = 64  # width of the random projection that the coreset is chosen in
AT_ONCE = 1024  # patches whose distances are taken at once


def neighbourhood_means(features: Tensor, grid: tuple[int, int], edge: int) -> Tensor:
    """Mean over the `edge` x `edge` patches around each patch: [B,N,D] → [B,N,D], fewer at the border (section 3.1)."""
    if edge == 1:
        return features
    image = features.transpose(1, 2).reshape(len(features), -1, *grid)
    means = functional.avg_pool2d(image, edge, stride=1, padding=edge // 2, count_include_pad=False)
    return means.flatten(2).transpose(1, 2)


def moved(images: Tensor, down: int, right: int) -> Tensor:
    """[B,C,H,W] moved by so many pixels; what comes into view is mirrored at the border."""
    height, width = images.shape[-2:]
    return functional.pad(images, (right, 0, down, 0), mode="reflect")[..., :height, :width]


def coreset(features: Tensor, count: int, seed: int) -> Tensor:
    """Indices [count] of patches that cover all of [P,F]: each is the one farthest from those before (algorithm 1).

    count: at most P. The distances are taken after a random projection, which keeps their order nearly.
    """
    assert 1 <= count <= len(features), f"a coreset of {count} from {len(features)} patches"
    generator = torch.Generator().manual_seed(seed)
    projection = torch.randn(features.shape[1], PROJECTED, generator=generator) / PROJECTED**0.5
    points = features.float() @ projection.to(features.device)
    lengths = points.square().sum(dim=1)
    chosen = torch.zeros(count, dtype=torch.long, device=features.device)
    chosen[0] = int(torch.randint(len(points), (1,), generator=generator))
    nearest = torch.full_like(lengths, torch.inf)
    for place in range(1, count):
        last = chosen[place - 1]
        nearest = torch.minimum(nearest, lengths + lengths[last] - 2 * (points @ points[last]))
        chosen[place] = nearest.argmax()
    return chosen


def nearest(queries: Tensor, bank: Tensor, count: int = 1) -> tuple[Tensor, Tensor]:
    """The `count` nearest of the bank [M,F] to each query [Q,F] → distances and indices [Q,count], nearest first."""
    lengths = bank.square().sum(dim=1)
    found = []
    for start in range(0, len(queries), AT_ONCE):
        squared = torch.addmm(lengths, queries[start : start + AT_ONCE], bank.T, alpha=-2)
        found.append(squared.topk(count, dim=1, largest=False))
    squared, places = (torch.cat(parts) for parts in zip(*found, strict=True))
    return (squared + queries.square().sum(dim=1, keepdim=True)).clamp(min=0).sqrt(), places


def spreads(bank: Tensor, owner: Tensor) -> Tensor:
    """Distance of each remembered patch [M,F] to the nearest of any other part → [M]: how much good parts differ there.

    owner [M]: the part that each patch is of. Infinite where there is no other part.
    """
    lengths = bank.square().sum(dim=1)
    found = []
    for start in range(0, len(bank), AT_ONCE):
        chunk = slice(start, start + AT_ONCE)
        squared = torch.addmm(lengths, bank[chunk], bank.T, alpha=-2)
        least = squared.masked_fill_(owner[chunk, None] == owner[None], torch.inf).amin(dim=1)
        found.append((least + lengths[chunk]).clamp(min=0).sqrt())
    return torch.cat(found)
