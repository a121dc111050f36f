"The authors' release: their checkpoints, their files, their demo, at tiny size."

import functools
import io
import json
import os
import pickle
import time
import zipfile
from pathlib import Path

import huggingface_hub.errors
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import PYRAMID, TRANSFORMER, assert_says, files_below, random_video, randomised

import millivid.release
from millivid.actions import action_rows
from millivid.cli import main, release_comparison
from millivid.data import read_video
from millivid.layers import TransformerConfig
from millivid.pipeline import PAPER_EXPERIMENTS, PAPER_TOKENIZERS, Experiment, Pipeline
from millivid.pyramid import PyramidConfig
from millivid.release import RELEASE_FILES, Recordings, download_release, load_release_model, load_release_pipeline
from millivid.release import load_release_tokenizer, read_checkpoint, read_pyramid, recorded_images, release_state_dict
from millivid.release import save_release, write_actions, write_frames, write_pyramid
from millivid.tokenizer import Tokenizer, TokenizerConfig, decode_latents
from millivid.video import FramePackModel, VideoConfig, VideoModel


WIDE = PyramidConfig((16, 32), (4, 4), 3)
TOKENIZERS = {"adaptive": TokenizerConfig(WIDE, 4, TRANSFORMER, TransformerConfig(36, 1, 3)),
              "cascaded": TokenizerConfig(WIDE, 6, TransformerConfig(32, 3, 4), TRANSFORMER, cascaded=True)}
VIDEO = VideoConfig(4, 3, TRANSFORMER)
FRAMEPACK = VideoConfig(4, 3, TRANSFORMER, framepack_context=(1, 1, 2), framepack_denoised=2)
EXPERIMENTS = {"millivid": Experiment("millivid", PYRAMID, VIDEO, (1, 2, 4), 16),
               "framepack": Experiment("framepack", PYRAMID, FRAMEPACK),
               "full_resolution": Experiment("full_resolution", PYRAMID, VIDEO, num_frames=4)}


def same_weights(one, two):
    one, two = one.state_dict(), two.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def tiny_tokenizer():
    return randomised(Tokenizer(TokenizerConfig(PYRAMID, 4, TRANSFORMER, TRANSFORMER)), scale=.3)


def refused(call, *arguments, **settings):
    "What a call says that must fail: a line or two, without the colours of a terminal."
    with pytest.raises(ValueError) as error:
        call(*arguments, **settings)
    assert "\x1b" not in str(error.value) and len(str(error.value)) < 700, error.value
    return str(error.value)


# ---- checkpoints: there and back -------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_tokenizer_comes_back(kind, tmp_path):
    tokenizer, path = randomised(Tokenizer(TOKENIZERS[kind])), tmp_path / "autoencoder.ckpt"
    save_release(tokenizer, path)
    again = load_release_tokenizer(path, image_shape=(16, 32), cascaded=kind == "cascaded")
    assert again.config == TOKENIZERS[kind] and same_weights(again, tokenizer) and not again.training
    images = torch.rand(2, 3, 16, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.encode(images), tokenizer.encode(images))
    assert files_below(tmp_path) == ["autoencoder.ckpt"]


def test_patches_that_are_not_square_must_be_named():
    config = TokenizerConfig(PyramidConfig((16, 32), (2, 4), 3), 4, TRANSFORMER, TRANSFORMER)
    state = release_state_dict(Tokenizer(config))
    assert load_release_tokenizer(state, (16, 32), (2, 4)).config == config
    for wrong in (None, (4, 4)):
        assert_says(refused(load_release_tokenizer, state, (16, 32), wrong), "patch", "give patch_shape")


@pytest.mark.parametrize("config", [VIDEO, VideoConfig(5, 2, TransformerConfig(32, 3, 4), num_actions=7), FRAMEPACK])
def test_a_video_model_comes_back(config, tmp_path):
    model = randomised((FramePackModel if config.framepack_denoised else VideoModel)(config))
    save_release(model, tmp_path / "model.ckpt")
    again = load_release_model(tmp_path / "model.ckpt", (1, 1, 2), 2)
    assert type(again) is type(model) and again.config == config and same_weights(again, model) and not again.training


