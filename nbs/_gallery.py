"""Is a detail decided twice? A hall with a wall that the context has never shown, and models that learned to invent it.

    python nbs/_gallery.py train runs/gallery millivid    # about 20 minutes of one core; resumes; and the other rows
    python nbs/_gallery.py generate runs/gallery millivid # about 6 minutes; resumes; and the other rows
    python nbs/_gallery.py measure runs/gallery           # a minute; leaves nbs/results/gallery.json and .png

The hall is a room of seven places in plain paint. In the context the walker stands in its western half and never looks
east. Then he turns round, sees the east wall from far, and walks up to it. The coarsest token of a view carries noise,
so from far it hardly tells the colours of the wall, from near it mostly does; the finer tokens tell them always. So a
schedule whose plan and details do not look at each other decides a colour twice. In the rows `_exact` the coarsest
token has no noise, and tells the colours from far, too. Every model begins with weights of the package.
"""

import argparse
import hashlib
import json
import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from millivid.actions import FORWARD, TURN_LEFT, TURN_RIGHT, action_rows, integrate_actions
from millivid.basics import require, write_atomically, write_json
from millivid.data import StepSampler
from millivid.evaluation import bootstrap_interval, decode_videos
from millivid.experiments.reproduce import _follow
from millivid.pipeline import Pipeline, load_tokenizer
from millivid.schedule import CONTEXT, DENOISED, UNSEEN, Schedule
from millivid.tokenizer import encode_frames
from millivid.training import MINI_VIDEO_TRAINING, train, video_batch, video_loss
from millivid.worlds.rooms import TEST_SEED, WorldConfig, cached_latents, lattice_poses, make_room, pose_index
from millivid.worlds.rooms import render_poses

RESULTS = Path(__file__).resolve().parent / "results"
HALL = WorldConfig(places=7, textured=False)
MIDDLE, EAST, WEST = 6, 0, 4  # y of the middle line in half places; headings
GIVEN, WALK, MADE = 128, 304, 96  # frames of a context, of a walk, and of those after the context that are generated
FAR, NEAR = (5.5, 6.5), (.5, 2.5)  # places to the wall
BLOCK, PLAN = 16, 32  # frames that upscaling refines at once from level 2 to level 1; frames of a plan of MilliVid
UPSCALING_PLAN = 72  # frames of a plan of upscaling
NOISE = .25  # standard deviation of what is added to the coarsest token of each view, once; that of the tokens is .39
PART = 16  # episodes that are generated at once
TRAINING = replace(MINI_VIDEO_TRAINING, steps=2_400, seed=0)
ROWS = ("millivid", "rollout_upscale", "blind_details", "blind_plan", "millivid_exact", "rollout_upscale_exact")
TOLD = ("millivid", "blind_details", "rollout_upscale")  # rows that are also given the true plan
PREDICTIONS = [  # written down and committed before any of these models was trained; see `outcome`
    ("millivid", "unseen", "one plan", "least", .5, "its details see the plan ahead, and paint what it has decided"),
    ("rollout_upscale", "unseen", "one plan", "most", .45, "its plan and its details decide apart"),
    ("gap", "unseen", "one plan", "least", .1, "so MilliVid agrees with itself more often than upscaling does"),
    ("blind_details", "unseen", "one plan", "most", .45, "MilliVid's details, but they see no plan ahead"),
    ("blind_plan", "unseen", "two plans", "most", .45, "MilliVid's plan, but it sees no details"),
    ("rollout_upscale_exact", "unseen", "one plan", "least", .7, "control: exact coarse tokens tell the colour"),
    ("gap_exact", "unseen", "one plan", "most", .1, "control: so there is nothing that MilliVid could do better"),
    ("gap", "seen", "all", "most", .1, "control: the context has shown this wall, so nothing is decided"),
    ("gap", "unseen", "near and near", "most", .1, "control: the coarsest tokens tell the colour both times"),
]


# ---- the hall and its walks ------------------------------------------------------------------------------------------


def _with_looks_aside(rng, moves, looks):
    "Moves straight on, and in between looks to one side and back."
    parts = [[move] for move in moves]
    for _ in range(looks):
        turns = [TURN_LEFT, TURN_RIGHT]
        rng.shuffle(turns)
        parts.append(turns)
    rng.shuffle(parts)
    return [move for part in parts for move in part]


