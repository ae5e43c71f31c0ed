"""Settings of sampling: a run's defaults, and what one call asks for."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from iddpm.config.choices import MEASURED_SPACINGS, SAMPLERS, SPACINGS, OneOf
from iddpm.config.section import Section, Whole

Level = Annotated[float, Field(ge=0, le=1e30)]


class SamplingConfig(Section):
    """How samples are drawn: a run's defaults, also for its previews."""

    sampler: Annotated[str, OneOf(SAMPLERS, "auto")] = "auto"
    """``auto`` uses what ``iddpm tune`` chose for the run, and otherwise chooses by the number of
    steps (docs/sampling.md)."""
    spacing: str = "auto"
    """Spacing of the timesteps: auto, even, log_snr, karras, ddim, the published notation such as
    10,15,20 or ddim50, fitted to the run's own trajectories (docs/sampling.md), or optimal, which
    has the best likelihood (docs/likelihood.md)."""
    steps: Annotated[Whole, Field(gt=0, le=1_000_000)] = 50
    """Network evaluations per sample."""
    sigma_max: Annotated[float, Field(gt=0, le=1e30)] | None = None
    """Noise level at which log_snr and karras start; by default 80, and 30 for dpmpp_2m_sde."""
    rho: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Exponent of karras, larger for more steps near the data; by default 7, and 3 for
    dpmpp_2m_sde."""
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Fresh noise of DDIM: 0 is deterministic."""
    variance: Literal["trained", "analytic"] = "trained"
    """Variance of the steps of ddpm and ddim: the model's own, or the optimal one
    (docs/likelihood.md)."""
    guidance: Annotated[float, Field(ge=-1e6, le=1e6)] = 1.0
    """Scale of classifier-free guidance: 0 ignores the class, 1 is the model as trained."""
    guidance_interval: tuple[Level, Level] | None = None
    """Guide only at noise levels sigma = sqrt((1 - alpha_bar) / alpha_bar) between these two."""
    guidance_rescale: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How far guidance is brought back to the spread of the unguided estimate, 0 to 1, such as 0.7
    (Lin et al. 2024)."""
    clip: bool = True
    """Clip the estimate of the data to [-1, 1]."""
    levels: Literal["mode", "draw", "mean"] | None = None
    """Result of the last step for models with probabilities of levels
    (diffusion.predicts=categorical): the most probable level (mode, the default), a drawn one
    (draw), or their mean."""
    threshold: Annotated[float, Field(gt=0, le=1)] | None = None
    """Dynamic thresholding at this quantile of the values instead of clipping, such as 0.995."""
    low_res_noise: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """Standard deviation of noise that is added to the low-resolution input, up to
    ``degradation.augment``; the network receives it too. Use it for inputs with artifacts that
    those of the training lack."""
    batch_size: Annotated[Whole, Field(gt=0, le=10**7)] = 64
    """Samples that are drawn together; it does not change them."""
    precision: Literal["auto", "float32", "bf16", "fp16"] = "float32"
    """Precision of the network; ``auto`` measures once whether bf16 is faster for it. Previews use
    the precision of the training."""

    @property
    def needs_table(self) -> bool:
        """Whether the table of steps is needed, which ``iddpm likelihood`` makes."""
        return self.spacing == "optimal" or self.variance == "analytic"

    @property
    def needs_trained(self) -> bool:
        """Whether something is measured on the trained model first."""
        return self.needs_table or self.spacing in MEASURED_SPACINGS

    @field_validator("spacing")
    @classmethod
    def _known_spacing(cls, value: str) -> str:
        names = ("auto", *SPACINGS, *MEASURED_SPACINGS)
        if value in names or re.fullmatch(r"ddim[0-9]+|[0-9]+(,[0-9]+)*", value):
            return value
        raise ValueError(
            f"spacing {value!r} is unknown: use {', '.join(names)}, or counts such as 10,15,20 "
            "or ddim50"
        )

    @field_validator("guidance_interval")
    @classmethod
    def _rising(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] >= value[1]:
            raise ValueError(
                f"guidance_interval={value[0]:g}, {value[1]:g} is empty: give the lower noise "
                "level first"
            )
        return value
