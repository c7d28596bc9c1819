import ast
from pathlib import Path

import pytest
import torch

import uipad_cli
from uipad_cli.data.procedural import design, drawing
from uipad_cli.data.procedural.design import Dice
from uipad_cli.data.procedural.kits import PIECES, Kit, draw_kit, rearranged, spoil_kit
from uipad_cli.data.procedural.sensors import surface_image
from uipad_cli.data.procedural.views import LEFT_OUT, SCENES_AT_ONCE, make_views

FOLDER = Path(uipad_cli.__file__).parent / "data" / "procedural"


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def scan_kind(scans):
    """What the scans [...,3,S,S] of one chunk show."""
    right, down, third = scans.unbind(-3)
    if torch.equal(right, down):
        return "height"
    length = (2 * torch.stack((right, down, third)) - 1).norm(dim=0)
    return "normals" if torch.allclose(length, torch.ones_like(length), atol=1e-3) else "relief"


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
    told = views.flawed
    assert ((told == 0) | (told == 1) | (told == torch.tensor(LEFT_OUT))).all()
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
    assert scan_kind(scans) in {"relief", "normals", "height"}
    assert not torch.equal(photographs, scans)


def test_an_odd_number_of_pairs_leaves_the_last_scan_out():
    assert make_views(seeded(3), 5, 56).images.shape[1] == 5


def test_scenes_differ_from_each_other(views):
    flat = views.images[0].flatten(1)
    distance = torch.cdist(flat, flat) + torch.eye(len(flat)) * 1e9
    assert distance.min() > 1.0


def scenes_at_one_pose(seed, count, depth):
    """Dice, layers, height ranges, and a function that draws layers with flaw codes, all without texture."""
    dice = Dice(seeded(seed))
    layers, around = design.draw_layers(dice, count, 84), design.draw_surroundings(dice, count)
    poses = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).expand(count, 2, 3)
    noise, depths = torch.zeros(count, 2, 84, 84), torch.full((count,), depth)

    def show(shown, flaw):
        return drawing.draw(shown, flaw, around, poses, 84, noise, depths)

    return dice, layers, depths, show


def test_two_views_at_one_pose_show_the_same_part_but_for_flaws():
    dice, layers, depth, show = scenes_at_one_pose(1, 4, 20.0)
    flaws = design.draw_flaws(dice, 4, 84, depth, torch.zeros(4, design.FLAWS, 2))
    none = torch.zeros(4, design.LAYERS)
    marked = torch.cat((none, torch.ones(4, design.FLAWS)), dim=1)
    good = show(layers, none)
    bad = show(layers.on_top(flaws), marked)
    assert good.recoloured.sum() == good.reshaped.sum() == 0
    changed = ((bad.albedo - good.albedo).abs().amax(1) > 0.1) | ((bad.height - good.height).abs() > 2.0)
    assert changed.any()
    shown = torch.maximum(bad.recoloured, bad.reshaped) > 0
    assert (changed & ~shown).float().sum() <= 0.02 * changed.sum()


def test_a_missing_layer_is_a_flaw_where_it_was():
    _, layers, _, show = scenes_at_one_pose(2, 6, 5.0)
    flaw = torch.zeros(6, design.LAYERS)
    flaw[:, -1] = -1
    good = show(layers, torch.zeros_like(flaw))
    bad = show(layers, flaw)
    moved = (good.height - bad.height).abs() > 0.1
    assert moved.any()
    assert (bad.reshaped[moved] > 0).float().mean() > 0.95


def kits(seed=5, scenes=400):
    dice = Dice(seeded(seed))
    layers, kit = draw_kit(dice, design.draw_layers(dice, scenes, 168), 168)
    return dice, layers, kit


def test_pieces_of_a_sort_are_alike_and_sorts_differ():
    _, layers, kit = kits()
    present = kit.present > 0
    assert 0.25 < present.float().mean() < 0.45
    for scene in present.nonzero().flatten()[:40].tolist():
        sort = kit.sort[scene]
        assert sort.max() < kit.sorts[scene]
        for values in (layers.half, layers.corner, layers.rise, layers.colour):
            pieces = values[scene, 1:].reshape(PIECES, -1)
            assert all(len(pieces[sort == one].unique(dim=0)) == 1 for one in sort.unique())
        outlines = torch.cat((layers.half[scene, 1:], layers.corner[scene, 1:, None]), dim=1)
        assert len(outlines.unique(dim=0)) == len(sort.unique())


