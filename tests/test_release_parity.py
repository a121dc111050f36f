"""Does the package compute what the authors' release computes?

Set MILLIVID_REFERENCE_VECTORS to a folder with recorded inputs and results of the release (its README.md explains every
array). Sizes, settings, weights and the names of cases come from there; the last test fails if an array was left out.
The release lets padding take part in attention and in frame numbers, a defect: our models give the same numbers where
padding is declared to be real, and only there.
"""

import json
import math
import os
import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

from millivid.diffusion import add_noise, alpha_sigma, ddim_sample, log_snr, predict_x0_eps, token_times
from millivid.layers import TRANSFORMER_SIZES, image_position_embedding, time_features, video_position_embedding
from millivid.pipeline import PAPER_EXPERIMENTS, PAPER_TOKENIZERS
from millivid.pyramid import PyramidConfig, images_from_patches, pyramid_patches
from millivid.release import ACTION_CHANNELS, LatentVideos, clip_order, extend_actions, load_release_model
from millivid.release import (
    load_release_tokenizer,
    pyramid_num_frames,
    pyramid_row_bytes,
    read_checkpoint,
    read_frames,
    read_index,
)
from millivid.release import read_pyramid, release_name, release_state_dict, save_release, split_videos
from millivid.release import write_frames, write_pyramid
from millivid.rollout import generate, generate_framepack
from millivid.schedule import DENOISED, Schedule, framepack_schedule, full_resolution_schedule, millivid_schedule
from millivid.schedule import upscale_schedule
from millivid.tokenizer import Tokenizer, tokenizer_loss
from millivid.training import framepack_loss, video_loss
from millivid.video import StepIndex, Tokens, gather_tokens, relative_coordinates, step_indices, training_tokens
from millivid.video import write_tokens

if not os.environ.get("MILLIVID_REFERENCE_VECTORS"):
    pytest.skip("MILLIVID_REFERENCE_VECTORS names no folder with vectors of the release", allow_module_level=True)
FOLDER = Path(os.environ["MILLIVID_REFERENCE_VECTORS"])

SINGLE, ROLLOUT, GRADIENT = 1e-5, 1e-5, 1e-5  # absolute, absolute, relative; measured: 3e-6, 2e-6, 1e-6
EXAMPLES, EXPECTED = "formats/dataset_examples", "formats/expected"
INPUTS = {  # file -> names of what the release was given, or drew at random; all else is a result, to be compared
    "noise_schedule": "t",
    "embeddings": r"time\.t|.*indices.*",
    "actions": r".*\.(input|num_out)",
    "select_tokens": r"tokens|frame_actions|.*\.window_start",
    "tiny_io": r"ae\.(images|.*_draw|decoder_mixed_levels|decoder_dense_(input|level))|decode\..*\.frame_index"
    r"|video\.(tokens|frame_actions)|framepack\.(latents|(forward|denoise|loss)\.(x|t|latents|actions))"
    r"|universal\.(forward\w*\.(x|t|conditioning_mask|step_and_window_start)|loss_.*\.(steps|window_start))"
    r"|universal\.(forward_random|denoise)\.(x|t_scalar|indices|actions|roles)|.*\.(eps|t_draw|\w*dropout\w*)",
}
EXCEPTIONS = {
    r"actions:.*\.one_random_tail_channel0": "drawn at random, and its generator was not recorded",
    "scatter:.*": "the release keeps lists of tokens and finds places by coordinate; our tokens have places",
}
RAN, GIVEN, COMPARED, IN_PART = (
    set(),
    set(),
    {},
    [],
)  # tests; inputs; compared -> its difference; not compared as a whole


@lru_cache
def arrays(file):
    return dict(np.load(FOLDER / f"{file}.npz"))


