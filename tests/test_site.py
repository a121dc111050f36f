"""The front page and the site: README is made from index.ipynb, addresses from settings.ini, and every page is reached.

Quarto itself is not needed here. What nbdev_docs does before it calls Quarto is done, and what Quarto reads is checked.
"""

import json
import re
import runpy
import shutil
import subprocess
import sys
from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from millivid.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(path.name for path in (ROOT / "nbs").glob("*.ipynb"))
LESSONS = [name for name in NOTEBOOKS if re.match("0[1-9]|1", name)]
FRONT = runpy.run_path(str(ROOT / "nbs" / "_front.py"))
QUARTO = yaml.safe_load((ROOT / "_quarto.yml").read_text())


def settings():
    parser = ConfigParser()
    parser.read(ROOT / "settings.ini")
    return parser["DEFAULT"]


# ---- the front page --------------------------------------------------------------------------------------------------


def test_readme_is_made_from_the_index():
    remedy = "change nbs/index.ipynb, then: python nbs/_front.py"
    index = (ROOT / "nbs" / "index.ipynb").read_text()
    assert json.loads(FRONT["index_with_addresses"]()) == json.loads(index), remedy
    assert FRONT["readme"](index) == (ROOT / "README.md").read_text(), remedy


def test_every_lesson_can_be_run_elsewhere():
    text, site = (ROOT / "README.md").read_text(), settings()
    where = f"{site['user']}/{site['repo']}"
    row = r"^\| \[(.+?)\]\(nbs/(.+?)\) \| .+? \| \[Colab\]\((.+?)\) · \[Binder\]\((.+?)\) \|$"
    rows = re.findall(row, text, re.M)
    assert [name for _, name, *_ in rows] == LESSONS
    for title, name, colab, binder in rows:
        first = json.loads((ROOT / "nbs" / name).read_text())["cells"][0]["source"][0]
        assert first.strip() == f"# {title}"
        assert colab == f"https://colab.research.google.com/github/{where}/blob/{site['branch']}/nbs/{name}"
        assert unquote(binder) == f"https://mybinder.org/v2/gh/{where}/{site['branch']}?labpath=nbs/{name}"
    install = f"`!git clone {site['git_url']} && pip install ./{site['repo']} torchmetrics`"
    assert f"{install} and `%cd {site['repo']}/nbs`" in text


def test_the_commands_of_readme_are_there():
    text, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    targets = {*re.findall(r"^make (\w+)", text, re.M), *re.findall(r"`make (\w+)", text)}
    assert {"demo", "test", "lab", "reproduce"} <= targets <= {*re.findall(r"^(\w+):", makefile, re.M)}
    assert {*re.findall(r"`millivid (\w+)", text)} <= COMMANDS.keys()


def test_another_repository_gets_other_addresses():
    site = dict(user="you", repo="yours", branch="dev", git_url="https://github.com/you/yours")
    text = FRONT["with_addresses"]("| [Layers](03_layers.ipynb) | What? | old |\n`!git clone old && ls`", site)
    assert text.count("you/yours") == 3 and "/dev/nbs/03_layers.ipynb" in text and "old" not in text


def test_there_is_one_address_of_the_project():
    site, website = settings(), QUARTO["website"]
    urls = dict(re.findall(r'^(Repository|Documentation) = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M))
    assert urls["Repository"] == website["repo-url"] == site["git_url"] and website["repo-branch"] == site["branch"]
    assert urls["Documentation"] == website["site-url"] == site["doc_host"] + site["doc_baseurl"]


# ---- links ----------------------------------------------------------------------------------------------------------


def page(path):
    "The text of a document, or that of a notebook: its Markdown, and the Markdown that its code shows."
    if path.suffix != ".ipynb":
        texts = [path.read_text()]
    else:
        texts = []
        for cell in json.loads(path.read_text())["cells"]:
            shown = [output.get("data", {}).get("text/markdown", "") for output in cell.get("outputs", [])]
            texts += [cell["source"]] if cell["cell_type"] == "markdown" else shown
    return "\n\n".join("".join(text) for text in texts)


def broken_links(path):
    "Links of a page to files that are not there, and to places within a page that have no name."
    for target, _, place in (link.partition("#") for link in re.findall(r"\]\(([^)\s]+)", page(path))):
        file = path.parent / target if target else path
        if re.match(r"https?:|attachment:|mailto:", target):
            continue
        if not file.exists():
            yield target
        elif place and f'id="{place}"' not in page(file):
            yield f"{target}#{place} (headings get other names in JupyterLab than on GitHub: set <a id=...></a> there)"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_references_are_links_that_lead_somewhere(name):
    path = ROOT / "nbs" / name
    assert not re.search(r"\bchapters? \d", page(path), re.I), "name the lesson and link to it"
    assert not [*broken_links(path)]


def test_links_of_the_documents_lead_somewhere():
    for file in [*ROOT.glob("*.md"), *ROOT.glob("millivid/weights/*/README.md")]:
        assert not [*broken_links(file)], file


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "there.md").write_text('<a id="here"></a>\n# Here')
    file = tmp_path / "page.md"
    file.write_text("[1](there.md) [2](there.md#here) [3](there.md#nowhere) [4](gone.md) [5](#self) [6](https://a.b#c)")
    assert [link.split()[0] for link in broken_links(file)] == ["there.md#nowhere", "gone.md", "#self"]


# ---- the site --------------------------------------------------------------------------------------------------------


def globs(content):
    "The globs of a sidebar, through its sections."
    for item in content:
        yield from [item["auto"]] if "auto" in item else globs(item["contents"])


def test_the_sidebar_has_every_notebook_once():
    sidebar = globs(QUARTO["website"]["sidebar"]["contents"])
    listed = [[name for name in NOTEBOOKS if fnmatch(name, glob)] for glob in sidebar]
    assert sorted(sum(listed, [])) == NOTEBOOKS and all(listed)
    assert all(any(fnmatch(name, glob) for glob in QUARTO["project"]["render"]) for name in NOTEBOOKS)


def lesson(cell):
    "What a cell says: without nbdev's directives, which Quarto would take for options, and the links that nbdev adds."
    text = re.sub(r"^#\| *\w+( .*)?$", "", "".join(cell["source"]), flags=re.M)
    return re.sub(r"\[(`[^`]+`)\]\(https:[^)]*\)", r"\1", text).strip()


def test_the_pages_are_ready_for_quarto(tmp_path):
    "What nbdev_docs does first: it leaves in _proc what Quarto renders. Nothing of a lesson is lost on the way."
    for name in ("settings.ini", "_quarto.yml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "nbs", tmp_path / "nbs", symlinks=True, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    command = [sys.executable, "-c", "from nbdev.serve import proc_nbs; proc_nbs(n_workers=2)"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    pages = tmp_path / "_proc"
    assert sorted(path.name for path in pages.glob("*.ipynb")) == NOTEBOOKS
    for name in NOTEBOOKS:
        before, after = (json.loads((folder / name).read_text())["cells"] for folder in (ROOT / "nbs", pages))
        shown = [lesson(cell) for cell in before if not "".join(cell["source"]).startswith("#| hide")]
        assert [lesson(cell) for cell in after] == shown, name
        assert not any(re.match(r"#\| *\w+( |$)", line) for cell in after for line in cell["source"]), name
        assert shown[0].startswith("# "), "Quarto takes the title from the first cell"
        assert not [*broken_links(pages / name)], name
