"""Watch memory emerge: train MilliVid and FramePack, keep weights on the way, and measure each.

    millivid reproduce --seed 1 --rows millivid_long framepack_long --out runs/seed1 --results out/seed1
    python nbs/_emergence.py train runs/seed1 millivid_long    # about 40 minutes of one core; a minute or two of a GPU
    python nbs/_emergence.py train runs/seed1 framepack_long
    python nbs/_emergence.py measure runs/seed1    # some minutes; leaves results/emergence.json and emergence.npz
"""

import argparse
import contextlib
import io
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from safetensors.torch import load_file, save_file

from millivid.basics import choose_device, require, write_atomically, write_json
from millivid.diffusion import add_noise, token_times
from millivid.evaluation import decode_videos, diagnose, frame_psnr, horizons
from millivid.experiments.reproduce import MINI_VIDEO_TRAINING, ROWS, Run, Settings
from millivid.layers import rms_norm
from millivid.pipeline import Pipeline, load_tokenizer
from millivid.tokenizer import encode_frames
from millivid.training import train, video_task
from millivid.video import gather_tokens, step_indices
from millivid.worlds.rooms import RUNNING_EXAMPLE, RoomWorld, pose_index

RESULTS = Path(__file__).resolve().parent / "results"
STEPS = (200, 400, 600, 1_200, 2_000, 3_000)
NAMES = {"millivid_long": "mini-millivid", "framepack_long": "mini-framepack"}  # and the weights after 8,000 steps


class Kept(Exception):
    "All snapshots that training can make are there."


def train_row(root: Path, name: str, device: str):
    """Train as `millivid reproduce` trained a model of the package, to its step 3,000; keep its weights on the way.

    What is there is not made again; an interrupted run goes on at its last checkpoint.
    """
    experiment, folder = ROWS[name].experiment, root / name
    seen, unseen = Run(root).world().walks(load_tokenizer(root / "tokenizer", device), root / "tokenizer")
    training = replace(MINI_VIDEO_TRAINING, steps=Settings().long_steps)
    model = experiment.make_model(training.seed).to(device)
    loss, batches = video_task(experiment, seen, training.batch_size)
    _, held_out = video_task(experiment, unseen, 64)
    done = len(read_history(folder)["held_out"]) * training.evaluate_every

    def keep(model):
        nonlocal done
        done += training.evaluate_every
        if done in STEPS:
            half = {key: value.half().cpu().contiguous() for key, value in model.state_dict().items()}
            write_atomically(folder / f"step{done}.safetensors", lambda path: save_file(half, path))
        if done >= STEPS[-1]:
            raise Kept
        drawn = (held_out(torch.Generator().manual_seed(i)) for i in range(8))
        return {"loss": sum(loss(model, *(part.to(device) for part in batch)).item() for batch in drawn) / 8}

    if not (folder / f"step{STEPS[-1]}.safetensors").exists():
        with contextlib.suppress(Kept):
            train(model, partial(loss, shift=training.shift), batches, training, folder, keep)


def read_history(folder: Path) -> dict:
    "What a training has left in its folder."
    file = folder / "history.json"
    return json.loads(file.read_text()) if file.exists() else {"loss": [], "held_out": []}


def last_attention(model, *inputs):
    "Attention of the last block, the mean over its heads: (batch, tokens, tokens)."
    caught, attn = [], model.blocks[-1].attn
    hook = attn.qkv.register_forward_hook(lambda module, given, made: caught.append(made))
    model(*inputs)
    hook.remove()
    q, k, _ = rearrange(caught[0], "b n (three heads d) -> three b heads n d", three=3, heads=attn.heads)
    q, k = rms_norm(q, attn.q_norm.weight), rms_norm(k, attn.k_norm.weight)
    return (q.float() @ k.float().transpose(-1, -2) * q.shape[-1] ** -.5).softmax(-1).mean(1)


