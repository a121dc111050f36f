"""How long does a memory last? The models of the package continue a walk for 1,024 frames.

    python nbs/_horizon.py    # about half an hour of one core; leaves nbs/results/horizon.json

Nothing is trained. 16 test episodes, 128 frames of context; PSNR of every generated frame, and how fast it falls once
no window holds a true frame any more.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from millivid.basics import write_json
from millivid.evaluation import bootstrap_interval, bound_videos, decode_videos, frame_psnr
from millivid.pipeline import MINI_MODELS, Pipeline, load_tokenizer
from millivid.schedule import DENOISED
from millivid.tokenizer import encode_frames
from millivid.worlds.rooms import RoomWorld

RESULTS = Path(__file__).resolve().parent / "results"


def first_blind_frame(experiment) -> int:
    "The first generated frame, counted from 1, that is made by a step which no true frame has any part in."
    back = experiment.context_frames
    schedule = experiment.schedule()
    chunk = schedule.finished_frames if schedule else experiment.video.framepack_denoised
    planned = int((schedule.roles[0] == DENOISED).any(0).sum()) if schedule else chunk  # by the first step of a chunk
    starts = (chunk * number + part for number in range(1_000) for part in range(0, chunk, planned))
    return next(start for start in starts if start >= back) + 1


def fall(score: np.ndarray, first: int) -> dict:
    "dB lost per 100 frames from a frame on: a least-squares line for each episode, mean and 95% interval."
    frames = np.arange(first, score.shape[1])
    slopes = [np.polyfit(frames, row[first:], 1)[0] * -100 for row in score]
    return bootstrap_interval(np.array(slopes)[:, None])


def measure(frames: int, episodes: int) -> dict:
    "Curves and falls of all models, beside the bounds."
    world, tokenizer = RoomWorld(episodes=episodes, generated=frames), load_tokenizer()
    given, (truth, actions, _) = world.context, world.test_episodes()
    latents, true = torch.stack([encode_frames(tokenizer, video) for video in truth]), truth[:, world.context:]
    bounds = bound_videos(tokenizer, truth, latents, actions, given) | world.placed_frames()
    scores = {name: frame_psnr(bounds[name][:, given:], true) for name in ("autoencoded", "copy_pose", "average_room")}
    result = {"command": "python nbs/_horizon.py", "episodes": episodes, "frames": frames, "fall": {}, "blind_from": {}}
    for name in MINI_MODELS:
        pipeline = Pipeline.from_pretrained(f"mini-{name.replace('_', '-')}")
        made = pipeline.generate(latents, actions, given, given + frames, seeds=list(range(episodes)))
        scores[name] = frame_psnr(decode_videos(tokenizer, made[:, given:]), true)
        result["blind_from"][name] = first = first_blind_frame(pipeline.experiment)
        result["fall"][name] = fall(scores[name], first - 1)
        print(name, first, result["fall"][name], flush=True)
    width = 32  # frames that a number of a curve is a mean of
    result["curves"] = {name: score.reshape(episodes, -1, width).mean((0, 2)).round(2).tolist()
                        for name, score in scores.items()}
    return result | {"mean_over": width}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1_024)
    parser.add_argument("--episodes", type=int, default=16)
    options = parser.parse_args()
    write_json(RESULTS / "horizon.json", measure(options.frames, options.episodes))


if __name__ == "__main__":
    main()
