LOOP = '''def loop(model, video, actions, schedule, pyramid, start, end, seeds):
    video, generator, noise = video.clone(), torch.Generator().manual_seed(seeds[0]), VideoNoise(seeds)
    indices, coordinates = step_indices(schedule, pyramid), pyramid.coordinates()
    for step, first in schedule.rollout(start, end):
        tokens = gather_tokens(video, actions, indices[step], coordinates, {gathered})
        eps = {noise}
        x, _ = ddim_sample(lambda x_t, t, given: model(x_t, t, tokens, given), tokens.values, tokens.is_target, eps, 3)
        write_tokens(video, x, indices[step]{written})
    return video'''
RIGHT = dict(gathered="first", noise="noise(*tokens.values.shape[1:])", written=", first")

WRONG = {
    "check_rollout_passes": [
        "def calls(schedule, new_frames, levels):\n"
        "    return new_frames / schedule.finished_frames * schedule.num_steps * (levels - 1)",
        "def calls(schedule, new_frames, levels):\n"
        "    return new_frames // schedule.finished_frames * schedule.num_steps * levels",
        "def calls(schedule, new_frames, levels): return new_frames // schedule.finished_frames * (levels - 1)",
        "def calls(schedule, new_frames, levels): return new_frames * schedule.num_steps * (levels - 1)"],
    "check_rollout_noise_levels": [
        "def quality(pipeline, latents, actions, frames, levels):\n"
        "    made = pipeline.generate(latents, actions, 128, 136, num_inference_steps=levels + 1, progress=False)\n"
        "    pictures = decode_latents(pipeline.tokenizer, made[0, 128:136]).astype(float)\n"
        "    return -10 * np.log10(((pictures - frames[128:136]) ** 2).mean() / 255 ** 2)",
        "def quality(pipeline, latents, actions, frames, levels):\n"
        "    made = pipeline.generate(latents, actions, 128, 136, num_inference_steps=levels, progress=False)\n"
        "    pictures = decode_latents(pipeline.tokenizer, made[0, 128:136])\n"
        "    return -10 * np.log10(((pictures - frames[128:136]) ** 2).mean() / 255 ** 2)",
        "def quality(pipeline, latents, actions, frames, levels):\n"
        "    made = pipeline.generate(latents, actions, 128, 136, num_inference_steps=levels, progress=False)\n"
        "    pictures = decode_latents(pipeline.tokenizer, made[0, 128:136])\n"
        "    return -10 * np.log10((((pictures - frames[128:136]) / 255) ** 2).mean())",
        "def quality(pipeline, latents, actions, frames, levels):\n"  # the mean of eight PSNRs
        "    made = pipeline.generate(latents, actions, 128, 136, num_inference_steps=levels, progress=False)\n"
        "    error = decode_latents(pipeline.tokenizer, made[0, 128:136]).astype(float) - frames[128:136]\n"
        "    return (-10 * np.log10((error ** 2).mean((1, 2, 3)) / 255 ** 2)).mean()"],
    "check_rollout_mistakes": [
        LOOP.format(**RIGHT | dict(gathered="start - schedule.context_frames")),
        LOOP.format(**RIGHT | dict(noise="torch.randn(tokens.values.shape, generator=generator)")),
        LOOP.format(**RIGHT | dict(noise="VideoNoise(seeds)(*tokens.values.shape[1:])")),
        LOOP.format(**RIGHT | dict(written=""))],
    "check_rollout_sketch": [
        "def sketch_noise(sketch, detail, steps): return VideoNoise([sketch])",
        "def sketch_noise(sketch, detail, steps):\n"
        "    calls, sources = itertools.count(), (VideoNoise([sketch]), VideoNoise([detail]))\n"
        "    return lambda *shape: sources[0 if next(calls) % steps else 1](*shape)",
        "def sketch_noise(sketch, detail, steps):\n"
        "    calls = itertools.count()\n"
        "    return lambda *shape: VideoNoise([detail if next(calls) % steps else sketch])(*shape)",
        "calls = itertools.count()\n"  # one counter for all callables
        "def sketch_noise(sketch, detail, steps):\n"
        "    sources = VideoNoise([sketch]), VideoNoise([detail])\n"
        "    return lambda *shape: sources[1 if next(calls) % steps else 0](*shape)"],
    "check_rollout_plan": [
        "def plan(): return millivid_schedule((4, 16, 32), 64)",
        "def plan(): return full_resolution_schedule(16)",
        "def plan(): return millivid_schedule((2, 8, 32), 64, (16, 4, 1))",
        "def plan(): return millivid_schedule((8, 32, 32), 64, (16, 4, 1))",
        "def plan(): return millivid_schedule((4, 16, 32), 0, (16, 4, 1))",
        "def plan(): return full_resolution_schedule(16, (16, 4, 1))"]}
