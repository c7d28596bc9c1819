"""Memory of good patches: a coreset of their features, and the distance to the nearest of them (PatchCore).

Roth et al., Towards Total Recall in Industrial Anomaly Detection, CVPR 2022: section 3.1 locally aware patch features,
3.2 coreset by greedy k-centre over random projections, 3.3 scores. Beyond the paper, distances are multiples of how far
good parts are from each other at such a place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from uipad_cli.core.compute import recording

PROJECTED = 64  # width of the random projection that the coreset is chosen in
AT_ONCE = 1024  # patches whose distances are taken at once on a CPU
CHUNKS, FEWEST_AT_ONCE = 8, 392  # on CUDA at most so many chunks, each of so many patches at least
CELLS_AT_ONCE = 1 << 27  # and of so many distances at most
PAD = 8  # rows that are added to a shorthand on CUDA: two, and zeros to a width that products like
GROUP = 64  # columns that are looked at together where the highest of thousands are sought
LISTS_AT_ONCE = 32  # short lists whose patches are gathered at once: megabytes, which processors keep at hand
SHORTLIST = 16  # candidates among which bfloat16, whose sums are coarse, may leave the nearest
NEIGHBOURS = 5  # of the nearest good patches tell how much good parts differ there
USUAL = 4000  # patches from which the usual distance is learned, about
TINIEST = 1e-6  # spread where all good parts are exactly the same


def neighbourhood_means(features: Tensor, grid: tuple[int, int], edge: int) -> Tensor:
    """Mean over the `edge` x `edge` patches around each patch: [B,N,D] → [B,N,D], fewer at the border (section 3.1)."""
    if edge == 1:
        return features
    image = features.transpose(1, 2).reshape(features.shape[0], -1, *grid)
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


def chosen(features: Tensor, cover: int, sample: int, seeds: tuple[int, int]) -> Tensor:
    """Indices, in order, of a coreset of `cover` of the patches [P,F] and of `sample` drawn at random: all, if fewer.

    A coreset alone is too thin to tell how dense good patches lie.
    """
    if cover + sample >= len(features):
        return torch.arange(len(features))
    lottery = torch.Generator().manual_seed(seeds[1])
    kept = torch.zeros(len(features), dtype=torch.bool)
    kept[torch.randperm(len(features), generator=lottery)[:sample]] = True
    kept[coreset(features, cover, seeds[0]).cpu()] = True
    return kept.nonzero()[:, 0]


def nearest(
    queries: Tensor, bank: Tensor, count: int = 1, barred: Callable[[slice], Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """The `count` nearest of the bank [M,F] to each query [Q,F] → distances and indices [Q,count], nearest first.

    barred: for a slice of the queries, which of the bank they may not meet, bool [q,M].
    """
    lengths = bank.square().sum(dim=1)
    found = []
    for chunk in _chunks(queries, len(bank)):
        squared = torch.addmm(lengths, queries[chunk], bank.T, alpha=-2)
        if barred is not None:
            squared.masked_fill_(barred(chunk), torch.inf)
        found.append(squared.topk(count, dim=1, largest=False))
    squared, places = (torch.cat(parts) for parts in zip(*found, strict=True))
    return (squared + queries.square().sum(dim=1, keepdim=True)).clamp(min=0).sqrt(), places


def _chunks(queries: Tensor, size: int) -> list[slice]:
    """Slices of the queries that a memory of this size meets one after the other; what is recorded meets it at once."""
    if recording():
        return [slice(None)]
    step = AT_ONCE
    if queries.device.type == "cuda":
        step = max(FEWEST_AT_ONCE, min(-(-len(queries) // CHUNKS), CELLS_AT_ONCE // max(1, size)))
    return [slice(start, start + step) for start in range(0, len(queries), step)]


@dataclass(frozen=True)
class Shorthand:
    """A bank in half the precision: less its centre [F], transposed [F,M], with half the squared lengths.

    Less the centre, because sums of what all patches share would drown what tells them apart. On CUDA [F + PAD,M] in
    float16, whose 11 bits are as fast as the 8 of bfloat16; the lengths are two more rows there, a coarse and a fine
    part, so that one product gives the order of the distances. On a CPU bfloat16, and lengths [M] float32.
    """

    centre: Tensor
    patches: Tensor
    halves: Tensor

    @staticmethod
    def of(bank: Tensor, device: torch.device) -> Shorthand:
        """Of a bank [M,F], wherever it lies, for use on a device."""
        centre = bank.mean(dim=0)
        moved = bank - centre
        halves = moved.square().sum(dim=1) / 2
        if device.type != "cuda":
            return Shorthand(centre, moved.bfloat16().T, halves)
        coarse = halves.half()
        rows = torch.zeros(bank.shape[1] + PAD, len(bank), dtype=torch.float16, device=bank.device)
        rows[:-PAD], rows[-PAD], rows[1 - PAD] = moved.T, -coarse, coarse.float() - halves
        return Shorthand(centre.to(device), rows.to(device), halves.to(device))

    def nearest(self, queries: Tensor, bank: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """As the function `nearest`; bank [M,F] is looked at on a CPU alone, for distances of the short list."""
        found = [self._nearest(queries[chunk], bank, count) for chunk in _chunks(queries, len(self.halves))]
        distances, places = (torch.cat(parts) for parts in zip(*found, strict=True))
        return distances, places

    def _nearest(self, queries: Tensor, bank: Tensor, count: int) -> tuple[Tensor, Tensor]:
        moved = queries - self.centre
        if queries.device.type == "cuda":
            padded = functional.pad(moved.half(), (0, PAD), value=1.0)  # ones for the lengths; the other rows are 0
            closeness = torch.mm(padded, self.patches, out_dtype=torch.float32)  # q·b - |b|²/2
            highest, places = highest_of(closeness, count)
            lengths = moved.square().sum(dim=1, keepdim=True)
            return (lengths - 2 * highest).clamp(min=0).sqrt(), places
        closeness = (moved.bfloat16() @ self.patches).float().sub_(self.halves)
        listed = highest_of(closeness, min(max(SHORTLIST, 2 * count), len(bank)))[1]
        squared, order = _squared_distances(queries, bank, listed).topk(count, dim=1, largest=False)
        return squared.sqrt(), listed.gather(1, order)


def _squared_distances(queries: Tensor, bank: Tensor, listed: Tensor) -> Tensor:
    """[Q,F], [M,F] and which of the bank each query meets [Q,L] → [Q,L]; by differences, exact in float32.

    Gathered piece by piece into the same room: gathered at once, most of the time went into fetching memory anew.
    """
    found = queries.new_empty(listed.shape)
    room = bank.new_empty(LISTS_AT_ONCE * listed.shape[1], bank.shape[1])
    for start in range(0, len(queries), LISTS_AT_ONCE):
        piece = slice(start, start + LISTS_AT_ONCE)
        places = listed[piece].flatten()
        met = torch.index_select(bank, 0, places, out=room[: len(places)]).reshape(-1, listed.shape[1], bank.shape[1])
        torch.sum(met.sub_(queries[piece, None]).square_(), dim=2, out=found[piece])
    return found


def highest_of(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`topk` of rows [Q,M] for a small count, exact: what is among the highest lies in a group whose highest is.

    A row is read once; the library's way over thousands of columns reads it several times.
    """
    rows, columns = values.shape
    width = GROUP
    groups = columns // width
    if groups <= count:
        return values.topk(count, dim=1)
    grouped = values[:, : groups * width].reshape(rows, groups, width)
    best = grouped.amax(dim=2).topk(count, dim=1).indices  # [Q,count]
    inside = torch.arange(width, device=values.device)
    listed = (best[..., None] * width + inside).flatten(1)
    rest = torch.arange(groups * width, columns, device=values.device).expand(rows, -1)
    listed = torch.cat((listed, rest), dim=1)
    highest, order = values.gather(1, listed).topk(count, dim=1)
    return highest, listed.gather(1, order)


