"""The process's settings: schedule, what the network predicts, variance and loss."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from iddpm.config.section import Section


class SimpleLoss(Section):
    """Mean squared error; the variance is fixed."""

    kind: Literal["simple"] = "simple"
    space: Literal["eps", "x0", "v", "previous"] | None = None
    """Where the error is measured; by default in what the network predicts."""


class HybridLoss(Section):
    """Mean squared error for the mean and the bound for the variance."""

    kind: Literal["hybrid"] = "hybrid"
    vb_weight: Annotated[float, Field(gt=0)] = 0.001
    """Weight of the whole bound."""
    space: Literal["eps", "x0", "v", "previous"] | None = None


class VLBLoss(Section):
    """The variational bound itself: the best likelihood, not the best pictures."""

    kind: Literal["vlb"] = "vlb"


Loss = Annotated[SimpleLoss | HybridLoss | VLBLoss, Field(discriminator="kind")]


class DiffusionConfig(Section):
    """Settings of the diffusion process."""

    schedule: Literal["linear", "cosine"] = "cosine"
    num_steps: Annotated[int, Field(gt=0)] = 1000
    """T, the number of steps of training."""
    rescale_timesteps: bool = True
    """Show the network t * 1000 / T, so that its embedding sees one range whatever T is."""
    predicts: Literal["eps", "x0", "v", "previous"] = "eps"
    variance: Literal["learned_range", "learned", "fixed_small", "fixed_large"] = "learned_range"
    loss: Loss = HybridLoss()

    @field_validator("loss", mode="before")
    @classmethod
    def _named_loss(cls, value: Any) -> Any:
        """Take ``loss: simple`` for ``loss: {kind: simple}``, and hybrid for what names none."""
        if isinstance(value, str):
            return {"kind": value}
        return {"kind": "hybrid", **value} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _loss_trains_the_variance(self) -> Self:
        learned = self.variance.startswith("learned")
        if self.loss.kind == "hybrid" and not learned:
            raise ValueError(
                f"loss=hybrid trains the variance and variance={self.variance} is fixed: "
                "use loss=simple, or variance=learned_range"
            )
        if self.loss.kind == "simple" and learned:
            raise ValueError(
                f"loss=simple leaves variance={self.variance} untrained: use loss=hybrid, "
                "or variance=fixed_small"
            )
        return self
