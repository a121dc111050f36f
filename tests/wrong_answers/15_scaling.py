WRONG = {
    "check_scaling_even": [
        "def even_tokens(width): return 12 * width",
        "def even_tokens(width): return 6 * width ** 2",
        "def even_tokens(width): return 4608"],
    "check_scaling_cache": [
        "def cached_frames(config, tokens_per_frame, gigabytes, bytes_per_number=2):\n"
        "    return int(gigabytes * 1e9 // (config.depth * config.width * bytes_per_number * tokens_per_frame))",
        "def cached_frames(config, tokens_per_frame, gigabytes, bytes_per_number=2):\n"
        "    return int(gigabytes * 1e9 // (2 * config.width * bytes_per_number * tokens_per_frame))",
        "def cached_frames(config, tokens_per_frame, gigabytes, bytes_per_number=2):\n"
        "    numbers = 2 * config.depth * config.width * tokens_per_frame\n"
        "    return int(gigabytes * 2 ** 30 // (numbers * bytes_per_number))",
        "def cached_frames(config, tokens_per_frame, gigabytes, bytes_per_number=2):\n"  # one byte a number
        "    return int(gigabytes * 1e9 // (2 * config.depth * config.width * tokens_per_frame))",
        "def cached_frames(config, tokens_per_frame, gigabytes, bytes_per_number=2):\n"  # always two bytes
        "    return int(gigabytes * 1e9 // (4 * config.depth * config.width * tokens_per_frame))"],
    "check_scaling_training": [
        "def training_passes(block, x, rows): return 3.",
        "def training_passes(block, x, rows):\n"
        "    with FlopCounterMode(display=False) as forward:\n"
        "        y = block(x, rows)\n"
        "    with FlopCounterMode(display=False) as backward:\n"
        "        y.sum().backward()\n"
        "    return backward.get_total_flops() / forward.get_total_flops()"],
    "check_scaling_hours": [
        "def even_hours(tokenizer, experiment, training, rate):\n"  # frames, not hours
        "    one_pass = pass_flops(experiment.video.transformer, experiment.tokens_per_step)\n"
        "    return training_flops(one_pass, training) / encoding_flops(tokenizer)",
        "def even_hours(tokenizer, experiment, training, rate):\n"  # the batch of one GPU
        "    one_pass = pass_flops(experiment.video.transformer, experiment.tokens_per_step)\n"
        "    frame = encoding_flops(tokenizer) * 3600 * rate\n"
        "    return 3 * one_pass * training.steps * training.batch_size / training.micro_batches / frame",
        "def even_hours(tokenizer, experiment, training, rate):\n"  # the paper's rate, whatever was asked
        "    one_pass = pass_flops(experiment.video.transformer, experiment.tokens_per_step)\n"
        "    return training_flops(one_pass, training) / (encoding_flops(tokenizer) * 15 * 3600)"],
    "check_scaling_levels": [
        "def price_and_error(pipeline, latents, actions, start, end, levels):\n"
        "    found, finest = [], pipeline.experiment.pyramid.level_slice(0)\n"
        "    for number in levels:\n"
        "        made = pipeline.generate(latents, actions, start, end, num_inference_steps=number, progress=False)\n"
        "        error = (made[:, start:, finest] - latents[:, start:end, finest]).square().mean()\n"
        "        found.append((number - 1, float(error)))\n"
        "    return found",
        "def price_and_error(pipeline, latents, actions, start, end, levels):\n"
        "    steps = len(rollout_plan(pipeline.experiment.schedule(), start, end))\n"
        "    made = pipeline.generate(latents, actions, start, end, progress=False)\n"
        "    error = (made[:, start:, :16] - latents[:, start:end, :16]).square().mean()\n"
        "    return [((number - 1) * steps, float(error)) for number in levels]",
        "def price_and_error(pipeline, latents, actions, start, end, levels):\n"  # counted for each video
        "    steps, found = len(latents) * len(rollout_plan(pipeline.experiment.schedule(), start, end)), []\n"
        "    for number in levels:\n"
        "        made = pipeline.generate(latents, actions, start, end, num_inference_steps=number, progress=False)\n"
        "        error = (made[:, start:, :16] - latents[:, start:end, :16]).square().mean()\n"
        "        found.append(((number - 1) * steps, float(error)))\n"
        "    return found"],
    "check_scaling_quarter_price": [
        "def quarter_price(): return full_resolution_schedule(10, (16, 4, 1))",
        "def quarter_price(): return millivid_schedule((2, 8, 32), 64, (16, 4, 1))",
        "def quarter_price(): return framepack_schedule((2, 4, 66), 3, (16, 4, 1))",
        "def quarter_price(): return two_speeds_schedule()",
        "def quarter_price(): return upscale_schedule(8, (16, 4, 1))",
        "def quarter_price(): return upscale_schedule(8, (16, 4, 1), False)",
        "def quarter_price():\n"  # cheap, and without the middle level, which no model here was trained for
        "    nothing, steps = '.' * 144, [['c' * 72 + 'd' * 72, '.' * 144, '.' * 144]]\n"
        "    for first in range(72, 144, 8):\n"
        "        new = [(letter * 8).rjust(first + 8, '.').ljust(144, '.') for letter in 'cd']\n"
        "        steps.append([new[0], nothing, new[1]])\n"
        "    return schedule_from_text('\\n\\n'.join('\\n'.join(step) for step in steps), (16, 4, 1))"]}
