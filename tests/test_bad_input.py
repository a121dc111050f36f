"""Mistakes that users make: a clear message, exit status 2, and nothing half-written.

A message names the value that was given, what was expected, and what to do about it.
"""

import json
import shutil

import av
import numpy as np
import pytest
import torch
from tiny import PYRAMID, TRANSFORMER, assert_says, files_below, random_video, run_millivid

from millivid.actions import action_rows
from millivid.basics import choose_device
from millivid.cli import main
from millivid.data import FREEDOOM_VIDEO, read_video, write_gif, write_video
from millivid.diffusion import ddim_sample
from millivid.layers import TransformerConfig
from millivid.pipeline import PACKAGED, Experiment, Pipeline, load_tokenizer, save_model
from millivid.pyramid import PyramidConfig, patchify, pyramid_patches
from millivid.release import read_actions, write_actions
from millivid.rollout import gather_tokens, generate, generate_framepack, step_indices
from millivid.schedule import full_resolution_schedule, millivid_schedule
from millivid.tokenizer import TokenizerConfig, encode_frames
from millivid.training import TrainingConfig, train_tokenizer
from millivid.video import FramePackModel, VideoConfig
from millivid.worlds.rooms import RoomWalks, WorldConfig, make_episode, make_room, make_test_episode, walk

NO_GPU = "cuda:99"  # not there on any machine


def cli_message(capsys, *arguments):
    "Run a command that must fail. Returns its message: one line on stderr, exit status 2, nothing on stdout."
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as exit:  # how argparse ends
        status = exit.code
    out, err = capsys.readouterr()
    assert status == 2, (out, err)
    assert len(err.strip().splitlines()) == 1 and "Traceback" not in err, err
    assert out == ""
    return err


# ---- videos ----------------------------------------------------------------------------------------------------------

@pytest.fixture
def not_a_video(tmp_path):
    path = tmp_path / "notes.mp4"
    path.write_text("this is not a video\n" * 100)
    return path


def test_a_video_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        read_video(tmp_path / "nowhere.mp4")
    assert_says(error.value, tmp_path / "nowhere.mp4", "no video", "mp4")


def test_a_folder_is_no_video(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        read_video(tmp_path)
    assert_says(error.value, tmp_path, "give", "mp4")


def test_a_file_that_is_no_video(not_a_video):
    with pytest.raises(ValueError) as error:
        read_video(not_a_video)
    assert_says(error.value, not_a_video, "video", "give", "mp4")


@pytest.mark.parametrize("share", [0, .5])
def test_a_truncated_video(tmp_path, share):
    path = tmp_path / "walk.mp4"
    write_video(path, make_episode(0, 10).frames)
    whole = path.read_bytes()
    path.write_bytes(whole[:int(share * len(whole))])
    with pytest.raises(ValueError) as error:
        read_video(path)
    assert_says(error.value, path, "video", "give")


def test_a_video_of_sound_alone(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), dtype=np.float32), "fltp", "mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(ValueError) as error:
        read_video(path)
    assert_says(error.value, path, "video", "give")


def test_frames_that_no_mp4_can_hold(tmp_path):
    with pytest.raises(ValueError) as error:
        write_video(tmp_path / "odd.mp4", np.zeros((3, 15, 16, 3), dtype=np.uint8))
    assert_says(error.value, "15 x 16", "even", "crop or pad")
    assert files_below(tmp_path) == []


def test_a_video_that_breaks_off_while_it_is_written(tmp_path):
    frames = [np.zeros((16, 16, 3), dtype=np.uint8)] * 3 + ["not a frame"]

    class Frames(list):
        shape = (4, 16, 16, 3)

    with pytest.raises(Exception):
        write_video(tmp_path / "broken.mp4", Frames(frames))
    assert files_below(tmp_path) == []


# ---- sizes -----------------------------------------------------------------------------------------------------------

def test_an_image_that_the_patch_does_not_divide():
    for settings, side in ((((60, 64), (16, 16), 1), "height 60"), (((64, 60), (16, 16), 1), "width 60")):
        with pytest.raises(ValueError) as error:
            PyramidConfig(*settings)
        assert_says(error.value, side, 16, "multiple", "resize or crop")
    with pytest.raises(ValueError) as error:
        patchify(torch.zeros(1, 3, 60, 64), (16, 16))
    assert_says(error.value, "60 x 64", "16 x 16", "resize or crop", "multiple")


