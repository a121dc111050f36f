"""Copies of the lessons: for students without solutions, checks and outputs, for teachers with everything.

    python nbs/_course.py student    # into out/student; a copy that the student has changed stays as it is
    python nbs/_course.py teacher    # into out/teacher
"""

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path

NBS = Path(__file__).resolve().parent
NOTEBOOKS = sorted(NBS.glob("*.ipynb"))


def without_answers(notebook: dict) -> dict:
    "A notebook without solutions, the checks' own code, and outputs."
    cells, checks = [], False
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            if checks or "#| export checks" in text:
                continue
            cell = {**cell, "outputs": [], "execution_count": None}
        else:
            text = re.sub(r"<details>\s*<summary>(Solution|Answers).*?</details>", "", text, flags=re.S)
            if "## How the answers are checked" in text:
                text, checks = re.sub(r"## How the answers are checked.*", "", text, flags=re.S), True
            elif text.startswith(("## ", "Previous: ")):
                checks = False
            if not text.strip():
                continue
            cell = {**cell, "source": text.strip().splitlines(keepends=True)}
        cells.append(cell)
    return {**notebook, "cells": cells}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write_copies(kind: str, folder: Path) -> list[str]:
    "Write the copies that are missing or as they were made. Returns the names of those that somebody has changed."
    folder.mkdir(parents=True, exist_ok=True)
    known = folder / ".made.json"  # what was written here: name -> digest
    made = json.loads(known.read_text()) if known.exists() else {}
    changed = []
    for path in NOTEBOOKS:
        notebook, target = json.loads(path.read_text(encoding="utf-8")), folder / path.name
        if kind == "student" and re.match("0[1-9]|1|24", path.name):  # a lesson, or the exam questions
            notebook = without_answers(notebook)
        if target.exists() and digest(target.read_text(encoding="utf-8")) != made.get(path.name):
            changed.append(path.name)
            continue
        text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        target.write_text(text, encoding="utf-8")
        made[path.name] = digest(text)
        known.write_text(json.dumps(made, indent=1))
    shutil.copytree(NBS / "results", folder / "results", dirs_exist_ok=True)  # what some lessons read
    return changed


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in ("student", "teacher"):
        sys.exit("usage: python nbs/_course.py student|teacher [FOLDER]")
    kind = sys.argv[1]
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else NBS.parent / "out" / kind
    changed = write_copies(kind, folder)
    print(f"{len(NOTEBOOKS) - len(changed)} notebooks are in {folder}")
    if changed:
        print(f"left as they are, since somebody changed them: {', '.join(changed)} (delete a file to get it anew)")


if __name__ == "__main__":
    main()
