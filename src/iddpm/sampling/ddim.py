"""Denoising diffusion implicit models, forward and inverted."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from iddpm.diffusion import Denoise, NoiseSchedule
from iddpm.diffusion.schedule import broadcast
from iddpm.sampling.noise import limited
from iddpm.sampling.sampler_loop import State, Step, level_of


@dataclass(frozen=True)
class DDIM:
    r"""Step along the estimates of data and noise (Song et al. 2021, equation 12).

    .. math::

        x_{t-1} = \sqrt{\bar\alpha_{t-1}}\, x_0
            + \sqrt{1 - \bar\alpha_{t-1} - \sigma_t^2}\, \epsilon
        + \sigma_t z

    An analytic variance also includes the variance of x0 given x_t, so ``eta`` = 0 is then not
    deterministic (Bao et al. 2022, theorem 1).

    Attributes:
        eta: 0 for the deterministic sampler, 1 for as much fresh noise as DDPM's posterior.
        last_noise: as in :class:`~iddpm.sampling.ddpm.DDPM`.

    On standard normal data the exact solution leaves the state as it is:

    >>> import torch
    >>> from iddpm import DDIM, Prediction, cosine, log_snr_timesteps, sample
    >>> normal = lambda x, l: Prediction(l.alpha_bar.sqrt() * x, (1 - l.alpha_bar).sqrt() * x)
    >>> few = cosine(1000).respace(log_snr_timesteps(cosine(1000), 100))
    >>> round(float(sample(DDIM(), normal, few, torch.ones(1, 1))), 2)
    0.98
    """

    eta: float = 0.0
    last_noise: float = 1.0

    def __post_init__(self) -> None:
        """Raise ValueError for an eta that makes the variance of a step negative."""
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta={self.eta} must lie in 0 (deterministic) to 1 (as DDPM)")

    def step(
        self,
        denoise: Denoise,
        x: Tensor,
        i: int,
        schedule: NoiseSchedule,
        draw: Callable[[], Tensor],
        memory: Any = None,
    ) -> Step:
        """Take one step; see :class:`~iddpm.sampling.sampler_loop.Sampler`."""
        _, level = level_of(schedule, i, x)
        prediction = denoise(x, level)
        alpha_bar, before = level.alpha_bar, level.alpha_bar_prev
        variance = self.eta**2 * (1 - before) / (1 - alpha_bar) * (1 - alpha_bar / before)
        signal = broadcast(before.sqrt(), x)
        direction = broadcast((1 - before - variance).clamp(min=0).sqrt(), x)
        x_next = signal * prediction.x0 + direction * prediction.eps
        if i == 0:
            return Step(x_next, prediction)
        std = broadcast(variance.sqrt(), x)
        if prediction.variance_kind == "analytic":
            assert prediction.variance is not None
            of_eps = ((1 - before - variance).clamp(min=0) / (1 - alpha_bar)).sqrt()
            of_x0 = broadcast(before.sqrt() - of_eps * alpha_bar.sqrt(), x)
            std = limited((std**2 + of_x0**2 * prediction.variance).sqrt(), i, self.last_noise)
        elif self.eta == 0:
            return Step(x_next, prediction)
        return Step(x_next + std * draw(), prediction)

    def invert_step(self, denoise: Denoise, x: Tensor, i: int, schedule: NoiseSchedule) -> Step:
        """Go from step ``i`` to the noisier one above it; from the noisiest, to pure noise."""
        _, level = level_of(schedule, i, x)
        prediction = denoise(x, level)
        above = schedule.alpha_bar[i + 1] if i + 1 < len(schedule) else torch.zeros(())
        signal, noise = float(above) ** 0.5, float(1 - above) ** 0.5
        return Step(signal * prediction.x0 + noise * prediction.eps, prediction)


@torch.no_grad()
def inversion(
    denoise: Denoise, schedule: NoiseSchedule, x0: Tensor, **conditioning: Any
) -> Iterator[State]:
    """Invert deterministic DDIM from data to noise and yield each state.

    It takes one step per step of the schedule: first from the data to step 0, then up to the
    noisiest, where sampling starts. The error of the round trip is of order 1 / N. Do not clip:
    the noise would lose what clipping removes.

    Args:
        denoise: the model.
        schedule: the steps that decoding will visit.
        x0: data in [-1, 1], [N, C, *spatial].
        conditioning: passed to ``denoise``.

    >>> from iddpm import Prediction, cosine, even_timesteps
    >>> normal = lambda x, l: Prediction(l.alpha_bar.sqrt() * x, (1 - l.alpha_bar).sqrt() * x)
    >>> few = cosine(1000).respace(even_timesteps(1000, 4))
    >>> [(state.number, state.index) for state in inversion(normal, few, torch.ones(1, 1))]
    [(1, 0), (2, 1), (3, 2), (4, 3)]
    """
    if conditioning:
        denoise = partial(denoise, **conditioning)
    sampler = DDIM()
    # The network has no noise level below step 0, so the estimate there is used.
    _, level = level_of(schedule, 0, x0)
    eps = denoise(x0, level).eps
    alpha_bar = level.alpha_bar
    x = broadcast(alpha_bar.sqrt(), x0) * x0 + broadcast((1 - alpha_bar).sqrt(), x0) * eps
    yield State(1, 0, x, x0)
    for i in range(len(schedule) - 1):
        x, prediction, _ = sampler.invert_step(denoise, x, i, schedule)
        yield State(i + 2, i + 1, x, prediction.x0)


def invert(denoise: Denoise, schedule: NoiseSchedule, x0: Tensor, **conditioning: Any) -> Tensor:
    """Return the noise [N, C, *spatial] of the data; arguments as in :func:`inversion`.

    >>> from iddpm import Prediction, cosine, sample
    >>> normal = lambda x, l: Prediction(l.alpha_bar.sqrt() * x, (1 - l.alpha_bar).sqrt() * x)
    >>> noise = invert(normal, cosine(100), torch.ones(1, 1))
    >>> round(float(sample(DDIM(), normal, cosine(100), noise)), 1)
    1.0
    """
    x = x0
    for state in inversion(denoise, schedule, x0, **conditioning):
        x = state.x
    return x
