from itertools import product

import pytest
import torch

from iddpm.diffusion import Denoiser, GaussianDiffusion, Prediction, cosine, linear
from iddpm.networks import UNet
from iddpm.sampling import (
    DDIM,
    DDPM,
    SampleNoise,
    Step,
    clip_x0,
    even_timesteps,
    invert,
    sample,
    trajectory,
)
from iddpm.sampling.ddim import inversion

SIZES = {1: (7,), 2: (4, 5), 3: (2, 3, 5)}
SAMPLERS = {"ddpm": DDPM(), "ddim": DDIM(), "ddim 0.5": DDIM(0.5), "ddim 1": DDIM(1.0)}
VARIANCES = ["learned_range", "learned", "fixed_small", "fixed_large"]
PREDICTS = ["eps", "x0", "v", "previous"]


def tiny_denoiser(schedule, variance, predicts):
    diffusion = GaussianDiffusion(schedule, variance)

    def network(x, shown):
        mean = 0.3 * torch.sin(x + shown.to(x.dtype).reshape(-1, *[1] * (x.dim() - 1)) / 100)
        raw = torch.cos(x) - (4 if variance == "learned" else 0)
        return torch.cat([mean, raw], 1) if diffusion.learns_variance else mean

    return Denoiser(network, diffusion, predicts)


def normal(number, like):
    return torch.randn(
        like.shape, dtype=like.dtype, generator=torch.Generator().manual_seed(100 + number)
    )


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("dims", SIZES)
def test_every_combination_samples(name, dims):
    schedule = cosine(1000).respace(even_timesteps(1000, 6))
    x_T = normal(-1, torch.empty(2, 3, *SIZES[dims]))
    for variance, predicts in product(VARIANCES, PREDICTS):
        denoise = clip_x0(tiny_denoiser(schedule, variance, predicts))

        def noise(number):
            return normal(number, x_T)

        states = list(trajectory(SAMPLERS[name], denoise, schedule, x_T, noise=noise))
        case = variance, predicts
        assert [state.number for state in states] == [1, 2, 3, 4, 5, 6], case
        assert [state.index for state in states] == [5, 4, 3, 2, 1, 0], case
        assert all(state.x.shape == state.x0.shape == x_T.shape for state in states), case
        assert all(state.x0.abs().max() <= 1 for state in states), case
        assert bool(states[-1].x.isfinite().all()), case
        assert states[-1].x.dtype == torch.float32, case
        final = sample(SAMPLERS[name], denoise, schedule, x_T, noise=noise)
        assert torch.equal(final, states[-1].x), case
        if not (name == "ddpm" and predicts == "previous"):  # there the mean is the network's own
            assert torch.allclose(final, states[-1].x0, atol=1e-6), case


@pytest.mark.parametrize("name", ["ddpm", "ddim 1"])
def test_the_variance_kind_changes_only_ddpm(name):
    schedule = cosine(1000).respace(even_timesteps(1000, 6))
    x_T = normal(-1, torch.empty(2, 3, 7))
    results = [
        sample(
            SAMPLERS[name],
            tiny_denoiser(schedule, variance, "eps"),
            schedule,
            x_T,
            noise=lambda number: normal(number, x_T),
        )
        for variance in VARIANCES
    ]
    different = [not torch.allclose(results[0], result, atol=1e-4) for result in results[1:]]
    assert different == [name == "ddpm"] * 3


def test_noise_is_requested_by_the_number_of_the_step():
    schedule = linear(100).respace(even_timesteps(100, 5))
    denoise = tiny_denoiser(schedule, "fixed_small", "eps")
    x_T = normal(-1, torch.empty(1, 1, 4))
    numbers = []

    def noise(number):
        numbers.append(number)
        return normal(number, x_T)

    for sampler, expected in [
        (DDPM(), [0, 1, 2, 3]),  # none at the last step
        (DDIM(1.0), [0, 1, 2, 3]),
        (DDIM(), []),
    ]:
        numbers.clear()
        sample(sampler, denoise, schedule, x_T, noise=noise)
        assert numbers == expected

    def other_last(number):
        return normal(number + (number == 3), x_T)

    whole = list(trajectory(DDPM(), denoise, schedule, x_T, noise=noise))
    changed = list(trajectory(DDPM(), denoise, schedule, x_T, noise=other_last))
    same = [torch.equal(a.x, b.x) for a, b in zip(whole, changed, strict=True)]
    assert same == [True, True, True, False, False]


def test_without_noise_the_global_generator_draws():
    schedule = linear(100).respace(even_timesteps(100, 5))
    denoise = tiny_denoiser(schedule, "fixed_small", "eps")
    x_T = normal(-1, torch.empty(1, 1, 4))
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(sample(DDPM(), denoise, schedule, x_T))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_conditioning_reaches_the_network_through_guidance():
    schedule = linear(100).respace(even_timesteps(100, 4))
    seen = []

    def network(x, shown, *, y, low_res):
        seen.append((y.tolist(), low_res, float(shown[0])))
        return torch.zeros_like(x)

    denoise = clip_x0(Denoiser(network, GaussianDiffusion(schedule, "fixed_small")))
    x_T = torch.zeros(2, 1, 3)
    y = torch.tensor([4, 2])
    sample(DDIM(), denoise, schedule, x_T, y=y, low_res="low")
    assert seen == [([4, 2], "low", shown) for shown in (990.0, 660.0, 330.0, 0.0)]
    seen.clear()
    invert(denoise, schedule, x_T, y=y, low_res="low")
    assert [entry[:2] for entry in seen] == [([4, 2], "low")] * 4


