"Latents, pictures, actions and the index on disk: whole, in parts, damaged, missing."

import builtins
import contextlib
import io
import json
import os
import random
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny import PYRAMID, TRANSFORMER, assert_says, files_below, random_video, randomised

import millivid.release
from millivid.actions import FORWARD, TURN_LEFT, TURN_RIGHT, action_rows
from millivid.basics import MissingFileError, UserError
from millivid.data import StepSampler
from millivid.pipeline import Experiment
from millivid.pyramid import PyramidConfig
from millivid.release import ACTION_CHANNELS, LatentVideos, Recordings, clip_order, extend_actions, pyramid_num_frames
from millivid.release import pyramid_row_bytes, read_actions, read_frames, read_index, read_pyramid, read_step
from millivid.release import recorded_images, split_videos, write_actions, write_frames, write_pyramid
from millivid.tokenizer import Tokenizer, TokenizerConfig, encode_frames
from millivid.training import TrainingConfig, train_tokenizer, train_video
from millivid.video import VideoConfig

SHORT = TrainingConfig(steps=2, batch_size=4, warmup_steps=1, autocast=False)
EXPERIMENTS = {
    "millivid": Experiment("millivid", PYRAMID, VideoConfig(4, 3, TRANSFORMER), (1, 2, 4), 16),
    "framepack": Experiment("framepack", PYRAMID,
                            VideoConfig(4, 3, TRANSFORMER, framepack_context=(1, 1, 2), framepack_denoised=2)),
}


@st.composite
def stored_videos(draw):
    "Latents and actions of a video of any size, with its pyramid and channels."
    levels = draw(st.integers(1, 3))
    rows, columns = (draw(st.integers(1, 3)) * 2 ** (levels - 1) for _ in range(2))
    pyramid = PyramidConfig((rows * 2, columns * 2), (2, 2), levels)
    channels, frames = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    latents = torch.randn(frames, pyramid.num_tokens, channels, generator=generator)
    return latents, torch.randn(frames, ACTION_CHANNELS, generator=generator), pyramid, channels


def some_part(data, count):
    "The first and the one after the last of some of `count` things, at least one."
    start = data.draw(st.integers(0, count - 1))
    return start, data.draw(st.integers(start + 1, count))


