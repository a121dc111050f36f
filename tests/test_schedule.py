"Role matrices: what a chunk promises, for any setting of the windows."

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import assert_says

from millivid.basics import UserError
from millivid.pipeline import MINI_EXPERIMENTS, PAPER_EXPERIMENTS
from millivid.schedule import CONTEXT, DENOISED, Schedule, check_schedule, framepack_schedule
from millivid.schedule import full_resolution_schedule, millivid_schedule, schedule_from_text, schedule_text
from millivid.schedule import two_speeds_schedule, upscale_schedule


@st.composite
def millivid_settings(draw):
    "Windows that divide each other, tokens per level, and any budget of extra context."
    levels = draw(st.integers(1, 4))
    windows = [draw(st.integers(1, 3))]
    for _ in range(levels - 1):
        windows.append(windows[-1] * draw(st.integers(1, 3)))
    coarsest = draw(st.integers(1, 4))
    tokens = tuple(coarsest * 4 ** level for level in reversed(range(levels)))
    return tuple(windows), draw(st.integers(0, 3 * tokens[0])), tokens


@st.composite
def framepack_settings(draw, mirrored=False):
    "Context frames, denoised frames and tokens per level."
    levels = draw(st.integers(1, 4))
    frames = st.integers(0, 4)
    context = [draw(st.integers(1, 4)), *(draw(frames) for _ in range(levels - 1))]
    first = draw(st.integers(1, 3))
    denoised = [first, *(draw(frames) for _ in range(levels - 1))] if mirrored else first
    return context, denoised, tuple(4 ** level for level in reversed(range(levels)))


@st.composite
def upscale_settings(draw):
    levels = draw(st.integers(3, 4))
    return draw(st.sampled_from([2, 4])), tuple(4 ** level for level in reversed(range(levels))), draw(st.booleans())


schedules = millivid_settings().map(lambda settings: millivid_schedule(*settings))
mirrored = framepack_settings(mirrored=True).map(lambda settings: framepack_schedule(*settings))
any_schedule = (schedules | st.integers(2, 17).map(full_resolution_schedule)
                | framepack_settings().map(lambda settings: framepack_schedule(*settings))
                | upscale_settings().map(lambda settings: upscale_schedule(*settings)))


def new_frames(schedule):
    return slice(schedule.context_frames, None)


@given(any_schedule)
def test_a_chunk_denoises_every_frame_at_every_level_exactly_once(schedule):
    times = (schedule.roles == DENOISED).sum(axis=0)
    assert (times[:, new_frames(schedule)] == 1).all()
    assert (times[:, :schedule.context_frames] == 0).all()
    assert times[:, new_frames(schedule)].shape[1] == schedule.finished_frames > 0


@given(mirrored)
def test_a_mirrored_chunk_finishes_every_frame_and_sketches_later_ones(schedule):
    times = (schedule.roles == DENOISED).sum(axis=0)[:, new_frames(schedule)]
    assert times.max() == 1
    assert (times[:, :schedule.finished_frames] == 1).all()
    later = times[:, schedule.finished_frames:]
    assert later.shape[1] == schedule.clipped_frames and (later.sum(axis=0) == 1).all()


@given(any_schedule | mirrored)
def test_context_exists_before_it_is_used(schedule):
    exists = np.zeros(schedule.roles.shape[1:], dtype=bool)
    exists[:, :schedule.context_frames] = True
    for roles in schedule.roles:
        assert exists[roles == CONTEXT].all()
        exists |= roles == DENOISED


@given(schedules)
def test_a_frame_is_denoised_from_coarse_to_fine(schedule):
    when = (schedule.roles == DENOISED).argmax(axis=0)[:, new_frames(schedule)]
    assert (when[:-1] > when[1:]).all()


@given(schedules)
def test_what_is_denoised_is_seen_one_level_coarser(schedule):
    for roles in schedule.roles:
        for level, frame in zip(*np.nonzero(roles == DENOISED)):
            if level + 1 < schedule.num_levels:
                assert roles[level + 1, frame] == CONTEXT


