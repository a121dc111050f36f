"""The gallery: a world in which a detail that is decided twice can be seen to disagree with itself.

    python nbs/_gallery.py calibrate runs/gallery      # what each level keeps of a plaque, far and near: 10 minutes
    python nbs/_gallery.py train runs/gallery millivid # a row of ROWS: 15 to 20 minutes of one core each; resumes
    python nbs/_gallery.py measure runs/gallery        # all rows that are trained: leaves nbs/results/gallery.json

A hall of 6 places with painted side walls, which the context shows, and a dark wall at each end with one small plaque
in one of eight colours. The context never looks east; then the walker turns round and walks to the east wall. From far
only the finest level can tell the colour of the plaque, from near the coarsest can, too.
"""

import argparse
import functools
import json
import random
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm

from millivid.actions import FORWARD, TURN_LEFT, TURN_RIGHT, action_rows, integrate_actions
from millivid.basics import require, write_atomically, write_json
from millivid.evaluation import bootstrap_interval, decode_videos, frame_psnr
from millivid.experiments.reproduce import MINI_TOKENIZER_TRAINING, MINI_VIDEO_TRAINING
from millivid.layers import bfloat16_is_fast
from millivid.pipeline import MINI_EXPERIMENTS, Pipeline, load_tokenizer, save_tokenizer
from millivid.pyramid import frames_to_images
from millivid.schedule import CONTEXT, DENOISED, UNSEEN, Schedule, schedule_text, upscale_schedule
from millivid.tokenizer import MINI_TOKENIZER, encode_frames
from millivid.training import train_tokenizer, train_video
from millivid.worlds.rooms import PALETTE, TEXELS_HIGH, TEXELS_WIDE, Room

RESULTS = Path(__file__).resolve().parent / "results"
LENGTH, WIDTH, HOLD, SIZE = 6, 2., 2, 64  # places, places, frames an action is held, pixels
PANELS = 6  # on each side wall, of plain paint
KNOWN_PANEL = 2  # of the south wall; in the world "known" the plaques have its colour
END_WALL = np.array([.10, .10, .12], dtype=np.float32)


@dataclass(frozen=True)
class Gallery:
    "What all halls of a world share."
    plaque: float = .4  # width and height of a plaque, in places; the wall is 2 wide and 1 high
    known: bool = False  # True: plaques have the colour of a panel that the context shows


WORLDS = {"gallery": Gallery(), "large": Gallery(plaque=2.), "known": Gallery(known=True)}

# ---- the hall --------------------------------------------------------------------------------------------------------


@functools.lru_cache
def hall_poses() -> np.ndarray:
    "Every pose of a walker: x in halves of a place, 0, heading in steps of 45 degrees. int (poses, 3)."
    standing = [(x * HOLD, 0, heading) for x in range(LENGTH) for heading in range(4 * HOLD)]
    walking = [(x, 0, heading) for x in range(HOLD * (LENGTH - 1)) if x % HOLD for heading in (0, 2 * HOLD)]
    return np.array(standing + walking)


def hall_index(poses: np.ndarray) -> np.ndarray:
    "The row of each pose in `hall_poses`."
    table = np.full((HOLD * LENGTH, 4 * HOLD), -1)
    table[hall_poses()[:, 0], hall_poses()[:, 2]] = np.arange(len(hall_poses()))
    index = table[poses[..., 0], poses[..., 2] % (4 * HOLD)]
    assert (index >= 0).all()
    return index