def random_pictures(count, height=6, width=5, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def tiny_video(frames, seed=0):
    "Latents (frames, 21, 4), exact in bfloat16, and actions (frames, 6)."
    latents, actions = random_video(1, frames, seed=seed)
    return latents[0].bfloat16().float(), actions[0]


class Watched:
    "A file that notes which bytes are read."

    def __init__(self, file, spans):
        self.file, self.spans = file, spans

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def read(self, *size):
        first, data = self.file.tell(), self.file.read(*size)
        self.spans.append((first, first + len(data)))
        return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@contextlib.contextmanager
def watched_reading():
    "A list that fills with the (first, end) of all bytes that the module reads from files it opens."
    spans = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(millivid.release, "open", lambda *mode: Watched(builtins.open(*mode), spans), raising=False)
        yield spans


def count(spans):
    return sum(end - first for first, end in spans)


@pytest.fixture
def stored(tmp_path):
    "A video of 7 frames in a file."
    latents, actions = tiny_video(7)
    write_pyramid(tmp_path / "walk.pyramid", latents, actions, PYRAMID)
    return tmp_path / "walk.pyramid", latents, actions


def make_videos(folder, frames):
    "A folder as the release has it: an index and one file per video; `frames` is {key: number of frames}."
    for seed, (key, count) in enumerate(frames.items()):
        write_pyramid(folder / f"{key}.pyramid", *tiny_video(count, seed), PYRAMID)
    (folder / "index.json").write_text(json.dumps(frames))
    return folder


@pytest.fixture
def videos(tmp_path):
    return make_videos(tmp_path, {"000/000": 30, "000/001": 26, "001/000": 5})


# ---- pyramids --------------------------------------------------------------------------------------------------------

@given(stored_videos())
def test_a_pyramid_comes_back(folder, video):
    latents, actions, pyramid, channels = video
    write_pyramid(folder / "a.pyramid", latents, actions, pyramid)
    again, again_actions = read_pyramid(folder / "a.pyramid", pyramid, channels)
    assert again.dtype == torch.bfloat16 and torch.equal(again, latents.bfloat16())
    assert again_actions.dtype == torch.float32 and torch.equal(again_actions, actions)
    assert pyramid_num_frames(folder / "a.pyramid", pyramid, channels) == len(latents)
    assert (folder / "a.pyramid").stat().st_size == len(latents) * sum(pyramid_row_bytes(pyramid, channels))


@given(stored_videos())
def test_the_layout_of_a_pyramid_is_that_of_the_release(folder, video):
    latents, actions, pyramid, channels = video
    expected = b""
    for first in range(pyramid.num_levels):
        for frame, action in zip(latents, actions):
            for level in range(first, pyramid.num_levels):
                tokens = frame[pyramid.level_slice(level)]  # row-major
                for channel in range(channels):
                    for number in tokens[:, channel].bfloat16().float().tolist():
                        expected += struct.pack("<f", number)[2:]  # the upper half of a float32
            expected += struct.pack("<6f", *action.tolist())
    write_pyramid(folder / "a.pyramid", latents, actions, pyramid)
    assert (folder / "a.pyramid").read_bytes() == expected


@given(stored_videos(), st.data())
def test_a_part_of_a_pyramid_is_a_slice_of_the_whole(folder, video, data):
    latents, actions, pyramid, channels = video
    levels, frames = some_part(data, pyramid.num_levels), some_part(data, len(latents))
    write_pyramid(folder / "a.pyramid", latents, actions, pyramid)
    part, part_actions = read_pyramid(folder / "a.pyramid", pyramid, channels, levels, frames)
    tokens = slice(pyramid.level_slice(levels[0]).start, pyramid.level_slice(levels[1] - 1).stop)
    assert torch.equal(part, latents.bfloat16()[slice(*frames), tokens])
    assert torch.equal(part_actions, actions[slice(*frames)])


@given(stored_videos(), st.data())
def test_a_part_of_a_pyramid_costs_no_more_than_its_own_bytes(folder, video, data):
    latents, actions, pyramid, channels = video
    write_pyramid(folder / "a.pyramid", latents, actions, pyramid)
    levels, (start, end) = some_part(data, pyramid.num_levels), some_part(data, len(latents))
    row, check = pyramid_row_bytes(pyramid, channels), 2 * sum(pyramid_row_bytes(pyramid, channels))
    with watched_reading() as spans:
        read_pyramid(folder / "a.pyramid", pyramid, channels, levels, (start, end))
    block = len(latents) * sum(row[:levels[0]])
    assert (block + start * row[levels[0]], block + end * row[levels[0]]) in spans  # one contiguous read
    assert count(spans) <= (end - start) * row[levels[0]] + check


def test_a_coarse_look_at_a_long_time_reads_little(tmp_path):
    path, row = tmp_path / "long.pyramid", pyramid_row_bytes(PYRAMID, 4)
    assert row == [2 * 4 * 21 + 24, 2 * 4 * 5 + 24, 2 * 4 + 24]
    write_pyramid(path, *tiny_video(400), PYRAMID)
    with watched_reading() as spans:
        read_pyramid(path, PYRAMID, 4, levels=(2, None), frames=(50, 350))
    assert 300 * row[-1] <= count(spans) <= 300 * row[-1] + 2 * sum(row) < .1 * path.stat().st_size
    with watched_reading() as spans:
        pyramid_num_frames(path, PYRAMID, 4)
    assert count(spans) <= 2 * sum(row)


@pytest.mark.parametrize("still", [False, True])
def test_a_pyramid_that_is_cut_anywhere(tmp_path, still):
    path, (latents, actions) = tmp_path / "walk.pyramid", tiny_video(5)
    if still:  # every frame is the same
        latents, actions = latents[:1].expand_as(latents), actions[:1].expand_as(actions)
    write_pyramid(path, latents, actions, PYRAMID)
    for cut in reversed(range(path.stat().st_size)):  # whole frames are no excuse
        os.truncate(path, cut)
        with pytest.raises(ValueError) as error:
            read_pyramid(path, PYRAMID, 4)
        assert str(path) in str(error.value) and f"{cut} bytes" in str(error.value)
    assert_says(error.value, "cut", "another tokenizer")


@pytest.mark.parametrize("write, read", [
    (lambda path: write_pyramid(path, *tiny_video(7), PYRAMID), lambda path: read_pyramid(path, PYRAMID, 4)),
    (lambda path: write_frames(path, random_pictures(4)), read_frames)], ids=["pyramid", "frames"])
@pytest.mark.parametrize("more", [1, 8, 32, 64, 192, 288])  # the last four are whole rows and whole frames of a pyramid
def test_bytes_behind_the_end_are_refused(write, read, more, tmp_path):
    write(path := tmp_path / "walk")
    read(path)
    path.write_bytes(path.read_bytes() + bytes(more))
    with pytest.raises(UserError) as error:
        read(path)
    assert_says(error.value, path)


@pytest.mark.parametrize("pyramid, channels", [
    (PYRAMID, 3), (PYRAMID, 5), (PYRAMID, 32), (PyramidConfig((16, 16), (4, 4), 2), 4),
    (PyramidConfig((16, 16), (4, 4), 1), 4), (PyramidConfig((32, 32), (4, 4), 3), 4), (PyramidConfig(), 32)])
def test_a_pyramid_of_another_tokenizer(stored, pyramid, channels):
    with pytest.raises(ValueError) as error:
        read_pyramid(stored[0], pyramid, channels)
    assert_says(error.value, stored[0], f"{pyramid.num_levels} levels", f"{channels} channels", "another tokenizer")


@pytest.mark.parametrize("levels, frames", [
    ((0, 4), (0, 7)), ((-1, 3), (0, 7)), ((1, 1), (0, 7)), ((3, None), (0, 7)), ((2, 1), (0, 7)),
    ((0, 3), (0, 8)), ((0, 3), (-1, 7)), ((0, 3), (4, 4)), ((0, 3), (7, None)), ((0, 3), (5, 2)),
    ((0, 3), (0., 7.)), ((0, 3), ("0", 7)), ((0, 3), (None, 7)), ((0, 3), (0, float("nan")))])
def test_levels_or_frames_that_a_pyramid_does_not_have(stored, levels, frames):
    with pytest.raises(ValueError) as error:
        read_pyramid(stored[0], PYRAMID, 4, levels, frames)
    asked, there = (frames, "[0, 7)") if levels == (0, 3) else (levels, "[0, 3)")
    assert_says(error.value, stored[0], f"[{asked[0]}, ", there)


@pytest.mark.parametrize("part", [3, None, (0,), (0, 1, 2), "01", 1.5])
def test_ranges_that_are_no_pairs(stored, part):
    for name, there in (("levels", 3), ("frames", 7)):
        with pytest.raises(UserError) as error:
            read_pyramid(stored[0], PYRAMID, 4, **{name: part})
        assert_says(error.value, stored[0], f"it has {name} [0, {there})")


NO_NUMBERS = {"rows of several lengths": [[1], [1, 2]], "text": "abc", "nothing": None,
              "words": np.full((3, 6), "left"), "complex": torch.zeros(3, 6, dtype=torch.complex64),
              "sparse": torch.zeros(3, 6).to_sparse()}


@pytest.mark.parametrize("name", NO_NUMBERS)
def test_what_is_no_array_of_numbers_is_not_written(name, tmp_path):
    latents, actions = tiny_video(3)
    for write, what in ((lambda path: write_frames(path, NO_NUMBERS[name]), "frames"),
                        (lambda path: write_actions(path, NO_NUMBERS[name]), "actions"),
                        (lambda path: write_pyramid(path, NO_NUMBERS[name], actions, PYRAMID), "latents"),
                        (lambda path: write_pyramid(path, latents, NO_NUMBERS[name], PYRAMID), "actions")):
        with pytest.raises(UserError) as error:
            write(tmp_path / "file")
        assert_says(error.value, f"{what} are no numbers", type(NO_NUMBERS[name]).__name__, "tensor or an array")
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("change", [lambda part: part.tolist(), lambda part: part.numpy(), lambda part: part.bfloat16(),
                                    lambda part: part.clone().requires_grad_()])
def test_numbers_may_be_tensors_arrays_and_lists(change, stored, tmp_path):
    _, latents, actions = stored
    write_pyramid(tmp_path / "other.pyramid", change(latents), change(actions), PYRAMID)
    write_actions(tmp_path / "a.npy", change(actions))
    wanted = actions.bfloat16().float() if getattr(change(actions), "dtype", None) == torch.bfloat16 else actions
    known, rows = read_pyramid(tmp_path / "other.pyramid", PYRAMID, 4)
    assert torch.equal(known.float(), latents) and torch.equal(rows, wanted)
    assert torch.equal(read_actions(tmp_path / "a.npy"), wanted)


WRONG_SHAPES = {
    "a batch": lambda latents, actions: (latents[None], actions[None]),
    "other tokens": lambda latents, actions: (latents[:, 1:], actions),
    "fewer frames": lambda latents, actions: (latents[1:], actions),
    "five columns": lambda latents, actions: (latents, actions[:, 1:]),
    "flat": lambda latents, actions: (latents.flatten(1), actions),
    "no frames": lambda latents, actions: (latents[:0], actions[:0]),
}


@pytest.mark.parametrize("change", WRONG_SHAPES)
def test_shapes_that_are_no_pyramid_leave_nothing(tmp_path, change):
    latents, actions = WRONG_SHAPES[change](*tiny_video(3))
    with pytest.raises(ValueError) as error:
        write_pyramid(tmp_path / "a.pyramid", latents, actions, PYRAMID)
    assert_says(error.value, tuple(latents.shape), tuple(actions.shape))
    assert files_below(tmp_path) == []


def fail_halfway(patch):
    "From now on the disk is full after ten bytes."
    def write_bytes(path, data):
        with builtins.open(path, "wb") as file:
            file.write(data[:10])
        raise OSError(28, "no space left on device")
    patch.setattr(Path, "write_bytes", write_bytes)


def test_a_full_disk_leaves_the_old_files(stored, tmp_path, monkeypatch):
    path, *_ = stored
    write_frames(tmp_path / "walk.frames", random_pictures(3))
    before = {name: (tmp_path / name).read_bytes() for name in files_below(tmp_path)}
    assert before.keys() == {"walk.pyramid", "walk.frames"}
    fail_halfway(monkeypatch)
    for write in (lambda: write_pyramid(path, *tiny_video(2), PYRAMID),
                  lambda: write_frames(tmp_path / "walk.frames", random_pictures(2)),
                  lambda: write_pyramid(tmp_path / "new.pyramid", *tiny_video(2), PYRAMID)):
        with pytest.raises(ValueError, match="could not be written"):
            write()
    assert {name: (tmp_path / name).read_bytes() for name in files_below(tmp_path)} == before


# ---- pictures --------------------------------------------------------------------------------------------------------

@given(st.integers(1, 5), st.integers(1, 20), st.integers(1, 20), st.data())
def test_frames_come_back_whole_and_in_parts(folder, count, height, width, data):
    frames = random_pictures(count, height, width)
    write_frames(folder / "a.frames", frames)
    np.testing.assert_array_equal(read_frames(folder / "a.frames"), frames)
    start, end = some_part(data, count)
    part = read_frames(folder / "a.frames", start, end)
    assert part.dtype == np.uint8
    np.testing.assert_array_equal(part, frames[start:end])


def test_the_layout_of_frames_is_that_of_the_release(tmp_path):
    frames = random_pictures(3)
    write_frames(tmp_path / "a.frames", frames)
    data = (tmp_path / "a.frames").read_bytes()
    ends = struct.unpack("<3Q", data[:24])
    assert 24 + ends[-1] == len(data)
    for frame, first, end in zip(frames, (0, *ends), ends):
        with Image.open(io.BytesIO(data[24 + first:24 + end])) as picture:
            assert picture.format == "PNG"
            np.testing.assert_array_equal(np.asarray(picture), frame)


@given(st.integers(1, 6), st.data())
def test_a_part_of_frames_costs_the_header_and_these_pictures(folder, frames, data):
    write_frames(folder / "a.frames", random_pictures(frames))
    header, (start, end) = 8 * frames, some_part(data, frames)
    ends = [0, *struct.unpack(f"<{frames}Q", (folder / "a.frames").read_bytes()[:header])]
    with watched_reading() as spans:
        read_frames(folder / "a.frames", start, end)
    touched = {byte for first, last in spans for byte in range(first, last)}
    assert touched == {*range(header), *range(header + ends[start], header + ends[end])}


def test_frames_that_are_cut_anywhere(tmp_path):
    path = tmp_path / "a.frames"
    write_frames(path, random_pictures(4))
    for cut in reversed(range(path.stat().st_size)):
        os.truncate(path, cut)
        for part in ((), (0, 1)):
            with pytest.raises(ValueError) as error:
                read_frames(path, *part)
            assert str(path) in str(error.value)


def test_a_damaged_byte_never_ends_in_another_error(tmp_path):
    path, refused = tmp_path / "a.frames", 0
    write_frames(path, random_pictures(3))
    whole = path.read_bytes()
    for place in range(len(whole)):
        for change in (1, 255):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1:])
            try:
                assert read_frames(path).ndim == 4
            except ValueError as error:
                assert str(path) in str(error), f"byte {place}: {error}"
                refused += 1
    assert refused > .5 * len(whole)


