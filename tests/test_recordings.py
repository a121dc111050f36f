"""Videos of one's own: found, checked, prepared, and through all five commands to a generated video."""

import itertools
import json
import os
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import assert_says, files_below, full_disk

import millivid.release
from millivid.basics import lock_folder
from millivid.cli import COMMANDS, main, make_options
from millivid.data import FREEDOOM_VIDEO, read_video, write_video
from millivid.layers import bfloat16_is_fast
from millivid.pipeline import MINI_MODELS, PAPER_EXPERIMENTS, PAPER_TOKENIZERS, Pipeline
from millivid.recordings import (
    check_videos,
    clip_frames,
    count_frames,
    describe_actions,
    find_videos,
    own_experiment,
    prepare_video,
    prepare_videos,
    read_action_file,
    source_frames,
)
from millivid.release import Recordings, read_actions, read_frames
from millivid.tokenizer import MINI_TOKENIZER
from millivid.training import PAPER_TRAINING


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


def test_preparing_holds_no_video_in_memory(tmp_path):
    "All frames were stacked before the first was written. Only their PNGs stay: the file begins with their sizes."
    size, count = (64, 64), 400
    write_video(tmp_path / "long.mp4", grey(count, size))
    source = find_videos(tmp_path / "long.mp4")[0]
    prepare_video(source, tmp_path / "first", size, 1)  # what is loaded once does not count
    tracemalloc.start()
    try:
        assert prepare_video(source, tmp_path / "data", size, 1) == count
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < count * 64 * 64 * 3 / 2
    assert len(read_frames(tmp_path / "data" / "long.frames")) == count


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


@pytest.mark.parametrize("name, key, frames", [("room.mp4", "room", 12), ("park/walk", "walk", 11), (".", "walk", 11)])
def test_one_video_instead_of_a_folder_of_videos(name, key, frames, videos, tmp_path, monkeypatch, capsys):
    if name == ".":
        monkeypatch.chdir(videos / "park" / "walk")
    given = name if name == "." else str(videos / name)
    assert main(["prepare", given, "--out", str(tmp_path / "data"), "--size", "16", "16"]) is None
    assert json.loads((tmp_path / "data" / "index.json").read_text()) == {key: frames}
    assert f"{3 if key == 'room' else 2} actions, with poses" in capsys.readouterr().out
    assert read_actions(tmp_path / "data" / f"{key}.npy")[1, 4] != 0  # its table was found


def test_what_is_no_video_is_one_clear_line(videos, capsys):
    for given, out, says in (("room.csv", "data", "room.csv is no video: give a file such as .mp4"),
                             ("park/walk", "park/walk", "give another folder for recordings")):
        before = sorted(videos.rglob("*"))
        assert main(["prepare", str(videos / given), "--out", str(videos / out)]) == 2
        error = capsys.readouterr().err
        assert says in error.splitlines()[-1] and sorted(videos.rglob("*")) == before


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


@pytest.mark.parametrize("levels", [2, 3])
def test_upscaling_takes_any_tokenizer_of_two_levels_or_more(levels):
    "With two levels the windows that are tried last were refused, although the first ones fit."
    from dataclasses import replace
    tokenizer = replace(MINI_TOKENIZER, pyramid=replace(MINI_TOKENIZER.pyramid, num_levels=levels))
    long = own_experiment("rollout_upscale", tokenizer)
    short = own_experiment("rollout_upscale", tokenizer, longest=clip_frames(long) - 1)
    assert long.num_frames == 8 and short.num_frames == 4
    with pytest.raises(ValueError, match=f"1 windows, and the tokenizer has {levels} levels"):
        own_experiment("rollout_upscale", tokenizer, (2,))


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


