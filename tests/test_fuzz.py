"""Thousands of damaged files: each is read as what it is, or refused in one clear line; nothing hangs or grows."""

import contextlib
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import PYRAMID, TRANSFORMER, random_video, randomised

from millivid import Pipeline
from millivid.basics import UserError
from millivid.data import iterate_video, write_video
from millivid.pipeline import Experiment, load_tokenizer, save_tokenizer
from millivid.recordings import find_videos, read_action_file
from millivid.release import Recordings, load_release_tokenizer, read_actions, read_array, read_checkpoint, read_frames
from millivid.release import read_index, read_pyramid, save_release, write_actions, write_frames, write_pyramid
from millivid.schedule import millivid_schedule, schedule_from_text, schedule_text
from millivid.tokenizer import Tokenizer, TokenizerConfig
from millivid.training import read_checkpoint as read_training_checkpoint
from millivid.training import TrainingConfig, train
from millivid.video import VideoConfig, VideoModel
from millivid.worlds.rooms import RoomWalks

CASES = 140  # of each of the 16 kinds of files: 2,240
CONFIG = TokenizerConfig(PYRAMID, 4, TRANSFORMER, TRANSFORMER)
VIDEO = VideoConfig(4, 3, TRANSFORMER, odometry=True)


def damaged(data: bytes, rng) -> bytes:
    "One of the things that happen to files, or that somebody does to them."
    data, place = bytearray(data), int(rng.integers(len(data)))
    kind = rng.integers(8)
    if kind == 0:  # a bit flips
        data[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:  # some bytes are others
        data[place:place + 8] = rng.bytes(len(data[place:place + 8]))
    elif kind == 2:  # cut
        del data[place:]
    elif kind == 3:  # something is missing
        del data[place:place + int(rng.integers(1, 40))]
    elif kind == 4:  # something is there twice
        data[place:place] = data[place:place + int(rng.integers(1, 40))]
    elif kind == 5:  # a large number
        data[place:place + 8] = b"\xff" * len(data[place:place + 8])
    elif kind == 6:  # digits become others: sizes and shapes in texts
        digits = [index for index, byte in enumerate(data[:4096]) if 48 <= byte < 58]
        for index in rng.permutation(digits)[:int(rng.integers(1, 4))]:
            data[index:index + 1] = str(rng.choice([0, 7, 99, 2 ** 31, 10 ** 12])).encode()
    else:  # the head of the file, which says what is in it
        head = int(rng.integers(min(len(data), 128)))
        data[head] = int(rng.integers(256))
    return bytes(data)


def pyramid(path):
    latents, actions = random_video(1, 6)
    write_pyramid(path, latents[0], actions[0], PYRAMID)


def read_numbers(path):
    latents, actions = read_pyramid(path, PYRAMID, 4)
    assert latents.shape[1:] == (21, 4) and actions.shape == (len(latents), 6)


def frames(path):
    write_frames(path, np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8))


def csv(path):
    path.write_text("action,x,y,yaw\n" + "".join(f"{n % 3},{n},{n / 2},{n / 10}\n" for n in range(9)))


def weights(path):
    save_tokenizer(randomised(Tokenizer(CONFIG)), path.parent / "tokenizer")
    return path.parent / "tokenizer" / "model.safetensors"


def settings(path):
    save_tokenizer(randomised(Tokenizer(CONFIG)), path.parent / "tokenizer")
    return path.parent / "tokenizer" / "config.json"


def experiment(path):
    made = Experiment("millivid", PYRAMID, VIDEO, (1, 2, 4), 8)
    Pipeline(randomised(VideoModel(VIDEO)), made, randomised(Tokenizer(CONFIG))).save_pretrained(path.parent / "video")
    return path.parent / "video" / "experiment.json"


def checkpoint(path):
    model = torch.nn.Linear(2, 2)
    train(model, lambda model, x: model(x).square().mean(), lambda generator: (torch.ones(1, 2),),
          TrainingConfig(steps=1, autocast=False), path.parent / "run", progress=False)
    return path.parent / "run" / "checkpoint.pt"


def chunk(path):
    "What `Pipeline.stream` keeps: read by the same pipeline again."
    folder = path.parent / "latents"
    [*streamed(folder)]
    return folder / "20.safetensors"


PIPELINE = Pipeline(randomised(VideoModel(VIDEO)), Experiment("millivid", PYRAMID, VIDEO, (1, 2, 4), 8,
                                                              num_inference_steps=2), randomised(Tokenizer(CONFIG)))


def streamed(folder):
    given = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    return PIPELINE.stream(given, np.zeros(24, dtype=int), folder=folder, progress=False)


