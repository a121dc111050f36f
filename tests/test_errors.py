"""Mistakes of a user: a UserError that names the value, what was expected, and what to do about it.

Here are those of models, weights, rooms and devices. Videos, schedules, training, files and the command line have
theirs beside the tests of what they do.
"""

import json

import numpy as np
import pytest
import torch
from tiny import PYRAMID, TRANSFORMER, assert_says, random_video

from millivid.actions import action_rows
from millivid.basics import MissingFileError, UserError, choose_device
from millivid.layers import TransformerConfig, image_position_embedding, video_position_embedding
from millivid.pipeline import Experiment, Pipeline, load_tokenizer, save_tokenizer
from millivid.pyramid import PyramidConfig
from millivid.rollout import generate, generate_framepack
from millivid.tokenizer import encode_frames
from millivid.video import FramePackModel, VideoConfig, gather_tokens, step_indices
from millivid.worlds.rooms import WorldConfig, make_room, make_test_episode, walk


def refused(call, *parts, kind=UserError):
    with pytest.raises(kind) as error:
        call()
    assert_says(error.value, *parts)


# ---- sizes -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make, parts", [
    (lambda: TransformerConfig(100, 2, 3), ("100", "3", "multiple")),
    (lambda: TransformerConfig(24, 2, 0), ("24", "heads 0", "multiple")),
    (lambda: image_position_embedding(torch.zeros(3, 2), 10), ("10", "multiple of 4")),
    (lambda: video_position_embedding(torch.zeros(3, 3), 10), ("10", "at least 12")),
    (lambda: WorldConfig(places=0), ("places", 0, "at least 1")),
    (lambda: Experiment("milivid", PYRAMID, VideoConfig(num_levels=3)), ("milivid", "unknown", "framepack")),
    (lambda: Experiment("millivid", PYRAMID, VideoConfig(num_levels=4), (1, 2, 4)), ("4 levels", "pyramid 3")),
    (lambda: Experiment("framepack", PYRAMID, VideoConfig(num_levels=3), guidance_scale=1.5), ("1.5", "use 1")),
    *((lambda steps=steps: Experiment("millivid", PYRAMID, VideoConfig(num_levels=3), num_inference_steps=steps),
       (f"num_inference_steps is {steps}", "at least 2")) for steps in (1, 0, -3)),
    (lambda: FramePackModel(VideoConfig(4, 3, TRANSFORMER, framepack_context=(1, 2), framepack_denoised=1)),
     ("(1, 2)", "3 levels")),
    (lambda: make_test_episode(0, num_frames=64, context_frames=64), (64, "context")),
    (lambda: walk(make_room(0), (2, 0, 0), [0]), ("outside the room", "3 x 3"))])
def test_settings_out_of_range(make, parts):
    refused(make, *parts)


@pytest.mark.parametrize("frames, parts", [
    (np.ones((2, 16, 16, 3)), ("float64", "(2, 16, 16, 3)", "uint8")),  # once black frames
    (np.zeros((2, 3, 16, 16), np.uint8), ("(2, 3, 16, 16)", "(frames, height, width, 3)")),
    (np.zeros((0, 16, 16, 3), np.uint8), ("no frames", "at least one")),
    (np.zeros((2, 20, 20, 3), np.uint8), ("20", "16", "resize"))])
def test_frames_that_cannot_be_encoded(tokenizer, frames, parts):
    refused(lambda: encode_frames(tokenizer, frames), *parts)


@pytest.mark.parametrize("wrong", [3, -1])
def test_an_action_out_of_range(wrong, video_model, schedule):
    for use in (lambda actions: walk(make_room(0), (1, 1, 0), actions), action_rows):
        refused(lambda: use([1, 2, wrong, 1]), wrong, "position 2", "turn right")
    latents, actions = random_video(1, schedule.chunk_frames)
    tokens = gather_tokens(latents, actions, step_indices(schedule, PYRAMID)[0], PYRAMID.coordinates())
    tokens.actions[0, 3, 0] = wrong
    refused(lambda: video_model(tokens.values, torch.zeros(tokens.roles.shape), tokens), wrong, "0 to 2")


# ---- what belongs together -------------------------------------------------------------------------------------------

@pytest.fixture(params=["millivid", "framepack"])
def pipeline(request, video_model, framepack_model):
    if request.param == "framepack":
        return Pipeline(framepack_model, Experiment("framepack", PYRAMID, framepack_model.config))
    return Pipeline(video_model, Experiment("millivid", PYRAMID, video_model.config, (1, 2, 4), 16))


