import pytest
import torch

from uipad_cli.core import memory


def cloud(count, width, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_a_coreset_holds_one_of_each_cluster():
    centres = 50 * cloud(12, 20)
    points = (centres[:, None] + 0.1 * cloud(12 * 30, 20, seed=1).reshape(12, 30, 20)).flatten(0, 1)
    chosen = memory.coreset(points, 12, seed=3)
    assert sorted((chosen // 30).tolist()) == list(range(12))


def test_a_coreset_covers_better_than_chance():
    points = cloud(600, 8)
    chosen = memory.coreset(points, 60, seed=0)
    assert len(set(chosen.tolist())) == 60
    covered = torch.cdist(points, points[chosen]).amin(dim=1).max()
    for seed in range(5):
        drawn = torch.randperm(600, generator=torch.Generator().manual_seed(seed))[:60]
        assert covered < torch.cdist(points, points[drawn]).amin(dim=1).max()


def test_a_coreset_of_all_is_all():
    assert sorted(memory.coreset(cloud(40, 8), 40, seed=0).tolist()) == list(range(40))


def test_a_coreset_depends_on_its_seed_alone():
    points = cloud(200, 16)
    torch.manual_seed(1)
    first = memory.coreset(points, 20, seed=4)
    torch.manual_seed(2)
    assert torch.equal(first, memory.coreset(points, 20, seed=4))
    assert not torch.equal(first, memory.coreset(points, 20, seed=5))


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("queries", [1, 5, memory.AT_ONCE, memory.AT_ONCE + 7])
def test_the_nearest_are_those_of_all_distances(queries, count):
    bank, asked = cloud(70, 24), cloud(queries, 24, seed=2)
    expected = torch.cdist(asked.double(), bank.double()).sort(dim=1)
    found, places = memory.nearest(asked, bank, count)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), expected.values[:, :count], atol=1e-4)
    assert torch.equal(places, expected.indices[:, :count])


def test_what_is_in_the_bank_is_no_distance_away():
    bank = cloud(50, 24)
    assert memory.nearest(bank, bank)[0].max() < 5e-3


@pytest.mark.parametrize("per_part", [10, memory.AT_ONCE])
def test_the_spread_is_the_distance_to_the_nearest_of_another_part(per_part):
    patches, owner = cloud(3 * per_part, 24), torch.arange(3).repeat_interleave(per_part)
    others = torch.cdist(patches.double(), patches.double())
    expected = others.masked_fill(owner[:, None] == owner[None], torch.inf).amin(dim=1)
    assert torch.allclose(memory.spreads(patches, owner).double(), expected, atol=1e-4)


def test_there_is_no_spread_without_another_part():
    assert memory.spreads(cloud(10, 24), torch.zeros(10)).isinf().all()


@pytest.mark.parametrize("edge", [1, 3, 5])
def test_the_mean_of_a_constant_is_the_constant_also_at_the_border(edge):
    features = torch.tensor([0.5, -2.0]).expand(3, 4 * 6, 2)
    assert torch.allclose(memory.neighbourhood_means(features, (4, 6), edge), features)


def test_the_mean_is_that_of_the_patches_around():
    features = cloud(20, 3).reshape(1, 20, 3)
    means = memory.neighbourhood_means(features, (4, 5), 3)
    image = features.reshape(4, 5, 3)
    assert torch.allclose(means[0, 1 * 5 + 2], image[0:3, 1:4].mean(dim=(0, 1)), atol=1e-6)
    assert torch.allclose(means[0, 0], image[0:2, 0:2].mean(dim=(0, 1)), atol=1e-6)
    assert torch.allclose(means[0, 19], image[2:4, 3:5].mean(dim=(0, 1)), atol=1e-6)


def test_moved_images_lie_so_many_pixels_away_and_mirror_what_comes_into_view():
    image = torch.arange(30.0).reshape(1, 1, 5, 6)
    found = memory.moved(image, 1, 2)
    assert torch.equal(found[..., 1:, 2:], image[..., :-1, :-2])
    assert torch.equal(found[..., 0, 2:], image[..., 1, :-2])
    assert torch.equal(memory.moved(image, 0, 0), image)


def test_one_part_alone_has_no_spread_and_half_of_any_other_is_the_usual_one():
    assert torch.equal(memory.damped_spreads(cloud(10, 24), torch.zeros(10)), torch.ones(10))
    patches, owner = cloud(30, 24), torch.arange(3).repeat_interleave(10)
    own = memory.spreads(patches, owner)
    assert torch.allclose(memory.damped_spreads(patches, owner), own / 2 + own.mean() / 2)


def test_a_distance_counts_in_spreads_of_the_nearest():
    bank, spread = torch.tensor([[0.0], [10.0], [11.0]]), torch.tensor([1.0, 2.0, 4.0])
    asked = torch.tensor([[3.0], [12.0]])
    assert memory.relative_distance(asked, bank, spread, 1).tolist() == [3, 0.25]
    assert memory.relative_distance(asked, bank, spread, 2).tolist() == pytest.approx([2, 1 / 3])
    assert memory.relative_distance(asked, bank, spread, 99).tolist() == pytest.approx([9 / 7, 3 / 7])
    assert torch.isfinite(memory.relative_distance(asked, bank, torch.zeros(3), 1)).all()


def test_a_memory_gives_about_one_on_good_patches_and_survives_its_state():
    patches, owner = cloud(900, 24), torch.arange(900) // 100
    kept = memory.PatchMemory(24)
    kept.remember(patches[:600], owner[:600], 300, (1, 2))
    assert 200 < len(kept.bank) <= 300
    assert float(kept(patches[600:]).mean()) == pytest.approx(1, abs=0.1)
    assert float(kept(3 * patches[600:]).mean()) > 2
    again = memory.PatchMemory(24)
    again.make_room(kept.state_dict()["bank"])
    again.load_state_dict(kept.state_dict())
    assert torch.equal(again(patches), kept(patches))
    again.make_room(torch.zeros(5, 7))  # not of this width: the loading itself will say so
    assert again.bank.shape == kept.bank.shape


def test_a_memory_of_one_part_has_no_usual_distance():
    kept = memory.PatchMemory(24)
    kept.remember(cloud(50, 24), torch.zeros(50), 20, (1, 2))
    assert float(kept.usual) == 1
    assert torch.isfinite(kept(cloud(5, 24, seed=3))).all()


def test_a_coreset_and_some_more_are_chosen_once_each():
    points = cloud(300, 8)
    both = memory.chosen(points, 40, 60, (1, 2))
    assert set(memory.coreset(points, 40, 1).tolist()) <= set(both.tolist())
    assert 60 < len(both) <= 100
    assert both.tolist() == sorted(set(both.tolist()))
    assert memory.chosen(points, 200, 100, (1, 2)).tolist() == list(range(300))


def test_what_is_barred_is_not_met():
    bank = cloud(6, 4)
    owner = torch.tensor([0, 0, 0, 1, 1, 1])
    _, places = memory.nearest(bank, bank, 1, lambda chunk: owner[chunk, None] == owner[None])
    assert (owner[places[:, 0]] != owner).all()
