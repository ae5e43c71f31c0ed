import pytest
import torch

from iddpm.diffusion import GaussianDiffusion, Prediction, cosine, linear
from iddpm.diffusion.denoiser import Denoiser

SCHEDULES = {
    "linear": linear(1000),
    "cosine": cosine(1000),
    "respaced": linear(1000).respace(range(0, 1000, 20)),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_q_posterior_is_bayes_rule(name):
    """q(x_{t-1} | x_t, x0) is the product of N(x_{t-1}; prior) and the likelihood of x_t."""
    schedule = SCHEDULES[name]
    diffusion = GaussianDiffusion(schedule, "fixed_small")
    x0 = torch.tensor([[0.7], [-1.0]], dtype=torch.float64)
    x_t = torch.tensor([[-1.3], [0.4]], dtype=torch.float64)
    for t in (1, 2, len(schedule) // 2, len(schedule) - 1):
        prior_mean = schedule.alpha_bar[t - 1].sqrt() * x0
        prior_precision = 1 / (1 - schedule.alpha_bar[t - 1])
        alpha = schedule.alpha_bar[t] / schedule.alpha_bar[t - 1]
        # x_t = sqrt(alpha) x_{t-1} + noise: as a function of x_{t-1} a Gaussian about x_t/sqrt(a)
        precision = alpha / (1 - alpha)
        variance = 1 / (prior_precision + precision)
        mean = variance * (prior_precision * prior_mean + precision * x_t / alpha.sqrt())
        ours = diffusion.q_posterior(x0, x_t, torch.tensor([t, t]))
        assert torch.allclose(ours.mean, mean, rtol=1e-10, atol=1e-12)
        assert torch.allclose(ours.log_variance.exp(), variance, rtol=1e-9, atol=0)
    first = diffusion.q_posterior(x0, x_t, torch.tensor([0, 0]))
    assert torch.equal(first.mean, x0)  # before step 0 is the data itself


@pytest.mark.parametrize("shape", [(4, 2, 7), (4, 2, 3, 5), (4, 2, 2, 3, 3)])
def test_q_sample_mixes_data_and_noise_item_by_item(shape):
    schedule = cosine(1000)
    x0, noise = torch.randn(2, *shape, dtype=torch.float64)
    t = torch.tensor([0, 5, 500, 999])
    x_t = GaussianDiffusion(schedule).q_sample(x0, t, noise)
    for k, step in enumerate(t.tolist()):
        share = schedule.alpha_bar[step]
        assert torch.allclose(x_t[k], share.sqrt() * x0[k] + (1 - share).sqrt() * noise[k])


def test_each_variance_is_what_it_is_called():
    schedule = linear(100)
    t = torch.arange(100)
    x = torch.zeros(100, 1, 2, dtype=torch.float64)
    raw = torch.linspace(-2, 2, 200, dtype=torch.float64).reshape(100, 1, 2)
    prediction = Prediction(x, x, raw)
    beta, posterior = schedule.betas.clone(), schedule.posterior_variance.clone()
    posterior[0] = posterior[1]
    large = beta.clone()
    large[0] = posterior[1]

    def ours(variance):
        log_variance = GaussianDiffusion(schedule, variance).log_variance(prediction, x, t)
        return log_variance.expand_as(x)

    def column(values):
        return values.log().reshape(-1, 1, 1).expand_as(x)

    assert torch.allclose(ours("fixed_small"), column(posterior))
    assert torch.allclose(ours("fixed_large"), column(large))
    assert torch.equal(ours("learned"), raw)
    v = (raw + 1) / 2
    expected = v * column(beta) + (1 - v) * column(posterior)
    assert torch.allclose(ours("learned_range"), expected)


def test_an_unknown_variance_or_a_missing_one_is_refused():
    with pytest.raises(ValueError, match=r"'large'.*fixed_large"):
        GaussianDiffusion(linear(100), "large")
    x = torch.zeros(1, 1, 2)
    for variance in ("learned", "learned_range"):
        with pytest.raises(ValueError, match=f"{variance}.*has none"):
            GaussianDiffusion(linear(100), variance).log_variance(
                Prediction(x, x), x, torch.tensor([3])
            )


@pytest.mark.parametrize("variance", ["fixed_small", "learned_range"])
def test_the_denoiser_counts_channels_and_names_them(variance):
    diffusion = GaussianDiffusion(linear(100), variance)
    wanted = 6 if variance == "learned_range" else 3
    x = torch.zeros(2, 3, 4)
    level = diffusion.schedule.at(torch.tensor([1, 2]))
    for channels in (3, 4, 6):
        denoiser = Denoiser(lambda x, s, c=channels: torch.ones(len(x), c, 4), diffusion)
        if channels == wanted:
            prediction = denoiser(x, level)
            assert (prediction.variance is not None) == diffusion.learns_variance
            assert prediction.variance_kind == variance
        else:
            with pytest.raises(ValueError, match=rf"{wanted} output channels.* has {channels}"):
                denoiser(x, level)
    with pytest.raises(ValueError, match="'score'"):
        Denoiser(lambda x, s: x, diffusion, "score")


def test_the_denoiser_shows_the_network_its_time_and_passes_conditioning():
    seen = {}

    def network(x, shown, **conditioning):
        seen.update(conditioning, shown=shown, dtype=x.dtype)
        return torch.zeros_like(x, dtype=torch.bfloat16)

    schedule = cosine(4000).respace([0, 1001, 3999])
    denoiser = Denoiser(network, GaussianDiffusion(schedule, "fixed_small"))
    y = torch.tensor([3, 4])
    prediction = denoiser(torch.ones(2, 1, 2), schedule.at(torch.tensor([1, 2])), y=y)
    assert seen["shown"].tolist() == [250.25, 999.75]
    assert seen["shown"].dtype == torch.float32
    assert seen["y"] is y
    # A network in bfloat16 does not drag what follows along.
    assert prediction.x0.dtype == prediction.eps.dtype == torch.float32
