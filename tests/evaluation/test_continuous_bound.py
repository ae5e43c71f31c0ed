"""The bound of infinitely many steps against closed forms, and drawn stretches against all."""

import math

import pytest
import torch

from iddpm.diffusion import Denoiser, GaussianDiffusion, cosine, log_snr, zero_terminal_snr
from iddpm.evaluation.bound_terms import ItemNoise, process, terms_at, whole_bounds
from iddpm.evaluation.continuous_bound import continuous_process
from iddpm.evaluation.sampled_bound import inclusion, systematic
from tests.diffusion.test_log_snr import exact_denoiser, two_modes
from tests.exact import gaussian_denoiser, quadrature


@pytest.mark.parametrize("whole", [log_snr(400), cosine(1000), zero_terminal_snr(cosine(1000))])
@pytest.mark.parametrize(("m", "s"), [(0.3, 0.5), (0.0, 0.05)])
def test_of_gaussian_data_it_is_the_closed_form(whole, m, s):
    """Half the integral of the mmse s^2 / (1 + s^2 SNR) over SNR, here by the midpoints."""
    x0, eps, weights = quadrature(m, s)
    each = continuous_process(whole, "fixed_small")
    (found,) = whole_bounds(
        gaussian_denoiser(m, s), [each], x0, lambda t: eps, bits=None, clip=False
    )
    snr = torch.exp(2 * whole.half_log_snr[list(each.kept)])
    exact = 0.5 * math.log2((1 + s**2 * float(snr[0])) / (1 + s**2 * float(snr[-1])))
    assert float(weights @ found.steps) == pytest.approx(exact, rel=2e-4)


def test_more_discrete_steps_come_to_it():
    m, s, whole = 0.3, 0.5, log_snr(1601)
    x0, eps, weights = quadrature(m, s)

    def steps(each):
        (found,) = whole_bounds(
            gaussian_denoiser(m, s), [each], x0, lambda t: eps, bits=None, clip=False
        )
        return float(weights @ found.steps)

    limit = steps(continuous_process(whole, "fixed_small"))
    above = [steps(process(whole, range(0, 1601, n), "fixed_small")) - limit for n in (8, 4)]
    assert 0 < above[1] < above[0] < 0.4
    assert abs(2 * above[1] - above[0]) < 0.02  # nothing but the part in 1 over the steps


def test_on_levels_of_known_entropy_nothing_is_lost():
    """Exact estimates, a decoder that sums over the levels: 6.6389 bits, to a thousandth."""
    grid, p = two_modes()
    entropy = float(-(p * p.log2()).sum())
    whole = log_snr(60, log_snr_min=-9.0)
    diffusion = GaussianDiffusion(whole, "fixed_small")
    said = exact_denoiser(grid, p, "fixed_small")

    def network(x, shown):
        alpha_bar = torch.sigmoid(13.3 - shown.double() * 22.3 / 1000)
        level = whole.at(torch.zeros(len(x), dtype=torch.int64))
        return said(x, level._replace(alpha_bar=alpha_bar)).x0

    denoiser = Denoiser(network, diffusion, "x0", decoder="levels")
    nodes = torch.linspace(-4.8, 4.8, 23, dtype=torch.float64)
    weights = torch.outer(p, torch.softmax(-0.5 * nodes**2, 0)).flatten()
    seen = weights > 1e-7
    x0 = grid.repeat_interleave(len(nodes)).reshape(-1, 1, 1)[seen]
    eps, weights = nodes.repeat(len(grid)).reshape(-1, 1, 1)[seen], weights[seen]
    (found,) = whole_bounds(
        denoiser, [continuous_process(whole, "fixed_small")], x0, lambda t: eps, bits=8
    )
    assert float(weights @ found.total) == pytest.approx(entropy, abs=3e-3)


def test_looks_at_random_places_of_drawn_stretches_are_unbiased():
    """The mean over many items of two looks each is that of all stretches, within its error."""
    whole = log_snr(20)
    denoise = gaussian_denoiser(0.2, 0.4)
    each = continuous_process(whole, "fixed_small")
    x0 = 0.2 + 0.4 * torch.randn(1000, 1, 1, dtype=torch.float64,
                                 generator=torch.Generator().manual_seed(0))  # fmt: skip
    noise = ItemNoise(0, range(1000), (1, 1))
    again = ItemNoise(1, range(1000), (1, 1))

    def doubled(t):
        return noise(t).double()

    probability = inclusion(torch.linspace(3, 1, 20).double(), 4)
    offsets = again.uniform(torch.zeros(1000, dtype=torch.int64))
    drawn = systematic(probability, offsets)
    options = {"bits": None, "clip": False, "uniform": noise.uniform}
    few = terms_at(denoise, each, x0, doubled, drawn, 1 / probability[drawn], **options)
    (every,) = whole_bounds(denoise, [each], x0, doubled, **options)
    difference = few.steps - every.steps
    assert float(difference.mean().abs()) < 4 * float(difference.std()) / math.sqrt(1000)
    exact = 0.5 * math.log2((1 + 0.16 * math.exp(13.3)) / (1 + 0.16 * math.exp(-5)))
    error = float(every.steps.std()) / math.sqrt(1000)
    assert float(every.steps.mean()) == pytest.approx(exact, abs=4 * error)
    assert torch.equal(few.decoder, every.decoder)


def test_a_level_between_steps_is_linear_in_log_snr():
    whole = cosine(50)
    t = torch.tensor([0.0, 3.25, 49.0], dtype=torch.float64)
    level = whole.at(t)
    assert torch.equal(level.alpha_bar[[0, 2]], whole.alpha_bar[[0, 49]])
    assert torch.allclose(level.alpha_bar, whole.respace(t.tolist()).alpha_bar)
    assert torch.allclose(level.shown, whole.respace(t.tolist()).shown)
    assert bool((level.alpha_bar_prev > level.alpha_bar).all())


def test_one_level_has_no_bound_between_two():
    with pytest.raises(ValueError, match="at least two noise levels"):
        continuous_process(log_snr(1), "fixed_small")
