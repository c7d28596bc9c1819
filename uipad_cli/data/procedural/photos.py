"""Views of the user's own images: crops under other light, the second with pieces that do not belong there."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from uipad_cli.data import SPLITS, files, open_dataset
from uipad_cli.data.geometry import Preparation, height_scale, scale_height
from uipad_cli.data.procedural.design import Dice
from uipad_cli.data.procedural.drawing import CELL
from uipad_cli.data.procedural.sensors import blur, surface_image
from uipad_cli.data.procedural.views import Views
from uipad_cli.data.samples import load_sample
from uipad_cli.errors import DataError
from uipad_cli.records import Item

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
FLAWS = 3
SCANS = 0.4  # share of views that show geometry, where there is any
KEPT = 512  # decoded images kept in memory


class Photos:
    """A folder of colour images, or the pairs of a data set; nothing but good and unlabelled parts is taken."""

    def __init__(self, root: Path, sources: Sequence[Path | Item]) -> None:
        self.root, self.sources = root, list(sources)
        self._read = lru_cache(maxsize=KEPT)(self._decode)
        self.pairs = [place for place, source in enumerate(self.sources) if isinstance(source, Item)]

    def __len__(self) -> int:
        return len(self.sources)

    def digest(self) -> str:
        """Hash of the names and sizes of all files: what a resumed run must find again."""
        text = "\n".join(f"{path.relative_to(self.root)} {path.stat().st_size}" for path in self._files())
        return hashlib.sha256(text.encode()).hexdigest()

    def views(self, generator: torch.Generator, scenes: int, size: int) -> Views:
        """Pairs of views of `size` pixels. Raises DataError naming a file that cannot be read."""
        dice = Dice(generator)
        scans = bool(self.pairs) and float(dice.uniform(1)) < SCANS
        known = self.pairs if scans else range(len(self.sources))
        chosen = torch.randint(len(known), (2 * scenes,), generator=generator, device=dice.device).tolist()
        whole = [self._read(known[place], scans).to(dice.device) for place in chosen]
        poses = _poses(dice, scenes, size)
        first = torch.cat([_crop(image, pose, size) for image, pose in zip(whole, poses[0], strict=False)])
        second = torch.cat([_crop(image, pose, size) for image, pose in zip(whole, poses[1], strict=False)])
        foreign = torch.cat([_crop(image, pose, size) for image, pose in zip(whole[scenes:], poses[1], strict=True)])
        flawed = _blots(dice, scenes, size)
        shift = dice.uniform(scenes, 1, 1, 1, low=-0.25, high=0.25) * dice.chance(scenes, 1, 1, 1, of=0.5)
        piece = torch.where(shift != 0, second + shift, foreign)
        flawed = flawed * ((piece - second).abs().amax(dim=1) > 0.06)
        content = torch.cat((functional.avg_pool2d(first, CELL), functional.avg_pool2d(first**2, CELL)), dim=1)
        images = torch.stack((first, torch.where(flawed[:, None] > 0, piece, second)))
        shown = torch.stack([_sense(dice, view, scans=scans) for view in images])
        return Views(shown, poses, flawed, 2 * content, torch.ones(scenes, device=dice.device))

    def _files(self) -> list[Path]:
        return [source.rgb if isinstance(source, Item) else source for source in self.sources]

    def _decode(self, place: int, scan: bool) -> Tensor:
        """[C,H,W]: three colours 0..1, or one scaled height."""
        source = self.sources[place]
        if not isinstance(source, Item):
            return torch.from_numpy(files.read_rgb(source)).permute(2, 0, 1).float() / 255
        if not scan:
            return torch.from_numpy(files.read_rgb(source.rgb)).permute(2, 0, 1).float() / 255
        sample = load_sample(source, Preparation())
        scale = height_scale([sample.height[sample.valid]])
        return torch.from_numpy(np.ascontiguousarray(scale_height(sample.height, scale)))[None]


def find_photos(root: Path) -> Photos:
    """The images of `root`: good training pairs where it is a data set, else every colour image below it.

    Raises DataError where there is none.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder", "check the path given with --images")
    sources: list[Path | Item] = []
    try:
        dataset = open_dataset(root)
    except DataError:
        sources += sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    else:
        for category in dataset.categories(root):
            splits = [dataset.scan(root, category, split) for split in SPLITS[:2]]
            sources += [item for items in splits for item in items if item.is_good]
    if not sources:
        raise DataError(f"{root}: no image to learn from", f"expected pairs, or files such as {', '.join(SUFFIXES)}")
    return Photos(root, sources)


