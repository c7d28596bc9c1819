"""The nouns that rooms hand to each other.

Legend of shapes, used in every docstring:
    B batch · H W pixels of the framed image (392) · H0 W0 pixels of the original image
    h w token grid (28) · N = h·w tokens · D token width · L kept encoder layers · G groups of layers · M prototypes
Units: lengths in metres, colour uint8 0..255 on disk and float 0..1 in a batch, scores without unit, higher = worse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:  # this module is imported by the command line, which must start without torch and numpy
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

GOOD = "good"
UNLABELLED = "unlabelled"
ANOMALOUS, UNSURE = "anomalous", "unsure"  # verdicts, beside good

GeometryKind = Literal["xyz", "depth", "z", "height"]
Modality = Literal["rgb", "geometry"]
Missing = Literal["rgb", "depth"]
Voice = Literal[
    "colour", "geometry", "pair"
]  # what a finding rests on: one image alone, or the two not belonging together

KNOWN: Mapping[Missing, Modality] = {"depth": "rgb", "rgb": "geometry"}  # what is left where one file is missing
LEARN_ALONE = "train it with the method uipad, options.target=modalities and options.dropout above 0"


@dataclass(frozen=True)
class Item:
    """One pair of files on disk, raw or prepared.

    `geometry_kind` says what `geometry` holds: points (xyz), a depth image (depth), points of which only z may be
    trusted (z), or a prepared height map (height), in which case `valid` is the mask of measured pixels.
    lights: other colour images of the same scan, by name; depth_range: the metres of the smallest and the largest
    16-bit count of its depth image; camera: fx, fy, cx, cy in pixels, where the data set documents them. pitch: of a
    prepared pair, as in its `Sample`.
    """

    category: str
    split: str
    defect: str
    stem: str
    rgb: Path
    geometry: Path
    geometry_kind: GeometryKind
    mask: Path | None = None
    valid: Path | None = None
    lights: tuple[tuple[str, Path], ...] = ()
    depth_range: tuple[float, float] | None = None
    camera: tuple[float, float, float, float] | None = None
    pitch: float | None = None

    @property
    def name(self) -> str:
        """`category/split/defect/stem`, unique within a data set."""
        return f"{self.category}/{self.split}/{self.defect}/{self.stem}"

    @property
    def is_good(self) -> bool:
        """True for a part without a defect."""
        return self.defect == GOOD


@dataclass(frozen=True)
class Sample:
    """One decoded pair at its original size, geometry turned into height.

    rgb [H0,W0,3] uint8; height [H0,W0] float32 metres above the background plane, holes filled, finite everywhere;
    valid [H0,W0] bool, False where the sensor measured nothing. pitch: metres between neighbouring pixels, its square
    the area of one; None where nothing says it.
    """

    rgb: npt.NDArray[np.uint8]
    height: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]
    pitch: float | None = None


@dataclass(frozen=True)
class Batch:
    """What a method sees: no label, no mask, no path.

    rgb [B,3,H,W] float32 in 0..1; valid [B,H,W] bool; geometry [B,3,H,W] float32: normals as colours in 0..1, or the
    scaled height three times, about 0..1 and within -0.5..1.5; known: the only modality that is there, None = both.
    """

    rgb: Tensor
    geometry: Tensor
    valid: Tensor
    known: Modality | None = None

    def __len__(self) -> int:
        """Number of pairs, B."""
        return int(self.rgb.shape[0])


@dataclass(frozen=True)
class Arrays:
    """A batch as arrays, for what judges without torch: shapes and meaning are those of `Batch`."""

    rgb: npt.NDArray[np.float32]
    geometry: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]
    known: Modality | None = None


class Batches(Protocol):
    """Batches that can be iterated again and again, each time the same."""

    def __iter__(self) -> Iterator[Batch]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Scores:
    """What a method says: map [B,H,W] float32 and image [B] float32, on the CPU, higher = worse.

    voices [B,h,w]: the same per place from what speaks in it, of a method that can tell them apart.
    """

    map: Tensor
    image: Tensor
    voices: Mapping[Voice, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoredArrays:
    """The same as arrays: what an exported model says."""

    map: npt.NDArray[np.float32]
    image: npt.NDArray[np.float32]
    voices: Mapping[Voice, npt.NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """A step of long work, told to whoever watches.

    `values` are figures worth logging (loss, gauges); `training_state`, where present, returns everything that is
    needed to continue from this step.
    """

    task: str
    done: int
    total: int
    note: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    training_state: Callable[[], dict[str, Tensor]] | None = None


Report = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """A `Report` that tells nobody."""
