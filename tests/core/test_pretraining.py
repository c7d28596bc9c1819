import pytest
import torch

from uipad_cli.core import pretraining
from uipad_cli.core.backbone import build_encoder, group_means, new_tiny
from uipad_cli.core.pretraining import Lesson, Pupil

EDGE, SIZE = 4, 56
UNMOVED = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def lesson(*, shift=0.0, turn=0.0, scenes=3, flaw=False):
    generator = torch.Generator().manual_seed(5)
    first = torch.rand(scenes, 3, SIZE, SIZE, generator=generator)
    angle = torch.tensor(turn)
    second_pose = torch.tensor([[angle.cos(), -angle.sin(), shift], [angle.sin(), angle.cos(), 0.0]])
    flawed = torch.zeros(scenes, SIZE, SIZE)
    if flaw:
        flawed[:, 14:28, 14:28] = 1
    poses = torch.stack((UNMOVED.expand(scenes, 2, 3), second_pose.expand(scenes, 2, 3)))
    content = torch.rand(scenes, 5, EDGE, EDGE, generator=generator)
    return Lesson(torch.stack((first, first)), poses, flawed, content, torch.ones(scenes))


def grid():
    axis = torch.arange(EDGE).float()
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).flatten(0, 1)  # x, y


def test_patches_of_equal_poses_lie_on_themselves():
    assert torch.allclose(pretraining.patch_places(lesson().poses, EDGE)[0], grid(), atol=1e-5)


def test_a_shift_by_one_patch_moves_every_place_by_one():
    found = pretraining.patch_places(lesson(shift=14.0).poses, EDGE)[0]
    assert torch.allclose(found, grid() + torch.tensor([1.0, 0.0]), atol=1e-5)


def test_a_quarter_turn_takes_the_top_row_to_the_right_column():
    found = pretraining.patch_places(lesson(turn=torch.pi / 2).poses, EDGE)[0]
    assert torch.allclose(found[:EDGE], torch.tensor([[3.0, 0.0], [3.0, 1.0], [3.0, 2.0], [3.0, 3.0]]), atol=1e-4)


def test_flawed_patches_and_places_outside_the_first_view_are_not_sound():
    _, sound, flawed = pretraining.truth(lesson(flaw=True))
    assert flawed[0].nonzero().flatten().tolist() == [5]
    assert not (sound & flawed).any()
    assert sound[0].sum() == EDGE * EDGE - 1
    _, shifted, _ = pretraining.truth(lesson(shift=14.0))
    assert shifted[0].reshape(EDGE, EDGE)[:, -1].sum() == 0


def test_features_are_unit_vectors_the_group_means_that_methods_use():
    pupil = Pupil(new_tiny(392)).eval()
    images = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        found = pupil.features(images)
    assert found.shape == (2, EDGE * EDGE, 2 * 192)
    assert torch.allclose(found.norm(dim=-1), torch.ones(2, EDGE * EDGE), atol=1e-5)
    encoder = build_encoder("tiny", SIZE, weights=pupil.vit.state_dict())
    means = torch.nn.functional.normalize(group_means(encoder(images * encoder.std + encoder.mean), 2), dim=-1)
    assert torch.allclose(found[..., :192], means[:, 0] / 2**0.5, atol=1e-4)


def test_contrast_prefers_the_right_patch():
    pupil = Pupil(new_tiny(392))
    given = lesson()
    place, sound, _ = pretraining.truth(given)
    content = given.content.flatten(2).transpose(1, 2)
    good = torch.nn.functional.normalize(torch.randn(3, 16, 32, generator=torch.Generator().manual_seed(1)), dim=-1)
    generators = (torch.Generator().manual_seed(2), torch.Generator().manual_seed(2))
    right = pupil.contrast(good, good, place, sound, content, generators[0])
    wrong = pupil.contrast(good, good.flip(1), place, sound, content, generators[1])
    assert right < 0.1 < wrong


def test_novelty_rewards_flaws_that_are_like_nothing():
    pupil = Pupil(new_tiny(392))
    _, sound, flawed = pretraining.truth(lesson(flaw=True))
    generator = torch.Generator().manual_seed(1)
    good = torch.nn.functional.normalize(torch.randn(3, 16, 32, generator=generator), dim=-1)
    seen = torch.nn.functional.normalize(good + 0.1 * torch.randn(3, 16, 32, generator=generator), dim=-1)
    blind, ratio = pupil.novelty(good, seen, sound, flawed)
    assert ratio == pytest.approx(1, abs=0.3)
    seen[:, 5] = -torch.nn.functional.normalize(good.sum(dim=1), dim=-1)
    sharp, ratio = pupil.novelty(good, seen, sound, flawed)
    assert sharp < blind
    assert ratio > 3


def test_described_tells_colour_and_direction():
    stripes = (torch.arange(SIZE) // 7 % 2).float()
    images = torch.stack(
        (stripes.expand(3, SIZE, SIZE), stripes[:, None].expand(3, SIZE, SIZE), torch.full((3, SIZE, SIZE), 0.4))
    )
    found = pretraining.described(images)
    assert found.shape == (3, EDGE * EDGE, pretraining.DESCRIBED)
    upright, lying, plain = found[:, 5]
    assert torch.allclose(plain, torch.tensor([0.4] * 3 + [0.0] * (pretraining.DESCRIBED - 3)), atol=1e-3)
    across, down = 6, 6 + pretraining.ORIENTATIONS // 2
    assert upright[across] > 0.2 > upright[down]
    assert lying[down] > 0.2 > lying[across]


def test_a_lesson_teaches_every_part_of_the_backbone():
    pupil = Pupil(new_tiny(392))
    loss, values = pupil(lesson(shift=3.0, flaw=True), torch.Generator().manual_seed(3))
    loss.backward()
    assert set(values) == {"contrast", "novelty", "ratio", "description"}
    untouched = [name for name, one in pupil.named_parameters() if one.grad is None or not one.grad.abs().sum() > 0]
    assert untouched == []


@torch.no_grad()
def test_one_strange_patch_of_a_large_flaw_is_half_of_what_is_asked():
    pupil = Pupil(new_tiny(14))
    flawed = torch.zeros(1, 16, dtype=torch.bool)
    flawed[:, :4] = True
    good = torch.eye(16)[None]
    seen = good.clone()
    none, _ = pupil.novelty(good, seen, ~flawed, flawed)
    seen[:, 0] = -good[:, 0]
    one, _ = pupil.novelty(good, seen, ~flawed, flawed)
    seen[:, :4] = -good[:, :4]
    every, _ = pupil.novelty(good, seen, ~flawed, flawed)
    assert float(every) < 0.05 < float(one) < 0.6 * float(none)
    nothing, _ = pupil.novelty(good, seen, ~flawed, torch.zeros_like(flawed))
    assert float(nothing) == 0


def test_the_nearest_is_found_in_full_precision():
    known = torch.nn.functional.normalize(torch.randn(1, 9, 384, generator=torch.Generator().manual_seed(0)), dim=-1)
    asked = torch.nn.functional.normalize(known + 0.002 * torch.randn(1, 9, 384), dim=-1)
    exact = 1 - (asked.double() * known.double()).sum(-1)
    with torch.autocast("cpu", torch.bfloat16):
        found = pretraining.nearest(asked, known)
    assert torch.allclose(found.double(), exact, atol=1e-6)
