LOOK_UP = '''def look_up(frames, actions):
    poses = {poses}
    known = {known}
    return frames[[known.get(tuple(pose), len(frames) - 1) for pose in poses[len(frames):].tolist()]]'''
NEWEST = "{tuple(pose): number for number, pose in enumerate(poses[:len(frames)].tolist())}"
OLDEST = "{tuple(pose): number for number, pose in reversed([*enumerate(poses[:len(frames)].tolist())])}"
CLOSED = "torch.cat([(2 * actions[:, 1:3]).round(), (actions[:, 4:5] / torch.pi * 4).round() % 8], 1)"

WRONG = {
    "check_evaluation_grey_levels": [
        "def grey_levels(decibels): return 10 ** (-decibels / 20)",
        "def grey_levels(decibels): return 255 * 10 ** (-decibels / 10)",
        "def grey_levels(decibels): return 255 - decibels"],
    "check_evaluation_look_up": [
        "def look_up(frames, actions): return np.repeat(frames[-1:], len(actions) - len(frames), axis=0)",
        "def look_up(frames, actions):\n"
        "    poses = [tuple(pose) for pose in torch.round(actions[:, [1, 2]] * 100).long().tolist()]\n"
        "    newest = {pose: number for number, pose in enumerate(poses[:len(frames)])}\n"
        "    return frames[[newest.get(pose, len(frames) - 1) for pose in poses[len(frames):]]]",
        "def look_up(frames, actions):\n"
        "    poses = actions[:, [1, 2, 4]]\n"
        "    apart = (poses[len(frames):, None] - poses[None, :len(frames)]).square().sum(-1)\n"
        "    return frames[apart.argmin(1).numpy()]",
        LOOK_UP.format(poses="actions[:, [1, 2, 4]]", known=NEWEST),
        LOOK_UP.format(poses="(10 * actions[:, [1, 2, 4]]).round()", known=NEWEST),
        LOOK_UP.format(poses=CLOSED, known=OLDEST)],
    "check_evaluation_lead": [
        "def lead(one, two, chosen):\n"
        "    low, high = np.percentile((one - two).mean(axis=1), [2.5, 97.5])\n"
        "    return (one - two).mean(), low, high",
        "def lead(one, two, chosen):\n"
        "    a, b = (np.percentile(model.mean(axis=1)[chosen].mean(axis=1), [2.5, 97.5]) for model in (one, two))\n"
        "    return (one - two).mean(), a[0] - b[1], a[1] - b[0]",
        "def lead(one, two, chosen): return (one - two).mean()"],
    "check_evaluation_influence": [
        "def influence(pipeline, latents, other, actions, start, recent, new): return 0.",
        "def influence(pipeline, latents, other, actions, start, recent, new):\n"
        "    mixed, finest = latents, pipeline.experiment.pyramid.level_slice(0)\n"
        "    mixed[:, :start - recent] = other[:, :start - recent]\n"
        "    one, two = (pipeline.generate(past, actions, start, start + new, progress=False)[:, start:, finest]\n"
        "                for past in (latents, mixed))\n"
        "    return float((one - two).square().mean())",
        "def influence(pipeline, latents, other, actions, start, recent, new):\n"
        "    one, two = (pipeline.generate(past, actions, start, start + new, progress=False)[:, start:]\n"
        "                for past in (latents, other))\n"
        "    return float((one - two).square().mean())",
        "def influence(pipeline, latents, other, actions, start, recent, new):\n"
        "    finest, make = pipeline.experiment.pyramid.level_slice(0), pipeline.generate\n"
        "    one = make(latents, actions, start, start + new, progress=False)[:, start:, finest]\n"
        "    latents[:, :start - recent] = other[:, :start - recent]\n"
        "    two = make(latents, actions, start, start + new, progress=False)[:, start:, finest]\n"
        "    return float((one - two).square().mean())"],
    "check_evaluation_own_metric": [
        "from millivid.evaluation import frame_psnr as own_metric",
        "from millivid.evaluation import frame_ssim as own_metric",
        "def own_metric(frames, truth):\n"
        "    def standard(x):\n"
        "        x = x - x.mean((-3, -2), keepdims=True)\n"
        "        return x / np.sqrt(np.square(x).mean((-3, -2, -1), keepdims=True))\n"
        "    return (standard(frames) * standard(truth)).mean((-3, -2, -1))",
        "def own_metric(frames, truth): return 1."]}
