"""How to walk from noise to data."""

from iddpm.sampling.ddim import DDIM, invert
from iddpm.sampling.ddpm import DDPM
from iddpm.sampling.guidance import classifier_free, clip_x0
from iddpm.sampling.noise import SampleNoise
from iddpm.sampling.spacing import even_timesteps, space_timesteps
from iddpm.sampling.walk import Sampler, State, Step, sample, trajectory

__all__ = [
    "DDIM",
    "DDPM",
    "SampleNoise",
    "Sampler",
    "State",
    "Step",
    "classifier_free",
    "clip_x0",
    "even_timesteps",
    "invert",
    "sample",
    "space_timesteps",
    "trajectory",
]
