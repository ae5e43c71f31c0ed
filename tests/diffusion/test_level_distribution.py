"""Probabilities of levels: exact posteriors, gradients, numerics at little noise, and memory."""

import math

import pytest
import torch

from iddpm.diffusion import Denoiser, GaussianDiffusion, bits_per_dim, cosine, log_snr, losses
from iddpm.diffusion import level_distribution as levels_module
from iddpm.diffusion.level_distribution import LevelDistribution, distribution_of
from iddpm.diffusion.variational_bound import vlb_term
from iddpm.networks import LevelHead

FEATURES = 3


def made(schedule, t, levels=5, channels=2, size=(3,), dtype=torch.float64, seed=0, local=False):
    """A distribution with random features, the data it is of, and its noise levels."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, dtype=dtype, generator=generator)

    count = len(t)
    x0 = torch.randint(0, levels, (count, channels, *size), generator=generator)
    x0 = x0.to(dtype) / ((levels - 1) / 2) - 1
    x_t = GaussianDiffusion(schedule).q_sample(x0, t, normal(count, channels, *size))
    head = normal(count, channels * FEATURES, *size), normal(channels, FEATURES, levels)
    maps = *head, normal(channels, levels)
    around = normal(count, 3 * channels, *size) if local else None
    return LevelDistribution(*maps, x_t, schedule.at(t), around), x0


def by_hand(d):
    """Log-probabilities [N, C, *spatial, K] by the definition, all at once."""
    channels = d.x_t.shape[1]
    features = d.features.unflatten(1, (channels, FEATURES))
    logits = torch.einsum("ncf...,cfk->nc...k", features, d.weight)
    shape = (-1, *[1] * d.x_t.dim())
    logits = logits + d.bias.reshape(1, channels, *[1] * (d.x_t.dim() - 2), -1)
    signal, total = d.level.alpha_bar.sqrt().reshape(shape), (1 - d.level.alpha_bar).reshape(shape)
    grid = torch.linspace(-1, 1, d.count, dtype=d.x_t.dtype)
    logits = logits - 0.5 * (d.x_t[..., None] - signal * grid) ** 2 / total
    if d.local is not None:
        center, shift, said = (part[..., None] for part in d.local.chunk(3, dim=1))
        precision = torch.exp(3 * said - 3) / (1 + 0.1 * signal**2 / total)
        away = precision.sqrt() * (center - signal * grid) / total.sqrt() + shift
        logits = logits - torch.log(1 + away**2)
    return torch.log_softmax(logits, dim=-1), grid


@pytest.mark.parametrize("size", [(4,), (2, 3), (2, 2, 2)])
@pytest.mark.parametrize("chunk", [2**18, 20])
@pytest.mark.parametrize("local", [False, True])
def test_means_and_probabilities_are_those_of_the_definition(size, chunk, local, monkeypatch):
    monkeypatch.setitem(levels_module._CHUNK, "cpu", chunk)
    t = torch.tensor([0, 20, 49])
    d, x0 = made(log_snr(50, log_snr_max=5.0), t, size=size, local=local)
    log_p, grid = by_hand(d)
    number = ((x0 + 1) * 2).round().long()
    assert torch.allclose(d.mean(), log_p.exp() @ grid, atol=1e-12)
    assert torch.allclose(d.log_prob(x0), log_p.gather(-1, number[..., None])[..., 0], atol=1e-12)
    assert torch.allclose(d.mode(), grid[log_p.argmax(-1)])
    some = d.at(torch.tensor([2, 0]))
    assert torch.allclose(some.mean(), d.mean()[[2, 0]], atol=1e-14)
    assert torch.allclose(some.log_prob(x0[[2, 0]]), d.log_prob(x0)[[2, 0]], atol=1e-14)


def test_levels_are_drawn_in_proportion_to_their_probability():
    d, _ = made(log_snr(50, log_snr_max=5.0), torch.tensor([30]))
    log_p, grid = by_hand(d)
    edges = torch.linspace(0, 1, 2001, dtype=torch.float64)
    drawn = torch.stack([d.draw(u.expand(d.x_t.shape)) for u in (edges[1:] + edges[:-1]) / 2])
    for k, value in enumerate(grid):
        found = (drawn - value).abs().lt(1e-9).double().mean(0)
        assert torch.allclose(found, log_p[..., k].exp(), atol=1e-3)
    normal = torch.zeros_like(d.x_t)  # the median
    assert torch.equal(d.end("draw", lambda: normal), d.draw(torch.full_like(d.x_t, 0.5)))
    assert torch.equal(d.end("mode", lambda: normal), d.mode())
    assert d.end("mean", lambda: normal) is None


@pytest.mark.parametrize("chunk", [2**18, 10])
@pytest.mark.parametrize("local", [False, True])
def test_gradients_are_those_of_the_function(chunk, local, monkeypatch):
    monkeypatch.setitem(levels_module._CHUNK, "cpu", chunk)
    d, x0 = made(log_snr(50, log_snr_max=3.0), torch.tensor([5, 30]), size=(2,), local=local)

    def call(features, weight, bias, x_t, *around):
        both = LevelDistribution(features, weight, bias, x_t, d.level, *around)
        return both.mean(), both.log_prob(x0)

    parts = [d.features, d.weight, d.bias, d.x_t, *([d.local] if local else [])]
    inputs = [v.clone().requires_grad_() for v in parts]
    assert torch.autograd.gradcheck(call, inputs)


@pytest.mark.parametrize("log_snr_max", [13.3, 16.0])
def test_float32_holds_at_little_noise_and_under_autocast(log_snr_max):
    """Of 256 levels, where bfloat16 rounds z to half a level; the exact values are in float64."""
    schedule = log_snr(40, log_snr_max=log_snr_max)
    single, x0 = made(schedule, torch.arange(40), levels=256, dtype=torch.float32, size=(50,))
    parts = [v.double() for v in (single.features, single.weight, single.bias, single.x_t)]
    exact = LevelDistribution(*parts, single.level)
    with torch.autocast("cpu", torch.bfloat16):
        mean, log_p = single.mean(), single.log_prob(x0)
    assert mean.dtype == log_p.dtype == torch.float32
    noise = ((1 - single.level.alpha_bar) / single.level.alpha_bar).sqrt().reshape(-1, 1, 1)
    assert ((mean - exact.mean()) / noise.clamp(max=1)).abs().max() < 2e-3
    assert torch.allclose(log_p.double(), exact.log_prob(x0.double()), rtol=1e-3, atol=1e-3)
    assert mean.abs().max() <= 1


def test_where_nothing_is_left_of_the_data_the_network_alone_speaks():
    d, _ = made(cosine(50), torch.tensor([3]))
    level = d.level._replace(alpha_bar=torch.zeros(1, dtype=torch.float64))
    there = LevelDistribution(d.features, d.weight, d.bias, d.x_t, level)
    assert torch.allclose(there.mean(), by_hand(there)[0].exp() @ by_hand(there)[1], atol=1e-12)


@pytest.mark.parametrize("local", [False, True])
def test_guidance_mixes_the_logits(local):
    d, _ = made(log_snr(50), torch.tensor([30, 30]), local=local)
    first, second = d.features.clone(), d.features.flip(0)
    here, there = (d.local, d.local.flip(0)) if local else (None, None)
    both = LevelDistribution(
        torch.cat([first, second]), d.weight, d.bias, torch.cat([d.x_t] * 2),
        type(d.level)(*(torch.cat([v, v]) for v in d.level)),
        torch.cat([here, there]) if local else None,
    )  # fmt: skip
    guided = LevelDistribution(
        second + 2.5 * (first - second), d.weight, d.bias, d.x_t, d.level,
        there + 2.5 * (here - there) if local else None,
    ).mean()  # fmt: skip
    assert torch.allclose(both.mixed(2.5).mean(), guided, atol=1e-12)
    shape = (2, *[1] * (d.x_t.dim() - 1))
    by_item = both.mixed(torch.tensor([2.5, 1.0]).reshape(shape)).mean()
    assert torch.allclose(by_item[0], guided[0], atol=1e-12)
    assert torch.allclose(by_item[1], d.mean()[1], atol=1e-12)


class Nothing(torch.nn.Module):
    """A network that says nothing: the bias alone, and the known variance channels, speak."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, x, timesteps):
        return x.new_zeros(len(x), self.outputs, *x.shape[2:])


