"""What is put around a model when it is sampled."""

from iddpm.config import Config, SamplingConfig
from iddpm.diffusion import Denoise, Denoiser
from iddpm.sampling import classifier_free, clip_x0


def guide(config: Config, denoiser: Denoiser, sampling: SamplingConfig) -> Denoise:
    """Return the model with guidance and clipping around it, as the settings want it.

    Raises:
        ValueError: guidance for a model that was not trained for it.
    """
    check_guidance(config, sampling.guidance)
    denoise: Denoise = denoiser
    if sampling.guidance != 1:
        denoise = classifier_free(denoise, sampling.guidance)
    return clip_x0(denoise) if sampling.clip else denoise


def check_guidance(config: Config, guidance: float) -> None:
    """Raise ValueError unless the model is, or will be, trained for this guidance scale."""
    if guidance == 1:
        return
    if not config.model.class_conditional:
        raise ValueError(
            f"guidance={guidance:g} needs a class-conditional model, and this one has "
            "model.class_conditional=false"
        )
    if not config.training.label_dropout:
        raise ValueError(
            f"guidance={guidance:g} needs labels to be dropped in training, and this model has "
            "training.label_dropout=0"
        )
