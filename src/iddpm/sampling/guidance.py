"""Functions from one denoiser to another.

Guide first and clip the result: ``clip_x0(classifier_free(denoiser, 2.0))``. If a network
predicts the mean of x_{t-1}, guidance shifts this mean as it shifts x0.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from iddpm.diffusion import Denoise, Level, NoiseSchedule, Prediction
from iddpm.diffusion.prediction import posterior_coefficients
from iddpm.diffusion.schedule import broadcast
from iddpm.sampling.hidden_conditioning import NO_CLASS, hidden_conditioning, without_index_errors

Interval = tuple[float, float]
"""Noise levels sqrt((1 - alpha_bar) / alpha_bar) within which to guide, both ends included."""
EVERYWHERE: Interval = (0.0, math.inf)

Gradient = Callable[[Tensor, Level, Tensor], Tensor]
"""The gradient of log p(y | x_t) with respect to x_t, as a function of x_t, its level and y."""


def classifier_free(
    denoise: Denoise,
    scale: float | Tensor,
    *,
    null: Mapping[str, Any] | None = None,
    sigma_interval: Interval = EVERYWHERE,
    rescale: float = 0.0,
) -> Denoise:
    r"""Push estimates away from the unconditional ones (Ho & Salimans 2022, equation 6).

    .. math::

        \hat\epsilon = \epsilon_\theta(x_t)
            + s \left(\epsilon_\theta(x_t, y) - \epsilon_\theta(x_t)\right)

    The network must have been trained with its conditioning hidden at random.

    Args:
        denoise: a model.
        scale: 0 ignores the conditioning, 1 is the model as trained, more exaggerates it; a number,
            or one for each item, [N].
        null: for each keyword of the conditioning, the value that means hidden: a number, or a
            tensor of one row; None leaves that keyword as it is. ``y`` is -1 and
            ``conditions`` are NaN by default; ``low_res``, ``low_res_noise``, ``given`` and
            ``estimate`` stay. Other keywords must be named.
        sigma_interval: where to guide; items outside are estimated as trained (Kynkäänniemi et
            al. 2024).
        rescale: 0 to 1, how far each item's guided v is brought back to the standard deviation of
            the v without guidance (Lin et al. 2024, section 3.4; they use 0.7). Strong guidance
            then saturates less. v is that of the estimates, whatever the network predicts.

    Raises:
        ValueError: a scale or ``rescale`` out of range; when called, conditioning that cannot be
            guided, or none to guide.

    >>> from iddpm import Prediction, cosine
    >>> level = cosine(1000).at(torch.tensor([500]))
    >>> model = lambda x, level, y: Prediction(0.1 * y[:, None].float(), x)  # -0.1 without a class
    >>> classifier_free(model, 3.0)(torch.randn(1, 1), level, y=torch.tensor([2])).x0
    tensor([[0.8000]])
    """

    number = None if isinstance(scale, Tensor) else scale
    if number is not None:
        _check_finite("the scale of classifier-free guidance", number)
    if not 0 <= rescale <= 1:
        raise ValueError(f"rescale={rescale:g} must lie in 0 (no rescaling) to 1")

    def guided(x_t: Tensor, level: Level, /, **conditioning: Any) -> Prediction:
        inside = _inside(level, sigma_interval)
        if number == 1 or not inside.any():
            return denoise(x_t, level, **conditioning)
        nothing = hidden_conditioning(conditioning, null or {}, number, len(x_t))
        if number == 0 and inside.all():
            return without_index_errors(denoise, x_t, level, nothing, conditioning)
        both = without_index_errors(
            denoise,
            torch.cat([x_t, x_t]),
            Level(*(torch.cat([values, values]) for values in level)),
            {
                name: None if value is None else torch.cat([value, nothing[name]])
                for name, value in conditioning.items()
            },
            conditioning,
        )

        weight: Any = number
        if number is None or not inside.all():
            by_item = torch.where(inside.to(x_t.device), torch.as_tensor(scale).to(x_t), 1.0)
            weight = broadcast(by_item, x_t)

        def mix(values: Tensor) -> Tensor:
            with_class, without = values.chunk(2)
            return torch.lerp(without, with_class, weight)

        mixed = replace(
            both,
            x0=mix(both.x0),
            eps=mix(both.eps),
            mean=None if both.mean is None else mix(both.mean),
            variance=None if both.variance is None else both.variance.chunk(2)[0],
            levels=None if both.levels is None else both.levels.mixed(weight),
            residual=both.residual and both.residual.at(slice(len(x_t))),
        )
        if not rescale:
            return mixed
        as_trained = _v(both.x0.chunk(2)[0], both.eps.chunk(2)[0], level)
        return _rescaled(mixed, as_trained, level, rescale)

    return guided


def _v(x0: Tensor, eps: Tensor, level: Level) -> Tensor:
    """Return sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0."""
    signal, noise = level.alpha_bar.sqrt(), (1 - level.alpha_bar).sqrt()
    return broadcast(signal, x0) * eps - broadcast(noise, x0) * x0


def _rescaled(prediction: Prediction, as_trained: Tensor, level: Level, share: float) -> Prediction:
    """Return a guided prediction whose v has the standard deviation of the one ``as_trained``."""
    v = _v(prediction.x0, prediction.eps, level)
    spread, wanted = (x.flatten(1).std(dim=1, correction=0) for x in (v, as_trained))
    ratio = torch.where(spread > 0, wanted / spread, 1.0)
    change = broadcast(share * (ratio - 1), v) * v
    signal, noise = level.alpha_bar.sqrt(), (1 - level.alpha_bar).sqrt()
    moved = _moved(
        prediction,
        level,
        x0=-broadcast(noise, v) * change,
        eps=broadcast(signal, v) * change,
    )
    return replace(moved, levels=prediction.levels)


def autoguided(
    denoise: Denoise, weaker: Denoise, scale: float, *, sigma_interval: Interval = EVERYWHERE
) -> Denoise:
    """Push estimates away from those of a weaker version of the model (Karras et al. 2024).

    Their equation 3, x0 = weaker + scale (stronger - weaker): 1 is the model alone. The weaker
    one should be wrong in the same way, only more so: an earlier checkpoint or a smaller network.
    The rest of the prediction, such as the variance, is the stronger model's.

    Args:
        denoise: the model.
        weaker: a model of the same data, called with the same conditioning.
        scale: 1 or more; 2 is usual.
        sigma_interval: where to guide; outside the model is used alone.

    Raises:
        ValueError: a scale below 1, or one that is not finite.

    >>> from iddpm import Prediction, cosine
    >>> good = lambda x, level: Prediction(torch.full_like(x, 0.5), x)
    >>> poor = lambda x, level: Prediction(torch.full_like(x, 0.25), x)
    >>> autoguided(good, poor, 2.0)(torch.randn(1, 2), cosine(1000).at(torch.tensor([500]))).x0
    tensor([[0.7500, 0.7500]])
    """
    _check_finite("the scale of autoguidance", scale)
    if scale < 1:
        raise ValueError(
            f"the scale of autoguidance is {scale:g}, and below 1 it samples the weaker model: "
            "use 1 or more, such as 2"
        )

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
    r"""Follow the gradient of a noise-aware classifier (Dhariwal & Nichol 2021).

    .. math::

        \hat\epsilon = \epsilon_\theta(x_t)
            - s \sqrt{1 - \bar\alpha_t}\, \nabla_{x_t} \log p(y | x_t)

    Args:
        denoise: the model.
        gradient: of log p(y | x_t), such as :func:`classifier_gradient`.
        scale: 1 samples p(x) p(y | x), for a perfect classifier; more exaggerates the class.
        form: ``"score"`` adds the gradient to the score, for every sampler: eps - sqrt(1 -
            alpha_bar) scale gradient (their algorithm 2). ``"mean"`` hands it to DDPM, which adds
            it to its mean times the variance of its step (algorithm 1); other samplers ignore it.
            The published code clips before it guides: ``classifier_guided(clip_x0(denoise), ...)``.
        conditional: the model too is called with the labels ``y``.
        sigma_interval: where to guide; outside the model is used alone.

    Raises:
        ValueError: a scale that is not finite, or an unknown form.

    >>> from iddpm import Prediction, cosine
    >>> zero = lambda x, level: Prediction(torch.zeros_like(x), x)
    >>> guided = classifier_guided(zero, lambda x, l, y: torch.ones_like(x), 1.0, conditional=False)
    >>> level = cosine(1000).at(torch.tensor([500]))
    >>> bool(guided(torch.zeros(1, 1), level, y=torch.tensor([0])).x0 > 0)  # along the gradient
    True
    """
    _check_finite("the scale of a classifier", scale)
    if form not in ("score", "mean"):
        raise ValueError(f"form={form!r} is unknown: use score, or mean with ddpm")

    def guided(x_t: Tensor, level: Level, /, **conditioning: Any) -> Prediction:
        y: Tensor = conditioning["y"] if conditional else conditioning.pop("y")
        prediction = denoise(x_t, level, **conditioning)
        if not _within(level, sigma_interval):
            return prediction
        # In pure noise x_t does not depend on the class.
        slope = scale * gradient(x_t, level, y) * broadcast((level.alpha_bar > 0).double(), x_t)
        if form == "mean":
            return replace(prediction, slope=slope, levels=None)
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

    It returns logits [N, K]. Items without a class (-1) are not guided. Gradients are enabled here,
    also under ``torch.no_grad``.

    >>> from iddpm import cosine
    >>> classifier = lambda x, shown: torch.cat([x, -x], dim=1)  # logits of 2 classes
    >>> level = cosine(1000).at(torch.tensor([500, 500]))
    >>> classifier_gradient(classifier)(torch.zeros(2, 1), level, torch.tensor([0, -1])).flatten()
    tensor([1., 0.])
    """

    def gradient(x_t: Tensor, level: Level, y: Tensor) -> Tensor:
        shown = level.shown.to(device=x_t.device, dtype=torch.float32)
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            logits = classifier(x, shown)
            chosen = logits.to(x_t.dtype).log_softmax(dim=1).gather(1, y.clamp(min=0)[:, None])
            known = chosen * (y != NO_CLASS)[:, None]
            return torch.autograd.grad(known.sum(), x)[0]

    return gradient


