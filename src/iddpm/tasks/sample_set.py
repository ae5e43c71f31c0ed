"""The samples of a directory as one set: an earlier set makes room, and a part is marked as one."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from iddpm.runtime.atomic_files import clear_temporaries
from iddpm.runtime.made_files import SAMPLES, MadeFiles, read_made

_ABOUT_ALL = (
    "grid.png", "grid.gif", "denoising.gif", "labels.csv", "conditions.csv", "samples.csv",
    "samples.npz",
)  # fmt: skip
_NUMBERED = re.compile(r"[0-9]{6,}(\.(png|wav|flac|nii\.gz|gif|webp|tif))?(/[0-9]{4,}\.png)?")
_TABLES = ("labels.csv", "conditions.csv", "samples.csv", "samples.npz")


def begin_set(
    directory: Path, names: Sequence[str], facts: dict[str, Any], console: Console
) -> MadeFiles:
    """Remove the samples of an earlier call and mark the directory as not complete.

    Args:
        directory: where samples are written.
        names: of the samples' files.
        facts: how they are drawn.
        console: where it is said that others were removed.

    Raises:
        FileExistsError: samples that no manifest lists.
        ValueError: a manifest that is damaged.
    """
    path = directory / SAMPLES
    earlier = read_made(path)
    known: set[str] = set()
    if earlier is not None:
        ours = tuple(name for name in earlier.files if _is_ours(name))
        earlier, known = replace(earlier, files=ours), {name.split("/")[0] for name in ours}
    others = [p.name for p in directory.iterdir()] if directory.is_dir() else []
    others = [name for name in others if name in _TABLES or _NUMBERED.fullmatch(name)]
    others = sorted(set(others) - known)
    if others:
        raise FileExistsError(
            f"{directory} holds {others[0]}, which {SAMPLES} does not list: earlier samples "
            "would be mixed with new ones; remove them, or give another --out"
        )
    made = MadeFiles(facts, (*names, *_ABOUT_ALL), complete=False)
    if earlier is not None:
        count = earlier.remove(directory)
        if count:
            console.print(
                f"note: removed the {count} files of earlier samples in {directory}", markup=False
            )
        clear_temporaries(directory)
    made.save(path)
    return made


def end_set(made: MadeFiles, directory: Path, names: Sequence[str], paths: Sequence[Path]) -> None:
    """Mark the directory as complete, with the files that were written."""
    others = [path.relative_to(directory).as_posix() for path in paths]
    replace(made, files=tuple(dict.fromkeys([*names, *others])), complete=True).save(
        directory / SAMPLES
    )


def _is_ours(name: str) -> bool:
    return name in _ABOUT_ALL or _NUMBERED.fullmatch(name) is not None