def test_an_image_that_the_levels_do_not_divide():
    with pytest.raises(ValueError) as error:
        PyramidConfig((64, 96), (16, 16), 3)
    assert_says(error.value, "6 patches", "width", "3 levels", "fewer levels", "multiple of 64")


def test_images_of_another_size_than_the_tokenizers(tokenizer):
    with pytest.raises(ValueError) as error:
        pyramid_patches(torch.zeros(1, 3, 32, 32), PYRAMID)
    assert_says(error.value, "32", "16", "resize")
    with pytest.raises(ValueError) as error:
        encode_frames(tokenizer, np.zeros((2, 20, 20, 3), dtype=np.uint8))
    assert_says(error.value, "20", "16", "resize")


@pytest.mark.parametrize("frames, parts", [
    (np.ones((2, 16, 16, 3)), ("float64", "(2, 16, 16, 3)", "expected uint8", "images_to_frames")),  # once black frames
    (np.zeros((2, 3, 16, 16), dtype=np.uint8), ("(2, 3, 16, 16)", "(frames, height, width, 3)")),
    (np.zeros((16, 16, 3), dtype=np.uint8), ("(16, 16, 3)", "(frames, height, width, 3)")),
    (np.zeros((0, 16, 16, 3), dtype=np.uint8), ("no frames", "at least one"))])
def test_frames_that_cannot_be_encoded(tokenizer, frames, parts):
    with pytest.raises(ValueError) as error:
        encode_frames(tokenizer, frames)
    assert_says(error.value, *parts)


def test_settings_of_no_use():
    for make, parts in ((lambda: PyramidConfig(num_levels=0), ("num_levels", 0, "at least one")),
                        (lambda: TransformerConfig(100, 2, 3), ("100", "3", "multiple")),
                        (lambda: WorldConfig(places=0), ("places", 0, "at least 1"))):
        with pytest.raises(ValueError) as error:
            make()
        assert_says(error.value, *parts)


def test_latents_with_another_number_of_tokens(tokenizer):
    with pytest.raises(ValueError) as error:
        tokenizer.decode(torch.zeros(1, 7, 4), level=1)
    assert_says(error.value, "7 tokens", PYRAMID.num_tokens, PYRAMID.tokens_per_level[1], "level 1")
    with pytest.raises(ValueError) as error:
        tokenizer.decode(torch.zeros(1, PYRAMID.num_tokens, 4), level=3)
    assert_says(error.value, "level 3", "0 to 2")


def test_a_world_of_another_size_than_the_tokenizers(tmp_path):
    config = TokenizerConfig(PYRAMID, 4, TRANSFORMER, TRANSFORMER)
    with pytest.raises(ValueError) as error:
        train_tokenizer(config, TrainingConfig(1), tmp_path, WorldConfig(image_size=32), progress=False)
    assert_says(error.value, "(16, 16)", "32 x 32", "image_size")
    assert files_below(tmp_path) == []


# ---- schedules -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("windows, coarse, fine", [((2, 3, 12), 3, 2), ((1, 4, 6), 6, 4), ((4, 2, 8), 2, 4)])
def test_windows_that_do_not_divide_each_other(windows, coarse, fine):
    with pytest.raises(ValueError) as error:
        millivid_schedule(windows, 16, PYRAMID.tokens_per_level)
    assert_says(error.value, f"window {coarse}", f"window {fine}", windows, "multiple", "must")


def test_other_settings_that_are_no_schedule():
    for make, parts in ((lambda: millivid_schedule((1, 2), 16, (16, 4, 1)), ("2 windows", "3 levels", "one window per level")),
                        (lambda: millivid_schedule((0, 2, 4), 16, (16, 4, 1)), ("window 0", "(0, 2, 4)")),
                        (lambda: millivid_schedule((1, 2, 4), -1, (16, 4, 1)), ("extra_budget", "-1", "negative")),
                        (lambda: full_resolution_schedule(5), ("num_frames", 5, "even"))):
        with pytest.raises(ValueError) as error:
            make()
        assert_says(error.value, *parts)


