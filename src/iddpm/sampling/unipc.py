"""UniPC: a predictor and a corrector that share one evaluation a step."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from iddpm.diffusion import Denoise, NoiseSchedule
from iddpm.sampling.dpm_solver import differences
from iddpm.sampling.sampler_loop import Step, is_pure_noise, level_of


class Past(NamedTuple):
    """The history of a step."""

    x: Tensor
    """The corrected state that the step started from."""
    x0: tuple[Tensor, ...]
    """The data estimates up to that state, newest first."""


@dataclass(frozen=True)
class UniPC:
    """Predict, evaluate once, correct with what was found (Zhao et al. 2023, algorithms 1 and 2).

    It uses data estimates and B2(h) = e^h - 1. A step first corrects its state with the new
    evaluation there, then predicts the next. The corrected states have the order
    ``order`` + 1. As in :class:`~iddpm.sampling.dpm_solver.DPMSolverPP`, whose formulas are those
    of the predictor, the order is lower in the first steps and next to the data. A step from pure
    noise, at infinite log-SNR, has order 1 and is not corrected.

    Attributes:
        order: 2 or 3, the order of the predictor.

    On standard normal data the exact solution leaves the state as it is:

    >>> import torch
    >>> from iddpm import Prediction, UniPC, cosine, log_snr_timesteps, sample
    >>> normal = lambda x, l: Prediction(l.alpha_bar.sqrt() * x, (1 - l.alpha_bar).sqrt() * x)
    >>> few = cosine(1000).respace(log_snr_timesteps(cosine(1000), 100))
    >>> round(float(sample(UniPC(), normal, few, torch.ones(1, 1))), 2)
    1.0
    """

    order: int = 3

    def __post_init__(self) -> None:
        """Raise ValueError for an order that does not exist."""
        if self.order not in (2, 3):
            raise ValueError(f"order={self.order} must be 2 or 3")

    def step(
        self,
        denoise: Denoise,
        x: Tensor,
        i: int,
        schedule: NoiseSchedule,
        draw: Callable[[], Tensor],
        memory: Past | None = None,
    ) -> Step:
        """Take one step; see :class:`~iddpm.sampling.sampler_loop.Sampler`."""
        _, level = level_of(schedule, i, x)
        prediction = denoise(x, level)
        older: tuple[Tensor, ...] = ()
        if memory is not None:
            x = _advance(schedule, i + 1, memory.x, memory.x0, prediction.x0)  # UniC
            older = memory.x0
        history = (prediction.x0, *older)[: self.order]
        past = Past(x, history)
        if i == 0:
            return Step(prediction.x0, prediction, past)
        predicted = _advance(schedule, i, x, history[: i + 1])  # UniP
        return Step(predicted, prediction, None if is_pure_noise(schedule, i) else past)


def _advance(
    schedule: NoiseSchedule, i: int, x: Tensor, x0: tuple[Tensor, ...], found: Tensor | None = None
) -> Any:
    """Go from step ``i`` to the one below by the estimates ``x0`` and the one ``found`` there."""
    signal, noise = schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt()
    lam = schedule.half_log_snr[i - 1 : i + len(x0)].tolist()
    h = lam[0] - lam[1]
    ratios = [(node - lam[1]) / h for node in lam[2:]]
    others = list(x0[1:])
    if found is not None:
        ratios.append(1.0)
        others.append(found)
    estimate = x0[0] + differences(x0[0], others, ratios, h)
    return float(noise[i - 1] / noise[i]) * x - float(signal[i - 1]) * math.expm1(-h) * estimate
