"""Committing a checkpoint: it is written to a hidden directory, which is then renamed.

``checkpoints/.step_00001000.TOKEN.1/`` is shared by all processes. Each writes its files there and
a list of their checksums last; the first one waits for all lists and renames the directory.
If a process ends before, the older checkpoints stay as they are.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from iddpm.runtime.atomic_files import fsync_directory, write_json, write_text
from iddpm.runtime.kept_directory import make_directory
from iddpm.runtime.processes import Ranks
from iddpm.training.checkpoints.checkpoint import (
    CHECKSUMS,
    checkpoint_name,
    list_checkpoints,
    step_of,
)
from iddpm.training.checkpoints.weights import write_weights

Files = Mapping[str, Mapping[str, Tensor]]
"""Named tensors by the name of their file without its suffix."""
LATEST = "latest"


def write_part(
    temporary: Path, files: Files, texts: Mapping[str, str], between: Callable[[], None]
) -> dict[str, str]:
    """Write a process's files to the disk and return their checksums by file name.

    Args:
        temporary: the shared directory; made if it is not there.
        files: what to write.
        texts: the first process's JSON by file name.
        between: called repeatedly; an error that it raises ends the writing.
    """
    make_directory(temporary)
    checksums = {}
    for name, named in files.items():
        path = temporary / f"{name}.safetensors"
        checksums[path.name] = write_weights(path, named, between=between)
    for name, text in texts.items():
        write_text(temporary / name, text)
        checksums[name] = hashlib.sha256(text.encode()).hexdigest()
    return checksums


def hand_in(temporary: Path, ranks: Ranks, part: dict[str, Any]) -> None:
    """Write this process's list of checksums for the first process, as its last file."""
    fsync_directory(temporary)
    write_json(temporary / _list_name(ranks.rank), part)


def collect(
    temporary: Path, ranks: Ranks, patience: float, between: Callable[[], None]
) -> dict[str, str]:
    """Wait for the lists of all other processes and return their checksums.

    Raises:
        TimeoutError: a list did not come within ``patience`` seconds, or holds an error.
    """
    checksums: dict[str, str] = {}
    deadline = time.monotonic() + patience
    for rank in range(1, ranks.count):
        path = temporary / _list_name(rank)
        while not path.is_file():
            between()
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"rank {rank} of {ranks.count} did not write its part within {patience:g} s"
                )
            time.sleep(0.02)
        part = json.loads(path.read_text(encoding="utf-8"))
        if "error" in part:
            raise TimeoutError(f"rank {rank} of {ranks.count}: {part['error']}")
        checksums |= part
    for rank in range(1, ranks.count):
        (temporary / _list_name(rank)).unlink()
    return checksums


def commit(temporary: Path, step: int, checksums: dict[str, str]) -> Path:
    """Rename a directory whose files are on the disk to the checkpoint's name."""
    write_json(temporary / CHECKSUMS, checksums)
    fsync_directory(temporary)
    final = temporary.with_name(checkpoint_name(step))
    if final.exists():  # skipped as damaged when the run continued from the one before
        final.rename(replaced_by(temporary))
    return temporary.rename(final)


def replaced_by(temporary: Path) -> Path:
    """Return the path of the checkpoint that a temporary directory replaces."""
    return temporary.with_name(f"{temporary.name}.replaced")


def point_to_latest(final: Path) -> None:
    """Name a committed checkpoint as the latest, once its own name is on the disk."""
    directory = final.parent.parent
    fsync_directory(final.parent)
    write_text(directory / LATEST, final.name + "\n")
    fsync_directory(directory)


def rotate(directory: Path, newest: int, *, keep: int, spare: int) -> None:
    """Remove all but ``keep`` checkpoints up to the step ``newest``, which is complete.

    Later ones are not counted: they are damaged, and the run continued from before them.

    Args:
        directory: the run directory.
        newest: step of the checkpoint that has just been committed; it always stays.
        keep: number of checkpoints that stay.
        spare: step of one more that stays.
    """
    known = [path for path in list_checkpoints(directory) if step_of(path) <= newest]
    for old in known[:-keep]:
        if step_of(old) != spare:  # renamed first: removing may take long
            shutil.rmtree(old.rename(old.with_name(f".{old.name}.removed")))


def clear_unfinished(directory: Path) -> None:
    """Remove uncommitted and replaced checkpoints; only under the directory's lock."""
    for path in (directory / "checkpoints").glob(".step_*"):
        shutil.rmtree(path, ignore_errors=True)


def _list_name(rank: int) -> str:
    return f"checksums.{rank}.json"
