"Training: resumable, repeatable, and it learns."

import contextlib
import copy
import dataclasses
import json
import os
import signal
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn as nn
from tiny import PYRAMID, TRANSFORMER, assert_says, files_below, random_video, randomised

from millivid.basics import UserError
from millivid.data import StepSampler
from millivid.diffusion import diffusion_loss
from millivid.pipeline import Experiment, Pipeline
from millivid.tokenizer import TokenizerConfig, psnr
from millivid.training import Muon, TrainingConfig, draw_noise, learning_rate_factor, read_checkpoint, train
from millivid.training import train_tokenizer, train_video, video_loss, video_task
from millivid.video import VideoConfig
from millivid.worlds import rooms
from millivid.worlds.rooms import HELD_OUT_SEED, TEST_SEED, WorldConfig, draw_views

WORLD = WorldConfig(image_size=16)
SHORT = TrainingConfig(steps=6, batch_size=4, learning_rate=1e-3, warmup_steps=2, decay_fraction=.5, autocast=False,
                       evaluate_every=3, checkpoint_every=2)
EXPERIMENTS = {
    "millivid": Experiment("millivid", PYRAMID, VideoConfig(4, 3, TRANSFORMER, odometry=True), (1, 2, 4), 16),
    "full_resolution": Experiment("full_resolution", PYRAMID, VideoConfig(4, 3, TRANSFORMER), num_frames=4),
    "framepack": Experiment("framepack", PYRAMID,
                            VideoConfig(4, 3, TRANSFORMER, framepack_context=(1, 1, 2), framepack_denoised=2)),
}


class Videos:
    "Made-up training data: the same few videos again and again."

    def draw(self, generator, count, frames):
        latents, actions = random_video(8, frames)
        chosen = torch.randint(8, (count,), generator=generator)
        return latents[chosen], actions[chosen]

    def read(self, drawn, roles=None):
        return drawn


class Interrupted(Exception):
    "Stands for a power cut."


def cut_after(count, function):
    "A function that works `count` times, then raises."
    calls = iter(range(count))

    def limited(*arguments):
        if next(calls, None) is None:
            raise Interrupted
        return function(*arguments)
    return limited


def line_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.Linear(8, 1))


def line_batch(generator):
    return torch.randn(16, 3, generator=generator),


def line_loss(model, x):
    return (model(x) - x.sum(-1, keepdim=True)).square().mean()


def train_line(model, config, folder=None, **settings):
    return train(model, line_loss, line_batch, config, folder, progress=False, **settings)


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


# ---- interrupted and resumed -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("steps_before_power_cut", [1, 2, 5, 9])
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path, steps_before_power_cut):
    config = dataclasses.replace(SHORT, steps=12, checkpoint_every=2, evaluate_every=4)

    def held_out(model):
        return {"loss": line_loss(model, *line_batch(torch.Generator().manual_seed(99))).item()}

    whole = line_model()
    expected = train_line(whole, config, held_out_loss=held_out)

    with pytest.raises(Interrupted):
        train(line_model(), cut_after(steps_before_power_cut, line_loss), line_batch, config, tmp_path, held_out, False)
    resumed = line_model()
    history = train_line(resumed, config, tmp_path, held_out_loss=held_out)

    assert same(resumed, whole)
    assert history == expected
    assert json.loads((tmp_path / "history.json").read_text())["loss"] == expected["loss"]
    assert files_below(tmp_path) == ["checkpoint.pt", "history.json"]


@pytest.mark.parametrize("method", EXPERIMENTS)
def test_video_training_resumes(method, tmp_path):
    experiment, walks = EXPERIMENTS[method], Videos()
    whole, expected = train_video(experiment, walks, walks, SHORT, progress=False)
    failing = Videos()
    failing.draw = cut_after(4, walks.draw)
    with pytest.raises(Interrupted):
        train_video(experiment, failing, walks, SHORT, tmp_path, progress=False)
    resumed, history = train_video(experiment, walks, walks, SHORT, tmp_path, progress=False)
    assert same(resumed, whole) and history == expected


def test_a_finished_training_is_not_repeated(tmp_path):
    one, two = line_model(), line_model()
    expected = train_line(one, SHORT, tmp_path)
    assert train(two, lambda *_: pytest.fail("trained again"), line_batch, SHORT, tmp_path, progress=False) == expected
    assert same(one, two)


