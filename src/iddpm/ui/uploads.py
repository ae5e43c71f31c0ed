"""Files that a page sends: kept in a hidden folder below the runs, limited in size and number."""

import asyncio
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

from iddpm.ui.confined_paths import UnknownNameError, confined

FOLDER = ".uploads"
LARGEST = 2_000_000_000
"""Bytes of a file."""
MOST_FILES = 1_000
MOST_BYTES = 8_000_000_000
"""Of all files together."""
LEFT_FREE = 500_000_000
"""Bytes of the disk that stay free."""
SLOWEST = 60.0
"""Seconds for which nothing may come."""
KEPT = 24 * 3600.0
"""Seconds after which a file is removed when the next server starts."""
_UNUSUAL = re.compile(r"[^A-Za-z0-9._-]+")


class UploadTooLargeError(ValueError):
    """A file, or all of them, would be larger than is kept."""


class Uploads:
    """The files that pages have sent.

    Args:
        root: the directory of the runs.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / FOLDER

    def clear(self) -> None:
        """Remove files of an earlier day, and all of them that no run will ask for again."""
        if self.folder.is_symlink() or not self.folder.is_dir():
            return
        for entry in self.folder.iterdir():
            if time.time() - entry.lstat().st_mtime > KEPT and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)

    def path(self, name: str) -> Path:
        """Return the file of a name that :meth:`receive` returned; UnknownNameError for none."""
        path = confined(self.root, f"{FOLDER}/{name}")
        if not path.is_file():
            raise UnknownNameError("there is no such file: drop it again")
        return path

    def new_folder(self) -> Path:
        """Return a new folder for files, which :meth:`clear` removes one day."""
        if self.folder.is_symlink():
            raise UnknownNameError(f"{FOLDER} is a link")
        folder = self.folder / secrets.token_hex(8)
        folder.mkdir(parents=True)
        return folder

    async def receive(self, name: str, size: int | None, body: AsyncIterator[bytes]) -> str:
        """Write a file as it comes, and return the name that it has here.

        Args:
            name: what the browser calls it; unusual characters are replaced.
            size: what the browser says that it has, or None.
            body: its parts.

        Raises:
            UploadTooLargeError: it is larger than is kept, or the disk is nearly full.
            ValueError: it ended early, or nothing came for a while.
        """
        plain = _UNUSUAL.sub("_", Path(name.replace("\\", "/")).name)[-100:].lstrip(".") or "file"
        self._refuse_full(size or 0)
        folder = self.new_folder()
        try:
            with open(folder / plain, "xb") as file:
                await _copy(body, file.write, size)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return f"{folder.name}/{plain}"

    def _refuse_full(self, size: int) -> None:
        if self.folder.is_symlink():
            raise UnknownNameError(f"{FOLDER} is a link")
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        together = sum(path.stat().st_size for path in files)
        if size > LARGEST:
            raise UploadTooLargeError(f"a file may have {LARGEST / 1e9:g} GB")
        if len(files) >= MOST_FILES or together + size > MOST_BYTES:
            raise UploadTooLargeError(f"{len(files)} files are here: remove {self.folder}")
        if shutil.disk_usage(self.root).free - size < LEFT_FREE:
            raise UploadTooLargeError("the disk is nearly full")


async def _copy(body: AsyncIterator[bytes], write: object, size: int | None) -> None:
    """Write the parts of a body; see :meth:`Uploads.receive`."""
    assert callable(write)
    count, parts = 0, aiter(body)
    while True:
        try:
            part = await asyncio.wait_for(anext(parts), SLOWEST)
        except StopAsyncIteration:
            break
        except TimeoutError:
            raise ValueError(f"nothing came for {SLOWEST:g} s") from None
        count += len(part)
        if count > LARGEST or (size is not None and count > size):
            raise UploadTooLargeError(f"a file may have {LARGEST / 1e9:g} GB, or what it said")
        await asyncio.to_thread(write, part)
    if not count or (size is not None and count < size):
        raise ValueError("the file ended before all of it had come, or is empty")
