from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from uipad_cli.data import scenes
from uipad_cli.data.scenes import CATEGORIES, DEFECT_KINDS, DEFECTS, HELD_BACK, Scene, camera, render, scene_seed, write
from uipad_cli.errors import UsageError
from uipad_cli.records import Progress

SMALL = 96
EVERY_CATEGORY = CATEGORIES + HELD_BACK
EVERY_DEFECT = [(category, defect) for category in EVERY_CATEGORY for defect in DEFECTS[category]]
CROSS_MODAL = [(category, defect) for category, defect in EVERY_DEFECT if DEFECT_KINDS[defect] == "cross-modal"]
CHANGING = [(category, defect) for category, defect in EVERY_DEFECT if DEFECT_KINDS[defect] != "cross-modal"]


def of_kind(kind: str) -> list[tuple[str, str]]:
    return [(category, defect) for category, defect in EVERY_DEFECT if DEFECT_KINDS[defect] == kind]


def same(left: Scene, right: Scene) -> bool:
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in ("rgb", "xyz", "mask"))


def height_above_table(scene: Scene) -> np.ndarray:
    """Depth below the plane through the image's border, on measured pixels; zero elsewhere."""
    depth = scene.xyz[..., 2].astype(np.float64)
    size = depth.shape[0]
    v, u = np.mgrid[0:size, 0:size]
    border = (np.minimum(np.minimum(u, v), size - 1 - np.maximum(u, v)) < 2) & (depth > 0)
    columns = np.stack([u[border], v[border], np.ones(border.sum())], 1)
    across, down, offset = np.linalg.lstsq(columns, depth[border], rcond=None)[0]
    return np.where(depth > 0, across * u + down * v + offset - depth, 0.0)


def test_tables_agree() -> None:
    named = {defect for defects in DEFECTS.values() for defect in defects}
    assert len(CATEGORIES) >= 4
    assert named == set(DEFECT_KINDS)
    assert set(DEFECT_KINDS.values()) == {"geometry", "colour", "both", "cross-modal"}
    assert all(len(set(defects)) == len(defects) and "good" not in defects for defects in DEFECTS.values())
    assert {category for category, _ in CROSS_MODAL} == set(EVERY_CATEGORY) == set(DEFECTS)


def test_held_back_parts_are_no_part_of_the_benchmark(tmp_path: Path) -> None:
    assert CATEGORIES == ("pegs", "flange", "keypad", "gear", "circuit")
    assert HELD_BACK == ("valve", "biscuit")
    one = {"train": 1, "validation": 0, "test_good": 0, "test_per_defect": 0, "size": 32}
    write(tmp_path / "benchmark", **one)
    write(tmp_path / "held", categories=HELD_BACK, **one)
    assert {path.name for path in (tmp_path / "benchmark").iterdir()} == set(CATEGORIES)
    assert {path.name for path in (tmp_path / "held").iterdir()} == set(HELD_BACK)


@pytest.mark.parametrize("category", EVERY_CATEGORY)
def test_a_seed_is_a_scene(category: str) -> None:
    first = render(category, seed=7, size=SMALL)
    assert same(first, render(category, seed=7, size=SMALL))
    other = render(category, seed=8, size=SMALL)
    assert np.abs(first.rgb.astype(int) - other.rgb).mean() > 3
    assert not np.array_equal(first.xyz, other.xyz)


@pytest.mark.parametrize("category", EVERY_CATEGORY)
def test_good_scene_is_a_photograph_and_a_scan(category: str) -> None:
    scene = render(category, seed=3, size=SMALL)
    assert scene.rgb.shape == (SMALL, SMALL, 3)
    assert scene.rgb.dtype == np.uint8
    assert scene.xyz.shape == (SMALL, SMALL, 3)
    assert scene.xyz.dtype == np.float32
    assert scene.mask.shape == (SMALL, SMALL)
    assert scene.mask.dtype == np.uint8
    assert not scene.mask.any()
    assert scene.rgb.std() > 15
    assert np.isfinite(scene.xyz).all()
    assert 0.001 < (scene.xyz[..., 2] == 0).mean() < 0.45