# ---- repeatable ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("method", EXPERIMENTS)
def test_training_is_repeatable_from_its_seed(method):
    runs = []
    for seed in (0, 0, 1):
        torch.randn(3)  # other random numbers do not matter
        training = dataclasses.replace(SHORT, steps=3, seed=seed)
        runs.append(train_video(EXPERIMENTS[method], Videos(), Videos(), training, progress=False))
    assert same(runs[0][0], runs[1][0]) and runs[0][1] == runs[1][1]
    assert runs[0][1]["loss"] != runs[2][1]["loss"]


def test_batches_that_other_processes_prepare_are_the_same(tmp_path):
    expected = train_video(EXPERIMENTS["millivid"], Videos(), Videos(), SHORT, progress=False)
    ahead = dataclasses.replace(SHORT, num_workers=2)
    model, history = train_video(EXPERIMENTS["millivid"], Videos(), Videos(), ahead, progress=False)
    assert same(model, expected[0]) and history["loss"] == expected[1]["loss"]


# ---- learning --------------------------------------------------------------------------------------------------------

def test_learning_rate_warms_up_stays_and_falls():
    config = TrainingConfig(steps=100, warmup_steps=10, decay_fraction=.2)
    factors = [learning_rate_factor(step, config) for step in range(100)]
    assert factors[0] == 0 and factors[5] == .5  # the first step moves nothing, as in the paper
    assert set(factors[10:81]) == {1}
    assert factors[90] == pytest.approx(.5) and factors[99] == pytest.approx(.05)
    assert learning_rate_factor(99, dataclasses.replace(config, decay_fraction=0.)) == 1


def muon_steps(kind, count, state=None, seed=0):
    "Matrices of three shapes after some steps with gradients of a seed, and the optimizer. The last one gets none."
    weights = [nn.Parameter(torch.ones(shape)) for shape in ((24, 40), (40, 24), (16, 16), (4, 4))]
    optimizer = kind(weights, lr=.1, weight_decay=.5, adjust_lr_fn="match_rms_adamw")
    if state is not None:
        optimizer.load_state_dict(copy.deepcopy(state))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        for weight in weights[:-1]:
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()
    return torch.cat([weight.detach().flatten() for weight in weights]), optimizer.state_dict()


def test_muon_without_fast_bfloat16_is_that_of_pytorch(monkeypatch):
    monkeypatch.setattr("millivid.training.bfloat16_is_fast", lambda device: False)
    (ours, our_state), (theirs, their_state) = (muon_steps(kind, 3) for kind in (Muon, torch.optim.Muon))
    assert not torch.equal(ours, theirs)  # else this test compares one with itself
    exchanged = [muon_steps(*given, seed=1)[0] for given in ((Muon, 1, their_state), (torch.optim.Muon, 1, our_state))]
    kept = muon_steps(torch.optim.Muon, 1, their_state, seed=1)[0]  # went on with its own momentum
    for one, other in ((ours, theirs), *((one, kept) for one in exchanged)):
        assert (one - other).norm() < .03 * (other - 1).norm()
        assert (one[-16:] == 1).all()  # no gradient, no step
    assert (muon_steps(Muon, 1, seed=1)[0] - kept).norm() > .1 * (kept - 1).norm()  # the momentum matters


def test_training_fits_a_line():
    config = TrainingConfig(300, learning_rate=1e-2, warmup_steps=10, decay_fraction=.5, autocast=False)
    history = train_line(line_model(), config)
    assert history["loss"][-1] < .05 * history["loss"][0]


class Repeated(Videos):
    "Videos that are easy to learn: all of them are the same still picture."

    def draw(self, generator, count, frames):
        latents, actions = random_video(1, 1)
        return latents.expand(count, frames, -1, -1), actions.expand(count, frames, -1)


@pytest.mark.parametrize("method", EXPERIMENTS)
def test_video_models_learn(method):
    held_out = []
    for steps in (1, 30):  # the first step changes nothing
        training = TrainingConfig(steps, 8, 1e-2, 2, autocast=False)
        _, history = train_video(EXPERIMENTS[method], Repeated(), Repeated(), training, progress=False)
        held_out.append(history["held_out"][-1]["loss"])
    assert held_out[1] < .85 * held_out[0]


