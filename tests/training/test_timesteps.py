import math

import numpy as np
import pytest
import torch

from iddpm.diffusion import cosine, zero_terminal_snr
from iddpm.diffusion.prediction import eps_error_per
from iddpm.diffusion.weighting import log_normal
from iddpm.runtime.seeds import stream
from iddpm.training.timesteps import (
    DecoderTimesteps,
    LogNormalTimesteps,
    LossSecondMomentTimesteps,
    LowDiscrepancyTimesteps,
    UniformTimesteps,
)


def test_uniform_covers_every_timestep_once():
    places = (np.arange(10) + 0.5) / 10
    t, weights = UniformTimesteps(10).sample(places)
    assert t.tolist() == list(range(10))
    assert weights.tolist() == [1.0] * 10


def test_low_discrepancy_spreads_a_batch_and_wraps_around():
    t, weights = LowDiscrepancyTimesteps(100).sample(np.array([0.635, 0.1, 0.2, 0.3]))
    assert t.tolist() == [63, 88, 13, 38]  # (0.635 + i / 4) mod 1; the other numbers do not count
    assert weights.tolist() == [1.0] * 4
    # 50 timesteps and 50 items: each once, whatever the number.
    for u in (0.003, 0.013, 0.999):
        t, _ = LowDiscrepancyTimesteps(50).sample(np.full(50, u))
        assert sorted(t.tolist()) == list(range(50))
    assert len(LowDiscrepancyTimesteps(50).sample(np.zeros(0)).t) == 0


@pytest.mark.parametrize("schedule", [cosine(1000), cosine(7), zero_terminal_snr(cosine(50))])
@pytest.mark.parametrize("options", [{}, {"log_sigma_mean": 1.0, "log_sigma_spread": 0.3}])
def test_log_normal_levels_keep_the_mean_of_a_loss_and_so_the_bound(schedule, options):
    sampler = LogNormalTimesteps(schedule, **options)
    t, weights = sampler.sample((np.arange(200_000) + 0.5) / 200_000)
    losses = torch.linspace(3, 1, len(schedule)) ** 4  # as the bound's terms: largest at the start
    assert float((losses[t] * weights).mean()) == pytest.approx(float(losses.mean()), rel=1e-3)
    assert float(weights.max()) <= 10.001
    counts = np.bincount(t.numpy(), minlength=len(schedule))
    assert counts.min() > 0


def test_log_normal_levels_have_the_stated_quantiles():
    """Of ln sigma, once the uniform tenth is taken off."""
    schedule = cosine(4000)
    t, weights = LogNormalTimesteps(schedule).sample((np.arange(100_000) + 0.5) / 100_000)
    normal_share = 1 - 0.1 * weights.double().numpy()  # of the draws at this step
    ln_sigma = -schedule.half_log_snr[t].numpy()
    for z in (-2.0, -1.0, 0.0, 1.0, 2.0):
        below = (normal_share * (ln_sigma <= -1.2 + 1.2 * z)).sum() / normal_share.sum()
        assert below == pytest.approx(0.5 * (1 + math.erf(z / 2**0.5)), abs=2e-3)


def test_log_normal_levels_and_weights_are_edms_loss():
    """All squared errors of F count alike, whatever their level."""
    schedule = cosine(1000)
    t, weights = LogNormalTimesteps(schedule).sample((np.arange(500) + 0.5) / 500)
    level = schedule.at(t)
    of_output = log_normal(level) * eps_error_per("edm", level) * weights
    torch.testing.assert_close(of_output, torch.ones_like(of_output), rtol=1e-5, atol=0)


@pytest.mark.parametrize("others", [UniformTimesteps, LowDiscrepancyTimesteps])
def test_a_share_of_the_items_is_at_step_0_and_the_mean_loss_stays(others):
    """Over all uniform numbers; of a batch whose first number serves all, over that number too."""
    sampler = DecoderTimesteps(others(10), 10, share=0.25)
    even = (np.arange(4000) + 0.5) / 4000
    losses = torch.tensor([50.0, *range(1, 10)], dtype=torch.float64)
    if others is UniformTimesteps:
        t, weights = sampler.sample(even)
        assert float((t == 0).double().mean()) == pytest.approx(0.25 + 0.075, abs=1e-3)
        assert float((losses[t] * weights).mean()) == pytest.approx(float(losses.mean()), rel=1e-3)
        return
    numbers = [stream(0, "timestep", step=k).random(8) for k in range(3000)]
    found = []
    for batch in numbers:
        t, weights = sampler.sample(batch)
        found.append(float((losses[t] * weights).mean()))
    error = np.std(found) / len(found) ** 0.5
    assert np.mean(found) == pytest.approx(float(losses.mean()), abs=4 * error)


