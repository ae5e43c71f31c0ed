"""Which items are held out of training."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.source import Source


def held_out_mask(
    source: Source, fraction: float, groups: Sequence[str] | None = None
) -> NDArray[np.bool_]:
    """Return bool ``[N]``, True for the items held out: about ``fraction`` of them.

    Each item is judged by a hash of its own key, so that adding, removing or reordering others
    never moves an item from one side to the other; or by that of its group, such as the signal or
    the slab of a volume that it was cut out of, since these overlap. Where groups are so few that
    none would be held out, the one with the lowest hash is; one that comes with a lower hash then
    takes its place. ``groups`` has a name for each item and takes the place of the source's own.

    Raises:
        ValueError: ``fraction`` outside [0, 1).
    """
    if not 0.0 <= fraction < 1.0:
        raise ValueError(f"the held-out fraction is {fraction}; it must lie in [0, 1)")
    count = len(source)
    names = groups if groups is not None else [source.group(i) for i in range(count)]
    places = np.fromiter((_place(name) for name in names), np.float64, count)
    if fraction > 0 and 1 < len(np.unique(places)) < count:  # groups: one at least is held out
        fraction = max(fraction, float(np.nextafter(places.min(), 1)))
    return places < fraction


def groups_of(rule: str, source: Source) -> list[str]:
    """Return the group of each item, of which none may lie on both sides of the split.

    Args:
        rule: ``"folder"`` (the folder that the item lies in) or a regular expression, found at the
            start of the item's file name: the group is what its parentheses hold, or all of it.
        source: the items.

    Raises:
        ValueError: an expression that is none, or a name that it does not match.
    """
    keys = [PurePosixPath(source.recording(index)) for index in range(len(source))]
    if rule == "folder":
        return [key.parent.as_posix() for key in keys]
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise ValueError(
            f"data.group={rule} is neither folder, nor a column, nor a regular expression ({error})"
        ) from None
    groups = []
    for key in keys:
        found = pattern.match(key.name)
        if found is None:
            raise ValueError(
                f"data.group={rule} does not match the start of {key.name}: give folder, a "
                "column of the table of labels or conditions, or a pattern that matches the "
                "start of all file names, such as '[^_]+' for the part before _"
            )
        groups.append("".join(part or "" for part in found.groups()) or found[0])
    return groups


def _place(key: str) -> float:
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64