@pytest.mark.parametrize("method", EXPERIMENTS)
def test_a_release_file_generates_what_the_model_generates(method, tmp_path):
    experiment, tokenizer = EXPERIMENTS[method], tiny_tokenizer()
    model = randomised(experiment.make_model())
    save_release(model, tmp_path / "model.ckpt")
    again = load_release_pipeline(tmp_path / "model.ckpt", experiment, tokenizer)
    assert again.experiment == experiment and again.tokenizer is tokenizer and same_weights(again.model, model)
    settings = (*random_video(2, 28), 24, 28, 3, [5, 6])
    one, two = (pipeline.generate(*settings, progress=False) for pipeline in (Pipeline(model, experiment), again))
    assert torch.equal(one, two) and one[:, 24:].abs().sum() > 0


_DIT = {"dit.dit.dit.blocks.1.adaLN_modulation.1.bias", "dit.dit.dit.blocks.0.attn.q_norm.weight",
        "dit.dit.time_embedding.mlp.2.weight", "dit.dit.level_embedding.weight",
        "dit.dit.action_encoder.action_embedding.weight", "dit.unpatchify.adaLN_modulation.1.weight",
        "dit.unpatchify.linear.weight"}


@pytest.mark.parametrize("make, names", [
    (lambda: Tokenizer(PAPER_TOKENIZERS["autoencoder"]),
     {"encoder.patchify.weight", "encoder.transformer.blocks.0.attn.qkv.weight", "encoder.bottleneck.bias",
      "decoder.level_embedding.weight", "decoder.transformer.blocks.0.adaLN_modulation.1.weight",
      "decoder.unpatchify.weight"}),
    (PAPER_EXPERIMENTS["millivid"].make_model, _DIT | {"dit.patchify.weight"}),
    (PAPER_EXPERIMENTS["framepack"].make_model, _DIT | {"dit.patchify.0.weight", "dit.patchify.3.bias"})])
def test_every_weight_has_a_name_of_the_release_of_its_own(make, names):
    with torch.device("meta"):
        model = make()
    ours, theirs = model.state_dict(), release_state_dict(model)
    assert len(theirs) == len(ours) and names <= theirs.keys()
    assert {name.split(".")[0] for name in theirs} == {name.split(".")[0] for name in names}


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
    assert same_weights(load_release_model(tmp_path / "model.ckpt"), model)


def test_a_loaded_model_shares_no_memory_with_its_state_dict():
    state = release_state_dict(randomised(VideoModel(VIDEO)))
    before = {name: value.clone() for name, value in state.items()}
    with torch.no_grad():
        for parameter in load_release_model(state).parameters():
            parameter.zero_()
    assert all(torch.equal(state[name], before[name]) for name in state)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_become_float32(dtype):
    state = {name: value.to(dtype) for name, value in release_state_dict(randomised(VideoModel(VIDEO))).items()}
    model = load_release_model(state)
    assert {(parameter.dtype, parameter.requires_grad) for parameter in model.parameters()} == {(torch.float32, True)}
    assert all(torch.equal(value, state[name].float()) for name, value in release_state_dict(model).items())


@pytest.mark.parametrize("part", ["odometry", "pose_head"])
def test_what_the_release_does_not_know_is_not_saved(part, tmp_path):
    model = VideoModel(VideoConfig(4, 3, TRANSFORMER, **{part: True}))
    with pytest.raises(ValueError) as error:
        save_release(model, tmp_path / "model.ckpt")
    assert_says(error.value, part, "save_pretrained")
    assert files_below(tmp_path) == []


def unlimited_checkpoints():
    "State dicts of a few numbers whose names or shapes promise more than any memory holds."
    state = release_state_dict(randomised(VideoModel(VideoConfig(4, 3, TRANSFORMER))))
    yield state | {"dit.dit.dit.blocks.10000000.x": torch.zeros(1)}
    yield state | {f"dit.dit.dit.blocks.{'9' * 5000}.attn.proj.weight": torch.zeros(1)}
    yield state | {"dit.unpatchify.linear.weight": torch.zeros(1).expand(10 ** 12, 1)}
    yield state | {"dit.dit.level_embedding.weight": torch.zeros(1).expand(10 ** 12, 24)}


@pytest.mark.parametrize("number", range(4))
def test_a_checkpoint_promises_no_more_than_it_holds(number, tmp_path):
    torch.save({"model": list(unlimited_checkpoints())[number]}, path := tmp_path / "model.ckpt")
    started = time.perf_counter()
    with pytest.raises(ValueError) as error:
        load_release_model(path)
    assert_says(error.value, path)
    assert time.perf_counter() - started < 10


