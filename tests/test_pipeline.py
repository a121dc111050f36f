"""From a folder of weights to a video: what an importer does, and what goes wrong."""

import json
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from huggingface_hub import errors
from huggingface_hub.utils import filter_repo_objects
from safetensors import SafetensorError
from tiny import PYRAMID, TRANSFORMER, assert_says, files_below, random_video, randomised

from millivid import Pipeline
from millivid.actions import action_rows
from millivid.basics import MissingFileError, UserError, write_json
from millivid.pipeline import MINI_EXPERIMENTS, MINI_MODELS, PACKAGED, PAPER_EXPERIMENTS, PAPER_TOKENIZERS, Experiment
from millivid.pipeline import load_tokenizer, read_settings, save_tokenizer
from millivid.pyramid import PyramidConfig
from millivid.schedule import millivid_schedule, schedule_text
from millivid.tokenizer import Tokenizer, TokenizerConfig, decode_latents, encode_frames
from millivid.training import PAPER_TRAINING, TrainingConfig
from millivid.video import VideoConfig, VideoModel
from millivid.worlds.rooms import make_test_episode

QUICK = dict(num_inference_steps=2, progress=False)


def contents(folder):
    "Every file below a folder: name -> bytes."
    return {name: (folder / name).read_bytes() for name in files_below(folder)}


def same_weights(one, two):
    "Does a model have the weights of another, in half precision as they are stored?"
    one, two = one.state_dict(), two.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name].half(), two[name].half()) for name in one)


@pytest.fixture
def small(video_model, tokenizer):
    "A tiny pipeline with random weights, to be saved and broken."
    return Pipeline(video_model, Experiment("millivid", PYRAMID, video_model.config, (1, 2, 4), 16), tokenizer)


@pytest.fixture(scope="module")
def episode():
    return make_test_episode(0, 144, 128)


@pytest.fixture(scope="module")
def pipelines():
    return {name: Pipeline.from_pretrained(f"mini-{name.replace('_', '-')}") for name in MINI_MODELS}


@pytest.mark.parametrize("name", MINI_MODELS)
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
    "Also a tokenizer of its own, which goes before the packaged one."
    pipeline = replace(pipelines["millivid"], tokenizer=randomised(Tokenizer(pipelines["millivid"].tokenizer.config)))
    pipeline.save_pretrained(tmp_path, card="how it was made")
    again = Pipeline.from_pretrained(tmp_path)
    assert again.experiment == pipeline.experiment and same_weights(again.model, pipeline.model)
    assert same_weights(again.tokenizer, pipeline.tokenizer)
    names = ["README.md", "config.json", "model.safetensors"]
    assert files_below(tmp_path) == sorted(names + ["experiment.json"] + [f"tokenizer/{name}" for name in names])
    assert (tmp_path / "README.md").read_text() == "how it was made"
    save_tokenizer(other := randomised(Tokenizer(pipeline.tokenizer.config), seed=1), tmp_path / "tokenizer")
    assert same_weights(Pipeline.from_pretrained(tmp_path).tokenizer, other)
    assert same_weights(Pipeline.from_pretrained(tmp_path, tokenizer="mini-tokenizer").tokenizer, load_tokenizer())


@pytest.mark.parametrize("name", ["tokenizer", "video_model", "framepack_model"])
def test_models_have_the_habits_of_the_hub(name, tmp_path, request):
    model = request.getfixturevalue(name)
    model.save_pretrained(tmp_path)
    assert files_below(tmp_path) == ["README.md", "config.json", "model.safetensors"]
    assert_says((tmp_path / "README.md").read_text(), "license: apache-2.0", "library_name: millivid", "2606.09056")
    again = type(model).from_pretrained(tmp_path)
    assert again.config == model.config and same_weights(again, model) and callable(model.push_to_hub)


def test_a_card_that_somebody_wrote_stays(tokenizer, tmp_path):
    card = tmp_path / "README.md"
    save_tokenizer(tokenizer, tmp_path)
    assert_says(card.read_text(), "license: apache-2.0", "library_name: millivid")
    card.write_text("# Mine")
    save_tokenizer(tokenizer, tmp_path)
    assert card.read_text() == "# Mine"
    save_tokenizer(tokenizer, tmp_path, card="# Another")
    assert card.read_text() == "# Another"


def test_a_tokenizer_is_saved_as_a_tokenizer_alone(small, tmp_path):
    with pytest.raises(UserError) as error:
        save_tokenizer(small.model, tmp_path / "new")
    assert_says(error.value, "VideoModel", "Pipeline")
    assert files_below(tmp_path) == []
    replace(small, tokenizer=None).save_pretrained(tmp_path)
    save_tokenizer(small.tokenizer, tmp_path)
    assert files_below(tmp_path) == ["README.md", "config.json", "model.safetensors"]  # no experiment any more
    assert same_weights(load_tokenizer(tmp_path), small.tokenizer)


