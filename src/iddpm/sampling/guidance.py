"""Functions from one denoiser to another."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from iddpm.diffusion import Denoise, Level, Prediction

NO_CLASS = -1
"""The label of no class; the networks give it a zero embedding."""


def clip_x0(denoise: Denoise, low: float = -1.0, high: float = 1.0) -> Denoise:
    """Keep the estimate of x0 within [low, high]; the noise estimate follows."""

    def clipped(x_t: Tensor, level: Level, /, **conditioning: Any) -> Prediction:
        prediction = denoise(x_t, level, **conditioning)
        return prediction.with_x0(prediction.x0.clamp(low, high), x_t, level)

    return clipped


def classifier_free(
    denoise: Denoise, scale: float, *, sigma_interval: tuple[float, float] = (0.0, math.inf)
) -> Denoise:
    """Push estimates away from those without a class (Ho & Salimans 2022, equation 6).

    The network must have been trained with labels dropped at random. Guide first and clip the
    result: ``clip_x0(classifier_free(denoiser, 2.0))``.

    Args:
        denoise: a class-conditional model, called with labels ``y`` [N].
        scale: 0 ignores the class, 1 is the model as trained, more exaggerates the class.
        sigma_interval: noise levels sqrt((1 - alpha_bar) / alpha_bar) at which to guide; outside
            the class is used as trained (Kynkäänniemi et al. 2024).
    """

    def guided(x_t: Tensor, level: Level, /, **conditioning: Any) -> Prediction:
        y: Tensor = conditioning.pop("y")
        sigma = ((1 - level.alpha_bar) / level.alpha_bar).sqrt()
        low, high = sigma_interval
        if scale == 1 or not bool(((sigma >= low) & (sigma <= high)).all()):
            return denoise(x_t, level, y=y, **conditioning)
        nothing = torch.full_like(y, NO_CLASS)
        if scale == 0:
            return denoise(x_t, level, y=nothing, **conditioning)
        both = denoise(
            torch.cat([x_t, x_t]),
            Level(*(torch.cat([values, values]) for values in level)),
            y=torch.cat([y, nothing]),
            **{name: torch.cat([value, value]) for name, value in conditioning.items()},
        )

        def mix(values: Tensor) -> Tensor:
            with_class, without = values.chunk(2)
            return torch.lerp(without, with_class, scale)

        return replace(
            both,
            x0=mix(both.x0),
            eps=mix(both.eps),
            mean=None if both.mean is None else mix(both.mean),
            variance=None if both.variance is None else both.variance.chunk(2)[0],
        )

    return guided