@pytest.mark.parametrize("count, rows", [(1, 1), (7, 4), (20, 5)])
def test_prepare_leaves_a_picture_of_what_it_made(count, rows, tmp_path, capsys, monkeypatch):
    from millivid import cli
    for number in range(count):
        write_video(tmp_path / "videos" / f"{number:02}.mp4", grey(3 + number, (16, 16), first=8 * number))
    shown, plot = [], cli.plot_frames
    monkeypatch.setattr("millivid.cli.plot_frames", lambda *given: shown.append(given) or plot(*given))
    assert main(["prepare", str(tmp_path / "videos"), "--out", str(tmp_path / "data"), "--size", "16", "16"]) is None
    assert f"Look at {tmp_path / 'data' / 'preview.png'}" in capsys.readouterr().out.splitlines()[-1]
    frames, titles, columns = shown[0]
    assert len(frames) == len(titles) == rows * columns and titles[:2] == ["00: 0", "0"]
    assert [int(frame.mean()) for frame in frames[:columns]] == pytest.approx([0, 0, 8, 8, 8, 8, 16, 16], abs=9)
    assert np.asarray(Image.open(tmp_path / "data" / "preview.png").convert("RGB")).std() > 10


@pytest.mark.parametrize("what", ["tokenizer", "video"])
def test_a_training_notices_that_its_data_are_others(what, tmp_path, capsys):
    "It was finished, so the same command said `saved`, and the new recordings were never looked at."
    videos, data, out = (tmp_path / name for name in ("videos", "data", "out"))
    few = ["--steps", "2", "--batch-size", "2", "--device", "cpu"]

    def train(*more, data=data):
        status = main(["train", what, "--data", str(data), "--out", str(out), *few, *more])
        return status, capsys.readouterr().err

    def prepare(name, first=0):
        write_video(videos / f"{name}.mp4", grey(60, (32, 32), first))
        prepare_videos(find_videos(videos), data, (64, 64), progress=False)

    prepare("a")
    prepare("b")
    assert train()[0] is None
    shutil.copytree(data, tmp_path / "moved", copy_function=shutil.copyfile)  # the same data, with other times
    assert train(data=tmp_path / "moved")[0] is None
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    prepare("c")
    status, error = train()
    assert status == 2 and "trained on other data: 3 parts" in error and "give another folder for --out" in error
    (videos / "c.mp4").unlink()
    prepare("a", first=3)
    status, error = train()
    assert status == 2 and "first 'train a'" in error
    assert {path: path.read_bytes() for path in before} == before
    if what == "video":
        assert main(["train", "tokenizer", "--out", str(tmp_path / "tok"), *few]) is None
        status, error = train("--tokenizer", str(tmp_path / "tok"), data=tmp_path / "moved")
        assert status == 2 and "1 parts are new, gone or changed, first 'tokenizer'" in error
    assert train(data=tmp_path / "moved")[0] is None


@pytest.mark.parametrize("below", ["", "below"])
@pytest.mark.parametrize("command, place", [
    (("train", "tokenizer", "--data", "data"), "data"), (("train", "video", "--data", "data"), "data"),
    (("train", "tokenizer"), "data"), (("train", "video", "--data", "data", "--tokenizer", "tok"), "tok"),
    (("generate", "--context", "images"), "images"), (("generate", "--context", "images"), "data"),
    (("generate", "--context", "images", "--model", "vid"), "vid"),
    (("evaluate", "--data", "data", "--model", "vid"), "data"),
    (("evaluate", "--data", "data", "--model", "vid"), "vid")])
