"Noise, velocity, loss and sampler, without any network."

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import assert_says

from millivid.basics import UserError
from millivid.diffusion import add_noise, alpha_sigma, ddim_sample, diffusion_loss, log_snr, predict_x0_eps
from millivid.diffusion import token_times, velocity

times = st.floats(0, 1, width=32)
shifts = st.floats(.25, 4)
YES, NO = torch.tensor([True, True]), torch.tensor([False, False])


@pytest.fixture
def x(generator):
    return torch.randn(2, 5, 3, generator=generator)


@pytest.fixture
def eps(generator):
    return torch.randn(2, 5, 3, generator=generator)


@pytest.fixture
def is_target():
    "The last tokens of each video, three of one and two of the other."
    return torch.tensor([[0, 0, 1, 1, 1], [0, 0, 0, 1, 1]], dtype=torch.bool)


# ---- noise schedule --------------------------------------------------------------------------------------------------

@given(times, shifts)
def test_signal_and_noise_keep_the_variance(t, shift):
    alpha, sigma = alpha_sigma(torch.tensor(t), shift)
    torch.testing.assert_close(alpha ** 2 + sigma ** 2, torch.tensor(1.))


@given(shifts)
def test_noise_only_grows(shift):
    ratio = log_snr(torch.linspace(0, 1, 101), shift)
    assert (ratio.diff() < 0).all()


def test_the_ends_are_almost_data_and_almost_noise():
    torch.testing.assert_close(log_snr(torch.tensor([0., .5, 1.])), torch.tensor([15., 0., -15.]), rtol=0, atol=1e-3)
    assert log_snr(torch.tensor(.5), 2.) > 0 > log_snr(torch.tensor(.5), .5)  # a large shift keeps more signal


@given(times, st.integers(0, 100))
def test_velocity_tells_data_and_noise(t, seed):
    generator = torch.Generator().manual_seed(seed)
    x, eps = torch.randn(2, 1, 4, 3, generator=generator)
    t = torch.full((1, 4), t)
    found = predict_x0_eps(add_noise(x, eps, t), velocity(x, eps, t), t)
    torch.testing.assert_close(found, (x, eps), rtol=0, atol=1e-5)


# ---- which token has which noise level -------------------------------------------------------------------------------

def test_token_times(is_target):
    t = torch.tensor([[.3], [.6]])
    result = token_times(t, is_target, torch.tensor([True, False]))
    torch.testing.assert_close(result, torch.tensor([[0, 0, .3, .3, .3], [1, 1, 1, .6, .6]]))


# ---- loss ------------------------------------------------------------------------------------------------------------

def test_loss_is_the_error_of_v_over_denoised_tokens_of_the_whole_batch(x, eps, is_target):
    t = torch.tensor([[.2], [.7]])
    error = torch.arange(10.).view(2, 5, 1).expand(2, 5, 3)

    def predict(x_t, times, conditional):
        return velocity(x, eps, times) + error

    expected = error[is_target].square().mean()  # five tokens weigh the same, whatever video they belong to
    torch.testing.assert_close(diffusion_loss(predict, x, is_target, eps, t, YES), expected)


@pytest.mark.parametrize("conditional", [YES, NO])
def test_loss_shows_the_model_clean_context_or_none(x, eps, is_target, conditional):
    seen = {}

    def predict(x_t, times, conditional):
        seen.update(x_t=x_t, t=times, conditional=conditional)
        return torch.zeros_like(x_t)

    diffusion_loss(predict, x, is_target, eps, torch.full((2, 1), .5), conditional)
    expected = x if conditional.all() else eps
    torch.testing.assert_close(seen["x_t"][~is_target], expected[~is_target], rtol=0, atol=2e-2)
    assert (seen["t"][is_target] == .5).all() and torch.equal(seen["conditional"], conditional)


# ---- sampler ---------------------------------------------------------------------------------------------------------

