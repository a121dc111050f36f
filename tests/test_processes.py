"""Several processes, started by `torchrun` or `accelerate launch`: the same training, each file written once."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from tiny import assert_says

from millivid.basics import UserError, processes
from millivid.release import Recordings
from millivid.training import TrainingConfig, batch_loader, step_generator

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",  # on CPUs, too
              "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
TRAINING = """
import sys, torch
from millivid.basics import processes
print("process {} of {}\\n".format(*processes()), end="", flush=True)
from millivid.pipeline import MINI_EXPERIMENTS, load_tokenizer
from millivid.training import TrainingConfig, train_video
from millivid.worlds.rooms import RoomWalks
torch.set_num_threads(1)
walks = RoomWalks(load_tokenizer(), range(2), progress=False)
config = TrainingConfig(steps=int(sys.argv[2]), batch_size=2, micro_batches=2, warmup_steps=1, learning_rate=2e-3,
                        evaluate_every=2, checkpoint_every=2)
train_video(MINI_EXPERIMENTS["millivid"], walks, walks, config, sys.argv[1], progress=False)
"""
ENCODING = """
import sys, torch
from millivid.pipeline import load_tokenizer
from millivid.release import Recordings
clips = Recordings(sys.argv[1]).encode(load_tokenizer(), progress=False)
group = torch.distributed.distributed_c10d._get_default_group()
patience = group._get_backend(torch.device("cpu")).options._timeout
print("clips {}, patience {}\\n".format(len(clips.videos), patience), end="", flush=True)
"""


def run(command, *arguments, folder):
    "Run Python code, by itself or launched twice. Returns what it printed."
    (folder / "code.py").write_text(arguments[0])
    done = subprocess.run([*command, str(folder / "code.py"), *map(str, arguments[1:])], capture_output=True, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def state(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def test_two_processes_train_as_one_does_and_one_goes_on_alone(tmp_path):
    """One process with two micro-batches a step, two with one each, and two that one process resumes.

    Tolerance: losses equal to 1e-5, weights to 1e-5; only the order of the additions differs.
    """
    alone, together = [sys.executable], LAUNCH
    run(alone, TRAINING, tmp_path / "one", 4, folder=tmp_path)
    said = run(together, TRAINING, tmp_path / "two", 2, folder=tmp_path)
    assert "process 0 of 2" in said and "process 1 of 2" in said
    half = json.loads((tmp_path / "two" / "history.json").read_text())
    assert len(half["loss"]) == 2 and [row["step"] for row in half["held_out"]] == [2]  # measured once, not twice
    run(alone, TRAINING, tmp_path / "two", 4, folder=tmp_path)
    one, two = state(tmp_path / "one"), state(tmp_path / "two")
    assert one["history"]["loss"] == pytest.approx(two["history"]["loss"], abs=1e-5)
    assert one["step"] == two["step"] == 4
    for name, weight in one["model"].items():
        assert torch.allclose(weight, two["model"][name], atol=1e-5), name


def test_two_processes_share_the_recordings(tmp_path):
    import numpy as np

    from millivid.pipeline import load_tokenizer
    from millivid.release import write_actions, write_frames
    for number in range(5):
        pictures = np.random.default_rng(number).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
        write_frames(tmp_path / "data" / f"{number}.frames", pictures)
        write_actions(tmp_path / "data" / f"{number}.npy", torch.zeros(3, 6))
    (tmp_path / "data" / "index.json").write_text(json.dumps({str(number): 3 for number in range(5)}))
    said = run(LAUNCH, ENCODING, tmp_path / "data", folder=tmp_path)
    assert said.count("clips 5, patience 2:00:00") == 2  # one may have the long recordings, and the other waits
    made = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*.pyramid")}
    assert len(made) == 5
    clips = Recordings(tmp_path / "data").encode(load_tokenizer(), progress=False)  # nothing is made again
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*.pyramid")} == made
    assert clips.folder.parent == tmp_path / "data"


def test_the_command_saves_once(tmp_path):
    "accelerate launch -m millivid train tokenizer: as the README says it."
    command = [*ACCELERATE, "-m", "millivid", "train", "tokenizer", "--steps", "2", "--batch-size", "2",
               "--micro-batches", "2", "--threads", "1", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("held out:") == 1 and done.stderr.count("0/2 [00:00") == 1
    assert load_file(tmp_path / "out" / "model.safetensors")
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".") and path.name != ".lock"]


def test_a_number_of_micro_batches_that_cannot_be_shared(monkeypatch):
    monkeypatch.setattr("millivid.training.processes", lambda: (0, 3, None))
    with pytest.raises(UserError, match="multiple of 3"):
        batch_loader(None, TrainingConfig(micro_batches=4), 0)


def test_each_micro_batch_has_numbers_of_its_own():
    seen = {int(torch.randint(2 ** 62, (1,), generator=step_generator(seed, step, part)))
            for seed in range(3) for step in (0, 1, 2, 191_999) for part in range(8)}
    assert len(seen) == 3 * 4 * 8
    assert len({step_generator(seed, step, part).initial_seed() for seed in range(10)
                for step in range(0, 192_000, 997) for part in range(64)}) == 10 * 193 * 64
    assert torch.equal(torch.rand(3, generator=step_generator(5, 7)),
                       torch.rand(3, generator=torch.Generator().manual_seed(5 * 1_000_003 + 7)))  # as ever


@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_share_the_micro_batches_of_each_step(world, monkeypatch):
    config, drawn = TrainingConfig(steps=3, micro_batches=4), []
    for rank in range(world):
        monkeypatch.setattr("millivid.training.processes", lambda: (rank, world, None))
        mine = [batch for batch, in batch_loader(lambda generator: (generator.initial_seed(),), config, 1)]
        assert len(mine) == 8 // world
        drawn.append(mine)
    per = 4 // world
    steps = [{seed for mine in drawn for seed in mine[step * per:(step + 1) * per]} for step in range(2)]
    assert steps == [{step_generator(0, step, part).initial_seed() for part in range(4)} for step in (1, 2)]


def test_one_process_needs_no_accelerate(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert processes() == (0, 1, None)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(UserError, match="no MASTER_ADDR"):
        processes()
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    with pytest.raises(UserError, match="millivid\\[train\\]"):
        processes()


@pytest.mark.parametrize("gpus, here, cpu", [(1, 2, None), (3, 4, None), (2, 2, False), (4, 2, False), (0, 2, True)])
def test_as_many_gpus_as_processes_are_needed(gpus, here, cpu, monkeypatch):
    "Before anything is connected: a process without a GPU of its own fails much later, and the others wait for it."
    made = []

    def state(**settings):
        made.append(settings)
        return SimpleNamespace(num_processes=4, process_index=3, device="here")

    monkeypatch.setitem(sys.modules, "accelerate", SimpleNamespace(PartialState=state))
    for name, value in {"WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": here, "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    if cpu is None:
        with pytest.raises(UserError) as error:
            processes()
        assert_says(error.value, f"{here} processes", f"{gpus} GPUs", "one for each GPU", "CUDA_VISIBLE_DEVICES")
        assert not made
    else:
        assert processes() == (3, 4, "here") and made[0]["cpu"] == cpu