def test_a_schedule_for_another_pyramid(schedule):
    with pytest.raises(ValueError) as error:
        step_indices(schedule, PyramidConfig((32, 32), (4, 4), 3))
    assert_says(error.value, "(16, 4, 1)", "(64, 16, 4)", "tokens_per_level")


# ---- context ---------------------------------------------------------------------------------------------------------

def test_fewer_context_frames_than_the_schedule_needs(schedule, video_model):
    needed = schedule.context_frames
    with pytest.raises(ValueError) as error:
        schedule.rollout(needed - 1, needed + 10)
    assert_says(error.value, f"needs {needed} context frames", needed - 1, "give more context")
    latents, actions = random_video(1, 40)
    with pytest.raises(ValueError) as error:
        generate(video_model, latents, actions, schedule, PYRAMID, needed - 1, 40, progress=False)
    assert_says(error.value, f"needs {needed} context frames", needed - 1, "give more context")


def test_fewer_context_frames_than_framepack_needs(framepack_model):
    latents, actions = random_video(1, 40)
    with pytest.raises(ValueError) as error:
        generate_framepack(framepack_model, latents, actions, PYRAMID, 5, 9, progress=False)
    assert_says(error.value, "needs 6 context frames", 5, "give more context")


def test_fewer_frames_than_the_generation_starts_at(schedule, video_model):
    latents, actions = random_video(1, 20)
    with pytest.raises(ValueError) as error:
        generate(video_model, latents, actions, schedule, PYRAMID, 24, 30, progress=False)
    assert_says(error.value, "20 frames", "frame 24", "give at least 24 context frames")


def test_an_end_before_the_start(schedule):
    with pytest.raises(ValueError) as error:
        schedule.rollout(30, 30)
    assert_says(error.value, "end 30", "start 30", "after")


@pytest.fixture(params=["millivid", "framepack"])
def generator_of(request, video_model, framepack_model):
    if request.param == "framepack":
        return Pipeline(framepack_model, Experiment("framepack", PYRAMID, framepack_model.config))
    return Pipeline(video_model, Experiment("millivid", PYRAMID, video_model.config, (1, 2, 4), 16))


@pytest.mark.parametrize("change, parts", [
    (dict(latents=torch.zeros(2, 30, 85, 4)), ("(2, 30, 85, 4)", "21 tokens", "tokenizer")),
    (dict(latents=torch.zeros(2, 30, 21, 5)), ("(2, 30, 21, 5)", "4 channels", "tokenizer")),
    (dict(latents=torch.zeros(30, 21, 4)), ("(30, 21, 4)", "videos, frames")),
    (dict(latents=torch.zeros(0, 30, 21, 4)), ("(0, 30, 21, 4)", "videos, frames")),
    (dict(latents=torch.zeros(2, 30, 21, 4, dtype=torch.uint8)), ("uint8", "floats")),
    (dict(actions=torch.zeros(1, 30, 6)), ("(1, 30, 6)", "(2, 26 or more, 6)")),  # once the same for both videos
    (dict(actions=torch.zeros(2, 25, 6)), ("(2, 25, 6)", "(2, 26 or more, 6)", "action_rows")),  # once made up
    (dict(actions=torch.zeros(2, 30)), ("(2, 30)", "(2, 26 or more, 6)")),
    (dict(actions=torch.zeros(2, 30, 3)), ("(2, 30, 3)", "(2, 26 or more, 6)")),
    (dict(seeds=[3]), ("seeds [3]", "each of the 2 videos")),  # once the same noise for both videos
    (dict(seeds=3), ("seeds 3", "each of the 2 videos")),
    (dict(end=24), ("end 24", "after start 24"))])
def test_what_does_not_belong_together_is_not_generated(generator_of, change, parts):
    latents, actions = random_video(2, 30)
    with pytest.raises(ValueError) as error:
        generator_of.generate(**dict(latents=latents, actions=actions, start=24, end=26, num_steps=2, progress=False) | change)
    assert_says(error.value, *parts)


def test_framepack_checks_what_it_gets(framepack_model):
    latents, actions = random_video(2, 30)
    for change, part in ((dict(end=24), "end 24"), (dict(seeds=[3]), "seeds [3]"), (dict(actions=actions[:1]), "(1, 30, 6)")):
        with pytest.raises(ValueError) as error:
            generate_framepack(framepack_model, **dict(latents=latents, actions=actions, pyramid=PYRAMID, start=24, end=26, progress=False) | change)
        assert_says(error.value, part)


