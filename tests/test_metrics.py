"The judges of chapter 10, with stand-ins where trained weights come from the network."

import numpy as np
import pytest
import torch
from tiny import assert_says

from millivid.basics import MetricUnavailable
from millivid.evaluation import METRICS, bootstrap_interval, frame_dino, frame_matches, frame_psnr, frame_ssim
from millivid.evaluation import set_fid, set_fvd

RNG = np.random.default_rng(0)
TRUTH = RNG.integers(0, 256, (3, 6, 32, 32, 3), dtype=np.uint8)
NOISY = np.clip(TRUTH.astype(int) + RNG.integers(-40, 41, TRUTH.shape), 0, 255).astype(np.uint8)
FRAME_METRICS = ("psnr", "ssim")


@pytest.mark.parametrize("name", FRAME_METRICS)
def test_a_copy_is_better_than_noise_and_noise_better_than_another_frame(name):
    metric = METRICS[name]
    equal, noisy, other = (metric.measure(frames, TRUTH) for frames in (TRUTH, NOISY, TRUTH[::-1, ::-1]))
    assert equal.shape == noisy.shape == (3, 6)
    assert (equal > noisy).all() and noisy.mean() > other.mean()


@pytest.mark.parametrize("name", FRAME_METRICS)
def test_frames_are_judged_one_by_one(name):
    measure = METRICS[name].measure
    np.testing.assert_allclose(measure(NOISY, TRUTH)[1:2, 2:4], measure(NOISY[1:2, 2:4], TRUTH[1:2, 2:4]), rtol=1e-4)


def test_ssim_is_one_for_a_copy():
    np.testing.assert_allclose(frame_ssim(TRUTH, TRUTH), 1, atol=1e-4)


def mean_colour(x):
    "A stand-in for a trained encoder."
    return x.mean((2, 3))


def test_dino_compares_what_the_encoder_says():
    seen = []

    def encoder(x):
        seen.append(tuple(x.shape))
        return mean_colour(x)

    np.testing.assert_allclose(frame_dino(TRUTH, TRUTH, encoder), 1, atol=1e-5)
    assert {shape[1:] for shape in seen} == {(3, 224, 224)}  # small frames are enlarged to whole patches of 14 pixels
    large = np.zeros((1, 1, 256, 256, 3), dtype=np.uint8)
    frame_dino(large, large, encoder)
    assert seen[-1] == (1, 3, 252, 252)  # the paper's crop


def test_matches_are_counted_per_frame():
    def matcher(x, y):
        return (x == y).flatten(1).all(1) * 7

    changed = TRUTH.copy()
    changed[1, 2] = 255 - changed[1, 2]
    found = frame_matches(changed, TRUTH, matcher)
    assert found[1, 2] == 0 and found.sum() == 7 * 17


class Features(torch.nn.Module):
    "A stand-in for Inception or I3D: means over pixels."
    num_features = 3

    def forward(self, x):
        x = x.float() / 255
        return x.mean((2, 3)) if x.shape[1] == 3 else x.flatten(1, 3).mean(1)


@pytest.mark.parametrize("distance", [set_fid, lambda a, b, features: set_fvd(a, b, features, window=2)])
def test_distances_between_sets(distance):
    bright = np.clip(TRUTH.astype(int) + 60, 0, 255).astype(np.uint8)
    same, other = distance(TRUTH, TRUTH, Features()), distance(bright, TRUTH, Features())
    assert abs(same) < 1e-3 < .01 < other


def test_fvd_of_less_than_a_window():
    assert np.isnan(set_fvd(TRUTH, TRUTH, Features(), window=16))


def test_fvd_without_a_network_says_what_to_give():
    with pytest.raises(MetricUnavailable) as error:
        set_fvd(TRUTH, TRUTH)
    assert_says(error.value, "I3D", "features")


def test_the_bootstrap_draws_whole_episodes():
    same = np.repeat(RNG.normal(size=(40, 1)), 30, axis=1)
    wide, narrow = (interval["high"] - interval["low"] for interval in (bootstrap_interval(same), bootstrap_interval(RNG.normal(size=(40, 30)))))
    assert 3 < wide / narrow < 9  # about the root of 30
    assert bootstrap_interval(same) == bootstrap_interval(same)


def test_the_bootstrap_leaves_nan_out():
    values = np.array([[1., np.nan], [3., 5.], [np.nan, np.nan]])
    interval = bootstrap_interval(values)
    assert interval["mean"] == 3 and interval["low"] >= 1 and interval["high"] <= 4
    assert all(np.isnan(list(bootstrap_interval(np.full((2, 3), np.nan)).values())))


def test_psnr_is_capped():
    assert frame_psnr(TRUTH, TRUTH).max() == pytest.approx(100)
