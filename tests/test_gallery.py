"The gallery: whether a detail is decided twice, how that is asked, and what the lesson says of it."

import json
import sys
from pathlib import Path

import numpy as np
import torch
from tiny import assert_says

from millivid.pipeline import MINI_EXPERIMENTS, load_tokenizer
from millivid.schedule import CONTEXT, DENOISED, check_schedule
from millivid.worlds.rooms import TEXELS_HIGH, TEXELS_WIDE, cast_rays, make_room, pose_index, render_poses

NBS = Path(__file__).resolve().parent.parent / "nbs"
sys.path.insert(0, str(NBS))
import _gallery as gallery  # noqa: E402

RESULT = json.loads((NBS / "results" / "gallery.json").read_text())


def mean(row, pairs="one plan", wall="unseen"):
    return RESULT["rows"][row][wall]["agreement"][pairs]["mean"]


def prose(name):
    cells = json.loads((NBS / f"{name}.ipynb").read_text())["cells"]
    return " ".join(" ".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown").split())


def short(share):
    return f"{share:.2f}"[1:]


def test_the_context_shows_all_walls_but_the_east_one():
    for number in range(12):
        held, poses = gallery.hall_walk(number)
        assert len(held) == len(poses) == gallery.WALK and pose_index(poses, gallery.HALL).shape == held.shape
        where = np.unique(poses[:gallery.GIVEN], axis=0) / 2 * np.array([1, 1, np.pi / 2])
        texel, light, _ = cast_rays(where, gallery.HALL)
        assert set(np.unique(texel[light > 0] // (2 * TEXELS_HIGH * TEXELS_WIDE))) == {1, 2, 3}
        places = gallery.distance(poses[gallery.GIVEN:gallery.GIVEN + gallery.MADE], "unseen")
        far, near = (np.flatnonzero((places >= a) & (places <= b)) for a, b in (gallery.FAR, gallery.NEAR))
        assert far[0] < near[0]


def test_a_walk_is_looked_up_in_the_encoded_hall():
    halls = gallery.Halls(load_tokenizer(), [7])
    halls.context = 74
    drawn = halls.draw(torch.Generator().manual_seed(0), 2, 106)
    latents, actions = halls.read(drawn)
    assert latents.shape[:2] == actions.shape[:2] == (2, 106)
    poses = gallery.hall_walk(3)[1][40:44]
    frames = render_poses(make_room(7, gallery.HALL), pose_index(poses, gallery.HALL), gallery.HALL)
    alone = gallery.encode_frames(load_tokenizer(), frames)
    np.testing.assert_allclose(halls.latents[0, halls.rows(poses)].float(), alone, atol=.02)  # bfloat16


def test_the_blind_schedules_differ_from_millivid_only_where_they_say():
    own = MINI_EXPERIMENTS["millivid"].schedule()
    plan, details = gallery.blind_plan(own), gallery.blind_details(own)
    for number, group in enumerate(own.groups):
        for blind in (plan, details):
            np.testing.assert_array_equal(blind.roles[number] == DENOISED, own.roles[number] == DENOISED)
        last = np.flatnonzero((own.roles[number] == DENOISED).any(0))[-1]
        if group == 2:
            np.testing.assert_array_equal(details.roles[number], own.roles[number])
            assert not (plan.roles[number, :2] == CONTEXT).any() and (own.roles[number, :2] == CONTEXT).any()
            np.testing.assert_array_equal((plan.roles[number, 2] == CONTEXT), (own.roles[number] == CONTEXT).any(0))
        else:
            np.testing.assert_array_equal(plan.roles[number], own.roles[number])
            np.testing.assert_array_equal(details.roles[number][:, :last + 1], own.roles[number][:, :last + 1])
            assert not details.roles[number, group:, last + 1:].any()
    for blind in (plan, details):
        check_schedule(blind)


def test_agreement_counts_pairs_of_a_far_and_a_later_near_look():
    places = np.full((1, 96), np.nan)
    colours = np.full((1, 96, 1), -1)

    def shares(far, near):
        places[:], colours[:] = np.nan, -1
        for looks, place in ((far, 6.), (near, 1.)):
            for frame, colour in looks.items():
                places[0, frame], colours[0, frame] = place, colour
        return {name: values[0] for name, values in gallery.agreement(colours, places).items()}

    found = shares({2: 3, 90: 3}, {10: 3, 20: 3, 28: 5, 40: 5})  # the far look at 90 comes after a near one
    assert found["all"] == .5 and found["one block"] == 2 / 3  # 40 is in the next plan
    assert np.isnan(found["one plan"]) and np.isnan(found["two plans"])
    assert found["near and near"] == .5  # 10 with 20 and 28; 20 and 28 share a block
    found = shares({2: 3}, {20: 3, 28: -1})  # unreadable: no pair
    assert found["one plan"] == 1 and np.isnan(found["one block"])
    assert shares({2: 3}, {40: 4, 44: 3})["two plans"] == .5


def test_the_first_looks_are_the_last_far_one_and_the_first_near_one():
    places, colours = np.full((1, 96), np.nan), np.full((1, 96, 2), -1)
    places[0, [3, 5, 90]], places[0, [20, 30]], colours[0, 5], colours[0, 20] = 6., 1., [4, -1], [4, 2]
    assert gallery.first_looks(colours, places) == [[[4, -1], [4, 2]]]
    assert gallery.by_chance([[[4, -1], [4, 2]], [[4, 3], [5, 2]], [[0, 0], [4, 3]]]) == 4 / 10


def test_the_published_outcome_follows_from_the_published_numbers():
    assert RESULT["predictions"] == gallery.outcome(RESULT["rows"])
    assert [line["why"] for line in RESULT["predictions"]] == [why for *_, why in gallery.PREDICTIONS]
    assert (RESULT["steps"], RESULT["noise"]) == (gallery.TRAINING.steps, gallery.NOISE)
    assert list(RESULT["rows"]) == ["truth", *gallery.ROWS]


def test_noise_hides_the_far_wall_from_the_coarsest_token_and_nothing_else_does():
    right = {level: {float(far): share for far, share in shares.items()} for level, shares in RESULT["right"].items()}
    assert min(share for level in ("0", "1", "2 exact") for share in right[level].values()) > .9
    assert right["2"][6.5] < .25 and right["2"][.5] > .85
    assert all(share == 1 for share in RESULT["rows"]["truth"]["unseen"]["agreement"]["all"].values())
    assert_says(prose("13_why"), f"right in {short(right['reader'][6.5])} of true looks",
                f"from the other end of the hall in {short(right['2 exact'][6.5])} of the cases",
                f"from far in {short(right['2'][6.5])} of the cases",
                f"from half a place away in {short(right['2'][.5])}",
                f"standard deviation {RESULT['noise']}, that of the tokens is {short(RESULT['spread'])}",
                f"{RESULT['steps']:,} steps",
                f"over {RESULT['episodes']} walks")


def test_the_lesson_says_what_was_measured():
    ours, theirs = (RESULT["rows"][row]["followed"] for row in ("millivid", "rollout_upscale"))
    told, seen = RESULT["told"], {row: RESULT["rows"][row]["seen"]["true"]["near"] for row in gallery.ROWS}
    assert_says(
        prose("13_why"),
        f"agrees with itself in {short(mean('rollout_upscale'))} of the looks, MilliVid in {short(mean('millivid'))}",
        f"in {short(mean('rollout_upscale', 'two plans'))} and {short(mean('millivid', 'two plans'))}. Two near looks",
        f"nothing left to decide, it has {short(mean('rollout_upscale_exact'))} (and MilliVid "
        f"{short(mean('millivid_exact'))}",
        f"only {ours['far as planned']} of {ours['panels']} panels have the planned colour from far",
        f"colour of this plan in {short(told['millivid']['mean'])}",
        f"no plan ahead has {short(told['blind_details']['mean'])}, no more than a guess, and upscaling "
        f"{short(told['rollout_upscale']['mean'])}", f"agree as often as before, {short(mean('blind_details'))}",
        f"agrees less often, {short(mean('blind_plan'))}",
        f"near the wall {short(seen['millivid'])} of MilliVid's readable looks show the true colour, and "
        f"{short(seen['rollout_upscale'])} of upscaling's")
    truth = RESULT["rows"]["truth"]["followed"]
    assert truth["far as planned"] == truth["panels"] == 82 and "of true videos all 82 have it" in prose("13_why")
    for found, mostly, rarely in ((ours, "then near as far", "then near as planned"),
                                  (theirs, "then near as planned", "then near as far")):
        assert found[mostly] > 2 * found[rarely] and found["far as planned"] < found["panels"] / 2.5


def test_the_lesson_on_schedules_counts_the_panels_that_change():
    counts = {}
    for row in ("millivid", "rollout_upscale"):
        far, near = np.array(RESULT["rows"][row]["looks"])[:24, :, 0].T
        readable = (far >= 0) & (near >= 0)
        counts[row] = (far != near)[readable].sum(), readable.sum()
    assert_says(prose("06_schedule"), "changes its colour in {} of {} videos".format(*counts["millivid"]))
    changed, readable = counts["rollout_upscale"]
    assert changed > readable / 2 and counts["millivid"][0] < changed