def write_pictures(path, pictures):
    "A `.frames` of pictures that `write_frames` would not take."
    blobs = []
    for picture in pictures:
        picture.save(blob := io.BytesIO(), "PNG")
        blobs.append(blob.getvalue())
    ends = np.cumsum([len(blob) for blob in blobs])
    path.write_bytes(struct.pack(f"<{len(ends)}Q", *ends) + b"".join(blobs))


def test_frames_of_several_sizes_are_refused(tmp_path):
    path = tmp_path / "a.frames"
    write_pictures(path, [Image.new("RGB", (side, 4)) for side in (4, 5)])
    assert read_frames(path, 1).shape == (1, 4, 5, 3)
    with pytest.raises(UserError) as error:
        read_frames(path)
    assert_says(error.value, path, "one size", "again")


def test_a_picture_that_would_fill_the_memory(tmp_path):
    "A file of a few kilobytes: 36 million pixels, which Pillow would take without a word."
    path = tmp_path / "a.frames"
    write_pictures(path, [Image.new("1", (6_000, 6_000))])
    assert path.stat().st_size < 10_000
    with pytest.raises(UserError) as error:
        read_frames(path)
    assert_says(error.value, path, "6000 x 6000 pixels", "again")


@pytest.mark.parametrize("frames", [
    torch.zeros(2, 8, 8, 3), np.zeros((2, 8, 8, 3)), np.zeros(5, np.uint8), np.zeros((2, 0, 8, 3), np.uint8), [],
    np.zeros((2, 8, 8, 4), np.uint8)])