def test_tokenizers_learn():
    config = TokenizerConfig(PYRAMID, 4, TRANSFORMER, TRANSFORMER)
    training = TrainingConfig(40, 16, 1e-2, 5, autocast=False, evaluate_every=20, checkpoint_every=40)
    _, history = train_tokenizer(partial(draw_views, config=WORLD), config, training, progress=False)
    first, last = history["held_out"]
    assert all(last[f"psnr_level{level}"] > first[f"psnr_level{level}"] > 5 for level in range(3))


def test_losses_that_are_no_numbers_stop_the_training(tmp_path):
    with pytest.raises(UserError, match="learning rate"):
        train(line_model(), lambda *given: line_loss(*given) * torch.nan, line_batch, SHORT, tmp_path, progress=False)
    assert files_below(tmp_path) == []  # no checkpoint of a broken model


@pytest.mark.parametrize("name", EXPERIMENTS)
@torch.no_grad()
def test_the_loss_drops_the_context_of_some_samples(name):
    loss, batches = video_task(EXPERIMENTS[name], Videos(), 400)
    *batch, conditional = batches(torch.Generator().manual_seed(0))
    assert .04 < (~conditional).float().mean() < .18  # the paper's tenth
    model, yes = randomised(EXPERIMENTS[name].make_model(), scale=.3), torch.ones_like(conditional)
    assert len({loss(model, *batch, given).item() for given in (yes, conditional, ~yes)}) == 3


def test_video_loss_is_the_diffusion_loss(video_model, schedule):
    "With nothing dropped, the loss is that of the same noise and times."
    tokens = StepSampler(Videos(), schedule, PYRAMID)(torch.Generator().manual_seed(0), 4)
    eps, t, conditional = draw_noise(tokens.values, torch.Generator().manual_seed(3), dropout=0.)
    assert conditional.all() and eps.shape == tokens.values.shape and t.shape == (4, 1)
    expected = diffusion_loss(lambda x_t, t, c: video_model(x_t, t, tokens, c), tokens.values, tokens.is_target, eps, t,
                              conditional)
    assert torch.equal(video_loss(video_model, tokens, eps, t, conditional), expected)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_shift_of_the_noise_schedule_reaches_the_loss(name, monkeypatch):
    seen = []

    def loss(*given):
        seen.append(given[-1])
        return diffusion_loss(*given)

    monkeypatch.setattr("millivid.training.diffusion_loss", loss)
    for shift in (1., 3.):
        config = dataclasses.replace(SHORT, steps=1, shift=shift)
        train_video(EXPERIMENTS[name], Videos(), Videos(), config, progress=False)
    assert seen == [1.] * 9 + [3.] * 9  # one step, and eight held-out batches


# ---- rooms and numbers -----------------------------------------------------------------------------------------------

def test_training_and_held_out_views_are_of_other_rooms(monkeypatch):
    painted, make_room = [], rooms.make_room
    monkeypatch.setattr(rooms, "make_room", lambda seed, *rest: painted.append(seed) or make_room(seed, *rest))
    draw_views(torch.Generator().manual_seed(0), 200, False, WORLD)
    training, painted[:] = painted[:], []
    draw_views(torch.Generator().manual_seed(0), 200, True, WORLD)
    assert max(training) < TEST_SEED < HELD_OUT_SEED <= min(painted)
    assert len(set(training)) > 190  # nearly always another room


def test_psnr_by_hand():
    image = torch.zeros(2, 3, 4, 4)
    other = image.clone()
    other[1] += .1
    other[0] -= 5  # clipped
    torch.testing.assert_close(psnr(other, image), torch.tensor([torch.inf, 20.]))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_pose_head_adds_to_the_training_loss_and_to_nothing_else(name, tmp_path):
    plain = dataclasses.replace(EXPERIMENTS[name], video=dataclasses.replace(EXPERIMENTS[name].video, odometry=False))
    asked = dataclasses.replace(plain, video=dataclasses.replace(plain.video, pose_head=True))
    model, head = plain.make_model(), asked.make_model()
    missing = head.load_state_dict(model.state_dict(), strict=False).missing_keys
    assert set(missing) == {"pose_head.weight", "pose_head.bias"}

    def loss(model, experiment):
        loss, batches = video_task(experiment, Videos(), 4)
        return loss(model, *batches(torch.Generator().manual_seed(0)))

    assert loss(head.eval(), asked) == loss(model.eval(), plain)
    learning = loss(head.train(), asked)
    assert learning > loss(model.train(), plain)
    learning.backward()
    Pipeline(head, asked).save_pretrained(tmp_path)
    assert head.pose_head.weight.grad.abs().sum() > 0