def knows(target):
    "A perfect model: it predicts the v that leads to `target`."
    def predict(x_t, t, conditional):
        alpha, sigma = alpha_sigma(t[..., None])
        return (alpha * x_t - target) / sigma
    return predict


@pytest.mark.parametrize("num_inference_steps", [2, 3, 10])
def test_a_perfect_model_is_sampled_perfectly(x, eps, is_target, num_inference_steps):
    target = x + 1
    found, _ = ddim_sample(knows(target), x, is_target, eps, num_inference_steps)
    torch.testing.assert_close(found[is_target], target[is_target], rtol=0, atol=1e-2)


@pytest.mark.parametrize("guidance_scale", [1., 1.5])
def test_context_is_never_changed(x, eps, is_target, guidance_scale):
    found, noise = ddim_sample(knows(x + 1), x, is_target, eps, 4, guidance_scale)
    assert torch.equal(found[~is_target], x[~is_target]) and torch.equal(noise[~is_target], eps[~is_target])
    assert (found[is_target] != x[is_target]).all()


def test_what_the_model_sees_at_each_step(x, eps, is_target):
    seen = []

    def predict(x_t, t, conditional):
        seen.append((t, conditional))
        return torch.zeros_like(x_t)

    ddim_sample(predict, x, is_target, eps, 5, guidance_scale=2., evaluate_last=True)
    with_context, without = seen[::2], seen[1::2]
    for step, ((t, yes), (t_without, no)) in enumerate(zip(with_context, without, strict=True)):
        level = torch.tensor(1 - step / 4)  # from noise to data, both ends included
        assert yes.all() and not no.any()
        assert (t[is_target] == level).all() and (t_without[is_target] == level).all()
        assert (t[~is_target] == 0).all() and (t_without[~is_target] == 1).all()
    assert len(with_context) == 5


def test_guidance_goes_beyond_the_conditional_prediction(x, eps, is_target):
    def constant(with_context, without):
        return lambda x_t, t, yes: torch.where(yes[:, None, None], with_context, without).expand(x_t.shape)

    a, b, scale = torch.tensor(.3), torch.tensor(-.2), 1.5
    guided = ddim_sample(constant(a, b), x, is_target, eps, 4, scale)
    mixed = b + scale * (a - b)
    torch.testing.assert_close(guided, ddim_sample(constant(mixed, mixed), x, is_target, eps, 4))


def test_on_step_watches_every_estimate(x, eps, is_target):
    watched = []
    found, _ = ddim_sample(knows(x + 1), x, is_target, eps, 3, on_step=lambda t, x_hat: watched.append((t, x_hat)))
    assert [t for t, _ in watched] == [1, .5]  # the level of t = 0 is reached without an evaluation there
    assert torch.equal(watched[-1][1], found)


def test_the_evaluation_at_the_end_can_be_had_and_hardly_matters(x, eps, is_target):
    def predict(x_t, t, conditional):
        return x_t.tanh()

    watched = []
    without, _ = ddim_sample(predict, x, is_target, eps, 3)
    with_it, _ = ddim_sample(predict, x, is_target, eps, 3, evaluate_last=True, on_step=lambda t, _: watched.append(t))
    assert watched == [1, .5, 0]
    assert 0 < (with_it - without).abs().max() < 5e-3


@pytest.mark.parametrize("num_inference_steps", [1, 0, -3])
def test_one_noise_level_is_no_way(num_inference_steps, x, eps, is_target):
    with pytest.raises(UserError) as error:
        ddim_sample(knows(x), x, is_target, eps, num_inference_steps)
    assert_says(error.value, f"num_inference_steps is {num_inference_steps}", "at least 2")


def test_precision_of_the_state_is_kept(x, eps, is_target):
    found, noise = ddim_sample(knows(x), x.bfloat16(), is_target, eps.bfloat16(), 3)
    assert found.dtype == noise.dtype == torch.bfloat16
