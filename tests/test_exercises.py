"""Every check says "passed" of its solution, and of nothing else that we could think of."""

import contextlib
import io
import re
import runpy
from pathlib import Path

import pytest
from exercises import LESSONS, exercises

ALL = [exercise for lesson in LESSONS for exercise in exercises(lesson)[1]]
WRONG = {}  # name of a check -> wrong answers, as code
for file in sorted((Path(__file__).parent / "wrong_answers").glob("*.py")):
    WRONG |= runpy.run_path(str(file))["WRONG"]


def say(exercise, answer):
    "What the check of an exercise says of an answer."
    imports, _ = exercises(exercise.lesson)
    names = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(imports, names)
        exec(answer, names)
        said = eval(exercise.call, names)
    assert printed.getvalue().strip().splitlines()[-1] == said  # the reader sees it
    return said


@pytest.mark.parametrize("exercise", ALL, ids=lambda each: each.check)
def test_a_check_passes_its_solution_and_fails_the_rest(exercise):
    assert say(exercise, exercise.solution) == "passed"
    before = exercise.start[:exercise.start.rindex(exercise.call)]
    assert say(exercise, before).startswith("not yet")
    wrong = WRONG.get(exercise.check, [])
    assert len(wrong) >= 2, f"give two wrong answers for {exercise.check} in tests/wrong_answers/{exercise.lesson}.py"
    for answer in wrong:
        assert say(exercise, answer).startswith("not yet"), answer


@pytest.mark.parametrize("exercise", ALL, ids=lambda each: each.check)
def test_an_exercise_says_how_hard_it_is_how_long_it_takes_and_why(exercise):
    assert re.search(r"\*Difficulty [1-5] of 5, \d+ minutes\. Why: .+\*", exercise.text)
    assert "..." in exercise.start


def test_every_wrong_answer_belongs_to_a_check():
    assert WRONG.keys() <= {exercise.check for exercise in ALL}
