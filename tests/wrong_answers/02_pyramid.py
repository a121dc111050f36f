WRONG = {
    "check_deepest": [
        "def deepest(image_size, patch_size): return (image_size // patch_size).bit_length()",
        "def deepest(image_size, patch_size): return 3"],
    "check_parents": [
        "def parents(coordinates): return coordinates // 2",
        "def parents(coordinates): return coordinates + torch.tensor([1, 0, 0])"],
    "check_same_tokens": [
        "def same_tokens(config, frames): return tuple(frames * 4 ** level for level in range(3))",
        "def same_tokens(config, frames): return tuple(frames // tokens for tokens in config.tokens_per_level)"],
    "check_fewest_tokens": [
        "def fewest_tokens(config, reach, sharp): return reach * config.tokens_per_level[-1]",
        "def fewest_tokens(config, reach, sharp):\n"
        "    return sharp * config.tokens_per_level[0] + reach * config.tokens_per_level[-1]"],
    "check_sharp_middle": [
        "def sharp_middle(image, config): return image, config.tokens_per_level[0]",
        "def sharp_middle(image, config):\n"
        "    factor = 2 ** (config.num_levels - 1)\n"
        "    picture = F.interpolate(F.avg_pool2d(image[None], factor), scale_factor=factor)[0]\n"
        "    return picture, config.tokens_per_level[0] // 4 + config.tokens_per_level[-1]"]}