@pytest.mark.parametrize("category", EVERY_CATEGORY)
def test_points_lie_on_their_pixels_ray(category: str) -> None:
    scene, seen_by = render(category, seed=5, size=SMALL), camera(category, SMALL)
    x, y, z = np.moveaxis(scene.xyz.astype(np.float64), -1, 0)
    measured = z > 0
    v, u = np.mgrid[0:SMALL, 0:SMALL]
    assert np.abs(x * seen_by.focal / np.where(measured, z, 1) + seen_by.cx - u)[measured].max() < 1e-3
    assert np.abs(y * seen_by.focal / np.where(measured, z, 1) + seen_by.cy - v)[measured].max() < 1e-3
    assert (scene.xyz[~measured] == 0).all()
    assert (scene.xyz[measured] != 0).all()
    assert 0.28 < z[measured].min() < z[measured].max() < 0.62


@pytest.mark.parametrize("category", EVERY_CATEGORY)
def test_part_rises_from_a_slightly_tilted_plane(category: str) -> None:
    scene = render(category, seed=6, size=SMALL)
    height = height_above_table(scene)
    assert 0.004 < np.percentile(height, 99.5) < 0.025
    raised = (height > 0.0008).mean()
    assert 0.2 < raised < 0.75
    corner = 6
    ramp = scene.xyz[-corner:, :, 2].max() - scene.xyz[:corner, :, 2].max()
    assert abs(ramp) < 0.02


def test_pose_light_and_texture_vary() -> None:
    shots = [render("gear", seed=seed, size=SMALL) for seed in range(4)]
    brightness = [shot.rgb.mean() for shot in shots]
    assert max(brightness) - min(brightness) > 1
    centres = [np.argwhere(height_above_table(shot) > 0.004).mean(0) for shot in shots]
    assert np.ptp(centres, axis=0).max() > 1


@pytest.mark.parametrize(("category", "defect"), CHANGING)
def test_mask_is_what_the_defect_changed(category: str, defect: str) -> None:
    good, bad = render(category, seed=11, size=SMALL), render(category, defect, seed=11, size=SMALL)
    colour = np.abs(bad.rgb.astype(int) - good.rgb).max(-1) > scenes.VISIBLE_COLOUR
    depth, before = bad.xyz[..., 2], good.xyz[..., 2]
    scan = (np.abs(depth - before) > scenes.VISIBLE_DEPTH) | ((depth == 0) != (before == 0))
    assert np.array_equal(bad.mask > 0, colour | scan)
    assert set(np.unique(bad.mask)) == {0, 255}


@pytest.mark.parametrize(("category", "defect"), EVERY_DEFECT)
def test_defect_is_visible_and_not_huge(category: str, defect: str) -> None:
    size = 320 if defect in ("scratch", "fading") else 160
    share = (render(category, defect, seed=1, size=size).mask > 0).mean()
    assert 0.0005 < share < 0.12


@pytest.mark.parametrize(("category", "defect"), of_kind("colour"))
def test_colour_defect_leaves_the_scan_alone(category: str, defect: str) -> None:
    good, bad = render(category, seed=2, size=SMALL), render(category, defect, seed=2, size=SMALL)
    assert np.array_equal(good.xyz, bad.xyz)
    assert not np.array_equal(good.rgb, bad.rgb)


@pytest.mark.parametrize(("category", "defect"), [pair for pair in EVERY_DEFECT if pair[1] in scenes.UNSEEN])
def test_unseen_defect_leaves_the_photograph_alone(category: str, defect: str) -> None:
    good, bad = render(category, seed=2, size=SMALL), render(category, defect, seed=2, size=SMALL)
    assert np.array_equal(good.rgb, bad.rgb)
    assert not np.array_equal(good.xyz, bad.xyz)