@lru_cache
def read_json(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


def names(file, pattern):
    "The group in brackets of all names in a file that fit a regular expression."
    return [found[1] for name in arrays(file) if (found := re.fullmatch(pattern, name))]


def given(file, name):
    "A recorded array as an input."
    GIVEN.add((file, name))
    return torch.tensor(arrays(file)[name])


def compare(ours, file, name, tolerance=0.0, relative=0.0, part=..., share=1.0):
    """Our result must have the recorded shape, and the recorded values within a tolerance (number or callable of them).

    `part` says which part of the record has a counterpart, `share` how many values may differ at all.
    """
    ours, theirs = torch.as_tensor(ours).detach(), arrays(file)[name][part]
    ours = (ours.float() if ours.dtype == torch.bfloat16 else ours).numpy()
    assert ours.shape == theirs.shape, f"{file}:{name} has shape {theirs.shape}, ours {ours.shape}"
    kind = np.int64 if ours.dtype.kind in "biu" and theirs.dtype.kind in "biu" else np.float64
    ours, theirs = ours.astype(kind), theirs.astype(kind)
    difference = np.abs(ours - theirs)
    off = ~(difference <= (tolerance(theirs) if callable(tolerance) else tolerance) + relative * np.abs(theirs))
    assert not off.any(), f"{file}:{name}: {off.sum()} of {off.size} values are off, by up to {difference.max()}"
    assert (difference > 0).sum() <= share * off.size, (
        f"{file}:{name}: {(difference > 0).mean():.2%} of the values differ"
    )
    COMPARED[file, name] = float(
        (difference / np.maximum(np.abs(theirs), 1e-30) if relative else difference).max(initial=0)
    )
    IN_PART.extend([] if part is ... else [f"{file}:{name}"])


@pytest.fixture(autouse=True)
def note_test(request):
    RAN.add(request.node.name)


# ---- what the tests share --------------------------------------------------------------------------------------------

SIZES, WEIGHTS = read_json("tiny_models"), load_file(FOLDER / "tiny_models.safetensors")
PYRAMID = PyramidConfig(SIZES["image_shape"], SIZES["patch_shape"], SIZES["num_levels"])
RUNS = {run: settings for run, settings in SIZES["generate"].items() if "strategy" in settings}
FRAMEPACK_RUNS = {run: settings for run, settings in SIZES["generate"].items() if "strategy" not in settings}


def recorded(name):
    return given("tiny_io", name)


def weights(kind):
    return {
        name.removeprefix(f"{kind}/"): value.clone() for name, value in WEIGHTS.items() if name.startswith(f"{kind}/")
    }


def load(kind, cascaded=False, framepack=next(iter(FRAMEPACK_RUNS.values()))):
    "One of the release's tiny models."
    if kind == "autoencoder":
        return load_release_tokenizer(weights(kind), SIZES["image_shape"], SIZES["patch_shape"], cascaded)
    return load_release_model(weights(kind), framepack["num_context_frames"], framepack["num_denoised_frames"])


def build(settings, tokens_per_level):
    "The schedule that some recorded settings describe."
    name = settings["name"]
    if name == "millivid":
        return millivid_schedule(settings["num_frames_per_level"], settings["extra_budget"], tokens_per_level)
    if name == "baseline":
        return full_resolution_schedule(settings["num_frames"], tokens_per_level)
    if name in ("upscale", "rollout_upscale"):
        return upscale_schedule(settings["base_num_frames"], tokens_per_level, name == "rollout_upscale")
    return framepack_schedule(settings["num_context_frames"], settings["num_denoised_frames"], tokens_per_level)


SCHEDULES = {run: build(settings["strategy"], PYRAMID.tokens_per_level) for run, settings in RUNS.items()}


def is_uneven(schedule):
    return len(set(schedule.step_tokens)) > 1


def everything(frames, pyramid=PYRAMID):
    "Where all tokens of a video are, in the order of the release."
    roles = np.full((1, pyramid.num_levels, frames), DENOISED, dtype=np.uint8)
    return step_indices(Schedule(roles, pyramid.tokens_per_level, (0,)), pyramid)[0]


def some(index, which):
    return StepIndex(index.frame[which], index.token[which], index.role[which])


def as_video(tokens, index):
    "A flat list of tokens -> latents (batch, frames, tokens of a frame, channels); other places are zero."
    video = tokens.new_zeros(len(tokens), int(index.frame.max()) + 1, PYRAMID.num_tokens, tokens.shape[-1])
    write_tokens(video, tokens, index)
    return video


def as_list(video, index, start=0):
    "Some latents as a flat list of tokens."
    return gather_tokens(video, video.new_zeros(*video.shape[:2], 1), index, PYRAMID.coordinates(), start).values


def recorded_video(file="tiny_io", prefix="video."):
    "A video from a list of all its tokens, which has our order."
    actions = given(file, f"{prefix}frame_actions")
    index = everything(actions.shape[1])
    video = as_video(given(file, f"{prefix}tokens"), index)
    compare(gather_tokens(video, actions, index, PYRAMID.coordinates()).coordinates[0], file, f"{prefix}indices")
    return video, actions


def padded_step(latents, actions, schedule, steps, pyramid=PYRAMID, start=0):
    "The tokens of one step per video as training makes them, padded to the schedule's longest step; padding is zero."
    indices, rows, end = step_indices(schedule, pyramid), [*range(len(latents)), 0], start + schedule.chunk_frames
    steps = [indices[step] for step in (*steps, schedule.step_tokens.argmax())]
    tokens = training_tokens(latents[rows, start:end], actions[rows, start:end], steps, pyramid.coordinates())
    real = (tokens.roles > 0)[..., None]  # padding has role 0, and what else our padding holds does not matter
    parts = (
        tokens.values,
        (tokens.coordinates + torch.tensor([start, 0, 0, 0])) * real,
        tokens.actions * real,
        tokens.roles,
    )
    return Tokens(*(part[:-1] for part in parts))


def compare_tokens(tokens, file, prefix, values=None):
    "Compare everything but the values, and these too where they have a name."
    ours = {"indices": tokens.coordinates, "actions": tokens.actions, "roles": tokens.roles}
    for name, value in {**ours, **({values: tokens.values} if values else {})}.items():
        compare(value, file, f"{prefix}.{name}")


def as_if_real(model):
    "The release's defect: padding is a token like all others."

    def loud(x_t, t, tokens, conditional, **settings):
        return model(x_t, t, replace(tokens, roles=tokens.roles.clamp(min=1)), conditional, **settings)

    loud.training = model.training
    return loud


# ---- schedules -------------------------------------------------------------------------------------------------------


def recorded_schedule(name):
    about = read_json("schedules")[name]
    return about, build(about["strategy"], tuple(about["base_num_tokens"] // 4**i for i in range(about["num_levels"])))


@pytest.mark.parametrize("name", read_json("schedules"))
def test_schedule(name):
    about, schedule = recorded_schedule(name)
    compare(schedule.roles, "schedules", f"{name}.selections")
    compare(schedule.step_tokens, "schedules", f"{name}.num_tokens")
    compare(schedule.probabilities.cumsum(), "schedules", f"{name}.cdf", 1e-12)
    assert schedule.probabilities.cumsum().tolist() == pytest.approx(about["cdf"], abs=1e-12)
    assert list(schedule.groups) == [group or 0 for group in about["sampling_group"]]  # null where there is one step
    ours = dict(
        num_tokens=schedule.step_tokens.tolist(),
        num_steps=schedule.num_steps,
        num_levels=schedule.num_levels,
        max_num_tokens=schedule.max_tokens,
        requires_attention_masking=is_uneven(schedule),
        chunk_num_frames=schedule.chunk_frames,
        chunk_denoising_start=schedule.context_frames,
        num_clipped_frames=schedule.clipped_frames,
    )
    assert ours == {key: about[key] for key in ours}


@pytest.mark.parametrize(
    "name, call", [(name, call) for name in read_json("schedules") for call in read_json("schedules")[name]["rollouts"]]
)
def test_plan_of_a_rollout(name, call):
    about, schedule = recorded_schedule(name)
    about = about["rollouts"][call]
    try:
        plan = schedule.rollout(**about["call"])
        end = plan[-1][1] + schedule.context_frames + schedule.finished_frames
        assert (end, end + schedule.clipped_frames) == (about["end"], about["limit"])
    except ValueError:  # we refuse what the release answers with nothing
        plan = np.zeros((0, 2))
    assert len(plan) == about["num_entries"]
    compare(plan, "schedules", about["array"])


# ---- noise schedule and embeddings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", names("noise_schedule", r"shift(.*)\.logsnr"))
def test_noise_schedule(shift):
    t = given("noise_schedule", "t")
    for ours, name in zip((log_snr(t, float(shift)), *alpha_sigma(t, float(shift))), ("logsnr", "alpha", "sigma")):
        compare(ours, "noise_schedule", f"shift{shift}.{name}", SINGLE)


def test_ends_of_the_noise_schedule():
    ends = torch.exp(-log_snr(torch.tensor([0.0, 1.0], dtype=torch.float64)) / 2).atan()
    for ours, name in zip(ends, ("t_min", "t_max")):
        compare(ours, "noise_schedule", name, 1e-12)


@pytest.mark.parametrize("name", names("embeddings", r"((?:sincos2d\.dim|flhw\.dim|time\.size)\d+)"))
def test_embedding(name):
    kind, width = name.partition(".")[0], int(re.search(r"\d+$", name)[0])
    if kind == "sincos2d":
        where = given("embeddings", "sincos2d.indices_hw")
        ours, large = image_position_embedding(where, width), where[:, 0] < 0
    elif kind == "flhw":
        where = given("embeddings", "flhw.indices")[:, [0, 2, 3]]  # the level has no influence
        ours, large = video_position_embedding(where, width), where[:, 0] >= 100
    else:
        t = given("embeddings", "time.t")
        ours, large = time_features(t, width), t >= 0.05
    # sines of large angles depend on how the frequencies were computed
    compare(ours, "embeddings", name, lambda theirs: np.where(large, 1e-4, SINGLE)[:, None])


def test_frames_count_from_the_oldest_real_token():
    indices, padded = (given("embeddings", f"relative.{name}") for name in ("indices", "indices_with_zero_padding"))
    real = (padded != 0).any(-1)
    compare(relative_coordinates(indices, real | True), "embeddings", "relative.result")
    compare(relative_coordinates(padded, real | True), "embeddings", "relative.result_with_zero_padding")  # as if real
    for ours, before, wanted in zip(relative_coordinates(padded, real), padded, real):
        assert torch.equal(ours[wanted], before[wanted] - before[wanted, 0].min() * torch.tensor([1, 0, 0, 0]))


# ---- tokens of a step, copies by coordinate, actions -----------------------------------------------------------------


@pytest.mark.parametrize("case", names("select_tokens", r"(.*)\.selection"))
def test_tokens_of_a_step(case):
    run, step = case.rsplit(".step", 1)
    schedule, step, start = SCHEDULES[run], int(step), int(given("select_tokens", f"{case}.window_start"))
    compare(schedule.roles[step], "select_tokens", f"{case}.selection")
    video, actions = recorded_video("select_tokens", "")
    tokens = padded_step(video, actions, schedule, [step] * len(video), start=start)
    compare_tokens(tokens, "select_tokens", case, "values")
    gathered = gather_tokens(video, actions, step_indices(schedule, PYRAMID)[step], PYRAMID.coordinates(), start)
    for name in ("values", "coordinates", "actions", "roles"):
        assert torch.equal(getattr(gathered, name), getattr(tokens, name)[:, : schedule.step_tokens[step]]), name


@pytest.mark.parametrize("case", names("actions", r"(.*)\.input"))
def test_extending_actions(case):
    actions, frames = given("actions", f"{case}.input"), int(given("actions", f"{case}.num_out"))
    ours, sure = extend_actions(actions, frames), len(arrays("actions")[f"{case}.result_deterministic_prefix"])
    compare(ours[:sure], "actions", f"{case}.result_deterministic_prefix")
    copied = extend_actions(torch.ones_like(actions), frames)[:, 1] == 1  # made-up rows have no pose
    compare(copied.sum(), "actions", f"{case}.copied_and_repeated_frames")
    assert len(ours) == frames == sure + len(arrays("actions").get(f"{case}.one_random_tail_channel0", ()))
    assert not ours[sure:, 1:].any() and set(ours[sure:, 0].tolist()) <= set(range(SIZES["num_actions"]))


# ---- files -----------------------------------------------------------------------------------------------------------

DATA, DATA_FOLDER, TINY = read_json(EXAMPLES), FOLDER / "formats" / "dataset", FOLDER / "formats" / "tiny.pyramid"
DATA_PYRAMID = PyramidConfig(DATA["image_shape"], DATA["patch_shape"], DATA["num_levels"])
DATA_SCHEDULE = build(DATA["strategy"], DATA_PYRAMID.tokens_per_level)
TINY_SHAPE = arrays(EXPECTED)["pyramid.level0"].shape  # frames, channels, rows, columns
TINY_PYRAMID = PyramidConfig(TINY_SHAPE[2:], (1, 1), len(names(EXPECTED, r"pyramid\.level(\d+)")))


@pytest.mark.parametrize("part", ["", *names(EXPECTED, r"pyramid\.(read_.*\.)actions")])
def test_reading_a_pyramid(part):
    limits = re.fullmatch(r"read_l(\w+)-(\w+)_f(\w+)-(\w+)\.", part or "read_l0-None_f0-None.").groups()
    first, end, start, stop = (None if number == "None" else int(number) for number in limits)
    latents, actions = read_pyramid(TINY, TINY_PYRAMID, TINY_SHAPE[1], (first, end), (start, stop))
    compare(actions, EXPECTED, f"pyramid.{part}actions")
    levels = range(TINY_PYRAMID.num_levels)[first:end]
    for level, tokens in zip(levels, latents.split([TINY_PYRAMID.tokens_per_level[level] for level in levels], dim=1)):
        grid = tokens.transpose(1, 2).unflatten(2, TINY_PYRAMID.grid_shape(level)).contiguous()
        compare(grid, EXPECTED, f"pyramid.{part}level{level}")
        if not part:
            compare(grid.view(torch.int16), EXPECTED, f"pyramid.level{level}_bits")
    assert pyramid_num_frames(TINY, TINY_PYRAMID, TINY_SHAPE[1]) == TINY_SHAPE[0]
    compare(TINY_SHAPE[0] * sum(pyramid_row_bytes(TINY_PYRAMID, TINY_SHAPE[1])), EXPECTED, "pyramid.file_size")


@pytest.mark.parametrize("path", [str(path.relative_to(FOLDER)) for path in sorted(FOLDER.rglob("*.pyramid"))])
def test_pyramids_are_written_byte_for_byte(path, tmp_path):
    path, own = FOLDER / path, tmp_path / "own.pyramid"
    pyramid, channels = (TINY_PYRAMID, TINY_SHAPE[1]) if path == TINY else (DATA_PYRAMID, DATA["latent_channels"])
    write_pyramid(own, *read_pyramid(path, pyramid, channels), pyramid)
    assert own.read_bytes() == path.read_bytes()


def test_frames(tmp_path, monkeypatch):
    path, own = FOLDER / "formats" / "tiny.frames", tmp_path / "own.frames"
    images = read_frames(path)
    compare(images, EXPECTED, "frames.images")
    for i in range(len(images)):
        np.testing.assert_array_equal(read_frames(path, i, i + 1), images[i : i + 1])
    write_frames(own, images)
    np.testing.assert_array_equal(read_frames(own), images)
    data, ends = path.read_bytes(), np.fromfile(path, "<u8", len(images)).astype(int)
    blobs = iter(np.split(np.frombuffer(data, np.uint8)[8 * len(images) :], ends))
    monkeypatch.setattr(Image.Image, "save", lambda image, file, kind: file.write(next(blobs)))  # the release's PNGs
    write_frames(own, images)
    assert own.read_bytes() == data
    header, body = np.split(np.fromfile(own, np.uint8), [8 * len(images)])
    compare(np.diff(header.view("<u8").astype(int), prepend=0), EXPECTED, "frames.blob_lengths")
    compare(body, EXPECTED, "frames.all_blob_bytes")


VIDEOS = read_json("formats/video_index")


@pytest.mark.parametrize("case", [*VIDEOS["split"], *VIDEOS["order"]])
def test_split_and_clip_order(case):
    split, fraction, *clip = case.split("_")
    videos = split_videos(VIDEOS["index"], split, float(fraction))
    if not clip:
        assert videos == [tuple(video) for video in VIDEOS["split"][case]]
        return
    about, frames = VIDEOS["order"][case], None if clip == ["clipNone"] else int(clip[0].removeprefix("clip"))
    if "error" in about:
        with pytest.raises(ValueError, match="no clips"):
            clip_order(videos, frames)
    else:
        clips = clip_order(videos, frames)
        assert len(clips) == about["len"]
        assert clips[: max(len(about["first"]), 1)] == [tuple(first) for first in about["first"]]


def data_set(split):
    """One part of the data set. The share of test videos was not recorded: it follows from the count of training clips,
    since all shares that mean the same number of test videos are alike."""
    index = read_index(DATA_FOLDER / "index.json")
    for share in ((test_videos + 0.5) / len(index) for test_videos in range(len(index))):
        if len(clip_order(split_videos(index, "train", share), DATA_SCHEDULE.chunk_frames)) == DATA["train_len"]:
            return LatentVideos(DATA_FOLDER, DATA_PYRAMID, DATA["latent_channels"], split, share)
    pytest.fail(f"no share of test videos leaves {DATA['train_len']} training clips")


@pytest.mark.parametrize("i", range(len(DATA["train_examples"])))
def test_training_item(i):
    about, videos, schedule = DATA["train_examples"][i], data_set("train"), DATA_SCHEDULE
    clip = clip_order(videos.videos, schedule.chunk_frames)[about["item"]]
    step = int((schedule.probabilities.cumsum() < about["step_draw"]).sum())
    assert (clip, step) == (tuple(about["video"]), about["step"])
    latents, actions = videos.read([(*clip, schedule.chunk_frames)], schedule.roles[[step]])
    tokens = padded_step(latents, actions, schedule, [step], DATA_PYRAMID)
    compare_tokens(
        Tokens(tokens.values[0], tokens.coordinates[0], tokens.actions[0], tokens.roles[0]),
        EXAMPLES,
        f"train{i}",
        "tokens",
    )


@pytest.mark.parametrize("i", range(len(DATA["test_examples"])))
def test_test_item(i):
    about, videos = DATA["test_examples"][i], data_set("all")
    order, limit, sure = clip_order(videos.videos), about["limit"], about["deterministic_action_frames"]
    assert (len(order), order[about["item"]]) == (DATA["all_len"], (about["key"], 0))
    plan = DATA_SCHEDULE.rollout(DATA["first_denoised_frame"], DATA["test_num_frames"])
    assert plan[-1][1] + DATA_SCHEDULE.chunk_frames == limit
    latents, actions, real = videos.test_video(about["key"], limit)
    assert real == min(about["video_frames"], limit) and dict(videos.videos)[about["key"]] == about["video_frames"]
    index = everything(limit, DATA_PYRAMID)
    index = some(index, (index.frame >= real).int().argsort(stable=True))  # what follows a short video comes last
    tokens = gather_tokens(latents[None], actions[None], index, DATA_PYRAMID.coordinates())
    compare(tokens.values[0], EXAMPLES, f"test{i}.tokens")
    compare(tokens.coordinates[0], EXAMPLES, f"test{i}.indices")
    assert arrays(EXAMPLES)[f"test{i}.frame_actions"].shape == actions.shape  # the last rows may be random
    compare(actions[:sure], EXAMPLES, f"test{i}.frame_actions", part=... if sure == limit else slice(sure))


# ---- weights ---------------------------------------------------------------------------------------------------------

SHAPES, FULL = read_json("state_dict_shapes"), read_json("state_dict_shapes")["config"]
MODELS = [name for name in SHAPES if any(key.endswith(".weight") for key in SHAPES[name])]


def shapes(state):
    return {name: list(value.shape) for name, value in state.items()}


@lru_cache
def full_size(name):
    "Our model for some recorded shapes, without memory for its weights."
    state = {key: torch.empty(shape, device="meta") for key, shape in SHAPES[name].items()}
    context = (1,) * FULL["available_num_levels"]  # decides nothing but the number of levels
    if name == "autoencoder":
        return load_release_tokenizer(state, FULL["image_shape"], device="meta")
    return load_release_model(state, framepack_context=context, framepack_denoised=1, device="meta")


def full_size_weights(name):
    if name != "video_models.decoder":
        return release_state_dict(full_size(name))
    return {
        key: value for key, value in release_state_dict(full_size("autoencoder")).items() if key.startswith("decoder.")
    }


@pytest.mark.parametrize("name", MODELS)
def test_full_size_models_have_the_weights_of_the_release(name):
    assert shapes(full_size_weights(name)) == SHAPES[name]
    if size := re.search(r"_([A-Z]+)\.", name):
        assert full_size(name).config.transformer == TRANSFORMER_SIZES[size[1]]


@pytest.mark.parametrize("name, count", SHAPES["parameter_counts"].items())
def test_parameter_count(name, count):
    model, part = name.rsplit(".", 1)
    state = full_size_weights(name if name in MODELS else model)
    assert sum(value.numel() for key, value in state.items() if key.startswith(f"{part}.")) == count


def test_presets_are_models_of_the_release():
    if (
        PyramidConfig(FULL["image_shape"], FULL["patch_shape"], FULL["available_num_levels"]),
        FULL["latent_channels"],
    ) != (PAPER_EXPERIMENTS["millivid"].pyramid, PAPER_EXPERIMENTS["millivid"].video.latent_channels):
        pytest.skip("these records are not of the paper's sizes")
    with torch.device("meta"):
        models = [*map(Tokenizer, PAPER_TOKENIZERS.values())]
        models += [one.make_model() for one in {one.video: one for one in PAPER_EXPERIMENTS.values()}.values()]
    for model in models:
        assert shapes(release_state_dict(model)) in [SHAPES[name] for name in MODELS]


@pytest.mark.parametrize("kind", sorted({name.partition("/")[0] for name in WEIGHTS}))
def test_weights_survive_import_and_export(kind, tmp_path):
    model = load(kind)
    state = release_state_dict(model)
    assert {f"{kind}/{name}": shape for name, shape in shapes(state).items()} == {
        name: shape for name, shape in SIZES["weights"].items() if name.startswith(f"{kind}/")
    }
    save_release(model, tmp_path / "own.ckpt")
    others = {key: {} for key in SHAPES["checkpoint_file"]["top_level_keys"]}
    torch.save({**others, "model": weights(kind)}, tmp_path / "theirs.ckpt")
    for state in (state, read_checkpoint(tmp_path / "own.ckpt"), read_checkpoint(tmp_path / "theirs.ckpt")):
        assert state.keys() == weights(kind).keys()
        assert all(torch.equal(state[name], value) for name, value in weights(kind).items())


def test_sizes_of_the_tiny_models():
    tokenizer, video = load("autoencoder").config, load("universal").config
    assert tokenizer.encoder == tokenizer.decoder == video.transformer and tokenizer.pyramid == PYRAMID
    assert tokenizer.latent_channels == video.latent_channels
    ours = dict(
        hidden=video.transformer.width,
        depth=video.transformer.depth,
        heads=video.transformer.heads,
        latent_channels=video.latent_channels,
        num_levels=video.num_levels,
        num_actions=video.num_actions,
        action_channels=ACTION_CHANNELS,
        latent_shape=list(PYRAMID.grid_shape(0)),
        base_num_tokens=PYRAMID.tokens_per_level[0],
    )
    assert ours == {name: SIZES[name] for name in ours}


# ---- tokenizer -------------------------------------------------------------------------------------------------------


def in_pixels(patches):
    return patches.unflatten(-1, (3, *PYRAMID.patch_shape))


def compare_gradients(model, prefix):
    "Every recorded gradient norm is that of our parameter, and every parameter has one."
    kind = "tokenizer" if isinstance(model, Tokenizer) else "video"
    ours = {
        release_name(name, kind): parameter.grad.norm()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    assert ours.keys() == set(names("tiny_io", rf"{re.escape(prefix)}\.grad_norm/(.*)"))
    for name, norm in ours.items():
        compare(norm.reshape(1), "tiny_io", f"{prefix}.grad_norm/{name}", 1e-7, GRADIENT)


def test_pyramid_of_patches():
    images = recorded("ae.images")
    patches = pyramid_patches(images, PYRAMID)
    compare(in_pixels(patches), "tiny_io", "ae.patches", SINGLE)
    compare(PYRAMID.coordinates().expand(len(images), -1, -1), "tiny_io", "ae.indices_lhw")
    for level, image in enumerate(images_from_patches(patches, PYRAMID)):
        compare(image, "tiny_io", f"ae.unpatchify_level{level}", SINGLE)


def test_decoder():
    tokenizer, latents = load("autoencoder"), recorded("ae.encoder_adaptive")
    levels = {f"from_level{level}": torch.full((len(latents),), level) for level in range(PYRAMID.num_levels)}
    for name, level in {**levels, "mixed": recorded("ae.decoder_mixed_levels").long()}.items():
        compare(in_pixels(tokenizer.decode_patches(latents, level)), "tiny_io", f"ae.decoder_{name}", SINGLE)
    dense = tokenizer.decoder(recorded("ae.decoder_dense_input"), recorded("ae.decoder_dense_level").long())
    compare(in_pixels(dense), "tiny_io", "ae.decoder_dense", SINGLE)


@pytest.mark.parametrize("variant", names("tiny_io", r"ae\.encoder_(.*)"))
def test_encoder_and_training_loss(variant):
    tokenizer, name = load("autoencoder", variant == "cascaded"), f"ae.loss_{variant}"
    compare(tokenizer.encode(recorded("ae.images")), "tiny_io", f"ae.encoder_{variant}", SINGLE)
    loss = tokenizer_loss(tokenizer, recorded("ae.images"), recorded(f"{name}_level_draw"))
    compare(loss.reshape(1), "tiny_io", name, SINGLE)
    loss.backward()
    compare_gradients(tokenizer, name)


# ---- video models ----------------------------------------------------------------------------------------------------


def watch(model):
    "Note what happens inside of a video model: its tokens, what its blocks are given, and what they return."
    seen, transform, prepare = {}, model.transform, model.prepare

    def watched(embedded, t, *rest):
        seen.update(token_embeddings=embedded, token_t=t)
        return transform(embedded, t, *rest)

    def prepared(tokens, *rest):
        seen.update(token_actions=tokens.actions, token_indices=tokens.coordinates)
        return prepare(tokens, *rest)

    def note(i, inputs, output):
        x, rows, index, *_ = inputs
        seen.setdefault("block_input", x)
        seen.update({"c": rows[index], f"block{i}_output": output})

    model.transform, model.prepare = watched, prepared
    for i, block in enumerate(model.blocks):
        block.register_forward_hook(lambda block, inputs, output, i=i: note(i, inputs, output))
    return seen


def recorded_step(prefix, steps, start):
    "Recorded steps of the video. Their schedule was not recorded: it is the one that has their roles and coordinates."
    video, actions = recorded_video()
    for schedule in SCHEDULES.values():
        if max(steps) < schedule.num_steps and start + schedule.chunk_frames <= video.shape[1]:
            tokens = padded_step(video, actions, schedule, steps, start=start)
            if all(
                np.array_equal(ours, arrays("tiny_io")[f"{prefix}.{name}"])
                for ours, name in ((tokens.roles, "roles"), (tokens.coordinates, "indices"))
            ):
                return tokens
    pytest.fail(f"no schedule of a run has the tokens of {prefix}")


def recorded_tokens(prefix):
    return Tokens(*(recorded(f"{prefix}.{name}") for name in ("x", "indices", "actions", "roles")))


def test_tokens_of_the_forward_pass():
    step, start = recorded("universal.forward.step_and_window_start").tolist()
    tokens = recorded_step("universal.forward", [step] * len(arrays("tiny_io")["universal.forward.x"]), start)
    compare_tokens(tokens, "tiny_io", "universal.forward")  # their values are noise


@pytest.mark.parametrize("name", names("tiny_io", r"((?:universal|framepack)\.forward\w*)\.v"))
def test_forward(name):
    kind, prefix = name.partition(".")[0], name.removesuffix("_small_qk")
    model = load(kind)
    if prefix != name:  # makes the epsilon of the norms visible
        with torch.no_grad():
            for block in model.blocks:
                block.attn.qkv.weight[: 2 * SIZES["hidden"]] *= 1e-3
                block.attn.qkv.bias[: 2 * SIZES["hidden"]] *= 1e-3
    seen, x, t = watch(model), recorded(f"{prefix}.x"), recorded(f"{prefix}.t")
    if kind == "universal":  # with random tokens role 0 does not mean padding
        v = as_if_real(model)(x, t, recorded_tokens(prefix), recorded(f"{prefix}.conditioning_mask"))
    else:
        v = model(x, t, recorded(f"{prefix}.actions"))
    compare(v, "tiny_io", f"{name}.v", SINGLE)
    for part in seen.keys() & names("tiny_io", rf"{re.escape(name)}\.(\w+)"):
        compare(seen[part], "tiny_io", f"{name}.{part}", SINGLE)


@pytest.mark.parametrize("guidance_scale", names("tiny_io", r"universal\.denoise\.x_hat_guidance(.*)"))
def test_one_denoising_update(guidance_scale):
    model, prefix = load("universal"), "universal.denoise"
    tokens, eps, t = recorded_tokens(prefix), recorded(f"{prefix}.eps"), recorded(f"{prefix}.t_scalar").float()
    yes = torch.ones(len(eps), dtype=torch.bool)
    times, without = (token_times(t.expand(len(eps), 1), tokens.is_target, conditional) for conditional in (yes, ~yes))
    compare(times, "tiny_io", f"{prefix}.t", 1e-7)
    x_t = add_noise(tokens.values, eps, times)
    v, v_without = model(x_t, times, tokens, yes), model(add_noise(tokens.values, eps, without), without, tokens, ~yes)
    v = v_without + float(guidance_scale) * (v - v_without)
    for ours, name, before in zip(predict_x0_eps(x_t, v, times), ("x_hat", "eps_hat"), (tokens.values, eps)):
        ours = torch.where(tokens.is_target[..., None], ours, before)
        compare(ours, "tiny_io", f"{prefix}.{name}_guidance{guidance_scale}", SINGLE)


@pytest.mark.parametrize("case", names("tiny_io", r"universal\.loss_(.*)\.loss"))
def test_training_loss(case):
    model, prefix = load("universal"), f"universal.loss_{case}"
    tokens = recorded_step(prefix, recorded(f"{prefix}.steps").tolist(), int(recorded(f"{prefix}.window_start")))
    compare_tokens(tokens, "tiny_io", prefix, "tokens")
    dropout = recorded(f"{prefix}.dropout_probability").item()
    draws = recorded(f"{prefix}.eps"), recorded(f"{prefix}.t_draw"), recorded(f"{prefix}.u_dropout") > dropout
    loss = video_loss(as_if_real(model), tokens, *draws)
    compare(loss.reshape(1), "tiny_io", f"{prefix}.loss", SINGLE)
    loss.backward()
    compare_gradients(model, prefix)
    proper = video_loss(model, tokens, *draws)
    assert (abs(proper - loss).item() > 1e-4) == (tokens.roles == 0).any()


def test_framepack_denoising_update():
    model, prefix = load("framepack"), "framepack.denoise"
    x, eps, t = (recorded(f"{prefix}.{name}") for name in ("x", "eps", "t"))
    x_t, new = add_noise(x.flatten(2), eps.flatten(2), t), slice(model.context_frames, None)
    v = model(x_t.unflatten(2, x.shape[2:]), t, recorded(f"{prefix}.actions"))
    for ours, name in zip(predict_x0_eps(x_t[:, new], v.flatten(2), t[:, new]), ("x_hat", "eps_hat")):
        compare(ours.unflatten(2, x.shape[2:]), "tiny_io", f"{prefix}.{name}", SINGLE)


def test_framepack_training_loss():
    model, prefix = load("framepack"), "framepack.loss"
    dropout = recorded(f"{prefix}.dropout_probability").item()
    keep = recorded(f"{prefix}.dropout_draw")[:, 0] >= dropout
    draws = recorded(f"{prefix}.eps").flatten(2), recorded(f"{prefix}.t_draw")[:, None], keep
    loss = framepack_loss(model, recorded(f"{prefix}.latents"), recorded(f"{prefix}.actions"), *draws)
    compare(loss.reshape(1), "tiny_io", f"{prefix}.loss", SINGLE)
    loss.backward()
    compare_gradients(model, prefix)


# ---- rollouts --------------------------------------------------------------------------------------------------------


def bfloat16_step(theirs):
    "The distance of neighbouring bfloat16 numbers, and at least that of those at 1."
    return 2.0 ** (np.floor(np.log2(np.maximum(np.abs(theirs), 1))) - 7)


CLOSE = {"float32": dict(tolerance=ROLLOUT), "bfloat16": dict(tolerance=bfloat16_step, share=0.01)}


def initial_noise(run, shape):
    "The recorded noise of one rollout step after the other; a run without one has the seed of another run."
    dtype, generator = getattr(torch, RUNS[run]["state_dtype"]), torch.Generator().manual_seed(RUNS[run]["seed"])
    if f"generate.{run}.eps" in arrays("tiny_io"):
        yield from recorded(f"generate.{run}.eps").to(dtype)
    else:
        yield from (torch.randn(shape, generator=generator, dtype=dtype) for _ in range(RUNS[run]["rollout_steps"]))


def kept(run):
    "Which tokens of the video a run was given: all of its frames, the levels of its schedule."
    index = everything(arrays("tiny_io")["video.frame_actions"].shape[1])
    level = PYRAMID.coordinates()[index.token, 0]
    return index, (index.frame < RUNS[run]["schedule_limit"]) & (level < SCHEDULES[run].num_levels)


def play(run, padding_is_real):
    "Generate like a recorded run. Returns all tokens at the end, also of clipped frames, and those of each step."
    settings, schedule, model = RUNS[run], SCHEDULES[run], load("universal")
    (video, actions), dtype = recorded_video(), getattr(torch, settings["state_dtype"])
    shape = len(video), schedule.max_tokens, video.shape[-1]
    noise, indices, after, eps, state = initial_noise(run, shape), step_indices(schedule, PYRAMID), [], None, None

    def next_noise(tokens, channels):
        nonlocal eps
        eps = next(noise)
        return eps[:, :tokens]

    def pad(value):
        return F.pad(value, (0, 0) * (value.ndim - 2) + (0, schedule.max_tokens - value.shape[1]))

    def with_padding(x_t, t, tokens, conditional):
        times = torch.where(pad(tokens.roles) > 0, pad(t), (~conditional[:, None]).float())
        x_t = torch.cat([x_t, add_noise(torch.zeros(shape), eps, times, settings["shift"])[:, x_t.shape[1] :]], dim=1)
        tokens = Tokens(*map(pad, (tokens.values, tokens.coordinates, tokens.actions, tokens.roles)))
        return as_if_real(model)(x_t, times, tokens, conditional)[:, : t.shape[1]]

    def note(step, first, latents):
        nonlocal state
        state = latents
        after.append(pad(as_list(latents, indices[step], first)))

    ours = generate(
        with_padding if padding_is_real else model,
        video.to(dtype),
        actions,
        schedule,
        PYRAMID,
        settings["first_denoised_frame"],
        settings["schedule_end"],
        settings["sampling_steps"],
        settings["guidance_scale"],
        noise=next_noise,
        shift=settings["shift"],
        evaluate_last=True,
        on_step=note,
        progress=False,
    )
    assert torch.equal(ours, state[:, : settings["schedule_end"]])
    return as_list(state, some(*kept(run))), torch.stack(after)


@pytest.mark.parametrize("run", RUNS)
def test_rollout(run):
    settings, schedule, prefix = RUNS[run], SCHEDULES[run], f"generate.{run}"
    plan = schedule.rollout(settings["first_denoised_frame"], settings["test_num_frames"])
    limit = plan[-1][1] + schedule.chunk_frames
    assert (len(plan), limit - schedule.clipped_frames, limit) == tuple(
        settings[name] for name in ("rollout_steps", "schedule_end", "schedule_limit")
    )
    compare(plan, "tiny_io", f"{prefix}.steps")
    compare(kept(run)[1], "tiny_io", f"{prefix}.keep")
    result, after = play(run, padding_is_real=is_uneven(schedule))
    compare(result, "tiny_io", f"{prefix}.result", **CLOSE[settings["state_dtype"]])
    if f"{prefix}.x_final" in arrays("tiny_io"):
        compare(after, "tiny_io", f"{prefix}.x_final", **CLOSE[settings["state_dtype"]])
    theirs = [settings["state_min"], settings["state_max"]]  # known already from the comparison
    assert [result.min().item(), result.max().item()] == pytest.approx(theirs, rel=2**-7)


@pytest.mark.parametrize("run", [run for run in RUNS if is_uneven(SCHEDULES[run])])
def test_rollout_pays_no_attention_to_padding(run):
    result, _ = play(run, padding_is_real=False)
    assert np.abs(result.numpy() - arrays("tiny_io")[f"generate.{run}.result"]).max() > 0.01


@pytest.mark.parametrize("run", FRAMEPACK_RUNS)
def test_framepack_rollout(run, monkeypatch):
    settings, prefix, grid = FRAMEPACK_RUNS[run], f"generate.{run}", recorded("framepack.latents")
    seen, dtype = [], getattr(torch, settings["state_dtype"])

    def sample(predict, x, denoised, eps, *rest, **named):
        seen.append(eps.clone())
        return ddim_sample(predict, x, denoised, eps, *rest, **named)

    monkeypatch.setattr("millivid.rollout.ddim_sample", sample)
    ours = generate_framepack(
        load("framepack", framepack=settings),
        grid.flatten(3).transpose(2, 3).to(dtype),
        recorded("video.frame_actions"),
        PYRAMID,
        settings["first_denoised_frame"],
        settings["test_num_frames"],
        settings["sampling_steps"],
        noise=lambda *shape: recorded(f"{prefix}.eps").to(dtype),
        shift=settings["shift"],
        evaluate_last=True,
        progress=False,
    )
    ours, eps = ours.transpose(2, 3).unflatten(3, grid.shape[3:]), seen[-1].unflatten(2, grid.shape[2:])
    compare(ours, "tiny_io", f"{prefix}.result", **CLOSE[settings["state_dtype"]])
    compare(eps, "tiny_io", f"{prefix}.eps_seen_by_last_chunk_first_call", **CLOSE[settings["state_dtype"]])
    assert len(seen) == settings["rollout_steps"]
    theirs = [settings["state_min"], settings["state_max"]]
    assert [ours.min().item(), ours.max().item()] == pytest.approx(theirs, rel=2**-7)


@pytest.mark.parametrize("case", names("tiny_io", r"decode\.(.*)\.frames"))
def test_decoding_a_rollout(case):
    run, level = case.rsplit("_level", 1)
    latents = recorded(f"generate.{run}.result")
    latents = as_video(latents, some(*kept(run))) if run in RUNS else latents.flatten(3).transpose(2, 3)
    latents = latents[:, recorded(f"decode.{case}.frame_index")]
    images = load("autoencoder").decode(latents.flatten(0, 1), int(level)).unflatten(0, latents.shape[:2])
    compare(images, "tiny_io", f"decode.{case}.frames", SINGLE)


# ---- nothing is left out ---------------------------------------------------------------------------------------------


def number_of_tests():
    "Tests of this file, with all their cases."
    tests = [value for name, value in globals().items() if name.startswith("test_")]
    return sum(math.prod(len(mark.args[1]) for mark in getattr(test, "pytestmark", [])) for test in tests)


def group_of(file, name):
    if "grad_norm/" in name:
        return f"{file}: {name.partition('.grad_norm/')[0]}, gradients (relative)"
    if file != "tiny_io":
        return file
    return f"{file}: " + (name.rpartition(".")[0] if name.startswith("generate.") else name.partition(".")[0])


def test_every_recorded_array_is_compared(capsys):
    if len(RAN) < number_of_tests():
        pytest.skip(
            f"only {len(RAN)} of the {number_of_tests()} tests of this file ran, and this one judges all of them"
        )
    files, kinds, groups = sorted(FOLDER.rglob("*.npz")), ("compared", "inputs", "excused", "left out"), {}
    for file, name in (
        (str(path.relative_to(FOLDER).with_suffix("")), name) for path in files for name in np.load(path)
    ):
        kind = (
            "compared"
            if (file, name) in COMPARED
            else "inputs"
            if (file, name) in GIVEN and re.fullmatch(INPUTS.get(file, "(?!)"), name)
            else "excused"
            if any(re.fullmatch(pattern, f"{file}:{name}") for pattern in EXCEPTIONS)
            else "left out"
        )
        groups.setdefault(group_of(file, name), {kind: [] for kind in kinds})[kind].append((file, name))
    with capsys.disabled():
        print("\n\ncompared  inputs  excused  left out  largest difference")
        for group, found in groups.items():
            largest = max((COMPARED[one] for one in found["compared"]), default=0)
            print("{:8} {:7} {:8} {:9}".format(*map(len, found.values())), f" {largest:18.1e}  {group}")
        print("compared in part:", ", ".join(IN_PART) or "none")
        print("excused:", "; ".join(f"{pattern} ({reason})" for pattern, reason in EXCEPTIONS.items()))
    left_out = [f"{file}:{name}" for found in groups.values() for file, name in found["left out"]]
    assert not left_out, (
        f"{len(left_out)} arrays were not compared or did not match, such as {', '.join(left_out[:20])}"
    )
