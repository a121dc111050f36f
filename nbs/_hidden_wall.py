"""Is a detail decided twice? The models of the package walk up to a wall that their context has never shown.

    python nbs/_hidden_wall.py    # about 40 minutes of one core; leaves nbs/results/hidden_wall.json and .png

Nothing is trained. In the context the walker looks at all walls but the east one. Then it turns round, sees that wall
from far, and walks up to it; later it does the same with the west wall, which the context has shown. From far the
colours of a wall can be read from the finest tokens and hardly from the coarsest one, from near from both. So a
schedule whose plan and details do not look at each other can decide a colour twice.
"""

import argparse
import json
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from millivid.actions import FORWARD, TURN_LEFT, TURN_RIGHT, action_rows, integrate_actions
from millivid.basics import write_atomically, write_json
from millivid.evaluation import bootstrap_interval, decode_videos
from millivid.pipeline import Pipeline, load_tokenizer
from millivid.schedule import CONTEXT, DENOISED, UNSEEN, Schedule
from millivid.tokenizer import encode_frames
from millivid.worlds.rooms import TEST_SEED, RoomWalks, make_room, pose_index, render_poses

RESULTS = Path(__file__).resolve().parent / "results"
GIVEN, MADE, START = 128, 96, (4, 2, 4)  # frames; x, y in half places and heading, in the middle of the east side
FAR, NEAR = (2., 2.5), (1., 1.5)  # places to the wall
PLAN = 32  # frames of a plan of MilliVid
WALLS = {"unseen": (0, 0), "seen": (2, 4)}  # east and west: number of the wall, heading that looks at it
PREDICTIONS = [  # written down and committed before anything was measured; see `outcome`
    ("millivid", "unseen", "one plan", "least", .7, "its details see the plan ahead, and paint what it has decided"),
    ("millivid", "unseen", "two plans", "least", .6, "its next plan sees the newest details"),
    ("rollout_upscale", "unseen", "all", "most", .4, "its plan and its details decide apart"),
    ("blind_details", "unseen", "one plan", "most", .4, "MilliVid's details, but they see no plan ahead"),
    ("blind_plan", "unseen", "two plans", "most", .4, "MilliVid's plan, but it sees no details"),
    ("gap", "seen", "all", "most", .1, "the control: the context shows this wall, so nothing is decided"),
]


# ---- the walk --------------------------------------------------------------------------------------------------------


def _looks_aside(rng, first, looks):
    "Some moves, and looks to one side and back, in any order."
    parts = [[move] for move in first]
    parts += [[TURN_LEFT, TURN_RIGHT] if rng.random() < .5 else [TURN_RIGHT, TURN_LEFT] for _ in range(looks)]
    rng.shuffle(parts)
    return [move for part in parts for move in part]


