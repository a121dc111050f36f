"Video files, atomic writing, actions as models read them, and training examples."

import os
import random
import subprocess
import sys

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from tiny import PYRAMID, TRANSFORMER, assert_says, files_below, random_video, randomised

from millivid.actions import action_rows, integrate_actions
from millivid.basics import MissingFileError, UserError, write_atomically
from millivid.data import StepSampler, fit_frames, iterate_video, read_video, training_tokens, video_rate, write_video
from millivid.evaluation import frame_psnr
from millivid.layers import bfloat16_is_fast
from millivid.pyramid import PyramidConfig, frames_to_images, images_to_frames
from millivid.video import gather_tokens, step_indices
from millivid.tokenizer import Tokenizer, TokenizerConfig, encode_frames
from millivid.worlds.rooms import RoomWalks, WorldConfig, lattice_poses, make_episode, make_room, pose_index
from millivid.worlds.rooms import random_walk, render_poses

WORLD = WorldConfig(image_size=16)


# ---- frames and video files ------------------------------------------------------------------------------------------


def test_frames_to_images_and_back():
    every_value = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    images = frames_to_images(every_value)
    assert images.shape == (1, 3, 16, 16) and (images.min(), images.max()) == (0, 1)
    np.testing.assert_array_equal(images_to_frames(images), every_value)
    for change in (-0.4, 0.4):  # of a step: rounds to the nearest
        np.testing.assert_array_equal(images_to_frames(images + change / 255), every_value)
    np.testing.assert_array_equal(images_to_frames(images * 3 - 1), images_to_frames((images * 3 - 1).clamp(0, 1)))


@pytest.mark.parametrize("rate", [12, 25])
def test_video_round_trip(tmp_path, rate):
    frames = make_episode(1, 30).frames
    write_video(tmp_path / "new" / "walk.mp4", frames, rate)  # makes its folder
    again, found_rate = read_video(tmp_path / "new" / "walk.mp4")
    assert again.shape == frames.shape and again.dtype == np.uint8 and found_rate == rate
    assert frame_psnr(again, frames).min() > 28  # H.264 loses a little, above all of colour
    shift = [frame_psnr(again[1:-1], frames[1 + by : 29 + by]).mean() for by in (-1, 0, 1)]
    assert np.argmax(shift) == 1  # every frame is at its place
    assert files_below(tmp_path) == ["new/walk.mp4"]


def test_reading_the_beginning_of_a_video(tmp_path):
    frames = make_episode(1, 20).frames
    write_video(tmp_path / "walk.mp4", frames)
    assert len(read_video(tmp_path / "walk.mp4", max_frames=7)[0]) == 7
    assert len(read_video(tmp_path / "walk.mp4", max_frames=100)[0]) == 20


def test_frames_are_cropped_and_shrunk_without_inventing_anything():
    wide = np.zeros((2, 32, 64, 3), dtype=np.uint8)
    wide[:, :, 16:48] = 200  # the middle square
    fitted = fit_frames(wide, (16, 16))
    assert fitted.shape == (2, 16, 16, 3) and (fitted == 200).all()
    assert fit_frames(wide, (16, 32)).shape == (2, 16, 32, 3)
    stripes = np.zeros((1, 64, 64, 3), dtype=np.uint8)
    stripes[:, :, ::2] = 200  # too thin to be seen: grey remains
    assert abs(fit_frames(stripes, (16, 16)).astype(int) - 100).max() < 8
    np.testing.assert_array_equal(fit_frames(stripes, (64, 64)), stripes)


def test_a_video_is_fitted_while_it_is_read(tmp_path):
    write_video(tmp_path / "walk.mp4", make_episode(1, 5).frames)
    assert read_video(tmp_path / "walk.mp4", image_shape=(16, 32))[0].shape == (5, 16, 32, 3)


def test_a_video_is_read_piece_by_piece_and_written_from_a_stream(tmp_path):
    path, copy, frames = tmp_path / "walk.mp4", tmp_path / "copy.mp4", make_episode(1, 20).frames
    write_video(path, frames, 24)
    pieces = list(iterate_video(path, max_frames=18, batch=8))
    assert [len(piece) for piece in pieces] == [8, 8, 2] and video_rate(path) == 24
    np.testing.assert_array_equal(np.concatenate(pieces), read_video(path)[0][:18])
    write_video(copy, (frame for piece in iterate_video(path) for frame in piece), crf=0)
    assert frame_psnr(read_video(copy)[0], read_video(path)[0]).min() > 38


def test_gifs(tmp_path):
    write_video(tmp_path / "walk.gif", make_episode(1, 5).frames, rate=10)
    with Image.open(tmp_path / "walk.gif") as picture:
        assert picture.format == "GIF" and picture.n_frames == 5 and picture.info["duration"] == 100