def metadata(path):
    for name in "ab":
        write_video(path.parent / f"{name}.mp4", np.zeros((2, 16, 16, 3), dtype=np.uint8))
    path.write_text("file_name,actions\na.mp4,\nb.mp4,\n")
    return path.rename(path.parent / "metadata.csv")


def recordings(path):
    for name in "ab":
        frames(path.parent / f"{name}.frames")
        write_actions(path.parent / f"{name}.npy", torch.zeros(3, 6))
    path.write_text(json.dumps({"a": 3, "b": 3}))
    return path.rename(path.parent / "index.json")


def rooms(path):
    RoomWalks(load_tokenizer(), range(1), cache=path, progress=False)


KINDS = {  # how a good file is written (and where, if not there), and how it is read
    "pyramid": (pyramid, read_numbers),
    "frames": (frames, read_frames),
    "actions": (lambda path: write_actions(path, torch.rand(9, 6)), read_actions),
    "numbers": (lambda path: np.save(path.open("wb"), np.arange(9)), read_array),
    "csv": (csv, read_action_file),
    "metadata": (metadata, lambda path: find_videos(path.parent)),
    "index": (lambda path: path.write_text(json.dumps({f"00{n}/1": 10 + n for n in range(9)})), read_index),
    "recordings": (recordings, lambda path: Recordings(path.parent).images(torch.Generator().manual_seed(0), 4)),
    "weights": (weights, lambda path: load_tokenizer(path.parent)),
    "settings": (settings, lambda path: load_tokenizer(path.parent)),
    "experiment": (experiment, lambda path: Pipeline.from_pretrained(path.parent)),
    "checkpoint": (checkpoint, lambda path: read_training_checkpoint(path, "cpu")),
    "release": (lambda path: save_release(randomised(Tokenizer(CONFIG)), path),
                lambda path: (read_checkpoint(path), load_release_tokenizer(path, (16, 16)))),
    "chunk": (chunk, lambda path: [*streamed(path.parent)]),
    "schedule": (lambda path: path.write_text(schedule_text(millivid_schedule((1, 2), 4, (4, 1)))),
                 lambda path: schedule_from_text(path.read_bytes().decode("latin-1"), (4, 1))),
    "video": (lambda path: path.write_bytes(small_video(path)),
              lambda path: [*iterate_video(path, (16, 16), max_frames=4)]),
}


def small_video(path):
    mp4 = path.with_suffix(".mp4")
    write_video(mp4, np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8))
    return mp4.read_bytes()


def plain(value):
    "The same as lists and texts, which can be compared."
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return value.tolist()
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, (list, tuple)) else value


CHECKED = ("checkpoint", "chunk")  # these hold check sums: what is not refused must be what was written


FORGET = Path("/proc/self/clear_refs")


@contextlib.contextmanager
def memory_taken():
    """A list: how many MB a block takes at its peak, beyond what there was before it.

    Whatever the process has done before: Linux can forget its peak. On other systems nothing is measured.
    """
    status, taken = Path("/proc/self/status"), []

    def megabytes(name):
        return int(re.search(rf"{name}:\s*(\d+) kB", status.read_text())[1]) / 1024

    if not FORGET.exists():
        yield [0.]
        return
    FORGET.write_text("5")
    before = megabytes("VmRSS")
    try:
        yield taken
    finally:
        taken.append(megabytes("VmHWM") - before)


@pytest.mark.skipif(not FORGET.exists(), reason="only Linux can forget the peak of a process")
def test_the_memory_of_a_block_is_its_own():
    "Also after the process has had more, which hides all that is smaller in the peak of the process."
    for size in (300, 100, 0):
        with memory_taken() as taken:
            block = np.ones(size * 2 ** 20, dtype=np.uint8)
            del block
        assert size - 20 < taken[0] < size + 20


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused(kind, tmp_path):
    write, read = KINDS[kind]
    moved = write(tmp_path / "file")
    path = moved if isinstance(moved, Path) else tmp_path / "file"
    good, rng = path.read_bytes(), np.random.default_rng(0)
    right = read(path)
    refused = 0
    for case in range(CASES):
        path.write_bytes(damaged(good, rng))
        started = time.process_time()
        try:
            with memory_taken() as taken:
                found = read(path)
            assert kind not in CHECKED or plain(found) == plain(right), f"case {case} was not noticed"
        except UserError as error:
            refused += 1
            assert str(error).strip() and len(str(error)) < 2_000
        assert time.process_time() - started < 5, f"case {case} took too long"
        assert taken[0] < 100, f"case {case} took {taken[0]:.0f} MB"
    assert 0 < refused <= CASES