@pytest.mark.parametrize(("category", "defect"), of_kind("geometry") + of_kind("both"))
def test_relief_of_the_defect_reaches_the_scan(category: str, defect: str) -> None:
    good, bad = render(category, seed=2, size=160), render(category, defect, seed=2, size=160)
    both = (good.xyz[..., 2] > 0) & (bad.xyz[..., 2] > 0)
    assert np.abs(good.xyz - bad.xyz)[both].max() > 0.0003


@pytest.mark.parametrize(("category", "defect"), CROSS_MODAL)
def test_cross_modal_colours_and_heights_occur_in_good_parts(category: str, defect: str) -> None:
    goods = [render(category, seed=seed, size=SMALL) for seed in range(20, 28)]
    bad = render(category, defect, seed=30, size=SMALL)
    usual = np.concatenate([good.rgb.reshape(-1, 3) for good in goods]).astype(np.float32)[::7]
    wrong = bad.rgb[bad.mask > 0].astype(np.float32)
    nearest = np.sqrt(((wrong[:, None] - usual[None]) ** 2).sum(-1).min(1))
    assert np.percentile(nearest, 90) < 10
    highest = max(float(np.percentile(height_above_table(good), 99.9)) for good in goods)
    assert height_above_table(bad)[bad.mask > 0].max() < highest + 0.001


def test_red_round_peg_is_red_and_round() -> None:
    bad, good = render("pegs", "red_round", seed=4, size=160), render("pegs", seed=4, size=160)
    element = bad.mask > 0
    red, _, blue = bad.rgb[element].astype(int).mean(0)
    was_red, _, was_blue = good.rgb[element].astype(int).mean(0)
    assert red > 1.8 * blue
    assert was_blue > 1.5 * was_red
    v, u = np.nonzero(element)
    assert element.sum() / (np.ptp(v) + 1) / (np.ptp(u) + 1) == pytest.approx(np.pi / 4, abs=0.06)


@pytest.mark.parametrize(("category", "defect"), [("valve", "wrong_seal"), ("biscuit", "wrong_drop")])
def test_swapped_material_keeps_its_relief(category: str, defect: str) -> None:
    good, bad = render(category, seed=4, size=160), render(category, defect, seed=4, size=160)
    measured = (good.xyz[..., 2] > 0) & (bad.xyz[..., 2] > 0)
    assert np.abs(good.xyz[..., 2] - bad.xyz[..., 2])[measured].max() < scenes.VISIBLE_DEPTH
    element = bad.mask > 0
    moved = np.abs(bad.rgb.astype(int) - good.rgb).max(-1) > scenes.VISIBLE_COLOUR
    assert moved[element].mean() > 0.7
    assert moved[~element].mean() < 0.005


@pytest.mark.parametrize(
    ("category", "defect"), [(category, defect) for category, defect in EVERY_DEFECT if category in HELD_BACK]
)
def test_good_twin_of_a_held_back_part_is_equal_but_for_the_defect(category: str, defect: str) -> None:
    good, bad = render(category, seed=9, size=SMALL), render(category, defect, seed=9, size=SMALL)
    same_colour = (bad.rgb == good.rgb).all(-1)
    assert same_colour.mean() > 0.85
    lost = (good.xyz[..., 2] == 0).mean(), (bad.xyz[..., 2] == 0).mean()
    assert abs(lost[0] - lost[1]) < 0.02


def test_ghost_chip_is_seen_but_not_measured() -> None:
    good, bad = render("circuit", seed=4, size=160), render("circuit", "ghost_chip", seed=4, size=160)
    element = (bad.mask > 0) & (good.xyz[..., 2] > 0) & (bad.xyz[..., 2] > 0)
    moved = np.abs(good.xyz[..., 2] - bad.xyz[..., 2])
    assert np.percentile(moved[element], 90) > 0.0015
    measured = (good.xyz[..., 2] > 0) & (bad.xyz[..., 2] > 0)
    assert moved[measured & (bad.mask == 0)].max() < 0.001