def write_sound(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), dtype=np.float32), "fltp", "mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_files_that_are_no_videos(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere.mp4"):
        with pytest.raises(MissingFileError) as error:
            read_video(path)
        assert_says(error.value, path, "mp4")
    write_sound(tmp_path / "sound.mp4")
    write_video(tmp_path / "cut.mp4", make_episode(0, 10).frames)
    whole = (tmp_path / "cut.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "notes.mp4").write_text("this is not a video")
    for name in ("sound", "cut", "empty", "notes"):
        with pytest.raises(UserError) as error:
            read_video(tmp_path / f"{name}.mp4")
        assert_says(error.value, f"{name}.mp4", "video")


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nwalk.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile 'walk.mp4'\n",
    ],
)
def test_playlists_that_point_elsewhere_are_not_followed(text, tmp_path):
    "One with an address of the internet hung for minutes."
    write_video(tmp_path / "walk.mp4", make_episode(0, 5).frames)
    (tmp_path / "list.m3u8").write_text(text)
    with pytest.raises(UserError, match="cannot be read as a video"):
        read_video(tmp_path / "list.m3u8")


def test_a_name_with_a_colon_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video("x:y.mp4", make_episode(0, 5).frames)
    assert len(read_video("x:y.mp4")[0]) == 5


def test_metadata_in_an_old_encoding_is_no_obstacle(tmp_path):
    path = tmp_path / "walk.mp4"
    with av.open(str(path), "w") as container:
        container.metadata.update(title="Café au lait")
        stream = container.add_stream("libx264", 12, width=16, height=16, pix_fmt="yuv420p")
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes().replace("Café ".encode(), "Café  ".encode("latin-1")))
    assert len(read_video(path)[0]) == 1


@pytest.mark.parametrize("turned", [90, 180, -90])
def test_videos_of_phones_stand_upright(turned, tmp_path):
    "A phone stores frames as its sensor lies, and how far a player must turn them (counterclockwise)."
    frames = np.zeros((3, 32, 48, 3), np.uint8)
    frames[:, :16, :16] = 255  # top left is white
    with av.open(str(tmp_path / "phone.mp4"), "w") as container:
        stream = container.add_stream("libx264", 12, width=48, height=32, pix_fmt="yuv420p")
        stream.set_display_rotation(turned)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    expected = {90: np.s_[-16:, :16], 180: np.s_[-16:, -16:], -90: np.s_[:16, -16:]}[turned]
    upright, _ = read_video(tmp_path / "phone.mp4")
    assert upright.shape == (3, *((32, 48) if turned == 180 else (48, 32)), 3)
    assert upright[(slice(None), *expected)].mean() > 240 and upright.mean() < 60


@pytest.mark.parametrize("count, side, rate, crf", [(0, 16, 12, 16), (2, 15, 12, 16), (2, 16, 0, 16), (2, 16, 12, 52)])
def test_videos_that_cannot_be_written(tmp_path, count, side, rate, crf):
    with pytest.raises(UserError):
        write_video(tmp_path / "a.mp4", np.zeros((count, side, 16, 3), np.uint8), rate, crf)
    assert files_below(tmp_path) == []


def test_a_video_that_breaks_off_while_it_is_written(tmp_path):
    with pytest.raises(Exception):
        write_video(tmp_path / "a.mp4", [*np.zeros((3, 16, 16, 3), np.uint8), "not a frame"])
    assert files_below(tmp_path) == []


def test_torchvision_of_another_build_is_mended(tmp_path):
    "In a process of its own, with a torchvision whose first import fails as that of another build does."
    (tmp_path / "torchvision" / "transforms" / "v2").mkdir(parents=True)
    (tmp_path / "torchvision" / "__init__.py").write_text("from . import _meta")
    (tmp_path / "torchvision" / "_meta.py").write_text(
        "import torch\n@torch.library.register_fake('torchvision::nms')\ndef nms(dets, scores, iou_threshold): ..."
    )
    for folder in ("transforms", "transforms/v2"):
        (tmp_path / "torchvision" / folder / "__init__.py").write_text("")
    (tmp_path / "torchvision" / "transforms" / "v2" / "functional.py").write_text("answer = 42")
    code = "from millivid.data import torchvision_transforms; assert torchvision_transforms().answer == 42"
    subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"], check=True)


# ---- nothing half-written --------------------------------------------------------------------------------------------


def test_a_file_appears_only_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "file.txt"

    def write(temporary):
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")

    write_atomically(path, write)
    assert path.read_text() == "whole" and files_below(tmp_path) == ["new/file.txt"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half of the new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail)
    assert path.read_text() == "old" and files_below(tmp_path) == ["file.txt"]


