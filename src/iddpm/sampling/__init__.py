"""Samplers, timestep spacing, guidance, editing and tiles."""

from iddpm.sampling.ddim import DDIM, inversion, invert
from iddpm.sampling.ddpm import DDPM
from iddpm.sampling.dpm_solver import DPMSolverPP
from iddpm.sampling.editing import inpaint, keep_known, noised, redraw, slerp
from iddpm.sampling.guidance import (
    EVERYWHERE,
    NO_CLASS,
    Gradient,
    autoguided,
    classifier_free,
    classifier_gradient,
    classifier_guided,
    clip_x0,
    shown_by,
    threshold_x0,
)
from iddpm.sampling.heun import Heun
from iddpm.sampling.ipndm import IPNDM
from iddpm.sampling.multistep_consistency import Consistency
from iddpm.sampling.noise import SampleNoise
from iddpm.sampling.sampler_loop import Sampler, State, Step, sample, trajectory
from iddpm.sampling.spacing import (
    RHO,
    SIGMA_MAX,
    even_timesteps,
    karras_timesteps,
    log_snr_timesteps,
    noisiest_step,
    space_timesteps,
)
from iddpm.sampling.tiles import OVERLAP, tile_starts, tiled
from iddpm.sampling.unipc import UniPC

__all__ = [
    "DDIM",
    "DDPM",
    "EVERYWHERE",
    "IPNDM",
    "NO_CLASS",
    "OVERLAP",
    "RHO",
    "SIGMA_MAX",
    "Consistency",
    "DPMSolverPP",
    "Gradient",
    "Heun",
    "SampleNoise",
    "Sampler",
    "State",
    "Step",
    "UniPC",
    "autoguided",
    "classifier_free",
    "classifier_gradient",
    "classifier_guided",
    "clip_x0",
    "even_timesteps",
    "inpaint",
    "inversion",
    "invert",
    "karras_timesteps",
    "keep_known",
    "log_snr_timesteps",
    "noised",
    "noisiest_step",
    "redraw",
    "sample",
    "shown_by",
    "slerp",
    "space_timesteps",
    "threshold_x0",
    "tile_starts",
    "tiled",
    "trajectory",
]
