"The transformer over tokens: what it must and must not depend on."

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from tiny import PYRAMID, TRANSFORMER, random_video, randomised

from millivid.video import training_tokens
from millivid.layers import DiTBlock, Mlp, TimeEmbedding, TransformerBlock, attend, image_position_embedding, layer_norm
from millivid.layers import time_features, video_position_embedding
from millivid.video import gather_tokens, step_indices
from millivid.schedule import millivid_schedule
from millivid.video import FramePackModel, Tokens, VideoConfig, VideoModel, condition_rows, pose_features


@pytest.fixture
def tokens(schedule):
    "The tokens of a schedule step in the middle of a chunk, of two videos."
    latents, actions = random_video(2, 25)
    return gather_tokens(latents, actions, step_indices(schedule, PYRAMID)[3], PYRAMID.coordinates())


@pytest.fixture
def t(tokens, generator):
    "Noise levels: another one for every token of the first video, one for all of the second."
    return torch.stack(
        [torch.rand(tokens.roles.shape[1], generator=generator), torch.full(tokens.roles.shape[1:], 0.3)]
    )


def changed(tokens, **what):
    return Tokens(**{**vars(tokens), **what})


# ---- layers --------------------------------------------------------------------------------------------------------


def test_norm_and_activation_are_those_of_dit(generator):
    x = 1e-3 * torch.randn(4, 8, generator=generator)  # so small that epsilon counts
    expected = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(layer_norm(x), expected)
    mlp, x = Mlp(8), 2 * torch.randn(4, 8, generator=generator)
    inner = mlp.fc1(3 * x)
    bent = inner / 2 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (inner + 0.044715 * inner**3)))
    torch.testing.assert_close(mlp(3 * x), mlp.fc2(bent), rtol=0, atol=1e-6)


def test_what_comes_first_in_an_embedding():
    cosine, sine = time_features(torch.tensor(0.0)).chunk(2)
    assert (cosine == 1).all() and (sine == 0).all()
    column, row = image_position_embedding(torch.tensor([0, 5]), 16).chunk(2)  # row 0, column 5
    assert torch.equal(row, torch.tensor([0.0] * 4 + [1.0] * 4)) and not torch.equal(column, row)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_softmax_of_scaled_products(dtype, tolerance, masked, generator):
    q, k, v = (torch.randn(2, 3, 7, 8, generator=generator) for _ in range(3))
    mask = torch.rand(2, 1, 1, 7, generator=generator) > 0.3 if masked else None
    scores = torch.einsum("bhid,bhjd->bhij", q, k) / 8**0.5
    if masked:
        scores = scores + torch.log(mask.float())
    ours = attend(q.to(dtype), k.to(dtype), v.to(dtype), mask)
    torch.testing.assert_close(ours.float(), scores.softmax(-1) @ v, rtol=0, atol=tolerance)


@pytest.mark.parametrize("queries", [1, 600])  # of the mask: the same for all queries, or one for each
def test_long_sequences_in_bfloat16_are_looked_up_in_pieces(queries, generator):
    q, k, v = (torch.randn(2, 3, 600, 8, generator=generator) for _ in range(3))
    mask = torch.rand(2, 1, queries, 600, generator=generator) > 0.3
    right = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    ours = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), mask)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), right, rtol=0, atol=2e-2)


def test_new_dit_blocks_and_models_change_nothing(generator):
    x = torch.randn(2, 5, TRANSFORMER.width, generator=generator)
    assert torch.equal(DiTBlock(TRANSFORMER)(x, x[:, 0]), x)
    assert not torch.equal(TransformerBlock(TRANSFORMER)(x), x)


@given(st.integers(2, 12), st.integers(0, 500))
def test_position_embeddings_tell_positions_apart(quarter, far):
    grid = torch.cartesian_prod(torch.arange(6), torch.arange(6))
    for codes in (
        image_position_embedding(grid, 4 * quarter),
        video_position_embedding(F.pad(grid, (1, 0), value=far), 6 * quarter),
    ):
        distance = torch.cdist(codes, codes) + torch.eye(len(grid))
        assert codes.abs().max() <= 1 and distance.min() > 0.05


def test_time_embedding_tells_noise_levels_apart():
    codes = randomised(TimeEmbedding(32))(torch.linspace(0, 1, 50))
    assert (torch.cdist(codes, codes) + torch.eye(50)).min() > 1e-3


@pytest.mark.parametrize("rows_per_token, masked", [(True, False), (True, True), (False, False)])
def test_a_block_for_a_few_tokens_equals_their_rows_of_the_whole(rows_per_token, masked, generator):
    block, targets = randomised(DiTBlock(TRANSFORMER), scale=0.3), torch.tensor([6, 1, 5])
    index = torch.randint(2, (2, 7), generator=generator) if rows_per_token else None
    mask = (torch.arange(7) != 4).view(1, 1, 1, 7) if masked else None
    results = []
    for these in (None, targets):
        x = torch.randn(2, 7, TRANSFORMER.width, generator=torch.Generator().manual_seed(1)).requires_grad_()
        rows = torch.randn(2, TRANSFORMER.width, generator=torch.Generator().manual_seed(2)).requires_grad_()
        block.zero_grad()
        out = block(x, rows, index, mask, these)
        out = out if these is not None else out[:, targets]
        out.square().mean().backward()
        results.append([out.detach(), x.grad, rows.grad, *(p.grad.clone() for p in block.parameters())])
    assert results[0][0].shape == (2, 3, TRANSFORMER.width)
    for whole, few in zip(*results):
        torch.testing.assert_close(few, whole, rtol=1e-5, atol=1e-5)


