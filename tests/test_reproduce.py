"The command that makes the table, with settings so small that its numbers mean nothing."

import dataclasses
import errno
import json
import math
import os
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from tiny import assert_says, full_disk

from millivid.actions import FORWARD, TURN_LEFT, action_rows

from millivid.basics import UserError
from millivid.cli import main
from millivid.evaluation import METRICS, frame_psnr
from millivid.experiments.report import format_plan_gains, format_plans, read_comparison
from millivid.evaluation import decode_videos
from millivid.experiments.reproduce import PLANS, ROWS, SEPARATING, RetrievalPipeline, RetrievedClips, Row, Run
from millivid.experiments.reproduce import Settings
from millivid.experiments.reproduce import _check_job, _command, _follow, _lead, _share, retrieved_frames
from millivid.experiments.reproduce import _roll_out, _test_episodes, collect, find_row, pose_head_accuracy, reproduce
from millivid.experiments.reproduce import run_job, run_jobs, run_row, run_tokenizer, table_rows, worker_pool
from millivid.experiments.reproduce import write_results
from millivid.layers import TRANSFORMER_SIZES
from millivid.pipeline import Pipeline, load_tokenizer
from millivid.plots import BOUNDS, TITLES
from millivid.schedule import CONTEXT, DENOISED, schedule_text
from millivid.training import MINI_VIDEO_TRAINING, train_video
from millivid.video import Tokens, VideoConfig, VideoModel, pose_features, relative_poses
from millivid.worlds.doom import DoomWorld
from millivid.worlds.rooms import make_test_episodes

NBS = Path(__file__).resolve().parent.parent / "nbs"
sys.path.insert(0, str(NBS))
import _everything as everything  # noqa: E402
import _shipped as shipped  # noqa: E402

TOY = dict(tokenizer_steps=3, steps=3, long_steps=4, rooms=2, episodes=2, generated=24, sampling_steps=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("reproduce")


@pytest.fixture(scope="module")
def result(folder):
    return reproduce(folder, ["framepack_cascaded"], Settings(**TOY))


def test_rows_have_the_same_size_and_nearly_the_same_budget():
    tokens = {name: row.experiment.tokens_per_step for name, row in ROWS.items()}
    others = {"millivid_longer_plan": 192, "millivid_larger_windows": 224, "rollout_upscale_smaller": 104}
    assert others.items() <= tokens.items() and others.keys() == {*SEPARATING}  # shown where one compares just these
    assert all(144 <= count <= 176 for name, count in tokens.items() if name not in others), tokens  # 160, within 10%
    assert len({row.experiment.video.transformer for row in ROWS.values()}) == 1
    predicted = {"millivid": 32, "framepack": 2 * 16, "full_resolution": 5 * 16,
                 "framepack_mirrored": 2 * (16 + 4 + 1) + 4 * 4 + 16, "rollout_upscale": (72 + 2 * 64) / 3}
    assert {name: ROWS[name].experiment.predicted_tokens for name in predicted} == pytest.approx(predicted)
    assert all(row.experiment.context_frames <= Settings().context for row in ROWS.values())
    plain = {name for name, row in ROWS.items() if not row.experiment.video.odometry}
    assert plain == {"millivid_plain", "millivid_pose_head"}
    assert set(ROWS) | set(BOUNDS) <= set(TITLES)


def test_the_result_has_rows_metrics_and_horizons(result):
    assert set(result["rows"]) == {"framepack_cascaded", *BOUNDS}
    for name, row in result["rows"].items():
        assert {"psnr", "psnr_seen", "psnr_unseen"} <= set(row), name
        for metric, horizons in row.items():
            assert set(horizons) == {"short", "medium", "long"}, (name, metric)
            for value in horizons.values():
                assert value["mean"] is None or value["low"] <= value["mean"] <= value["high"], (name, metric, value)
    assert set(result["missing"]) | {metric.split("_")[0] for metric in result["rows"]["autoencoded"]} == set(METRICS)
    model = result["models"]["framepack_cascaded"]
    assert model["steps"] == 3 and model["tokens_per_step"] == 160 and model["parameters"] > 1e6
    assert all(seconds > 0 for parts in result["seconds"].values() for seconds in parts.values())
    assert set(result["diagnosis"]["framepack_cascaded"]) == {"forward", "turn", "behind"}
    assert set(result["levels"]["autoencoded"]) == {"0", "1", "2"} and "0" in result["levels"]["framepack_cascaded"]
    for name, levels in result["levels"].items():  # drawn from level 0 alone is what all other numbers are about
        psnr = {horizon: value["mean"] for horizon, value in result["rows"][name]["psnr"].items()}
        assert levels["0"] == pytest.approx(psnr, abs=1e-3), name


def test_the_share_is_zero_and_one_at_the_bounds(result):
    for metric in ("psnr", "psnr_seen"):
        for horizon in ("short", "medium", "long"):
            assert result["share"]["random_episode"][metric][horizon] == pytest.approx(0)
            assert result["share"]["autoencoded"][metric][horizon] == pytest.approx(1)


def test_a_second_run_from_nothing_gives_the_same_table(result, tmp_path):
    again = reproduce(tmp_path, ["framepack_cascaded"], Settings(**TOY))
    assert again["rows"] == result["rows"]


def test_what_is_done_is_not_done_again(result, folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("done.json")}
    assert len(before) == 4  # two tokenizers, a row, the bounds
    again = reproduce(folder, ["framepack_cascaded"], Settings(**TOY))
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("done.json")} == before
    assert json.dumps(again) == json.dumps(result)


