"Pictures: what they say is true, animations play, alternative texts arrive."

import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.patches import Wedge
from PIL import Image

from millivid import plots
from millivid.evaluation import METRICS
from millivid.experiments.reproduce import ROWS
from millivid.pipeline import MINI_MODELS
from millivid.schedule import millivid_schedule
from millivid.tokenizer import psnr
from millivid.worlds.rooms import WorldConfig, make_room, make_test_episode, walk

RESULTS = Path(__file__).parent.parent / "nbs" / "results"


def test_plots_imports_nothing_of_millivid():
    code = "import sys, millivid.plots; print(*sorted(name for name in sys.modules if name.startswith('millivid')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == ["millivid", "millivid.plots"]


@pytest.mark.parametrize("kind", ["png", "gif"])
def test_an_animation_plays_every_frame_in_its_colours(kind):
    frames = np.zeros((5, 6, 8, 3), np.uint8)
    for i in range(5):
        frames[i, :, i] = (250, 10 * i, 60)
    picture = Image.open(io.BytesIO(plots.animation(frames, scale=2, rate=5, kind=kind, hold=3)))
    times = []
    assert picture.n_frames == 5 and picture.size == (16, 12) and picture.info["loop"] == 0
    for i, frame in enumerate(frames):
        picture.seek(i)
        times.append(picture.info["duration"])
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB"))[::2, ::2], frame)
    assert times == [200] * 4 + [600]


@pytest.mark.parametrize("kind", ["png", "gif"])
def test_an_animation_keeps_the_colours_of_a_whole_walk(kind):
    frames = make_test_episode(0, 160, 128).frames[::4]
    picture = Image.open(io.BytesIO(plots.animation(frames, kind=kind)))
    for i, frame in enumerate(frames):
        picture.seek(i)
        error = np.asarray(picture.convert("RGB")).astype(int) - frame
        assert abs(error).mean() < 4 and abs(error.mean((0, 1))).max() < 4, i  # of 255


def test_a_picture_is_shown_with_its_alternative_text(monkeypatch):
    shown = []
    plt.close("all")  # what other tests have left open
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    plots.show(plt.figure(figsize=(1, 1)), 'a "red" wall & nothing else', width=40)
    plots.show(plots.animation(np.zeros((2, 4, 4, 3), np.uint8), kind="gif"), "black")
    assert 'alt="a &quot;red&quot; wall &amp; nothing else" width="40"' in shown[0]["text/html"]
    assert "data:image/png;base64," in shown[0]["text/html"] and "data:image/gif;base64," in shown[1]["text/html"]
    assert shown[1]["text/plain"] == "black" and not plt.get_fignums()


def test_marks_of_the_map_sit_where_the_walker_stands():
    config = WorldConfig(image_size=8)
    episode = walk(make_room(0, config), (0, 0, 0), [0, 1, 1, 1, 1, 0], config)  # one full turn: frame 9 is as 1
    axis = plt.figure().add_subplot()
    plots.plot_map(axis, episode, context=4, marks=[1, 9, 11])
    views = [patch for patch in axis.patches if isinstance(patch, Wedge)]
    assert [tuple(view.center) for view in views] == [(1.5, .5), (2.5, .5)]
    assert [text.get_text() for text in axis.texts] == ["1\n+6", "+8"]
    plt.close("all")


def test_levels_are_drawn_with_their_psnr():
    images = torch.rand(2, 3, 4, 4)
    levels = (images + torch.tensor([.02, .2])[:, None, None, None, None]).clamp(0, 1)
    figure = plots.plot_levels(images, levels, (16, 4), ["a", "b"])
    said = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert said == [f"{value:.1f}" for level in levels for value in psnr(level, images)]
    assert len(figure.axes) == 4 * 2
    assert len(plots.plot_levels(images, levels, (16, 4), differences=False).axes) == 3 * 2
    plt.close("all")


def test_a_video_of_levels_fits_an_mp4():
    videos = {name: np.full((3, 7, 9, 3), 50 * i, np.uint8) for i, name in enumerate(("original", "level 0", "1"))}
    frames = plots.levels_video(videos, min_width=20)
    assert frames.shape[0] == 3 and frames.shape[1] % 2 == frames.shape[2] % 2 == 0
    assert frames[0, -2, 40].tolist() == [50] * 3  # 9 pixels become 27: the second video begins at 27


def test_pictures_of_a_schedule_follow_its_rollout():
    schedule = millivid_schedule((2, 8), 8, (4, 1))
    images = plots.schedule_images(schedule, 40, 60)
    assert len(images) == len(schedule.rollout(40, 60))
    moving = Image.open(io.BytesIO(plots.animation(images, rate=4)))
    assert moving.n_frames == len(schedule.rollout(40, 60))


