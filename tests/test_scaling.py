"What a pass and a rollout cost, and the paper's full size with random weights."

import pytest
import torch
from tiny import assert_says
from torch.utils.flop_counter import FlopCounterMode

from millivid.basics import UserError
from millivid.experiments.cost import measure_full_size, pass_flops, rollout_flops
from millivid.layers import DiTBlock, TransformerConfig
from millivid.pipeline import MINI_EXPERIMENTS, PAPER_EXPERIMENTS


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
