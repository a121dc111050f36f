"The numbers of the comparison, by hand."

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from millivid.actions import FORWARD, TURN_LEFT, TURN_RIGHT, action_rows
from millivid.evaluation import compare, diagnose, format_table, frame_consistency, frame_psnr, horizons, psnr_table
from millivid.evaluation import random_context_frames, random_frames
from millivid.plots import comparison_video
from millivid.pyramid import PyramidConfig
from millivid.worlds.rooms import WorldConfig, make_episode


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


def test_consistency_compares_a_film_with_its_own_first_time():
    truth = np.zeros((2, 40, 8, 8, 3), np.uint8)
    truth[0] += np.arange(40, dtype=np.uint8)[:, None, None, None]  # every view is new ...
    truth[0, 36] = truth[0, 38] = truth[0, 3]  # ... but for these; the second film shows one view all the time
    frames = np.random.default_rng(0).integers(0, 200, truth.shape).astype(np.uint8)
    frames[0, 36], frames[0, 38] = frames[0, 3] + 51, frames[0, 3]
    quality = frame_consistency(frames, truth)
    assert np.isfinite(quality[0]).nonzero()[0].tolist() == [36, 38] and np.isfinite(quality[1]).nonzero()[0].tolist() == list(range(32, 40))
    np.testing.assert_allclose(quality[0, [36, 38]], [-10 * np.log10(.04), 100], rtol=1e-5)
    np.testing.assert_allclose(quality[1, 33], frame_psnr(frames[1, 33], frames[1, 0]))


def test_one_episode_is_refused_before_anything_is_generated(tokenizer):
    with pytest.raises(ValueError, match="at least 2 episodes"):
        compare(tokenizer, {"never": None}, [make_episode(0, 4, WorldConfig(image_size=16))], context=2)


# ---- the diagnosis ---------------------------------------------------------------------------------------------------

class WrongByNumber:
    "Stands in for a generator: the n-th generated frame is wrong by n in every channel of the finest level."

    experiment = SimpleNamespace(pyramid=PyramidConfig((64, 64), (16, 16), 3))

    def __init__(self, truth):
        self.truth, self.calls = truth, []

    def generate(self, latents, actions, start, end, num_steps, seeds, progress):
        assert torch.equal(latents, self.truth[:, :start]) and not progress
        self.calls.append((start, end, num_steps, tuple(seeds)))
        made = self.truth[:, :end].clone()
        made[:, start:, :16] += torch.arange(1., end - start + 1)[:, None, None]
        return made


def walk(*moves):
    return action_rows(np.repeat([FORWARD, FORWARD, FORWARD, *moves, FORWARD, FORWARD], 2))  # two frames a move, six frames before


def test_diagnosis_by_hand():
    truth = torch.randn(4, 14, 21, 16, generator=torch.Generator().manual_seed(0))
    actions = torch.stack([walk(TURN_LEFT, TURN_LEFT), walk(TURN_LEFT, TURN_RIGHT), walk(FORWARD, TURN_LEFT), walk(TURN_RIGHT, TURN_RIGHT)])
    generator = WrongByNumber(truth)
    errors = diagnose(generator, truth, actions, [6], num_steps=3)
    # the first two frames are wrong by 1 and 2: three walks turn, one goes on. Behind are the frames after 135 and 180 degrees: numbers 3 and 4 of two walks.
    assert errors == pytest.approx({"forward": (1 + 4) / 2, "turn": (1 + 4) / 2, "behind": (9 + 16) / 2}, rel=1e-4)
    assert generator.calls[0][:3] == (6, 10, 3) and len(set(generator.calls[0][3])) == 4


def test_diagnosis_in_the_middle_of_a_turn():
    truth = torch.zeros(1, 14, 21, 16)
    errors = diagnose(WrongByNumber(truth), truth, walk(TURN_LEFT, TURN_LEFT)[None], [7])
    # half a turn is given: frames 1 and 2 end it and begin the next, which ends with frame 3; frame 4 goes on. Both look 135 degrees away from the last given frame.
    assert errors["turn"] == pytest.approx((1 + 4) / 2) and errors["behind"] == pytest.approx((9 + 16) / 2)


def test_diagnosis_of_nothing_is_nan():
    truth = torch.zeros(1, 14, 21, 16)
    errors = diagnose(WrongByNumber(truth), truth, walk(FORWARD, FORWARD)[None], [6])
    assert errors["forward"] == pytest.approx(2.5) and np.isnan([errors["turn"], errors["behind"]]).all()