def test_pictures_that_cannot_be_written(frames, tmp_path):
    with pytest.raises(UserError) as error:
        write_frames(tmp_path / "a.frames", frames)
    assert_says(error.value, tuple(np.shape(frames)), "uint8 (frames, height, width, 3)")
    assert files_below(tmp_path) == []


def test_pictures_are_written_from_tensors_as_from_arrays(tmp_path):
    frames = random_pictures(3)
    write_frames(tmp_path / "a.frames", torch.from_numpy(frames))
    np.testing.assert_array_equal(read_frames(tmp_path / "a.frames"), frames)


def test_pictures_with_other_channels_become_rgb(tmp_path):
    colours = {"L": 70, "LA": (70, 10), "RGB": (70, 70, 70), "RGBA": (70, 70, 70, 10)}
    write_pictures(tmp_path / "a.frames", [Image.new(mode, (5, 4), colour) for mode, colour in colours.items()])
    np.testing.assert_array_equal(read_frames(tmp_path / "a.frames"), np.full((4, 4, 5, 3), 70, np.uint8))


def test_frames_that_are_no_pictures(tmp_path):
    path = tmp_path / "a.frames"
    path.write_bytes(struct.pack("<2Q", 5, 10) + b"helloworld")
    with pytest.raises(ValueError) as error:
        read_frames(path)
    assert_says(error.value, path, "pictures", "again")


@pytest.mark.parametrize("start, end", [(0, 4), (-1, 2), (3, None), (1, 1), (2, 1), (0., 2), (0, 2.), ("0", 2),
                                        (None, 2)])
def test_frames_that_are_not_in_the_file(tmp_path, start, end):
    write_frames(tmp_path / "a.frames", random_pictures(3))
    with pytest.raises(ValueError) as error:
        read_frames(tmp_path / "a.frames", start, end)
    assert_says(error.value, tmp_path / "a.frames", f"[{start}, ", "[0, 3)")


# ---- actions ---------------------------------------------------------------------------------------------------------

@given(st.integers(1, 50), st.integers(0, 100))
def test_actions_come_back(folder, count, seed):
    actions = torch.randn(count, ACTION_CHANNELS, generator=torch.Generator().manual_seed(seed))
    write_actions(folder / "a.npy", actions)
    again = read_actions(folder / "a.npy")
    assert again.dtype == torch.float32 and torch.equal(again, actions)
    stored = np.load(folder / "a.npy")
    assert stored.dtype == np.dtype("<f4") and stored.shape == (count, 6)


def test_actions_are_written_from_arrays_as_from_tensors(tmp_path):
    actions = np.arange(12).reshape(2, 6)  # also of whole numbers
    write_actions(tmp_path / "a.npy", actions)
    write_actions(tmp_path / "b.npy", torch.from_numpy(actions).double())
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    assert read_actions(tmp_path / "a.npy").tolist() == actions.tolist()


def test_actions_that_are_cut_anywhere(tmp_path):
    path = tmp_path / "a.npy"
    write_actions(path, torch.ones(4, 6))
    for cut in reversed(range(path.stat().st_size)):
        os.truncate(path, cut)
        with pytest.raises(ValueError) as error:
            read_actions(path)
        assert str(path) in str(error.value)


def test_a_damaged_header_of_actions_never_ends_in_another_error(tmp_path):
    path = tmp_path / "a.npy"
    write_actions(path, torch.ones(4, 6))
    whole = path.read_bytes()
    for place in range(whole.index(b"\n")):
        for change in (1, 4, 128, 255):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1:])
            try:
                read_actions(path)
            except ValueError as error:
                assert str(path) in str(error), f"byte {place}: {error}"


