"""The front page: index.ipynb is its source. This puts the links to Colab and Binder into it, and writes README.md.

    python nbs/_front.py    # after a change of index.ipynb, or of user, repo or branch in settings.ini
"""

import json
import re
from configparser import ConfigParser
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[1]
INDEX, README = ROOT / "nbs" / "index.ipynb", ROOT / "README.md"


def links(notebook: str, settings) -> str:
    "Where a notebook can be run without installing anything, as Markdown."
    project, path = f"{settings['user']}/{settings['repo']}/", f"nbs/{notebook}"
    colab = f"https://colab.research.google.com/github/{project}blob/{settings['branch']}/{path}"
    binder = f"https://mybinder.org/v2/gh/{project}{settings['branch']}?labpath={quote(path, safe='')}"
    return f"[Colab]({colab}) · [Binder]({binder})"


def with_addresses(text: str, settings) -> str:
    "The text of a cell with the addresses of this project: in the last column of a lesson's row, and to clone it."
    row = r"^(\| \[[^\]]+\]\((\w+\.ipynb)\) \|.*\|)[^|]*\|$"
    text = re.sub(row, lambda found: f"{found[1]} {links(found[2], settings)} |", text, flags=re.M)
    return re.sub(r"(?<=git clone )\S+", settings["git_url"], text)


def index_with_addresses() -> str:
    "What index.ipynb should be: the file as nbdev writes it."
    settings = ConfigParser()
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    notebook = json.loads(INDEX.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            text = with_addresses("".join(cell["source"]), settings["DEFAULT"])
            cell["source"] = text.splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def readme(index: str) -> str:
    "The text and the tables of index.ipynb, without its code, with links as they are seen from the top folder."
    parts = ["<!-- Written by nbs/_front.py from nbs/index.ipynb: change that, not this. -->"]
    for cell in json.loads(index)["cells"]:
        if cell["cell_type"] == "markdown":
            parts.append("".join(cell["source"]))
        else:
            parts += ["".join(output["data"]["text/markdown"]) for output in cell["outputs"]]
    return re.sub(r"\]\((?!https?:|#)", "](nbs/", "\n\n".join(parts)) + "\n"


def main():
    index = index_with_addresses()
    INDEX.write_text(index, encoding="utf-8")
    README.write_text(readme(index), encoding="utf-8")


if __name__ == "__main__":
    main()
