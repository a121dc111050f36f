"Tiny sizes, made-up videos, and the checks that several test files use."

import contextlib
import re
import subprocess
import sys

import pytest
import torch

from millivid.actions import action_rows
from millivid.layers import TransformerConfig
from millivid.pyramid import PyramidConfig

PYRAMID = PyramidConfig((16, 16), (4, 4), 3)  # 16, 4 and 1 tokens a frame
TRANSFORMER = TransformerConfig(24, 2, 2)


def randomised(model, seed=0, scale=.1):
    "The model in eval mode with random weights everywhere, also in the layers that start at zero."
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator) + name.endswith("norm.weight"))
    return model.eval()


def random_video(batch, frames, channels=4, seed=0):
    "Latents (batch, frames, tokens, channels) and actions (batch, frames, 6) of videos that nobody has seen."
    generator = torch.Generator().manual_seed(seed)
    latents = torch.rand(batch, frames, PYRAMID.num_tokens, channels, generator=generator) * 2 - 1
    actions = torch.randint(3, (batch, frames), generator=generator)
    return latents, torch.stack([action_rows(row.numpy()) for row in actions])


def assert_says(text, *parts):
    "A message for a user must contain every part: the value, what was expected, what to do."
    text = str(text)
    for part in parts:
        assert re.search(re.escape(str(part)), text, re.IGNORECASE), f"{part!r} is missing in: {text}"


def files_below(folder):
    "Every file below a folder, hidden ones too, so that half-written ones are seen."
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return sorted(str(path.relative_to(folder)) for path in files)


def run_millivid(*arguments, cwd=None):
    "Run the command line as a user does, in a process of its own. Returns the finished process."
    code = "import sys; from millivid.cli import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, cwd=cwd)


@contextlib.contextmanager
def full_disk(limit):
    "No file of this process can grow beyond so many bytes, as on a disk that is full."
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
