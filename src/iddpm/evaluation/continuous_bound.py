"""The bound in the limit of infinitely many steps, from looks at random noise levels.

Between two noise levels the bound of infinitely many steps is half the integral over log-SNR of the
mean squared error of the noise (Kingma et al. 2021, equation 17 with 12). Stretches between
neighboring steps of the trained process stand for its terms, and a look at one is taken at a random
place in it: the estimate is unbiased, and however stretches are drawn (all, evenly or in proportion
to what they add; :mod:`iddpm.evaluation.sampled_bound`), the code is that of discrete steps.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from iddpm.diffusion import GaussianDiffusion, NoiseSchedule, Prediction
from iddpm.diffusion.prediction import VarianceKind
from iddpm.diffusion.variational_bound import per_item, vlb_term
from iddpm.evaluation.bound_terms import Process


@dataclass(frozen=True, eq=False)
class ContinuousProcess(Process):
    """A process in continuous time between the ends of the one that was trained.

    Position 0 is its decoder, that of step 0; position k is the stretch of log-SNR between the
    steps k - 1 and k.
    """

    def place(self, t: Tensor, uniform: Tensor) -> Tensor:
        """Return places [N] float64 in the stretches below the steps ``t``; 0 stays 0."""
        return torch.where(t == 0, 0.0, t - uniform)

    def term(
        self,
        prediction: Prediction,
        x0: Tensor,
        x_t: Tensor,
        position: Tensor,
        place: Tensor,
        bits: int | None,
    ) -> Tensor:
        """Return the part of each stretch, as if it were what it is at ``place`` all along."""
        log_snr = 2 * self.whole.half_log_snr
        length = log_snr[(position - 1).clamp(min=0)] - log_snr[position]
        alpha_bar = self.whole.at(place).alpha_bar
        error = per_item((prediction.x0 - x0) ** 2).cpu().double()  # times the SNR, that of eps
        terms = 0.5 * length * alpha_bar / (1 - alpha_bar) * error / math.log(2)
        (last,) = torch.nonzero(position == 0, as_tuple=True)
        if len(last) == 0:
            return terms
        decoder = vlb_term(self.diffusion, prediction, x0, x_t, position, bits=bits)
        return torch.where(position == 0, decoder.cpu().double(), terms)


def continuous_process(whole: NoiseSchedule, variance: VarianceKind) -> ContinuousProcess:
    """Return the continuous process between the ends of a trained one, its decoder included.

    Where the last step is pure noise, at log-SNR -infinity, the process ends at the one before.

    Raises:
        ValueError: a process of one level.
    """
    kept = tuple(range(len(whole) - whole.ends_in_pure_noise))
    if len(kept) < 2:
        raise ValueError(
            "the continuous bound needs at least two noise levels, and this process has 1"
        )
    return ContinuousProcess(whole, kept, GaussianDiffusion(whole.respace(kept), variance))