def copy_without_ssim(folder, copy, reason, **others):
    "A copy of a run that was not judged by SSIM, but by some other metrics."
    shutil.copytree(folder, copy)
    for name in ("framepack_cascaded", "bounds"):
        file = copy / name / "done.json"
        done = json.loads(file.read_text())
        for part in [done] if name != "bounds" else done["rows"].values():
            kept = {metric: values for metric, values in part["metrics"].items() if not metric.startswith("ssim")}
            part["metrics"] = kept | others
            part["missing"]["ssim"] = reason
        del done["digest"]  # as in a folder of an older version
        file.write_text(json.dumps(done))
    return copy


def test_a_metric_that_is_asked_for_later_is_judged_later(result, folder, tmp_path):
    copy = copy_without_ssim(folder, tmp_path / "copy", "not asked for")
    films = copy / "framepack_cascaded" / "generated.safetensors"
    made = films.stat().st_mtime_ns
    settings = Settings(**TOY)
    few = reproduce(copy, ["framepack_cascaded"], dataclasses.replace(settings, metrics=("psnr",)), progress=False)
    assert few["missing"]["ssim"] == "not asked for" and "ssim" not in few["rows"]["framepack_cascaded"]
    assert reproduce(copy, ["framepack_cascaded"], settings, progress=False)["rows"] == result["rows"]
    assert films.stat().st_mtime_ns == made


def test_a_judge_that_was_missing_is_asked_again(result, folder, tmp_path):
    copy = copy_without_ssim(folder, tmp_path / "copy", "SSIM needs torchmetrics", lpips={"kept": 1})
    run = Run(copy, Settings(**TOY))
    assert not any(run.is_complete(name) for name in ("framepack_cascaded", "bounds"))
    run_job("framepack_cascaded", run)
    row = run.result("framepack_cascaded")
    assert row["metrics"]["ssim"]["long"] == result["rows"]["framepack_cascaded"]["ssim"]["long"]
    assert "ssim" not in row["missing"] and row["metrics"]["lpips"] == {"kept": 1}
    assert row["diagnosis"]["turn"] == result["diagnosis"]["framepack_cascaded"]["turn"]
    for name in ("framepack_cascaded", "bounds"):
        file = copy / name / "done.json"
        file.write_text(file.read_text().replace('"lpips": {"kept": 1}', '"lpips": {"curve": []}'))
        done = json.loads(file.read_text())
        for part in [done] if name != "bounds" else done["rows"].values():
            del part["metrics"]["lpips"]
        done.pop("digest", None)  # `run_job` gave the row one
        file.write_text(json.dumps(done))
    shares = collect(run, {"framepack_cascaded": ROWS["framepack_cascaded"]})["share"]["framepack_cascaded"]
    assert "ssim" not in shares  # the bounds lack it


