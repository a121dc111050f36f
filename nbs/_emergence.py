"""Watch memory emerge: train MilliVid and FramePack as those of the package were trained, and measure on the way.

    python nbs/_shipped.py runs/emergence                      # the tokenizer of the package
    python nbs/_emergence.py train runs/emergence millivid     # about 10 minutes of one core; resumes
    python nbs/_emergence.py train runs/emergence framepack
    python nbs/_emergence.py measure runs/emergence            # some minutes; leaves results/emergence.json and .png
    python nbs/_emergence.py look                              # seconds, without training; results/attention.json

The trainings stop at step 1,200 of 8,000; for the last step stand the weights in the package.
"""

import argparse
import contextlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from safetensors.torch import load_file, save_file

from millivid.basics import choose_device, require, write_atomically, write_json
from millivid.diffusion import add_noise, token_times
from millivid.evaluation import decode_videos, diagnose, frame_psnr, horizons
from millivid.experiments.reproduce import MINI_VIDEO_TRAINING, Run, Settings
from millivid.layers import rms_norm
from millivid.pipeline import MINI_EXPERIMENTS, Pipeline, load_tokenizer
from millivid.tokenizer import encode_frames
from millivid.training import train, video_task
from millivid.video import gather_tokens, step_indices
from millivid.worlds.rooms import RUNNING_EXAMPLE, RoomWorld

RESULTS = Path(__file__).resolve().parent / "results"
STEPS = (200, 400, 600, 1_200)
NAMES = ("millivid", "framepack")


class Kept(Exception):
    "All snapshots that training can make are there."


def train_row(root: Path, name: str, device: str):
    """Train as `millivid reproduce` trained a model of the package, to its step 1,200; keep its weights on the way.

    What is there is not made again; an interrupted run goes on at its last checkpoint.
    """
    experiment, folder = MINI_EXPERIMENTS[name], root / name
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


def attention_at(model, experiment, latents, actions, first, noise_level, generator):
    """Where the first step looks that makes the frames from `first` on: attention of the last block at one noise level.

    Returns attention (batch, tokens, tokens), the frame of each token, and which tokens are being made.
    """
    if experiment.method == "framepack":
        clip = slice(first - model.context_frames, first + experiment.video.framepack_denoised)
        x = rearrange(latents[:, clip, experiment.pyramid.level_slice(0)], "b f (row column) c -> b f c row column",
                      row=experiment.pyramid.grid_shape(0)[0])
        tokens = model.tokens(actions[:, clip], *x.shape[-2:])
        times = torch.zeros(x.shape[:2])
        times[:, model.context_frames:] = noise_level
        x_t = add_noise(x.flatten(2), torch.randn(x.flatten(2).shape, generator=generator), times).view_as(x)
        return (last_attention(model, x_t, times, actions[:, clip]), tokens.coordinates[..., 0] + clip.start,
                tokens.is_target)
    schedule = experiment.schedule()
    tokens = gather_tokens(latents, actions, step_indices(schedule, experiment.pyramid)[0],
                           experiment.pyramid.coordinates(), first - schedule.context_frames)
    known = torch.ones(len(latents), dtype=torch.bool)
    times = token_times(torch.full((len(latents), 1), noise_level), tokens.is_target, known)
    eps = torch.randn(tokens.values.shape, generator=generator)
    attention = last_attention(model, add_noise(tokens.values, eps, times), times, tokens)
    return attention, tokens.coordinates[..., 0], tokens.is_target


@torch.no_grad()
def attention_to_the_view(model, experiment, latents, actions, views, noise_level=.95) -> dict[str, float]:
    """How much attention of a new frame's tokens goes to context frames with the same view, the last 8 frames apart.

    Over the tokens whose view is in the context, but not in its last 8 frames. "even" is what the same tokens would
    get if attention were spread evenly.
    """
    shares, evens, generator = [], [], torch.Generator().manual_seed(0)
    for first in range(128, latents.shape[1] - 32, 6):
        attention, frame, target = attention_at(model, experiment, latents, actions, first, noise_level, generator)
        view = torch.from_numpy(np.take_along_axis(views, frame.numpy(), 1))
        same = (view[:, :, None] == view[:, None, :]) & ~target[:, None, :]
        asked = target & same.any(2) & ~(same & (frame[:, None, :] >= first - 8)).any(2)
        shares.append((attention * same).sum(2)[asked])
        evens.append(same.float().mean(2)[asked])
    return {"share": torch.cat(shares).mean().item(), "even": torch.cat(evens).mean().item()}


