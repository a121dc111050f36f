MODEL = """
class TimeAsInput(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.embed, self.time, self.out = nn.Linear(5, width), TimeEmbedding(width), nn.Linear(width, 4)
        self.blocks = nn.ModuleList(DiTBlock(TransformerConfig(width, 2, 2)) for _ in range(2))

    def forward(self, x_t, t, conditional=None):
        t = {t}
        x = self.embed(torch.cat([x_t, t[..., None]], dim=-1))
        rows, index = self.time(torch.zeros(1)), torch.zeros(t.shape, dtype=torch.long)
        for block in self.blocks:
            x = block(x, rows, index)
        return self.out(x)
"""
CARDS = """
class TimeAsInput(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.embed, self.time, self.out = nn.Linear(4, width), TimeEmbedding(width), nn.Linear(width, 4)
        self.blocks = nn.ModuleList(DiTBlock(TransformerConfig(width, 2, 2)) for _ in range(2))

    def forward(self, x_t, t, conditional=None):
        x, index = self.embed(x_t), torch.arange(t.numel()).view(t.shape)
        for block in self.blocks:
            x = block(x, self.time(t.flatten()), index)
        return self.out(x)
"""
WRONG = {
    "check_video_newest": [
        "def count_from_newest(frame, roles):\n"
        "    newest = frame.masked_fill(roles == DENOISED, -1).amax(1, keepdim=True)\n"
        "    return (frame - newest).masked_fill(roles == 0, 0)",
        "def count_from_newest(frame, roles):\n"
        "    newest = frame.float().masked_fill(roles != CONTEXT, -math.inf).amax(1, keepdim=True)\n"
        "    return (frame - newest).masked_fill(roles == 0, 0)",
        "def count_from_newest(frame, roles):\n"
        "    return (frame - frame.amax(1, keepdim=True)).masked_fill(roles == 0, 0)",
        "def count_from_newest(frame, roles):\n"
        "    return frame - frame.masked_fill(roles != CONTEXT, -1).amax(1, keepdim=True)",
        "def count_from_newest(frame, roles):\n"
        "    return (frame - frame.amin(1, keepdim=True)).masked_fill(roles == 0, 0)"],
    "check_video_reckon": [
        "def reckon(actions):\n"
        "    yaw = ((actions == 1).long() - (actions == 2).long()).cumsum(0) % 4 * math.pi / 2\n"
        "    forward, before = actions == 0, yaw.roll(1)\n"
        "    return torch.stack([(forward * before.cos()).cumsum(0), (forward * before.sin()).cumsum(0), yaw], dim=1)",
        "def reckon(actions):\n"
        "    yaw = ((actions == 2).long() - (actions == 1).long()).cumsum(0) % 4 * math.pi / 2\n"
        "    forward = actions == 0\n"
        "    return torch.stack([(forward * yaw.cos()).cumsum(0), (forward * yaw.sin()).cumsum(0), yaw], dim=1)",
        "def reckon(actions):\n"
        "    yaw = ((actions == 1).long() - (actions == 2).long()).cumsum(0) % 4 * math.pi / 2\n"
        "    return torch.stack([yaw.cos().cumsum(0), yaw.sin().cumsum(0), yaw], dim=1)"],
    "check_video_wave": [
        "def shortest_wave(size): return 8",
        "def shortest_wave(size): return 2. ** (size - 1).bit_length()",
        "def shortest_wave(size): return size",
        "def shortest_wave(size): return 2 ** size.bit_length()"],
    "check_video_time": [
        CARDS,
        MODEL.replace("{t}", "t.amax(1, keepdim=True).expand_as(t)"),
        MODEL.replace("{t}", "torch.zeros_like(t)"),
        MODEL.replace("return self.out(x)", "return self.out(x[:, :1])").replace("{t}", "t")],
    "check_video_backwards": [
        "def walk_back(rows, context):\n"
        "    told, new = rows.clone(), len(rows) - context\n"
        "    told[context:] = rows[context - new:context].flip(0)\n"
        "    return told",
        "def walk_back(rows, context):\n"
        "    told, new = rows.clone(), len(rows) - context\n"
        "    told[context:, 1:] = rows[context - new:context, 1:]\n"
        "    return told",
        "def walk_back(rows, context):\n"
        "    new = len(rows) - context\n"
        "    rows[context:, 1:] = rows[context - new:context, 1:].flip(0)\n"
        "    return rows"]}
