"Saving, loading and the commands: what a user finds afterwards."

import importlib.metadata
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import PYRAMID, TRANSFORMER, assert_says, files_below, random_video, randomised

from millivid.actions import FORWARD, TURN_LEFT, TURN_RIGHT
from millivid.basics import choose_device
from millivid.cli import main
from millivid.data import FREEDOOM_VIDEO, read_video, write_video
from millivid.pipeline import Experiment, Pipeline, load_tokenizer, save_model
from millivid.video import VideoConfig
from millivid.worlds.rooms import make_test_episode

EXPERIMENTS = {
    "millivid": Experiment("millivid", PYRAMID, VideoConfig(4, 3, TRANSFORMER, odometry=True), (1, 2, 4), 16),
    "full_resolution": Experiment("full_resolution", PYRAMID, VideoConfig(4, 3, TRANSFORMER), num_frames=4),
    "framepack": Experiment("framepack", PYRAMID,
                            VideoConfig(4, 3, TRANSFORMER, framepack_context=(1, 1, 2), framepack_denoised=2)),
}


def read_json(path):
    "Strict JSON: no NaN, no infinity."
    return json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in {path.name}"))


def numbers_in(value):
    "All numbers in nested lists and dictionaries."
    if isinstance(value, (dict, list)):
        return [number for each in (value.values() if isinstance(value, dict) else value) for number in numbers_in(each)]
    return [value] if isinstance(value, (int, float)) else []


# ---- saving and loading ----------------------------------------------------------------------------------------------

def test_a_saved_tokenizer_comes_back(tokenizer, tmp_path):
    save_model(tokenizer, tmp_path / "mine", card="# My tokenizer")
    assert files_below(tmp_path) == ["mine/README.md", "mine/config.json", "mine/model.safetensors"]
    assert (tmp_path / "mine" / "README.md").read_text() == "# My tokenizer"
    again = load_tokenizer(tmp_path / "mine")
    assert again.config == tokenizer.config and not again.training
    for (name, value), saved in zip(again.state_dict().items(), tokenizer.state_dict().values(), strict=True):
        assert value.dtype == torch.float32 and torch.equal(value, saved.half().float()), name  # stored in float16
    assert next(tokenizer.parameters()).dtype == torch.float32  # saving leaves the model as it is


@pytest.mark.parametrize("method", EXPERIMENTS)
def test_a_saved_generator_comes_back_and_generates(method, tmp_path):
    experiment = EXPERIMENTS[method]
    model = randomised(experiment.make_model())
    save_model(model, tmp_path, experiment)
    generator = Pipeline.from_pretrained(tmp_path)
    assert generator.experiment == experiment and type(generator.model) is type(model)
    latents, actions = random_video(2, 28)
    one, two, other = (generator.generate(latents, actions, 24, 28, 3, seeds, progress=False)
                       for seeds in ([1, 2], [1, 2], [3, 4]))
    kept = PYRAMID.level_slice(0) if method == "framepack" else slice(None)
    assert torch.equal(one[:, :24], latents[:, :24, kept])
    assert one.shape[1] == 28 and one.isfinite().all()
    assert torch.equal(one, two) and not torch.equal(one, other)


@pytest.mark.parametrize("method", EXPERIMENTS)
def test_new_models_are_repeatable_from_their_seed(method):
    one, two, other = (EXPERIMENTS[method].make_model(seed).state_dict() for seed in (0, 0, 1))
    assert all(map(torch.equal, one.values(), two.values()))
    assert not all(map(torch.equal, one.values(), other.values()))


def test_devices():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


# ---- commands --------------------------------------------------------------------------------------------------------

def test_the_program_is_installed():
    scripts = importlib.metadata.entry_points(group="console_scripts", name="millivid")
    assert [script.load() for script in scripts] == [main]


