"""The theory: schedules, predictions, posteriors, likelihoods and losses; no networks."""

from iddpm.diffusion import losses as losses
from iddpm.diffusion.analytic import AnalyticVariance as AnalyticVariance
from iddpm.diffusion.denoiser import Denoise as Denoise
from iddpm.diffusion.denoiser import Denoiser as Denoiser
from iddpm.diffusion.gaussian import Gaussian as Gaussian
from iddpm.diffusion.gaussian import GaussianDiffusion as GaussianDiffusion
from iddpm.diffusion.prediction import Prediction as Prediction
from iddpm.diffusion.prediction import from_edm as from_edm
from iddpm.diffusion.prediction import from_eps as from_eps
from iddpm.diffusion.prediction import from_previous as from_previous
from iddpm.diffusion.prediction import from_v as from_v
from iddpm.diffusion.prediction import from_x0 as from_x0
from iddpm.diffusion.schedule import Level as Level
from iddpm.diffusion.schedule import NoiseSchedule as NoiseSchedule
from iddpm.diffusion.schedule import cosine as cosine
from iddpm.diffusion.schedule import linear as linear
from iddpm.diffusion.schedule import log_snr as log_snr
from iddpm.diffusion.schedule import log_snr_of_levels as log_snr_of_levels
from iddpm.diffusion.schedule import zero_terminal_snr as zero_terminal_snr
from iddpm.diffusion.time_input import show_log_snr as show_log_snr
from iddpm.diffusion.variational_bound import BitsPerDim as BitsPerDim
from iddpm.diffusion.variational_bound import bits_per_dim as bits_per_dim
