"""The settings and weights of a run directory."""

from pathlib import Path

from torch import Tensor

from iddpm.config import ResolvedConfig
from iddpm.config.run_config import CONFIG as CONFIG
from iddpm.config.run_config import WEIGHTS as WEIGHTS
from iddpm.runs.sealed_settings import check_checkpoint
from iddpm.runs.sealed_settings import read_run_config as read_run_config
from iddpm.training.checkpoints.best import POINTER, read_best
from iddpm.training.checkpoints.checkpoint import list_checkpoints, load_checkpoint
from iddpm.training.checkpoints.ema_snapshots import reconstruct
from iddpm.training.checkpoints.weights import read_released
from iddpm.training.ema import ema_name

LIVE = "none"
"""The name of the weights without averaging."""


def read_run_weights(
    directory: Path,
    config: ResolvedConfig,
    *,
    ema: float | str | None = None,
    checkpoint: int | str | None = None,
    ema_length: float | None = None,
) -> tuple[dict[str, Tensor], Path]:
    """Return the chosen weights of a run by name, and their file or directory.

    Args:
        directory: the run directory.
        config: its settings.
        ema: rate of the average, ``"none"`` for the live weights; None for the first.
        checkpoint: step of the checkpoint, or ``"best"``; None for the newest.
        ema_length: instead of both, the length of an average to make from the run's snapshots.

    Raises:
        FileNotFoundError: no such checkpoint or average.
        ValueError: they are damaged, or ``ema`` is not a rate or ``checkpoint`` not a step.
    """
    if ema_length is not None:
        for name, value in (("ema", ema), ("checkpoint", checkpoint)):
            if value is not None:
                raise ValueError(
                    f"ema_length={ema_length:g} averages up to the newest snapshot, and "
                    f"{name}={value} selects other weights: use one of them"
                )
        return reconstruct(directory, ema_length), directory / "averages"
    released = directory / WEIGHTS
    if not list_checkpoints(directory) and checkpoint is None and ema is None:
        if not released.is_file():
            raise FileNotFoundError(
                f"{directory} has no checkpoint and no {WEIGHTS} yet: train it first"
            )
        return read_released(released), released
    group = _group(config, ema)
    read = load_checkpoint(directory, _step(directory, checkpoint), group)
    check_checkpoint(directory, config, read.path)
    if group not in read.tensors:
        rates = ", ".join(map(str, config.training.ema_rates))
        raise FileNotFoundError(f"{read.path} has no average of rate {ema}: use {rates} or none")
    return dict(read.tensors[group]), read.path


def _group(config: ResolvedConfig, ema: float | str | None) -> str:
    if ema is None:
        return ema_name(config.training.ema_rates[0])
    if ema == LIVE:
        return "network"
    try:
        return ema_name(float(ema))
    except ValueError:
        rates = ", ".join(map(str, config.training.ema_rates))
        raise ValueError(f"ema={ema!r} is not a rate: use {rates} or none") from None


def _step(directory: Path, checkpoint: int | str | None) -> int | None:
    if checkpoint is None or isinstance(checkpoint, int):
        return checkpoint
    if checkpoint == POINTER:
        return read_best(directory)
    if not checkpoint.isdecimal():
        raise ValueError(f"checkpoint={checkpoint!r} is not a step: use a number, or best")
    return int(checkpoint)