@pytest.mark.parametrize("change, parts", [
    (dict(latents=torch.zeros(2, 30, 85, 4)), ("(2, 30, 85, 4)", "21 tokens")),
    (dict(latents=torch.zeros(2, 30, 21, 5)), ("(2, 30, 21, 5)", "4 channels")),
    (dict(latents=torch.zeros(30, 21, 4)), ("(30, 21, 4)", "videos, frames")),
    (dict(latents=torch.zeros(0, 30, 21, 4)), ("(0, 30, 21, 4)", "videos, frames")),
    (dict(latents=torch.zeros(2, 30, 21, 4, dtype=torch.uint8)), ("uint8", "floats")),
    (dict(latents=torch.zeros(2, 20, 21, 4)), ("20 frames", "24")),
    (dict(actions=torch.zeros(1, 30, 6)), ("(1, 30, 6)", "(2, 26 or more, 6)")),  # once the same for both videos
    (dict(actions=torch.zeros(2, 25, 6)), ("(2, 25, 6)", "(2, 26 or more, 6)")),  # once made up
    (dict(actions=torch.zeros(2, 30)), ("(2, 30)", "(2, 26 or more, 6)")),
    (dict(seeds=[3]), ("[3]", "2 videos")),  # once the same noise for both videos
    (dict(seeds=3), ("seeds 3", "2 videos")),
    *((dict(num_inference_steps=steps), (f"num_inference_steps is {steps}", "at least 2")) for steps in (1, 0, -3)),
    (dict(start=5), ("6 context frames", "5", "more context")),
    (dict(end=24), ("end 24", "start 24"))])
def test_what_does_not_belong_together_is_not_generated(pipeline, change, parts):
    latents, actions = random_video(2, 30)
    settings = dict(latents=latents, actions=actions, start=24, end=26, num_inference_steps=2, progress=False) | change
    if "start" in change and pipeline.experiment.method == "millivid":
        parts = (f"{pipeline.experiment.context_frames} context frames", *parts[1:])
    refused(lambda: pipeline.generate(**settings), *parts)


@pytest.mark.parametrize("wrong, parts", [
    *(({"guidance_scale": scale}, ("guidance_scale is", "0 to 1,000")) for scale in
      (10 ** 30, 10 ** 400, 1e30, float("nan"), float("inf"), -1, "2", [2.])),
    *(({"num_inference_steps": steps}, ("num_inference_steps is", "whole number of at least 2")) for steps in
      (2.5, "3", [4], float("nan")))])
def test_settings_of_a_sampler_that_are_none(wrong, parts, video_model, tokenizer):
    pipeline = Pipeline(video_model, Experiment("millivid", PYRAMID, video_model.config, (1, 2, 4), 16), tokenizer)
    latents, actions = random_video(1, 30)
    refused(lambda: pipeline.generate(latents, actions, 24, 26, progress=False, **wrong), *parts)
    frames = np.zeros((24, 16, 16, 3), np.uint8)
    refused(lambda: next(pipeline.stream(frames, actions[0], progress=False, **wrong)), *parts)


def test_the_inner_functions_check_the_same(video_model, framepack_model, schedule):
    latents, actions = random_video(2, 30)
    for change, parts in ((dict(end=24), ("end 24",)), (dict(seeds=[3]), ("[3]",)),
                          (dict(actions=actions[:1]), ("(1, 30, 6)",)), (dict(start=5), ("context", 5))):
        settings = dict(latents=latents, actions=actions, pyramid=PYRAMID, start=24, end=26, progress=False) | change
        refused(lambda: generate_framepack(framepack_model, **settings), *parts)
        refused(lambda: generate(video_model, schedule=schedule, **settings), *parts)
    refused(lambda: step_indices(schedule, PyramidConfig((32, 32), (4, 4), 3)), "(16, 4, 1)", "(64, 16, 4)")


def test_what_may_be_given_to_a_pipeline(pipeline):
    "Double precision, and an odd number of frames up to the last known action; FramePack reads the finest level only."
    latents, actions = random_video(2, 27)
    settings = dict(start=24, end=27, num_inference_steps=2, progress=False)
    out = pipeline.generate(latents, actions, **settings)
    assert torch.equal(pipeline.generate(latents.double(), actions, **settings), out)
    if pipeline.experiment.method == "framepack":
        assert torch.equal(pipeline.generate(latents[:, :, PYRAMID.level_slice(0)], actions, **settings), out)


# ---- weights ---------------------------------------------------------------------------------------------------------

@pytest.fixture
def saved(tokenizer, tmp_path):
    "A folder with a healthy tokenizer, to be broken."
    save_tokenizer(tokenizer, tmp_path / "mine")
    return tmp_path / "mine"


