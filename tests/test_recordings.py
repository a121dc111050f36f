"""Videos of one's own: found, checked, prepared, and through all five commands to a generated video."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import assert_says, files_below, full_disk

import millivid.release
from millivid.basics import lock_folder
from millivid.cli import main
from millivid.data import FREEDOOM_VIDEO, read_video, write_video
from millivid.pipeline import MINI_MODELS, Pipeline
from millivid.recordings import (
    check_videos,
    clip_frames,
    count_frames,
    describe_actions,
    find_videos,
    own_experiment,
    prepare_videos,
    read_action_file,
    source_frames,
)
from millivid.release import Recordings, read_actions, read_frames
from millivid.tokenizer import MINI_TOKENIZER


def grey(count, size=(48, 64), first=0):
    "Frames of one grey each: which frame is which can be seen after any codec."
    return np.stack([np.full((*size, 3), (first + 8 * number) % 256, dtype=np.uint8) for number in range(count)])


def actions(path, rows, header="action"):
    path.write_text("\n".join([header, *rows]) + "\n")


@pytest.fixture
def videos(tmp_path):
    "An mp4 with actions and poses in a CSV, a GIF with a NumPy file, and a folder of images with actions."
    folder = tmp_path / "videos"
    (folder / "park" / "walk").mkdir(parents=True)
    write_video(folder / "room.mp4", grey(12))
    actions(folder / "room.csv", [f"{n % 3},{n},0.5,{n / 10}" for n in range(12)], "action,x,y,yaw")
    write_video(folder / "park" / "short.gif", grey(9))
    np.save(folder / "park" / "short.npy", np.stack([np.arange(9) % 2, *np.ones((3, 9))], axis=1))
    for number, frame in enumerate(grey(11)):
        Image.fromarray(frame).save(folder / "park" / "walk" / f"{number}.png")  # 10.png sorts before 2.png as text
    actions(folder / "park" / "walk.csv", ["1, 0, 0, 1"] * 11, "Action, x, y, yaw")  # as spreadsheets write
    return folder


def test_videos_are_found_with_their_actions(videos):
    sources = {source.key: source for source in find_videos(videos)}
    assert sources.keys() == {"room", "park/short", "park/walk"}
    assert [sources[key].actions.name for key in sources] == ["short.npy", "walk.csv", "room.csv"]
    assert [count_frames(source) for source in sources.values()] == [9, 11, 12]
    assert check_videos(sources.values(), progress=False) == []
    shades = [frame.mean() for frame in source_frames(sources["park/walk"])]
    assert shades == [8 * number for number in range(11)]


@pytest.mark.parametrize("workers", [1, 2])
def test_prepared_recordings_hold_frames_and_actions(videos, tmp_path, workers):
    index = prepare_videos(find_videos(videos), tmp_path / "data", (16, 32), every=2, workers=workers, progress=False)
    assert index == {"park/short": 5, "park/walk": 6, "room": 6}
    data = Recordings(tmp_path / "data")
    assert data.lengths == index and data.image_shape == (16, 32)
    frames = read_frames(data.path("room", ".frames"))
    assert abs(frames.mean((1, 2, 3)) - 16 * np.arange(6)).max() < 3
    rows = read_actions(data.path("room", ".npy"))
    expected = [[n % 3, n, .5, 0, n / 10, 0] for n in range(0, 12, 2)]
    assert torch.allclose(rows, torch.tensor(expected))
    assert describe_actions(data) == {"num_actions": 3, "odometry": True, "pose_wave": 16}


def test_only_what_is_missing_or_older_is_prepared_again(videos, tmp_path):
    def run(**settings):
        return prepare_videos(find_videos(videos), tmp_path / "data", progress=False, **settings)

    run()
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*.frames")}
    run()
    assert {path: path.stat().st_mtime_ns for path in made} == made
    write_video(videos / "room.mp4", grey(12, first=100))
    run()
    changed = [path.stem for path in made if path.stat().st_mtime_ns != made[path]]
    assert changed == ["room"] and read_frames(tmp_path / "data" / "room.frames", 0, 1).mean() > 90
    with pytest.raises(ValueError, match="every"):
        run(every=2)
    (tmp_path / "data" / "recording.json").unlink()
    with pytest.raises(ValueError, match="other data"):
        run()


@pytest.mark.parametrize("change", [
    lambda folder: (folder / "room.csv").unlink(), lambda folder: os.utime(folder / "room.mp4", (0, 0)),
    lambda folder: Image.fromarray(grey(1, first=250)[0]).save(folder / "park/walk/4.png"),
    lambda folder: (actions(folder / "room.csv", ["2"] * 12), os.utime(folder / "room.csv", (0, 0)))])
def test_what_changed_is_noticed_whatever_its_date(videos, tmp_path, change):
    prepare_videos(find_videos(videos), tmp_path / "data", progress=False)
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*.npy")}
    change(videos)
    prepare_videos(find_videos(videos), tmp_path / "data", progress=False)
    assert sum(path.stat().st_mtime_ns != before for path, before in made.items()) == 1


def test_capitals_in_names_of_files(videos):
    for name in ("room.mp4", "room.csv", "park/short.npy"):
        path = videos / name
        path.rename(path.with_suffix(path.suffix.upper()))
    assert [source.actions.name for source in find_videos(videos)] == ["short.NPY", "walk.csv", "room.CSV"]
    assert check_videos(find_videos(videos), progress=False) == []


def test_recordings_do_not_go_into_the_folder_of_the_videos(videos):
    before = sorted(videos.rglob("*"))
    with pytest.raises(ValueError, match="give another folder"):
        prepare_videos(find_videos(videos), videos, progress=False)
    assert sorted(videos.rglob("*")) == before


def test_a_thumbnail_is_no_video_and_odd_images_are_refused(videos):
    Image.fromarray(grey(1)[0]).save(videos / "cover.png")
    assert len(find_videos(videos)) == 3
    Image.fromarray(np.zeros((48, 64), dtype=np.uint16)).save(videos / "park/walk/0.png")
    assert "more than 8 bits" in check_videos(find_videos(videos), progress=False)[0]


def test_a_data_set_as_the_hub_lays_it_out(videos, tmp_path):
    "A folder of mp4 with metadata.csv: what it does not name is not taken."
    (videos / "metadata.csv").write_text("file_name,text,actions\nroom.mp4,a walk,\npark/short.gif,another,room.csv\n")
    one, two = find_videos(videos)
    assert (one.key, one.actions.name, two.key, two.actions.name) == ("room", "room.csv", "park/short", "room.csv")
    assert "12 rows, short.gif 9 frames" in check_videos([one, two], progress=False)[0]
    (videos / "metadata.csv").write_text("file_name\n../../elsewhere.mp4\n")
    with pytest.raises(ValueError, match="leads out of the folder"):
        find_videos(videos)
    (videos / "metadata.csv").write_text("name\nroom.mp4\n")
    with pytest.raises(ValueError, match="in a column file_name"):
        find_videos(videos)
    (videos / "metadata.csv").write_text("file_name\nroom.mp4\ngone.mp4\n")
    assert "gone.mp4" in check_videos(find_videos(videos), progress=False)[0]


def test_without_actions_there_is_one_for_all(tmp_path):
    write_video(tmp_path / "videos" / "a.mp4", grey(6))
    prepare_videos(find_videos(tmp_path / "videos"), tmp_path / "data", progress=False)
    found = describe_actions(Recordings(tmp_path / "data"))
    assert found == {"num_actions": 1, "odometry": False, "pose_wave": 8}


@pytest.mark.parametrize("break_it, says", [
    (lambda folder: (folder / "room.csv").unlink(), "room.mp4 has no actions"),
    (lambda folder: actions(folder / "room.csv", ["0"] * 11), "11 rows, room.mp4 12 frames"),
    (lambda folder: actions(folder / "room.csv", ["0"] * 11 + ["x"]), "line 13: action is 'x'"),
    (lambda folder: actions(folder / "room.csv", ["0"] * 11 + ["-1"]), "row 12 is [-1.0]"),
    (lambda folder: actions(folder / "room.csv", ["0"] * 11 + ["1.5"]), "row 12 is [1.5]"),
    (lambda folder: actions(folder / "room.csv", ["0"] * 11 + ["nan"]), "row 12 is [nan]"),
    (lambda folder: actions(folder / "room.csv", ["0"] * 11 + [""]), "11 rows"),
    (lambda folder: actions(folder / "room.csv", ["0,1"] * 12, "action,x"), "the columns action, x and 12 lines"),
    (lambda folder: actions(folder / "room.csv", ["1"] * 12, "left"), "the columns left and 12 lines"),
    (lambda folder: actions(folder / "room.csv", ["1;2"] * 12, "action;x"), "with commas"),
    (lambda folder: np.save(folder / "park/short.npy", np.arange(9)), "short.npy has no poses"),
    (lambda folder: (folder / "metadata.csv").write_text("text,file_name\nhello\n"), "line 2: no file_name"),
    (lambda folder: (folder / "room.csv").write_bytes(b"action\n\xff\n"), "cannot be read as a table"),
    (lambda folder: (folder / "room.mp4").write_bytes(b"no video"), "room.mp4 cannot be read as a video"),
    (lambda folder: (folder / "park/walk/3.png").write_bytes(b"no image"), "3.png cannot be read as an image"),
    (lambda folder: np.save(folder / "park/short.npy", np.zeros((9, 3))), "shape (9, 3)"),
    (lambda folder: np.save(folder / "park/short.npy", np.array(["a"] * 9)), "expected numbers"),
    (lambda folder: np.save(folder / "park/short.npy", np.zeros((0, 4))), "shape (0, 4)"),
])
def test_what_does_not_fit_is_one_clear_line(videos, break_it, says, tmp_path, capsys):
    break_it(videos)
    assert main(["prepare", str(videos), "--out", str(tmp_path / "data")]) == 2
    errors = capsys.readouterr().err
    lines = [line for line in errors.replace("\r", "\n").splitlines() if says in line]
    assert lines or "3.png" in says, errors
    if "3.png" in says:  # images are read when they are needed: the video was refused while it was prepared
        assert says in errors
    assert "Traceback" not in errors and not (tmp_path / "data" / "index.json").exists()


def test_names_that_cannot_be_told_apart(videos):
    np.save(videos / "room.npy", np.zeros(12))
    with pytest.raises(ValueError, match="two files of actions"):
        find_videos(videos)
    (videos / "room.npy").unlink()
    shutil.copy(videos / "room.mp4", videos / "room.mkv")
    with pytest.raises(ValueError, match="two videos of the name room"):
        find_videos(videos)
    with pytest.raises(FileNotFoundError, match="no folder"):
        find_videos(videos / "gone")
    (videos / "empty").mkdir()
    with pytest.raises(ValueError, match="no videos"):
        find_videos(videos / "empty")


@pytest.mark.parametrize("shape, columns", [((7,), [0]), ((7, 1), [0]), ((7, 4), [0, 1, 2, 4]), ((7, 6), range(6))])
def test_numpy_files_of_actions(shape, columns, tmp_path):
    values = np.random.default_rng(0).integers(0, 5, shape)
    np.save(tmp_path / "a.npy", values)
    rows = read_action_file(tmp_path / "a.npy")
    assert rows.shape == (7, 6) and np.array_equal(rows[:, list(columns)], values.reshape(7, -1))
    assert not np.delete(rows.numpy(), list(columns), axis=1).any()


# ---- models for them -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MINI_MODELS)
def test_for_the_mini_tokenizer_they_are_the_mini_models(name):
    from dataclasses import replace
    made = own_experiment(name, MINI_TOKENIZER, num_actions=3, odometry=True)
    assert replace(made, num_inference_steps=4) == MINI_MODELS[name]


def test_short_recordings_get_small_windows():
    long, short = (own_experiment("millivid", MINI_TOKENIZER, longest=frames) for frames in (106, 60))
    assert (long.frames_per_level, short.frames_per_level) == ((2, 8, 32), (1, 4, 16))
    assert clip_frames(long) == 106 and clip_frames(short) <= 60
    with pytest.raises(ValueError, match="at least 35 frames"):
        own_experiment("millivid", MINI_TOKENIZER, longest=34)
    with pytest.raises(ValueError, match="multiple"):
        own_experiment("millivid", MINI_TOKENIZER, windows=(2, 3, 4))
    with pytest.raises(ValueError, match="unknown"):
        own_experiment("magic", MINI_TOKENIZER)


# ---- the five commands -----------------------------------------------------------------------------------------------


def test_a_recording_of_doom_goes_through_all_five_commands(tmp_path, capsys):
    folder, few = tmp_path / "videos", ["--steps", "3", "--batch-size", "2", "--device", "cpu"]
    folder.mkdir()
    frames, _ = read_video(FREEDOOM_VIDEO)
    rows = np.load(FREEDOOM_VIDEO.with_suffix(".npy"))
    for name, part in (("one", slice(0, 80)), ("two", slice(80, 160))):
        write_video(folder / f"{name}.mp4", frames[part])
        np.save(folder / f"{name}.npy", rows[part])
    data, tok, vid, made = (str(tmp_path / name) for name in ("data", "tok", "vid", "made"))

    def run(*arguments):
        assert main([*arguments]) is None, capsys.readouterr().err
        return capsys.readouterr()

    assert "2 recordings, 160 frames of 32 x 32" in run("prepare", str(folder), "--out", data, "--size", "32", "32",
                                                         "--workers", "2").out
    run("train", "tokenizer", "--data", data, "--out", tok, "--patch", "8", "--channels", "4", *few)
    assert "2 recordings" in run("encode", data, "--tokenizer", tok).out
    assert "32 x 32 are cropped and resized to the tokenizer's 64 x 64" in run("encode", data).err
    said = run("train", "video", "--data", data, "--tokenizer", tok, "--model", "millivid", "--out", vid, *few).err
    assert "clips of 53 frames, 80 tokens a step, 2 actions, with odometry" in said
    known = Pipeline.from_pretrained(vid).experiment
    assert known.pyramid.tokens_per_level == (16, 4, 1) and known.video.latent_channels == 4
    command = ("generate", "--model", vid, "--tokenizer", tok, "--context", str(folder / "one.mp4"), "--actions",
               str(folder / "one.npy"), "--context-frames", "40", "--sampling-steps", "2", "--out", made)
    assert "40 frames" in run(*command).out
    video, rate = read_video(f"{made}/video.mp4")
    assert video.shape == (80, 256, 256, 3) and rate == 12  # 40 of context, 40 new ones
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "made" / "latents").iterdir()}
    assert {*kept} == {"40.safetensors", "56.safetensors", "72.safetensors"}
    (tmp_path / "made" / "latents" / "72.safetensors").unlink()
    run(*command)  # goes on: the first two are as they were
    assert np.array_equal(read_video(f"{made}/video.mp4")[0], video)
    now = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "made" / "latents").iterdir()}
    assert [name for name in kept if now[name] != kept[name]] == ["72.safetensors"]
    drawing = tmp_path / "own.txt"  # any schedule: here the plain window on the finest level
    drawing.write_text("........\n........\nccccdddd")
    run(*command[:-1], str(tmp_path / "other"), "--schedule", str(drawing))
    assert (tmp_path / "other" / "filmstrip.png").exists()


@pytest.mark.parametrize("change, says", [
    ({"--context": "gone.mp4"}, "gone.mp4 is not there"),
    ({"--context-frames": "200"}, "has 160 frames, 200 were"),
    ({"--context-frames": "50"}, "looks back on 74"),
    ({"--frames": "200"}, "160 rows for 100 frames of context and 200"),
    ({"--actions": "plain.csv"}, "action,x,y,yaw"),
    ({"--actions": None}, "give --actions"),
    ({"--schedule": "gone.txt"}, "--schedule gone.txt cannot be read"),
    ({"--model": "gone"}, "no weights named 'gone'"),
])
def test_mistakes_of_generate(change, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    actions(tmp_path / "plain.csv", ["0"] * 160)
    options = {"--context": str(FREEDOOM_VIDEO), "--actions": str(FREEDOOM_VIDEO.with_suffix(".npy")),
               "--context-frames": "100", "--out": "made"} | change
    given = [part for pair in options.items() if pair[1] is not None for part in pair]
    assert main(["generate", *given]) == 2
    error = capsys.readouterr().err
    assert says in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "made").exists() or not any((tmp_path / "made").iterdir())


def test_generate_without_actions(tmp_path, capsys):
    "A model of one action needs none, but it has to be told how much."
    write_video(tmp_path / "videos" / "a.mp4", grey(60, (32, 32)))
    prepare_videos(find_videos(tmp_path / "videos"), tmp_path / "data", (64, 64), progress=False)
    few = ["--steps", "2", "--batch-size", "2", "--device", "cpu"]
    assert main(["train", "video", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "vid"), *few]) is None
    said = capsys.readouterr().err
    assert "has one recording" in said and "are cropped" not in said
    assert main(["encode", str(tmp_path / "videos")]) == 2 and "millivid prepare" in capsys.readouterr().err
    command = ["generate", "--model", str(tmp_path / "vid"), "--context", str(tmp_path / "videos" / "a.mp4"),
               "--sampling-steps", "2", "--out", str(tmp_path / "made")]
    assert main(command) == 2 and "Give --frames" in capsys.readouterr().err
    assert main([*command, "--frames", "5"]) is None
    assert len(read_video(tmp_path / "made" / "video.mp4")[0]) == 65
    index = json.loads((tmp_path / "data" / "index.json").read_text())
    assert index == {"a": 60}


# ---- trouble on the way ----------------------------------------------------------------------------------------------

@pytest.fixture
def commands(videos, tmp_path):
    "The four commands that leave files, ready to run, with the folder that each one fills."
    prepare_videos(find_videos(videos), tmp_path / "data", (64, 64), progress=False)
    given = ["--context", str(FREEDOOM_VIDEO), "--actions", str(FREEDOOM_VIDEO.with_suffix(".npy")), "--frames", "10"]
    return {
        "train": (["train", "tokenizer", "--steps", "2", "--batch-size", "2"], tmp_path / "train"),
        "prepare": (["prepare", str(videos), "--workers", "1"], tmp_path / "prepare"),
        "encode": (["encode", str(tmp_path / "data")], tmp_path / "data"),
        "generate": (["generate", "--model", "mini-full-resolution", *given, "--context-frames", "10",
                      "--sampling-steps", "2"], tmp_path / "generate")}


def run_command(commands, name):
    command, folder = commands[name]
    return main(command if name == "encode" else [*command, "--out", str(folder)])


@pytest.mark.parametrize("name, limit", [("train", 20_000), ("train", 0), ("prepare", 300), ("encode", 300),
                                         ("generate", 9_000), ("generate", 2_000)])
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(name, limit, commands, capsys):
    folder = commands[name][1]
    before = {path: (folder / path).read_bytes() for path in files_below(folder)} if folder.exists() else {}
    with full_disk(limit):
        assert run_command(commands, name) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1].rpartition("\r")[2]
    assert_says(message, f"millivid {name}: ", folder, "could not be written", "free some space")
    left = {path: (folder / path).read_bytes() for path in files_below(folder)}
    assert before.items() <= left.items() and not [path for path in left if Path(path).name[0] == "."]
    assert run_command(commands, name) is None and len(files_below(folder)) > len(left)


@pytest.mark.parametrize("name", ["train", "prepare", "generate"])
def test_two_commands_in_one_folder(name, commands, capsys):
    folder = commands[name][1]
    with lock_folder(folder):
        assert run_command(commands, name) == 2
    assert_says(capsys.readouterr().err.strip().splitlines()[-1], name, folder, "another process", "another folder")
    assert files_below(folder) == []
    assert run_command(commands, name) is None


def test_recordings_may_be_encoded_twice_at_once(commands, monkeypatch):
    "Two trainings with the same recordings may begin together: both write the same, each file whole."
    _, folder = commands["encode"]
    usual = millivid.release.encode_frames

    def meanwhile(*arguments):
        monkeypatch.setattr(millivid.release, "encode_frames", usual)
        assert run_command(commands, "encode") is None  # another one begins, and ends first
        return usual(*arguments)

    monkeypatch.setattr(millivid.release, "encode_frames", meanwhile)
    assert run_command(commands, "encode") is None
    twice = {path: (folder / path).read_bytes() for path in files_below(folder)}
    shutil.rmtree(next(folder.glob("latents_*")))
    assert run_command(commands, "encode") is None
    assert {path: (folder / path).read_bytes() for path in files_below(folder)} == twice
