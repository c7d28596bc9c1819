from dataclasses import replace

import pytest
import torch

from uipad_cli.core.backbone import build_encoder
from uipad_cli.core.compute import Compute
from uipad_cli.core.memory import moved
from uipad_cli.methods.patchcore import PatchCoreMethod, PatchCoreOptions
from uipad_cli.records import Batch, silent

SIZE = 112


def edges():
    rgb = torch.zeros(1, 3, SIZE, SIZE)
    rgb[:, :, 31:60, 17:75] = 1
    return Batch(rgb, rgb.clone(), torch.ones(1, SIZE, SIZE, dtype=torch.bool))


def remembering(batches, **options):
    chosen = PatchCoreOptions.model_validate({"coreset": 1.0, **options})
    method = PatchCoreMethod(build_encoder("gabor", SIZE), chosen, Compute(torch.device("cpu")), 0)
    method.fit(batches, silent)
    return method


def bank_of(method):
    (bank,) = method.banks
    return bank.patches


def fitted(phases):
    return remembering([edges()], phases=phases)


def noisy(left, right, seed):
    """Three parts, grained on the left and on the right."""
    grain = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    strength = torch.full((SIZE,), left)
    strength[SIZE // 2 :] = right
    rgb = (0.5 + grain * strength).clamp(0, 1)
    return Batch(rgb, torch.full_like(rgb, 0.5), torch.ones(3, SIZE, SIZE, dtype=torch.bool))


def test_looks_half_a_patch_apart_make_parts_that_are_moved_by_half_a_patch_familiar():
    batch = edges()
    other = Batch(moved(batch.rgb, 7, 7), moved(batch.geometry, 7, 7), batch.valid)
    one, two = fitted(1), fitted(2)
    assert [len(bank_of(two)), len(bank_of(fitted(3)))] == [4 * len(bank_of(one)), 9 * len(bank_of(one))]
    assert one.score(batch).image < 1e-2
    assert one.score(other).image > 0.05
    assert two.score(other).image < 1e-2


def test_where_good_parts_differ_distances_count_less():
    good, fresh = noisy(0.01, 0.2, seed=0), noisy(0.01, 0.2, seed=1)

    def sides(**options):
        maps = remembering([good], blur=0, **options).score(fresh).map
        return float(maps[..., : SIZE // 2 - 14].mean()), float(maps[..., SIZE // 2 + 14 :].mean())

    calm, wild = sides(spread=0)
    scaled_calm, scaled_wild = sides(spread=5)
    assert wild / calm > 1.5
    assert abs(scaled_wild / scaled_calm - 1) < abs(wild / calm - 1) / 2


def test_a_part_like_the_others_is_about_one_spread_away():
    score = remembering([noisy(0.1, 0.1, seed=0)]).score(noisy(0.1, 0.1, seed=1))
    assert 0.8 < score.map.mean() < 1.2


def test_one_part_alone_has_no_spread_and_gives_plain_distances():
    one, plain = remembering([edges()]), remembering([edges()], spread=0)
    other = Batch(edges().rgb.flip(1, 2), edges().geometry, edges().valid)
    assert torch.equal(one.score(other).map, plain.score(other).map)


def test_a_bank_of_one_patch_gives_plain_distances():
    good, other = noisy(0.1, 0.1, seed=0), noisy(0.1, 0.1, seed=1)
    maps = [remembering([good], coreset=1e-6, sample=0, spread=spread).score(other).map for spread in (0, 5)]
    assert torch.equal(*maps)
    assert maps[0].min() > 0


def test_parts_that_are_all_the_same_give_finite_scores():
    batch = edges()
    twice = Batch(*(torch.cat((part, part)) for part in (batch.rgb, batch.geometry, batch.valid)))
    method = remembering([twice])
    assert torch.isfinite(method.score(twice).map).all()
    assert method.score(Batch(moved(batch.rgb, 3, 3), batch.geometry, batch.valid)).image > method.score(batch).image


def test_a_bank_holds_those_that_cover_all_and_a_sample():
    def bank(**options):
        return bank_of(remembering([noisy(0.1, 0.1, seed=0)], phases=1, **options))

    patches = 3 * 64
    cover, both = bank(coreset=0.25, sample=0), bank(coreset=0.25, sample=40)
    assert len(cover) == patches // 4
    assert patches // 4 + 20 < len(both) <= patches // 4 + 40
    assert torch.cdist(cover, both).amin(dim=1).max() < 1e-3
    assert len(bank(coreset=0.25, sample=1000)) == patches


def test_a_bank_for_each_image_gives_the_mean_of_both_maps_and_either_one_where_the_other_image_is_missing():
    good, other = noisy(0.1, 0.1, seed=0), noisy(0.1, 0.3, seed=1)
    other = replace(other, geometry=other.rgb.flip(2))
    maps = {kind: remembering([good], modalities=kind).score(other).map for kind in ("rgb", "geometry")}
    late = remembering([good], modalities="late")
    assert late.alone == ("rgb", "geometry")
    torch.testing.assert_close(late.score(other).map, (maps["rgb"] + maps["geometry"]) / 2)
    for kind, alone in maps.items():
        assert torch.equal(late.score(replace(other, known=kind)).map, alone)


def test_a_bank_for_each_image_is_taken_over_whole_or_not_at_all():
    good, other = noisy(0.1, 0.1, seed=0), noisy(0.1, 0.3, seed=1)
    late, both = (remembering([good], modalities=kind) for kind in ("late", "both"))
    again = remembering([other], modalities="late")
    again.restore(late.state())
    assert torch.equal(again.score(other).map, late.score(other).map)
    before = late.score(other).map
    with pytest.raises(ValueError, match="rgb_geometry"):
        late.restore(both.state())
    with pytest.raises(ValueError, match="rgb_geometry"):
        late.restore(late.state() | both.state())
    assert torch.equal(late.score(other).map, before)
