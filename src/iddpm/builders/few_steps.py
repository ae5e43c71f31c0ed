"""Distilled models: their training's loss and noise levels, and those of their samples."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from iddpm.builders.guides import bounded
from iddpm.builders.load_choice import load
from iddpm.builders.network import build_diffusion
from iddpm.config import ResolvedConfig, SamplingConfig
from iddpm.config.choices import DISTILLATIONS
from iddpm.config.distillation import DistillationConfig
from iddpm.diffusion import Denoise, Denoiser, Level, NoiseSchedule, Prediction
from iddpm.runtime.seeds import stream
from iddpm.sampling import Sampler
from iddpm.sampling.spacing import log_snr_timesteps
from iddpm.training.distillation.consistency import ConsistencyTimesteps, log_sigma_range
from iddpm.training.distillation.mid_training import ListedTimesteps
from iddpm.training.step import Loss, ScheduledLoss

TRAJECTORY_STEPS = 16
"""Of the teacher's trajectories (Hu et al. 2025)."""


def build_distillation_loss(
    made: DistillationConfig, teacher: Any, steps: Callable[[], int]
) -> Loss | ScheduledLoss:
    """Return the loss of a method.

    Args:
        made: its settings.
        teacher: what the method is handed of the teacher, if anything: a denoiser, or a function
            that returns trajectories (:class:`~iddpm.training.distillation.mid_training.Paths`).
        steps: returns the length of the training, which a time limit may change meanwhile.
    """
    row = DISTILLATIONS[made.method]
    options = {name: getattr(made, name) for name in row.settings}
    if row.teacher:
        assert teacher is not None
        options["teacher"] = teacher
    loss = partial(load(row.home), **options)
    if row.progress:
        return ScheduledLoss(lambda step: partial(loss, progress=step / steps()))
    if made.stages > 1:
        return ScheduledLoss(lambda step: partial(loss, divisor=made.divisor_at(step, steps())))
    return loss


def trajectory_schedule(whole: NoiseSchedule, made: DistillationConfig) -> NoiseSchedule:
    """Return the levels of the teacher's trajectories, even in log-SNR from ``sigma_max``."""
    count = min(TRAJECTORY_STEPS, len(whole))
    return whole.respace(log_snr_timesteps(whole, count, sigma_max=made.sigma_max))


def build_distillation_timesteps(
    config: ResolvedConfig, made: DistillationConfig
) -> ConsistencyTimesteps | ListedTimesteps:
    """Build the distribution of noise levels."""
    whole = build_diffusion(config).schedule
    if DISTILLATIONS[made.method].teacher == "trajectories":
        return ListedTimesteps(trajectory_schedule(whole, made).index.tolist())
    return ConsistencyTimesteps(
        whole,
        made.log_sigma_mean,
        made.log_sigma_spread,
        made.sigma_max,
    )


def training_guidance(
    made: DistillationConfig, seed: int, items: Sequence[int], step: int
) -> Tensor | None:
    """Return the scale of guidance of each item in a step, [N] float32, uniform in the range.

    None for a model of one scale.
    """
    if made.guidance_range is None:
        return None
    low, high = made.guidance_range
    drawn = [stream(seed, "guidance", step=step, index=item).random() for item in items]
    return (low + (high - low) * torch.tensor(drawn, dtype=torch.float64)).float()


def few_step_sampler(made: DistillationConfig) -> Sampler:
    """Return the sampler of a distilled model."""
    sampler: Sampler = load(DISTILLATIONS[made.method].sampler)()
    return sampler


def few_step_denoise(
    made: DistillationConfig, denoiser: Denoiser, sampling: SamplingConfig
) -> Denoise:
    """Return a distilled model as it is sampled, at the requested scale of guidance.

    Its estimates are clipped, but those of mean velocities, which are none of the data.
    """
    denoise: Denoise = denoiser
    if made.guidance_range is not None:

        def scaled(x_t: Tensor, level: Level, /, **conditioning: Any) -> Prediction:
            scale = torch.full((len(x_t),), sampling.guidance, device=x_t.device)
            return denoiser(x_t, level, guidance=scale, **conditioning)  # type: ignore[no-any-return]

        denoise = scaled
    return denoise if DISTILLATIONS[made.method].numbers else bounded(denoise, sampling)


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
