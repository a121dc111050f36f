"""The shape of the house: which circle imports which, how long a piece may be, what every lesson has."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import millivid

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "millivid"
CORE = ("pyramid", "layers", "tokenizer", "diffusion", "schedule", "video", "rollout")  # in the order of their lessons
USE = ("pipeline", "data", "training", "evaluation", "release", "recordings")
SHARED = ("basics", "actions")
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.stem not in ("__init__", "__main__", "_modidx")
)
LESSONS = sorted(path.stem for path in (ROOT / "nbs").glob("[0-9]*.ipynb"))


def path_of(module):
    return PACKAGE.joinpath(*module.split(".")).with_suffix(".py")


def imports(module):
    "Everything that a module imports anywhere, also inside functions: absolute names."
    package, found = ["millivid", *module.split(".")[:-1]], set()
    for node in ast.walk(ast.parse(path_of(module).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            found.add(".".join([*base, *filter(None, [node.module])]))
    return found


def own(module):
    "The modules of the package that a module imports."
    return {name.removeprefix("millivid.") for name in imports(module) if name.startswith("millivid.")}


@pytest.mark.parametrize("module", CORE)
def test_the_core_knows_no_world_no_figure_and_no_file(module):
    earlier = {*CORE[: CORE.index(module)], "basics"}
    assert own(module) <= earlier, "a module of the core imports basics and earlier lessons only"
    outside = {name.split(".")[0] for name in imports(module)} - {"millivid"}
    assert outside <= {"torch", "einops", "numpy", "tqdm", "math", "re", "dataclasses", "functools", "huggingface_hub"}


@pytest.mark.parametrize("module", USE)
def test_what_people_use_knows_no_world_and_no_experiment(module):
    allowed = {*CORE, *SHARED, *USE[: USE.index(module)]} | ({"plots"} if module == "data" else set())
    assert own(module) <= allowed


def test_plots_take_plain_objects():
    assert not own("plots")


@pytest.mark.parametrize("module", [module for module in MODULES if module not in ("plots", "widgets")])
def test_only_plots_and_widgets_draw(module):
    assert not {name.split(".")[0] for name in imports(module)} & {"matplotlib", "ipywidgets"}


def test_importing_the_core_loads_neither_figures_nor_worlds():
    "In a process of its own: what is really loaded, whatever the sources say."
    code = (
        "import sys, json; "
        + "; ".join(f"import millivid.{name}" for name in CORE)
        + "; print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout)
    assert not [name for name in loaded if name.split(".")[0] in ("matplotlib", "PIL", "av", "IPython")]
    assert not [name for name in loaded if re.match(r"millivid\.(worlds|experiments|plots|data|training)", name)]


def test_names_are_offered_lazily():
    code = (
        "import sys, millivid; print('torch' in sys.modules); print(millivid.Pipeline.__name__, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "Pipeline", "True"]
    assert len(millivid.__all__) == 8 and {*millivid.__all__} <= {*dir(millivid)}
    with pytest.raises(AttributeError, match="nothing_like_this"):
        millivid.nothing_like_this


# ---- sizes -----------------------------------------------------------------------------------------------------------


def code_lines(path):
    "Numbers of the lines with code: no blank lines, comments, docstrings or __all__."
    text = path.read_text()
    tree, lines = ast.parse(text), set()
    skipped = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
            and isinstance(body[0].value.value, str)
        ):
            skipped |= {*range(body[0].lineno, body[0].end_lineno + 1)}
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            skipped |= {*range(node.lineno, node.end_lineno + 1)}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.strip().startswith("#") and number not in skipped:
            lines.add(number)
    return lines


def test_the_core_fits_on_a_few_pages():
    sizes = {module: len(code_lines(path_of(module))) for module in MODULES}
    assert sum(sizes[module] for module in CORE) <= 1_100, sizes
    taught_with = sum(sizes.pop(module, 0) for module in ("checks", "widgets"))  # of exercises and pictures that move
    # 1,800 before pictures took clicks and keys: hearing them takes 40 lines, drawing a schedule 100; 1,950 before the
    # lesson on videos of one's own, 60; 2,010 before the exercise on what data cost, 20;
    # 4,700 before a row looked its context up by pose, 35 lines, and the table said what each row costs, 25; 4,770
    # before folders of videos became recordings, 245, with three commands, 155, videos were streamed, 80, processes
    # trained together, 80, and three rows took MilliVid and upscaling apart, 20; 5,390 before held-out recordings were
    # evaluated by several processes, 125, the commands for own videos refused what they had ignored or overwritten
    # (other data, unused options, folders that are read, another FramePack video), 115, and checkpoints, results of
    # `reproduce` and arrays were looked at before they are used, 75; 5,710 before `millivid benchmark` had a plain
    # implementation to compare with, 270, the lesson on scaling counted data and trainings, 25, and `train --paper`, 30
    assert sum(sizes.values()) <= 6_060 and taught_with <= 2_030, (sizes, taught_with)


@pytest.mark.parametrize("module", MODULES)
def test_no_piece_is_too_long_to_read(module):
    path = path_of(module)
    code, text = code_lines(path), path.read_text()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            size = len([number for number in code if node.lineno <= number <= node.end_lineno])
            if isinstance(node, ast.FunctionDef):
                size -= len([number for number in code if node.lineno < number < node.body[0].lineno])  # parameters
            assert size <= (40 if isinstance(node, ast.FunctionDef) else 80), f"{node.name} has {size} lines"
    assert not [
        line
        for number, line in enumerate(text.splitlines(), 1)
        if len(line) > 120 and (number in code or line.strip()[:1] not in ("'", "#", "_"))
    ]  # nbdev writes __all__ in long lines
    assert "@patch" not in text


def cells(name, kind):
    notebook = json.loads((ROOT / "nbs" / f"{name}.ipynb").read_text())
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


@pytest.mark.parametrize("name", [*LESSONS, "index"])
def test_code_fits_the_page_of_a_notebook(name):
    long = [line for cell in cells(name, "code") for line in "".join(cell["source"]).splitlines() if len(line) > 120]
    assert not long


# ---- lessons ---------------------------------------------------------------------------------------------------------


def exports(name):
    "The modules that a lesson fills."
    text = "\n".join("".join(cell["source"]) for cell in cells(name, "code"))
    home = re.findall(r"^#\| default_exp (\S+)", text, re.M)
    return {*home, *re.findall(r"^#\| exporti? (\S+)", text, re.M)}


def test_a_lesson_builds_on_earlier_lessons_only():
    "Trained weights aside: every lesson may load the pipelines in the package, and films a room."
    first, free = {}, {"pipeline"}
    for lesson in LESSONS:
        for module in exports(lesson):
            first.setdefault(module, lesson)
    assert {*first} == {*MODULES}
    first["pipeline"] = "08_rollout"  # its owner only keeps the file and its imports
    first["release"] = "15_scaling"  # the formats of its files are reference, so they stand in the first appendix
    for lesson in set(LESSONS) - {"00_pipeline", "00_checks", "00_widgets"}:
        for cell in cells(lesson, "code"):
            source = "".join(cell["source"])
            for module in re.findall(r"^\s*(?:from|import) millivid\.([\w.]+)", source, re.M):
                later = first[module][:2] > lesson[:2] and lesson != "23_cli"  # it has a command of every module
                assert not later or module in free, f"{lesson} imports {module} of {first[module]}"


def test_lessons_are_in_one_line():
    numbers = [int(name[:2]) for name in LESSONS if not name.startswith("00")]
    assert numbers == [*range(1, 17), *range(20, 20 + len(numbers) - 16)]


def test_no_old_number_is_left_in_code_and_documents():
    files = [*PACKAGE.rglob("*.py"), *ROOT.glob("*.md"), *PACKAGE.glob("weights/*/README.md"), ROOT / "_quarto.yml"]
    for file in files:
        assert not re.search(r"\bchapters? \[?\d", file.read_text(), re.I), file


@pytest.mark.parametrize("name", [*LESSONS, "index"])
def test_every_picture_has_a_text_for_those_who_cannot_see_it(name):
    for cell in cells(name, "code"):
        for output in cell["outputs"]:
            data = output.get("data", {})
            assert not {"image/png", "image/gif", "image/jpeg"} & data.keys(), "show it with millivid.plots.show"
            for tag in re.findall(r"<img[^>]*>", "".join(data.get("text/html", ""))):
                assert re.search(r'alt="[^"]{10,}"', tag)
    for cell in cells(name, "markdown"):
        assert "![](" not in "".join(cell["source"])


@pytest.mark.parametrize("name", [*LESSONS, "index"])
def test_no_notebook_holds_the_state_of_widgets(name):
    "GitHub does not draw a notebook that has it, and nbdev_clean keeps it. Remedy: delete `widgets` from its metadata."
    assert "widgets" not in json.loads((ROOT / "nbs" / f"{name}.ipynb").read_text())["metadata"]


@pytest.mark.parametrize("name", LESSONS)
def test_every_notebook_shows_something(name):
    assert any(cell["outputs"] for cell in cells(name, "code")), f"run {name} from top to bottom and save it"


def test_opening_a_notebook_in_jupyterlab_is_no_change(tmp_path):
    "Autosave writes the version of Python and the kernel's display name, in an order of its own."
    from check_notebooks import content

    notebook = json.loads((ROOT / "nbs" / "index.ipynb").read_text())
    notebook["metadata"] |= {"language_info": {"name": "python", "version": "3.11.7"}}
    notebook["metadata"]["kernelspec"]["display_name"] = "Python 3 (ipykernel)"
    opened = tmp_path / "index.ipynb"
    opened.write_text(json.dumps(dict(reversed(notebook.items())), indent=1))
    assert content(opened) == content(ROOT / "nbs" / "index.ipynb")
    notebook["cells"][0]["source"] = "changed"
    opened.write_text(json.dumps(notebook))
    assert content(opened) != content(ROOT / "nbs" / "index.ipynb")