class Says(torch.nn.Module):
    """A network that always says the same."""

    def __init__(self, output):
        super().__init__()
        self.register_buffer("output", output)

    def forward(self, x, timesteps):
        return self.output


def independent_pixels(p, schedule):
    """The exact model of independent two-level pixels that are 1 with probability ``p``."""
    head = LevelHead(Nothing(FEATURES), 1, 2, FEATURES).double()
    with torch.no_grad():
        head.bias.copy_(torch.tensor([[1 - p, p]]).log())
    return Denoiser(head, GaussianDiffusion(schedule, "fixed_small"), "categorical")


@pytest.mark.parametrize("p", [0.5, 0.1])
def test_two_level_pixels_have_their_known_posterior(p):
    """E[x0 | x_t] of levels -1 and 1 is tanh(signal x_t / noise^2 + half the log-odds)."""
    schedule = log_snr(30, log_snr_max=4.0)
    t = torch.arange(30)
    x_t = torch.linspace(-2, 2, 30, dtype=torch.float64).reshape(30, 1, 1)
    said = independent_pixels(p, schedule)(x_t, schedule.at(t))
    alpha_bar = schedule.alpha_bar.reshape(-1, 1, 1)
    odds = alpha_bar.sqrt() * x_t / (1 - alpha_bar) + 0.5 * math.log(p / (1 - p))
    assert torch.allclose(said.x0, torch.tanh(odds), atol=1e-12)
    assert torch.allclose(alpha_bar.sqrt() * said.x0 + (1 - alpha_bar).sqrt() * said.eps, x_t)