@given(millivid_settings())
def test_every_step_has_a_window_of_every_level(settings):
    windows, extra_budget, tokens = settings
    schedule = millivid_schedule(*settings)
    for roles, target in zip(schedule.roles, schedule.groups):
        for level, window in enumerate(windows):
            seen, denoised = (roles[level] == CONTEXT).sum(), (roles[level] == DENOISED).sum()
            if level == target:
                assert (seen, denoised) == (extra_budget // tokens[level], window)
            else:
                assert (seen, denoised) == (window, 0)


@given(millivid_settings())
def test_the_frames_of_a_step_have_no_gap(settings):
    for roles in millivid_schedule(*settings).roles:
        frames = np.flatnonzero(roles.any(axis=0))
        assert (np.diff(frames) == 1).all()


@given(millivid_settings(), st.integers(0, 3))
def test_steps_cost_the_same_with_whole_frames_of_extra_context(settings, frames):
    windows, _, tokens = settings
    schedule = millivid_schedule(windows, frames * tokens[0], tokens)
    expected = np.dot(windows, tokens) + frames * tokens[0]
    assert (schedule.step_tokens == expected).all() and schedule.max_tokens == expected


@given(any_schedule | mirrored)
def test_cost_counts_the_tokens_of_both_roles(schedule):
    for roles, cost in zip(schedule.roles, schedule.step_tokens):
        assert cost == sum(schedule.tokens_per_level[level] for level in np.nonzero(roles)[0])


@given(any_schedule)
def test_training_draws_every_group_equally_often(schedule):
    groups, probabilities = np.array(schedule.groups), schedule.probabilities
    assert probabilities.sum() == pytest.approx(1) and (probabilities > 0).all()
    for group in set(schedule.groups):
        assert probabilities[groups == group].sum() == pytest.approx(1 / len(set(schedule.groups)))
        assert np.ptp(probabilities[groups == group]) == pytest.approx(0)


@given(any_schedule | mirrored, st.integers(0, 20), st.integers(1, 60))
def test_a_rollout_denoises_everything_once_and_looks_at_nothing_missing(schedule, more_context, length):
    start = schedule.context_frames + more_context
    plan = schedule.rollout(start, start + length)
    last = max(first for _, first in plan) + schedule.chunk_frames - schedule.clipped_frames
    assert last - schedule.finished_frames < start + length <= last  # whole chunks, and not one too many
    times = np.zeros((schedule.num_levels, last + schedule.clipped_frames), dtype=int)
    for step, first in plan:
        assert first >= 0
        roles, chunk = schedule.roles[step], times[:, first:first + schedule.chunk_frames]
        known = (chunk >= 1) | (np.arange(first, first + schedule.chunk_frames) < start)
        assert known[roles == CONTEXT].all()
        chunk += roles == DENOISED
    assert (times[:, :start] == 0).all() and (times[:, start:last] >= 1).all()
    if not schedule.clipped_frames:
        assert times.max() == 1


@given(any_schedule | mirrored, st.integers(0, 20), st.integers(0, 100))
def test_a_limit_is_never_exceeded(schedule, more_context, more_frames):
    start = schedule.context_frames + more_context
    limit = start + schedule.finished_frames + schedule.clipped_frames + more_frames
    ends = [first + schedule.chunk_frames for _, first in schedule.rollout(start, limit=limit)]
    assert max(ends) <= limit < max(ends) + schedule.finished_frames


@given(st.integers(2, 40))
def test_full_resolution_is_half_context_and_the_rest_denoised(frames):
    schedule = full_resolution_schedule(frames, (16, 4, 1))
    half = frames // 2  # of an odd number: the smaller half, as in the release
    assert schedule.roles.tolist() == [[[CONTEXT] * half + [DENOISED] * (frames - half)]]
    assert schedule.max_tokens == frames * 16


def test_the_papers_schedules():
    paper = millivid_schedule((3, 12, 48, 192), 768)
    assert paper.num_steps == 1 + 4 + 16 + 64
    assert set(paper.step_tokens) == {3840}
    assert paper.finished_frames == 192 and paper.context_frames <= 256
    assert full_resolution_schedule(14).max_tokens == 3584


def test_the_papers_token_budgets():
    found = {name: experiment.tokens_per_step for name, experiment in PAPER_EXPERIMENTS.items()}
    assert found.pop("ablation_rollout_upscale") <= found.pop("ablation_upscale") <= 1280
    ablations = {"millivid": 1280, "millivid_cascaded": 1280, "framepack": 1280, "framepack_hierarchical": 1364,
                 "framepack_cascaded": 1364, "framepack_mirrored": 1364, "full_resolution": 1024}
    assert found == {"millivid": 3840, "framepack": 3840, "full_resolution": 3584,
                     **{f"ablation_{name}": tokens for name, tokens in ablations.items()}}


@pytest.mark.parametrize("name", PAPER_EXPERIMENTS)
def test_the_papers_context_is_enough_and_every_step_costs_the_same(name):
    experiment = PAPER_EXPERIMENTS[name]
    assert 0 < experiment.context_frames <= 256
    if schedule := experiment.schedule():
        check_schedule(schedule)
        assert schedule.num_levels in (1, experiment.video.num_levels)  # full resolution has the finest alone
        assert set(schedule.step_tokens) == {experiment.tokens_per_step}


def test_millivid_needs_a_third_more_steps_than_framepack():
    "As the paper says of 768 frames after 256."
    steps = len(PAPER_EXPERIMENTS["millivid"].schedule().rollout(256, 1024))
    assert steps / (768 / PAPER_EXPERIMENTS["framepack"].video.framepack_denoised) == pytest.approx(1.33, abs=.01)


def test_the_mini_models_have_the_same_budget():
    assert {experiment.tokens_per_step for experiment in MINI_EXPERIMENTS.values()} == {160}
    assert all(experiment.context_frames <= 128 for experiment in MINI_EXPERIMENTS.values())


@given(millivid_settings())
def test_a_schedule_is_what_its_drawing_says(settings):
    schedule = millivid_schedule(*settings)
    again = schedule_from_text(schedule_text(schedule), schedule.tokens_per_level, schedule.name)
    assert (again.roles == schedule.roles).all() and again.groups == schedule.groups


def test_the_rule_worked_by_hand():
    schedule = millivid_schedule((2, 4), 2, (2, 1))
    assert schedule_text(schedule).split() == ["cc..dddd", "..cc....", "....cccc", "...cdd..",
                                              "...cc.cc", ".....cdd"]


@given(any_schedule | mirrored)
def test_a_schedule_that_a_function_made_can_run(schedule):
    check_schedule(schedule)


def test_a_schedule_is_equal_to_itself_only():
    schedule, same = millivid_schedule((1, 2), 4, (4, 1)), millivid_schedule((1, 2), 4, (4, 1))
    assert schedule == schedule and schedule != same  # raised an error: an array has no single truth value
    assert len({schedule, same, schedule}) == 2


# ---- when something is wrong -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("text, words", [
    ("", ("empty", "at least one step")),
    ("cd", ("step 0", "1 lines for 2 levels", "empty line")),
    ("..\ncx", ("'cx'", "step 0", ". for unseen")),
    ("....\ncd", ("2 frames", "4", "equally long")),
    ("..\ncd\n\n...\nc.d", ("step 1", "3 frames", "the first line has 2")),
    ("..\ncc", ("steps [0]", "denoise nothing")),
    ("cd\n.c", ("level 0 of frame 1", "no earlier step has made")),
])
def test_drawings_that_are_no_schedule(text, words):
    with pytest.raises(UserError) as error:
        schedule_from_text(text, (4, 1))
    assert_says(error.value, *words)