def test_low_discrepancy_is_uniform_for_every_item_and_varies_less():
    """The marginal of each item over all u, and the spread of a batch's mean loss."""
    sampler, uniform = LowDiscrepancyTimesteps(10), UniformTimesteps(10)
    even = (np.arange(1000) + 0.5) / 1000
    drawn = np.stack([sampler.sample(np.full(7, u)).t.numpy() for u in even])
    for item in range(7):
        assert np.bincount(drawn[:, item], minlength=10).tolist() == [100] * 10
    losses = np.arange(10) ** 2.0
    numbers = [stream(0, "timestep", step=k).random(7) for k in range(500)]
    spread = np.std([losses[sampler.sample(n).t].mean() for n in numbers])
    independent = np.std([losses[uniform.sample(n).t].mean() for n in numbers])
    assert spread < 0.5 * independent
    assert np.mean(losses[drawn]) == pytest.approx(losses.mean())


def warm(sampler: LossSecondMomentTimesteps, losses: np.ndarray) -> None:
    for _ in range(10):
        sampler.update(torch.arange(len(losses)), torch.from_numpy(losses))


def test_second_moment_is_uniform_until_every_timestep_is_known():
    sampler = LossSecondMomentTimesteps(4)
    for _ in range(10):
        sampler.update(torch.tensor([0, 1, 2]), torch.tensor([1.0, 2.0, 3.0]))
    assert sampler.probabilities().tolist() == [0.25] * 4
    for _ in range(9):
        sampler.update(torch.tensor([3]), torch.tensor([4.0]))
    assert sampler.probabilities().tolist() == [0.25] * 4
    sampler.update(torch.tensor([3]), torch.tensor([4.0]))
    expected = 0.999 * np.array([1, 2, 3, 4]) / 10 + 0.001 / 4
    np.testing.assert_allclose(sampler.probabilities(), expected, rtol=1e-12)


def test_weighted_mean_is_unbiased():
    sampler = LossSecondMomentTimesteps(5)
    losses = np.array([0.1, 5.0, 1.0, 0.02, 3.0])
    warm(sampler, losses)
    t, weights = sampler.sample((np.arange(200_000) + 0.5) / 200_000)
    estimate = float((torch.from_numpy(losses)[t] * weights).mean())
    assert estimate == pytest.approx(losses.mean(), rel=1e-4)


def test_history_keeps_the_last_ten():
    sampler = LossSecondMomentTimesteps(1)
    for value in range(25):
        sampler.update(torch.tensor([0]), torch.tensor([float(value)]))
    assert sorted(sampler.losses[0]) == list(range(15, 25))


def test_losses_that_are_not_finite_are_not_learned():
    sampler = LossSecondMomentTimesteps(2)
    warm(sampler, np.array([1.0, 1.0]))
    sampler.update(torch.tensor([0, 1]), torch.tensor([float("nan"), float("inf")]))
    assert np.isfinite(sampler.probabilities()).all()


def test_state_round_trip_and_refusal():
    sampler = LossSecondMomentTimesteps(3)
    warm(sampler, np.array([1.0, 2.0, 3.0]))
    other = LossSecondMomentTimesteps(3)
    other.load(sampler.state())
    assert (other.probabilities() == sampler.probabilities()).all()
    other.update(torch.tensor([0]), torch.tensor([9.0]))
    assert not (other.losses == sampler.losses).all(), "the state must be a copy"
    with pytest.raises(ValueError, match=r"\[3, 10\].*\[4, 10\]"):
        LossSecondMomentTimesteps(4).load(sampler.state())


def test_all_zero_losses_stay_uniform():
    sampler = LossSecondMomentTimesteps(2)
    warm(sampler, np.zeros(2))
    assert sampler.probabilities().tolist() == [0.5, 0.5]
