"""Videos that are generated bit by bit: the same frames, in constant memory, also after an interruption."""

import itertools
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import PYRAMID, files_below, random_video, randomised

from millivid import Pipeline
from millivid.basics import UserError
from millivid.pipeline import Experiment
from millivid.rollout import VideoNoise, generate, stream
from millivid.schedule import framepack_schedule, millivid_schedule, upscale_schedule
from millivid.tokenizer import Tokenizer, TokenizerConfig
from millivid.video import VideoConfig, VideoModel
from millivid.worlds.rooms import make_test_episode

TOKENS = PYRAMID.tokens_per_level
SCHEDULES = {
    "millivid": millivid_schedule((1, 2, 4), 16, TOKENS),
    "upscaling": upscale_schedule(2, TOKENS),
    "framepack": framepack_schedule((1, 2, 4), 2, TOKENS),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("count", [1, 4, 9, 30])
def test_a_stream_is_the_video_of_generate(name, count, video_model):
    schedule, (latents, actions) = SCHEDULES[name], random_video(2, 60)
    back, start = schedule.context_frames, 28
    actions = actions[:, :start + count]
    whole = generate(video_model, latents, actions, schedule, PYRAMID, start, start + count, 3, seeds=[5, 6],
                     progress=False)
    pieces = [*stream(video_model, latents[:, start - back:start], actions[:, start - back:], schedule,
                      PYRAMID, VideoNoise([5, 6]), num_inference_steps=3, progress=False)]
    assert torch.equal(torch.cat(pieces, dim=1), whole[:, start:])
    assert all(piece.shape[1] == schedule.finished_frames for piece in pieces[:-1])


def test_the_first_chunk_is_there_before_the_second_is_computed(video_model):
    schedule, (latents, actions) = SCHEDULES["millivid"], random_video(1, 60)
    passes = []

    def counting(*arguments):
        passes.append(1)
        return video_model(*arguments)

    pieces = stream(counting, latents[:, :schedule.context_frames], actions, schedule, PYRAMID, VideoNoise([0]),
                    num_inference_steps=3, progress=False)
    assert not passes
    next(pieces)
    one = len(passes)
    next(pieces)
    assert len(passes) == 2 * one == 2 * schedule.num_steps * 2


@pytest.fixture
def pipeline():
    "A tiny pipeline with random weights, whose chunks have four frames."
    config = TokenizerConfig(PYRAMID, 4, *(VideoConfig().transformer.__class__(24, 1, 2),) * 2)
    video = VideoConfig(4, 3, config.encoder, odometry=True)
    experiment = Experiment("millivid", PYRAMID, video, (1, 2, 4), 8, num_inference_steps=3)
    return Pipeline(randomised(VideoModel(video)), experiment, randomised(Tokenizer(config)))


@pytest.fixture
def given():
    frames = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    return frames, np.random.default_rng(1).integers(0, 3, 60)


def test_a_pipeline_streams_what_it_generates(pipeline, given):
    frames, actions = given
    whole = pipeline(frames, actions, seeds=[3], progress=False)
    pieces = [*pipeline.stream(frames, actions, seed=3, progress=False)]
    assert {len(piece) for piece in pieces} == {4} and np.array_equal(np.concatenate([frames, *pieces]), whole)
    other = np.concatenate([*pipeline.stream(frames, actions, seed=4, progress=False)])
    assert not np.array_equal(other, whole[20:])
    drawing = "\n".join(["........", "........", "ccccdddd"])
    few = [*pipeline.stream(frames, actions, schedule=drawing, num_inference_steps=2, progress=False)]
    again = pipeline(frames, actions, seeds=[0], schedule=drawing, num_inference_steps=2, progress=False)
    assert np.array_equal(np.concatenate(few), again[20:])


@pytest.mark.parametrize("count", [1, 4, 6, 39])
def test_an_interrupted_stream_goes_on_with_the_same_frames(pipeline, given, count, tmp_path):
    frames, actions = given

    def run(length=60, **settings):
        return pipeline.stream(frames, actions[:length], seed=3, progress=False, **settings)

    whole = np.concatenate([*run()])
    [*itertools.islice(run(20 + count, folder=tmp_path), 3)]  # a shorter video, perhaps not even all of that
    kept = {name: (tmp_path / name).read_bytes() for name in files_below(tmp_path)}
    assert np.array_equal(np.concatenate([*run(folder=tmp_path)]), whole)
    changed = [name for name in kept if (tmp_path / name).read_bytes() != kept[name]]
    assert changed == ([f"{20 + 4 * (count // 4)}.safetensors"] if count % 4 and count < 12 else [])
    assert np.array_equal(np.concatenate([*run(20 + count, folder=tmp_path)]), whole[:count])  # a shorter one again
    assert len(files_below(tmp_path)) == 10


@pytest.mark.parametrize("change", ["seed", "frames", "count", "actions", "noise levels", "weights",
                                    "schedule"])
def test_the_folder_of_another_video_is_refused(pipeline, given, change, tmp_path):
    frames, actions = given
    [*pipeline.stream(frames, actions, folder=tmp_path, progress=False)]
    settings, before = {}, {name: (tmp_path / name).read_bytes() for name in files_below(tmp_path)}
    if change == "seed":
        settings["seed"] = 1
    elif change == "frames":
        frames = frames[::-1]
    elif change == "count":  # its chunks would lie between the others
        frames = frames[:19]
    elif change == "actions":
        actions = np.where(np.arange(60) == 30, (actions + 1) % 3, actions)
    elif change == "noise levels":
        settings["num_inference_steps"] = 2
    elif change == "weights":
        randomised(pipeline.model, 1)
    else:
        settings["schedule"] = "........\n........\nccccdddd"
    with pytest.raises(UserError, match="another video"):
        [*pipeline.stream(frames, actions, folder=tmp_path, progress=False, **settings)]
    assert {name: (tmp_path / name).read_bytes() for name in files_below(tmp_path)} == before


@pytest.mark.parametrize("damage", [
    lambda path: path.write_bytes(path.read_bytes()[:-9]), lambda path: path.write_bytes(b""),
    lambda path: save_file({"latents": torch.zeros(1, 4, 21, 4)}, path),
    lambda path: save_file(load_file(path), path)])
def test_a_damaged_chunk_is_named(pipeline, given, damage, tmp_path):
    [*pipeline.stream(*given, folder=tmp_path, progress=False)]
    damage(tmp_path / "24.safetensors")
    with pytest.raises(UserError, match="24.safetensors"):
        [*pipeline.stream(*given, folder=tmp_path, progress=False)]


def test_what_cannot_be_streamed(pipeline, given):
    frames, actions = given
    for wrong in (lambda: pipeline.stream(frames[:5], actions), lambda: pipeline.stream(frames, actions[:20]),
                  lambda: Pipeline(pipeline.model, pipeline.experiment).stream(frames, actions),
                  lambda: Pipeline.from_pretrained("mini-framepack").stream(frames, actions),
                  lambda: stream(pipeline.model, torch.zeros(1, 7, 21, 4), torch.zeros(1, 9, 6),
                                 framepack_schedule((1, 2, 4), (1, 1, 2), TOKENS), PYRAMID, VideoNoise([0]))):
        with pytest.raises(UserError):
            next(wrong())


def test_killed_at_any_moment_the_command_ends_with_the_same_video(tmp_path):
    "kill -9 while `millivid generate` works, again and again: the frames are those of a run in one go."
    episode = make_test_episode(0, 128 + 96, 128)
    np.save(tmp_path / "context.npy", episode.frames[:128])
    code = ("import sys, numpy as np; from millivid import Pipeline; "
            f"frames = np.load({str(tmp_path / 'context.npy')!r}); "
            "actions = np.load(sys.argv[1]); "
            "pieces = Pipeline.from_pretrained('mini-full-resolution').stream(frames, actions, folder=sys.argv[2], "
            "progress=False); np.save(sys.argv[3], np.concatenate([*pieces]))")
    np.save(tmp_path / "actions.npy", episode.actions)

    def start(folder, result):
        return subprocess.Popen([sys.executable, "-c", code, tmp_path / "actions.npy", folder, result],
                                env=os.environ | {"OMP_NUM_THREADS": "1"})

    assert start(tmp_path / "whole", tmp_path / "whole.npy").wait() == 0
    files = len(files_below(tmp_path / "whole"))
    assert files == 20
    for least in (2, 12):
        process = start(tmp_path / "killed", tmp_path / "killed.npy")
        while process.poll() is None and len(files_below(tmp_path / "killed")) < least:
            time.sleep(.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert start(tmp_path / "killed", tmp_path / "killed.npy").wait() == 0
    assert np.array_equal(np.load(tmp_path / "killed.npy"), np.load(tmp_path / "whole.npy"))