def test_what_may_be_given_to_a_generator(generator_of):
    "Double precision, and an odd number of frames up to the last known action; FramePack reads the finest level only."
    latents, actions = random_video(2, 27)
    settings = dict(start=24, end=27, num_steps=2, progress=False)
    out = generator_of.generate(latents, actions, **settings)
    assert torch.equal(generator_of.generate(latents.double(), actions, **settings), out)
    if generator_of.experiment.method == "framepack":
        assert torch.equal(generator_of.generate(latents[:, :, PYRAMID.level_slice(0)], actions, **settings), out)


def test_too_few_frames_for_a_test_episode():
    with pytest.raises(ValueError) as error:
        make_test_episode(0, num_frames=64, context_frames=64)
    assert_says(error.value, 64, "context")


# ---- actions ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("wrong", [3, -1])
def test_an_action_out_of_range(wrong, video_model, schedule):
    for use in (lambda actions: walk(make_room(0), (1, 1, 0), actions), action_rows):
        with pytest.raises(ValueError) as error:
            use([1, 2, wrong, 1])
        assert_says(error.value, f"action {wrong}", "position 2", "out of range", "use 0 (forward), 1", "2 (turn right)")
    latents, actions = random_video(1, schedule.chunk_frames)
    tokens = gather_tokens(latents, actions, step_indices(schedule, PYRAMID)[0], PYRAMID.coordinates())
    tokens.actions[0, 3, 0] = wrong
    with pytest.raises(ValueError) as error:
        video_model(tokens.values, torch.zeros(tokens.roles.shape), tokens)
    assert_says(error.value, f"action {wrong}", "out of range", "0 to 2")


def test_a_walk_through_the_wall():
    with pytest.raises(ValueError) as error:
        walk(make_room(0), (2, 0, 0), [0])
    assert_says(error.value, "outside the room", "3 x 3", "start elsewhere")


# ---- sampling --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("num_steps", [1, 0, -3])
def test_too_few_sampling_steps(num_steps, video_model, framepack_model, schedule):
    latents, actions = random_video(1, 30)
    x = torch.zeros(1, 2, 4)
    calls = (lambda: ddim_sample(lambda *_: x, x, torch.ones(1, 2, dtype=torch.bool), x, num_steps),
             lambda: generate(video_model, latents, actions, schedule, PYRAMID, 24, 26, num_steps, progress=False),
             lambda: generate_framepack(framepack_model, latents, actions, PYRAMID, 24, 26, num_steps, progress=False))
    for call in calls:
        with pytest.raises(ValueError) as error:
            call()
        assert_says(error.value, f"num_steps is {num_steps}", "at least 2")


# ---- weights ---------------------------------------------------------------------------------------------------------

@pytest.fixture
def saved(tokenizer, tmp_path):
    "A folder with a healthy tokenizer, to be broken."
    save_model(tokenizer, tmp_path / "mine")
    return tmp_path / "mine"


@pytest.mark.parametrize("load", [load_tokenizer, Pipeline.from_pretrained])
def test_a_name_that_no_weights_have(load):
    with pytest.raises(FileNotFoundError) as error:
        load("mini-nonsense")
    assert_says(error.value, "mini-nonsense", "the package has", "mini-tokenizer")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_folder_without_its_weights(saved, name):
    (saved / name).unlink()
    with pytest.raises(FileNotFoundError) as error:
        load_tokenizer(saved)
    assert_says(error.value, saved, f"no {name}", "expected", "save_model", "millivid train")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("share", [0, .01, .5, .99])
def test_truncated_weights(saved, name, share):
    whole = (saved / name).read_bytes()
    (saved / name).write_bytes(whole[:int(share * len(whole))])
    with pytest.raises(ValueError) as error:
        load_tokenizer(saved)
    assert_says(error.value, saved, "truncated", "copy or train it again")


@pytest.mark.parametrize("right, wrong, says", [('"latent_channels": 4', '"latent_channels": 5', "do not fit"),
                                                ('"latent_channels"', '"latent_chanels"', "latent_chanels")])
