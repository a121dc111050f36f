"The authors' release: their checkpoints, their files, their settings, at tiny size and once at full size."

import dataclasses
import functools
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import huggingface_hub.errors
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import PYRAMID, TRANSFORMER, assert_says, files_below, random_video, randomised, run_millivid

import millivid.hub
from millivid.cli import main, release_comparison
from millivid.data import read_video
from millivid.layers import TransformerConfig
from millivid.pipeline import PAPER_EXPERIMENTS, PAPER_TOKENIZERS, Experiment, Pipeline, load_tokenizer, save_model
from millivid.pipeline import weights_folder
from millivid.pyramid import PyramidConfig
from millivid.release import RELEASE_FILES, download_release, load_release, load_release_generator, read_checkpoint
from millivid.release import read_pyramid, release_state_dict, save_release, write_pyramid
from millivid.schedule import CONTEXT, DENOISED, Schedule, upscale_schedule
from millivid.tokenizer import Tokenizer, TokenizerConfig, decode_latents
from millivid.training import PAPER_TRAINING, TrainingConfig
from millivid.video import FramePackModel, VideoConfig, VideoModel

WIDE = PyramidConfig((16, 32), (4, 4), 3)
TOKENIZERS = {"adaptive": TokenizerConfig(WIDE, 4, TRANSFORMER, TransformerConfig(36, 1, 3)),
              "cascaded": TokenizerConfig(WIDE, 6, TransformerConfig(32, 3, 4), TRANSFORMER, cascaded=True)}
VIDEO = VideoConfig(4, 3, TRANSFORMER)
FRAMEPACK = VideoConfig(4, 3, TRANSFORMER, framepack_context=(1, 1, 2), framepack_denoised=2)
EXPERIMENTS = {"millivid": Experiment("millivid", PYRAMID, VIDEO, (1, 2, 4), 16),
               "framepack": Experiment("framepack", PYRAMID, FRAMEPACK),
               "full_resolution": Experiment("full_resolution", PYRAMID, VIDEO, num_frames=4)}


def read_json(path):
    "Strict JSON: no NaN, no infinity."
    return json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in {path.name}"))


def same_weights(one, two):
    one, two = one.state_dict(), two.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def tiny_tokenizer():
    return randomised(Tokenizer(TokenizerConfig(PYRAMID, 4, TRANSFORMER, TRANSFORMER)), scale=.3)


def message(kind, call, *arguments, **settings):
    "What a call says that must fail."
    with pytest.raises(kind) as error:
        call(*arguments, **settings)
    return str(error.value)


# ---- checkpoints: there and back -------------------------------------------------------------------------------------

def save_and_load(model, path, **settings):
    save_release(model, path)
    assert files_below(path.parent) == [path.name]
    return load_release(path, **settings)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_tokenizer_comes_back_from_a_release_file(kind, tmp_path):
    config = TOKENIZERS[kind]
    tokenizer = randomised(Tokenizer(config))
    again = save_and_load(tokenizer, tmp_path / "autoencoder.ckpt", image_shape=(16, 32), cascaded=kind == "cascaded")
    assert type(again) is Tokenizer and again.config == config and same_weights(again, tokenizer) and not again.training
    images = torch.rand(2, 3, 16, 32, generator=torch.Generator().manual_seed(0))
    latents = tokenizer.encode(images)
    assert torch.equal(again.encode(images), latents)
    assert all(torch.equal(again.decode(latents, level), tokenizer.decode(latents, level)) for level in range(3))


def test_patches_that_are_not_square_must_be_named(tmp_path):
    config = TokenizerConfig(PyramidConfig((16, 32), (2, 4), 3), 4, TRANSFORMER, TRANSFORMER)
    tokenizer = randomised(Tokenizer(config))
    again = save_and_load(tokenizer, tmp_path / "autoencoder.ckpt", image_shape=(16, 32), patch_shape=(2, 4))
    assert again.config == config and same_weights(again, tokenizer)
    for wrong in (None, (4, 4)):
        said = message(ValueError, load_release, tmp_path / "autoencoder.ckpt", (16, 32), patch_shape=wrong)
        assert_says(said, tmp_path / "autoencoder.ckpt", "patch", "give patch_shape")


@pytest.mark.parametrize("config", [VIDEO, VideoConfig(5, 2, TransformerConfig(32, 3, 4), num_actions=7)])
def test_a_video_model_comes_back_from_a_release_file(config, tmp_path):
    model = randomised(VideoModel(config))
    again = save_and_load(model, tmp_path / "millivid.ckpt")
    assert type(again) is VideoModel and again.config == config and same_weights(again, model) and not again.training


def test_a_framepack_model_comes_back_from_a_release_file(tmp_path):
    model = randomised(FramePackModel(FRAMEPACK))
    again = save_and_load(model, tmp_path / "framepack.ckpt", framepack_context=(1, 1, 2), framepack_denoised=2)
    assert type(again) is FramePackModel and again.config == FRAMEPACK and same_weights(again, model)


@pytest.mark.parametrize("method", EXPERIMENTS)
def test_a_release_file_generates_what_the_model_generates(method, tmp_path):
    experiment = EXPERIMENTS[method]
    model = randomised(experiment.make_model())
    save_release(model, tmp_path / "model.ckpt")
    again = load_release_generator(tmp_path / "model.ckpt", experiment)
    assert again.experiment == experiment and same_weights(again.model, model)
    settings = (*random_video(2, 28), 24, 28, 3, [5, 6])
    one, two = (generator.generate(*settings, progress=False) for generator in (Pipeline(model, experiment), again))
    assert torch.equal(one, two) and one[:, 24:].abs().sum() > 0


