"""Which parts a run learns from, and which good ones it keeps to calibrate by."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from pathlib import Path

import torch

from uipad_cli.data import choose_category, prepared
from uipad_cli.data.geometry import HeightScale
from uipad_cli.data.pairs import Pairs
from uipad_cli.data.prepared import Manifest
from uipad_cli.engine.record import Claim, RunConfig, file_hash
from uipad_cli.errors import DataError, UsageError
from uipad_cli.methods.base import hash_seed
from uipad_cli.records import Item

ALL = "all"  # one model of all categories
SPARED, LEAST_SPARED = 5, 4  # without a validation split one in so many is set aside, from so many on


@dataclass(frozen=True)
class Chosen:
    """Good pairs to learn from, good pairs to calibrate by and what those are, and the claim; one scale for all.

    learned_from: True where there are so few that none could be spared, and both are the same.
    """

    training: Pairs
    kept: Pairs
    source: str
    learned_from: bool
    claim: Claim


def chosen_pairs(data: Path, wanted: str, weights: Path | None, config: RunConfig) -> Chosen:
    """The parts of a run. Raises DataError, UsageError, WeightsError."""
    manifest = prepared.read_manifest(data)
    claim = claim_of(manifest, wanted, weights)
    scales = [manifest.categories[name].height_scale for name in claim.learned]
    scale = HeightScale(low=min(one.low for one in scales), high=max(one.high for one in scales))
    drawn = [_drawn(data, name, config) for name in claim.learned]
    kept, source = [_good(data, name, "validation") for name in claim.learned], "validation"
    if claim.categories and any(kept) and not all(kept):
        lacking = ", ".join(name for name, items in zip(claim.learned, kept, strict=True) if not items)
        raise DataError(f"{data}: no good validation pairs of {lacking}", "give every category some, or none of them")
    if not any(kept):
        apart = [
            _set_aside(items, _good(data, name, "train"), config)
            for name, items in zip(claim.learned, drawn, strict=True)
        ]
        drawn, kept = [learned for learned, _ in apart], [aside for _, aside in apart]
        source = "set aside from training"
    learned_from = not any(kept)
    if learned_from:
        kept, source = drawn, "those learned from"
    training, calibrating = (
        Pairs(_in_turn(lists), manifest.preparation, config.framing, scale, config.geometry, config.batch)
        for lists in (drawn, kept)
    )
    return Chosen(training, calibrating, source, learned_from, claim)


def _set_aside(drawn: list[Item], good: list[Item], config: RunConfig) -> tuple[list[Item], list[Item]]:
    """What is learned from, and what is kept to calibrate by where there is no validation split.

    The good training pairs that --shots left; without any, one in five of those drawn, where there are enough.
    """
    names = {item.name for item in drawn}
    left = [item for item in good if item.name not in names]
    if left or len(drawn) < LEAST_SPARED:
        return drawn, left
    generator = torch.Generator().manual_seed(hash_seed(config.seed, 10))
    aside = set(torch.randperm(len(drawn), generator=generator)[: max(1, len(drawn) // SPARED)].tolist())
    learned = [item for place, item in enumerate(drawn) if place not in aside]
    return learned, [drawn[place] for place in sorted(aside)]


def _in_turn(lists: list[list[Item]]) -> list[Item]:
    """One of each list, then the next of each: what looks at a few of them sees every category."""
    return [item for row in itertools.zip_longest(*lists) for item in row if item is not None]


def _good(data: Path, category: str, split: str) -> list[Item]:
    return [item for item in prepared.scan(data, category, split) if item.is_good]


def _drawn(data: Path, category: str, config: RunConfig) -> list[Item]:
    """So many good training pairs of a category as asked for, drawn by the run's seed. Raises DataError, UsageError."""
    good = _good(data, category, "train")
    if not good:
        raise DataError(f"{data}: category {category} has no good training pairs", "prepare its train/good folder")
    check_shots(config.shots, category, len(good))
    if config.shots is None:
        return good
    generator = torch.Generator().manual_seed(hash_seed(config.seed, 8))
    return [good[place] for place in torch.randperm(len(good), generator=generator)[: config.shots].sort().values]


def check_shots(shots: int | None, category: str, there: int) -> None:
    """Raise UsageError where a run wants more good training pairs of a category than there are."""
    if shots is not None and shots > there:
        raise UsageError(f"shots is {shots}, but {category} has {there} good training pairs", "ask for fewer")


def claim_of(manifest: Manifest, wanted: str, weights: Path | None = None) -> Claim:
    """What a run that learns the category `wanted`, or `all`, stands on. Raises DataError, WeightsError."""
    together = wanted == ALL and ALL not in manifest.categories
    names = list(manifest.categories) if together else [choose_category(list(manifest.categories), wanted)]
    content = b"".join(manifest.categories[name].model_dump_json(exclude={"source"}).encode() for name in names)
    return Claim(
        category=wanted if together else names[0],
        data_sha256=hashlib.sha256(content).hexdigest(),
        weights_sha256=None if weights is None else file_hash(weights),
        categories=tuple(names) if together else (),
    )