def test_no_gradient_is_kept_and_the_callers_mode_is_left_alone():
    schedule = linear(100).respace(even_timesteps(100, 3))
    weight = torch.ones((), requires_grad=True)

    def network(x, shown):
        assert not torch.is_grad_enabled()
        return x * weight

    denoise = Denoiser(network, GaussianDiffusion(schedule, "fixed_small"))
    for state in trajectory(DDPM(), denoise, schedule, torch.ones(1, 1, 2)):
        assert not state.x.requires_grad
        assert torch.is_grad_enabled()


def test_memory_is_handed_from_step_to_step():
    class Counts:
        def step(self, denoise, x, i, schedule, draw, memory):
            assert memory == (None if i == len(schedule) - 1 else i + 1)
            return Step(x + i, denoise(x, None), memory=i)

    x = torch.zeros(1, 1, 2)
    schedule = linear(100)
    total = sample(Counts(), lambda x_t, level: Prediction(x_t, x_t), schedule, x)
    assert float(total[0, 0, 0]) == sum(range(100))


def test_clipping_recomputes_the_noise():
    schedule = linear(100)
    level = schedule.at(torch.tensor([50]))
    x_t = torch.full((1, 1, 1), 1.5, dtype=torch.float64)
    wild = tiny_denoiser(schedule, "fixed_small", "eps")
    raw, clipped = wild(x_t, level), clip_x0(wild, -0.2, 0.3)(x_t, level)
    assert float(raw.x0) > 0.3
    assert float(clipped.x0) == 0.3
    share = float(level.alpha_bar)
    assert float(clipped.eps) == pytest.approx((1.5 - share**0.5 * 0.3) / (1 - share) ** 0.5)


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_an_eta_out_of_range_is_refused(eta):
    with pytest.raises(ValueError, match=f"eta={eta}"):
        DDIM(eta)


def test_an_inversion_step_undoes_a_step_with_the_same_estimates():
    """With x0 and eps held fixed, DDIM and its inversion are exact opposites."""
    schedule = cosine(50)
    x0, eps = torch.randn(2, 1, 1, 6, dtype=torch.float64)

    def denoise(x_t, level):
        return Prediction(x0, eps)

    def at(i):
        return schedule.alpha_bar[i].sqrt() * x0 + (1 - schedule.alpha_bar[i]).sqrt() * eps

    for i in range(49):
        up = DDIM().invert_step(denoise, at(i), i, schedule).x
        assert torch.allclose(up, at(i + 1))
        down = DDIM().step(denoise, up, i + 1, schedule, lambda: eps).x
        assert torch.allclose(down, at(i))
    # From the noisiest step there is only noise above, and below step 0 only data.
    assert torch.equal(DDIM().invert_step(denoise, at(49), 49, schedule).x, eps)
    assert torch.equal(DDIM().step(denoise, at(0), 0, schedule, lambda: eps).x, x0)


def test_inversion_yields_a_state_for_each_step():
    schedule = linear(100).respace(even_timesteps(100, 5))
    denoise = tiny_denoiser(schedule, "fixed_small", "eps")
    x0 = normal(0, torch.empty(2, 1, 4)).clamp(-1, 1)
    states = list(inversion(denoise, schedule, x0))
    assert [(state.number, state.index) for state in states] == [(k + 1, k) for k in range(5)]
    assert torch.equal(invert(denoise, schedule, x0), states[-1].x)
    # Below step 0 the network knows no level: the noise it sees at step 0 is added to the data.
    level = schedule.at(torch.zeros(2, dtype=torch.int64))
    share = float(schedule.alpha_bar[0])
    first = share**0.5 * x0 + (1 - share) ** 0.5 * denoise(x0, level).eps
    assert torch.allclose(states[0].x, first.detach(), atol=1e-6)


def test_an_image_does_not_depend_on_its_batch():
    """A real network: float32 kernels differ in the last bits from batch to batch."""
    torch.manual_seed(0)
    network = UNet(
        in_channels=1,
        out_channels=2,
        model_channels=16,
        num_res_blocks=1,
        channel_mult=(1, 2),
        attention_downsampling=(2,),
    ).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    schedule = linear(1000).respace(even_timesteps(1000, 8))
    denoise = clip_x0(Denoiser(network, GaussianDiffusion(schedule, "learned_range")))

    def images(start, count):
        noise = SampleNoise(5, (count, 1, 12, 12), start=start)
        return sample(DDPM(), denoise, schedule, noise.initial(), noise=noise)

    whole = images(0, 8)
    assert float(whole.std()) > 0.1  # the network did something
    assert (whole[:1] - whole[1:2]).abs().max() > 0.1
    for start, count in [(3, 3), (0, 1), (7, 1), (2, 5)]:
        difference = (images(start, count) - whole[start : start + count]).abs().max()
        assert difference < 1e-3, (start, count)
