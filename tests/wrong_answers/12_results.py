WRONG = {
    "check_results_share": [
        "def share(result, row, metric, horizon):\n"
        "    score, high = (result['rows'][name][metric][horizon]['mean'] for name in (row, 'autoencoded'))\n"
        "    return score / high",
        "def share(result, row, metric, horizon):\n"
        "    score, low, high = (result['rows'][name][metric][horizon]['mean']\n"
        "                        for name in (row, 'average_room', 'autoencoded'))\n"
        "    return (score - low) / (high - low)"],
    "check_results_swapped": [
        "def swapped(result, one, two, horizon): return []",
        "def swapped(result, one, two, horizon):\n"
        "    score = lambda name, metric: result['rows'][name][metric][horizon]['mean']\n"
        "    names = result['models']\n"
        "    return sorted((a, b) for a in names for b in names\n"
        "                  if score(a, one) > score(b, one) and score(a, two) < score(b, two))",
        "def swapped(result, one, two, horizon):\n"
        "    score = lambda name, metric: result['rows'][name][metric][horizon]['mean']\n"
        "    names = result['rows']\n"
        "    return sorted((a, b) for a in names for b in names\n"
        "                  if a < b and (score(a, one) - score(b, one)) * (score(a, two) - score(b, two)) < 0)"],
    "check_results_until_fog": [
        "def until_fog(result, row):\n"
        "    ahead = np.array(result['curves'][row]['psnr']) - np.array(result['curves']['average_room']['psnr'])\n"
        "    slope, intercept = np.polyfit(np.arange(1, len(ahead) + 1), ahead, 1)\n"
        "    return -intercept / slope if slope < 0 else np.inf",
        "def until_fog(result, row):\n"
        "    curve = np.array(result['curves'][row]['psnr'])\n"
        "    back = experiment_of(result['models'][row]).context_frames\n"
        "    slope, intercept = np.polyfit(np.arange(1, len(curve) + 1)[back:], curve[back:], 1)\n"
        "    return -intercept / slope if slope < 0 else np.inf",
        "def until_fog(result, row):\n"
        "    ahead = np.array(result['curves'][row]['psnr']) - np.array(result['curves']['average_room']['psnr'])\n"
        "    back = experiment_of(result['models'][row]).context_frames\n"
        "    slope, intercept = np.polyfit(np.arange(1, len(ahead) + 1)[back:], ahead[back:], 1)\n"
        "    return -intercept / slope if slope * back + slope + intercept > 0 else 0",
        "def until_fog(result, row):\n"
        "    ahead = np.array(result['curves'][row]['psnr']) - np.array(result['curves']['average_room']['psnr'])\n"
        "    back = experiment_of(result['models'][row]).context_frames\n"
        "    slope, intercept = np.polyfit(np.arange(1, len(ahead) + 1)[back:], ahead[back:], 1)\n"
        "    return -intercept / slope if slope < 0 else np.inf",
        "def until_fog(result, row):\n"
        "    ahead = np.array(result['curves'][row]['psnr']) - np.array(result['curves']['average_room']['psnr'])\n"
        "    back = experiment_of(result['models'][row]).context_frames\n"
        "    slope, intercept = np.polyfit(np.arange(1, len(ahead) + 1)[back:], ahead[back:], 1)\n"
        "    return max(-intercept / slope, 0)"],
    "check_results_row": [
        "def row(pipeline, tokenizer, frames, actions, context):\n"
        "    latents = torch.stack([encode_frames(tokenizer, video) for video in frames])\n"
        "    quality = frame_psnr(decode_videos(tokenizer, latents[:, context:]), frames[:, context:])\n"
        "    spans = horizons(frames.shape[1] - context)\n"
        "    return {name: float(quality[:, first - 1:last].mean()) for name, (first, last) in spans.items()}",
        "def row(pipeline, tokenizer, frames, actions, context):\n"
        "    latents = torch.stack([encode_frames(tokenizer, video) for video in frames])\n"
        "    made = pipeline.generate(latents, actions, context, frames.shape[1], progress=False)\n"
        "    quality = frame_psnr(decode_videos(tokenizer, made[:, context:]), frames[:, context:])\n"
        "    spans = horizons(frames.shape[1] - context)\n"
        "    return {name: float(quality[:, first:last].mean()) for name, (first, last) in spans.items()}"],
    "check_results_drift": [
        "def drift(pipeline, latents, actions, start, end, last):\n"
        "    made = (pipeline.generate(latents, actions, first, end, progress=False)\n"
        "            for first in (start, end - last))\n"
        "    finest = pipeline.experiment.pyramid.level_slice(0)\n"
        "    return tuple(float((video[:, start:, finest] - latents[:, start:, finest]).square().mean())\n"
        "                 for video in made)",
        "def drift(pipeline, latents, actions, start, end, last):\n"
        "    late, finest = slice(end - last, end), pipeline.experiment.pyramid.level_slice(0)\n"
        "    made = (pipeline.generate(latents, actions, first, end, progress=False)\n"
        "            for first in (end - last, start))\n"
        "    return tuple(float((video[:, late, finest] - latents[:, late, finest]).square().mean())\n"
        "                 for video in made)",
        "def drift(pipeline, latents, actions, start, end, last):\n"
        "    made = (pipeline.generate(latents, actions, first, end, progress=False)\n"
        "            for first in (start, end - last))\n"
        "    return tuple(float((video - latents)[:, end - last:end].square().mean()) for video in made)"]}
