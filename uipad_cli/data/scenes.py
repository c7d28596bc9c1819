"""The built-in data set: rendered parts as a colour image and a registered scan, good ones and spoiled ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from uipad_cli.data.rendering import biscuit, circuit, flange, gear, keypad, pegs, valve
from uipad_cli.data.rendering.canvas import Streams, stable_key
from uipad_cli.data.rendering.optics import Camera
from uipad_cli.data.rendering.stage import Category, Shot, shoot
from uipad_cli.errors import UsageError
from uipad_cli.records import GOOD, Progress, Report, silent

DefectKind = Literal["geometry", "colour", "both", "cross-modal"]


@dataclass(frozen=True)
class Scene:
    """One rendered pair: rgb [H,W,3] uint8, xyz [H,W,3] float32 metres, mask [H,W] uint8 0 or 255.

    Points are organised, in the camera's frame (x right, y down, z away from it), and (0,0,0) where missing.
    """

    rgb: npt.NDArray[np.uint8]
    xyz: npt.NDArray[np.float32]
    mask: npt.NDArray[np.uint8]


_CATEGORIES = {
    "pegs": Category(pegs.RIG, pegs.build, ("red_round", "blue_square", "sunk", "stain", "scratch", "foreign_body")),
    "flange": Category(flange.RIG, flange.build, ("ring_swap", "dent", "bump", "stain", "scratch", "hole")),
    "keypad": Category(
        keypad.RIG, keypad.build, ("wrong_key", "stuck_key", "dent", "fading", "scratch", "foreign_body")
    ),
    "gear": Category(gear.RIG, gear.build, ("wrong_bushing", "missing_rib", "dent", "stain", "broken_tooth", "hole")),
    "circuit": Category(
        circuit.RIG,
        circuit.build,
        ("ghost_chip", "bump", "fading", "missing_can", "scratch", "foreign_body"),
    ),
    "valve": Category(
        valve.RIG, valve.build, ("wrong_seal", "missing_bolt", "stripped_thread", "dent", "stain", "hole")
    ),
    "biscuit": Category(
        biscuit.RIG, biscuit.build, ("wrong_drop", "broken_edge", "crack", "bump", "fading", "foreign_body")
    ),
}

# Parts that no training and no tuning may see: they judge what was trained or tuned on the categories.
HELD_BACK: tuple[str, ...] = ("valve", "biscuit")
CATEGORIES: tuple[str, ...] = tuple(name for name in _CATEGORIES if name not in HELD_BACK)
DEFECTS: dict[str, tuple[str, ...]] = {name: category.defects for name, category in _CATEGORIES.items()}
DEFECT_KINDS: dict[str, DefectKind] = {
    "red_round": "cross-modal",
    "blue_square": "cross-modal",
    "ring_swap": "cross-modal",
    "wrong_key": "cross-modal",
    "wrong_bushing": "cross-modal",
    "ghost_chip": "cross-modal",
    "wrong_seal": "cross-modal",
    "wrong_drop": "cross-modal",
    "dent": "geometry",
    "bump": "geometry",
    "sunk": "geometry",
    "stuck_key": "geometry",
    "missing_rib": "geometry",
    "stripped_thread": "geometry",
    "stain": "colour",
    "fading": "colour",
    "scratch": "both",
    "hole": "both",
    "foreign_body": "both",
    "broken_tooth": "both",
    "missing_can": "both",
    "missing_bolt": "both",
    "broken_edge": "both",
    "crack": "both",
}

# Defects whose photograph is the good part's, shading included: each image alone is normal in every pixel.
UNSEEN: tuple[str, ...] = ("dent", "ghost_chip")

# What counts as changed in a mask: grey levels of 255 in any channel, metres of depth.
VISIBLE_COLOUR = 12
VISIBLE_DEPTH = 0.0002

_SMALLEST = 32


def render(category: str, defect: str = GOOD, *, seed: int = 0, size: int = 320) -> Scene:
    """Render one scene of `size` x `size` pixels.

    The same seed gives a spoiled part and its good twin: equal but for the defect. The mask marks what the defect
    changed, or for a cross-modal defect the whole element that does not belong. Raises UsageError.
    """
    _check(category, defect, seed=seed, size=size)
    good = _shoot(category, GOOD, seed, size)
    if defect == GOOD:
        return Scene(good.rgb, good.xyz, np.zeros((size, size), np.uint8))
    bad = _shoot(category, defect, seed, size)
    kind = DEFECT_KINDS[defect]
    rgb = good.rgb if defect in UNSEEN else bad.rgb
    xyz = good.xyz if kind == "colour" else bad.xyz
    found = bad.wrong if kind == "cross-modal" else _changed(good, rgb, xyz)
    return Scene(rgb, xyz, np.where(found, np.uint8(255), np.uint8(0)))


def camera(category: str, size: int = 320) -> Camera:
    """The pinhole camera that sees a category. Raises UsageError."""
    _check(category, GOOD, seed=0, size=size)
    return Camera.of(_CATEGORIES[category].rig, size)


def write(  # noqa: PLR0913 - every number has a name of its own and a default
    root: Path,
    *,
    categories: Sequence[str] = CATEGORIES,
    train: int = 24,
    validation: int = 8,
    test_good: int = 12,
    test_per_defect: int = 6,
    size: int = 320,
    seed: int = 0,
    report: Report = silent,
) -> None:
    """Write a data set in the layout of MVTec 3D-AD: root/category/split/defect/{rgb,xyz,gt}/000.{png,tiff,png}.

    A scene depends on the seed and its own place alone, not on how many others are written. Raises UsageError and
    ResourceError.
    """
    from uipad_cli.data.files import write_png, write_tiff
    from uipad_cli.data.places import inside

    counts = {"train": train, "validation": validation, "test": test_good, "defect": test_per_defect}
    for name, count in counts.items():
        if count < 0:
            raise UsageError(f"{count} scenes for {name}", "Give a number of scenes of 0 or more.")
    for category in categories:
        _check(category, GOOD, seed=seed, size=size)
    places = [place for category in categories for place in _places(category, counts)]
    for done, (category, split, defect, index) in enumerate(places):
        report(Progress("scenes", done, len(places), f"{category}/{split}/{defect}"))
        scene = render(category, defect, seed=scene_seed(seed, category, split, defect, index), size=size)
        folder = root / category / split / defect
        write_png(inside(root, folder / "rgb" / f"{index:03d}.png"), scene.rgb)
        write_tiff(inside(root, folder / "xyz" / f"{index:03d}.tiff"), scene.xyz)
        if split == "test":
            write_png(inside(root, folder / "gt" / f"{index:03d}.png"), scene.mask)
    report(Progress("scenes", len(places), len(places)))


def scene_seed(seed: int, category: str, split: str, defect: str, index: int) -> int:
    """The seed with which `write` renders one scene of a data set: different for every place in it."""
    keys = [seed, stable_key(category), stable_key(split), stable_key(defect), index]
    return int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0])


def _places(category: str, counts: dict[str, int]) -> Iterable[tuple[str, str, str, int]]:
    for split in ("train", "validation", "test"):
        yield from ((category, split, GOOD, index) for index in range(counts[split]))
    for defect in DEFECTS[category]:
        yield from ((category, "test", defect, index) for index in range(counts["defect"]))


def _shoot(category: str, defect: str, seed: int, size: int) -> Shot:
    return shoot(_CATEGORIES[category], defect, Streams.of(seed, category, defect), size)


def _changed(good: Shot, rgb: npt.NDArray[np.uint8], xyz: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Pixels [H,W] whose colour, depth or presence in the scan differs visibly from the good twin's."""
    colour = np.abs(rgb.astype(np.int16) - good.rgb).max(-1) > VISIBLE_COLOUR
    depth, before = xyz[..., 2], good.xyz[..., 2]
    missing = (depth > 0) != (before > 0)
    found: npt.NDArray[np.bool_] = colour | missing | (np.abs(depth - before) > VISIBLE_DEPTH)
    return found


def _check(category: str, defect: str, *, seed: int, size: int) -> None:
    if category not in _CATEGORIES:
        raise UsageError(f"no rendered category is called {category!r}", _nearest(category, tuple(_CATEGORIES)))
    if defect != GOOD and defect not in DEFECTS[category]:
        known = (GOOD, *DEFECTS[category])
        raise UsageError(f"the rendered category {category!r} has no defect {defect!r}", _nearest(defect, known))
    if seed < 0:
        raise UsageError(f"a scene cannot be rendered from seed {seed}", "Give a seed of 0 or more.")
    if size < _SMALLEST:
        raise UsageError(f"{size} pixels are too few for a rendered scene", f"Give a size of at least {_SMALLEST}.")


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Known: {', '.join(known)}."