def hall_walk(number: int):
    "Actions, each held for two frames, and poses (frames, 3). The context never shows the east wall."
    rng = random.Random(number)
    moves = _with_looks_aside(rng, [FORWARD] * 2, 31) + _with_looks_aside(rng, [], rng.randrange(10))
    while len(moves) < WALK // 2:  # turn round, look, walk to the other end of the hall
        moves += [rng.choice((TURN_LEFT, TURN_RIGHT))] * 2 + _with_looks_aside(rng, [], rng.randrange(3))
        moves += _with_looks_aside(rng, [FORWARD] * (HALL.places - 1), rng.randrange(4))
        moves += _with_looks_aside(rng, [], rng.randrange(3))
    held = np.repeat(moves, 2)[:WALK]
    return held, integrate_actions((4, MIDDLE, WEST), held, 2)


def distance(poses: np.ndarray, wall: str) -> np.ndarray:
    "How far the wall is that a pose looks straight at, in places; nan where it looks elsewhere."
    places = HALL.places - .5 - poses[..., 0] / 2 if wall == "unseen" else .5 + poses[..., 0] / 2
    return np.where(poses[..., 2] == (EAST if wall == "unseen" else WEST), places, np.nan)


class Halls:
    """Encoded halls, every view of the middle line once; a walk is a look-up. `Clips` of what follows a context.

    With `noise`, the coarsest token of every view carries noise of this standard deviation.
    """

    def __init__(self, tokenizer, seeds, noise=0., cache=None):
        poses = lattice_poses(HALL)
        poses = poses[(poses[:, 1] == MIDDLE) & ((poses[:, 0] % 2 == 0) | (poses[:, 2] % 4 == 0))]
        self.views, self.seeds, self.context = pose_index(poses, HALL), list(seeds), 0
        self.row = {view: row for row, view in enumerate(self.views)}
        weights = b"".join(value.numpy().tobytes() for value in tokenizer.state_dict().values())
        made_from = hashlib.sha256(weights + repr((self.seeds, HALL, poses.tolist())).encode()).hexdigest()
        self.latents = cached_latents(cache, made_from)
        if self.latents is None:
            self.latents = torch.stack([encode_frames(tokenizer, render_poses(make_room(seed, HALL), self.views, HALL))
                                        for seed in self.seeds]).bfloat16()
            if cache:
                write_atomically(cache, lambda path: save_file({"latents": self.latents}, path,
                                                               {"made_from": made_from}))
        coarsest = self.latents[:, :, tokenizer.config.pyramid.level_slice(2)]
        coarsest += noise * torch.randn(coarsest.shape, generator=torch.Generator().manual_seed(self.seeds[0]))

    def rows(self, poses):
        "Where the view of each pose is kept."
        return torch.tensor(np.vectorize(self.row.get)(pose_index(poses, HALL)))

    def draw(self, generator, count, num_frames):
        "Walks through halls; the first new frame, `context` frames after the first one, lies around the first looks."
        halls = torch.randint(len(self.latents), (count,), generator=generator)
        walks = torch.randint(1_000_000, 2 ** 62, (count,), generator=generator).tolist()
        starts = (torch.randint(112, 161, (count,), generator=generator) - self.context).tolist()
        views, actions = [], []
        for walk, start in zip(walks, starts):
            held, poses = hall_walk(walk)
            views.append(self.rows(poses[start:start + num_frames]))
            actions.append(action_rows(held)[start:start + num_frames])
        return halls, torch.stack(views), torch.stack(actions)

    def read(self, drawn, roles=None):
        "Latents and actions, as `Clips` says."
        halls, views, actions = drawn
        return self.latents[halls[:, None], views].float(), actions


def encoded_halls(root: Path, tokenizer, noise: float) -> Halls:
    "The halls of all trainings, and of the readers of colours."
    root.mkdir(parents=True, exist_ok=True)
    return Halls(tokenizer, range(2_000), noise, root / "halls.safetensors")


def unseen_halls(tokenizer, count: int, noise: float) -> Halls:
    "Halls that no training has seen."
    return Halls(tokenizer, range(TEST_SEED + 5_000_000, TEST_SEED + 5_000_000 + count), noise)


# ---- reading the colours of a wall from tokens -----------------------------------------------------------------------


