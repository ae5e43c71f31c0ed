"""ER-SDE: a reverse SDE with less noise than the usual one near the data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from iddpm.diffusion import Denoise, NoiseSchedule
from iddpm.sampling.sampler_loop import Step, is_pure_noise, level_of

NODES = 64
"""Gauss-Legendre nodes in log sigma for the integrals over a step."""


def noise_scale(sigma: Tensor) -> Tensor:
    """Return phi(sigma) = sigma (exp(sigma^0.3) + 10), ER-SDE 5 of the paper's table 1.

    phi = sigma gives the ODE without noise and phi = sigma^2 the usual reverse SDE.
    """
    return sigma * (torch.exp(sigma**0.3) + 10)


class Weights(NamedTuple):
    """The factors of a step in y = x / sqrt(alpha_bar); see :meth:`ERSDE.weights`."""

    state: float
    """Of the state: r = phi(sigma_t) / phi(sigma_s)."""
    data: float
    """Of the estimate of x0: 1 - r."""
    slope: float
    """Of its derivative by sigma."""
    curvature: float
    """Of its second derivative."""
    noise: float
    """Standard deviation of the fresh noise."""


@dataclass(frozen=True)
class ERSDE:
    """Solve the extended reverse-time SDE by Taylor expansion in sigma (Cui et al. 2023).

    With y = x / sqrt(alpha_bar) and sigma = sqrt((1 - alpha_bar) / alpha_bar), a step multiplies
    the distance of y from the estimate of x0 by r = phi(sigma_t) / phi(sigma_s) and adds noise of
    variance sigma_t^2 - r^2 sigma_s^2 (propositions 2 and 4 of the paper). Orders 2 and 3 also use
    the derivatives of the estimate by sigma, from the estimates of the steps before. The
    derivatives are those of the polynomial through these estimates; the published order 3 takes
    the slope half a step behind, which costs an order. The first steps have a lower order; the
    last one, to the data, returns the estimate of x0. A step from pure noise has order 1 and is
    not kept in the history.

    Attributes:
        order: 1, 2 or 3.
        phi: the noise scale, an increasing function of sigma at most as steep as sigma^2 in
            logarithms and at least as steep as sigma.
    """

    order: int = 3
    phi: Callable[[Tensor], Tensor] = noise_scale

    def __post_init__(self) -> None:
        """Raise ValueError for an order that does not exist."""
        if self.order not in (1, 2, 3):
            raise ValueError(f"order={self.order} must be 1, 2 or 3")

    def step(
        self,
        denoise: Denoise,
        x: Tensor,
        i: int,
        schedule: NoiseSchedule,
        draw: Callable[[], Tensor],
        memory: tuple[Tensor, ...] | None = None,
    ) -> Step:
        """Take one step; ``memory`` holds the data estimates of the steps before, newest first."""
        _, level = level_of(schedule, i, x)
        prediction = denoise(x, level)
        history = (prediction.x0, *(memory or ()))[: self.order]
        if i == 0:
            return Step(prediction.x0, prediction, history)
        signal = schedule.alpha_bar.sqrt().tolist()
        noise = (1 - schedule.alpha_bar).sqrt().tolist()
        if is_pure_noise(schedule, i):  # all of the state is noise: nothing of it is kept
            return Step(signal[i - 1] * prediction.x0 + noise[i - 1] * draw(), prediction)
        sigma = (-schedule.half_log_snr[i - 1 : i + len(history)]).exp()
        weights = self.weights(sigma[1], sigma[0])
        y = weights.data * prediction.x0
        if len(history) > 1:
            slope, curvature = _derivatives(history, sigma[1:].tolist())
            y = y + weights.slope * slope
            if curvature is not None:
                y = y + weights.curvature * curvature
        factor = weights.state * signal[i - 1] / signal[i]
        state = factor * x + signal[i - 1] * y
        if weights.noise > 0:
            state = state + signal[i - 1] * weights.noise * draw()
        return Step(state, prediction, history)

    def weights(self, start: Tensor, end: Tensor) -> Weights:
        """Return the factors of a step from sigma ``start`` down to ``end``, both float64 [].

        The slope has sigma_t - sigma_s + phi(sigma_t) I_0 and the curvature
        (sigma_t - sigma_s)^2 / 2 + phi(sigma_t) I_1, with I_n the integral of
        (sigma - sigma_s)^n / phi(sigma) from sigma_t to sigma_s (algorithms 2 and 3).
        """
        of_end = self.phi(end)
        ratio = of_end / self.phi(start)
        nodes, shares = (torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(NODES))
        half = (start / end).log() / 2
        sigma = (end.log() + half * (1 + nodes)).exp()
        parts = half * shares * sigma / self.phi(sigma)  # d sigma = sigma d log sigma
        apart = end - start
        variance = (end**2 - (ratio * start) ** 2).clamp(min=0)
        # The ODE's variance is 0, and rounding leaves a trace of it.
        variance = torch.where(variance < 1e-14 * end**2, 0.0, variance)
        return Weights(
            float(ratio),
            float(1 - ratio),
            float(apart + of_end * parts.sum()),
            float(apart**2 / 2 + of_end * (parts * (sigma - start)).sum()),
            float(variance.sqrt()),
        )


def _derivatives(history: tuple[Tensor, ...], sigma: list[float]) -> tuple[Tensor, Tensor | None]:
    """Return the derivatives by sigma, at the newest, of the polynomial through the estimates."""
    first = (history[0] - history[1]) / (sigma[0] - sigma[1])
    if len(history) == 2:
        return first, None
    before = (history[1] - history[2]) / (sigma[1] - sigma[2])
    half = (first - before) / (sigma[0] - sigma[2])
    return first + (sigma[0] - sigma[1]) * half, 2 * half
