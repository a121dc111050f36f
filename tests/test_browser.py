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
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if not CHROMIUM:
    pytest.skip("no Chromium here: on Debian and Ubuntu, apt-get install chromium", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
expect = sync_api.expect
FOLDERS = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR",
           "JUPYTERLAB_WORKSPACES_DIR")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    "A JupyterLab of its own, with copies of the notebooks: autosave writes into what it opens."
    home = tmp_path_factory.mktemp("lab")
    for name in ("14_play", "02_pyramid", "06_schedule"):
        shutil.copy(ROOT / "nbs" / f"{name}.ipynb", home)
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
        yield f"http://127.0.0.1:{port}", settings
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def browser():
    options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=options)


def opened(browser, lab, name, theme="JupyterLab Light"):
    "A page with a notebook, all of whose cells have run."
    address, settings = lab
    (settings / "themes.jupyterlab-settings").write_text(json.dumps({"theme": theme}))
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(60_000)
    page.goto(f"{address}/lab/tree/{name}.ipynb?reset")
    idle = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook-ExecutionIndicator[data-status=idle]")
    idle.wait_for()
    for _ in range(3):  # "Run All" is lost now and then
        time.sleep(1.5)
        page.locator('.lm-MenuBar-itemLabel:text-is("Run")').click()
        page.locator(':text-is("Run All Cells")').first.click()
        try:
            page.wait_for_function(
                "() => { const prompts = [...document.querySelectorAll('.jp-InputPrompt')]"
                ".map(each => each.textContent.trim()).filter(text => text.startsWith('['));"
                "return prompts.length && /\\d/.test(prompts[prompts.length - 1]) }", timeout=120_000)
            break
        except sync_api.TimeoutError:
            pass
    idle.wait_for(timeout=120_000)
    time.sleep(1)  # the end of "Run All" scrolls
    return page


def shoot(page, name, of=None):
    SHOTS.mkdir(parents=True, exist_ok=True)
    (of or page).screenshot(path=SHOTS / f"{name}.png")


@pytest.mark.parametrize("name", ["02_pyramid", "06_schedule"])
def test_a_lesson_runs_and_keeps_its_solutions_folded(name, browser, lab):
    page = opened(browser, lab, name)
    assert page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']").count() == 0
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
    page.close()


FACES = {"levels": "level", "noise": "start", "schedule": "step", "windows": "window0", "rollout": "step",
         "attention": "frame"}  # a face, and one of its sliders


@pytest.fixture(scope="module")
def play(browser, lab):
    page = opened(browser, lab, "14_play")
    yield page
    page.close()


def text(page, name):
    return page.locator(f".millivid-{name}-screen p").first


def picture(page, name):
    "What the picture of a face holds; None where there is only a text, such as which rule is broken."
    images = page.locator(f".millivid-{name}-screen img")
    return images.first.get_attribute("src") if images.count() else None


def near(page, name):
    page.locator(name).first.scroll_into_view_if_needed()
    time.sleep(1)


@pytest.mark.parametrize("name", FACES)
def test_a_widget_answers_to_the_keyboard(name, play):
    slider = f".millivid-{name}-{FACES[name]}"
    near(play, slider)
    before, said = picture(play, name), text(play, name).text_content()
    handle = play.locator(f"{slider} .noUi-handle")
    handle.focus()
    handle.press("ArrowLeft" if name == "noise" else "ArrowRight")
    expect(text(play, name)).not_to_have_text(said)
    assert picture(play, name) != before
    shoot(play, f"14_play_{name}")


@pytest.mark.parametrize("name", FACES)
def test_a_widget_answers_to_the_mouse(name, play):
    slider = f".millivid-{name}-{FACES[name]}"
    near(play, slider)
    said = text(play, name).text_content()
    place = play.locator(f"{slider} .noUi-target").bounding_box()
    play.locator(f"{slider} .noUi-handle").hover()
    play.mouse.down()
    middle, now = place["y"] + place["height"] / 2, play.locator(f"{slider} .noUi-handle").bounding_box()["x"]
    end = place["x"] + place["width"] * (.1 if now > place["x"] + place["width"] / 2 else .9)
    for part in range(1, 11):
        play.mouse.move(now + (end - now) * part / 10, middle)
    play.mouse.up()
    expect(text(play, name)).not_to_have_text(said)


def test_a_walk_is_laid_out_and_generated(play):
    near(play, ".millivid-play-screen")
    said = text(play, "play").text_content()
    play.locator(".millivid-play-right").focus()
    play.keyboard.press("Space")
    expect(text(play, "play")).not_to_have_text(said)
    play.locator(".millivid-play-generate").click()
    expect(text(play, "play")).to_contain_text("Generated frame 1 of")
    before = picture(play, "play")
    handle = play.locator(".millivid-play-frame .noUi-handle")
    handle.focus()
    for _ in range(5):
        handle.press("ArrowRight")
    expect(text(play, "play")).to_contain_text("Generated frame 6 of")
    assert picture(play, "play") != before
    shoot(play, "14_play_play")


def test_the_dark_theme(browser, lab):
    page = opened(browser, lab, "14_play", "JupyterLab Dark")
    near(page, ".millivid-play-screen")
    assert page.locator("body").get_attribute("data-jp-theme-light") == "false"
    shoot(page, "14_play_dark")
    page.close()
