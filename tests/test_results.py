"The tables and figures of a comparison, from numbers that are made up."

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from tiny import assert_says

from millivid.basics import MissingFileError, UserError
from millivid.evaluation import markdown_table
from millivid.experiments.report import comparison_markdown, format_comparison, format_costs, format_leads
from millivid.experiments.report import format_levels, format_models, format_plan_gains, format_plans
from millivid.experiments.report import read_comparison, rollout_tokens
from millivid.experiments.reproduce import Settings
from millivid.pipeline import MINI_EXPERIMENTS, MINI_MODELS, PAPER_EXPERIMENTS
from millivid.plots import BOUNDS, extreme_episodes, plot_curves, plot_rows, plot_strips

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "nbs"))
import _horizon as horizon  # noqa: E402
import _table as table  # noqa: E402

SPANS = {"short": [1, 2], "medium": [3, 8], "long": [9, 24]}
RESULTS = Path(__file__).parent.parent / "nbs" / "results"


def interval(mean):
    return {"mean": mean, "low": mean - .5, "high": mean + .5}


def row(mean):
    values = {horizon: interval(mean) for horizon in SPANS}
    nothing = {horizon: {"mean": None, "low": None, "high": None} for horizon in SPANS}
    return {"psnr": values, "psnr_seen": values, "psnr_unseen": nothing, "ssim": values}


@pytest.fixture
def result():
    means = {"millivid": 20., "framepack": 12.} | dict(zip(BOUNDS, (30., 25., 14., 13., 12., 11., 9., 10.)))
    names = ("millivid", "framepack")
    models = {name: {"tokens_per_step": 160, "steps": 1_200, "held_out_loss": .0312,
                     "experiment": asdict(MINI_EXPERIMENTS[name])} for name in names}
    return {
        "settings": {"horizons": SPANS}, "rows": {name: row(mean) for name, mean in means.items()}, "models": models,
        "share": {name: {metric: dict.fromkeys(SPANS, (mean - 10) / 20) for metric in ("psnr", "psnr_seen", "ssim")}
                  for name, mean in means.items()},
        "diagnosis": dict.fromkeys(names, {"forward": .005, "turn": .25, "behind": None}),
        "levels": {"millivid": {"0": {"long": 20.}, "2": {"long": 17.}}, "framepack": {"0": {"long": 12.}}},
        "seconds": dict.fromkeys(names, {"train": 540., "evaluate": 60.}),
        "leads": {"framepack": dict.fromkeys(("psnr", "psnr_seen"), dict.fromkeys(SPANS, interval(8.)))},
        "plans": {},
        "curves": {name: {"psnr_seen": [mean, None, *[mean] * 22]} for name, mean in means.items()}}


def test_a_table_in_markdown():
    assert markdown_table(["what", "a", "b"], [["x", "1", ""]]) == "| what | a | b |\n|---|---:|---:|\n| x | 1 |  |"


def test_the_table_gives_means_intervals_and_shares(result):
    lines = format_comparison(result).splitlines()
    assert lines[0] == "| PSNR in dB | short (1-2) | medium (3-8) | long (9-24) | share, long |"
    assert lines[2] == "| MilliVid | 20.0 (19.5 to 20.5) | 20.0 (19.5 to 20.5) | 20.0 (19.5 to 20.5) | 0.50 |"
    assert len(lines) == 2 + len(result["rows"])
    assert "| MilliVid | - | - | - |  |" in format_comparison(result, "psnr_unseen", rows=["millivid"])
    assert "20.00 (19.50 to 20.50)" in format_comparison(result, "ssim")


def test_models_diagnosis_leads_and_levels(result):
    assert "| FramePack | 160 | 32 | 1,200 | 10 | 0.0312 | 0.005 | 0.250 | - |" in format_models(result)
    assert format_leads(result).splitlines()[2] == "| FramePack" + " | 8.0 (7.5 to 8.5)" * 4 + " |"
    assert format_levels(result).splitlines()[2:] == ["| MilliVid | 17.0 | 20.0 |", "| FramePack | - | 12.0 |"]


def test_figures(result):
    axis, = plot_rows(result).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["FramePack", "MilliVid"]
    axis, = plot_curves(result, ["millivid", "autoencoded"], window=3).axes
    assert [line.get_label() for line in axis.lines] == ["MilliVid", "Autoencoded truth"]
    curve = axis.lines[0].get_ydata()
    assert np.nanmax(curve) == 20 and len(curve) == 22 and np.isnan(curve[:2]).all()  # the second frame has no value
    result["models"]["mine"], result["curves"]["mine"] = {"steps": 1}, result["curves"]["millivid"]
    assert "mine" in [line.get_label() for line in plot_curves(result).axes[0].lines]


