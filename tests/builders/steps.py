"""What every test of settings asks: a network that they build trains, and samples."""

from typing import Any

import torch

from iddpm.builders import (
    build_denoiser,
    build_loss,
    build_network,
    build_optimizer,
    build_sampling_plan,
    build_timesteps,
    resolve,
    task_of,
    training_low_res,
)
from iddpm.config import Config
from iddpm.sampling import SampleNoise
from iddpm.training.ema import EMA
from iddpm.training.precision import Precision
from iddpm.training.step import TrainStep


def trains_and_samples(
    config: Config, shape: tuple[int, ...], *, batch: int, steps: int, drawn: int, evaluations: int
) -> None:
    """Train some steps and draw by two samplers; all is finite, and something moves.

    Args:
        config: settings that need no data.
        shape: [C, *spatial] of an item.
        batch: items a step.
        steps: how many.
        drawn: samples, at most ``batch``.
        evaluations: of the network for each.
    """
    config = resolve(config)
    torch.manual_seed(0)
    network = build_network(config)
    before = [p.detach().clone() for p in network.parameters()]
    step = TrainStep(
        build_denoiser(config, network),
        network,
        build_loss(config),
        build_timesteps(config),
        build_optimizer(config, network),
        [EMA(network, 0.9)],
        Precision("float32", torch.device("cpu")),
        seed=1,
    )
    x0 = (torch.rand(batch, *shape) * 255).round() / 127.5 - 1
    conditioning: dict[str, Any] = {}
    if config.model.class_conditional:
        conditioning["y"] = torch.arange(batch) % 2
    if config.model.conditions:
        conditioning["conditions"] = torch.rand(batch, len(config.model.conditions))
        conditioning["conditions"][0] = torch.nan
    if config.model.given_channels:
        conditioning["given"] = torch.rand(batch, config.model.given_channels, *shape[1:])
    if config.task == "super_resolution":
        conditioning |= training_low_res(config, x0, range(batch), 0)
    residual = task_of(config).residual(conditioning, shape[1:])
    if residual is not None:
        x0, conditioning["interpolated"] = residual.encode(x0), residual.interpolated
    for number in range(steps):
        result = step(x0, number, **conditioning)
        assert not result.skipped
        assert bool(result.loss.isfinite().all())
    assert any(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    network.eval()
    some = {name: value[:drawn] for name, value in conditioning.items()}
    for name in ("ddim", "ddpm"):
        sampling = config.sampling.model_copy(update={"sampler": name, "steps": evaluations})
        plan = build_sampling_plan(config, step.denoiser, sampling)
        *_, last = plan.states(SampleNoise(0, (drawn, *shape)), **some)
        assert last.x.shape == (drawn, *shape)
        assert bool(last.x.isfinite().all())