def hidden_walk(number: int):
    "Actions, each held for two frames, and poses (frames, 3). The context never looks east."
    rng = random.Random(number)
    moves = [FORWARD] + _looks_aside(rng, [FORWARD], 31)
    for looks in (rng.choice((0, 1, 2, 7, 8, 9)), rng.randrange(3)):  # soon, or in a later plan; then back
        moves += [rng.choice((TURN_LEFT, TURN_RIGHT))] * 2 + _looks_aside(rng, [], looks) + [FORWARD] * 2
    moves = (moves + [TURN_LEFT, TURN_RIGHT] * 24)[:(GIVEN + MADE) // 2]
    held = np.repeat(moves, 2)
    return held, integrate_actions(START, held, 2)


def distance(poses: np.ndarray, wall: str) -> np.ndarray:
    "How far the wall is that a pose looks straight at, in places; nan where it looks elsewhere."
    east = wall == "unseen"
    places = 2.5 - poses[..., 0] / 2 if east else .5 + poses[..., 0] / 2
    return np.where(poses[..., 2] == WALLS[wall][1], places, np.nan)


# ---- reading the colours of a wall from tokens -----------------------------------------------------------------------


class Reader:
    """Reads the first colours of the two panels of a wall from the tokens of a frame, by a small network for each pose.

    Trained on latents with a little noise, so that it can read what a model has made.
    """

    def __init__(self, walks: RoomWalks, wall: str, tokens: slice, noise: float = .1):
        count, panels = len(walks.latents), slice(2 * WALLS[wall][0], 2 * WALLS[wall][0] + 2)
        colours = torch.tensor(np.array([make_room(seed).first[panels] for seed in range(count)]))
        self.tokens, self.networks, self.right = tokens, {}, {}
        for x in range(5):
            pose = (x, START[1], WALLS[wall][1])
            latents = walks.latents[:, int(pose_index(np.array(pose))), tokens].float().flatten(1)
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

    def __call__(self, latents, pose) -> np.ndarray:
        "For the tokens of a frame: the index in PALETTE of each panel, -1 where none has half of the probability."
        network = self.networks[tuple(map(int, pose))]
        shares, colours = network(latents[self.tokens].flatten()[None])[0].softmax(-1).max(-1)
        return torch.where(shares >= .5, colours, -1).numpy()


# ---- schedules and numbers -------------------------------------------------------------------------------------------


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


def agreement(colours: np.ndarray, places: np.ndarray) -> dict[str, list]:
    """Does a panel keep its colour between a far look, before the wall was seen from near, and a near one?

    colours int (episodes, frames, panels), -1 where unreadable; places float (episodes, frames), nan where the wall is
    not looked at. Returns {what: [share of agreeing pairs, of each episode]}: all pairs; those inside one plan of
    MilliVid; and those of which the first near look is in a later plan than the far one.
    """
    shares = {"all": [], "one plan": [], "two plans": []}
    for seen, place in zip(colours, places):
        far, near = (np.flatnonzero((place >= a) & (place <= b)) for a, b in (FAR, NEAR))
        begins = near.min(initial=len(place))
        first, then = (part.ravel() for part in np.meshgrid(far[far < begins], near, indexing="ij"))
        known = (seen[first] >= 0) & (seen[then] >= 0)
        same = seen[first] == seen[then]
        parts = {"all": first >= 0, "one plan": first // PLAN == then // PLAN,
                 "two plans": first // PLAN < begins // PLAN}
        for name, part in parts.items():
            counted = known & part[:, None]
            shares[name].append(same[counted].mean() if counted.any() else np.nan)
    return shares


def judge(made, poses, readers: dict) -> dict:
    "For each wall: agreement by pairs, and the share of looks of which no colour can be read."
    result = {}
    for wall, reader in readers.items():
        places = distance(poses, wall)
        places[~((places >= NEAR[0]) & (places <= FAR[1]))] = np.nan
        if wall == "seen":  # only after the walker has come back from the other wall
            places[np.cumsum(poses[..., 0] == 4, axis=1) == 0] = np.nan
        colours = np.array([[reader(latents, pose) if np.isfinite(place) else [-1, -1]
                             for latents, pose, place in zip(*parts)] for parts in zip(made, poses, places)])
        looks = {"far": (places >= FAR[0]), "near": (places <= NEAR[1])}
        result[wall] = {"agreement": {name: bootstrap_interval(np.array(values)[:, None])
                                      for name, values in agreement(colours, places).items()},
                        "unreadable": {name: float((colours[look] < 0).mean()) for name, look in looks.items()}}
    return result


def outcome(result: dict) -> list[dict]:
    "Each prediction beside what was measured. The gap is MilliVid less upscaling."
    lines = []
    for name, wall, pairs, bound, value, why in PREDICTIONS:
        mean = {row: found[wall]["agreement"][pairs]["mean"] for row, found in result["rows"].items()}
        found = abs(mean["millivid"] - mean["rollout_upscale"]) if name == "gap" else mean[name]
        held = bool(found >= value if bound == "least" else found <= value)
        lines.append({"row": name, "wall": wall, "pairs": pairs, "bound": bound, "value": value, "why": why,
                      "measured": round(found, 3), "held": held})
    return lines


SHOWN = (0, 1, 2)  # episodes, whatever they show
ROWS = {  # weights in the package, what is done to the schedule, noise levels of the sampler
    "millivid": ("mini-millivid", lambda schedule: schedule, 4),
    "rollout_upscale": ("mini-rollout-upscale", lambda schedule: schedule, 4),
    "blind_plan": ("mini-millivid", blind_plan, 4), "blind_details": ("mini-millivid", blind_details, 4),
    "millivid_16": ("mini-millivid", lambda schedule: schedule, 16),
    "rollout_upscale_16": ("mini-rollout-upscale", lambda schedule: schedule, 16)}


def measure(episodes: int, names, cache=None) -> dict:
    "Some rows, and the truth as the tokenizer draws it."
    tokenizer, walks = load_tokenizer(), [hidden_walk(number) for number in range(episodes)]
    poses, actions = np.stack([pose for _, pose in walks]), torch.stack([action_rows(held) for held, _ in walks])
    latents = torch.stack([encode_frames(tokenizer, render_poses(make_room(TEST_SEED + 5_000_000 + number), index))
                           for number, index in enumerate(pose_index(poses))])
    rooms = RoomWalks(tokenizer, range(2_000), cache=cache)
    levels = [tokenizer.config.pyramid.level_slice(level) for level in range(3)]
    readers = {wall: Reader(rooms, wall, levels[0]) for wall in WALLS}
    result = {"command": "python nbs/_hidden_wall.py", "episodes": episodes,
              "right": {"0": readers["unseen"].right, "2": Reader(rooms, "unseen", levels[2]).right}, "rows": {}}
    videos = {"truth": latents[:, GIVEN:]}
    for row in names:
        name, change, noise_levels = ROWS[row]
        pipeline = Pipeline.from_pretrained(name)
        parts = [pipeline.generate(latents[some], actions[some], GIVEN, GIVEN + MADE, noise_levels, some.tolist(),
                                   schedule=change(pipeline.experiment.schedule()))
                 for some in torch.arange(episodes).split(16)]
        videos[row] = torch.cat(parts)[:, GIVEN:]
    result["rows"] = {row: judge(made, poses[:, GIVEN:], readers) for row, made in videos.items()}
    if {"millivid", "rollout_upscale"} <= videos.keys():
        result["shown"] = draw(tokenizer, videos, distance(poses[:, GIVEN:], "unseen"))
    return result


def draw(tokenizer, videos: dict, places: np.ndarray) -> dict:
    "Write hidden_wall.png, a row for each episode and model: how the wall comes nearer. Returns what it shows."
    lines, frames = [], {}
    for episode in SHOWN:
        when = [int(np.flatnonzero(places[episode] == place)[0]) for place in (2.5, 2., 1.5, 1., .5)]
        frames[episode] = [frame + 1 for frame in when]
        for made in videos.values():
            lines.append(np.concatenate(list(decode_videos(tokenizer, made[episode:episode + 1, when])[0]), axis=1))
    sheet = Image.fromarray(np.concatenate(lines)).quantize(256)
    write_atomically(RESULTS / "hidden_wall.png", lambda path: sheet.save(path, "PNG"))
    return {"rows": list(videos), "frames": frames}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="the others stay as they are")
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--cache", type=Path, help="a file for the encoded rooms, or one of `millivid reproduce`")
    options, file = parser.parse_args(), RESULTS / "hidden_wall.json"
    found = measure(options.episodes, options.rows, options.cache)
    kept = json.loads(file.read_text()) if file.exists() else {"rows": {}}
    rows = kept["rows"] | found["rows"]
    result = kept | found | {"rows": {row: rows[row] for row in ("truth", *ROWS) if row in rows}}
    write_json(file, result | {"predictions": outcome(result)})


if __name__ == "__main__":
    main()
