WRONG = {
    "check_schedule_wait": [
        "def wait(schedule): return int((schedule.roles[:, 0, schedule.context_frames] == DENOISED).argmax())",
        "def wait(schedule): return schedule.num_levels",
        "def wait(schedule): return schedule.num_steps"],
    "check_schedule_plan": [
        "def plan(windows, extra_budget, tokens):\n"
        "    cost = sum(window * count for window, count in zip(windows, tokens))\n"
        "    return cost, sum(windows[:-1]) + extra_budget // tokens[-1], sum(windows[-1] // each for each in windows)",
        "def plan(windows, extra_budget, tokens):\n"
        "    cost = extra_budget + sum(window * count for window, count in zip(windows, tokens))\n"
        "    return cost, sum(windows), sum(windows[-1] // each for each in windows)",
        "def plan(windows, extra_budget, tokens):\n"
        "    cost = extra_budget + sum(window * count for window, count in zip(windows, tokens))\n"
        "    return cost, sum(windows[:-1]) + extra_budget // tokens[-1], windows[-1] // windows[0]"],
    "check_schedule_mistake": [
        "def first_mistake(roles, given):\n"
        "    made = (roles == DENOISED).any(0) | (np.arange(roles.shape[2]) < given)\n"
        "    wrong = np.argwhere((roles == CONTEXT) & ~made)\n"
        "    return tuple(wrong[0].tolist()) if len(wrong) else ()",
        "def first_mistake(roles, given):\n"
        "    wrong = np.argwhere((roles == CONTEXT) & (np.arange(roles.shape[2]) >= given))\n"
        "    return tuple(wrong[0].tolist()) if len(wrong) else ()",
        "def first_mistake(roles, given): return ()"],
    "check_schedule_blind": [
        "def blindfold(schedule, part): return schedule.roles.copy()",
        "def blindfold(schedule, part):\n"
        "    roles = schedule.roles.copy()\n"
        "    for step in roles:\n"
        "        frames = np.flatnonzero((step == DENOISED).any(0))\n"
        "        first, last = frames[0], frames[-1]\n"
        "        seen = {'future': step[:, last + 1:], 'itself': step[:, first:last + 1],\n"
        "                'past': step[:, :first]}[part]\n"
        "        seen[seen == CONTEXT] = UNSEEN\n"
        "    return roles",
        "def blindfold(schedule, part):\n"
        "    roles = schedule.roles.copy()\n"
        "    for step in roles:\n"
        "        frames = np.flatnonzero((step == DENOISED).any(0))\n"
        "        first, last = frames[0], frames[-1]\n"
        "        seen = {'future': step[:, last + 1:], 'itself': step[:, first:last + 1],\n"
        "                'past': step[-1:, :first]}[part]\n"
        "        seen[:] = UNSEEN\n"
        "    return roles"],
    "check_schedule_cheap": [
        "def cheaper(): return millivid_schedule((2, 8, 32), 64, (16, 4, 1))",
        "def cheaper():\n"
        "    from millivid.schedule import upscale_schedule\n"
        "    return upscale_schedule(8, (16, 4, 1))",
        "def cheaper():\n"
        "    from millivid.schedule import full_resolution_schedule\n"
        "    return full_resolution_schedule(10, (16, 4, 1))"]}
