"The numbers of the comparison, by hand."

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import assert_says

from millivid.actions import FORWARD, TURN_LEFT, TURN_RIGHT, action_rows
from millivid.basics import UserError
from millivid.evaluation import average_context_frames, bootstrap_interval, bound_videos, compare, diagnose
from millivid.evaluation import format_table, frame_consistency, frame_psnr, horizons, nearest_poses, psnr_table
from millivid.evaluation import random_context_frames, random_frames
from millivid.pyramid import PyramidConfig
from millivid.tokenizer import encode_frames
from millivid.worlds.rooms import RoomWorld, WorldConfig, make_test_episodes, pose_index

RNG = np.random.default_rng(0)


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
    with pytest.raises(UserError) as error:
        horizons(2)
    assert_says(error.value, 2, "at least 3")


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
    line = format_table(table, 8, {"millivid": "Ours"}).splitlines()[2]
    assert line.startswith("| Ours | ") and line.endswith(f" {table['millivid']['long']:.1f} |")


def test_bounds_show_frames_of_other_episodes_and_of_the_context(truth):
    rng = np.random.default_rng(0)
    grey = random_frames(truth, rng)[..., 0, 0, 0]
    assert (grey % 10 == np.arange(10)).all()  # the same index
    assert (grey // 10 != np.arange(3)[:, None]).all()  # never its own episode
    grey = random_context_frames(truth, 4, rng)[..., 0, 0, 0]
    assert (grey % 10 < 4).all() and (grey // 10 == np.arange(3)[:, None]).all()
    assert len(np.unique(grey[0])) > 1
    grey = average_context_frames(truth, 5)[..., 0, 0, 0]
    assert (grey == np.array([2, 12, 22])[:, None]).all()


def rows_of(poses):
    "Actions (1, frames, 6) of poses: x, y in moves, heading in quarter turns."
    rows = torch.zeros(1, len(poses), 6)
    rows[0, :, [1, 2, 4]] = torch.tensor(poses, dtype=torch.float32) * torch.tensor([1, 1, np.pi / 2])
    return rows


def test_the_nearest_pose_is_the_oldest_of_the_nearest():
    context = [(0, 0, 0), (1, 0, 0), (1, 0, 3), (0, 0, 0)]
    later = [(0, 0, 0), (2, 0, 3.5), (1, 0, -1), (5, 0, 0), (0, .4, 3.9), (1, 0, 4)]
    assert nearest_poses(rows_of(context + later), 4)[0].tolist() == [0, 1, 2, 0, 0, 1, 2, 1, 0, 1]


def test_a_copy_by_pose_is_perfect_where_the_view_was_seen(tokenizer):
    episodes = make_test_episodes(2, 60, 40, WorldConfig(image_size=tokenizer.config.pyramid.image_shape[0]))
    frames = np.stack([episode.frames for episode in episodes])
    actions = torch.stack([action_rows(episode.actions) for episode in episodes])
    latents = torch.stack([encode_frames(tokenizer, video) for video in frames])
    bounds = bound_videos(tokenizer, frames, latents, actions, 40)
    for number, (copy, best) in enumerate(zip(bounds["copy_pose"], bounds["autoencoded"])):
        views = pose_index(episodes[number].poses, episodes[number].config)
        seen = np.isin(views[40:], views[:40])
        assert seen.any() and not seen.all()
        np.testing.assert_array_equal(copy[40:][seen], best[40:][seen])
        assert (copy[40:][~seen] != best[40:][~seen]).any((1, 2, 3)).all()


def test_consistency_compares_a_video_with_its_own_first_time():
    truth = np.zeros((2, 40, 8, 8, 3), np.uint8)
    truth[0] += np.arange(40, dtype=np.uint8)[:, None, None, None]  # every view is new ...
    truth[0, 36] = truth[0, 38] = truth[0, 3]  # ... but for these; the second video shows one view all the time
    frames = np.random.default_rng(0).integers(0, 200, truth.shape).astype(np.uint8)
    frames[0, 36], frames[0, 38] = frames[0, 3] + 51, frames[0, 3]
    quality = frame_consistency(frames, truth)
    assert [row.nonzero()[0].tolist() for row in np.isfinite(quality)] == [[36, 38], list(range(32, 40))]
    np.testing.assert_allclose(quality[0, [36, 38]], [-10 * np.log10(.04), 100], rtol=1e-5)
    np.testing.assert_allclose(quality[1, 33], frame_psnr(frames[1, 33], frames[1, 0]))


def test_the_bootstrap_draws_whole_episodes():
    same, apart = np.repeat(RNG.normal(size=(40, 1)), 30, axis=1), RNG.normal(size=(40, 30))
    wide, narrow = (found["high"] - found["low"] for found in map(bootstrap_interval, (same, apart)))
    assert 3 < wide / narrow < 9  # about the root of 30
    assert bootstrap_interval(same) == bootstrap_interval(same)


def test_the_bootstrap_leaves_nan_out():
    interval = bootstrap_interval(np.array([[1., np.nan], [3., 5.], [np.nan, np.nan]]))
    assert interval["mean"] == 3 and interval["low"] >= 1 and interval["high"] <= 4
    assert all(np.isnan(list(bootstrap_interval(np.full((2, 3), np.nan)).values())))


# ---- everybody generates the same future -----------------------------------------------------------------------------

class Repeats:
    "Stands in for a pipeline: repeats the last given frame's latents."

    def generate(self, latents, actions, start, end, num_inference_steps, seeds, progress):
        self.seeds = seeds
        made = latents.clone()
        made[:, start:end] = latents[:, start - 1:start]
        return made


def test_compare_keeps_the_context_and_generates_the_rest(tokenizer, truth):
    shape = tokenizer.config.pyramid.image_shape
    frames = np.ascontiguousarray(np.broadcast_to(truth[:, :, :1, :1], (3, 10, *shape, 3)))
    pipeline = Repeats()
    videos = compare(tokenizer, {"mine": pipeline}, frames, torch.zeros(3, 10, 6), context=4)
    assert list(videos) == ["ground_truth", "mine", "autoencoded", "copy_pose", "random_episode", "random_context"]
    assert len(set(pipeline.seeds)) == 3
    np.testing.assert_array_equal(videos["mine"][:, :4], frames[:, :4])
    for later in range(4, 10):
        np.testing.assert_array_equal(videos["mine"][:, later], videos["autoencoded"][:, 3])


def test_one_episode_is_refused_before_anything_is_generated(tokenizer):
    frames = np.zeros((1, 4, *tokenizer.config.pyramid.image_shape, 3), np.uint8)
    with pytest.raises(UserError, match="at least 2 episodes"):
        compare(tokenizer, {"never": None}, frames, torch.zeros(1, 4, 6), context=2)


def test_the_rooms_as_a_world():
    world = RoomWorld(training=2, episodes=2, context=32, generated=8)
    frames, actions, seen = world.test_episodes()
    assert frames.shape == (2, 40, 64, 64, 3) and actions.shape == (2, 40, 6) and seen.shape == (2, 8)
    for episode, row in zip(frames, seen):
        given = {frame.tobytes() for frame in episode[:32]}
        assert [frame.tobytes() in given for frame in episode[32:]] == row.tolist()
    placed = world.placed_frames(4)
    assert {video.shape for video in placed.values()} == {frames.shape}
    assert frame_psnr(placed["average_room"], frames).mean() > frame_psnr(placed["other_room"], frames).mean()


# ---- the diagnosis ---------------------------------------------------------------------------------------------------

class WrongByNumber:
    "Stands in for a pipeline: the n-th generated frame is wrong by n in every channel of the finest level."

    experiment = SimpleNamespace(pyramid=PyramidConfig((64, 64), (16, 16), 3))

    def __init__(self, truth):
        self.truth, self.calls = truth, []

    def generate(self, latents, actions, start, end, num_inference_steps, seeds, progress):
        assert torch.equal(latents, self.truth[:, :start]) and not progress
        self.calls.append((start, end, num_inference_steps, tuple(seeds)))
        made = self.truth[:, :end].clone()
        made[:, start:, :16] += torch.arange(1., end - start + 1)[:, None, None]
        return made


def walk(*moves):
    "Two frames a move, six frames before the given moves."
    return action_rows(np.repeat([FORWARD, FORWARD, FORWARD, *moves, FORWARD, FORWARD], 2))


def test_diagnosis_by_hand():
    truth = torch.randn(4, 14, 21, 16, generator=torch.Generator().manual_seed(0))
    moves = [(TURN_LEFT, TURN_LEFT), (TURN_LEFT, TURN_RIGHT), (FORWARD, TURN_LEFT), (TURN_RIGHT, TURN_RIGHT)]
    pipeline = WrongByNumber(truth)
    errors = diagnose(pipeline, truth, torch.stack([walk(*pair) for pair in moves]), [6], num_inference_steps=3)
    # The first two frames are wrong by 1 and 2: three walks turn, one goes on. Behind are the frames after 135 and 180
    # degrees: numbers 3 and 4 of two walks.
    expected = {"forward": (1 + 4) / 2, "turn": (1 + 4) / 2, "behind": (9 + 16) / 2}
    assert errors == pytest.approx(expected, rel=1e-4)
    assert pipeline.calls[0][:3] == (6, 10, 3) and len(set(pipeline.calls[0][3])) == 4


def test_diagnosis_in_the_middle_of_a_turn():
    truth = torch.zeros(1, 14, 21, 16)
    errors = diagnose(WrongByNumber(truth), truth, walk(TURN_LEFT, TURN_LEFT)[None], [7])
    # Half a turn is given: frames 1 and 2 end it and begin the next, which ends with frame 3; frame 4 goes on. Both
    # look 135 degrees away from the last given frame.
    assert errors["turn"] == pytest.approx((1 + 4) / 2) and errors["behind"] == pytest.approx((9 + 16) / 2)


def test_diagnosis_with_fewer_than_five_given_frames():
    truth, actions = torch.zeros(1, 14, 21, 16), action_rows([FORWARD] * 3 + [TURN_LEFT] * 11)[None]
    pipeline = WrongByNumber(truth)
    errors = diagnose(pipeline, truth, actions, [3])
    # Turned by 45, 90, 135 and 180 degrees: the last two look away from all that is given.
    assert errors["turn"] == pytest.approx((1 + 4) / 2) and errors["behind"] == pytest.approx((9 + 16) / 2)
    assert pipeline.calls[0][:2] == (3, 7)


def test_diagnosis_of_nothing_is_nan():
    truth = torch.zeros(1, 14, 21, 16)
    errors = diagnose(WrongByNumber(truth), truth, walk(FORWARD, FORWARD)[None], [6])
    assert errors["forward"] == pytest.approx(2.5) and np.isnan([errors["turn"], errors["behind"]]).all()