class Reader:
    """Reads the colours of the two panels of a wall from the tokens of a frame, by a small network for each pose.

    Trained on latents with a little noise, so that it can read what a model has made.
    """

    def __init__(self, halls: Halls, wall: str, tokens: slice, noise: float = .1):
        count, first = len(halls.seeds), 0 if wall == "unseen" else 4  # two panels a wall: east, north, west, south
        colours = torch.tensor(np.array([make_room(seed, HALL).first[first:first + 2] for seed in halls.seeds]))
        self.tokens, self.networks, self.right = tokens, {}, {}
        for x in range(2 * HALL.places - 1):
            pose = (x, MIDDLE, EAST if wall == "unseen" else WEST)
            latents = halls.latents[:, halls.rows(np.array(pose)), tokens].float().flatten(1)
            net, known = self._train(latents, colours, noise), count * 4 // 5
            right = net(latents[known:] + noise * torch.randn(latents[known:].shape)).argmax(-1) == colours[known:]
            self.networks[pose] = net
            self.right[float(distance(np.array(pose), wall))] = round(right.float().mean().item(), 3)

    @staticmethod
    def _train(latents, colours, noise, steps=600):
        torch.manual_seed(0)
        known = len(latents) * 4 // 5
        net = torch.nn.Sequential(torch.nn.Linear(latents.shape[1], 128), torch.nn.GELU(), torch.nn.Linear(128, 16),
                                  torch.nn.Unflatten(1, (2, 8)))
        optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=.1)
        for _ in range(steps):
            some = torch.randint(known, (256,))
            x = latents[some] + noise * torch.randn(256, latents.shape[1])
            loss = torch.nn.functional.cross_entropy(net(x).transpose(1, 2), colours[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return net.requires_grad_(False)

    def log_shares(self, latents, pose) -> torch.Tensor:
        "For the tokens of a frame: the logarithm of the probability of each colour, for each panel."
        return self.networks[tuple(map(int, pose))](latents[self.tokens].flatten()[None])[0].log_softmax(-1)

    def __call__(self, latents, pose) -> np.ndarray:
        "For the tokens of a frame: the index in PALETTE of each panel, -1 where none has half of the probability."
        shares, colours = self.log_shares(latents, pose).exp().max(-1)
        return torch.where(shares >= .5, colours, -1).numpy()


# ---- schedules, training ---------------------------------------------------------------------------------------------


def blind_plan(schedule: Schedule) -> Schedule:
    "The same schedule, but the plan sees the newest frames at the coarsest level only."
    roles, top = schedule.roles.copy(), len(schedule.tokens_per_level) - 1
    for step in np.flatnonzero(np.array(schedule.groups) == top):
        fine = roles[step, :top] == CONTEXT
        roles[step, :top][fine] = UNSEEN
        roles[step, top][fine.any(0)] = CONTEXT
    return Schedule(roles, schedule.tokens_per_level, schedule.groups, "blind plan")


def blind_details(schedule: Schedule) -> Schedule:
    "The same schedule, but a finer step sees no plan of frames later than its own."
    roles = schedule.roles.copy()
    for step, group in enumerate(schedule.groups):
        last = np.flatnonzero((roles[step] == DENOISED).any(0))[-1]
        roles[step, group + 1:, last + 1:] = UNSEEN
    return Schedule(roles, schedule.tokens_per_level, schedule.groups, "blind details")


def begin(row: str) -> tuple[Pipeline, Schedule]:
    "The weights of the package that a row begins with, and its schedule."
    row = row.removesuffix("_exact")
    pipeline = Pipeline.from_pretrained("mini-rollout-upscale" if row == "rollout_upscale" else "mini-millivid")
    change = {"blind_plan": blind_plan, "blind_details": blind_details}.get(row, lambda schedule: schedule)
    return pipeline, change(pipeline.experiment.schedule())


def noise_of(row: str) -> float:
    "The noise on the coarsest tokens that a row is trained with."
    return 0. if row.endswith("_exact") else NOISE


def train_row(root: Path, row: str) -> Pipeline:
    "Train a row in the hall; what is there is not made again, an interrupted run goes on at its last checkpoint."
    tokenizer, (pipeline, schedule), noise = load_tokenizer(), begin(row), noise_of(row)
    halls = encoded_halls(root, tokenizer, noise), Halls(tokenizer, range(TEST_SEED, TEST_SEED + 64), noise)
    for part in halls:
        part.context = schedule.context_frames
    batches, held_out = (partial(video_batch, StepSampler(part, schedule, pipeline.experiment.pyramid), count)
                         for part, count in zip(halls, (TRAINING.batch_size, 64)))

    def held_out_loss(model):
        losses = [video_loss(model, *held_out(torch.Generator().manual_seed(i))).item() for i in range(8)]
        return {"loss": sum(losses) / len(losses)}

    train(pipeline.model, partial(video_loss, shift=TRAINING.shift), batches, TRAINING, root / row, held_out_loss)
    return pipeline


# ---- numbers ---------------------------------------------------------------------------------------------------------


def agreement(colours: np.ndarray, places: np.ndarray) -> dict[str, list]:
    """Does a panel keep its colour between a far look, before the wall was seen from near, and a near one?

    colours int (episodes, frames, panels), -1 where unreadable; places float (episodes, frames), nan where the wall is
    not looked at. Returns {what: [share of agreeing pairs, of each episode]}: all pairs; those whose first near look is
    in the far look's block, in a later block of its plan, or in a later plan; and pairs of near looks in two blocks of
    a plan.
    """
    shares = {name: [] for name in ("all", "one block", "one plan", "two plans", "near and near")}
    for seen, place in zip(colours, places):
        far, near = (np.flatnonzero((place >= a) & (place <= b)) for a, b in (FAR, NEAR))
        begins = near.min(initial=len(place))
        first, then = (part.ravel() for part in np.meshgrid(far[far < begins], near, indexing="ij"))
        one, other = (part.ravel() for part in np.meshgrid(near, near, indexing="ij"))
        block, plan = first // BLOCK == begins // BLOCK, first // PLAN == begins // PLAN
        inside = then // PLAN == first // PLAN
        pairs = {"all": (first, then, first >= 0), "one block": (first, then, block & inside),
                 "one plan": (first, then, plan & ~block & inside), "two plans": (first, then, ~plan),
                 "near and near": (one, other, (one // BLOCK < other // BLOCK) & (one // PLAN == other // PLAN))}
        for name, (a, b, part) in pairs.items():
            counted = (seen[a] >= 0) & (seen[b] >= 0) & part[:, None]
            shares[name].append((seen[a] == seen[b])[counted].mean() if counted.any() else np.nan)
    return shares


def first_looks(colours: np.ndarray, places: np.ndarray) -> list:
    "For each episode the colours of the last far look before a near one, and of that near one: [[far, near], ...]."
    found = []
    for seen, place in zip(colours, places):
        far, near = (np.flatnonzero((place >= a) & (place <= b)) for a, b in (FAR, NEAR))
        found.append([seen[far[far < near[0]][-1]].tolist(), seen[near[0]].tolist()])
    return found


def followed(made, poses, colours, places, coarse: Reader, plan: int) -> dict:
    """What do the details follow? The plan's colours are read from its coarsest tokens of the near looks, together.

    Counts panels of which a far look and a near one, in one plan of `plan` frames, can be read.
    """
    counts = dict.fromkeys(("panels", "far as planned", "near as planned", "far not as planned", "then near as far",
                            "then near as planned"), 0)
    for latents, pose, seen, place in zip(made, poses, colours, places):
        far, near = (np.flatnonzero((place >= a) & (place <= b)) for a, b in (FAR, NEAR))
        first, far = near[0], far[far < near[0]][-1]
        looks = near[(near < first + BLOCK) & (near // plan == first // plan)]
        planned = sum(coarse.log_shares(latents[look], pose[look]) for look in looks).argmax(-1).numpy()
        for before, after, said in zip(seen[far], seen[first], planned):
            if min(before, after) >= 0 and far // plan == first // plan:
                counts["panels"] += 1
                counts["far as planned"] += int(before == said)
                counts["near as planned"] += int(after == said)
                counts["far not as planned"] += int(before != said)
                counts["then near as far"] += int(before != said and after == before)
                counts["then near as planned"] += int(before != said and after == said)
    return counts


def by_chance(looks: list) -> float:
    "How often the far look of one walk has the colour of the near look of another one."
    far, near = (np.array([look[part] for look in looks]) for part in (0, 1))
    other = ~np.eye(len(looks), dtype=bool)[..., None] & (far[:, None] >= 0) & (near[None] >= 0)
    return float((far[:, None] == near[None])[other].mean())


def judge(made, poses, readers: dict, coarse: Reader, plan: int) -> dict:
    """For each wall agreement by pairs, the share of looks whose colour cannot be read, and of true ones of the others.

    Also the first looks, and what the details follow (see `followed`).
    """
    result, rooms = {}, [make_room(TEST_SEED + 5_000_000 + number, HALL).first for number in range(len(made))]
    for wall, reader in readers.items():
        places = distance(poses, wall)
        if wall == "seen":  # only after the walker has come back from the other wall
            places[np.cumsum(poses[..., 0] == 2 * HALL.places - 2, axis=1) == 0] = np.nan
        looks = {name: (places >= a) & (places <= b) for name, (a, b) in {"far": FAR, "near": NEAR}.items()}
        colours = np.array([[reader(latents, pose) if look else [-1, -1] for latents, pose, look in zip(*parts)]
                            for parts in zip(made, poses, looks["far"] | looks["near"])])
        if wall == "unseen":
            result["looks"] = first_looks(colours, places)
            result["chance"] = by_chance(result["looks"])
            result["followed"] = followed(made, poses, colours, places, coarse, plan)
        true = np.stack(rooms)[:, None, slice(2) if wall == "unseen" else slice(4, 6)]
        result[wall] = {"agreement": {name: bootstrap_interval(np.array(values)[:, None])
                                      for name, values in agreement(colours, places).items()
                                      if np.isfinite(values).any()},
                        "unreadable": {name: float((colours[look] < 0).mean()) for name, look in looks.items()},
                        "true": {name: float((colours == true)[look].sum() / (colours[look] >= 0).sum())
                                 for name, look in looks.items()}}
    return result


def painted_as_told(made, poses, reader: Reader) -> list[float]:
    "Where the plan is the true one: how often a far look shows the colour that a near one will have in this plan."
    shares = []
    for number, (latents, pose) in enumerate(zip(made, poses)):
        place, true = distance(pose, "unseen"), make_room(TEST_SEED + 5_000_000 + number, HALL).first[:2]
        far, near = (np.flatnonzero((place >= a) & (place <= b)) for a, b in (FAR, NEAR))
        looks = far[(far < near[0]) & (far // PLAN == near[0] // PLAN)]
        colours = np.array([reader(latents[look], pose[look]) for look in looks]).reshape(-1, 2)
        shares.append((colours == true)[colours >= 0].mean() if (colours >= 0).any() else np.nan)
    return shares


def outcome(rows: dict) -> list[dict]:
    """Each prediction beside what was measured. A gap is MilliVid less upscaling.

    The gap of a control may have any sign; with exact tokens only MilliVid's lead counts.
    """
    lines = []
    for name, wall, pairs, bound, value, why in PREDICTIONS:
        mean = {row: found[wall]["agreement"][pairs]["mean"] for row, found in rows.items()
                if pairs in found[wall]["agreement"]}
        kind = name.removeprefix("gap")
        found = mean[f"millivid{kind}"] - mean[f"rollout_upscale{kind}"] if name.startswith("gap") else mean[name]
        held = bool(found >= value if bound == "least" else (abs(found) if name == "gap" else found) <= value)
        lines.append({"row": name, "wall": wall, "pairs": pairs, "bound": bound, "value": value, "why": why,
                      "measured": round(found, 3), "held": held})
    return lines


SHOWN = (0, 1, 2)  # episodes, whatever they show


def episodes_of(count: int):
    "Actions and poses of the test walks: context, and what is generated after it."
    walks = [hall_walk(number) for number in range(count)]
    return (torch.stack([action_rows(held[:GIVEN + MADE]) for held, _ in walks]),
            np.stack([pose[:GIVEN + MADE] for _, pose in walks]))


def true_latents(tokenizer, poses, noise: float):
    "Latents of the test walks in their halls."
    halls = unseen_halls(tokenizer, len(poses), noise)
    return halls.latents[torch.arange(len(poses))[:, None], halls.rows(poses)].float()


def generate_row(root: Path, row: str, episodes: int, told: bool = False) -> torch.Tensor:
    """Latents that a trained row generates, PART episodes at a time; what is there is not made again.

    `told` puts the true coarsest tokens in the place of each plan that it makes.
    """
    history = root / row / "history.json"
    require(history.exists() and json.loads(history.read_text())["held_out"][-1]["step"] == TRAINING.steps,
            f"{row} is not trained: python nbs/_gallery.py train {root} {row}")
    (actions, poses), made, pipeline, schedule = episodes_of(episodes), [], None, begin(row)[1]
    for some in torch.arange(episodes).split(PART):
        file = root / row / f"{'told' if told else 'made'}{some[0]}to{some[-1]}.safetensors"
        if not file.exists():
            pipeline = pipeline or train_row(root, row)
            latents = true_latents(load_tokenizer(), poses, noise_of(row))[some]

            tell = _follow(pipeline, latents[:, GIVEN:], GIVEN, GIVEN + MADE)
            new = pipeline.generate(latents, actions[some], GIVEN, GIVEN + MADE, 16, some.tolist(),
                                    schedule=schedule, on_step=tell if told else None)[:, GIVEN:].contiguous()
            write_atomically(file, lambda path: save_file({"latents": new}, path))
        made.append(load_file(file)["latents"])
    return torch.cat(made)


def measure(root: Path, episodes: int):
    "All rows, and the truth as the tokenizer draws it; writes gallery.json and gallery.png."
    tokenizer, poses = load_tokenizer(), episodes_of(episodes)[1]
    levels = [tokenizer.config.pyramid.level_slice(level) for level in range(3)]
    exact, noisy = (encoded_halls(root, tokenizer, noise) for noise in (0., NOISE))
    readers = {wall: Reader(exact, wall, levels[0]) for wall in ("unseen", "seen")}
    coarse = {noise: Reader(halls, "unseen", levels[2], 0.) for noise, halls in ((0., exact), (NOISE, noisy))}
    right = {str(level): Reader(exact, "unseen", levels[level], 0.).right for level in (0, 1)}
    right |= {"2": coarse[NOISE].right, "2 exact": coarse[0.].right, "reader": readers["unseen"].right}
    videos = {"truth": true_latents(tokenizer, poses, NOISE)[:, GIVEN:]}
    videos |= {row: generate_row(root, row, episodes) for row in ROWS}
    losses = {row: json.loads((root / row / "history.json").read_text())["held_out"][-1]["loss"] for row in ROWS}
    rows = {row: judge(made, poses[:, GIVEN:], readers, coarse[noise_of(row)],
                       UPSCALING_PLAN if row.startswith("rollout") else PLAN) for row, made in videos.items()}
    told = {row: bootstrap_interval(np.array(painted_as_told(generate_row(root, row, PART, True), poses[:, GIVEN:],
                                                             readers["unseen"]))[:, None]) for row in TOLD}
    write_json(RESULTS / "gallery.json", {
        "command": "python nbs/_gallery.py measure runs/gallery", "episodes": episodes, "steps": TRAINING.steps,
        "noise": NOISE, "spread": round(exact.latents[:, :, levels[2]].float().std().item(), 3), "right": right,
        "held_out": losses, "predictions": outcome(rows), "rows": rows, "told": told,
        "shown": draw(tokenizer, videos, distance(poses[:, GIVEN:], "unseen"))})


def draw(tokenizer, videos: dict, places: np.ndarray) -> dict:
    "Write gallery.png, a row for each episode and model: how the wall comes nearer. Returns what it shows."
    lines, frames = [], {}
    for episode in SHOWN:
        when = [int(np.flatnonzero(places[episode] == place)[0]) for place in (6.5, 4., 2., 1., .5)]
        frames[episode] = [frame + 1 for frame in when]
        for made in videos.values():
            lines.append(np.concatenate(list(decode_videos(tokenizer, made[episode:episode + 1, when])[0]), axis=1))
    sheet = Image.fromarray(np.concatenate(lines)).quantize(256)
    write_atomically(RESULTS / "gallery.png", lambda path: sheet.save(path, "PNG"))
    return {"rows": list(videos), "frames": frames}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "generate", "measure"))
    parser.add_argument("root", type=Path, help="a folder for the trainings")
    parser.add_argument("row", nargs="?", choices=ROWS)
    parser.add_argument("--episodes", type=int, default=48)
    options = parser.parse_args()
    if options.what == "measure":
        measure(options.root, options.episodes)
    elif options.row is None:
        parser.error(f"which row? One of {', '.join(ROWS)}")
    elif options.what == "train":
        train_row(options.root, options.row)
    else:
        generate_row(options.root, options.row, options.episodes)
        if options.row in TOLD:
            generate_row(options.root, options.row, PART, told=True)


if __name__ == "__main__":
    main()