def test_global_random_state_is_left_alone() -> None:
    before = np.random.get_state()[1].copy()
    render("flange", "scratch", seed=1, size=SMALL)
    assert np.array_equal(before, np.random.get_state()[1])


def test_written_layout(tmp_path: Path) -> None:
    told: list[Progress] = []
    write(
        tmp_path,
        categories=("pegs",),
        train=2,
        validation=1,
        test_good=1,
        test_per_defect=1,
        size=48,
        report=told.append,
    )
    found = {str(path.relative_to(tmp_path / "pegs")) for path in tmp_path.rglob("*") if path.is_file()}
    expected = {f"train/good/{kind}" for kind in ("rgb/000.png", "rgb/001.png", "xyz/000.tiff", "xyz/001.tiff")}
    expected |= {"validation/good/rgb/000.png", "validation/good/xyz/000.tiff"}
    for defect in ("good", *DEFECTS["pegs"]):
        expected |= {f"test/{defect}/{kind}" for kind in ("rgb/000.png", "xyz/000.tiff", "gt/000.png")}
    assert found == expected
    assert told[-1].done == told[-1].total == 3 + 1 + len(DEFECTS["pegs"])

    scene = render("pegs", "red_round", seed=scene_seed(0, "pegs", "test", "red_round", 0), size=48)
    folder = tmp_path / "pegs/test/red_round"
    assert np.array_equal(cv2.imread(str(folder / "rgb/000.png"))[..., ::-1], scene.rgb)
    assert np.array_equal(tifffile.imread(folder / "xyz/000.tiff"), scene.xyz)
    assert np.array_equal(cv2.imread(str(folder / "gt/000.png"), cv2.IMREAD_UNCHANGED), scene.mask)
    assert scene.mask.any()
    assert not cv2.imread(str(tmp_path / "pegs/test/good/gt/000.png"), cv2.IMREAD_UNCHANGED).any()


def test_scene_does_not_depend_on_how_many_are_written(tmp_path: Path) -> None:
    few = {"categories": ("gear",), "validation": 0, "test_good": 0, "test_per_defect": 0, "size": 48}
    write(tmp_path / "few", train=1, **few)
    write(tmp_path / "more", train=2, **few)
    name = "gear/train/good/xyz/000.tiff"
    assert (tmp_path / "few" / name).read_bytes() == (tmp_path / "more" / name).read_bytes()


def test_every_scene_has_its_own_seed() -> None:
    splits = [("train", "good"), ("validation", "good"), ("test", "good"), ("test", "stain")]
    seeds = [
        scene_seed(seed, category, split, defect, index)
        for seed in (0, 1)
        for category in EVERY_CATEGORY
        for split, defect in splits
        for index in range(50)
    ]
    assert len(set(seeds)) == len(seeds)
    assert scene_seed(0, "pegs", "train", "good", 0) == 12167874930617192403  # the same in every process


@pytest.mark.parametrize(
    ("category", "defect", "cure"),
    [("peg", "good", "'pegs'"), ("pegs", "red_ruond", "'red_round'"), ("gear", "ring_swap", "Known: good")],
)
def test_unknown_name_is_answered_with_the_nearest(category: str, defect: str, cure: str) -> None:
    with pytest.raises(UsageError) as caught:
        render(category, defect)
    assert cure in caught.value.cure


def test_impossible_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="seed -1"):
        render("pegs", seed=-1)
    with pytest.raises(UsageError, match="8 pixels"):
        render("pegs", size=8)
    with pytest.raises(UsageError, match="-1 scenes for train"):
        write(tmp_path, train=-1)
    with pytest.raises(UsageError, match="called 'pgs'"):
        write(tmp_path, categories=("pegs", "pgs"))
    assert not list(tmp_path.iterdir())
