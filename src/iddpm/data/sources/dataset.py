"""A map-style dataset: items that are read by index and split into their parts."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from iddpm.data.file_format import Form
from iddpm.data.fingerprint import SAMPLED
from iddpm.data.sources.arrays import checked_labels
from iddpm.data.sources.layouts import check_layout, guess_layout, to_channels_first
from iddpm.data.sources.picture import bits_of, to_array
from iddpm.data.sources.resize import planned_size, resized
from iddpm.data.sources.source import InMemory, Source, Stamp
from iddpm.data.values import Chunk, Wanted, find_values, natural_values

_CHANNELS_OF_MODE = {"1": 1, "L": 1, "RGBA": 4, "LA": 4}
_KEYS = ("x", "y", "conditions", "given")


def as_array(name: str, value: Any) -> NDArray[Any]:
    """Return numbers of an array or a tensor; refuse what holds none."""
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.is_quantized or value.device.type == "meta":
            raise ValueError(f"{name} is a sparse, quantized or meta tensor: give a dense one")
        value = value.detach().cpu()
        value = value.float() if value.dtype == torch.bfloat16 else value
        return np.asarray(value.resolve_conj().resolve_neg())
    if isinstance(value, np.ma.MaskedArray):
        raise ValueError(f"{name} is a masked array: fill what is masked, or leave those items out")
    if not isinstance(value, np.ndarray) and not hasattr(value, "__array__"):
        raise ValueError(
            f"{name} is a {type(value).__name__}: it must be a numeric array, a tensor or a picture"
        )
    array = np.asarray(value)
    if array.dtype.kind not in "biufc":
        raise ValueError(
            f"{name} holds {array.dtype}, and no numbers: give one numeric array, such as "
            "numpy.stack(items)"
        )
    return array


class _Parts(NamedTuple):
    x: Any
    y: Any
    conditions: Mapping[str, Any]
    given: Any


def _parts(dataset: Any, index: int) -> _Parts:
    """Read an item of a dataset and tell its parts apart."""
    try:
        item = dataset[index]
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(
            f"item {index} of the dataset could not be read: {type(error).__name__}: {said}"
        ) from error
    if isinstance(item, Mapping):
        unknown = [str(key) for key in item if key not in _KEYS]
        if unknown or "x" not in item:
            raise ValueError(
                f"item {index} of the dataset is a dict of {', '.join(map(str, item))}: its "
                "keys must be x and, optionally, y, conditions and given"
            )
        conditions = item.get("conditions")
        if conditions is not None and not isinstance(conditions, Mapping):
            raise ValueError(
                f"conditions of item {index} are a {type(conditions).__name__}: give a dict of "
                "name: number or word"
            )
        return _Parts(item["x"], item.get("y"), conditions or {}, item.get("given"))
    if isinstance(item, tuple) and len(item) in (1, 2):
        return _Parts(item[0], item[1] if len(item) == 2 else None, {}, None)
    if isinstance(item, tuple):
        raise ValueError(
            f"item {index} of the dataset is a tuple of {len(item)}: give x, (x, label) or a dict "
            "of x, y, conditions, given"
        )
    return _Parts(item, None, {}, None)


class DatasetSource(Source):
    """One part of the items of a map-style dataset: ``x`` or ``given``.

    Args:
        dataset: with ``len()`` and indices.
        part: which one.
        extent: [N, 2], the lowest and the highest number of each item.
        layout, image_size, channels, value_range: as for arrays.
    """

    ready = True  # what a dataset keeps is its own affair

    def __init__(
        self,
        dataset: Any,
        part: str,
        *,
        layout: str | None,
        image_size: int | tuple[int, int] | None,
        channels: int | None,
    ) -> None:
        self.name = "the dataset" if part == "x" else f"{part} of the dataset"
        self.dataset, self._part, self._channels = dataset, part, channels
        self._layout, self._resize_to = layout, None
        self._count = len(dataset)
        self._size: tuple[int, int] | None = None
        first = getattr(_parts(dataset, 0), part)
        self._picture = isinstance(first, Image.Image)
        if self._picture:
            if layout is not None:
                raise ValueError(f"data.layout={layout} is for arrays, and items are pictures")
            self._depth = bits_of(f"item 0 of {self.name}", first.mode, "")
            gray = first.mode.startswith("I;16")
            self._channels = channels or (1 if gray else _CHANNELS_OF_MODE.get(first.mode, 3))
            self._asked_size = image_size is not None
            both = (image_size, image_size) if isinstance(image_size, int) else image_size
            self._size = both or (first.height, first.width)
            self._dtype = np.dtype(np.uint8 if self._depth == 8 else np.uint16)
        else:
            array = as_array(f"item 0 of {self.name}", first)
            self._layout = layout or guess_layout(f"item 0 of {self.name}", array[None])
            check_layout(f"item 0 of {self.name}", array[None], self._layout)
            self._dtype = array.dtype
        item = self.array(first, 0)
        if channels not in (None, item.shape[0]):
            raise ValueError(f"{self.name} has {item.shape[0]} channels but channels is {channels}")
        depth = 8 if self._dtype == np.uint8 else None
        self._stored_shape = item.shape
        if not self._picture:
            self._resize_to = planned_size(self.name, item.shape, depth, image_size)
        self.shape = (item.shape[0], *(self._resize_to or item.shape[1:]))
        self.memory = InMemory("dataset", (self._count, *np.shape(item)), str(self._dtype))
        self.labels, self.class_names = None, ()

    def measure(self, extent: NDArray[np.float64], value_range: Wanted) -> None:
        """Find the range of the numbers from the lowest and highest of each item, [N, 2]."""

        def chunks(whole: bool) -> Iterator[Chunk]:
            yield range(self._count), extent

        self._values = find_values(self.name, self._dtype, value_range, 0, chunks)
        if self._resize_to is not None and self._values != natural_values(8):
            raise ValueError("data.image_size resizes only uint8 items with the range 0 to 255")
        self.bits = self._values.bits
        kind: Any = "picture" if self._picture else "array"
        self.form = Form(kind=kind, values=self._values)

    def array(self, value: Any, index: int) -> NDArray[Any]:
        """Return an item as ``[C, *spatial]`` in the numbers that it is stored in."""
        name = f"item {index} of {self.name}"
        if isinstance(value, Image.Image) != self._picture:
            raise ValueError(f"{name} is a {type(value).__name__}, and item 0 is of another kind")
        if self._picture:
            if bits_of(name, value.mode, "") != self._depth:
                raise ValueError(f"{name} has another depth than item 0")
            size = (value.height, value.width)
            assert self._size is not None
            if size != self._size and not self._asked_size:
                raise ValueError(
                    f"{name} is {size[0]}x{size[1]} and item 0 {self._size[0]}x{self._size[1]}: "
                    "set data.image_size"
                )
            channels = self._channels or 3
            return to_array(value, channels=channels, size=self._size, bits=self._depth)
        array = as_array(name, value)
        if array.dtype != self._dtype:
            raise ValueError(f"{name} holds {array.dtype}, and item 0 {self._dtype}")
        assert self._layout is not None
        if array.ndim != len(self._layout) - 1:
            raise ValueError(f"{name} has shape {array.shape}, which cannot be {self._layout[1:]}")
        arranged: NDArray[Any] = to_channels_first(array[None], self._layout)[0]
        if arranged.shape != getattr(self, "_stored_shape", arranged.shape):
            raise ValueError(
                f"{name} has shape {arranged.shape}, channels first, and item 0 has "
                f"{self._stored_shape}: all must have the same shape"
            )
        return arranged

    def __len__(self) -> int:
        return self._count

    def key(self, index: int) -> str:
        """Return the number of the item."""
        return str(index)

    def stamps(self) -> Iterator[Stamp]:
        """Yield one that says how many items there are."""
        yield Stamp(self.name, self._count, 0)

    def read(self, index: int) -> NDArray[Any]:
        """Return one item."""
        stored = self.array(getattr(_parts(self.dataset, index), self._part), index)
        if self._resize_to is not None:
            stored = resized(stored, self._resize_to)
        item: NDArray[Any] = self._values.read(stored[None], self.name, [index])[0]
        return np.array(item)


def open_dataset(
    dataset: Any, labels: str, value_range: Wanted, given_range: Wanted, shared: dict[str, Any]
) -> Source:
    """Read all items once, for their labels and their range, and some twice."""
    source = DatasetSource(dataset, "x", **shared)
    first = _parts(dataset, 0)
    given = None
    if first.given is not None:
        given = DatasetSource(dataset, "given", layout=None, image_size=None, channels=None)
    count = len(dataset)
    extent, of_given = np.empty((count, 2)), np.empty((count, 2))
    ys, cells = [], []
    for index in range(count):
        parts = _parts(dataset, index)
        item = source.array(parts.x, index)
        extent[index] = item.min(), item.max()
        if (parts.given is None) != (given is None):
            raise ValueError(f"given must be in all items or in none: item {index} differs")
        if given is not None:
            beside = given.array(parts.given, index)
            of_given[index] = beside.min(), beside.max()
        ys.append(_label(parts.y, index))
        cells.append({str(k): _cell(v, str(k), index) for k, v in parts.conditions.items()})
    source.measure(extent, value_range)
    if given is not None:
        given.measure(of_given, given_range)
        if given.shape[1:] != source.shape[1:]:
            raise ValueError(
                f"given has items of size {given.shape[1:]}, and x of {source.shape[1:]}: they "
                "must have the same size"
            )
        source.given = given
    _set_labels(source, ys if labels == "auto" else [None] * count, dataset)
    names = sorted({name for row in cells for name in row})
    if names:
        source.columns = {name: [row.get(name, "") for row in cells] for name in names}
    _refuse_changing(source, ys)
    return source


def _plain(value: Any) -> Any:
    """Return the one number in a tensor or an array as Python's own."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    one = isinstance(value, np.generic | np.ndarray) and value.size == 1
    return value.item() if one else value


