"Images to patches of all levels and back."

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from millivid.pyramid import PyramidConfig, image_pyramid, images_from_patches, patchify, pyramid_patches
from millivid.pyramid import unpatchify


@st.composite
def pyramids(draw):
    "Any valid setting of moderate size: patches and grids need not be square."
    levels = draw(st.integers(1, 4))
    patch = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    grid = [draw(st.integers(1, 3)) * 2 ** (levels - 1) for _ in range(2)]
    return PyramidConfig((grid[0] * patch[0], grid[1] * patch[1]), patch, levels)


def random_images(config, batch=2):
    return torch.rand(batch, 3, *config.image_shape, generator=torch.Generator().manual_seed(0))


@given(pyramids())
def test_round_trip(config):
    images = random_images(config)
    patches = pyramid_patches(images, config)
    assert patches.shape == (2, config.num_tokens, config.patch_size)
    rebuilt = images_from_patches(patches, config)
    assert len(rebuilt) == config.num_levels
    for level, expected in zip(rebuilt, image_pyramid(images, config.num_levels)):
        assert torch.equal(level, expected)


@given(pyramids())
def test_patches_and_back(config):
    images = random_images(config)
    patches = patchify(images, config.patch_shape)
    assert torch.equal(unpatchify(patches, config.patch_shape, config.grid_shape(0)), images)
    assert torch.equal(patchify(unpatchify(patches, config.patch_shape, config.grid_shape(0)), config.patch_shape), patches)


@given(pyramids())
def test_a_level_is_the_mean_of_the_finer_one(config):
    images = random_images(config)
    for level, pooled in enumerate(image_pyramid(images, config.num_levels)):
        blocks = images.unflatten(3, (-1, 2 ** level)).unflatten(2, (-1, 2 ** level))
        torch.testing.assert_close(pooled, blocks.mean((3, 5)))


@given(pyramids())
def test_every_token_sits_where_its_coordinate_says(config):
    patches, coordinates = pyramid_patches(random_images(config), config), config.coordinates()
    levels, (height, width) = image_pyramid(random_images(config), config.num_levels), config.patch_shape
    assert len(coordinates.unique(dim=0)) == len(coordinates) == config.num_tokens
    for token, (level, row, column) in enumerate(coordinates.tolist()):
        place = levels[level][:, :, row * height:(row + 1) * height, column * width:(column + 1) * width]
        assert torch.equal(patches[:, token], place.flatten(1))  # channel, row, column


@given(pyramids())
def test_each_level_has_a_quarter_of_the_tokens(config):
    tokens = config.tokens_per_level
    assert all(fine == 4 * coarse for fine, coarse in zip(tokens, tokens[1:]))
    where = config.coordinates()[:, 0]
    for level in range(config.num_levels):
        assert (where[config.level_slice(level)] == level).all() and (where == level).sum() == tokens[level]


def test_the_papers_setting():
    assert PyramidConfig().tokens_per_level == (256, 64, 16, 4)


@pytest.mark.parametrize("wrong", [(24, 16), (16, 24), (16, 8)])
def test_images_of_another_size_are_refused(wrong):
    with pytest.raises(ValueError, match="16, 16"):
        pyramid_patches(torch.zeros(1, 3, *wrong), PyramidConfig((16, 16), (4, 4), 2))
