"""Begin a run of `millivid reproduce` with the tokenizer of the package, so that new rows share its tokens.

    python nbs/_shipped.py runs/more
    millivid reproduce --rows rollout_upscale_long --out runs/more --results out/more
"""

import shutil
import sys
from pathlib import Path

from millivid.basics import require
from millivid.experiments.reproduce import Run
from millivid.pipeline import read_settings, weights_folder
from millivid.tokenizer import TokenizerConfig


def begin(root: Path):
    "Copies the tokenizer of the package into a folder, marked as done. Raises UserError where there is one already."
    folder, shipped = root / "tokenizer", weights_folder("mini-tokenizer")
    require(not folder.exists(), f"{folder} exists: name a new folder")
    read_settings(shipped / "config.json", TokenizerConfig)
    shutil.copytree(shipped, folder)
    Run(root).finish("tokenizer", {"held_out": {}, "steps": Run(root).settings.tokenizer_steps})


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    begin(Path(sys.argv[1]))
