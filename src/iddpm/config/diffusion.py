"""The process's settings: schedule, what the network predicts, variance and loss."""

from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from iddpm.config.choices import (
    BLIND_AT_PURE_NOISE,
    LEVELS,
    PREDICTIONS,
    SCHEDULES,
    TIMESTEP_SAMPLERS,
    OneOf,
    WeightedChoice,
)
from iddpm.config.section import Section, Whole

Predicts = Annotated[str, OneOf(PREDICTIONS)]
SPACES = {name: meaning for name, meaning in PREDICTIONS.items() if name not in LEVELS}
LogSNR = Annotated[float, Field(ge=-100, le=30)]
"""In nats; of 30 on, 1 - alpha_bar would lose its digits in float64."""


class WeightingSection(Section):
    """A weighting.

    ``home`` is its function, called with a level, the options of the section, and ``shared``
    settings of the process.
    """

    home: ClassVar[str | None] = None
    shared: ClassVar[tuple[str, ...]] = ()


class ConstantWeighting(WeightingSection):
    """All errors have equal weight in the space of the loss."""

    kind: Literal["constant"] = "constant"


class MinSNRWeighting(WeightingSection):
    """Weight min(SNR, gamma) on the error of x0, for every space of the loss."""

    home: ClassVar[str | None] = "iddpm.diffusion.weighting:min_snr"
    kind: Literal["min_snr"] = "min_snr"
    gamma: Annotated[float, Field(gt=0, le=1e12)] = 5.0
    """The largest weight."""


class SigmoidWeighting(WeightingSection):
    """Weight sigmoid(bias - log SNR) on the error of eps, for every space of the loss."""

    home: ClassVar[str | None] = "iddpm.diffusion.weighting:sigmoid"
    kind: Literal["sigmoid"] = "sigmoid"
    bias: Annotated[float, Field(ge=-1000, le=1000)] = 0.0
    """Higher values emphasize fine detail, lower values the coarse structure."""


class LogNormalWeighting(WeightingSection):
    """EDM's weight and its density of noise levels, for every space of the loss."""

    home: ClassVar[str | None] = "iddpm.diffusion.weighting:log_normal"
    shared: ClassVar[tuple[str, ...]] = ("num_steps", "sigma_data")
    kind: Literal["log_normal"] = "log_normal"
    log_sigma_mean: Annotated[float, Field(ge=-50, le=50)] = -1.2
    """Mean of the logarithm of the noise level; -1.2 as published."""
    log_sigma_spread: Annotated[float, Field(gt=0, le=50)] = 1.2
    """Its standard deviation; 1.2 as published."""


Weighting = Annotated[
    ConstantWeighting | MinSNRWeighting | SigmoidWeighting | LogNormalWeighting,
    Field(discriminator="kind"),
]
"""To offer another, write its function and a class like these, and add the class here."""
WEIGHTINGS: dict[str, tuple[str, ...]] = {
    section.model_fields["kind"].default: tuple(
        name for name in section.model_fields if name != "kind"
    )
    for section in get_args(get_args(Weighting)[0])
}
"""The options of each weighting by its name."""


class _SquaredLoss(Section):
    space: Annotated[str, OneOf(SPACES)] | None = None
    """Space of the squared error; by default what the network predicts, and v for categorical."""
    weighting: Weighting = ConstantWeighting()
    """Weight of each noise level: constant, min_snr, sigmoid or log_normal."""

    @field_validator("weighting", mode="before")
    @classmethod
    def _named_weighting(cls, value: Any) -> Any:
        """Take ``weighting: min_snr`` for ``{kind: min_snr}``, and an option for its kind."""
        if isinstance(value, str):
            return {"kind": value}
        if isinstance(value, dict) and "kind" not in value:
            kinds = {name: kind for kind, options in WEIGHTINGS.items() for name in options}
            kind = next((kinds[name] for name in value if name in kinds), "constant")
            return {"kind": kind, **value}
        return value


class SimpleLoss(_SquaredLoss):
    """Mean squared error; the variance is fixed."""

    kind: Literal["simple"] = "simple"


class HybridLoss(_SquaredLoss):
    """Mean squared error for the mean and the bound for the variance."""

    kind: Literal["hybrid"] = "hybrid"
    vb_weight: Annotated[float, Field(gt=0, le=1e6)] = 0.001
    """Weight of the whole bound."""


class VLBLoss(Section):
    """The variational bound itself: the best likelihood, not the best pictures."""

    kind: Literal["vlb"] = "vlb"


