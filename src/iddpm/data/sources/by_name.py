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


def rows_of(
    rows: Mapping[str, Row], keys: Sequence[str], table: Path, what: str, rest: str
) -> list[Row]:
    """Return the row of each item: by its key, or by its file name where that is the only one.

    Args:
        rows: by the names in the table.
        keys: of the items.
        table: for messages.
        what: what a row holds, such as ``label``.
        rest: what would follow the key in a row.

    Raises:
        ValueError: an item without a row, or one whose name others have too.
    """
    times = Counter(PurePosixPath(key).name for key in dict.fromkeys(keys))
    found = []
    for key in keys:
        name = PurePosixPath(key).name
        row = rows.get(key, rows.get(name))
        if row is None:
            raise ValueError(f"{table} has no {what} for {key}; add the row {key},{rest}")
        if key not in rows and times[name] > 1:
            raise ValueError(
                f"{table} names {name}, but {times[name]} items have that name; "
                f"give relative paths such as {key}"
            )
        found.append(row)
    return found