def test_every_metric_and_row_has_a_title():
    assert set(plots.METRIC_TITLES) == set(METRICS)
    assert plots.metric_title("psnr_seen") == "PSNR in dB, views seen before" and plots.metric_title("mine") == "mine"
    assert plots.row_title("millivid") == "MilliVid" and plots.row_title("my_row") == "my row"
    assert set(plots.TITLES) == {"ground_truth", *ROWS, *plots.BOUNDS}
    assert len(set(plots.TITLES.values())) == len(plots.TITLES)
    assert set(plots.METHOD_COLOURS) == set(MINI_MODELS)


@pytest.mark.parametrize("file", sorted(RESULTS.glob("comparison*.json")), ids=lambda path: path.stem)
def test_every_row_of_the_kept_results_has_a_title(file):
    rows = json.loads(file.read_text())["rows"]
    assert set(rows) <= set(plots.TITLES) and set(plots.BOUNDS) & set(rows)


def test_rows_and_bounds_without_a_value_are_left_out():
    means = {"millivid": 20., "framepack": None, "autoencoded": 30., "average_room": None, "random_episode": 10.}
    rows = {name: {"psnr": {"long": {"mean": mean, "low": mean and mean - 2, "high": mean and mean + 1}}}
            for name, mean in means.items()}
    figure = plots.plot_rows({"rows": rows}, "psnr")
    axis, = figure.axes
    (points, _, (reach,)), = axis.containers
    assert points.get_xydata().tolist() == [[20, 1]] and reach.get_segments()[0].tolist() == [[18, 1], [21, 1]]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["FramePack", "MilliVid"]  # without a point
    bounds = {line.get_label(): line.get_xdata()[0] for line in axis.lines if not line.get_label().startswith("_")}
    assert bounds == {plots.TITLES[name]: means[name] for name in ("autoencoded", "random_episode")}
    assert {text.get_text() for text in figure.legends[0].get_texts()} == set(bounds)
    plt.close("all")


def test_a_comparison_video_shows_the_frames_it_names(monkeypatch):
    said, bar = {}, plots._bar

    def noted(width, texts, **colours):
        drawn = bar(width, texts, **colours)
        said[drawn.tobytes()] = texts
        return drawn

    monkeypatch.setattr(plots, "_bar", noted)
    grey = np.arange(20, dtype=np.uint8).reshape(2, 10, 1, 1, 1).repeat(4, 2).repeat(80, 3).repeat(3, 4)
    videos = {"millivid": grey + 100, "ground_truth": grey, "autoencoded": grey + 200}
    video = plots.comparison_video(videos, context=4, scale=2, lead=3)
    high = (video.shape[1] - 2 * 2 * 4) // 2  # of the bars above and below two episodes
    assert len(video) == 3 + 6 and video.shape[2] == 2 * 2 * 80 and video.dtype == np.uint8
    assert all(said[frame[:high].tobytes()] == [(2, "Ground truth"), (160 + 2, "MilliVid")] for frame in video)
    labels = [said[frame[-high:].tobytes()][0][1] for frame in video]
    assert all("context" in label for label in labels[:3]) and not any("context" in label for label in labels[3:])
    assert [label.split()[-1] for label in labels[3:]] == list("123456")
    for number, frame in enumerate(video[:, high:-high], 1):  # episodes below each other, methods side by side
        expected = np.array([[number, number + 100], [number + 10, number + 110]]).repeat(8, 0).repeat(160, 1)
        np.testing.assert_array_equal(frame, expected[..., None].repeat(3, 2))
    assert len(plots.comparison_video(videos, context=4, lead=6)) == 10  # no more context than there is


def test_a_comparison_shows_the_frames_it_names():
    videos = {"ground_truth": np.arange(60, dtype=np.uint8).reshape(2, 30, 1, 1, 1).repeat(3, -1)}
    figure = plots.plot_comparison(videos, None, 1, context=10, horizons_shown=(1, 16, 64))
    assert [axis.get_title() for axis in figure.axes] == ["last of context", "+1", "+16"]
    assert [axis.images[0].get_array()[0, 0, 0] for axis in figure.axes] == [39, 40, 55]
    config = WorldConfig(image_size=8)
    episode = SimpleNamespace(poses=np.zeros((30, 3), int), room=make_room(0, config), config=config)
    assert len(plots.plot_comparison(videos, episode, 1, 10, (1, 16)).axes) == 4
    plt.close("all")
