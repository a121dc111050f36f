WRONG = {
    "check_play_return": [
        "def way_back(letters): return letters[::-1].translate(str.maketrans('lr', 'rl'))",  # without turning around
        "def way_back(letters): return 'll' + letters[::-1] + 'll'",
        "def way_back(letters): return 'll' + letters[::-1].translate(str.maketrans('lr', 'rl'))"],
    "check_play_reach": [
        "def first_changed(schedule, frame): return frame",
        "def first_changed(schedule, frame): return 0",
        "def first_changed(schedule, frame): return frame // 2 * 2",
        "def first_changed(schedule, frame):\n"  # right for MilliVid, not for upscaling
        "    return frame // 32 * 32",
        "def first_changed(schedule, frame): return frame - frame % schedule.finished_frames",
        "def first_changed(schedule, frame):\n"  # of the first step that holds the frame, not of what it has seen
        "    chunk, place = divmod(frame, schedule.finished_frames)\n"
        "    past = schedule.context_frames\n"
        "    first = next(roles for roles in schedule.roles if roles[:, past + place].any())\n"
        "    return chunk * schedule.finished_frames + int((first == DENOISED).any(0)[past:].argmax())"],
    "check_play_invented": [
        "def invented(pipeline, latents, rows, start, end, seeds):\n"
        "    made = pipeline.generate(latents[None], rows[None], start, end, progress=False)\n"
        "    return np.zeros(end - start)",
        "def invented(pipeline, latents, rows, start, end, seeds):\n"
        "    count = len(seeds)\n"
        "    made = pipeline.generate(latents.expand(count, -1, -1, -1), rows.expand(count, -1, -1), start, end,\n"
        "                             seeds=seeds, progress=False)\n"
        "    return made[:, start:].std(0).mean((1, 2)).numpy()",  # of latents, not of pictures
        "def invented(pipeline, latents, rows, start, end, seeds):\n"
        "    count = len(seeds)\n"
        "    made = pipeline.generate(latents.expand(count, -1, -1, -1), rows.expand(count, -1, -1), start, end,\n"
        "                             seeds=seeds, progress=False)\n"
        "    videos = np.stack([decode_latents(pipeline.tokenizer, video[start:]) for video in made])\n"
        "    return (videos / 1.).std(0).mean()"],
    "check_play_live": [
        "def plan_for_a_game(ahead, budget, tokens=(16, 4, 1)): return (2, 8, 32), 64",
        "def plan_for_a_game(ahead, budget, tokens=(16, 4, 1)): return (1, 1, 1), 16",
        "def plan_for_a_game(ahead, budget, tokens=(16, 4, 1)): return (1, 2, ahead), budget"]}
