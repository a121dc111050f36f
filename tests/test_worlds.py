"What training and testing ask of a world, also of recordings (here: noise in the files that a recording leaves)."

import json

import numpy as np
import pytest
import torch

from millivid.release import write_actions, write_frames
from millivid.tokenizer import MINI_TOKENIZER, Tokenizer
from millivid.worlds.doom import DoomWorld

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
