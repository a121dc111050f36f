WRONG = {
    "check_own_keys": [
        "def action_of_each_frame(times, keys, rate, frames):\n"  # the key at the moment of the frame
        "    entry = np.searchsorted(times, np.arange(frames) / rate, side='right') - 1\n"
        "    return keys[np.clip(entry, 0, None)]",
        "def action_of_each_frame(times, keys, rate, frames):\n"  # the key after the frame
        "    entry = np.searchsorted(times, (np.arange(frames) + .5) / rate, side='right') - 1\n"
        "    return keys[np.clip(entry, 0, None)]",
        "def action_of_each_frame(times, keys, rate, frames):\n"  # the next key
        "    entry = np.searchsorted(times, (np.arange(frames) - .5) / rate, side='right')\n"
        "    return keys[np.clip(entry, 0, len(keys) - 1)]",
        "def action_of_each_frame(times, keys, rate, frames):\n"  # before the first entry: the last key
        "    return keys[np.searchsorted(times, (np.arange(frames) - .5) / rate, side='right') - 1]",
        "def action_of_each_frame(times, keys, rate, frames):\n"  # the nearest entry
        "    middle = (np.arange(frames) - .5) / rate\n"
        "    return keys[abs(middle[:, None] - times).argmin(1)]"],
    "check_own_shift": [
        "def best_shift(change, turning, most=5): return 0",
        "def best_shift(change, turning, most=5):\n"  # the other way round
        "    count, scores = len(change), {}\n"
        "    for k in range(-most, most + 1):\n"
        "        frames = np.arange(max(0, k), min(count, count + k))\n"
        "        scores[k] = np.corrcoef(change[frames], turning[frames - k])[0, 1]\n"
        "    return max(scores, key=scores.get)",
        "def best_shift(change, turning, most=5):\n"  # late tables only
        "    scores = [np.corrcoef(change[:len(change) - k], turning[k:])[0, 1] for k in range(most + 1)]\n"
        "    return int(np.argmax(scores))",
        "def best_shift(change, turning, most=5):\n"  # the last shift is left out
        "    count, scores = len(change), {}\n"
        "    for k in range(-most + 1, most):\n"
        "        frames = np.arange(max(0, -k), min(count, count - k))\n"
        "        scores[k] = np.corrcoef(change[frames], turning[frames + k])[0, 1]\n"
        "    return max(scores, key=scores.get)",
        "def best_shift(change, turning, most=5):\n"  # never beyond 3
        "    most, count, scores = min(most, 3), len(change), {}\n"
        "    for k in range(-most, most + 1):\n"
        "        frames = np.arange(max(0, -k), min(count, count - k))\n"
        "        scores[k] = np.corrcoef(change[frames], turning[frames + k])[0, 1]\n"
        "    return max(scores, key=scores.get)"],
    "check_own_reckon": [
        "def reckon(speed, turn, rate, step):\n"  # drives before it turns
        "    yaw = np.cumsum(turn / rate)\n"
        "    before = np.concatenate([[0], yaw[:-1]])\n"
        "    length = speed / rate / step\n"
        "    return np.stack([np.cumsum(length * np.cos(before)), np.cumsum(length * np.sin(before)), yaw], axis=1)",
        "def reckon(speed, turn, rate, step):\n"  # metres
        "    yaw, length = np.cumsum(turn / rate), speed / rate\n"
        "    return np.stack([np.cumsum(length * np.cos(yaw)), np.cumsum(length * np.sin(yaw)), yaw], axis=1)",
        "def reckon(speed, turn, rate, step):\n"  # a frame is a second
        "    yaw, length = np.cumsum(turn), speed / step\n"
        "    return np.stack([np.cumsum(length * np.cos(yaw)), np.cumsum(length * np.sin(yaw)), yaw], axis=1)",
        "def reckon(speed, turn, rate, step):\n"  # degrees
        "    yaw, length = np.cumsum(turn / rate), speed / rate / step\n"
        "    x, y = np.cumsum(length * np.cos(yaw)), np.cumsum(length * np.sin(yaw))\n"
        "    return np.stack([x, y, np.degrees(yaw)], axis=1)",
        "def reckon(speed, turn, rate, step):\n"  # the direction of each frame alone
        "    yaw, length = turn / rate, speed / rate / step\n"
        "    x, y = np.cumsum(length * np.cos(yaw)), np.cumsum(length * np.sin(yaw))\n"
        "    return np.stack([x, y, np.cumsum(yaw)], axis=1)"],
    "check_own_stream": [
        "def forgetful(pipeline, latents, actions, chunks, noise):\n"  # all at once
        "    back = latents.shape[1]\n"
        "    end = back + chunks * pipeline.experiment.schedule().finished_frames\n"
        "    return pipeline.generate(latents, actions, back, end, noise=noise, progress=False)[:, back:]",
        "def forgetful(pipeline, latents, actions, chunks, noise):\n"  # forgets nothing
        "    back, new = latents.shape[1], pipeline.experiment.schedule().finished_frames\n"
        "    for first in range(back, back + chunks * new, new):\n"
        "        latents = pipeline.generate(latents, actions, first, first + new, noise=noise, progress=False)\n"
        "    return latents[:, back:]",
        "def forgetful(pipeline, latents, actions, chunks, noise):\n"  # the actions do not move on
        "    schedule, made = pipeline.experiment.schedule(), []\n"
        "    back, new = schedule.context_frames, schedule.finished_frames\n"
        "    for _ in range(chunks):\n"
        "        latents = latents[:, -back:]\n"
        "        latents = pipeline.generate(latents, actions, back, back + new, noise=noise, progress=False)\n"
        "        made.append(latents[:, back:])\n"
        "    return torch.cat(made, dim=1)",
        "def forgetful(pipeline, latents, actions, chunks, noise):\n"  # each chunk begins with the same noise
        "    schedule, made = pipeline.experiment.schedule(), []\n"
        "    back, new = schedule.context_frames, schedule.finished_frames\n"
        "    for first in range(0, chunks * new, new):\n"
        "        rows = actions[:, first:first + back + new]\n"
        "        latents = pipeline.generate(latents[:, -back:], rows, back, back + new, seeds=[7], progress=False)\n"
        "        made.append(latents[:, back:])\n"
        "    return torch.cat(made, dim=1)",
        "def forgetful(pipeline, latents, actions, chunks, noise):\n"  # always the first context
        "    schedule, made = pipeline.experiment.schedule(), []\n"
        "    back, new = schedule.context_frames, schedule.finished_frames\n"
        "    for first in range(0, chunks * new, new):\n"
        "        rows = actions[:, first:first + back + new]\n"
        "        video = pipeline.generate(latents, rows, back, back + new, noise=noise, progress=False)\n"
        "        made.append(video[:, back:])\n"
        "    return torch.cat(made, dim=1)"]}
