"""Sounds in a column of a table, as Hugging Face's datasets store them.

Sounds are decoded from any of their samples on, and so from files: each row is written once into
the user's cache, as Parquet tables are.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from iddpm.data.cache import built_once, digest, user_cache
from iddpm.data.sources.signals import Sounds
from iddpm.data.sources.source import Stamp
from iddpm.data.sources.tables import TableFiles
from iddpm.data.sources.unreadable import UnreadablePictureError
from iddpm.runtime.console import open_console, progress_bar


class TableSounds(Sounds):
    """The sounds in a column of a table, a recording in each row.

    Args:
        files: the table and its column.
        labels: a rule that the table knows.
        corrupt: ``"skip"`` leaves rows out whose sound is missing or damaged.
        **settings: as for `Sounds`.

    Raises:
        ValueError: as for `Sounds`, and a row without a sound.
    """

    def __init__(
        self,
        files: TableFiles,
        *,
        labels: str = "auto",
        corrupt: Literal["error", "skip"] = "error",
        **settings: Any,
    ) -> None:
        super().__init__(_as_files(files, corrupt), labels="none", corrupt=corrupt, **settings)
        self.name, self._files = files.name, files
        rows = [int(self.key(index)) for index in range(len(self.sizes))]
        self.labels, self.class_names = files.labels(labels, rows)

    def key(self, index: int) -> str:
        """Return the row number."""
        return str(int(Path(self._keys[index]).stem))

    def stamps(self) -> Iterator[Stamp]:
        """Yield the stamps of the table."""
        return self._files.stamps()


def _as_files(files: TableFiles, corrupt: str) -> Path:
    """Return a folder in the user's cache with a file for each row."""
    facts = {"version": 1, "files": digest(*files.stamps()), "column": files.column,
             "corrupt": corrupt}  # fmt: skip
    console = open_console(stderr=True)
    directory = user_cache() / "sounds" / f"{files.name}-{digest(files.where, files.column)}"

    def write(temporary: Path) -> None:
        console.print(f"writing the sounds of {files.name} once into {directory}")
        with progress_bar(console, "writing") as progress:
            for row in progress.track(range(len(files))):
                try:
                    sound = files.content(row)
                except UnreadablePictureError:
                    if corrupt != "skip":
                        raise
                    sound = b""
                (temporary / f"{row:08}.wav").write_bytes(sound)  # libsndfile looks inside

    return built_once(directory, facts, write, console.print)
