"""Windows of long signals and patches of volumes and clips, cut when they are read."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iddpm.data.file_format import Form
from iddpm.data.sources.source import Source, Stamp
from iddpm.data.values import natural_values

_BLOCK = {1: 16, 2: 1, 3: 1}
"""Windows in a block of the only recording, by dimension; none lies in two blocks."""


class Recordings(ABC):
    """Numbered things of one kind whose sizes may differ: sounds, rows of a table, volumes.

    Attributes:
        name: for messages.
        channels, bits, form, labels, class_names: as of a `Source`, of whole recordings.
        sizes: spatial size of each.
    """

    name: str
    channels: int
    bits: int | None
    form: Form
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...]
    sizes: list[tuple[int, ...]]

    @abstractmethod
    def key(self, index: int) -> str:
        """Return a name that stays the same when others come or go."""

    def group(self, index: int) -> str:
        """Return what the windows of a recording must not be parted from: its own, or more."""
        return self.key(index)

    @abstractmethod
    def stamps(self) -> Iterator[Stamp]:
        """Yield a stamp of each file."""

    @abstractmethod
    def read_box(self, index: int, start: tuple[int, ...], size: tuple[int, ...]) -> NDArray[Any]:
        """Return a part ``[C, *size]`` of one recording: levels, or floats in [-1, 1]."""


class Windows(Source):
    """Boxes of one size out of recordings, on a grid.

    Windows of one recording fall on one side of a split, since they may overlap. Of a single
    recording they fall into slabs across its first axis (of a signal, stretches of 16 windows) that
    share nothing.

    Args:
        recordings: the recordings to cut.
        window: size of a window; None for whole recordings, which must agree in size.
        stride: distance between windows; by default the window, of volumes a quarter of it.
        pad_short: signals shorter than the window are a window each, padded with zeros, with a
            warning that counts them; otherwise they are left out, with a warning.

    Raises:
        ValueError: sizes that do not agree, or a window larger than every recording.
    """

    def __init__(
        self,
        recordings: Recordings,
        window: int | tuple[int, ...] | None = None,
        stride: int | None = None,
        *,
        pad_short: bool = False,
    ) -> None:
        self._whole = recordings
        self.name, self.bits, self.form = recordings.name, recordings.bits, recordings.form
        self._window = _window(recordings, window)
        dims = len(self._window)
        self.shape = (recordings.channels, *self._window)
        step = tuple(stride or max(1, w // 4 if dims == 3 else w) for w in self._window)
        alone = len(recordings.sizes) == 1 and window is not None
        self._block = _BLOCK[dims] * self._window[0] if alone else 0
        self._zero = self._padding() if pad_short else None
        self._starts = [self._grid(size, step) for size in recordings.sizes]
        counts = np.array([prod(map(len, axes)) for axes in self._starts], np.int64)
        short = int((counts == 0).sum())
        if short == len(counts):
            raise ValueError(
                f"{self.name} holds nothing as large as data.window={self._window}: the "
                f"largest is {max(recordings.sizes)}"
            )
        if short:
            warnings.warn(
                f"skipped {short} of {len(counts)} in {self.name} that are smaller than "
                f"data.window={self._window}",
                stacklevel=3,
            )
        self._ends = np.cumsum(counts)
        self.labels, self.class_names = None, recordings.class_names
        if recordings.labels is not None:
            self.labels = np.repeat(recordings.labels, counts)

    @property
    def rows(self) -> Source | None:
        """The source whose items are cut; None where recordings are files."""
        return self._whole.source if isinstance(self._whole, Rows) else None

    def __len__(self) -> int:
        return int(self._ends[-1])

    def key(self, index: int) -> str:
        """Return the recording's key and the start of the window."""
        number, start = self._place(index)
        key = self._whole.key(number)
        if self._window == self._whole.sizes[number]:
            return key
        return f"{key}:{','.join(map(str, start))}"

    def group(self, index: int) -> str:
        """Return the group of the recording, or the slab of the only one."""
        number, start = self._place(index)
        if self._block:
            return f"{self._whole.key(number)}:{start[0] // self._block}"
        return self._whole.group(number)

    def recording(self, index: int) -> str:
        """Return the recording's key."""
        return self._whole.key(self._place(index)[0])

    def stamps(self) -> Iterator[Stamp]:
        """Yield the stamps of the recordings."""
        return self._whole.stamps()

    def read(self, index: int) -> NDArray[Any]:
        """Return one window."""
        number, start = self._place(index)
        size = tuple(map(min, self._window, self._whole.sizes[number]))
        window = np.ascontiguousarray(self._whole.read_box(number, start, size))
        if self._zero is None or size == self._window:
            return window
        return np.pad(window, ((0, 0), (0, self._window[0] - size[0])), constant_values=self._zero)

    def _padding(self) -> Any:
        """Return a stored zero as it is read, and say how much of it is added."""
        (window,) = self._window if len(self._window) == 1 else (0,)
        if not window:
            raise ValueError(
                f"data.pad_short pads signals, and {self.name} holds none: leave it out"
            )
        short = [size for (size,) in self._whole.sizes if size < window]
        values = self.form.values or natural_values(self.bits)
        if short and not values.hold(0, 0):
            raise ValueError(
                f"data.pad_short pads with zeros, which the range of {self.name}, "
                f"{values.low:.6g} to {values.high:.6g}, does not hold: set a wider data.range"
            )
        if short:
            added = len(short) * window - sum(short)
            warnings.warn(
                f"padded {len(short)} of {len(self._whole.sizes)} in {self.name} that are shorter "
                f"than data.window={window} with zeros at their end ({added} samples added to "
                f"their {sum(short)})",
                stacklevel=4,
            )
        return values.read(np.zeros((1, 1), values.dtype), self.name, [0])[0, 0] if short else None

    def _grid(self, size: tuple[int, ...], step: tuple[int, ...]) -> list[range | list[int]]:
        if self._zero is not None and size < self._window:
            return [range(1)]
        axes: list[range | list[int]] = [
            range(0, n - w + 1, s) for n, w, s in zip(size, self._window, step, strict=True)
        ]
        if self._block:
            axes[0] = [
                start
                for low in range(0, size[0], self._block)
                for start in range(
                    low, min(low + self._block, size[0]) - self._window[0] + 1, step[0]
                )
            ]
        return axes

    def _place(self, index: int) -> tuple[int, tuple[int, ...]]:
        number = int(np.searchsorted(self._ends, index, side="right"))
        axes = self._starts[number]
        inside = index - (int(self._ends[number - 1]) if number else 0)
        places = np.unravel_index(inside, [len(axis) for axis in axes])
        return number, tuple(axis[int(p)] for axis, p in zip(axes, places, strict=True))


