"""The theory: schedules, predictions, posteriors, likelihoods and losses; no networks."""

from iddpm.diffusion import losses
from iddpm.diffusion.analytic import AnalyticVariance
from iddpm.diffusion.denoiser import Denoise, Denoiser
from iddpm.diffusion.gaussian import Gaussian, GaussianDiffusion
from iddpm.diffusion.prediction import (
    Prediction,
    from_edm,
    from_eps,
    from_previous,
    from_v,
    from_x0,
)
from iddpm.diffusion.schedule import (
    Level,
    NoiseSchedule,
    cosine,
    linear,
    log_snr,
    log_snr_of_levels,
    zero_terminal_snr,
)
from iddpm.diffusion.variational_bound import BitsPerDim, bits_per_dim

__all__ = [
    "AnalyticVariance",
    "BitsPerDim",
    "Denoise",
    "Denoiser",
    "Gaussian",
    "GaussianDiffusion",
    "Level",
    "NoiseSchedule",
    "Prediction",
    "bits_per_dim",
    "cosine",
    "from_edm",
    "from_eps",
    "from_previous",
    "from_v",
    "from_x0",
    "linear",
    "log_snr",
    "log_snr_of_levels",
    "losses",
    "zero_terminal_snr",
]
