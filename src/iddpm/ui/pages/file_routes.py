"""Files of a run directory, to be looked at or downloaded; of other kinds than these none."""

import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from iddpm.ui.confined_paths import UnknownNameError, confined
from iddpm.ui.hub import hub_of
from iddpm.ui.sample_sets import read_set

router = APIRouter()
Name = Annotated[str, Query(max_length=1_000)]
TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"
KINDS = {
    ".png": "image/png",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".jpg": "image/jpeg",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".csv": TEXT,
    ".json": TEXT,
    ".jsonl": TEXT,
    ".yaml": TEXT,
    ".md": TEXT,
    ".npz": BYTES,
    ".npy": BYTES,
    ".tif": BYTES,
    ".gz": BYTES,
}
"""Content types by suffix. Nothing that a browser would run is among them."""
CHUNK = 1 << 16


@router.get("/file")
def show_file(request: Request, run: Name, path: Name, download: bool = False) -> Response:
    """Return a file of a run directory."""
    file = confined(hub_of(request).index.path(run), path)
    kind = KINDS.get(file.suffix.lower())
    hidden = any(part.startswith(".") for part in Path(path).parts)
    if kind is None or hidden or not file.is_file():
        raise UnknownNameError("there is no such file")
    attached = download or kind == BYTES
    return FileResponse(
        file,
        media_type=kind,
        filename=file.name if attached else None,
        headers={"Cache-Control": "private, max-age=5"},
    )


@router.get("/samples.zip")
def download_set(request: Request, run: Name, samples: Name) -> StreamingResponse:
    """Return all files of a set of samples in one."""
    found = read_set(hub_of(request).index.path(run), samples)
    packed = tempfile.TemporaryFile()  # noqa: SIM115 - the answer closes it
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(found.path.rglob("*")):
            if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
                archive.write(path, f"{samples}/{path.relative_to(found.path).as_posix()}")
    size = packed.tell()
    packed.seek(0)
    headers = {
        "Content-Disposition": attachment(f"{samples}.zip"),
        "Content-Length": str(size),
    }
    return StreamingResponse(_chunks(packed), media_type="application/zip", headers=headers)


def attachment(name: str) -> str:
    """Return the header ``Content-Disposition`` of a download; any name, such as a Chinese one."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
    said = f'attachment; filename="{plain}"'
    encoded = quote(name, safe="", errors="replace")
    return said if plain == name else f"{said}; filename*=utf-8''{encoded}"


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK):
            yield chunk