@pytest.mark.parametrize("config", [TokenizerConfig(PYRAMID, 5, TRANSFORMER, TRANSFORMER),
                                    TokenizerConfig(PyramidConfig((32, 32), (4, 4), 3), 4, TRANSFORMER, TRANSFORMER)])
def test_a_tokenizer_of_other_tokens_is_refused(config, small, tmp_path):
    video, folder, tokenizer = tmp_path / "video", tmp_path / "tokenizer", Tokenizer(config)
    small.save_pretrained(video)
    save_tokenizer(tokenizer, folder)
    for make in (lambda: Pipeline(small.model, small.experiment, tokenizer),
                 lambda: Pipeline.from_pretrained(video, tokenizer=tokenizer),
                 lambda: Pipeline.from_pretrained(video, tokenizer=str(folder)),
                 lambda: save_tokenizer(tokenizer, video / "tokenizer") or Pipeline.from_pretrained(video)):
        with pytest.raises(UserError) as error:
            make()
        assert_says(error.value, "tokenizer", PYRAMID, "4 channels", "give the model's")


# ---- from the Hub ----------------------------------------------------------------------------------------------------

@pytest.fixture
def hub(small, tmp_path, monkeypatch):
    "A Hub with a tokenizer and a video model. Returns the names that it is asked for."
    there, cache, asked = tmp_path / "hub", tmp_path / "cache", []
    save_tokenizer(small.tokenizer, there / "you" / "tokenizer")
    small.save_pretrained(there / "you" / "video.model")
    (there / "you" / "tokenizer" / "checkpoint.pt").write_text("of no use, and large")

    def download(name, allow_patterns):
        asked.append(name)
        for file in filter_repo_objects(files_below(there / name), allow_patterns=allow_patterns):
            (cache / name / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(there / name / file, cache / name / file)
        return str(cache / name)
    monkeypatch.setattr("millivid.pipeline.snapshot_download", download)
    return asked


def test_models_are_loaded_from_the_hub_by_name(hub, small, tmp_path):
    assert same_weights(load_tokenizer("you/tokenizer"), small.tokenizer)
    found = Pipeline.from_pretrained("you/video.model")
    assert found.experiment == small.experiment and same_weights(found.model, small.model)
    assert same_weights(found.tokenizer, small.tokenizer)
    assert hub == ["you/tokenizer", "you/video.model"]
    assert files_below(tmp_path / "cache" / "you" / "tokenizer") == ["README.md", "config.json", "model.safetensors"]


def test_the_hub_is_not_asked_for_what_is_here(hub, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "hub")
    assert same_weights(load_tokenizer("you/tokenizer"), small.tokenizer)
    assert same_weights(Pipeline.from_pretrained(Path("you/video.model")).model, small.model)
    for name in ("nothing", "you/../nothing", "/you/nothing", "you/your/nothing"):  # these are no names of the Hub
        with pytest.raises(MissingFileError) as error:
            load_tokenizer(name)
        assert_says(error.value, name, "mini-tokenizer")
    assert hub == []


REPLY = SimpleNamespace(headers={}, request=None)


@pytest.mark.parametrize("load", [load_tokenizer, Pipeline.from_pretrained])
@pytest.mark.parametrize("error", [
    OSError(28, "No space left on device"), ConnectionResetError("connection reset by peer"),
    errors.HFValidationError("no name of a repository"), errors.LocalEntryNotFoundError("not on disk\nand no network"),
    errors.HTTPError("407 Proxy Authentication Required"),
    errors.RepositoryNotFoundError("404 Client Error\n\nRepository Not Found", response=REPLY),
    errors.GatedRepoError("401 Client Error\n\nAccess is restricted", response=REPLY)], ids=lambda e: type(e).__name__)
def test_a_hub_that_gives_nothing_is_one_line(load, error, monkeypatch):
    def download(*_, **__):
        raise error
    monkeypatch.setattr("millivid.pipeline.snapshot_download", download)
    with pytest.raises(MissingFileError) as found:
        load("you/your-model")
    assert_says(found.value, "you/your-model", type(error).__name__, "Hub", "check the name, the network")
    assert "\n" not in str(found.value)


# ---- settings --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind, presets", [(Experiment, PAPER_EXPERIMENTS), (Experiment, MINI_MODELS),
                                           (TokenizerConfig, PAPER_TOKENIZERS), (TrainingConfig, PAPER_TRAINING)])
def test_presets_survive_a_file(kind, presets, tmp_path):
    for name, preset in presets.items():
        write_json(tmp_path / "settings.json", asdict(preset))
        assert read_settings(tmp_path / "settings.json", kind) == preset, name


def test_the_papers_training():
    assert {name: training.steps for name, training in PAPER_TRAINING.items()} == {
        "autoencoder": 128_000, "main": 192_000, "ablation": 256_000}
    for name in ("main", "ablation"):
        training = PAPER_TRAINING[name]
        assert (training.learning_rate, training.weight_decay, training.warmup_steps, training.decay_fraction,
                training.clip_norm, training.batch_size) == (1e-3, .01, 2_000, 0, 1, 48)


