"""The optimal reverse variance for a given mean, from one number per step.

The mean of a reverse step x_t -> x_s uses an estimate of x0 instead of x0. The optimal variance for
it is lambda^2 + c^2 V: lambda^2 is the variance of q(x_s | x_t, x0), c is the coefficient of x0 in
its mean, and V is the variance of x0 given x_t, averaged over data and dimensions. A perfect
estimate of the noise has E|eps|^2 / d = 1 - V alpha_bar / (1 - alpha_bar), so V follows from its
mean square (Bao et al. 2022, "Analytic-DPM", theorem 1, with
Gamma = E|eps|^2 / d / (1 - alpha_bar)).
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from iddpm.diffusion.denoiser import Denoise
from iddpm.diffusion.prediction import Prediction
from iddpm.diffusion.schedule import Level, NoiseSchedule, broadcast

LEAST_SHARE = 0.01
"""Smallest share of the noise that counts as unknown at step 0.

There lambda is 0, and an estimate as large as the noise itself would give a variance of 0.
"""
TINY = 1e-12


@dataclass(frozen=True, eq=False)
class AnalyticVariance:
    """The variance of the data given x_t, from the size of a model's noise estimates.

    Attributes:
        schedule: the trained process, T steps.
        eps_power: float64 [T], the mean of eps^2 over data, noise and dimensions, where eps is
            the model's estimate without clipping.

    >>> from iddpm import cosine
    >>> analytic = AnalyticVariance(cosine(1000), eps_power=torch.full((1000,), 0.9))
    >>> round(float(analytic.of_x0[499]), 2)
    0.1
    """

    schedule: NoiseSchedule
    eps_power: Tensor

    def __post_init__(self) -> None:
        """Raise ValueError for a table of another process."""
        if self.eps_power.shape != (len(self.schedule),):
            raise ValueError(
                f"a process of {len(self.schedule)} steps needs as many values, not "
                f"{tuple(self.eps_power.shape)}"
            )

    @cached_property
    def of_x0(self) -> Tensor:
        """Float64 [T], V, clipped as data in [-1, 1] allows (Bao et al. 2022, theorem 2).

        The paper's bounds on the step's variance are equivalent to
        0 <= V <= min(1, (1 - alpha_bar) / alpha_bar). The last always holds, because eps^2 is not
        negative. In pure noise eps does not depend on the data, and V is set to 1.
        """
        unknown = 1 - self.eps_power.double()
        unknown[0] = unknown[0].clamp(min=LEAST_SHARE)
        alpha_bar = self.schedule.alpha_bar
        of_x0 = ((1 - alpha_bar) / alpha_bar * unknown).clamp(TINY, 1)
        return torch.where(alpha_bar > 0, of_x0, 1.0)

    def at(self, alpha_bar: Tensor) -> Tensor:
        """Return V at noise levels [N], float64; between steps linear in log-SNR."""
        if len(self.schedule) == 1:
            return self.of_x0.expand(len(alpha_bar))
        noise = -self.schedule.half_log_snr  # increasing
        wanted = -0.5 * torch.log(alpha_bar / (1 - alpha_bar))
        above = torch.searchsorted(noise, wanted).clamp(1, len(noise) - 1)
        share = (wanted - noise[above - 1]) / (noise[above] - noise[above - 1])
        share = torch.where(wanted.isinf(), 1.0, share)  # pure noise is the last step itself
        return torch.lerp(self.of_x0[above - 1], self.of_x0[above], share.clamp(0, 1))

    def attach(self, prediction: Prediction, x_t: Tensor, level: Level) -> Prediction:
        """Return the prediction with this variance instead of its own."""
        return replace(
            prediction,
            variance=broadcast(self.at(level.alpha_bar), x_t),
            variance_kind="analytic",
        )

    def around(self, denoise: Denoise) -> Denoise:
        """Return the model with this variance; apply it after guidance and clipping."""

        def with_variance(x_t: Tensor, level: Level, /, **conditioning: Any) -> Prediction:
            return self.attach(denoise(x_t, level, **conditioning), x_t, level)

        return with_variance


def steadied_power(power: Tensor, noise_power: Tensor) -> Tensor:
    """Return the mean square of noise estimates with a smaller error than ``power``.

    The expected mean square of the noise is 1. A deviation of the drawn noise from it also appears
    in the estimates, multiplied by ``power**2`` if both are jointly Gaussian. This control variate
    removes most of the error if the estimates are good.

    Args:
        power: mean square of the estimates, float64 of any shape.
        noise_power: mean square of the noise that they estimate.
    """
    return power - power**2 * (noise_power - 1)
