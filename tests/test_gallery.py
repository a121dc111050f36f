"The gallery: a world in which a detail that is decided twice can disagree with itself, and how that is measured."

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from millivid.pipeline import MINI_EXPERIMENTS
from millivid.schedule import CONTEXT, DENOISED, check_schedule
from millivid.worlds.rooms import PALETTE

NBS = Path(__file__).resolve().parent.parent / "nbs"
sys.path.insert(0, str(NBS))
import _gallery as gallery  # noqa: E402
import _horizon as horizon  # noqa: E402

RESULT = json.loads((NBS / "results" / "gallery.json").read_text())
WALKS = [gallery.test_walk(number) for number in range(8)]


def test_the_context_never_looks_east_and_the_walker_then_comes_near():
    for held, views in WALKS:
        assert len(held) == len(views) == gallery.GIVEN + gallery.MADE
        heading = gallery.hall_poses()[views[:gallery.GIVEN], 2]
        assert np.isin(heading, range(gallery.HOLD, 3 * gallery.HOLD + 1)).all()  # from north over west to south
        places = gallery.distance(views[gallery.GIVEN:])
        far, near = (places >= gallery.FAR[0]) & (places <= gallery.FAR[1]), places <= gallery.NEAR
        assert far.any() and near.any() and far.argmax() < near.argmax()


def east_plaque(pose, world):
    "The share of the picture that the east plaque takes."
    end = 2 * gallery.PANELS * gallery.TEXELS_HIGH * gallery.TEXELS_WIDE
    return (gallery.cast(world)[0][pose] == end + 3).mean()


def test_a_plaque_is_small_from_far_and_the_context_shows_none_of_it():
    world, poses = gallery.WORLDS["gallery"], gallery.hall_poses()
    size = {x: east_plaque(int(gallery.hall_index(np.array([x * gallery.HOLD, 0, 0]))), world) for x in range(6)}
    assert all(size[x] < size[x + 1] for x in range(5)) and size[1] < .01 and size[5] > .1
    west = [pose for pose in range(len(poses)) if gallery.HOLD <= poses[pose, 2] <= 3 * gallery.HOLD]
    assert not any(east_plaque(pose, world) for pose in west)


def test_the_control_worlds_are_what_they_say():
    for seed in range(20):
        texture, plaques = gallery.paint(seed, gallery.WORLDS["known"])
        panel = texture[gallery.KNOWN_PANEL * gallery.TEXELS_HIGH * gallery.TEXELS_WIDE]
        np.testing.assert_array_equal(PALETTE[plaques[1]], panel)
        assert plaques[0] == plaques[1]
        other, _ = gallery.paint(seed, gallery.WORLDS["gallery"])
        np.testing.assert_array_equal(texture[:-4], other[:-4])  # the same side walls
    pose = int(gallery.hall_index(np.array([gallery.HOLD, 0, 0])))
    assert east_plaque(pose, gallery.WORLDS["large"]) > 2 * east_plaque(pose, gallery.WORLDS["gallery"])


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
    places = np.full((2, 60), np.nan)
    places[:, [2, 40]], places[:, [20, 28, 50]] = 4.5, .5
    colours = np.full((2, 60), -1)
    colours[:, 2], colours[:, 20], colours[:, 28], colours[:, 40], colours[:, 50] = 3, 3, 5, 5, 5
    colours[1, 20] = -1  # unreadable: no pair
    found = gallery.agreement(colours, places)
    assert np.isnan(found["9-16"]).all()  # the look at 40 comes after a near one
    np.testing.assert_allclose(found["17-32"], [.5, 0])  # 2 with 20 and with 28
    np.testing.assert_allclose(found["33-64"], [0, 0])  # 2 with 50
    np.testing.assert_allclose(found["one plan"], [.5, 0])  # 2 with 20, 2 with 28
    assert np.isnan(found["two plans"]).all()  # it was seen from near in the first plan
    places[:, [20, 28]] = np.nan
    np.testing.assert_allclose(gallery.agreement(colours, places)["two plans"], [0, 0])  # 2 with 50
    np.testing.assert_allclose(found["all"], [1 / 3, 0])


def test_the_published_outcome_follows_from_the_published_numbers():
    assert RESULT["predictions"] == gallery.outcome(RESULT)
    assert [line["why"] for line in RESULT["predictions"]] == [why for *_, why in gallery.PREDICTIONS]


def test_the_gallery_is_what_the_argument_needs():
    known = {level: {float(far): share for far, share in shares.items()}
             for level, shares in RESULT["calibration"].items()}
    for far in known["0"]:
        if gallery.FAR[0] <= far <= gallery.FAR[1]:
            assert known["0"][far] >= .9 and known["2"][far] <= .35  # chance: .125
        if far <= gallery.NEAR:
            assert known["2"][far] >= .99


@pytest.mark.parametrize("name, frame", [("millivid", 97), ("framepack", 75), ("full_resolution", 6)])
def test_from_which_frame_on_no_true_frame_is_seen(name, frame):
    assert horizon.first_blind_frame(MINI_EXPERIMENTS[name]) == frame


def test_the_fall_is_a_slope_in_decibels_for_a_hundred_frames():
    score = 30 - .02 * np.arange(200.) + np.zeros((4, 1))
    score[:, :50] = 0  # not looked at
    assert horizon.fall(score, 50)["mean"] == pytest.approx(2)
