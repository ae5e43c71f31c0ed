"""Pictures of any formats, modes and sizes as items of one shape."""

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import get_worker_info

from iddpm.data.sources.file_lists import Files
from iddpm.data.sources.picture import (
    GRAY_MODES,
    Header,
    UnreadablePictureError,
    load_picture,
    read_header,
    to_array,
)
from iddpm.data.sources.source import Source, Stamp
from iddpm.data.sources.unreadable import UnsupportedPictureError

CACHE_BYTES = 1 << 30  # decoded sets up to this size stay in memory
_PROBED = 32  # pictures that decide the number of channels
_NAMED = 5  # files a message lists


class Pictures(Source):
    """Picture files as ``[C, H, W]`` of uint8 or uint16.

    Each is turned upright, cropped at its center to the target's aspect ratio and resized. Decoded
    pictures stay in memory when the whole set takes at most `CACHE_BYTES`.

    Args:
        files: where the pictures are.
        image_size: pixels, one number or ``(height, width)``; None when all pictures have one size.
        channels: 1 (gray), 3 (RGB) or 4 (RGBA). None decides by up to 32 pictures spread over the
            set: 4 if all have transparent pixels, 1 if all are stored as gray, else 3.
        labels: a rule that the files know.
        corrupt: ``"error"`` raises where a file is met that is damaged or of a kind that is not
            read; ``"skip"`` decodes every file once at opening and leaves these out, with a
            warning.

    Attributes:
        skipped: keys of the files left out.

    Raises:
        ValueError: sizes, bit depths or labels that do not go together, or a damaged file.
    """

    def __init__(
        self,
        files: Files,
        *,
        image_size: int | tuple[int, int] | None = None,
        channels: int | None = None,
        labels: str = "auto",
        corrupt: Literal["error", "skip"] = "error",
    ) -> None:
        self.files = files
        self.name = files.name
        if channels not in (None, 1, 3, 4):
            raise ValueError(f"channels is {channels}; pictures have 1 (gray), 3 (RGB) or 4 (RGBA)")
        size = _checked_size(image_size)
        self._chosen: Sequence[int] = range(len(files))
        self.skipped: list[str] = []
        if corrupt == "skip":
            self._leave_out_unreadable(size)
        elif corrupt != "error":
            raise ValueError(f"corrupt is {corrupt!r}; use 'error' or 'skip'")

        headers = self._read_headers(every=size is None)
        self._size = size or _common_size(headers.values())
        self.bits = self._common_bits(headers)
        self._channels_stated = channels is not None
        self._channels = channels or self._infer_channels(headers)
        if self.bits == 16 and self._channels != 1:
            raise ValueError(
                f"{files.where} holds 16-bit gray pictures but channels is {self._channels}; "
                "set data.channels to 1, or convert the pictures to 8 bits"
            )
        self.shape = (self._channels, *self._size)
        self.labels, self.class_names = files.labels(labels, self._chosen)
        self._cache: tuple[NDArray[Any], NDArray[np.bool_]] | None = None

    def __len__(self) -> int:
        return len(self._chosen)

    def key(self, index: int) -> str:
        """Return the key of the file."""
        return self.files.key(self._chosen[index])

    def content(self, index: int) -> Path | bytes:
        """Return where the file of an item lies, or what it holds."""
        return self.files.content(self._chosen[index])

    def stamps(self) -> Iterator[Stamp]:
        """Yield the stamps of the files."""
        return self.files.stamps()

    def read(self, index: int) -> NDArray[Any]:
        """Return one picture ``[C, H, W]``; a damaged file raises ValueError with its name."""
        cache = self._open_cache()
        if cache is None:
            return self._decode(index)
        pictures, known = cache
        if not known[index]:
            pictures[index] = self._decode(index)
            known[index] = True
        return np.array(pictures[index])

    def __getstate__(self) -> dict[str, Any]:
        """Leave decoded pictures behind: a worker process fills a cache of its own."""
        return {**self.__dict__, "_cache": None}

    def _decode(self, index: int) -> NDArray[Any]:
        number = self._chosen[index]
        title = self.files.title(number)
        with _advice():
            image, bits = load_picture(self.files.content(number), title, self._size)
        if bits != self.bits:
            raise ValueError(
                f"{title} has {bits} bits per sample while the others have {self.bits}; "
                "convert the pictures to one depth"
            )
        if self._channels == 1 and not self._channels_stated and image.mode not in GRAY_MODES:
            raise ValueError(
                f"{title} is in color while the pictures probed in {self.files.where} are "
                "gray; set data.channels to 3 to keep color, or to 1 to convert all to gray"
            )
        assert self.bits is not None
        return to_array(image, channels=self._channels, size=self._size, bits=self.bits)

    def _open_cache(self) -> tuple[NDArray[Any], NDArray[np.bool_]] | None:
        if self._cache is None:
            worker = get_worker_info()
            dtype = np.uint16 if self.bits == 16 else np.uint8
            total = len(self) * int(np.prod(self.shape)) * np.dtype(dtype).itemsize
            if total * (worker.num_workers if worker else 1) > CACHE_BYTES:
                return None
            # np.empty takes no memory until pages are written.
            self._cache = np.empty((len(self), *self.shape), dtype), np.zeros(len(self), np.bool_)
        return self._cache

    def _leave_out_unreadable(self, size: tuple[int, int] | None) -> None:
        def problem(number: int) -> UnreadablePictureError | None:
            try:
                load_picture(self.files.content(number), self.files.title(number), size)
            except UnreadablePictureError as error:
                return error
            return None

        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            problems = dict(zip(self._chosen, pool.map(problem, self._chosen), strict=True))
        self._chosen = [n for n, error in problems.items() if error is None]
        self.skipped = [self.files.key(n) for n, error in problems.items() if error is not None]
        if not self.skipped:
            return
        unsupported = [e for e in problems.values() if isinstance(e, UnsupportedPictureError)]
        damaged = [
            self.files.key(n)
            for n, error in problems.items()
            if error is not None and not isinstance(error, UnsupportedPictureError)
        ]
        parts = []
        if damaged:
            parts.append(
                f"{len(damaged)} damaged pictures of {self.files.where}: {_listed(damaged)}"
            )
        if unsupported:
            parts.append(
                f"{len(unsupported)} intact pictures of {self.files.where} of unsupported "
                f"kinds, first: {unsupported[0]}"
            )
        if not self._chosen:
            raise ValueError(f"no picture is left without {'; and '.join(parts)}")
        warnings.warn(f"skipped {'; and '.join(parts)}", stacklevel=4)

    def _read_headers(self, *, every: bool) -> dict[int, Header]:
        """Read the headers that decide; those of all where sizes have to be alike."""
        probed = self._chosen if every else dict.fromkeys(self._spread())
        with _advice():
            return {n: read_header(self.files.content(n), self.files.title(n)) for n in probed}

    def _spread(self) -> list[int]:
        places = np.linspace(0, len(self) - 1, min(_PROBED, len(self))).round()
        return [self._chosen[int(place)] for place in places]

    def _common_bits(self, headers: dict[int, Header]) -> int:
        of_depth = {header.bits: self.files.key(number) for number, header in headers.items()}
        if len(of_depth) > 1:
            raise ValueError(
                f"{of_depth[16]} is 16-bit gray but {of_depth[8]} has 8 bits per sample; "
                "convert the pictures to one depth"
            )
        return next(iter(of_depth))

    def _infer_channels(self, headers: dict[int, Header]) -> int:
        probed = {number: headers[number] for number in self._spread()}
        if all(header.mode in GRAY_MODES and not header.transparency for header in probed.values()):
            return 1
        with _advice():
            if all(
                header.transparency and self._has_transparent_pixels(number)
                for number, header in probed.items()
            ):
                return 4
        return 1 if all(header.mode in GRAY_MODES for header in probed.values()) else 3

    def _has_transparent_pixels(self, number: int) -> bool:
        image, _ = load_picture(self.files.content(number), self.files.title(number))
        return cast(int, image.convert("RGBA").getchannel("A").getextrema()[0]) < 255


@contextmanager
def _advice() -> Iterator[None]:
    """Add to a message on a file what can be done about it."""
    try:
        yield
    except UnsupportedPictureError as error:
        raise ValueError(f"{error}; or skip such files with -s data.corrupt=skip") from error
    except UnreadablePictureError as error:
        raise ValueError(
            f"{error}; remove it, or skip damaged files with -s data.corrupt=skip"
        ) from error


def _checked_size(image_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if image_size is None:
        return None
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or min(size) <= 0:
        raise ValueError(
            f"image_size is {image_size}; give a positive number of pixels, or (height, width)"
        )
    return size[0], size[1]


def _common_size(headers: Iterable[Header]) -> tuple[int, int]:
    sizes = Counter(header.size for header in headers)
    if len(sizes) > 1:
        seen = ", ".join(f"{height}x{width} ({n})" for (height, width), n in sizes.most_common(4))
        more = ", ..." if len(sizes) > 4 else ""
        raise ValueError(
            f"the pictures have {len(sizes)} sizes (height x width): {seen}{more}; "
            "set data.image_size, such as -s data.image_size=64"
        )
    return next(iter(sizes))


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(keys[:_NAMED]) + (", ..." if len(keys) > _NAMED else "")