def test_weights_that_do_not_fit_their_settings(saved, right, wrong, says):
    text = (saved / "config.json").read_text()
    assert right in text
    (saved / "config.json").write_text(text.replace(right, wrong))
    with pytest.raises(ValueError) as error:
        load_tokenizer(saved)
    assert_says(error.value, saved, says, "config.json")


@pytest.mark.parametrize("text", ['{"some": "thing else"}', "{}", "[]"])
def test_settings_of_something_else(saved, text):
    (saved / "config.json").write_text(text)
    with pytest.raises(ValueError) as error:
        load_tokenizer(saved)
    assert_says(error.value, saved, "does not describe a Tokenizer", "latent_channels", "save_model")


@pytest.mark.parametrize("wrong", [{"pyramid": 3}, {"pyramid": {"levels": 3}}, {"latent_channels": "four"}, {"encoder": {"heads": 0}},
                                   {"encoder": {"width": 25, "heads": 2}}])
def test_settings_that_make_no_model(saved, wrong):
    settings = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(settings | wrong))
    with pytest.raises(ValueError) as error:
        load_tokenizer(saved)
    assert_says(error.value, saved / "config.json", "does not describe a Tokenizer", "save_model")


@pytest.mark.parametrize("text", ["", "not a cache" * 100])
def test_a_cache_that_cannot_be_read(tokenizer, tmp_path, text):
    cache = tmp_path / "rooms.safetensors"
    cache.write_text(text)
    with pytest.raises(ValueError) as error:
        RoomWalks(tokenizer, [0], WorldConfig(image_size=16), cache, progress=False)
    assert_says(error.value, cache, "cannot be read", "delete", "another file")
    assert cache.read_text() == text  # perhaps it is no cache at all


def test_a_model_without_its_experiment(tokenizer, video_model, tmp_path):
    experiment = Experiment("millivid", PYRAMID, video_model.config, (1, 2, 4), 16)
    for model, given, parts in ((video_model, None, ("VideoModel without an experiment", "trained for")),
                                (tokenizer, experiment, ("Tokenizer with an experiment", "a tokenizer none"))):
        with pytest.raises(ValueError) as error:
            save_model(model, tmp_path, given)
        assert_says(error.value, *parts)
    assert files_below(tmp_path) == []
    save_model(video_model, tmp_path, experiment)
    save_model(tokenizer, tmp_path)
    assert "experiment.json" not in files_below(tmp_path)  # it belonged to the video model


def test_a_tokenizer_is_no_generator(saved):
    with pytest.raises(FileNotFoundError) as error:
        Pipeline.from_pretrained(saved)
    assert_says(error.value, saved, "experiment.json", "save_model")


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"method": "nonsense"}', '{"method": "nonsense", "pyramid": {}, "video": {}}',
                                  '{"method": "framepack", "pyramid": 3, "video": {}}', '{"method": "millivid", "pyramid": {}, "video": 3}',
                                  '{"method": "millivid", "pyramid": {}, "video": {}, "frames_per_level": ["all"]}', "\xff"])
def test_an_experiment_that_cannot_be_read(saved, text):
    (saved / "experiment.json").write_bytes(text.encode("latin-1"))  # the last one is not UTF-8
    with pytest.raises(ValueError) as error:
        Pipeline.from_pretrained(saved)
    assert_says(error.value, "experiment.json", "save_model")


def test_an_unknown_method():
    with pytest.raises(ValueError) as error:
        Experiment("milivid", PYRAMID, VideoConfig())
    assert_says(error.value, "milivid", "unknown", "use one of millivid, full_resolution, framepack")


def test_settings_that_are_no_framepack_model():
    with pytest.raises(ValueError) as error:
        FramePackModel(VideoConfig(4, 3, TRANSFORMER, framepack_context=(1, 2), framepack_denoised=1))
    assert_says(error.value, "(1, 2)", "3 levels", "one number")


@pytest.mark.parametrize("share", [0, .5])
def test_a_truncated_checkpoint(tmp_path, share):
    config = TokenizerConfig(PYRAMID, 4, TRANSFORMER, TRANSFORMER)
    settings = (config, TrainingConfig(1, 2, autocast=False), tmp_path, WorldConfig(image_size=16))
    train_tokenizer(*settings, progress=False)
    checkpoint = tmp_path / "checkpoint.pt"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:int(share * len(whole))])
    with pytest.raises(ValueError) as error:
        train_tokenizer(*settings, progress=False)
    assert_says(error.value, checkpoint, "truncated", "delete")


