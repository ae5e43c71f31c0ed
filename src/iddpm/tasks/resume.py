"""Checks of a new run's directory, and of the settings and data of a resumed run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iddpm.builders import default_run_directory
from iddpm.config import Config, read_config
from iddpm.data.fingerprint import DATA, differences, read_fingerprint
from iddpm.data.sources.memory import is_in_memory
from iddpm.data.sources.source import Source
from iddpm.networks.trunk import check_circular, check_stride
from iddpm.runs.layout import CONFIG
from iddpm.runtime.directory_lock import LOCK
from iddpm.training.checkpoints.checkpoint_files import newest_sealed
from iddpm.training.loop_settings import Reporter

FREE_ON_RESUME = (
    "training",
    "sampling",
    "data.max_pixels",
    "data.workers",
    "data.worker_timeout",
    "data.cache",
    "model.network",
    "distillation.teacher",
)
"""Settings that may change when a run goes on; the others would make it another run."""
MAY_MOVE = ("data.path", "data.conditions", "data.given")
"""Where data is, which is known again by its fingerprint when it has only moved."""


def run_directory(
    out: Path | str | None,
    data: Any,
    config: Path | str | None,
    assignments: Sequence[str],
    base: dict[str, Any] | None,
) -> Path:
    """Return the run directory: ``out``, or one named after the data."""
    if out is not None:
        return Path(out)
    if is_in_memory(data):
        return Path("runs") / type(data).__name__
    path = str(data) if data is not None else read_config(config, assignments, base).data.path
    if path is None:
        raise ValueError("no data, and no --out that names a run to resume")
    return default_run_directory(path)


def refuse_used(directory: Path, resume: bool) -> None:
    """Raise where there is nothing to resume, or something that a new run would overwrite."""
    if resume and directory.exists() and any(directory.iterdir()):
        raise ValueError(f"{directory} is not a run directory: it has no {CONFIG} to resume from")
    if resume:
        raise FileNotFoundError(f"there is no run in {directory} to resume")
    if directory.exists() and (not directory.is_dir() or any(map(_is_used, directory.iterdir()))):
        raise FileExistsError(
            f"{directory} exists and is not empty: continue it with --resume, or name another "
            "directory with --out"
        )


def _is_used(path: Path) -> bool:
    """Say whether a file means something: not what a start that was killed at once has left."""
    return path.name != LOCK and not path.name.startswith(".")


def settings_to_resume(
    directory: Path, before: Config, config: Path | str | None, assignments: Sequence[str]
) -> Config:
    """Return the settings of a run with what may change changed; refuse the rest."""
    wanted = read_config(config, assignments, before.model_dump(mode="json"))
    old, new = _by_name(before), _by_name(wanted)
    fresh = before.imported_from is not None and before.data.path is None
    movable = MAY_MOVE if _known(directory) else ()
    for name, value in new.items():
        free = name in FREE_ON_RESUME or name.partition(".")[0] in FREE_ON_RESUME
        free = free or (fresh and name.startswith("data."))
        free = free or (name in movable and old[name] is not None and value is not None)
        if not free and value != old[name]:
            raise ValueError(
                f"{directory} was trained with another {name} and cannot continue with "
                f"{name}={value}: start a new run (--init-from {directory} keeps the weights)"
            )
    if wanted.training.ema_rates != before.training.ema_rates:
        raise ValueError(
            f"{directory} averages at the rates {before.training.ema_rates}, and a run cannot "
            f"change them to {wanted.training.ema_rates}"
        )
    if wanted.training.optimizer != before.training.optimizer:
        raise ValueError(
            f"{directory} was trained with training.optimizer={before.training.optimizer}, whose "
            f"state is not that of {wanted.training.optimizer}: continue without this setting, or "
            f"start a new run (--init-from {directory} keeps the weights)"
        )
    kept, requested = (_lengths(config) for config in (before, wanted))
    if requested != kept:
        raise ValueError(
            f"{directory} has power-function averages of the lengths {kept}, and a run cannot "
            f"change them to {requested}: they average over all of the training"
        )
    return wanted


def _by_name(config: Config) -> dict[str, Any]:
    """Return the settings as ``section.name``, or ``name`` for those without a section."""
    settings: dict[str, Any] = {}
    for section, value in config.model_dump().items():
        if isinstance(value, dict):
            settings |= {f"{section}.{name}": inner for name, inner in value.items()}
        else:
            settings[section] = value
    if config.model.size is not None:  # said for all axes or for each, it is the same
        axes = len(config.model.size)
        settings["model.circular"] = check_circular(config.model.circular, axes)
        settings["model.stride"] = check_stride(config.model.stride, axes)
    return settings


def check_data(
    directory: Path, facts: dict[str, Any], source: Source, accept: bool, reporter: Reporter
) -> None:
    """Raise ValueError if the data has changed since the start of the run, unless allowed."""
    sealed = _sealed_data(directory)
    before = sealed or read_fingerprint(directory)
    changed = differences(before, facts) if before else ""
    if sealed and changed and _accepted(directory, facts):
        changed = ""
    if changed and not accept:
        raise ValueError(
            f"{source.name} has changed since {directory} was trained on it ({changed}): "
            "restore it, or continue with the current data with --accept-data"
        )
    if changed:
        reporter.say(f"continuing although {source.name} has changed: {changed}")


def _lengths(config: Config) -> str:
    posthoc = config.training.posthoc_ema
    return ", ".join(map(str, posthoc.lengths)) if posthoc else "none"


def _sealed_data(directory: Path) -> dict[str, Any] | None:
    """Return the fingerprint in the newest checkpoint that has one."""
    facts = (newest_sealed(directory) or {}).get("data")
    return facts if isinstance(facts, dict) else None


def _known(directory: Path) -> bool:
    """Say whether the data is known again when it has moved."""
    return (directory / DATA).is_file() or _sealed_data(directory) is not None


def _accepted(directory: Path, facts: dict[str, Any]) -> bool:
    """Say whether this data was accepted before, and no checkpoint has been written since."""
    try:
        return read_fingerprint(directory) == facts
    except ValueError:
        return False
