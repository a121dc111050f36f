"The numbers of the comparison, by hand."

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millivid.evaluation import comparison_video, format_table, frame_psnr, horizons, psnr_table, random_context_frames
from millivid.evaluation import random_frames


@pytest.fixture
def truth():
    "Three episodes of ten frames; every frame is a grey of its own."
    grey = np.arange(30, dtype=np.uint8).reshape(3, 10, 1, 1, 1)
    return np.broadcast_to(grey, (3, 10, 8, 8, 3)).copy()


@given(st.integers(3, 2000))
def test_horizons_share_all_frames(count):
    spans = list(horizons(count).values())
    assert spans[0][0] == 1 and spans[-1][1] == count
    assert all(first <= last for first, last in spans)
    assert all(before[1] + 1 == after[0] for before, after in zip(spans, spans[1:]))


def test_horizons_of_the_paper():
    assert horizons(768) == {"short": (1, 64), "medium": (65, 256), "long": (257, 768)}


def test_psnr_by_hand(truth):
    other = truth.copy()
    other[1] += 51  # a fifth of the range: an error of 0.04
    quality = frame_psnr(other, truth)
    assert quality.shape == (3, 10)
    np.testing.assert_allclose(quality[1], -10 * np.log10(.04), rtol=1e-5)
    np.testing.assert_allclose(quality[0], 100)  # equal: the limit


def test_table_is_the_mean_over_each_horizon(truth):
    worse = truth.copy()
    worse[:, 4:] += 51  # of six generated frames, the first two are perfect
    table = psnr_table({"ground_truth": truth, "millivid": worse}, context=2)
    low, (first, last) = -10 * np.log10(.04), horizons(8)["long"]
    expected = [100 if number <= 2 else low for number in range(first, last + 1)]
    assert table.keys() == {"millivid"}
    assert table["millivid"]["long"] == pytest.approx(np.mean(expected), rel=1e-5)
    assert f"{table['millivid']['long']:.1f}" in format_table(table, 8)


def test_bounds_show_frames_of_other_episodes_and_of_the_context(truth):
    rng = np.random.default_rng(0)
    grey = random_frames(truth, rng)[..., 0, 0, 0]
    assert (grey % 10 == np.arange(10)).all()  # the same index
    assert (grey // 10 != np.arange(3)[:, None]).all()  # never its own episode
    grey = random_context_frames(truth, 4, rng)[..., 0, 0, 0]
    assert (grey % 10 < 4).all() and (grey // 10 == np.arange(3)[:, None]).all()
    assert len(np.unique(grey[0])) > 1


def test_comparison_video_shows_all_rows(truth):
    videos = {"ground_truth": truth, "millivid": truth + 100}
    frames = comparison_video(videos, context=4, scale=4, lead=2)
    assert len(frames) == 2 + 6 and frames.dtype == np.uint8
    assert frames.shape[1] % 2 == frames.shape[2] % 2 == 0  # or no mp4 can hold it
    assert not np.array_equal(frames[0], frames[-1])
