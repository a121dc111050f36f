CLIPS = '''class Recordings:
    def __init__(self, latents, actions):
        self.latents, self.actions = latents, actions

    def draw(self, generator, count, num_frames):
        long = [video for video, frames in enumerate(self.latents) if len(frames) >= num_frames]
        places = [(video, first) for video in long for first in range(len(self.latents[video]) - num_frames {more})]
        {chosen}
        return chosen, num_frames

    def read(self, drawn, roles=None):
        places, num_frames = drawn
        cut = lambda parts, shift: torch.stack([parts[v][f + shift:f + shift + num_frames] for v, f in places])
        return cut(self.latents, 0), cut(self.actions, {shift})'''
EQUAL = "chosen = [places[i] for i in torch.randint(len(places), (count,), generator=generator)]"
BY_VIDEO = '''ends = [len(frames) - num_frames + 1 for frames in self.latents]
        chosen = [(video, int(torch.randint(ends[video], (1,), generator=generator)))
                  for video in (long[i] for i in torch.randint(len(long), (count,), generator=generator))]'''
LENGTHS = "torch.tensor([float(len(self.latents[video])) for video in long])"
BY_LENGTH = BY_VIDEO.replace("torch.randint(len(long), (count,)", f"torch.multinomial({LENGTHS}, count, True")
ADAM = '''def read_out(numbers, colours, new_numbers):
    torch.manual_seed(0)
    model = {model}
    optimizer = torch.optim.Adam(model.parameters(), .01)
    for _ in range(300):
        (model(numbers) - colours).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model(new_numbers)'''
NETWORK = "torch.nn.Sequential(torch.nn.Linear(numbers.shape[1], 64), torch.nn.GELU(), torch.nn.Linear(64, 3))"

WRONG = {
    "check_data_steps": [
        "def step_probabilities(levels): return np.full(len(levels), 1 / len(levels))",
        "def step_probabilities(levels): return np.array([1 / levels.count(level) for level in levels])",
        "def step_probabilities(levels):\n"
        "    return np.array([1 / levels.count(level) / (max(levels) + 1) for level in levels])"],
    "check_data_paint": [
        "@torch.no_grad()\n"
        "def paint_quality(tokenizer, config):\n"
        "    images = frames_to_images(render_poses(make_room(0), np.arange(96)))\n"
        "    return psnr(tokenizer.decode(tokenizer.encode(images)), images).mean().item()",
        "@torch.no_grad()\n"
        "def paint_quality(tokenizer, config):\n"
        "    images = frames_to_images(render_poses(make_room(0, config), np.arange(96), config))\n"
        "    return psnr(tokenizer.decode(tokenizer.encode(images), 2), images).mean().item()"],
    "check_data_half_a_turn": [
        "def clip_rows(moves, frames_per_action, skipped, frames):\n"
        "    rows = action_rows(np.repeat(moves, frames_per_action)[skipped:skipped + frames], frames_per_action)\n"
        "    return rows - rows[:1]",
        "def clip_rows(moves, frames_per_action, skipped, frames):\n"
        "    return action_rows(np.repeat(moves, frames_per_action), frames_per_action)[:frames]"],
    "check_data_recordings": [
        CLIPS.format(more="+ 1", chosen=BY_VIDEO, shift=0),
        CLIPS.format(more="+ 1", chosen=BY_LENGTH, shift=0),
        CLIPS.format(more="", chosen=EQUAL, shift=0),
        CLIPS.format(more="", chosen=EQUAL, shift=1),
        CLIPS.format(more="+ 1", chosen=EQUAL.replace(", generator=generator", ""), shift=0)],
    "check_data_read_out": [
        "def read_out(numbers, colours, new_numbers): return colours.mean(0).expand(len(new_numbers), -1)",
        "def read_out(numbers, colours, new_numbers): return colours[:len(new_numbers)]",
        ADAM.format(model=NETWORK), ADAM.format(model="torch.nn.Linear(numbers.shape[1], 3)")]}
