"""Ways to upscale low-resolution inputs, and the error of each."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from iddpm.builders import build_degradation
from iddpm.data.levels import round_to_levels
from iddpm.evaluation.calibration import calibration
from iddpm.evaluation.distances import Estimate
from iddpm.evaluation.fidelity import psnr
from iddpm.evaluation.measures import Measures
from iddpm.evaluation.perceptual import stage_distance
from iddpm.evaluation.similarity import ssim
from iddpm.networks import LevelHead, UNet
from iddpm.runs.run import Run
from iddpm.runtime.processes import Ranks
from iddpm.runtime.seeds import normal
from iddpm.sampling import NO_CLASS
from iddpm.tasks.pairs import Pairs, interpolated
from iddpm.tasks.real_statistics import by_parts
from iddpm.tasks.samples import Samples

SAMPLES, ONE_EVALUATION = "samples", "one evaluation"
ONCE = {"steps": 1, "sampler": "ddim", "spacing": "even", "variance": "trained", "eta": 0.0}
"""Settings of sampling that make a sample by one evaluation, from pure noise."""
AT_ONCE = 8
"""Items whose stages are held at a time."""
LOOK = 0.1
"""Place in the process, 0 the data, at whose noise the network's stages are compared."""

Draw = Callable[[Mapping[str, Any], int], Samples]
"""Draws a sample for each item by settings of sampling and a seed."""


@dataclass(frozen=True, eq=False)
class Ways:
    """Results of upscaling low-resolution inputs, in [-1, 1]; all [N, C, *spatial].

    Attributes:
        x: by name; the samples first.
        average: samples whose mean is among them.
        variance: of the samples of each item, divided by ``average`` - 1; None of one sample.
    """

    x: dict[str, Tensor]
    average: int
    variance: Tensor | None

    @property
    def rivals(self) -> dict[str, Tensor]:
        """All but the samples themselves."""
        return {name: x for name, x in self.x.items() if name != SAMPLES}

    @property
    def mean_name(self) -> str:
        """What the mean of several samples is called."""
        return f"mean of {self.average}"


def draw_ways(
    run: Run, pairs: Pairs, how: Mapping[str, Any], seed: int, average: int, draw: Draw
) -> Ways:
    """Return the samples beside the mean of several, one evaluation, and interpolations.

    Args:
        run: the model.
        pairs: the low-resolution items.
        how: settings of sampling.
        seed: of the samples; those to average have this one, the next, and so on.
        average: how many to average; of 1 there is no mean.
        draw: draws them; what was drawn before is read again.
    """
    samples = draw(how, seed).x
    x, variance = {SAMPLES: samples}, None
    mean, squares = samples.double(), torch.zeros_like(samples, dtype=torch.float64)
    for number in range(1, average):
        apart = draw(how, seed + number).x.double() - mean
        mean = mean + apart / (number + 1)
        squares += apart**2 * (number / (number + 1))
    if average > 1:
        variance = squares / (average - 1)
    ways = Ways(x, average, variance)
    if average > 1:
        x[ways.mean_name] = mean.float()
    blind = run.denoiser.prediction_type.blind_at_pure_noise
    if not blind and run.config.distillation is None:  # whose estimate there is a sample
        x[ONE_EVALUATION] = draw({**how, **ONCE}, seed).x
    x.update(interpolated(run.config, pairs.low_res))
    return ways


def compare(
    run: Run, pairs: Pairs, ways: Ways, measured: Mapping[str, Measures], ranks: Ranks
) -> dict[str, Any]:
    """Return how near each way comes to the truth, for JSON; all ranks call it.

    Args:
        run: the model, whose own stages judge what is perceived.
        pairs: the low-resolution items.
        ways: the results.
        measured: their distances from real data, by name; of the first rank.
        ranks: who share the perceptual distance.
    """
    config, truth = run.config, pairs.truth()

    def coarse(x: Tensor) -> Tensor:
        return round_to_levels(build_degradation(config).shrink(x), config.bits)

    apart = perceptual_distances(run, pairs, truth, ways.x, ranks)
    if not ranks.first:
        return {}
    spread = None
    if ways.variance is not None:
        mean = ways.x[ways.mean_name]
        found = calibration(mean, ways.variance, truth, ways.average)
        spread = {"samples": ways.average} | {k: v._asdict() for k, v in found._asdict().items()}
    return {
        "task": config.learns,
        "count": len(truth),
        "ways": {
            name: {
                "psnr": psnr(x, truth)._asdict(),
                "ssim": ssim(x, truth)._asdict(),
                "perceptual": apart[name]._asdict() if name in apart else None,
                "low_res_psnr": psnr(coarse(x), pairs.low_res)._asdict(),
                "frechet_distance": measured[name].frechet._asdict(),
            }
            for name, x in ways.x.items()
        },
        "spread": spread,
    }


def perceptual_distances(
    run: Run, pairs: Pairs, truth: Tensor, ways: Mapping[str, Tensor], ranks: Ranks
) -> dict[str, Estimate]:
    """Return how far each way is from the truth in the stages of the run's own network.

    Both are seen with the same little noise, as the network knows them. Empty for own networks,
    whose stages are not known.
    """
    network = run.denoiser.network
    inner = network.network if isinstance(network, LevelHead) else network
    if not isinstance(inner, UNet):
        return {}

    def apart(x: Tensor, rows: Tensor) -> Tensor:
        found = []
        for some in rows.split(AT_ONCE):
            first, second = (_stages(run, inner, pairs, part[some], some) for part in (x, truth))
            found.append(stage_distance(first, second).cpu())
        return torch.cat(found)

    rows = torch.arange(len(truth))
    return {
        name: Estimate.of_mean(by_parts(partial(apart, x), rows, ranks)) for name, x in ways.items()
    }


@torch.no_grad()
def _stages(run: Run, network: UNet, pairs: Pairs, x: Tensor, rows: Tensor) -> list[Tensor]:
    """Return the output of each stage of the network for items, conditioned as the pairs are."""
    conditioning = {name: value[rows].to(run.device) for name, value in pairs.given.items()}
    if "conditions" in conditioning:
        conditioning["conditions"] = conditioning["conditions"].float()
    if run.config.model.class_conditional:
        labels = pairs.labels
        y = torch.full((len(rows),), NO_CLASS) if labels is None else labels[rows]
        conditioning["y"] = y.to(run.device)
    conditioning |= run.task.sampling_inputs(conditioning, 0.0, rows.tolist(), 0)
    x = x.to(run.device)
    residual = run.task.residual(conditioning, x.shape[2:])
    if residual is not None:
        x, conditioning["interpolated"] = residual.encode(x), residual.interpolated
    diffusion = run.denoiser.diffusion
    t = torch.full((len(x),), int(LOOK * (len(diffusion.schedule) - 1)))
    drawn = normal(0, "perceptual noise", tuple(x.shape), start=int(rows[0]))
    x_t = diffusion.q_sample(x, t, torch.from_numpy(drawn).to(x))
    stages: list[Tensor] = []
    with _seen(network, stages):
        run.denoiser(x_t, diffusion.schedule.at(t), **conditioning)
    return stages


@contextmanager
def _seen(network: UNet, stages: list[Tensor]) -> Iterator[None]:
    """Note the output of every block of a network."""
    blocks = [*network.input_blocks, network.middle_block, *network.output_blocks]

    def note(module: nn.Module, args: Any, output: Tensor) -> None:
        stages.append(output.float())

    hooks = [block.register_forward_hook(note) for block in blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
