"""All settings of a run, read from YAML and the command line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import ValidationError, model_validator

from iddpm.config.assignments import parse_assignment
from iddpm.config.choices import BLIND_AT_PURE_NOISE, MOST_BITS, OneOf
from iddpm.config.data import DataConfig
from iddpm.config.degradation import DegradationConfig
from iddpm.config.diffusion import DiffusionConfig
from iddpm.config.distillable import check_distilled
from iddpm.config.distillation import DistillationConfig
from iddpm.config.form import FormConfig
from iddpm.config.model import ModelConfig
from iddpm.config.presets import PRESETS
from iddpm.config.sampling import SamplingConfig
from iddpm.config.section import Few, Section
from iddpm.config.training import TrainingConfig
from iddpm.config.validation_message import one_sentence, shortened
from iddpm.config.yaml_text import parse_yaml

LARGEST_FILE = 2_000_000
"""Bytes of a settings file; thousands of class names fit."""


class Config(Section):
    """All settings of a run; ``config.yaml`` of a run directory holds them resolved."""

    task: Literal["generation", "super_resolution", "classification"] = "generation"
    """What the network learns; super_resolution needs a scale, classification labels."""
    preset: Annotated[str, OneOf(PRESETS)] | None = None
    """Settings that go together: quick, a small network trained for 800 steps, likelihood, or
    published, those of Nichol & Dhariwal 2021. Others that are stated override them."""
    data: DataConfig = DataConfig()
    scale: Few | tuple[Few, ...] | None = None
    """Upscaling factor of super-resolution: one number, or one for each axis."""
    degradation: DegradationConfig = DegradationConfig()
    model: ModelConfig = ModelConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    training: TrainingConfig = TrainingConfig()
    sampling: SamplingConfig = SamplingConfig()
    class_names: tuple[str, ...] = ()
    """Names of the classes in the data, in the order of their labels."""
    bits: int | None = 8
    """Bit depth of the data; None for continuous data."""
    form: FormConfig | None = None
    """The file form of the data."""
    imported_from: str | None = None
    """The file and flags of another program that the weights were imported from."""
    distillation: DistillationConfig | None = None
    """What a few-step model was distilled from; None for a denoiser."""

    @property
    def uses_labels(self) -> bool:
        """Whether the labels of the data are shown to the network or learned by it."""
        return self.task == "classification" or self.model.class_conditional

    @property
    def learns(self) -> str:
        """What the network learns beside its loss, in a line; empty for generation."""
        if self.task == "classification":
            return "predicts the class at every noise level"
        if self.task == "generation" or self.scale is None:
            return ""
        scale = [self.scale] if isinstance(self.scale, int) else self.scale
        return f"increases the resolution {' x '.join(map(str, scale))} times: {self.degradation}"

    @model_validator(mode="after")
    def _a_classifier_is_unconditional(self) -> Self:
        if self.task == "classification" and self.model.class_conditional:
            raise ValueError(
                "task=classification predicts the class, which model.class_conditional=true "
                "would reveal: set it to false"
            )
        return self

    @model_validator(mode="after")
    def _only_a_classifier_pools(self) -> Self:
        if self.model.pool is not None and self.task != "classification":
            raise ValueError(f"model.pool needs task=classification, and task={self.task}")
        return self

    @model_validator(mode="after")
    def _a_classifier_sees_its_items_alone(self) -> Self:
        conditioning = {
            "data.conditions": self.data.conditions,
            "model.conditions": self.model.conditions,
            "data.given": self.data.given,
            "model.given_channels": self.model.given_channels,
        }
        for name, value in conditioning.items():
            if self.task == "classification" and value is not None:
                raise ValueError(f"task=classification takes no conditioning: leave {name} out")
        return self

    @model_validator(mode="after")
    def _only_generation_conditions_itself(self) -> Self:
        if self.diffusion.self_condition and self.task != "generation":
            raise ValueError(
                f"diffusion.self_condition=true needs task=generation, and task={self.task}"
            )
        return self

    @model_validator(mode="after")
    def _augmentation_is_shown(self) -> Self:
        if self.data.augment and (self.task == "classification" or self.model.network is not None):
            what = "task=classification" if self.model.network is None else "your network"
            raise ValueError(
                f"data.augment={self.data.augment:g} is shown to the built-in U-Net, and {what} "
                "does not take it: use augment=0, or data.flip and data.random_crop"
            )
        return self

    @model_validator(mode="after")
    def _the_loss_takes_levels_and_noise(self) -> Self:
        self.diffusion.check_timesteps(self.training.timestep_sampler)
        distilled = self.distillation is not None
        self.training.check_noise(self.task, self.diffusion.loss.kind, distilled)
        return self

    @model_validator(mode="after")
    def _pure_noise_teaches(self) -> Self:
        share = self.training.pure_noise_share
        if share and (
            self.task == "classification" or self.diffusion.predicts in BLIND_AT_PURE_NOISE
        ):
            why = (
                "task=classification learns nothing there"
                if self.task == "classification"
                else f"predicts={self.diffusion.predicts} does not depend on the data there"
            )
            raise ValueError(
                f"training.pure_noise_share={share:g} trains at pure noise, and {why}: use 0"
            )
        return self

    @model_validator(mode="after")
    def _can_be_distilled(self) -> Self:
        made = self.distillation
        if made is None:
            return self
        if self.task == "classification":
            raise ValueError("task=classification draws no samples and cannot be distilled")
        check_distilled(made, self.diffusion, self.training, self.model.network)
        made.check(self.sampling)
        return self

    @model_validator(mode="after")
    def _denoisers_have_more_layers(self) -> Self:
        for name, plain in (("wavelets", 0), ("patch", 1), ("layers", "group_norm")):
            value = getattr(self.model, name)
            if value != plain and self.task == "classification":
                raise ValueError(
                    f"model.{name}={value} is for networks that denoise, and task={self.task}: "
                    f"use model.{name}={plain}"
                )
        return self

    @model_validator(mode="after")
    def _levels_are_few(self) -> Self:
        diffusion, other = self.diffusion, "predicts=v"
        name = f"predicts={diffusion.predicts}"
        if diffusion.decoder not in (None, "gaussian"):
            name, other = f"decoder={diffusion.decoder}", "decoder=gaussian"
        elif not diffusion.gives_levels:
            return self
        if not 1 <= (self.bits or 0) <= MOST_BITS:
            depth = "is continuous" if self.bits is None else f"has {self.bits} bits"
            raise ValueError(
                f"diffusion.{name} predicts a probability for each level of data of at most "
                f"{MOST_BITS} bits, and this data {depth}: use {other}"
            )
        return self

    @model_validator(mode="after")
    def _levels_have_periods(self) -> Self:
        if self.diffusion.fourier_features and self.bits is None:
            raise ValueError(
                f"diffusion.fourier_features={self.diffusion.fourier_features} needs data with "
                "levels, and this data is continuous: leave it out"
            )
        return self

    @model_validator(mode="after")
    def _only_super_resolution_has_a_scale(self) -> Self:
        if self.task == "super_resolution":
            if self.scale is None:
                raise ValueError("task=super_resolution needs a scale, such as scale=2")
            return self
        if self.diffusion.residual:
            raise ValueError(
                "diffusion.residual=true predicts the residual to an interpolation of the "
                f"low-resolution input, which task={self.task} does not have: use "
                "task=super_resolution"
            )
        if self.diffusion.residual_scale is not None:
            raise ValueError(
                f"diffusion.residual_scale needs task=super_resolution, and task={self.task}"
            )
        for name, given, nothing in (
            ("scale", self.scale, None),
            ("degradation", self.degradation, DegradationConfig()),
        ):
            if given != nothing:
                raise ValueError(f"{name} needs task=super_resolution, and task={self.task}")
        return self


def read_config(
    path: Path | str | None = None, assignments: Sequence[str] = (), base: Any = None
) -> Config:
    """Read settings from a YAML file and ``dotted.key=value`` assignments, in this order.

    What a preset that they name stands for lies beneath all of them.

    Args:
        path: a YAML file, or None for the defaults.
        assignments: such as ``training.learning_rate=1e-4``; the value is read as YAML,
            but that of a setting that takes text as it stands unless it is quoted.
        base: a nested mapping of settings that the file and the assignments override.

    Raises:
        ValueError: one sentence that names the key or file and what would work.
        FileNotFoundError: no such file.
    """
    values: dict[str, Any] = {}
    if base:
        _merge(values, base)
    _merge(values, read_stated(path, assignments))
    preset = PRESETS.get(str(values.get("preset")), {})
    together: dict[str, Any] = {}
    _merge(together, preset)
    if states(values, "max_time"):  # which is what was asked for, not the length of a preset
        together.get("training", {}).pop("steps", None)
    _merge(together, values)
    return validate(together)


def read_stated(path: Path | str | None, assignments: Sequence[str]) -> dict[str, Any]:
    """Return what a file and assignments state, as a nested mapping that is not checked yet."""
    values: dict[str, Any] = {}
    if path is not None:
        _merge(values, read_yaml(Path(path)))
    for assignment in assignments:
        _merge(values, parse_assignment(assignment, Config))
    return values


def states(values: Mapping[str, Any], *names: str) -> bool:
    """Say whether a nested mapping states one of these settings of the training."""
    training = values.get("training")
    return isinstance(training, dict) and any(training.get(name) is not None for name in names)


def validate(values: Mapping[str, Any]) -> Config:
    """Check a nested mapping of settings; ValueError with one sentence where it is wrong."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ValueError(one_sentence(error, Config)) from None


def validate_sampling(values: Mapping[str, Any]) -> SamplingConfig:
    """Check the settings of sampling alone; ValueError with one sentence where one is wrong."""
    return validate({"sampling": values}).sampling


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping; ValueError or FileNotFoundError with one sentence."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no settings file {path}")
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError(
            f"{path} has {path.stat().st_size} bytes, and settings files may have at "
            f"most {LARGEST_FILE}"
        )
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no text, or a number too long
        reason = shortened(" ".join(str(error).split()))
        raise ValueError(f"{path} is not readable as YAML: {reason}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds a {type(values).__name__}: write settings as name: value")
    return values


def to_yaml(config: Config) -> str:
    """Return the settings as YAML that :func:`read_config` reads back to an equal value."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        elif isinstance(value, Mapping):
            into[key] = {}
            _merge(into[key], value)
        else:
            into[key] = value
