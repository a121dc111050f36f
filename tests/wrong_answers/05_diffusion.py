_DDPM = """def ddpm_sample(predict, eps, steps):
    x, times = torch.zeros_like(eps), torch.linspace(1, 0, steps)
    for at, after in zip(times, [*times[1:], times[-1]]):
        levels = at.expand(eps.shape[:2])
        x_t = add_noise(x, eps, levels)
        x, eps_hat = predict_x0_eps(x_t, predict(x_t, levels), levels)
        t, s, z = log_snr(at), log_snr(after), torch.randn_like(eps)
        k = torch.exp({ratio})
        eps = {eps}
    return x
"""
WRONG = {
    "check_diffusion_v": [
        "def v_from_eps(x_t, eps, t):\n"
        "    alpha, sigma = alpha_sigma(t[..., None])\n"
        "    return alpha * eps - sigma * x_t",
        "def v_from_eps(x_t, eps, t):\n"
        "    alpha, sigma = alpha_sigma(t[..., None])\n"
        "    return (x_t - sigma * eps) / alpha",
        "def v_from_eps(x_t, eps, t): return eps - x_t"],
    "check_diffusion_noisy_past": [
        "def noisy_past(model, past, eps, is_target, past_t):\n"
        "    return lambda x_t, t, c=None: model(torch.where(is_target[:, None], x_t, past), t)",
        "def noisy_past(model, past, eps, is_target, past_t):\n"
        "    def predict(x_t, t, conditional=None):\n"
        "        times = torch.where(is_target, t, past_t)\n"
        "        return model(torch.where(is_target[:, None], x_t, past), times)\n"
        "    return predict",
        "def noisy_past(model, past, eps, is_target, past_t):\n"
        "    def predict(x_t, t, conditional=None):\n"
        "        times = torch.where(is_target, t, past_t)\n"
        "        return model(add_noise(past, eps, times), times)\n"
        "    return predict",
        # the sampler's `conditional` is lost
        "def noisy_past(model, past, eps, is_target, past_t):\n"
        "    def predict(x_t, t, conditional=None):\n"
        "        times = torch.where(is_target, t, past_t)\n"
        "        return model(torch.where(is_target[:, None], x_t, add_noise(past, eps, times)), times)\n"
        "    return predict"],
    "check_diffusion_ddpm": [_DDPM.format(ratio=ratio, eps=eps) for ratio, eps in (
        ("t - s", "eps_hat"), ("t - s", "z"), ("t - s", ".5 * eps_hat + .5 * z"),
        ("s - t", "k.sqrt() * eps_hat + (1 - k).sqrt() * z"), ("t - s", "k * eps_hat + (1 - k) * z"),
        ("t - s", "k.sqrt() * eps_hat + (1 - k) * z"), ("t - s", "k * eps_hat + (1 - k).sqrt() * z"))],
    "check_diffusion_any_context": [
        "def train_any_context(network, points, steps):\n"
        "    optimizer = torch.optim.Adam(network.parameters())\n"
        "    for step in range(steps):\n"
        "        x = points[torch.randint(len(points), (256,))]\n"
        "        x = x + .05 * torch.randn(x.shape)\n"
        f"        eps, t = torch.randn(x.shape), {times}\n"
        "        loss = (network(add_noise(x, eps, t), t) - velocity(x, eps, t)).square()[t > 0].mean()\n"
        "        loss.backward()\n"
        "        optimizer.param_groups[0]['lr'] = .01 * (1 - step / steps)\n"
        "        optimizer.step()\n"
        "        optimizer.zero_grad()"
        for times in ("torch.rand(256, 1).expand(-1, 2)", "torch.rand(256, 2) * torch.tensor([0., 1.])")],
    "check_diffusion_kept_past": [
        "def keep_past(predict, past, is_past):\n"
        "    x, eps = torch.zeros_like(past), torch.randn_like(past)\n"
        "    start = eps\n"
        "    for t in torch.linspace(1, 0, 20):\n"
        "        t = t.expand(past.shape[:2])\n"
        "        x_t = torch.where(is_past[:, None], add_noise(past, start, t), add_noise(x, eps, t))\n"
        "        x, eps = predict_x0_eps(x_t, predict(x_t, t), t)\n"
        "    return x",
        "def keep_past(predict, past, is_past):\n"
        "    x, eps = past, torch.randn_like(past)\n"
        "    for t in torch.linspace(1, 0, 20):\n"
        "        t = torch.where(is_past, 0., t).expand(past.shape[:2])\n"
        "        x_t = add_noise(x, eps, t)\n"
        "        x, eps = predict_x0_eps(x_t, predict(x_t, t), t)\n"
        "    return x",
        "def keep_past(predict, past, is_past): return past"]}