def drawn(*steps, groups=None, clipped=0):
    "A schedule from drawings, unchecked: per step one line per level, finest first; C is context, D is denoised."
    roles = np.array([[[".CD".index(role) for role in level] for level in step] for step in steps], dtype=np.uint8)
    tokens = tuple(4 ** level for level in reversed(range(roles.shape[1])))
    return Schedule(roles, tokens, groups or (0,) * len(steps), "drawn", clipped)


@pytest.mark.parametrize("schedule", [
    drawn(["CD"]),
    drawn(["..CD.", "CC.DD"], clipped=1),
    drawn(["C.D"], ["CDC"]),  # what an earlier step made may be seen
    drawn(["...", ".DD"], [".D.", ".CC"], [".CD", "..C"]),
    drawn(["CD.", "CDD"], clipped=1)])
def test_schedules_that_are_in_order(schedule):
    check_schedule(schedule)


@pytest.mark.parametrize("schedule, parts", [
    (Schedule(np.array([[[1, 2, 3]]], dtype=np.uint8), (4,), (0,), "drawn"), ("3]", "drawn", "use 0 unseen")),
    (Schedule(np.array([[[1, 2, -1]]]), (4,), (0,), "drawn"), ("[-1", "drawn", "use 0 unseen")),
    (Schedule(np.zeros((1, 2), dtype=np.uint8), (4,), (0,)), ("(1, 2)", "1 levels", "steps, levels, frames")),
    (Schedule(np.full((1, 2, 3), 2, dtype=np.uint8), (4,), (0,)), ("(1, 2, 3)", "1 levels", "steps, levels")),
    (Schedule(np.zeros((0, 1, 3), dtype=np.uint8), (4,), ()), ("(0, 1, 3)", "at least one")),
    (drawn(["CD"], ["CC"]), ("steps [1]", "drawn", "denoise nothing")),
    (drawn(["CD"], groups=(0, 1)), ("2 groups", "1 steps", "one each")),
    (drawn(["CD"], clipped=-1), ("clipped_frames -1", "drawn")),
    (drawn(["CDD"], clipped=2), ("clipped_frames 2", "2 frames", "clip fewer")),
    (drawn(["CDD"], clipped=9), ("clipped_frames 9", "clip fewer")),
    (drawn(["CDC"]), ("step 0", "drawn", "level 0 of frame 2", "make it before")),
    (drawn(["CDC"], ["C.D"]), ("step 0", "level 0 of frame 2", "make it before")),  # made, but too late
    (drawn(["CD.", "CCD"]), ("step 0", "level 1 of frame 1", "make it before")),
    (drawn(["CCD", "C.."]), ("level 1 of frame 2", "a later chunk looks at it", "denoise it once")),
    (drawn(["C.D", "C.D"], [".D.", ".CC"]), ("step 1", "level 1 of frame 1")),
    (drawn(["...", "CDD"]), ("level 0 of frame 1", "shown", "denoise it once")),
    (drawn(["CD.", "CDD"]), ("level 0 of frame 2", "shown", "denoise it once"))])