def shown_by(schedule: NoiseSchedule, level: Level) -> Level:
    """Return the level with the time input of another model, trained on ``schedule``.

    It is interpolated in log-SNR between the steps of the schedule and clamped to its ends.
    """
    noise = -schedule.half_log_snr
    wanted = -0.5 * torch.log(level.alpha_bar / (1 - level.alpha_bar))
    above = torch.searchsorted(noise, wanted).clamp(min(1, len(schedule) - 1), len(schedule) - 1)
    below = (above - 1).clamp(min=0)
    share = ((wanted - noise[below]) / (noise[above] - noise[below])).nan_to_num(1).clamp(0, 1)
    shown = torch.lerp(schedule.shown[below], schedule.shown[above], share)
    return level._replace(shown=shown)


def _check_finite(what: str, value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{what} is {value}: use a finite number")


def _within(level: Level, interval: Interval) -> bool:
    return bool(_inside(level, interval).all())


def _inside(level: Level, interval: Interval) -> Tensor:
    """Return which items [N] have a noise level within the interval."""
    low, high = interval
    sigma = ((1 - level.alpha_bar) / level.alpha_bar).sqrt()
    return (sigma >= low) & (sigma <= high)


def _moved(prediction: Prediction, level: Level, *, x0: Tensor, eps: Tensor) -> Prediction:
    """Return the prediction with these amounts added to its estimates."""
    mean = prediction.mean
    if mean is not None:
        mean = mean + broadcast(posterior_coefficients(level)[0], x0) * x0
    moved = prediction.x0 + x0, prediction.eps + eps
    return replace(prediction, x0=moved[0], eps=moved[1], mean=mean, levels=None)
