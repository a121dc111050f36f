_HEIGHTS = """
def wall_heights(x, y, heading, side=3, columns=64):
    right = 2 * (np.arange(columns) + .5) / columns - 1
    {rays}
    to_x = np.where(ray_x > 0, side - x, -x) / ray_x
    to_y = np.where(ray_y > 0, side - y, -y) / ray_y
    return {result}
"""
_AHEAD = "ray_x, ray_y = np.cos(heading) + right * np.sin(heading), np.sin(heading) - right * np.cos(heading)"
_REMEMBER = """
def remember(context_frames, actions):
    poses = [tuple(pose{part}) for pose in integrate_actions((0, 0, 0), actions{held}).tolist()]
    context, made = len(context_frames), [context_frames[-1]]
    known = dict(zip(poses[{seen}], context_frames[{seen}]))
    for pose in poses[context:]:
        made.append(known.get(pose, {otherwise}))
        {then}
    return np.stack(made[{first}:]){kind}
"""


def _remember(part="", held="", seen=":context", otherwise="made[-1]", then="", first=1, kind=""):
    return _REMEMBER.format(**locals())



_WALK = """
def new_views(start):
    rng, pose, seen, actions = random.Random(0), tuple(start), set(), []
    while True:
        seen.add(pose)
        x, y, heading = pose
        choices = [(TURN_LEFT, (x, y, (heading + 1) % 4)), (TURN_RIGHT, (x, y, (heading - 1) % 4)),
                   (FORWARD, (x + STEPS[heading][0], y + STEPS[heading][1], heading))]
        choices = [(action, then) for action, then in choices if then not in seen {walls}]
        if not choices or len(actions) == 40:
            return {result}
        action, pose = rng.choice(choices)
        actions.append(action)
"""
WRONG = {
    "check_world_poses": [
        "def count_poses(places, frames_per_action): return places ** 2 * 4 * frames_per_action",
        "def count_poses(places, frames_per_action):\n"
        "    return places ** 2 * 4 * frames_per_action + 2 * places * (places - 1) * (frames_per_action - 1)",
        "def count_poses(places, frames_per_action):\n"
        "    return (places * frames_per_action) ** 2 * 4"],
    "check_world_heights": [
        _HEIGHTS.format(rays=_AHEAD, result=".5 / np.minimum(to_x, to_y) / np.hypot(ray_x, ray_y)"),
        _HEIGHTS.format(rays=_AHEAD, result="1 / np.minimum(to_x, to_y)"),
        _HEIGHTS.format(rays="angle = heading - np.pi / 4 * right; ray_x, ray_y = np.cos(angle), np.sin(angle)",
                        result=".5 / np.minimum(to_x, to_y) / np.cos(np.pi / 4 * right)")],
    "check_world_window": [
        "def share_in_window(poses, context, memory):\n"
        "    held = [(poses[max(0, f - memory):f + 1] == poses[f]).all(1).any() for f in range(context, len(poses))]\n"
        "    return np.mean(held)",
        "def share_in_window(poses, context, memory):\n"
        "    held = [(poses[max(0, f - memory):context] == poses[f]).all(1).any()\n"
        "            for f in range(context, len(poses))]\n"
        "    return np.mean(held)",
        "def share_in_window(poses, context, memory):\n"
        "    held = [(poses[:f] == poses[f]).all(1).any() for f in range(context, len(poses))]\n"
        "    return np.mean(held)",
        "def share_in_window(poses, context, memory):\n"
        "    held = [(poses[f - memory:f] == poses[f]).all(1).any() for f in range(context, len(poses))]\n"
        "    return np.mean(held)"],
    "check_world_remember": [
        "def remember(context_frames, actions):\n"
        "    return np.stack([context_frames[-1]] * (len(actions) - len(context_frames)))",
        _remember(part="[:2]"),
        _remember(otherwise="context_frames[-1]"),
        _remember(first=0),
        _remember(held=", 1"),
        _remember(then="known[pose] = made[-1]"),
        _remember(seen=":context - 1"),
        _remember(seen="1:context"),
        _remember(kind=" / 1."),
        _remember(kind=".astype(int)")],
    "check_world_new_views": [
        "def new_views(start): return [TURN_LEFT] * 25",
        "def new_views(start): return [FORWARD, TURN_LEFT, FORWARD, TURN_RIGHT] * 7",
        _WALK.format(walls="", result="actions"),
        _WALK.format(walls="and 0 <= then[0] <= 2 and 0 <= then[1] <= 2", result="actions"),
        _WALK.format(walls="and 0 <= then[0] <= 2 and 0 <= then[1] <= 2",
                     result="[action for action in actions for _ in range(2)]")]}
