import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from iddpm.diffusion import Denoiser, GaussianDiffusion, cosine, losses
from iddpm.diffusion.weighting import min_snr, sigmoid
from iddpm.networks import UNet
from iddpm.runtime.seeds import stream
from iddpm.training.ema import EMA
from iddpm.training.precision import Precision
from iddpm.training.step import TrainStep
from iddpm.training.timesteps import (
    LossSecondMomentTimesteps,
    LowDiscrepancyTimesteps,
    UniformTimesteps,
)

CPU = torch.device("cpu")


def make(**options) -> TrainStep:
    torch.manual_seed(0)
    network = UNet(
        in_channels=1,
        out_channels=2,
        model_channels=8,
        num_res_blocks=1,
        channel_mult=(1, 2),
        attention_downsampling=(2,),
        dropout=options.pop("dropout", 0.0),
    )
    for parameter in network.parameters():  # zeroed layers would hide differences
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    diffusion = GaussianDiffusion(cosine(20))
    optimizer = options.pop("optimizer", torch.optim.SGD)(network.parameters(), lr=0.1)
    precision = options.pop("precision", "float32")
    return TrainStep(
        Denoiser(network, diffusion),
        network,
        options.pop("loss", losses.hybrid),
        options.pop("timesteps", UniformTimesteps(20)),
        optimizer,
        [EMA(network, 0.9, warmup=False)],
        Precision(precision, CPU),
        **options,
    )


def data(count: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(count, 1, 8, 8, generator=generator) * 255).round() / 127.5 - 1


def gradients(step: TrainStep) -> list[torch.Tensor]:
    return [p.grad for p in step.network.parameters()]


