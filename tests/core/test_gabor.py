import math

import pytest
import torch
from torch.nn import functional

from uipad_cli.core import gabor
from uipad_cli.core.backbone import build_encoder, patch_size

SIZE = 56
ENERGIES = gabor.TEXTURES // len(gabor.BANDS)


def encode(image):
    """Textures and colours of one image [3,S,S], each [N,D]."""
    return build_encoder("gabor", image.shape[-1])(image[None])[0]


def grating(wavelength, turn=0.0, amplitude=0.4, size=SIZE):
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    along = columns * math.cos(turn) + rows * math.sin(turn)
    return (0.5 + amplitude * torch.sin(2 * math.pi * along / wavelength)).expand(3, -1, -1)


@pytest.mark.parametrize("size", [14, 28, 56, 112])
def test_it_has_the_surface_of_an_encoder(size):
    encoder = build_encoder("gabor", size)
    edge = size // 14
    layers = encoder(torch.rand(2, 3, size, size))
    assert layers.shape == (2, 2, edge * edge, encoder.width)
    assert layers.dtype == torch.float32
    assert encoder.grid == (edge, edge)
    assert encoder.layers == [0, 1]
    assert not encoder.training
    assert patch_size("gabor") == 14


@pytest.mark.parametrize("size", [0, 13, 100])
def test_a_broken_patch_is_refused(size):
    with pytest.raises(ValueError, match=f"{size} pixels is not a whole number of patches"):
        gabor.GaborBank(size)


def test_forty_two_numbers_tell_a_patch():
    generator = torch.Generator().manual_seed(0)
    textures, colours = encode(torch.rand(3, SIZE, SIZE, generator=generator))
    varied = [int((layer.std(dim=0) > 0).sum()) for layer in (textures, colours)]
    assert varied == [36, 6]
    assert (textures[:, -1] == gabor.ANCHOR).all()
    assert (colours[:, -1] == gabor.ANCHOR).all()


@pytest.mark.parametrize("band", gabor.BANDS)
def test_kernels_have_zero_mean_and_absolute_values_that_add_up_to_one(band):
    kernels = gabor.gabor_kernels(*band)
    assert kernels.shape[0] == 2 * gabor.ORIENTATIONS
    assert torch.allclose(kernels.sum(dim=(1, 2, 3)), torch.zeros(12), atol=1e-6)
    assert torch.allclose(kernels.abs().sum(dim=(1, 2, 3)), torch.ones(12), atol=1e-5)


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("orientation", [0, 2, 3, 5])
def test_a_grating_is_found_at_its_wavelength_and_orientation(place, orientation):
    wavelength = gabor.BANDS[place][0]
    textures, _ = encode(grating(wavelength, orientation * math.pi / 6, size=112))
    means = textures[27, :-1].reshape(3, 2, 6)[:, 0]  # a patch in the middle; [band, orientation]
    assert int(means.argmax()) == place * 6 + orientation


def test_the_energy_of_a_grating_does_not_depend_on_its_phase():
    textures, _ = encode(grating(8.0, size=112))
    row = textures[24:32, 6 + 6]  # mean energy at 8 pixels, upright; 14 pixels are no multiple of 8, phases differ
    assert row[2:6].std() / row[2:6].mean() < 0.02


def test_a_flat_image_has_colour_and_no_texture():
    image = torch.tensor([0.9, 0.5, 0.2])[:, None, None].expand(3, SIZE, SIZE)
    textures, colours = encode(image)
    assert textures[:, :-1].abs().max() < 1e-5
    assert torch.allclose(colours[:, :6], torch.tensor([0.4, 0.0, -0.3, 0.0, 0.0, 0.0]), atol=1e-6)
    assert (colours[:, 6:-1] == 0).all()


def test_mean_and_deviation_are_those_of_the_patch():
    image = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    patch = image[:, 14:28, 42:56].flatten(1)
    _, colours = encode(image)
    assert torch.allclose(colours[4 + 3, :3], patch.mean(dim=1) - 0.5, atol=1e-6)
    assert torch.allclose(colours[4 + 3, 3:6], patch.std(dim=1, correction=0), atol=1e-6)


def test_brightness_and_contrast_survive_the_scaling_to_unit_length():
    def scaled(image, layer):
        return functional.normalize(encode(image)[layer], dim=-1)[5]

    greys = [scaled(torch.full((3, SIZE, SIZE), level), 1) for level in (0.6, 0.7, 0.9)]
    assert (greys[0] - greys[1]).norm() > 0.1
    assert (greys[0] - greys[2]).norm() > 2 * (greys[0] - greys[1]).norm()
    waves = [scaled(grating(8.0, amplitude=amplitude), 0) for amplitude in (0.1, 0.2, 0.4)]
    assert (waves[0] - waves[1]).norm() > 0.1
    assert (waves[0] - waves[2]).norm() > 1.5 * (waves[0] - waves[1]).norm()


def test_an_image_alone_and_in_company_is_the_same():
    encoder = build_encoder("gabor", SIZE)
    images = torch.rand(3, 3, SIZE, SIZE)
    assert torch.equal(encoder(images), torch.cat([encoder(image[None]) for image in images]))


def test_lower_precision_around_it_changes_nothing():
    encoder = build_encoder("gabor", SIZE)
    images = torch.rand(1, 3, SIZE, SIZE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = encoder(images)
    assert torch.equal(inside, encoder(images))
