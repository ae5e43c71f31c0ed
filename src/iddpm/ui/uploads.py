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
KEEP = ".keep"
"""Behind the name of a folder: a file that says that it stays."""
DEEPEST = 4
"""Parts of the name of a file among several."""
_UNUSUAL = re.compile(r"[^A-Za-z0-9._-]+")

UPLOAD = "upload/"
"""What stands before the names of files that were sent, in forms."""


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
            old = time.time() - entry.lstat().st_mtime > KEPT
            if old and not entry.is_symlink() and not self._marker(entry.name).exists():
                shutil.rmtree(entry, ignore_errors=True)

    def _marker(self, folder: str) -> Path:
        return self.folder / f"{folder}{KEEP}"

    def keep(self, path: Path) -> None:
        """Let :meth:`clear` leave the folder of an uploaded file, the data of a training."""
        if path.is_relative_to(self.folder):
            self._marker(path.relative_to(self.folder).parts[0]).touch()

    def path(self, name: str, *, folder: bool = False) -> Path:
        """Return the file of a name that :meth:`receive` returned; UnknownNameError for none.

        ``folder`` says that the folder of several files will do too.
        """
        path = confined(self.root, f"{FOLDER}/{name}")
        if not path.is_file() and not (folder and path != self.folder and path.is_dir()):
            raise UnknownNameError("there is no such file: drop it again")
        return path

    def new_folder(self) -> Path:
        """Return a new folder for files, which :meth:`clear` removes one day."""
        if self.folder.is_symlink():
            raise UnknownNameError(f"{FOLDER} is a link")
        folder = self.folder / secrets.token_hex(8)
        folder.mkdir(parents=True)
        return folder

    async def receive(
        self, name: str, size: int | None, body: AsyncIterator[bytes], into: str = ""
    ) -> str:
        """Write a file as it comes, and return the name that it has here.

        Args:
            name: what the browser calls it; unusual characters are replaced.
            size: what the browser says that it has, or None.
            body: its parts.
            into: of one file among several: ``"new"`` for the first, then the name of the folder
                that it was put into. The folders of its own name are kept below it.

        Raises:
            UploadTooLargeError: it is larger than is kept, or the disk is nearly full.
            ValueError: it ended early, or nothing came for a while.
        """
        parts = [_plain(part) for part in Path(name.replace("\\", "/")).parts if part != "/"]
        self._refuse_full(size or 0)
        joins = into not in ("", "new")
        folder = self.path(into, folder=True) if joins else self.new_folder()
        if folder.parent != self.folder:
            raise UnknownNameError("there is no such folder")
        place = folder.joinpath(*(parts[-DEEPEST:] if into else parts[-1:]))
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            confined(self.root, place.parent.relative_to(self.root).as_posix())
            with open(place, "xb") as file:
                await _copy(body, file.write, size)
        except FileExistsError:
            raise ValueError(f"{place.name} is there already") from None
        except BaseException:
            place.unlink(missing_ok=True)
            if not joins:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        return place.relative_to(self.folder).as_posix()

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


def _plain(part: str) -> str:
    """Return a part of a name with its unusual characters replaced."""
    return _UNUSUAL.sub("_", part)[-100:].lstrip(".") or "file"


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
