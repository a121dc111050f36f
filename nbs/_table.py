"""Put further runs into the table of the lessons, nbs/results/comparison.json: new rows, or other seeds.

    millivid reproduce --seed 1 --rows millivid_long framepack_long --out runs/seed1 --results out/seed1
    python nbs/_shipped.py runs/more
    millivid reproduce --rows millivid_long rollout_upscale_long --out runs/more --results out/more
    python nbs/_table.py out/seed1/comparison.json out/more/comparison.json

Rows that the table has stay as they are; `--replace ROW` takes one from the run instead.
"""

import argparse
import json
import re
from dataclasses import asdict
from pathlib import Path

from millivid.basics import require, write_atomically
from millivid.experiments.report import comparison_markdown, read_comparison
from millivid.experiments.reproduce import ROWS, Settings
from millivid.plots import BOUNDS, figure_bytes, plot_curves, plot_rows

TABLE = Path(__file__).resolve().parent / "results" / "comparison.json"
PARTS = ("rows", "share", "models", "diagnosis", "levels", "leads", "curves", "seconds")  # {row: ...} in each


def check(table: dict, result: dict):
    "Raises UserError where a run has other settings than the table, or other numbers of the same training."
    for name in asdict(Settings()):
        own, value = table["settings"][name], result["settings"][name]
        require(name in ("seed", "metrics") or own == value,
                f"this run was made with {name} {value}, the table with {own}: give a run with the same settings")
    if result["settings"]["seed"] == table["settings"]["seed"]:
        for row in result["rows"].keys() & table["rows"].keys():
            own, value = (part["rows"][row]["psnr"]["long"]["mean"] for part in (table, result))
            require(abs(own - value) < .1, f"{row} has {value:.2f} dB in this run and {own:.2f} in the table: it is "
                    "another training; give a run that begins with `_shipped.py`")


def add_rows(table: dict, result: dict, replaced=()):
    "Put the rows that the table has not yet into it, and those that are to be replaced."
    for part in PARTS:
        old = table[part].keys() - ({*replaced} if part != "seconds" else ())  # times of other days do not compare
        for row in result[part].keys() - old:
            table[part][row] = result[part][row]
        known = [*ROWS, *BOUNDS]
        order = sorted(table[part], key=lambda row: known.index(row) if row in known else -1)
        table[part] = {row: table[part][row] for row in order}
    for row in {*replaced} & table.get("seeds", {}).keys():
        for metric, means in table["seeds"][row].items():
            for horizon, numbers in means.items():
                numbers[0] = table["rows"][row][metric][horizon]["mean"]


def add_seed(table: dict, result: dict):
    """Put the rows of a run with another seed into a table.

    "seeds" is {row: {metric: {horizon: [one mean for each seed]}}}, "seed_numbers" {row: [the seeds]}; the table's own
    seed comes first.
    """
    own, seed = table["settings"], result["settings"]["seed"]
    for row in result["models"].keys() & table["rows"].keys():
        numbers = table.setdefault("seed_numbers", {}).setdefault(row, [own["seed"]])
        place = numbers.index(seed) if seed in numbers else len(numbers)
        numbers[place:place + 1] = [seed]
        for metric in result["rows"][row].keys() & table["rows"][row].keys():
            for horizon, score in result["rows"][row][metric].items():
                means = table.setdefault("seeds", {}).setdefault(row, {}).setdefault(metric, {})
                means = means.setdefault(horizon, [table["rows"][row][metric][horizon]["mean"]])
                means[place:place + 1] = [score["mean"]]
    for name in ("seeds", "seed_numbers"):
        table[name] = {row: table[name][row] for row in table["rows"] if row in table[name]}  # in the table's order


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", help="comparison.json of a run")
    parser.add_argument("--replace", action="append", default=[], metavar="ROW")
    options, table = parser.parse_args(), read_comparison(TABLE)
    for file in options.files:
        check(table, result := read_comparison(file))
        if result["settings"]["seed"] == table["settings"]["seed"]:
            add_rows(table, result, options.replace)
        else:
            add_seed(table, result)
    text = json.dumps(table, indent=1, allow_nan=False) + "\n"
    text = re.sub(r"\[[^][{}]*\]", lambda numbers: " ".join(numbers[0].split()), text)  # a list, a line
    write_atomically(TABLE, lambda path: path.write_text(text))
    write_atomically(TABLE.with_suffix(".md"), lambda path: path.write_text(comparison_markdown(table)))
    for name, figure in {"rows": plot_rows(table), "curves": plot_curves(table)}.items():
        small = figure_bytes(figure, dpi=90, colours=200)
        write_atomically(TABLE.with_name(f"comparison_{name}.png"), lambda path: path.write_bytes(small))


if __name__ == "__main__":
    main()