def test_weights_have_the_names_of_the_release():
    tokenizer = release_state_dict(Tokenizer(TOKENIZERS["adaptive"]))
    assert {name.split(".")[0] for name in tokenizer} == {"encoder", "decoder"}
    assert {"encoder.transformer.blocks.0.attn.qkv.weight", "encoder.bottleneck.bias", "decoder.level_embedding.weight",
            "decoder.transformer.blocks.0.adaLN_modulation.1.weight", "decoder.unpatchify.weight"} < tokenizer.keys()
    video = release_state_dict(VideoModel(VIDEO))
    shared = {"dit.dit.dit.blocks.1.adaLN_modulation.1.bias", "dit.dit.time_embedding.mlp.2.weight",
              "dit.dit.level_embedding.weight", "dit.dit.action_encoder.action_embedding.weight",
              "dit.unpatchify.adaLN_modulation.1.weight", "dit.unpatchify.linear.weight"}
    assert shared | {"dit.patchify.weight"} < video.keys()
    assert shared | {"dit.patchify.2.bias"} < release_state_dict(FramePackModel(FRAMEPACK)).keys()


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize("form", ["all of a training", "under model", "bare"])
def test_all_forms_of_a_checkpoint(form, old_format, tmp_path):
    model = randomised(VideoModel(VIDEO))
    state = release_state_dict(model)
    optimizer = {"muon": {"state": {0: {"momentum": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3}]}, "adamw": {}}
    content = {"bare": state, "under model": {"model": state},
               "all of a training": {"model": state, "optimizer": optimizer, "scheduler": {"last_epoch": 3},
                                     "train_loader": {"position": [1, 2]}, "step": 192_000}}[form]
    torch.save(content, tmp_path / "model.ckpt", _use_new_zipfile_serialization=not old_format)
    assert same_weights(load_release(tmp_path / "model.ckpt"), model)


def test_a_state_dict_is_as_good_as_a_file():
    model = randomised(VideoModel(VIDEO))
    assert same_weights(load_release(release_state_dict(model)), model)


def test_a_loaded_model_shares_no_memory_with_its_state_dict():
    model = randomised(VideoModel(VIDEO))
    state = release_state_dict(model)
    before = {name: value.clone() for name, value in state.items()}
    with torch.no_grad():
        for parameter in load_release(state).parameters():
            parameter.zero_()
    assert all(torch.equal(state[name], before[name]) for name in state)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_become_float32(dtype, tmp_path):
    state = {name: value.to(dtype) for name, value in release_state_dict(randomised(VideoModel(VIDEO))).items()}
    torch.save({"model": state}, tmp_path / "model.ckpt")
    model = load_release(tmp_path / "model.ckpt")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert all(parameter.requires_grad for parameter in model.parameters())
    for name, value in release_state_dict(model).items():
        assert torch.equal(value, state[name].float()), name


@pytest.mark.parametrize("model", ["video_model", "framepack_model"])
def test_odometry_has_no_place_in_the_release(model, tmp_path, request):
    said = message(ValueError, save_release, request.getfixturevalue(model), tmp_path / "model.ckpt")
    assert_says(said, "odometry", "save_model")
    assert files_below(tmp_path) == []


# ---- checkpoints that are none ---------------------------------------------------------------------------------------

def assert_readable(said):
    "One or two sentences for people, without the colours of a terminal."
    assert "\x1b" not in said and len(said) < 600, said


