"Walks through Freedoom: one, many, and plans that come back."

import itertools
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny import assert_says, files_below, run_millivid

from millivid.actions import FORWARD, TURN_LEFT, TURN_RIGHT, action_rows, chamfer_distance, integrate_actions
from millivid.actions import seen_before
from millivid.data import FREEDOOM_VIDEO
from millivid.release import read_actions, read_frames, read_index
from millivid.worlds import doom as recorder
from millivid.worlds.doom import DOOM_LEVELS, blocked_share, overlapping_actions, record_doom, record_episodes

TINY = dict(frames_per_action=2, image_size=16)
PROCESSES = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")


@pytest.fixture
def doom(tmp_path, monkeypatch):
    "A folder to record in, where there is an engine."
    pytest.importorskip("vizdoom", reason="recording needs the extra millivid[doom]")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(seed, num_actions):
    "A plain walk: whole actions."
    return list(itertools.islice(recorder._drawn_actions(random.Random(seed)), num_actions))


def rows_of(actions, hold=4):
    "The rows of a walk that nothing blocks."
    return action_rows(np.repeat(actions, hold), hold).numpy()


# ---- one walk --------------------------------------------------------------------------------------------------------

def test_recording_is_repeatable_from_its_seed(doom):
    runs = [record_doom(seed, num_frames=8, frames_per_action=2, image_size=32) for seed in (1, 1, 2)]
    frames, rows = runs[0]
    assert frames.shape == (8, 32, 32, 3) and frames.std() > 10 and rows.shape == (8, 6)
    np.testing.assert_array_equal(frames, runs[1][0])
    np.testing.assert_array_equal(rows, runs[1][1])
    assert not np.array_equal(rows, runs[2][1])
    assert list(doom.iterdir()) == []  # the engine's own files are gone


def test_the_packaged_recording_has_the_defaults(doom):
    _, rows = record_doom(num_frames=24)
    np.testing.assert_allclose(rows, np.load(FREEDOOM_VIDEO.with_suffix(".npy"))[:24], atol=1e-5)


def test_given_actions_come_first(doom):
    given = [TURN_LEFT, FORWARD, TURN_RIGHT, TURN_RIGHT]
    _, rows = record_doom(3, 20, actions=given, **TINY)
    _, drawn = record_doom(3, 12, **TINY)
    assert rows[::2, 0].tolist()[:4] == given and rows[8::2, 0].tolist() == drawn[::2, 0].tolist()
    np.testing.assert_allclose(rows[7, 4], -np.pi / 2, atol=1e-4)


def test_a_wall_is_not_walked_against(doom):
    _, rows = record_doom(1, 60, actions=[FORWARD] * 200, **TINY)  # straight on until a wall; the rest is left out
    actions = rows[::2, 0].tolist()
    assert len(set(actions)) > 1 and blocked_share(rows[:2 * actions.index(next(a for a in actions if a))], 2) > 0


def test_a_walk_can_begin_elsewhere(doom):
    pictures = [record_doom(1, 2, start=start, **TINY)[0] for start in (0, 0, 1, 4)]
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2]) and not np.array_equal(pictures[0], pictures[3])
    _, rows = record_doom(1, 2, actions=[TURN_LEFT], start=9, **TINY)
    assert np.abs(rows[:, 1:3]).max() < .2  # poses count from there


@pytest.mark.parametrize("options, parts", [
    (dict(actions=[0, 3]), ("action 3", "position 1")), (dict(level="MAP33"), ("MAP33", "MAP01")),
    (dict(num_frames=0), ("0 frames", "1 or more")),
    (dict(image_size=400), ("400", "384"))])
def test_recording_of_no_use(options, parts, monkeypatch):
    monkeypatch.setattr(recorder, "_import_vizdoom", lambda: None)
    with pytest.raises(ValueError) as error:
        record_doom(**options)
    assert_says(error.value, *parts)


# ---- plans and what they see -----------------------------------------------------------------------------------------