@functools.lru_cache
def cast(world: Gallery):
    "What each of 2 x 2 rays of each pixel of each pose meets: texel int, light, background; texel 0 where no wall is."
    x, _, heading = (hall_poses() / HOLD * np.array([1, 1, np.pi / 2])).T[..., None, None].astype(np.float32)
    across = ((np.arange(2 * SIZE) + .5) / SIZE - 1).astype(np.float32)
    right, up, cos, sin = across[None, None], -across[None, :, None], np.cos(heading), np.sin(heading)
    x, y, ray_x, ray_y = x + .5, np.float32(WIDTH / 2), cos + right * sin, sin - right * cos
    with np.errstate(divide="ignore"):
        to_x = np.where(ray_x > 0, LENGTH - x, -x) / np.where(abs(ray_x) < 1e-6, 1e-6, ray_x)
        to_y = np.where(ray_y > 0, WIDTH - y, -y) / np.where(abs(ray_y) < 1e-6, 1e-6, ray_y)
    at_end, depth = abs(to_x) < abs(to_y), np.minimum(abs(to_x), abs(to_y))
    height, along_x, along_y = .5 + up * depth, x + depth * ray_x, y + depth * ray_y + 0 * up
    panel, u = np.divmod(np.clip(along_x, 0, LENGTH - 1e-3), LENGTH / PANELS)
    panel = panel.astype(int) + PANELS * (ray_y > 0)
    column, row = (u * PANELS / LENGTH * TEXELS_WIDE).astype(int), (height * TEXELS_HIGH).astype(int)
    side = (panel * TEXELS_HIGH + np.clip(row, 0, TEXELS_HIGH - 1)) * TEXELS_WIDE + column
    on_plaque = (abs(along_y - WIDTH / 2) < world.plaque / 2) & (abs(height - .5) < world.plaque / 2)
    end = 2 * PANELS * TEXELS_HIGH * TEXELS_WIDE + 2 * (ray_x > 0) + on_plaque  # west wall, plaque, east wall, plaque
    is_wall = (height >= 0) & (height < 1)
    light = np.where(at_end, 1, np.where(ray_y > 0, .95, .8)) / (1 + .01 * depth ** 2)
    floor = np.array([.50, .43, .36]) * (1 - .5 * np.exp(-np.maximum(-up, 0) * 2))[..., None]
    sky = np.array([.84, .90, .96]) - np.maximum(up, 0)[..., None] * np.array([.4, .3, .1])
    background = np.where(up[..., None] < 0, floor, sky) * np.ones_like(depth)[..., None]
    return (np.where(is_wall, np.where(at_end, end, side), 0).astype(np.int32),
            np.where(is_wall, light, 0).astype(np.float32),
            np.where(is_wall[..., None], 0, background).astype(np.float32))


def paint(seed: int, world: Gallery):
    "The colours of one hall: a list of texels, and the indices of its west and east plaque in PALETTE."
    rng, count = np.random.default_rng(seed), 2 * PANELS
    colours, plaques = rng.integers(8, size=count), rng.integers(8, size=2)
    if world.known:
        plaques[:] = colours[KNOWN_PANEL]
    ends = np.stack([END_WALL, PALETTE[plaques[0]], END_WALL, PALETTE[plaques[1]]])
    return np.concatenate([Room(colours, colours, np.zeros(count, dtype=int)).texture(), ends]), plaques


def draw_hall(seed: int, index, world: Gallery) -> np.ndarray:
    "Render poses of one hall. Returns uint8 (poses, 64, 64, 3)."
    (texel, light, background), colours = cast(world), paint(seed, world)[0]
    rays = (colours[texel[index]] * light[index][..., None] + background[index]).reshape(-1, SIZE, 2, SIZE, 2, 3)
    return (rays.mean((2, 4)) * 255 + .5).astype(np.uint8)


def stroll(rng: random.Random, num_actions: int, x: int, heading: int) -> list[int]:
    "Turn, look, and walk along the hall, over and over."
    actions = []
    while len(actions) < num_actions:
        turns, left = rng.choice((1, 1, 2)), rng.random() < .5
        actions += [TURN_LEFT if left else TURN_RIGHT] * turns
        heading = (heading + (turns if left else -turns)) % 4
        if heading in (0, 2):
            room = LENGTH - 1 - x if heading == 0 else x
            steps = min(rng.randint(1, LENGTH), room)
            actions += [FORWARD] * steps
            x += steps if heading == 0 else -steps
    return actions[:num_actions]


