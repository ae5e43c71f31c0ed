"""Checkpoints: a directory that is there whole or not at all.

``checkpoints/step_00001000/`` holds safetensors files, ``state.json`` (numbers and names) and
``checksums.json`` (SHA-256 of the others). Nothing in it is a program: no pickle is read.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from iddpm.files import fsync_directory, write_json, write_text

FORMAT = 1
_NAME = re.compile(r"step_(\d{8,})")


class Checkpoint(NamedTuple):
    """What a checkpoint holds."""

    path: Path
    step: int
    tensors: dict[str, dict[str, Tensor]]
    """By file name without its suffix: ``network``, ``ema_0.9999``, ``optimizer``, ..."""
    state: dict[str, Any]


def save_checkpoint(
    directory: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    *,
    keep: int,
    spare: int | None = None,
) -> Path:
    """Write a checkpoint, point ``latest`` at it and remove all but the newest ``keep``.

    Everything goes to a temporary directory that is renamed when its files are on the disk, so a
    reader never meets half a checkpoint; older ones are removed only afterwards.

    Args:
        directory: the run directory.
        step: number of steps that have been taken.
        tensors: groups of named tensors; each becomes a file.
        state: what else there is, as JSON.
        keep: how many checkpoints stay.
        spare: step of one more that stays.

    Returns:
        The checkpoint's directory.
    """
    root = directory / "checkpoints"
    root.mkdir(parents=True, exist_ok=True)
    final = root / checkpoint_name(step)
    temporary = Path(tempfile.mkdtemp(dir=root, prefix=f".{final.name}."))
    try:
        for group, named in tensors.items():
            write_weights(temporary / f"{group}.safetensors", named)
        write_json(temporary / "state.json", {"format": FORMAT, "step": step, **state})
        checksums = {p.name: _digest(p) for p in sorted(temporary.iterdir())}
        write_json(temporary / "checksums.json", checksums)
        for path in temporary.iterdir():
            with open(path, "rb") as written:
                os.fsync(written.fileno())
        fsync_directory(temporary)
        temporary.chmod(0o755)
        if final.exists():  # the same step again, after a resume: it holds the same
            shutil.rmtree(final)
        temporary.replace(final)
        fsync_directory(root)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    write_text(directory / "latest", final.name + "\n")
    for old in list_checkpoints(directory)[:-keep]:
        if old != final and step_of(old) != spare:
            shutil.rmtree(old)
    return final


def list_checkpoints(directory: Path) -> list[Path]:
    """Return the checkpoints of a run directory, oldest first."""
    root = directory / "checkpoints"
    found = [p for p in root.iterdir() if _NAME.fullmatch(p.name)] if root.is_dir() else []
    return sorted(found, key=step_of)


def load_checkpoint(directory: Path, step: int | None = None, prefix: str = "") -> Checkpoint:
    """Read a checkpoint of a run directory after checking its checksums.

    Args:
        directory: the run directory.
        step: which one; None for the newest that is whole. A damaged one is passed over with a
            warning that names it and the one used instead.
        prefix: read only tensor files whose name begins so.

    Raises:
        FileNotFoundError: no checkpoint, or none of that step.
        ValueError: the checkpoint is damaged.
    """
    found = list_checkpoints(directory)
    if not found:
        raise FileNotFoundError(f"{directory} has no checkpoint yet")
    if step is not None:
        for path in found:
            if step_of(path) == step:
                return read_checkpoint(path, prefix)
        steps = ", ".join(str(step_of(path)) for path in found)
        raise FileNotFoundError(f"{directory} has no checkpoint of step {step}; it has {steps}")
    problem = ""
    for path in reversed(found):
        try:
            checkpoint = read_checkpoint(path, prefix)
        except ValueError as error:
            problem = problem or str(error)
            continue
        if problem:
            warnings.warn(f"{problem}; using {path.name} instead", stacklevel=2)
        return checkpoint
    raise ValueError(problem)


def read_checkpoint(path: Path, prefix: str = "") -> Checkpoint:
    """Read one checkpoint directory; ValueError with one sentence when it is damaged.

    Only tensor files whose name begins with ``prefix`` are read, and checked.
    """
    try:
        checksums = json.loads((path / "checksums.json").read_text(encoding="utf-8"))
        checksums = {
            name: digest
            for name, digest in checksums.items()
            if name.startswith(prefix) or name == "state.json"
        }
        for name, digest in checksums.items():
            if _digest(path / name) != digest:
                raise ValueError(f"checkpoint {path} is damaged: {name} has changed since")
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        if state.get("format") != FORMAT:
            raise ValueError(
                f"checkpoint {path} has format {state.get('format')}, this version reads {FORMAT}"
            )
        files = [name for name in checksums if name.endswith(".safetensors")]
        tensors = {name.removesuffix(".safetensors"): read_weights(path / name) for name in files}
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"checkpoint {path} is damaged: {error}") from None
    return Checkpoint(path, state["step"], tensors, state)


def write_weights(
    path: Path, named: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write tensors as safetensors, which refuses views and layouts such as channels_last."""
    plain = {name: value.detach().cpu().contiguous() for name, value in named.items()}
    save_file(plain, path, metadata)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; ValueError or FileNotFoundError with one sentence."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no weights file {path}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}): truncated, or of another kind"
        ) from None


def checkpoint_name(step: int) -> str:
    """Return the name of a step's checkpoint."""
    return f"step_{step:08d}"


def step_of(path: Path) -> int:
    """Return the step that a checkpoint's name says; ValueError when it is no such name."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path} is not the name of a checkpoint")
    return int(match[1])


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_weights(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of named tensors, whatever file they lay in."""
    digest = hashlib.sha256()
    for part in _parts(weights):
        digest.update(part)
    return digest.hexdigest()


def _parts(weights: Mapping[str, Tensor]) -> Iterator[bytes]:
    for name in sorted(weights):
        value = weights[name].contiguous().cpu()
        yield f"{name} {value.dtype} {tuple(value.shape)}\n".encode()
        yield value.flatten().view(torch.uint8).numpy().tobytes()
