"""How many noise levels do the models of the package need, and what does a frame cost?

    python nbs/_sampling.py    # about 12 minutes of one core; leaves nbs/results/sampling.json

Nothing is trained. 16 test episodes, 128 frames of context, 64 generated ones. PSNR and the processor time of one
frame, all models in one run.
"""

import argparse
import time
from pathlib import Path

import torch

from millivid.basics import write_json
from millivid.evaluation import bootstrap_interval, decode_videos, frame_psnr
from millivid.pipeline import MINI_MODELS, Pipeline, load_tokenizer
from millivid.tokenizer import encode_frames
from millivid.worlds.rooms import RoomWorld

RESULTS = Path(__file__).resolve().parent / "results"
NOISE_LEVELS = (2, 3, 4, 8, 16)  # the last of them is clean: one pass less


def measure(frames: int, episodes: int) -> dict:
    "PSNR with its interval, and milliseconds of one core a frame: {model: {noise levels: ...}}."
    torch.set_num_threads(1)
    world, tokenizer = RoomWorld(episodes=episodes, generated=frames), load_tokenizer()
    given, (truth, actions, _) = world.context, world.test_episodes()
    latents = torch.stack([encode_frames(tokenizer, video) for video in truth])
    result = {"command": "python nbs/_sampling.py", "episodes": episodes, "frames": frames, "rows": {}}
    for name in MINI_MODELS:
        pipeline = Pipeline.from_pretrained(f"mini-{name.replace('_', '-')}")
        result["rows"][name] = {}
        for count in NOISE_LEVELS:
            start = time.process_time()
            made = pipeline.generate(latents, actions, given, given + frames, count, list(range(episodes)))
            spent = time.process_time() - start
            score = frame_psnr(decode_videos(tokenizer, made[:, given:]), truth[:, given:])
            result["rows"][name][count] = {"psnr": bootstrap_interval(score.mean(1)[:, None]),
                                           "milliseconds": round(1000 * spent / frames / episodes, 1)}
            print(name, count, result["rows"][name][count], flush=True)
    return result


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    write_json(RESULTS / "sampling.json", measure(frames=64, episodes=16))
