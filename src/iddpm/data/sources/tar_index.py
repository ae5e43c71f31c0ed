"""Where the members of a .tar begin, so that any can be read without the others before it."""

import json
import tarfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from iddpm.data.cache import digest, user_cache
from iddpm.data.sources.source import Stamp
from iddpm.runtime.atomic_files import write_text

_VERSION = 1
_SHORT = 256  # bytes up to which the text of a .cls is kept in the index
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class Member(NamedTuple):
    """A file inside a .tar.

    Attributes:
        name: as stored.
        offset: of its first byte in the .tar.
        size: in bytes.
        text: what a short ``.cls`` says; None for all others.
    """

    name: str
    offset: int
    size: int
    text: str | None


def read_index(shard: Path) -> list[Member]:
    """Return the members of a .tar in their order.

    All headers are read once; later they come from the user's cache, until the size or the time
    of the file changes.

    Raises:
        ValueError: a compressed or damaged .tar.
    """
    stamp = Stamp.of(shard, shard.name)
    kept = user_cache() / "tar" / f"{digest(shard.resolve())}.json"
    facts = [_VERSION, stamp.size, stamp.time]
    found = _read_kept(kept)
    if found is not None and found.get("facts") == facts:
        return [Member(*member) for member in found["members"]]
    members = _read_headers(shard)
    # JSON in ASCII, since a name need not be valid UTF-8.
    text = json.dumps({"facts": facts, "members": members})
    with suppress(OSError):  # a home that cannot be written only makes the next start slower
        write_text(kept, text)
    return members


def _read_kept(path: Path) -> dict[str, Any] | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return kept if isinstance(kept, dict) else None


def _read_headers(shard: Path) -> list[Member]:
    with open(shard, "rb") as file:
        start = file.read(6)
    for signature, method in _COMPRESSED.items():
        if start.startswith(signature):
            raise ValueError(
                f"{shard} is compressed ({method}), so items cannot be read individually: "
                "unpack it to a plain .tar (pictures are compressed already)"
            )
    members: list[Member] = []
    sparse: list[str] = []
    try:
        with tarfile.open(shard, "r:") as archive:
            for entry in archive:
                if not entry.isreg():
                    continue
                if entry.issparse():
                    sparse.append(entry.name)
                text = None
                if entry.name.lower().endswith(".cls") and entry.size <= _SHORT:
                    stored = archive.extractfile(entry)
                    assert stored is not None
                    text = stored.read().decode("utf-8", "replace").strip()
                members.append(Member(entry.name, entry.offset_data, entry.size, text))
            end = archive.offset
        # tarfile takes a damaged or missing header for the end.
        with open(shard, "rb") as file:
            file.seek(end)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("neither a header nor the mark of the end follows")
    except OSError:
        raise
    except Exception as error:  # TarError, EOFError, ValueError, MemoryError for a name of 8 GB
        after = f" at or after its member {members[-1].name}" if members else ""
        raise ValueError(f"{shard} is damaged{after} ({error}): copy it again") from error
    if sparse:
        raise ValueError(
            f"{shard} holds the sparse member {sparse[0]}: pack it without sparse members"
        )
    name, times = (
        Counter(member.name for member in members).most_common(1)[0] if members else ("", 0)
    )
    if times > 1:
        raise ValueError(f"{shard} holds {name} twice: pack it again")
    return members
