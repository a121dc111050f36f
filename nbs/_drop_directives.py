"""Take nbdev's directives out of the notebook on stdin, for a plain `quarto render`.

Quarto reads each leading `#|` line as YAML: it keeps `#| eval: false` and stumbles over `#| export`.
"""

import json
import re
import sys

notebook = json.load(sys.stdin)
cells = []
for cell in notebook["cells"]:
    if cell["cell_type"] == "code":
        lines = "".join(cell["source"]).splitlines(keepends=True)
        start = next((i for i, line in enumerate(lines) if not re.match(r"\s*(#\s*\||$)", line)), len(lines))
        options = [line for line in lines[:start] if re.match(r"\s*#\s*\|\s*[\w-]+\s*:\s*\S", line)]
        names = {word for line in lines[:start] for word in re.findall(r"#\s*\|\s*(\w+)", line)}
        cell["source"] = options + lines[start:]
        if names & {"hide", "default_exp"} or start == len(lines):
            continue
    cells.append(cell)
json.dump({**notebook, "cells": cells}, sys.stdout)
