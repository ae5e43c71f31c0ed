"""Functions from one denoiser to another.

Guide first and clip the result: ``clip_x0(classifier_free(denoiser, 2.0))``. Where a network
predicts the mean of x_{t-1} itself, guidance moves that mean as it moves x0.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from iddpm.diffusion import Denoise, Level, NoiseSchedule, Prediction
from iddpm.diffusion.prediction import posterior_coefficients
from iddpm.diffusion.schedule import broadcast

NO_CLASS = -1
"""The label of no class; the networks give it a zero embedding."""

Interval = tuple[float, float]
"""Noise levels sqrt((1 - alpha_bar) / alpha_bar) within which to guide, both ends included."""
EVERYWHERE: Interval = (0.0, math.inf)

Gradient = Callable[[Tensor, Level, Tensor], Tensor]
"""The gradient of log p(y | x_t) by x_t, as a function of x_t, its level and y."""


def clip_x0(denoise: Denoise, low: float = -1.0, high: float = 1.0) -> Denoise:
    """Keep the estimate of x0 within [low, high]; the noise estimate follows."""

    def clipped(x_t: Tensor, level: Level, /, **conditioning: Any) -> Prediction:
        prediction = denoise(x_t, level, **conditioning)
        return prediction.with_x0(prediction.x0.clamp(low, high), x_t, level)

    return clipped


def threshold_x0(denoise: Denoise, share: float) -> Denoise:
    """Clip each item's estimate of x0 where it does least harm, and scale it back to [-1, 1].

    Dynamic thresholding (Saharia et al. 2022, section 2.3): with s the magnitude that a ``share``
    of the item's values does not exceed (the nearest rank), and 1 at least, x0 is clamped to
    [-s, s] and divided by s. Strong guidance then saturates fewer values than clipping does.

    Raises:
        ValueError: a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"the threshold's share is {share}: it must lie in (0, 1], such as 0.995")

    def thresholded(x_t: Tensor, level: Level, /, **conditioning: Any) -> Prediction:
        prediction = denoise(x_t, level, **conditioning)
        magnitudes = prediction.x0.abs().flatten(1)
        rank = math.ceil(share * magnitudes.shape[1])
        s = magnitudes.kthvalue(rank, dim=1).values.clamp(min=1)
        s = s.reshape(-1, *[1] * (x_t.dim() - 1))
        return prediction.with_x0(prediction.x0.clamp(-s, s) / s, x_t, level)

    return thresholded


