"""Which stored numbers become -1 and 1, known by their dtype, stated, or measured; and back."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from iddpm.data.levels import to_stored_range

Range = Literal["auto"] | tuple[float, float] | None


class Filled(NamedTuple):
    """A range that is wanted, and what NaN is read as."""

    wanted: Range
    fill: float


Wanted = Range | Filled
Chunk = tuple[Sequence[int] | NDArray[np.int64], NDArray[Any]]

MOST_BITS = 16
WHOLE_BYTES = 1 << 30
"""Of numbers whose range must be looked at: up to this all are read at opening."""
_ADVICE = {
    "b": "save x.astype(numpy.uint8) * 255",
    "c": "save real and imaginary parts as two channels",
}


@dataclass(frozen=True)
class Values:
    """The numbers that are stored, and the two of them that become -1 and 1.

    Integers have ``2**bits`` levels from ``low`` on, whatever the data uses of them, so that their
    likelihood is one in bits. Floats are continuous and are kept as float32.

    Attributes:
        dtype: numpy's name, ``"float32"`` for all floats.
        low, high: what becomes -1 and 1.
        fill: what NaN is read as; None refuses it.
    """

    dtype: str
    low: float
    high: float
    fill: float | None = field(default=None, compare=False)

    @property
    def bits(self) -> int | None:
        """Depth of integers; None for floats."""
        if self.dtype == "float32":
            return None
        return (int(self.high) - int(self.low)).bit_length()

    @property
    def natural(self) -> bool:
        """Whether the dtype alone says so: 0 to 255, 0 to 65535 or -1 to 1."""
        return self.bits in (None, 8, 16) and self == natural_values(self.bits)

    def read(
        self, stored: NDArray[Any], name: str, numbers: Sequence[int] | NDArray[np.int64]
    ) -> NDArray[Any]:
        """Return items ``[N, ...]`` as levels from 0 (uint8, uint16) or float32 in [-1, 1].

        Raises:
            ValueError: a number outside the range, or not finite; names the item.
        """
        bits = self.bits
        if bits is not None and self.natural:
            return np.ascontiguousarray(stored, dtype=self.dtype)
        stored, _ = _filled(stored, self.fill)
        self.refuse_outside(name, *finite_extent(name, stored, numbers))
        if bits is not None:
            levels = stored.astype(np.int64) - int(self.low)
            return levels.astype(np.uint8 if bits <= 8 else np.uint16)
        if (self.low, self.high) == (-1.0, 1.0):
            return np.ascontiguousarray(stored, dtype=np.float32)
        scaled = (stored.astype(np.float64) - self.low) * (2 / (self.high - self.low)) - 1
        return scaled.clip(-1, 1).astype(np.float32)

    def restore(self, x: torch.Tensor) -> NDArray[Any]:
        """Return finite ``x``, about [-1, 1], as the numbers that are stored.

        Integers are the nearest level, clamped; floats are scaled alone.
        """
        if self.bits is not None:
            levels = to_stored_range(x.detach(), self.bits).cpu().numpy().astype(np.int64)
            return (levels + int(self.low)).astype(self.dtype)
        floats = x.detach().cpu().to(torch.float32).numpy()
        if (self.low, self.high) == (-1.0, 1.0):
            return floats
        half = (self.high - self.low) / 2
        return ((floats.astype(np.float64) + 1) * half + self.low).astype(np.float32)

    def hold(self, lowest: float, highest: float) -> bool:
        """Say whether numbers lie in the range; floats but for the rounding of its ends."""
        # Written as float32, an end of the range may lie a rounding beyond it.
        ends = max(abs(self.low), abs(self.high))
        slack = (
            0.0 if self.natural or self.bits is not None else float(np.spacing(np.float32(ends)))
        )
        return lowest >= self.low - slack and highest <= self.high + slack

    def refuse_outside(self, name: str, lowest: float, highest: float) -> None:
        """Refuse data that goes beyond the range."""
        if not self.hold(lowest, highest):
            raise ValueError(
                f"{name} holds {('floats' if self.bits is None else 'integers')} in "
                f"[{lowest:.6g}, {highest:.6g}], and the range that becomes [-1, 1] is "
                f"[{self.low:.6g}, {self.high:.6g}]: set a wider data.range, or measure it "
                "with data.range=auto"
            )

    def __str__(self) -> str:
        depth = "continuous" if self.bits is None else f"{self.bits} bits"
        return f"{self.dtype}, {depth}: {self.low:.6g} to {self.high:.6g} become -1 to 1"


def range_hint(values: Values, lowest: float, highest: float) -> str | None:
    """Return what is wrong with the range that numbers use of the one that becomes [-1, 1].

    The one rule for data and for single items: less than an eighth of the range, or floats that all
    lie in its upper half, as those in [0, 1] do. None where neither is so.
    """
    used, whole = highest - lowest, values.high - values.low
    if values.bits is None and values.natural and lowest >= 0 and highest >= whole / 8:
        return (
            f"floats in [{lowest:.6g}, {highest:.6g}], half of [-1, 1]; if they were meant to lie "
            "in [0, 1]"
        )
    if used < whole / 8:
        return (
            f"numbers in [{lowest:.6g}, {highest:.6g}], {100 * used / whole:.2g} percent of the "
            f"range from {values.low:.6g} to {values.high:.6g} that becomes [-1, 1]"
        )
    return None


def with_fill(wanted: Wanted, fill: float | None) -> Wanted:
    """Return a wanted range together with what NaN is read as, if it is read as anything."""
    return wanted if fill is None or isinstance(wanted, Filled) else Filled(wanted, fill)


def natural_values(bits: int | None) -> Values:
    """Return the values of data with no range but the one that its depth has."""
    if bits is None:
        return Values("float32", -1.0, 1.0)
    return Values("uint8" if bits <= 8 else "uint16", 0.0, float(2**bits - 1))


def find_values(
    name: str,
    dtype: np.dtype[Any],
    wanted: Wanted,
    nbytes: int,
    chunks: Callable[[bool], Iterable[Chunk]],
    known: Values | None = None,
) -> Values:
    """Return the values of data.

    uint8 and uint16 have the range of their depth and floats within [-1, 1] theirs, unless another
    is wanted; of other numbers it is measured. Up to `WHOLE_BYTES` everything is looked at now, of
    more only a part (the rest when it is read), and a range must be wanted.

    Args:
        name: for messages.
        dtype: what is stored.
        wanted: None, the range, or ``"auto"`` to measure it in any case; with what NaN is read as,
            whose number is warned of.
        nbytes: size of everything.
        chunks: called with whether all is needed; yields item numbers and items ``[N, ...]``.
        known: the values that the format says, if it does.

    Raises:
        ValueError: a dtype without a range, a range that does not fit, values outside or not
            finite, or integers that span more than 16 bits.
    """
    if isinstance(wanted, Filled):
        filled = _Filling(chunks, wanted.fill)
        values = find_values(name, dtype, wanted.wanted, nbytes, filled, known)
        filled.say(name)
        return replace(values, fill=wanted.fill)
    if dtype.kind not in "iuf":
        advice = _ADVICE.get(dtype.kind, "save integers or floats")
        raise ValueError(f"{name} holds {dtype}, which has no range of values; {advice}")
    if wanted is None and known is None and dtype.kind == "u" and dtype.itemsize <= 2:
        known = natural_values(8 * dtype.itemsize)
    if wanted is None and known is not None and known.bits is not None:
        return known
    stated = _stated(name, dtype, wanted) if isinstance(wanted, tuple) else None
    whole = nbytes <= WHOLE_BYTES or wanted == "auto"
    lowest, highest = _extent(name, chunks(whole))
    if stated is not None:
        stated.refuse_outside(name, lowest, highest)
        return stated
    if wanted is None and dtype.kind == "f" and lowest >= -1 and highest <= 1:
        if known is None:
            warn_of_range(name, natural_values(None), lowest, highest)
        return natural_values(None)
    if not whole:
        raise ValueError(
            f"{name} holds {nbytes >> 30} GiB of {dtype}, some of it in [{lowest:.6g}, "
            f"{highest:.6g}]: set data.range, or read everything with data.range=auto"
        )
    return _measured(name, dtype, lowest, highest)


def warn_of_range(name: str, values: Values, lowest: float, highest: float) -> None:
    """Warn of data that uses little of its range, and name the setting that mends it."""
    hint = range_hint(values, lowest, highest)
    if hint is None:
        return
    way = (
        "set -s data.range=[0,1]"
        if "half of" in hint
        else "data.range=auto measures the range instead"
    )
    warnings.warn(f"{name} holds {hint}{', ' if 'half of' in hint else '; '}{way}", stacklevel=4)


def finite_extent(
    name: str, items: NDArray[Any], numbers: Sequence[int] | NDArray[np.int64]
) -> tuple[float, float]:
    """Return the lowest and highest of items ``[N, ...]``; refuse NaN and infinity by number."""
    flat = items.reshape(len(items), -1)
    low, high = flat.min(axis=1), flat.max(axis=1)  # NaN where a row holds one
    finite = np.isfinite(low) & np.isfinite(high)
    if not finite.all():
        bad = int(numbers[int(np.argmin(finite))])
        where = f"{name} holds NaN or infinity, first in item {bad}"
        raise ValueError(f"{where}; remove it, or read NaN as a number such as -s data.fill=0")
    return float(low.min()), float(high.max())


class _Filling:
    """Chunks in which NaN is filled, and how many there were."""

    def __init__(self, chunks: Callable[[bool], Iterable[Chunk]], fill: float) -> None:
        self._chunks, self._fill = chunks, fill
        self._count, self._total, self._whole = 0, 0, True

    def __call__(self, whole: bool) -> Iterator[Chunk]:
        self._whole = whole
        for numbers, items in self._chunks(whole):
            filled, count = _filled(items, self._fill)
            self._count, self._total = self._count + count, self._total + items.size
            yield numbers, filled

    def say(self, name: str) -> None:
        if self._count:
            part = "" if self._whole else " that were looked at"
            warnings.warn(
                f"{name}: {self._count} of {self._total} numbers{part} are NaN and read as "
                f"{self._fill:g}",
                stacklevel=5,
            )


def _filled(items: NDArray[Any], fill: float | None) -> tuple[NDArray[Any], int]:
    """Return numbers with NaN replaced, and how many were."""
    if fill is None or items.dtype.kind != "f":
        return items, 0
    missing = np.isnan(items)
    count = int(missing.sum())
    return (np.where(missing, items.dtype.type(fill), items) if count else items), count


def array_chunks(array: NDArray[Any], size: int, count: int | None) -> Iterator[Chunk]:
    """Yield rows of about ``size`` bytes with their numbers: all, or ``count`` parts spread out."""
    step = max(1, size // max(1, array.nbytes // max(1, len(array))))
    starts = np.arange(0, len(array), step)
    if count is not None:
        starts = starts[np.linspace(0, len(starts) - 1, min(count, len(starts))).astype(int)]
    for start in starts.tolist():
        rows = np.asarray(array[start : start + step])
        yield range(start, start + len(rows)), rows


def _extent(name: str, chunks: Iterable[Chunk]) -> tuple[float, float]:
    lowest, highest = np.inf, -np.inf
    for numbers, items in chunks:
        low, high = finite_extent(name, items, numbers)
        lowest, highest = min(lowest, low), max(highest, high)
    return lowest, highest


def _stated(name: str, dtype: np.dtype[Any], wanted: tuple[float, float]) -> Values:
    low, high = wanted
    if dtype.kind == "f":
        return Values("float32", float(low), float(high))
    levels = int(high) - int(low) + 1
    bits = (levels - 1).bit_length()
    limits = np.iinfo(dtype)
    if low != int(low) or high != int(high) or levels != 2**bits or bits > MOST_BITS:
        bits = min(max(bits, 1), MOST_BITS)
        raise ValueError(
            f"data.range=[{low:.6g}, {high:.6g}] does not fit the integers of {name}: give 2 to "
            f"65536 levels whose number is a power of two, such as "
            f"[{int(low)}, {int(low) + 2**bits - 1}] ({bits} bits)"
        )
    if low < limits.min or high > limits.max:
        raise ValueError(
            f"data.range=[{low:.6g}, {high:.6g}] exceeds the {dtype} of {name}, which holds "
            f"{limits.min} to {limits.max}"
        )
    return Values(dtype.newbyteorder("=").name, float(low), float(high))


def _measured(name: str, dtype: np.dtype[Any], lowest: float, highest: float) -> Values:
    if dtype.kind == "f":
        if lowest == highest:
            raise ValueError(f"{name} holds only {lowest:.6g}: there is nothing to learn")
        return Values("float32", lowest, highest)
    low, high = int(lowest), int(highest)
    bits = max(1, (high - low).bit_length())
    if bits > MOST_BITS:
        raise ValueError(
            f"{name} holds {dtype} from {low} to {high}, more than {MOST_BITS} bits; divide it, or "
            "save it as floats"
        )
    if low >= 0 and high < 2**bits:
        low = 0
    elif -(2 ** (bits - 1)) <= low and high < 2 ** (bits - 1):
        low = -(2 ** (bits - 1))
    low = min(low, int(np.iinfo(dtype).max) - 2**bits + 1)
    return Values(dtype.newbyteorder("=").name, float(low), float(low + 2**bits - 1))
