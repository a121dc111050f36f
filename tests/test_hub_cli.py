"Saving, loading and the commands: what a user finds afterwards."

import dataclasses
import importlib.metadata
import json
import math
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import PYRAMID, TRANSFORMER, assert_says, files_below, random_video, randomised, run_millivid

import millivid.cli
from millivid.actions import FORWARD, TURN_LEFT, TURN_RIGHT, action_rows
from millivid.basics import UserError, choose_device
from millivid.cli import COMMANDS, main, make_options, make_parser
from millivid.data import FREEDOOM_VIDEO, read_video, write_video
from millivid.experiments.reproduce import QUICK, Settings
from millivid.pipeline import Experiment, Pipeline, load_tokenizer, save_tokenizer
from millivid.release import write_actions, write_frames
from millivid.training import MINI_TOKENIZER_TRAINING
from millivid.video import VideoConfig
from millivid.worlds.rooms import make_test_episode

EXPERIMENTS = {
    "millivid": Experiment("millivid", PYRAMID, VideoConfig(4, 3, TRANSFORMER, odometry=True), (1, 2, 4), 16),
    "full_resolution": Experiment("full_resolution", PYRAMID, VideoConfig(4, 3, TRANSFORMER), num_frames=4),
    "framepack": Experiment("framepack", PYRAMID,
                            VideoConfig(4, 3, TRANSFORMER, framepack_context=(1, 1, 2), framepack_denoised=2)),
}


def read_json(path):
    "Strict JSON: no NaN, no infinity."
    return json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in {path.name}"))


def numbers_in(value):
    "All numbers in nested lists and dictionaries."
    if isinstance(value, (dict, list)):
        parts = value.values() if isinstance(value, dict) else value
        return [number for each in parts for number in numbers_in(each)]
    return [value] if isinstance(value, (int, float)) else []


# ---- saving and loading ----------------------------------------------------------------------------------------------

def test_a_saved_tokenizer_comes_back(tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path / "mine", card="# My tokenizer")
    assert files_below(tmp_path) == ["mine/README.md", "mine/config.json", "mine/model.safetensors"]
    assert (tmp_path / "mine" / "README.md").read_text() == "# My tokenizer"
    again = load_tokenizer(tmp_path / "mine")
    assert again.config == tokenizer.config and not again.training
    for (name, value), saved in zip(again.state_dict().items(), tokenizer.state_dict().values(), strict=True):
        assert value.dtype == torch.float32 and torch.equal(value, saved.half().float()), name  # stored in float16
    assert next(tokenizer.parameters()).dtype == torch.float32  # saving leaves the model as it is


@pytest.mark.parametrize("method", EXPERIMENTS)
def test_a_saved_generator_comes_back_and_generates(method, tmp_path):
    experiment = EXPERIMENTS[method]
    model = randomised(experiment.make_model())
    Pipeline(model, experiment).save_pretrained(tmp_path)
    generator = Pipeline.from_pretrained(tmp_path)
    assert generator.experiment == experiment and type(generator.model) is type(model)
    latents, actions = random_video(2, 28)
    one, two, other = (generator.generate(latents, actions, 24, 28, 3, seeds, progress=False)
                       for seeds in ([1, 2], [1, 2], [3, 4]))
    kept = PYRAMID.level_slice(0) if method == "framepack" else slice(None)
    assert torch.equal(one[:, :24], latents[:, :24, kept])
    assert one.shape[1] == 28 and one.isfinite().all()
    assert torch.equal(one, two) and not torch.equal(one, other)


@pytest.mark.parametrize("method", EXPERIMENTS)
def test_new_models_are_repeatable_from_their_seed(method):
    one, two, other = (EXPERIMENTS[method].make_model(seed).state_dict() for seed in (0, 0, 1))
    assert all(map(torch.equal, one.values(), two.values()))
    assert not all(map(torch.equal, one.values(), other.values()))


def test_devices():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


# ---- mistakes --------------------------------------------------------------------------------------------------------