# ---- checkpoints that are none ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("old_format", [False, True])
def test_truncated_checkpoints(old_format, tmp_path):
    path = tmp_path / "model.ckpt"
    torch.save({"model": release_state_dict(tiny_tokenizer())}, path, _use_new_zipfile_serialization=not old_format)
    size = path.stat().st_size
    for cut in sorted({0, 1, 2, 5, 20, *range(0, size, size // 50), size - 100, size - 1}, reverse=True):
        os.truncate(path, cut)
        assert_says(refused(load_release_tokenizer, path, (16, 16)), path)


def png():
    Image.new("RGB", (8, 8)).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def plain_zip():
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        archive.writestr("notes.txt", "no weights here")
    return file.getvalue()


@pytest.mark.parametrize("content", [
    b"", b"hello world", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", b"(", b'{"model": 1}',
    bytes(1000), png(), plain_zip(), plain_zip()[:-5]], ids=range(9))
def test_foreign_files_are_no_checkpoints(content, tmp_path):
    (path := tmp_path / "model.ckpt").write_bytes(content)
    assert_says(refused(read_checkpoint, path), path, "checkpoint")


@pytest.mark.parametrize("content", [
    3, None, [], {}, torch.zeros(2), {"model": 3}, {"model": {}}, {"model": {"a": 1}}, {"model": {0: torch.zeros(2)}},
    {"weight": torch.zeros(2)}, {"encoder.patchify.weight": torch.zeros(3)},
    {"dit.patchify.0.weight": torch.zeros(2, 0)}], ids=str)
def test_files_without_weights(content, tmp_path):
    torch.save(content, path := tmp_path / "model.ckpt")
    for load in (load_release_tokenizer, load_release_model):
        assert_says(refused(load, path), path, "not a model of the release")
        if isinstance(content, dict):
            assert_says(refused(load, content), "state dict", "not a model of the release")


def test_a_checkpoint_that_is_not_there(tmp_path):
    for path in (tmp_path / "nowhere.ckpt", tmp_path):
        with pytest.raises(FileNotFoundError) as error:
            load_release_model(path)
        assert_says(error.value, path, "give")


class Code:
    "When it is unpickled, a folder appears."

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def whole_model(code):
    "A model as an object, not its weights alone, with code in one of its attributes."
    model = tiny_tokenizer()
    model.note = code
    return model


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize("content", [lambda code: {"model": {"weight": code}}, whole_model,
                                     lambda code: {"model": whole_model(code)}])
def test_code_in_a_checkpoint_is_not_run(content, old_format, tmp_path):
    path, marker = tmp_path / "model.ckpt", tmp_path / "the code was run"
    torch.save(content(Code(marker)), path, _use_new_zipfile_serialization=not old_format)
    for load in (load_release_model, load_release_tokenizer):
        assert_says(refused(load, path), path, "not loaded", "if you trust it")
    assert not marker.exists()
    torch.load(path, weights_only=False)  # this is how it would have been run
    assert marker.exists()


@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: {"model": model}])
def test_a_model_that_was_saved_as_an_object_is_not_loaded(wrap, tmp_path):
    torch.save(wrap(tiny_tokenizer()), path := tmp_path / "model.ckpt")
    assert_says(refused(load_release_tokenizer, path, (16, 16)), path, "not loaded", "save its weights alone")


# ---- weights that do not fit -----------------------------------------------------------------------------------------

def test_missing_unknown_and_misshapen_weights_are_listed_in_one_message():
    state = release_state_dict(tiny_tokenizer())
    del state["decoder.unpatchify.bias"]
    state["decoder.dream.weight"] = torch.zeros(2)
    state["encoder.bottleneck.bias"] = torch.zeros(9)
    assert_says(refused(load_release_tokenizer, state, (16, 16)), "missing: decoder.unpatchify.bias",
                "decoder.dream.weight", "encoder.bottleneck.bias (9,) instead of (4,)")
    state = {name: value for name, value in release_state_dict(VideoModel(VIDEO)).items() if "mlp.fc" not in name}
    assert_says(refused(load_release_model, state), "dit.dit.dit.blocks.0.mlp.fc1.bias", "and 4 more")


@pytest.mark.parametrize("make, load, gone", [
    (lambda: Tokenizer(TOKENIZERS["adaptive"]), load_release_tokenizer, "encoder.bottleneck.weight"),
    (lambda: Tokenizer(TOKENIZERS["cascaded"]), load_release_tokenizer, "encoder.level_embedding.weight"),
    (lambda: VideoModel(VIDEO), load_release_model, "dit.dit.level_embedding.weight"),
    (lambda: VideoModel(VIDEO), load_release_model, "dit.dit.dit.blocks.0.attn.q_norm.weight"),
    (lambda: FramePackModel(FRAMEPACK), load_release_model, "dit.unpatchify.linear.weight")])
def test_weights_that_decide_a_size_and_are_missing(make, load, gone):
    state = release_state_dict(make())
    del state[gone]
    assert_says(refused(load, state), "not a model of the release", f"{gone} is missing")


def test_settings_that_do_not_fit_the_weights():
    assert_says(refused(load_release_tokenizer, release_state_dict(tiny_tokenizer()), (20, 16)), "height", "multiple")
    state = release_state_dict(FramePackModel(FRAMEPACK))  # three levels, and the default has four
    assert_says(refused(load_release_model, state), "(3, 12, 48, 192)", "3 levels")


@pytest.mark.parametrize("found, wanted, parts", [
    (VideoConfig(5, 3, TRANSFORMER), "millivid", ("latent_channels 5 instead of 4",)),
    (VideoConfig(4, 2, TRANSFORMER, num_actions=5), "millivid", ("num_levels 2 instead of 3", "num_actions 5")),
    (VIDEO, "framepack", ("framepack_denoised 0 instead of 2",)), (FRAMEPACK, "millivid", ("model.ckpt", "3 levels"))])
def test_a_checkpoint_of_another_experiment(found, wanted, parts, tmp_path):
    save_release((FramePackModel if found.framepack_denoised else VideoModel)(found), path := tmp_path / "model.ckpt")
    assert_says(refused(load_release_pipeline, path, EXPERIMENTS[wanted]), path, *parts)


def test_an_autoencoder_is_no_video_model(tmp_path):
    save_release(tiny_tokenizer(), path := tmp_path / "model.ckpt")
    assert_says(refused(load_release_pipeline, path, EXPERIMENTS["millivid"]), path, "dit.unpatchify", "decoder.")


# ---- recordings ------------------------------------------------------------------------------------------------------

@pytest.fixture
def recordings(tmp_path):
    "Three recordings of six frames, each of its own grey."
    for number in range(3):
        write_frames(tmp_path / "set" / f"{number}.frames", np.full((6, 16, 16, 3), 40 * number, dtype=np.uint8))
        write_actions(tmp_path / "set" / f"{number}.npy", action_rows([0] * 6))
    (tmp_path / "set" / "index.json").write_text(json.dumps({str(number): 6 for number in range(3)}))
    return tmp_path / "set"


@pytest.mark.parametrize("promised", [5, 7])
def test_a_recording_of_another_length_than_its_index_is_not_encoded(promised, recordings):
    (recordings / "index.json").write_text(json.dumps({"0": 6, "1": promised, "2": 6}))
    said = refused(Recordings(recordings).encode, tiny_tokenizer(), progress=False)
    assert_says(said, recordings / "1.frames", "6 frames", f"says {promised}", "record again")
    assert [path.name for path in recordings.rglob("latents_*/*")] == ["0.pyramid"]


def test_what_draws_pictures_can_be_sent_to_another_process(recordings):
    draw = recorded_images(Recordings(recordings, "train"), Recordings(recordings, "held_out"), (16, 16), 2)
    again = pickle.loads(pickle.dumps(draw))
    for held_out in (False, True):
        one, two = (which(torch.Generator().manual_seed(0), 9, held_out) for which in (draw, again))
        assert torch.equal(one, two) and one.shape == (9, 3, 16, 16)


# ---- downloads -------------------------------------------------------------------------------------------------------

FAILURES = {
    "not cached": lambda: huggingface_hub.errors.LocalEntryNotFoundError("cannot find the file on the disk"),
    "connection": lambda: ConnectionResetError("connection reset by peer"),
    "disk": lambda: OSError(28, "no space left on device"),
    "transport": lambda: huggingface_hub.errors.HTTPError("407 Proxy Authentication Required"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_download_that_breaks_off_says_what_is_left(failure, monkeypatch):
    def download(repository, file, repo_type):
        if file.endswith(".pyramid"):
            raise FAILURES[failure]()
        return f"/cache/{file}"
    monkeypatch.setattr(millivid.release, "hf_hub_download", download)
    said = refused(download_release, ["autoencoder", "008/318", "millivid"])
    assert_says(said, "millivid_192k.ckpt of charatan/millivid (518 MB)", "008/318.pyramid", "(29 MB)",
                huggingface_hub.constants.HF_HUB_CACHE, "network", "same command again")
    assert "autoencoder" not in said


def test_a_download_asks_for_the_files_of_the_release(monkeypatch):
    asked = []
    monkeypatch.setattr(millivid.release, "hf_hub_download",
                        lambda repository, file, repo_type: asked.append((repository, file, repo_type)) or f"/c/{file}")
    assert download_release(["full_resolution", "008/490"]) == {
        "full_resolution": Path("/c/full_resolution_rollout_192k.ckpt"),
        "008/490": Path("/c/test_latents_3zg3ovzdhnun_128000/008/490.pyramid")}
    assert asked == [("charatan/millivid", "full_resolution_rollout_192k.ckpt", "model"),
                     ("charatan/loopcraft", "test_latents_3zg3ovzdhnun_128000/008/490.pyramid", "dataset")]


# ---- the demo of the release, from files in its formats --------------------------------------------------------------

KEYS = [name for name, (_, kind, file) in RELEASE_FILES.items() if file.endswith(".pyramid")]
COMMAND = ["demo", "--release", "--device", "cpu", "--sampling-steps", "2"]
COMPARE = functools.partial(release_comparison, experiments=EXPERIMENTS, image_shape=(16, 16), context=28, lead=4,
                            num_inference_steps=2)


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
    tokenizer = load_release_tokenizer(release["autoencoder"], (16, 16))
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
    tokenizer = load_release_tokenizer(release["autoencoder"], (16, 16))
    generator = load_release_pipeline(release[name], EXPERIMENTS[name])
    videos = [read_pyramid(release[key], PYRAMID, 4) for key in sorted(KEYS)]
    latents, actions = (torch.stack([video[i][:35] for video in videos]).float() for i in range(2))
    for number in range(3):  # one at a time: a video does not depend on its neighbours
        one = slice(number, number + 1)
        made = generator.generate(latents[one], actions[one], 28, 35, 2, [number], progress=False)
        frames = decode_latents(tokenizer, made[0, 28:, PYRAMID.level_slice(0)]).astype(int)
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
    result = json.loads((tmp_path / "one" / "results.json").read_text())
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
    assert_says(capsys.readouterr().out, "MilliVid", "FramePack", tmp_path / "one" / "comparison.mp4")


def test_without_baselines_the_demo_downloads_and_shows_one_model(command, tmp_path):
    assert not main([*COMMAND, "--frames", "3", "--seed", "5", "--out", str(tmp_path)])
    assert sorted(command) == sorted(["autoencoder", "millivid", "index", *KEYS])
    result = json.loads((tmp_path / "results.json").read_text())
    assert result["models"] == ["millivid"] and result["psnr"].keys() == {"millivid", "random_episode"}
    assert result["seed"] == 5
    assert read_video(tmp_path / "comparison.mp4")[0].shape[2] == 2 * 16


def test_baselines_belong_to_the_release(tmp_path, capsys):
    assert main(["demo", "--baselines", "--out", str(tmp_path / "out")]) == 2
    assert_says(capsys.readouterr().err, "--baselines", "--release")
    assert files_below(tmp_path) == []


def test_videos_with_less_than_a_frame_to_generate(release):
    for context in (40, 50):
        said = refused(COMPARE, release, ["millivid"], num_generated=3, context=context)
        assert_says(said, ".pyramid", "40 frames", "context")
    assert_says(refused(COMPARE, release, ["millivid"], num_generated=3, context=10), "context frames", 10)


def test_videos_that_are_cut_or_do_not_fit_their_index(release, tmp_path):
    paths = release | write_videos(tmp_path)
    paths["index"].write_text(json.dumps(dict.fromkeys(KEYS, 40) | {KEYS[2]: 1024}))
    assert_says(refused(COMPARE, paths, ["millivid"], num_generated=3), paths[KEYS[2]], "40 frames", "1024")
    paths["index"].write_text('{"000/000": 1024}')
    assert_says(refused(COMPARE, paths, ["millivid"], num_generated=3), paths["index"], KEYS[0])
    path = write_videos(tmp_path)[KEYS[1]]
    os.truncate(path, path.stat().st_size - 288 * 3)
    assert_says(refused(COMPARE, paths, ["millivid"], num_generated=3), path, "cut")
