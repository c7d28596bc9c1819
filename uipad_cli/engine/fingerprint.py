"""What a part looks like as a whole: a few figures that a person understands, and the mean of what the backbone sees.

A defect is local and hardly moves them; light, camera, fixture, sensor and material move them for every part. A run
keeps those of the good parts that it was calibrated by (calibration.safetensors).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from uipad_cli.core.backbone import group_means
from uipad_cli.data.pairs import Pairs
from uipad_cli.data.plane import border
from uipad_cli.engine.checkpoint import load_checked, save_tensors
from uipad_cli.engine.judging import Judged
from uipad_cli.engine.record import CALIBRATION_FILE, Checkpoint, file_hash
from uipad_cli.errors import WeightsError
from uipad_cli.methods.base import Method
from uipad_cli.records import Sample

DEFINITION = 1  # raise it where a figure, the quiet level or the features come to mean something else
EARLIER_FILE = "calibration-earlier.safetensors"  # there while fingerprints are replaced
CALIBRATE_ONCE = "run `uipad calibrate RUN DATA` once, with good parts"
GROUPS = 2
QUIET = "quiet level"
_LUMA = (0.299, 0.587, 0.114)
_NAMED, _FEATURES, _SCORE, _CATEGORY, _DEFINITION = "named/", "features", "score", "category", "definition"

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Figure:
    """How a named figure is told to people: its unit, digits behind the point, and whether its change is a percentage.

    least: a smaller change is no matter, about what a defect on a twentieth of the part can do: a share of the figure
    itself where `relative`, in its unit otherwise; None where it depends on the run (`floors`).
    """

    unit: str
    digits: int
    relative: bool
    least: float | None


FIGURES: Mapping[str, Figure] = {
    "brightness": Figure("", 0, True, 0.03),
    "contrast": Figure("%", 1, True, 0.05),
    "red to blue": Figure("", 2, True, 0.02),
    "sharpness": Figure("%", 1, True, 0.1),
    "brightness of the border": Figure("", 0, True, 0.03),
    "missing geometry": Figure("%", 1, False, 1.0),
    "mean height": Figure("mm", 2, False, None),
    "spread of heights": Figure("mm", 2, True, 0.05),
    "position across": Figure("% of the width", 1, False, 1.0),
    "position down": Figure("% of the height", 1, False, 1.0),
    QUIET: Figure("", 3, True, None),
}


def floors(record: Checkpoint) -> dict[str, float]:
    """The least changes that `FIGURES` leaves to the run: 2 % of its height scale, 5 % of the range of its maps."""
    scale, calibration = record.height_scale, record.calibration
    return {
        "mean height": 0.02 * 1000 * (scale.high - scale.low),
        QUIET: 0.05 * (calibration.map_high - calibration.map_low),
    }


@dataclass(frozen=True)
class Fingerprint:
    """One part: figures under the names of `FIGURES`, features [F] in units of their spread over the part, its score.

    features: mean over all places of the backbone's tokens.
    """

    category: str
    score: float
    named: Mapping[str, float]
    features: Floats


def fingerprint(method: Method, pairs: Pairs, judged: Judged) -> Fingerprint:
    """The fingerprint of a part that was just judged as one of `pairs`."""
    told = {**described(judged.sample), QUIET: float(np.nanmedian(judged.map))}
    named = {name: float(np.float32(value)) for name, value in told.items()}  # as it is kept, so that equal parts tie
    return Fingerprint(judged.item.category, judged.score, named, _features(method, pairs, judged.sample))


def fingerprinted(method: Method, pairs: Pairs, judged: Iterable[Judged], into: list[Fingerprint]) -> Iterator[Judged]:
    """The same judged parts; the fingerprint of each is put `into` a list as it passes."""
    for one in judged:
        into.append(fingerprint(method, pairs, one))
        yield one


def described(sample: Sample) -> dict[str, float]:
    """Figures of one pair that a person understands, under the names of `FIGURES` but the quiet level.

    brightness: mean of the grey image 0..255; contrast: its standard deviation in % of that, sharpness: its mean
    absolute Laplacian in % of the standard deviation, so that light alone moves neither; red to blue: ratio of the
    means; geometry in mm and % of all pixels; position: centre of what is higher than half way.
    """
    rgb = sample.rgb.astype(np.float32)
    grey: Floats = rgb @ np.asarray(_LUMA, np.float32)
    red, _, blue = rgb.mean(axis=(0, 1)).tolist()
    edge = border(*grey.shape)
    there = sample.height[sample.valid].astype(np.float64)
    heights = 1000 * (there if there.size else np.zeros(1))
    across, down = _centre(sample)
    return {
        "brightness": float(grey.mean()),
        "contrast": 100 * float(grey.std() / (grey.mean() + 1)),
        "red to blue": (red + 1) / (blue + 1),
        "sharpness": 100 * float(np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean() / (grey.std() + 1)),
        "brightness of the border": float(grey[edge].mean()),
        "missing geometry": 100 * float(1 - sample.valid.mean()),
        "mean height": float(heights.mean()),
        "spread of heights": float(heights.std()),
        "position across": across,
        "position down": down,
    }


def _centre(sample: Sample) -> tuple[float, float]:
    """Centre of what is higher than half way between low and high, in % of width and height; the middle if level."""
    low, high = np.quantile(sample.height, (0.02, 0.98))
    rows, columns = np.nonzero(sample.height > (low + high) / 2)
    if not rows.size:
        return 50.0, 50.0
    height, width = sample.height.shape
    return 100 * (float(columns.mean()) + 0.5) / width, 100 * (float(rows.mean()) + 0.5) / height


@torch.no_grad()
def _features(method: Method, pairs: Pairs, sample: Sample) -> Floats:
    """[F]: of each modality and group of layers the mean token [D] over all places, by how much places differ."""
    batch = pairs.batch([sample])
    with method.compute.autocast():
        images = torch.cat((batch.rgb, batch.geometry)).to(method.compute.device)
        groups = group_means(method.encoder(images), GROUPS).float()  # of T squares
    places = torch.stack(groups.chunk(2)).permute(0, 2, 1, 3, 4).flatten(2, 3)  # [2T,G,N,D] -> [2,G,T·N,D]
    spread = places.std(dim=2).square().mean(dim=-1, keepdim=True).sqrt().clamp(min=1e-6)
    return np.asarray((places.mean(dim=2) / spread).flatten().cpu().numpy(), np.float32)


def save_fingerprints(folder: Path, parts: Sequence[Fingerprint], record: Checkpoint | None = None) -> str:
    """Write the fingerprints of good parts into a run's folder; returns the file's hash for the record.

    record: the one that lies there; its fingerprints are kept until `settle`, should the next one not be written.
    """
    path = folder / CALIBRATION_FILE
    if record is not None and _named_by(record, path):
        path.replace(folder / EARLIER_FILE)
    categories = sorted({part.category for part in parts})
    tensors = {
        _DEFINITION: torch.tensor([DEFINITION]),
        _SCORE: torch.tensor([part.score for part in parts], dtype=torch.float64),
        _FEATURES: torch.from_numpy(np.stack([part.features for part in parts])),
        **{_NAMED + name: torch.tensor([part.named[name] for part in parts]) for name in FIGURES},
        **{
            _CATEGORY + name: torch.tensor([place for place, part in enumerate(parts) if part.category == name])
            for name in categories
        },
    }
    save_tensors(path, tensors)
    return file_hash(path)


def settle(folder: Path, record: Checkpoint) -> None:
    """Drop what `save_fingerprints` kept, once a record was written that does not name it."""
    if not _named_by(record, folder / EARLIER_FILE):
        (folder / EARLIER_FILE).unlink(missing_ok=True)


def read_fingerprints(folder: Path, record: Checkpoint) -> list[Fingerprint]:
    """Those of the good parts that the run in `folder` was calibrated by, in their order.

    Raises WeightsError where the run has none, where the file is not the one that the record was written for, and where
    its figures are defined otherwise than here.
    """
    path, hashes = folder / CALIBRATION_FILE, record.sha256
    if _named_by(record, folder / EARLIER_FILE):  # a calibration was stopped before it wrote its record
        path, hashes = folder / EARLIER_FILE, {EARLIER_FILE: hashes[CALIBRATION_FILE]}
    tensors = load_checked(path, hashes, CALIBRATE_ONCE)
    found = int(tensors.get(_DEFINITION, torch.zeros(1))[0])
    if found != DEFINITION:
        told = f"its figures are of definition {found}, this uipad compares those of {DEFINITION}"
        raise WeightsError(f"{path}: {told}", CALIBRATE_ONCE)
    names = {key.removeprefix(_CATEGORY): value for key, value in tensors.items() if key.startswith(_CATEGORY)}
    category = {place: name for name, places in names.items() for place in places.tolist()}
    named = {name: tensors.get(_NAMED + name) for name in FIGURES}
    lacking = [name for name, values in named.items() if values is None]
    if lacking or {_SCORE, _FEATURES} - set(tensors):
        told = ", ".join(lacking) or "scores or features"
        raise WeightsError(f"{path}: holds no {told}, written by another uipad", CALIBRATE_ONCE)
    return [
        Fingerprint(
            category.get(place, record.category),
            float(tensors[_SCORE][place]),
            {name: float(values[place]) for name, values in named.items() if values is not None},
            tensors[_FEATURES][place].numpy(),
        )
        for place in range(len(tensors[_SCORE]))
    ]


def _named_by(record: Checkpoint, path: Path) -> bool:
    """Whether a file holds the fingerprints that a record was written for."""
    return path.is_file() and file_hash(path) == record.sha256.get(CALIBRATION_FILE)
