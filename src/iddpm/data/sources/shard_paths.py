"""Which files a path, a folder or a pattern of numbers names."""

import re
from collections.abc import Iterator
from pathlib import Path

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
    paths = []
    for name in _expanded(str(where)):  # one by one: a slip may name more than can be counted
        if not Path(name).is_file():
            raise FileNotFoundError(f"there is no shard {name}")
        paths.append(Path(name))
    if not paths:
        raise ValueError(f"{where} names no file: count upwards, as in {{000..012}}")
    return paths


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
