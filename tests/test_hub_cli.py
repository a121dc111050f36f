"Saving, loading and the commands: what a user finds afterwards."

import dataclasses
import errno
import importlib.metadata
import json
import math
import os
import re
import shutil
import tempfile

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import PYRAMID, TRANSFORMER, assert_says, files_below, random_video, randomised, run_millivid

import millivid.cli
from millivid.actions import FORWARD, TURN_LEFT, TURN_RIGHT, action_rows
from millivid.basics import UserError, choose_device
from millivid.cli import COMMANDS, TRAINING_TEXTS, main, make_options
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


NEEDED = {"train": ("tokenizer", "--out", "out"), "tokenize": (FREEDOOM_VIDEO,), "encode": ("data",),  # what they need
          "prepare": (FREEDOOM_VIDEO.parent, "--out", "out"), "generate": ("--context", FREEDOOM_VIDEO),
          "evaluate": ("--model", "mini-millivid", "--data", "data", "--out", "out")}
OPTIONS = {name: [each for cases in command.groups for each in dataclasses.fields(next(iter(cases.values())))
                  if each.metadata.get("text") or each.name in TRAINING_TEXTS] for name, command in COMMANDS.items()}


def flag(option):
    "How an option is given."
    return option.name if option.metadata.get("positional") else "--" + option.name.replace("_", "-")


def no_work(monkeypatch, error=None):
    "Whatever takes long fails the test at once, or raises an error."
    def begun(*_, **__):
        raise error or AssertionError("the command began to work")
    for name in ("train_tokenizer", "RoomWalks", "make_test_episodes", "encode_frames", "record_doom",
                 "record_episodes", "reproduce", "measure_full_size", "download_release"):
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


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), None])
def test_too_little_memory_is_one_line(error, tmp_path, capsys, monkeypatch):
    no_work(monkeypatch, error)
    if error is None:  # PyTorch's own, of a CPU
        monkeypatch.setattr("millivid.cli.train_tokenizer", lambda *_, **__: torch.empty(10 ** 15))
    assert_says(message_of(capsys, "train", "tokenizer", "--out", tmp_path / "out"), "out of memory", "--device")


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied", "/some/path"),
                                   UserError("/some/path has\nsome lines of mistakes:\n\n1. permission denied")])
def test_what_the_system_or_a_library_says_is_one_line(error, tmp_path, capsys, monkeypatch):
    no_work(monkeypatch, error)
    assert_says(message_of(capsys, "train", "tokenizer", "--out", tmp_path / "out"), "/some/path", "permission denied")


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


