"""Mistakes that users make: a clear message, exit status 2, and nothing half-written.

A message names the value that was given, what was expected, and what to do about it.
"""

import shutil

import av
import numpy as np
import pytest
import torch
from tiny import PYRAMID, TRANSFORMER, assert_says, files_below, random_video, run_millivid

from millivid.cli import main
from millivid.data import FREEDOOM_VIDEO, encode_frames, frame_actions, read_video, write_video
from millivid.diffusion import ddim_sample
from millivid.hub import PACKAGED, choose_device, load_generator, load_tokenizer, save_model
from millivid.layers import TransformerConfig
from millivid.pyramid import PyramidConfig, patchify, pyramid_patches
from millivid.rollout import gather_tokens, generate, generate_framepack, step_indices
from millivid.schedule import full_resolution_schedule, millivid_schedule
from millivid.tokenizer import TokenizerConfig
from millivid.training import Experiment, TrainingConfig, train_tokenizer
from millivid.video import FramePackModel, VideoConfig
from millivid.world import WorldConfig, make_episode, make_room, make_test_episode, walk

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


def test_too_few_frames_for_a_test_episode():
    with pytest.raises(ValueError) as error:
        make_test_episode(0, num_frames=64, context_frames=64)
    assert_says(error.value, 64, "context")


# ---- actions ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("wrong", [3, -1])
def test_an_action_out_of_range(wrong, video_model, schedule):
    for use in (lambda actions: walk(make_room(0), (1, 1, 0), actions), frame_actions):
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


@pytest.mark.parametrize("load", [load_tokenizer, load_generator])
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


def test_a_tokenizer_is_no_generator(saved):
    with pytest.raises(FileNotFoundError) as error:
        load_generator(saved)
    assert_says(error.value, saved, "experiment.json", "save_model")


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"method": "nonsense"}'])
def test_an_experiment_that_cannot_be_read(saved, text):
    (saved / "experiment.json").write_text(text)
    with pytest.raises(ValueError) as error:
        load_generator(saved)
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
