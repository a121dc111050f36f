"""Add runs with other seeds to the table of the lessons, nbs/results/comparison.json.

    millivid reproduce --seed 1 --rows millivid_long framepack_long full_resolution_long rollout_upscale_long \\
        --out runs/seed1 --results out/seed1
    python nbs/_seeds.py out/seed1/comparison.json ...
"""

import json
import re
import sys
from dataclasses import asdict
from pathlib import Path

from millivid.basics import require, write_atomically
from millivid.experiments.report import read_comparison
from millivid.experiments.reproduce import Settings

TABLE = Path(__file__).resolve().parent / "results" / "comparison.json"


def add_seed(table: dict, result: dict):
    """Put the rows of a run with another seed into a table.

    "seeds" is {row: {metric: {horizon: [one mean for each seed]}}}, "seed_numbers" {row: [the seeds]}; the table's own
    seed comes first. Raises UserError where the run was made with other settings.
    """
    own, seed = table["settings"], result["settings"]["seed"]
    for name in asdict(Settings()):
        value = result["settings"][name]
        require(name in ("seed", "metrics") or own[name] == value,
                f"this run was made with {name} {value}, the table with {own[name]}: give a run with the same settings")
    require(seed != own["seed"], f"seed {seed} is the table's own: give a run with another one")
    for row in result["models"].keys() & table["rows"].keys():
        numbers = table.setdefault("seed_numbers", {}).setdefault(row, [own["seed"]])
        place = numbers.index(seed) if seed in numbers else len(numbers)
        numbers[place:place + 1] = [seed]
        for metric in result["rows"][row].keys() & table["rows"][row].keys():
            for horizon, score in result["rows"][row][metric].items():
                means = table.setdefault("seeds", {}).setdefault(row, {}).setdefault(metric, {})
                means = means.setdefault(horizon, [table["rows"][row][metric][horizon]["mean"]])
                means[place:place + 1] = [score["mean"]]


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    table = read_comparison(TABLE)
    for file in sys.argv[1:]:
        add_seed(table, read_comparison(file))
    for name in ("seeds", "seed_numbers"):
        table[name] = {row: table[name][row] for row in table["rows"] if row in table[name]}  # in the table's order
    text = json.dumps(table, indent=1, allow_nan=False) + "\n"
    text = re.sub(r"\[[^][{}]*\]", lambda numbers: " ".join(numbers[0].split()), text)  # a list, a line
    write_atomically(TABLE, lambda path: path.write_text(text))


if __name__ == "__main__":
    main()
