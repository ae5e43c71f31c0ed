"""Snapshots of power-function averages in a run directory, and averages made from them.

``averages/step_00001000.safetensors`` holds the averages of that step, named ``0.05/WEIGHT``.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from iddpm.runtime.atomic_files import write_atomically
from iddpm.runtime.processes import ALONE, Ranks
from iddpm.training.checkpoints.checkpoint_files import (
    checkpoint_name,
    missing_snapshots,
    read_facts,
    step_of,
)
from iddpm.training.checkpoints.weights import check_tensors, write_sealed
from iddpm.training.ema import EMA
from iddpm.training.parallel import whole_weights
from iddpm.training.power import LONGEST, PowerEMA, Profiles, fit, gamma_of

LARGEST_ERROR = 0.1
"""Of a profile made from snapshots, as a share of its norm; above, the length is refused."""


def write_snapshot(directory: Path, step: int, emas: Sequence[EMA], ranks: Ranks = ALONE) -> None:
    """Write the power-function averages among ``emas``, if there are any and they hold something.

    Args:
        directory: the run directory.
        step: number of steps that have been taken.
        emas: averages of the same network.
        ranks: all call it, and the first one writes.
    """
    powers = [ema for ema in emas if isinstance(ema, PowerEMA) and ema.updates]
    tensors = {}
    for power in powers:
        for name, value in whole_weights(power.network, ranks).items():
            tensors[f"{power.length:g}/{name}"] = value
    if not tensors:
        return
    facts = {"updates": powers[0].updates, "lengths": [power.length for power in powers]}
    path = directory / "averages" / f"{checkpoint_name(step)}.safetensors"
    write_atomically(
        path,
        lambda temporary: write_sealed(temporary, tensors, facts),
    )


def drop_later_snapshots(directory: Path, step: int) -> None:
    """Remove the snapshots after ``step``, where the run resumes, and incomplete ones."""
    for path in (directory / "averages").glob(".step_*"):
        path.unlink()
    for path in list_snapshots(directory):
        if step_of(path.with_suffix("")) > step:
            path.unlink()


def warn_of_missing(directory: Path) -> None:
    """Warn of snapshots that are gone: an average made from the others is another one."""
    if missing := missing_snapshots(directory):
        warnings.warn(
            f"{directory / 'averages'} has lost {', '.join(missing)}, which the run had "
            "written: averages of any length are computed from the others and differ",
            stacklevel=3,
        )


def list_snapshots(directory: Path) -> list[Path]:
    """Return the snapshots of a run directory, oldest first."""
    return sorted((directory / "averages").glob("step_*.safetensors"))


def reconstruct(directory: Path, length: float) -> dict[str, Tensor]:
    """Return the average of any length as of the newest snapshot, by weight name.

    Args:
        directory: the run directory.
        length: sigma_rel, the average's standard deviation as a share of the training.

    Raises:
        FileNotFoundError: the run keeps no power-function averages.
        ValueError: a length that its snapshots cannot make, or a damaged snapshot.
    """
    paths = list_snapshots(directory)
    if not paths:
        raise FileNotFoundError(
            f"{directory} has no snapshots for ema_length={length:g}: train with "
            "training.posthoc_ema=true, or select one of the run's averages by its rate (ema)"
        )
    warn_of_missing(directory)
    facts = [_facts(path) for path in paths]
    kept = [(k, length) for k, fact in enumerate(facts) for length in fact["lengths"]]
    ends = np.array([float(facts[k]["updates"]) for k, _ in kept])
    profiles = Profiles(ends, np.array([gamma_of(length) for _, length in kept]))
    weights, error = fit(profiles, _wanted(profiles, length))
    if error > LARGEST_ERROR:
        shortest, longest = _possible(profiles)
        raise ValueError(
            f"ema_length={length:g} cannot be computed from the {len(paths)} snapshots in "
            f"{directory / 'averages'}: use {shortest:g} to {longest:g}"
        )
    total: dict[str, Tensor] = {}
    dtypes: dict[str, torch.dtype] = {}
    for weight, (k, kept_length) in zip(weights.tolist(), kept, strict=True):
        prefix = f"{kept_length:g}/"
        with safe_open(paths[k], "pt") as file:
            for key in file.keys():  # noqa: SIM118 - it is no mapping
                if key.startswith(prefix):
                    name, value = key.removeprefix(prefix), file.get_tensor(key)
                    dtypes[name] = value.dtype
                    total[name] = total.get(name, 0) + weight * value.double()
    return {name: value.to(dtypes[name]) for name, value in total.items()}


def _wanted(kept: Profiles, length: float) -> Profiles:
    return Profiles(kept.end.max(keepdims=True), np.array([gamma_of(length)]))


def _possible(kept: Profiles) -> tuple[float, float]:
    """Return the shortest and the longest length that snapshots can make, to two digits."""
    lengths = [k / 1000 for k in range(1, int(1000 * LONGEST) + 1)]
    good = [s for s in lengths if fit(kept, _wanted(kept, s)).error <= LARGEST_ERROR]
    return good[0], good[-1]


def _facts(path: Path) -> dict[str, Any]:
    """Return what a snapshot says of itself, after a look at its checksums."""
    facts, sha256 = read_facts(path)
    if set(facts) != {"updates", "lengths"}:
        raise ValueError(f"{path} is damaged or not a snapshot of averages")
    check_tensors(path, sha256)
    return facts
