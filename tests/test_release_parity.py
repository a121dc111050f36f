"""Does the package compute what the authors' release computes?

Set MILLIVID_REFERENCE_VECTORS to a folder with recorded inputs and outputs of the release (its README.md explains every
array). Sizes, settings and weights come from that folder. Left out are three results that show a defect of the release,
namely padding that is attended to and that shifts the frame numbers: the outputs of generate.millivid_uneven,
universal.loss_padded, and relative.result_with_zero_padding.
"""

import json
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from millivid.data import training_tokens
from millivid.diffusion import add_noise, alpha_sigma, clean_and_noise, diffusion_loss, log_snr, token_times
from millivid.layers import TRANSFORMER_SIZES, TransformerConfig, image_position_embedding, time_features
from millivid.layers import video_position_embedding
from millivid.pyramid import PyramidConfig, images_from_patches, pyramid_patches
from millivid.rollout import gather_tokens, generate, generate_framepack, step_indices
from millivid.schedule import framepack_schedule, full_resolution_schedule, millivid_schedule, upscale_schedule
from millivid.tokenizer import Tokenizer, TokenizerConfig, tokenizer_loss
from millivid.video import FramePackModel, Tokens, VideoConfig, VideoModel

if not os.environ.get("MILLIVID_REFERENCE_VECTORS"):
    pytest.skip("MILLIVID_REFERENCE_VECTORS names no folder with vectors of the release", allow_module_level=True)
FOLDER = Path(os.environ["MILLIVID_REFERENCE_VECTORS"])

SINGLE, ROLLOUT, GRADIENT = 1e-5, 1e-4, 1e-4  # absolute, absolute, relative
RUNS = ("millivid", "millivid_guidance1.5", "millivid_bf16_state", "baseline", "mirrored")
OTHER_RUNS = {"millivid_uneven", "framepack"}  # the defect; a test of its own


@lru_cache
def arrays(name):
    return dict(np.load(FOLDER / f"{name}.npz"))


