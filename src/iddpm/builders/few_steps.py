"""Distilled models: their training's loss and noise levels, and those of their samples."""

import math
from functools import partial

import torch

from iddpm.builders.load_choice import load
from iddpm.builders.network import build_diffusion
from iddpm.config import ResolvedConfig, SamplingConfig
from iddpm.config.choices import DISTILLATIONS
from iddpm.config.distillation import DistillationConfig
from iddpm.diffusion import Denoise, NoiseSchedule
from iddpm.training.distillation.consistency import ConsistencyTimesteps, log_sigma_range
from iddpm.training.step import Loss

NEEDS_TEACHER = ("consistency_distillation",)
"""The methods that evaluate the teacher in every step."""


def build_distillation_loss(made: DistillationConfig, teacher: Denoise | None) -> Loss:
    """Return the loss of a method; ``teacher`` is for those of :data:`NEEDS_TEACHER`."""
    loss = partial(load(DISTILLATIONS[made.method].home), divisor=made.divisor)
    if made.method in NEEDS_TEACHER:
        assert teacher is not None
        loss = partial(loss, teacher=teacher)
    return loss


def build_consistency_timesteps(
    config: ResolvedConfig, made: DistillationConfig
) -> ConsistencyTimesteps:
    """Build the distribution of noise levels."""
    return ConsistencyTimesteps(
        build_diffusion(config).schedule,
        made.log_sigma_mean,
        made.log_sigma_spread,
        made.sigma_max,
    )


def few_step_schedule(whole: NoiseSchedule, made: DistillationConfig, steps: int) -> NoiseSchedule:
    """Return the noise levels at which a distilled model is evaluated.

    Levels above the process's noisiest take that one.

    Raises:
        ValueError: a number of evaluations that the model does not offer, or levels that lie
            outside the process.
    """
    lowest, highest = log_sigma_range(whole, made.sigma_max)
    wanted = [min(math.log(sigma), highest) for sigma in reversed(made.sigmas(steps))]
    if wanted[0] < lowest or sorted(set(wanted)) != wanted:
        raise ValueError(
            f"distillation.levels has {list(made.sigmas(steps))}, and the noise levels of the "
            f"process go from {math.exp(lowest):.2g} to {math.exp(highest):.3g}: use levels "
            "between these"
        )
    positions = whole.position_of(-torch.tensor(wanted, dtype=torch.float64))
    return whole.respace(positions.tolist())


def check_few_steps(config: ResolvedConfig, sampling: SamplingConfig, *, guided: bool) -> None:
    """Raise ValueError for sampling that a distilled model cannot do; others are not checked.

    ``guided`` says whether another model guides it.
    """
    made = config.distillation
    if made is None:
        return
    made.check(sampling)
    if guided:
        raise ValueError(
            "a distilled model is no denoiser, which guidance by another model needs: sample its "
            f"teacher, {made.teacher}"
        )
