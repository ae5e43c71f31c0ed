"""The manifest of a call: its files, how they were made, and whether all were written."""

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from iddpm.runtime.atomic_files import write_json

SAMPLES = "samples.json"
"""The manifest of ``iddpm sample``."""
UPSCALED = "upscale.json"
"""The manifest of ``iddpm upscale``."""
RESTORED = "restoration.json"
"""The manifest of ``iddpm restore``."""
MANIFESTS = (SAMPLES, UPSCALED, RESTORED)
OVERVIEWS = frozenset(("grid.png", "grid.gif", "denoising.gif", "comparison.png"))
"""Files beside the samples that show several of them."""


@dataclass(frozen=True)
class MadeFiles:
    """The content of a manifest.

    Attributes:
        facts: all that the files depend on; JSON.
        files: their names, posix paths relative to the directory, also of those still to come.
        complete: whether all were written.
    """

    facts: dict[str, Any]
    files: tuple[str, ...]
    complete: bool

    def save(self, path: Path) -> Path:
        """Write the manifest atomically."""
        return write_json(
            path, {"complete": self.complete, "made": self.facts, "files": list(self.files)}
        )

    def remove(self, directory: Path) -> int:
        """Remove the files that are listed, and folders left empty; return how many files."""
        root, count = directory.resolve(), 0
        for name in self.files:
            path = directory / name
            if not path.parent.resolve().is_relative_to(root):  # through a link
                continue
            if path.is_file() or path.is_symlink():
                path.unlink()
                count += 1
            folder = path.parent
            while folder != directory and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
                folder = folder.parent
        return count


def read_made(path: Path) -> MadeFiles | None:
    """Read a manifest; None where there is none.

    Raises:
        ValueError: it is damaged, or names files outside its directory.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        facts, files, complete = found["made"], found["files"], found["complete"]
        sound = isinstance(facts, dict) and isinstance(complete, bool) and _inside(files)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise ValueError(
            f"{path} is damaged: remove it and the files that were written beside it, or give "
            "another directory"
        )
    return MadeFiles(facts, tuple(files), complete)


def overviews(directory: Path, names: Iterable[str]) -> set[str]:
    """Return the files of a directory that its manifest lists as views of several others."""
    shown = OVERVIEWS.intersection(names)
    listed: set[str] = set()
    if shown:
        for name in MANIFESTS:
            with suppress(ValueError):  # `partly_made` reports a damaged one
                made = read_made(directory / name)
                listed.update(() if made is None else made.files)
    return listed & shown


def partly_made(directory: Path) -> str | None:
    """Return a sentence if a directory holds an incomplete set of files."""
    for name in MANIFESTS:
        try:
            made = read_made(directory / name)
        except ValueError as error:
            return str(error)
        if made is not None and not made.complete:
            return f"{directory} is incomplete: the command was interrupted ({name}); run it again"
    return None


def _inside(files: Iterable[Any]) -> bool:
    paths = [PurePosixPath(name) for name in files]
    return all(path.parts and not path.is_absolute() and ".." not in path.parts for path in paths)