def test_actions_that_promise_more_than_any_memory_holds(tmp_path):
    path = tmp_path / "a.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10 ** 15, 6)})
    with pytest.raises(ValueError) as error:
        read_actions(path)
    assert_says(error.value, path, "cannot be read", "copy or make it again")


def save_array(array, **settings):
    return lambda path: np.save(path, array, **settings)


def save_archive(path):
    with path.open("wb") as file:
        np.savez(file, actions=np.zeros((4, 6)))


def save_header(shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return lambda path: path.write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(24))


@pytest.mark.parametrize("make", [
    pytest.param(save_header("(True, 6)"), id="a shape of no number"),
    pytest.param(save_header("(1., 6)"), id="a shape of fractions"),
    pytest.param(save_array(np.zeros((4, 5))), id="five columns"),
    pytest.param(save_array(np.zeros(6)), id="one axis"),
    pytest.param(save_array(np.zeros((2, 4, 6))), id="three axes"),
    pytest.param(save_array(np.full((3, 6), "left")), id="words"),
    pytest.param(save_array(np.full((3, 6), None), allow_pickle=True), id="objects"),
    pytest.param(lambda path: path.write_text("0 1 2"), id="text"),
    pytest.param(lambda path: path.write_bytes(b"PK\3\4 a broken zip"), id="zip"),
    pytest.param(save_archive, id="npz")])
def test_files_that_are_no_actions(tmp_path, make):
    make(tmp_path / "a.npy")
    with pytest.raises(ValueError) as error:
        read_actions(tmp_path / "a.npy")
    assert_says(error.value, tmp_path / "a.npy")


# ---- missing files ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, read", [("a.pyramid", lambda path: read_pyramid(path, PYRAMID, 4)),
                                        ("a.pyramid", lambda path: pyramid_num_frames(path, PYRAMID, 4)),
                                        ("a.npy", read_actions),
                                        ("a.frames", read_frames), ("index.json", read_index)])
@pytest.mark.parametrize("folder_there", [False, True])
def test_files_that_are_not_there(tmp_path, name, read, folder_there):
    if folder_there:
        (tmp_path / name).mkdir()
    with pytest.raises(FileNotFoundError) as error:
        read(tmp_path / name)
    assert_says(error.value, tmp_path / name)


# ---- the index -------------------------------------------------------------------------------------------------------

@given(st.dictionaries(st.text(min_size=1, max_size=10), st.integers(1, 10 ** 6), max_size=10))
def test_an_index_comes_back(folder, index):
    (folder / "index.json").write_text(json.dumps(index))
    assert read_index(folder / "index.json") == index


@pytest.mark.parametrize("text, parts", [
    ("", ("not JSON",)), ('{"a": 3', ("not JSON",)), ("000/001 1024", ("not JSON",)),
    pytest.param("[" * 100_000, (), id="very deep"),
    ('["000/001"]', ("list", "number of frames")), ("[]", ("number of frames",)), ("3", ("number of frames",)),
    ("null", ("number of frames",)), ('{"a": 3, "b": 0}', ("'b'", "0")), ('{"a": -2}', ("'a'", "-2")),
    ('{"a": 1.5}', ("'a'", "1.5")), ('{"a": "1024"}', ("'a'", "1024")), ('{"a": true}', ("'a'", "True")),
    ('{"a": null}', ("'a'", "None")), ('{"a": [3]}', ("'a'", "[3]")), ('{"a": NaN}', ("'a'", "nan"))])
def test_files_that_are_no_index(tmp_path, text, parts):
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(ValueError) as error:
        read_index(tmp_path / "index.json")
    assert_says(error.value, tmp_path / "index.json", *parts)