def message_of(capsys, *arguments):
    "Run a command that must fail. Returns its message: one line on stderr, exit status 2, nothing on stdout."
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as exit:  # how argparse ends
        status = exit.code
    out, err = capsys.readouterr()
    assert status == 2 and out == "", (out, err)
    assert len(err.strip().splitlines()) == 1 and "Traceback" not in err, err
    return err


def no_work(monkeypatch, error=None):
    "Whatever takes long fails the test at once, or raises an error."
    def begun(*_, **__):
        raise error or AssertionError("the command began to work")
    for name in ("train_tokenizer", "RoomWalks", "make_test_episodes", "encode_frames", "record_doom",
                 "record_episodes", "reproduce"):
        monkeypatch.setattr(f"millivid.cli.{name}", begun)


def test_a_mistake_ends_like_that_of_any_other_program(tmp_path):
    done = run_millivid("train", "video", "--tokenizer", "mini-nonsense", "--out", tmp_path / "out")
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert_says(done.stderr, "millivid", "mini-nonsense", "the package has")
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("bug", [ValueError("shapes differ"), OSError("a bug"), RuntimeError("a bug")])
def test_a_bug_keeps_its_traceback(bug, tmp_path, monkeypatch):
    "ValueError, OSError and FloatingPointError from anywhere were printed as one line, as if the user had erred."
    no_work(monkeypatch, bug)
    with pytest.raises(type(bug), match=str(bug)):
        main(["train", "tokenizer", "--out", str(tmp_path)])


def test_debug_shows_the_traceback_of_a_mistake(tmp_path):
    with pytest.raises(UserError):
        main(["train", "video", "--tokenizer", "mini-nonsense", "--out", str(tmp_path), "--debug"])


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_too_little_memory_is_one_line(error, tmp_path, capsys, monkeypatch):
    no_work(monkeypatch, error)
    assert_says(message_of(capsys, "train", "tokenizer", "--out", tmp_path / "out"), "out of memory", "--device")


@pytest.mark.parametrize("command, option", [
    (("demo",), "--out"), (("tokenize", FREEDOOM_VIDEO), "--out"), (("train", "tokenizer"), "--out"),
    (("record", "--episodes", 2), "--out"), (("reproduce", "--quick"), "--out"),
    (("reproduce", "--quick"), "--results")])
@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_where_a_folder_is_needed(command, option, name, tmp_path, capsys, monkeypatch):
    no_work(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    assert_says(message_of(capsys, *command, option, tmp_path / name), option, tmp_path / name, "give another")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("command, option", [(("record",), "--out"), (("train", "video", "--out", "new"), "--cache")])
def test_a_folder_where_a_file_is_needed(command, option, tmp_path, capsys, monkeypatch):
    no_work(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "walk.mp4").mkdir()
    message = message_of(capsys, *command, option, tmp_path / "walk.mp4")
    assert_says(message, option, tmp_path / "walk.mp4", "is a folder")
    assert [path.name for path in tmp_path.iterdir()] == ["walk.mp4"]


def test_a_tokenizer_for_another_model(tokenizer, tmp_path, capsys, monkeypatch):
    no_work(monkeypatch)
    save_tokenizer(tokenizer, tmp_path / "tokenizer")
    message = message_of(capsys, "train", "video", "--tokenizer", tmp_path / "tokenizer", "--out", tmp_path / "out")
    assert_says(message, tmp_path / "tokenizer", "other tokens than --model millivid needs", "give mini-tokenizer")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments, parts", [
    (("demo", "--seed", -1), ("seed is -1", "at least 0")), (("demo", "--episodes", 1), ("episodes", "at least 2")),
    (("train", "video", "--out", "x", "--learning-rate", "abc"), ("--learning-rate", "'abc'")),
    (("train", "video", "--out", "x", "--steps", "1e3"), ("--steps", "'1e3'")),
    (("demo", "--epsodes", 3), ("--epsodes", "--help")), (("reproduce", "--world", "sea"), ("'sea'", "doom")),
    (("record", "--episodes", 2, "--crf", 99), ("--crf 99", "without loss")),
    (("demo", "--baselines"), ("--baselines", "--release"))])
