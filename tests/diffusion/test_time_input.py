"""The log-SNR as the time that a network is shown."""

import pytest
import torch

from iddpm.diffusion import (
    GaussianDiffusion,
    cosine,
    linear,
    log_snr,
    show_log_snr,
    zero_terminal_snr,
)
from iddpm.interop.diffusers_export import scheduler_config


@pytest.mark.parametrize("schedule", [cosine(1000), linear(50), log_snr(7), cosine(4000)])
def test_equal_noise_is_shown_alike_by_every_schedule(schedule):
    shown = show_log_snr(schedule)
    assert torch.equal(shown.alpha_bar, schedule.alpha_bar)
    assert torch.equal(shown.index, schedule.index)
    wanted = (13.3 - torch.log(schedule.alpha_bar / (1 - schedule.alpha_bar))) / 18.3 * 1000
    seen = schedule.alpha_bar > 3e-9
    assert torch.allclose(shown.shown[seen], wanted[seen])
    assert shown.shown.max() <= 1000 * 33.3 / 18.3 + 1e-9
    steps = torch.tensor(
        [0.25, len(schedule) - 2.5], dtype=torch.float64
    )  # between steps, as solvers ask for
    level = shown.at(steps)
    lam = torch.log(level.alpha_bar / (1 - level.alpha_bar))
    assert torch.allclose(level.shown, (13.3 - lam) / 18.3 * 1000)


def test_the_default_log_snr_schedule_shows_what_it_showed():
    assert torch.allclose(show_log_snr(log_snr(100)).shown, log_snr(100).shown)


def test_pure_noise_is_shown_as_the_least():
    shown = show_log_snr(zero_terminal_snr(linear(100))).shown
    assert shown.isfinite().all()
    assert (shown.diff() > 0).all()
    assert float(shown[-1]) == pytest.approx(1000 * 33.3 / 18.3)


def test_diffusers_shows_only_steps():
    process = GaussianDiffusion(show_log_snr(cosine(1000)), "fixed_small")
    with pytest.raises(ValueError, match=r"no counterpart of diffusion\.time_input=log_snr"):
        scheduler_config(process, "v", clip=True, ddim=True)