# ---- one condition per distinct row --------------------------------------------------------------------------------


@given(st.integers(1, 3), st.integers(1, 20), st.integers(0, 1000))
def test_condition_rows_stand_for_every_token(batch, count, seed):
    generator = torch.Generator().manual_seed(seed)
    t = torch.randint(3, (batch, count), generator=generator) / 3
    level = torch.randint(4, (batch, count), generator=generator)
    action, masked = (torch.randint(high, (batch, count), generator=generator) for high in (3, 2))
    *rows, index, first = condition_rows(t, level, action, masked)
    for row, per_token in zip(rows, (t, level, action, masked)):
        assert torch.equal(row[index], per_token)
    conditions = list(zip(*(row.tolist() for row in rows)))
    assert len(conditions) == len(set(conditions)) == index.max() + 1  # each is there once
    assert torch.equal(index.flatten()[first], torch.arange(len(first)))  # and `first` is a token that has it


def plain_forward(model, x_t, t, tokens, conditional):
    "The model as the paper writes it: a condition for every single token."
    frame, level, row, column = tokens.coordinates.unbind(-1)
    position = torch.stack([frame - frame.amin(1, keepdim=True), row, column], -1)
    x = model.patchify(x_t) + video_position_embedding(position, TRANSFORMER.width)
    c = model.time_embedding(t) + model.level_embedding(level)
    c = F.silu(c + model.action_embedding(tokens.actions[..., 0].long()) * conditional[:, None, None])
    for block in model.blocks:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = block.modulation.linear(c).chunk(6, -1)
        x = x + gate_a * block.attn(layer_norm(x) * (1 + scale_a) + shift_a)
        x = x + gate_m * block.mlp(layer_norm(x) * (1 + scale_m) + shift_m)
    shift, scale = model.unpatchify.modulation.linear(c).chunk(2, -1)
    return model.unpatchify.linear(layer_norm(x) * (1 + scale) + shift)


def test_rows_give_the_same_numbers_as_a_condition_per_token(tokens, t):
    model = randomised(VideoModel(VideoConfig(4, 3, TRANSFORMER)))
    conditional, results = torch.tensor([True, False]), []
    for forward in (model, lambda *arguments: plain_forward(model, *arguments)):
        model.zero_grad()
        v = forward(tokens.values, t, tokens, conditional)
        v.square().mean().backward()
        results.append([v.detach(), *(parameter.grad.clone() for parameter in model.parameters())])
    for ours, plain in zip(*results):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-6)


# ---- what the prediction depends on --------------------------------------------------------------------------------


def test_order_of_tokens_does_not_matter(video_model, tokens, t, generator):
    order = torch.randperm(t.shape[1], generator=generator)
    shuffled = Tokens(*(value[:, order] for value in vars(tokens).values()))
    v = video_model(tokens.values, t, tokens)
    torch.testing.assert_close(video_model(shuffled.values, t[:, order], shuffled), v[:, order])


def test_absolute_time_place_and_heading_do_not_matter(video_model, tokens, t):
    later = changed(tokens, coordinates=tokens.coordinates + torch.tensor([100, 0, 0, 0]))
    action, x, y, z, yaw, pitch = tokens.actions.unbind(-1)
    moved = changed(tokens, actions=torch.stack([action, 5 - y, x - 3, z, yaw + torch.pi / 2, pitch], -1))
    v = video_model(tokens.values, t, tokens)
    torch.testing.assert_close(video_model(tokens.values, t, later), v, rtol=0, atol=1e-5)
    torch.testing.assert_close(video_model(tokens.values, t, moved), v, rtol=0, atol=1e-4)


@pytest.mark.parametrize("what", ["x_t", "t", "frame", "level", "action", "pose"])
def test_everything_else_does_matter(video_model, tokens, t, what):
    x_t, times, coordinates, actions = (
        tokens.values.clone(),
        t.clone(),
        tokens.coordinates.clone(),
        tokens.actions.clone(),
    )
    if what == "x_t":
        x_t[:, -1] += 1
    elif what == "t":
        times[:, -1] = 1 - times[:, -1]
    elif what in ("frame", "level"):
        coordinates[:, 0, ["frame", "level"].index(what)] += 1
    elif what == "action":
        actions[:, 0, 0] = (actions[:, 0, 0] + 1) % 3
    else:
        actions[:, 0, 1] += 1
    other = changed(tokens, coordinates=coordinates, actions=actions)
    change = (video_model(x_t, times, other) - video_model(tokens.values, t, tokens)).abs().amax((1, 2))
    assert (change > 1e-4).all()


