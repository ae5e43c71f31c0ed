"""Pictures in a .zip, in folders of classes or with a dataset.json as StyleGAN's tools write it."""

import os
import re
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from iddpm.data.sources.file_lists import Files
from iddpm.data.sources.folder import by_suffix
from iddpm.data.sources.label_tables import DATASET_JSON, Labels, labels_of_files, listed_labels
from iddpm.data.sources.npy import refuse_dense
from iddpm.data.sources.picture import SUFFIXES
from iddpm.data.sources.source import Stamp
from iddpm.data.sources.unreadable import UnreadablePictureError
from iddpm.data.sources.zip_directory import open_zip

ZIP = ".zip"
_FREE = 1 << 26
"""Bytes that a member may unpack to, however small it is."""


class ZipFiles(Files):
    """The picture files in a .zip, in sorted order.

    Args:
        path: the file.

    Raises:
        ValueError: a damaged or encrypted file, members with a path that leads out of a folder or
            that promise more than they can hold, or no picture among them.
    """

    arrays = False

    def __init__(self, path: Path) -> None:
        self.path, self.where, self.name = path, str(path), path.stem
        self._open: tuple[int, zipfile.ZipFile] | None = None
        members = [m for m in self._archive().infolist() if not m.is_dir()]
        for member in members:
            _check(path, member)
        names = [member.filename for member in members]
        twice = next((name for name, times in Counter(names).items() if times > 1), None)
        if twice is not None:
            raise ValueError(f"{path} holds {twice} twice: pack it again")
        self._keys = sorted(name for name in names if _is_picture(name))
        if not self._keys:
            raise ValueError(
                f"{path} has no picture: it holds {by_suffix(names) if names else 'nothing'}; "
                "unpack a .zip of other data"
            )
        self._listed = DATASET_JSON in names

    def __len__(self) -> int:
        return len(self._keys)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open file behind."""
        return {**self.__dict__, "_open": None}

    def key(self, index: int) -> str:
        """Return the path in the archive."""
        return self._keys[index]

    def title(self, index: int) -> str:
        """Return the archive and the path in it."""
        return f"{self.path}: {self._keys[index]}"

    def content(self, index: int) -> bytes:
        """Return what a member holds; a damaged one raises `UnreadablePictureError`."""
        return self._read(self._keys[index])

    def labels(self, rule: str, chosen: Sequence[int]) -> Labels:
        """Return the labels by a rule of `labels_of_files`; ``auto`` takes dataset.json first."""
        keys = [self._keys[index] for index in chosen]
        if rule == "auto" and self._listed:
            found = listed_labels(self._read(DATASET_JSON), f"{self.path}: {DATASET_JSON}", keys)
            if found is not None:
                return found
        top = os.path.commonpath([os.path.dirname(key) for key in keys])
        inside = [key.removeprefix(f"{top}/") for key in keys] if top else keys
        return labels_of_files(rule, inside, self.path.parent, listed=False)

    def stamps(self) -> Iterator[Stamp]:
        """Yield the stamp of the archive."""
        yield Stamp.of(self.path, self.path.name)

    def _read(self, name: str) -> bytes:
        try:
            return self._archive().read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
            raise UnreadablePictureError(f"{self.path}: {name} is damaged ({error})") from None

    def _archive(self) -> zipfile.ZipFile:
        """Return the archive, which each process opens for itself."""
        if self._open is None or self._open[0] != os.getpid():
            try:
                self._open = os.getpid(), open_zip(self.path)
            except (zipfile.BadZipFile, NotImplementedError) as error:
                raise ValueError(
                    f"{self.path} is not a complete .zip file ({error}); copy it again"
                ) from None
        return self._open[1]


def _check(path: Path, member: zipfile.ZipInfo) -> None:
    name = member.filename
    if member.flag_bits & 1:
        raise ValueError(f"{path} is encrypted: unpack it with its password, and give the folder")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name):
        raise ValueError(f"{path} holds {name}, a path that leads out of a folder: pack it again")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise ValueError(f"{path} holds the link {name}: pack the files themselves")
    refuse_dense(f"{path}: {name}", member.file_size, member.compress_size, _FREE)


def _is_picture(name: str) -> bool:
    parts = name.split("/")
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and name.lower().endswith(tuple(SUFFIXES))
