"""Data in memory: arrays, tensors and map-style datasets, read as those in files are."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from iddpm.data.sources.arrays import ArraySource
from iddpm.data.sources.dataset import as_array, open_dataset
from iddpm.data.sources.source import InMemory, Source
from iddpm.data.values import Wanted

_WORKS = (
    "give a path, a numeric array or tensor with items along its first axis, or a dataset with "
    "len() and indices whose items are x, (x, label) or a dict of x, y, conditions, given"
)


def is_in_memory(data: object) -> bool:
    """Say whether data is an object and no path or name."""
    return data is not None and not isinstance(data, str | os.PathLike)


def open_memory(
    data: Any,
    *,
    layout: str | None = None,
    labels: str = "auto",
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    value_range: Wanted = None,
    given_range: Wanted = None,
) -> Source:
    """Open an array, a tensor or a map-style dataset; arguments as for files.

    All items of a dataset are read once, for their labels and their range, and some twice.

    Raises:
        ValueError: what cannot be used, such as an iterable dataset, or items that differ in shape
            or between two readings.
    """
    if labels not in ("auto", "none"):
        raise ValueError(
            f"data.labels={labels} is for files; data in memory has labels in its items"
        )
    _refuse_others(data)
    shared: dict[str, Any] = {"layout": layout, "image_size": image_size, "channels": channels}
    if isinstance(data, np.ndarray | torch.Tensor) or _is_array_like(data):
        kind = "tensor" if isinstance(data, torch.Tensor) else "array"
        array = as_array(f"the {kind}", data)
        source: Source = ArraySource(array, name=f"the {kind}", value_range=value_range, **shared)
        source.memory = InMemory(kind, array.shape, _dtype(data, array))
        return source
    return open_dataset(data, labels, value_range, given_range, shared)


def _refuse_others(data: Any) -> None:
    name = type(data).__name__
    if isinstance(data, torch.utils.data.IterableDataset | Iterator):
        raise ValueError(
            f"data is a {name}, whose items cannot be read again in another order: {_WORKS}"
        )
    if isinstance(data, torch.utils.data.DataLoader):
        raise ValueError(f"data is a DataLoader: give its dataset; {_WORKS}")
    unusable = isinstance(data, Mapping | bytes | bytearray | set | frozenset | Image.Image)
    table = hasattr(data, "to_numpy") and not isinstance(data, torch.utils.data.Dataset)
    if table:
        raise ValueError(f"data is a {name}: give its to_numpy(), or {_WORKS}")
    readable = hasattr(data, "__len__") and hasattr(data, "__getitem__")
    if unusable or not (readable or _is_array_like(data)):
        raise ValueError(f"data is a {name}, which cannot be trained on: {_WORKS}")
    if readable and not isinstance(data, np.ndarray | torch.Tensor) and len(data) == 0:
        raise ValueError(f"data is a {name} without items")
    if isinstance(data, list | tuple) and isinstance(data[0], str | os.PathLike):
        raise ValueError(f"data is a {name} of paths or words: {_WORKS}")


def _is_array_like(data: Any) -> bool:
    return hasattr(data, "__array__") and not isinstance(data, torch.utils.data.Dataset)


def _dtype(data: Any, array: NDArray[Any]) -> str:
    return str(data.dtype).removeprefix("torch.") if hasattr(data, "dtype") else str(array.dtype)
