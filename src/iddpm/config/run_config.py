"""The settings of a run directory, and what its main files are called."""

from pathlib import Path

from iddpm.config.settings import Config, read_config

CONFIG = "config.yaml"
WEIGHTS = "model.safetensors"
"""The released weights: those of the first average."""


def read_run_config(directory: Path) -> Config:
    """Return the settings of a run directory; errors in one sentence."""
    if directory.is_file():
        raise ValueError(
            f"{directory} is a file: give the run directory, the one that holds {CONFIG}"
        )
    if not directory.is_dir():
        raise FileNotFoundError(f"there is no run directory {directory}")
    if not (directory / CONFIG).is_file():
        raise ValueError(f"{directory} is not a run directory: it holds no {CONFIG}")
    return read_config(directory / CONFIG)
