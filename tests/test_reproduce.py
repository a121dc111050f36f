"The command that makes the table, with settings so small that its numbers mean nothing."

import dataclasses
import json
import shutil
import subprocess
import sys
import time

import pytest
import torch
from tiny import assert_says

from millivid.cli import main
from millivid.evaluation import METRICS
from millivid.experiments.report import BOUNDS, TITLES, format_plan_gains, format_plans, read_comparison
from millivid.experiments.reproduce import PLANS, QUICK, ROWS, Row, Settings, _command, _lead, collect, find_row
from millivid.experiments.reproduce import is_complete, refine_plan, reproduce, run_job, run_jobs, run_row
from millivid.experiments.reproduce import run_tokenizer, table_rows, write_results
from millivid.pipeline import Pipeline
from millivid.schedule import schedule_text
from millivid.worlds.doom import DoomWorld

TOY = dict(tokenizer_steps=3, steps=3, long_steps=4, rooms=2, episodes=2, generated=24, sampling_steps=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("reproduce")


@pytest.fixture(scope="module")
def result(folder):
    return reproduce(folder, ["framepack_cascaded"], Settings(**TOY))


def test_rows_have_the_same_size_and_nearly_the_same_budget():
    tokens = {name: row.experiment.tokens_per_step for name, row in ROWS.items()}
    assert all(144 <= count <= 176 for count in tokens.values()), tokens  # 160, within ten percent
    assert len({row.experiment.video.transformer for row in ROWS.values()}) == 1
    predicted = {name: ROWS[name].experiment.predicted_tokens for name in ("millivid", "framepack", "full_resolution", "framepack_mirrored", "rollout_upscale")}
    assert predicted == pytest.approx({"millivid": 32, "framepack": 2 * 16, "full_resolution": 5 * 16, "framepack_mirrored": 2 * (16 + 4 + 1) + 4 * 4 + 16, "rollout_upscale": (72 + 2 * 64) / 3})
    assert all(row.experiment.context_frames <= Settings().context for row in ROWS.values())
    assert {name for name, row in ROWS.items() if not row.experiment.video.odometry} == {"millivid_plain", "millivid_pose_head"}
    assert set(ROWS) | set(BOUNDS) == set(TITLES)


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
        assert levels["0"] == pytest.approx({horizon: value["mean"] for horizon, value in result["rows"][name]["psnr"].items()}, abs=1e-3), name


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
        for part in [done] if name != "bounds" else [part for part in done.values() if "metrics" in part]:
            part["metrics"] = {metric: values for metric, values in part["metrics"].items() if not metric.startswith("ssim")} | others
            part["missing"]["ssim"] = reason
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
    assert not any(is_complete(copy / name, Settings(**TOY)) for name in ("framepack_cascaded", "bounds"))
    run_job("framepack_cascaded", copy, Settings(**TOY))
    row = json.loads((copy / "framepack_cascaded" / "done.json").read_text())
    assert row["metrics"]["ssim"]["long"] == result["rows"]["framepack_cascaded"]["ssim"]["long"] and "ssim" not in row["missing"]
    assert row["metrics"]["lpips"] == {"kept": 1} and row["diagnosis"]["turn"] == result["diagnosis"]["framepack_cascaded"]["turn"]
    (copy / "framepack_cascaded" / "done.json").write_text(json.dumps(row | {"metrics": {name: value for name, value in row["metrics"].items() if name != "lpips"}}))
    bounds = json.loads((copy / "bounds" / "done.json").read_text())
    for part in bounds.values():
        part.get("metrics", {}).pop("lpips", None)
    (copy / "bounds" / "done.json").write_text(json.dumps(bounds))
    assert "ssim" not in collect(copy, {"framepack_cascaded": ROWS["framepack_cascaded"]}, Settings(**TOY))["share"]["framepack_cascaded"]  # the bounds lack it


def test_another_seed_is_another_table(result, tmp_path):
    other = reproduce(tmp_path, ["framepack_cascaded"], Settings(**TOY | {"seed": 1}))
    assert other["rows"]["framepack_cascaded"]["psnr"] != result["rows"]["framepack_cascaded"]["psnr"]
    assert other["tokenizers"] != result["tokenizers"]


def test_a_terminated_command_leaves_no_process_and_knows_its_seconds(tmp_path):
    command = [sys.executable, "-m", "millivid", "reproduce", "--rows", "framepack", "--rooms", "2", "--tokenizer-steps", "1000000", "--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as parent:
        log, deadline = tmp_path / "tokenizer" / "log.txt", time.time() + 120
        while not (log.exists() and "/1000000 [" in log.read_text()) and time.time() < deadline:
            time.sleep(.5)  # until the job trains
        parent.terminate()
        assert parent.wait(60) == 143
    size = log.stat().st_size
    time.sleep(3)
    assert log.stat().st_size == size  # nobody writes any more
    assert json.loads((tmp_path / "tokenizer" / "seconds.json").read_text())["train"] > 0


@pytest.mark.parametrize("few, least", [({"episodes": 1}, 2), ({"generated": 2}, 4), ({"world": "doom", "generated": 4}, 8), ({"sampling_steps": 1}, 2), ({"seed": -1}, 0), ({"steps": 0}, 1)])
def test_too_little_to_judge(few, least):
    with pytest.raises(ValueError) as error:
        Settings(**TOY | few)
    name, value = list(few.items())[-1]
    assert_says(error.value, f"{name} is {value}", f"at least {least}")


def test_other_settings_need_another_folder(result, folder):
    with pytest.raises(ValueError) as error:
        reproduce(folder, ["framepack_cascaded"], Settings(**TOY | {"steps": 5}))
    assert_says(error.value, folder, "other settings", '"steps": 3', "another folder")


def test_a_job_that_fails_says_where_to_look(tmp_path):
    (tmp_path / "framepack").mkdir()
    (tmp_path / "framepack" / "row.json").write_text(json.dumps(dataclasses.asdict(ROWS["framepack"])))
    (tmp_path / "settings.json").write_text(json.dumps(TOY))
    with pytest.raises(ChildProcessError) as error:
        run_jobs(["framepack"], tmp_path, Settings(**TOY))  # there is no tokenizer
    assert_says(error.value, "framepack failed with code", "log.txt", "again to go on")


def test_results_are_strict_json_with_tables_and_figures(result, folder, tmp_path):
    file = write_results(result, folder, tmp_path)
    json.loads(file.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert read_comparison(file) == result
    assert TITLES["framepack_cascaded"] in file.with_suffix(".md").read_text()
    assert {path.name for path in tmp_path.glob("*.png")} == {f"comparison_{name}.png" for name in ("rows", "curves", "strips_framepack_cascaded")}


def test_two_rows_exchange_their_plans(folder, result):
    pair = PLANS["plans"]
    plans = reproduce(folder, pair, Settings(**TOY))["plans"]
    psnr, gains = plans["plans"]["psnr"], plans["plans"]["gains"]
    assert set(psnr) == set(pair) and all(set(of) == {*pair, "truth"} for of in psnr.values())
    for name, first, second in (("plan_first", psnr[pair[0]][pair[0]], psnr[pair[0]][pair[1]]), ("plan_second", psnr[pair[1]][pair[0]], psnr[pair[1]][pair[1]]),
                                ("refinement_first", psnr[pair[0]][pair[0]], psnr[pair[1]][pair[0]]), ("refinement_truth", psnr[pair[0]]["truth"], psnr[pair[1]]["truth"])):
        for horizon, gain in gains[name].items():
            assert gain["mean"] == pytest.approx(second[horizon]["mean"] - first[horizon]["mean"], abs=1e-3) and gain["low"] <= gain["mean"] <= gain["high"]
    again = {"plans": plans, "settings": {"horizons": dict.fromkeys(("short", "medium", "long"))}}
    assert is_complete(folder / "plans", Settings(**TOY))
    (folder / pair[0] / "generated.safetensors").touch()  # as if it had been made anew
    assert not is_complete(folder / "plans", Settings(**TOY))
    assert format_plans(again).count("\n") == 3 and format_plan_gains(again).count("\n") == 6


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
    assert all(0 <= share <= 1 for share in known["right"] + known["right_or_opposite"]) and min(known["right"]) < .5  # four steps have not taught it everything
    assert result["pose_head"] == {}


@pytest.mark.parametrize("method", ["millivid", "rollout_upscale"])
def test_a_film_refined_from_its_own_plan_is_itself(method):
    experiment = ROWS[method].experiment
    generator, pyramid = Pipeline(Pipeline.from_pretrained("mini-millivid").model, experiment), experiment.pyramid  # the models differ in nothing but their schedule
    draw = torch.Generator().manual_seed(0)
    latents, actions = torch.randn(1, 90, sum(pyramid.tokens_per_level), 16, generator=draw), torch.zeros(1, 90, 6)
    film = generator.generate(latents, actions, 74, 90, 2, progress=False)
    again, other = (refine_plan(generator, latents, actions, plan[:, 74:], 74, 90, num_steps=2, progress=False) for plan in (film, latents))
    coarsest = pyramid.level_slice(pyramid.num_levels - 1)
    assert torch.equal(film, again)
    assert torch.equal(other[:, 74:, coarsest], latents[:, 74:, coarsest]) and not torch.allclose(other[:, 74:, :16], film[:, 74:, :16], atol=.1)


def test_a_row_of_your_own(folder, result, tmp_path, capsys):
    drawing = tmp_path / "mine.txt"
    drawing.write_text(schedule_text(ROWS["full_resolution"].experiment.schedule()).replace("\n\n", "\n") + "\n")  # a drawing of one level, for three
    assert main(["reproduce", "--own", str(drawing), "--out", str(folder)]) == 2
    assert_says(capsys.readouterr().err, "1 lines for 3 levels")
    mine = Row(dataclasses.replace(ROWS["millivid"].experiment, method="own", text=schedule_text(ROWS["millivid"].experiment.schedule())))
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
    assert result["settings"]["command"] == ("millivid reproduce --tokenizer-steps 3 --steps 3 --long-steps 4 --rooms 2 --episodes 2 --generated 24 "
                                             "--sampling-steps 2 --rows framepack_cascaded")


def test_the_command_names_quick_rows_and_drawings():
    quick = Settings(**QUICK)
    assert _command(dict(ROWS), Settings()) == "millivid reproduce"
    assert _command({"millivid": ROWS["millivid"]}, quick) == "millivid reproduce --quick --rows millivid"
    assert _command({"millivid": ROWS["millivid"], "mine": ROWS["two_speeds"]}, Settings()) == "millivid reproduce --rows millivid --own mine.txt"
    assert _command({"mine": ROWS["two_speeds"]}, Settings()) == "millivid reproduce --own mine.txt"


def test_a_lead_is_taken_episode_by_episode():
    parts = {metric: {"episodes": {"long": [20., 22., None]}} for metric in ("psnr", "psnr_seen")}, {metric: {"episodes": {"long": [15., 18., 3.]}} for metric in ("psnr", "psnr_seen")}
    assert _lead({"metrics": parts[0]}, {"metrics": parts[1]}, 0)["psnr"]["long"]["mean"] == 4.5


def test_four_levels_are_the_papers_ablations_on_a_quarter_of_the_grid(tmp_path):
    rows = table_rows(4)
    assert set(rows) == set(ROWS) - {"two_speeds", "rollout_upscale", "rollout_upscale_long"}
    for name, row in rows.items():
        assert row.experiment.pyramid.tokens_per_level == (64, 16, 4, 1) and row.experiment.video.num_levels == 4
        assert 256 <= row.experiment.tokens_per_step <= 341 and row.experiment.context_frames <= Settings().context, name
        assert row.experiment.video.odometry == ROWS[name].experiment.video.odometry and row.long == ROWS[name].long
    assert rows["millivid"].experiment.tokens_per_step == 1_280 // 4 and rows["framepack_hierarchical"].experiment.tokens_per_step == 1_364 // 4
    settings = Settings(**TOY | {"levels": 4, "generated": 8, "steps": 1, "tokenizer_steps": 1})
    run_tokenizer(tmp_path / "tokenizer", False, settings)
    (tmp_path / "framepack").mkdir()
    (tmp_path / "framepack" / "row.json").write_text(json.dumps(dataclasses.asdict(rows["framepack"])))
    run_row("framepack", tmp_path, settings)
    assert json.loads((tmp_path / "framepack" / "done.json").read_text())["model"]["tokens_per_step"] == 320
    with pytest.raises(ValueError) as error:
        Settings(levels=5)
    assert_says(error.value, "5 levels", "3 or 4")


def test_a_world_that_is_not_there():
    with pytest.raises(ValueError) as error:
        Settings(world="sea")
    assert_says(error.value, "'sea'", "rooms, doom")


def test_a_world_that_cannot_be_recorded_does_not_bind_the_folder(tmp_path, monkeypatch):
    def no_engine(*_):
        raise ValueError("recording needs ViZDoom")

    monkeypatch.setattr(DoomWorld, "record", no_engine)
    with pytest.raises(ValueError):
        reproduce(tmp_path, ["framepack"], Settings(world="doom"))
    assert not (tmp_path / "settings.json").exists()


def test_an_unknown_row(capsys, tmp_path):
    assert main(["reproduce", "--rows", "dream", "--out", str(tmp_path / "x")]) == 2
    assert_says(capsys.readouterr().err, "dream", "unknown", "framepack_mirrored")
    assert not (tmp_path / "x").exists()
