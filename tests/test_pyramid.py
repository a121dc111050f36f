"Images to patches of all levels and back."

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import assert_says

from millivid.basics import UserError
from millivid.pyramid import PyramidConfig, frames_to_images, image_pyramid, images_from_patches, images_to_frames
from millivid.pyramid import patchify, pyramid_patches, unpatchify


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
    again = patchify(unpatchify(patches, config.patch_shape, config.grid_shape(0)), config.patch_shape)
    assert torch.equal(again, patches)


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


def test_settings_may_come_from_json():
    config = PyramidConfig(image_shape=[32, 64], patch_shape=[4, 8], num_levels=3)
    assert config == PyramidConfig((32, 64), (4, 8), 3) and hash(config) == hash(PyramidConfig((32, 64), (4, 8), 3))


@pytest.mark.parametrize("settings, parts", [
    (((60, 64), (16, 16), 1), ("height 60", 16, "resize or crop")), (((64, 60), (16, 16), 1), ("width 60", 16)),
    (((64, 96), (16, 16), 3), ("width 96", 64, "fewer levels")),
    (((64, 64), (16, 16), 0), ("num_levels=0", "from 1 on")),
    (((64, 64), (0, 16), 1), ("patch_shape=(0, 16)",)), (((64, 64), [16], 1), ("patch_shape=(16,)",)),
    (((64, 64), (16, 16), 2.5), ("num_levels=2.5",))])
def test_sizes_that_do_not_divide_are_refused(settings, parts):
    with pytest.raises(UserError) as error:
        PyramidConfig(*settings)
    assert_says(error.value, *parts)


@pytest.mark.parametrize("wrong", [(24, 16), (16, 24), (16, 8)])
def test_images_of_another_size_are_refused(wrong):
    with pytest.raises(UserError, match="16, 16"):
        pyramid_patches(torch.zeros(1, 3, *wrong), PyramidConfig((16, 16), (4, 4), 2))
    with pytest.raises(UserError, match=f"{wrong[0]} x {wrong[1]}"):
        patchify(torch.zeros(1, 3, *wrong), (16, 16) if wrong != (16, 8) else (5, 5))


def test_frames_are_images_and_back():
    frames = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    images = frames_to_images(frames)
    assert images.shape == (1, 3, 16, 16) and images.dtype == torch.float32 and (images.min(), images.max()) == (0, 1)
    assert np.array_equal(images_to_frames(images), frames)
    assert np.array_equal(images_to_frames(images * 2 - .5)[0, 0, 0], [0, 0, 0])  # clipped


@pytest.mark.parametrize("frames", [np.ones((2, 8, 8, 3)), np.zeros((2, 3, 8, 8), np.uint8),
                                    np.zeros((8, 8, 3), np.uint8)])
def test_other_arrays_are_no_frames(frames):
    with pytest.raises(UserError) as error:
        frames_to_images(frames)
    assert_says(error.value, frames.dtype, frames.shape, "uint8 (frames, height, width, 3)")