@torch.no_grad()
def attention_to_the_view(model, experiment, latents, actions, views, noise_level=.95) -> dict[str, float]:
    """How much attention of a new frame's tokens goes to context frames with the same view, the last 8 frames apart.

    Over the tokens whose view is in the context, but not in its last 8 frames. "even" is what the same tokens would
    get if attention were spread evenly.
    """
    shares, evens, generator = [], [], torch.Generator().manual_seed(0)
    for first in range(128, latents.shape[1] - 32, 6):
        if experiment.method == "framepack":
            clip = slice(first - model.context_frames, first + experiment.video.framepack_denoised)
            x = rearrange(latents[:, clip, experiment.pyramid.level_slice(0)], "b f (row column) c -> b f c row column",
                          row=experiment.pyramid.grid_shape(0)[0])
            tokens = model.tokens(actions[:, clip], *x.shape[-2:])
            times = torch.zeros(x.shape[:2])
            times[:, model.context_frames:] = noise_level
            x_t = add_noise(x.flatten(2), torch.randn(x.flatten(2).shape, generator=generator), times).view_as(x)
            attention = last_attention(model, x_t, times, actions[:, clip])
            frame = tokens.coordinates[..., 0] + clip.start
        else:
            schedule = experiment.schedule()
            tokens = gather_tokens(latents, actions, step_indices(schedule, experiment.pyramid)[0],
                                   experiment.pyramid.coordinates(), first - schedule.context_frames)
            known = torch.ones(len(latents), dtype=torch.bool)
            times = token_times(torch.full((len(latents), 1), noise_level), tokens.is_target, known)
            eps = torch.randn(tokens.values.shape, generator=generator)
            attention = last_attention(model, add_noise(tokens.values, eps, times), times, tokens)
            frame = tokens.coordinates[..., 0]
        view = torch.from_numpy(np.take_along_axis(views, frame.numpy(), 1))
        same = (view[:, :, None] == view[:, None, :]) & ~tokens.is_target[:, None, :]
        asked = tokens.is_target & same.any(2) & ~(same & (frame[:, None, :] >= first - 8)).any(2)
        shares.append((attention * same).sum(2)[asked])
        evens.append(same.float().mean(2)[asked])
    return {"share": torch.cat(shares).mean().item(), "even": torch.cat(evens).mean().item()}


def measure(root: Path):
    "PSNR, error behind the walker, and attention to the right old frames, of all weights that were kept."
    tokenizer, settings = load_tokenizer(root / "tokenizer"), Settings(episodes=16, generated=128)
    world = RoomWorld(episodes=settings.episodes, context=settings.context, generated=settings.generated)
    world.first = RUNNING_EXAMPLE
    truth, actions, _ = world.test_episodes()
    latents = torch.stack([encode_frames(tokenizer, frames) for frames in truth])
    views = np.stack([pose_index(episode.poses, episode.config) for episode in world._walked()[0]])
    given, result, shown = settings.context, {}, {"truth": truth[0, settings.context:]}
    for name in NAMES:
        experiment, result[name] = ROWS[name].experiment, {}
        for step in STEPS:
            file = root / name / f"step{step}.safetensors"
            require(file.exists(), f"no weights at {file}: make them with `train`")
            model = experiment.make_model(0).eval()
            model.load_state_dict({key: value.float() for key, value in load_file(file).items()})
            pipeline = Pipeline(model, experiment)
            made = pipeline.generate(latents, actions, given, given + settings.generated, settings.sampling_steps,
                                     list(range(settings.episodes)), progress=False)[:, given:]
            frames = decode_videos(tokenizer, made)
            score = frame_psnr(frames, truth[:, given:])
            result[name][step] = {
                "psnr": {span: score[:, a - 1:b].mean() for span, (a, b) in horizons(settings.generated).items()},
                "error": diagnose(pipeline, latents, actions, range(given, given + 122, 13), settings.sampling_steps),
                "attention": attention_to_the_view(model, experiment, latents, actions, views)}
            result[name][step] = {part: {key: round(float(value), 4) for key, value in values.items()}
                                  for part, values in result[name][step].items()}
            shown[f"{name}_{step}"] = frames[0]
            print(name, step, result[name][step], flush=True)
    write_json(RESULTS / "emergence.json", result)
    np.savez_compressed(packed := io.BytesIO(), **{key: video[:64] for key, video in shown.items()})
    write_atomically(RESULTS / "emergence.npz", lambda path: path.write_bytes(packed.getvalue()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "measure"))
    parser.add_argument("root", type=Path, help="a folder of `millivid reproduce`, with its tokenizer")
    parser.add_argument("name", nargs="?", choices=NAMES)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    if options.what == "measure":
        measure(options.root)
    else:
        train_row(options.root, options.name, str(choose_device(options.device)))


if __name__ == "__main__":
    main()
