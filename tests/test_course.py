"""Copies of the notebooks: a student's hold no answers and work, and nobody's work is overwritten."""

import json
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
