"The authors' release: their checkpoints, their files, their demo, at tiny size."

import functools
import io
import json
import os
import time
import zipfile
from pathlib import Path

import huggingface_hub.errors
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import PYRAMID, TRANSFORMER, assert_says, files_below, random_video, randomised

import millivid.release
from millivid.layers import TransformerConfig
from millivid.pipeline import Experiment, Pipeline
from millivid.pyramid import PyramidConfig
from millivid.release import RELEASE_FILES, download_release, load_release, load_release_generator, read_checkpoint
from millivid.release import read_pyramid, release_state_dict, save_release, write_pyramid
from millivid.tokenizer import Tokenizer, TokenizerConfig, decode_latents
from millivid.video import FramePackModel, VideoConfig, VideoModel


@pytest.mark.parametrize("part", ["odometry", "pose_head"])
def test_what_the_release_does_not_know_is_not_saved(part, tmp_path):
    model = VideoModel(VideoConfig(4, 3, TRANSFORMER, **{part: True}))
    with pytest.raises(ValueError) as error:
        save_release(model, tmp_path / "model.ckpt")
    assert_says(error.value, part, "save_pretrained")
    assert files_below(tmp_path) == []


def unlimited_checkpoints():
    "State dicts of a few numbers whose names or shapes promise more than any memory holds."
    state = release_state_dict(randomised(VideoModel(VideoConfig(4, 3, TRANSFORMER))))
    yield state | {"dit.dit.dit.blocks.10000000.x": torch.zeros(1)}
    yield state | {f"dit.dit.dit.blocks.{'9' * 5000}.attn.proj.weight": torch.zeros(1)}
    yield state | {"dit.unpatchify.linear.weight": torch.zeros(1).expand(10 ** 12, 1)}
    yield state | {"dit.dit.level_embedding.weight": torch.zeros(1).expand(10 ** 12, 24)}


@pytest.mark.parametrize("number", range(4))
def test_a_checkpoint_promises_no_more_than_it_holds(number, tmp_path):
    torch.save({"model": list(unlimited_checkpoints())[number]}, path := tmp_path / "model.ckpt")
    started = time.perf_counter()
    with pytest.raises(ValueError) as error:
        load_release(path)
    assert_says(error.value, path)
    assert time.perf_counter() - started < 10
