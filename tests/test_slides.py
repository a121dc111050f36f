"""The slides: they fit the lessons as they are now, load nothing from elsewhere, and nothing on them is cut off."""

import functools
import html
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SLIDES = runpy.run_path(str(ROOT / "nbs" / "_slides.py"))
LESSONS = [path.stem for path in SLIDES["LESSONS"]]


@functools.lru_cache
def page(lesson):
    return SLIDES["make_slides"](ROOT / "nbs" / f"{lesson}.ipynb")


def slides(lesson):
    return re.findall(r"<section.*?</section>", page(lesson), re.S)


def text(source):
    return html.unescape(re.sub(r"<[^>]+>", " ", source))


def test_every_lesson_has_slides():
    assert len(LESSONS) == 16 and LESSONS == list(SLIDES["SLIDES"])


@pytest.mark.parametrize("lesson", LESSONS)
def test_slides_are_few_and_none_is_empty(lesson):
    assert 3 <= len(slides(lesson)) <= 15
    for slide in slides(lesson):
        assert len(re.findall("<h[12]>[^<]+</h[12]>", slide)) == 1 and slide.count("<figure") <= 1
        pictures = re.findall("<img[^>]*>", slide)
        assert all(re.search(r' alt="[^"]+"', picture) for picture in pictures)
        body = text(re.sub("<figure.*?</figure>|<h[12]>.*?</h[12]>|<footer>.*?</footer>", "", slide, flags=re.S))
        assert len(body.split()) >= 4, slide[:300]
        assert not re.search(r"(?<!\w)\*\*|\]\(|\$", body), "markup that was not understood"


@pytest.mark.parametrize("lesson", LESSONS)
def test_slides_show_no_answer_and_no_check(lesson):
    shown = " ".join(re.findall("<pre>.*?</pre>", page(lesson), re.S))
    assert "check_" not in shown and not re.search(r"^ +\.\.\.$", shown, re.M) and "<summary>" not in page(lesson)
    assert all(len(block.splitlines()) <= 15 for block in re.findall("<pre>.*?</pre>", shown, re.S))


@pytest.mark.parametrize("lesson", LESSONS)
def test_nothing_is_loaded_and_links_lead_somewhere(lesson):
    assert all(source.startswith("data:image/") for source in re.findall(r'\bsrc="([^"]*)"', page(lesson)))
    assert not re.search(r"<link|<script [^>]|@import|url\(|srcset|<iframe", page(lesson))
    for target in re.findall(r'<a href="([^"]*)"', page(lesson)):
        assert target.startswith("https://") or target.removesuffix(".html") in LESSONS, target


@pytest.mark.parametrize("gone", ["cell", "sentence"])
def test_a_pointer_that_leads_nowhere_is_an_error(gone, tmp_path):
    lesson = json.loads((ROOT / "nbs" / "02_pyramid.ipynb").read_text())
    cell, opening, *_ = SLIDES["SLIDES"]["02_pyramid"][0]
    if gone == "cell":
        lesson["cells"] = [each for each in lesson["cells"] if each["id"] != cell]
    else:
        for each in lesson["cells"]:
            each["source"] = "".join(each["source"]).replace(opening, "Something else").splitlines(keepends=True)
    (tmp_path / "02_pyramid.ipynb").write_text(json.dumps(lesson))
    with pytest.raises(LookupError, match="02_pyramid.ipynb does not fit SLIDES") as error:
        SLIDES["make_slides"](tmp_path / "02_pyramid.ipynb")
    assert (f"no code cell {cell}" if gone == "cell" else f"0 sentences begin with {opening!r}") in str(error.value)


def test_the_command_writes_one_file_for_each_lesson(tmp_path):
    command = [sys.executable, ROOT / "nbs" / "_slides.py", tmp_path / "slides"]
    assert "slides of 16 lessons are in" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert sorted(path.stem for path in (tmp_path / "slides").iterdir()) == LESSONS
    assert (tmp_path / "slides" / "02_pyramid.html").read_text() == page("02_pyramid")


# ---- in Chromium -----------------------------------------------------------------------------------------------------