def test_strips_and_the_episodes_they_show():
    frames = np.zeros((12, 8, 8, 3), dtype=np.uint8)
    figure = plot_strips([("truth", frames), ("best", frames)], range(1, 48, 4), columns=4)
    assert [axis.get_title() for axis in figure.axes[:4]] == ["+1", "+5", "+17", "+45"]
    assert extreme_episodes(np.array([3., 1., 5., 2., 4.])) == {"best": 2, "median": 0, "worst": 1}


def test_files_that_are_no_comparison(tmp_path):
    with pytest.raises(MissingFileError) as error:
        read_comparison(tmp_path / "none.json")
    assert_says(error.value, "none.json", "millivid reproduce")
    for text in ("{", json.dumps({"rows": {}})):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(UserError) as error:
            read_comparison(tmp_path / "x.json")
        assert_says(error.value, "x.json", "millivid reproduce")


@pytest.mark.parametrize("file", sorted(RESULTS.glob("comparison*.json")), ids=lambda path: path.stem)
def test_the_tables_beside_a_comparison_are_made_from_it(file):
    result = read_comparison(file)
    text = comparison_markdown(result)
    assert file.with_suffix(".md").read_text() == text
    assert all(part in text for part in (format_plans(result), format_plan_gains(result)) if result["plans"])


# ---- what a row costs, and further rows ------------------------------------------------------------------------------


def test_the_costs_count_every_pass(result):
    "By hand: 64 frames with 3 passes a step are two chunks of MilliVid's 21 steps, and 32 steps of FramePack."
    result["settings"] |= {"generated": 64, "episodes": 4, "sampling_steps": 4}
    result["seconds"] = dict.fromkeys(result["models"], {"generate": 2.56})
    lines = format_costs(result, ["millivid", "framepack", "average_room"]).splitlines()[2:]
    assert lines[0] == "| MilliVid | pose | 74 frames | 32 frames | 1.97 | 315 | 10.0 | 20.0 |"
    assert lines[1] == "| FramePack | pose | 74 frames | 2 frames | 1.50 | 240 | 10.0 | 12.0 |"
    assert lines[2] == "| Average room, right place | pose | 256 other rooms | - | 0 | 0 | - | 14.0 |"
    result["models"]["framepack"]["retrieved"] = True
    assert "| all, by pose |" in format_costs(result, ["framepack"])


@pytest.mark.parametrize("experiment", [*MINI_MODELS.values(), PAPER_EXPERIMENTS["millivid"]])
def test_the_tokens_of_a_rollout_are_those_that_its_model_reads(experiment):
    schedule, frames = experiment.schedule(), 100
    steps = rollout_tokens(experiment, frames)
    if schedule is None:
        assert steps == [160] * 50
    else:
        start = schedule.context_frames
        plan = schedule.rollout(start, start + frames)[:len(steps)]  # the last steps may make later frames only
        tokens = (schedule.roles > 0).sum(2) @ np.array(schedule.tokens_per_level)
        assert steps == [tokens[step] for step, _ in plan]


def test_further_rows_come_from_the_same_training_and_are_put_in_order(result):
    result["settings"] |= json.loads(json.dumps(asdict(Settings())))
    more = json.loads(json.dumps(result))
    for part in table.PARTS:
        if "millivid" in more[part]:
            more[part]["full_resolution"] = more[part]["millivid"]
    table.check(result, more)
    table.add_rows(result, more)
    assert [*result["models"]] == ["millivid", "framepack", "full_resolution"] and "full_resolution" in result["rows"]
    more["rows"]["framepack"] = row(13.)
    table.add_rows(result, more)
    assert result["rows"]["framepack"] == row(12.)
    with pytest.raises(UserError, match="framepack has 13.00 dB in this run and 12.00 in the table"):
        table.check(result, more)
    table.add_rows(result, more, ["framepack"])
    assert result["rows"]["framepack"] == row(13.)
    more["settings"]["rooms"] = 7
    with pytest.raises(UserError, match="rooms 7"):
        table.check(result, more)


def test_other_seeds_are_kept_beside_the_first(result):
    result["settings"] |= json.loads(json.dumps(asdict(Settings())))
    more = json.loads(json.dumps(result))
    more["settings"]["seed"], more["rows"]["framepack"] = 2, row(13.)
    for _ in range(2):  # twice the same run counts once
        table.add_seed(result, more)
    assert result["seed_numbers"] == {"millivid": [0, 2], "framepack": [0, 2]}
    assert result["seeds"]["framepack"]["psnr"]["long"] == [12., 13.]


@pytest.mark.parametrize("name, frame", [("millivid", 97), ("framepack", 75), ("full_resolution", 6),
                                         ("rollout_upscale", 73)])
def test_from_which_frame_on_no_true_frame_is_seen(name, frame):
    assert horizon.first_blind_frame(MINI_MODELS[name]) == frame


def test_the_fall_is_a_slope_in_decibels_for_a_hundred_frames():
    score = 30 - .02 * np.arange(200.) + np.zeros((4, 1))
    score[:, :50] = 0  # not looked at
    assert horizon.fall(score, 50)["mean"] == pytest.approx(2)