@pytest.mark.parametrize("load", [load_tokenizer, Pipeline.from_pretrained])
def test_weights_that_are_not_there(load, saved):
    refused(lambda: load("mini-nonsense"), "mini-nonsense", "the package has", "mini-tokenizer", kind=MissingFileError)
    (saved / "model.safetensors").unlink()
    refused(lambda: load(saved), saved, "model.safetensors", "millivid train", kind=MissingFileError)


def test_a_tokenizer_is_no_video_model(saved):
    refused(lambda: Pipeline.from_pretrained(saved), saved, "experiment.json", kind=MissingFileError)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("share", [0, .5, .99])
def test_truncated_weights(saved, name, share):
    whole = (saved / name).read_bytes()
    (saved / name).write_bytes(whole[:int(share * len(whole))])
    refused(lambda: load_tokenizer(saved), saved, name)


@pytest.mark.parametrize("wrong", [
    {"some": "thing else"}, {"pyramid": 3}, {"pyramid": {"levels": 3}}, {"pyramid": {"patch_shape": [16]}},
    {"latent_channels": "four"}, {"latent_channels": 5}, {"encoder": {"heads": 0}}, {"encoder": {"width": 25}}])
def test_settings_that_do_not_fit_the_weights(saved, wrong):
    settings = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(settings | wrong))
    refused(lambda: load_tokenizer(saved), saved)


@pytest.mark.parametrize("text", [
    "", "{", "{}", "[]", '{"method": "nonsense"}', '{"method": "framepack", "pyramid": 3, "video": {}}', "\xff"])
def test_an_experiment_that_cannot_be_read(saved, text):
    (saved / "experiment.json").write_bytes(text.encode("latin-1"))  # \xff is not UTF-8
    refused(lambda: Pipeline.from_pretrained(saved), saved / "experiment.json", "save_pretrained")


@pytest.mark.parametrize("wrong", [
    {"frames_per_level": "abc"}, {"frames_per_level": ["all"]}, {"frames_per_level": [1.0, 2.0, 4.0]},
    {"frames_per_level": [3, 8, 32]}, {"frames_per_level": []}, {"extra_budget": -5}, {"guidance_scale": "2"},
    {"guidance_scale": None}, {"guidance_scale": float("nan")}, {"guidance_scale": -1},
    {"extra_budget": 10 ** 9}, {"frames_per_level": [1, 4, 4 * 10 ** 5]}, {"num_inference_steps": 10 ** 12},
    {"method": "full_resolution", "num_frames": 10 ** 10}, {"method": "rollout_upscale", "num_frames": 10 ** 8},
    {"guidance_scale": 10 ** 30}, {"guidance_scale": 10 ** 400}, {"guidance_scale": 1e30}, {"num_inference_steps": 2.5},
    {"method": "own", "text": "abc"}, {"method": "upscale", "num_frames": 3}, {"num_inference_steps": "4"}])
def test_an_experiment_that_cannot_be_rolled_out(tmp_path, wrong):
    Pipeline.from_pretrained("mini-millivid").save_pretrained(tmp_path)
    file = tmp_path / "experiment.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | wrong))
    refused(lambda: Pipeline.from_pretrained(tmp_path), file, "save_pretrained")


@pytest.mark.parametrize("text", ["[]", "{}", "{", "null", "3", "[" * 100_000, None])
@pytest.mark.parametrize("load", [load_tokenizer, Pipeline.from_pretrained])
def test_a_configuration_that_cannot_be_read(load, text, pipeline, saved, tmp_path):
    folder = saved if load is load_tokenizer else tmp_path / "video"
    pipeline.save_pretrained(tmp_path / "video")
    (folder / "config.json").unlink()
    if text is None:
        refused(lambda: load(folder), folder, "config.json", "save_pretrained", kind=MissingFileError)
    else:
        (folder / "config.json").write_text(text)
        refused(lambda: load(folder), folder / "config.json", "save_pretrained")


def test_an_experiment_of_another_model_than_the_configuration(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_actions": 5}))
    refused(lambda: Pipeline.from_pretrained(tmp_path), tmp_path, "experiment.json", "config.json", "again")


# ---- devices ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["cuda:99", "abacus", "meta", "xpu", "mps"])
def test_a_device_that_is_not_there(name):
    if name == "mps" and torch.backends.mps.is_available():
        pytest.skip("a Mac")
    refused(lambda: choose_device(name), name, "cpu")
    refused(lambda: load_tokenizer(device=name), name, "cpu")
