"""diffusers as an oracle, where its definitions are ours; its tables are set to float64."""

import pytest
import torch

from iddpm.diffusion import Denoiser, GaussianDiffusion, cosine, linear, zero_terminal_snr
from iddpm.diffusion.prediction import eps_error_per
from iddpm.diffusion.weighting import min_snr
from iddpm.sampling import DDIM, DDPM, clip_x0, even_timesteps, space_timesteps

WHOLE = {"linear": linear(1000, rescale_timesteps=False), "cosine": cosine(1000)}
PREDICTION_TYPES = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


def network(x, shown):
    """A fixed function of state and time, with variance channels."""
    s = shown.to(x.dtype).reshape(-1, 1, 1, 1)
    return torch.cat([0.5 * x + 0.3 * torch.sin(2 * x + s / 100), torch.cos(x + s / 50)], 1)


def theirs(kind, whole, spacing, count, **settings):
    pytest.importorskip("diffusers")
    import diffusers

    scheduler = getattr(diffusers, kind)(
        num_train_timesteps=len(whole),
        trained_betas=whole.betas.numpy(),
        timestep_spacing=spacing,
        **settings,
    )
    assert torch.allclose(scheduler.alphas_cumprod.double(), whole.alpha_bar, rtol=1e-3)
    scheduler.alphas_cumprod = whole.alpha_bar.clone()
    scheduler.set_timesteps(count)
    return scheduler


def kept_steps(spacing, count):
    """The same spacing said in our words."""
    if spacing == "leading":
        return space_timesteps(1000, f"ddim{count}")
    if spacing == "linspace":
        return even_timesteps(1000, count)
    return [1000 // count * (k + 1) - 1 for k in range(count)]


def compare_steps(schedule, scheduler, ours, their_step):
    """Walk down with their states, comparing every step from the same state."""
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    times = [int(t) for t in scheduler.timesteps]
    assert times == schedule.index.tolist()[::-1]
    for i, time in zip(reversed(range(len(schedule))), times, strict=True):
        noise = torch.randn(
            x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(i)
        )
        shown = schedule.shown[i].expand(len(x))
        expected = their_step(x, shown, time, noise, torch.Generator().manual_seed(i))
        step = ours(x, i, noise)
        assert torch.allclose(step.x, expected.prev_sample, rtol=1e-9, atol=1e-10), time
        assert torch.allclose(step.prediction.x0, expected.pred_original_sample), time
        x = expected.prev_sample.clamp(-3, 3)


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("predicts", PREDICTION_TYPES)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddim(name, predicts, eta, spacing):
    schedule = WHOLE[name].respace(kept_steps(spacing, 20))
    scheduler = theirs(
        "DDIMScheduler",
        WHOLE[name],
        spacing,
        20,
        set_alpha_to_one=True,
        clip_sample=True,
        prediction_type=PREDICTION_TYPES[predicts],
    )
    denoise = clip_x0(
        Denoiser(
            lambda x, s: network(x, s)[:, :3], GaussianDiffusion(schedule, "fixed_small"), predicts
        )
    )

    def their_step(x, shown, time, noise, generator):
        # The published code derives eps again from the clipped x0; theirs asks for it. At the last
        # step they would still add noise of variance 0.
        return scheduler.step(
            network(x, shown)[:, :3],
            time,
            x,
            eta=eta,
            use_clipped_model_output=True,
            variance_noise=noise,
        )

    compare_steps(
        schedule,
        scheduler,
        lambda x, i, noise: DDIM(eta).step(denoise, x, i, schedule, lambda: noise),
        their_step,
    )


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large", "learned_range"])
@pytest.mark.parametrize("spacing", ["leading", "linspace"])
def test_ddpm(name, variance, spacing):
    schedule = WHOLE[name].respace(kept_steps(spacing, 20))
    scheduler = theirs(
        "DDPMScheduler",
        WHOLE[name],
        spacing,
        20,
        clip_sample=True,
        variance_type=variance,
    )
    scheduler.one = torch.ones((), dtype=torch.float64)
    channels = 6 if variance == "learned_range" else 3
    diffusion = GaussianDiffusion(schedule, variance)
    denoise = clip_x0(Denoiser(lambda x, s: network(x, s)[:, :channels], diffusion))

    def their_step(x, shown, time, noise, generator):
        return scheduler.step(network(x, shown)[:, :channels], time, x, generator=generator)

    compare_steps(
        schedule,
        scheduler,
        lambda x, i, noise: DDPM().step(denoise, x, i, schedule, lambda: noise),
        their_step,
    )


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_zero_terminal_snr_is_theirs(kind):
    """The schedule of Lin et al. 2024, and DDIM with v from pure noise down."""
    pytest.importorskip("diffusers")
    from diffusers import DDIMScheduler
    from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr

    whole = zero_terminal_snr(WHOLE[kind])
    rescaled = torch.cumprod(1 - rescale_zero_terminal_snr(WHOLE[kind].betas), 0)
    assert float(rescaled[-1]) == 0
    assert torch.allclose(rescaled, whole.alpha_bar, rtol=1e-7, atol=1e-12)
    scheduler = DDIMScheduler(
        trained_betas=WHOLE[kind].betas.numpy(),
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        clip_sample=False,
        timestep_spacing="trailing",
    )
    assert float(scheduler.alphas_cumprod[-1]) == 0
    scheduler.alphas_cumprod = whole.alpha_bar.clone()  # theirs is float32
    scheduler.set_timesteps(20)
    schedule = whole.respace(kept_steps("trailing", 20))

    def mean(x, shown):
        return network(x, shown)[:, :3]

    denoise = Denoiser(mean, GaussianDiffusion(schedule, "fixed_small"), "v")
    compare_steps(
        schedule,
        scheduler,
        lambda x, i, noise: DDIM().step(denoise, x, i, schedule, lambda: noise),
        lambda x, shown, time, noise, generator: scheduler.step(mean(x, shown), time, x),
    )


@pytest.mark.parametrize("predicts", ["eps", "v"])
def test_min_snr_is_theirs(predicts):
    """Their training scripts: min(SNR, gamma) / SNR for eps and / (SNR + 1) for v."""
    pytest.importorskip("diffusers")
    from diffusers import DDIMScheduler
    from diffusers.training_utils import compute_snr

    schedule, t = WHOLE["linear"], torch.tensor([0, 10, 300, 999])
    scheduler = DDIMScheduler(trained_betas=schedule.betas.numpy())
    scheduler.alphas_cumprod = schedule.alpha_bar.clone()
    snr = compute_snr(scheduler, t)
    theirs = snr.clamp(max=5.0) / (snr if predicts == "eps" else snr + 1)
    level = schedule.at(t)
    ours = min_snr(level, 5.0) * eps_error_per(predicts, level)
    assert torch.allclose(ours, theirs.double(), rtol=1e-5)
