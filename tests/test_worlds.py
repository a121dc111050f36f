"What training and testing ask of a world, also of recordings (here: noise in the files that a recording leaves)."

import json

import numpy as np
import pytest
import torch

from millivid.data import StepSampler
from millivid.pipeline import MINI_EXPERIMENTS
from millivid.release import write_actions, write_frames
from millivid.tokenizer import MINI_TOKENIZER, Tokenizer
from millivid.worlds.doom import DoomWorld
from millivid.worlds.rooms import PlainRoomWorld, RoomWorld

SHORT = dict(training=2, episodes=2, context=8, generated=16)


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    return Tokenizer(MINI_TOKENIZER).eval()


def write_recording(folder, key, frames, seed):
    "Noise, and a walk to and fro over twelve places."
    rng = np.random.default_rng(seed)
    write_frames(folder / f"{key}.frames", rng.integers(256, size=(frames, 64, 64, 3), dtype=np.uint8))
    actions = torch.zeros(frames, 6)
    actions[:, 1] = torch.arange(frames) % 12
    write_actions(folder / f"{key}.npy", actions)


@pytest.fixture
def doom(tmp_path, monkeypatch):
    monkeypatch.setattr("millivid.worlds.doom.RECORDED_FRAMES", 120)
    world = DoomWorld(tmp_path, **SHORT)
    for part, (seeds, frames, _) in world.parts.items():
        index = {f"{seed // 1000:03}/{seed % 1000:03}": frames for seed in list(seeds)[:2]}
        for key in index:
            write_recording(tmp_path / "recordings" / part, key, frames, len(part))
        (tmp_path / "recordings" / part / "index.json").write_text(json.dumps(index))
    return world


@pytest.mark.parametrize("key", ["../../outside/x", "/tmp/millivid_outside/x"])
def test_an_index_writes_nothing_outside_of_its_folder(key, doom, tokenizer, tmp_path):
    write_recording(tmp_path / "recordings" / "train", "../../outside/x", 120, 0)
    (tmp_path / "recordings" / "train" / "index.json").write_text(json.dumps({key: 120}))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="leads out of the folder"):
        doom.walks(tokenizer, tmp_path / "a" / "b" / "tokenizer")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["rooms", "plain", "doom"])
def test_a_world_offers_walks_and_test_episodes(name, doom, tokenizer, tmp_path):
    world = doom if name == "doom" else {"rooms": RoomWorld, "plain": PlainRoomWorld}[name](tmp_path, **SHORT)
    for walks in world.walks(tokenizer, tmp_path / "tokenizer"):
        latents, actions = walks.read(walks.draw(torch.Generator().manual_seed(0), 3, 20))
        pyramid, channels = MINI_TOKENIZER.pyramid, MINI_TOKENIZER.latent_channels
        assert latents.shape == (3, 20, pyramid.num_tokens, channels) and actions.shape == (3, 20, 6)
        sampler = StepSampler(walks, MINI_EXPERIMENTS["millivid"].schedule(), pyramid)
        assert sampler(torch.Generator().manual_seed(0), 2).values.shape[1] == 160
    frames, actions, seen = world.test_episodes()
    assert frames.shape == (2, 24, 64, 64, 3) and frames.dtype == np.uint8
    assert actions.shape == (2, 24, 6) and seen.shape == (2, 16) and seen.dtype == bool


def test_plain_rooms_have_the_same_walks_and_no_patterns(tokenizer, tmp_path):
    patterned, plain = RoomWorld(**SHORT), PlainRoomWorld(**SHORT)
    (_, actions, seen), (_, same_actions, same_seen) = patterned.test_episodes(), plain.test_episodes()
    assert torch.equal(actions, same_actions) and np.array_equal(seen, same_seen)
    pictures = [[world.test_episodes()[0], world.placed_frames(2)["other_room"],
                 world.images()(torch.Generator().manual_seed(0), 8, False).numpy(),
                 world.walks(tokenizer, tmp_path / type(world).__name__)[0].latents.float().numpy()]
                for world in (patterned, plain)]
    assert all(not np.array_equal(one, other) for one, other in zip(*pictures))
    colours = [len(np.unique(world.test_episodes()[0].reshape(-1, 3), axis=0)) for world in (patterned, plain)]
    assert colours[1] < colours[0]


def test_training_held_out_and_test_recordings_are_others(doom):
    seeds = [set(seeds) for seeds, *_ in doom.parts.values()]
    assert not (seeds[0] & seeds[1] or seeds[1] & seeds[2] or seeds[0] & seeds[2])
    assert [context for *_, context in doom.parts.values()] == [None, None, 8]  # the overlap rule is for tests alone


def test_views_that_come_back_count_as_seen(doom):
    seen = doom.test_episodes()[2][0]
    assert seen.nonzero()[0].tolist() == list(range(4, 12))  # of the places 0 to 11, the context saw 0 to 7


def test_a_tokenizer_learns_from_recordings(doom):
    draw = doom.images()
    images = draw(torch.Generator().manual_seed(0), 40, False)
    assert images.shape == (40, 3, 64, 64) and 0 <= images.min() < images.max() <= 1
    assert torch.equal(images, draw(torch.Generator().manual_seed(0), 40, False))
    assert not torch.equal(images, draw(torch.Generator().manual_seed(0), 40, True))


def test_encoded_recordings_are_kept(doom, tokenizer, tmp_path):
    doom.walks(tokenizer, tmp_path / "tokenizer")
    before = {path: path.stat().st_mtime_ns for path in doom.root.rglob("*.pyramid")}  # beside the recordings
    doom.walks(tokenizer, tmp_path / "tokenizer")
    assert len(before) == 4 and before == {path: path.stat().st_mtime_ns for path in doom.root.rglob("*.pyramid")}
