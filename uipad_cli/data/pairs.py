"""Items → batches: the last step before a method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from uipad_cli.data.framing import Framing, frames
from uipad_cli.data.geometry import HeightScale, Preparation, scale_height
from uipad_cli.data.relief import GeometryImage, geometry_image
from uipad_cli.data.samples import load_half, load_mask, load_sample
from uipad_cli.records import Arrays, Batch, Item, Modality, Sample

__all__ = ["Pairs", "load_mask", "load_sample", "to_batch"]


@dataclass(frozen=True)
class Pairs:
    """Batches of pairs in their given order, decoded anew at every iteration; len() is the number of batches.

    batch_size: pairs, each of them as many squares as the framing makes of it. known: the only modality that is read,
    None = both.
    """

    items: Sequence[Item]
    preparation: Preparation
    framing: Framing
    scale: HeightScale
    geometry: GeometryImage
    batch_size: int
    known: Modality | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}")

    def __len__(self) -> int:
        return (len(self.items) + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.items), self.batch_size):
            chosen = self.items[start : start + self.batch_size]
            yield self.batch([self.sample(item) for item in chosen])

    def sample(self, item: Item) -> Sample:
        """One pair, decoded. Raises DataError."""
        return load_half(item, self.preparation, self.known) if self.known else load_sample(item, self.preparation)

    def batch(self, samples: Sequence[Sample]) -> Batch:
        """Decoded pairs as a batch."""
        return tensors(self.arrays(samples))

    def arrays(self, samples: Sequence[Sample]) -> Arrays:
        """The same as arrays, for what judges without torch."""
        return replace(to_arrays(samples, self.framing, self.scale, self.geometry), known=self.known)


def to_batch(samples: Sequence[Sample], framing: Framing, scale: HeightScale, geometry: GeometryImage) -> Batch:
    """Samples of any size -> one batch of framed squares: all of the first sample, then all of the next."""
    return tensors(to_arrays(samples, framing, scale, geometry))


def to_arrays(samples: Sequence[Sample], framing: Framing, scale: HeightScale, geometry: GeometryImage) -> Arrays:
    """What `to_batch` makes of samples, as arrays."""
    rgb = np.stack([one.transpose(2, 0, 1) for sample in samples for one in frames(sample.rgb, framing)])  # [B,3,H,W]
    scaled = np.stack([scale_height(one, scale) for sample in samples for one in frames(sample.height, framing)])
    valid = np.stack([one for sample in samples for one in frames(sample.valid, framing, nearest=True)])
    return Arrays(rgb.astype(np.float32) / np.float32(255), geometry_image(scaled, geometry), valid)


def joined(parts: Sequence[Arrays]) -> Arrays:
    """Batches one after the other as one batch."""
    rgb, geometry = (np.concatenate([getattr(one, name) for one in parts]) for name in ("rgb", "geometry"))
    return Arrays(rgb, geometry, np.concatenate([one.valid for one in parts]), parts[0].known)


def tensors(arrays: Arrays) -> Batch:
    """A batch of the same memory."""
    import torch  # scans are read where it is not installed

    rgb, geometry, valid = (torch.from_numpy(one) for one in (arrays.rgb, arrays.geometry, arrays.valid))
    return Batch(rgb, geometry, valid, arrays.known)