SIZES = ((1280, 720), (1024, 768))
FAULTS = """() => [...slides].flatMap((slide, i) => {
  go(i + 1); draw()
  const faults = [], foot = slide.querySelector("footer").getBoundingClientRect().top
  if (!slide.offsetHeight) faults.push("is not shown")
  if (slide.scrollHeight > slide.clientHeight) faults.push(`is ${slide.scrollHeight - slide.clientHeight} too high`)
  if (slide.scrollWidth > slide.clientWidth) faults.push(`is ${slide.scrollWidth - slide.clientWidth} too wide`)
  if ([...slide.querySelectorAll(".body *")].some(each => each.getBoundingClientRect().bottom > foot + 1))
    faults.push("reaches into the foot")
  const picture = slide.querySelector("figure img")
  if (picture) {
    const box = picture.getBoundingClientRect(), shape = picture.naturalWidth / picture.naturalHeight
    const height = Math.min(box.height, box.width / shape), width = height * shape  // it is fitted into its box
    if (!(height >= 200 || width >= .9 * box.width)) faults.push(`has a picture only ${height} high`)
    if (box.left < 0 || box.top < 0 || box.right > innerWidth || box.bottom > innerHeight)
      faults.push("cuts its picture off")
  }
  return faults.map(fault => `slide ${i + 1} ${fault}`)
})"""


@pytest.fixture
def opened(browser, tmp_path):
    "Opens the slides of a lesson. Nothing may be asked for over a network."
    tabs, asked = [], []

    def open_lesson(lesson, **more):
        (tmp_path / "slides.html").write_text(page(lesson), encoding="utf-8")
        tabs.append(browser.new_page(viewport={"width": 1280, "height": 720}, **more))
        tabs[-1].on("request", lambda request: asked.append(request.url))
        tabs[-1].goto((tmp_path / "slides.html").as_uri())
        return tabs[-1]

    yield open_lesson
    for tab in tabs:
        tab.close()
    assert all(url.startswith(("file:", "data:")) for url in asked)


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_slide_fits(lesson, opened):
    tab, faults = opened(lesson), {}
    for width, height in SIZES:
        tab.set_viewport_size({"width": width, "height": height})
        faults[width, height] = tab.evaluate(FAULTS)
    assert faults == {size: [] for size in SIZES}


def test_a_slide_that_does_not_fit_is_noticed(opened):
    tab = opened("02_pyramid")
    tab.evaluate("slides[1].querySelector('.words').append('much too long '.repeat(200))")
    tab.evaluate("slides[2].querySelector('.words').append('w'.repeat(200))")
    tab.evaluate("slides[3].querySelector('.words').style.height = '400px'")
    faults = "\n".join(tab.evaluate(FAULTS))
    assert re.search("slide 2 is .* too high", faults) and re.search("slide 3 is .* too wide", faults)
    assert "slide 4 has a picture only" in faults


def test_keys_and_clicks_move(opened):
    tab = opened("01_world")
    last = len(slides("01_world"))

    def number():
        shown = tab.evaluate("[...slides].map((slide, i) => slide.offsetHeight ? i + 1 : 0).filter(Boolean)")
        assert len(shown) == 1
        return shown[0]

    assert number() == 1
    for key, then in (("ArrowRight", 2), ("ArrowDown", 3), ("Space", 4), ("PageDown", 5), ("ArrowLeft", 4),
                      ("ArrowUp", 3), ("PageUp", 2), ("Shift+Space", 1), ("ArrowLeft", 1), ("End", last),
                      ("ArrowRight", last), ("Home", 1)):
        tab.keyboard.press(key)
        tab.wait_for_function("now => slides[now - 1].classList.contains('now')", arg=then)
        assert number() == then, key
    for x, then in ((900, 2), (900, 3), (50, 2)):
        tab.mouse.click(x, 600)
        tab.wait_for_function("now => slides[now - 1].classList.contains('now')", arg=then)
    assert f"2 / {last}" in tab.locator("section.now footer").text_content()


def test_the_theme_follows_the_reader(opened):
    light, dark = (opened("01_world", color_scheme=scheme).evaluate(
        "[getComputedStyle(document.documentElement).backgroundColor, getComputedStyle(slides[0]).color]")
        for scheme in ("light", "dark"))
    assert sum(map(int, re.findall(r"\d+", light[0]))) > 700 > 100 > sum(map(int, re.findall(r"\d+", dark[0])))
    assert sum(map(int, re.findall(r"\d+", light[1]))) < 200 < 600 < sum(map(int, re.findall(r"\d+", dark[1])))


def test_printed_each_slide_is_a_page(opened):
    printed = opened("05_diffusion", color_scheme="dark").pdf(prefer_css_page_size=True, print_background=True)
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == len(slides("05_diffusion"))
