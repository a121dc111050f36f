"The plain implementation computes what the package computes, and the benchmark measures both honestly."

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import PYRAMID, TRANSFORMER, assert_says, random_video, randomised

from millivid.basics import UserError
from millivid.cli import main
from millivid.experiments import benchmark as bench
from millivid.experiments.benchmark import Case, plain_decode, plain_forward, plain_loss, run_case
from millivid.pipeline import MINI_EXPERIMENTS, Pipeline
from millivid.schedule import millivid_schedule
from millivid.tokenizer import Tokenizer, TokenizerConfig, decode_latents
from millivid.training import draw_noise, video_loss
from millivid.video import VideoConfig, VideoModel, step_indices, training_tokens

RESULT = json.loads((Path(__file__).parents[1] / "nbs" / "results" / "benchmark.json").read_text())
CPU = torch.device("cpu")


@pytest.fixture
def batch():
    "A model with odometry, and three samples of other steps of a schedule, so that two are padded."
    model = randomised(VideoModel(VideoConfig(4, 3, TRANSFORMER, odometry=True)))
    latents, actions = random_video(3, 40)
    steps = step_indices(millivid_schedule((1, 2, 4), 16, PYRAMID.tokens_per_level), PYRAMID)
    small = [replace(step, **{part: getattr(step, part)[cut:] for part in ("frame", "token", "role")})
             for step, cut in zip(steps, (0, 3, 9))]
    tokens = training_tokens(latents, actions, small, PYRAMID.coordinates())
    assert (tokens.roles == 0).any()
    return model, tokens, draw_noise(tokens.values, torch.Generator().manual_seed(3), dropout=.4)


def test_the_plain_model_predicts_what_the_package_predicts(batch):
    model, tokens, (eps, t, conditional) = batch
    assert conditional.any() and not conditional.all()
    times = torch.where(tokens.is_target, t, 0.)
    with torch.no_grad():
        plain, ours = plain_forward(model, eps, times, tokens, conditional), model(eps, times, tokens, conditional)
    real = tokens.roles > 0
    assert plain[real].std() > .1
    torch.testing.assert_close(plain[real], ours[real], rtol=0, atol=1e-5)


def test_the_plain_loss_has_the_same_gradient(batch):
    model, tokens, noise = batch
    gradients = []
    for loss in (plain_loss, video_loss):
        model.zero_grad()
        loss(model, tokens, *noise).backward()
        gradients.append({name: part.grad for name, part in model.named_parameters() if part.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() == {name for name, _ in model.named_parameters()}
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("level", range(3))
def test_the_plain_decoder_draws_what_the_package_draws(level):
    tokenizer = randomised(Tokenizer(TokenizerConfig(PYRAMID, 4, TRANSFORMER, TRANSFORMER)))
    latents = random_video(1, 5)[0][0]
    plain, ours = (draw(tokenizer, latents, level).astype(int) for draw in (plain_decode, decode_latents))
    assert plain.std() > 10 and abs(plain - ours).max() <= 1


def test_a_benchmark_of_two_programs_that_differ_is_refused():
    with pytest.raises(UserError) as error:
        run_case(Case("sums", lambda: torch.ones(3), lambda: torch.ones(3) + 1e-3), CPU, 1)
    assert_says(error.value, "sums", "1.0e-03", "1.0e-04")
    with pytest.raises(UserError):
        run_case(Case("nothing", lambda: torch.ones(3), lambda: torch.full((3,), math.nan), tolerance=math.inf), CPU, 1)


def test_the_ratio_is_that_of_the_shortest_times(monkeypatch):
    clock = [0.]  # only the two programs take time
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    waits = {"plain": iter([1., 5., 2., 4.]), "fast": iter([.5, 1., 4., 4.])}  # the first ones are not counted

    def wait(name):
        clock[0] += next(waits[name])
        return torch.zeros(1)

    row = run_case(Case("waiting", lambda: wait("plain"), lambda: wait("fast"), .6, flops=1e6), CPU, 3, {False: 1e9})
    assert (row["plain_seconds"], row["seconds"], row["ratio"], row["target"]) == (2, 1, .5, .6)
    assert row["share_of_peak"] == pytest.approx(1e-3) and row["psnr"] is None
    assert [*waits["plain"]] == [*waits["fast"]] == []  # three times each


def test_short_cases_are_timed_more_often(monkeypatch):
    clock, runs = [0.], []
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def wait():
        clock[0] += 1
        return torch.zeros(1)

    run_case(Case("waiting", wait, lambda: runs.append(1) or wait()), CPU, 2, least=9.)
    assert len(runs) == 1 + 5  # to warm up, then pairs of two seconds each until nine are over


def test_the_command_writes_ratios_and_prints_a_table(tmp_path, capsys, monkeypatch):
    def few(device, quick, folder):
        assert quick
        yield from bench.pass_cases(MINI_EXPERIMENTS["millivid"], "mini", device)
        yield bench.loading_case(MINI_EXPERIMENTS["millivid"], folder, 2)

    monkeypatch.setattr(bench, "benchmark_cases", few)
    before = torch.get_num_threads()
    assert main(["benchmark", "--quick", "--threads", "1", "--out", str(tmp_path / "a" / "b.json")]) is None
    torch.set_num_threads(before)
    result = json.loads((tmp_path / "a" / "b.json").read_text())
    assert {"pass, size mini, 160 tokens", "reading 2 samples of 160 tokens"} <= result["ratios"].keys()
    assert all(ratio > 0 for ratio in result["ratios"].values()) and result["machine"]["threads"] == 1
    table = capsys.readouterr().out
    assert_says(table, *result["ratios"], "ratio", tmp_path / "a" / "b.json")
    assert main(["benchmark", "--quick", "--out", str(tmp_path)]) == 2
    assert_says(capsys.readouterr().err, "--out", tmp_path, "is a folder")


def test_a_rollout_is_measured_against_the_truth():
    pipeline, rng = Pipeline.from_pretrained("mini-full-resolution"), np.random.default_rng(0)
    frames, actions = rng.integers(0, 256, (1, 11, 64, 64, 3), dtype=np.uint8), torch.zeros(1, 11, 6)
    case = bench.rollout_case(pipeline, frames, actions, 10)
    plain, fast = case.plain(), case.fast()
    assert (plain - fast).abs().max() < .05 and case.quality(plain) == pytest.approx(case.quality(fast), abs=.05)
    assert 5 < case.quality(fast) < 20  # noise has no pattern to continue


# ---- the table in the repository -------------------------------------------------------------------------------------


def test_the_published_table_is_whole():
    names = {row["name"] for row in RESULT["rows"]}
    assert RESULT["ratios"].keys() == names and RESULT["machine"]["threads"] == 2
    for size in "SB":
        for tokens in ("1,280", "3,840"):
            assert {f"pass, size {size}, {tokens} tokens", f"pass, size {size}, {tokens} tokens, bfloat16"} <= names
    for row in RESULT["rows"]:
        assert row["ratio"] == pytest.approx(row["seconds"] / row["plain_seconds"]) == RESULT["ratios"][row["name"]]
        if row["psnr"] is not None:  # the same quality
            assert abs(row["psnr"] - row["plain_psnr"]) < .05, row
        exact = "bfloat16" not in row["name"] and "rollout" not in row["name"] and "decoding" not in row["name"]
        assert not exact or row["largest_difference"] <= 1e-4
