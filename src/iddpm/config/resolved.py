"""Settings after the data has been opened: what was left to be derived is known."""

from typing import Annotated, Any

from pydantic import Field, field_validator

from iddpm.config.model import ModelConfig
from iddpm.config.section import Length, Whole
from iddpm.config.settings import Config
from iddpm.config.training import Anneal, TrainingConfig


class ResolvedModel(ModelConfig):
    """What is known of any network: the shape of its data."""

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


class ResolvedTraining(TrainingConfig):
    """How the weights are learned, the size of a batch included."""

    batch_size: Annotated[Whole, Field(gt=0)]
    anneal: Anneal = "none"

    @field_validator("anneal", mode="before")
    @classmethod
    def _as_before(cls, value: Any) -> Any:
        """Take null for what it was in runs of earlier versions."""
        return "none" if value is None else value


class ResolvedConfig(Config):
    """All settings of a run; what a builder takes."""

    model: UNetModel | OwnModel
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
