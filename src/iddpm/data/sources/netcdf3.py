"""Where the numbers of a classic NetCDF file end, which its library does not check.

Format: Unidata, "The NetCDF Classic Format Specification" (CDF-1, CDF-2 and CDF-5).
"""

from math import prod
from pathlib import Path
from typing import IO

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}
"""Bytes of a number, by its type."""


def missing_bytes(path: Path) -> int:
    """Return how many bytes a classic NetCDF file promises and does not hold; of others 0.

    Raises:
        ValueError: a header that ends early.
    """
    with path.open("rb") as file:
        start = file.read(4)
        if start[:3] != b"CDF" or start[3:] not in (b"\1", b"\2", b"\5"):
            return 0
        return max(0, _end(_Header(file, start[3])) - path.stat().st_size)


class _Header:
    """The numbers of a header, read one after the other."""

    def __init__(self, file: IO[bytes], version: int) -> None:
        self._file = file
        self._count = 8 if version == 5 else 4
        self._offset = 4 if version == 1 else 8

    def count(self, nbytes: int = 0) -> int:
        """Return the next number, of the size that counts have in this version."""
        return self._number(nbytes or self._count)

    def offset(self) -> int:
        """Return the next number, of the size that places have in this version."""
        return self._number(self._offset)

    def skip(self, nbytes: int) -> None:
        """Leave bytes out, which end on a multiple of four."""
        self._file.seek(nbytes + -nbytes % 4, 1)

    def _number(self, nbytes: int) -> int:
        data = self._file.read(nbytes)
        if len(data) < nbytes:
            raise ValueError("its header is truncated")
        return int.from_bytes(data, "big")


def _end(header: _Header) -> int:
    """Return where the last number of the file ends."""
    records = header.count()
    lengths = []
    header.count(4)
    for _ in range(header.count()):
        header.skip(header.count())
        lengths.append(header.count())
    _skip_attributes(header)
    fixed, running = 0, []
    header.count(4)
    for _ in range(header.count()):
        header.skip(header.count())
        axes = [lengths[header.count()] for _ in range(header.count())]
        _skip_attributes(header)
        size = _SIZES[header.count(4)]
        header.count()  # what is said of the size is at most 4 GiB
        begin = header.offset()
        if axes[:1] == [0]:  # the axis that grows
            running.append((begin, prod(axes[1:]) * size))
        else:
            fixed = max(fixed, begin + prod(axes) * size)
    step = sum(n + -n % 4 for _, n in running) if len(running) > 1 else sum(n for _, n in running)
    ends = [begin + (records - 1) * step + n for begin, n in running if records]
    return max([fixed, *ends])


def _skip_attributes(header: _Header) -> None:
    header.count(4)
    for _ in range(header.count()):
        header.skip(header.count())
        size = _SIZES[header.count(4)]
        header.skip(header.count() * size)
