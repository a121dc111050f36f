_LOOP = """def train_tokenizer(tokenizer, images, steps):
    optimizer = torch.optim.AdamW(tokenizer.parameters(), lr=3e-3)
    for step in range(steps):
        level = {level}
        tokenizer_loss(tokenizer, images[torch.randint(len(images), (32,))], level).backward()
        {end}
"""
_BITS = """def fewest_bits(tokenizer, images, level):
    latents = tokenizer.encode(images)
    best = psnr(tokenizer.decode(latents, level), images).mean()
    for bits in range(1, 16):
        rounded = {rounded}
        if best - psnr(tokenizer.decode(rounded, level), images).mean() < .2:
            return bits
"""
_TOLD = """def told_wrong(tokenizer, images):
    latents, pyramid = tokenizer.encode(images), tokenizer.config.pyramid
    quality = torch.zeros(3, 3)
    for filled in range(3):
        slots = torch.zeros_like(latents)
        slots[:, pyramid.level_slice(filled)] = latents[:, pyramid.level_slice(filled)]
        for told in range(3):
            patches = tokenizer.decoder({slots}, torch.full((len(images),), {told}))
            quality[{place}] = psnr(images_from_patches(patches, pyramid)[0], images).mean()
    return quality
"""
WRONG = {
    "check_tokenizer_decibels": [
        "def typical_error(decibels): return 10 ** (-decibels / 10)",
        "def typical_error(decibels): return 10 ** (decibels / 20)"],
    "check_tokenizer_bits": [
        "def fewest_bits(tokenizer, images, level): return 8",
        _BITS.format(rounded="((latents + 1) / 2 * 2 ** bits).floor() / 2 ** bits * 2 - 1"),
        _BITS.format(rounded="((latents + 1) / 2 * 2 ** bits).floor()")],
    "check_tokenizer_told": [
        _TOLD.format(slots="slots", told="told", place="told, filled"),
        _TOLD.format(slots="slots", told="filled", place="filled, told"),
        _TOLD.format(slots="latents", told="told", place="filled, told"),
        _TOLD.format(slots="latents", told="told", place="told, filled")],
    "check_tokenizer_training": [
        _LOOP.format(level="torch.randint(2, (32,))", end="optimizer.step(); optimizer.zero_grad()"),
        _LOOP.format(level="torch.randint(3, (32,))", end="optimizer.zero_grad(); optimizer.step()"),
        _LOOP.format(level="torch.randint(3, (32,))", end="optimizer.step()")],
    "check_tokenizer_mean": [
        # every token carries all four patches
        "def encode_four(patches): return patches[:, None].expand(-1, 4, 4)\n"
        "def decode_mean(mean): return mean",
        "def encode_four(patches): return patches[..., None].expand(-1, 4, 4)\n"
        "def decode_mean(mean): return mean",
        "def encode_four(patches): return torch.diag_embed(patches)\n"
        "def decode_mean(mean): return 4 * mean",
        "def encode_four(patches):\n"
        "    note = patches[:, None, :3].expand(-1, 4, 3)\n"
        "    return torch.cat([patches[..., None], note], -1)\n"
        "def decode_mean(mean): return torch.cat([mean[:, 1:], mean[:, :1]], 1)",
        "def encode_four(patches): return torch.cat([patches[..., None], 4 * torch.diag_embed(patches)[..., :3]], -1)\n"
        "def decode_mean(mean): return torch.cat([mean[:, 1:], 4 * mean[:, :1] - mean[:, 1:].sum(1, True)], 1)"]}
