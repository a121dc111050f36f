"What tests share: Hypothesis settings that suit a slow machine, tiny models that need no weights, and a browser."

import shutil

import matplotlib

matplotlib.use("Agg")

import pytest
import torch
from hypothesis import settings
from tiny import PYRAMID, TRANSFORMER, randomised

from millivid.schedule import full_resolution_schedule, millivid_schedule
from millivid.tokenizer import Tokenizer, TokenizerConfig
from millivid.video import FramePackModel, VideoConfig, VideoModel

torch.set_num_threads(
    1
)  # small models gain little from more, and threads that wait for each other lose much on a busy machine
settings.register_profile("millivid", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("millivid")


@pytest.fixture(scope="session")
def tokenizer():
    "A tokenizer with random weights."
    return randomised(Tokenizer(TokenizerConfig(PYRAMID, 4, TRANSFORMER, TRANSFORMER)))


@pytest.fixture(scope="session")
def video_model():
    "A universal video model with random weights."
    return randomised(VideoModel(VideoConfig(4, PYRAMID.num_levels, TRANSFORMER, odometry=True)))


@pytest.fixture(scope="session")
def framepack_model():
    "A FramePack model with random weights: six context frames, two denoised ones."
    return randomised(
        FramePackModel(
            VideoConfig(
                4, PYRAMID.num_levels, TRANSFORMER, odometry=True, framepack_context=(1, 1, 4), framepack_denoised=2
            )
        )
    )


@pytest.fixture(scope="session")
def schedule():
    "A MilliVid schedule with windows of 1, 2 and 4 frames."
    return millivid_schedule((1, 2, 4), 16, PYRAMID.tokens_per_level)


@pytest.fixture(scope="session")
def sliding_window():
    "The full-resolution schedule: two context frames, two denoised ones."
    return full_resolution_schedule(4, PYRAMID.tokens_per_level)


@pytest.fixture(scope="module")
def browser():
    "Chromium. A test that asks for it is skipped where there is none."
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not chromium:
        pytest.skip("no Chromium here: on Debian and Ubuntu, apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=chromium, args=options)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