def test_a_checkpoint_of_another_model(tmp_path):
    training, world = TrainingConfig(1, 2, autocast=False), WorldConfig(image_size=16)
    train_tokenizer(TokenizerConfig(PYRAMID, 4, TRANSFORMER, TRANSFORMER), training, tmp_path, world, progress=False)
    with pytest.raises(ValueError) as error:
        train_tokenizer(TokenizerConfig(PYRAMID, 5, TRANSFORMER, TRANSFORMER), training, tmp_path, world, progress=False)
    assert_says(error.value, tmp_path / "checkpoint.pt", "another model", "another folder", "delete")


# ---- devices ---------------------------------------------------------------------------------------------------------

def test_a_gpu_that_is_not_there():
    with pytest.raises(ValueError) as error:
        choose_device(NO_GPU)
    assert_says(error.value, NO_GPU, f"{torch.cuda.device_count()} GPUs", "use 'cpu'", "install")
    with pytest.raises(ValueError) as error:
        load_tokenizer(device=NO_GPU)
    assert_says(error.value, NO_GPU, "use 'cpu'")


def test_a_device_that_does_not_exist():
    with pytest.raises(ValueError) as error:
        choose_device("abacus")
    assert_says(error.value, "abacus", "unknown", "use", "cpu")


@pytest.mark.parametrize("name", ["meta", "xpu", "mps"])
def test_a_device_that_is_of_no_use(name):
    if name == "mps" and torch.backends.mps.is_available():
        pytest.skip("a Mac")
    with pytest.raises(ValueError) as error:
        choose_device(name)
    assert_says(error.value, name, "here", "use", "cpu")


# ---- on the command line ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("command", [("demo",), ("train", "tokenizer"), ("train", "video"), ("tokenize", FREEDOOM_VIDEO)])
def test_cli_without_the_gpu_it_was_asked_for(command, tmp_path, capsys):
    message = cli_message(capsys, *command, "--device", NO_GPU, "--out", tmp_path / "out")
    assert_says(message, "millivid", NO_GPU, "use 'cpu'")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option, value, expected", [("--sampling-steps", 1, "at least 2"), ("--frames", 1, "at least"),
                                                     ("--episodes", 1, "at least"), ("--frames", -5, "at least")])
def test_cli_demo_of_too_little(option, value, expected, tmp_path, capsys):
    message = cli_message(capsys, "demo", option, value, "--out", tmp_path / "out")
    assert_says(message, option.strip("-").replace("-", " ").split()[0], value, expected)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [("train", "video"), ("tokenize", FREEDOOM_VIDEO)])
def test_cli_with_a_tokenizer_that_is_not_there(command, tmp_path, capsys):
    message = cli_message(capsys, *command, "--tokenizer", "mini-nonsense", "--out", tmp_path / "out")
    assert_says(message, "mini-nonsense", "the package has", "mini-tokenizer")
    assert not (tmp_path / "out").exists()


def test_cli_with_a_video_that_is_not_there(tmp_path, capsys):
    message = cli_message(capsys, "tokenize", tmp_path / "nowhere.mp4", "--out", tmp_path / "out")
    assert_says(message, tmp_path / "nowhere.mp4", "no video", "mp4")
    assert not (tmp_path / "out").exists()


def test_cli_with_a_file_that_is_no_video(not_a_video, tmp_path, capsys):
    message = cli_message(capsys, "tokenize", not_a_video, "--out", tmp_path / "out")
    assert_says(message, not_a_video, "cannot be read as a video", "give", "mp4")
    assert not (tmp_path / "out").exists()


def test_cli_with_a_truncated_tokenizer(tmp_path, capsys):
    shutil.copytree(PACKAGED / "mini-tokenizer", tmp_path / "broken")
    weights = tmp_path / "broken" / "model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:100_000])
    message = cli_message(capsys, "tokenize", FREEDOOM_VIDEO, "--tokenizer", tmp_path / "broken", "--out", tmp_path / "out")
    assert_says(message, tmp_path / "broken", "truncated", "again")
    assert not (tmp_path / "out").exists()