@pytest.mark.parametrize("name", ["train", "prepare", "generate", "reproduce"])
@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_to(name, number, tmp_path, capsys, monkeypatch):
    "Said before the work begins; `encode` writes beside the recordings, and says it at the first one."
    def file(*_, **__):
        raise OSError(number, os.strerror(number))
    no_work(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "TemporaryFile", file)
    options = [part for part in NEEDED.get(name, ()) if part not in ("--out", "out")]
    message = message_of(capsys, name, *options, "--out", "out")
    assert_says(message, "--out: out", os.strerror(number), "give another one")
    assert not any(tmp_path.iterdir())


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
    assert_says(message, tmp_path / "tokenizer", "images of other sizes than (64, 64)", "give mini-tokenizer")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments, parts", [
    (("demo", "--episodes", 1), ("--episodes is 1", "at least 2")),
    (("demo", "--frames", 2), ("--frames is 2", "at least 3")),
    (("train", "tokenizer", "--out", "x", "--steps", 0), ("--steps is 0", "at least 1")),
    (("train", "tokenizer", "--out", "x", "--batch-size", 0), ("--batch-size is 0", "at least 1")),
    (("train", "tokenizer", "--out", "x", "--patch", 7), ("--patch 7", "--levels 3", "28", "64 x 64", "--size")),
    (("demo", "--sampling-steps", 1), ("--sampling-steps is 1", "at least 2")),
    (("demo", "--frames", "many"), ("--frames", "'many'")),
    *[(("train", "video", "--out", "x", "--learning-rate", value), ("learning", value, remedy))
      for value, remedy in (("abc", "--help"), ("inf", "above 0"), ("nan", "above 0"), ("-1", "above 0"))],
    (("train", "video", "--out", "x", "--steps", "1e3"), ("--steps", "'1e3'")),
    ((), ("command", "--help")), (("nonsense",), ("'nonsense'", *COMMANDS)), (("train", "video"), ("--out",)),
    (("train", "sea", "--out", "x"), ("'sea'", "tokenizer", "video")), (("tokenize",), ("video", "--help")),
    (("train", "video", "--out", "x", "--model", "milivid"), ("'milivid'", "full_resolution")),
    (("demo", "--epsodes", 3), ("--epsodes", "--help")), (("reproduce", "--world", "sea"), ("'sea'", "doom")),
    (("reproduce", "--metrics", "beauty"), ("'beauty'", "psnr", "fid")),
    (("reproduce", "--levels", 5), ("5", "3", "4")), (("reproduce", "--rows", "sea"), ("'sea'", "main", "framepack")),
    (("reproduce", "--own", "none.txt"), ("--own none.txt", "give a drawing")),
    (("measure", "--model", "framepack"), ("'framepack'", "millivid")),
    (("tokenize", "none.mp4"), ("none.mp4", "give the path")), (("tokenize", __file__), (__file__, "give a video")),
    (("tokenize", FREEDOOM_VIDEO, "--tokenizer", "mini-nonsense"), ("mini-nonsense", "mini-tokenizer")),
    (("record", "--out", "walk.txt"), ("walk.txt", "walk.mp4")), (("record", "--size", 63), ("63", "even")),
    (("record", "--crf", 52), ("--crf 52", "51")), (("record", "--context", 8), ("--context 8", "--episodes")),
    (("record", "--level", "MAP01", "MAP04"), ("MAP01 MAP04", "one level")),
    (("record", "--episodes", 2, "--out", "walk.mp4"), ("walk.mp4", "folder")),
    (("record", "--episodes", 2, "--crf", 99), ("--crf 99", "without loss")),
    (("demo", "--release", "--episodes", 2), ("--episodes 2", "three")),
    (("demo", "--baselines"), ("--baselines", "--release")),
    (("train", "video", "--out", "x", "--patch", 16), ("--patch 16", "`train tokenizer`", "leave it out")),
    (("train", "video", "--out", "x", "--data", "y", "--rooms", 9), ("--rooms 9", "painted rooms", "--data")),
    (("train", "tokenizer", "--out", "x", "--windows", 2, 8), ("--windows 2 8", "`train video`", "leave it out")),
    (("train", "tokenizer", "--out", "x", "--shift", 2), ("--shift 2", "`train video`"))])
