"""Search for test episodes that need memory, by geometry alone: no model has a say in the choice.

    python nbs/_example.py 0 3000            # episodes 0 to 2,999: some 10 minutes of one core
    python nbs/_example.py 0 3000 --models   # and what the models in the package make of the frames that were found

An episode is found if one of its first six generated frames shows one patterned panel, which fills the picture; if
nothing of this panel is in sight in the ten frames before the first generated one; and if the context shows the very
same view, at most 74 frames back (what MilliVid's window holds) and not among the newest 28.
"""

import argparse

import numpy as np
import torch

from millivid.actions import action_rows
from millivid.pipeline import MINI_EXPERIMENTS, Pipeline, load_tokenizer
from millivid.tokenizer import decode_latents, encode_frames, psnr
from millivid.worlds.rooms import COLOUR_NAMES, PATTERNS, TEXELS_HIGH, TEXELS_WIDE, WorldConfig, cast_rays
from millivid.worlds.rooms import make_test_episode

START, LOOK_BACK, NEWEST = 128, 74, 10
RAYS = WorldConfig(image_size=16)  # few rays are enough to count


def key_frame(episode):
    "The first frame that needs memory: its number, its panel, where the panel and the same view were seen; or None."
    texel, light, _ = cast_rays(episode.poses / 2 * np.array([1, 1, np.pi / 2]), RAYS)  # 2 frames an action
    panel = np.where(light > 0, texel // (TEXELS_HIGH * TEXELS_WIDE), -1)
    share = np.stack([(panel == number).mean((1, 2)) for number in range(8)])  # of each frame
    for frame in range(START, START + 6):
        shown = int(share[:, frame].argmax())
        first = START - LOOK_BACK
        same = first + np.flatnonzero((episode.poses[first:START] == episode.poses[frame]).all(1))
        sight = np.flatnonzero(share[shown, :START] > 0)
        if (share[shown, frame] >= .9 and PATTERNS[episode.room.pattern[shown]] in ("checker", "stripes") and len(same)
                and sight[-1] < START - NEWEST and same[-1] < START - 28):
            return frame, shown, int(sight[-1]), same.tolist()
    return None


def what_models_make(episode, frame, pipelines, tokenizer):
    "PSNR in dB of one frame, by the name of the model."
    latents, actions = encode_frames(tokenizer, episode.frames[:START])[None], action_rows(episode.actions)[None]
    found, truth = {}, torch.from_numpy(episode.frames[frame] / 255.)
    for name, pipeline in pipelines.items():
        made = pipeline.generate(latents, actions, START, frame + 1, seeds=[0], progress=False)
        finest = pipeline.experiment.pyramid.level_slice(0)
        drawn = torch.from_numpy(decode_latents(tokenizer, made[0, frame:frame + 1, finest])[0] / 255.)
        found[name] = round(psnr(drawn[None], truth[None]).item(), 1)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int)
    parser.add_argument("--models", action="store_true")
    options = parser.parse_args()
    tokenizer = load_tokenizer()
    pipelines = {name: Pipeline.from_pretrained(f"mini-{name.replace('_', '-')}") for name in MINI_EXPERIMENTS}
    for number in range(options.first, options.last):
        episode = make_test_episode(number)
        if found := key_frame(episode):
            frame, panel, seen, same = found
            room = episode.room
            print(f"episode {number}, frame +{frame - START + 1}: {PATTERNS[room.pattern[panel]]}, "
                  f"{COLOUR_NAMES[room.first[panel]]} and {COLOUR_NAMES[room.second[panel]]}; panel in sight until "
                  f"frame {seen}, the same view at {same}; actions {episode.actions[START:START + 16:2].tolist()}",
                  what_models_make(episode, frame, pipelines, tokenizer) if options.models else "", flush=True)


if __name__ == "__main__":
    main()