def test_overlapping_walks_come_back():
    apart = {"plain": [], "overlapping": []}
    for seed in range(10):
        actions = overlapping_actions(seed, 254, 64)
        assert actions.shape == (64,) and set(actions) <= {FORWARD, TURN_LEFT, TURN_RIGHT} and actions[0] == FORWARD
        np.testing.assert_array_equal(actions, overlapping_actions(seed, 254, 64))
        for name, walk in (("plain", plan(seed, 64)), ("overlapping", actions)):
            path = integrate_actions((0, 0, 0), walk, 1)[:, :2]
            apart[name].append(chamfer_distance(path[:16], path[16:]))
    assert np.max(apart["overlapping"]) < np.mean(apart["plain"]) / 2
    assert not np.array_equal(overlapping_actions(0, 254, 64), overlapping_actions(1, 254, 64))


def test_with_one_candidate_the_walk_is_plain():
    np.testing.assert_array_equal(overlapping_actions(5, 40, 10, 2, candidates=1, keep=1), plan(5, 20))


@pytest.mark.parametrize("arguments, parts", [
    ((0, 64, 64), ("64 frames", "context of 64", "more frames")), ((0, 64, 3), ("context of 3", "at least one action")),
    ((0, 64, 16, 4, 5, 6), ("keep 6", "5 candidates")), ((0, 64, 16, 4, 5, 0), ("keep 0", "1 to 5"))])
def test_plans_of_no_use(arguments, parts):
    with pytest.raises(ValueError) as error:
        overlapping_actions(*arguments)
    assert_says(error.value, *parts)


def test_blocked_share():
    rows = rows_of([FORWARD, FORWARD, TURN_LEFT, FORWARD, FORWARD])
    assert blocked_share(rows) == 0 and blocked_share(rows_of([TURN_LEFT])) == 0
    rows[12:, 2] = 0  # behind the turn is a wall
    assert blocked_share(rows) == .5 and 0 < blocked_share(np.load(FREEDOOM_VIDEO.with_suffix(".npy"))) < .3


# ---- a data set, with a made-up engine -------------------------------------------------------------------------------

@pytest.fixture
def calls(monkeypatch):
    "Record without engine and processes. Returns what was asked of the engine: (seed, level, actions, start)."
    calls = []

    def fake(seed, num_frames, level, frames_per_action, image_size, progress, actions, start):
        calls.append((seed, level, list(actions), start))
        walk = [*actions, *plan(seed, num_frames)]
        frames = np.random.default_rng(seed).integers(0, 255, (num_frames, image_size, image_size, 3), dtype=np.uint8)
        return frames, rows_of(walk, frames_per_action)[:num_frames]

    def in_this_process(folder, seeds, settings, workers):
        for seed in seeds:
            recorder._record_episode(folder, seed, settings)
            yield seed

    monkeypatch.setattr(recorder, "_import_vizdoom", lambda: None)
    monkeypatch.setattr(recorder, "record_doom", fake)
    monkeypatch.setattr(recorder, "_record_in_processes", in_this_process)
    return calls


def test_a_data_set_is_pictures_actions_and_an_index(calls, tmp_path):
    index = record_episodes(tmp_path, [3, 1004], 12, progress=False, **TINY)
    assert index == {"000/003": 12, "001/004": 12} == read_index(tmp_path / "index.json")
    assert files_below(tmp_path) == ["000/003.frames", "000/003.npy", "001/004.frames", "001/004.npy", "index.json",
                                     "recording.json"]
    frames, rows = read_frames(tmp_path / "000/003.frames"), read_actions(tmp_path / "000/003.npy")
    np.testing.assert_array_equal(frames, np.random.default_rng(3).integers(0, 255, (12, 16, 16, 3), dtype=np.uint8))
    np.testing.assert_allclose(rows, rows_of(plan(3, 12), 2)[:12])
    assert [(seed, level) for seed, level, *_ in calls] == [
        (3, DOOM_LEVELS[3]), (1004, DOOM_LEVELS[1004 % len(DOOM_LEVELS)])]
    assert calls[0][3] != calls[1][3]  # they begin elsewhere


def test_a_data_set_with_context_overlaps(calls, tmp_path):
    record_episodes(tmp_path, [3], 40, 16, progress=False, **TINY)
    assert calls[0][2] == overlapping_actions(3, 40, 16, 2).tolist()


def test_of_several_tries_the_best_is_kept(calls, tmp_path):
    record_episodes(tmp_path, [3], 40, 16, progress=False, tries=4, **TINY)
    assert [seed for seed, *_ in calls] == [3 + attempt * 2 ** 40 for attempt in range(4)]
    seen = [seen_before(rows_of(actions, 2), 16).sum() for _, _, actions, _ in calls]
    assert seen_before(read_actions(tmp_path / "000/003.npy"), 16).sum() == max(seen) > min(seen)


