"Widgets without a browser: what the pictures say is true, and the controls change them."

import base64
import io
import random
import re
import subprocess
import sys
from datetime import datetime

import numpy as np
import pytest
from PIL import Image

from millivid import widgets
from millivid.actions import action_rows
from millivid.pipeline import Pipeline
from millivid.plots import STATE_COLOURS
from millivid.schedule import framepack_schedule, full_resolution_schedule, millivid_schedule, schedule_from_text
from millivid.schedule import schedule_text, upscale_schedule
from millivid.tokenizer import decode_latents, encode_frames
from millivid.worlds.rooms import make_room, random_walk, walk

TOKENS = (16, 4, 1)
MILLIVID = millivid_schedule((2, 8, 32), 64, TOKENS)
SCHEDULES = [MILLIVID, upscale_schedule(8, TOKENS), full_resolution_schedule(10, TOKENS),
             framepack_schedule((2, 8, 64), 2, TOKENS), framepack_schedule((1, 2, 8), (1, 2, 8), TOKENS)]


def noise_images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def screen(face):
    "The text and the image that a face shows now; None where it shows no image."
    value = face.children[-1].value
    text = re.search(r"<p>(.*?)</p>", value)[1]
    if "<img" not in value:
        return text, None
    assert f'alt="{text}"' in value  # those who cannot see the picture read the same
    return text, np.asarray(Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", value)[1]))))


def control(face, name):
    "A control of a face by its class, as a browser test finds it."
    todo = [face]
    while todo:
        each = todo.pop()
        if name in each._dom_classes:
            return each
        todo += getattr(each, "children", ())
    raise AssertionError(f"no control has the class {name}")


def press(face, *keys):
    "Keys that the picture of a face is told of."
    for key in keys:
        assert key in face._screen.taken  # the browser sends no other
        face._screen._handle_custom_msg({"key": key}, [])


def point(face, x, y, first=True):
    "The mouse on the picture of a face: pressed, or moved while it is down."
    face._screen._handle_custom_msg({"x": x, "y": y, "first": first}, [])


def test_importing_the_module_is_cheap():
    code = ("import sys, millivid.widgets; print(*sorted(name for name in sys.modules if name.startswith('millivid')), "
            "*({'torch', 'matplotlib'} & {*sys.modules}))")
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == ["millivid", "millivid.widgets"]


def test_a_text_cannot_break_the_page():
    assert widgets.as_html(None, 'a < b & "c"') == "<p>a &lt; b &amp; &quot;c&quot;</p>"


def test_the_script_of_a_picture_loads_nothing_and_leaves_the_tab_key_alone():
    assert "http" not in widgets.Screen._esm and "import" not in widgets.Screen._esm
    for face in (widgets.Drawing(MILLIVID), widgets.play_widget(film, {}, 128)):
        assert "Tab" not in face._screen.taken and face._screen.hint in screen_html(face)


def screen_html(face):
    return face.children[-1].value


def test_a_face_on_a_page_without_widgets_says_what_to_do():
    face = widgets.levels_widget(noise_images(1, 8, 8), noise_images(2, 1, 8, 8), (4, 1))
    bundle = face._repr_mimebundle_()
    assert "run this notebook" in bundle["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in bundle


# ---- levels ----------------------------------------------------------------------------------------------------------


def test_levels_show_original_drawing_and_difference():
    original, drawn = noise_images(16, 16), noise_images(2, 16, 16, seed=1)
    drawn[1] = original
    drawn[1, 3, 5] = original[3, 5] // 2
    image, text = widgets.draw_levels(original, drawn, (4, 1), 1)
    assert "1 token " in text
    parts = [image[20 + 8:20 + 256:16, left + 8:left + 256:16] for left in (4, 268, 532)]  # the middle of every pixel
    np.testing.assert_array_equal(parts[0], original)
    np.testing.assert_array_equal(parts[1], drawn[1])
    wrong = np.argwhere((parts[2] != 127).any(-1))
    assert wrong.tolist() == [[3, 5]]
    assert "99.0 dB" in widgets.draw_levels(original, original[None], (4,), 0)[1]


def test_sliders_choose_level_and_picture():
    originals, drawn = noise_images(3, 16, 16), noise_images(2, 3, 16, 16, seed=1)
    face = widgets.levels_widget(originals, drawn, (4, 1))
    assert screen(face)[0].startswith("Level 1 keeps 1 token")  # the coarsest first
    seen = set()
    for level in (1, 0):
        for number in range(3):
            control(face, "millivid-levels-level").value = level
            control(face, "millivid-levels-number").value = number
            _, image = screen(face)
            expected, _ = widgets.draw_levels(originals[number], drawn[:, number], (4, 1), level)
            np.testing.assert_array_equal(image, expected)
            seen.add(image.tobytes())
    assert len(seen) == 6


def test_a_picture_of_ones_own_and_a_file_that_is_none():
    face = widgets.levels_widget(noise_images(1, 16, 16), noise_images(2, 1, 16, 16), (4, 1),
                                 redraw=lambda picture: np.stack([picture, picture * 0]))
    own = np.zeros((40, 90, 3), np.uint8)
    own[:, 25:65] = (200, 100, 0)  # the middle
    upload = control(face, "millivid-levels-own")

    def choose(content):
        file = {"name": "x", "type": "", "size": len(content), "last_modified": datetime.now(), "content": content}
        upload.value = (file,)

    choose(widgets.png(own))
    control(face, "millivid-levels-level").value = 0
    text, image = screen(face)
    assert "99.0 dB" in text and abs(image[24:270, 8:250] - np.array([200, 100, 0])).max() < 15
    choose(b"no picture")
    text, image = screen(face)
    assert image is None and text.startswith("No levels: ") and "choose a PNG" in text
    for damaged in (b"", widgets.png(own)[:60], b"\x89PNG\r\n\x1a\n" + b"0" * 50):
        with pytest.raises(ValueError, match="no picture"):
            widgets.square_picture(damaged, 16)


# ---- schedules -------------------------------------------------------------------------------------------------------


def colours(image, left=118):
    "How many pixels of a picture have each of the four colours of a state, its names aside."
    values = [tuple(bytes.fromhex(colour[1:])) for colour in STATE_COLOURS]
    return [int((image[:, left:] == value).all(-1).sum()) for value in values]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda each: each.name)
def test_every_step_says_what_it_costs_and_shows_what_it_sees_and_makes(schedule):
    for step in range(schedule.num_steps):
        image, text = widgets.draw_schedule(schedule, step)
        assert f"{schedule.step_tokens[step]} tokens in all" in text
        assert f"{schedule.context_frames} frames back" in text
        often = re.search(r"to the finest: (.*)\.$", text)[1].split(", ")
        for level, times in zip(reversed(range(schedule.num_levels)), often, strict=True):
            new = range(schedule.context_frames, schedule.context_frames + schedule.finished_frames)
            counts = {int((schedule.roles[:, level, frame] == 2).sum()) for frame in new}
            assert times == (f"{min(counts)} to {max(counts)}" if len(counts) > 1 else f"{min(counts)}")
        seen, made = ((schedule.roles[step] == role).sum() for role in (1, 2))
        _, _, blue, orange = colours(image)
        assert blue > 0 and orange > 0 or not seen
        assert blue * made == pytest.approx(orange * seen, rel=.15)  # as many cells, but for the line before new frames


def test_the_state_after_a_step_is_the_one_before_the_next():
    for step in range(MILLIVID.num_steps - 1):
        after, _ = widgets.draw_schedule(MILLIVID, step)
        before, _ = widgets.draw_schedule(MILLIVID, step + 1)
        third = len(after) // 3
        np.testing.assert_array_equal(after[-third + 20:], before[20:third])


def test_windows_that_break_a_rule_are_named_and_mended():
    face = widgets.windows_widget(lambda windows, extra: millivid_schedule(windows, extra, TOKENS))
    text, image = screen(face)
    assert image is not None and "21 steps for 32 frames, at most 160 tokens a step, 74 frames back" in text
    step = control(face, "millivid-windows-step")
    assert step.max == 20
    step.value = 20
    control(face, "millivid-windows-window0").value = 3
    text, image = screen(face)
    assert image is None and text.startswith("No plan: windows (3, 8, 32)")
    control(face, "millivid-windows-window0").value = 8
    assert "9 steps for 32 frames" in screen(face)[0] and (step.max, step.value) == (8, 8)
    control(face, "millivid-windows-extra").value = 0
    assert "96 tokens" not in screen(face)[0] and "16 frames back" in screen(face)[0]


def test_a_schedule_with_fewer_steps_moves_the_slider_back():
    face = widgets.schedule_widget({"long": MILLIVID, "short": SCHEDULES[2]})
    step = control(face, "millivid-schedule-step")
    step.value = 20
    assert screen(face)[0].startswith("Step 20 (of 21)")
    control(face, "millivid-schedule-name").value = "short"
    assert (step.value, step.max) == (0, 0) and screen(face)[0].startswith("Step 0 (of 1)")


# ---- drawing a schedule ----------------------------------------------------------------------------------------------

SMALL = schedule_from_text("ccccdd\n..cc..\n\n....cc\n..ccd.\n\n.....c\n...ccd", (4, 1))


def middle(frame, line):
    "The middle of a cell of a drawing of few frames, line 0 on top."
    return 122 + 30 * frame + 15, 20 + 26 * line + 13


def test_a_drawing_shows_its_roles_and_what_they_cost():
    text = schedule_text(SMALL)
    for step in range(3):
        image, said = widgets.draw_drawing(text, (4, 1), step, (0, 1))
        assert f"Step {step} (of 3)" in said and f"{SMALL.step_tokens[step]} tokens in all" in said
        assert "3 steps for 2 frames" in said and said.endswith("to the finest: 1, 1.")
        for frame in range(6):
            for level in (0, 1):
                x, y = middle(frame, 1 - level)
                role, there = SMALL.roles[step, level, frame], SMALL.existing[step, level, frame]
                assert "#{:02x}{:02x}{:02x}".format(*image[y, x]) == STATE_COLOURS[role + 1 if role else int(there)]
    x, y = middle(4, 0)
    white, grey = (tuple(bytes.fromhex(colour[1:])) for colour in STATE_COLOURS[:2])
    for text, colour in ((schedule_text(SMALL), grey), ("ccccdd\n..cc..\n\n....cc\n..ccd.", white)):
        after = widgets.draw_drawing(text, (4, 1), 0)[0][20 + 52 + 4:]  # the second picture, below the first
        assert tuple(after[20 + 18 + 9, 122 + 30 * 5 + 15]) == colour  # the fine last frame


@pytest.mark.parametrize("text, said", [
    ("", "No drawing: the drawing of the schedule is empty: give at least one step."),
    ("cd\nc", "No drawing: step 0 of the drawing has a line of 1 frames, the first line has 2: make all lines equally"),
    ("cx\ncd", "No drawing: step 0 of the drawing has an unknown letter in 'cx'"),
    ("cc\ncc", "No plan: steps [0] of the drawing denoise nothing"),
    ("c.\ncd\n\n.c\ncd", "No plan: step 1 of the drawing looks at level 1 of frame 1 of the chunk (counted from 0), "),
    ("cd\nc.", "No plan: no step of the drawing makes level 0 of frame 1 of the chunk")])
def test_the_rule_that_a_drawing_breaks_is_named(text, said):
    image, line = widgets.draw_drawing(text, (4, 1), 0)
    assert line.startswith(said) and (image is None) == said.startswith("No drawing")
    if image is not None:
        assert re.search(r"\(Step 0 costs (10|6|5|9) tokens\.\)$", line)
        with pytest.raises(ValueError):
            schedule_from_text(text, (4, 1))


def test_a_click_changes_a_role_and_dragging_paints():
    face = widgets.Drawing(SMALL)

    def first():
        return face.text.split("\n\n")[0]

    for line in ("c.cc..", "d.cc..", "..cc.."):
        point(face, *middle(0, 1))
        assert first() == f"ccccdd\n{line}"
    point(face, *middle(0, 1))
    for frame in (3, 1, 5):  # a fast mouse leaves cells out: they are painted all the same
        point(face, *middle(frame, 1), first=False)
    assert first() == "ccccdd\ncccccc"
    for x, y in ((900, 900), (900, 25), (-50, -9)):  # outside: along the border
        point(face, x, y, first=False)
    assert first() == "cccccc\ncccccc"
    point(face, *middle(0, 2))  # a press below the grid is none, and what follows is none
    point(face, *middle(0, 0), first=False)
    assert first() == "cccccc\ncccccc" and "No plan: steps [0] of the drawing denoise nothing" in screen(face)[0]


def test_keys_write_a_schedule():
    face = widgets.Drawing(SMALL)
    press(face, *["PageDown"] * 3, *["ArrowDown"] * 2, *"dcd", " ", "ArrowLeft", " ", "ArrowUp", ".")
    assert face.text.split("\n\n")[2] == ".....c\ndc.dcd"
    press(face, *["ArrowRight"] * 9, "ArrowUp", "c", " ", "PageUp", *["ArrowLeft"] * 9, "c")
    assert face.text.split("\n\n")[1:] == ["c...cc\n..ccd.", ".....d\ndc.dcd"]
    assert control(face, "millivid-drawing-step").value == 1


def test_buttons_of_a_drawing_and_its_text():
    face = widgets.Drawing(SMALL)
    for name in ("before", "after", "insert"):
        control(face, f"millivid-drawing-{name}").click()
    assert face.text.split("\n\n")[:3] == [".ccccdd.\n...cc...", "........\n........", ".....cc.\n...ccd.."]
    step = control(face, "millivid-drawing-step")
    assert (step.value, step.max) == (1, 3) and "steps [1] of the drawing denoise nothing" in screen(face)[0]
    for _ in range(4):
        control(face, "millivid-drawing-remove").click()
    assert face.text == "" and "No drawing: the drawing of the schedule is empty" in screen(face)[0]
    control(face, "millivid-drawing-text").value = "cd\nc"
    assert "make all lines equally long" in screen(face)[0]
    control(face, "millivid-drawing-text").value = "cd\n.."
    assert "No plan: no step of the drawing makes level 0 of frame 1" in screen(face)[0]
    press(face, *["ArrowRight"] * 9, "ArrowDown", "d")
    assert face.text == "cd\n.d" and "The plan: 1 steps for 1 frames" in screen(face)[0]
    assert schedule_from_text(face.text, (4, 1)).max_tokens == 6


def test_a_large_drawing_is_drawn_on_as_well():
    face = widgets.Drawing(MILLIVID)
    cell = 742 // MILLIVID.chunk_frames
    point(face, 122 + cell * 100 + cell // 2, 20 + 26 * 2 + 13)
    roles = MILLIVID.roles.copy()
    roles[0, 0, 100] = 1
    assert (schedule_text(MILLIVID) != face.text) and (face._roles == roles).all()
    assert "No plan: step 0 of the drawing looks at level 0 of frame 100" in screen(face)[0]


# ---- rollout ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES[:4], ids=lambda each: each.name)
def test_a_rollout_makes_every_token_once_and_sees_only_what_is_there(schedule):
    start, end = schedule.context_frames + 3, schedule.context_frames + 3 + 2 * schedule.finished_frames
    states, there = widgets.rollout_states(schedule, start, end), np.arange(end) < start
    there = np.repeat(there[None], schedule.num_levels, 0)
    for _, state in states:
        assert there[state == 2].all() and not there[state == 3].any()
        np.testing.assert_array_equal(state > 0, there | (state == 3))
        there |= state == 3
    assert there[0].all()


def test_a_rollout_shows_the_frames_as_they_appear():
    drawn = noise_images(3, 160, 8, 8)
    face = widgets.rollout_widget(MILLIVID, drawn, 128)
    shown = {}
    for step in range(21):
        control(face, "millivid-rollout-step").value = step
        text, shown[step] = screen(face)
        ready = int(re.search(r"then (\d+) frames", text)[1])
        assert ready == 2 * sum((MILLIVID.roles[each, 0] == 2).any() for each in range(step + 1))
    grey = [(image == 225).all(-1).sum() for image in shown.values()]
    assert all(np.diff(grey) < 0) and grey[-1] < 50  # only pixels of letters


# ---- noise and attention ---------------------------------------------------------------------------------------------


def test_noise_shows_the_chosen_guess():
    truth, noisy, guesses = noise_images(8, 8), noise_images(2, 3, 4, 8, 8), noise_images(2, 3, 4, 8, 8, seed=1)
    guesses[1, 0, 2] = truth
    times = np.linspace(.2, 1, 3)[:, None] * (1 - np.arange(4) / 4)
    face = widgets.noise_widget(truth, noisy, guesses, times)
    assert screen(face)[0].startswith("At noise level 1.00, with context")
    control(face, "millivid-noise-context").value = False
    control(face, "millivid-noise-start").value = 0
    control(face, "millivid-noise-step").value = 2
    assert screen(face)[0].startswith("At noise level 0.10, without context") and "99.0 dB" in screen(face)[0]


def test_guesses_on_the_ring_are_compared_with_the_truth():
    angle = np.arange(8) * np.pi / 4
    points, own = np.stack([np.cos(angle), np.sin(angle)], 1), np.arange(16) % 8
    noisy = np.random.default_rng(0).normal(size=(2, 3, 16, 2))
    guesses, times = np.broadcast_to(points[own], noisy.shape).copy(), np.array([[.5], [1]]) * (1, 2 / 3, 1 / 3)
    guesses[1, 0] = .01 * points[own]
    guesses[1, 2] = -points[own]
    face = widgets.ring_widget(points, own, noisy, guesses, times)
    said = {(0, 0): ".50, the guess is 0.00 from the truth on average; 100%", (0, 2): ".17, the guess is 0.00",
            (1, 0): "1.00, the guess is 0.99 from the truth on average; 100%",
            (1, 2): "0.33, the guess is 2.00 from the truth on average; 0%"}
    for (start, step), part in said.items():
        control(face, "millivid-ring-start").value = start
        control(face, "millivid-ring-step").value = step
        text, image = screen(face)
        assert part in text
        for number, place in enumerate(guesses[start, step][:8]):
            x, y = 308 + 4 + 150 + place[0] * 150 / 2.6, 20 + 150 - place[1] * 150 / 2.6  # in the second picture
            shown = {tuple(image[round(y) + i, round(x) + j]) for i in (-1, 0, 1) for j in (-1, 0, 1)}
            assert step == 0 and start or tuple(widgets._RING_COLOURS[own[number]]) in shown


def test_attention_names_the_frames_that_are_looked_at():
    numbers, painted = np.arange(10, 20), np.arange(17, 20)
    attention, same = np.full((3, 10), .02), np.zeros((3, 10), dtype=bool)
    attention[1, [2, 8]] = .5, .3
    same[1, [2, 8]] = True  # frame 18 shows the view of frame 12, and of itself
    face = widgets.attention_widget(attention, numbers, painted, noise_images(20, 8, 8), same)
    assert "no context frame" in screen(face)[0]
    control(face, "millivid-attention-frame").value = 1
    text, image = screen(face)
    assert text == "Frame 18 looks most at frame 12 (50%); 50% goes to context frames with the same view."
    blue, orange = ((image == colour).all(-1).any(0) for colour in ((58, 150, 232), (240, 140, 26)))
    assert blue[4 + 2 * 8 + 4] and orange[4 + 8 * 8 + 4]


def test_a_painted_frame_is_chosen_by_a_click():
    numbers, painted = np.arange(40), np.arange(5, 40)
    face = widgets.attention_widget(np.full((35, 40), .025), numbers, painted, noise_images(40, 8, 8),
                                    np.zeros((35, 40), dtype=bool))
    for frame in (0, 15, 16, 34):
        line, column = divmod(frame, 16)
        for x, y in ((1, 1), (52, 52)):
            point(face, 4 + 53 * column + x, 20 + 53 * line + y)
            text, image = screen(face)
            assert text.startswith(f"Frame {5 + frame} ")
        tile = image[20 + 53 * line:20 + 53 * (line + 1), 4 + 53 * column:4 + 53 * (column + 1)]
        assert (tile[0] == (240, 140, 26)).all() and (tile[:, -1] == (240, 140, 26)).all()
    for x, y in ((20, 5), (4 + 53 * 3 + 9, 20 + 53 * 2 + 9), (20, 300)):  # above, behind the last one, below
        point(face, x, y)
        assert screen(face)[0].startswith("Frame 39 ")
    for key, frame in (("ArrowRight", 39), ("ArrowLeft", 38), ("ArrowUp", 22), ("ArrowUp", 6), ("ArrowUp", 6),
                       ("ArrowLeft", 5), ("ArrowLeft", 5), ("ArrowDown", 21), ("ArrowRight", 22)):
        press(face, key)
        assert screen(face)[0].startswith(f"Frame {frame} "), key


# ---- play ------------------------------------------------------------------------------------------------------------

ROOM = make_room(15_000_005)
START, TOUR = random_walk(random.Random(5), 64)


def film(letters):
    return walk(ROOM, START, TOUR + ["flr".index(letter) for letter in letters])


def test_walls_and_other_letters():
    assert widgets.possible_walk(film, "rff")[::2] == ("rff", "")
    letters, episode, text = widgets.possible_walk(film, "R f,x f ff")
    assert letters == "rff" and len(episode) == 134 and text == "A wall stops you after 3 actions. "
    assert widgets.possible_walk(film, "")[0] == ""


def test_the_map_shows_where_one_stands_and_looks():
    episode = film("rff")
    background = widgets.room_map(episode, 260)  # 200 pixels for the room, 30 around it
    for frame in (0, 50, 127, 133):
        x, y, heading = episode.poses[frame] / 2
        image = widgets.draw_walk(background, episode, 128, frame)
        column, line = 30 + (x + .5) * 200 / 3, 260 - 30 - (y + .5) * 200 / 3
        assert (image[round(line), round(column)] == widgets._INK).all()
        ahead = np.array([np.cos(heading * np.pi / 2), -np.sin(heading * np.pi / 2)]) * 20
        assert (image[round(line + ahead[1]), round(column + ahead[0])] == (200, 60, 120)).all()
        assert (image[round(line - ahead[1]), round(column - ahead[0])] != (200, 60, 120)).any()


def test_buttons_lay_out_a_walk_and_generate_it_once():
    calls = []

    def model(episode):
        calls.append(len(episode))
        return episode.frames // 2

    face = widgets.play_widget(film, {"Half": model, "Truth": lambda episode: episode.frames}, 128)
    text, first = screen(face)
    assert text == "0 new frames. Press generate."
    for name in ("right", "forward", "forward", "forward", "left", "undo"):
        control(face, f"millivid-play-{name}").click()
    word, frame = control(face, "millivid-play-walk"), control(face, "millivid-play-frame")
    assert word.value == "rff" and "6 new frames. Press generate." in screen(face)[0]
    here = widgets.draw_play(widgets.room_map(film("")), film("rff"), 128, {}, 6)[0]
    np.testing.assert_array_equal(screen(face)[1], here)  # the map shows where the walk has come to
    control(face, "millivid-play-generate").click()
    assert calls == [134] and (frame.value, frame.max) == (1, 6)
    assert "Generated frame 1 of 6: Half" in screen(face)[0] and "Truth 99.0 dB" in screen(face)[0]
    frame.value = 6
    assert "Generated frame 6 of 6" in screen(face)[0]
    frame.value = 1
    word.value = "r"
    assert "2 new frames. Press generate." in screen(face)[0]
    word.value = "rff"  # it was made already
    assert "Generated frame 1 of 6" in screen(face)[0] and calls == [134]
    word.value = "rffff"
    assert screen(face)[0].startswith("A wall stops you after 3 actions.")
    word.value = "L, f f"  # the first step would be through a wall
    control(face, "millivid-play-generate").click()
    assert "after 1 action. Generated frame 1 of 2" in screen(face)[0] and calls == [134, 130]


def test_keys_lay_out_a_walk_and_generate_it_once():
    calls = []

    def model(episode):
        calls.append(len(episode))
        return episode.frames

    face = widgets.play_widget(film, {"Model": model}, 128)
    press(face, "ArrowRight", "ArrowUp", "ArrowUp", "ArrowLeft", "Backspace", "Backspace")
    assert control(face, "millivid-play-walk").value == "rf" and "4 new frames. Press generate." in screen(face)[0]
    press(face, "Enter", "Enter")
    assert "Generated frame 1 of 4" in screen(face)[0] and calls == [132]
    press(face, *["Backspace"] * 5, "Enter")
    assert control(face, "millivid-play-walk").value == "" and calls == [132]


@pytest.fixture(scope="module")
def players():
    models = {name: Pipeline.from_pretrained(f"mini-{name}") for name in ("millivid", "framepack")}
    context = encode_frames(models["millivid"].tokenizer, film("").frames)[None]

    def play(pipeline):
        def make(episode):
            made = pipeline.generate(context, action_rows(episode.actions)[None], 128, len(episode), seeds=[0],
                                     progress=False)
            return np.concatenate([film("").frames, decode_latents(pipeline.tokenizer, made[0, 128:])])
        return make

    return {name: play(pipeline) for name, pipeline in models.items()}


def test_a_changed_action_changes_the_frames_after_it_not_before(players):
    "Up to rounding for all frames of earlier chunks; within its chunk MilliVid's plan changes a little before it."
    walks = ["rffrffllll" + "l" * 10, "rffrffllll" + "l" * 7 + "r" + "l" * 2]  # action 18 of 20: frames 35 and 36
    (one, speed), (two, _) = (widgets.generate_walk(players, film(each), 128) for each in walks)
    assert speed > 0
    differences = {name: abs(one[name] / 1. - two[name])[128:].mean((1, 2, 3)) for name in players}
    for name, difference in differences.items():
        assert len(difference) == 40 and difference[34:].max() > 20, name
        assert difference[:32].max() < .01, name
        assert difference[32:34].max() < 6, name
    assert differences["framepack"][:34].max() < .01
