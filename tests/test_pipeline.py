"""From a folder of weights to a video: what an importer does, and what goes wrong."""

import json
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import assert_says, files_below

from millivid import Pipeline
from millivid.actions import action_rows
from millivid.basics import UserError
from millivid.pipeline import MINI_EXPERIMENTS, PACKAGED, PAPER_EXPERIMENTS, Experiment, load_tokenizer, save_tokenizer
from millivid.pyramid import PyramidConfig
from millivid.schedule import millivid_schedule, schedule_text
from millivid.tokenizer import decode_latents, encode_frames
from millivid.video import VideoConfig
from millivid.worlds.rooms import make_test_episode

QUICK = dict(num_inference_steps=2, progress=False)


@pytest.fixture(scope="module")
def episode():
    return make_test_episode(0, 144, 128)


@pytest.fixture(scope="module")
def pipelines():
    return {name: Pipeline.from_pretrained(f"mini-{name.replace('_', '-')}") for name in MINI_EXPERIMENTS}


@pytest.mark.parametrize("name", MINI_EXPERIMENTS)
def test_frames_and_actions_in_frames_out(pipelines, episode, name):
    pipeline, given = pipelines[name], episode.frames[:128]
    video = pipeline(given, episode.actions[:133], **QUICK)
    assert video.shape == (133, 64, 64, 3) and video.dtype == np.uint8
    assert np.array_equal(video[:128], given)
    latents = encode_frames(pipeline.tokenizer, given)[None]
    rows = action_rows(episode.actions[:133])[None]  # poses go on from the context into the new frames
    made = pipeline.generate(latents, rows, 128, 133, **QUICK)
    assert np.array_equal(video[128:], decode_latents(pipeline.tokenizer, made[0, 128:, :16]))


def test_another_schedule_is_one_argument(pipelines, episode):
    schedule = millivid_schedule((2, 4, 8), 64, (16, 4, 1))
    args = episode.frames[:128], episode.actions[:132]
    a, b = (pipelines["millivid"](*args, schedule=which, **QUICK) for which in (schedule, schedule_text(schedule)))
    assert np.array_equal(a, b) and not np.array_equal(a, pipelines["millivid"](*args, **QUICK))


def test_the_number_of_noise_levels_belongs_to_the_model(pipelines, episode):
    assert PAPER_EXPERIMENTS["millivid"].num_inference_steps == 50
    pipeline = pipelines["full_resolution"]
    assert pipeline.experiment.num_inference_steps == 4
    args = episode.frames[:128], episode.actions[:130]
    assert np.array_equal(pipeline(*args, progress=False), pipeline(*args, num_inference_steps=4, progress=False))


def test_framepack_refuses_what_it_does_not_have_and_calls_on_step(pipelines, episode):
    "Defect 8 of the package's review: guidance and on_step ended in a TypeError."
    seen, args = [], (episode.frames[:128], episode.actions[:132])
    pipelines["framepack"](*args, on_step=lambda step, first, latents: seen.append(first), **QUICK)
    assert seen == [54, 56]
    for wrong in (dict(guidance_scale=2.0), dict(schedule=millivid_schedule((2, 4, 8), 64, (16, 4, 1)))):
        with pytest.raises(UserError):
            pipelines["framepack"](*args, **wrong, **QUICK)


def test_an_experiment_whose_levels_contradict_each_other_is_refused():
    "Defect 7: it became an IndexError inside of an embedding."
    with pytest.raises(UserError) as error:
        replace(MINI_EXPERIMENTS["millivid"], pyramid=PyramidConfig((64, 64), (8, 8), 4))
    assert_says(error.value, 3, 4)


def test_what_is_saved_comes_back(pipelines, tmp_path):
    pipeline = pipelines["millivid"]
    pipeline.save_pretrained(tmp_path, card="how it was made")
    again = Pipeline.from_pretrained(tmp_path)
    assert again.experiment == pipeline.experiment and again.tokenizer is not None
    state = again.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in pipeline.model.state_dict().items())
    names = ["README.md", "config.json", "model.safetensors"]
    assert files_below(tmp_path) == sorted(names + ["experiment.json"] + [f"tokenizer/{name}" for name in names])
    save_tokenizer(pipeline.tokenizer, tmp_path / "tokenizer")  # its own tokenizer goes before the packaged one
    assert Pipeline.from_pretrained(tmp_path).tokenizer.config == pipeline.tokenizer.config