def test_what_is_cascaded_says_so():
    for presets, count in ((PAPER_EXPERIMENTS, 2), (PAPER_TOKENIZERS, 1)):
        named = [name for name in presets if name.endswith("cascaded")]
        assert [name for name, preset in presets.items() if preset.cascaded] == named and len(named) == count


@pytest.mark.parametrize("settings", [dict(method="millivid", frames_per_level=(1, 2, 4), extra_budget=16),
                                      dict(method="full_resolution", num_frames=4)])
def test_the_guidance_of_an_experiment_is_used(settings, tmp_path):
    plain = Experiment(pyramid=PYRAMID, video=VideoConfig(4, 3, TRANSFORMER), **settings)
    model, guided = randomised(plain.make_model(), scale=.3), replace(plain, guidance_scale=1.5)
    Pipeline(model, guided).save_pretrained(tmp_path)
    loaded = Pipeline.from_pretrained(tmp_path)
    unguided, (latents, actions) = Pipeline(loaded.model, plain), random_video(1, 28)
    without, preset, given, off = (pipeline.generate(latents, actions, 24, 28, 3, [0], False, **more) for pipeline, more
                                   in ((unguided, {}), (loaded, {}), (unguided, {"guidance_scale": 1.5}),
                                       (loaded, {"guidance_scale": 1})))
    assert loaded.experiment == guided and torch.equal(preset, given) and torch.equal(without, off)
    assert (preset - without)[:, 24:].abs().max() > 1e-3


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


@pytest.mark.parametrize("last", ["Tokenizer.save_pretrained", "asdict"])
def test_a_disk_that_fills_between_two_files_changes_nothing(last, small, tmp_path, monkeypatch):
    "The first files fit, the tokenizer's or experiment.json do not."
    small.save_pretrained(tmp_path)
    before = contents(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(f"millivid.pipeline.{last}", full)
    experiment = Experiment("full_resolution", PYRAMID, replace(small.experiment.video, odometry=True), num_frames=4)
    with pytest.raises(UserError) as error:
        Pipeline(experiment.make_model(), experiment, small.tokenizer).save_pretrained(tmp_path, "# New")
    assert_says(error.value, tmp_path, "No space left")
    assert contents(tmp_path) == before and not list(tmp_path.rglob(".saving*"))


def test_the_tokenizer_of_an_earlier_pipeline_does_not_come_back(small, tmp_path):
    small.save_pretrained(tmp_path)
    replace(small, tokenizer=None).save_pretrained(tmp_path)
    assert Pipeline.from_pretrained(tmp_path).tokenizer is None


@pytest.mark.parametrize("kind", [VideoModel, Tokenizer])
@pytest.mark.parametrize("error", [
    OSError(28, "No space left on device"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")], ids=type)
def test_a_model_that_cannot_be_saved_leaves_the_old_one(kind, error, small, tmp_path, monkeypatch):
    small.save_pretrained(tmp_path, card="# The old one")
    before = contents(tmp_path)

    def save_half(model, folder):
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise error
    monkeypatch.setattr(kind, "_save_pretrained", save_half)
    with pytest.raises(UserError) as found:
        if kind is Tokenizer:
            save_tokenizer(randomised(Tokenizer(small.tokenizer.config), 5), tmp_path / "tokenizer", "# The new one")
        else:
            replace(small, model=randomised(VideoModel(small.model.config), 5)).save_pretrained(tmp_path, "# New")
    assert_says(found.value, tmp_path, "No space left")
    assert contents(tmp_path) == before and not list(tmp_path.rglob(".saving*"))


def test_a_pipeline_without_a_tokenizer_says_so(pipelines, episode):
    bare = Pipeline(pipelines["millivid"].model, pipelines["millivid"].experiment)
    with pytest.raises(UserError, match="tokenizer"):
        bare(episode.frames[:128], episode.actions[:130])


def test_experiments_of_another_size_are_made_from_nothing():
    video = VideoConfig(4, 3, MINI_EXPERIMENTS["millivid"].video.transformer)
    experiment = Experiment("full_resolution", PyramidConfig((16, 16), (4, 4), 3), video, num_frames=5)
    assert experiment.context_frames == 2  # the smaller half
    one, again, other = (experiment.make_model(seed) for seed in (3, 3, 4))
    assert torch.equal(one.blocks[0].attn.qkv.weight, again.blocks[0].attn.qkv.weight)
    assert not torch.equal(one.blocks[0].attn.qkv.weight, other.blocks[0].attn.qkv.weight)
    latents, actions = torch.randn(1, 2, 21, 4), torch.zeros(1, 6, 6)
    made = Pipeline(one, experiment).generate(latents, actions, 2, 6, 2, progress=False)
    assert made.shape == (1, 6, 21, 4) and torch.equal(made[:, :2], latents)
    assert (made[:, 2:, :16] != 0).all() and made.isfinite().all()
