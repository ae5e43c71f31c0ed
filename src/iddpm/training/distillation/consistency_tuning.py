"""Easy Consistency Tuning: a denoiser becomes a consistency function on its training data."""

from typing import Any

from torch import Tensor

from iddpm.diffusion import Denoiser
from iddpm.diffusion.losses import LossTerms
from iddpm.training.distillation.consistency import consistency_terms


def consistency_tuning(
    denoiser: Denoiser,
    x0: Tensor,
    t: Tensor,
    noise: Tensor,
    *,
    divisor: float,
    huber: float = 0.0,
    own_estimate: bool = False,
    **conditioning: Any,
) -> LossTerms:
    """Return the loss between two noise levels of the same data with the same noise.

    The target is the data itself where the lower level is below that of step 0 (Geng et al. 2024,
    "Consistency Models Made Easy", equation 9).

    Args:
        denoiser: the model.
        x0: data in [-1, 1], [N, C, *spatial].
        t: [N] float64 steps of the denoiser's schedule.
        noise: standard normal, the shape of ``x0``.
        divisor: see :func:`~iddpm.training.distillation.consistency.lower_sigma`.
        huber: see :func:`~iddpm.training.distillation.consistency.distance`.
        own_estimate: not used: the network is conditioned on no earlier estimate.
        conditioning: passed to the network.
    """
    x_t = denoiser.diffusion.q_sample(x0, t, noise)
    return consistency_terms(
        denoiser, x_t, t, x0, noise, divisor=divisor, huber=huber, **conditioning
    )
