import pytest
import torch

from uipad_cli.core.losses import reconstruction_loss
from uipad_cli.core.model import UIPAD, CPGBlock, CrossAttention, Fusion, _mirrored


def groups(seed=0, tokens=9):
    return torch.randn(2, 2, tokens, 64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("comparison", "count"), [("groups", 2), ("single", 1)])
@pytest.mark.parametrize("fusion", ["mean", "mlp"])
def test_shapes(comparison, count, fusion):
    network = UIPAD(64, prototypes=5, blocks=4, fusion=fusion, comparison=comparison)
    seen = network(groups(0), groups(1))
    assert seen.fused.shape == seen.rebuilt.shape == (2, count, 9, 64)
    assert seen.prototypes.shape == (2, 5, 64)
    assert seen.unified.shape == seen.rgb.shape == seen.geometry.shape == (2, 9, 64)


def test_prototypes_are_drawn_from_the_sample_and_from_all_of_it():
    network = UIPAD(64, blocks=2)
    whole = network(groups(0), groups(1))
    part = network(groups(0), groups(1), torch.tensor([1, 4]))
    assert not torch.allclose(whole.prototypes[0], whole.prototypes[1])
    assert torch.allclose(whole.prototypes, part.prototypes)
    assert part.rebuilt.shape == (2, 2, 2, 64)
    assert torch.equal(part.fused, whole.fused[:, :, [1, 4]])


def test_every_part_learns_from_the_reconstruction():
    network = UIPAD(64, prototypes=3, blocks=2, fusion="mlp")
    seen = network(groups(0), groups(1))
    reconstruction_loss(seen.rebuilt, groups(2)).backward()
    # the last block's refined prototypes go nowhere, by the construction of the cascade
    idle = ("decoder.1.refine", "decoder.1.prototype_out_norm", "decoder.1.prototype_feed_forward", "1.guided_norm")
    without = [
        name
        for name, parameter in network.named_parameters()
        if (parameter.grad is None or not parameter.grad.any()) and not any(part in name for part in idle)
    ]
    assert without == []


def test_one_modality_reaches_the_other_only_through_the_shared_prototypes():
    network = UIPAD(64, blocks=2)
    rgb, geometry = groups(0), groups(1)
    decoded, _ = network.decode(rgb[:, 0], geometry[:, 0], groups(3, tokens=4)[:, 0])
    other, _ = network.decode(rgb[:, 0], groups(5)[:, 0], groups(3, tokens=4)[:, 0])
    assert torch.equal(decoded[:, 0], other[:, 0])
    assert not torch.allclose(decoded[:, 1], other[:, 1], rtol=0, atol=1e-9)


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
