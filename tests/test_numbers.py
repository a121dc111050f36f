"The tables in README and in the model cards are those that `millivid reproduce` left in nbs/results/comparison.json."

import json
from pathlib import Path

import pytest

from millivid.experiments.report import format_comparison, read_comparison
from millivid.pipeline import MINI_EXPERIMENTS, PACKAGED
from millivid.plots import BOUNDS

ROOT = Path(__file__).parent.parent
RESULT = read_comparison(ROOT / "nbs" / "results" / "comparison.json")
SHIPPED = {name: f"{name}_long" for name in MINI_EXPERIMENTS}  # the rows whose weights are in the package
TABLE = [*SHIPPED.values(), "rollout_upscale_long", *(name for name in BOUNDS if name != "repeat_last")]


def folder(name):
    return PACKAGED / f"mini-{name.replace('_', '-')}"


def test_the_table_of_the_readme_is_that_of_the_comparison():
    assert format_comparison(RESULT, rows=TABLE) in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", SHIPPED)
def test_cards_give_the_numbers_of_their_row(name):
    text, model = (folder(name) / "README.md").read_text(), RESULT["models"][SHIPPED[name]]
    for metric in ("psnr", "psnr_seen"):
        assert format_comparison(RESULT, metric, rows=TABLE) in text
    history = json.loads((folder(name) / "history.json").read_text())
    assert history["held_out"][-1]["loss"] == model["held_out_loss"] and f"{model['steps']:,} steps" in text


def test_the_tokenizers_card_gives_its_last_held_out_numbers():
    last = RESULT["tokenizers"]["tokenizer"]["held_out"]
    assert json.loads((folder("tokenizer") / "history.json").read_text())["held_out"][-1] == last
    levels = " / ".join(f"{last[f'psnr_level{level}']:.1f}" for level in range(3))
    assert f"{levels} dB" in (folder("tokenizer") / "README.md").read_text()
