"The hierarchical autoencoder: every level alone must be able to draw the picture."

import pytest
import torch
from tiny import PYRAMID, TRANSFORMER, assert_says, randomised

from millivid.basics import UserError
from millivid.pyramid import images_to_frames, pyramid_patches
from millivid.tokenizer import Tokenizer, TokenizerConfig, _places, decode_latents, encode_frames, tokenizer_loss

LEVELS = range(PYRAMID.num_levels)


@pytest.fixture
def images(generator):
    return torch.rand(4, 3, *PYRAMID.image_shape, generator=generator)


def test_latents_have_the_shape_and_range_of_the_pyramid(tokenizer, images):
    latents = tokenizer.encode(images)
    assert latents.shape == (4, PYRAMID.num_tokens, 4)
    assert latents.abs().max() < 1  # tanh


def test_latents_are_bounded_whatever_the_weights_are(images):
    encoder = randomised(Tokenizer(TokenizerConfig(PYRAMID, 4, TRANSFORMER, TRANSFORMER)), scale=10.).encoder
    latents = encoder(pyramid_patches(images, PYRAMID))
    assert .9 < latents.abs().max() <= 1


def test_images_do_not_influence_each_other(tokenizer, images):
    latents = tokenizer.encode(images)
    torch.testing.assert_close(tokenizer.encode(images[2:3]), latents[2:3])
    torch.testing.assert_close(tokenizer.decode(latents[2:3], 1), tokenizer.decode(latents, 1)[2:3])


@pytest.mark.parametrize("level", LEVELS)
def test_decoding_a_level_reads_that_level_alone(tokenizer, images, level):
    latents, own = tokenizer.encode(images), PYRAMID.level_slice(level)
    picture = tokenizer.decode(latents, level)
    assert picture.shape == images.shape
    others = torch.rand_like(latents)
    others[:, own] = latents[:, own]
    assert torch.equal(tokenizer.decode(others, level), picture)
    assert torch.equal(tokenizer.decode(latents[:, own], level), picture)  # the others need not even be there
    for token in range(own.start, own.stop):  # every token of the level counts
        other = latents.clone()
        other[:, token] = -other[:, token]
        assert (tokenizer.decode(other, level) - picture).abs().max() > 1e-5


def test_levels_may_differ_within_a_batch(tokenizer, images):
    latents = tokenizer.encode(images)
    mixed = tokenizer.decode_patches(latents, torch.tensor([2, 0, 1, 2]))
    for sample, level in enumerate([2, 0, 1, 2]):
        alone = tokenizer.decode_patches(latents[sample:sample + 1], torch.tensor([level]))
        torch.testing.assert_close(mixed[sample:sample + 1], alone)


def test_cascaded_levels_are_means_of_finer_ones(images):
    tokenizer = randomised(Tokenizer(TokenizerConfig(PYRAMID, 4, TRANSFORMER, TRANSFORMER, cascaded=True)))
    latents = tokenizer.encode(images)
    for level in LEVELS[1:]:
        fine, coarse = (latents[:, PYRAMID.level_slice(each)].unflatten(1, PYRAMID.grid_shape(each))
                        for each in (level - 1, level))
        mean = (fine[:, ::2, ::2] + fine[:, 1::2, ::2] + fine[:, ::2, 1::2] + fine[:, 1::2, 1::2]) / 4
        torch.testing.assert_close(coarse, mean)


def test_loss_weighs_a_coarse_token_like_the_pixels_it_stands_for(tokenizer, images):
    "Written once more, level by level: 4**level times the squared error, mean over all tokens."
    levels, patches = torch.tensor([0, 1, 2, 2]), pyramid_patches(images, PYRAMID)
    error = (tokenizer.decode_patches(tokenizer.encode(images), levels) - patches).square().mean(-1)
    total = sum(4 ** level * error[:, PYRAMID.level_slice(level)].sum() for level in LEVELS)
    torch.testing.assert_close(tokenizer_loss(tokenizer, images, levels), total / error.numel())


def test_perceptual_term_is_added_on_the_finest_image(tokenizer, images):
    seen, level = [], torch.tensor([0, 0, 1, 2])

    def perceptual(prediction, target):
        seen.append((prediction.shape, target))
        return torch.tensor(2.)

    plain = tokenizer_loss(tokenizer, images, level)
    torch.testing.assert_close(tokenizer_loss(tokenizer, images, level, perceptual, .05), plain + .1)
    assert seen[0][0] == images.shape and torch.equal(seen[0][1], images)


def test_frames_to_latents_and_back(tokenizer, images):
    frames = images_to_frames(images)
    latents = encode_frames(tokenizer, frames, batch_size=3)
    assert latents.shape == (4, PYRAMID.num_tokens, 4) and latents.dtype == torch.float32
    torch.testing.assert_close(latents, encode_frames(tokenizer, frames, batch_size=1))
    decoded = decode_latents(tokenizer, latents, level=1, batch_size=3)
    assert decoded.shape == frames.shape and decoded.dtype == frames.dtype
    exact = tokenizer.decode(latents, 1).clamp(0, 1) * 255
    assert (torch.from_numpy(decoded).permute(0, 3, 1, 2) - exact).abs().max() <= .51


def test_tokenizers_keep_their_settings_when_saved(tokenizer, images, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = Tokenizer.from_pretrained(tmp_path).eval()
    assert again.config == tokenizer.config
    assert torch.equal(again.encode(images), tokenizer.encode(images))


def test_what_is_kept_between_calls_serves_training_and_leaves_no_trace(images):
    "Places of tokens are computed once: also when the first call was made for inference only."
    tokenizer = randomised(Tokenizer(TokenizerConfig(PYRAMID, 4, TRANSFORMER, TRANSFORMER)))
    _places.cache_clear()
    names = list(tokenizer.state_dict())
    with torch.inference_mode():
        first = tokenizer.decode(tokenizer.encode(images))
    again = tokenizer.decode(tokenizer.encode(images))
    assert torch.equal(first, again) and _places.cache_info().misses == 1
    again.square().mean().backward()
    assert all(parameter.grad is not None for parameter in tokenizer.decoder.parameters())
    assert list(tokenizer.state_dict()) == names and not list(tokenizer.buffers())


@pytest.mark.parametrize("count, level, parts", [(7, 1, ("7 tokens", "21", "level 1")), (21, 3, ("level 3", "0 to 2"))])
def test_latents_of_another_tokenizer_are_refused(tokenizer, count, level, parts):
    with pytest.raises(UserError) as error:
        tokenizer.decode(torch.zeros(1, count, 4), level=level)
    assert_says(error.value, *parts)
