"""Which items are held out of training."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.source import Source


def held_out_mask(source: Source, fraction: float) -> NDArray[np.bool_]:
    """Return bool ``[N]``, True for the items held out: about ``fraction`` of them.

    Each item is judged by a hash of its own key, so that adding, removing or reordering others
    never moves an item from one side to the other; or by that of its group, such as the signal or
    the slab of a volume that it was cut out of, since these overlap. Of few groups the one with the
    lowest hash is held out in any case.

    Raises:
        ValueError: ``fraction`` outside [0, 1).
    """
    if not 0.0 <= fraction < 1.0:
        raise ValueError(f"the held-out fraction is {fraction}; it must lie in [0, 1)")
    groups = [source.group(i) for i in range(len(source))]
    places = {group: _place(group) for group in dict.fromkeys(groups)}
    if fraction > 0 and 1 < len(places) < len(groups):  # few: one of them at least is held out
        fraction = max(fraction, float(np.nextafter(min(places.values()), 1)))
    return np.array([places[group] < fraction for group in groups], dtype=np.bool_)


def _place(key: str) -> float:
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64
