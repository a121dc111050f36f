"""Kill a training again and again, and see that nothing is lost.

    python tests/faults.py              # 20 kills, a few minutes; leaves nbs/results/faults.json

A small model is trained in a process of its own, which writes a checkpoint after every second step. Half of the kills
(signal 9, which no program can catch) come at a random moment, the others while a checkpoint is being written. At the
end weights, optimizers and history must be those of a training that nobody disturbed, to the last bit.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from millivid.basics import write_json

RESULTS = Path(__file__).resolve().parents[1] / "nbs" / "results"
STEPS = 400
TRAINING = f"""
import sys, torch
from millivid.training import TrainingConfig, train
torch.set_num_threads(1)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(64, 2048), torch.nn.ReLU(), torch.nn.Linear(2048, 64))
config = TrainingConfig(steps={STEPS}, batch_size=4, warmup_steps=5, autocast=False, checkpoint_every=2)
draw = lambda generator: (torch.randn(4, 64, generator=generator),)
train(model, lambda model, x: (model(x) - x).square().mean(), draw, config, sys.argv[1], progress=False)
"""


def start(folder: Path) -> subprocess.Popen:
    "Begin the training, or go on with it."
    return subprocess.Popen([sys.executable, "-c", TRAINING, folder], env=os.environ | {"OMP_NUM_THREADS": "1"})


def half_written(folder: Path) -> bool:
    "Is a checkpoint being written at this moment?"
    return any(folder.glob(".checkpoint.pt.*"))


def kill(process: subprocess.Popen, folder: Path, rng: random.Random, while_writing: bool) -> bool:
    "Kill a training some time after it has made progress. Was a checkpoint being written then?"
    checkpoint, seconds = folder / "checkpoint.pt", rng.uniform(0, .3)
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    while process.poll() is None and not (checkpoint.exists() and checkpoint.stat().st_mtime_ns != before):
        time.sleep(.001)
    time.sleep(seconds)
    while while_writing and process.poll() is None and not half_written(folder):
        pass
    process.send_signal(signal.SIGSTOP)  # so that it does not go on while we look; nothing where it has ended
    found = half_written(folder)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return found


def same(one, two) -> bool:
    "Are two checkpoints the same to the last bit?"
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[name], two[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two


def run(kills: int, root: Path, seed: int = 0) -> dict:
    "Kill a training that often, let it end, and compare it with an undisturbed one."
    rng, alone, killed = random.Random(seed), root / "alone", root / "killed"
    assert start(alone).wait() == 0
    killed.mkdir()
    done, writing = 0, 0
    while done < kills:
        process = start(killed)
        writing += kill(process, killed, rng, while_writing=done % 2 == 1)
        if process.returncode == 0:
            break  # it had come to its end
        done += 1
    assert start(killed).wait() == 0
    states = [torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (alone, killed)]
    left = sorted(path.name for path in killed.iterdir() if path.name not in ("checkpoint.pt", "history.json", ".lock"))
    return {"kills": done, "while_writing": writing, "steps": states[1]["step"], "same": same(*states), "left": left}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--out", type=Path, default=RESULTS / "faults.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = {"command": "python tests/faults.py"} | run(options.kills, Path(folder))
    write_json(options.out, result)
    print(result)


if __name__ == "__main__":
    main()
