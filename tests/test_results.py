"The tables and figures of a comparison, from numbers that are made up."

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from tiny import assert_says

from millivid.actions import FORWARD, TURN_LEFT, action_rows
from millivid.experiments.report import BOUNDS, PAPER_RESULTS, format_ablations, format_comparison, format_leads
from millivid.experiments.report import format_levels, format_models, format_paper, metric_title, pose_head_accuracy
from millivid.experiments.report import read_comparison
from millivid.layers import TRANSFORMER_SIZES
from millivid.pipeline import MINI_EXPERIMENTS
from millivid.plots import extreme_episodes, plot_curves, plot_rows, plot_strips
from millivid.schedule import CONTEXT, DENOISED
from millivid.video import Tokens, VideoConfig, VideoModel, pose_features, relative_poses

SPANS = {"short": [1, 2], "medium": [3, 8], "long": [9, 24]}


def row(mean):
    values = {horizon: {"mean": mean, "low": mean - 1, "high": mean + 1} for horizon in SPANS}
    return {"psnr": values, "psnr_seen": values, "psnr_unseen": {horizon: {"mean": None, "low": None, "high": None} for horizon in SPANS}, "ssim": values}


@pytest.fixture
def result():
    means = {"millivid": 20., "framepack": 12.} | dict(zip(BOUNDS, (30., 14., 13., 12., 11., 9., 10.)))
    share = {name: {metric: {horizon: (mean - 10) / 20 for horizon in SPANS} for metric in ("psnr", "psnr_seen", "ssim")} for name, mean in means.items()}
    models = {name: {"tokens_per_step": 160, "steps": 1_200, "held_out_loss": .0312, "experiment": asdict(MINI_EXPERIMENTS[name])} for name in ("millivid", "framepack")}
    return {"settings": {"horizons": SPANS}, "rows": {name: row(mean) for name, mean in means.items()}, "share": share, "models": models,
            "diagnosis": {name: {"forward": .005, "turn": .25, "behind": None} for name in models},
            "levels": {"millivid": {"0": {"long": 20.}, "2": {"long": 17.}}, "framepack": {"0": {"long": 12.}}}, "seconds": {name: {"train": 540., "evaluate": 60.} for name in models},
            "leads": {"framepack": {metric: {horizon: {"mean": 8., "low": 7.5, "high": 8.5} for horizon in SPANS} for metric in ("psnr", "psnr_seen")}},
            "curves": {name: {"psnr_seen": [mean, None, *[mean] * 22]} for name, mean in means.items()}}


def test_the_table_gives_means_intervals_and_shares(result):
    lines = format_comparison(result).splitlines()
    assert lines[0] == "| PSNR in dB | short (1-2) | medium (3-8) | long (9-24) | share, long |"
    assert lines[2] == "| MilliVid | 20.0 (19.0 to 21.0) | 20.0 (19.0 to 21.0) | 20.0 (19.0 to 21.0) | 0.50 |"
    assert len(lines) == 2 + len(result["rows"])


def test_what_has_no_mean_is_a_dash(result):
    assert "| MilliVid | - | - | - |  |" in format_comparison(result, "psnr_unseen", rows=["millivid"])


def test_models_and_diagnosis(result):
    assert "| FramePack | 160 | 32 | 1,200 | 10 | 0.0312 | 0.005 | 0.250 | - |" in format_models(result)


def test_leads(result):
    assert format_leads(result).splitlines()[2] == "| FramePack | 8.0 (7.5 to 8.5) | 8.0 (7.5 to 8.5) | 8.0 (7.5 to 8.5) | 8.0 (7.5 to 8.5) |"


def test_the_papers_shares_are_those_of_its_table(result):
    table = format_paper(result)
    assert "| MilliVid | 21.78 / 19.13 / 16.69 | 0.53 / 0.40 / 0.28 | 20.0 / 20.0 / 20.0 | 0.50 / 0.50 / 0.50 |" in table
    assert set(PAPER_RESULTS["psnr"]) == set(PAPER_RESULTS["ssim"])


def test_titles_of_metrics():
    assert metric_title("psnr_unseen") == "PSNR in dB, new views" and metric_title("ssim") == "SSIM"