# ---- a folder is for one training ------------------------------------------------------------------------------------

@pytest.mark.parametrize("change", [
    dict(seed=1), dict(learning_rate=2e-3), dict(batch_size=8), dict(warmup_steps=3), dict(decay_fraction=0.),
    dict(weight_decay=0.), dict(clip_norm=2.), dict(autocast=True), dict(steps=5), dict(shift=2.)])
def test_a_folder_of_a_training_with_other_settings(change, tmp_path):
    train_line(line_model(), SHORT, tmp_path)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(ValueError) as error:
        train_line(line_model(), dataclasses.replace(SHORT, **change), tmp_path)
    assert_says(error.value, tmp_path / "checkpoint.pt", "give another folder", *change)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_more_steps_and_other_intervals_go_on(tmp_path):
    train_line(line_model(), dataclasses.replace(SHORT, decay_fraction=0.), tmp_path)
    longer = dataclasses.replace(SHORT, decay_fraction=0., steps=8, evaluate_every=1, checkpoint_every=1)
    assert len(train_line(line_model(), longer, tmp_path)["loss"]) == 8


def test_an_old_checkpoint_that_lacks_a_setting_goes_on(tmp_path):
    config = dataclasses.replace(SHORT, decay_fraction=0.)
    train_line(line_model(), config, tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt")
    del state["history"]["config"]["clip_norm"]
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match="clip_norm"):  # what it lacks was the default
        train_line(line_model(), dataclasses.replace(config, steps=8, clip_norm=2.), tmp_path)
    history = train_line(line_model(), dataclasses.replace(config, steps=8), tmp_path)
    assert history == train_line(line_model(), dataclasses.replace(config, steps=8))


@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_of_another_experiment(finished, tmp_path):
    "The models have the same weights, so that only the experiment tells them apart."
    video = VideoConfig(4, 3, TRANSFORMER)
    one = Experiment("full_resolution", PYRAMID, video, num_frames=4)
    other = Experiment("millivid", PYRAMID, video, (1, 2, 4), 16)
    walks = Videos()
    if not finished:
        walks.draw = cut_after(3, walks.draw)  # after the first checkpoint
    with contextlib.nullcontext() if finished else pytest.raises(Interrupted):
        train_video(one, walks, Videos(), SHORT, tmp_path, progress=False)
    before = {name: (tmp_path / name).read_bytes() for name in files_below(tmp_path)}
    with pytest.raises(ValueError) as error:
        train_video(other, Videos(), Videos(), SHORT, tmp_path, progress=False)
    assert_says(error.value, tmp_path, "method is full_resolution, not millivid", "another folder")
    assert {name: (tmp_path / name).read_bytes() for name in files_below(tmp_path)} == before
    model, _ = train_video(one, Videos(), Videos(), SHORT, tmp_path, progress=False)
    written = (tmp_path / "experiment.json").read_text()
    Pipeline(model, one).save_pretrained(tmp_path)
    assert (tmp_path / "experiment.json").read_text() == written  # in the same form


def test_a_folder_of_something_else_gets_no_experiment(tmp_path):
    train_line(line_model(), SHORT, tmp_path)
    with pytest.raises(ValueError, match="another model"):
        train_video(EXPERIMENTS["millivid"], Videos(), Videos(), SHORT, tmp_path, progress=False)
    assert files_below(tmp_path) == ["checkpoint.pt", "history.json"]


@pytest.mark.parametrize("text", ["{", "[]", '{"method": "nonsense"}'])
def test_an_experiment_that_cannot_be_read(text, tmp_path):
    (tmp_path / "experiment.json").write_text(text)
    with pytest.raises(ValueError) as error:
        train_video(EXPERIMENTS["millivid"], Videos(), Videos(), SHORT, tmp_path, progress=False)
    assert_says(error.value, tmp_path / "experiment.json")