# ---- actions ---------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**31), st.integers(1, 4))
def test_odometry_follows_from_the_actions_alone(seed, frames_per_action):
    config = WorldConfig(frames_per_action=frames_per_action, image_size=8)
    (x, y, heading), actions = random_walk(random.Random(seed), 20, config)
    held = np.repeat(actions, frames_per_action)
    rows = action_rows(held, config.frames_per_action).numpy()
    assert rows.shape == (len(held), 6)
    np.testing.assert_array_equal(rows[:, 0], held)
    cos, sin = np.round(np.cos(heading * np.pi / 2)), np.round(np.sin(heading * np.pi / 2))
    true = integrate_actions(
        (x * frames_per_action, y * frames_per_action, heading * frames_per_action), held, config.frames_per_action
    )
    true = true / frames_per_action
    np.testing.assert_allclose(cos * rows[:, 1] - sin * rows[:, 2] + x, true[:, 0], atol=1e-5)
    np.testing.assert_allclose(sin * rows[:, 1] + cos * rows[:, 2] + y, true[:, 1], atol=1e-5)
    turned = (rows[:, 4] / (np.pi / 2) + heading - true[:, 2]) % 4
    np.testing.assert_allclose(np.minimum(turned, 4 - turned), 0, atol=1e-5)


# ---- walks through encoded rooms -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def eye():
    "A tokenizer for small frames."
    return randomised(Tokenizer(TokenizerConfig(PYRAMID, 4, TRANSFORMER, TRANSFORMER)))


@pytest.fixture(scope="module")
def walks(eye):
    return RoomWalks(eye, [3], WORLD, progress=False)


def test_sampled_walks_are_encoded_videos_with_their_actions(eye, walks, generator):
    room, poses = make_room(3, WORLD), lattice_poses(WORLD)
    views = encode_frames(eye, render_poses(room, np.arange(len(poses)), WORLD))
    latents, actions = walks.read(walks.draw(generator, 4, 30))
    assert latents.shape == (4, 30, PYRAMID.num_tokens, 4) and actions.shape == (4, 30, 6)
    k = WORLD.frames_per_action
    for video, rows in zip(latents, actions):
        first = poses[(views - video[0]).abs().amax((1, 2)).argmin()]  # which of all poses the walk begins with
        x, y, yaw = (rows[:, [1, 2, 4]] - rows[0, [1, 2, 4]]).T.double()
        turned = first[2] * np.pi / 2 / k - rows[0, 4].item()
        path = (
            np.stack(
                [
                    first[0] + k * (np.cos(turned) * x - np.sin(turned) * y),
                    first[1] + k * (np.sin(turned) * x + np.cos(turned) * y),
                    first[2] + k * yaw / (np.pi / 2),
                ],
                axis=1,
            )
            .round()
            .astype(int)
        )
        error = (views[pose_index(path, WORLD)] - video).abs().mean()
        assert error < 0.02 < (views[0] - views[40]).abs().mean()  # they are kept in bfloat16
        moved = [
            integrate_actions((0, 0, 0), [action], WORLD.frames_per_action)[0, 2]
            for action in rows[1:, 0].int().numpy()
        ]
        np.testing.assert_array_equal(
            (np.diff(path[:, 2]) - moved) % (4 * k), 0
        )  # the action is the one that led to the frame


def test_walks_begin_anywhere_in_an_action(walks):
    "A rollout's windows do, so training has to: else a model meets half-done turns that it has never seen."
    rows = walks.read(walks.draw(torch.Generator().manual_seed(0), 64, 10))[1][:, 0]
    turned = (torch.remainder(rows[:, 4] + np.pi, 2 * np.pi) - np.pi).abs()
    frames_of_first_action = (rows[:, 1:3].abs().sum(1) + turned / (np.pi / 2)) * WORLD.frames_per_action
    counts = torch.bincount(frames_of_first_action.round().int(), minlength=WORLD.frames_per_action + 1)
    assert counts[0] == 0 and (counts[1:] > 16).all() and len(counts) == WORLD.frames_per_action + 1


def test_sampled_walks_come_from_the_generator(walks):
    one, two, other = (walks.read(walks.draw(torch.Generator().manual_seed(seed), 2, 10)) for seed in (1, 1, 2))
    assert all(map(torch.equal, one, two)) and not torch.equal(one[0], other[0])