def test_results_do_not_go_into_what_is_read(command, place, below, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("images", "tok", "vid"):
        (tmp_path / name).mkdir()
    write_video("videos/a.mp4", grey(6))
    prepare_videos(find_videos("videos"), "data", progress=False)
    before = sorted(tmp_path.rglob("*"))
    assert main([*command, "--out", str(tmp_path / place / below)]) == 2
    error = capsys.readouterr().err
    refused = place not in ("tok", "vid") or not below  # below the weights there is room for a folder
    assert ("give a folder elsewhere" in error) == refused and (not refused or str(tmp_path / place / below) in error)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("model, files", [("mini-framepack", 1), ("mini-full-resolution", 2)])
def test_a_finished_video_is_not_made_again_and_another_is_refused(model, files, tmp_path, capsys, monkeypatch):
    "FramePack generated the same video once more, and wrote a video of another seed over the one that was there."
    def run(*more):
        options = {"--model": model, "--context": str(FREEDOOM_VIDEO), "--frames": "6", "--context-frames": "140",
                   "--actions": str(FREEDOOM_VIDEO.with_suffix(".npy")), "--sampling-steps": "2",
                   "--out": str(tmp_path)} | dict(zip(more[::2], more[1::2]))
        return main(["generate", *itertools.chain.from_iterable(options.items())]), capsys.readouterr()

    status, said = run()
    assert status is None and "6 frames in" in said.out
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len([path for path in before if path.suffix == ".safetensors"]) == files
    with monkeypatch.context() as patch:
        patch.setattr("millivid.rollout.ddim_sample", lambda *_, **__: pytest.fail("it was made again"))
        status, said = run()
        assert status is None and "6 frames, all of them made before, in" in said.out
    for change in (("--seed", "1"), ("--sampling-steps", "3"), ("--context-frames", "139"), ("--frames", "5")):
        if files == 1 or change[0] != "--frames":  # a stream may be shortened
            status, said = run(*change)
            assert status == 2 and "another video" in said.err and "give another folder" in said.err, change
    assert {path: path.read_bytes() for path in before} == before


def test_every_second_frame_is_shown_half_as_often(tmp_path):
    assert main(["generate", "--model", "mini-full-resolution", "--context", str(FREEDOOM_VIDEO), "--every", "2",
                 "--actions", str(FREEDOOM_VIDEO.with_suffix(".npy")), "--context-frames", "20", "--frames", "5",
                 "--sampling-steps", "2", "--out", str(tmp_path)]) is None
    video, rate = read_video(tmp_path / "video.mp4")
    assert len(video) == 25 and rate == pytest.approx(35 / 3 / 2, abs=.01)


def test_what_does_not_fit_a_training_names_the_option(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video("videos/a.mp4", grey(80, (32, 32)))
    prepare_videos(find_videos("videos"), "data", (64, 64), progress=False)
    few = ["--data", "data", "--batch-size", "2", "--device", "cpu"]

    def refused(what, *more, steps=2):
        assert main(["train", what, *few, "--steps", str(steps), *more]) == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    for windows, says in (("2 8", "2 windows, and the tokenizer has 3 levels: give 3 numbers"),
                          ("2 8 64", "makes clips of 138 frames, and the longest recording"),
                          ("2 3 4", "a multiple of the one before it")):
        for model in ("millivid", "full_resolution"):
            if model == "millivid" or "138" not in says:
                message = refused("video", "--out", "vid", "--model", model, "--windows", *windows.split())
                assert f"--windows {windows}" in message and says in message
    assert not (tmp_path / "vid").exists()
    assert main(["train", "tokenizer", *few, "--steps", "2", "--levels", "1", "--out", "flat"]) is None
    message = refused("video", "--out", "vid", "--model", "rollout_upscale", "--tokenizer", "flat")
    assert "--model rollout_upscale needs a tokenizer of two levels or more, and this one has 1" in message
    message = refused("tokenizer", "--levels", "1", "--out", "flat", steps=1)
    assert "with --steps 2, not 1: give another folder, or --steps 2 or more" in message


def test_generate_without_actions(tmp_path, capsys):
    "A model of one action needs none, but it has to be told how much."
    write_video(tmp_path / "videos" / "a.mp4", grey(60, (32, 32)), rate=25)
    prepare_videos(find_videos(tmp_path / "videos"), tmp_path / "data", (64, 64), progress=False)
    few = ["--steps", "2", "--batch-size", "2", "--device", "cpu"]
    assert main(["train", "video", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "vid"), *few]) is None
    said = capsys.readouterr().err
    assert "has one recording" in said and "are cropped" not in said
    assert "without --tokenizer: mini-tokenizer" in said and "`millivid train tokenizer" in said
    assert main(["encode", str(tmp_path / "videos")]) == 2 and "millivid prepare" in capsys.readouterr().err
    command = ["generate", "--model", str(tmp_path / "vid"), "--context", str(tmp_path / "videos" / "a.mp4"),
               "--sampling-steps", "2", "--out", str(tmp_path / "made")]
    assert main(command) == 2 and "Give --frames" in capsys.readouterr().err
    assert main([*command, "--frames", "5"]) is None
    video, rate = read_video(tmp_path / "made" / "video.mp4")
    assert len(video) == 65 and rate == 25  # that of the context
    assert main([*command, "--frames", "5", "--rate", "7.5"]) is None
    assert read_video(tmp_path / "made" / "video.mp4")[1] == 7.5
    for rate in ("0", "inf", "nan"):
        assert main([*command, "--frames", "5", "--rate", rate]) == 2
        assert f"--rate {float(rate)}: give frames per second" in capsys.readouterr().err
    index = json.loads((tmp_path / "data" / "index.json").read_text())
    assert index == {"a": 60}


def test_the_papers_training_is_a_preset(videos, tmp_path, capsys):
    given = {"what": "video", "out": "out", "data": "data", "paper": True}
    options, training = make_options(COMMANDS["train"], given)
    assert training == PAPER_TRAINING["main"] and (training.micro_batches, training.batch_size) == (8, 48)
    assert make_options(COMMANDS["train"], given | {"what": "tokenizer"})[1] == PAPER_TRAINING["autoencoder"]
    assert make_options(COMMANDS["train"], given | {"steps": 7})[1] == replace(training, steps=7)
    experiment, paper = PAPER_EXPERIMENTS["millivid"], PAPER_TOKENIZERS["autoencoder"]
    made = millivid.cli._paper_experiment(options, paper, {"num_actions": 5, "odometry": False, "longest": 300})
    assert made == replace(experiment, video=replace(experiment.video, num_actions=5))
    prepare_videos(find_videos(videos), tmp_path / "data", (64, 64), progress=False)
    start, data = ["train", "video", "--paper", "--out", str(tmp_path / "out")], ["--data", str(tmp_path / "data")]
    for more, *parts in (([], "--paper", "give --data"), ([*data, "--size", "S"], "--size S", "leave it out"),
                         ([*data, "--windows", "2", "8"], "--windows 2 8"), (data, "mini-tokenizer", "--paper"),
                         ([*data, "--model", "rollout_upscale"], "rollout_upscale", "full_resolution")):
        assert main([*start, *more]) == 2
        assert_says(capsys.readouterr().err, *parts)
    assert main(["train", "tokenizer", "--paper", *data, "--out", str(tmp_path / "out")]) == 2
    assert_says(capsys.readouterr().err, "(256, 256)", "(64, 64)", "prepare --size 256 256")
    assert not (tmp_path / "out").exists()


def test_generate_in_bfloat16(tmp_path, capsys):
    command = ["generate", "--model", "mini-full-resolution", "--context", str(FREEDOOM_VIDEO), "--frames", "5",
               "--context-frames", "10", "--actions", str(FREEDOOM_VIDEO.with_suffix(".npy")), "--sampling-steps", "2"]
    for name, more in (("usual", []), ("float32", ["--precision", "float32"]), ("half", ["--precision", "bfloat16"])):
        assert main([*command, "--device", "cpu", "--out", str(tmp_path / name), *more]) is None
    usual, same, half = (read_video(tmp_path / name / "video.mp4")[0].astype(float) for name in
                         ("usual", "float32", "half"))
    assert np.array_equal(usual, same) and 0 < abs(usual - half).mean() < 3
    said = capsys.readouterr().err
    assert ("no instructions" in said) == (not bfloat16_is_fast("cpu"))
    assert main([*command, "--device", "cpu", "--out", str(tmp_path / "usual"), "--precision", "bfloat16"]) == 2


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
