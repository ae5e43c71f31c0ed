"""A folder of pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from iddpm.data.sources.file_lists import Files
from iddpm.data.sources.folder import describe, find_files
from iddpm.data.sources.label_tables import Labels, labels_of_files
from iddpm.data.sources.picture import SUFFIXES
from iddpm.data.sources.pictures import Pictures
from iddpm.data.sources.source import Stamp


class ImageFolder(Pictures):
    """The pictures below a folder, in sorted order.

    Args:
        path: searched recursively; hidden files and folders are left out.
        image_size, channels, corrupt: as for `Pictures`.
        labels: a rule of `iddpm.data.sources.label_tables.labels_of_files`.

    Raises:
        FileNotFoundError: no such folder, or no picture in it.
        ValueError: sizes, bit depths or labels that do not go together, or a damaged file.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        image_size: int | tuple[int, int] | None = None,
        channels: int | None = None,
        labels: str = "auto",
        corrupt: Literal["error", "skip"] = "error",
    ) -> None:
        super().__init__(
            FolderFiles(Path(path), skip_links=corrupt == "skip"),
            image_size=image_size,
            channels=channels,
            labels=labels,
            corrupt=corrupt,
        )


class FolderFiles(Files):
    """The picture files below a folder.

    Raises:
        FileNotFoundError: no such folder, or no picture in it.
        ValueError: a link that leads nowhere, unless ``skip_links``.
    """

    def __init__(self, path: Path, *, skip_links: bool = False) -> None:
        self.path = path
        self.name = path.resolve().name
        self.where = str(path)
        self._keys = _find_pictures(path, skip_links)

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, index: int) -> str:
        """Return the path relative to the folder, with forward slashes."""
        return self._keys[index]

    def title(self, index: int) -> str:
        """Return the path."""
        return str(self.path / self._keys[index])

    def content(self, index: int) -> Path:
        """Return the path."""
        return self.path / self._keys[index]

    def labels(self, rule: str, chosen: Sequence[int]) -> Labels:
        """Return the labels by a rule of `labels_of_files`."""
        return labels_of_files(rule, [self._keys[index] for index in chosen], self.path)

    def stamps(self) -> Iterator[Stamp]:
        """Yield the stamp of each picture."""
        return (Stamp.of(self.path / key, key) for key in self._keys)


def _find_pictures(folder: Path, skip_links: bool) -> list[str]:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; give a folder that holds pictures")
    keys = find_files(folder, tuple(SUFFIXES), skip_links=skip_links)
    if not keys:
        raise FileNotFoundError(
            f"{folder} has no picture: {describe(folder)}; pictures are "
            f"{', '.join(sorted(SUFFIXES))}, and others must be converted"
        )
    return keys
