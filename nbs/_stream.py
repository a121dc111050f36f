"""A long video in constant memory: how much a process holds, and how long a frame takes, on the way to 10,000 frames.

    python nbs/_stream.py               # 6 minutes of one core; leaves nbs/results/stream.json
"""

import argparse
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from millivid import Pipeline
from millivid.actions import action_rows, integrate_actions
from millivid.basics import write_json
from millivid.data import write_video
from millivid.worlds.rooms import make_room, pose_index, random_walk, render_poses

RESULTS = Path(__file__).resolve().parent / "results"


def peak_megabytes() -> float:
    "The most memory that this process has held so far."
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def measure(count: int, every: int) -> dict:
    "Generate `count` frames, write them as an mp4 while they come, and look at the process after each `every`."
    context, pipeline = 128, Pipeline.from_pretrained()
    start, moves = random_walk(random.Random(0), (context + count + 1) // 2)
    actions = np.repeat(moves, 2)[:context + count]  # an action is held for two frames
    views = pose_index(integrate_actions(2 * np.array(start), actions[:context]))
    given, rows = render_poses(make_room(100_000), views), action_rows(actions)
    result = {"command": "python nbs/_stream.py", "frames": [], "peak_megabytes": [], "seconds": []}

    def frames():
        started, done = time.time(), 0
        for piece in pipeline.stream(given, rows, folder=Path(folder) / "latents"):
            yield from piece
            done += len(piece)
            if done % every < len(piece):
                result["frames"].append(done)
                result["peak_megabytes"].append(round(peak_megabytes(), 1))
                result["seconds"].append(round(time.time() - started, 2))

    with tempfile.TemporaryDirectory() as folder:
        write_video(Path(folder) / "video.mp4", frames())
        result["latent_bytes_a_frame"] = round(sum(path.stat().st_size for path in (Path(folder) / "latents").iterdir())
                                               / count)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=500)
    parser.add_argument("--out", type=Path, default=RESULTS / "stream.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    write_json(options.out, measure(options.frames, options.every))


if __name__ == "__main__":
    main()
