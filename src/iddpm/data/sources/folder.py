"""The files of some suffixes below a folder."""

import os
from pathlib import Path


def find_files(path: Path, suffixes: tuple[str, ...]) -> list[str]:
    """Return files relative to a folder, sorted, without hidden ones; of a file its own name."""
    if path.is_file():
        return [path.name]
    keys = []
    for directory, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        keys += [
            (Path(directory) / file).relative_to(path).as_posix()
            for file in files
            if not file.startswith(".") and file.lower().endswith(suffixes)
        ]
    return sorted(keys)


def root_of(path: Path) -> Path:
    """Return the folder that such names are relative to."""
    return path.parent if path.is_file() else path
