"""Settings after the data has been opened: what was left to be derived is known."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from iddpm.config.diffusion import DiffusionConfig, Predicts
from iddpm.config.model import ModelConfig
from iddpm.config.section import Length, Positive, Section, Whole
from iddpm.config.settings import Config
from iddpm.config.training import Anneal, Rates, TrainingConfig


class _AsBefore(Section):
    """Settings of which null means what it was before there was anything to decide.

    New runs write down what they decide (:mod:`iddpm.builders.decided`); null or no value is in
    runs of earlier versions.
    """

    @model_validator(mode="before")
    @classmethod
    def _null_is_the_old_rule(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {k: v for k, v in values.items() if v is not None or k not in AS_BEFORE}


AS_BEFORE: dict[str, Any] = {
    "steps": 20_000,
    "learning_rate": 1e-4,
    "warmup_steps": 0,
    "anneal": "none",
    "ema_rates": (0.9999,),
    "preview_every": 1000,
    "validate_every": 1000,
    "predicts": "eps",
    "dropout": 0.0,
    "neighborhood": 0,
}
"""The defaults of runs of earlier versions, by the name of the setting."""


class ResolvedModel(_AsBefore, ModelConfig):
    """What is known of any network: the shape of its data."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = AS_BEFORE["dropout"]
    channels: Length
    size: tuple[Length, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, *spatial) of the data."""
        return (self.channels, *self.size)


class UNetModel(ResolvedModel):
    """All that the built-in network is built of."""

    network: None = None
    channel_mult: tuple[float, ...]
    attention_downsampling: tuple[Length, ...]


class OwnModel(ResolvedModel):
    """A network that was passed; the settings of the U-Net stay as they were."""

    network: str


class ResolvedDiffusion(_AsBefore, DiffusionConfig):
    """The process, and what the network predicts."""

    predicts: Predicts = AS_BEFORE["predicts"]
    neighborhood: Annotated[Whole, Field(ge=0)] = AS_BEFORE["neighborhood"]


class ResolvedTraining(_AsBefore, TrainingConfig):
    """How the weights are learned, the size of a batch included."""

    batch_size: Annotated[Whole, Field(gt=0)]
    steps: Positive = AS_BEFORE["steps"]
    learning_rate: Annotated[float, Field(gt=0, le=1000)] = AS_BEFORE["learning_rate"]
    warmup_steps: Annotated[Whole, Field(ge=0, le=10**12)] = AS_BEFORE["warmup_steps"]
    anneal: Anneal = AS_BEFORE["anneal"]
    ema_rates: Rates = AS_BEFORE["ema_rates"]
    preview_every: Annotated[Whole, Field(ge=0, le=10**12)] = AS_BEFORE["preview_every"]
    validate_every: Annotated[Whole, Field(ge=0, le=10**12)] = AS_BEFORE["validate_every"]


class ResolvedConfig(Config):
    """All settings of a run; what a builder takes."""

    model: UNetModel | OwnModel
    diffusion: ResolvedDiffusion = ResolvedDiffusion()
    training: ResolvedTraining


def what_is_missing(config: Config) -> list[str]:
    """Return the settings that have to be known and are not, by their names."""
    model, training = config.model, config.training
    needed: dict[str, object] = {
        "model.channels": model.channels,
        "model.size": model.size,
        "training.batch_size": training.batch_size,
    }
    if config.diffusion.residual:
        needed["diffusion.residual_scale"] = config.diffusion.residual_scale
    if model.network is None:
        needed["model.channel_mult"] = model.channel_mult
        needed["model.attention_downsampling"] = model.attention_downsampling
    return [name for name, value in needed.items() if value is None]


def settle(config: Config) -> ResolvedConfig:
    """Return settings in which everything is known as that; an error is a fault of the caller."""
    return ResolvedConfig.model_validate(config.model_dump(exclude_unset=True))
