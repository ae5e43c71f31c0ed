"""Checks that a run's settings are those of its weights; without torch.

Every checkpoint and the released weights contain their settings, with a checksum. ``config.yaml``
is for people, and must agree.
"""

import json
import warnings
from pathlib import Path
from typing import Any

from iddpm.config import Config, ResolvedConfig, settle, validate
from iddpm.config.resolved import what_is_missing
from iddpm.config.run_config import CONFIG, WEIGHTS, is_as_written
from iddpm.config.run_config import read_run_config as read_settings
from iddpm.training.checkpoints.checkpoint_files import (
    damage_of,
    list_checkpoints,
    newest_sealed,
    read_facts,
    read_sealed,
)

NOT_SEALED = frozenset(
    [
        *(
            f"data.{name}" for name in ("path", "conditions", "given")
        ),  # identified by a fingerprint
        *(f"data.{name}" for name in ("workers", "worker_timeout", "cache", "max_pixels")),
        "distillation.teacher",  # identified by the hash of its weights
        *(f"training.{name}" for name in ("max_time", "microbatch", "parallel", "timeout")),
        *(f"training.{name}" for name in ("compile", "device", "threads", "log_every")),
        *(f"training.{name}" for name in ("save_every", "save_minutes", "keep_checkpoints")),
        *(f"training.{name}" for name in ("preview_every", "validate_every", "max_bad_steps")),
        *(f"training.{name}" for name in ("on_out_of_memory", "tensorboard", "wandb")),
    ]
)
"""Settings of places, speed and intervals: the weights do not depend on them."""
SHOWN = 200
"""Number of characters of a value in a message."""


def seal(config: Config) -> dict[str, Any]:
    """Return the settings that determine the weights, as JSON values by dotted name."""
    leaves = _leaves(config.model_dump(mode="json"))
    return {name: value for name, value in leaves.items() if name not in NOT_SEALED}


def read_run_config(directory: Path) -> ResolvedConfig:
    """Return the settings of a run directory after comparing them with those of its weights.

    Raises:
        FileNotFoundError, ValueError: it is no run directory, a setting is not what the weights
            were trained with, or the released weights are damaged.
    """
    config = read_settings(directory)
    trained = trained_with(directory)
    if trained is None and any(map(damage_of, list_checkpoints(directory))):
        warnings.warn(
            f"{directory / CONFIG} cannot be compared with the settings of the training: the "
            "checkpoints are damaged",
            stacklevel=2,
        )
    if trained is not None:
        _compare(directory, seal(config), trained, is_as_written(directory / CONFIG))
    return config


def trained_with(directory: Path) -> dict[str, Any] | None:
    """Return the settings of the newest checkpoint, or else of the released weights.

    None for a run that has neither yet, and for one of version 0.1.0.
    """
    sealed = newest_sealed(directory)
    if sealed is None and (directory / WEIGHTS).is_file():
        try:
            sealed, _ = read_facts(directory / WEIGHTS)
        except ValueError:
            if not list_checkpoints(directory):
                raise
    settings = (sealed or {}).get("settings")
    return settings if isinstance(settings, dict) else None


def settings_in(path: Path) -> ResolvedConfig:
    """Return the settings that a safetensors file of weights holds, those of training alone.

    Raises:
        FileNotFoundError, ValueError: there is no such file, it is damaged or holds no settings.
    """
    settings = read_facts(path)[0].get("settings")
    if not isinstance(settings, dict):
        raise ValueError(
            f"{path} holds no settings: give a file that iddpm wrote, or a directory with {CONFIG}"
        )
    values: dict[str, Any] = {}
    for name, value in settings.items():
        *sections, last = name.split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    config = validate(values)
    if missing := what_is_missing(config):
        raise ValueError(f"{path} lacks the settings {', '.join(missing)}: it is damaged")
    return settle(config)


def check_checkpoint(directory: Path, config: Config, checkpoint: Path) -> None:
    """Raise ValueError if a chosen checkpoint was trained with other settings than the run's."""
    settings = (read_sealed(checkpoint) or {}).get("settings")
    if isinstance(settings, dict):
        trained = {k: v for k, v in settings.items() if not k.startswith("sampling.")}
        _compare(directory, seal(config), trained, is_as_written(directory / CONFIG))


def changed_settings(config: Config, trained: dict[str, Any]) -> str:
    """Return the settings that differ from those of a checkpoint, in words."""
    now = seal(config)
    names = {*trained, *now} if "training.steps" in trained else set(trained)  # of imported weights
    return ", ".join(
        f"{name} from {_shown(trained.get(name))} to {_shown(now.get(name))}"
        for name in sorted(names)
        if trained.get(name) != now.get(name)
    )


def _compare(
    directory: Path, now: dict[str, Any], trained: dict[str, Any], as_written: bool
) -> None:
    """Raise ValueError for settings other than those of the weights; warn for those of sampling.

    A run that resumes with other settings of training writes them with a checksum before its first
    checkpoint; such a file is valid.
    """
    for name, value in trained.items():
        if name in now and now[name] == value:
            continue
        here, free = _shown(now.get(name)), name.startswith("training.")
        if name.startswith("sampling."):
            if not as_written:
                warnings.warn(
                    f"{directory / CONFIG} has {name}={here}, which was {_shown(value)} when "
                    "the run was trained: samples use the new value",
                    stacklevel=4,
                )
        elif not (free and as_written):
            way = ", or start a new run"
            if free:
                way = (
                    f", then change it with iddpm train --resume --out {directory} -s {name}={here}"
                )
            raise ValueError(
                f"{directory / CONFIG} has {name}={here}, and the weights were trained with "
                f"{name}={_shown(value)}: restore the value in the file{way}"
            )


def _leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted name."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            found |= _leaves(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."
