"""Named tensors in safetensors files: written in one pass, read one by one."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from iddpm.training.checkpoints.checkpoint_files import read_facts, seal_metadata

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""The names of the dtypes in the format."""
CHUNK = 2**24
"""Bytes that are hashed and written at a time."""


def write_weights(
    path: Path,
    named: Mapping[str, Tensor],
    metadata: dict[str, str] | None = None,
    *,
    between: Callable[[], None] | None = None,
) -> str:
    """Write tensors as a safetensors file, to the disk, and return its SHA-256.

    The library's writer would need a second reading for the checksum and hides the number of an
    error. This one computes the checksum while writing and holds Python's lock for a chunk at most.

    Args:
        path: the file.
        named: tensors of any layout, on any device.
        metadata: further text of the file.
        between: called before each chunk; an error that it raises ends the writing.

    Raises:
        OSError: with the file's name, such as when the disk is full.
    """
    plain = {name: value.detach().cpu().contiguous() for name, value in named.items()}
    order = sorted(plain, key=lambda name: (-plain[name].element_size(), name))  # keeps alignment
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name in order:
        value = plain[name]
        start, end = end, end + value.nbytes
        shape = list(value.shape)
        header[name] = {
            "dtype": DTYPES[value.dtype], "shape": shape, "data_offsets": [start, end]
        }  # fmt: skip
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    try:
        with open(path, "wb") as file:
            parts = [memoryview(len(text).to_bytes(8, "little") + text)]
            for part in parts + [_bytes(plain[name]) for name in order]:
                for begin in range(0, len(part), CHUNK):
                    if between is not None:
                        between()
                    chunk = part[begin : begin + CHUNK]
                    digest.update(chunk)
                    file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    return digest.hexdigest()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; ValueError or FileNotFoundError with one sentence."""
    return dict(Weights([path]))


def write_sealed(path: Path, named: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
    """Write a safetensors file with facts and checksums that reveal any change."""
    write_weights(path, named, seal_metadata(facts, hash_weights(named)))


def check_tensors(path: Path, sha256: str | None) -> None:
    """Raise ValueError if the tensors of a file do not have this checksum; None for any."""
    if sha256 is not None and hash_weights(Weights([path])) != sha256:
        raise ValueError(f"{path} is damaged: its weights have changed since it was written")


def read_released(path: Path) -> dict[str, Tensor]:
    """Read released weights after checking their checksum.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it is damaged.
    """
    _, sha256 = read_facts(path)
    check_tensors(path, sha256)
    return read_weights(path)


class Weights(Mapping[str, Tensor]):
    """The tensors of one or more safetensors files, each read when it is needed.

    A name that several files hold is one tensor, its rows (axis 0) in the order of the files.

    Args:
        paths: the files.

    Raises:
        FileNotFoundError, ValueError: a file is not there, or is no whole safetensors file.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._parts: dict[str, list[Any]] = {}
        for path in paths:
            file = _open(path)
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                self._parts.setdefault(name, []).append(file)

    def __getitem__(self, name: str) -> Tensor:
        """Read a whole tensor."""
        parts = [file.get_tensor(name) for file in self._parts[name]]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._parts)

    def __len__(self) -> int:
        """Count the names."""
        return len(self._parts)

    def shape(self, name: str) -> torch.Size:
        """Return the shape of a tensor without reading it."""
        shapes = [file.get_slice(name).get_shape() for file in self._parts[name]]
        if len(shapes) == 1:
            return torch.Size(shapes[0])
        return torch.Size([sum(shape[0] for shape in shapes), *shapes[0][1:]])

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Read the rows from ``start`` to ``stop`` of a tensor, and no others."""
        found, before = [], 0
        for file in self._parts[name]:
            part = file.get_slice(name)
            count = part.get_shape()[0]
            first, last = max(start - before, 0), min(stop - before, count)
            if first < last:
                found.append(part[first:last])
            before += count
        return torch.cat(found) if found else self._parts[name][0].get_tensor(name)[:0]


def hash_weights(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of named tensors, independent of their files."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().contiguous().cpu()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(_bytes(value))
    return digest.hexdigest()


def _bytes(value: Tensor) -> memoryview:
    """Return the bytes of a contiguous tensor on the CPU, without a copy."""
    array: Any = value.reshape(-1).view(torch.uint8).numpy()  # a buffer to types from 3.12 on
    return memoryview(array)


def _open(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"there is no weights file {path}")
    try:
        return safe_open(path, "pt")
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}): truncated, or of another kind"
        ) from None