def test_at_most_one_piece_of_a_kit_has_the_colour_of_another_sort_or_another_height():
    dice, layers, kit = kits()
    spoiled, flaw = spoil_kit(dice, layers, kit, torch.full((400,), 30.0))
    assert not flaw[kit.present == 0].any()
    assert (flaw != 0).sum(dim=1).max() == 1
    swapped, moved = flaw == drawing.RECOLOURED, flaw == drawing.RELEVELLED
    assert min(swapped.sum(), moved.sum()) > 30
    assert torch.equal((spoiled.colour != layers.colour).any(-1), swapped)
    assert torch.equal(spoiled.rise != layers.rise, moved)
    for scene, layer in swapped.nonzero().tolist():
        donors = (layers.colour[scene] == spoiled.colour[scene, layer]).all(-1)
        assert (kit.sort[scene, donors.nonzero().flatten()[-1] - 1] != kit.sort[scene, layer - 1]).all()


def test_pieces_trade_places_where_a_kit_is_not_laid_out():
    dice, layers, kit = kits()
    laid_out = torch.arange(400) % 2
    other = rearranged(dice, layers, kit, laid_out)
    moved = (other.centre != layers.centre).any(dim=-1).any(dim=-1)
    assert torch.equal(moved, (kit.present > 0) & (laid_out == 0))
    assert torch.equal(other.centre.sort(dim=1).values, layers.centre.sort(dim=1).values)


def test_content_does_not_tell_pieces_of_a_sort_apart():
    kit = Kit(torch.tensor([1.0, 0.0]), torch.tensor([[0, 1, 0, 0, 1, 1, 0, 2]] * 2), torch.tensor([3, 3]))
    content = torch.eye(design.LAYERS).reshape(1, design.LAYERS, 3, 3).repeat(2, 1, 1, 1)
    merged = kit.merged(content)
    assert torch.equal(merged[1], content[1])
    alike = merged[0].flatten(1).T  # place k is filled by layer k alone
    for one, first in enumerate([-1, *kit.sort[0].tolist()]):
        for other, second in enumerate([-1, *kit.sort[0].tolist()]):
            assert torch.equal(alike[one], alike[other]) == (first == second)


def test_a_wrong_colour_and_a_wrong_height_are_marked_where_the_piece_lies():
    _, layers, _, show = scenes_at_one_pose(2, 4, 20.0)
    flaw = torch.zeros(4, design.LAYERS)
    flaw[:2, 1], flaw[2:, 1] = drawing.RECOLOURED, drawing.RELEVELLED
    maps = show(layers, flaw)
    assert not maps.reshaped.any()
    marked = torch.cat((maps.recoloured[:2], maps.relevelled[2:]))
    assert not torch.cat((maps.recoloured[2:], maps.relevelled[:2])).any()
    covered = torch.nn.functional.avg_pool2d(marked, drawing.CELL)
    assert (covered - maps.content[:, 1]).abs().max() < 0.2  # but for soft edges
    assert (marked.sum((1, 2)) > 0).sum() >= 3


def test_a_plane_has_one_normal_and_flat_ground_looks_up():
    flat = surface_image(torch.zeros(1, 20, 20), "normals")
    assert torch.allclose(flat, torch.tensor([0.5, 0.5, 1.0]).view(1, 3, 1, 1).expand_as(flat))
    ramp = surface_image((torch.arange(20.0) / 40).expand(1, 20, 20), "normals")[..., 1:-1, 1:-1]
    expected = torch.tensor([0.5 - 0.5 / 2**0.5, 0.5, 0.5 + 0.5 / 2**0.5]).view(1, 3, 1, 1)
    assert torch.allclose(ramp, expected.expand_as(ramp), atol=1e-5)


def test_relief_is_the_slopes_of_the_normals_and_the_height():
    height = torch.rand(2, 20, 20, generator=seeded(0))
    relief, normals = surface_image(height, "relief"), surface_image(height, "normals")
    assert torch.equal(relief[:, :2], normals[:, :2])
    assert torch.equal(relief[:, 2], height)
    assert torch.equal(surface_image(height, "height"), height[:, None].repeat(1, 3, 1, 1))


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