def test_options_that_cannot_be(arguments, parts, tmp_path, capsys, monkeypatch):
    no_work(monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert_says(message_of(capsys, *arguments), *parts)
    assert files_below(tmp_path) == []


def test_a_drawing_that_is_no_text(tmp_path, capsys):
    (tmp_path / "own.txt").write_bytes("Ä".encode("latin-1"))
    message = message_of(capsys, "reproduce", "--own", tmp_path / "own.txt", "--out", tmp_path / "out")
    assert_says(message, tmp_path / "own.txt", "UTF-8", "give a drawing")


@pytest.mark.parametrize("command, text", [
    (("demo",), "start over"), (("record",), "start over"), (("record", "--episodes", 2), "go on"),
    (("train", "tokenizer"), "go on"), (("reproduce", "--quick"), "go on")])
def test_what_the_same_command_will_do_after_an_interruption(command, text, tmp_path, capsys, monkeypatch):
    no_work(monkeypatch, KeyboardInterrupt())
    monkeypatch.chdir(tmp_path)
    assert main([*map(str, command), "--out", "walk.mp4" if command == ("record",) else "out"]) == 130
    assert_says(capsys.readouterr().err, "interrupted", text)


# ---- commands --------------------------------------------------------------------------------------------------------

def test_every_default_is_stated_once_and_shown():
    for name, command in COMMANDS.items():
        shown = " ".join(make_parser()._subparsers._group_actions[0].choices[name].format_help().split())
        for cases in command.groups:
            for options in cases.values():
                if isinstance(options, Settings):
                    for each in dataclasses.fields(options):
                        value = getattr(options, each.name)
                        assert (" ".join(value) if isinstance(value, tuple) else str(value)) in shown, (name, each.name)


def test_what_is_given_replaces_the_defaults_of_its_case():
    made = [make_options(COMMANDS["reproduce"], given) for given in ({}, {"quick": True, "steps": 7})]
    assert made[0][1] == Settings() and made[1][1] == dataclasses.replace(QUICK, steps=7)
    assert make_options(COMMANDS["train"], {"what": "tokenizer", "out": "x"})[1] == MINI_TOKENIZER_TRAINING

def test_the_program_is_installed():
    scripts = importlib.metadata.entry_points(group="console_scripts", name="millivid")
    assert [script.load() for script in scripts] == [main]


@pytest.mark.parametrize("command", [[], ["demo"], ["train"], ["tokenize"], ["record"]])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as exit:
        main([*command, "--help"])
    assert exit.value.code == 0
    assert_says(capsys.readouterr().out, "usage: millivid", *(["--out"] if command else ["demo", "train", "tokenize"]))


def test_demo_leaves_all_its_files(tmp_path, capsys):
    out = tmp_path / "demo"
    assert not main(["demo", "--episodes", "2", "--frames", "4", "--sampling-steps", "2", "--out", str(out)])
    assert files_below(tmp_path) == [f"demo/{name}" for name in ("comparison.gif", "comparison.mp4", "filmstrip.png",
                                                                  "filmstrip_1.png", "results.json")]
    result = read_json(out / "results.json")
    assert (result["episodes"], result["generated_frames"], result["sampling_steps"]) == (2, 4, 2)
    assert {"millivid", "framepack", "full_resolution", "autoencoded"} <= set(result["psnr"])
    assert all(math.isfinite(number) and 0 < number < 60 for number in numbers_in(result["psnr"]))
    assert set(result["tokens_per_step"].values()) == {160}
    frames, _ = read_video(out / "comparison.mp4")
    assert len(frames) >= 4 and frames.std() > 10
    for name in ("filmstrip.png", "filmstrip_1.png", "comparison.gif"):
        assert np.asarray(Image.open(out / name).convert("RGB")).std() > 10, name
    shown = capsys.readouterr().out
    assert_says(shown, "MilliVid", "FramePack", "Full resolution", out / "comparison.mp4", out / "results.json")


@pytest.mark.parametrize("kind", ["recorded", "generated", "with:colon"])
def test_tokenize_leaves_all_its_files(kind, tmp_path, capsys, monkeypatch):
    video, count, out = FREEDOOM_VIDEO, 12, tmp_path / "out"
    if kind == "generated":
        video, count = tmp_path / "room.mp4", 10
        write_video(video, make_test_episode(100).frames[:count], crf=4)
    if kind == "with:colon":  # FFmpeg takes what stands before it for a protocol
        video = shutil.copy(FREEDOOM_VIDEO, tmp_path / "with:colon.mp4")
    monkeypatch.chdir(tmp_path)
    video = "with:colon.mp4" if kind == "with:colon" else video
    assert not main(["tokenize", str(video), "--max-frames", "12", "--out", str(out)])
    assert files_below(out) == ["levels.json", "levels.mp4", "levels.png"]
    result = read_json(out / "levels.json")
    assert result["frames"] == count
    assert [row["tokens_per_frame"] for row in result["levels"]] == [16, 4, 1]
    quality = [row["psnr"] for row in result["levels"]]
    assert quality == sorted(quality, reverse=True)  # finer levels are better, also on what it never saw
    assert quality[-1] > 10 and (kind != "generated" or quality[0] > 27)
    frames, _ = read_video(out / "levels.mp4")
    assert len(frames) == count and frames.std() > 10
    assert_says(capsys.readouterr().out, "level", "PSNR", out / "levels.mp4", out / "levels.json")


def test_the_shipped_recording():
    frames, rate = read_video(FREEDOOM_VIDEO)
    actions = np.load(FREEDOOM_VIDEO.with_suffix(".npy"))
    assert frames.shape == (160, 128, 128, 3) and 10 < rate < 14
    assert actions.shape == (160, 6) and {FORWARD} < set(actions[:, 0]) <= {FORWARD, TURN_LEFT, TURN_RIGHT}


def test_train_makes_a_tokenizer_that_loads(tmp_path, capsys):
    command = ["train", "tokenizer", "--batch-size", "2", "--device", "cpu", "--out", str(tmp_path), "--steps"]
    assert not main([*command, "2"])
    assert {"checkpoint.pt", "config.json", "history.json", "model.safetensors"} <= set(files_below(tmp_path))
    assert len(read_json(tmp_path / "history.json")["loss"]) == 2
    assert load_tokenizer(tmp_path).encode(torch.zeros(1, 3, 64, 64)).shape == (1, 21, 16)
    assert not main([*command, "2"])  # nothing is left to do
    assert len(read_json(tmp_path / "history.json")["loss"]) == 2
    assert_says(capsys.readouterr().out, "held out", "psnr_level0", tmp_path)


def test_tokenize_keeps_a_piece_of_the_video_at_a_time(tmp_path, monkeypatch):
    "Three copies of every frame were kept: 5,000 frames took 7.9 GB."
    sizes, draw = [], millivid.cli._draw_levels
    monkeypatch.setattr("millivid.cli._draw_levels", lambda *given: sizes.append(len(given[1])) or draw(*given))
    assert not main(["tokenize", str(FREEDOOM_VIDEO), "--max-frames", "40", "--out", str(tmp_path)])
    assert max(sizes) <= 16 and sum(sizes) == 40 + 6


def test_train_on_recordings(tmp_path, capsys):
    for number in range(3):
        episode = make_test_episode(number, 240, 128)
        write_frames(tmp_path / "data" / f"{number}.frames", episode.frames)
        write_actions(tmp_path / "data" / f"{number}.npy", action_rows(episode.actions))
    index = {str(number): 240 for number in range(3)}
    (tmp_path / "data" / "index.json").write_text(json.dumps(index))
    few = ["--data", str(tmp_path / "data"), "--steps", "2", "--batch-size", "2", "--device", "cpu"]
    assert not main(["train", "tokenizer", *few, "--out", str(tmp_path / "tokenizer")])
    of = ["--tokenizer", str(tmp_path / "tokenizer")]
    assert not main(["train", "video", *few, *of, "--out", str(tmp_path / "video")])
    assert Pipeline.from_pretrained(tmp_path / "video").experiment.method == "millivid"
