"""Files of numbers: TIFF of floats, long or signed integers or more samples, and deep color.

That is PNG and JPEG 2000 of more than 8 bits in color or beside an alpha channel.
"""

import re
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iddpm.data.file_format import Form
from iddpm.data.sources.deep_pictures import deep_page, is_png, read_deep
from iddpm.data.sources.folder import RecordingFiles
from iddpm.data.sources.label_tables import labels_of_files
from iddpm.data.sources.picture import SUFFIXES, fit
from iddpm.data.sources.tiff import channel_pages, refuse_differing, refuse_mixed_pages
from iddpm.data.sources.tiff_pages import (
    TIFF,
    TiffPage,
    is_tiff,
    read_description,
    read_pages,
    read_samples,
)
from iddpm.data.sources.unreadable import UnreadablePictureError
from iddpm.data.values import Chunk, Wanted, find_values

_GDAL_METADATA = 42112
_SCALE = re.compile(r'role="(scale|offset)">\s*([-+.\deE]+)\s*<')
_KEPT = 1 << 28  # bytes of decoded files that stay in memory


class Rasters(RecordingFiles):
    """Files of any numbers as ``[C, H, W]``, or of several pages as ``[C, T, H, W]``.

    The samples of a pixel are the channels, or those by which ImageJ or OME orders the pages.
    Nothing is converted: uint8 and uint16 have their whole range, the range of others is measured.

    Args:
        path: a folder or a file.
        image_size: crops and resizes, as it does pictures; whole numbers are rounded.
        channels: what the files must have, where it is stated.
        labels: a rule of `iddpm.data.sources.label_tables.labels_of_files`.
        value_range: see `iddpm.data.values.find_values`.
        corrupt: see `iddpm.data.sources.folder.RecordingFiles`.

    Raises:
        ValueError: a damaged file, or files that differ in axes, samples or kind of number.
    """

    _damage = UnreadablePictureError

    def __init__(
        self,
        path: Path,
        *,
        image_size: int | tuple[int, int] | None = None,
        channels: int | None = None,
        labels: str = "auto",
        value_range: Wanted = None,
        corrupt: Literal["error", "skip"] = "error",
    ) -> None:
        super().__init__(path, tuple(SUFFIXES), corrupt)
        self._resized = (image_size, image_size) if isinstance(image_size, int) else image_size
        self._pages = [raster_pages(self._root / key) for key in self._keys]
        shapes = [raster_shape(self._root / k, p) for k, p in zip(self._keys, self._pages,
                  strict=True)]  # fmt: skip
        kinds = {
            (_kind(pages[0], shape), len(shape) > 3): key
            for pages, shape, key in zip(self._pages, shapes, self._keys, strict=True)
        }
        if len(kinds) > 1:
            ((one, many), first), ((other, others), second) = list(kinds.items())[:2]
            raise ValueError(
                f"{first} holds {_counted(many)} of {one} and {second} {_counted(others)} of "
                f"{other}: convert them to one kind"
            )
        page = self._pages[0][0]
        self.channels, self._dtype = shapes[0][0], page.dtype
        if channels not in (None, self.channels):
            raise ValueError(
                f"{self.name} holds {_kind(page, shapes[0])}, and data.channels is {channels}: "
                "leave it out"
            )
        self.sizes = [(*shape[1:-2], *(self._resized or shape[-2:])) for shape in shapes]
        self.labels, self.class_names = labels_of_files(labels, self._keys, self._root)
        self._decoded: dict[int, NDArray[Any]] = {}
        self._nbytes = sum(map(prod, self.sizes)) * self.channels * self._dtype.itemsize
        self._values = find_values(self.name, self._dtype, value_range, self._nbytes, self._chunks)
        self.bits = self._values.bits
        self.form = Form(
            "raster",
            self._values,
            encoding="rgb" if page.rgb else "minisblack",
            container="PNG" if all(is_png(self._root / key) for key in self._keys) else None,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave what was decoded behind."""
        return {**self.__dict__, "_decoded": {}}

    def _read_whole(self, key: str) -> None:
        read_raster(self._root / key)

    def _raw(self, index: int, start: tuple[int, ...], size: tuple[int, ...]) -> NDArray[Any]:
        box = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
        return self._whole(index)[(slice(None), *box)]

    def _whole(self, index: int) -> NDArray[Any]:
        numbers = self._decoded.get(index)
        if numbers is None:
            path = self._root / self._keys[index]
            numbers = read_raster(path, self._pages[index])
            if self._resized is not None:
                numbers = fitted(numbers, self._resized)
            if self._nbytes > _KEPT:
                self._decoded.clear()
            self._decoded[index] = numbers
        return numbers

    def _chunks(self, whole: bool) -> Iterator[Chunk]:
        for index in range(len(self.sizes) if whole else 1):
            yield [index], self._whole(index)[None]


def holds_numbers(path: Path) -> bool:
    """Say whether a file can be opened and holds numbers that no picture has."""
    try:
        if not is_tiff(path):
            return deep_page(path, str(path)) is not None
        pages = read_pages(path, str(path))
        channels = channel_order(path, pages) is not None
    except (ValueError, OSError):  # whoever reads it will say so
        return False
    first = pages[0]
    floats = len(pages) > 1 and first.samples == 1 and first.dtype == np.float32
    return channels or (not first.picture and not floats)  # stacks of gray floats are clips


def read_raster(path: Path, pages: Sequence[TiffPage] | None = None) -> NDArray[Any]:
    """Return the numbers of a file, [C, H, W], or [C, T, H, W] of several pages.

    Raises:
        ValueError: a damaged file, or pages that differ.
    """
    name = str(path)
    pages = pages or raster_pages(path)
    read = read_samples if is_tiff(path) else read_deep
    planes = [read(path, name, page) for page in pages]
    if len(planes) == 1:
        return planes[0]
    order = channel_order(path, pages)
    if order is None:
        return np.stack(planes, 1)
    numbers = np.concatenate(planes)[order]  # [C, T, H, W]
    return numbers[:, 0] if order.shape[1] == 1 else numbers


def raster_shape(path: Path, pages: Sequence[TiffPage]) -> tuple[int, ...]:
    """Return ``(C, H, W)`` or ``(C, T, H, W)`` of what `read_raster` returns."""
    size, count = pages[0].size, len(pages)
    order = channel_order(path, pages)
    channels, frames = (pages[0].samples, count) if order is None else order.shape
    return (channels, *size) if frames == 1 else (channels, frames, *size)


def channel_order(path: Path, pages: Sequence[TiffPage]) -> NDArray[np.int64] | None:
    """Return the numbers of the pages ``[C, T]``; None where they do not run through channels."""
    if len(pages) == 1:
        return None
    return channel_pages(read_description(path, str(path)), len(pages), pages[0].samples)


def raster_pages(path: Path) -> list[TiffPage]:
    """Return the pages of a file of numbers.

    Raises:
        ValueError: no TIFF, a damaged one, or pages that differ or run through several axes.
    """
    name = str(path)
    deep = None if is_tiff(path) else deep_page(path, name)
    if deep is not None:
        return [deep]
    if path.suffix.lower() in TIFF and not is_tiff(path):
        raise UnreadablePictureError(f"{path} is {'no TIFF' if path.stat().st_size else 'empty'}")
    if path.suffix.lower() not in TIFF:
        raise ValueError(
            f"{path} lies beside files of numbers and is none: put each kind into its own folder"
        )
    pages = read_pages(path, name)
    scales = _SCALE.findall(read_description(path, name, _GDAL_METADATA))
    if any(float(value) != (role == "scale") for role, value in scales):
        words = " and ".join(f"{role} {value}" for role, value in scales)
        raise ValueError(
            f"{name} says that its numbers stand for others, by GDAL's {words}: save those that "
            "are meant, number * scale + offset"
        )
    refuse_differing(name, pages)
    if len(pages) > 1 and channel_order(path, pages) is None:
        refuse_mixed_pages(name, read_description(path, name), len(pages), pages[0].samples)
    return pages


def _kind(page: TiffPage, shape: tuple[int, ...]) -> str:
    if shape[0] == page.samples:
        return page.what
    return f"{shape[0]} channels of {page.dtype}"


def _counted(several: bool) -> str:
    return "pages" if several else "one page"


def fitted(numbers: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Crop and resize planes, each as a picture is; whole numbers are rounded and clamped."""
    planes = numbers.reshape(-1, *numbers.shape[-2:])
    fitted = np.stack(
        [np.asarray(fit(Image.fromarray(p.astype(np.float32)), size), np.float64) for p in planes]
    )
    if numbers.dtype.kind in "iu":
        limits = np.iinfo(numbers.dtype)
        fitted = fitted.round().clip(limits.min, limits.max)
    return fitted.astype(numbers.dtype).reshape(*numbers.shape[:-2], *size)
