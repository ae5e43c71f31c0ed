"""From pydantic's errors to one sentence that names the setting and what would work."""

import difflib
import re
from collections.abc import Sequence
from itertools import chain
from typing import get_args

from pydantic import BaseModel, ValidationError

from iddpm.config.condition_config import ConditionConfig
from iddpm.config.diffusion import WEIGHTINGS, DiffusionConfig, HybridLoss

LONGEST_ECHO = 200
"""Characters of a value that a message repeats."""
OTHER_NAMES = {
    "attention_resolutions": "model.attention_downsampling",
    "class_cond": "model.class_conditional",
    "diffusion_steps": "diffusion.num_steps",
    "ema_rate": "training.ema_rates",
    "fp16": "training.precision",
    "learn_sigma": "diffusion.variance",
    "log_interval": "training.log_every",
    "lr": "training.learning_rate",
    "lr_anneal_steps": "training.anneal",
    "noise_schedule": "diffusion.schedule",
    "num_channels": "model.model_channels",
    "predict_xstart": "diffusion.predicts",
    "resolution": "data.image_size",
    "save_interval": "training.save_every",
    "schedule_sampler": "training.timestep_sampler",
    "sigma_small": "diffusion.variance",
    "timestep_respacing": "sampling.spacing",
    "use_fp16": "training.precision",
    "use_kl": "diffusion.loss",
}
"""What other programs call some of the settings."""


def shortened(value: object, longest: int = LONGEST_ECHO) -> str:
    """Return the text of a value on one line, its middle left out where it is long.

    Control characters, which could do something to a terminal, are written as escapes.
    """
    text = str(value)
    half = longest // 2 - 2
    if len(text) > longest:
        text = f"{text[:half]}...{text[-half:]}"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def one_sentence(error: ValidationError, settings: type[BaseModel]) -> str:
    """Return the first of the errors in words."""
    problem = error.errors(include_url=False)[0]
    # Branches of a union, such as function-after[...], stand in the path although no user wrote
    # them; the last part is the user's where the setting is unknown.
    unknown = problem["type"] == "extra_forbidden"
    whole = list(map(str, problem["loc"]))
    kept = len(whole) - 1 if unknown else len(whole)
    path = [part for i, part in enumerate(whole) if i >= kept or re.fullmatch(r"[^\[\]()]+", part)]
    if path[:2] == ["diffusion", "loss"] and len(path) > 2:
        path.pop(2)
        if path[2:3] == ["weighting"] and len(path) > 3:
            path.pop(3)
    key = shortened(".".join(path))
    if unknown:
        return f"unknown setting {key!r}: {_nearest(path, settings)}"
    message = problem["msg"].removeprefix("Value error, ")
    message = shortened(message[:1].lower() + message[1:], LONGEST_ECHO + 100)
    if problem["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key}={shortened(repr(problem['input']))} does not work: {message}"


def _nearest(path: Sequence[str], settings: type[BaseModel]) -> str:
    """Return a hint: the name closest to an unknown key, in its section or in another."""
    keys = _all_keys(settings)
    section, name = ".".join(path[:-1]), path[-1].replace("-", "_")
    if ".".join(path) in keys:
        return f"it is an option of another kind of {section}"
    siblings = [k.rpartition(".")[2] for k in keys if k.rpartition(".")[0] == section]
    if path[:2] == ["model", "conditions"]:
        siblings = list(ConditionConfig.model_fields)
    close = difflib.get_close_matches(name, siblings, n=1, cutoff=0.6)
    if close and name not in OTHER_NAMES:
        return f"did you mean {'.'.join([*path[:-1], close[0]])!r}?"
    elsewhere = [k for k in keys if k.rpartition(".")[2] == name]
    if name in OTHER_NAMES:
        elsewhere = [OTHER_NAMES[name]]
    if not elsewhere:
        ends = {k.rpartition(".")[2]: k for k in keys}
        elsewhere = [ends[k] for k in difflib.get_close_matches(name, ends, n=1, cutoff=0.8)]
    if elsewhere:
        return f"did you mean {' or '.join(map(repr, elsewhere))}?"
    if siblings and section:
        return f"{section} has {', '.join(siblings)}"
    return f"the settings are {', '.join(settings.model_fields)}"


def _all_keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in section.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            keys += _all_keys(annotation, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
            parts = [part for part in get_args(annotation) if part is not type(None)]
            if len(parts) == 1 and isinstance(parts[0], type) and issubclass(parts[0], BaseModel):
                keys += _all_keys(parts[0], f"{prefix}{name}.")
    if section is DiffusionConfig:
        keys += [f"{prefix}loss.{name}" for name in HybridLoss.model_fields]
        keys += [
            f"{prefix}loss.weighting.{name}" for name in ("kind", *chain(*WEIGHTINGS.values()))
        ]
    return keys