def test_cli_message_is_one_line_where_the_reason_is_many(saved, tmp_path, capsys):
    text = (saved / "config.json").read_text()
    (saved / "config.json").write_text(text.replace('"latent_channels": 4', '"latent_channels": 5'))
    message = cli_message(capsys, "tokenize", FREEDOOM_VIDEO, "--tokenizer", saved, "--out", tmp_path / "out")
    assert_says(message, saved, "do not fit", "config.json")


@pytest.mark.parametrize("arguments, parts", [
    (("train", "video", "--model", "milivid", "--out", "unused"), ("milivid", "millivid", "framepack", "full_resolution")),
    (("train", "video"), ("--out", "required")),
    (("train", "nonsense", "--out", "unused"), ("nonsense", "tokenizer", "video")),
    (("demo", "--frames", "many"), ("--frames", "many")),
    (("nonsense",), ("nonsense", "demo", "train", "tokenize")),
    ((), ("command", "required"))])
def test_cli_with_wrong_words(arguments, parts, capsys):
    assert_says(cli_message(capsys, *arguments), *parts)


@pytest.mark.parametrize("command, option, value", [
    (("train", "video"), "--steps", 0), (("train", "tokenizer"), "--steps", -1), (("train", "video"), "--batch-size", 0),
    (("train", "video"), "--learning-rate", -1), (("train", "video"), "--rooms", 0), (("train", "video"), "--threads", 0),
    (("tokenize", FREEDOOM_VIDEO), "--max-frames", 0)])
def test_cli_with_numbers_of_no_use(command, option, value, tmp_path, capsys, monkeypatch):
    for name in ("train_tokenizer", "train_video", "RoomWalks"):  # do not train for hours where the mistake passes
        monkeypatch.setattr(f"millivid.cli.{name}", lambda *_, **__: pytest.fail("the command began to work"))
    message = cli_message(capsys, *command, option, value, "--out", tmp_path / "out")
    assert_says(message.replace("_", "-"), option.strip("-"), value)
    assert not (tmp_path / "out").exists()


def test_cli_ends_like_any_other_program(tmp_path):
    "The same in a process of its own: no traceback, exit status 2."
    done = run_millivid("train", "video", "--tokenizer", "mini-nonsense", "--out", tmp_path / "out")
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert_says(done.stderr, "millivid", "mini-nonsense", "the package has")
    assert files_below(tmp_path) == []


# ---- on the command line: asked before the work, not after it ----------------------------------------------------------

def no_work(monkeypatch, error=None):
    "Whatever takes long fails the test at once, or raises an error."
    def begun(*_, **__):
        raise error or AssertionError("the command began to work")
    for name in ("train_tokenizer", "RoomWalks", "make_test_episodes", "encode_frames", "record_doom", "record_episodes", "reproduce"):
        monkeypatch.setattr(f"millivid.cli.{name}", begun)


@pytest.mark.parametrize("command, option", [
    (("demo",), "--out"), (("tokenize", FREEDOOM_VIDEO), "--out"), (("train", "tokenizer"), "--out"), (("train", "video"), "--out"),
    (("record", "--episodes", 2), "--out"), (("reproduce", "--quick"), "--out"), (("reproduce", "--quick"), "--results")])
