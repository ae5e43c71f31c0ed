"""Bounds on a model's estimate of the data, as functions from one denoiser to another."""

import math
from typing import Any

from torch import Tensor

from iddpm.diffusion import Denoise, Level, Prediction


def clip_x0(denoise: Denoise, low: float = -1.0, high: float = 1.0) -> Denoise:
    """Keep the estimate of x0 within [low, high]; the noise estimate follows.

    For a model of the residual, the data is clipped.

    >>> import torch
    >>> from iddpm import Prediction, cosine
    >>> two = lambda x, level: Prediction(torch.full_like(x, 2.0), x)  # out of range
    >>> clip_x0(two)(torch.randn(1, 2), cosine(1000).at(torch.tensor([500]))).x0
    tensor([[1., 1.]])
    """

    def clipped(x_t: Tensor, level: Level, /, **conditioning: Any) -> Prediction:
        return denoise(x_t, level, **conditioning).clipped(x_t, level, low, high)

    return clipped


def threshold_x0(denoise: Denoise, share: float) -> Denoise:
    """Clip each item's estimate of x0 at a quantile and rescale it to [-1, 1].

    Dynamic thresholding (Saharia et al. 2022, section 2.3): with s the magnitude that a ``share``
    of the item's values does not exceed (the nearest rank), and 1 at least, x0 is clamped to
    [-s, s] and divided by s. Strong guidance then saturates fewer values than clipping does.

    Raises:
        ValueError: a share outside (0, 1].

    >>> import torch
    >>> from iddpm import Prediction, cosine
    >>> wide = lambda x, level: Prediction(torch.tensor([[0.5, 1.0, -2.0]]), x)
    >>> threshold_x0(wide, 1.0)(torch.randn(1, 3), cosine(1000).at(torch.tensor([500]))).x0
    tensor([[ 0.2500,  0.5000, -1.0000]])
    """
    if not 0 < share <= 1:
        raise ValueError(
            f"the quantile of thresholding is {share}: it must lie in (0, 1], such as 0.995"
        )

    def thresholded(x_t: Tensor, level: Level, /, **conditioning: Any) -> Prediction:
        prediction = denoise(x_t, level, **conditioning)
        residual = prediction.residual
        x0 = prediction.data
        magnitudes = x0.abs().flatten(1)
        rank = math.ceil(share * magnitudes.shape[1])
        s = magnitudes.kthvalue(rank, dim=1).values.clamp(min=1)
        s = s.reshape(-1, *[1] * (x_t.dim() - 1))
        x0 = x0.clamp(-s, s) / s
        return prediction.with_x0(x0 if residual is None else residual.encode(x0), x_t, level)

    return thresholded
