"""A prepared category, looked at pair by pair: hashes, heights, marked shares, and how well it is registered."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from uipad_cli.data import files, prepared
from uipad_cli.data.plane import border
from uipad_cli.data.prepared import CategoryEntry, PairEntry
from uipad_cli.data.registration import Edges, Shift, edges, estimate_shift
from uipad_cli.records import GOOD, UNLABELLED, Sample

REGISTERED = 40  # pairs that the registration is estimated from
_HEIGHTS = 40_000  # of a pair, for its quantiles

Tell = Callable[[str], None]  # one more step is done, and its name


@dataclass(frozen=True)
class Part:
    """One prepared pair.

    name: SPLIT/DEFECT/STEM. colour, heights: hashes of the decoded arrays, so that the file format does not matter.
    border: mean colour value 0..255 of the strip along the image border. bottom, top: 1 % and 99 % of the measured
    heights in metres. marked: share of the image inside its defect mask, None where there is no mask file.
    """

    name: str
    entry: PairEntry
    colour: str
    heights: str
    border: float
    bottom: float
    top: float
    marked: float | None

    @property
    def split(self) -> str:
        """train, validation or test."""
        return self.name.split("/")[0]

    @property
    def defect(self) -> str:
        """What is wrong with it; good or unlabelled otherwise."""
        return self.name.split("/")[1]

    @property
    def is_defective(self) -> bool:
        """True where a defect is named."""
        return self.defect not in (GOOD, UNLABELLED)

    @property
    def size(self) -> str:
        """Width x height in pixels, for people."""
        return size_of(self.entry)


def look(root: Path, category: str, entry: CategoryEntry, tell: Tell) -> tuple[list[Part], Shift | None]:
    """Every pair of a category, and where its colour lies on its geometry. Raises DataError."""
    chosen = _spread(_of_one_size(entry), REGISTERED)
    parts: list[Part] = []

    def look_at_all() -> Iterator[Edges]:  # edges are large: each is used up before the next pair is read
        for name, pair in entry.pairs.items():
            sample, mask = load(root, category, name, pair)
            parts.append(_part(name, pair, sample, mask))
            if name in chosen:
                yield edges(sample)
            tell(f"{category}/{name}")

    return parts, estimate_shift(look_at_all()) if chosen else None


def load(root: Path, category: str, name: str, pair: PairEntry) -> tuple[Sample, files.Mask | None]:
    """The prepared files of a pair SPLIT/DEFECT/STEM, and its defect mask where it has one. Raises DataError."""
    item = prepared.item(root, f"{category}/{name}", mask=pair.mask)
    assert item.valid is not None
    sample = Sample(files.read_rgb(item.rgb), files.read_map(item.geometry)[0], files.read_valid(item.valid))
    return sample, None if item.mask is None else files.read_mask(item.mask)


def size_of(pair: PairEntry) -> str:
    """Width x height in pixels, for people."""
    return f"{pair.width} x {pair.height}"


def spread_out(count: int, wanted: int) -> list[int]:
    """At most `wanted` of the places 0 .. count - 1, the first and the last among them, evenly apart."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, wanted))}) if count else []


def _of_one_size(entry: CategoryEntry) -> list[str]:
    """The pairs of the commonest size."""
    usual = Counter(size_of(pair) for pair in entry.pairs.values()).most_common(1)
    return [name for name, pair in entry.pairs.items() if usual and size_of(pair) == usual[0][0]]


def _spread(names: Sequence[str], wanted: int) -> frozenset[str]:
    return frozenset(names[place] for place in spread_out(len(names), wanted))


def _part(name: str, pair: PairEntry, sample: Sample, mask: files.Mask | None) -> Part:
    measured = sample.height[sample.valid]
    some = measured[:: -(-measured.size // _HEIGHTS) or 1]
    bottom, top = np.quantile(some, (0.01, 0.99)) if some.size else (0.0, 0.0)
    marked = None if mask is None else float(mask.mean())
    rim = float(sample.rgb[border(*sample.valid.shape)].mean())
    heights = _hash(sample.height, sample.valid)
    return Part(name, pair, _hash(sample.rgb), heights, rim, float(bottom), float(top), marked)


def _hash(*arrays: npt.NDArray[Any]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
