"""Items that are the same, byte for byte: none of them may lie on both sides of the split."""

import hashlib
import os
from collections.abc import Hashable, Iterable
from pathlib import Path

import numpy as np

from iddpm.data.sources.array_files import ArrayFiles
from iddpm.data.sources.pictures import Pictures
from iddpm.data.sources.source import DerivedSource, Source
from iddpm.data.sources.windows import Windows

LARGEST = 1 << 30
"""Bytes of an array whose items are all compared before training."""
_BLOCK = 4096


def identical_items(source: Source, largest: int | None = LARGEST) -> list[list[int]] | None:
    """Return the sets of identical items, each as rising indices; only sets of two or more.

    Files are compared by their bytes, where two are of one size, and those in shards and tables by
    all of them; items that were cut out of identical files count as identical. Items of arrays are
    compared by their values.

    Args:
        source: the items.
        largest: bytes that are read at most where items are no files of their own; None for all,
            decoded if need be.

    Returns:
        None where the items were not compared.
    """
    while isinstance(source, DerivedSource):  # what is found depends on no cache and no range
        source = source.original
    count = len(source)
    paths = {stamp.name: stamp.path for stamp in source.stamps() if stamp.path is not None}
    recordings = [source.recording(index) for index in range(count)]
    if all(name in paths for name in recordings):
        same = _same_files({name: paths[name] for name in dict.fromkeys(recordings)})
        return _sets(same.get(name) for name in recordings)
    if isinstance(source, Windows) and source.rows is not None:
        rows = source.rows
        found = identical_items(rows, largest)
        sets = {rows.key(index): k for k, items in enumerate(found or []) for index in items}
        return None if found is None else _sets(sets.get(name) for name in recordings)
    if isinstance(source, Pictures):
        if largest is not None and sum(stamp.size for stamp in source.stamps()) > largest:
            return None
        return _sets(_digest(source.content(index)) for index in range(count))
    if largest is not None:
        size = count * int(np.prod(source.shape)) * (4 if source.bits is None else 2)
        if size > largest or not (source.ready or isinstance(source, ArrayFiles)):
            return None
    return _sets(
        _digest(np.ascontiguousarray(source.read(index)).tobytes()) for index in range(count)
    )


def in_words(source: Source, identical: list[list[int]]) -> str:
    """Return how many items repeat another, and where two of them lie; empty where none does."""
    if not identical:
        return ""
    first, second = (source.recording(index) for index in identical[0][:2])
    extra = sum(len(items) - 1 for items in identical)
    return (
        f"{extra} of the {len(source)} items of {source.name} repeat another, such as {second}, "
        f"which is identical to {first}"
    )


def joined(groups: list[str], identical: list[list[int]]) -> list[str]:
    """Return groups, those that hold identical items made one, under the lowest of their names.

    Where all would become one, nothing could be held out, and all stay as they are.
    """
    over: dict[str, str] = {}

    def top(name: str) -> str:
        while name in over:
            name = over[name]
        return name

    for items in identical:
        names = sorted({top(groups[index]) for index in items})
        over.update(dict.fromkeys(names[1:], names[0]))
    together = [top(name) for name in groups]
    return together if len(set(together)) > 1 else groups


def _digest(content: Path | bytes) -> bytes:
    if isinstance(content, Path):
        return _all_bytes(content)
    return hashlib.blake2b(content, digest_size=16).digest()


def _same_files(paths: dict[str, Path]) -> dict[str, bytes]:
    """Return a digest of each file whose size, and some of whose bytes, another has too."""
    sizes = {name: os.path.getsize(path) for name, path in paths.items()}
    likely = _repeated({name: str(size).encode() for name, size in sizes.items()})
    likely = _repeated({name: _some_bytes(paths[name], sizes[name]) for name in likely})
    return {name: _all_bytes(paths[name]) for name in likely}


def _repeated(marks: dict[str, bytes]) -> dict[str, bytes]:
    seen: dict[bytes, int] = {}
    for mark in marks.values():
        seen[mark] = seen.get(mark, 0) + 1
    return {name: mark for name, mark in marks.items() if seen[mark] > 1}


def _some_bytes(path: Path, size: int) -> bytes:
    parts = [str(size).encode()]
    with open(path, "rb") as file:
        for place in (0, size // 2, max(size - _BLOCK, 0)):
            file.seek(place)
            parts.append(file.read(_BLOCK))
    return hashlib.blake2b(b"".join(parts), digest_size=16).digest()


def _all_bytes(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()


def _sets(marks: Iterable[Hashable]) -> list[list[int]]:
    found: dict[Hashable, list[int]] = {}
    for index, mark in enumerate(marks):
        if mark is not None:
            found.setdefault(mark, []).append(index)
    return [items for items in found.values() if len(items) > 1]
