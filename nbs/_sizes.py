"""How much room can be remembered? The models of the package in rooms of 3, 5 and 7 places.

    python nbs/_sizes.py train runs/sizes 5 millivid    # 10 minutes of one core; also 7, framepack, rollout_upscale
    python nbs/_sizes.py measure runs/sizes             # leaves nbs/results/sizes.json

The panels on the walls stay as wide as they are, so a larger room has more of them. The models of the package were
trained in rooms of 3 places; for the larger ones each is trained on for 1,200 steps, with the tokenizer as it is.
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from millivid.basics import require, write_json
from millivid.evaluation import bootstrap_interval, bound_videos, decode_videos, frame_psnr
from millivid.pipeline import Pipeline, load_tokenizer
from millivid.tokenizer import encode_frames
from millivid.training import MINI_VIDEO_TRAINING, train, video_task
from millivid.worlds.rooms import HELD_OUT_SEED, RoomWalks, RoomWorld, WorldConfig

RESULTS = Path(__file__).resolve().parent / "results"
WORLDS = {3: WorldConfig(), 5: WorldConfig(places=5, panels=3), 7: WorldConfig(places=7, panels=5)}
ROOMS = {5: 700, 7: 350}  # to train on: about as many views as 2,000 small rooms have
NAMES = ("millivid", "rollout_upscale", "framepack")
TRAINING = replace(MINI_VIDEO_TRAINING, steps=1_200)


def train_row(root: Path, places: int, name: str) -> Pipeline:
    "A model of the package, trained on in larger rooms; what is there is not made again."
    tokenizer, pipeline = load_tokenizer(), Pipeline.from_pretrained(f"mini-{name.replace('_', '-')}")
    root.mkdir(parents=True, exist_ok=True)
    seen, unseen = (RoomWalks(tokenizer, seeds, WORLDS[places], root / f"{part}{places}.safetensors")
                    for part, seeds in (("rooms", range(ROOMS[places])),
                                        ("held_out", range(HELD_OUT_SEED, HELD_OUT_SEED + 32))))
    loss, batches = video_task(pipeline.experiment, seen, TRAINING.batch_size)
    _, held_out = video_task(pipeline.experiment, unseen, 64)

    def held_out_loss(model):
        return {"loss": sum(loss(model, *held_out(torch.Generator().manual_seed(i))).item() for i in range(8)) / 8}

    train(pipeline.model, partial(loss, shift=TRAINING.shift), batches, TRAINING, root / f"{name}{places}",
          held_out_loss)
    return pipeline


def measure(root: Path, episodes: int, frames: int) -> dict:
    "PSNR of all generated frames, by size of the room: as the package has the models, and trained on."
    tokenizer = load_tokenizer()
    result = {"command": "python nbs/_sizes.py measure runs/sizes", "episodes": episodes, "frames": frames,
              "steps": TRAINING.steps, "seen": {}, "rows": {}}
    for places, config in WORLDS.items():
        world = RoomWorld(episodes=episodes, generated=frames)
        world.config, given = config, world.context
        truth, actions, seen = world.test_episodes()
        latents = torch.stack([encode_frames(tokenizer, video) for video in truth])
        bounds = bound_videos(tokenizer, truth, latents, actions, given)
        bounds["average_room"] = world.placed_frames(64)["average_room"]
        videos = {name: bounds[name][:, given:] for name in ("autoencoded", "copy_pose", "average_room")}
        for name in NAMES:
            shipped = Pipeline.from_pretrained(f"mini-{name.replace('_', '-')}")
            pipelines = {name: shipped} if places == 3 else {
                f"{name}_shipped": shipped, name: trained(root, places, name)}
            for row, pipeline in pipelines.items():
                made = pipeline.generate(latents, actions, given, given + frames, seeds=list(range(episodes)))
                videos[row] = decode_videos(tokenizer, made[:, given:])
        result["seen"][places] = round(float(seen.mean()), 3)
        result["rows"][places] = {}
        for row, video in videos.items():
            score = frame_psnr(video, truth[:, given:])
            parts = {"psnr": score, "psnr_seen": np.where(seen, score, np.nan),
                     "psnr_unseen": np.where(seen, np.nan, score)}
            result["rows"][places][row] = {part: bootstrap_interval(np.nanmean(values, axis=1)[:, None])
                                           for part, values in parts.items()}
            print(places, row, {part: round(value["mean"], 2) for part, value in result["rows"][places][row].items()},
                  flush=True)
    return result


def trained(root: Path, places: int, name: str) -> Pipeline:
    "The finished training of `train_row`."
    require((root / f"{name}{places}" / "checkpoint.pt").exists(),
            f"{name} is not trained: python nbs/_sizes.py train {root} {places} {name}")
    return train_row(root, places, name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "measure"))
    parser.add_argument("root", type=Path)
    parser.add_argument("places", nargs="?", type=int, choices=ROOMS)
    parser.add_argument("name", nargs="?", choices=NAMES)
    parser.add_argument("--episodes", type=int, default=32)
    parser.add_argument("--frames", type=int, default=128)
    options = parser.parse_args()
    if options.what == "measure":
        write_json(RESULTS / "sizes.json", measure(options.root, options.episodes, options.frames))
    elif options.name is None:
        parser.error("which rooms, and which model? For example: train runs/sizes 5 millivid")
    else:
        train_row(options.root, options.places, options.name)


if __name__ == "__main__":
    main()
