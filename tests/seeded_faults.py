"""Would the tests notice? One-line faults in the core, each put into a copy of the package, and the tests run on it.

    python tests/seeded_faults.py              # all of them, some minutes
    python tests/seeded_faults.py layers video # those of some modules

Set MILLIVID_REFERENCE_VECTORS for the comparison with the release too. The exit status is 1 if a fault survives.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ["test_schedule", "test_diffusion", "test_pyramid", "test_tokenizer", "test_layers_video", "test_rollout",
         "test_release_parity"]  # the last one is skipped without vectors

FAULTS = [  # module, its text (which occurs once), the text with the fault, what is wrong
    ("pyramid", "F.avg_pool2d(pyramid[-1], 2)", "F.max_pool2d(pyramid[-1], 2)", "coarse images are maxima, not means"),
    ("layers", "eps=1e-6)", "eps=1e-5)", "PyTorch's epsilon instead of DiT's"),
    ("layers", 'approximate="tanh"', 'approximate="none"', "exact GELU instead of its tanh form"),
    ("layers", "return rms_norm(q, self.q_norm.weight), rms_norm(k, self.k_norm.weight), v", "return q, k, v",
     "queries and keys are not normalised"),
    ("layers", "torch.cat([angles.cos(), angles.sin()], dim=-1)", "torch.cat([angles.sin(), angles.cos()], dim=-1)",
     "sines before cosines in the code of the noise level"),
    ("layers", "position_embedding(row_column.flip(-1), ", "position_embedding(row_column, ", "row before column"),
    ("layers", "scores.masked_fill(~shown, -math.inf)", "scores", "attention in bfloat16 forgets its mask"),
    ("tokenizer", "torch.tanh(self.bottleneck(x))", "self.bottleneck(x)", "latents are not bounded"),
    ("tokenizer", "weight = 4. ** ", "weight = 2. ** ", "coarse patches weigh half as much in the loss"),
    ("tokenizer", "latents * keep[..., None].to(latents.dtype)", "latents", "the decoder sees all levels"),
    ("diffusion", "return alpha * eps - sigma * x", "return sigma * x - alpha * eps", "v has the wrong sign"),
    ("diffusion", "(~conditional[:, None]).to(t.dtype))", "torch.ones_like(t))", "context is noise, not clean"),
    ("diffusion", "v = v_u + guidance_scale * (v - v_u)", "v = v + guidance_scale * (v - v_u)", "too much guidance"),
    ("diffusion", "torch.linspace(1, 0, ", "torch.linspace(0, 1, ", "noise levels rise"),
    ("diffusion", "[is_target].square().mean()", ".square().mean()", "the loss counts context too"),
    ("schedule", "roles[level, left - past:left] = CONTEXT", "roles[level, right:right + past] = CONTEXT",
     "context of the past lies in the future"),
    ("schedule", "past = extra\n", "past = extra + 1\n", "one frame of extra context too much"),
    ("schedule", "left = right = ends[0] - windows[0]", "left = right = ends[0]", "the newest frames are left out"),
    ("schedule", "1 / (len(groups) * count[inverse])", "1 / (len(groups) * count.mean() + 0 * inverse)",
     "training draws all steps equally often"),
    ("video", "None if real.all() else real[:, None, None, :]", "None", "padding takes part in attention"),
    ("video", "first = frame.masked_fill(~real, torch.iinfo(frame.dtype).max).amin(1, keepdim=True)",
     "first = frame.amin(1, keepdim=True)", "frames are counted from padding"),
    ("video", "self.action_embedding(step.action) * conditional[sample, None]", "self.action_embedding(step.action)",
     "actions are not masked"),
    ("video", "x + step.odometry * conditional[:, None, None]", "x + step.odometry", "the pose is not masked"),
    ("video", "cos * dx + sin * dy", "cos * dx - sin * dy", "relative poses turn the wrong way"),
    ("video", "new = index.role == DENOISED", "new = index.role > 0", "context is written back, too"),
    ("rollout", "manual_seed(int(seed))", "manual_seed(0)", "all videos of a batch share their noise"),
    ("rollout", "video[:, :start] = latents[:, :start]", "video[:, :start - 1] = latents[:, :start - 1]",
     "the last frame of the context is lost"),
    ("rollout", "eps[:, clip.stop - fresh:clip.stop] = e[:, context:]", "e[:, context:]",
     "FramePack forgets the noise of its frames"),
]


def with_fault(module: str, old: str, new: str) -> str:
    "The module's text with the fault in it."
    text = (ROOT / "millivid" / f"{module}.py").read_text()
    if text.count(old) != 1:
        raise ValueError(f"millivid/{module}.py holds {old!r} {text.count(old)} times, not once: mend this list")
    return text.replace(old, new)


def first_failure(folder, module=None) -> str | None:
    "The first test that fails in a copy of the package, the module's own before others; None if all pass."
    own = "test_layers_video" if module in ("layers", "video") else f"test_{module}"
    tests = sorted(TESTS, key=lambda name: name != own)
    done = subprocess.run([sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider",
                           *[f"tests/{name}.py" for name in tests]], cwd=folder, capture_output=True, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)})
    if done.returncode == 0:
        return None
    if done.returncode != 1:  # not a failing test: the tests did not run
        raise SystemExit(f"pytest ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return re.search(r"^(?:FAILED|ERROR) (?:tests/)?(\S+)", done.stdout, re.MULTILINE)[1]


def main(modules):
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in ("millivid", "tests"):
            shutil.copytree(ROOT / name, Path(folder) / name, ignore=shutil.ignore_patterns("__pycache__", "weights"))
        if wrong := first_failure(folder):
            raise SystemExit(f"without any fault, this fails: {wrong}")
        for module, old, new, wrong in FAULTS:
            if modules and module not in modules:
                continue
            path = Path(folder) / "millivid" / f"{module}.py"
            path.write_text(with_fault(module, old, new))
            found = first_failure(folder, module)
            shutil.copy(ROOT / "millivid" / path.name, path)
            survivors += found is None
            print(f"{'SURVIVES' if found is None else 'caught':8} | {module}: {wrong} | {found or ''}", flush=True)
    print(f"{survivors} of {len(FAULTS)} faults survive" if not modules else f"{survivors} survive")
    return survivors > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
