"""Which items are held out of training."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.source import Source


def held_out_mask(source: Source, fraction: float) -> NDArray[np.bool_]:
    """Return bool ``[N]``, True for the items held out: about ``fraction`` of them.

    Each item is judged by a hash of its own key, so that adding, removing or reordering others
    never moves an item from one side to the other; or by that of its group, such as the signal or
    the slab of a volume that it was cut out of, since these overlap. Where groups are so few that
    none would be held out, the one with the lowest hash is; one that comes with a lower hash then
    takes its place.

    Raises:
        ValueError: ``fraction`` outside [0, 1).
    """
    if not 0.0 <= fraction < 1.0:
        raise ValueError(f"the held-out fraction is {fraction}; it must lie in [0, 1)")
    count = len(source)
    places = np.fromiter((_place(source.group(i)) for i in range(count)), np.float64, count)
    if fraction > 0 and 1 < len(np.unique(places)) < count:  # groups: one at least is held out
        fraction = max(fraction, float(np.nextafter(places.min(), 1)))
    return places < fraction


def _place(key: str) -> float:
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64