def test_another_seed_is_another_table(result, tmp_path):
    other = reproduce(tmp_path, ["framepack_cascaded"], Settings(**TOY | {"seed": 1}))
    assert other["rows"]["framepack_cascaded"]["psnr"] != result["rows"]["framepack_cascaded"]["psnr"]
    assert other["tokenizers"] != result["tokenizers"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_is_killed_leaves_no_process(number, tmp_path):
    command = [sys.executable, "-m", "millivid", "reproduce", "--rows", "framepack", "--rooms", "2", "--workers", "1",
               "--tokenizer-steps", "1000000", "--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as parent:
        log, deadline = tmp_path / "tokenizer" / "log.txt", time.time() + 120
        while not (log.exists() and "/1000000 [" in log.read_text()) and time.time() < deadline:
            time.sleep(.5)  # until the job trains
        parent.send_signal(number)
        assert parent.wait(60) == (143 if number == signal.SIGTERM else -9)
    seconds, deadline = tmp_path / "tokenizer" / "seconds.json", time.time() + 30
    while not seconds.exists() and time.time() < deadline:
        time.sleep(.2)
    assert json.loads(seconds.read_text())["train"] > 0  # the job ended in an orderly way
    size = log.stat().st_size
    time.sleep(3)
    assert log.stat().st_size == size  # nobody writes any more


def test_a_job_that_fails_is_told_and_what_others_made_stays(tmp_path):
    run, name = Run(tmp_path, Settings(**TOY)), "framepack_cascaded"  # its tokenizer is missing
    (tmp_path / name).mkdir()
    (tmp_path / name / "row.json").write_text(json.dumps(dataclasses.asdict(ROWS[name])))
    with pytest.raises(UserError) as error, worker_pool(1) as pool:
        run_jobs(["tokenizer", name], run, pool, progress=False)
    log = tmp_path / name / "log.txt"
    assert_says(error.value, f"{name}: ", tmp_path / "tokenizer_cascaded", log, "same command again")
    assert "\n" not in str(error.value) and "Traceback" in log.read_text()
    assert run.is_complete("tokenizer") and not run.is_complete(name)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_job_that_is_killed_is_told_and_goes_on(number, tmp_path):
    run, log = Run(tmp_path, Settings(**TOY | {"tokenizer_steps": 20})), tmp_path / "tokenizer" / "log.txt"

    def kill(pool):
        deadline = time.time() + 60
        while not log.exists() and time.time() < deadline:
            time.sleep(.01)
        for process in list(pool._processes):
            os.kill(process, number)

    with pytest.raises(UserError) as error, worker_pool(1) as pool:
        threading.Thread(target=kill, args=[pool]).start()
        run_jobs(["tokenizer"], run, pool, progress=False)
    assert_says(error.value, "tokenizer", "killed", "--workers", log, "same command again")
    assert "\n" not in str(error.value) and not run.is_complete("tokenizer")
    with worker_pool(1) as pool:
        run_jobs(["tokenizer"], run, pool, progress=False)
    assert run.is_complete("tokenizer")


def test_jobs_take_no_modules_from_the_current_folder(tmp_path, monkeypatch):
    for name in ("random", "socket", "signal"):
        (tmp_path / f"{name}.py").write_text("open('was_run', 'w').close()")
    monkeypatch.chdir(tmp_path)
    with worker_pool(1) as pool:
        assert pool.submit(os.getpid).result() != os.getpid()
    assert not (tmp_path / "was_run").exists()


def test_one_command_at_a_time_works_in_a_folder(tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(UserError) as error:
        reproduce(tmp_path, ["framepack"], Settings(**TOY))
    assert_says(error.value, tmp_path, "another process", "another folder")


def test_a_result_of_other_settings_does_not_count(result, folder, tmp_path):
    "What an orphan of another run had written there was taken for a result of this one."
    shutil.copytree(folder, tmp_path / "copy")
    file = tmp_path / "copy" / "tokenizer" / "done.json"
    done = json.loads(file.read_text())
    done["settings"]["tokenizer_steps"], done["steps"] = 202, 202
    del done["digest"]
    file.write_text(json.dumps(done))
    assert not Run(tmp_path / "copy", Settings(**TOY)).is_complete("tokenizer")
    again = reproduce(tmp_path / "copy", ["framepack_cascaded"], Settings(**TOY), progress=False)
    assert again["tokenizers"] == result["tokenizers"] and again["rows"] == result["rows"]


def test_what_is_lost_is_made_again(result, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    for name in ("framepack_cascaded/frames.npz", "framepack_cascaded/seconds.json", "tokenizer/model.safetensors"):
        (tmp_path / "copy" / name).unlink()
    (tmp_path / "copy" / "bounds" / "done.json").write_text("")
    again = reproduce(tmp_path / "copy", ["framepack_cascaded"], Settings(**TOY), progress=False)
    assert again["rows"] == result["rows"] and again["diagnosis"] == result["diagnosis"]
    write_results(again, tmp_path / "copy", tmp_path / "results")


def flip(file):
    "A bit of a file, in its middle."
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def frames_of(**parts):
    "Other pictures than those that were kept: a good file that nobody can draw."
    return lambda file: np.savez(file.open("wb"), **parts)


def another(**parts):
    "Something else than what the job has left, in a file that is good JSON."
    return lambda file: file.write_text(json.dumps(json.loads(file.read_text()) | parts))


@pytest.mark.parametrize("name, damage", [
    ("done.json", flip), ("done.json", another(metrics=3)), ("done.json", another(metrics={"psnr": 3})),
    ("done.json", another(model=3)), ("done.json", another(levels=3)), ("done.json", another(digest="none")),
    ("done.json", lambda file: file.write_text("[" * 100_000)), ("frames.npz", flip),
    ("frames.npz", frames_of(other=np.zeros(3))), ("frames.npz", frames_of(frames=np.array([None]))),
    ("frames.npz", frames_of(frames=np.zeros((2, 3, 64, 64, 3), np.uint8)))])
def test_what_is_damaged_does_not_count(name, damage, result, folder, tmp_path):
    copy, job = tmp_path / "copy", "framepack_cascaded"
    shutil.copytree(folder / job, copy / job)
    assert Run(copy, Settings(**TOY)).is_complete(job)
    damage(copy / job / name)
    assert not Run(copy, Settings(**TOY)).is_complete(job)


def test_what_is_damaged_is_made_again(result, folder, tmp_path):
    copy, job = tmp_path / "copy", "framepack_cascaded"
    shutil.copytree(folder, copy)
    for file in (copy / job / "done.json", copy / "bounds" / "done.json", copy / job / "frames.npz"):
        flip(file)
    films = copy / job / "generated.safetensors"
    films.write_bytes(films.read_bytes()[:-400])
    (copy / job / "seconds.json").write_text('{"train": "long", "judge": [1]}')
    (copy / job / "history.json").write_text("[1]")
    again = reproduce(copy, [job], Settings(**TOY), progress=False)
    assert again["rows"] == result["rows"] and again["diagnosis"] == result["diagnosis"]
    assert again["seconds"][job].keys() == {"train", "generate", "judge"}
    write_results(again, copy, tmp_path / "results")


@pytest.mark.parametrize("text", ["", "[]", '{"loss": 3}', '{"loss": [1], "config": {}}', '{"config": {"steps": "x"}}'])
def test_a_damaged_history_stops_no_other_job(text, tmp_path):
    (tmp_path / "history.json").write_text(text)
    assert _share(tmp_path) == 0


@pytest.mark.parametrize("text", ["", "[]", '{"experiment": 3, "long": false}', "[" * 100_000])
def test_a_damaged_row_is_named(text, tmp_path):
    (tmp_path / "row").mkdir()
    (tmp_path / "row" / "row.json").write_text(text)
    with pytest.raises(UserError) as error:
        find_row("row", tmp_path)
    assert_says(error.value, tmp_path / "row" / "row.json", "does not describe a row", "delete it")


def test_a_full_disk_is_one_line_and_costs_nothing(result, tmp_path):
    with full_disk(20_000), pytest.raises(UserError) as error:  # the workers inherit it
        reproduce(tmp_path, ["framepack_cascaded"], Settings(**TOY), workers=1, progress=False)
    assert_says(error.value, tmp_path / "tokenizer", "could not be written", "free some space", "same command again")
    assert "\n" not in str(error.value)
    again = reproduce(tmp_path, ["framepack_cascaded"], Settings(**TOY), progress=False)
    assert again["rows"] == result["rows"]


def test_a_disk_too_full_for_a_log(tmp_path):
    (job := Future()).set_exception(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(UserError) as error:
        _check_job(job, "tokenizer", Run(tmp_path))
    assert_says(error.value, tmp_path / "tokenizer", "No space left", "same command again")


@pytest.mark.parametrize("few, least", [
    ({"episodes": 1}, 2), ({"generated": 2}, 4), ({"world": "doom", "generated": 4}, 8), ({"sampling_steps": 1}, 2),
    ({"seed": -1}, 0), ({"steps": 0}, 1)])
def test_too_little_to_judge(few, least):
    with pytest.raises(ValueError) as error:
        Settings(**TOY | few)
    name, value = list(few.items())[-1]
    assert_says(error.value, f"{name} is {value}", f"at least {least}")


def test_other_settings_need_another_folder(result, folder):
    with pytest.raises(ValueError) as error:
        reproduce(folder, ["framepack_cascaded"], Settings(**TOY | {"steps": 5}))
    assert_says(error.value, folder, "other settings", '"steps": 3', "another folder")


def test_results_are_strict_json_with_tables_and_figures(result, folder, tmp_path):
    file = write_results(result, folder, tmp_path)
    json.loads(file.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert read_comparison(file) == result
    assert TITLES["framepack_cascaded"] in file.with_suffix(".md").read_text()
    names = {f"comparison_{name}.png" for name in ("rows", "curves", "strips_framepack_cascaded")}
    assert {path.name for path in tmp_path.glob("*.png")} == names


def test_two_rows_exchange_their_plans(folder, result):
    pair = PLANS["plans"]
    plans = reproduce(folder, pair, Settings(**TOY))["plans"]
    psnr, gains = plans["plans"]["psnr"], plans["plans"]["gains"]
    assert set(psnr) == set(pair) and all(set(of) == {*pair, "truth"} for of in psnr.values())
    a, b = pair
    for name, first, second in (("plan_first", psnr[a][a], psnr[a][b]), ("plan_second", psnr[b][a], psnr[b][b]),
                                ("refinement_first", psnr[a][a], psnr[b][a]),
                                ("refinement_truth", psnr[a]["truth"], psnr[b]["truth"])):
        for horizon, gain in gains[name].items():
            assert gain["mean"] == pytest.approx(second[horizon]["mean"] - first[horizon]["mean"], abs=1e-3)
            assert gain["low"] <= gain["mean"] <= gain["high"]
    again = {"plans": plans, "settings": {"horizons": dict.fromkeys(("short", "medium", "long"))}}
    assert format_plans(again).count("\n") == 3 and format_plan_gains(again).count("\n") == 6


def test_all_of_an_exchange_is_made_with_the_saved_weights(folder, result):
    "A refiner's own plan came from float32 weights, the others from weights rounded to float16."
    reproduce(folder, PLANS["plans"], Settings(**TOY), progress=False)
    run, name = Run(folder, Settings(**TOY)), PLANS["plans"][1]
    tokenizer = load_tokenizer(folder / "tokenizer")
    truth, actions, _, latents = _test_episodes(run, tokenizer)
    made = decode_videos(tokenizer, _roll_out(Pipeline.from_pretrained(folder / name), latents, actions, run.settings))
    score = frame_psnr(made, truth[:, run.settings.context:])[:, 8:].mean(1)
    assert run.result("plans")[name][name]["long"] == pytest.approx(score.tolist(), abs=1e-3)


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff\xfe"])
def test_damaged_settings_of_a_run(tmp_path, content):
    (tmp_path / "settings.json").write_bytes(content)
    with pytest.raises(ValueError) as error:
        reproduce(tmp_path, ["framepack"], Settings(**TOY))
    assert_says(error.value, "settings.json", "does not hold", "another folder")


def test_a_row_with_a_pose_head_says_what_it_knows(folder, result):
    again = reproduce(folder, ["millivid_pose_head"], Settings(**TOY))
    known = again["pose_head"]["millivid_pose_head"]
    assert known["frames"][:3] == [0, 8, 16] and len(known["right"]) == len(known["frames"]) > 4
    assert all(0 <= share <= 1 for share in known["right"] + known["right_or_opposite"])
    assert min(known["right"]) < .5  # four steps have not taught it everything
    assert result["pose_head"] == {}


@pytest.mark.parametrize("method", ["millivid", "rollout_upscale"])
def test_what_is_refined_from_its_own_plan_is_itself(method):
    experiment = ROWS[method].experiment
    pipeline, pyramid = Pipeline(Pipeline.from_pretrained("mini-millivid").model, experiment), experiment.pyramid
    draw = torch.Generator().manual_seed(0)
    latents, actions = torch.randn(1, 90, sum(pyramid.tokens_per_level), 16, generator=draw), torch.zeros(1, 90, 6)
    made = pipeline.generate(latents, actions, 74, 90, 2, progress=False)
    again, other = (pipeline.generate(latents, actions, 74, 90, 2, progress=False,
                                      on_step=_follow(pipeline, plan[:, 74:], 74, 90)) for plan in (made, latents))
    coarsest = pyramid.level_slice(pyramid.num_levels - 1)
    assert torch.equal(made, again)
    assert torch.equal(other[:, 74:, coarsest], latents[:, 74:, coarsest])
    assert not torch.allclose(other[:, 74:, :16], made[:, 74:, :16], atol=.1)


def test_a_row_of_your_own(folder, result, tmp_path, capsys):
    drawing = tmp_path / "mine.txt"
    text = schedule_text(ROWS["full_resolution"].experiment.schedule())
    drawing.write_text(text.replace("\n\n", "\n") + "\n")  # a drawing of one level, for three
    assert main(["reproduce", "--own", str(drawing), "--out", str(folder)]) == 2
    assert_says(capsys.readouterr().err, "1 lines for 3 levels")
    text = schedule_text(ROWS["millivid"].experiment.schedule())
    mine = Row(dataclasses.replace(ROWS["millivid"].experiment, method="own", text=text))
    again = reproduce(folder, {"mine": mine}, Settings(**TOY))
    assert set(again["rows"]) == {"mine", *BOUNDS} and again["models"]["mine"]["tokens_per_step"] == 160
    assert find_row("mine", folder) == mine
    with pytest.raises(ValueError) as error:
        reproduce(folder, {"mine": ROWS["framepack"]}, Settings(**TOY))
    assert_says(error.value, "another row", "mine", "another name")
    assert find_row("mine", folder) == mine


@pytest.mark.parametrize("name", ["millivid", "autoencoded", "bounds", "tokenizer_x", "recordings", "../x", "main"])
def test_names_that_a_row_of_your_own_cannot_have(name, tmp_path):
    with pytest.raises(ValueError) as error:
        reproduce(tmp_path, {name: ROWS["two_speeds"]}, Settings(**TOY))
    assert_says(error.value, repr(name), "cannot be the name")


def test_a_row_that_needs_more_context_than_there_is(tmp_path):
    with pytest.raises(ValueError) as error:
        reproduce(tmp_path, {"mine": ROWS["two_speeds"]}, Settings(**TOY | {"context": 64}))
    assert_says(error.value, "98 frames of context", "64 are given")


def test_a_folder_with_a_row_of_other_code_is_refused(tmp_path):
    (tmp_path / "millivid").mkdir()
    (tmp_path / "millivid" / "row.json").write_text(json.dumps(dataclasses.asdict(ROWS["framepack"])))
    with pytest.raises(ValueError) as error:
        reproduce(tmp_path, ["millivid"], Settings(**TOY))
    assert_says(error.value, "another row", "millivid", "delete it")


def test_the_command_that_makes_a_table(result):
    assert result["settings"]["command"] == (
        "millivid reproduce --tokenizer-steps 3 --steps 3 --long-steps 4 --rooms 2 --episodes 2 --generated 24 "
        "--sampling-steps 2 --rows framepack_cascaded")


def test_the_command_names_rows_and_drawings():
    assert _command(dict(ROWS), Settings()) == "millivid reproduce"
    assert _command({"millivid": ROWS["millivid"]}, Settings(seed=1)) == "millivid reproduce --seed 1 --rows millivid"
    both = {"millivid": ROWS["millivid"], "mine": ROWS["two_speeds"]}
    assert _command(both, Settings()) == "millivid reproduce --rows millivid --own mine.txt"


def test_a_lead_is_taken_episode_by_episode():
    ours, theirs = ({"metrics": dict.fromkeys(("psnr", "psnr_seen"), {"episodes": {"long": values}})}
                    for values in ([20., 22., None], [15., 18., 3.]))
    assert _lead(ours, theirs, 0)["psnr"]["long"]["mean"] == 4.5


def test_four_levels_are_the_papers_ablations_on_a_quarter_of_the_grid(tmp_path):
    rows = table_rows(4)
    retrieved = {name for name, row in ROWS.items() if row.retrieved}
    gone = {"two_speeds", "rollout_upscale", "rollout_upscale_long", *SEPARATING}
    assert set(rows) == set(ROWS) - gone - retrieved
    for name, row in rows.items():
        assert row.experiment.pyramid.tokens_per_level == (64, 16, 4, 1) and row.experiment.video.num_levels == 4
        assert 256 <= row.experiment.tokens_per_step <= 341, name
        assert row.experiment.context_frames <= Settings().context, name
        assert row.experiment.video.odometry == ROWS[name].experiment.video.odometry and row.long == ROWS[name].long
    tokens = [rows[name].experiment.tokens_per_step for name in ("millivid", "framepack_hierarchical")]
    assert tokens == [1_280 // 4, 1_364 // 4]
    run = Run(tmp_path, Settings(**TOY | {"levels": 4, "generated": 8, "steps": 1, "tokenizer_steps": 1}))
    run_tokenizer("tokenizer", run)
    (tmp_path / "framepack").mkdir()
    (tmp_path / "framepack" / "row.json").write_text(json.dumps(dataclasses.asdict(rows["framepack"])))
    run_row("framepack", run)
    assert run.result("framepack")["model"]["tokens_per_step"] == 320
    with pytest.raises(ValueError) as error:
        Settings(levels=5)
    assert_says(error.value, "levels 5", "3, 4")


def test_a_world_that_is_not_there():
    with pytest.raises(ValueError) as error:
        Settings(world="sea")
    assert_says(error.value, "'sea'", "rooms, plain, doom")


def test_a_world_that_cannot_be_recorded_does_not_bind_the_folder(tmp_path, monkeypatch):
    def no_engine(*_):
        raise UserError("recording needs ViZDoom")

    monkeypatch.setattr(DoomWorld, "record", no_engine)
    with pytest.raises(ValueError):
        reproduce(tmp_path, ["framepack"], Settings(world="doom"))
    assert not (tmp_path / "settings.json").exists()


def test_an_unknown_row(capsys, tmp_path):
    assert main(["reproduce", "--rows", "dream", "--out", str(tmp_path / "x")]) == 2
    assert_says(capsys.readouterr().err, "dream", "unknown", "framepack_mirrored")
    assert not (tmp_path / "x").exists()


def test_a_folder_of_version_0_1_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "framepack").mkdir()
    row = dataclasses.asdict(ROWS["framepack"])
    row["experiment"]["guidance"] = row["experiment"].pop("guidance_scale")
    (tmp_path / "framepack" / "row.json").write_text(json.dumps(row))
    assert main(["reproduce", "--rows", "framepack", "--out", str(tmp_path)]) == 2
    assert_says(capsys.readouterr().err, "row.json", "another version", "give another")


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
    cases = {(0, 0, 0): (1, 1), (0, 0, math.pi): (0, 1), (9, 9, .3): (1, 1), (0, 0, math.pi / 2): (0, 0)}
    for off, expected in cases.items():
        model.pose_head = Says(pose + torch.tensor(off))
        known = pose_head_accuracy(model, tokens, span=4)
        assert known == {"frames": [0, 4], "right": [expected[0]] * 2, "right_or_opposite": [expected[1]] * 2}, off
    back = torch.tensor([0, 0, math.pi]) * (torch.arange(8) > 5)[:, None]  # the last two of eight frames look back
    model.pose_head = Says(pose + back)
    assert pose_head_accuracy(model, tokens, span=4)["right"] == [1, .5]
    assert not model.training


def test_only_a_pose_head_can_be_asked():
    with pytest.raises(ValueError) as error:
        pose_head_accuracy(VideoModel(VideoConfig(16, 3, TRANSFORMER_SIZES["mini"])), None)
    assert_says(error, "no pose head", "pose_head=True")


# ---- a model that looks things up ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def walk():
    "Random latents and the actions of four test walks of 60 frames."
    latents = torch.randn(4, 60, 21, 16, generator=torch.Generator().manual_seed(0))
    return latents, torch.stack([action_rows(episode.actions) for episode in make_test_episodes(4, 60, 40)])


def test_frames_are_looked_up_by_pose_and_are_older(walk):
    actions = walk[1]
    chosen = retrieved_frames(actions[:, :45], 40)
    assert chosen.shape == (4, 10) and (chosen[:, 5:] == torch.arange(40, 45)).all() and (chosen[:, :5] < 40).all()
    known = 0
    for row, poses in zip(chosen, actions[..., [1, 2, 4]]):
        for old, new in zip(row[:5], row[5:]):
            same = (poses[:40] == poses[new]).all(1).nonzero()
            known += len(same) > 0
            assert not len(same) or old == same[0]
    assert 0 < known < 20


def test_clips_that_were_looked_up_hold_what_they_say(walk):
    class Walk:
        def draw(self, generator, count, num_frames):
            assert num_frames == 45
            return (torch.arange(4),)

        def read(self, drawn, roles=None):
            return walk[0][:, :45], walk[1][:, :45]

    clips = RetrievedClips(Walk(), history=40)
    latents, actions = clips.read(clips.draw(None, 4, 10))
    chosen = retrieved_frames(walk[1][:, :45], 40)
    for sample in range(4):
        assert torch.equal(latents[sample], walk[0][sample, chosen[sample]])
        assert torch.equal(actions[sample], walk[1][sample, chosen[sample]])


def test_retrieval_reads_the_past_it_needs_and_no_future(walk):
    latents, actions = walk
    experiment = ROWS["full_resolution_retrieved"].experiment
    model = experiment.make_model()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=.1)  # a fresh model predicts 0 whatever it sees
    pipeline = RetrievalPipeline(model.eval(), experiment)
    make = partial(pipeline.generate, actions=actions, start=40, end=52, num_inference_steps=2, progress=False)
    made, future = make(latents), latents.clone()
    assert made.shape == (4, 52, 21, 16) and torch.equal(made[:, :40], latents[:, :40])
    future[:, 40:] += 1
    assert torch.equal(make(future), made)
    used = torch.zeros(4, 60, dtype=torch.bool).scatter(1, retrieved_frames(actions[:, :45], 40), True)
    used |= torch.zeros_like(used).scatter(1, retrieved_frames(actions[:, :50], 45), True)
    used |= torch.zeros_like(used).scatter(1, retrieved_frames(actions[:, :55], 50), True)
    used[:, 40:] = False
    assert (~used[:, :40]).any(1).all()
    other = latents + (~used)[..., None, None]
    assert torch.allclose(make(other)[:, 40:, :16], made[:, 40:, :16], atol=1e-5)
    assert not torch.allclose(make(latents + used[..., None, None])[:, 40:, :16], made[:, 40:, :16], atol=1e-2)


def test_a_run_can_begin_with_the_weights_of_the_package(tmp_path):
    shipped.begin(tmp_path / "run")
    run = Run(tmp_path / "run")
    assert run.is_complete("tokenizer") and run.result("tokenizer")["steps"] == Settings().tokenizer_steps
    for name in ("millivid_long", "rollout_upscale_long"):
        row = ROWS[name]
        training = dataclasses.replace(MINI_VIDEO_TRAINING, steps=Settings().long_steps)
        model, history = train_video(row.experiment, None, None, training, run.root / name, progress=False)
        assert len(history["loss"]) == Settings().long_steps  # nothing is left to train
        trained = Pipeline.from_pretrained(f"mini-{name.removesuffix('_long').replace('_', '-')}").model.state_dict()
        assert all(torch.equal(value, trained[key]) for key, value in model.state_dict().items())
    with pytest.raises(UserError, match="name a new folder"):
        shipped.begin(tmp_path / "run")


@pytest.mark.parametrize("command", [command for _, command in everything.COMMANDS])
def test_the_list_of_all_commands_holds_only_such_that_are_understood(command, monkeypatch, capsys):
    first, *arguments = command.split()
    script = NBS.parent / arguments.pop(0) if first == "python" else None
    monkeypatch.setattr(sys, "argv", [str(script), *arguments, "--help"])  # help comes after what stands before it
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(script), run_name="__main__") if script else main([*arguments, "--help"])
    assert not stop.value.code and "usage" in capsys.readouterr().out