class GalleryWalks:
    "Endless encoded walks, as `RoomWalks`: every pose of every hall is encoded once."

    def __init__(self, tokenizer, seeds, world: Gallery, cache: Path):
        if not cache.exists():
            every, fast = np.arange(len(hall_poses())), bfloat16_is_fast("cpu")
            with torch.autocast("cpu", torch.bfloat16, enabled=fast):
                latents = torch.stack([encode_frames(tokenizer, draw_hall(seed, every, world), 512).bfloat16()
                                       for seed in tqdm(seeds, desc="encoding halls", unit="hall")])
            write_atomically(cache, lambda path: save_file({"latents": latents}, path))
        self.latents = load_file(cache)["latents"]

    def draw(self, generator, count, num_frames):
        "Random walks through random halls."
        halls = torch.randint(len(self.latents), (count,), generator=generator)
        rng = random.Random(int(torch.randint(2 ** 62, (1,), generator=generator)))
        views, actions = [], []
        for _ in range(count):
            skipped, x, heading = rng.randrange(HOLD), rng.randrange(LENGTH), rng.randrange(4)
            moves = stroll(rng, -(-(skipped + num_frames) // HOLD), x, heading)
            held = np.repeat(moves, HOLD)[:skipped + num_frames]
            poses = integrate_actions((x * HOLD, 0, heading * HOLD), held, HOLD)
            views.append(hall_index(poses)[skipped:])
            actions.append(action_rows(held, HOLD)[skipped:])
        return halls, torch.from_numpy(np.stack(views)), torch.stack(actions)

    def read(self, drawn, roles=None):
        "Latents and actions of such walks."
        halls, views, actions = drawn
        return self.latents[halls[:, None], views].float(), actions


def draw_views(generator, count, held_out=False, world=Gallery()):
    "Images to train a tokenizer on: views of random halls."
    seeds = (20_000_000 if held_out else 0) + torch.randint(5_000_000, (count,), generator=generator)
    poses = torch.randint(len(hall_poses()), (count,), generator=generator)
    return frames_to_images(np.concatenate([draw_hall(int(seed), [int(pose)], world)
                                            for seed, pose in zip(seeds, poses)]))


# ---- its tokenizer, and what each level keeps of a plaque ------------------------------------------------------------

TOKENIZER_STEPS, HALLS, STEPS, EPISODES = 900, 1_500, 2_000, 64
GIVEN, MADE = 40 * HOLD, 48 * HOLD  # frames of context, frames after it


def tokenizer_of(root: Path, name: str):
    "The tokenizer of a world; trained where there is none. The world `known` looks like `gallery` and shares its."
    folder = root / ("tokenizer_large" if name == "large" else "tokenizer")
    if not (folder / "model.safetensors").exists():
        training = replace(MINI_TOKENIZER_TRAINING, steps=TOKENIZER_STEPS)
        draw = functools.partial(draw_views, world=WORLDS[name])
        save_tokenizer(train_tokenizer(draw, MINI_TOKENIZER, training, folder)[0], folder)
    return load_tokenizer(folder)


def walks_of(root: Path, name: str):
    "Encoded training and held-out halls of a world."
    tokenizer, world = tokenizer_of(root, name), WORLDS[name]
    seeds = {"halls": range(HALLS), "held_out": range(20_000_000, 20_000_064)}
    return tuple(GalleryWalks(tokenizer, some, world, root / f"{name}_{part}.safetensors")
                 for part, some in seeds.items())


def distance(index: np.ndarray) -> np.ndarray:
    "How far a pose is from the east wall, in places; nan where it does not look straight at it."
    poses = hall_poses()[index]
    return np.where(poses[..., 2] == 0, LENGTH - poses[..., 0] / HOLD - .5, np.nan)


def probe(latents, colours, seed=0):
    "A small network that reads a colour from latents (halls, numbers). Returns it, and its share right on other halls."
    torch.manual_seed(seed)
    mean, deviation, y = latents.mean(0), latents.std(0) + 1e-6, torch.as_tensor(colours)
    known = len(latents) * 4 // 5
    net = torch.nn.Sequential(torch.nn.Linear(latents.shape[1], 64), torch.nn.GELU(), torch.nn.Linear(64, 8))
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=.3)
    for _ in range(400):
        loss = torch.nn.functional.cross_entropy(net((latents[:known] - mean) / deviation), y[:known])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def read(x):
        return net((x - mean) / deviation).softmax(-1)
    return read, (read(latents[known:]).argmax(1) == y[known:]).float().mean().item()


class Reader:
    "Reads the colour of the east plaque from the tokens of one level of a frame, by a small network for each pose."

    def __init__(self, halls: GalleryWalks, world: Gallery, level: int = 0):
        colours = np.array([paint(seed, world)[1][1] for seed in range(len(halls.latents))])
        self.tokens, self.networks, self.right = MINI_TOKENIZER.pyramid.level_slice(level), {}, {}
        for pose in np.flatnonzero(hall_poses()[:, 2] == 0):
            latents = halls.latents[:, pose, self.tokens].float().flatten(1)
            self.networks[pose], right = probe(latents, colours)
            self.right[float(distance(pose))] = round(right, 3)

    def __call__(self, latents, pose: int) -> int:
        "Index in PALETTE for the tokens of a frame (tokens, channels); -1 where no colour has half of the probability."
        shares = self.networks[pose](latents[self.tokens].float().flatten()[None])[0]
        return int(shares.argmax()) if shares.max() >= .5 else -1


def calibrate(root: Path) -> dict:
    "How often the colour of the east plaque is read from true tokens: {level: {places to the wall: share right}}."
    halls = walks_of(root, "gallery")[0]
    return {level: Reader(halls, WORLDS["gallery"], level).right for level in range(3)}


# ---- the models ------------------------------------------------------------------------------------------------------

_MAIN = replace(MINI_EXPERIMENTS["millivid"], video=replace(MINI_EXPERIMENTS["millivid"].video, pose_wave=16))


def blind_plan(schedule: Schedule) -> Schedule:
    "The same schedule, but the plan sees the newest frames at the coarsest level only."
    roles, top = schedule.roles.copy(), schedule.num_levels - 1
    for step in np.flatnonzero(np.array(schedule.groups) == top):
        fine = roles[step, :top] == CONTEXT
        roles[step, :top][fine] = UNSEEN
        roles[step, top][fine.any(0)] = CONTEXT
    return replace(schedule, roles=roles)


def blind_details(schedule: Schedule) -> Schedule:
    "The same schedule, but a finer step sees no plan of frames later than its own."
    roles = schedule.roles.copy()
    for step, group in enumerate(schedule.groups):
        last = np.flatnonzero((roles[step] == DENOISED).any(0))[-1]
        roles[step, group + 1:, last + 1:] = UNSEEN
    return replace(schedule, roles=roles)


def _own(schedule):
    return replace(_MAIN, method="own", text=schedule_text(schedule), frames_per_level=(), extra_budget=0)


_UPSCALE = upscale_schedule(8, _MAIN.pyramid.tokens_per_level)
ROWS = {"millivid": _MAIN, "rollout_upscale": _own(_UPSCALE),
        "blind_plan": _own(blind_plan(_MAIN.schedule())), "blind_details": _own(blind_details(_MAIN.schedule()))}
JOBS = [*ROWS, *(f"{world}_{row}" for world in ("large", "known") for row in ("millivid", "rollout_upscale"))]


def train_job(root: Path, job: str):
    "Train one row in one world; what is there is resumed."
    world, row = job.split("_", 1) if job.split("_")[0] in WORLDS else ("gallery", job)
    training = replace(MINI_VIDEO_TRAINING, steps=STEPS)
    model, _ = train_video(ROWS[row], *walks_of(root, world), training, root / job)
    Pipeline(model.eval(), ROWS[row]).save_pretrained(root / job)


PREDICTIONS = [  # written down and committed before any of these models was trained; see `outcome`
    ("millivid", "one plan", "least", .8, "its details see the plan ahead of them, so they paint what it has decided"),
    ("millivid", "two plans", "least", .6, "its next plan sees the newest details, if the plaque is among them"),
    ("rollout_upscale", "all", "most", .35, "the plan and the details decide apart: near chance, one in eight"),
    ("blind_plan", "one plan", "least", .8, "within a plan nothing is taken away"),
    ("blind_plan", "two plans", "most", .35, "the next plan cannot know what the details have decided"),
    ("blind_details", "one plan", "most", .35, "the details cannot know what the plan has decided for later"),
    ("known", "gap", "most", .1, "the context shows the colour: nothing is decided, so nothing twice"),
    ("large", "gap", "most", .1, "the coarsest level sees such a plaque from far: only the plan decides"),
]


# ---- the test --------------------------------------------------------------------------------------------------------


def _with_looks_aside(rng, steps, looks):
    "Forward moves, and looks to one side and back, in any order."
    looks = [[TURN_LEFT, TURN_RIGHT] if rng.random() < .5 else [TURN_RIGHT, TURN_LEFT] for _ in range(looks)]
    parts = [[FORWARD]] * steps + looks
    rng.shuffle(parts)
    return [action for part in parts for action in part]


def test_walk(number: int):
    "A walk whose context looks west; then it turns round and walks to the east wall. Returns held actions, views."
    rng, given, made, steps = random.Random(number), GIVEN // HOLD, MADE // HOLD, 4
    moves = _with_looks_aside(rng, steps, (given - steps) // 2)
    moves += [rng.choice((TURN_LEFT, TURN_RIGHT))] * 2
    moves += _with_looks_aside(rng, steps, rng.choice((0, 1, 2, 14, 15, 16)))  # straight on, or much later
    moves += stroll(rng, given + made - len(moves), LENGTH - 1, 0)
    start, held = ((LENGTH - 1) * HOLD, 0, 2 * HOLD), np.repeat(moves, HOLD)
    return held, hall_index(integrate_actions(start, held, HOLD))


FAR, NEAR = (4., 5.), 1.5  # places: at FAR the coarsest level hardly knows the colour, up to NEAR all levels do
LAGS = ((5, 8), (9, 16), (17, 32), (33, 64))  # frames between the two looks
PLAN = 32  # frames of a plan of MilliVid


def agreement(colours: np.ndarray, places: np.ndarray) -> dict[str, list]:
    """Does a plaque keep its colour between a far look, before it was seen from near, and a near one?

    colours int (episodes, frames), -1 where unreadable; places float, the distance of the east wall, nan where it is
    not looked at. Returns {what: [share of agreeing pairs, of each episode]}: pairs by lag; all; those inside one plan
    of MilliVid; and those of which the first near look is in a later plan than the far one.
    """
    shares = {}
    for colour, place in zip(colours, places):
        looks = (place >= FAR[0]) & (place <= FAR[1]), place <= NEAR
        far, near = (np.flatnonzero(look & (colour >= 0)) for look in looks)
        begins = np.flatnonzero(looks[1]).min(initial=len(place))
        far = far[far < begins]  # later it is no longer new
        first, then = np.meshgrid(far, near, indexing="ij")
        lag, same = then - first, colour[first] == colour[then]
        parts = {f"{a}-{b}": (lag >= a) & (lag <= b) for a, b in LAGS}
        near_enough = (lag > 0) & (lag <= LAGS[-1][1])
        parts |= {"all": near_enough, "one plan": near_enough & (first // PLAN == then // PLAN),
                  "two plans": near_enough & (first // PLAN < begins // PLAN)}
        for name, part in parts.items():
            shares.setdefault(name, []).append(same[part].mean() if part.any() else np.nan)
    return shares


def judge(made, truth, views, reader: Reader, tokenizer) -> dict:
    "All numbers of one model's latents (episodes, frames, tokens, channels): agreement, unreadable looks, PSNR."
    places = distance(views)
    colours = np.array([[-1 if np.isnan(place) else reader(latents, view)
                         for latents, view, place in zip(*parts)] for parts in zip(made, views, places)])
    looks = {"far": (places >= FAR[0]) & (places <= FAR[1]), "near": places <= NEAR}
    score = {name: bootstrap_interval(np.array(values)[:, None])
             for name, values in agreement(colours, places).items()}
    quality = frame_psnr(decode_videos(tokenizer, made), truth)
    return {"agreement": score, "unreadable": {name: float((colours[look] < 0).mean()) for name, look in looks.items()},
            "psnr_elsewhere": float(quality[np.isnan(places)].mean())}


def measure(root: Path) -> dict:
    "All rows that are trained, and the truth as the tokenizer draws it; worlds without a trained row are left out."
    walks, result = [test_walk(number) for number in range(EPISODES)], {"rows": {}, "controls": {}}
    views = np.stack([view for _, view in walks])
    actions, given = torch.stack([action_rows(held, HOLD) for held, _ in walks]), slice(GIVEN, None)
    for name, world in WORLDS.items():
        jobs = {row: f"{name}_{row}" if name != "gallery" else row for row in ROWS}
        jobs = {row: job for row, job in jobs.items() if (root / job / "model.safetensors").exists()}
        if not jobs:
            continue
        tokenizer = tokenizer_of(root, name)
        truth = np.stack([draw_hall(10_000_000 + number, view, world) for number, view in enumerate(views)])
        latents = torch.stack([encode_frames(tokenizer, video) for video in truth])
        made = {"truth": latents[:, given]}
        for row, job in jobs.items():
            pipeline = Pipeline.from_pretrained(root / job, tokenizer=tokenizer)
            parts = [pipeline.generate(latents[some], actions[some], GIVEN, GIVEN + MADE, 4, some.tolist())
                     for some in torch.arange(EPISODES).split(16)]
            made[row] = torch.cat(parts)[:, given]
        reader = Reader(walks_of(root, name)[0], world)
        rows = {row: judge(one, truth[:, given], views[:, given], reader, tokenizer) for row, one in made.items()}
        if name == "gallery":
            some = {row: decode_videos(tokenizer, one[:len(SHOWN_EPISODES)]) for row, one in made.items()}
            result |= {"rows": rows, "shown": show(some, distance(views[:, given]))}
        else:
            result["controls"][name] = rows
    return result


SHOWN_EPISODES = (0, 1, 2)  # whatever they show


def show(videos: dict, places: np.ndarray) -> dict:
    """Write gallery.png: for each of some episodes a row of each model, the frames at which the wall comes nearer.

    Returns what the picture shows: episodes, rows, and {episode: generated frames, counted from 1}.
    """
    lines, frames = [], {}
    for episode in SHOWN_EPISODES:
        straight = places[episode]
        when = [int(np.flatnonzero(straight == place)[0]) for place in (4.5, 4., 3.5, 2.5, 1.5, 1., .5)]
        frames[episode] = [frame + 1 for frame in when]
        lines += [np.concatenate(list(video[episode, when]), axis=1) for video in videos.values()]
    sheet = Image.fromarray(np.concatenate(lines))
    write_atomically(RESULTS / "gallery.png", lambda path: sheet.save(path, "PNG", optimize=True))
    return {"rows": list(videos), "frames": frames}


def outcome(result: dict) -> list[dict]:
    "Each prediction beside what was measured. A gap is MilliVid less upscaling, all pairs, in a control."
    lines = []
    for name, pairs, bound, value, why in PREDICTIONS:
        rows = result["controls"].get(name) if pairs == "gap" else result["rows"]
        found = None
        if pairs == "gap" and rows and {"millivid", "rollout_upscale"} <= rows.keys():
            first, second = (rows[row]["agreement"]["all"]["mean"] for row in ("millivid", "rollout_upscale"))
            found = first - second
        elif pairs != "gap" and name in rows:
            found = rows[name]["agreement"][pairs]["mean"]
        held = None if found is None else bool(found >= value if bound == "least" else found <= value)
        lines.append({"row": name, "pairs": pairs, "bound": bound, "value": value, "why": why,
                      "measured": found if found is None else round(found, 3), "held": held})
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("calibrate", "train", "measure"))
    parser.add_argument("root", type=Path, help="a folder for everything that is made on the way")
    parser.add_argument("job", nargs="?", choices=JOBS)
    options = parser.parse_args()
    options.root.mkdir(parents=True, exist_ok=True)
    file = RESULTS / "gallery.json"
    kept = json.loads(file.read_text()) if file.exists() else {}
    if options.what == "train":
        require(options.job, f"which row? give one of {', '.join(JOBS)}")
        train_job(options.root, options.job)
    elif options.what == "calibrate":
        write_json(file, kept | {"calibration": calibrate(options.root)})
    else:
        kept |= measure(options.root)
        write_json(file, kept | {"predictions": outcome(kept)})


if __name__ == "__main__":
    main()
