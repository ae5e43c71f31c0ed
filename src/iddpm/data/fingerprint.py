"""What tells data from data that has changed: ``data.json`` of a run directory.

Names, labels, conditions and sizes of files are compared for all items, and for arrays the contents
of a few. Times are not: a copy on another machine is the same data. Nothing is decoded, since
decoders differ in last bits.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from iddpm.data.sources.source import Source

DATA = "data.json"
SAMPLED = 16
"""Items of an array whose contents are looked at."""


def fingerprint(source: Source) -> dict[str, Any]:
    """Return facts about data, for JSON, that are other ones when it has changed.

    It takes one look at each file's size, and reads at most ``SAMPLED`` items.
    """
    count = len(source)
    facts: dict[str, Any] = {
        "items": count,
        "shape": list(source.shape),
        "bits": source.bits,
        "classes": list(source.class_names),
        "keys": _digest(source.key(index) for index in range(count)),
        "labels": None if source.labels is None else _digest(map(str, source.labels.tolist())),
        "sizes": _digest(str(stamp.size) for stamp in source.stamps()),
    }
    if source.conditions is not None:
        told = source.conditions.astype("<f4").tobytes()
        facts["conditions"] = hashlib.blake2b(told, digest_size=16).hexdigest()
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
            f"{path} is damaged ({error}): remove it to go on without a look at whether the data "
            "has changed"
        ) from None
    return facts


def differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Return what has changed between two fingerprints, in words; empty for nothing."""
    changed = [name for name in before if name in now and before[name] != now[name]]
    if "items" in changed:  # the others follow from it
        return f"{now['items']} items where there were {before['items']}"
    words = {
        "keys": "items of other names, or in another order",
        "labels": "other labels",
        "conditions": "other conditions",
        "given": "other data that is given with it",
        "sizes": "files of other sizes",
        "contents": "other values",
    }
    return ", ".join(
        words.get(name, f"{name} {now[name]} where it was {before[name]}") for name in changed
    )


def _digest(texts: Iterable[str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        digest.update(text.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()
