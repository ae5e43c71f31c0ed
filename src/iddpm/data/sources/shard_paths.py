"""Which files a path, a folder or a pattern of numbers names."""

import re
from collections.abc import Iterator
from pathlib import Path

_NUMBER = re.compile(r"\d+")
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


def shard_paths(where: Path, suffix: str) -> list[Path]:
    """Return the files of a path, of a folder or of a pattern such as ``{000..012}.tar``.

    Raises:
        FileNotFoundError: one of them does not exist.
        ValueError: a pattern that counts downwards.
    """
    if where.is_dir():
        found = (path for path in where.iterdir() if path.suffix.lower() == suffix)
        return sorted(path for path in found if not path.name.startswith("."))
    paths: list[Path] = []
    for name in _expanded(str(where)):  # one by one: a slip may name more than can be counted
        if not Path(name).is_file():
            raise FileNotFoundError(f"there is no shard {name}: {_there(Path(name), paths)}")
        paths.append(Path(name))
    if not paths:
        raise ValueError(f"{where} names no file: write the lower number first, as in {{000..012}}")
    return paths


def pattern_of(paths: list[Path]) -> str:
    """Return what names some files of a folder, as it can be given: one file, or a pattern.

    Of files whose numbers have gaps, or that differ in more than one number, it is the first.
    """
    names = [str(path) for path in sorted(paths)]
    first, last = names[0], names[-1]
    for one, other in zip(_NUMBER.finditer(first), _NUMBER.finditer(last), strict=False):
        pattern = f"{first[: one.start()]}{{{one[0]}..{other[0]}}}{first[one.end() :]}"
        count = int(other[0]) - int(one[0]) + 1
        if one[0] != other[0] and count == len(names) and list(_expanded(pattern)) == names:
            return pattern
    return first


def _there(missing: Path, before: list[Path]) -> str:
    """Say which shards there are, where one of a pattern is missing."""
    if before:
        return f"{pattern_of(before)} exists for this pattern"
    folder = missing.parent
    found = sorted(folder.glob(f"*{missing.suffix}")) if folder.is_dir() else []
    found = [path for path in found if path.is_file() and not path.name.startswith(".")]
    if not found:
        what = f"has no {missing.suffix}" if folder.is_dir() else "does not exist"
        return f"{folder} {what}"
    return f"{folder} holds {len(found)} {missing.suffix}, such as {found[0].name}"


def is_pattern(where: Path) -> bool:
    """Return whether a path has numbers in braces to be counted through."""
    return _BRACES.search(str(where)) is not None and not where.exists()


def _expanded(text: str) -> Iterator[str]:
    found = _BRACES.search(text)
    if found is None:
        yield text
        return
    first, last = found.groups()
    width = len(first) if first.startswith("0") else 0
    before, after = text[: found.start()], text[found.end() :]
    for number in range(int(first), int(last) + 1):
        yield from _expanded(f"{before}{number:0{width}}{after}")