@pytest.mark.parametrize("p", [0.5, 0.1])
def test_the_bound_on_two_level_pixels_comes_to_their_entropy(p):
    """H(p) bits, by quadrature over the noise; what is lost falls as 1 over the steps."""
    entropy = -(p * math.log2(p) + (1 - p) * math.log2(1 - p))
    nodes = torch.linspace(-6, 6, 97, dtype=torch.float64)
    weights = torch.outer(torch.tensor([1 - p, p]).double(), torch.softmax(-0.5 * nodes**2, 0))
    x0 = torch.tensor([-1.0, 1.0]).double().repeat_interleave(97).reshape(-1, 1, 1)
    lost = []
    for steps in (200, 400):
        schedule = log_snr(steps, log_snr_max=2.2, log_snr_min=-9.0)
        denoiser = independent_pixels(p, schedule)
        measured = bits_per_dim(
            denoiser.diffusion, denoiser, x0, noise=lambda _: nodes.repeat(2).reshape(-1, 1, 1)
        )
        lost.append(float(weights.flatten() @ measured.total) - entropy)
    assert 0 < lost[1] < lost[0] < 0.03
    assert abs(2 * lost[1] - lost[0]) < 5e-4  # nothing but the part in 1 over the steps


def test_the_bound_trains_the_decoder_in_the_hybrid_loss_too():
    schedule = log_snr(20, log_snr_max=3.0)
    head = LevelHead(Nothing(FEATURES + 1), 1, 4, FEATURES).double()
    denoiser = Denoiser(head, GaussianDiffusion(schedule, "learned_range"), "categorical")
    x0 = (torch.arange(8).double() % 4).reshape(2, 1, 4) / 1.5 - 1
    noise = torch.randn(x0.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.zeros(2, dtype=torch.int64)
    bound = losses.vlb(denoiser, x0, t, noise, bits=2)
    said = denoiser(denoiser.diffusion.q_sample(x0, t, noise), schedule.at(t))
    expected = -said.levels.log_prob(x0).mean(dim=(1, 2)) / math.log(2) * 20
    assert torch.allclose(bound.loss, expected)
    bound.loss.sum().backward()
    assert head.bias.grad.abs().max() > 0
    of_bound = head.bias.grad.clone()
    head.zero_grad()
    hybrid = losses.hybrid(denoiser, x0, t, noise, bits=2)
    hybrid.vb.sum().backward(retain_graph=True)
    assert torch.allclose(head.bias.grad, 0.001 * of_bound)
    head.zero_grad()
    losses.hybrid(denoiser, x0, t + 5, noise, bits=2).vb.sum().backward()
    assert not head.bias.grad.any()  # at other steps it goes to the variance channels alone
    in_v = losses.hybrid(denoiser, x0, t, noise, bits=2, space="v")
    assert torch.equal(hybrid.mse, in_v.mse)


@pytest.mark.parametrize("decoder", ["levels", "categorical"])
def test_another_decoder_leaves_the_prediction_alone(decoder):
    """The features come before what the network predicts, and only step 0 asks for them."""
    schedule = cosine(20)
    diffusion = GaussianDiffusion(schedule, "learned_range")
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(2, 2 * FEATURES + 4, 3, dtype=torch.float64, generator=generator)
    x0 = torch.randint(0, 8, (2, 2, 3), generator=generator).double() / 3.5 - 1
    t = torch.tensor([0, 7])
    noise = torch.randn(x0.shape, dtype=torch.float64, generator=generator)
    x_t, level = diffusion.q_sample(x0, t, noise), schedule.at(t)
    head = LevelHead(Says(outputs), 2, 8, FEATURES).double()
    plain = Denoiser(Says(outputs[:, 2 * FEATURES :]), diffusion, "v")
    network = head if decoder == "categorical" else plain.network
    ours = Denoiser(network, diffusion, "v", decoder=decoder, bits=3)
    expected, said = plain(x_t, level), ours(x_t, level)
    assert torch.equal(said.x0, expected.x0)
    assert torch.equal(said.variance, expected.variance)
    terms = vlb_term(diffusion, said, x0, x_t, t, bits=3)
    assert torch.equal(terms[1], vlb_term(diffusion, expected, x0, x_t, t, bits=3)[1])
    grid = torch.linspace(-1, 1, 8, dtype=torch.float64)
    logits = -0.5 * (x_t[0, ..., None] - level.alpha_bar[0].sqrt() * grid) ** 2
    logits = logits / (1 - level.alpha_bar[0])
    if decoder == "categorical":
        features = outputs[0, : 2 * FEATURES].unflatten(0, (2, FEATURES))
        logits = logits + torch.einsum("cfp,cfk->cpk", features, head.weight)
    number = ((x0[0] + 1) * 3.5).round().long()
    nats = -torch.log_softmax(logits, -1).gather(-1, number[..., None]).mean()
    assert float(terms[0].detach()) == pytest.approx(float(nats.detach()) / math.log(2))


def test_the_decoder_of_the_levels_alone_leaves_their_bound_the_entropy():
    """Exact estimates, noise of 0.165 levels: with it the bound is above by the steps' part."""
    entropy, nodes = 1.0, torch.linspace(-6, 6, 97, dtype=torch.float64)
    weights = torch.outer(torch.tensor([0.5, 0.5]).double(), torch.softmax(-0.5 * nodes**2, 0))
    x0 = torch.tensor([-1.0, 1.0]).double().repeat_interleave(97).reshape(-1, 1, 1)
    schedule = log_snr(400, log_snr_max=2.2, log_snr_min=-9.0)
    diffusion = GaussianDiffusion(schedule, "fixed_small")

    def exact(x, shown):
        at = schedule.at((shown * 399 / 1000).round().long())
        alpha_bar = at.alpha_bar.reshape(-1, 1, 1)
        return torch.tanh(alpha_bar.sqrt() * x / (1 - alpha_bar))

    found = {}
    for decoder in ("levels", "gaussian"):
        denoiser = Denoiser(exact, diffusion, "x0", decoder=decoder, bits=1)
        measured = bits_per_dim(
            diffusion, denoiser, x0, bits=1, noise=lambda _: nodes.repeat(2).reshape(-1, 1, 1)
        )
        found[decoder] = float(weights.flatten() @ measured.total) - entropy
    assert 0 < found["levels"] < 0.02
    assert found["gaussian"] > found["levels"]


def test_unknown_decoders_are_refused():
    diffusion = GaussianDiffusion(log_snr(5), "fixed_small")
    with pytest.raises(ValueError, match="decoder='best' is unknown: use one of gaussian, levels"):
        Denoiser(Nothing(1), diffusion, "v", decoder="best")
    with pytest.raises(ValueError, match="decoder='levels' need data with levels"):
        Denoiser(Nothing(1), diffusion, "v", decoder="levels", bits=None)


def test_a_network_without_a_level_head_is_refused():
    schedule = log_snr(10)
    plain = Denoiser(Nothing(1), GaussianDiffusion(schedule, "fixed_small"), "categorical")
    x = torch.zeros(1, 1, 4)
    with pytest.raises(ValueError, match=r"wrap it in iddpm\.LevelHead"):
        plain(x, schedule.at(torch.tensor([3])))
    short = LevelHead(Nothing(FEATURES - 1), 1, 4, FEATURES)
    with pytest.raises(ValueError, match="3 features of each of 1 channels, and the network ret"):
        distribution_of(short(x, torch.zeros(1)), x, schedule.at(torch.tensor([3])))


def test_the_first_bias_is_the_log_frequency_of_the_levels():
    head = LevelHead(Nothing(FEATURES), 2, 4, FEATURES)
    head.start_at(torch.tensor([[90, 0, 9, 0], [1, 1, 1, 1]]))
    assert torch.allclose(head.bias[0].exp(), torch.tensor([90.5, 0.5, 9.5, 0.5]) / 101)
    assert torch.allclose(head.bias[1].exp(), torch.full((4,), 0.25))


def test_a_local_estimate_is_of_the_data_whatever_the_scale_of_the_input():
    """The network's input may be scaled, as for predicts=edm; the distribution is that of x_t."""
    d, _ = made(cosine(50), torch.tensor([3, 40]), local=True)
    scale = torch.tensor([0.5, 2.0], dtype=torch.float64).reshape(2, 1, 1)
    scaled = torch.cat([d.local[:, :2] * scale, d.local[:, 2:]], dim=1)
    output = (d.features, d.weight, d.bias, scaled)
    found, rest = distribution_of(output, d.x_t, d.level, scale)
    assert rest.shape[1] == 0
    assert torch.allclose(found.mean(), d.mean(), atol=1e-12)
    assert not torch.allclose(distribution_of(output, d.x_t, d.level)[0].mean(), d.mean())
    plain = distribution_of(output[:3], d.x_t, d.level)[0]
    assert plain.local is None
