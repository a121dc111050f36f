_PLAN = """def plan(windows, extra_budget, tokens):
    cost = {cost} + sum(window * count for window, count in zip(windows, tokens))
    return cost, {back}, {steps}
fifth_level = {fifth}
"""
_BACK, _STEPS = "sum(windows[:-1]) + extra_budget // tokens[-1]", "sum(windows[-1] // each for each in windows)"
_MISTAKE = """def first_mistake(roles, given):
    given = np.broadcast_to(np.arange(roles.shape[2]) < given, roles.shape[1:])
    made = given.copy()
    for step, now in enumerate(roles):
        wrong = np.argwhere((now == CONTEXT) & ~made)
        if len(wrong):
            return step, int(wrong[0][0]), int(wrong[0][1])
        {made}
    return ()
"""
WRONG = {
    "check_schedule_wait": [
        "def wait(schedule): return int((schedule.roles[:, 0, schedule.context_frames] == DENOISED).argmax())",
        "def wait(schedule): return schedule.num_levels",
        # the first step that makes any frame
        "def wait(schedule): return int((schedule.roles[:, 0] == DENOISED).any(1).argmax()) + 1",
        "def wait(schedule): return schedule.num_steps"],
    "check_schedule_plan": [
        _PLAN.format(cost=cost, back=back, steps=steps, fifth=fifth) for cost, back, steps, fifth in (
        ("0", _BACK, _STEPS, "(4608, 1023, 341)"), ("extra_budget", "sum(windows)", _STEPS, "(4608, 1023, 341)"),
        ("extra_budget", _BACK, "windows[-1] // windows[0]", "(4608, 1023, 341)"),
        ("extra_budget", _BACK, _STEPS, "(3840, 255, 85)"), ("extra_budget", _BACK, _STEPS, "..."))],
    "check_schedule_mistake": [
        "def first_mistake(roles, given):\n"
        "    made = (roles == DENOISED).any(0) | (np.arange(roles.shape[2]) < given)\n"
        "    wrong = np.argwhere((roles == CONTEXT) & ~made)\n"
        "    return tuple(wrong[0].tolist()) if len(wrong) else ()",
        "def first_mistake(roles, given):\n"
        "    wrong = np.argwhere((roles == CONTEXT) & (np.arange(roles.shape[2]) >= given))\n"
        "    return tuple(wrong[0].tolist()) if len(wrong) else ()",
        _MISTAKE.format(made="made |= (now == DENOISED).any(0)"),  # levels are ignored
        _MISTAKE.format(made="made = (now == DENOISED) | given"),  # only the last step counts
        _MISTAKE.format(made="pass"),
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
