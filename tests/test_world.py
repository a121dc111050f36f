"The rendered rooms: repeatable, fast, and test episodes that deserve the name."

import random
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millivid.actions import FORWARD, TURN_LEFT, TURN_RIGHT, chamfer_distance, integrate_actions
from millivid.worlds.rooms import HELD_OUT_SEED, RUNNING_EXAMPLE, TEST_SEED, WorldConfig, lattice_poses, make_episode
from millivid.worlds.rooms import make_room, make_test_episode, pose_index, random_walk, render_poses, walk

SMALL = WorldConfig(image_size=16)
seeds = st.integers(0, 2 ** 31)


def overlap(episode, context):
    "How far the places of the later path lie from those of the context's path."
    places = episode.poses[:, :2] / episode.config.frames_per_action
    return chamfer_distance(np.unique(places[:context], axis=0), np.unique(places[context:], axis=0))


# ---- rooms and walks are objects -------------------------------------------------------------------------------------

def test_rooms_and_episodes_can_be_compared_and_kept_in_sets():
    episode = make_episode(0, 4, SMALL)
    for one, other in ((make_room(0), make_room(0)), (episode, make_episode(0, 4, SMALL))):
        assert one == one and one != other and len({one, other, one}) == 2  # once a ValueError and a TypeError


# ---- the same seed and actions give the same video -------------------------------------------------------------------

@given(seeds)
def test_seed_and_actions_determine_the_video(seed):
    start, actions = random_walk(random.Random(seed), 12, SMALL)
    one, two = (walk(make_room(seed, SMALL), start, actions, SMALL) for _ in range(2))
    np.testing.assert_array_equal(one.frames, two.frames)
    np.testing.assert_array_equal(one.poses, two.poses)


@pytest.mark.parametrize("make", [make_episode, make_test_episode])
def test_episodes_come_from_their_seed_alone(make):
    one, other = (make(seed, 140, config=SMALL) for seed in (7, 8))
    random.seed(1), np.random.seed(1)  # what else happens does not matter
    two = make(7, 140, config=SMALL)
    np.testing.assert_array_equal(one.frames, two.frames)
    np.testing.assert_array_equal(one.actions, two.actions)
    assert (one.frames != other.frames).any()


def test_a_frame_depends_on_room_and_pose_only():
    episode, seen = make_episode(3, 200, SMALL), {}
    for pose, frame in zip(map(tuple, episode.poses), episode.frames):
        np.testing.assert_array_equal(seen.setdefault(pose, frame), frame)
    assert len(seen) < 200  # some poses came back


def test_poses_follow_from_the_actions():
    episode, k = make_episode(5, 100, SMALL), SMALL.frames_per_action
    before = episode.poses[1]  # the first action is complete
    np.testing.assert_array_equal(integrate_actions(before, episode.actions[k:], k), episode.poses[k:])


# ---- what actions do -------------------------------------------------------------------------------------------------

def test_turning():
    room, start = make_room(0, SMALL), (1, 1, 0)
    left = walk(room, start, [TURN_LEFT] * 4, SMALL)
    right = walk(room, start, [TURN_RIGHT] * 4, SMALL)
    np.testing.assert_array_equal(left.poses[-1], right.poses[-1])  # a full turn either way
    np.testing.assert_array_equal(left.frames[-1], right.frames[-1])
    np.testing.assert_array_equal(left.frames[1], right.frames[5])  # one quarter left is three quarters right
    assert (left.frames[1] != right.frames[1]).any()


def test_forward_and_back_again():
    room, around = make_room(0, SMALL), [TURN_LEFT, TURN_LEFT]
    episode = walk(room, (0, 1, 0), [TURN_LEFT, TURN_RIGHT, FORWARD, *around, FORWARD, *around], SMALL)
    np.testing.assert_array_equal(episode.frames[-1], episode.frames[3])
    assert episode.poses[3, 0] + SMALL.frames_per_action == episode.poses[5, 0]  # one place east


@given(seeds, st.integers(1, 5), st.integers(1, 4), st.integers(1, 40))
def test_walks_stay_in_the_room(seed, places, frames_per_action, num_actions):
    config = WorldConfig(places=places, frames_per_action=frames_per_action, image_size=8)
    start, actions = random_walk(random.Random(seed), num_actions, config)
    held = np.repeat(actions, frames_per_action)
    poses = integrate_actions(np.array(start) * frames_per_action, held, frames_per_action)
    assert len(actions) == num_actions
    assert (poses[:, :2] >= 0).all() and (poses[:, :2] <= (places - 1) * frames_per_action).all()
    np.testing.assert_array_equal(lattice_poses(config)[pose_index(poses, config)], poses)


def test_frames_are_pictures():
    episode = make_episode(0, 33)
    assert len(episode) == len(episode.actions) == len(episode.poses) == 33
    assert episode.frames.shape == (33, 64, 64, 3) and episode.frames.dtype == np.uint8
    assert np.ptp(episode.frames.reshape(33, -1), axis=1).min() > 50  # none of them is a blank


# ---- test episodes ---------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def chosen():
    return [make_test_episode(number, 128, 64, SMALL) for number in range(100, 112)]


@pytest.fixture(scope="module")
def ordinary():
    return [make_episode(seed, 128, SMALL) for seed in range(100)]


def test_test_episodes_return_to_their_context(chosen, ordinary):
    ours, usual = ([overlap(episode, 64) for episode in episodes] for episodes in (chosen, ordinary))
    assert np.mean(ours) < .5 * np.mean(usual)
    assert max(ours) < np.percentile(usual, 30)


def test_test_episodes_cover_distance(chosen, ordinary):
    ours, usual = ([(episode.actions == FORWARD).mean() for episode in episodes] for episodes in (chosen, ordinary))
    assert np.mean(ours) > np.mean(usual)


def test_no_room_is_used_twice():
    "Training rooms, test rooms and held-out rooms: other seeds, and really other paint."
    from millivid.cli import TrainOptions
    training = range(TrainOptions().rooms)
    numbers = [RUNNING_EXAMPLE, *range(64)]
    held_out = range(HELD_OUT_SEED, HELD_OUT_SEED + 64)
    assert training.stop <= TEST_SEED <= TEST_SEED + max(numbers) < HELD_OUT_SEED
    tests = [make_test_episode(number, 4, 2, SMALL, num_walks=12, num_candidates=1).room for number in numbers]
    rooms = [make_room(seed) for seed in training], tests, [make_room(seed) for seed in held_out]
    paint = [{room.texture().tobytes() for room in group} for group in rooms]
    assert len(set.union(*paint)) == sum(map(len, paint)) == len(training) + len(numbers) + len(held_out)


# ---- speed -----------------------------------------------------------------------------------------------------------

def test_two_thousand_frames_a_second_on_one_core():
    room, every_pose = make_room(0), np.arange(len(lattice_poses()))
    render_poses(room, every_pose[:1])  # casts the rays, once for all rooms
    best, gives_up = 0, time.monotonic() + 20
    while best < 2_000 and time.monotonic() < gives_up:  # the best of many: others may use this machine too
        started = time.process_time()
        render_poses(room, every_pose)
        best = max(best, len(every_pose) / (time.process_time() - started))
    assert best >= 2_000, f"{best:.0f} frames a second"