def _poses(dice: Dice, scenes: int, size: int) -> Tensor:
    """Two poses [2,B,2,3] in units of an image whose shorter side is about 1.3 views."""
    turn = dice.uniform(scenes, high=2 * math.pi)
    zoom = dice.log_uniform(scenes, low=0.5, high=1.3)
    shift = dice.normal(scenes, 2) * 0.2 * size
    turns = torch.stack((turn, turn + 0.2 * dice.normal(scenes)))
    zooms = torch.stack((zoom, zoom * (0.05 * dice.normal(scenes)).exp()))
    shifts = torch.stack((shift, shift + 7 * dice.normal(scenes, 2)))
    rotation = torch.stack((turns.cos(), -turns.sin(), turns.sin(), turns.cos()), dim=-1).reshape(2, -1, 2, 2)
    return torch.cat((rotation * zooms[..., None, None], shifts[..., None]), dim=-1)


def _crop(image: Tensor, pose: Tensor, size: int) -> Tensor:
    """The view of an image [C,H,W] with a pose [2,3] → [1,C,size,size]; mirrored past the border."""
    height, width = image.shape[-2:]
    scale = min(height, width) / (1.3 * size)  # image pixels per pixel of the view at zoom 1
    axis = torch.arange(size, device=image.device) - (size - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    place = (pose @ torch.stack((x, y, torch.ones_like(x))).flatten(1)).reshape(2, size, size) * scale
    grid = torch.stack((2 * place[0] / width, 2 * place[1] / height), dim=-1)
    coarse = functional.avg_pool2d(image[None], round(scale), ceil_mode=True) if scale >= 1.5 else image[None]
    return functional.grid_sample(coarse, grid[None], padding_mode="reflection", align_corners=False)


def _blots(dice: Dice, scenes: int, size: int) -> Tensor:
    """Small ellipses and strokes [B,S,S], 1 inside."""
    axis = torch.arange(size, device=dice.device) - (size - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    blots = torch.zeros(scenes, size, size, device=dice.device)
    for _ in range(FLAWS):
        centre = dice.uniform(scenes, 2, 1, 1, low=-0.45, high=0.45) * size
        angle = dice.uniform(scenes, 1, 1, high=math.pi)
        along = dice.log_uniform(scenes, 1, 1, low=3.0, high=0.1 * size + 8)
        across = (along * dice.uniform(scenes, 1, 1, low=0.1, high=1.0)).clamp(min=1.2)
        u, v = x - centre[:, 0], y - centre[:, 1]
        across_place, along_place = v * angle.cos() - u * angle.sin(), u * angle.cos() + v * angle.sin()
        inside = (along_place / along) ** 2 + (across_place / across) ** 2 < 1
        blots = torch.maximum(blots, inside.float() * dice.chance(scenes, 1, 1, of=0.75))
    return blots


def _sense(dice: Dice, view: Tensor, *, scans: bool) -> Tensor:
    """Other light, sharpness and noise for colours, noise for heights, which become relief: → [B,3,S,S] 0..1."""
    scenes = len(view)
    if scans:
        noisy = view + dice.log_uniform(scenes, 1, 1, 1, low=0.0005, high=0.008) * dice.normal(*view.shape)
        return surface_image(noisy[:, 0], "relief")
    light = (0.1 * dice.normal(scenes, 1, 1, 1)).exp() * (0.03 * dice.normal(scenes, 3, 1, 1)).exp()
    seen = blur(view * light, dice.uniform(scenes, high=0.24))
    return (seen + dice.log_uniform(scenes, 1, 1, 1, low=0.002, high=0.02) * dice.normal(*seen.shape)).clamp(0, 1)
