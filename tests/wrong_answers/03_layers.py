_FLIP = """
class Flip(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = {part}

    def forward(self, x):
        return x.flip(1)


def learn_to_reverse(make_rows): return Flip()
"""
_FLIP_FIRST = """
class FlipFirst(nn.Sequential):
    def forward(self, x):
        return super().forward(x.flip(1))
"""
_TRAIN = """
def learn_to_reverse(make_rows):
    model = {kind}({layers})
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range({steps}):
        x, y = make_rows(32)
        loss = (model(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model
"""
_LAYERS = "nn.Linear(16, 64), TransformerBlock(TransformerConfig(64, 1, 4)), nn.Linear(64, 16)"
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
        "def learn_to_reverse(make_rows): return lambda x: x.flip(1)",
        _FLIP.format(part="None"),
        _FLIP.format(part="TransformerBlock(TransformerConfig(64, 1, 4))"),
        _TRAIN.format(kind="nn.Sequential", steps=40, layers=_LAYERS),
        _FLIP_FIRST + _TRAIN.format(kind="FlipFirst", steps=150, layers=_LAYERS)]}