@pytest.mark.parametrize("name", ["file", "file/below"])
def test_cli_with_a_file_where_a_folder_is_needed(command, option, name, tmp_path, capsys, monkeypatch):
    no_work(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    assert_says(cli_message(capsys, *command, option, tmp_path / name), option, tmp_path / name, "folder", "give another")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("command, option", [(("record",), "--out"), (("train", "video", "--out", "new"), "--cache")])
def test_cli_with_a_folder_where_a_file_is_needed(command, option, tmp_path, capsys, monkeypatch):
    no_work(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "walk.mp4").mkdir()
    assert_says(cli_message(capsys, *command, option, tmp_path / "walk.mp4"), option, tmp_path / "walk.mp4", "is a folder", "name of a file")
    assert [path.name for path in tmp_path.iterdir()] == ["walk.mp4"]


def test_cli_with_a_tokenizer_for_another_model(tokenizer, tmp_path, capsys, monkeypatch):
    no_work(monkeypatch)
    save_model(tokenizer, tmp_path / "tokenizer")
    message = cli_message(capsys, "train", "video", "--tokenizer", tmp_path / "tokenizer", "--out", tmp_path / "out")
    assert_says(message, tmp_path / "tokenizer", "4 latent channels", "needs 16", "(16, 16)", "(64, 64)", "give mini-tokenizer")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments, parts", [
    (("demo", "--seed", -1), ("--seed", -1, "at least 0")), (("demo", "--seed", 10 ** 20), ("--seed", 10 ** 20, "at most")),
    (("train", "video", "--out", "x", "--learning-rate", "abc"), ("--learning-rate", "'abc' is no number, such as")),
    (("train", "video", "--out", "x", "--learning-rate", "inf"), ("--learning-rate", "inf", "above 0", "finite")),
    (("train", "video", "--out", "x", "--steps", "1e3"), ("--steps", "'1e3' is no whole number", "such as")),
    (("record", "--episodes", 2, "--crf", 99), ("--crf 99", "single film", "leave it out"))])
def test_cli_with_numbers_that_are_none_or_misplaced(arguments, parts, tmp_path, capsys, monkeypatch):
    no_work(monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert_says(cli_message(capsys, *arguments), *parts)
    assert files_below(tmp_path) == []


def test_cli_with_a_drawing_that_is_no_text(tmp_path, capsys):
    (tmp_path / "own.txt").write_bytes("Ä".encode("latin-1"))
    message = cli_message(capsys, "reproduce", "--own", tmp_path / "own.txt", "--out", tmp_path / "out")
    assert_says(message, tmp_path / "own.txt", "UTF-8", "give a text file")


@pytest.mark.parametrize("error, parts", [
    (MemoryError(), ("out of memory", "--batch-size")), (torch.OutOfMemoryError("CUDA out of memory"), ("out of memory", "--batch-size", "device")),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory"), ("out of memory", "--batch-size")),
    (PermissionError(13, "Permission denied", "/some/path"), ("/some/path", "permission denied", "give another")),
    (OSError(28, "No space left on device"), ("no space left", "give another"))])
def test_cli_gives_advice_where_the_system_gives_none(error, parts, tmp_path, capsys, monkeypatch):
    no_work(monkeypatch, error)
    message = cli_message(capsys, "train", "tokenizer", "--out", tmp_path / "out")
    assert_says(message, *parts)
    assert "Errno" not in message


def test_cli_raises_what_is_a_mistake_of_ours(tmp_path, monkeypatch):
    no_work(monkeypatch, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        main(["train", "tokenizer", "--out", str(tmp_path)])


@pytest.mark.parametrize("command, text", [
    (("demo",), "start over"), (("tokenize", FREEDOOM_VIDEO), "start over"), (("record",), "start over"), (("record", "--episodes", 2), "go on"),
    (("train", "tokenizer"), "go on"), (("reproduce", "--quick"), "go on")])
def test_cli_says_what_the_same_command_will_do_after_an_interruption(command, text, tmp_path, capsys, monkeypatch):
    no_work(monkeypatch, KeyboardInterrupt())
    monkeypatch.chdir(tmp_path)
    assert main([*map(str, command), "--out", "walk.mp4" if command == ("record",) else "out"]) == 130
    assert_says(capsys.readouterr().err, "interrupted", text)


@pytest.mark.parametrize("frames, rate, crf", [(0, 12, 16), (2, 0, 16), (2, 12, 52)])
def test_films_that_cannot_be_written(tmp_path, frames, rate, crf):
    film = np.zeros((frames, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="at least one frame, a rate above 0, and a crf"):
        write_video(tmp_path / "a.mp4", film, rate, crf)
    if crf <= 51:
        with pytest.raises(ValueError, match="at least one frame and a rate above 0"):
            write_gif(tmp_path / "a.gif", film, rate)
    assert not list(tmp_path.iterdir())


def test_actions_are_written_from_arrays_as_from_tensors(tmp_path):
    actions = np.arange(12, dtype=np.float32).reshape(2, 6)
    write_actions(tmp_path / "a.npy", actions)
    assert np.array_equal(read_actions(tmp_path / "a.npy").numpy(), actions)
