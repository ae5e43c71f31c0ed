"""The likelihood under the probability-flow ODE against exact densities."""

import math
from functools import partial

import pytest
import torch

from iddpm.diffusion import Prediction, cosine, log_snr, zero_terminal_snr
from iddpm.evaluation.flow_likelihood import (
    dequantized,
    flow_likelihood,
    flow_of,
    probes_of,
    refined_flow_likelihood,
    with_width,
)
from tests.exact import gaussian_denoiser


def nats(terms):
    return terms.total * math.log(2)


def normal(shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("whole", [log_snr(100), cosine(1000), zero_terminal_snr(cosine(1000))])
def test_of_a_gaussian_it_is_its_density(whole):
    """The flow is affine, from N(0, 1) at its noisy end; the error falls as 1 / N^2."""
    m, s = 0.3, 0.4
    x0 = m + s * normal((7, 1, 5))
    (start, *_, end) = flow_of(whole, 10).diffusion.schedule.alpha_bar.tolist()
    spread = [math.sqrt(a * s**2 + 1 - a) for a in (start, end)]
    noise = math.sqrt(end) * m + spread[1] / spread[0] * math.sqrt(start) * (x0 - m)
    stretch = math.log(spread[1] / spread[0]) + 0.5 * math.log(start)
    exact = (0.5 * (noise**2 + math.log(2 * math.pi)) - stretch).mean(dim=(1, 2))
    # Near the density of the data and the noise of step 0, which has not N(0, 1) at its end.
    blur = s**2 + (1 - start) / start
    of_data = 0.5 * ((x0 - m) ** 2 / blur + math.log(2 * math.pi * blur)).mean(dim=(1, 2))
    assert torch.allclose(exact, of_data, atol=0.03)
    errors = []
    for steps in (20, 40, 80):
        terms = flow_likelihood(
            gaussian_denoiser(m, s), flow_of(whole, steps), x0, probes_of(x0[None], 5), clip=False
        )
        errors.append(float((nats(terms) - exact).abs().max()))
    assert errors[2] < 3e-3
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.35)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.35)


CENTERS = torch.tensor([[0.6, 0.2], [-0.5, 0.4], [0.0, -0.6]], dtype=torch.float64)
SPREAD = 0.12


def mixture(x_t, level):
    """E[x0 | x_t] of three Gaussians in the plane, [N, 1, 2]."""
    alpha_bar = level.alpha_bar.reshape(-1, 1)
    total = alpha_bar * SPREAD**2 + 1 - alpha_bar
    x = x_t[:, 0]
    away = x[:, None] - alpha_bar.sqrt()[..., None] * CENTERS
    q = torch.softmax(-0.5 * (away**2).sum(-1) / total, dim=1)
    gain = alpha_bar.sqrt() * SPREAD**2 / total
    x0 = (q[..., None] * (CENTERS + gain[..., None] * away)).sum(1)
    return Prediction(x0[:, None], x_t)


def test_of_a_mixture_in_the_plane_each_item_has_its_density():
    pick = torch.arange(90) % 3
    x0 = (CENTERS[pick] + SPREAD * normal((90, 2)))[:, None]
    blur = SPREAD**2 + float(torch.exp(-2 * log_snr(100).half_log_snr[0]))
    away = ((x0 - CENTERS) ** 2).sum(-1)
    exact = -torch.logsumexp(-0.5 * away / blur - math.log(3 * 2 * math.pi * blur), 1) / 2
    found = nats(
        flow_likelihood(mixture, flow_of(log_snr(100), 100), x0, probes_of(x0[None], 2), clip=False)
    )
    assert float((found - exact).square().mean().sqrt()) < 0.01
    assert float(found.mean()) == pytest.approx(float(exact.mean()), abs=5e-3)
    # One random probe is without bias: its mean over items, within its own error.
    probed = nats(
        flow_likelihood(
            mixture, flow_of(log_snr(100), 100), x0, probes_of(normal((1, 90, 1, 2)), 1), clip=False
        )
    )
    difference = probed - found
    assert float(difference.abs().max()) > 1e-3
    assert float(difference.mean().abs()) < 4 * float(difference.std()) / math.sqrt(90)


def test_each_item_takes_the_steps_that_its_tolerance_needs():
    x0 = (CENTERS[torch.arange(9) % 3] + SPREAD * normal((9, 2)))[:, None]
    whole, probes, seen = log_snr(100), probes_of(x0[None], 2), []

    def counted(x_t, level, scale):
        seen.append(len(x_t))
        assert torch.equal(scale[:, 0], x_t.new_ones(len(x_t)))
        return mixture(x_t, level)

    def refined(x, vectors, tolerance):
        kept = {"scale": x.new_ones(len(x), 1)}
        measure = partial(flow_likelihood, counted, clip=False)
        return refined_flow_likelihood(
            measure, flow_of(whole, 10), x, vectors, tolerance=tolerance, **kept
        )

    exact = flow_likelihood(mixture, flow_of(whole, 1280), x0, probes, clip=False).total
    tolerance = 1e-3
    found = refined(x0, probes, tolerance)
    assert found.vb.shape == (9, 10)
    # A third of the last change is the error of order two; the rest of the series is smaller.
    assert float((found.total - exact).abs().max()) < 1.5 * tolerance
    assert len(set(seen)) > 1  # some items were done before others
    alone = torch.cat(
        [refined(x0[k : k + 1], probes[:, k : k + 1], tolerance).total for k in range(9)]
    )
    assert torch.allclose(alone, found.total, rtol=1e-12)
    with pytest.warns(UserWarning, match=r"9 of 9 items .* after 640 steps"):
        refined(x0, probes, 1e-12)


def test_probes_are_signs_or_every_direction():
    noise = normal((2, 3, 1, 4))
    probes = probes_of(noise, 2)
    assert probes.shape == noise.shape
    assert torch.equal(probes.abs(), torch.ones_like(noise))
    every = probes_of(noise[:1], 4).flatten(2)
    assert torch.allclose(torch.einsum("mni,mnj->nij", every, every) / 4, torch.eye(4).double())


def test_levels_pay_for_their_width():
    """Uniform levels under a flat density of 1/2 cost their bits but for the ends' half levels."""
    whole = log_snr(20)
    x0 = torch.linspace(-1, 1, 16, dtype=torch.float64).reshape(2, 1, 8)
    terms = flow_likelihood(gaussian_denoiser(0.0, 0.5), flow_of(whole, 4), x0, x0[None].sign())
    wide = with_width(terms, 4)
    assert torch.allclose(wide.decoder, torch.full((2,), math.log2(15 / 2)).double())
    assert torch.allclose(wide.total - wide.decoder, terms.total)
    moved = dequantized(x0, torch.full_like(x0, 0.75), 4)
    assert torch.allclose((moved - x0) * 15 / 2, torch.full_like(x0, 0.25))


def test_a_flow_that_leads_nowhere_is_refused():
    with pytest.raises(ValueError, match="at least 1 step, not 0"):
        flow_of(log_snr(10), 0)
    with pytest.raises(ValueError, match="between two noise levels"):
        flow_of(log_snr(1), 5)
