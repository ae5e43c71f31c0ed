"""Train, sample and measure diffusion models from scratch on your own images, signals, volumes.

The public names below are imported when first used, so that ``import iddpm`` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iddpm.data.writers.image_files import save_gif, save_grid, save_images, save_npz
    from iddpm.diffusion import (
        Denoiser,
        GaussianDiffusion,
        NoiseSchedule,
        Prediction,
        bits_per_dim,
        cosine,
        linear,
        losses,
        zero_terminal_snr,
    )
    from iddpm.networks import EncoderUNet, SuperResUNet, UNet
    from iddpm.runs.run import Run, load
    from iddpm.sampling import (
        DDIM,
        DDPM,
        autoguided,
        classifier_free,
        classifier_gradient,
        classifier_guided,
        clip_x0,
        inpaint,
        invert,
        redraw,
        sample,
        slerp,
        space_timesteps,
        threshold_x0,
        tiled,
        trajectory,
    )
    from iddpm.tasks.likelihood import likelihood
    from iddpm.tasks.train import train
    from iddpm.training.ema import EMA

__version__ = "0.1.0"

_HOME = {
    "DDIM": "iddpm.sampling",
    "DDPM": "iddpm.sampling",
    "Denoiser": "iddpm.diffusion",
    "EMA": "iddpm.training.ema",
    "EncoderUNet": "iddpm.networks",
    "GaussianDiffusion": "iddpm.diffusion",
    "NoiseSchedule": "iddpm.diffusion",
    "Prediction": "iddpm.diffusion",
    "Run": "iddpm.runs.run",
    "SuperResUNet": "iddpm.networks",
    "UNet": "iddpm.networks",
    "autoguided": "iddpm.sampling",
    "bits_per_dim": "iddpm.diffusion",
    "classifier_free": "iddpm.sampling",
    "classifier_gradient": "iddpm.sampling",
    "classifier_guided": "iddpm.sampling",
    "clip_x0": "iddpm.sampling",
    "cosine": "iddpm.diffusion",
    "inpaint": "iddpm.sampling",
    "invert": "iddpm.sampling",
    "likelihood": "iddpm.tasks.likelihood",
    "linear": "iddpm.diffusion",
    "load": "iddpm.runs.run",
    "losses": "iddpm.diffusion",
    "redraw": "iddpm.sampling",
    "sample": "iddpm.sampling",
    "save_gif": "iddpm.data.writers.image_files",
    "save_grid": "iddpm.data.writers.image_files",
    "save_images": "iddpm.data.writers.image_files",
    "save_npz": "iddpm.data.writers.image_files",
    "slerp": "iddpm.sampling",
    "space_timesteps": "iddpm.sampling",
    "threshold_x0": "iddpm.sampling",
    "tiled": "iddpm.sampling",
    "train": "iddpm.tasks.train",
    "trajectory": "iddpm.sampling",
    "zero_terminal_snr": "iddpm.diffusion",
}

__all__ = [
    "DDIM",
    "DDPM",
    "EMA",
    "Denoiser",
    "EncoderUNet",
    "GaussianDiffusion",
    "NoiseSchedule",
    "Prediction",
    "Run",
    "SuperResUNet",
    "UNet",
    "autoguided",
    "bits_per_dim",
    "classifier_free",
    "classifier_gradient",
    "classifier_guided",
    "clip_x0",
    "cosine",
    "inpaint",
    "invert",
    "likelihood",
    "linear",
    "load",
    "losses",
    "redraw",
    "sample",
    "save_gif",
    "save_grid",
    "save_images",
    "save_npz",
    "slerp",
    "space_timesteps",
    "threshold_x0",
    "tiled",
    "train",
    "trajectory",
    "zero_terminal_snr",
]


def __getattr__(name: str) -> Any:
    if name == "losses":
        return import_module("iddpm.diffusion.losses")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'iddpm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
