WRONG = {
    "check_why_levels": [
        "def levels_add(result, row, horizon):\n"
        "    levels = sorted(result['levels'][row], key=int, reverse=True)\n"
        "    return np.diff([result['levels'][row][level][horizon] for level in levels]).tolist()",
        "def levels_add(result, row, horizon):\n"
        "    levels = result['levels'][row], result['levels']['autoencoded']\n"
        "    return [tuple(each[b][horizon] - each[a][horizon] for each in levels)\n"
        "            for a, b in (('2', '1'), ('1', '0'))]",
        "def levels_add(result, row, horizon):\n"  # always the long horizon
        "    levels = sorted(result['levels'][row], key=int, reverse=True)\n"
        "    return [tuple(result['levels'][each][b]['long'] - result['levels'][each][a]['long']\n"
        "                  for each in (row, 'autoencoded')) for a, b in zip(levels, levels[1:])]"],
    "check_why_answer": [
        "def answer(probabilities):\n"
        "    angle = probabilities.argmax() * np.pi / 4\n"
        "    return np.array([np.cos(angle), np.sin(angle)])",
        "def answer(probabilities):\n"
        "    angle = np.arange(8) * np.pi / 4\n"
        "    mean = np.array([probabilities @ np.cos(angle), probabilities @ np.sin(angle)])\n"
        "    return mean / np.linalg.norm(mean)"],
    "check_why_rare": [
        "def rare(lead, places):\n"
        "    changes = np.array([lead[p:p + 8].mean() - lead[p - 8:p].mean() for p in range(8, len(lead) - 7)])\n"
        "    return float((changes <= changes[np.array(places) - 8].mean()).mean())",
        "def rare(lead, places):\n"
        "    places = np.array(places)\n"
        "    change = lambda shift: np.mean([lead[p:p + 8].mean() - lead[p - 8:p].mean() for p in places + shift])\n"
        "    shifts = range(8 - min(places), len(lead) - 8 - max(places) + 1)\n"
        "    return float(np.mean([change(shift) >= change(0) for shift in shifts]))",
        "def rare(lead, places): return .05"],
    "check_why_features": [
        "def features(actions): return torch.nn.functional.one_hot(actions, 3).float()",
        "def features(actions):\n"
        "    return ((actions == 1).float() - (actions == 2).float()).cumsum(1)[..., None]",
        "def features(actions):\n"
        "    turns = ((actions == 1).int() - (actions == 2).int()).flip(1).cumsum(1).flip(1)\n"
        "    return torch.stack([(turns * torch.pi / 4).cos(), (turns * torch.pi / 4).sin()], dim=-1)",
        "def features(actions):\n"  # without this frame's turn
        "    turn = (actions == 1).int() - (actions == 2).int()\n"
        "    turns = turn.cumsum(1) - turn\n"
        "    return torch.stack([(turns * torch.pi / 4).cos(), (turns * torch.pi / 4).sin()], dim=-1)"],
    "check_why_true_plan": [
        "def error_given(pipeline, latents, actions, start, end, level):\n"
        "    made = pipeline.generate(latents, actions, start, end, progress=False)\n"
        "    finest = pipeline.experiment.pyramid.level_slice(0)\n"
        "    return float((made[:, start:, finest] - latents[:, start:end, finest]).square().mean())",
        "def error_given(pipeline, latents, actions, start, end, level):\n"
        "    pyramid = pipeline.experiment.pyramid\n"
        "    part = pyramid.level_slice(min(level, 2))\n"
        "    def follow(step, chunk, video): video[:, start:end, part] = latents[:, start:end, part]\n"
        "    made = pipeline.generate(latents, actions, start, end, progress=False, on_step=follow)\n"
        "    finest = pyramid.level_slice(0)\n"
        "    return float((made[:, start:, finest] - latents[:, start:end, finest]).square().mean())",
        "def error_given(pipeline, latents, actions, start, end, level):\n"  # the level alone, not the coarser ones
        "    pyramid = pipeline.experiment.pyramid\n"
        "    part = pyramid.level_slice(level) if level < 3 else slice(0)\n"
        "    def follow(step, chunk, video): video[:, start:end, part] = latents[:, start:end, part]\n"
        "    made = pipeline.generate(latents, actions, start, end, progress=False, on_step=follow)\n"
        "    finest = pyramid.level_slice(0)\n"
        "    return float((made[:, start:, finest] - latents[:, start:end, finest]).square().mean())"]}
