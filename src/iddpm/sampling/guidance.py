"""Functions from one denoiser to another."""

from typing import Any

from torch import Tensor

from iddpm.diffusion import Denoise, Level, Prediction


def clip_x0(denoise: Denoise, low: float = -1.0, high: float = 1.0) -> Denoise:
    """Keep the estimate of x0 within [low, high]; the noise estimate follows."""

    def clipped(x_t: Tensor, level: Level, /, **conditioning: Any) -> Prediction:
        prediction = denoise(x_t, level, **conditioning)
        return prediction.with_x0(prediction.x0.clamp(low, high), x_t, level)

    return clipped
