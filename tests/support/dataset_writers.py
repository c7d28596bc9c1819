"""Tiny data sets in the formats of Eyecandies and Real-IAD D3, as their documentation describes the files.

Nobody may pass the real ones on, so these are the only samples there are. Pictures are small and cheap, names, kinds,
bit depths, keys and marks for missing values are those of the originals.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from uipad_cli.data import files

Array = npt.NDArray[Any]

FOCAL = 711.11
KINDS = ("bumps", "dents", "colors", "normals")
COMBINED = ("bumps", "colors")
_TILT = 0.6  # radians between the floor of Eyecandies and its image plane
# where the light comes from (x right, y down, z away), by the number of its image, and how bright it is
_LIGHTS = (
    ((0.0, 0.0, -1.0), 1.0),
    ((0.0, 0.8, -0.6), 0.6),
    ((0.8, 0.0, -0.6), 0.65),
    ((0.0, -0.8, -0.6), 0.7),
    ((-0.8, 0.0, -0.6), 0.75),
    ((0.0, 0.0, -1.0), 0.85),
)


# ---- Eyecandies -------------------------------------------------------------------------------------------------


def write_eyecandies(
    root: Path,
    category: str = "CandyCane",
    train: int = 4,
    val: int = 2,
    good: int = 3,
    bad: int = 3,
    private: int = 2,
    size: int = 64,
    seed: int = 0,
) -> None:
    """One class: root/CATEGORY/{train,val,test_public,test_private}/data, 17 files a sample, 10 where answers are kept.

    Of the bad ones the last has two defects at once (where there are several), the others take turns.
    """
    random = np.random.default_rng(seed)
    defects: list[tuple[str, ...]] = [(KINDS[number % 4],) for number in range(bad)]
    if bad > 1:
        defects[-1] = COMBINED
    public: list[tuple[str, ...]] = [*[()] * good, *defects]
    public = [public[number] for number in random.permutation(len(public))]
    splits: dict[str, tuple[list[tuple[str, ...]], int]] = {
        "train": ([()] * train, 3),
        "val": ([()] * val, 2),
        "test_public": (public, 2),
        "test_private": ([() if number % 2 else ("dents",) for number in range(private)], 3),
    }
    for split, (samples, digits) in splits.items():
        folder = root / category / split / "data"
        folder.mkdir(parents=True)
        for number, kinds in enumerate(samples):
            _candy(folder, f"{number:0{digits}d}", kinds, size, random, secret=split == "test_private")


def _candy(
    folder: Path, index: str, kinds: tuple[str, ...], size: int, random: np.random.Generator, *, secret: bool
) -> None:
    masks = {kind: _disc(size, 0.4 + 0.2 * (number % 2), 0.5, 0.08) for number, kind in enumerate(KINDS)}
    depth = _candy_depth(size, kinds, masks, random)
    low, high = float(depth.min()), float(depth.max())
    counts = np.rint((depth - low) / (high - low) * 65535).astype(np.uint16)
    normals = _normals(depth)
    if "normals" in kinds:  # what is seen of the surface is disturbed, its shape is not
        normals[masks["normals"]] += random.normal(0, 0.5, (int(masks["normals"].sum()), 3))
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    colour = np.where(_disc(size, 0.5, 0.5, 0.28)[..., None], (210, 60, 70), (120, 120, 125)).astype(np.float64)
    colour += random.normal(0, 4, colour.shape)
    if "colors" in kinds:
        colour[masks["colors"]] = (40, 90, 220)
    for light, (direction, brightness) in enumerate(_LIGHTS):
        shade = 0.25 + 0.75 * np.clip(normals @ np.array(direction), 0, 1)
        image = np.clip(colour * shade[..., None] * brightness, 0, 255).astype(np.uint8)
        files.write_png(folder / f"{index}_image_{light}.png", image)
    files.write_bytes(folder / f"{index}_depth.png", cv2.imencode(".png", counts)[1].tobytes())
    _write_yaml(folder / f"{index}_info_depth.yaml", {"normalization": {"min": low, "max": high}})
    flipped = normals * (1, -1, -1)
    files.write_png(folder / f"{index}_normals.png", np.rint((flipped + 1) * 127.5).astype(np.uint8))
    np.savetxt(folder / f"{index}_pose.txt", rigid_pose(random))
    if secret:
        return
    _write_yaml(folder / f"{index}_metadata.yaml", {"anomalous": int(bool(kinds))})
    _write_yaml(folder / f"{index}_obj_params.yaml", {"object": {"roughness": float(random.random())}})
    union = np.zeros((size, size), np.bool_)
    for kind in KINDS:
        mask = masks[kind] if kind in kinds else np.zeros_like(union)
        union |= mask
        files.write_png(folder / f"{index}_{kind}_mask.png", mask.astype(np.uint8) * 255)
    files.write_png(folder / f"{index}_mask.png", union.astype(np.uint8) * 255)


def _candy_depth(size: int, kinds: tuple[str, ...], masks: dict[str, Array], random: np.random.Generator) -> Array:
    """Metres [size,size]: a floor seen at a slant, and on it a smooth candy with what its defects do to its height."""
    radius = 0.28 + 0.02 * random.random()
    row, column = np.indices((size, size)) / size - 0.5
    height = 0.02 * np.clip(1 - (row**2 + column**2) / radius**2, 0, None) ** 0.5
    for kind, change in (("bumps", 0.006), ("dents", -0.006)):
        if kind in kinds:
            height[masks[kind]] += change
    # a ray meets the plane of its height: normal . (depth * ray) = height - distance
    row = np.arange(size)[:, None] - size / 2
    facing = -row / FOCAL * np.sin(_TILT) - np.cos(_TILT)
    distance = 1.5 + 0.1 * random.random()  # of the floor in the middle of the image
    return (height - distance * np.cos(_TILT)) / facing


def _normals(depth: Array) -> Array:
    """Unit normals [H,W,3] in the frame of the camera, facing it."""
    row, column = np.indices(depth.shape) - depth.shape[0] / 2
    points = np.stack([column / FOCAL * depth, row / FOCAL * depth, depth], axis=-1)
    normals = np.cross(np.gradient(points, axis=0), np.gradient(points, axis=1))
    return normals / np.linalg.norm(normals, axis=-1, keepdims=True)


def rigid_pose(random: np.random.Generator) -> Array:
    """A random rotation and translation as a matrix [4,4]."""
    rotation, upper = np.linalg.qr(random.normal(size=(3, 3)))
    rotation = rotation * np.sign(np.diag(upper))
    if np.linalg.det(rotation) < 0:
        rotation[:, 0] *= -1
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, random.normal(size=3)
    return pose


def _write_yaml(path: Path, value: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(value))


# ---- Real-IAD D3 ------------------------------------------------------------------------------------------------

CODES = ("scratch", "deformation")
_PLACEHOLDERS = {"OK": (0.166, 0.083), "NG": (0.332, 0.166)}  # of x and y: constants that give the label away
_BINARY_CLOUDS = ("knob-cap", "fork_crimp_terminal", "telephone_spring_switch")
_TIME = "00000000000000"


@dataclass(frozen=True)
class _Part:
    """One sample: where it goes, and what is wrong with it ("OK" = nothing)."""

    split: str
    number: int
    code: str


def write_realiad_d3(
    root: Path,
    category: str = "knob-cap",
    layout: Literal["download", "authors"] = "download",
    train: int = 4,
    validation: tuple[int, int] = (2, 2),
    test: tuple[int, int] = (3, 3),
    size: int = 64,
    seed: int = 0,
) -> None:
    """One category, (good, bad) parts in validation and test; bad ones take turns at two defects.

    z is in millimetres and grows away from the sensor; the images are twice as large as the points and the mask is as
    large as the images. The layout of the download is realiad_d3_jsons/ and realiad_d3_raw/; that of the authors'
    code is CATEGORY/SPLIT/{GOOD,DEFECT}.
    """
    random = np.random.default_rng(seed)
    count: dict[str, int] = {}
    parts: list[_Part] = []
    for split, (good, bad) in {"train": (train, 0), "validation": validation, "test": test}.items():
        for code in ["OK"] * good + [CODES[number % 2] for number in range(bad)]:
            count[code] = count.get(code, 0) + 1  # samples of every defect are counted anew
            parts.append(_Part(split, count[code], code))
    lists: dict[str, Any] = {"meta": {"prefix": f"{category}/"}, "train": [], "validation": [], "test": []}
    for part in parts:
        if layout == "download":
            base = root / "realiad_d3_raw" / category
            lists[part.split].append(_download(base, category, part, size, random))
        else:
            _arrange(root / category, category, part, size, random)
    if layout == "download":
        (root / "realiad_d3_jsons").mkdir(parents=True)
        (root / "realiad_d3_jsons" / f"{category}.json").write_text(json.dumps(lists, indent=1))


def _download(base: Path, category: str, part: _Part, size: int, random: np.random.Generator) -> dict[str, Any]:
    good = part.code == "OK"
    folder = f"{'OK' if good else f'NG/{part.code}'}/S{part.number:04d}"
    name = f"{category}_{part.number:04d}_{part.code}"
    points, height, mask = _surface(part, size, random)
    for light in range(1, 6):
        files.write_jpeg(base / folder / f"{name}_RGBL{light:02d}_{_TIME}.jpg", _photograph(height, mask, light))
    files.write_jpeg(base / folder / f"{name}_PS_{_TIME}.jpg", _pseudo(height))
    files.write_tiff(base / folder / f"{name}_XYZ_{_TIME}.tiff", points)
    _write_pcd(base / folder / f"{name}_PCD_{_TIME}.pcd", points, binary=category in _BINARY_CLOUDS)
    if not good:
        files.write_png(base / folder / f"{name}_RGBL05_{_TIME}.png", mask.astype(np.uint8) * 255)
    return {
        "anomaly_class": part.code,
        "image_path": f"{folder}/{name}_RGBL05_{_TIME}.jpg",
        "ps_path": f"{folder}/{name}_PS_{_TIME}.jpg",
        "xyz_path": f"{folder}/{name}_XYZ_{_TIME}.tiff",
        "mask_path": None if good else f"{folder}/{name}_RGBL05_{_TIME}.png",
    }


def _arrange(base: Path, category: str, part: _Part, size: int, random: np.random.Generator) -> None:
    good = part.code == "OK"
    folder = base / part.split / ("GOOD" if good else part.code)
    name = f"{category}_{part.number:04d}_{part.code}"
    points, height, mask = _surface(part, size, random)
    for light in range(1, 6):
        inside = folder / "rgb" / f"S{part.number:04d}"
        files.write_jpeg(inside / f"{name}_L{light:02d}_RGB.jpg", _photograph(height, mask, light))
    files.write_jpeg(folder / "ps" / f"{name}_PS.jpg", _pseudo(height))
    files.write_tiff(folder / "xyz" / f"{name}_XYZ.tiff", points)
    if not good:
        files.write_png(folder / "gt" / "rgb" / f"{name}_L05_RGB.png", mask.astype(np.uint8) * 255)


def _surface(part: _Part, size: int, random: np.random.Generator) -> tuple[Array, Array, Array]:
    """Points [size,size,3] float32 with holes of NaN, the height [2 size, 2 size] mm they sample, the mask of that."""
    row, column = np.indices((2 * size, 2 * size)) / (2 * size) - 0.5
    height = 0.3 * np.clip(1 - (row**2 + column**2) / (0.28 + 0.01 * random.random()) ** 2, 0, None) ** 0.5
    mask = np.zeros((2 * size, 2 * size), np.bool_)
    if part.code != "OK":
        mask = _disc(2 * size, 0.45, 0.55, 0.09)
        height[mask] -= 0.08 if part.code == "deformation" else 0.01
    z = (60 + 0.02 * row + 0.01 * column + height)[::2, ::2] + random.normal(0, 2e-4, (size, size))
    z[random.random((size, size)) < 0.03] = np.nan
    z[size // 2 : size // 2 + 4, size // 4 : size // 4 + 4] = np.nan
    x, y = _PLACEHOLDERS["OK" if part.code == "OK" else "NG"]
    return np.stack([np.full_like(z, x), np.full_like(z, y), z], axis=-1).astype(np.float32), height, mask


def _photograph(height: Array, mask: Array, light: int) -> npt.NDArray[np.uint8]:
    down, right = np.gradient(height * 20)
    turn = 2 * np.pi * light / 5
    shade = (0.7 + 0.3 * np.tanh(down * np.sin(turn) + right * np.cos(turn))) * (0.5 + 0.1 * light)
    colour = np.where(height[..., None] > 0, (190, 180, 150), (60, 70, 90)) * np.where(mask, 0.6, 1.0)[..., None]
    return np.clip(colour * shade[..., None], 0, 255).astype(np.uint8)


def _pseudo(height: Array) -> npt.NDArray[np.uint8]:
    """Normals as colours, as photometric stereo sees them."""
    down, right = np.gradient(height * 20)
    normals = np.stack([-right, -down, np.ones_like(height)], axis=-1)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    return np.rint((normals + 1) * 127.5).astype(np.uint8)


def _write_pcd(path: Path, points: Array, *, binary: bool) -> None:
    """The cloud with real x and y; a few points do, nobody reads it."""
    z = points[::8, ::8, 2]
    row, column = np.indices(z.shape) * 0.16
    cloud = np.stack([column, row, z], axis=-1).reshape(-1, 3)
    cloud = cloud[np.isfinite(cloud).all(axis=1)].astype("<f4")
    header = (
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\n"
        f"WIDTH {len(cloud)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(cloud)}\n"
        f"DATA {'binary' if binary else 'ascii'}\n"
    )
    body = cloud.tobytes() if binary else "".join(f"{x} {y} {z}\n" for x, y, z in cloud).encode()
    path.write_bytes(header.encode() + body)


def _disc(size: int, row: float, column: float, radius: float) -> npt.NDArray[np.bool_]:
    """A filled circle in an image of `size` x `size`, all in shares of its side."""
    rows, columns = np.indices((size, size)) / size
    return np.asarray((rows - row) ** 2 + (columns - column) ** 2 < radius**2)