def test_unconditional_prediction_ignores_the_actions(video_model, tokens, t):
    moved = changed(tokens, actions=(tokens.actions + 1) % 3)
    no, yes = torch.tensor([False, False]), torch.tensor([True, True])
    assert torch.equal(video_model(tokens.values, t, tokens, no), video_model(tokens.values, t, moved, no))
    assert not torch.equal(video_model(tokens.values, t, tokens, yes), video_model(tokens.values, t, moved, yes))


def test_padding_changes_nothing(video_model):
    "A short step gives the same numbers alone and beside a longer one."
    uneven = millivid_schedule((1, 2, 4), 8, PYRAMID.tokens_per_level)  # extra context that is no whole frame
    indices = step_indices(uneven, PYRAMID)
    lengths = [len(index.role) for index in indices]
    short, long = indices[lengths.index(min(lengths))], indices[lengths.index(max(lengths))]
    assert len(short.role) < len(long.role)
    latents, actions = random_video(2, uneven.chunk_frames)
    alone = training_tokens(latents[:1], actions[:1], [short], PYRAMID.coordinates())
    beside = training_tokens(latents, actions, [short, long], PYRAMID.coordinates())
    assert (beside.roles[0, len(short.role) :] == 0).all()
    predict = [video_model(tokens.values, torch.full(tokens.roles.shape, 0.5), tokens) for tokens in (alone, beside)]
    torch.testing.assert_close(predict[1][:1, : len(short.role)], predict[0])


# ---- FramePack -----------------------------------------------------------------------------------------------------


def framepack_input(model, seed=0):
    frames = model.context_frames + model.config.framepack_denoised
    latents, actions = random_video(2, frames, seed=seed)
    grid = latents[:, :, PYRAMID.level_slice(0)].transpose(2, 3).unflatten(3, PYRAMID.grid_shape(0))
    return grid, torch.full(grid.shape[:2], 0.4), actions


def test_framepack_predicts_its_denoised_frames(framepack_model):
    grid, t, actions = framepack_input(framepack_model)
    assert framepack_model(grid, t, actions).shape == (2, 2, *grid.shape[2:])


def test_framepack_sees_every_frame(framepack_model):
    grid, t, actions = framepack_input(framepack_model)
    v = framepack_model(grid, t, actions)
    for frame in range(grid.shape[1]):
        other = grid.clone()
        other[:, frame, 0, 0, 0] += 1
        assert (framepack_model(other, t, actions) - v).abs().max() > 1e-4, frame


def test_framepack_spends_fewer_tokens_on_older_frames(framepack_model):
    segments = framepack_model.segments()
    assert [end - start for _, start, end in segments] == [4, 1, 1, 2]
    assert [level for level, _, _ in segments] == [2, 1, 0, 0]
    assert segments[0][1] == 0 and all(a[2] == b[1] for a, b in zip(segments, segments[1:]))


def test_models_keep_their_settings_when_saved(tmp_path):
    config = VideoConfig(4, 3, TRANSFORMER, framepack_context=(1, 1, 2), framepack_denoised=1)
    model = randomised(FramePackModel(config))
    model.save_pretrained(tmp_path)
    again = FramePackModel.from_pretrained(tmp_path).eval()
    assert again.config == config
    inputs = framepack_input(model)
    assert torch.equal(again(*inputs), model(*inputs))


# ---- what is prepared once for all passes of a sampler --------------------------------------


@pytest.mark.parametrize("conditional", [True, False])
def test_a_prepared_step_gives_the_same_v_for_denoised_tokens(video_model, schedule, conditional):
    from tiny import PYRAMID, random_video

    latents, actions = random_video(2, schedule.chunk_frames)
    yes = torch.full((2,), conditional)
    for index in step_indices(schedule, PYRAMID):
        tokens = gather_tokens(latents, actions, index, PYRAMID.coordinates())
        t = torch.where(tokens.is_target, 0.6, 0.0 if conditional else 1.0)
        known = video_model.prepare_sampling(tokens)
        quick, whole = video_model(tokens.values, t, known, yes), video_model(tokens.values, t, tokens, yes)
        is_target = tokens.is_target[0]
        torch.testing.assert_close(quick[:, is_target], whole[:, is_target], atol=1e-5, rtol=1e-5)
        assert not quick[:, ~is_target].any()


def test_wider_pose_features_tell_places_apart_that_narrow_ones_confuse():
    "Defect 2 of the package's review: places 8 moves apart had the same features."
    here, there = torch.zeros(3), torch.tensor([8.0, 0.0, 0.0])
    torch.testing.assert_close(pose_features(here), pose_features(there), atol=1e-5, rtol=0)
    assert (pose_features(here, 64) - pose_features(there, 64)).norm() > 0.5
    assert len(pose_features(here)) == 18  # what weights of version 0.1 were trained with
    assert (
        VideoModel(VideoConfig(4, 3, TRANSFORMER, odometry=True, pose_wave=64)).odometry_embedding.linear.in_features
        == 30
    )
