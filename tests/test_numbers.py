"The numbers in README and in the model cards are those that `millivid demo` left in nbs/results/demo.json."
import json
from dataclasses import asdict
from pathlib import Path

import pytest

from millivid.evaluation import format_table
from millivid.hub import PACKAGED
from millivid.reproduce import Settings
from millivid.results import format_comparison, format_models, read_comparison

ROOT = Path(__file__).parent.parent
RESULTS = json.loads((ROOT / "nbs" / "results" / "demo.json").read_text())


@pytest.mark.parametrize("text", [ROOT / "README.md", *(PACKAGED / f"mini-{name}" / "README.md" for name in
                                                       ("millivid", "framepack", "full-resolution"))], ids=lambda p: p.parent.name)
def test_table_is_the_one_of_the_demo(text):
    assert format_table(RESULTS["psnr"], RESULTS["generated_frames"]) in text.read_text()


def test_tokenizer_card_gives_the_last_held_out_numbers():
    last = json.loads((PACKAGED / "mini-tokenizer" / "history.json").read_text())["held_out"][-1]
    numbers = " / ".join(f"{last[f'psnr_level{level}']:.1f}" for level in range(3))
    assert f"{numbers} dB" in (PACKAGED / "mini-tokenizer" / "README.md").read_text()


@pytest.mark.parametrize("file", sorted((ROOT / "nbs" / "results").glob("comparison*.json")), ids=lambda p: p.stem)
def test_the_tables_beside_a_comparison_are_made_from_it(file):
    result, tables = read_comparison(file), file.with_suffix(".md").read_text()
    for table in (format_comparison(result), format_comparison(result, "psnr_seen"), format_comparison(result, "ssim", 2), format_models(result)):
        assert table in tables


def test_the_comparison_was_made_with_the_default_settings():
    settings = read_comparison(ROOT / "nbs" / "results" / "comparison.json")["settings"]
    assert {name: settings[name] for name in asdict(Settings())} == json.loads(json.dumps(asdict(Settings())))
    assert settings["generated"] >= 256 and settings["episodes"] >= 64
