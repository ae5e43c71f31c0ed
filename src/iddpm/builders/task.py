"""The task of a run: generation, super-resolution or classification."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from iddpm.builders.condition_columns import check_class_left_open
from iddpm.builders.low_resolution import (
    add_low_res,
    check_low_res,
    held_out_low_res,
    interpolate,
    low_res_size,
    training_low_res,
)
from iddpm.builders.network import (
    build_denoiser,
    build_diffusion,
    build_encoder,
    build_network,
    residual_scale,
)
from iddpm.builders.training_parts import build_loss, build_timesteps
from iddpm.config import Config, ResolvedConfig
from iddpm.data.sources.source import Source
from iddpm.diffusion import Denoiser
from iddpm.diffusion.residual import Residual
from iddpm.training.classification import CleanAndNoisyTimesteps, NoisyClassifier, cross_entropy
from iddpm.training.step import Loss
from iddpm.training.timesteps import TimestepSampler


@dataclass(frozen=True, eq=False)
class Task:
    """The task of a run with resolved settings; this class is the one for generation.

    Attributes:
        config: the resolved settings.
        draws: whether the model draws samples.
        takes_low_res: whether the network takes a low-resolution input.
        takes_own_code: whether the network and the loss may be the user's.
    """

    config: ResolvedConfig
    draws: ClassVar[bool] = True
    takes_low_res: ClassVar[bool] = False
    takes_own_code: ClassVar[bool] = True

    @classmethod
    def check_labels(cls, config: Config, source: Source) -> None:
        """Raise ValueError if the data lacks the labels that the settings need."""
        if config.uses_labels and source.labels is None:
            raise ValueError(
                f"model.class_conditional=true needs labels and {source.name} has none: "
                "set data.labels, or model.class_conditional=false"
            )

    def check(self) -> None:
        """Raise ValueError if the settings do not fit the task."""

    def network(self, own: nn.Module | None = None) -> nn.Module:
        """Build the network, on the CPU."""
        return build_network(self.config, own)

    def learner(self, network: Any) -> Denoiser | NoisyClassifier:
        """Combine the network and the process."""
        return build_denoiser(self.config, network)

    def loss(self, own: Loss | None = None) -> Loss:
        """Return the loss with its options filled in, or an own one."""
        return build_loss(self.config, own)

    def timesteps(self) -> TimestepSampler:
        """Build the distribution over timesteps."""
        return build_timesteps(self.config)

    @property
    def objective(self) -> str:
        """What the network learns, in words."""
        diffusion, made = self.config.diffusion, self.config.distillation
        if made is not None:
            return f"{made.method} of {made.teacher} for {made.offered} evaluations"
        return (
            f"predicts {diffusion.predicts}, variance {diffusion.variance}, "
            f"loss {getattr(diffusion.loss, 'name', diffusion.loss.kind)}"
        )

    def example_inputs(self, count: int) -> dict[str, Tensor]:
        """Return the inputs of the network that only this task has, for ``count`` items."""
        return {}

    def inputs(self, x: Tensor, items: Sequence[int], step: int | None) -> dict[str, Tensor]:
        """Return the conditioning that is computed from the data.

        Args:
            x: data in [-1, 1], [N, C, *spatial].
            items: the number of each item in its source.
            step: of the training; None for held-out data, whose conditioning is always the same.
        """
        return {}

    def residual(self, conditioning: Mapping[str, Any], size: Sequence[int]) -> Residual | None:
        """Return the residual that is diffused instead of the data; None for the data itself.

        Args:
            conditioning: of the network.
            size: of the data.
        """
        return None

    def check_inputs(
        self, where: Path, conditioning: Mapping[str, Tensor], shape: Sequence[int]
    ) -> None:
        """Raise ValueError if samples of a shape cannot be drawn with this conditioning."""

    def sampling_inputs(
        self, conditioning: Mapping[str, Tensor], level: float, numbers: Sequence[int], seed: int
    ) -> dict[str, Tensor]:
        """Return the conditioning that replaces some of the caller's.

        Args:
            conditioning: the caller's, checked.
            level: standard deviation of noise to add.
            numbers: of the samples, which together with the seed draw the noise.
            seed: of the noise.
        """
        return {}

    def check_draws(self, where: Path) -> None:
        """Raise ValueError unless samples are drawn from the model."""

    def check_denoises(self, where: Path, what: str) -> None:
        """Raise ValueError for a distilled model, whose estimates are samples and no means.

        ``what`` names in a few words what needs a denoiser.
        """
        made = self.config.distillation
        if made is not None:
            raise ValueError(
                f"{where} was distilled for {made.offered} evaluations and is no denoiser any "
                f"more, which {what} needs: use its teacher, {made.teacher}"
            )

    def check_classifies(self, where: Path) -> None:
        """Raise ValueError unless the model is a classifier."""
        raise ValueError(
            f"{where} holds a model for {self.config.task}, not a classifier: give a directory "
            "from iddpm train-classifier"
        )

    def check_edits(self, where: Path) -> None:
        """Raise ValueError unless items are edited by the model."""
        self.check_denoises(where, "editing")
        if self.config.model.given_channels:
            raise ValueError(
                f"{where} is conditioned on paired data (data.given), and only models without "
                "it can edit items"
            )

    def check_upscales(self, where: Path, has_class: bool) -> None:
        """Raise ValueError unless the model upscales data of any size, with a class or without."""
        raise ValueError(
            f"{where} was trained with task={self.config.task}: upscaling needs a run with "
            "task=super_resolution"
        )


class Generation(Task):
    """A model that draws samples from noise and conditions."""


class SuperResolution(Task):
    """A model that draws data from its low resolution."""

    takes_low_res = True

    def check(self) -> None:
        """Raise ValueError for a scale, or a spread of the residual, that does not fit the data."""
        low_res_size(self.config)
        spread, channels = self.config.diffusion.residual_scale, self.config.model.channels
        if spread is not None and len(spread) != channels:
            raise ValueError(
                f"diffusion.residual_scale={list(spread)} must have a number for each of the "
                f"{channels} channels: leave it out to measure it"
            )

    def example_inputs(self, count: int) -> dict[str, Tensor]:
        """Return low resolutions, and their noise if the network is conditioned on it."""
        size = low_res_size(self.config)
        inputs = {"low_res": torch.zeros(count, self.config.model.channels, *size)}
        if self.config.degradation.augment:
            inputs["low_res_noise"] = torch.zeros(count)
        return inputs

    def inputs(self, x: Tensor, items: Sequence[int], step: int | None) -> dict[str, Tensor]:
        """Return the low resolution of data, as :func:`training_low_res` makes it in training."""
        config = self.config
        if step is not None:
            return training_low_res(config, x, items, step)
        low_res = held_out_low_res(config, x, items)
        return add_low_res(config, low_res, config.sampling.low_res_noise, items)

    def residual(self, conditioning: Mapping[str, Any], size: Sequence[int]) -> Residual | None:
        """Return the residual to the interpolation of the low resolution, if it is learned."""
        scale = residual_scale(self.config)
        if scale is None:
            return None
        interpolated = interpolate(self.config, conditioning["low_res"], size)
        return Residual(interpolated, torch.tensor(scale, dtype=torch.float64))

    def check_inputs(
        self, where: Path, conditioning: Mapping[str, Tensor], shape: Sequence[int]
    ) -> None:
        """Raise ValueError unless there are low resolutions of samples of this shape."""
        check_low_res(self.config, where, conditioning.get("low_res"), shape)

    def sampling_inputs(
        self, conditioning: Mapping[str, Tensor], level: float, numbers: Sequence[int], seed: int
    ) -> dict[str, Tensor]:
        """Return the low resolutions with noise of that level."""
        return add_low_res(self.config, conditioning["low_res"], level, numbers, seed)

    def check_edits(self, where: Path) -> None:
        """Raise ValueError: an edit starts from an item."""
        raise ValueError(
            f"{where} is a super-resolution model, and only models with task=generation can "
            "edit items"
        )

    def check_upscales(self, where: Path, has_class: bool) -> None:
        """Raise ValueError if the model needs paired data, or a class that is missing."""
        if self.config.model.given_channels:
            raise ValueError(
                f"{where} was trained with data.given, whose items must have the size of the "
                "training data: use iddpm sample"
            )
        if not has_class:
            check_class_left_open(self.config, where)


class Classification(Task):
    """A classifier at every noise level."""

    draws = False
    takes_own_code = False

    @classmethod
    def check_labels(cls, config: Config, source: Source) -> None:
        """Raise ValueError unless every item has a class."""
        if source.labels is None:
            raise ValueError(
                f"task=classification needs labels and {source.name} has none: set data.labels"
            )
        if source.unlabeled:
            raise ValueError(
                f"task=classification needs the class of every item, and {source.unlabeled} of the "
                f"{len(source)} items of {source.name} have none (label -1): leave them out"
            )

    def network(self, own: nn.Module | None = None) -> nn.Module:
        """Build the downward half of a U-Net and a pool."""
        return build_encoder(self.config)

    def learner(self, network: Any) -> NoisyClassifier:
        """Combine the classifier and the process."""
        return NoisyClassifier(network, build_diffusion(self.config))

    def loss(self, own: Loss | None = None) -> Loss:
        """Return the cross-entropy."""
        return cross_entropy

    def timesteps(self) -> TimestepSampler:
        """Build a distribution with a share of clean items."""
        num_steps = self.config.diffusion.num_steps
        return CleanAndNoisyTimesteps(num_steps, self.config.training.clean_share)

    @property
    def objective(self) -> str:
        """What the network learns, in words."""
        return self.config.learns

    def check_draws(self, where: Path) -> None:
        """Raise ValueError: nothing is drawn from a classifier."""
        raise ValueError(
            f"{where} holds a classifier, not a generative model: give a directory from iddpm train"
        )

    def check_classifies(self, where: Path) -> None:
        """Accept the model."""


TASKS: Mapping[str, type[Task]] = {
    "generation": Generation,
    "super_resolution": SuperResolution,
    "classification": Classification,
}


def task_of(config: ResolvedConfig) -> Task:
    """Return the task of resolved settings; the only place that reads ``task``."""
    return TASKS[config.task](config)
