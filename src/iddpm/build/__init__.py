"""From settings to objects: the only room that knows every other."""

from iddpm.build.facts import DEFAULT_BATCH, default_run_directory, open_data, resolve
from iddpm.build.guidance import check_guidance, guide
from iddpm.build.model import build_denoiser, build_diffusion, build_network, place
from iddpm.build.sampling import build_sampler, build_sampling_schedule, count_steps
from iddpm.build.training import (
    build_augmentations,
    build_loop_settings,
    build_loss,
    build_optimizer,
    build_timesteps,
)

__all__ = [
    "DEFAULT_BATCH",
    "build_augmentations",
    "build_denoiser",
    "build_diffusion",
    "build_loop_settings",
    "build_loss",
    "build_network",
    "build_optimizer",
    "build_sampler",
    "build_sampling_schedule",
    "build_timesteps",
    "check_guidance",
    "count_steps",
    "default_run_directory",
    "guide",
    "open_data",
    "place",
    "resolve",
]
