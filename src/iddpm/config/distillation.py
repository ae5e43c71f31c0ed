"""Settings of a run that was distilled from another one."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from iddpm.config.choices import DISTILLATIONS, OneOf, listed
from iddpm.config.sampling import SamplingConfig
from iddpm.config.section import Section, Whole
from iddpm.config.validation_message import one_sentence

Sigma = Annotated[float, Field(gt=0, le=1e30)]
Scale = Annotated[float, Field(ge=-1e6, le=1e6)]
Guidance = float | tuple[float, float]
"""A scale of guidance, or the lowest and the highest of a range."""
LARGEST_DIVISOR = 1e6
"""Beyond it float32 does not resolve the differences either."""
BFLOAT16_DIVISOR = 16
"""Largest divisor whose differences bfloat16 resolves; with 256 they are mostly rounding."""


class DistillationConfig(Section):
    """What a few-step model was distilled from, and how (docs/few_steps.md)."""

    teacher: str = "unknown"
    """The run directory of the teacher; unknown if only the weights were kept."""
    weights: str
    """SHA-256 of the teacher's weights, from which the training starts."""
    method: Annotated[str, OneOf(DISTILLATIONS)] = "consistency_tuning"
    """consistency_tuning learns from the data; the others (docs/few_steps.md) from the teacher,
    which may be guided."""
    guidance: Scale | tuple[Scale, Scale] = 1.0
    """Scale of the teacher's classifier-free guidance, which becomes part of the weights. With two
    scales, the network is conditioned on the scale, between these, and sampling.guidance chooses
    one."""
    divisor: Annotated[float, Field(gt=1, le=1e6)] = 16.0
    """The two noise levels of a pair differ by about a share of 1 / divisor (the q of Geng et al.
    2024)."""
    stages: Annotated[Whole, Field(ge=1, le=100)] = 1
    """In stage s = 1, 2, ... of equally many steps, the divisor is divisor^s; the published long
    form has a divisor of 2 and 8 stages."""
    huber: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """Constant c of the pseudo-Huber distance sqrt(d^2 + c^2) - c, in units of the root of the
    number of values in an item; 0 for the Euclidean distance d."""
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
    def guidance_range(self) -> tuple[float, float] | None:
        """The scales of guidance among which sampling chooses; None if one became the model's."""
        return self.guidance if isinstance(self.guidance, tuple) else None

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of what the network is conditioned on beside the time."""
        guidance = () if self.guidance_range is None else ("guidance",)
        return (*guidance, *DISTILLATIONS[self.method].numbers)

    @property
    def largest_divisor(self) -> float:
        """The divisor of the last stage."""
        return min(self.divisor**self.stages, LARGEST_DIVISOR)

    def divisor_at(self, step: int, steps: int) -> float:
        """Return the divisor in a step of a training of so many."""
        stage = min(step * self.stages // max(steps, 1), self.stages - 1)
        return min(self.divisor ** (stage + 1), LARGEST_DIVISOR)

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
        if self.guidance_range is not None:
            self._check_scale(sampling, *self.guidance_range)
        elif sampling.guidance != 1:
            raise ValueError(
                f"guidance={sampling.guidance:g} was requested, and a distilled model is no "
                "denoiser, which guidance needs: leave it out, or distill "
                f"{self.teacher} with --guidance {sampling.guidance:g}"
            )
        self.sigmas(sampling.steps)

    def _check_scale(self, sampling: SamplingConfig, low: float, high: float) -> None:
        if not low <= sampling.guidance <= high:
            raise ValueError(
                f"guidance={sampling.guidance:g} was requested, and the model was distilled for "
                f"scales from {low:g} to {high:g}: use one of these"
            )
        if sampling.guidance_interval is not None or sampling.guidance_rescale:
            raise ValueError(
                "guidance_interval and guidance_rescale change the guidance of a denoiser, and "
                f"that of a distilled model is part of it: leave them out, or sample {self.teacher}"
            )

    @model_validator(mode="after")
    def _scales_rise(self) -> Self:
        if self.guidance_range is not None and self.guidance_range[0] >= self.guidance_range[1]:
            low, high = self.guidance_range
            raise ValueError(
                f"guidance={low:g}:{high:g} is empty: give the lower scale first, such as 1:4"
            )
        return self

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
        if self.guidance != 1 and not DISTILLATIONS[self.method].teacher:
            raise ValueError(
                f"guidance={scale_text(self.guidance)} needs method=consistency_distillation, "
                f"since method={self.method} learns from the data and not from the teacher"
            )
        return self

    @model_validator(mode="after")
    def _settings_belong_to_the_method(self) -> Self:
        taken = DISTILLATIONS[self.method].settings
        if self.stages > 1 and "divisor" not in taken:
            raise ValueError(
                f"stages={self.stages} increases the divisor, which method={self.method} does not "
                "have: use stages=1"
            )
        if self.huber and "huber" not in taken:
            raise ValueError(
                f"huber={self.huber:g} is not a setting of method={self.method}: leave it out"
            )
        return self


def validate_distillation(values: Mapping[str, Any]) -> DistillationConfig:
    """Check these settings alone; ValueError with one sentence where one is wrong."""
    try:
        return DistillationConfig.model_validate(values)
    except ValidationError as error:
        raise ValueError(one_sentence(error, DistillationConfig)) from None


def scale_text(guidance: Guidance) -> str:
    """Return a scale of guidance, or a range of them, as the command line takes it."""
    ends = guidance if isinstance(guidance, tuple) else (guidance,)
    return ":".join(f"{scale:g}" for scale in ends)


def read_scale(text: str) -> Guidance:
    """Return a scale of guidance such as ``2``, or a range of them such as ``1:4``.

    Raises:
        ValueError: neither of these.
    """
    parts = text.split(":")
    try:
        scales = [float(part) for part in parts]
    except ValueError:
        scales = []
    if len(scales) == 1:
        return scales[0]
    if len(scales) == 2:
        return scales[0], scales[1]
    raise ValueError(f"--guidance {text!r} is no scale: give a number, or a range such as 1:4")
