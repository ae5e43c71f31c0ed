"""The files of some suffixes below a folder, and recordings that are such files."""

import os
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from iddpm.data.sources.source import Stamp
from iddpm.data.sources.windows import Recordings
from iddpm.data.values import Values


def find_files(path: Path, suffixes: tuple[str, ...]) -> list[str]:
    """Return files relative to a folder, sorted, without hidden ones; of a file its own name."""
    return [path.name] if path.is_file() else sorted(_walk(path, suffixes))


def first_file(path: Path, suffixes: tuple[str, ...]) -> Path | None:
    """Return one of the files below a folder; looks no further, and finds the same each time."""
    found = next(_walk(path, suffixes), None)
    return None if found is None else path / found


def _walk(path: Path, suffixes: tuple[str, ...]) -> Iterator[str]:
    visited = set()
    for directory, folders, files in os.walk(path, followlinks=True):
        real = os.path.realpath(directory)
        if real in visited:  # a link that leads back up
            folders.clear()
            continue
        visited.add(real)
        # "._cat.jpg" and "__MACOSX" are left by archives, and hold nothing.
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__MACOSX")
        for file in sorted(files):
            if not file.startswith(".") and file.lower().endswith(suffixes):
                yield (Path(directory) / file).relative_to(path).as_posix()


class RecordingFiles(Recordings):
    """The files of some suffixes below a folder, or one file, each a recording.

    A subclass opens them, and finds the range of their numbers.

    Args:
        path: a folder or a file.
        suffixes: of the files, in small letters.
    """

    _values: Values

    def __init__(self, path: Path, suffixes: tuple[str, ...]) -> None:
        self._root = path.parent if path.is_file() else path
        self.name = path.resolve().name
        self._keys = find_files(path, suffixes)

    def key(self, index: int) -> str:
        """Return the path relative to the folder."""
        return self._keys[index]

    def stamps(self) -> Iterator[Stamp]:
        """Yield a stamp of each file."""
        for key in self._keys:
            yield Stamp.of(self._root / key, key)

    def read_box(self, index: int, start: tuple[int, ...], size: tuple[int, ...]) -> NDArray[Any]:
        """Return a part ``[C, *size]``."""
        raw = self._raw(index, start, size)[None]
        part: NDArray[Any] = self._values.read(raw, self._keys[index], [index])[0]
        return part

    @abstractmethod
    def _raw(self, index: int, start: tuple[int, ...], size: tuple[int, ...]) -> NDArray[Any]:
        """Return a part as it is stored."""
