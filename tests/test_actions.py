"Actions: poses that follow from them, and the two rules that every world shares."

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import assert_says

from millivid.actions import FORWARD, TURN_LEFT, TURN_RIGHT, action_bundle, action_rows, chamfer_distance, check_actions
from millivid.actions import choose_overlapping, integrate_actions, seen_before
from millivid.basics import UserError

moves = st.lists(st.integers(0, 2), min_size=2, max_size=40)


@given(moves, st.integers(1, 9))
def test_rows_carry_the_action_and_the_pose_after_it(actions, k):
    held = np.repeat(actions, k)
    rows, poses = action_rows(held, k).numpy(), integrate_actions((0, 0, 0), held, k)
    np.testing.assert_array_equal(rows[:, 0], held)
    np.testing.assert_allclose(rows[:, 1:3] * k, poses[:, :2], atol=1e-4)
    np.testing.assert_allclose(rows[:, 4] * 2 * k / np.pi, poses[:, 2], atol=1e-4)
    assert (rows[:, [3, 5]] == 0).all()


def test_a_square_ends_where_it_began():
    rows = action_rows([FORWARD, TURN_RIGHT] * 4, 1)
    np.testing.assert_allclose(rows[-1], [TURN_RIGHT, 0, 0, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(rows[3], [TURN_RIGHT, 1, -1, 0, np.pi, 0], atol=1e-6)


@pytest.mark.parametrize("wrong, parts", [([0, 1, 3], ("3", "position 2")), ([-1], ("-1", "position 0")),
                                          ([.5], ("0.5", "position 0"))])
def test_an_action_out_of_range_is_named(wrong, parts):
    with pytest.raises(UserError) as error:
        check_actions(wrong)
    assert all(part in str(error.value) for part in parts)


def test_bundles_turn_in_one_direction():
    for seed in range(200):
        bundle = action_bundle(random.Random(seed))
        assert bundle[0] == FORWARD and len({TURN_LEFT, TURN_RIGHT} & set(bundle)) == 1


def test_chamfer_distance_by_hand():
    a, b = np.array([[0, 0], [2, 0]]), np.array([[0, 1], [2, 0], [5, 4]])
    assert chamfer_distance(a, b) == pytest.approx((1 + 0) / 2 + (1 + 0 + 5) / 3)
    assert chamfer_distance(a, a) == 0


def test_the_overlap_rule_draws_one_of_the_closest():
    here = np.zeros((1, 2))
    walks = [(here, here + distance, distance) for distance in (5, 1, 9, 2, 7, 3)]
    drawn = {choose_overlapping(walks, random.Random(seed), closest=3) for seed in range(60)}
    assert drawn == {1, 2, 3}
    assert choose_overlapping(walks, random.Random(0), closest=1) == 1


@given(moves, moves, st.integers(1, 3))
def test_seen_before_without_tolerance_means_the_same_pose(past, later, k):
    held = np.repeat(past + later, k)
    context, poses = len(past) * k, integrate_actions((0, 0, 0), held, k)
    known = set(map(tuple, poses[:context]))
    seen = seen_before(action_rows(held, k), context, distance=0, angle=0)
    assert seen.tolist() == [tuple(pose) in known for pose in poses]


def row(action=0, x=0., y=0., z=0., degrees=0.):
    return [action, x, y, z, np.radians(degrees), 0]


@pytest.mark.parametrize("inside, outside", [
    (row(x=.5), row(x=.51)), (row(y=-.5), row(y=-.51)), (row(x=.3, y=.4), row(x=.4, y=.4)),
    (row(z=.5), row(z=-.51)), (row(degrees=15), row(degrees=15.1)), (row(degrees=-15), row(degrees=-15.1)),
    (row(degrees=345), row(degrees=344.9)), (row(degrees=735), row(degrees=735.1)), (row(action=2), row(degrees=180)),
    (row(x=.5, degrees=15), row(x=9, degrees=90))])  # the last one: each half of it at another frame of the context
def test_views_within_half_a_move_and_fifteen_degrees_were_seen_before(inside, outside):
    context = [row(), row(x=9), row(x=-9, degrees=90)]
    assert seen_before([*context, inside, outside], 3).tolist() == [True] * 4 + [False]


def test_angles_go_round_the_circle():
    assert seen_before([row(degrees=355), row(degrees=10), row(degrees=11)], 1).tolist() == [True, True, False]


def test_how_far_apart_views_may_be_can_be_chosen():
    rows = [row(), row(x=2), row(x=2.1), row(degrees=90), row(degrees=91)]
    assert seen_before(rows, 1, distance=2, angle=90).tolist() == [True, True, False, True, False]


@pytest.mark.parametrize("shape, context", [((5, 5), 1), ((6,), 1), ((2, 5, 6), 1), ((5, 6), 0), ((5, 6), 6),
                                            ((5, 6), -1), ((0, 6), 1)])
def test_rows_or_a_context_that_cannot_be_are_named(shape, context):
    with pytest.raises(UserError) as error:
        seen_before(np.zeros(shape), context)
    assert_says(error.value, shape, context, "(frames, 6)")
