"Long videos step by step: context stays, tokens land where they should, seeds decide."

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import PYRAMID, random_video

import millivid.rollout
from millivid.diffusion import ddim_sample
from millivid.pyramid import PyramidConfig
from millivid.rollout import VideoNoise, generate, generate_framepack
from millivid.video import gather_tokens, step_indices, write_tokens
from millivid.schedule import CONTEXT, DENOISED, full_resolution_schedule, millivid_schedule

START, END = 24, 31
METHODS = ("millivid", "full_resolution", "framepack")


@pytest.fixture(params=METHODS)
def rollout(request, video_model, framepack_model, schedule, sliding_window):
    "Each method as one function: (latents, actions, **settings) -> generated latents, finest level first."

    def run(latents, actions, start=START, end=END, num_inference_steps=3, **settings):
        settings = dict(num_inference_steps=num_inference_steps, progress=False) | settings
        if request.param == "framepack":
            return generate_framepack(framepack_model, latents, actions, PYRAMID, start, end, **settings)
        chosen = schedule if request.param == "millivid" else sliding_window
        return generate(video_model, latents, actions, chosen, PYRAMID, start, end, **settings)

    run.levels = PYRAMID.num_levels if request.param == "millivid" else 1
    run.whole = 6 if request.param == "framepack" else END - START  # of 7 new frames, FramePack makes 3 times 2
    run.kept = PYRAMID.level_slice(0) if request.param == "framepack" else slice(None)
    return run


@pytest.fixture
def video():
    return random_video(2, END)


# ---- gathering and writing -------------------------------------------------------------------------------------------


@st.composite
def steps(draw):
    "A schedule on some pyramid, one of its steps, and where its chunk lies."
    levels = draw(st.integers(1, 3))
    base = 2 ** (levels - 1)
    pyramid = PyramidConfig((base * draw(st.integers(1, 2)), base * draw(st.integers(1, 2))), (1, 1), levels)
    if draw(st.booleans()):
        schedule = full_resolution_schedule(2 * draw(st.integers(1, 3)), pyramid.tokens_per_level)
    else:
        growth = draw(st.integers(1, 2))
        windows = [growth**level for level in range(levels)]
        schedule = millivid_schedule(windows, draw(st.integers(0, 8)), pyramid.tokens_per_level)
    return pyramid, schedule, draw(st.integers(0, schedule.num_steps - 1)), draw(st.integers(0, 5))


def numbered_video(pyramid, frames):
    "A video whose tokens say where they are: (frame, level, row, column)."
    where = pyramid.coordinates()
    frame = torch.arange(frames).view(-1, 1, 1).expand(-1, len(where), 1)
    return torch.cat([frame, where.expand(frames, -1, -1)], -1).float()[None]


@given(steps())
def test_gathered_tokens_are_where_they_say(case):
    pyramid, schedule, step, start = case
    video = numbered_video(pyramid, start + schedule.chunk_frames)
    actions = torch.arange(video.shape[1]).float().view(1, -1, 1).expand(1, -1, 6)
    tokens = gather_tokens(video, actions, step_indices(schedule, pyramid)[step], pyramid.coordinates(), start)
    assert torch.equal(tokens.values, tokens.coordinates.float())
    assert torch.equal(tokens.actions[..., 0], tokens.values[..., 0])  # the action of the token's frame
    frame, level, *_ = tokens.coordinates[0].unbind(-1)
    assert torch.equal(tokens.roles[0], torch.from_numpy(schedule.roles[step].astype("int64"))[level, frame - start])
    assert tokens.values.shape[1] == schedule.step_tokens[step]  # none is missing
    assert len(tokens.coordinates[0].unique(dim=0)) == tokens.values.shape[1]  # none is there twice


@given(steps())
def test_written_tokens_land_where_they_came_from(case):
    pyramid, schedule, step, start = case
    index, before = step_indices(schedule, pyramid)[step], numbered_video(pyramid, start + schedule.chunk_frames)
    actions = torch.zeros(1, before.shape[1], 6)
    tokens = gather_tokens(before, actions, index, pyramid.coordinates(), start)

    same = before.clone()
    write_tokens(same, tokens.values, index, start)
    assert torch.equal(same, before)  # the round trip

    after = before.clone()
    write_tokens(after, tokens.values + 1000, index, start)
    role = torch.zeros(before.shape[1:3], dtype=torch.int64)
    roles = torch.from_numpy(schedule.roles[step].astype("int64"))
    role[start:, : sum(schedule.tokens_per_level)] = roles.T.repeat_interleave(
        torch.tensor(schedule.tokens_per_level), 1
    )
    assert torch.equal(after, before + 1000 * (role == DENOISED)[None, ..., None])


# ---- the context -----------------------------------------------------------------------------------------------------


def test_context_is_never_changed(rollout, video):
    latents, actions = video
    given_latents = latents.clone()
    out = rollout(latents, actions)
    assert torch.equal(latents, given_latents)  # not even the caller's copy
    assert torch.equal(out[:, :START], latents[:, :START, rollout.kept])