@torch.no_grad()
def look(noise_level: float = .95) -> dict:
    """Where the models of the package look on the running example, when a wall comes back that was long out of sight.

    The first new frame is the first one after the context whose view is in the context, but not in the last 24 frames.
    The past is the true one. Returns {model: share of attention of the new frame's tokens to each old frame}.
    """
    world = RoomWorld(episodes=1, generated=128)
    world.first = RUNNING_EXAMPLE
    (truth, actions, _), views = world.test_episodes(), world._walked()[1]
    latents, row = encode_frames(load_tokenizer(), truth[0])[None], views[0].tolist()
    first = next(frame for frame in range(128, 256)
                 if row[frame] in row[frame - 64:frame] and row[frame] not in row[frame - 24:frame])
    result = {"first": first, "same": [frame - first for frame in range(first - 74, first) if row[frame] == row[first]],
              "noise_level": noise_level, "shares": {}}
    for name in NAMES:
        pipeline, generator = Pipeline.from_pretrained(f"mini-{name}"), torch.Generator().manual_seed(0)
        attention, frame, target = attention_at(pipeline.model, pipeline.experiment, latents, actions, first,
                                                noise_level, generator)
        asked = attention[0][(target & (frame == first))[0]].mean(0)
        old = [asked[frame[0] == number].sum().item() for number in range(first - 74, first)]
        result["shares"][name] = [round(share, 4) for share in old]
    return result


SHOWN = (0, 3, 5, 9, 15, 21, 31, 63, 127)  # generated frames of the running example that are kept as a picture


def weights_of(root: Path, name: str):
    "(step, pipeline) of everything that was kept of a training, and of the weights in the package."
    experiment = MINI_EXPERIMENTS[name]
    for step in STEPS:
        file = root / name / f"step{step}.safetensors"
        require(file.exists(), f"no weights at {file}: make them with `train`")
        model = experiment.make_model(0).eval()
        model.load_state_dict({key: value.float() for key, value in load_file(file).items()})
        yield step, Pipeline(model, experiment)
    yield Settings().long_steps, Pipeline.from_pretrained(f"mini-{name}")


def measure(root: Path):
    "PSNR, error behind the walker, and attention to the right old frames, of all weights that were kept."
    tokenizer, settings = load_tokenizer(root / "tokenizer"), Settings(episodes=8, generated=128)
    world, given = RoomWorld(episodes=settings.episodes, generated=settings.generated), settings.context
    world.first = RUNNING_EXAMPLE
    (truth, actions, _), walked = world.test_episodes(), world._walked()[1]
    latents = torch.stack([encode_frames(tokenizer, frames) for frames in truth])
    result, shown = {}, [truth[0, given:][[*SHOWN]]]
    for name in NAMES:
        result[name] = {}
        for step, pipeline in weights_of(root, name):
            made = pipeline.generate(latents, actions, given, given + settings.generated, settings.sampling_steps,
                                     list(range(settings.episodes)), progress=False)[:, given:]
            frames = decode_videos(tokenizer, made)
            score = frame_psnr(frames, truth[:, given:])
            found = {
                "psnr": {span: score[:, a - 1:b].mean() for span, (a, b) in horizons(settings.generated).items()},
                "error": diagnose(pipeline, latents, actions, range(given, given + 122, 13), settings.sampling_steps),
                "attention": attention_to_the_view(pipeline.model, pipeline.experiment, latents, actions, walked)}
            result[name][step] = {part: {key: round(float(value), 4) for key, value in values.items()}
                                  for part, values in found.items()}
            shown.append(frames[0][[*SHOWN]])
            print(name, step, result[name][step], flush=True)
    result["shown"] = [number + 1 for number in SHOWN]
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in shown])  # a row for the truth, and each model
    write_json(RESULTS / "emergence.json", result)
    write_atomically(RESULTS / "emergence.png", lambda path: Image.fromarray(sheet).quantize(256).save(path, "PNG"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "measure", "look"))
    parser.add_argument("root", type=Path, nargs="?", help="a folder of `millivid reproduce`, with its tokenizer")
    parser.add_argument("name", nargs="?", choices=NAMES)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    if options.what == "look":
        return write_json(RESULTS / "attention.json", look())
    if options.root is None:
        parser.error("name the folder of the trainings")
    if options.what == "measure":
        measure(options.root)
    else:
        train_row(options.root, options.name, str(choose_device(options.device)))


if __name__ == "__main__":
    main()
