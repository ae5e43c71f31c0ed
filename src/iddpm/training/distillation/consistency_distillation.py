"""Consistency distillation: the paths are those of a teacher, which may be guided."""

from typing import Any

import torch
from torch import Tensor

from iddpm.diffusion import Denoise, Denoiser
from iddpm.diffusion.losses import LossTerms
from iddpm.training.distillation.consistency import consistency_terms


def consistency_distillation(
    denoiser: Denoiser,
    x0: Tensor,
    t: Tensor,
    noise: Tensor,
    *,
    teacher: Denoise,
    divisor: float,
    huber: float = 0.0,
    own_estimate: bool = False,
    **conditioning: Any,
) -> LossTerms:
    """Return the loss between the two ends of a DDIM step of a teacher (Song et al. 2023).

    The target is the teacher's estimate of the data where the lower level is below that of step 0.
    A guided teacher gives a model of the guided distribution (Luo et al. 2023, "Latent Consistency
    Models", at a fixed scale). ``teacher`` is called with the same conditioning; the other
    arguments are those of
    :func:`~iddpm.training.distillation.consistency_tuning.consistency_tuning`.
    """
    x_t = denoiser.diffusion.q_sample(x0, t, noise)
    with torch.no_grad():
        known = teacher(x_t, denoiser.diffusion.schedule.at(t), **conditioning)
    return consistency_terms(
        denoiser, x_t, t, known.x0, known.eps, divisor=divisor, huber=huber, **conditioning
    )
