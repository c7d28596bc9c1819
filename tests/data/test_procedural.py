import ast
from pathlib import Path

import pytest
import torch

import uipad_cli
from uipad_cli.data.procedural import design, drawing
from uipad_cli.data.procedural.design import Dice
from uipad_cli.data.procedural.views import SCENES_AT_ONCE, make_views
from uipad_cli.data.relief import normal_image

FOLDER = Path(uipad_cli.__file__).parent / "data" / "procedural"


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def views():
    return make_views(seeded(3), 24, 56)


def test_shapes_and_ranges(views):
    assert views.images.shape == (2, 24, 3, 56, 56)
    assert views.poses.shape == (2, 24, 2, 3)
    assert views.flawed.shape == (24, 56, 56)
    assert views.content.shape == (24, design.LAYERS, 4, 4)
    assert views.images.isfinite().all()
    assert views.images.min() >= -0.5
    assert views.images.max() <= 1.5
    assert set(views.flawed.unique().tolist()) <= {0.0, 1.0}
    assert 0.005 < views.flawed.mean() < 0.3


def test_the_same_seed_draws_the_same_and_another_seed_does_not(views):
    again, other = make_views(seeded(3), 24, 56), make_views(seeded(4), 24, 56)
    assert torch.equal(again.images, views.images)
    assert torch.equal(again.flawed, views.flawed)
    assert not torch.equal(other.images, views.images)


def test_every_scene_is_photographed_and_scanned(views):
    photographs, scans = views.images[:, :SCENES_AT_ONCE], views.images[:, SCENES_AT_ONCE : 2 * SCENES_AT_ONCE]
    for several in (views.poses.flatten(2).transpose(0, 1), views.content, views.laid_out):
        assert torch.equal(several[:SCENES_AT_ONCE], several[SCENES_AT_ONCE : 2 * SCENES_AT_ONCE])
    upward = scans[:, :, 2].mean(dim=(0, 2, 3))
    equal = (scans[:, :, 0] == scans[:, :, 1]).flatten(2).all()
    assert (upward > 0.7).all() or equal  # normals, or heights
    assert not torch.equal(photographs, scans)


def test_an_odd_number_of_pairs_leaves_the_last_scan_out():
    assert make_views(seeded(3), 5, 56).images.shape[1] == 5


def test_scenes_differ_from_each_other(views):
    flat = views.images[0].flatten(1)
    distance = torch.cdist(flat, flat) + torch.eye(len(flat)) * 1e9
    assert distance.min() > 1.0


def test_two_views_at_one_pose_show_the_same_part_but_for_flaws():
    dice = Dice(seeded(1))
    layers, around = design.draw_layers(dice, 4, 84), design.draw_surroundings(dice, 4)
    poses = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).expand(4, 2, 3)
    noise, depth = torch.zeros(4, 2, 84, 84), torch.full((4,), 20.0)
    flaws = design.draw_flaws(dice, 4, 84, depth, torch.zeros(4, design.FLAWS, 2))
    none = torch.zeros(4, design.LAYERS)
    marked = torch.cat((none, torch.ones(4, design.FLAWS)), dim=1)
    good = drawing.draw(layers, none, around, poses, 84, noise, depth)
    bad = drawing.draw(layers.on_top(flaws), marked, around, poses, 84, noise, depth)
    assert good.recoloured.sum() == good.reshaped.sum() == 0
    changed = ((bad.albedo - good.albedo).abs().amax(1) > 0.1) | ((bad.height - good.height).abs() > 2.0)
    assert changed.any()
    shown = torch.maximum(bad.recoloured, bad.reshaped) > 0
    assert (changed & ~shown).float().sum() <= 0.02 * changed.sum()


def test_a_missing_layer_is_a_flaw_where_it_was():
    dice = Dice(seeded(2))
    layers, around = design.draw_layers(dice, 6, 84), design.draw_surroundings(dice, 6)
    poses = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).expand(6, 2, 3)
    noise, depth = torch.zeros(6, 2, 84, 84), torch.full((6,), 5.0)
    flaw = torch.zeros(6, design.LAYERS)
    flaw[:, -1] = -1
    good = drawing.draw(layers, torch.zeros_like(flaw), around, poses, 84, noise, depth)
    bad = drawing.draw(layers, flaw, around, poses, 84, noise, depth)
    moved = (good.height - bad.height).abs() > 0.1
    assert moved.any()
    assert (bad.reshaped[moved] > 0).float().mean() > 0.95


def test_a_plane_has_one_normal_and_flat_ground_looks_up():
    flat = normal_image(torch.zeros(1, 20, 20))
    assert torch.allclose(flat, torch.tensor([0.5, 0.5, 1.0]).view(1, 3, 1, 1).expand_as(flat))
    ramp = normal_image((torch.arange(20.0) / 40).expand(1, 20, 20))[..., 1:-1, 1:-1]
    expected = torch.tensor([0.5 - 0.5 / 2**0.5, 0.5, 0.5 + 0.5 / 2**0.5]).view(1, 3, 1, 1)
    assert torch.allclose(ramp, expected.expand_as(ramp), atol=1e-5)


def test_texture_has_unit_variance_and_its_direction():
    noise = torch.randn(1, 1, 128, 128, generator=seeded(0))
    fine = torch.tensor([[1.5, 8.0, 0.0]])
    field = drawing.texture(noise, fine, torch.zeros(1))[0, 0]
    assert field.std() == pytest.approx(1.0, abs=1e-3)
    along, across = field.diff(dim=1).std(), field.diff(dim=0).std()
    assert along < 0.4 * across


def test_nothing_of_the_benchmark_is_used():
    for path in FOLDER.glob("*.py"):
        names = [
            node.module or "" for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)
        ]
        assert not [name for name in names if "rendering" in name or "scenes" in name]
