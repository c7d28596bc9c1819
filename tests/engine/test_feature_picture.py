import torch

from uipad_cli.core.backbone import build_encoder
from uipad_cli.core.compute import Compute
from uipad_cli.engine.feature_picture import feature_picture, principal_colours
from uipad_cli.records import Batch


def test_patches_of_two_kinds_get_two_colours():
    tokens = torch.cat((torch.zeros(8, 5), torch.ones(8, 5))) + 0.01 * torch.randn(16, 5)
    colours = principal_colours(tokens)
    assert colours.shape == (16, 3)
    first, second = colours[:8, 0].mean(), colours[8:, 0].mean()
    assert (first - second).abs() > 0.8


def test_a_picture_of_a_pair_has_four_tiles():
    pair = Batch(torch.rand(2, 3, 56, 56), torch.rand(2, 3, 56, 56), torch.ones(2, 56, 56, dtype=torch.bool))
    picture = feature_picture(build_encoder("tiny", 56), pair, Compute(torch.device("cpu")))
    assert picture.shape == (112, 112, 3)
    assert picture[:56, 56:].std() > 10