@lru_cache
def read_json(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


@lru_cache
def all_weights():
    return load_file(FOLDER / "tiny_models.safetensors")


def recorded(name):
    return torch.from_numpy(arrays("tiny_io")[name])


def our_name(release_name):
    "The parameter name of the release -> ours."
    name = release_name.removeprefix("dit.dit.dit.").removeprefix("dit.dit.").removeprefix("dit.")
    return (name.replace(".transformer.blocks", ".blocks").replace("adaLN_modulation.1", "modulation.linear")
            .replace("action_encoder.", ""))


def load(model, prefix):
    "Load the release's weights of one model. Strict: both sides must have the same parameters."
    model.load_state_dict({our_name(name.removeprefix(f"{prefix}/")): value for name, value in all_weights().items()
                           if name.startswith(f"{prefix}/")}, strict=True)
    return model.eval()


@pytest.fixture(scope="module")
def sizes():
    return read_json("tiny_models")


@pytest.fixture(scope="module")
def pyramid(sizes):
    return PyramidConfig(sizes["image_shape"], sizes["patch_shape"], sizes["num_levels"])


@pytest.fixture(scope="module")
def transformer(sizes):
    return TransformerConfig(sizes["hidden"], sizes["depth"], sizes["heads"])


@pytest.fixture(params=["adaptive", "cascaded"])
def variant(request):
    return request.param


@pytest.fixture
def tokenizer(variant, sizes, pyramid, transformer):
    config = TokenizerConfig(pyramid, sizes["latent_channels"], transformer, transformer, variant == "cascaded")
    return load(Tokenizer(config), "autoencoder")


@pytest.fixture
def universal(sizes, transformer):
    config = VideoConfig(sizes["latent_channels"], sizes["num_levels"], transformer, sizes["num_actions"])
    return load(VideoModel(config), "universal")


@pytest.fixture
def framepack(sizes, transformer):
    settings = sizes["generate"]["framepack"]
    config = VideoConfig(sizes["latent_channels"], sizes["num_levels"], transformer, sizes["num_actions"],
                         framepack_context=settings["num_context_frames"],
                         framepack_denoised=settings["num_denoised_frames"])
    return load(FramePackModel(config), "framepack")


def close(ours, theirs, tolerance=SINGLE):
    ours, theirs = (torch.as_tensor(value).detach().float() for value in (ours, theirs))
    torch.testing.assert_close(ours, theirs.reshape(ours.shape), rtol=0, atol=tolerance)


def same_gradients(model, prefix):
    "Every recorded gradient norm is that of our parameter, and every parameter has one."
    norms = {our_name(name.removeprefix(prefix)): value.item() for name, value in arrays("tiny_io").items()
             if name.startswith(prefix)}
    assert norms.keys() == {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    for name, norm in norms.items():
        assert model.get_parameter(name).grad.norm().item() == pytest.approx(norm, rel=GRADIENT, abs=1e-7), name


# ---- schedules -------------------------------------------------------------------------------------------------------

def build(settings, tokens_per_level):
    "The schedule that some recorded settings describe."
    settings = dict(settings)
    name = settings.pop("name")
    if name == "millivid":
        return millivid_schedule(settings["num_frames_per_level"], settings["extra_budget"], tokens_per_level)
    if name == "baseline":
        return full_resolution_schedule(settings["num_frames"], tokens_per_level)
    if name in ("upscale", "rollout_upscale"):
        return upscale_schedule(settings["base_num_frames"], tokens_per_level, name == "rollout_upscale")
    return framepack_schedule(settings["num_context_frames"], settings["num_denoised_frames"], tokens_per_level)


@pytest.mark.parametrize("name", read_json("schedules"))
def test_schedule(name):
    about, theirs = read_json("schedules")[name], arrays("schedules")
    schedule = build(about["strategy"], tuple(about["base_num_tokens"] // 4 ** level for level in range(about["num_levels"])))
    np.testing.assert_array_equal(schedule.roles, theirs[f"{name}.selections"])
    np.testing.assert_array_equal(schedule.step_tokens, theirs[f"{name}.num_tokens"])
    np.testing.assert_allclose(schedule.probabilities.cumsum(), theirs[f"{name}.cdf"], atol=1e-12)
    assert schedule.max_tokens == about["max_num_tokens"]
    assert schedule.chunk_frames == about["chunk_num_frames"]
    assert schedule.context_frames == about["chunk_denoising_start"]
    assert schedule.clipped_frames == about["num_clipped_frames"]
    if about["sampling_group"] != [None]:
        assert list(schedule.groups) == about["sampling_group"]


@pytest.mark.parametrize("name", read_json("schedules"))
def test_plan_of_a_rollout(name):
    about, theirs = read_json("schedules")[name], arrays("schedules")
    schedule = build(about["strategy"], tuple(about["base_num_tokens"] // 4 ** level for level in range(about["num_levels"])))
    np.testing.assert_array_equal(schedule.rollout(256, end=1024), theirs[f"{name}.rollout_end1024"])
    within = theirs[f"{name}.rollout_limit768"]
    if len(within):
        np.testing.assert_array_equal(schedule.rollout(256, limit=768), within)


# ---- noise schedule and embeddings -----------------------------------------------------------------------------------

@pytest.mark.parametrize("shift", [1., .5, 2.])
def test_noise_schedule(shift):
    theirs = arrays("noise_schedule")
    t = torch.from_numpy(theirs["t"])
    close(log_snr(t, shift), theirs[f"shift{shift}.logsnr"])
    for ours, name in zip(alpha_sigma(t, shift), ("alpha", "sigma")):
        close(ours, theirs[f"shift{shift}.{name}"])


def embedding_sizes(prefix):
    return [int(name.removeprefix(prefix)) for name in arrays("embeddings") if name.startswith(prefix)]


@pytest.mark.parametrize("width", embedding_sizes("sincos2d.dim"))
def test_image_position_embedding(width):
    theirs = arrays("embeddings")
    ours = image_position_embedding(torch.from_numpy(theirs["sincos2d.indices_hw"]), width)
    close(ours, theirs[f"sincos2d.dim{width}"])


@pytest.mark.parametrize("width", embedding_sizes("flhw.dim"))
def test_video_position_embedding(width):
    theirs = arrays("embeddings")
    where = torch.from_numpy(theirs["flhw.indices"])[:, [0, 2, 3]]  # the level has no influence
    ours, near = video_position_embedding(where, width), where[:, 0] < 100
    close(ours[near], theirs[f"flhw.dim{width}"][near])
    close(ours, theirs[f"flhw.dim{width}"], 1e-4)  # sines of large angles


@pytest.mark.parametrize("size", embedding_sizes("time.size"))
def test_time_features(size):
    theirs = arrays("embeddings")
    t = torch.from_numpy(theirs["time.t"])
    ours, small = time_features(t, size), t < .05
    close(ours[small], theirs[f"time.size{size}"][small])
    close(ours, theirs[f"time.size{size}"], 1e-4)


def test_frames_count_from_the_oldest_one(universal, sizes, generator):
    theirs = arrays("embeddings")
    absolute, relative = (torch.from_numpy(theirs[f"relative.{name}"]) for name in ("indices", "result"))
    level = (absolute[..., 1] % sizes["num_levels"])  # made-up indices: the model has fewer levels than they name
    shape = absolute.shape[:2]
    x, t = torch.randn(*shape, sizes["latent_channels"], generator=generator), torch.rand(shape, generator=generator)
    v = []
    for where in (absolute, relative):
        where = where.clone()
        where[..., 1] = level
        v.append(universal(x, t, Tokens(x, where, torch.zeros(*shape, 6), torch.ones(shape, dtype=torch.int64))))
    close(v[0], v[1])


# ---- tokens of a step ------------------------------------------------------------------------------------------------

def as_video(tokens, indices, pyramid, frames):
    "A flat list of tokens -> latents (batch, frames, tokens of a frame, channels); other places are zero."
    index_of = {tuple(where): i for i, where in enumerate(pyramid.coordinates().tolist())}
    frame, token = indices[:, 0].long(), torch.tensor([index_of[tuple(where)] for where in indices[:, 1:].tolist()])
    video = tokens.new_zeros(len(tokens), frames, pyramid.num_tokens, tokens.shape[-1])
    video[:, frame, token] = tokens
    return video


def test_tokens_of_a_step(pyramid, sizes):
    theirs = {name: torch.from_numpy(value) for name, value in arrays("select_tokens").items()}
    actions = theirs["frame_actions"]
    video = as_video(theirs["tokens"], theirs["indices"], pyramid, actions.shape[1])
    steps = sorted({name.rpartition(".")[0] for name in theirs if name.endswith(".selection")})
    assert len(steps) == 4
    for prefix in steps:
        run, step = prefix.split(".step")
        schedule = build(sizes["generate"][run]["strategy"], pyramid.tokens_per_level)
        np.testing.assert_array_equal(schedule.roles[int(step)], theirs[f"{prefix}.selection"])
        tokens = gather_tokens(video, actions, step_indices(schedule, pyramid)[int(step)], pyramid.coordinates(),
                               int(theirs[f"{prefix}.window_start"]))
        count = tokens.values.shape[1]  # where the release pads, all that follows has role 0
        assert not theirs[f"{prefix}.roles"][:, count:].any()
        for ours, name in zip((tokens.values, tokens.coordinates, tokens.actions, tokens.roles),
                              ("values", "indices", "actions", "roles")):
            close(ours, theirs[f"{prefix}.{name}"][:, :count], 0)


def test_training_batch_of_unequal_steps(pyramid, sizes):
    theirs, run = {name: torch.from_numpy(value) for name, value in arrays("select_tokens").items()}, "millivid_uneven"
    schedule = build(sizes["generate"][run]["strategy"], pyramid.tokens_per_level)
    indices, steps = step_indices(schedule, pyramid), (2, 0)
    start = int(theirs[f"{run}.step0.window_start"])
    clip = slice(start, start + schedule.chunk_frames)
    video = as_video(theirs["tokens"], theirs["indices"], pyramid, theirs["frame_actions"].shape[1])
    tokens = training_tokens(video[:, clip], theirs["frame_actions"][:, clip], [indices[step] for step in steps],
                             pyramid.coordinates())
    for sample, step in enumerate(steps):
        roles = theirs[f"{run}.step{step}.roles"][sample]
        close(tokens.roles[sample], roles, 0)
        close(tokens.values[sample], theirs[f"{run}.step{step}.values"][sample], 0)
        shifted = theirs[f"{run}.step{step}.indices"][sample] - torch.tensor([start, 0, 0, 0])
        close(tokens.coordinates[sample][roles > 0], shifted[roles > 0], 0)
        close(tokens.actions[sample][roles > 0], theirs[f"{run}.step{step}.actions"][sample][roles > 0], 0)


# ---- sizes of the paper's models -------------------------------------------------------------------------------------

def full_size_models():
    "Our models in the paper's sizes, without memory for their weights, and the names of the release's."
    about = read_json("state_dict_shapes")["config"]
    pyramid = PyramidConfig(about["image_shape"], about["patch_shape"], about["available_num_levels"])

    def video(size, **settings):
        return VideoConfig(about["latent_channels"], pyramid.num_levels, TRANSFORMER_SIZES[size], **settings)

    with torch.device("meta"):
        return {"autoencoder": Tokenizer(TokenizerConfig(pyramid, about["latent_channels"])),
                "video_universal_S.dit": VideoModel(video("S")), "video_universal_B.dit": VideoModel(video("B")),
                "video_framepack_B.dit": FramePackModel(video("B", framepack_context=(3, 12, 48, 192),
                                                              framepack_denoised=3))}


def test_full_size_models_have_the_weights_of_the_release():
    for name, model in full_size_models().items():
        theirs = {our_name(key): list(shape) for key, shape in read_json("state_dict_shapes")[name].items()}
        assert {key: list(value.shape) for key, value in model.state_dict().items()} == theirs, name


# ---- tokenizer -------------------------------------------------------------------------------------------------------

def test_pyramid_of_patches(pyramid):
    patches = pyramid_patches(recorded("ae.images"), pyramid)
    close(patches, recorded("ae.patches"))
    np.testing.assert_array_equal(pyramid.coordinates(), recorded("ae.indices_lhw")[0])
    for level, images in enumerate(images_from_patches(patches, pyramid)):
        close(images, recorded(f"ae.unpatchify_level{level}"))


def test_encoder(tokenizer, variant):
    close(tokenizer.encode(recorded("ae.images")), recorded(f"ae.encoder_{variant}"))


@pytest.mark.parametrize("variant", ["adaptive"], indirect=True)
def test_decoder(tokenizer, sizes):
    latents = recorded("ae.encoder_adaptive")
    for level in range(sizes["num_levels"]):
        close(tokenizer.decode_patches(latents, torch.tensor([level, level])), recorded(f"ae.decoder_from_level{level}"))
    mixed = tokenizer.decode_patches(latents, recorded("ae.decoder_mixed_levels").long())
    close(mixed, recorded("ae.decoder_mixed"))
    dense = tokenizer.decoder(recorded("ae.decoder_dense_input"), recorded("ae.decoder_dense_level").long())
    close(dense, recorded("ae.decoder_dense"))


def test_tokenizer_loss(tokenizer, variant):
    loss = tokenizer_loss(tokenizer, recorded("ae.images"), recorded(f"ae.loss_{variant}_level_draw"))
    close(loss, recorded(f"ae.loss_{variant}"))
    loss.backward()
    same_gradients(tokenizer, f"ae.loss_{variant}.grad_norm/")


# ---- universal video model -------------------------------------------------------------------------------------------

def step_tokens(prefix, values="x", roles=None):
    return Tokens(recorded(f"{prefix}.{values}"), recorded(f"{prefix}.indices"), recorded(f"{prefix}.actions"),
                  recorded(f"{prefix}.roles") if roles is None else roles)


def test_forward(universal):
    tokens = step_tokens("universal.forward")
    v = universal(tokens.values, recorded("universal.forward.t"), tokens, recorded("universal.forward.conditioning_mask"))
    close(v, recorded("universal.forward.v"))


def test_forward_of_random_tokens_in_random_order(universal):
    prefix = "universal.forward_random"  # here role 0 does not mean padding: all tokens are real
    tokens = step_tokens(prefix, roles=torch.ones_like(recorded(f"{prefix}.roles")))
    v = universal(tokens.values, recorded(f"{prefix}.t"), tokens, recorded(f"{prefix}.conditioning_mask"))
    close(v, recorded(f"{prefix}.v"))


def test_epsilon_of_query_and_key_norm(universal, sizes):
    with torch.no_grad():
        for block in universal.blocks:
            for parameter in (block.attn.qkv.weight, block.attn.qkv.bias):
                parameter[:2 * sizes["hidden"]] *= 1e-3
    tokens, prefix = step_tokens("universal.forward"), "universal.forward"
    v = universal(tokens.values, recorded(f"{prefix}.t"), tokens, recorded(f"{prefix}.conditioning_mask"))
    close(v, recorded("universal.forward_small_qk.v"))


@pytest.mark.parametrize("guidance", [1., 1.5])
def test_one_denoising_update(universal, guidance):
    prefix = "universal.denoise"
    tokens, eps, yes = step_tokens(prefix), recorded(f"{prefix}.eps"), torch.tensor([True, True])
    t = recorded(f"{prefix}.t_scalar").float().expand(2, 1)
    times = token_times(t, tokens.denoised, yes)
    close(times, recorded(f"{prefix}.t"))
    x_t = add_noise(tokens.values, eps, times)
    v = universal(x_t, times, tokens, yes)
    if guidance != 1:
        without = token_times(t, tokens.denoised, ~yes)
        v_without = universal(add_noise(tokens.values, eps, without), without, tokens, ~yes)
        v = v_without + guidance * (v - v_without)
    for ours, name, before in zip(clean_and_noise(x_t, v, times), ("x_hat", "eps_hat"), (tokens.values, eps)):
        ours = torch.where(tokens.denoised[..., None], ours, before)
        close(ours, recorded(f"{prefix}.{name}_guidance{guidance}"))


def test_training_loss(universal):
    prefix = "universal.loss_even"
    tokens = step_tokens(prefix, values="tokens")
    keep = recorded(f"{prefix}.u_dropout") > recorded(f"{prefix}.dropout_probability").item()
    loss = diffusion_loss(lambda x_t, t, conditional: universal(x_t, t, tokens, conditional), tokens.values,
                          tokens.denoised, recorded(f"{prefix}.eps"), recorded(f"{prefix}.t_draw"), keep)
    close(loss, recorded(f"{prefix}.loss"))
    loss.backward()
    same_gradients(universal, f"{prefix}.grad_norm/")


# ---- FramePack -------------------------------------------------------------------------------------------------------

def test_framepack_forward(framepack):
    prefix = "framepack.forward"
    v = framepack(*(recorded(f"{prefix}.{name}") for name in ("x", "t", "actions")))
    close(v, recorded(f"{prefix}.v"))


def test_framepack_denoising_update(framepack):
    prefix = "framepack.denoise"
    x, eps, t = (recorded(f"{prefix}.{name}") for name in ("x", "eps", "t"))
    x_t, new = add_noise(x.flatten(2), eps.flatten(2), t).unflatten(2, x.shape[2:]), slice(framepack.context_frames, None)
    v = framepack(x_t, t, recorded(f"{prefix}.actions"))
    for ours, name in zip(clean_and_noise(x_t[:, new].flatten(2), v.flatten(2), t[:, new]), ("x_hat", "eps_hat")):
        close(ours, recorded(f"{prefix}.{name}"))


def test_framepack_training_loss(framepack):
    prefix = "framepack.loss"
    latents, actions = recorded(f"{prefix}.latents"), recorded(f"{prefix}.actions")
    keep = recorded(f"{prefix}.dropout_draw")[:, 0] >= recorded(f"{prefix}.dropout_probability").item()
    denoised = torch.arange(latents.shape[1]).expand(2, -1) >= framepack.context_frames

    def predict(x_t, t, conditional):  # the release drops the context of FramePack, never its actions
        v = framepack(x_t.unflatten(2, latents.shape[2:]), t, actions).flatten(2)
        return torch.cat([torch.zeros_like(x_t[:, :framepack.context_frames]), v], dim=1)

    loss = diffusion_loss(predict, latents.flatten(2), denoised, recorded(f"{prefix}.eps").flatten(2),
                          recorded(f"{prefix}.t_draw")[:, None], keep)
    close(loss, recorded(f"{prefix}.loss"))
    loss.backward()
    same_gradients(framepack, f"{prefix}.grad_norm/")


# ---- rollouts --------------------------------------------------------------------------------------------------------

def test_every_rollout_is_compared_or_named(sizes):
    assert set(RUNS) | OTHER_RUNS == set(sizes["generate"])


@pytest.mark.parametrize("run", RUNS)
def test_rollout(run, universal, pyramid, sizes):
    settings, prefix = sizes["generate"][run], f"generate.{run}"
    schedule = build(settings["strategy"], pyramid.tokens_per_level)
    start, end = settings["first_denoised_frame"], settings["test_num_frames"]
    indices, keep = recorded("video.indices"), recorded(f"{prefix}.keep")
    actions = recorded("video.frame_actions")
    np.testing.assert_array_equal(schedule.rollout(start, end), recorded(f"{prefix}.steps"))

    dtype = getattr(torch, settings["state_dtype"])
    video = as_video(recorded("video.tokens").to(dtype), indices, pyramid, actions.shape[1])
    noise = iter(recorded("generate.millivid.eps" if "guidance" in run else f"{prefix}.eps").to(dtype))
    ours = generate(universal, video, actions, schedule, pyramid, start, end, settings["sampling_steps"],
                    settings["guidance_scale"], noise=lambda *shape: next(noise), progress=False)
    theirs = as_video(recorded(f"{prefix}.result"), indices[keep], pyramid, actions.shape[1])[:, :end]
    level = pyramid.coordinates()[:, 0]
    ours = ours[:, :, level < schedule.num_levels]
    theirs = theirs[:, :, level < schedule.num_levels]
    if dtype == torch.bfloat16:  # one unit in the last place of a few values
        close(ours, theirs, 2 ** -6)
        assert (ours.float() != theirs).float().mean() < .01
    else:
        close(ours, theirs, ROLLOUT)


def test_framepack_rollout(framepack, pyramid, sizes):
    settings, theirs = sizes["generate"]["framepack"], recorded("generate.framepack.result")
    latents = recorded("framepack.latents").flatten(3).transpose(2, 3)
    ours = generate_framepack(framepack, latents, recorded("video.frame_actions"), pyramid,
                              settings["first_denoised_frame"], settings["test_num_frames"], settings["sampling_steps"],
                              noise=lambda *shape: recorded("generate.framepack.eps"), progress=False)
    close(ours.transpose(2, 3), theirs.flatten(3), ROLLOUT)


@pytest.mark.parametrize("variant", ["adaptive"], indirect=True)
@pytest.mark.parametrize("name", [name.removesuffix(".frames") for name in arrays("tiny_io")
                                  if name.startswith("decode.") and name.endswith(".frames")])
def test_decoding_a_rollout(name, tokenizer, pyramid, sizes):
    run, level = name.removeprefix("decode.").split("_level")
    result, level = recorded(f"generate.{run}.result"), int(level)
    frames = recorded(f"{name}.frame_index")
    if run == "framepack":
        latents = result.flatten(3).transpose(2, 3)[:, frames]
    else:
        indices = recorded("video.indices")[recorded(f"generate.{run}.keep")]
        latents = as_video(result, indices, pyramid, sizes["generate"][run]["test_num_frames"])[:, frames]
    close(tokenizer.decode(latents.flatten(0, 1), level), recorded(f"{name}.frames").flatten(0, 1))
