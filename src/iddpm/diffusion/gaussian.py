"""The diffusion process: the forward noise and the Gaussians of the reverse steps."""

from dataclasses import dataclass
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from iddpm.diffusion.prediction import (
    Prediction,
    VarianceKind,
    posterior_coefficients,
    posterior_mean,
)
from iddpm.diffusion.schedule import NoiseSchedule, broadcast


class Gaussian(NamedTuple):
    """A diagonal Gaussian: mean [N, C, *spatial] and log-variance that broadcasts against it.

    >>> from iddpm import cosine
    >>> x0, t = torch.zeros(2, 1, 8), torch.tensor([0, 999])
    >>> q = GaussianDiffusion(cosine(1000)).q_posterior(x0, torch.ones_like(x0), t)
    >>> q.mean.shape, q.log_variance.shape
    (torch.Size([2, 1, 8]), torch.Size([2, 1, 1]))
    """

    mean: Tensor
    log_variance: Tensor


@dataclass(frozen=True, eq=False)
class GaussianDiffusion:
    """A noise schedule and the variance of its reverse steps.

    Attributes:
        schedule: the steps.
        variance: ``"fixed_small"``: that of q(x_{t-1} | x_t, x0); ``"fixed_large"``: beta;
            ``"learned"``: the network returns its logarithm; ``"learned_range"``: the network
            interpolates between the logarithms of the two fixed ones (Nichol & Dhariwal 2021,
            equation 15); ``"analytic"``: the optimal one for the mean
            (:mod:`iddpm.diffusion.analytic`).

    >>> from iddpm import linear
    >>> GaussianDiffusion(linear(1000)).learns_variance
    True
    >>> GaussianDiffusion(linear(1000), "fixed_small").learns_variance
    False
    """

    schedule: NoiseSchedule
    variance: VarianceKind = "learned_range"

    def __post_init__(self) -> None:
        """Raise ValueError for an unknown variance."""
        if self.variance not in get_args(VarianceKind):
            known = ", ".join(get_args(VarianceKind))
            raise ValueError(f"variance={self.variance!r} is unknown: use one of {known}")

    @property
    def learns_variance(self) -> bool:
        """Whether the network has variance channels beside those of the mean."""
        return self.variance in ("learned", "learned_range")

    def q_sample(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        r"""Draw x_t ~ q(x_t | x0) with the given noise (Ho et al. 2020, equation 4).

        .. math::

            x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon

        Args:
            x0: data in [-1, 1], [N, C, *spatial].
            t: [N] int64 steps of the schedule.
            noise: standard normal, the shape of ``x0``.

        >>> from iddpm import cosine
        >>> x0, t = torch.zeros(2, 1, 8, 8), torch.tensor([0, 999])
        >>> x_t = GaussianDiffusion(cosine(1000)).q_sample(x0, t, torch.ones(2, 1, 8, 8))
        >>> [round(float(x), 2) for x in x_t[:, 0, 0, 0]]
        [0.01, 1.0]
        """
        alpha_bar = self.schedule.at(t).alpha_bar
        return broadcast(alpha_bar.sqrt(), x0) * x0 + broadcast((1 - alpha_bar).sqrt(), x0) * noise

    def q_posterior(self, x0: Tensor, x_t: Tensor, t: Tensor) -> Gaussian:
        r"""Return q(x_{t-1} | x_t, x0) (Ho et al. 2020, equations 6 and 7).

        .. math::

            \tilde\mu_t = \frac{\sqrt{\bar\alpha_{t-1}}\, \beta_t}{1 - \bar\alpha_t} x_0
            + \frac{\sqrt{\alpha_t} (1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t} x_t, \qquad
            \tilde\beta_t = \frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t} \beta_t

        The variance of step 0, which is 0, is replaced by that of step 1.
        """
        log_variance = self.schedule.posterior_log_variance[t.cpu()]
        mean = posterior_mean(x0, x_t, self.schedule.at(t))
        return Gaussian(mean, broadcast(log_variance, x_t))

    def p_posterior(self, prediction: Prediction, x_t: Tensor, t: Tensor) -> Gaussian:
        """Return the reverse step p(x_{t-1} | x_t) of a prediction."""
        mean = prediction.mean
        if mean is None:
            mean = posterior_mean(prediction.x0, x_t, self.schedule.at(t))
        return Gaussian(mean, self.log_variance(prediction, x_t, t))

    def log_variance(self, prediction: Prediction, x_t: Tensor, t: Tensor) -> Tensor:
        r"""Return the log-variance of the reverse step; it broadcasts against ``x_t``.

        Of ``learned_range``, with v between 0 and 1 from the network:

        .. math::

            \log \sigma_t^2 = v \log \beta_t + (1 - v) \log \tilde\beta_t

        Raises:
            ValueError: the variance is learned or analytic and the prediction has none.
        """
        t = t.cpu()
        if self.variance == "fixed_small":
            return broadcast(self.schedule.posterior_log_variance[t], x_t)
        if self.variance == "fixed_large":
            return broadcast(self.schedule.large_log_variance[t], x_t)
        if prediction.variance is None:
            raise ValueError(
                f"variance={self.variance!r} needs a network with variance channels, and this "
                "prediction has none"
            )
        if self.variance == "analytic":
            of_x0, _ = posterior_coefficients(self.schedule.at(t))
            known = broadcast(self.schedule.posterior_variance[t], x_t)
            return torch.log(known + broadcast(of_x0**2, x_t) * prediction.variance)
        if self.variance == "learned":
            return prediction.variance
        low = broadcast(self.schedule.posterior_log_variance[t], x_t)
        high = broadcast(self.schedule.betas[t].log(), x_t)
        return torch.lerp(low, high, (prediction.variance + 1) / 2)