@pytest.mark.parametrize("old_format", [False, True])
def test_truncated_checkpoints(old_format, tmp_path):
    path = tmp_path / "model.ckpt"
    torch.save({"model": release_state_dict(tiny_tokenizer())}, path, _use_new_zipfile_serialization=not old_format)
    size = path.stat().st_size
    for cut in sorted({0, 1, 2, 5, 20, *range(0, size, size // 100), size - 100, size - 1}, reverse=True):
        os.truncate(path, cut)
        said = message(ValueError, load_release, path, (16, 16))
        assert_says(said, path)
        assert_readable(said)


def png():
    Image.new("RGB", (8, 8)).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def plain_zip():
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        archive.writestr("notes.txt", "no weights here")
    return file.getvalue()


@pytest.mark.parametrize("content", [
    pytest.param(b"", id="empty"), pytest.param(b"hello world", id="text"), pytest.param("Grüße".encode(), id="umlauts"),
    pytest.param(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", id="pointer"),
    pytest.param(b"<!DOCTYPE html><html>Sign in</html>", id="web page"), pytest.param(b"(", id="bracket"),
    pytest.param(b'{"model": 1}', id="JSON"), pytest.param(bytes(1000), id="zeros"), pytest.param(png(), id="PNG"),
    pytest.param(plain_zip(), id="zip"), pytest.param(plain_zip()[:-5], id="cut zip")])
def test_foreign_files_are_no_checkpoints(content, tmp_path):
    path = tmp_path / "model.ckpt"
    path.write_bytes(content)
    for read in (read_checkpoint, load_release):
        said = message(ValueError, read, path)
        assert_says(said, path, "checkpoint")
        assert_readable(said)


@pytest.mark.parametrize("content", [
    3, None, [], {}, [torch.zeros(2)], torch.zeros(2), {"model": 3}, {"model": {}}, {"model": None}, {"model": {"a": 1}},
    {"model": {"a": {"b": torch.zeros(2)}}}, {"model": {0: torch.zeros(2)}}], ids=str)
def test_files_without_weights(content, tmp_path):
    torch.save(content, tmp_path / "model.ckpt")
    assert_says(message(ValueError, load_release, tmp_path / "model.ckpt"), tmp_path / "model.ckpt")


def test_a_checkpoint_that_is_not_there(tmp_path):
    assert_says(message(FileNotFoundError, load_release, tmp_path / "nowhere.ckpt"), tmp_path / "nowhere.ckpt", "give")
    assert_says(message(FileNotFoundError, load_release, tmp_path), tmp_path)


class Code:
    "When it is unpickled, a folder appears."

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("old_format", [False, True])
def test_code_in_a_checkpoint_is_not_run(old_format, tmp_path):
    path, marker = tmp_path / "model.ckpt", tmp_path / "the code was run"
    torch.save({"model": {"weight": Code(marker)}}, path, _use_new_zipfile_serialization=not old_format)
    said = message(ValueError, load_release, path)
    assert not marker.exists()
    assert_says(said, path, "not loaded", "if you trust it")
    assert_readable(said)
    torch.load(path, weights_only=False)  # this is how it would have been run
    assert marker.exists()


def test_a_whole_model_object_is_not_loaded(tmp_path):
    torch.save(tiny_tokenizer(), tmp_path / "model.ckpt")
    said = message(ValueError, load_release, tmp_path / "model.ckpt")
    assert_says(said, tmp_path / "model.ckpt", "not loaded")
    assert_readable(said)


# ---- weights that do not fit -----------------------------------------------------------------------------------------

def test_missing_extra_and_misshapen_weights_are_listed_in_one_message(tmp_path):
    state = release_state_dict(tiny_tokenizer())
    del state["decoder.unpatchify.bias"], state["encoder.transformer.blocks.1.mlp.fc1.weight"]
    state["decoder.dream.weight"] = torch.zeros(2)
    state["encoder.bottleneck.bias"] = torch.zeros(9)
    torch.save({"model": state}, tmp_path / "model.ckpt")
    for source, name in ((tmp_path / "model.ckpt", tmp_path / "model.ckpt"), (state, "state dict")):
        assert_says(message(ValueError, load_release, source, (16, 16)), name, "Tokenizer",
                    "missing: decoder.unpatchify.bias, encoder.transformer.blocks.1.mlp.fc1.weight",
                    "too much: decoder.dream.weight", "other shape: encoder.bottleneck.bias (9,) instead of (4,)")


def test_a_long_list_is_cut_short():
    state = {name: value for name, value in release_state_dict(VideoModel(VIDEO)).items() if "mlp.fc" not in name}
    said = message(ValueError, load_release, state)
    assert_says(said, "VideoModel", "dit.dit.dit.blocks.0.mlp.fc1.bias", "and 4 more")
    assert_readable(said)


@pytest.mark.parametrize("make, gone", [
    (lambda: Tokenizer(TOKENIZERS["adaptive"]), "encoder.bottleneck.weight"),
    (lambda: Tokenizer(TOKENIZERS["adaptive"]), "decoder.transformer.blocks.0.attn.proj.weight"),
    (lambda: VideoModel(VIDEO), "dit.dit.level_embedding.weight"),
    (lambda: VideoModel(VIDEO), "dit.dit.dit.blocks.0.attn.q_norm.weight"),
    (lambda: FramePackModel(FRAMEPACK), "dit.unpatchify.linear.weight")])
def test_weights_that_decide_a_size_and_are_missing(make, gone):
    state = release_state_dict(make())
    del state[gone]
    assert_says(message(ValueError, load_release, state), "not a model of the release", f"{gone} is missing")


@pytest.mark.parametrize("state", [
    {}, {"weight": torch.zeros(2)}, {"model": {"weight": torch.zeros(2)}}, {0: torch.zeros(2)},
    {"encoder.patchify.weight": 3}, {"encoder.patchify.weight": torch.zeros(3)}], ids=str)
def test_state_dicts_of_something_else(state):
    said = message(ValueError, load_release, state)
    assert_says(said, "state dict", "not a model of the release")
    assert_readable(said)


def test_an_image_that_the_tokenizer_cannot_cut():
    said = message(ValueError, load_release, release_state_dict(tiny_tokenizer()), (20, 16))
    assert_says(said, "state dict", "height", "multiple")


def test_framepack_settings_that_do_not_fit_the_file(tmp_path):
    path = tmp_path / "framepack.ckpt"
    save_release(FramePackModel(FRAMEPACK), path)  # three levels, and the default has four
    assert_says(message(ValueError, load_release, path), path, "(3, 12, 48, 192)", "3 levels")


@pytest.mark.parametrize("config, parts", [
    (VideoConfig(5, 3, TRANSFORMER), ("latent_channels 5 instead of 4",)),
    (VideoConfig(4, 2, TRANSFORMER), ("num_levels 2 instead of 3",)),
    (VideoConfig(6, 3, TransformerConfig(32, 1, 4), num_actions=5),
     ("latent_channels 6 instead of 4", "num_actions 5 instead of 3", "width=32", "depth=1", "heads=4"))])
def test_a_checkpoint_of_another_experiment(config, parts, tmp_path):
    save_release(VideoModel(config), tmp_path / "model.ckpt")
    said = message(ValueError, load_release_generator, tmp_path / "model.ckpt", EXPERIMENTS["millivid"])
    assert_says(said, tmp_path / "model.ckpt", "not the model of this experiment", "millivid", *parts)


@pytest.mark.parametrize("found, wanted", [("millivid", "framepack"), ("framepack", "millivid"), ("autoencoder", "millivid"),
                                           ("autoencoder", "framepack")])
def test_a_checkpoint_of_another_kind(found, wanted, tmp_path):
    model = tiny_tokenizer() if found == "autoencoder" else EXPERIMENTS[found].make_model()
    save_release(model, tmp_path / "model.ckpt")
    said = message(ValueError, load_release_generator, tmp_path / "model.ckpt", EXPERIMENTS[wanted])
    assert_says(said, tmp_path / "model.ckpt", "the model of this experiment", wanted)


# ---- downloads -------------------------------------------------------------------------------------------------------

FAILURES = {
    "not cached": lambda: huggingface_hub.errors.LocalEntryNotFoundError("cannot find the file on the disk"),
    "connection": lambda: ConnectionResetError("connection reset by peer"),
    "time": lambda: TimeoutError("timed out"),
    "disk": lambda: OSError(28, "no space left on device"),
    "transport": lambda: huggingface_hub.errors.HTTPError("407 Proxy Authentication Required"),  # what a bad proxy ends in
}


def refusing(failure):
    def refuse(*arguments, **settings):
        raise FAILURES[failure]()
    return refuse


@pytest.mark.parametrize("failure", FAILURES)
def test_a_download_that_fails_says_what_is_needed(failure, monkeypatch, capsys):
    monkeypatch.setattr(millivid.hub, "hf_hub_download", refusing(failure))
    said = message(ConnectionError, download_release, ["autoencoder", "millivid", "index", "008/318"])
    assert_says(said, "autoencoder_3zg3ovzdhnun_128000.ckpt of charatan/millivid (855 MB)",
                "millivid_192k.ckpt of charatan/millivid (518 MB)",
                "test_latents_3zg3ovzdhnun_128000/index_unfiltered.json of charatan/loopcraft",
                "test_latents_3zg3ovzdhnun_128000/008/318.pyramid of charatan/loopcraft (29 MB)",
                huggingface_hub.constants.HF_HUB_CACHE, "network", "same command again")
    assert "framepack" not in said and "008/071" not in said
    assert capsys.readouterr() == ("", "")


def test_a_download_that_breaks_off_names_what_is_left(monkeypatch):
    def download(repository, file, repo_type):
        if file.endswith(".pyramid"):
            raise FAILURES["connection"]()
        return f"/cache/{file}"
    monkeypatch.setattr(millivid.hub, "hf_hub_download", download)
    said = message(ConnectionError, download_release, ["autoencoder", "008/071", "framepack"])
    assert_says(said, "008/071.pyramid", "framepack_192k.ckpt of charatan/millivid (527 MB)")
    assert "autoencoder" not in said


def test_a_download_asks_for_the_files_of_the_release(monkeypatch):
    asked = []
    monkeypatch.setattr(millivid.hub, "hf_hub_download",
                        lambda repository, file, repo_type: asked.append((repository, file, repo_type)) or f"/cache/{file}")
    assert download_release(["full_resolution", "008/490"]) == {
        "full_resolution": Path("/cache/full_resolution_rollout_192k.ckpt"),
        "008/490": Path("/cache/test_latents_3zg3ovzdhnun_128000/008/490.pyramid")}
    assert asked == [("charatan/millivid", "full_resolution_rollout_192k.ckpt", "model"),
                     ("charatan/loopcraft", "test_latents_3zg3ovzdhnun_128000/008/490.pyramid", "dataset")]


def test_the_demo_of_the_release_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    done = run_millivid("demo", "--release", "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr
    assert_says(done.stderr, "millivid demo", "855 MB", "518 MB", "008/071", "008/318", "008/490", "index_unfiltered.json",
                tmp_path / "cache")
    assert "framepack" not in done.stderr and not (tmp_path / "out").exists()


# ---- models on the Hub -----------------------------------------------------------------------------------------------

@pytest.fixture
def hub(tmp_path, monkeypatch):
    "A Hub with a tokenizer and a video model. Returns the names that it is asked for."
    save_model(tiny_tokenizer(), tmp_path / "you" / "tokenizer")
    save_model(randomised(EXPERIMENTS["millivid"].make_model()), tmp_path / "you" / "video.model", EXPERIMENTS["millivid"])
    asked = []

    def snapshot_download(name, **settings):
        asked.append(name)
        if not (tmp_path / name).is_dir():
            raise FAILURES["not cached"]()
        return str(tmp_path / name)
    monkeypatch.setattr(millivid.hub, "snapshot_download", snapshot_download)
    return asked


def test_models_are_loaded_from_the_hub_by_name(hub, tmp_path):
    assert same_weights(load_tokenizer("you/tokenizer"), load_tokenizer(tmp_path / "you" / "tokenizer"))
    found, here = Pipeline.from_pretrained("you/video.model"), Pipeline.from_pretrained(tmp_path / "you" / "video.model")
    assert found.experiment == EXPERIMENTS["millivid"] and same_weights(found.model, here.model)
    assert hub == ["you/tokenizer", "you/video.model"]


def test_the_hub_is_not_asked_for_what_is_here(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert weights_folder("mini-tokenizer").parent == millivid.hub.PACKAGED
    assert weights_folder("you/tokenizer") == Path("you/tokenizer")
    assert_says(message(FileNotFoundError, weights_folder, "nothing"), "nothing", "mini-tokenizer")
    assert hub == []


def test_a_hub_name_without_weights(hub, tmp_path):
    assert_says(message(FileNotFoundError, Pipeline.from_pretrained, "you/tokenizer"), "experiment.json", "save_model")
    assert_says(message(FileNotFoundError, load_tokenizer, "you/nothing"), "you/nothing", "folder", "Hub", "network")


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("load", [load_tokenizer, Pipeline.from_pretrained])
def test_a_hub_that_cannot_be_reached(load, failure, monkeypatch):
    monkeypatch.setattr(millivid.hub, "snapshot_download", refusing(failure))
    said = message(FileNotFoundError, load, "you/your-model")
    assert_says(said, "you/your-model", "Hub", "check the name, the network")


@pytest.mark.parametrize("name", ["tokenizer", "video_model", "framepack_model"])
def test_models_have_the_habits_of_the_hub(name, tmp_path, request):
    model = request.getfixturevalue(name)
    model.save_pretrained(tmp_path / "mine")
    assert files_below(tmp_path) == ["mine/README.md", "mine/config.json", "mine/model.safetensors"]
    card = (tmp_path / "mine" / "README.md").read_text()
    assert_says(card, "license: apache-2.0", "millivid")
    again = type(model).from_pretrained(tmp_path / "mine")
    assert again.config == model.config and same_weights(again, model)
    assert callable(model.push_to_hub)


def test_a_model_that_cannot_be_saved_leaves_the_old_one(tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    save_model(tiny_tokenizer(), folder, card="# The old one")
    before = {name: (folder / name).read_bytes() for name in files_below(folder)}
    assert before.keys() == {"README.md", "config.json", "model.safetensors"}

    def save_half(self, path):
        (Path(path) / "model.safetensors").write_bytes(b"half")
        raise OSError("no space left on device")
    monkeypatch.setattr(Tokenizer, "_save_pretrained", save_half)
    with pytest.raises(OSError, match="no space"):
        save_model(randomised(Tokenizer(TOKENIZERS["adaptive"])), folder, card="# The new one")
    assert {name: (folder / name).read_bytes() for name in files_below(folder)} == before
    assert sorted(path.name for path in folder.iterdir()) == sorted(before)  # not even an empty folder


# ---- the demo of the release, from files in its formats --------------------------------------------------------------

KEYS = [name for name, (_, kind, file) in RELEASE_FILES.items() if file.endswith(".pyramid")]
COMMAND = ["demo", "--release", "--device", "cpu", "--sampling-steps", "2"]
COMPARE = functools.partial(release_comparison, experiments=EXPERIMENTS, image_shape=(16, 16), context=28, lead=4,
                            num_steps=2)


def write_videos(folder, frames=40):
    "Three videos and their index, as in the release. Returns name -> path."
    paths = {"index": folder / "index.json"}
    for seed, key in enumerate(KEYS):
        latents, actions = random_video(1, frames, seed=seed)
        paths[key] = folder / f"{key}.pyramid"
        write_pyramid(paths[key], latents[0], actions[0], PYRAMID)
    paths["index"].write_text(json.dumps({"000/000": 1024} | dict.fromkeys(KEYS, frames)))
    return paths


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    "Checkpoints and videos as in the release, but tiny. Returns name -> path."
    folder = tmp_path_factory.mktemp("release")
    paths = {name: folder / f"{name}.ckpt" for name in ("autoencoder", *EXPERIMENTS)}
    save_release(tiny_tokenizer(), paths["autoencoder"])
    for seed, (name, experiment) in enumerate(EXPERIMENTS.items(), 1):
        save_release(randomised(experiment.make_model(), seed, .3), paths[name])
    return paths | write_videos(folder)


@pytest.fixture(scope="module")
def compared(release):
    return COMPARE(release, list(EXPERIMENTS), num_generated=7)


def test_a_comparison_has_a_row_for_every_model(compared):
    assert list(compared) == ["ground_truth", *EXPERIMENTS, "random_episode"]
    assert {video.shape for video in compared.values()} == {(3, 4 + 7, 16, 16, 3)}
    assert {video.dtype for video in compared.values()} == {np.dtype(np.uint8)}


def test_the_truth_is_what_the_autoencoder_draws_from_the_latents(compared, release):
    tokenizer = load_release(release["autoencoder"], (16, 16))
    for number, key in enumerate(sorted(KEYS)):
        latents, _ = read_pyramid(release[key], PYRAMID, 4)
        expected = decode_latents(tokenizer, latents.float()[24:35])
        np.testing.assert_array_equal(compared["ground_truth"][number], expected)


def test_the_context_is_the_truth_and_the_rest_is_each_models_own(compared):
    truth = compared["ground_truth"]
    for name in EXPERIMENTS:
        np.testing.assert_array_equal(compared[name][:, :4], truth[:, :4])
    generated = [compared[name][:, 4:] for name in ("ground_truth", *EXPERIMENTS)]
    for i, one in enumerate(generated):
        for other in generated[:i]:
            assert (one != other).any(axis=(2, 3, 4)).mean() > .9  # nearly every frame of every video


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_row_is_what_the_model_generates(name, compared, release):
    tokenizer = load_release(release["autoencoder"], (16, 16))
    generator = load_release_generator(release[name], EXPERIMENTS[name])
    videos = [read_pyramid(release[key], PYRAMID, 4) for key in sorted(KEYS)]
    latents, actions = (torch.stack([video[i][:35] for video in videos]).float() for i in range(2))
    for number in range(3):  # one at a time: a video does not depend on its neighbours
        one = slice(number, number + 1)
        made = generator.generate(latents[one], actions[one], 28, 35, 2, [number], progress=False)
        frames = decode_latents(tokenizer, made[0, 28:, PYRAMID.level_slice(0)]).astype(int)
        if name == "framepack":  # it makes two at a time, so the last one stays
            frames[6] = frames[5]
        assert abs(compared[name][number, 4:] - frames).max() <= 1


def test_a_comparison_is_repeatable_from_its_seed(compared, release):
    one, other = (COMPARE(release, ["millivid", "framepack"], num_generated=7, seed=seed) for seed in (0, 1))
    for name in ("ground_truth", "millivid", "framepack", "random_episode"):
        np.testing.assert_array_equal(one[name], compared[name])
    assert all((one[name] != other[name]).any() for name in ("millivid", "framepack", "random_episode"))
    np.testing.assert_array_equal(one["ground_truth"], other["ground_truth"])


def test_one_video_alone_has_no_random_frames_of_others(release):
    paths = {name: path for name, path in release.items() if name not in KEYS[1:]}
    videos = COMPARE(paths, ["millivid"], num_generated=3)
    assert list(videos) == ["ground_truth", "millivid"] and len(videos["millivid"]) == 1


@pytest.fixture
def command(release, monkeypatch):
    "The command line with tiny models. Returns the list of what it asks for."
    asked = []

    def download(names):
        asked.extend(names)
        return {name: release[name] for name in names}
    monkeypatch.setattr("millivid.cli.download_release", download)
    monkeypatch.setattr("millivid.cli.release_comparison", COMPARE)
    return asked


def test_the_demo_of_the_release_leaves_all_its_files(command, tmp_path, capsys):
    for out in ("one", "two"):
        assert not main([*COMMAND, "--baselines", "--frames", "7", "--out", str(tmp_path / out)])
    names = ["comparison.mp4", "filmstrip.png", "filmstrip_1.png", "filmstrip_2.png", "results.json"]
    assert files_below(tmp_path) == [f"{out}/{name}" for out in ("one", "two") for name in names]
    assert sorted(set(command)) == sorted(RELEASE_FILES)
    result = read_json(tmp_path / "one" / "results.json")
    for name in names[1:]:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name  # repeatable
    assert (result["generated_frames"], result["sampling_steps"], result["seed"]) == (7, 2, 0)
    assert result["models"] == list(EXPERIMENTS) and result["psnr"].keys() == {*EXPERIMENTS, "random_episode"}
    assert result["horizons"] == {"short": [1, 1], "medium": [2, 2], "long": [3, 7]}
    for row in result["psnr"].values():
        assert row.keys() == result["horizons"].keys() and all(0 < value < 60 for value in row.values())
    assert len({json.dumps(row) for row in result["psnr"].values()}) == 4
    frames, _ = read_video(tmp_path / "one" / "comparison.mp4")
    assert len(frames) == 24 + 7 and frames.shape[2] == 4 * 16  # truth and three models, side by side
    for name in names[1:4]:
        assert np.asarray(Image.open(tmp_path / "one" / name).convert("RGB")).std() > 10, name
    assert_says(capsys.readouterr().out, "MilliVid", "FramePack", "Full resolution", tmp_path / "one" / "comparison.mp4",
                tmp_path / "one" / "results.json")


def test_without_baselines_the_demo_downloads_and_shows_one_model(command, tmp_path):
    assert not main([*COMMAND, "--frames", "3", "--seed", "5", "--out", str(tmp_path)])
    assert sorted(command) == sorted(["autoencoder", "millivid", "index", *KEYS])
    result = read_json(tmp_path / "results.json")
    assert result["models"] == ["millivid"] and result["psnr"].keys() == {"millivid", "random_episode"}
    assert result["seed"] == 5
    assert read_video(tmp_path / "comparison.mp4")[0].shape[2] == 2 * 16


def test_baselines_belong_to_the_release(tmp_path, capsys):
    assert main(["demo", "--baselines", "--out", str(tmp_path / "out")]) == 2
    assert_says(capsys.readouterr().err, "--baselines", "--release")
    assert files_below(tmp_path) == []


def test_more_frames_than_the_videos_have(command, tmp_path, capsys):
    "Either it is refused, or the numbers are those of the frames that there are: 40 less 28 of context."
    if main([*COMMAND, "--frames", "30", "--out", str(tmp_path)]) == 2:
        assert_says(capsys.readouterr().err, "30", "12")
    else:
        result = read_json(tmp_path / "results.json")
        assert result["generated_frames"] == 12 and result["horizons"]["long"][1] == 12
        assert "30" not in capsys.readouterr().out.splitlines()[0]


def test_a_single_frame_is_left_to_generate(command, tmp_path, monkeypatch, capsys):
    "Either it is refused, or the numbers are numbers."
    monkeypatch.setattr("millivid.cli.release_comparison", functools.partial(COMPARE, context=39))
    if main([*COMMAND, "--frames", "3", "--out", str(tmp_path)]) != 2:
        assert all(read_json(tmp_path / "results.json")["psnr"].values())  # read strictly
        assert "nan" not in capsys.readouterr().out


def test_a_truncated_video(release, tmp_path, monkeypatch, capsys):
    paths = release | write_videos(tmp_path)
    path = paths[KEYS[1]]
    os.truncate(path, path.stat().st_size - 288 * 3)
    assert_says(message(ValueError, COMPARE, paths, ["millivid"], num_generated=3), path, "cut")
    monkeypatch.setattr("millivid.cli.download_release", lambda names: paths)
    monkeypatch.setattr("millivid.cli.release_comparison", COMPARE)
    assert main([*COMMAND, "--frames", "3", "--out", str(tmp_path / "out")]) == 2
    assert_says(capsys.readouterr().err.splitlines()[-1], "millivid demo", path, "cut")
    assert not (tmp_path / "out").exists()


def test_an_index_with_another_number_of_frames(release, tmp_path):
    paths = release | write_videos(tmp_path)
    paths["index"].write_text(json.dumps(dict.fromkeys(KEYS, 40) | {KEYS[2]: 1024}))
    said = message(ValueError, COMPARE, paths, ["millivid"], num_generated=3)
    assert_says(said, paths[KEYS[2]], "holds 40 frames", "1024")


def test_an_index_of_other_videos(release, tmp_path):
    paths = release | {"index": tmp_path / "index.json"}
    paths["index"].write_text('{"000/000": 1024}')
    said = message(ValueError, COMPARE, paths, ["millivid"], num_generated=3)
    assert_says(said, paths["index"], KEYS[0], "index of these videos")


@pytest.mark.parametrize("context", [40, 50])
def test_videos_that_are_all_context(release, context):
    said = message(ValueError, COMPARE, release, ["millivid"], num_generated=3, context=context)
    assert_says(said, ".pyramid", "holds 40 frames", f"{context} of context", "generate at most")


def test_a_context_that_is_too_short_for_the_model(release):
    said = message(ValueError, COMPARE, release, ["millivid"], num_generated=3, context=10)
    assert_says(said, f"needs {EXPERIMENTS['millivid'].context_frames} context frames", 10)


# ---- the paper's settings --------------------------------------------------------------------------------------------

BUDGETS = {
    "millivid": 3840, "framepack": 3840, "full_resolution": 3584,
    "ablation_millivid": 1280, "ablation_millivid_cascaded": 1280, "ablation_framepack": 1280,
    "ablation_framepack_hierarchical": 1364, "ablation_framepack_cascaded": 1364, "ablation_framepack_mirrored": 1364,
    "ablation_full_resolution": 1024,
}


def test_the_papers_token_budgets():
    found = {name: experiment.tokens_per_step for name, experiment in PAPER_EXPERIMENTS.items()}
    assert found.pop("ablation_rollout_upscale") <= found.pop("ablation_upscale") <= 1280
    assert found == BUDGETS


@pytest.mark.parametrize("name", PAPER_EXPERIMENTS)
def test_the_papers_context_is_enough_for_every_schedule(name):
    experiment = PAPER_EXPERIMENTS[name]
    assert 0 < experiment.context_frames <= 256
    if schedule := experiment.schedule():
        assert schedule.rollout(256, 1024)[0][1] >= 0
        assert set(schedule.step_tokens) == {experiment.tokens_per_step}
        assert schedule.num_levels in (1, experiment.video.num_levels)


def test_millivid_needs_a_third_more_steps_than_framepack():
    steps = len(PAPER_EXPERIMENTS["millivid"].schedule().rollout(256, 1024))
    assert steps / (768 / PAPER_EXPERIMENTS["framepack"].video.framepack_denoised) == pytest.approx(1.33, abs=.01)


@pytest.mark.parametrize("kind, presets", [(Experiment, PAPER_EXPERIMENTS), (TokenizerConfig, PAPER_TOKENIZERS),
                                           (TrainingConfig, PAPER_TRAINING)])
def test_the_papers_settings_survive_json(kind, presets):
    for name, preset in presets.items():
        assert kind(**json.loads(json.dumps(dataclasses.asdict(preset)))) == preset, name


def test_the_papers_training():
    steps = {name: training.steps for name, training in PAPER_TRAINING.items()}
    assert steps == {"autoencoder": 128_000, "main": 192_000, "ablation": 256_000}
    for name in ("main", "ablation"):
        training = PAPER_TRAINING[name]
        assert (training.learning_rate, training.weight_decay, training.warmup_steps, training.decay_fraction,
                training.clip_norm, training.batch_size) == (1e-3, .01, 2_000, 0, 1, 48)


def test_cascaded_settings_belong_together():
    assert [name for name, config in PAPER_TOKENIZERS.items() if config.cascaded] == ["autoencoder_cascaded"]
    cascaded = {name for name, experiment in PAPER_EXPERIMENTS.items() if experiment.cascaded}
    assert cascaded == {"ablation_millivid_cascaded", "ablation_framepack_cascaded"}
    assert all(experiment.guidance == 1 for experiment in PAPER_EXPERIMENTS.values())


@pytest.mark.parametrize("method", ["millivid", "full_resolution"])
def test_the_guidance_of_an_experiment_is_used(method, tmp_path):
    plain = EXPERIMENTS[method]
    guided = dataclasses.replace(plain, guidance=1.5)
    model = randomised(plain.make_model(), scale=.3)
    save_model(model, tmp_path, guided)
    loaded = Pipeline.from_pretrained(tmp_path)
    assert loaded.experiment == guided
    latents, actions = random_video(1, 28)
    without, preset, given, off = (
        generator.generate(latents, actions, 24, 28, 3, progress=False, **more) for generator, more in (
            (Pipeline(loaded.model, plain), {}), (loaded, {}),
            (Pipeline(loaded.model, plain), {"guidance": 1.5}), (loaded, {"guidance": 1.})))
    assert torch.equal(preset, given) and torch.equal(without, off)
    assert (preset - without)[:, 24:].abs().max() > 1e-3


def test_framepack_has_no_guidance():
    said = message(ValueError, dataclasses.replace, EXPERIMENTS["framepack"], guidance=1.5)
    assert_says(said, "1.5", "framepack", "use 1")


# ---- schedules that check themselves ---------------------------------------------------------------------------------

def schedule_of(*steps, groups=None, clipped=0):
    "A schedule from drawings: per step one line per level, finest first; C is context, D is denoised."
    role = {".": 0, "C": CONTEXT, "D": DENOISED}
    roles = np.array([[[role[letter] for letter in level] for level in step] for step in steps], dtype=np.uint8)
    tokens = tuple(4 ** level for level in reversed(range(roles.shape[1])))
    return Schedule(roles, tokens, groups or (0,) * len(steps), "drawn", clipped)


def test_schedules_that_are_in_order():
    assert schedule_of(["CD"]).finished_frames == 1
    assert schedule_of(["..CD.", "CC.DD"], clipped=1).context_frames == 3
    assert schedule_of(["C.D"], ["CDC"]).num_steps == 2  # what an earlier step made may be seen
    assert schedule_of(["...", ".DD"], [".D.", ".CC"], [".CD", "..C"]).finished_frames == 2
    assert schedule_of(["CD.", "CDD"], clipped=1).finished_frames == 1


@pytest.mark.parametrize("make, parts", [
    (lambda: Schedule(np.array([[[1, 2, 3]]], dtype=np.uint8), (4,), (0,), "drawn"), ("role 3", "drawn", "unknown")),
    (lambda: Schedule(np.array([[[1, 2, -1]]]), (4,), (0,), "drawn"), ("role -1", "drawn", "unknown")),
    (lambda: Schedule(np.zeros((1, 2), dtype=np.uint8), (4,), (0,)), ("(1, 2)", "1 levels", "steps, levels, frames")),
    (lambda: Schedule(np.full((1, 2, 3), 2, dtype=np.uint8), (4,), (0,)), ("(1, 2, 3)", "1 levels", "steps, levels")),
    (lambda: Schedule(np.zeros((0, 1, 3), dtype=np.uint8), (4,), ()), ("step",)),
    (lambda: schedule_of(["CD"], ["CC"]), ("step 1", "drawn", "denoises nothing")),
    (lambda: schedule_of(["CD"], groups=(0, 1)), ("2 groups", "1 steps", "one group per step")),
    (lambda: schedule_of(["CD"], clipped=-1), ("clipped_frames -1", "drawn")),
    (lambda: schedule_of(["CDD"], clipped=2), ("clipped_frames 2", "2 frames", "clip fewer")),
    (lambda: schedule_of(["CDD"], clipped=9), ("clipped_frames 9", "clip fewer")),
    (lambda: schedule_of(["CDC"]), ("step 0", "drawn", "level 0 of frame 2", "make it before")),
    (lambda: schedule_of(["CDC"], ["C.D"]), ("step 0", "level 0 of frame 2", "make it before")),  # made, but too late
    (lambda: schedule_of(["CD.", "CCD"]), ("step 0", "level 1 of frame 1", "make it before")),
    (lambda: schedule_of(["CCD", "C.."]), ("level 1 of frame 2", "a later chunk looks at it", "denoise it once")),
    (lambda: schedule_of(["C.D", "C.D"], [".D.", ".CC"]), ("step 1", "level 1 of frame 1")),
    (lambda: schedule_of(["...", "CDD"]), ("level 0 of frame 1", "what is shown", "denoise it once")),
    (lambda: schedule_of(["CD.", "CDD"]), ("level 0 of frame 2", "what is shown"))])
def test_schedules_that_are_out_of_order(make, parts):
    assert_says(message(ValueError, make), *parts)


@pytest.mark.parametrize("base", [2, 6])
def test_windows_that_cannot_be_widened_evenly(base):
    assert_says(message(ValueError, upscale_schedule, base, (4, 1)), f"base_frames {base}", "2 levels", "multiple of 4")


@pytest.mark.parametrize("same_level_context", [True, False])
@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_upscale_schedules_are_refused_or_cost_the_same_in_every_step(levels, same_level_context):
    accepted = []
    for base in range(-2, 13):
        try:
            schedule = upscale_schedule(base, tuple(4 ** level for level in reversed(range(levels))), same_level_context)
        except ValueError as error:
            assert_says(error, f"base_frames {base}", f"{levels} levels", "use a multiple of 4")
        else:
            accepted.append(base)
            assert len(set(schedule.step_tokens)) == 1
    assert (not accepted) if levels == 1 else {4, 8, 12} <= set(accepted) <= {2, 4, 6, 8, 10, 12}


# ---- the paper's full size -------------------------------------------------------------------------------------------

def test_the_full_size_fits_into_a_laptop():
    done = subprocess.run([sys.executable, "-m", "millivid", "measure", "--device", "cpu"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.strip("| \n").split("|")] for line in done.stdout.strip().splitlines()[2:]]
    assert len(rows) == 4 and all(len(row) == 3 for row in rows)
    assert_says(" ".join(row[0] for row in rows), "130 M parameters", "3,840 tokens", "214 M parameters", "256 x 256")
    assert all(0 <= float(seconds) for _, seconds, _ in rows)
    assert 214e6 * 4 / 1e9 < max(float(gigabytes) for *_, gigabytes in rows) < 6