def test_schedules_that_are_out_of_order(schedule, parts):
    with pytest.raises(UserError) as error:
        check_schedule(schedule)
    assert_says(error.value, *parts)


@pytest.mark.parametrize("make, parts", [
    (lambda: millivid_schedule((2, 3, 12), 16, (16, 4, 1)), ("(2, 3, 12)", "multiple")),
    (lambda: millivid_schedule((4, 2, 8), 16, (16, 4, 1)), ("(4, 2, 8)", "multiple")),
    (lambda: millivid_schedule((0, 2, 4), 16, (16, 4, 1)), ("(0, 2, 4)", "at least 1")),
    (lambda: millivid_schedule((1, 2), 16, (16, 4, 1)), ("2 windows", "3 levels", "one for each")),
    (lambda: millivid_schedule((1, 2, 4), -1, (16, 4, 1)), ("extra_budget", "-1", "negative")),
    (lambda: full_resolution_schedule(1), ("num_frames", 1, "at least 2")),
    (lambda: framepack_schedule((1, 2), 1, (16, 4, 1)), ("(1, 2)", "3 levels", "one number per level")),
    (lambda: framepack_schedule((1, 2, 4), (0, 1, 1), (16, 4, 1)), ("(0, 1, 1)", "at least one frame"))])
def test_settings_that_make_no_schedule(make, parts):
    with pytest.raises(UserError) as error:
        make()
    assert_says(error.value, *parts)


@pytest.mark.parametrize("same_level_context", [True, False])
@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_upscale_schedules_are_refused_or_cost_the_same_in_every_step(levels, same_level_context):
    accepted = []
    for base in range(-2, 13):
        try:
            tokens = tuple(4 ** level for level in reversed(range(levels)))
            schedule = upscale_schedule(base, tokens, same_level_context)
        except UserError as error:
            assert_says(error, f"base_frames {base}", f"{levels} levels", "multiple of 4")
        else:
            accepted.append(base)
            assert len(set(schedule.step_tokens)) == 1
    assert (not accepted) if levels == 1 else {4, 8, 12} <= set(accepted) <= {2, 4, 6, 8, 10, 12}


@pytest.mark.parametrize("arguments, parts", [
    (dict(start=3, end=9), ("needs 4 context frames", "only 3", "give more context")),
    (dict(start=6, end=6), ("start 6", "end 6", "larger")),
    (dict(start=6, limit=7), ("start 6", "limit 7", "larger")),
    (dict(start=6), ("either end", "limit")),
    (dict(start=6, end=9, limit=20), ("either end", "limit"))])
def test_rollouts_that_cannot_be(arguments, parts):
    with pytest.raises(UserError) as error:
        millivid_schedule((2, 4), 2, (2, 1)).rollout(**arguments)
    assert_says(error.value, *parts)


def test_a_drawing_may_have_spaces_in_its_empty_lines_but_no_clipped_frames():
    text = schedule_text(two_speeds_schedule())
    assert (schedule_from_text(text.replace("\n\n", "\n  \n"), (16, 4, 1)).roles == two_speeds_schedule().roles).all()
    with pytest.raises(UserError) as error:
        schedule_text(framepack_schedule((2, 2, 2), (1, 1, 2), (16, 4, 1)))
    assert_says(error.value, "3 frames twice", "framepack_schedule")