def spreads(bank: Tensor, owner: Tensor) -> Tensor:
    """Distance of each remembered patch [M,F] to the nearest of any other part → [M]: how much good parts differ there.

    owner [M]: the part that each patch is of. Infinite where there is no other part.
    """
    return nearest(bank, bank, barred=lambda chunk: owner[chunk, None] == owner[None])[0][:, 0]


def damped_spreads(bank: Tensor, owner: Tensor) -> Tensor:
    """`spreads`, half of it what is usual everywhere; 1 where one part alone is remembered: [M,F], [M] → [M]."""
    if not (owner != owner[0]).any():
        return torch.ones(len(bank), device=bank.device)
    # or two patches that are the same by chance would forbid any change
    own = spreads(bank, owner)
    return (own + own.mean()) / 2


def relative_distance(
    patches: Tensor, bank: Tensor, spread: Tensor, neighbours: int, barred: Callable[[slice], Tensor] | None = None,
    shorthand: Shorthand | None = None,
) -> Tensor:  # fmt: skip
    """[N,F] → [N]: distance to the nearest of the bank [M,F] over the mean spread [M] of the `neighbours` nearest.

    barred: as in `nearest`; shorthand: of the bank, where half the precision will do.
    """
    count = min(neighbours, len(spread))
    if shorthand is None:
        distances, places = nearest(patches, bank, count, barred)
    else:
        distances, places = shorthand.nearest(patches, bank, count)
    return distances[:, 0] / spread[places].mean(dim=1).clamp(min=TINIEST)