def test_figures(result):
    axis, = plot_rows(result).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["FramePack", "MilliVid"] and axis.get_xlabel() == "PSNR in dB, views seen before, long horizon"
    axis, = plot_curves(result, ["millivid", "autoencoded"], window=3).axes
    assert [line.get_label() for line in axis.lines] == ["MilliVid", "Autoencoded truth"]
    assert np.nanmax(axis.lines[0].get_ydata()) == 20 and len(axis.lines[0].get_xdata()) == 22 and np.isnan(axis.lines[0].get_ydata()[:2]).all()  # the second frame has no value
    result["models"]["mine"], result["curves"]["mine"] = {"steps": 1}, result["curves"]["millivid"]
    assert "mine" in [line.get_label() for line in plot_curves(result).axes[0].lines]


def test_strips_and_the_episodes_they_show():
    frames = np.zeros((12, 8, 8, 3), dtype=np.uint8)
    figure = plot_strips([("truth", frames), ("best", frames)], range(1, 48, 4), columns=4)
    assert [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()] == ["truth", "best"]
    assert [axis.get_title() for axis in figure.axes[:4]] == ["+1", "+5", "+17", "+45"]
    assert extreme_episodes(np.array([3., 1., 5., 2., 4.])) == {"best": 2, "median": 0, "worst": 1}


def test_files_that_are_no_comparison(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        read_comparison(tmp_path / "none.json")
    assert_says(error.value, "none.json", "millivid reproduce")
    for text, words in (("{", "not JSON"), (json.dumps({"rows": {}}), "not a comparison")):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(ValueError) as error:
            read_comparison(tmp_path / "x.json")
        assert_says(error.value, "x.json", words)


def test_ablations_are_ordered_like_the_papers_and_numbered_by_their_own_scores(result):
    result["rows"] |= {name: json.loads(json.dumps(result["rows"]["millivid"])) for name in ("framepack_mirrored", "millivid_cascaded")}
    result["rows"]["millivid_cascaded"]["psnr"]["long"]["mean"] = 99.
    lines = [line.split(" | ") for line in format_ablations(result).splitlines()[2:]]
    assert [line[0] for line in lines] == ["| MilliVid", "| MilliVid, cascaded latents", "| FramePack", "| FramePack, mirrored"]
    assert lines[1][1:] == ["0.232 (2)", "20.0 (1)", "0.434 (2)", "99.0 (1) |"] and lines[2][1:] == ["0.311 (4)", "12.0 (4)", "0.518 (3)", "12.0 (4) |"]


def test_levels_that_a_model_does_not_make_are_dashes(result):
    assert format_levels(result).splitlines()[2:] == ["| MilliVid | 17.0 | 20.0 |", "| FramePack | - | 12.0 |"]


# ---- what a pose head knows ------------------------------------------------------------------------------------------

class Says(torch.nn.Module):
    "A pose head that says something whatever it reads."

    def __init__(self, pose):
        super().__init__()
        self.answer = pose_features(pose)

    def forward(self, states):
        return self.answer


def test_what_a_pose_head_knows():
    actions = action_rows(np.repeat([FORWARD, TURN_LEFT, TURN_LEFT, FORWARD], 2))[None]
    coordinates = torch.zeros(1, 8, 4, dtype=torch.long)
    coordinates[0, :, 0] = torch.arange(40, 48)
    tokens = Tokens(torch.zeros(1, 8, 16), coordinates, actions, torch.tensor([[CONTEXT] * 5 + [DENOISED] * 3]))
    model = VideoModel(VideoConfig(16, 3, TRANSFORMER_SIZES["mini"], pose_head=True)).eval()
    pose = relative_poses(tokens)
    assert len(set(pose[0, :, 2].tolist())) > 2  # there is something to know
    for off, expected in (((0, 0, 0), (1, 1)), ((0, 0, math.pi), (0, 1)), ((9, 9, .3), (1, 1)), ((0, 0, math.pi / 2), (0, 0))):
        model.pose_head = Says(pose + torch.tensor(off))
        known = pose_head_accuracy(model, tokens, span=4)
        assert known == {"frames": [0, 4], "right": [expected[0]] * 2, "right_or_opposite": [expected[1]] * 2}, off
    model.pose_head = Says(pose + torch.tensor([0, 0, math.pi]) * (torch.arange(8) > 5)[:, None])  # the last two of eight frames look back
    assert pose_head_accuracy(model, tokens, span=4)["right"] == [1, .5]
    assert not model.training


def test_only_a_pose_head_can_be_asked():
    with pytest.raises(ValueError) as error:
        pose_head_accuracy(VideoModel(VideoConfig(16, 3, TRANSFORMER_SIZES["mini"])), None)
    assert_says(error, "no pose head", "pose_head=True")