@pytest.mark.parametrize("command", [[], ["demo"], ["train"], ["tokenize"], ["record"]])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as exit:
        main([*command, "--help"])
    assert exit.value.code == 0
    assert_says(capsys.readouterr().out, "usage: millivid", *(["--out"] if command else ["demo", "train", "tokenize"]))


def test_demo_leaves_all_its_files(tmp_path, capsys):
    out = tmp_path / "demo"
    assert not main(["demo", "--episodes", "2", "--frames", "4", "--sampling-steps", "2", "--out", str(out)])
    assert files_below(tmp_path) == [f"demo/{name}" for name in ("comparison.gif", "comparison.mp4", "filmstrip.png",
                                                                  "filmstrip_1.png", "results.json")]
    result = read_json(out / "results.json")
    assert (result["episodes"], result["generated_frames"], result["sampling_steps"]) == (2, 4, 2)
    assert {"millivid", "framepack", "full_resolution", "autoencoded"} <= set(result["psnr"])
    assert all(math.isfinite(number) and 0 < number < 60 for number in numbers_in(result["psnr"]))
    assert set(result["tokens_per_step"].values()) == {160}
    frames, _ = read_video(out / "comparison.mp4")
    assert len(frames) >= 4 and frames.std() > 10
    for name in ("filmstrip.png", "filmstrip_1.png", "comparison.gif"):
        assert np.asarray(Image.open(out / name).convert("RGB")).std() > 10, name
    shown = capsys.readouterr().out
    assert_says(shown, "MilliVid", "FramePack", "Full resolution", out / "comparison.mp4", out / "results.json")


@pytest.mark.parametrize("kind", ["recorded", "generated"])
def test_tokenize_leaves_all_its_files(kind, tmp_path, capsys):
    video, count, out = FREEDOOM_VIDEO, 12, tmp_path / "out"
    if kind == "generated":
        video, count = tmp_path / "room.mp4", 10
        write_video(video, make_test_episode(100).frames[:count], crf=4)
    assert not main(["tokenize", str(video), "--max-frames", "12", "--out", str(out)])
    assert files_below(out) == ["levels.json", "levels.mp4", "levels.png"]
    result = read_json(out / "levels.json")
    assert result["frames"] == count
    assert [row["tokens_per_frame"] for row in result["levels"]] == [16, 4, 1]
    quality = [row["psnr"] for row in result["levels"]]
    assert quality == sorted(quality, reverse=True)  # finer levels are better, also on what it never saw
    assert quality[-1] > 10 and (kind == "recorded" or quality[0] > 27)
    frames, _ = read_video(out / "levels.mp4")
    assert len(frames) == count and frames.std() > 10
    assert_says(capsys.readouterr().out, "level", "PSNR", out / "levels.mp4", out / "levels.json")


def test_the_shipped_recording():
    frames, rate = read_video(FREEDOOM_VIDEO)
    actions = np.load(FREEDOOM_VIDEO.with_suffix(".npy"))
    assert frames.shape == (160, 128, 128, 3) and 10 < rate < 14
    assert actions.shape == (160, 6) and {FORWARD} < set(actions[:, 0]) <= {FORWARD, TURN_LEFT, TURN_RIGHT}


def test_train_makes_a_tokenizer_that_loads(tmp_path, capsys):
    command = ["train", "tokenizer", "--batch-size", "2", "--device", "cpu", "--out", str(tmp_path), "--steps"]
    assert not main([*command, "2"])
    assert {"checkpoint.pt", "config.json", "history.json", "model.safetensors"} <= set(files_below(tmp_path))
    assert len(read_json(tmp_path / "history.json")["loss"]) == 2
    assert load_tokenizer(tmp_path).encode(torch.zeros(1, 3, 64, 64)).shape == (1, 21, 16)
    assert not main([*command, "3"])  # goes on where it stopped
    assert len(read_json(tmp_path / "history.json")["loss"]) == 3
    assert_says(capsys.readouterr().out, "held out", "psnr_level0", tmp_path)
