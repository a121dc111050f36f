"The numbers in README and in the model cards are those that `millivid reproduce` left in nbs/results/comparison.json."
import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from millivid.experiments.report import BOUNDS, format_comparison, format_models, read_comparison
from millivid.experiments.reproduce import ROWS, Settings
from millivid.pipeline import MINI_EXPERIMENTS, PACKAGED

ROOT = Path(__file__).parent.parent
RESULT = read_comparison(ROOT / "nbs" / "results" / "comparison.json")
SHIPPED = {name: f"{name}_long" for name in MINI_EXPERIMENTS}  # the rows whose weights are in the package
TABLE = [*SHIPPED.values(), "rollout_upscale_long", *(name for name in BOUNDS if name != "repeat_last")]


def card(name):
    return (PACKAGED / f"mini-{name.replace('_', '-')}" / "README.md").read_text()


def gain(row):
    "By how much the last thousand steps before the decay of the learning rate improved the held-out loss: means of three evaluations."
    curve, last = dict(RESULT["models"][row]["held_out_curve"]), int(.6 * RESULT["models"][row]["steps"]) // 200 * 200
    after, before = (sum(curve[end - ago] for ago in (0, 200, 400)) for end in (last, last - 1_000))
    return 1 - after / before


def test_the_table_of_the_readme_is_that_of_the_comparison():
    assert format_comparison(RESULT, rows=TABLE) in (ROOT / "README.md").read_text()


def test_the_readme_says_how_much_more_training_would_have_brought():
    gains = [f"{gain(row):.0%}" for row in SHIPPED.values()]
    assert f"by {gains[0]} (MilliVid), {gains[1]} (FramePack) and {gains[2]} (full resolution)" in (ROOT / "README.md").read_text()


def test_the_readme_counts_rows_and_episodes():
    text, settings = " ".join((ROOT / "README.md").read_text().split()), RESULT["settings"]
    assert f"{settings['episodes']} test episodes" in text and f"{settings['context']} context frames, {settings['generated']} generated frames" in text
    assert f"{settings['long_steps']:,} steps" in text
    assert f"{len(RESULT['models'])} of the {len(ROWS)} rows" in text or set(RESULT["models"]) == set(ROWS)


@pytest.mark.parametrize("name", SHIPPED)
def test_cards_give_the_numbers_of_their_row(name):
    text, model = card(name), RESULT["models"][SHIPPED[name]]
    for metric in ("psnr", "psnr_seen"):
        assert format_comparison(RESULT, metric, rows=TABLE) in text
    losses = re.findall(r"(0\.\d{4}) at step (\d+)", text)
    assert losses and all([int(step), float(loss)] in model["held_out_curve"] for loss, step in losses)
    assert f"{model['steps']:,} steps" in text and f"improved it by {gain(SHIPPED[name]):.0%}" in text
    assert json.loads((PACKAGED / f"mini-{name.replace('_', '-')}" / "history.json").read_text())["held_out"][-1]["loss"] == model["held_out_loss"]


def test_tokenizer_card_gives_the_last_held_out_numbers():
    last = RESULT["tokenizers"]["tokenizer"]["held_out"]
    assert json.loads((PACKAGED / "mini-tokenizer" / "history.json").read_text())["held_out"][-1] == last
    assert " / ".join(f"{last[f'psnr_level{level}']:.1f}" for level in range(3)) + " dB" in card("tokenizer")


@pytest.mark.parametrize("file", sorted((ROOT / "nbs" / "results").glob("comparison*.json")), ids=lambda p: p.stem)
def test_the_tables_beside_a_comparison_are_made_from_it(file):
    result, tables = read_comparison(file), file.with_suffix(".md").read_text()
    for table in (format_comparison(result), format_comparison(result, "psnr_seen"), format_comparison(result, "ssim", 2), format_models(result)):
        assert table in tables


def test_the_comparison_was_made_with_the_default_settings():
    settings = RESULT["settings"]
    assert {name: settings[name] for name in asdict(Settings())} == json.loads(json.dumps(asdict(Settings())))
    assert settings["generated"] >= 256 and settings["episodes"] >= 64


def test_what_the_readme_says_of_the_second_world():
    rows = read_comparison(ROOT / "nbs" / "results" / "comparison_doom.json")["rows"]
    assert "fog that does not beat the mean of the context frames" in (ROOT / "README.md").read_text()
    for horizon in ("short", "medium", "long"):
        assert all(rows[name]["psnr"][horizon]["mean"] < rows["average_context"]["psnr"][horizon]["mean"] for name in MINI_EXPERIMENTS)


def test_what_the_readme_says_of_plain_actions():
    assert "without it, a MilliVid of this size does not remember either" in (ROOT / "README.md").read_text()
    for name in ("millivid_plain", "millivid_pose_head"):
        assert RESULT["rows"][name]["psnr"]["long"]["mean"] < RESULT["rows"]["average_room"]["psnr"]["long"]["mean"]


def test_four_levels():
    "What chapter 10 says in words."
    four = read_comparison(ROOT / "nbs" / "results" / "comparison_4_levels.json")
    lead, rows = four["leads"]["framepack"]["psnr"]["long"], four["rows"]
    assert four["settings"]["levels"] == 4 and f"{lead['mean']:.1f} dB ahead of FramePack" in (ROOT / "nbs" / "10_results.ipynb").read_text()
    assert rows["framepack"]["psnr"]["long"]["high"] < rows["average_room"]["psnr"]["long"]["low"]
    assert 2.5 < four["diagnosis"]["framepack"]["behind"] / four["diagnosis"]["millivid"]["behind"] < 3
