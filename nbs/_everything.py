"""Make every number of the lessons anew, one command after the other.

    python nbs/_everything.py           # lists the commands, how long each takes, and which are done
    python nbs/_everything.py --run     # about 30 hours of one core; interrupt it, the same command goes on

What is done is not done again; to repeat a command, delete its line from runs/everything.json. The files in nbs/results
are written anew: `git diff` then says what came out differently.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import _gallery as gallery

from millivid.basics import write_json
from millivid.experiments.reproduce import MAIN_ROWS

NBS = Path(__file__).resolve().parent
DONE = NBS.parent / "runs" / "everything.json"
LONG = " ".join(f"{name}_long" for name in (*MAIN_ROWS, "rollout_upscale"))
SEEDS = " ".join(f"out/seed{seed}/comparison.json" for seed in (1, 2))
COMMANDS = [  # hours of one core, command
    (15, "millivid reproduce --out runs/table --results out/table"),
    *((5.5, f"millivid reproduce --seed {seed} --rows {LONG} --out runs/seed{seed} --results out/seed{seed}")
      for seed in (1, 2)),
    (.1, f"python nbs/_table.py {SEEDS}"),
    (.1, "python nbs/_shipped.py runs/emergence"),
    (.3, "python nbs/_emergence.py train runs/emergence millivid"),
    (.3, "python nbs/_emergence.py train runs/emergence framepack"),
    (.2, "python nbs/_emergence.py measure runs/emergence"),
    (.1, "python nbs/_emergence.py look"),
    (.5, "python nbs/_horizon.py"),
    (.2, "python nbs/_sampling.py"),
    (.1, "python nbs/_stream.py"),
    *((hours, f"python nbs/_gallery.py {what} runs/gallery {row}")
      for row in gallery.ROWS for what, hours in (("train", .4), ("generate", .1))),
    (.1, "python nbs/_gallery.py measure runs/gallery"),
]


def programme(command: str) -> list[str]:
    "A command of the list as this Python runs it."
    first, *rest = command.split()
    return [sys.executable, *(["-m", "millivid"] if first == "millivid" else []), *rest]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="run what is not done yet")
    options = parser.parse_args()
    done = json.loads(DONE.read_text()) if DONE.exists() else []
    for hours, command in COMMANDS:
        print(f"{'done' if command in done else f'{hours:4.1f}'}  {command}", flush=True)
        if options.run and command not in done:
            if subprocess.run(programme(command), cwd=NBS.parent).returncode:
                sys.exit(f"This failed, and what is done stays done:\n    {command}")
            done.append(command)
            DONE.parent.mkdir(exist_ok=True)
            write_json(DONE, done)


if __name__ == "__main__":
    main()
