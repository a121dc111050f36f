_TRAIN = """
def learn_to_reverse(make_rows):
    model = nn.Sequential({layers})
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(40):
        x, y = make_rows(32)
        loss = (model(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model
"""
WRONG = {
    "check_layers_attention": [
        "def attention(q, k, v, mask=None): return (q @ k.transpose(-1, -2) / q.shape[-1] ** .5).softmax(-1) @ v",
        "def attention(q, k, v, mask=None):\n"
        "    fit = q @ k.transpose(-1, -2)\n"
        "    fit = fit if mask is None else fit.masked_fill(~mask, -torch.inf)\n"
        "    return fit.softmax(-1) @ v",
        "def attention(q, k, v, mask=None):\n"
        "    weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** .5).softmax(-1)\n"
        "    return (weights if mask is None else weights * mask) @ v"],
    "check_layers_turns_only": [
        "def turns_only(poses, frames, pose): return frames.mean(0)",
        "def turns_only(poses, frames, pose): return frames[(poses == pose).all(1)].mean(0)",
        "def turns_only(poses, frames, pose): return frames[int((poses[:, 2] == pose[2]).nonzero()[-1])]",
        "def turns_only(poses, frames, pose):\n"
        "    return torch.tensordot((poses[:, 2] * pose[2]).float().softmax(0), frames, 1)"],
    "check_layers_block": [
        "def block(x, attention, mlp, six):\n"
        "    a, b, c, d, e, f = six\n"
        "    x = x + c * attention(layer_norm(x) * (1 + b) + a)\n"
        "    return x + f * mlp(x * (1 + e) + d)",
        "def block(x, attention, mlp, six):\n"
        "    a, b, c, d, e, f = six\n"
        "    x = x + c * attention(layer_norm(x) * b + a)\n"
        "    return x + f * mlp(layer_norm(x) * (1 + e) + d)",
        "def block(x, attention, mlp, six):\n"
        "    a, b, c, d, e, f = six\n"
        "    x = layer_norm(x + c * attention(x * (1 + b) + a))\n"
        "    return layer_norm(x + f * mlp(x * (1 + e) + d))"],
    "check_layers_turn": [
        "def turn(x, positions, frequencies): return x",
        "def turn(x, positions, frequencies):\n"
        "    angle = positions[:, None] * frequencies\n"
        "    return x + torch.cat([angle.sin(), angle.cos()], dim=-1)",
        "def turn(x, positions, frequencies):\n"
        "    angle = positions[:, None] * frequencies\n"
        "    a, b = x.chunk(2, dim=-1)\n"
        "    return torch.cat([a * angle.cos(), b * angle.cos()], dim=-1)",
        "def turn(x, positions, frequencies):\n"
        "    angle = positions[:, None] * frequencies\n"
        "    a, b = x.chunk(2, dim=-1)\n"
        "    return torch.cat([a * angle.cos() + b * angle.sin(), a * angle.sin() + b * angle.cos()], dim=-1)"],
    "check_layers_reverse": [
        "def learn_to_reverse(make_rows): return nn.Linear(16, 16)",
        "def learn_to_reverse(make_rows): return nn.Flatten()",
        _TRAIN.format(layers="nn.Linear(16, 64), TransformerBlock(TransformerConfig(64, 1, 4)), nn.Linear(64, 16)")]}
