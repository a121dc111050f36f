"""Begin a run of `millivid reproduce` with what the package ships: its tokenizer, and its models as trained rows.

    python nbs/_shipped.py runs/more
    millivid reproduce --rows millivid_long rollout_upscale_long --out runs/more --results out/more

The models of the package are not trained again; new rows get their tokens, and stand beside them episode by episode.
"""

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

from millivid.basics import require
from millivid.experiments.reproduce import MINI_VIDEO_TRAINING, Run
from millivid.pipeline import MINI_MODELS, Pipeline, weights_folder
from millivid.training import Optimizers, save_checkpoint


def begin(root: Path):
    "Copies the weights of the package into a new folder, as finished work. Raises UserError where there is some."
    run, tokenizer = Run(root), root / "tokenizer"
    require(not tokenizer.exists(), f"{tokenizer} exists: name a new folder")
    shutil.copytree(weights_folder("mini-tokenizer"), tokenizer)
    held_out = json.loads((tokenizer / "history.json").read_text())["held_out"][-1]
    run.finish("tokenizer", {"held_out": held_out, "steps": run.settings.tokenizer_steps})
    training = replace(MINI_VIDEO_TRAINING, steps=run.settings.long_steps)
    for method in MINI_MODELS:
        name = f"mini-{method.replace('_', '-')}"
        model, folder = Pipeline.from_pretrained(name).model, root / f"{method}_long"
        history = json.loads((weights_folder(name) / "history.json").read_text())
        folder.mkdir()
        save_checkpoint(folder, model, Optimizers(model, training), history, training.steps)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="a new folder")
    begin(parser.parse_args().root)
