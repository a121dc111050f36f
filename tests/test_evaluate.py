"""`millivid evaluate`: recordings are continued and measured, each once, by one process or by several."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from test_hub_cli import EXPERIMENTS
from tiny import assert_says, files_below, randomised

from millivid.cli import main
from millivid.evaluation import frame_psnr
from millivid.pipeline import Pipeline
from millivid.release import Recordings, read_actions, read_frames, write_actions, write_frames
from millivid.tokenizer import decode_latents, encode_frames

LENGTHS = {"a": 40, "b": 34, "deep/c": 36, "d": 9, "e": 34}


@pytest.fixture
def made(tokenizer, tmp_path, monkeypatch):
    "Recordings, one of them too short, and tiny models that were saved."
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for key, frames in LENGTHS.items():
        write_frames(f"data/{key}.frames", rng.integers(0, 256, (frames, 16, 16, 3), dtype=np.uint8))
        write_actions(f"data/{key}.npy", torch.from_numpy(rng.integers(0, 3, (frames, 6)).astype(np.float32)))
    (tmp_path / "data" / "index.json").write_text(json.dumps(LENGTHS))
    for name, experiment in EXPERIMENTS.items():
        Pipeline(randomised(experiment.make_model()), experiment, tokenizer).save_pretrained(f"m-{name}")
    return tmp_path


def command(*more, model="millivid", out="out"):
    return ["evaluate", "--model", f"m-{model}", "--data", "data", "--out", out, "--part", "all",
            "--sampling-steps", "3", "--device", "auto", *map(str, more)]


def contents(folder):
    return {name: (folder / name).read_bytes() for name in files_below(folder)}


@pytest.mark.parametrize("model", EXPERIMENTS)
def test_every_frame_is_measured(model, made, capsys):
    assert main(command("--context", 24, "--frames", 10, model=model)) is None
    said = capsys.readouterr()
    assert_says(said.out, "4 recordings (all)", "10 frames after 24", "short (1-1)", "Autoencoded", "results.json")
    assert "not used: 1" in said.err
    assert files_below(made / "out") == ["a.json", "b.json", "deep/c.json", "e.json", "results.json"]
    pipeline, data = Pipeline.from_pretrained(f"m-{model}"), Recordings("data")
    truth = read_frames(data.path("deep/c", ".frames"))[24:34]
    kept = json.loads((made / "out" / "deep/c.json").read_text())["psnr"]
    drawn = decode_latents(pipeline.tokenizer, encode_frames(pipeline.tokenizer, truth))
    assert kept["autoencoded"] == pytest.approx(frame_psnr(drawn, truth).tolist(), abs=1e-4)
    assert len(kept[model]) == 10 and kept[model] != kept["autoencoded"]
    table = json.loads((made / "out" / "results.json").read_text())["psnr"]
    every = [json.loads((made / "out" / f"{key}.json").read_text())["psnr"][model] for key in ("a", "b", "deep/c", "e")]
    assert table[model]["long"] == pytest.approx(np.mean(np.array(every)[:, 3:]))


def test_what_is_generated_is_what_the_pipeline_generates(made, monkeypatch):
    "The noise follows from the seed and the name, not from which recordings are measured."
    seeds, go_on = [], sys.modules["millivid.recordings"].continue_video
    monkeypatch.setattr("millivid.recordings.continue_video", lambda pipeline, given, rows, seed, **more: (
        seeds.append(seed) or go_on(pipeline, given, rows, seed, **more)))
    assert main(command()) is None
    assert len({*seeds}) == 4
    (made / "data" / "index.json").write_text(json.dumps({"b": 34, "e": 34}))
    assert main(command(out="two")) is None
    assert contents(made / "two")["b.json"] == contents(made / "out")["b.json"]
    assert main(command("--seed", 1, out="three")) is None
    one, other = (json.loads((made / name / "b.json").read_text())["psnr"] for name in ("out", "three"))
    assert one["millivid"] != other["millivid"] and one["autoencoded"] == other["autoencoded"]
    pictures, rows = read_frames("data/b.frames"), read_actions("data/b.npy")
    whole = Pipeline.from_pretrained("m-millivid")(pictures[:19], rows, seeds=[seeds[1]], num_inference_steps=3,
                                                 progress=False)
    assert one["millivid"] == pytest.approx(frame_psnr(whole[19:], pictures[19:]).tolist(), abs=1e-4)


def test_it_goes_on_and_does_nothing_twice(made, monkeypatch):
    assert main(command()) is None
    before = contents(made / "out")
    (made / "out" / "b.json").unlink()
    (made / "out" / "results.json").unlink()
    times = {name: (made / "out" / name).stat().st_mtime_ns for name in files_below(made / "out")}
    measured, measure = [], sys.modules["millivid.recordings"]._measure
    monkeypatch.setattr("millivid.recordings._measure", lambda *given, **more: measured.append(more["recording"])
                        or measure(*given, **more))
    assert main(command()) is None
    assert measured == ["b"] and contents(made / "out") == before
    assert {name: (made / "out" / name).stat().st_mtime_ns for name in times} == times


@pytest.mark.parametrize("change, says", [
    (("--seed", 1), "seed 0, now it is 1"), (("--sampling-steps", 2), "sampling_steps 3, now it is 2"),
    (("--context", 21), "context 19, now it is 21"), ("weights", "model"), ("data", "data"), ("damage", "is damaged")])
def test_results_of_something_else_are_refused(change, says, made, capsys):
    assert main(command("--frames", 12)) is None
    if change == "weights":
        pipeline = Pipeline.from_pretrained("m-millivid")
        Pipeline(randomised(pipeline.model, 1), pipeline.experiment, pipeline.tokenizer).save_pretrained("m-millivid")
    elif change == "data":
        pictures = read_frames("data/e.frames")
        pictures[-1] ^= 1
        write_frames("data/e.frames", pictures)
    elif change == "damage":
        (made / "out" / "e.json").write_text("{}")
    (made / "out" / "a.json").unlink()  # it would be measured first
    before = contents(made / "out")
    capsys.readouterr()
    assert main(command("--frames", 12, *(change if isinstance(change, tuple) else ()))) == 2
    message = capsys.readouterr().err.strip()
    assert_says(message.splitlines()[-1], "millivid evaluate", says, "give another folder")
    assert contents(made / "out") == before


@pytest.mark.parametrize("more, says", [
    (("--context", 18), "looks back on 19"), (("--frames", 22), "no recording is long enough"),
    (("--part", "some"), "held_out"), (("--frames", 2), "at least 3")])
def test_what_cannot_be_evaluated(more, says, made, capsys):
    try:
        assert main(command(*more)) == 2
    except SystemExit as exit:
        assert exit.code == 2
    assert_says(capsys.readouterr().err, says)
    assert not (made / "out").exists()


def test_a_model_that_reads_poses_needs_recordings_with_poses(made, capsys):
    for key, frames in LENGTHS.items():
        write_actions(f"data/{key}.npy", torch.zeros(frames, 6))
    assert main(command()) == 2
    assert_says(capsys.readouterr().err, "actions alone", "poses")


def test_two_processes_leave_the_same_files(made):
    assert main(command()) is None
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "millivid"]
    done = subprocess.run([*launch, *command(out="two")], capture_output=True, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("4 recordings (all)") == 1 and done.stdout.count("short (") == 1
    assert contents(made / "two") == contents(made / "out")