def test_encoded_rooms_are_kept_until_something_changes(eye, tmp_path, monkeypatch):
    cache = tmp_path / "rooms.safetensors"
    first = RoomWalks(eye, [3, 4], WORLD, cache, progress=False)
    assert files_below(tmp_path) == ["rooms.safetensors"]
    with monkeypatch.context() as patch:
        patch.setattr(Tokenizer, "encode", lambda *_: pytest.fail("encoded again"))
        assert torch.equal(RoomWalks(eye, [3, 4], WORLD, cache, progress=False).latents, first.latents)
    with monkeypatch.context() as patch:  # another precision gives other latents
        patch.setattr("millivid.worlds.rooms.bfloat16_is_fast", lambda device: not bfloat16_is_fast(device))
        assert not torch.equal(RoomWalks(eye, [3, 4], WORLD, cache, progress=False).latents, first.latents)
    assert torch.equal(RoomWalks(eye, [3, 4], WORLD, cache, progress=False).latents, first.latents)
    assert not torch.equal(RoomWalks(eye, [3, 5], WORLD, cache, progress=False).latents, first.latents)
    other = randomised(Tokenizer(eye.config), seed=1)
    assert not torch.equal(RoomWalks(other, [3, 4], WORLD, cache, progress=False).latents, first.latents)


def test_a_file_that_is_no_cache_is_not_overwritten(eye, tmp_path):
    save_file({"latents": torch.ones(3)}, tmp_path / "mine.safetensors")
    (tmp_path / "text.safetensors").write_text("not a cache")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    before = (tmp_path / "mine.safetensors").read_bytes()
    for name in ("mine.safetensors", "text.safetensors", "folder", "pipe"):
        with pytest.raises(UserError) as error:
            RoomWalks(eye, [3], WORLD, tmp_path / name, progress=False)
        assert_says(error.value, name, "another file")
    assert (tmp_path / "mine.safetensors").read_bytes() == before


@pytest.mark.parametrize("change", [
    lambda latents: latents[:, :3], lambda latents: latents[:0], lambda latents: latents.flatten(),
    lambda latents: latents.int(), lambda latents: latents[..., :2]])
def test_a_cache_of_another_shape_is_refused(change, eye, tmp_path):
    "Also where it says that it was made of these rooms."
    cache = tmp_path / "rooms.safetensors"
    latents = RoomWalks(eye, [3], WORLD, cache, progress=False).latents
    with safe_open(cache, "pt") as file:
        about = file.metadata()
    save_file({"latents": change(latents).contiguous()}, cache, about)
    before = cache.read_bytes()
    with pytest.raises(UserError) as error:
        RoomWalks(eye, [3], WORLD, cache, progress=False)
    assert_says(error.value, cache, "damaged", "another file", "delete")
    assert cache.read_bytes() == before


def test_rooms_may_be_given_by_an_iterator(eye, walks):
    assert torch.equal(RoomWalks(eye, iter([3]), WORLD, progress=False).latents, walks.latents)


# ---- training examples -----------------------------------------------------------------------------------------------


def test_training_sees_what_the_rollout_sees(schedule):
    latents, actions = random_video(3, schedule.chunk_frames)
    indices, coordinates = step_indices(schedule, PYRAMID), PYRAMID.coordinates()
    batch = training_tokens(latents, actions, [indices[step] for step in (0, 3, 1)], coordinates)
    for sample, step in enumerate((0, 3, 1)):
        own = slice(sample, sample + 1)
        expected = gather_tokens(latents[own], actions[own], indices[step], coordinates)
        for name in ("values", "coordinates", "actions", "roles"):
            assert torch.equal(getattr(batch, name)[own], getattr(expected, name)), name


def test_steps_are_drawn_with_their_probability(schedule):
    class Walks:
        def draw(self, generator, count, frames):
            return torch.zeros(count, frames, PYRAMID.num_tokens, 4), torch.zeros(count, frames, 6)

        def read(self, drawn, roles):
            assert roles.shape == (600, schedule.num_levels, schedule.chunk_frames)  # what each sample needs
            return drawn

    draw = StepSampler(Walks(), schedule, PYRAMID)
    tokens = draw(torch.Generator().manual_seed(0), 600)
    level = tokens.coordinates[..., 1].masked_fill(~tokens.is_target, 0).amax(1)  # the level that is denoised
    share = torch.bincount(level, minlength=3) / 600
    torch.testing.assert_close(share, torch.full((3,), 1 / 3), rtol=0, atol=0.06)
    again = draw(torch.Generator().manual_seed(0), 600)
    assert torch.equal(again.roles, tokens.roles) and torch.equal(again.coordinates, tokens.coordinates)


def test_frames_of_any_size_can_be_encoded():
    pyramid = PyramidConfig((8, 16), (4, 4), 2)
    tokenizer = randomised(Tokenizer(TokenizerConfig(pyramid, 4, TRANSFORMER, TRANSFORMER)))
    frames = np.random.default_rng(0).integers(256, size=(3, 8, 16, 3), dtype=np.uint8)
    assert encode_frames(tokenizer, frames).shape == (3, 10, 4)
