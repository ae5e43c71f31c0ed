"""Checkpoints: directories that are complete or not there.

``checkpoints/step_00001000/`` holds safetensors files, ``state.json`` (numbers and names),
``settings.json`` (what it was trained with) and ``checksums.json`` (SHA-256 of the others).
No pickle is read. Sharded tensors are in ``network.1-of-2.safetensors`` and so on, and are joined
on reading, so that any number of processes can continue.
"""

import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from iddpm.runtime.processes import ALONE, Ranks
from iddpm.training.checkpoints.checkpoint_files import CHECKSUMS as CHECKSUMS
from iddpm.training.checkpoints.checkpoint_files import STATE as STATE
from iddpm.training.checkpoints.checkpoint_files import checkpoint_name as checkpoint_name
from iddpm.training.checkpoints.checkpoint_files import file_sha256, read_json_file
from iddpm.training.checkpoints.checkpoint_files import list_checkpoints as list_checkpoints
from iddpm.training.checkpoints.checkpoint_files import step_of as step_of
from iddpm.training.checkpoints.weights import Weights

FORMAT = 1
_FILE = re.compile(r"(.+?)(?:\.(\d+)-of-\d+)?\.safetensors")


class Checkpoint(NamedTuple):
    """The content of a checkpoint."""

    path: Path
    step: int
    tensors: dict[str, Weights]
    """By group: ``network``, ``ema_0.9999``, ``optimizer``, ...; read on access."""
    state: dict[str, Any]


def load_checkpoint(
    directory: Path, step: int | None = None, group: str | None = None, *, ranks: Ranks = ALONE
) -> Checkpoint:
    """Read a checkpoint of a run directory after checking its checksums.

    Args:
        directory: the run directory.
        step: which one; None for the newest complete one. A damaged one is skipped with a warning
            that names it and the one used instead.
        group: open only these tensors.
        ranks: the processes that read it; the first one checks and chooses for all.

    Raises:
        FileNotFoundError: no checkpoint, or none of that step.
        ValueError: the checkpoint is damaged.
    """
    checked: Checkpoint | None = None
    with ranks.together():
        if ranks.first:
            if step is None:
                checked = _newest_whole(directory, group)
            else:
                checked = read_checkpoint(_of_step(directory, step), group)
    path = ranks.gathered(checked and checked.path)[0]
    with ranks.together():
        return checked or read_checkpoint(path, group, check=False)


def read_checkpoint(path: Path, group: str | None = None, *, check: bool = True) -> Checkpoint:
    """Open one checkpoint directory; ValueError with one sentence when it is damaged.

    Args:
        path: the checkpoint.
        group: open, and check, only these tensors.
        check: read everything once and hold it against its checksums.
    """
    try:
        checksums = read_json_file(path / CHECKSUMS)
        groups: dict[str, list[tuple[int, Path]]] = {}
        for name in {*checksums, *(file.name for file in path.glob("*.safetensors"))}:
            match = _FILE.fullmatch(name)
            if match and group in (None, match[1]):
                groups.setdefault(match[1], []).append((int(match[2] or 0), path / name))
        texts = {STATE} | {name for name in checksums if not _FILE.fullmatch(name)}
        for file in [
            *(path / name for name in sorted(texts)),
            *(file for files in groups.values() for _, file in files),
        ]:
            if check and file_sha256(file) != checksums.get(file.name):
                raise ValueError(f"checkpoint {path} is damaged: {file.name} has changed since")
        state = read_json_file(path / STATE)
        if state.get("format") != FORMAT:
            raise ValueError(
                f"checkpoint {path} has format {state.get('format')}, and this version "
                f"reads {FORMAT}"
            )
        tensors = {
            name: Weights([file for _, file in sorted(files)])
            for name, files in sorted(groups.items())
        }
    except OSError as error:
        raise ValueError(f"checkpoint {path} is damaged: {error}") from None
    return Checkpoint(path, state["step"], tensors, state)


def _of_step(directory: Path, step: int) -> Path:
    found = list_checkpoints(directory)
    for path in found:
        if step_of(path) == step:
            return path
    if not found:
        raise FileNotFoundError(f"{directory} has no checkpoint yet")
    steps = ", ".join(str(step_of(path)) for path in found)
    raise FileNotFoundError(f"{directory} has no checkpoint of step {step}; it has {steps}")


def _newest_whole(directory: Path, group: str | None) -> Checkpoint:
    found = list_checkpoints(directory)
    if not found:
        raise FileNotFoundError(f"{directory} has no checkpoint yet")
    problem = ""
    for path in reversed(found):
        try:
            checkpoint = read_checkpoint(path, group)
        except ValueError as error:
            problem = problem or str(error)
            continue
        if problem:
            warnings.warn(f"{problem}; using {path.name} instead", stacklevel=3)
        return checkpoint
    raise ValueError(problem)
