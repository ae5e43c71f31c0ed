"""Tables beside the data, whose rows go by the names of the items."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

Row = TypeVar("Row")


def find_table(path: str, folder: Path, what: str) -> Path:
    """Return where a table lies; FileNotFoundError when it is neither here nor in the folder."""
    for found in (Path(path), folder / path):
        if found.is_file():
            return found
    raise FileNotFoundError(
        f"the {what} {path} exists neither in the working directory nor in {folder}"
    )


def normal_name(name: str) -> str:
    """Return a name of a table as items have it: with forward slashes."""
    return PurePosixPath(name.strip().replace("\\", "/")).as_posix()


def names_of(keys: Sequence[str]) -> set[str]:
    """Return all that items may be called: key, file name, and both without suffix."""
    return {name for key in keys for name in _names(key)}


def _names(key: str) -> tuple[str, ...]:
    """Return what an item may be called: by its key, its file name, and both without suffix."""
    path = PurePosixPath(key)
    name = path.name
    stems = [name[: -len(".nii.gz")]] if name.lower().endswith(".nii.gz") else [path.stem]
    return (key, path.with_name(stems[0]).as_posix(), name, stems[0])


def rows_of(
    rows: Mapping[str, Row], keys: Sequence[str], table: Path, what: str, rest: str
) -> list[Row]:
    """Return the row of each item: by its key, or by its file name where that is the only one.

    Either may lack its suffix.

    Args:
        rows: by the names in the table.
        keys: of the items.
        table: for messages.
        what: what a row holds, such as ``label``.
        rest: what would follow the key in a row.

    Raises:
        ValueError: an item without a row, or one whose name others have too.
    """
    times = Counter(name for key in dict.fromkeys(keys) for name in set(_names(key)))
    found = []
    for key in keys:
        name = next((name for name in _names(key) if name in rows), None)
        if name is None:
            raise ValueError(f"{table} has no {what} for {key}; add the row {key},{rest}")
        row = rows[name]
        if name != key and times[name] > 1:
            raise ValueError(
                f"{table} names {name}, but {times[name]} items have that name; "
                f"give relative paths such as {key}"
            )
        found.append(row)
    return found
