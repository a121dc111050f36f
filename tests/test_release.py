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
