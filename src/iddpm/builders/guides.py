"""Guidance and clipping of a model for sampling."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from iddpm.builders.low_resolution import check_low_res_noise, input_of
from iddpm.builders.network import residual_scale
from iddpm.config import ResolvedConfig, SamplingConfig
from iddpm.diffusion import Denoise, Denoiser, Level, NoiseSchedule, Prediction
from iddpm.sampling import (
    EVERYWHERE,
    Gradient,
    autoguided,
    classifier_free,
    classifier_gradient,
    classifier_guided,
    clip_x0,
    shown_by,
    threshold_x0,
)

CLASSIFIER_FORMS = ("score", "clip_then_score", "mean")
"""The forms of classifier guidance: in the score, for every sampler; in the score as in the
published code, which clips the estimate of the data before guidance and not after; in the mean of
ddpm."""


@dataclass(frozen=True, eq=False)
class Guides:
    """Other models that guide this one; none by default.

    Attributes:
        weaker: a weaker version of the model, for autoguidance.
        autoguidance_scale: 1 is the model alone.
        gradient: the gradient of a classifier.
        classifier_scale: its scale.
        classifier_form: one of :data:`CLASSIFIER_FORMS`.
    """

    weaker: Denoise | None = None
    autoguidance_scale: float = 1.0
    gradient: Gradient | None = None
    classifier_scale: float = 1.0
    classifier_form: str = "score"

    def __post_init__(self) -> None:
        """Raise ValueError for an unknown form."""
        if self.classifier_form not in CLASSIFIER_FORMS:
            raise ValueError(
                f"classifier_form={self.classifier_form} is unknown: use score, clip_then_score, "
                "or mean with ddpm"
            )


NO_GUIDES = Guides()


def guide(
    config: ResolvedConfig, denoiser: Denoiser, sampling: SamplingConfig, guides: Guides = NO_GUIDES
) -> Denoise:
    """Return the model with the guidance and clipping of some settings.

    Raises:
        ValueError: guidance for a model that was not trained for it.
    """
    guided = guide_alone(config, denoiser, sampling, guides)
    clipped = guides.gradient is not None and guides.classifier_form == "clip_then_score"
    return guided if clipped else bounded(guided, sampling)


def guide_alone(
    config: ResolvedConfig, denoiser: Denoiser, sampling: SamplingConfig, guides: Guides = NO_GUIDES
) -> Denoise:
    """Return the model with guidance around it, and with clipping where that comes first.

    Raises:
        ValueError: guidance for a model that was not trained for it.
    """
    check_guidance(config, sampling.guidance)
    check_low_res_noise(config, sampling.low_res_noise)
    interval = sampling.guidance_interval or EVERYWHERE
    denoise: Denoise = denoiser
    if guides.weaker is not None:
        denoise = autoguided(
            denoise, guides.weaker, guides.autoguidance_scale, sigma_interval=interval
        )
    if sampling.guidance != 1:
        denoise = classifier_free(
            denoise,
            sampling.guidance,
            sigma_interval=interval,
            rescale=sampling.guidance_rescale,
        )
    if guides.gradient is None:
        return denoise
    clip_first = guides.classifier_form == "clip_then_score"
    return classifier_guided(
        bounded(denoise, sampling) if clip_first else denoise,
        guides.gradient,
        guides.classifier_scale,
        form="score" if clip_first else guides.classifier_form,
        conditional=config.model.class_conditional,
        sigma_interval=interval,
    )


def bounded(denoise: Denoise, sampling: SamplingConfig) -> Denoise:
    """Return the model with its estimate of the data clipped or thresholded, if set."""
    if sampling.threshold is not None:
        return threshold_x0(denoise, sampling.threshold)
    return clip_x0(denoise) if sampling.clip else denoise


def check_guidance(config: ResolvedConfig, guidance: float) -> None:
    """Raise ValueError unless the model is, or will be, trained for this guidance scale."""
    if guidance == 1:
        return
    if not config.model.conditioned:
        raise ValueError(
            f"guidance={guidance:g} needs a model with a class or conditions, and this one "
            "has model.class_conditional=false and no data.conditions"
        )
    if not config.training.label_dropout:
        raise ValueError(
            f"guidance={guidance:g} needs a model trained with training.label_dropout above 0, "
            "and this one has 0"
        )


def build_gradient(
    config: ResolvedConfig,
    denoiser: Denoiser,
    classifier: Callable[[Tensor, Tensor], Tensor],
    trained: ResolvedConfig,
    schedule: NoiseSchedule,
) -> Gradient:
    """Return the gradient of a classifier for the noise levels of a model.

    Args:
        config, denoiser: the model and its settings.
        classifier: called with x_t and the time input; returns logits.
        trained: the classifier's settings.
        schedule: its noise schedule; if it is not the model's, the classifier receives the time
            of the same log-SNR.

    Raises:
        ValueError: a classifier of other data or other classes.
    """
    _check_data(config, trained, "classifier")
    if config.diffusion.residual:
        raise ValueError(
            "a classifier is trained on noisy data, and this model predicts the residual to an "
            "interpolation: train it with diffusion.residual=false, or use its own classes "
            "(guidance)"
        )
    if config.model.class_conditional and config.class_names != trained.class_names:
        raise ValueError(
            f"the classifier has {_names(trained)} and the model has {_names(config)}: train "
            "one of them on the data of the other"
        )
    gradient = classifier_gradient(classifier)
    if _same(denoiser.diffusion.schedule, schedule):
        return gradient
    return lambda x_t, level, y: gradient(x_t, shown_by(schedule, level), y)


def build_weaker(
    config: ResolvedConfig, denoiser: Denoiser, other: ResolvedConfig, weaker: Denoiser
) -> Denoise:
    """Return another model at the noise levels of this one, for guidance.

    Raises:
        ValueError: a model of other data or other classes.
    """
    _check_data(config, other, "autoguidance model")
    if config.model.class_conditional != other.model.class_conditional or (
        config.model.class_conditional and config.class_names != other.class_names
    ):
        raise ValueError(
            f"the autoguidance model has {_names(other)} and the model {_names(config)}: use "
            "an earlier checkpoint, or a smaller model trained on the same classes"
        )
    mine, theirs = input_of(config), input_of(other)
    if mine != theirs:
        raise ValueError(
            f"the autoguidance model is conditioned on {theirs} and the model on {mine}: use an "
            "earlier checkpoint, or a model with the same conditioning"
        )
    if residual_scale(config) != residual_scale(other):
        raise ValueError(
            "the two models have different residual scales, or only one predicts residuals "
            "(diffusion.residual): for autoguidance use an earlier checkpoint, or a model "
            "trained on the same data with the same settings"
        )
    schedule = weaker.diffusion.schedule
    if _same(denoiser.diffusion.schedule, schedule):
        return weaker

    def mapped(x_t: Tensor, level: Level, /, **conditioning: Any) -> Prediction:
        return weaker(x_t, shown_by(schedule, level), **conditioning)  # type: ignore[no-any-return]

    return mapped


def _check_data(config: ResolvedConfig, other: ResolvedConfig, what: str) -> None:
    mine, theirs = (c.model.shape for c in (config, other))
    if mine != theirs:
        raise ValueError(
            f"the {what} was trained on items of shape {theirs} and the model on {mine}: use one "
            "trained on the same data"
        )


def _names(config: ResolvedConfig) -> str:
    if not config.uses_labels:
        return "no classes"
    names = config.class_names
    return f"{len(names)} classes ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''})"


def _same(a: NoiseSchedule, b: NoiseSchedule) -> bool:
    return torch.equal(a.alpha_bar, b.alpha_bar) and torch.equal(a.shown, b.shown)