class PatchMemory(nn.Module):
    """Good patches, the spread around each, and what distance is usual, as buffers of a network."""

    bank: Tensor
    spread: Tensor
    usual: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("bank", torch.zeros(0, width))
        self.register_buffer("spread", torch.ones(0))
        self.register_buffer("usual", torch.ones(()))
        self.shorthand: Shorthand | None = None

    def lighten(self, device: torch.device) -> None:
        """Look patches up there in half the precision from now on; on CUDA forget the rest."""
        self.shorthand = Shorthand.of(self.bank, device)
        if device.type == "cuda":
            self.bank = self.bank.new_empty(0, self.bank.shape[1])

    def make_room(self, bank: Tensor | None) -> None:
        """Be as large as the bank that is to be loaded, where it is one of this width."""
        if bank is not None and bank.ndim == 2 and bank.shape[1] == self.bank.shape[1]:
            self.bank = self.bank.new_zeros(bank.shape)
            self.spread = self.spread.new_ones(len(bank))

    def remember(self, patches: Tensor, owner: Tensor, count: int, seeds: tuple[int, int]) -> None:
        """Choose `count` of patches [P,F] of the parts `owner` [P] in the place of all before, half of them at random.

        What is usual is learned from patches that meet those of other parts alone, as a new part will.
        """
        kept = chosen(patches, count - count // 2, count // 2, seeds)
        self.bank = patches[kept].to(self.bank)
        owners = owner[kept].to(self.bank.device)
        self.spread = damped_spreads(self.bank, owners)
        if (owners != owners[0]).any():
            step = max(1, len(patches) // USUAL)
            asked, asking = patches[::step].to(self.bank), owner[::step].to(owners)
            met = relative_distance(
                asked, self.bank, self.spread, NEIGHBOURS, lambda chunk: asking[chunk, None] == owners[None]
            )
            self.usual = met[met.isfinite()].mean()

    def forward(self, patches: Tensor) -> Tensor:
        """Patches [...,F] → [...]; about 1 on good parts."""
        asked = patches.flatten(0, -2)
        met = relative_distance(asked, self.bank, self.spread, NEIGHBOURS, shorthand=self.shorthand)
        return met.reshape(patches.shape[:-1]) / self.usual