class Rows(Recordings):
    """The items of a source, to be cut."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.name, self.channels, self.bits = source.name, source.shape[0], source.bits
        self.form, self.labels, self.class_names = source.form, source.labels, source.class_names
        self.sizes = [source.shape[1:]] * len(source)

    def key(self, index: int) -> str:
        """Return the key of the item."""
        return self.source.key(index)

    def stamps(self) -> Iterator[Stamp]:
        """Yield the stamps of the source."""
        return self.source.stamps()

    def read_box(self, index: int, start: tuple[int, ...], size: tuple[int, ...]) -> NDArray[Any]:
        """Return a part of an item."""
        box = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
        return self.source.read(index)[(slice(None), *box)]


def _window(recordings: Recordings, window: int | tuple[int, ...] | None) -> tuple[int, ...]:
    dims = len(recordings.sizes[0])
    if window is None:
        sizes = sorted(set(recordings.sizes))
        if len(sizes) > 1:
            one = "256" if dims == 1 else "[" + ",".join(["32"] * dims) + "]"
            ways = f"cut windows of one size with -s data.window={one}"
            if dims == 2:
                ways = f"resize them with -s data.image_size=64, or {ways}"
            raise ValueError(
                f"{recordings.name} holds {len(sizes)} sizes, from {sizes[0]} to {sizes[-1]}: "
                f"{ways}"
            )
        return sizes[0]
    size = (window,) * dims if isinstance(window, int) else tuple(window)
    if len(size) != dims:
        frames = "; folders of frames are clips with -s data.layout=frames"
        raise ValueError(
            f"data.window={window} has {len(size)} axes, and {recordings.name} has {dims}"
            + (frames if (dims, len(size)) == (2, 3) else "")
        )
    return size