def test_files_of_version_0_1_are_read(tmp_path):
    shutil.copytree(PACKAGED / "mini-millivid", tmp_path / "old")
    for name in ("config.json", "experiment.json"):
        old = json.loads((tmp_path / "old" / name).read_text())
        for settings in (old, old.get("video", {})):
            settings.pop("pose_wave", None)
        if name == "experiment.json":
            old["guidance"] = old.pop("guidance_scale")
            del old["num_inference_steps"]
        (tmp_path / "old" / name).write_text(json.dumps(old))
    experiment = Pipeline.from_pretrained(tmp_path / "old").experiment
    assert experiment == replace(MINI_EXPERIMENTS["millivid"], num_inference_steps=8)


@pytest.mark.parametrize(
    "change",
    [dict(depth=10**9), dict(width=2**20), dict(width=-128), dict(heads=0), dict(depth=2.5), dict(num_levels=10**9)],
)
def test_settings_that_promise_more_than_the_weights_hold_cost_no_time(tmp_path, change):
    "Robustness, medium 6: such a file hung for ever or took all memory."
    shutil.copytree(PACKAGED / "mini-tokenizer", tmp_path / "big")
    file = tmp_path / "big" / "config.json"
    settings = json.loads(file.read_text())
    settings["pyramid" if "num_levels" in change else "encoder"] |= change
    file.write_text(json.dumps(settings))
    start = time.process_time()
    with pytest.raises(UserError):
        load_tokenizer(tmp_path / "big")
    assert time.process_time() - start < 5


@pytest.mark.parametrize("settings", ["[]", "{}", "{", '{"method": "magic"}', '{"method": 3}', "null"])
def test_damaged_settings_name_their_file(tmp_path, settings):
    shutil.copytree(PACKAGED / "mini-millivid", tmp_path / "broken")
    (tmp_path / "broken" / "experiment.json").write_text(settings)
    with pytest.raises(UserError) as error:
        Pipeline.from_pretrained(tmp_path / "broken")
    assert_says(error.value, "experiment.json", "save_pretrained")


def test_weights_that_are_missing_cut_or_others_are_named(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        load_tokenizer("maxi-tokenizer")
    assert_says(error.value, "maxi-tokenizer", "mini-tokenizer")
    shutil.copytree(PACKAGED / "mini-tokenizer", tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5_000])
    with pytest.raises(UserError) as error:
        load_tokenizer(tmp_path / "cut")
    assert_says(error.value, weights, "truncated")
    shutil.copy(PACKAGED / "mini-millivid" / "model.safetensors", weights)
    with pytest.raises(UserError) as error:
        load_tokenizer(tmp_path / "cut")
    assert_says(error.value, "do not fit")


def test_a_disk_that_is_full_is_one_clear_line(pipelines, tmp_path, monkeypatch):
    "Robustness, high 5: a raw SafetensorError or RuntimeError."
    def full(path, *_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(UserError) as error:
        pipelines["millivid"].save_pretrained(tmp_path)
    assert_says(error.value, tmp_path, "No space left")
    assert not [name for name in files_below(tmp_path) if name.startswith(".")]


def test_a_pipeline_without_a_tokenizer_says_so(pipelines, episode):
    bare = Pipeline(pipelines["millivid"].model, pipelines["millivid"].experiment)
    with pytest.raises(UserError, match="tokenizer"):
        bare(episode.frames[:128], episode.actions[:130])


def test_experiments_of_another_size_are_made_from_nothing():
    video = VideoConfig(4, 3, MINI_EXPERIMENTS["millivid"].video.transformer)
    experiment = Experiment("full_resolution", PyramidConfig((16, 16), (4, 4), 3), video, num_frames=5)
    assert experiment.context_frames == 2  # the smaller half
    assert experiment.make_model(3).state_dict().keys() == experiment.make_model(4).state_dict().keys()
