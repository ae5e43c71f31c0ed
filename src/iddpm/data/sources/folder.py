"""The files of some suffixes below a folder, and recordings that are such files."""

import os
import warnings
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from iddpm.data.sources.source import Stamp
from iddpm.data.sources.windows import Recordings
from iddpm.data.values import Values
from iddpm.runtime.made_files import overviews

_NAMED = 5  # files that a message lists


def find_files(path: Path, suffixes: tuple[str, ...], *, skip_links: bool = False) -> list[str]:
    """Return files relative to a folder, sorted, without hidden ones; of a file its own name.

    Args:
        path: a folder or a file.
        suffixes: of the files, in small letters.
        skip_links: leave links that lead nowhere out, with a warning.

    Raises:
        ValueError: a link that leads nowhere.
    """
    if path.is_file():
        return [path.name]
    found, broken, shown = [], [], []
    for name, kind in _walk(path):
        if not name.lower().endswith(suffixes):
            continue
        if kind is _Kind.FILE:
            found.append(name)
        elif kind is _Kind.OVERVIEW:
            shown.append(name)
        elif (path / name).is_symlink() and not (path / name).exists():
            broken.append(name)
        else:
            warnings.warn(
                f"skipped {path / name}: it is a pipe, a socket or a device, not a file",
                stacklevel=3,
            )
    if broken:
        _report_links(path, sorted(broken), skip_links)
    if shown:
        warnings.warn(
            f"skipped {', '.join(str(path / name) for name in sorted(shown)[:5])}: written "
            "beside samples to show several of them",
            stacklevel=3,
        )
    return sorted(found)


def whole_files(
    where: str,
    keys: list[str],
    read: Callable[[str], object],
    damage: type[ValueError] = ValueError,
) -> list[str]:
    """Return the files that can be read whole, and warn of those left out (data.corrupt=skip).

    Args:
        where: for messages.
        keys: names of the files.
        read: reads one of them.
        damage: the error that says that a file by itself cannot be read.

    Raises:
        ValueError: none is left.
    """
    problems: dict[str, ValueError] = {}
    for key in keys:
        try:
            read(key)
        except damage as error:
            problems[key] = error
    if not problems:
        return keys
    first = next(iter(problems.values()))
    if len(problems) == len(keys):
        raise ValueError(f"none of the {len(keys)} files of {where} can be read, first: {first}")
    named = ", ".join([*list(problems)[:_NAMED], *["..."] * (len(problems) > _NAMED)])
    warnings.warn(
        f"skipped {len(problems)} of {len(keys)} files of {where} that cannot be read "
        f"({named}), first: {first}",
        stacklevel=4,
    )
    return [key for key in keys if key not in problems]


def first_file(path: Path, suffixes: tuple[str, ...]) -> Path | None:
    """Return one of the files below a folder; looks no further, and finds the same each time."""
    names = every_file(path)
    found = next((name for name in names if name.lower().endswith(suffixes)), None)
    return None if found is None else path / found


def every_file(path: Path) -> Iterator[str]:
    """Yield the regular files below a folder, relative to it, without hidden ones and overviews."""
    return (name for name, kind in _walk(path) if kind is _Kind.FILE)


def describe(folder: Path) -> str:
    """Return what a folder holds, for a message that says what is missing in it."""
    names = list(every_file(folder))
    return f"it holds {by_suffix(names)}" if names else "it holds no files"


def by_suffix(names: list[str]) -> str:
    """Return how many files of each suffix there are, in words."""
    counts = Counter(os.path.splitext(name)[1].lower() for name in names)
    parts = [f"{n} {suffix or 'without a suffix'}" for suffix, n in counts.most_common(_NAMED)]
    rest = counts.total() - sum(n for _, n in counts.most_common(_NAMED))
    return ", ".join(parts) + (f" and {rest} of other suffixes" if rest else "")


def _report_links(path: Path, broken: list[str], skip: bool) -> None:
    first = path / broken[0]
    if not skip:
        raise ValueError(
            f"{first} is a broken link (to {os.readlink(first)}): remove it, or restore its "
            "target; -s data.corrupt=skip skips such links"
        )
    more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
    warnings.warn(f"skipped broken links: {first}{more}", stacklevel=4)


class _Kind(Enum):
    """What is no folder."""

    FILE = "a regular file"
    OVERVIEW = "a regular file that a manifest lists as a view of others"
    OTHER = "a pipe, a socket, a device, or a broken link"


def _walk(path: Path) -> Iterator[tuple[str, _Kind]]:
    """Yield what is no folder below a folder, and what it is."""
    visited = set()
    for directory, folders, files in os.walk(path, followlinks=True):
        real = os.path.realpath(directory)
        if real in visited:  # a link that leads back up
            folders.clear()
            continue
        visited.add(real)
        # "._cat.jpg" and "__MACOSX" are left by archives, and hold nothing.
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__MACOSX")
        shown = overviews(Path(directory), files)
        for file in sorted(files):
            if not file.startswith("."):
                whole = os.path.join(directory, file)
                kind = _Kind.FILE if os.path.isfile(whole) else _Kind.OTHER
                kind = _Kind.OVERVIEW if file in shown else kind
                yield Path(whole).relative_to(path).as_posix(), kind


class RecordingFiles(Recordings):
    """The files of some suffixes below a folder, or one file, each a recording.

    A subclass opens them, and finds the range of their numbers.

    Args:
        path: a folder or a file.
        suffixes: of the files, in small letters.
        corrupt: ``"skip"`` reads every file once and leaves out those that cannot be read.
    """

    _damage: type[ValueError] = ValueError
    """What `_read_whole` raises of a file that is damaged."""
    _values: Values

    def __init__(
        self, path: Path, suffixes: tuple[str, ...], corrupt: Literal["error", "skip"] = "error"
    ) -> None:
        self._root = path.parent if path.is_file() else path
        self.name = path.resolve().name
        self._keys = self._listed(path, find_files(path, suffixes, skip_links=corrupt == "skip"))
        if corrupt == "skip":
            self._keys = whole_files(str(path), self._keys, self._read_whole, self._damage)

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

    def _listed(self, path: Path, keys: list[str]) -> list[str]:
        """Return which of the files are recordings by themselves."""
        return keys

    @abstractmethod
    def _read_whole(self, key: str) -> None:
        """Read a file from end to end; raise what says that it is damaged."""

    @abstractmethod
    def _raw(self, index: int, start: tuple[int, ...], size: tuple[int, ...]) -> NDArray[Any]:
        """Return a part as it is stored."""