def classifier_free(
    denoise: Denoise, scale: float, *, sigma_interval: Interval = EVERYWHERE
) -> Denoise:
    """Push estimates away from those that know nothing (Ho & Salimans 2022, equation 6).

    The network must have been trained with labels dropped at random.

    Args:
        denoise: a model that is called with labels ``y`` [N], ``conditions`` [N, K] or both.
        scale: 0 ignores them, 1 is the model as trained, more exaggerates them.
        sigma_interval: where to guide; outside the model is used as trained (Kynkäänniemi et al.
            2024).
    """

    def guided(x_t: Tensor, level: Level, /, **conditioning: Any) -> Prediction:
        if scale == 1 or not _within(level, sigma_interval):
            return denoise(x_t, level, **conditioning)
        nothing = {name: _hidden(name, value) for name, value in conditioning.items()}
        if scale == 0:
            return denoise(x_t, level, **nothing)
        both = denoise(
            torch.cat([x_t, x_t]),
            Level(*(torch.cat([values, values]) for values in level)),
            **{name: torch.cat([value, nothing[name]]) for name, value in conditioning.items()},
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


def autoguided(
    denoise: Denoise, weaker: Denoise, scale: float, *, sigma_interval: Interval = EVERYWHERE
) -> Denoise:
    """Push estimates away from those of a weaker version of the model (Karras et al. 2024).

    Their equation 3, x0 = weaker + scale (stronger - weaker): 1 is the model alone. The weaker
    one should be wrong in the same way, only more so: an earlier checkpoint or a smaller network.
    What else the prediction holds, such as the variance, is the stronger model's.

    Args:
        denoise: the model.
        weaker: a model of the same data, called with the same conditioning.
        scale: 1 or more; 2 is usual.
        sigma_interval: where to guide; outside the model is used alone.
    """

    def guided(x_t: Tensor, level: Level, /, **conditioning: Any) -> Prediction:
        prediction = denoise(x_t, level, **conditioning)
        if scale == 1 or not _within(level, sigma_interval):
            return prediction
        other = weaker(x_t, level, **conditioning)
        return _moved(
            prediction,
            level,
            x0=(scale - 1) * (prediction.x0 - other.x0),
            eps=(scale - 1) * (prediction.eps - other.eps),
        )

    return guided


def classifier_guided(
    denoise: Denoise,
    gradient: Gradient,
    scale: float,
    *,
    form: str = "score",
    conditional: bool = True,
    sigma_interval: Interval = EVERYWHERE,
) -> Denoise:
    """Follow the gradient of a noise-aware classifier (Dhariwal & Nichol 2021).

    Args:
        denoise: the model.
        gradient: of log p(y | x_t), such as :func:`classifier_gradient`.
        scale: 1 samples p(x) p(y | x), for a perfect classifier; more exaggerates the class.
        form: ``"score"`` adds the gradient to the score, for every sampler: eps - sqrt(1 -
            alpha_bar) scale gradient (their algorithm 2). ``"mean"`` hands it to DDPM, which adds
            it to its mean times the variance of its step (algorithm 1); others do not look at it.
        conditional: the model too is called with the labels ``y``.
        sigma_interval: where to guide; outside the model is used alone.
    """

    def guided(x_t: Tensor, level: Level, /, **conditioning: Any) -> Prediction:
        y: Tensor = conditioning["y"] if conditional else conditioning.pop("y")
        prediction = denoise(x_t, level, **conditioning)
        if not _within(level, sigma_interval):
            return prediction
        # Where nothing is left of the data, x_t says nothing of the class.
        slope = scale * gradient(x_t, level, y) * broadcast((level.alpha_bar > 0).double(), x_t)
        if form == "mean":
            return replace(prediction, slope=slope)
        variance, signal = 1 - level.alpha_bar, level.alpha_bar.sqrt().clamp(min=1e-12)
        return _moved(
            prediction,
            level,
            x0=broadcast(variance / signal, x_t) * slope,
            eps=-broadcast(variance.sqrt(), x_t) * slope,
        )

    return guided


def classifier_gradient(classifier: Callable[[Tensor, Tensor], Tensor]) -> Gradient:
    """Return the gradient of log p(y | x_t) of a classifier called with x_t and the times shown.

    It returns logits [N, K]. Derivatives are taken here even where they are switched off around.
    """

    def gradient(x_t: Tensor, level: Level, y: Tensor) -> Tensor:
        shown = level.shown.to(device=x_t.device, dtype=torch.float32)
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            logits = classifier(x, shown)
            chosen = logits.to(x_t.dtype).log_softmax(dim=1).gather(1, y[:, None])
            return torch.autograd.grad(chosen.sum(), x)[0]

    return gradient


def shown_by(schedule: NoiseSchedule, level: Level) -> Level:
    """Return the level with the time that another model, trained on ``schedule``, knows it by.

    Interpolated in log-SNR between its steps; beyond its ends, the time of the end.
    """
    noise = -schedule.half_log_snr
    wanted = -0.5 * torch.log(level.alpha_bar / (1 - level.alpha_bar))
    above = torch.searchsorted(noise, wanted).clamp(min(1, len(schedule) - 1), len(schedule) - 1)
    below = (above - 1).clamp(min=0)
    share = ((wanted - noise[below]) / (noise[above] - noise[below])).nan_to_num(1).clamp(0, 1)
    shown = torch.lerp(schedule.shown[below], schedule.shown[above], share)
    return level._replace(shown=shown)


def _hidden(name: str, value: Tensor) -> Tensor:
    """Return what a model is told when it shall know nothing; what is no label stays."""
    nothing = {"y": NO_CLASS, "conditions": math.nan}
    return torch.full_like(value, nothing[name]) if name in nothing else value


def _within(level: Level, interval: Interval) -> bool:
    low, high = interval
    sigma = ((1 - level.alpha_bar) / level.alpha_bar).sqrt()
    return bool(((sigma >= low) & (sigma <= high)).all())


def _moved(prediction: Prediction, level: Level, *, x0: Tensor, eps: Tensor) -> Prediction:
    """Return the prediction with so much added to its estimates."""
    mean = prediction.mean
    if mean is not None:
        mean = mean + broadcast(posterior_coefficients(level)[0], x0) * x0
    return replace(prediction, x0=prediction.x0 + x0, eps=prediction.eps + eps, mean=mean)
