import pytest
import torch

from uipad_cli.core.backbone import build_encoder, new_tiny
from uipad_cli.core.tiny import POSITIONS, WIDTH


def test_the_stem_cuts_an_image_into_patches_that_see_only_their_surroundings():
    stem = new_tiny(56).patch_embed
    image = torch.zeros(1, 3, 56, 56)
    changed = image.clone()
    changed[:, :, 30:40, 30:40] = 1  # inside patch (2, 2)
    difference = (stem(changed) - stem(image)).abs().sum(-1).reshape(4, 4)
    assert difference[2, 2] > 0
    assert difference.count_nonzero() == 1


def test_blocks_at_the_first_position_are_what_the_encoder_gives():
    vit = new_tiny(392).eval()
    encoder = build_encoder("tiny", 392, weights=vit.state_dict())
    image = torch.rand(1, 3, 392, 392)
    with torch.no_grad():
        blocks = vit.blocks_at((image - encoder.mean) / encoder.std, (0, 0))
    assert torch.allclose(blocks, encoder(image), atol=1e-4)


@pytest.mark.parametrize(("size", "edge"), [(112, 8), (392, 28), (448, 32)])
def test_weights_of_the_full_grid_fit_other_sizes(size, edge):
    state = new_tiny(392).state_dict()
    encoder = build_encoder("tiny", size, weights=state)
    assert encoder.vit.pos_embed.shape == (1, edge * edge, WIDTH)
    assert encoder(torch.rand(1, 3, size, size)).isfinite().all()


def test_a_small_image_takes_the_middle_of_the_positions():
    state = new_tiny(392).state_dict()
    grid = state["pos_embed"].reshape(POSITIONS, POSITIONS, WIDTH)
    fitted = new_tiny(56).fit_positions(state)["pos_embed"].reshape(4, 4, WIDTH)
    assert torch.equal(fitted, grid[12:16, 12:16])