@pytest.mark.parametrize("other", ["settings", "sizes"])
def test_a_refused_folder_leaves_the_model_as_it_was(other, tmp_path):
    train_line(line_model(), SHORT, tmp_path)
    model = nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.Linear(8, 2)) if other == "sizes" else line_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UserError) as error:
        train_line(model, dataclasses.replace(SHORT, seed=1) if other == "settings" else SHORT, tmp_path)
    said = "seed" if other == "settings" else "another model"
    assert_says(error.value, tmp_path / "checkpoint.pt", said, "give another folder")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_run_that_decays_gets_no_more_steps(tmp_path):
    "Its learning rate would jump back to the full one. Before the decay, more steps are only a later decay."
    config = dataclasses.replace(SHORT, steps=12, checkpoint_every=1)
    for before_power_cut, allowed in ((6, True), (7, False)):
        folder = tmp_path / str(before_power_cut)
        with pytest.raises(Interrupted):
            train(line_model(), cut_after(before_power_cut, line_loss), line_batch, config, folder, progress=False)
        with contextlib.nullcontext() if allowed else pytest.raises(UserError, match="12") as error:
            train_line(line_model(), dataclasses.replace(config, steps=20), folder)
    assert_says(error.value, "learning rate", "another folder", "steps 12")


def test_a_flipped_bit_of_a_checkpoint_is_refused(tmp_path):
    "Each part of the file has a check sum (PyTorch writes it and does not look at it)."
    train_line(line_model(), SHORT, tmp_path)
    path = tmp_path / "checkpoint.pt"
    whole, expected = path.read_bytes(), torch.load(path)["model"]["0.weight"]
    first = whole.index(expected.numpy().tobytes())
    for place in (first, first + 30, len(whole) // 2, len(whole) - 60):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1:])
        try:
            model = line_model()
            train_line(model, SHORT, tmp_path)
            assert torch.equal(model[0].weight, expected) and place > first + 30  # a byte that says nothing
        except UserError as error:
            assert_says(error, path, "damaged", "delete it")


def test_two_trainings_in_one_folder_at_once(tmp_path):
    other = dataclasses.replace(SHORT, seed=1)

    def meddling_loss(model, x):
        with pytest.raises(UserError) as error:
            train_line(line_model(), other, tmp_path)
        assert_says(error.value, tmp_path, "another process", "another folder")
        return line_loss(model, x)

    train(line_model(), meddling_loss, line_batch, SHORT, tmp_path, progress=False)
    train_line(line_model(), other, tmp_path / "mine")  # the first one has let go


def test_a_process_that_was_killed_holds_no_folder(tmp_path):
    code = ("import os, signal, sys; from millivid.basics import lock_folder\n"
            "with lock_folder(sys.argv[1]): print('held', flush=True); os.kill(os.getpid(), signal.SIGKILL)")
    killed = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert killed.stdout == "held\n" and killed.returncode < 0
    train_line(line_model(), SHORT, tmp_path)


def test_files_of_a_killed_process_are_cleared_away(tmp_path):
    for name in (".checkpoint.pt.4711", ".history.json.4711", "notes.txt"):
        (tmp_path / name).write_text("half of a")
    train_line(line_model(), SHORT, tmp_path)
    assert files_below(tmp_path) == ["checkpoint.pt", "history.json", "notes.txt"]


def test_a_full_disk_is_named_and_the_last_checkpoint_stays(tmp_path, monkeypatch):
    config = dataclasses.replace(SHORT, decay_fraction=0.)
    train_line(line_model(), config, tmp_path)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with monkeypatch.context() as patch:

        def full(state, path):
            Path(path).write_bytes(b"half")
            raise RuntimeError("[enforce fail at inline_container.cc:672] . PytorchStreamWriter failed writing file: "
                               "file write failed")
        patch.setattr(torch, "save", full)
        with pytest.raises(UserError) as error:
            train_line(line_model(), dataclasses.replace(config, steps=8), tmp_path)
    assert_says(error.value, tmp_path / "checkpoint.pt", "free some space")
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert files_below(tmp_path) == ["checkpoint.pt", "history.json"]
    longer = train_line(line_model(), dataclasses.replace(config, steps=8), tmp_path)
    assert longer == train_line(line_model(), dataclasses.replace(config, steps=8))


# ---- what is broken is named -----------------------------------------------------------------------------------------

class Kinked(torch.autograd.Function):
    "A number that is fine, with a gradient that is none."

    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * torch.nan


def test_gradients_that_are_no_numbers_do_not_reach_the_weights(tmp_path):
    model, calls = line_model(), iter(range(100))

    def loss(model, x):
        value = line_loss(model, x)
        return Kinked.apply(value) if next(calls) == 3 else value

    config = dataclasses.replace(SHORT, checkpoint_every=1)
    with pytest.raises(UserError) as error:
        train(model, loss, line_batch, config, tmp_path, progress=False)
    assert_says(error.value, "norm of the gradient is nan", "step 3", "learning rate")
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert train_line(line_model(), config, tmp_path) == train_line(line_model(), config)


def lacks(name):
    return lambda state: {key: value for key, value in state.items() if key != name}


def holds(value, *path):
    "A damage: something else stands at a place of a checkpoint; nothing where the value is `holds`."
    def damage(state):
        part = state
        for name in path[:-1]:
            part = part[name]
        part[path[-1]] = value
        if value is holds:
            del part[path[-1]]
        return state
    return damage


MATRIX, OTHER = ("optimizer", "muon", "state", 0), ("optimizer", "adamw", "state", 0)  # of the first weight of each


@pytest.mark.parametrize("damage", [
    holds([1], "optimizer", "muon", "state"), holds(3, *MATRIX), holds({}, *MATRIX), holds({}, "optimizer", "muon"),
    holds(torch.zeros(3, 3), *MATRIX, "momentum_buffer"), holds("x", *MATRIX, "momentum_buffer"),
    holds(torch.zeros(8, 3, dtype=torch.int64), *MATRIX, "momentum_buffer"), holds(holds, *OTHER, "exp_avg"),
    holds({"momentum_buffer": torch.zeros(8, 3)}, "optimizer", "muon", "state", 7), holds(2, *OTHER, "step"),
    holds(torch.zeros(4), *OTHER, "step"), holds(torch.zeros(7), *OTHER, "exp_avg_sq"),
    holds(torch.zeros(6), "history", "loss"), holds([torch.zeros(1)] * 6, "history", "loss"),
    holds("losses", "history", "loss"), holds([1.], "history", "loss"), holds(3, "history", "held_out"),
    holds([{"step": torch.zeros(1)}], "history", "held_out"), holds([1], "history", "config"),
    holds(torch.zeros(2), "history", "config", "steps"), holds("six", "history", "config", "steps"),
    holds(torch.zeros(1), "history", "note"), holds(-3, "step"), holds(5, "step"),
    lambda state: [1, 2], lambda state: {}, *map(lacks, ("model", "optimizer", "history", "step")),
    lambda state: state | {"optimizer": {}}, lambda state: state | {"step": "six"},
    lambda state: state | {"history": {}}])
def test_a_checkpoint_that_is_none(damage, tmp_path):
    train_line(line_model(), SHORT, tmp_path)
    torch.save(damage(torch.load(tmp_path / "checkpoint.pt")), tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError) as error:
        train_line(line_model(), SHORT, tmp_path)
    assert_says(error.value, tmp_path / "checkpoint.pt", "damaged", "delete it")


@pytest.mark.parametrize("value", [3, "x", torch.zeros(8, 3).to_sparse(), torch.zeros(8, 3, dtype=torch.int64),
                                   torch.zeros(8, 3, device="meta"), {"shape": (8, 3)}])
def test_weights_of_another_kind(value, tmp_path):
    train_line(line_model(), SHORT, tmp_path)
    torch.save(holds(value, "model", "0.weight")(torch.load(tmp_path / "checkpoint.pt")), tmp_path / "checkpoint.pt")
    with pytest.raises(UserError) as error:
        train_line(line_model(), SHORT, tmp_path)
    assert_says(error.value, tmp_path / "checkpoint.pt", "another model", "another folder")


@pytest.mark.parametrize("damage", [
    holds([], "param_groups"), holds("x", "param_groups", 0, "lr"), holds(3, "param_groups", 0, "betas"),
    holds([2, 1, 0], "param_groups", 0, "params"), holds(holds, "param_groups", 0, "eps")])
def test_settings_of_optimizers_are_those_of_the_training(damage, tmp_path):
    "So what a checkpoint says of them is not read: it could only contradict them."
    config = dataclasses.replace(SHORT, decay_fraction=0.)
    train_line(line_model(), config, tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt")
    for part in state["optimizer"].values():
        damage(part)
    torch.save(state, tmp_path / "checkpoint.pt")
    longer = dataclasses.replace(config, steps=8)
    assert train_line(line_model(), longer, tmp_path) == train_line(line_model(), longer)


@pytest.mark.parametrize("share", [0, .01, .5, .99])
def test_a_truncated_checkpoint(share, tmp_path):
    train_line(line_model(), SHORT, tmp_path)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(part := path.read_bytes()[:int(share * path.stat().st_size)])
    with pytest.raises(UserError) as error:
        train_line(line_model(), SHORT, tmp_path)
    assert_says(error.value, path, "truncated", "delete it")
    assert path.read_bytes() == part  # it is the user's to delete


def test_a_checkpoint_with_a_damaged_pickle(tmp_path):
    with zipfile.ZipFile(tmp_path / "checkpoint.pt", "w") as file:  # fails as text that cannot be decoded
        file.writestr("archive/data.pkl", b"\x80\x02X\x02\x00\x00\x00\xff\xfe.")
        file.writestr("archive/version", "3")
    with pytest.raises(ValueError) as error:
        train_line(line_model(), SHORT, tmp_path)
    assert not isinstance(error.value, UnicodeDecodeError)
    assert_says(error.value, tmp_path / "checkpoint.pt", "damaged", "delete it")


def test_images_of_another_size_than_the_tokenizers(tmp_path):
    config, draw = TokenizerConfig(PYRAMID, 4, TRANSFORMER, TRANSFORMER), partial(draw_views, config=WorldConfig())
    with pytest.raises(UserError) as error:
        train_tokenizer(draw, config, SHORT, tmp_path, progress=False)
    assert_says(error.value, "(3, 64, 64)", "(3, 16, 16)", "resize")
    assert files_below(tmp_path) == []


def test_the_largest_seed():
    assert train_line(line_model(), dataclasses.replace(SHORT, seed=2 ** 32 - 1)) != train_line(line_model(), SHORT)


@pytest.mark.parametrize("name, value", [
    ("steps", 0), ("batch_size", 0), ("evaluate_every", 0), ("checkpoint_every", -1), ("learning_rate", 0),
    ("learning_rate", float("nan")), ("clip_norm", -1.), ("warmup_steps", -1), ("decay_fraction", 1.1),
    ("decay_fraction", -.1), ("steps", 2.5), ("steps", "3"), ("seed", 1.5), ("batch_size", True), ("weight_decay", -.1),
    ("learning_rate", "fast"), ("warmup_steps", 2.5), ("seed", -1), ("seed", 2 ** 32), ("learning_rate", float("inf")),
    ("shift", 0), ("num_workers", -1), ("learning_rate", 10 ** 40), ("autocast", "no"), ("autocast", 1)])
def test_settings_out_of_range(name, value):
    with pytest.raises(UserError, match=f"{name} is {value!r}"):
        TrainingConfig(**{name: value})


@pytest.fixture
def foreground():
    "Ctrl-C as in a terminal; a shell lets its background jobs ignore it."
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_the_step_and_writes_a_checkpoint(tmp_path, foreground):
    "The signal comes in the middle of a step far from any checkpoint; the run goes on there, to the same end."
    def loss_with(signals):
        def loss(model, x):
            if len(signals) and signals[0] == len(seen):
                signals.pop(0)
                os.kill(os.getpid(), signal.SIGINT)
            seen.append(1)
            return (model(x) - x).square().mean()
        return loss

    def run(folder, signals=()):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 3)
        return model, train(model, loss_with(list(signals)), lambda generator: (torch.rand(4, 3, generator=generator),),
                            config, folder, progress=False)

    config, seen = TrainingConfig(steps=20, warmup_steps=2, autocast=False, checkpoint_every=1_000), []
    expected, history = run(tmp_path / "whole")
    seen.clear()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", [7])
    assert read_checkpoint(tmp_path / "cut" / "checkpoint.pt", "cpu")["step"] == 8
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    model, resumed = run(tmp_path / "cut")
    assert resumed == history and torch.equal(model.weight, expected.weight)


def test_ctrl_c_twice_ends_at_once(tmp_path, foreground):
    def loss(model, x):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("it went on")

    config = TrainingConfig(steps=3, autocast=False)
    with pytest.raises(KeyboardInterrupt):
        train(torch.nn.Linear(3, 3), loss, lambda generator: (torch.rand(4, 3),), config, tmp_path, progress=False)
    assert not (tmp_path / "checkpoint.pt").exists()