def test_bytes_that_are_no_index(tmp_path):
    (tmp_path / "index.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError) as error:
        read_index(tmp_path / "index.json")
    assert_says(error.value, tmp_path / "index.json", "not JSON")


@pytest.mark.parametrize("text, parts", [(None, ("no index",)), ("{}", ("empty", "more videos"))])
def test_a_folder_without_videos(text, parts, tmp_path):
    if text:
        (tmp_path / "index.json").write_text(text)
    with pytest.raises(UserError if text else MissingFileError) as error:
        LatentVideos(tmp_path, PYRAMID, 4, "all")
    assert_says(error.value, tmp_path / "index.json", *parts)


@given(st.dictionaries(st.text(), st.integers(1, 100), max_size=40), st.floats(0, 1))
def test_the_parts_are_disjoint_fixed_and_complete(index, fraction):
    train, test, everything = (split_videos(index, part, fraction) for part in ("train", "test", "all"))
    assert test + train == everything and dict(everything) == index and len(everything) == len(index)
    assert len(test) == int(len(index) * fraction)
    assert split_videos(index, "vis", fraction) == test
    assert split_videos(dict(reversed(index.items())), "train", fraction) == train


def test_the_parts_are_those_of_the_release():
    index = {f"{i:03}": i + 1 for i in range(400)}
    shuffled = sorted(index.items())
    random.Random(0).shuffle(shuffled)
    assert split_videos(index, "test") == shuffled[:4] == [("150", 151), ("381", 382), ("006", 7), ("004", 5)]
    assert split_videos(index) == shuffled[4:]


def test_a_part_that_does_not_exist():
    with pytest.raises(ValueError) as error:
        split_videos({"a": 3}, "validation")
    assert_says(error.value, "validation", "train", "test", "vis", "all")


@given(st.lists(st.integers(1, 12), max_size=8), st.integers(1, 10))
def test_clips_are_all_there_once_in_a_fixed_order(lengths, clip):
    videos = [(f"{i:03}", frames) for i, frames in enumerate(lengths)]
    expected = {(key, start) for key, frames in videos for start in range(frames) if start + clip <= frames}
    if not expected:
        with pytest.raises(ValueError) as error:
            clip_order(videos, clip)
        assert_says(error.value, f"{len(videos)} videos", f"clips of {clip} frames")
        return
    clips = clip_order(videos, clip)
    assert len(clips) == len(expected) and set(clips) == expected
    assert clip_order(videos, clip) == clips
    assert sorted(clip_order(videos)) == [(key, 0) for key, _ in videos]


def test_the_order_of_clips_is_that_of_the_release():
    videos = [("b", 4), ("short", 1), ("a", 3)]
    listed = [("b", 0), ("b", 1), ("b", 2), ("a", 0), ("a", 1)]
    assert clip_order(videos, 2) == [listed[i] for i in np.random.default_rng(0).permutation(5)]
    assert clip_order(videos, 2) != listed


# ---- longer actions --------------------------------------------------------------------------------------------------

@given(st.integers(1, 40), st.integers(1, 200), st.integers(0, 100))
def test_extended_actions(count, wanted, seed):
    actions = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    extended = extend_actions(actions, wanted, seed)
    assert extended.shape == (wanted, 6)
    assert torch.equal(extended[:count], actions[:wanted])
    assert torch.equal(extended, extend_actions(actions, wanted, seed))
    repeated = 9 - wanted % 9  # as the release counts
    assert torch.equal(extended[count:count + repeated], actions[-1:].expand(max(min(wanted - count, repeated), 0), -1))
    made_up = extended[count + repeated:]
    assert (made_up[:, 1:] == 0).all() and set(made_up[:, 0].tolist()) <= {FORWARD, TURN_LEFT, TURN_RIGHT}
    assert all(len(set(held.tolist())) == 1 for held in made_up[:, 0].split(9) if len(held))  # an action is held


def test_made_up_actions_depend_on_the_seed_alone():
    actions = tiny_video(5)[1]
    one, other = (extend_actions(actions, 4000, seed) for seed in (1, 2))
    random.random(), torch.randn(3)
    assert torch.equal(one, extend_actions(actions, 4000, 1)) and not torch.equal(one, other)
    assert {FORWARD, TURN_LEFT, TURN_RIGHT} == set(one[20:, 0].tolist())


def test_made_up_actions_are_held_as_long_as_asked():
    made_up = extend_actions(tiny_video(5)[1], 4005, hold=4)[5 + 4 - 4005 % 4:, 0]
    held = [set(frames.tolist()) for frames in made_up.split(4)]
    assert all(len(actions) == 1 for actions in held)
    assert any(one != next_one for one, next_one in zip(held[::2], held[1::2]))  # and no longer


# ---- one schedule step -----------------------------------------------------------------------------------------------

@given(st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=3), min_size=1, max_size=12), st.integers(0, 8))
def test_a_step_reads_exactly_what_its_roles_need(folder, roles, start):
    roles, row = np.array(roles, dtype=np.uint8).T, pyramid_row_bytes(PYRAMID, 4)
    whole, actions = tiny_video(20)
    write_pyramid(folder / "a.pyramid", whole, actions, PYRAMID)
    with watched_reading() as spans:
        latents, step_actions = read_step(folder / "a.pyramid", PYRAMID, 4, roles, start)
    assert latents.dtype == torch.float32 and latents.shape == (roles.shape[1], PYRAMID.num_tokens, 4)
    needed = 0
    for frame in range(roles.shape[1]):
        finest = min(np.flatnonzero(roles[:, frame]), default=3)
        first = PYRAMID.level_slice(finest).start if finest < 3 else PYRAMID.num_tokens
        assert torch.equal(latents[frame, first:], whole[start + frame, first:]) and (latents[frame, :first] == 0).all()
        assert torch.equal(step_actions[frame], actions[start + frame] * (finest < 3))
        needed += row[finest] if finest < 3 else 0
    assert needed <= count(spans) <= needed + 2 * sum(row)  # and the check of the first and the last frame


def test_a_step_that_looks_at_the_finest_level_alone(stored):
    path, whole, actions = stored
    latents, step_actions = read_step(path, PYRAMID, 4, np.ones((1, 4)), 2)
    assert torch.equal(latents, whole[2:6]) and torch.equal(step_actions, actions[2:6])


@pytest.mark.parametrize("start", [-1, 4])
def test_a_step_outside_of_the_video(stored, start):
    with pytest.raises(ValueError) as error:
        read_step(stored[0], PYRAMID, 4, np.ones((3, 4)), start)
    assert_says(error.value, stored[0], "[0, 7)")


# ---- a folder of videos ----------------------------------------------------------------------------------------------

def test_clips_of_a_folder(videos):
    source = LatentVideos(videos, PYRAMID, 4)
    drawn = source.draw(torch.Generator().manual_seed(0), 200, 10)
    assert {key for key, *_ in drawn} == {"000/000", "000/001"}  # the third video is too short
    assert {start for key, start, _ in drawn if key == "000/001"} == set(range(17))
    latents, actions = source.read(drawn[:20])
    assert latents.dtype == torch.float32 and latents.shape == (20, 10, PYRAMID.num_tokens, 4)
    assert actions.shape == (20, 10, 6)
    for clip, clip_actions, (key, start, _) in zip(latents, actions, drawn):
        whole, whole_actions = read_pyramid(videos / f"{key}.pyramid", PYRAMID, 4)
        assert torch.equal(clip, whole[start:start + 10].float())
        assert torch.equal(clip_actions, whole_actions[start:start + 10])


