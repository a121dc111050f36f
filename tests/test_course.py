"""Copies of the notebooks: a student's hold no answers and work, and nobody's work is overwritten."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from exercises import LESSONS, exercises
from nbclient import NotebookClient

from millivid.worlds.rooms import RUNNING_EXAMPLE, make_test_episode

ROOT = Path(__file__).resolve().parents[1]
COURSE = runpy.run_path(str(ROOT / "nbs" / "_course.py"))


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course") / "student"
    assert COURSE["write_copies"]("student", folder) == []
    return folder


def cells(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_students_copy_holds_tasks_and_no_answers(lesson, student):
    copy = cells(student / f"{lesson}.ipynb")
    text = "\n".join("".join(cell["source"]) for cell in copy)
    assert "<summary>Solution" not in text and "#| export checks" not in text and "import check, compare" not in text
    assert not any(cell.get("outputs") for cell in copy)
    for exercise in exercises(lesson)[1]:
        assert exercise.start in text and exercise.text in text


def test_a_students_copy_holds_no_answers_to_the_exam(student):
    text = str(cells(student / "24_teaching.ipynb"))
    assert "exam questions" in text and "<summary>Answers" not in text
    assert "<summary>Answers" in str(cells(ROOT / "nbs" / "24_teaching.ipynb"))


def test_a_students_copy_runs_where_it_lies(student):
    notebook = nbformat.read(student / "02_pyramid.ipynb", 4)
    place = {"metadata": {"path": str(student)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=place).execute()
    said = [output["text"] for cell in notebook.cells for output in cell.get("outputs", []) if "text" in output]
    assert sum(text.startswith("not yet: there is no answer yet") for text in said) == len(exercises("02_pyramid")[1])


def test_what_a_student_has_changed_stays(student, tmp_path):
    folder = tmp_path / "student"
    shutil.copytree(student, folder)
    mine, text = folder / "01_world.ipynb", (folder / "01_world.ipynb").read_text(encoding="utf-8")
    mine.write_text(text.replace("...", "pass", 1), encoding="utf-8")
    (folder / "02_pyramid.ipynb").unlink()
    assert COURSE["write_copies"]("student", folder) == ["01_world.ipynb"]
    assert mine.read_text(encoding="utf-8") != text and (folder / "02_pyramid.ipynb").exists()


def test_a_teachers_copy_is_complete(tmp_path):
    command = [sys.executable, ROOT / "nbs" / "_course.py", "teacher", tmp_path / "teacher"]
    assert "notebooks are in" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert cells(tmp_path / "teacher" / "02_pyramid.ipynb") == cells(ROOT / "nbs" / "02_pyramid.ipynb")
    wrong = subprocess.run(command[:2], capture_output=True, text=True)
    assert wrong.returncode and "student|teacher" in wrong.stderr


def test_the_running_example_is_what_the_search_finds():
    search = runpy.run_path(str(ROOT / "nbs" / "_example.py"))
    assert search["key_frame"](make_test_episode(RUNNING_EXAMPLE)) == (133, 0, 95, [69])
    assert [number for number in range(325, 335) if search["key_frame"](make_test_episode(number))] == [RUNNING_EXAMPLE]


# ---- the time that a lesson takes, and its head and foot -------------------------------------------------------------


@pytest.fixture(scope="module")
def page():
    "The functions by which the teacher's page counts."
    here, names = os.getcwd(), {}
    os.chdir(ROOT / "nbs")
    try:
        for cell in cells(ROOT / "nbs" / "24_teaching.ipynb"):
            if cell["cell_type"] == "code" and "core_minutes" not in names:
                exec("".join(cell["source"]), names)
    finally:
        os.chdir(here)
    return names


def plain(lesson):
    "The text of a lesson without line breaks."
    found = cells(ROOT / "nbs" / f"{lesson}.ipynb")
    texts = ["".join(cell["source"]) for cell in found if cell["cell_type"] == "markdown"]
    return re.sub(r"\s+", " ", "\n".join(texts))


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_head_of_a_lesson_says_how_long_it_takes(lesson, page):
    counted, exercise_minutes = page["reading"](lesson), page["exercise_minutes"](lesson)
    time = re.search(r"\*\*Time\*\*: about (\d+) minutes to read(?: \((\d+) more for the optional parts?\))?.*? (\d+) "
                     r"to do the exercises\. \*\*Core path\*\*: .*? \*\*Afterwards you can\*\*", plain(lesson))
    read, more, do = (int(minutes or 0) for minutes in time.groups())
    assert abs(read - counted["core"]) <= .2 * counted["core"], counted
    assert abs(more - counted["optional"]) <= max(3, .2 * counted["optional"]), counted
    assert do == sum(exercise_minutes)
    assert counted["core"] <= 60


def test_the_core_path_takes_about_eight_hours(page):
    lessons = [lesson for lesson in LESSONS if page["core_exercises"](lesson) is not None]
    assert {lesson[:2] for lesson in lessons} >= {"01", "02", "03", "04", "05", "06", "07", "08", "11", "12"}
    assert 7.5 <= sum(sum(page["core_minutes"](lesson)) for lesson in lessons) / 60 <= 8.75


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_foot_of_a_lesson_is_complete(lesson):
    text = plain(lesson)
    assert "**You need**" in text and text.count("## What to remember") == 1
    discussion = re.search(r"### For a discussion (.*?) ## How the answers", text)[1]
    assert re.findall(r"(?:^| )(\d)\. (?=[A-Z\"`])", discussion) == [*"12345"] and discussion.count("?") >= 5
    place = LESSONS.index(lesson)
    before, after = ["index", *LESSONS][place], [*LESSONS, "20_release"][place + 1]
    assert f"({before}.ipynb) · Next: " in text and f"({after}.ipynb)" in text[text.rindex("Next: "):]