def test_a_data_set_goes_on_where_it_stopped(calls, tmp_path):
    record_episodes(tmp_path, [0, 1, 2], 12, progress=False, **TINY)
    (tmp_path / "000/001.npy").unlink()  # as if it had stopped between the two files
    (tmp_path / "index.json").unlink()
    calls.clear()
    index = record_episodes(tmp_path, [0, 1, 3], 12, progress=False, **TINY)
    assert [seed for seed, *_ in calls] == [1, 3] and list(index) == ["000/000", "000/001", "000/003"]
    assert len(record_episodes(tmp_path, [2], 12, progress=False, **TINY)) == 4
    assert len(calls) == 2


def test_an_interrupted_data_set_has_an_index(calls, tmp_path, monkeypatch):
    whole = recorder._record_episode

    def interrupted(folder, seed, settings):
        return whole(folder, seed, settings) if seed < 2 else os.kill(os.getpid(), signal.SIGINT)
    monkeypatch.setattr(recorder, "_record_episode", interrupted)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background begins without it
    with pytest.raises(KeyboardInterrupt):
        record_episodes(tmp_path, range(4), 12, progress=False, **TINY)
        time.sleep(1)
    assert list(read_index(tmp_path / "index.json")) == ["000/000", "000/001"]


def test_one_folder_has_one_kind_of_episodes(calls, tmp_path):
    record_episodes(tmp_path / "a", [0], 12, progress=False, **TINY)
    before = files_below(tmp_path)
    for options, parts in ((dict(num_frames=14), ("num_frames=12", "14")), (dict(levels=["map02"]), ("MAP01", "MAP02")),
                           (dict(context=4), ("None", "4"))):
        with pytest.raises(ValueError) as error:
            record_episodes(tmp_path / "a", **(dict(seeds=[1], num_frames=12, progress=False) | TINY | options))
        assert_says(error.value, tmp_path / "a", "another folder", *parts)
    assert files_below(tmp_path) == before and len(calls) == 1
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "index.json").write_text("{}")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "recording.json").write_text("{")
    for name, part in (("b", "other data"), ("c", "recording.json")):
        with pytest.raises(ValueError) as error:
            record_episodes(tmp_path / name, [0], 12, progress=False, **TINY)
        assert_says(error.value, tmp_path / name, part, "another folder")


def test_lost_walks_are_replaced(calls, tmp_path, monkeypatch):
    engine = recorder.record_doom

    def leaves(seed, *rest):
        frames, rows = engine(seed, *rest)
        if seed == 0:
            raise recorder._WalkLeft("the walk left")
        return frames, rows * (1, *[seed > 2 ** 41] * 5)  # the second walk stands still

    monkeypatch.setattr(recorder, "record_doom", leaves)
    record_episodes(tmp_path, [0], 12, progress=False, **TINY)
    assert [seed for seed, *_ in calls] == [0, 2 ** 40, 2 ** 41, 3 * 2 ** 40]
    assert len({level for _, level, *_ in calls}) == 1 and len({start for *_, start in calls}) == 4
    monkeypatch.setattr(recorder, "record_doom", lambda *_: (_ for _ in ()).throw(recorder._WalkLeft("the walk left")))
    with pytest.raises(ValueError) as error:
        record_episodes(tmp_path, [9], 12, progress=False, **TINY)
    assert_says(error.value, "seed 9", DOOM_LEVELS[9 % len(DOOM_LEVELS)], "12 frames", "other levels")
    assert list(read_index(tmp_path / "index.json")) == ["000/000"]


@pytest.mark.parametrize("options, parts", [
    (dict(seeds=[-1]), ("-1", "from 0")), (dict(seeds=[.5]), (".5", "whole")),
    (dict(levels=["E1M1"]), ("E1M1", "MAP01")),
    (dict(levels=[]), ("no levels",)),
    (dict(workers=0), ("0 workers", "at least 1")), (dict(tries=0), ("0 tries", "at least 1")),
    (dict(tries=3), ("3 tries", "give a context")), (dict(context=12), ("context of 12", "more frames")),
    (dict(num_frames=0), ("0 frames", "1 or more"))])
