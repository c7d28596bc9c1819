import pytest
import torch

from uipad_cli.core.backbone import build_encoder, new_tiny
from uipad_cli.core.tiny import ATTENDING, DEPTH, WIDTH, Block


def test_the_stem_cuts_an_image_into_patches_that_see_little_more_than_themselves():
    stem = new_tiny(84).patch_embed
    image = torch.zeros(1, 3, 84, 84)
    changed = image.clone()
    changed[:, :, 33:37, 33:37] = 1  # the middle of patch (2, 2)
    difference = (stem(changed) - stem(image)).abs().sum(-1).reshape(6, 6)
    assert difference[2, 2] > 0
    assert difference.count_nonzero() == 1
    changed[:, :, 29:31, 33:37] = 1  # its upper rim, which its neighbour sees as well
    difference = (stem(changed) - stem(image)).abs().sum(-1).reshape(6, 6)
    assert difference[1, 2] > 0
    assert difference.count_nonzero() == 2


@pytest.mark.parametrize(
    ("block", "reach"), [({"alone": True}, 1), ({}, 2), ({"attends": True}, 12)], ids=["alone", "neighbours", "all"]
)
def test_how_far_a_block_sees(block, reach):
    block = Block(**block)
    tokens = torch.randn(1, 144, WIDTH, generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[0, 0] += 1
    with torch.no_grad():
        difference = (block(changed, (12, 12)) - block(tokens, (12, 12))).abs().sum(-1).reshape(12, 12)
    assert (difference[:reach, :reach] > 0).all()
    assert (difference > 0).sum() == reach * reach


def test_nothing_is_tied_to_its_place():
    """What lies one patch further to the right gives the same features one patch further to the right.

    Away from the border, which the convolutions carry one patch further inside with each block.
    """
    encoder = build_encoder("tiny", 392)
    pattern = torch.rand(1, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    images = torch.full((2, 3, 392, 392), 0.5)
    images[0, :, 140:196, 140:196] = pattern
    images[1, :, 140:196, 154:210] = pattern
    local = encoder(images)[:, ATTENDING[0] - 1].reshape(2, 28, 28, WIDTH)
    inside = slice(DEPTH, 28 - DEPTH)
    moved = slice(DEPTH + 1, 29 - DEPTH)
    assert torch.allclose(local[0, inside, inside], local[1, inside, moved], atol=1e-4)
    assert not torch.allclose(local[0, inside, inside], local[1, inside, inside], atol=1e-2)


@pytest.mark.parametrize(("size", "edge"), [(112, 8), (392, 28), (448, 32)])
def test_weights_fit_every_size(size, edge):
    encoder = build_encoder("tiny", size, weights=new_tiny(14).state_dict())
    assert encoder.grid == (edge, edge)
    found = encoder(torch.rand(1, 3, size, size))
    assert found.shape == (1, DEPTH, edge * edge, WIDTH)
    assert found.isfinite().all()