@pytest.mark.parametrize("microbatch", [1, 3, 7, 100])
def test_microbatches_give_the_full_batch_gradient(microbatch):
    full, parts = make(gradient_clip=None), make(gradient_clip=None, microbatch=microbatch)
    a, b = full(data(), 0), parts(data(), 0)
    for whole, summed in zip(gradients(full), gradients(parts), strict=True):
        torch.testing.assert_close(whole, summed, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(a.loss, b.loss)
    assert len(b.loss) == 7


def test_microbatches_with_importance_weights():
    def sampler() -> LossSecondMomentTimesteps:
        timesteps = LossSecondMomentTimesteps(20)
        for _ in range(10):
            timesteps.update(torch.arange(20), torch.linspace(0.1, 3, 20))
        return timesteps

    full = make(gradient_clip=None, timesteps=sampler())
    parts = make(gradient_clip=None, timesteps=sampler(), microbatch=2)
    full(data(), 0)
    parts(data(), 0)
    for whole, summed in zip(gradients(full), gradients(parts), strict=True):
        torch.testing.assert_close(whole, summed, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("microbatch", [1, 3, 7])
def test_low_discrepancy_timesteps_do_not_depend_on_the_microbatch(microbatch):
    whole = make(timesteps=LowDiscrepancyTimesteps(20))(data(), 3)
    parts = make(timesteps=LowDiscrepancyTimesteps(20), microbatch=microbatch)(data(), 3)
    assert torch.equal(whole.t, parts.t)
    gaps = (whole.t.roll(-1) - whole.t) % 20
    assert set(gaps.tolist()) <= {2, 3}, "seven items lie 20 / 7 apart"


@pytest.mark.parametrize("weighting", [None, min_snr, sigmoid])
def test_importance_weights_keep_a_weighted_loss_unbiased(weighting):
    """The gradient expected over the sampler is that of uniform timesteps, whatever the weights."""
    loss = partial(losses.simple, weighting=weighting)
    x, noise = data(1), torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    step = make()
    denoiser = Denoiser(
        lambda x, shown: step.network(x, shown)[:, :1], GaussianDiffusion(cosine(20), "fixed_small")
    )
    terms = [loss(denoiser, x, torch.tensor([t]), noise).loss.detach() for t in range(20)]
    uniform = torch.stack(terms).mean()
    sampler = LossSecondMomentTimesteps(20)
    for _ in range(10):
        sampler.update(torch.arange(20), torch.cat(terms))
    t, weights = sampler.sample((np.arange(100_000) + 0.5) / 100_000)
    estimate = (torch.cat(terms)[t] * weights).mean()
    assert float(estimate) == pytest.approx(float(uniform), rel=1e-3)
    # In proportion to the loss, every weighted loss is about the mean: no variance is left.
    assert float((torch.cat(terms)[t] * weights).std()) < 0.01 * float(uniform)


def self_conditioned(seed=0, microbatch=None):
    step = make(seed=seed, microbatch=microbatch, gradient_clip=None)
    network = step.network

    def conditioned(x, shown):
        seen.append(bool(x[:, 1:].any()))
        return network(x[:, :1] + 0.5 * x[:, 1:], shown)

    seen: list[bool] = []
    step.denoiser = Denoiser(conditioned, GaussianDiffusion(cosine(20)), self_condition=True)
    return step, seen


def test_half_of_the_steps_condition_on_a_first_estimate():
    """By a function of the seed and the step, alike for all microbatches of a step."""
    coins = {}
    for seed in (0, 1):
        step, seen = self_conditioned(seed, microbatch=4)
        coins[seed] = []
        for k in range(24):
            seen.clear()
            step(data(), k)
            assert seen in ([False, False], [False, True] * 2)
            coins[seed].append(len(seen) == 4)
        assert 6 < sum(coins[seed]) < 18
    assert coins[0] != coins[1]
    again, seen = self_conditioned()
    again(data(), 17)
    assert (len(seen) == 2) == coins[0][17]


def test_microbatches_with_self_conditioning():
    number = next(k for k in range(9) if stream(0, "self-condition", step=k).random() < 0.5)
    (full, seen), (parts, _) = self_conditioned(), self_conditioned(microbatch=3)
    full(data(), number)
    parts(data(), number)
    assert seen == [False, True]
    for whole, summed in zip(gradients(full), gradients(parts), strict=True):
        torch.testing.assert_close(whole, summed, rtol=1e-4, atol=1e-6)


def test_a_step_is_a_function_of_seed_and_number():
    first, again, other = make(dropout=0.3), make(dropout=0.3), make(dropout=0.3, seed=1)
    torch.manual_seed(123)  # what came before must not matter
    a = first(data(), 5)
    torch.rand(10)
    b = again(data(), 5)
    c = other(data(), 5)
    assert torch.equal(a.loss, b.loss)
    assert torch.equal(a.t, b.t)
    assert not torch.equal(a.loss, c.loss)
    for p, q in zip(first.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(p, q)


def test_gradient_is_clipped_and_reported_before_clipping():
    step = make(gradient_clip=1e-3)
    before = [p.detach().clone() for p in step.network.parameters()]
    result = step(data(), 0)
    assert result.gradient_norm > 1e-3
    moved = math.sqrt(
        sum(
            float(((p.detach() - q) ** 2).sum())
            for p, q in zip(step.network.parameters(), before, strict=True)
        )
    )
    assert moved == pytest.approx(0.1 * 1e-3, rel=1e-3)


def test_a_batch_of_nan_changes_nothing_and_is_reported():
    step = make(timesteps=LossSecondMomentTimesteps(20))
    weights = [p.detach().clone() for p in step.network.parameters()]
    averages = [p.clone() for p in step.emas[0].network.parameters()]
    result = step(torch.full((7, 1, 8, 8), float("nan")), 0)
    assert result.skipped
    assert result.bad
    for p, q in zip(step.network.parameters(), weights, strict=True):
        assert torch.equal(p, q)
    for p, q in zip(step.emas[0].network.parameters(), averages, strict=True):
        assert torch.equal(p, q)
    assert step.emas[0].updates == 0
    assert step.timesteps.counts.sum() == 0
    good = step(data(), 1)
    assert not good.skipped
    assert step.emas[0].updates == 1


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_trains_float32_weights(precision):
    step = make(precision=precision, optimizer=lambda p, lr: torch.optim.AdamW(p, 1e-3, fused=True))
    results = [step(data(), k) for k in range(8)]
    assert any(not r.skipped for r in results)
    assert all(p.dtype == torch.float32 for p in step.network.parameters())
    assert all(p.isfinite().all() for p in step.network.parameters())
    assert all(r.loss.dtype == torch.float32 for r in results)


def test_float16_overflow_lowers_the_scale_and_is_not_bad():
    step = make(precision="fp16")
    step.precision.scaler._init_scale = 2.0**40  # certain to overflow
    result = step(data(), 0)
    assert result.skipped
    assert not result.bad
    assert step.precision.scaler.get_scale() == 2.0**39


@pytest.mark.parametrize("loss", [losses.simple, losses.vlb, losses.hybrid])
def test_every_loss_learns(loss):
    step = make(loss=loss, optimizer=lambda p, lr: torch.optim.AdamW(p, 3e-3))
    x = data(16)
    first = [float(step(x, k).loss.mean()) for k in range(3)]
    for k in range(3, 60):
        step(x, k)
    last = [float(step(x, k).loss.mean()) for k in range(3)]  # the same noise as the first
    assert sum(last) < 0.8 * sum(first)


def with_running_statistics(**options) -> TrainStep:
    """A step of an own network with batch normalization."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    step = make(optimizer=lambda _, lr: torch.optim.SGD(network.parameters(), lr=lr), **options)
    step.denoiser = Denoiser(lambda x, shown: network(x), GaussianDiffusion(cosine(20)))
    step.network, step.emas = network, [EMA(network, 0.9)]
    return step


def test_a_skipped_step_does_not_change_running_statistics():
    step = with_running_statistics()
    assert not step(data(), 0).skipped
    before = {name: value.clone() for name, value in step.network.state_dict().items()}
    x = data()
    x[2] = float("nan")
    assert step(x, 1).skipped
    assert all(torch.equal(v, before[n]) for n, v in step.network.state_dict().items())
    assert before["1.num_batches_tracked"] == 1


@pytest.mark.parametrize("again", ["rehearsed", "out of memory"])
def test_a_repeated_pass_counts_once_in_running_statistics(again):
    whole, repeated = with_running_statistics(microbatch=3), with_running_statistics(microbatch=3)
    if again == "rehearsed":
        repeated.rehearse = True
    else:
        repeated.microbatch, repeated.halve = 6, True
        repeated.network[2].register_forward_pre_hook(full_above(3))
    for step in (whole, repeated):
        step(data(), 0)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, repeated.network.state_dict()[name]), name


def full_above(count):
    def check(module, inputs):
        if len(inputs[0]) > count:
            raise torch.OutOfMemoryError("CUDA out of memory")

    return check
