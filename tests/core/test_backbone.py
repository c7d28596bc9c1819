import pytest
import timm
import torch

from uipad_cli.core import backbone


@pytest.mark.parametrize(
    ("depth", "layers"),
    [
        (12, [2, 3, 4, 5, 6, 7, 8, 9]),
        (24, [4, 6, 8, 10, 12, 14, 16, 18]),
        (10, [1, 2, 3, 4, 5, 6, 7, 8]),
        (8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (5, [0, 1, 2, 3]),
    ],
)
def test_kept_layers(depth, layers):
    assert backbone.kept_layers(depth) == layers


@pytest.mark.parametrize("depth", range(8, 49))
def test_kept_layers_are_eight_different_ones_inside_the_network(depth):
    layers = backbone.kept_layers(depth)
    assert len(set(layers)) == 8
    assert 0 <= min(layers) <= max(layers) < depth


def test_tiny_is_the_same_whatever_the_global_seed():
    torch.manual_seed(1)
    first = backbone.build_encoder("tiny", 56).state_dict()
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    second = backbone.build_encoder("tiny", 56).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "tiny"])
def test_early_exit_gives_what_the_whole_network_gives_at_those_blocks(name):
    torch.manual_seed(0)
    encoder = backbone.build_encoder(name, 112)
    torch.manual_seed(0)
    whole = backbone.new_tiny(112) if name == "tiny" else timm.create_model(name, img_size=112, num_classes=0)
    images = torch.rand(2, 3, 112, 112)
    kept = encoder(images)
    assert kept.shape == (2, 8, encoder.grid[0] * encoder.grid[1], 192)
    taken = {}
    for place, block in enumerate(whole.blocks):
        block.register_forward_hook(lambda _m, _i, out, place=place: taken.__setitem__(place, out))
    run = whole.eval().forward_intermediates if name == "tiny" else whole.eval().forward_features
    run((images - encoder.mean) / encoder.std)
    first = taken[0].shape[1] - kept.shape[2]  # a class token
    expected = torch.stack([taken[layer][:, first:] for layer in encoder.layers], dim=1)
    assert torch.allclose(kept, expected, atol=1e-4)


def test_the_encoder_is_frozen_even_inside_a_training_module():
    encoder = backbone.build_encoder("tiny", 28)
    torch.nn.Sequential(encoder).train()
    assert not encoder.vit.training
    assert not encoder(torch.rand(1, 3, 28, 28)).requires_grad
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize(("name", "size"), [("tiny", 56), ("tiny", 392), ("gabor", 112)])
def test_features_do_not_depend_on_the_company_of_a_batch(name, size):
    encoder = backbone.build_encoder(name, size)
    images = torch.rand(3, 3, size, size)
    together = encoder(images)
    alone = torch.cat([encoder(image[None]) for image in images])
    assert torch.equal(together, alone)


def test_group_means_average_consecutive_layers():
    layers = torch.arange(8.0).reshape(1, 8, 1, 1)
    assert backbone.group_means(layers, 2).flatten().tolist() == [1.5, 5.5]


def test_full_weights_of_another_grid_fill_the_encoder():
    source = timm.create_model("vit_tiny_patch16_224", img_size=112, num_classes=3)
    encoder = backbone.build_encoder("vit_tiny_patch16_224", 64, weights=source.state_dict())
    assert torch.equal(encoder.vit.blocks[3].mlp.fc1.weight, source.blocks[3].mlp.fc1.weight)
    assert encoder.vit.pos_embed.shape == (1, 1 + 16, 192)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: state.pop("blocks.7.attn.qkv.weight"), "missing: blocks.7.attn.qkv.weight"),
        (lambda state: state.update(stray=torch.zeros(1)), "unexpected: stray"),
        (lambda state: state.update({"blocks.0.norm.weight": torch.zeros(7)}), "blocks.0.norm.weight is [7]"),
    ],
)
def test_weights_that_do_not_fit_are_named(change, told):
    state = dict(backbone.new_tiny(56).state_dict())
    change(state)
    with pytest.raises(ValueError, match=r"missing|unexpected|wrong shape") as caught:
        backbone.build_encoder("tiny", 56, weights=state)
    assert told in str(caught.value)


def test_weights_of_another_patch_size_are_refused():
    state = dict(backbone.new_tiny(56).state_dict())
    state["patch_embed.proj.weight"] = torch.zeros(192, 32, 8, 8)
    with pytest.raises(ValueError, match=r"patch_embed\.proj\.weight is"):
        backbone.build_encoder("tiny", 56, weights=state)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "no_such_model",
        "vit_small_r26_s32_224",
        "hiera_tiny_224",
        "vit_base_patch14_dinov2.nonsense",
    ],
)
def test_what_is_no_vit_is_refused(name):
    with pytest.raises(ValueError, match=name):
        backbone.build_encoder(name, 56)


@pytest.mark.parametrize(
    ("name", "patch", "size"),
    [("vit_tiny_patch16_224", 16, 64), ("vit_small_patch14_reg4_dinov2", 14, 56), ("vit_small_patch16_dinov3", 16, 64)],
)
def test_any_timm_vit_by_name(name, patch, size):
    assert backbone.patch_size(name) == patch
    encoder = backbone.build_encoder(name, size)
    kept = encoder(torch.rand(1, 3, size, size))
    assert kept.shape == (1, 8, (size // patch) ** 2, encoder.width)
    assert encoder.grid == (size // patch, size // patch)
