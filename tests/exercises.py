"""The exercises of a lesson, read from its notebook: what the tests and the copies for students need."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

NBS = Path(__file__).resolve().parents[1] / "nbs"
LESSONS = sorted(path.stem for path in NBS.glob("[01]*.ipynb") if path.stem[:2] not in ("00",))


@dataclass
class Exercise:
    lesson: str
    title: str
    text: str  # the task
    start: str  # the starting cell: a signature, `...`, and the call of the check
    solution: str  # code that takes the place of what is before the call of the check
    call: str  # the last line of the starting cell

    @property
    def check(self) -> str:
        "The name of its check."
        return re.match(r"\w+", self.call)[0]


def exercises(lesson: str) -> tuple[str, list[Exercise]]:
    "What the exercises import, and the exercises in their order."
    cells = json.loads((NBS / f"{lesson}.ipynb").read_text(encoding="utf-8"))["cells"]
    texts = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    imports = next((text for kind, text in texts if kind == "code" and text.startswith("# for the exercises")), "")
    found = []
    for number, (kind, text) in enumerate(texts):
        if kind == "markdown" and (title := re.match(r"### Exercise \d+: (.*)", text)):
            start = next(text for kind, text in texts[number:] if kind == "code")
            fold = next(text for kind, text in texts[number:] if kind == "markdown" and "<summary>Solution" in text)
            solution = re.search(r"```python\n(.*?)```", fold, re.S)[1]
            found.append(Exercise(lesson, title[1], text, start, solution, start.strip().splitlines()[-1]))
    return imports, found