def test_clips_are_repeatable_from_the_generator(videos):
    one, two = (LatentVideos(videos, PYRAMID, 4) for _ in range(2))
    drawn = [source.draw(torch.Generator().manual_seed(seed), 10, 8) for source, seed in ((one, 3), (two, 3), (two, 4))]
    assert drawn[0] == drawn[1] != drawn[2]
    sampled = [source.read(source.draw(torch.Generator().manual_seed(seed), 10, 8))
               for source, seed in ((one, 3), (two, 3), (two, 4))]
    assert torch.equal(sampled[0][0], sampled[1][0]) and torch.equal(sampled[0][1], sampled[1][1])
    assert not torch.equal(sampled[0][0], sampled[2][0])
    assert torch.equal(sampled[0][0], one.read(drawn[0])[0])  # sample is draw and read


def test_training_and_test_clips_are_of_other_videos(tmp_path):
    make_videos(tmp_path, {f"{i:03}": 4 for i in range(12)})
    train, test, everything = (LatentVideos(tmp_path, PYRAMID, 4, part, .25) for part in ("train", "test", "all"))
    assert len(test.videos) == 3 and len(train.videos) == 9
    assert not dict(test.videos).keys() & dict(train.videos).keys()
    order = [clip_order(part.videos, 3) for part in (train, test, everything)]
    assert sorted(order[0] + order[1]) == sorted(order[2])


def test_a_test_video_has_the_length_that_is_asked_for(videos):
    source = LatentVideos(videos, PYRAMID, 4)
    whole, whole_actions = read_pyramid(videos / "000/001.pyramid", PYRAMID, 4)
    latents, actions, real = source.test_video("000/001", 20)
    assert torch.equal(latents, whole[:20].float()) and torch.equal(actions, whole_actions[:20]) and real == 20
    latents, actions, real = source.test_video("000/001", 60, seed=5)
    assert latents.shape == (60, PYRAMID.num_tokens, 4) and actions.shape == (60, 6) and real == 26
    assert torch.equal(latents[:26], whole.float()) and (latents[26:] == 0).all()
    assert torch.equal(actions, extend_actions(whole_actions, 60, 5))


def test_a_test_video_that_is_not_there(videos):
    with pytest.raises(MissingFileError) as error:
        LatentVideos(videos, PYRAMID, 4).test_video("000/009", 20)
    assert_says(error.value, videos / "000" / "009.pyramid")


def test_clips_that_are_longer_than_all_videos(videos):
    with pytest.raises(UserError) as error:
        LatentVideos(videos, PYRAMID, 4).draw(torch.Generator(), 2, 31)
    assert_says(error.value, "3 videos", "longest of 30", "31 frames", "longer videos", "shorter chunk")


def test_a_folder_of_latents_with_other_channels(videos):
    with pytest.raises(UserError) as error:
        LatentVideos(videos, PYRAMID, 5)
    assert_says(error.value, videos, ".pyramid", "another tokenizer")


@pytest.mark.parametrize("gone", [["000/001"], ["000/001", "001/000"]])
def test_videos_that_the_index_names_but_are_missing(videos, gone):
    for key in gone:
        (videos / f"{key}.pyramid").unlink()
    with pytest.raises(FileNotFoundError) as error:
        LatentVideos(videos, PYRAMID, 4)
    assert_says(error.value, "index.json", "download")
    assert any(str(videos / f"{key}.pyramid") in str(error.value) for key in gone)


@pytest.mark.parametrize("key", ["../outside", "000/../../outside", "/outside"])
def test_keys_that_lead_out_of_the_folder(tmp_path, key):
    inside = tmp_path / "inside"
    make_videos(inside, {"000": 5})
    write_pyramid(tmp_path / "outside.pyramid", *tiny_video(5), PYRAMID)
    source = LatentVideos(inside, PYRAMID, 4)
    for read in (lambda: source.test_video(key, 5), lambda: source.read([(key, 0, 5)])):
        with pytest.raises(ValueError) as error:
            read()
        assert_says(error.value, key, "out of the folder")
    (inside / "index.json").write_text(json.dumps({"000": 5, key: 5}))
    with pytest.raises(ValueError) as error:
        LatentVideos(inside, PYRAMID, 4)
    assert_says(error.value, key, "out of the folder")


@pytest.mark.parametrize("split, fraction", [("test", .01), ("vis", .3), ("train", 1.)])
def test_an_empty_part(videos, split, fraction):
    with pytest.raises(ValueError) as error:
        LatentVideos(videos, PYRAMID, 4, split, fraction)
    assert_says(error.value, split, videos / "index.json", "empty", "more videos")


def test_an_index_that_promises_more_than_a_file_holds(videos):
    (videos / "index.json").write_text('{"001/000": 50}')
    with pytest.raises(ValueError) as error:
        LatentVideos(videos, PYRAMID, 4, "all")
    assert_says(error.value, videos / "001" / "000.pyramid", "50 frames", "index.json", "cut")


# ---- training from files ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("method", EXPERIMENTS)
def test_two_steps_of_training_from_files(videos, method):
    source = LatentVideos(videos, PYRAMID, 4)
    runs = [train_video(EXPERIMENTS[method], source, source, SHORT, progress=False) for _ in range(2)]
    (model, history), (again, history_again) = runs
    assert len(history["loss"]) == 2 and np.isfinite([*history["loss"], history["held_out"][-1]["loss"]]).all()
    assert history == history_again
    assert all(map(torch.equal, model.state_dict().values(), again.state_dict().values()))


class Whole(LatentVideos):
    "Reads everything of every clip."

    def read(self, drawn, roles=None):
        return super().read(drawn)


