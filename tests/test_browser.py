"""JupyterLab in a real browser: lessons run, solutions are folded, and every widget answers to mouse and keyboard.

`make browser` runs it; it needs Debian's chromium and playwright. Screenshots go to out/browser.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHOTS = ROOT / "out" / "browser"
sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
expect = sync_api.expect
FOLDERS = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR",
           "JUPYTERLAB_WORKSPACES_DIR")
# to save time, 05 and 14 run as far as their last widget; 06 runs to its end (`make test` runs all of all lessons)
LESSONS = {"05_diffusion": "ring_widget(", "06_schedule": "", "14_play": "play_widget("}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    "A JupyterLab of its own, with copies of the notebooks: autosave writes into what it opens."
    home = tmp_path_factory.mktemp("lab")
    for name, last in LESSONS.items():
        notebook = json.loads((ROOT / "nbs" / f"{name}.ipynb").read_text())
        end = max(number for number, cell in enumerate(notebook["cells"]) if last in "".join(cell["source"]))
        notebook["cells"] = [cell for number, cell in enumerate(notebook["cells"])
                             if number <= end or cell["cell_type"] != "code"]
        (home / f"{name}.ipynb").write_text(json.dumps(notebook))
    shutil.copytree(ROOT / "nbs" / "results", home / "results")
    settings = home / "JUPYTERLAB_SETTINGS_DIR" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False}  # a box in the corner hides what lies below it
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
    (home / "JUPYTER_RUNTIME_DIR").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
               "--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={home}"]
    env = os.environ | {"HOME": str(home)} | {name: str(home / name) for name in FOLDERS}
    server = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api")
                break
            except OSError:
                time.sleep(.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


ERROR = ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']"
PROMPTS = """() => [...document.querySelectorAll(".jp-InputPrompt")].map(each => each.textContent.trim())
             .filter(each => each.startsWith("["))"""  # of the cells with code: [ ] new, [*] waits or runs, [7] has run


def opened(browser, address, name):
    "A page with a notebook, all of whose cells have run."
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(60_000)
    page.goto(f"{address}/lab/tree/{name}.ipynb?reset")
    idle = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook-ExecutionIndicator[data-status=idle]")
    idle.wait_for()
    page.locator(".jp-InputPrompt").last.wait_for()  # the kernel may be idle before there is a cell
    quiet_since, end = 0, time.time() + 240
    while not any(map(str.isdigit, (prompts := page.evaluate(PROMPTS) or [""])[-1])):
        errors = page.locator(ERROR).all_text_contents()
        assert not errors and time.time() < end, f"{name} does not run to its end: {prompts} {errors}"
        if any("*" in prompt for prompt in prompts):
            quiet_since = time.time()
        elif time.time() > quiet_since + 10:  # nothing runs: "Run All" was lost, or is to be clicked now
            time.sleep(1.5)
            page.locator('.lm-MenuBar-itemLabel:text-is("Run")').click()
            page.locator(':text-is("Run All Cells")').first.click()
            quiet_since = time.time()
        time.sleep(.5)
    idle.wait_for(timeout=120_000)
    time.sleep(1)  # the end of "Run All" scrolls
    return page


def shoot(page, name, of=None):
    SHOTS.mkdir(parents=True, exist_ok=True)
    (of or page).screenshot(path=SHOTS / f"{name}.png")


@pytest.fixture(scope="module")
def lesson(browser, lab):
    "A function that gives the page of a lesson, which runs when it is first asked for."
    pages = {}

    def give(name):
        if name not in pages:
            pages[name] = opened(browser, lab, name)
        return pages[name]

    yield give
    for page in pages.values():
        page.close()


@pytest.mark.parametrize("name", ["05_diffusion", "06_schedule"])
def test_a_lesson_runs_and_keeps_its_solutions_folded(name, lesson):
    page = lesson(name)
    assert page.locator(ERROR).count() == 0
    pictures = page.locator(".jp-OutputArea img")
    assert pictures.count() > 3
    assert all(pictures.nth(i).get_attribute("alt") for i in range(pictures.count()))
    fold = page.locator("details", has=page.locator("summary:text-is('Solution')")).first
    assert not fold.evaluate("each => each.open")
    fold.scroll_into_view_if_needed()
    time.sleep(1)
    fold.locator("summary").click()
    assert fold.evaluate("each => each.open")
    shoot(page, f"{name}_solution")


# ---- sliders ---------------------------------------------------------------------------------------------------------

SLIDERS = [("05_diffusion", "ring", "start"), ("06_schedule", "schedule", "step"), ("06_schedule", "windows", "extra"),
           ("14_play", "levels", "level"), ("14_play", "noise", "start"), ("14_play", "schedule", "step"),
           ("14_play", "windows", "window0"), ("14_play", "rollout", "step"), ("14_play", "attention", "frame")]


def text(page, name):
    return page.locator(f".millivid-{name}-screen p").first


def picture(page, name):
    "What the picture of a face holds; None where there is only a text, such as which rule is broken."
    images = page.locator(f".millivid-{name}-screen img")
    return images.first.get_attribute("src") if images.count() else None


def near(page, name):
    page.locator(name).first.scroll_into_view_if_needed()
    time.sleep(1)


@pytest.mark.parametrize("where, name, control", SLIDERS)
def test_a_widget_answers_to_the_keyboard(where, name, control, lesson):
    page, slider = lesson(where), f".millivid-{name}-{control}"
    near(page, slider)
    before, said = picture(page, name), text(page, name).text_content()
    handle = page.locator(f"{slider} .noUi-handle")
    handle.focus()
    handle.press("ArrowLeft" if control == "start" else "ArrowRight")
    expect(text(page, name)).not_to_have_text(said)
    assert picture(page, name) != before
    shoot(page, f"{where}_{name}")


@pytest.mark.parametrize("where, name, control", SLIDERS)
def test_a_widget_answers_to_the_mouse(where, name, control, lesson):
    page, slider = lesson(where), f".millivid-{name}-{control}"
    near(page, slider)
    said = text(page, name).text_content()
    place = page.locator(f"{slider} .noUi-target").bounding_box()
    page.locator(f"{slider} .noUi-handle").hover()
    page.mouse.down()
    middle, now = place["y"] + place["height"] / 2, page.locator(f"{slider} .noUi-handle").bounding_box()["x"]
    end = place["x"] + place["width"] * (.1 if now > place["x"] + place["width"] / 2 else .9)
    for part in range(1, 11):
        page.mouse.move(now + (end - now) * part / 10, middle)
    page.mouse.up()
    expect(text(page, name)).not_to_have_text(said)


# ---- pictures that take clicks and keys ------------------------------------------------------------------------------


def on_picture(page, name, x, y):
    "Where a place on the picture of a face is on the page."
    box = page.locator(f".millivid-{name}-screen img").bounding_box()
    return box["x"] + x, box["y"] + y


def test_a_frame_is_chosen_by_a_click_and_by_keys(lesson):
    page = lesson("14_play")
    near(page, ".millivid-attention-screen")
    page.mouse.click(*on_picture(page, "attention", 4 + 53 * 2 + 20, 20 + 53 + 20))  # third frame of the second row
    expect(text(page, "attention")).to_contain_text("Frame 146 looks most at")
    page.keyboard.press("ArrowRight")
    expect(text(page, "attention")).to_contain_text("Frame 147 looks most at")
    page.keyboard.press("ArrowUp")
    expect(text(page, "attention")).to_contain_text("Frame 131 looks most at")
    shoot(page, "14_play_attention_click")


def test_arrow_keys_walk_and_enter_generates(lesson):
    page = lesson("14_play")
    screen, word = page.locator(".millivid-play-screen"), page.locator(".millivid-play-walk input")
    near(page, ".millivid-play-screen")
    walk = word.input_value()
    screen.focus()
    assert screen.evaluate("each => getComputedStyle(each).outlineStyle") == "solid"  # one sees where the focus is
    for key, letter in (("ArrowRight", "r"), ("ArrowUp", "f"), ("ArrowLeft", "l"), ("ArrowLeft", "l")):
        page.keyboard.press(key)
        walk += letter
        expect(word).to_have_value(walk)
    page.keyboard.press("Backspace")
    expect(word).to_have_value(walk[:-1])
    expect(text(page, "play")).to_contain_text("26 new frames. Press generate.")
    page.keyboard.press("Enter")
    expect(text(page, "play")).to_contain_text("Generated frame 1 of 26")
    shoot(page, "14_play_keys")
    page.keyboard.press("Tab")  # leads on, and elsewhere the keys are not the picture's
    assert screen.evaluate("each => getComputedStyle(each).outlineStyle") == "none"
    page.keyboard.press("Backspace")
    time.sleep(.5)
    assert word.input_value() == walk[:-1]


def test_a_walk_is_laid_out_with_buttons(lesson):
    page = lesson("14_play")
    near(page, ".millivid-play-screen")
    said = text(page, "play").text_content()
    page.locator(".millivid-play-right").focus()
    page.keyboard.press("Space")
    expect(text(page, "play")).not_to_have_text(said)
    page.locator(".millivid-play-generate").click()
    expect(text(page, "play")).to_contain_text("Generated frame 1 of")
    before = picture(page, "play")
    handle = page.locator(".millivid-play-frame .noUi-handle")
    handle.focus()
    for _ in range(5):
        handle.press("ArrowRight")
    expect(text(page, "play")).to_contain_text("Generated frame 6 of")
    assert picture(page, "play") != before
    shoot(page, "14_play_play")


def test_a_schedule_is_drawn_with_mouse_and_keys(lesson):
    page = lesson("06_schedule")
    drawing, cells = page.locator(".millivid-drawing-text textarea"), page.locator(".jp-Cell").count()
    near(page, ".millivid-drawing-screen")
    left, top = on_picture(page, "drawing", 122, 20)  # of the grid; a cell has 30 by 26 pixels

    def middle(frame, line):
        return left + 30 * frame + 15, top + 26 * line + 13

    def steps(*changed):
        return "\n\n".join([*changed, "....cc\n..ccd.", ".....c\n...ccd"][:3])

    expect(drawing).to_have_value(steps("ccccdd\n..cc.."))
    expect(text(page, "drawing")).to_contain_text("The plan: 3 steps for 2 frames")
    page.mouse.click(*middle(0, 1))  # unseen becomes context
    expect(drawing).to_have_value(steps("ccccdd\nc.cc.."))
    page.mouse.click(*middle(4, 0))  # denoised becomes unseen: the next step needs it
    expect(drawing).to_have_value(steps("cccc.d\nc.cc.."))
    expect(text(page, "drawing")).to_contain_text("No plan: step 1 of the drawing looks at level 1 of frame 4")
    shoot(page, "06_schedule_drawing")
    page.mouse.move(*middle(1, 1))  # context, painted over three cells
    page.mouse.down()
    for part in range(1, 6):
        page.mouse.move(*middle(1 + part * .4, 1))
    page.mouse.up()
    expect(drawing).to_have_value(steps("cccc.d\ncccc.."))
    page.mouse.click(*middle(0, 1))
    expect(drawing).to_have_value(steps("cccc.d\ndccc.."))
    page.keyboard.press(".")  # writes, and goes on to the right
    page.keyboard.press(".")
    page.keyboard.press("ArrowUp")
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("d")
    page.keyboard.press("d")
    page.keyboard.press("x")  # in JupyterLab d d deletes the cell, and x cuts it out
    expect(drawing).to_have_value(steps("ccccdd\n..cc.."))
    expect(text(page, "drawing")).to_contain_text("The plan: 3 steps for 2 frames")
    assert page.locator(".jp-Cell").count() == cells
    page.keyboard.press("PageDown")
    expect(text(page, "drawing")).to_contain_text("Step 1 (of 3)")
    page.locator(".millivid-drawing-insert").click()
    expect(text(page, "drawing")).to_contain_text("steps [2] of the drawing denoise nothing")
    drawing.fill("dd\n..\n\nc.\nd")
    expect(text(page, "drawing")).to_contain_text("make all lines equally long")


# ---- the dark theme, last --------------------------------------------------------------------------------------------


def test_the_dark_theme(lesson):
    page = lesson("14_play")
    page.locator('.lm-MenuBar-itemLabel:text-is("Settings")').click()
    page.locator('.lm-Menu-itemLabel:text-is("Theme")').hover()
    page.locator('.lm-Menu-itemLabel:text-is("JupyterLab Dark")').click()
    page.wait_for_function("() => document.body.dataset.jpThemeLight == 'false'")
    for name in ("play", "drawing", "attention"):
        near(page, f".millivid-{name}-screen")
        shoot(page, f"14_play_{name}_dark")