def _label(y: Any, index: int) -> int | str | None:
    y = _plain(y)
    if y is None or isinstance(y, int | str):
        return int(y) if isinstance(y, bool) else y
    raise ValueError(
        f"the label of item {index} is a {type(y).__name__}: give a whole number from 0, or a name"
    )


def _cell(value: Any, name: str, index: int) -> str:
    value = _plain(value)
    if value is None or isinstance(value, int | float | str):
        return "" if value is None else str(value)
    raise ValueError(
        f"{name} of item {index} is a {type(value).__name__}: conditions are numbers, words or None"
    )


def _set_labels(source: DatasetSource, ys: list[Any], dataset: Any) -> None:
    kinds = {type(y) for y in ys}
    if kinds == {type(None)}:
        return
    if len(kinds) > 1:
        named = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise ValueError(f"labels of the dataset are of several kinds ({named}): use one kind")
    names = getattr(dataset, "classes", ())
    known = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    numbers = np.array(ys)
    usable = known and numbers.dtype.kind == "i" and numbers.max(initial=0) < len(names)
    found = checked_labels(source.name, len(ys), numbers, names if usable else ())
    source.labels, source.class_names = found


def _refuse_changing(source: DatasetSource, ys: list[Any]) -> None:
    """Read some items twice; refuse a dataset that changes them, as random transforms do."""
    chosen = np.unique(np.linspace(0, len(source) - 1, SAMPLED).round().astype(np.int64))
    for index in chosen.tolist():
        same = np.array_equal(source.read(index), source.read(index))
        same &= ys[index] == _label(_parts(source.dataset, index).y, index)
        if source.given is not None:
            same &= np.array_equal(source.given.read(index), source.given.read(index))
        if not same:
            raise ValueError(
                f"item {index} of the dataset differs between two readings: remove random "
                "transforms, so that a run can resume exactly; data.flip and data.random_crop "
                "augment items at random"
            )
