"What a pass, a rollout, a training and a corpus cost, and the paper's full size with random weights."

import json
import re
from pathlib import Path

import pytest
import torch
from tiny import assert_says
from torch.utils.flop_counter import FlopCounterMode

from millivid.basics import UserError
from millivid.experiments.cost import corpus_cost, encoding_flops, measure_full_size, pass_flops, rollout_flops
from millivid.experiments.cost import training_flops
from millivid.layers import DiTBlock, TransformerConfig
from millivid.pipeline import MINI_EXPERIMENTS, PAPER_EXPERIMENTS, PAPER_TOKENIZERS
from millivid.release import write_pyramid
from millivid.tokenizer import MINI_TOKENIZER, Encoder
from millivid.training import PAPER_TRAINING, TrainingConfig

NBS = Path(__file__).parents[1] / "nbs"


@pytest.mark.parametrize("width, tokens", [(128, 160), (768, 1280)])
def test_the_formula_is_what_pytorch_counts(width, tokens):
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        DiTBlock(TransformerConfig(width, 1, 4))(torch.empty(1, tokens, width), torch.empty(1, width))
    assert pass_flops(TransformerConfig(width, 1, 4), tokens) == pytest.approx(counter.get_total_flops(), rel=.01)


@pytest.mark.parametrize("experiments", [MINI_EXPERIMENTS, PAPER_EXPERIMENTS])
@pytest.mark.parametrize("method", ["millivid", "framepack", "full_resolution"])
def test_the_cost_of_a_rollout_grows_with_its_length(experiments, method):
    experiment = experiments[method]
    one = pass_flops(experiment.video.transformer, experiment.tokens_per_step)
    costs = [rollout_flops(experiment, frames) for frames in (1, 192, 384)]
    assert costs[0] >= one and costs[1] % one == 0  # every step costs the same
    assert costs[2] == pytest.approx(2 * costs[1], rel=.03)


def test_the_full_size_fits_into_a_laptop():
    parts = list(measure_full_size("ablation_millivid", "cpu"))  # as `millivid measure`, with a third of the tokens
    assert_says(" ".join(what for what, _, _ in parts), "130 M parameters", "1,280 tokens", "214 M", "256 x 256")
    assert all(seconds > 0 for _, seconds, _ in parts)
    assert 214e6 * 4 / 1e9 < max(gigabytes for *_, gigabytes in parts) < 6


@pytest.mark.parametrize("name", ["framepack", "nonsense"])
def test_what_cannot_be_measured(name):
    with pytest.raises(UserError) as error:
        next(measure_full_size(name))
    assert_says(error.value, name, "use one of millivid")


@pytest.mark.parametrize("config", [MINI_TOKENIZER, PAPER_TOKENIZERS["autoencoder"]], ids=["mini", "paper"])
def test_encoding_costs_what_pytorch_counts(config):
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        for block in Encoder(config).blocks:
            block(torch.empty(1, config.pyramid.num_tokens, config.encoder.width))
    assert encoding_flops(config) == pytest.approx(counter.get_total_flops(), rel=.01)


def test_a_training_is_three_passes_for_each_sample():
    assert training_flops(7., TrainingConfig(steps=10, batch_size=4, micro_batches=2)) == 3 * 7 * 80


def test_latents_take_the_bytes_that_the_corpus_counts(tmp_path):
    pyramid = MINI_TOKENIZER.pyramid
    write_pyramid(tmp_path / "a.pyramid", torch.zeros(36, pyramid.num_tokens, 16), torch.zeros(36, 6), pyramid)
    cost = corpus_cost(36 / 12 / 3600, 12, MINI_TOKENIZER)
    assert cost["frames"] == pytest.approx(36) and cost["flops"] == pytest.approx(36 * encoding_flops(MINI_TOKENIZER))
    assert (tmp_path / "a.pyramid").stat().st_size == pytest.approx(cost["bytes"])


def test_the_lesson_says_what_the_formulas_and_the_benchmark_say():
    cells = json.loads((NBS / "15_scaling.ipynb").read_text())["cells"]
    text = re.sub(r"\s+", " ", "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"))
    paper, tokenizer, main = PAPER_EXPERIMENTS["millivid"], PAPER_TOKENIZERS["autoencoder"], PAPER_TRAINING["main"]
    one = pass_flops(paper.video.transformer, paper.tokens_per_step)
    video = training_flops(one, main)
    whole = video + training_flops(2 * encoding_flops(tokenizer), PAPER_TRAINING["autoencoder"])
    assert 24 < whole / 300e12 / 3600 / 8 < 48 and 900 < whole / 300e12 / 3600 * 3 < 1_100
    assert 10 < corpus_cost(1e6)["flops"] / video < 15
    even = video / corpus_cost(1)["flops"]
    clips = main.steps * main.batch_size * main.micro_batches / 1e6
    assert_says(text, "192,000 batches of 384", "128,000 batches of 1,792", "Less than two days", "a thousand dollars",
                f"draws {clips:.0f} clips", f"{corpus_cost(1e5)['bytes'] / 1e12:.0f} TB of latents",
                f"some {round(8 * 300e12 / 3 / one, -1):.0f} samples a second",
                f"about {round(even, -3):,.0f} hours", f"some {round(even, -4):,.0f} hours")
    result = json.loads((NBS / "results" / "benchmark.json").read_text())
    peak = result["machine"]["peak_gflops"]["float32"]
    rows = {row["name"]: row for row in result["rows"]}
    passes = [row for name, row in rows.items() if re.fullmatch(r"pass, size [SB], .* tokens", name)]
    speeds, times = ([each(row) for row in passes] for each in (lambda row: row["share_of_peak"] * peak,
                                                                lambda row: row["seconds"]))
    step = rows["training step, size S, 2 x 1,280 tokens"]["share_of_peak"] * peak
    assert_says(text, f"run at {min(speeds):.0f} to {max(speeds):.0f} GFLOP/s", f"size S reaches {step:.0f}:",
                f"takes {max(times) / min(times):.0f} times as long")
