import pytest
import torch

from uipad_cli.core.attention import CrossAttention
from uipad_cli.core.losses import reconstruction_loss
from uipad_cli.core.model import UIPAD, CPGBlock, Fusion, _mirrored


def groups(seed=0, tokens=9):
    return torch.randn(2, 2, tokens, 64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("comparison", "count"), [("groups", 2), ("single", 1)])
@pytest.mark.parametrize("fusion", ["mean", "mlp"])
@pytest.mark.parametrize(("compared", "parts"), [("modalities", 2), ("unified", 1)])
def test_shapes(comparison, count, fusion, compared, parts):
    network = UIPAD(64, prototypes=5, blocks=4, fusion=fusion, comparison=comparison, compared=compared)
    seen = network(groups(0), groups(1))
    assert seen.present.shape == seen.rebuilt.shape == (2, parts * count, 9, 64)
    assert seen.prototypes.shape == (2, 5, 64)
    assert seen.unified.shape == seen.rgb.shape == seen.geometry.shape == (2, 9, 64)


def test_prototypes_are_drawn_from_the_sample_and_from_all_of_it():
    network = UIPAD(64, blocks=2)
    whole = network(groups(0), groups(1))
    part = network(groups(0), groups(1), torch.tensor([1, 4]))
    assert not torch.allclose(whole.prototypes[0], whole.prototypes[1])
    assert torch.allclose(whole.prototypes, part.prototypes)
    assert part.rebuilt.shape == (2, 4, 2, 64)
    assert torch.equal(part.present, whole.present[:, :, [1, 4]])


def test_every_part_learns_from_the_reconstruction():
    network = UIPAD(64, prototypes=3, blocks=2, fusion="mlp")
    seen = network(groups(0), groups(1))
    reconstruction_loss(seen.rebuilt, torch.cat((groups(2), groups(3)), dim=1)).backward()
    # the last block's refined prototypes go nowhere, by the construction of the cascade
    idle = ("decoder.1.refine", "decoder.1.prototype_out_norm", "decoder.1.prototype_feed_forward", "1.guided_norm")
    without = [
        name
        for name, parameter in network.named_parameters()
        if (parameter.grad is None or not parameter.grad.any()) and not any(part in name for part in idle)
    ]
    assert without == []


@pytest.mark.parametrize(("query", "unmoved"), [("own", 0), ("other", 1)])
def test_a_decoder_starts_from_one_modality_and_hears_of_the_other_through_prototypes(query, unmoved):
    network = UIPAD(64, blocks=2, query=query)
    rgb, geometry, prototypes = groups(0)[:, 0], groups(1)[:, 0], groups(3, tokens=4)[:, 0]
    decoded = network.decode(rgb, geometry, prototypes)[unmoved]
    changed = network.decode(rgb, groups(5)[:, 0], prototypes)[unmoved]
    assert torch.equal(decoded[:, 0], changed[:, 0])
    assert not torch.allclose(decoded[:, 1], changed[:, 1], rtol=0, atol=1e-9)
    private = UIPAD(64, blocks=2, query=query, refine="private")
    left, right = (private.decode(rgb, one[:, 0], prototypes)[unmoved] for one in (groups(1), groups(5)))
    assert torch.equal(left, right)


@pytest.mark.parametrize("known", ["rgb", "geometry"])
@pytest.mark.parametrize("fusion", ["mean", "mlp"])
def test_what_is_not_known_changes_nothing(known, fusion):
    network = UIPAD(64, blocks=2, fusion=fusion)
    pair = {"rgb": groups(0), "geometry": groups(1)}
    without = {name: value if name == known else groups(7) for name, value in pair.items()}
    whole, part = (network(one["rgb"], one["geometry"], None, known) for one in (pair, without))
    assert torch.equal(whole.rebuilt, part.rebuilt)
    assert torch.equal(whole.prototypes, part.prototypes)
    assert not torch.equal(whole.rebuilt, network(pair["rgb"], pair["geometry"]).rebuilt)


def test_without_gathering_every_part_has_the_same_prototypes():
    network = UIPAD(64, blocks=2, gather=False, refine="none")
    prototypes = network(groups(0), groups(1)).prototypes
    assert torch.equal(prototypes[0], prototypes[1])
    assert torch.equal(prototypes[0], network.extractor.queries)


def test_without_residual_a_query_that_no_prototype_resembles_gives_nothing():
    block = CPGBlock(64, 1, "relu", residual=False, refining=False)
    torch.nn.init.zeros_(block.guide.query.weight)
    torch.nn.init.zeros_(block.guide.query.bias)
    features, prototypes = groups(0)[:, 0], groups(1)[:, 0]
    found, kept = block(features, prototypes)
    assert torch.equal(found, block(groups(4)[:, 0], prototypes)[0])
    assert kept is prototypes


def test_a_block_keeps_its_residuals():
    block = CPGBlock(64, 1)
    for parameter in block.parameters():
        torch.nn.init.zeros_(parameter)
    features, prototypes = groups(0)[:, 0], groups(1)[:, 0]
    assert all(torch.equal(*pair) for pair in zip(block(features, prototypes), (features, prototypes), strict=True))


def test_attention_is_softmax_over_the_context():
    attention = CrossAttention(4, 1)
    for linear in (attention.query, attention.project):
        torch.nn.init.eye_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    attention.key_value.weight.data = torch.cat((torch.eye(4), torch.eye(4)))
    torch.nn.init.zeros_(attention.key_value.bias)
    queries, context = torch.randn(1, 3, 4), torch.randn(1, 5, 4)
    expected = (queries @ context.transpose(1, 2) / 2).softmax(-1) @ context
    assert torch.allclose(attention(queries, context), expected, atol=1e-6)


def test_decoder_blocks_meet_the_layers_in_reverse():
    steps = torch.arange(8.0).reshape(1, 8, 1, 1)
    assert _mirrored(steps, 2).flatten().tolist() == [5.5, 1.5]


def test_mean_fusion_does_not_care_for_order():
    fusion = Fusion(64, "mean")
    assert torch.equal(fusion(groups(0), groups(1)), fusion(groups(1), groups(0)))


def test_relu_attention_weighs_by_positive_cosines():
    attention = CrossAttention(4, 1, "relu")
    for linear in (attention.query, attention.project):
        torch.nn.init.eye_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    attention.key_value.weight.data = torch.cat((torch.eye(4), torch.eye(4)))
    torch.nn.init.zeros_(attention.key_value.bias)
    attention.scale.data.fill_(2.0)
    context = torch.tensor([[[1.0, 0, 0, 0], [0, -3.0, 0, 0]]])
    found = attention(torch.tensor([[[5.0, 5.0, 0, 0]]]), context)
    assert torch.allclose(found, torch.tensor([[[2**0.5, 0, 0, 0]]]), atol=1e-6)