@pytest.mark.parametrize("guidance_scale", [1.0, 1.5])
def test_a_step_changes_nothing_but_what_it_denoises(video_model, schedule, guidance_scale):
    latents, actions = random_video(2, 32)
    before = torch.zeros(2, 32, PYRAMID.num_tokens, 4)
    before[:, :START] = latents[:, :START]
    seen = []

    def on_step(step, first, now):
        nonlocal before
        seen.append((step, first))
        roles = torch.from_numpy(schedule.roles[step].astype("int64")).T
        role = torch.zeros(32, PYRAMID.num_tokens, dtype=torch.int64)
        role[first : first + schedule.chunk_frames] = roles.repeat_interleave(torch.tensor(PYRAMID.tokens_per_level), 1)
        new = role == DENOISED
        assert torch.equal(now[:, :32][:, ~new], before[:, ~new])
        assert (now[:, :32][:, new] != before[:, new]).all()
        assert (now[:, :32][:, role == CONTEXT] != 0).all()
        before = now[:, :32].clone()

    generate(
        video_model, latents, actions, schedule, PYRAMID, START, 32, 3, guidance_scale, on_step=on_step, progress=False
    )
    assert seen == schedule.rollout(START, 32)


def test_later_frames_of_the_input_are_not_read(rollout, video):
    latents, actions = video
    out = rollout(latents, actions)
    assert torch.equal(rollout(latents[:, :START], actions), out)
    spoiled = latents.clone()
    spoiled[:, START:] = torch.nan
    assert torch.equal(rollout(spoiled, actions), out)


def test_context_and_actions_matter(rollout, video):
    latents, actions = video
    out = rollout(latents, actions)
    assert not torch.equal(rollout(-latents, actions)[:, START:], out[:, START:])
    turned = actions.clone()
    turned[:, START:, 0] = (turned[:, START:, 0] + 1) % 3
    assert not torch.equal(rollout(latents, turned)[:, START:], out[:, START:])


# ---- what is generated -----------------------------------------------------------------------------------------------


def test_every_frame_is_generated(rollout, video):
    out = rollout(*video)
    assert out.shape[:2] == (2, END)
    made = sum(PYRAMID.tokens_per_level[: rollout.levels])
    assert (out[:, START : START + rollout.whole, :made] != 0).all()
    assert (out[:, START + rollout.whole :] == 0).all() and (out[:, START:, made:] == 0).all()
    assert out.isfinite().all()


@pytest.mark.parametrize("name", ["schedule", "sliding_window"])
def test_a_longer_video_begins_like_a_shorter_one(name, request, video_model):
    latents, actions = random_video(2, START + 8)
    short, long = (
        generate(video_model, latents, actions, request.getfixturevalue(name), PYRAMID, START, end, 3, progress=False)
        for end in (START + 4, START + 8)
    )
    assert torch.equal(long[:, : START + 4], short)


def test_steps_that_make_only_frames_beyond_the_end_are_not_run(video_model, schedule, video):
    plan, taken = schedule.rollout(START, START + 4), []
    whole = generate(video_model, *video, schedule, PYRAMID, START, START + 4, 3, progress=False)
    first = generate(
        video_model,
        *video,
        schedule,
        PYRAMID,
        START,
        START + 1,
        3,
        progress=False,
        on_step=lambda step, *_: taken.append(step),
    )
    assert taken == [0, 1, 2] and len(plan) == 7  # each level once, instead of the whole chunk
    assert torch.equal(first, whole[:, : START + 1])


def test_the_last_action_goes_on_where_the_plan_overshoots(video_model, schedule, video):
    latents, actions = video
    actions = actions[:, : START + 1]  # the chunk is four frames long, the video ends after one
    repeated = torch.cat([actions, actions[:, -1:].expand(-1, 3, -1)], dim=1)
    short, long = (
        generate(video_model, latents, each, schedule, PYRAMID, START, START + 1, 3, progress=False)
        for each in (actions, repeated)
    )
    assert torch.equal(short, long) and short.shape[1] == START + 1


# ---- seeds -----------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_video(rollout, video):
    one = rollout(*video, seeds=[5, 6])
    torch.randn(3)  # other uses of chance do not matter
    assert torch.equal(rollout(*video, seeds=[5, 6]), one)
    other = rollout(*video, seeds=[5, 7])
    assert torch.equal(other[0], one[0]) and not torch.equal(other[1], one[1])


def test_a_video_does_not_depend_on_its_place_in_the_batch(rollout):
    latents, actions = random_video(3, END)
    together = rollout(latents, actions, seeds=[5, 6, 7])
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(
        rollout(latents[order], actions[order], seeds=[7, 5, 6]), together[order], rtol=0, atol=1e-4
    )
    for i, seed in enumerate([5, 6, 7]):
        alone = rollout(latents[i : i + 1], actions[i : i + 1], seeds=[seed])
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-4)


def test_noise_is_standard_normal_and_goes_on():
    noise = VideoNoise([1, 2])
    first, second = noise(5000, 2), noise(5000, 2)
    assert first.shape == (2, 5000, 2)
    assert abs(first.mean()) < 0.03 and abs(first.std() - 1) < 0.03
    assert not torch.equal(first, second) and not torch.equal(first[0], first[1])
    assert torch.equal(VideoNoise([2])(5000, 2)[0], first[1])


def test_framepack_keeps_the_noise_that_its_frames_were_made_from(framepack_model, video, monkeypatch):
    calls = []

    def sample(predict, x, is_target, eps, *rest, **named):
        result = ddim_sample(predict, x, is_target, eps, *rest, **named)
        calls.append((eps.clone(), result[1]))
        return result

    monkeypatch.setattr(millivid.rollout, "ddim_sample", sample)
    generate_framepack(framepack_model, *video, PYRAMID, START, END, 3, progress=False)
    (first, after), (second, _), *_ = calls
    assert not torch.equal(first[:, -2:], after[:, -2:])
    assert torch.equal(second[:, -4:-2], after[:, -2:])  # the two frames are context now, with their own estimate