class OwnLoss(Section):
    """A function that was passed to ``iddpm.train``; pass it again to resume."""

    kind: Literal["own"] = "own"
    name: str
    """Name of the function, for information only."""


Loss = Annotated[SimpleLoss | HybridLoss | VLBLoss | OwnLoss, Field(discriminator="kind")]


class DiffusionConfig(Section):
    """Settings of the diffusion process."""

    schedule: Annotated[str, OneOf(SCHEDULES)] = "cosine"
    """How the noise grows with the timestep; cosine is that of Nichol & Dhariwal 2021."""
    num_steps: Annotated[Whole, Field(gt=0, le=1_000_000)] = 1000
    """T, the number of steps of training."""
    log_snr_max: LogSNR | None = None
    """For schedule=log_snr: log-SNR at the least noise, in nats; by default 13.3 for 8 bits and
    continuous data, and for other depths where the noise is the same number of levels (0.165)."""
    log_snr_min: LogSNR | None = None
    """For schedule=log_snr: log-SNR at the most noise, in nats; by default -5."""
    rescale_timesteps: bool = True
    """Use t * 1000 / T as the network's time input, so that its range does not depend on T."""
    time_input: Literal["timestep", "log_snr"] = "timestep"
    """What the network is shown as the time: t, or the log-SNR, on one scale for all schedules."""
    zero_terminal_snr: bool = False
    """Adjust the schedule so that its last step is pure noise; for v, x0 and edm."""
    predicts: Predicts | None = None
    """What the network predicts: by default v; edm is the preconditioning of Karras et al. 2022,
    and categorical a probability for each level of data of at most 8 bits."""
    sigma_data: Annotated[float, Field(gt=0, le=1e6)] = 0.5
    """Standard deviation of the data, for predicts=edm."""
    fourier_features: Annotated[Whole, Field(ge=0, le=16)] = 0
    """Number of Fourier features of the input, with periods of 1, 2, 4, ... levels of the data."""
    residual: bool | None = None
    """For super-resolution: diffuse the difference between the data and the bicubic
    interpolation of its low-resolution input, in units of its standard deviation; by default
    true for new runs."""
    residual_scale: tuple[Annotated[float, Field(gt=0, le=1e6)], ...] | None = None
    """That standard deviation for each channel; measured on training items when a run starts."""
    self_condition: bool = False
    """Pass the previous estimate of the data to the network; it is trained so in half of the
    steps."""
    variance: Literal["learned_range", "learned", "fixed_small", "fixed_large"] = "learned_range"
    """Variance of the reverse steps: that of the posterior (fixed_small), beta (fixed_large),
    between the two as the network says (learned_range; Nichol & Dhariwal 2021, equation 15), or
    any (learned)."""
    decoder: Literal["gaussian", "levels", "categorical"] | None = None
    """Probability of the data at step 0: the last reverse step (gaussian, by default), the
    likelihood of each level on its own (levels), or logits of the network (categorical)."""
    neighborhood: Annotated[Whole, Field(ge=0, le=8)] | None = None
    """For categorical: also estimate each value from the noisy ones up to so many positions away,
    averaged in float32; by default 4 in 1-D, 2 in 2-D and 1 in 3-D, and 0 (not) for own
    networks."""
    loss: Loss = HybridLoss()

    @field_validator("loss", mode="before")
    @classmethod
    def _named_loss(cls, value: Any) -> Any:
        """Take ``loss: simple`` for ``loss: {kind: simple}``, and hybrid for what names none."""
        if isinstance(value, str):
            return {"kind": value}
        return {"kind": "hybrid", **value} if isinstance(value, dict) else value

    @property
    def gives_levels(self) -> bool:
        """Whether the network gives a probability to each level of the data."""
        return self.predicts in LEVELS or self.decoder == "categorical"

    @property
    def has_levels(self) -> bool:
        """Whether predictions come with a probability of each level, learned or not."""
        return self.gives_levels or self.decoder == "levels"

    @property
    def learns_decoder(self) -> bool:
        """Whether there are logits that nothing but step 0 of the bound trains."""
        return self.decoder == "categorical" and self.predicts not in LEVELS

    def check_timesteps(self, sampler: str) -> None:
        """Raise ValueError for a timestep sampler whose levels the loss does not weight."""
        row = TIMESTEP_SAMPLERS[sampler]
        kind = getattr(getattr(self.loss, "weighting", None), "kind", None)
        if isinstance(row, WeightedChoice) and kind != row.weighting:
            raise ValueError(
                f"training.timestep_sampler={sampler} draws the noise levels by "
                f"diffusion.loss.weighting={row.weighting}, which is not set: set both, or use "
                "timestep_sampler=uniform"
            )

    @model_validator(mode="after")
    def _the_decoder_is_trained(self) -> Self:
        if self.predicts in LEVELS and self.decoder not in (None, "categorical"):
            raise ValueError(
                f"predicts={self.predicts} has its own decoder, and decoder={self.decoder} is "
                "set: leave it out"
            )
        if self.learns_decoder and self.loss.kind == "simple":
            raise ValueError(
                "loss=simple does not train decoder=categorical: use loss=hybrid or vlb, or "
                "decoder=gaussian"
            )
        return self

    @model_validator(mode="after")
    def _neighbors_estimate_levels(self) -> Self:
        if self.neighborhood and not self.gives_levels:
            raise ValueError(
                f"neighborhood={self.neighborhood} needs predicts=categorical or "
                "decoder=categorical: set one of them, or leave it out"
            )
        return self

    @property
    def goes_by_levels(self) -> bool:
        """Whether something needs the levels of the data in what is diffused."""
        return self.gives_levels or self.decoder == "levels" or self.fourier_features > 0

    @property
    def sees_pure_noise(self) -> bool:
        """Whether the network can say something of the data in pure noise, and gains from it."""
        return self.predicts not in BLIND_AT_PURE_NOISE and self.loss.kind in ("simple", "hybrid")

    @model_validator(mode="after")
    def _a_residual_has_no_levels(self) -> Self:
        if self.residual and self.goes_by_levels:
            raise ValueError(
                "predicts=categorical, decoder=levels or categorical, and fourier_features "
                "need data with levels, and a residual has none: use residual=false, or leave "
                "them out"
            )
        return self

    @model_validator(mode="after")
    def _the_log_snr_falls(self) -> Self:
        high, low = self.log_snr_max, self.log_snr_min
        taken = SCHEDULES[self.schedule].settings
        for name, value in (("log_snr_max", high), ("log_snr_min", low)):
            if value is not None and name not in taken:
                raise ValueError(
                    f"{name}={value:g} needs schedule=log_snr, and schedule={self.schedule}"
                )
        if high is not None and low is not None and high <= low:
            raise ValueError(
                f"log_snr_max={high:g} must be above log_snr_min={low:g}: use values such as "
                "13.3 and -5"
            )
        return self

    @model_validator(mode="after")
    def _loss_trains_the_variance(self) -> Self:
        learned = self.variance.startswith("learned")
        if self.loss.kind == "hybrid" and not learned:
            raise ValueError(
                f"loss=hybrid trains the variance, and variance={self.variance} is fixed: use "
                "loss=simple, or variance=learned_range"
            )
        if self.loss.kind == "simple" and learned:
            raise ValueError(
                f"loss=simple does not train variance={self.variance}: use loss=hybrid, or "
                "variance=fixed_small"
            )
        return self

    @model_validator(mode="after")
    def _errors_of_the_data_count(self) -> Self:
        weighting = getattr(self.loss, "weighting", None)
        if isinstance(weighting, LogNormalWeighting) and self.predicts in BLIND_AT_PURE_NOISE:
            raise ValueError(
                "loss.weighting=log_normal weights the error of the data, which grows without "
                f"bound with the noise for predicts={self.predicts}: use predicts=edm, v or x0"
            )
        return self

    @model_validator(mode="after")
    def _pure_noise_is_trained(self) -> Self:
        if not self.zero_terminal_snr:
            return self
        if self.predicts in BLIND_AT_PURE_NOISE:
            raise ValueError(
                "zero_terminal_snr=true needs a prediction that depends on the data in pure "
                f"noise, and predicts={self.predicts} does not: use predicts=v, x0 or edm"
            )
        if isinstance(self.loss, VLBLoss | OwnLoss):
            return self
        if self.loss.space == "eps":
            raise ValueError(
                "loss.space=eps does not train the step of pure noise that "
                "zero_terminal_snr=true adds: use loss.space=v or x0"
            )
        if self.loss.weighting.kind != "constant":
            raise ValueError(
                f"loss.weighting={self.loss.weighting.kind} has weight 0 or none at the step of "
                "pure noise that zero_terminal_snr=true adds: use loss.weighting=constant"
            )
        return self
