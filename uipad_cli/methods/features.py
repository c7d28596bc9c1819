"""What the frozen encoder sees in good parts: worked out once, kept as the method asks, on disk if there is a shelf."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from uipad_cli.core.backbone import Encoder
from uipad_cli.methods.base import Kept, Shelf, looks
from uipad_cli.methods.parts import in_parts
from uipad_cli.records import Batch, Batches, Progress, Report

SHARE_OF_DEVICE = 0.5  # of its free memory, that features may take to stay there

Encode = Callable[[Batch], Tensor]


class Features:
    """Rows [C,G,N,D], one for each look at each good part: in memory, on the device, or on disk.

    Each row is a look of what was kept of a part, in half precision unless told.
    """

    def __init__(self, rows: list[tuple[Kept, int]], owners: list[int], device: torch.device) -> None:
        self.owners = torch.tensor(owners)  # [n] the part that each row is of
        self.device, self._rows = device, rows
        self.shape = tuple(rows[0][0][rows[0][1]].shape)  # [C,G,N,D] of a row
        self._late: Callable[[Tensor], Tensor] | None = None
        self._there: Tensor | None = None  # all rows, on the device
        self._dtype = self._row(0).dtype
        needed = self._dtype.itemsize * len(rows) * math.prod(self.shape)
        if device.type == "cuda" and needed < SHARE_OF_DEVICE * torch.cuda.mem_get_info(device)[0]:
            self._there = torch.empty((len(rows), *self.shape), dtype=self._dtype, device=device)
            for place in range(len(rows)):
                self._there[place].copy_(self._row(place))
            self._rows = []

    def __len__(self) -> int:
        return len(self.owners)

    @property
    def places(self) -> int:
        """Places of all rows together."""
        return len(self) * int(self.shape[2])

    def __getitem__(self, chosen: Tensor) -> Tensor:
        """Rows [n] → [n,C,G,N,D] float32 on the device."""
        if self._there is not None:
            return self._there[chosen.to(self.device)].float()
        rows = torch.stack([self._row(place) for place in chosen.tolist()]).to(self.device).float()
        # rounded as rows that could be changed for good are
        return rows if self._late is None else self._late(rows).to(self._dtype).float()

    def __iter__(self) -> Iterator[Tensor]:
        for place in range(len(self)):
            yield self[torch.tensor([place])]

    def at(self, places: Tensor, comparison: slice = slice(None)) -> Tensor:
        """Ascending places [p] of 0..`places` - 1 → [p,c,G,D] float32 on the device, of some of the C comparisons.

        Before any `change`.
        """
        assert self._late is None, "rows on disk are changed when they are read as a whole"
        rows, counts = torch.unique_consecutive(places // self.shape[2], return_counts=True)
        found = []
        for row, wanted in zip(rows.tolist(), torch.split(places % self.shape[2], counts.tolist()), strict=True):
            kept = self._row(row)
            found.append(kept[comparison][:, :, wanted.to(kept.device)].permute(2, 0, 1, 3).to(self.device))
        return torch.cat(found).float()

    def change(self, change: Callable[[Tensor], Tensor]) -> None:
        """Have every row [1,C,G,N,D] changed: for good where it may be written, when it is read where it may not."""
        if self._there is not None:
            for place in range(len(self)):
                self._there[place] = change(self._there[place : place + 1].float())[0].to(self._dtype)
        elif all(isinstance(kept, np.ndarray) for kept, _ in self._rows):
            for place in range(len(self)):
                row = self._row(place)
                row.copy_(change(row[None].to(self.device).float())[0])
        else:
            self._late = change

    def _row(self, place: int) -> Tensor:
        """[C,G,N,D] as it is kept."""
        if self._there is not None:
            return self._there[place]
        kept, look = self._rows[place]
        return torch.from_numpy(kept[look])


def encode_all(
    batches: Batches, encode: Encode, encoder: Encoder, report: Report, *, phases: int, kind: str,
    dtype: torch.dtype = torch.float16, shelf: Shelf | None = None,
) -> Features:  # fmt: skip
    """Features of every good part, of `phases` x `phases` looks at each, in the order of batches and then of looks.

    encode: a batch → [B,C,G,N,D]; kind: says what it does beyond the encoder; dtype: in which features are kept. What
    the shelf holds is not encoded.
    """

    most = 10**9  # looks at a time, as many as a batch has unless the memory does not take them

    def shrunk(fewer: int) -> None:
        nonlocal most
        most = fewer
        told = f"note: not enough memory for a batch; {fewer} pair(s) are encoded at a time from here on"
        report(Progress("note", 0, 0, note=told))

    def encode_safely(look: Batch) -> Tensor:
        parts = in_parts(lambda some: encode(part_of(look, some)).to(dtype).cpu(), len(look), most, shrunk)
        return torch.cat(list(parts))

    settings = "" if shelf is None else f"{kind} {dtype} {phases} {encoder_key(encoder)}"
    rows: list[tuple[Kept, int]] = []
    owners: list[int] = []
    parts = 0
    for done, batch in enumerate(batches, start=1):
        found = _of_batch(batch, encode_safely, encoder.patch, phases, settings, shelf)
        for look in range(phases**2):
            rows += [(one, look) for one in found]
            owners += range(parts, parts + len(batch))
        parts += len(batch)
        report(Progress("encode", done, len(batches)))
    return Features(rows, owners, encoder.mean.device)


def encoder_key(encoder: Encoder) -> str:
    """What features depend on beside the images: weights, kept layers, grid, and the arithmetic of this machine."""
    digest = hashlib.sha256()
    for name, value in sorted(encoder.state_dict(keep_vars=False).items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype} ".encode())
        digest.update(value.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)
    digest.update(repr(encoder.vit).encode())  # activations, and what else is no weight
    device = encoder.mean.device.type
    told = f"{type(encoder.vit).__name__} {encoder.layers} {encoder.grid} {encoder.mean.flatten().tolist()} {device}"
    return f"{digest.hexdigest()} {told} {encoder.std.flatten().tolist()} {torch.__version__}"


def part_of(batch: Batch, chosen: slice | list[int]) -> Batch:
    """Some pairs of a batch."""
    return Batch(batch.rgb[chosen], batch.geometry[chosen], batch.valid[chosen])


def _of_batch(batch: Batch, encode: Encode, patch: int, phases: int, settings: str, shelf: Shelf | None) -> list[Kept]:
    """[phases²,C,G,N,D] of each part of a batch."""
    keys = [_key(batch, place, settings) for place in range(len(batch))] if shelf is not None else []
    found: dict[int, Kept] = {
        place: kept for place, key in enumerate(keys) if shelf is not None and (kept := shelf.find(key)) is not None
    }
    missing = [place for place in range(len(batch)) if place not in found]
    if not missing:
        return [found[place] for place in range(len(batch))]
    lacking = part_of(batch, missing)
    with torch.no_grad():
        seen = torch.stack([encode(look) for look in looks(lacking, patch, phases)], dim=1).numpy()
    for place, one in zip(missing, seen, strict=True):
        made = np.ascontiguousarray(one)
        found[place] = made if shelf is None else shelf.keep(keys[place], made)
    return [found[place] for place in range(len(batch))]


def _key(batch: Batch, place: int, settings: str) -> str:
    digest = hashlib.sha256(settings.encode())
    for image in (batch.rgb, batch.geometry):
        digest.update(image[place].contiguous().numpy().data)
    return digest.hexdigest()