def test_options_that_cannot_be(arguments, parts, tmp_path, capsys, monkeypatch):
    no_work(monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert_says(message_of(capsys, *arguments), *parts)
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("value", [-1, 10 ** 20])
def test_whole_numbers_that_are_too_small_or_too_large(value, name, tmp_path, capsys, monkeypatch):
    no_work(monkeypatch)
    monkeypatch.chdir(tmp_path)
    for each in OPTIONS[name]:
        if each.metadata.get("kind", type(each.default)) is int:
            message = message_of(capsys, name, *NEEDED.get(name, ()), flag(each), value)
            assert_says(message.replace("-", "_"), each.name, str(value).replace("-", "_"))
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
@pytest.mark.parametrize("name", [name for name in COMMANDS if "device" in [each.name for each in OPTIONS[name]]])
def test_devices_that_are_not_there(name, device, tmp_path, capsys, monkeypatch):
    no_work(monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert_says(message_of(capsys, name, *NEEDED.get(name, ()), "--device", device), repr(device), "use", "'cpu'")
    assert files_below(tmp_path) == []


def test_the_demo_of_the_release_without_a_network(tmp_path, capsys, monkeypatch):
    for name, value in {"HF_HUB_OFFLINE": True, "HF_HUB_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    message = message_of(capsys, "demo", "--release", "--out", tmp_path / "out")
    assert_says(message, "autoencoder", "MB", "GB in all", tmp_path / "cache", "network", "same command again")
    assert not (tmp_path / "out").exists()


def test_a_drawing_that_is_no_text(tmp_path, capsys):
    (tmp_path / "own.txt").write_bytes("Ä".encode("latin-1"))
    message = message_of(capsys, "reproduce", "--own", tmp_path / "own.txt", "--out", tmp_path / "out")
    assert_says(message, tmp_path / "own.txt", "UTF-8", "give a drawing")


@pytest.mark.parametrize("command, text", [
    (("demo",), "start over"), (("tokenize", FREEDOOM_VIDEO), "start over"), (("record",), "start over"),
    (("record", "--episodes", 2), "go on"), (("train", "tokenizer"), "go on"), (("reproduce", "--quick"), "go on")])
def test_what_the_same_command_will_do_after_an_interruption(command, text, tmp_path, capsys, monkeypatch):
    no_work(monkeypatch, KeyboardInterrupt())
    monkeypatch.chdir(tmp_path)
    assert main([*map(str, command), "--out", "walk.mp4" if command == ("record",) else "out"]) == 130
    assert_says(capsys.readouterr().err, "interrupted", text)


# ---- commands --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_every_option_with_its_defaults(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")  # no text is broken into lines
    with pytest.raises(SystemExit) as exit:
        main([name, "--help"])
    _, *parts = re.split(r"\n  (?=\S)", capsys.readouterr().out)
    shown = {part.split()[0].rstrip(","): " ".join(part.split()) for part in parts}
    flags = {each: "{tokenizer,video}" if each.name == "what" else flag(each) for each in OPTIONS[name]}
    assert exit.value.code == 0 and shown.keys() == {"-h", "--debug", *flags.values()}
    for each in OPTIONS[name]:
        text, about = shown[flags[each]], each.metadata
        said, _, defaults = text.partition(" (default: ")
        assert about.get("text", TRAINING_TEXTS.get(each.name)).partition(" (")[0] in text
        values = {case: getattr(options, each.name) for cases in COMMANDS[name].groups
                  for case, options in cases.items() if hasattr(options, each.name)}
        if about.get("positional") or about.get("required"):
            assert not defaults  # it has to be given
            continue
        stated = {" ".join(map(str, value)) if isinstance(value, tuple) else str(value) for value in values.values()
                  if value is not None and value is not False}
        assert all(value in defaults for value in stated), (text, stated)
        assert stated or not defaults or "default" in about["text"]
        if len(stated) > 1:  # which value holds where
            assert all(f"{case}: " in defaults for case in values if case)


def test_what_is_given_replaces_the_defaults_of_its_case():
    made = [make_options(COMMANDS["reproduce"], given) for given in ({}, {"quick": True, "steps": 7})]
    assert made[0][1] == Settings() and made[1][1] == dataclasses.replace(QUICK, steps=7)
    assert make_options(COMMANDS["train"], {"what": "tokenizer", "out": "x"})[1] == MINI_TOKENIZER_TRAINING


def test_the_program_is_installed():
    scripts = importlib.metadata.entry_points(group="console_scripts", name="millivid")
    assert [script.load() for script in scripts] == [main]


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["--help"])
    assert exit.value.code == 0
    assert_says(" ".join(capsys.readouterr().out.split()), *COMMANDS, *(each.text for each in COMMANDS.values()))


def test_demo_leaves_all_its_files(tmp_path, capsys):
    out = tmp_path / "demo"
    assert not main(["demo", "--episodes", "2", "--frames", "4", "--sampling-steps", "2", "--out", str(out)])
    assert files_below(tmp_path) == [f"demo/{name}" for name in ("comparison.gif", "comparison.mp4", "filmstrip.png",
                                                                  "filmstrip_1.png", "results.json")]
    result = read_json(out / "results.json")
    assert (result["episodes"], result["generated_frames"], result["sampling_steps"]) == (2, 4, 2)
    assert {"millivid", "framepack", "full_resolution", "autoencoded"} <= set(result["psnr"])
    assert all(math.isfinite(number) and 0 < number < 60 for number in numbers_in(result["psnr"]))
    assert set(result["tokens_per_step"].values()) == {144, 160}  # upscaling, and all others
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
