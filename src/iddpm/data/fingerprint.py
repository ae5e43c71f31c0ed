"""What tells data from data that has changed: ``data.json`` of a run directory.

Names, labels, conditions, sizes of files and some of their bytes are compared for all items, and
for arrays the contents of a few. Times are not: a copy on another machine is the same data. Nothing
is decoded, since decoders differ in last bits.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from iddpm.data.sources.source import Source, Stamp

DATA = "data.json"
SAMPLED = 16
"""Items of an array whose contents are looked at."""
FILES = 20_000
"""Files of which some bytes are read."""
_BLOCK = 4096  # bytes that are read at a place
_PLACES = 8  # of a file, its start and its end among them


def fingerprint(source: Source) -> dict[str, Any]:
    """Return facts about data, for JSON, that differ if it has changed.

    It takes one look at each file's size, reads at most ``SAMPLED`` items, and 32 kB of each file;
    of more than ``FILES`` files, it reads this number, spread over all.
    """
    count = len(source)
    stamps = list(source.stamps())
    facts: dict[str, Any] = {
        "items": count,
        "shape": list(source.shape),
        "bits": source.bits,
        "classes": list(source.class_names),
        "keys": _digest(source.key(index) for index in range(count)),
        "labels": None if source.labels is None else _digest(map(str, source.labels.tolist())),
        "sizes": _digest(str(stamp.size) for stamp in stamps),
        "bytes": _bytes_digest(stamps),
    }
    if source.memory is not None:
        facts["memory"] = source.memory._asdict() | {"shape": list(source.memory.shape)}
    if source.conditions is not None:
        encoded = source.conditions.astype("<f4").tobytes()
        facts["conditions"] = hashlib.blake2b(encoded, digest_size=16).hexdigest()
    if source.given is not None:
        facts["given"] = fingerprint(source.given)
    if source.ready and count:
        chosen = np.unique(np.linspace(0, count - 1, SAMPLED).round().astype(np.int64))
        facts["contents"] = hashlib.blake2b(
            source.read_many(chosen).tobytes(), digest_size=16
        ).hexdigest()
    return facts


def read_fingerprint(directory: Path) -> dict[str, Any] | None:
    """Return what ``data.json`` holds; None for a run from before there was one.

    Raises:
        ValueError: the file is damaged.
    """
    path = directory / DATA
    if not path.is_file():
        return None
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}): delete it to continue without checking whether the "
            "data has changed"
        ) from None
    return facts


def differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Return what has changed between two fingerprints, in words; empty for nothing."""
    changed = [
        name for name in before if name in now and before[name] != now[name] and name != "memory"
    ]
    if "items" in changed:  # the others follow from it
        return f"{now['items']} items instead of {before['items']}"
    if "bytes" in changed and len(changed) > 1:  # it follows from the others
        changed.remove("bytes")
    words = {
        "keys": "items with other names, or in another order",
        "labels": "other labels",
        "conditions": "other conditions",
        "given": "other paired data",
        "sizes": "files with other sizes",
        "bytes": "files with other contents",
        "contents": "other values",
    }
    return ", ".join(
        words.get(name, f"{name} {now[name]} instead of {before[name]}") for name in changed
    )


def _digest(texts: Iterable[str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        digest.update(text.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()


def _bytes_digest(stamps: Sequence[Stamp]) -> str:
    """Return a digest of some bytes of each file: of all bytes where a file is small."""
    digest = hashlib.blake2b(digest_size=16)
    chosen = np.unique(np.linspace(0, len(stamps) - 1, FILES).round().astype(np.int64))
    for stamp in (stamps[place] for place in chosen) if stamps else ():
        if stamp.path is not None and stamp.path.is_file():
            with open(stamp.path, "rb") as file:
                last = max(stamp.size - _BLOCK, 0)
                for place in dict.fromkeys(last * k // (_PLACES - 1) for k in range(_PLACES)):
                    file.seek(place)
                    digest.update(file.read(_BLOCK))
    return digest.hexdigest()