def test_data_sets_of_no_use(options, parts, calls, tmp_path):
    with pytest.raises(ValueError) as error:
        record_episodes(tmp_path / "new", **(dict(seeds=[0], num_frames=12, progress=False) | options))
    assert_says(error.value, *parts)
    assert files_below(tmp_path) == []


# ---- a data set, with the engine and its processes ------------------------------------------------------------------

def test_the_number_of_workers_changes_nothing(doom):
    for workers in (1, 2):
        record_episodes(doom / str(workers), [5, 6], 12, 4, workers=workers, progress=False, **TINY)
    names = files_below(doom / "1")
    assert names == files_below(doom / "2") and len(names) == 6
    for name in names:
        assert (doom / "1" / name).read_bytes() == (doom / "2" / name).read_bytes(), name
    assert read_frames(doom / "1/000/005.frames").std() > 10
    assert sorted(path.name for path in doom.iterdir()) == ["1", "2"]  # the engine's own files are gone


def running(mark):
    "The processes, engines included, that carry this mark in their environment."
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes().decode(errors="replace").split("\0"):
                found.append(int(path.parent.name))
        except OSError:  # not ours, or over
            pass
    return found


@PROCESSES
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_end_of_the_main_process_leaves_nothing_behind(end, doom):
    code = ("import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "  # see above
            "from millivid.worlds.doom import record_episodes; record_episodes(sys.argv[1], range(9), 150, "
            "frames_per_action=2, image_size=16)")
    mark = f"MILLIVID_TEST={doom}"
    process = subprocess.Popen([sys.executable, "-c", code, doom / "set"], stderr=subprocess.DEVNULL,
                               env=os.environ | {"MILLIVID_TEST": str(doom)})
    deadline = time.time() + 240
    try:
        while not list(doom.rglob("*.npy")):
            assert time.time() < deadline and process.poll() is None
            time.sleep(.1)
        assert len(running(mark)) >= 3  # this one, two workers, and perhaps their engines
        process.send_signal(end)
        process.wait(timeout=60)
    finally:
        process.kill()
    while running(mark) and time.time() < deadline:
        time.sleep(.1)
    assert running(mark) == []
    whole = {str(path.relative_to(doom / "set").with_suffix("")) for path in doom.rglob("*.npy")}
    assert 1 <= len(whole) < 9
    assert not [name for name in files_below(doom) if Path(name).name.startswith(".")]  # nothing half-written
    assert json.loads((doom / "set" / "recording.json").read_text())["num_frames"] == 150
    if end == signal.SIGINT:
        assert set(read_index(doom / "set" / "index.json")) <= whole


def test_a_worker_that_dies_is_told(doom):
    settings = dict(num_frames=30, context=None, levels=DOOM_LEVELS, tries=1, **TINY)
    episodes = recorder._record_in_processes(doom, list(range(40)), settings, 1)
    next(episodes)
    for process in multiprocessing.active_children():
        process.kill()
    with pytest.raises(ValueError) as error:
        list(episodes)
    assert_says(error.value, "process died", "call again")


# ---- the command -----------------------------------------------------------------------------------------------------

def test_the_command_records(doom):
    done = run_millivid("record", "--episodes", 2, "--seed", 5, "--frames", 12, "--frames-per-action", 2, "--size", 16,
                        "--out", doom / "set")
    assert done.returncode == 0, done.stderr
    assert_says(done.stdout, "2 episodes", doom / "set")
    assert read_index(doom / "set" / "index.json") == {"000/005": 12, "000/006": 12}


@pytest.mark.parametrize("arguments, parts", [
    (("--size", 63), (63, "even")), (("--level", "MAP99"), ("MAP99", "MAP01")), (("--out", "walk.txt"), ("walk.txt",)),
    (("--episodes", 2), ("walk.mp4", "folder")), (("--context", 8), (8, "--episodes"))])
def test_commands_that_record_nothing(arguments, parts, doom):
    done = run_millivid("record", "--out", "walk.mp4", *arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert_says(done.stderr, *parts)
    assert files_below(doom) == []


def test_recording_without_vizdoom(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vizdoom", None)
    for record in (lambda: record_doom(1, 8), lambda: record_episodes(tmp_path / "set", [1], 8)):
        with pytest.raises(ValueError, match="pip install"):
            record()
    assert files_below(tmp_path) == []
