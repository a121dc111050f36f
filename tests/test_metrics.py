"The metrics, with stand-ins where trained weights come from the network."

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import assert_says

from millivid import evaluation
from millivid.basics import MetricUnavailable
from millivid.evaluation import METRICS, frame_dino, frame_matches, frame_ssim, set_fid, set_fvd

RNG = np.random.default_rng(0)
TRUTH = RNG.integers(0, 256, (3, 6, 32, 32, 3), dtype=np.uint8)
NOISY = np.clip(TRUTH.astype(int) + RNG.integers(-40, 41, TRUTH.shape), 0, 255).astype(np.uint8)
FRAME_METRICS = ("psnr", "ssim")


@pytest.mark.parametrize("name", FRAME_METRICS)
def test_a_copy_is_better_than_noise_and_noise_better_than_another_frame(name):
    equal, noisy, other = (METRICS[name](frames, TRUTH) for frames in (TRUTH, NOISY, TRUTH[::-1, ::-1]))
    assert equal.shape == noisy.shape == (3, 6)
    assert (equal > noisy).all() and noisy.mean() > other.mean()


@pytest.mark.parametrize("name", FRAME_METRICS)
def test_frames_are_compared_one_by_one(name):
    metric = METRICS[name]
    np.testing.assert_allclose(metric(NOISY, TRUTH)[1:2, 2:4], metric(NOISY[1:2, 2:4], TRUTH[1:2, 2:4]), rtol=1e-4)


def test_ssim_is_one_for_a_copy():
    np.testing.assert_allclose(frame_ssim(TRUTH, TRUTH), 1, atol=1e-4)


def test_dino_compares_what_the_encoder_says():
    seen = []

    def encoder(x):
        seen.append(tuple(x.shape))
        return x.mean((2, 3))

    np.testing.assert_allclose(frame_dino(TRUTH, TRUTH, encoder=encoder), 1, atol=1e-5)
    assert {shape[1:] for shape in seen} == {(3, 224, 224)}  # small frames are enlarged to whole patches of 14 pixels
    large = np.zeros((1, 1, 256, 256, 3), dtype=np.uint8)
    frame_dino(large, large, encoder=encoder)
    assert seen[-1] == (1, 3, 252, 252)  # the paper's crop


def test_matches_are_counted_per_frame():
    def matcher(x, y):
        return (x == y).flatten(1).all(1) * 7

    changed = TRUTH.copy()
    changed[1, 2] = 255 - changed[1, 2]
    found = frame_matches(changed, TRUTH, matcher=matcher)
    assert found[1, 2] == 0 and found.sum() == 7 * 17


class Features(torch.nn.Module):
    "A stand-in for Inception or I3D: means over pixels."
    num_features = 3

    def forward(self, x):
        x = x.float() / 255
        return x.mean((2, 3)) if x.shape[1] == 3 else x.flatten(1, 3).mean(1)


@pytest.mark.parametrize("distance, settings", [(set_fid, {}), (set_fvd, {"window": 2})])
def test_distances_between_sets(distance, settings):
    bright = np.clip(TRUTH.astype(int) + 60, 0, 255).astype(np.uint8)
    same, other = (distance(frames, TRUTH, features=Features(), **settings) for frames in (TRUTH, bright))
    assert abs(same) < 1e-3 < .01 < other


def test_fvd_of_less_than_a_window():
    assert np.isnan(set_fvd(TRUTH, TRUTH, features=Features(), window=16))


# ---- trained networks ------------------------------------------------------------------------------------------------

class Downloaded(torch.nn.Module):
    "Stands in for DINOv2: counts how often it is loaded, and says where its images are."
    loaded, devices = 0, []

    @classmethod
    def from_pretrained(cls, name):
        cls.loaded += 1
        return cls()

    def to(self, device):
        self.moved = torch.device(device)
        return self

    def forward(self, x):
        assert x.device.type == self.moved.type
        self.devices.append(x.device.type)
        return SimpleNamespace(last_hidden_state=torch.ones(len(x), 1, 4))


def test_a_network_is_loaded_once_and_works_on_the_device(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(AutoModel=Downloaded))
    evaluation._dino.cache_clear()
    for _ in range(2):
        np.testing.assert_allclose(METRICS["dino"](TRUTH, TRUTH), 1, rtol=1e-5)
    assert Downloaded.loaded == 1 and set(Downloaded.devices) == {"cpu"}
    METRICS["dino"](TRUTH, TRUTH, "meta")  # a device without numbers: enough to see where the images go
    assert Downloaded.loaded == 2 and Downloaded.devices[-1] == "meta"
    evaluation._dino.cache_clear()


@pytest.mark.parametrize("name, package", [("lpips", "torchmetrics"), ("dino", "transformers"),
                                           ("matches", "transformers"), ("fid", "torchmetrics")])
def test_a_missing_library_is_named(monkeypatch, name, package):
    for module in [module for module in sys.modules if module.startswith(f"{package}.")] + [package]:
        monkeypatch.setitem(sys.modules, module, None)
    for load in (evaluation._lpips, evaluation._dino, evaluation._matcher, evaluation._inception):
        load.cache_clear()
    with pytest.raises(MetricUnavailable) as error:
        METRICS[name](TRUTH, TRUTH)
    assert_says(error.value, package, "millivid[metrics]")


def test_weights_that_cannot_be_loaded_are_named(monkeypatch):
    def offline(name):
        raise OSError("no connection\nand much more")
    library = SimpleNamespace(AutoModel=SimpleNamespace(from_pretrained=offline))
    monkeypatch.setitem(sys.modules, "transformers", library)
    with pytest.raises(MetricUnavailable) as error:
        frame_dino(TRUTH, TRUTH)
    assert_says(error.value, "DINOv2", "no connection")
    assert "much more" not in str(error.value)


def test_fvd_without_a_network_says_what_to_give():
    with pytest.raises(MetricUnavailable) as error:
        set_fvd(TRUTH, TRUTH)
    assert_says(error.value, "I3D", "features")
