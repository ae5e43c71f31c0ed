"""Settings of a run that was distilled from another one."""

from itertools import pairwise
from typing import Annotated, Self

from pydantic import Field, model_validator

from iddpm.config.choices import DISTILLATIONS, OneOf, listed
from iddpm.config.sampling import SamplingConfig
from iddpm.config.section import Section

Sigma = Annotated[float, Field(gt=0, le=1e30)]
BFLOAT16_DIVISOR = 16
"""Largest divisor whose differences bfloat16 resolves; with 256 they are mostly rounding."""


class DistillationConfig(Section):
    """What a few-step model was distilled from, and how (docs/few_steps.md)."""

    teacher: str = "unknown"
    """The run directory of the teacher; unknown if only the weights were kept."""
    weights: str
    """SHA-256 of the teacher's weights, from which the training starts."""
    method: Annotated[str, OneOf(DISTILLATIONS)] = "consistency_tuning"
    """consistency_tuning learns from the data, consistency_distillation from steps of the
    teacher, which may be guided."""
    guidance: Annotated[float, Field(ge=-1e6, le=1e6)] = 1.0
    """Scale of the teacher's classifier-free guidance, which becomes part of the weights."""
    divisor: Annotated[float, Field(gt=1, le=1e6)] = 16.0
    """The two noise levels of a pair differ by about a share of 1 / divisor (the q of Geng et al.
    2024)."""
    log_sigma_mean: Annotated[float, Field(ge=-50, le=50)] = -1.1
    """Mean of the logarithm of the noise level in training."""
    log_sigma_spread: Annotated[float, Field(gt=0, le=50)] = 2.0
    """Its standard deviation."""
    sigma_max: Sigma = 80.0
    """Noise level at which training ends and sampling starts."""
    levels: Annotated[tuple[tuple[Sigma, ...], ...], Field(min_length=1, max_length=100)] = (
        (),
        (0.8,),
        (5.0, 1.1, 0.5),
    )
    """For each number of evaluations that the model offers, the noise levels below sigma_max at
    which a sample is evaluated again; ``sampling.steps`` is one of these numbers."""
    features: str = "pca"
    """Features of the Frechet distance that is measured during training: pca, or the directory of
    a classifier."""

    @property
    def steps(self) -> tuple[int, ...]:
        """The numbers of evaluations that the model offers, increasing."""
        return tuple(len(between) + 1 for between in self.levels)

    @property
    def offered(self) -> str:
        """Those numbers in words."""
        return listed(map(str, self.steps))

    def sigmas(self, steps: int) -> tuple[float, ...]:
        """Return the noise levels of a number of evaluations, decreasing from ``sigma_max``.

        Raises:
            ValueError: the model does not offer that number.
        """
        for between in self.levels:
            if len(between) + 1 == steps:
                return (self.sigma_max, *between)
        raise ValueError(
            f"steps={steps} was requested, and the model was distilled for {self.offered} "
            "evaluations: use one of these"
        )

    def check(self, sampling: SamplingConfig) -> None:
        """Raise ValueError unless samples of a distilled model can be drawn with these settings."""
        plain = SamplingConfig()
        for name in ("sampler", "spacing", "sigma_max", "rho", "eta", "variance"):
            value = getattr(sampling, name)
            if value != getattr(plain, name):
                raise ValueError(
                    f"{name}={value} was requested, and a distilled model has its own sampler "
                    f"and noise levels: leave {name} out, or sample its teacher, {self.teacher}"
                )
        if sampling.guidance != 1:
            raise ValueError(
                f"guidance={sampling.guidance:g} was requested, and a distilled model is no "
                "denoiser, which guidance needs: leave it out, or distill "
                f"{self.teacher} with --guidance {sampling.guidance:g}"
            )
        self.sigmas(sampling.steps)

    @model_validator(mode="after")
    def _levels_fall(self) -> Self:
        if list(self.steps) != sorted(set(self.steps)):
            raise ValueError(
                "levels must have one more noise level from entry to entry, or several, such as "
                "[[], [0.8], [5, 1.1, 0.5]] for 1, 2 and 4 evaluations"
            )
        for between in self.levels:
            path = (self.sigma_max, *between)
            if any(after >= before for before, after in pairwise(path)):
                raise ValueError(
                    f"levels has {list(between)}, and noise levels must fall from below "
                    f"sigma_max={self.sigma_max:g}, such as [5, 1.1, 0.5]"
                )
        return self

    @model_validator(mode="after")
    def _only_a_teacher_is_guided(self) -> Self:
        if self.guidance != 1 and self.method == "consistency_tuning":
            raise ValueError(
                f"guidance={self.guidance:g} needs method=consistency_distillation, since "
                "method=consistency_tuning learns from the data and not from the teacher"
            )
        return self
