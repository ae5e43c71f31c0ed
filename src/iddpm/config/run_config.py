"""The settings of a run directory, and what its main files are called."""

import hashlib
from pathlib import Path

from iddpm.config.resolved import ResolvedConfig, settle, what_is_missing
from iddpm.config.settings import Config, read_config, to_yaml

CONFIG = "config.yaml"
WEIGHTS = "model.safetensors"
"""The released weights: those of the first average."""
_MARK = "# sha256 of the lines above: "


def read_run_config(directory: Path) -> ResolvedConfig:
    """Return the settings of a run directory; errors in one sentence."""
    if directory.is_file():
        raise ValueError(f"{directory} is a file: give the run directory, which contains {CONFIG}")
    if not directory.is_dir():
        raise FileNotFoundError(f"there is no run directory {directory}")
    if not (directory / CONFIG).is_file():
        raise ValueError(f"{directory} is not a run directory: it has no {CONFIG}")
    config = read_config(directory / CONFIG)
    if missing := what_is_missing(config):
        raise ValueError(
            f"{directory / CONFIG} does not have the settings of a run: {', '.join(missing)} "
            "is missing; the file is damaged or belongs to something else"
        )
    return settle(config)


def written_settings(config: Config) -> str:
    """Return the text of a run's settings, with a checksum that a change by hand breaks."""
    text = to_yaml(config)
    return f"{text}{_MARK}{_sha256(text)}\n"


def is_as_written(path: Path) -> bool:
    """Say whether a run's settings are as training wrote them; not so of version 0.1.0."""
    text, mark, checksum = path.read_text(encoding="utf-8").rpartition(_MARK)
    return bool(mark) and checksum == _sha256(text) + "\n"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
