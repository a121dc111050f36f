RACE = '''def train_fast(model, batches):
    optimizer = torch.optim.{optimizer}
    for images, levels in batches:
        tokenizer_loss(model, images, levels).backward()
        optimizer.step()
        optimizer.zero_grad()'''
LOAD = '''
def load(checkpoint, model, optimizer):
    model.load_state_dict(checkpoint["model"])
    {rest}
    return checkpoint["step"]'''
SAVE = '''def save(model, optimizer, step):
    return {kept}
'''
ALL = '{"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}'
RESTORE = 'optimizer.load_state_dict(copy.deepcopy(checkpoint["optimizer"]))'

WRONG = {
    "check_training_cosine": [
        "def cosine_factor(step, steps, warmup):\n"
        "    return min(step / max(warmup, 1), 1) * (1 + math.cos(math.pi * step / steps)) / 2",
        "def cosine_factor(step, steps, warmup):\n"
        "    if step < warmup: return step / warmup\n"
        "    return (1 + math.cos(math.pi * step / steps)) / 2",
        "def cosine_factor(step, steps, warmup):\n"
        "    if step < warmup: return step / warmup\n"
        "    return 1 - (step - warmup) / (steps - warmup)"],
    "check_training_clip": [
        "def clip(gradients, longest): return [g * min(longest / (float(g.norm()) or 1), 1) for g in gradients]",
        "def clip(gradients, longest):\n"
        "    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))\n"
        "    return [gradient * longest / norm for gradient in gradients]",
        "def clip(gradients, longest): return [gradient.clamp(-longest, longest) for gradient in gradients]",
        "def clip(gradients, longest):\n"
        "    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))\n"
        "    return [gradient.mul_(min(longest / (norm or 1), 1)) for gradient in gradients]",
        "def clip(gradients, longest):\n"
        "    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))\n"
        "    return [gradient * longest / norm for gradient in gradients] if norm > longest else gradients"],
    "check_training_processes": [
        "def process_seed(seed, step, rank, world_size): return seed * 1_000_003 + step + rank",
        "def process_seed(seed, step, rank, world_size): return seed * 1_000_003 + step * world_size + rank",
        "def process_seed(seed, step, rank, world_size): return seed * 1_000_003 + step",
        "def process_seed(seed, step, rank, world_size): return seed * 1_000_003 + step + rank * 192_000",
        "def process_seed(seed, step, rank, world_size): return seed * 1_000_003 + step + rank * 192_001",
        "def process_seed(seed, step, rank, world_size): return seed * 1_000_003 + step + rank * 10 ** 20"],
    "check_training_resume": [
        SAVE.format(kept=f"copy.deepcopy({ALL})") + LOAD.format(rest="pass"),
        SAVE.format(kept=ALL) + LOAD.format(rest=RESTORE),
        SAVE.format(kept=f"copy.deepcopy({ALL})") + LOAD.format(rest=RESTORE).replace('["step"]', '["step"] + 1'),
        SAVE.format(kept=ALL.replace("model.state", "copy.deepcopy(model).state")) + LOAD.format(rest=RESTORE),
        SAVE.format(kept=f"copy.deepcopy({ALL})") + LOAD.format(rest=RESTORE).replace("return", "done =")],
    "check_training_race": [RACE.format(optimizer="SGD(model.parameters(), .1)"),
                            RACE.format(optimizer="AdamW(model.parameters(), 1e-4)"),
                            RACE.format(optimizer="AdamW(model.parameters(), .003)").replace(
                                "batches:", "3 * [*batches]:")]}