def test_what_is_not_read_is_not_missed(videos):
    schedule, tokens, cost = EXPERIMENTS["millivid"].schedule(), [], []
    for kind in (LatentVideos, Whole):
        with watched_reading() as spans:
            sampler = StepSampler(kind(videos, PYRAMID, 4), schedule, PYRAMID)
            tokens.append(sampler(torch.Generator().manual_seed(2), 30))
        cost.append(count(spans))
    for name in ("values", "coordinates", "actions", "roles"):
        assert torch.equal(getattr(tokens[0], name), getattr(tokens[1], name))
    assert tokens[0].values.abs().sum() > 0 and 0 < cost[0] < .8 * cost[1]


# ---- recordings ------------------------------------------------------------------------------------------------------

@pytest.fixture
def recordings(tmp_path):
    "Eleven recordings of 20 frames, each of its own grey, as `millivid record` leaves them."
    for number in range(11):
        path = tmp_path / "set" / f"000/{number:03}"
        write_frames(f"{path}.frames", np.full((20, 20, 24, 3), 20 * number, dtype=np.uint8))
        write_actions(f"{path}.npy", action_rows(np.arange(20) % 3))
    (tmp_path / "set" / "index.json").write_text(json.dumps({f"000/{number:03}": 20 for number in range(11)}))
    return tmp_path / "set"


def test_the_last_recordings_are_held_out(recordings):
    train, held_out, everything = (Recordings(recordings, part) for part in ("train", "held_out", "all"))
    assert list(held_out.lengths) == ["000/010"] and [*train.lengths, *held_out.lengths] == list(everything.lengths)
    assert len(Recordings(recordings, "held_out", .3).lengths) == 3
    draw = recorded_images(train, held_out, (16, 16))
    images = draw(torch.Generator().manual_seed(0), 200, False)
    assert images.shape == (200, 3, 16, 16)
    assert set((images[:, 0, 0, 0] * 255).round().int().tolist()) == {20 * number for number in range(10)}
    assert (draw(torch.Generator().manual_seed(0), 5, True) * 255).round().eq(200).all()
    assert torch.equal(images, draw(torch.Generator().manual_seed(0), 200, False))


def test_recordings_train_a_tokenizer_and_a_video_model(recordings, tmp_path):
    train, held_out = (Recordings(recordings, part) for part in ("train", "held_out"))
    config = TokenizerConfig(PYRAMID, 4, TRANSFORMER, TRANSFORMER)
    tokenizer, history = train_tokenizer(recorded_images(train, held_out, (16, 16)), config, SHORT, progress=False)
    assert np.isfinite(history["loss"]).all()
    clips, held_out_clips = (part.encode(tokenizer, progress=False) for part in (train, held_out))
    latents, actions = clips.read([("000/003", 2, 10)])
    expected = encode_frames(tokenizer, np.full((20, 16, 16, 3), 60, dtype=np.uint8))[2:12]
    assert torch.equal(latents[0], expected.bfloat16().float())
    assert torch.equal(actions[0], action_rows(np.arange(20) % 3)[2:12])
    schedule = EXPERIMENTS["framepack"]
    _, history = train_video(schedule, clips, held_out_clips, SHORT, progress=False)
    assert np.isfinite(history["loss"]).all()


def test_encoded_recordings_are_kept_and_resumed(recordings, tmp_path):
    config = TokenizerConfig(PYRAMID, 4, TRANSFORMER, TRANSFORMER)
    one, other = (randomised(Tokenizer(config), seed) for seed in range(2))
    part = Recordings(recordings, "held_out")
    file, = (home := part.encode(one, False)).folder.rglob("*.pyramid")
    first = file.read_bytes()
    assert part.encode(one, False).folder == home.folder  # nothing to do
    assert part.encode(other, False).folder != home.folder
    file.write_bytes(first[:-5])
    os.utime(file, (0, 0))  # older than its recording: made again
    part.encode(one, False)
    assert file.read_bytes() == first


def test_recordings_that_are_not_there(recordings):
    (recordings / "000/004.npy").unlink()
    for folder in (recordings, recordings / "000"):
        with pytest.raises(FileNotFoundError):
            Recordings(folder)
    (recordings / "index.json").write_text("{}")
    with pytest.raises(ValueError, match="no recordings"):
        Recordings(recordings, "train")
    (recordings / "index.json").write_text('{"000/003": 20}')
    assert Recordings(recordings, "train").lengths == Recordings(recordings, "held_out").lengths == {"000/003": 20}
    with pytest.raises(ValueError, match="does not exist"):
        Recordings(recordings, "test")


def test_an_index_that_promises_more_than_a_recording_holds(recordings, tokenizer, tmp_path):
    (recordings / "index.json").write_text('{"000/003": 90}')
    part = Recordings(recordings)
    for use in (lambda: part.images(torch.Generator().manual_seed(0), 20), lambda: part.encode(tokenizer)):
        with pytest.raises(UserError) as error:
            use()
        assert_says(error.value, recordings / "000" / "003.frames", "20")
    assert not list(recordings.rglob("*.pyramid"))


@pytest.mark.parametrize("use", [
    lambda path: write_frames(path, random_pictures(0)), lambda path: write_frames(path, random_pictures(2)[0]),
    lambda path: write_frames(path, random_pictures(2) / 255.), lambda path: write_actions(path, torch.zeros(4, 5)),
    lambda path: write_actions(path, torch.zeros(6)), lambda path: write_actions(path, torch.zeros(2, 4, 6)),
    lambda path: extend_actions(torch.zeros(0, 6), 10), lambda path: extend_actions(torch.zeros(4, 6), 0),
    lambda path: extend_actions(torch.zeros(4, 6), 9, hold=0)])
def test_things_that_cannot_be_written(use, tmp_path):
    with pytest.raises(UserError):
        use(tmp_path / "file")
    assert files_below(tmp_path) == []
