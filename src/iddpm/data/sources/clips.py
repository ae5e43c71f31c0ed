"""Clips and stacks of pictures, from animated files or from folders of frames."""

import re
import warnings
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iddpm.data.file_format import Form
from iddpm.data.sources.animation import Facts, read_facts, read_frames
from iddpm.data.sources.folder import describe, find_files, whole_files
from iddpm.data.sources.label_tables import labels_of_files
from iddpm.data.sources.picture import (
    GRAY_MODES,
    SUFFIXES,
    UnreadablePictureError,
    fit,
    load_picture,
    read_header,
    to_array,
)
from iddpm.data.sources.source import Stamp
from iddpm.data.sources.windows import Recordings
from iddpm.data.values import Chunk, Wanted, find_values

_KEPT = 1 << 28  # bytes of decoded clips that stay in memory
_CHUNK = 1 << 26  # bytes looked at at a time


class Clips(Recordings):
    """Numbered clips as ``[C, T, H, W]``: uint8, gray uint16 or float32, T frames.

    A subclass decodes frames. Decoded clips stay in memory when all of them take little.

    Args:
        path: where they are.
        keys: names of the clips, relative to the path.
        facts: of each.
        image_size: crops and resizes the frames, as it does pictures.
        channels: 1, 3 or 4; by default 1 where all colors are gray, else 3.
        labels: a rule of `iddpm.data.sources.label_tables.labels_of_files`.
        value_range: see `iddpm.data.values.find_values`.

    Raises:
        ValueError: clips that do not go together.
    """

    def __init__(
        self,
        path: Path,
        keys: list[str],
        facts: list[Facts],
        *,
        image_size: int | tuple[int, int] | None = None,
        channels: int | None = None,
        labels: str = "auto",
        value_range: Wanted = None,
    ) -> None:
        self.name, self._root = path.resolve().name, path.parent if path.is_file() else path
        self._keys, self._facts = keys, facts
        dtypes = {fact.dtype: key for key, fact in zip(keys, facts, strict=True)}
        if len(dtypes) > 1:
            (one, first), (other, second) = list(dtypes.items())[:2]
            raise ValueError(
                f"{first} holds {one} and {second} {other}: convert them to one bit depth"
            )
        self._dtype = np.dtype(facts[0].dtype)
        self._channels_stated = channels is not None
        self.channels = channels or (1 if all(fact.gray for fact in facts) else 3)
        if self._dtype != np.uint8 and self.channels != 1:
            raise ValueError(f"{self.name} holds gray {self._dtype}; set data.channels to 1")
        self._resized = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.sizes = [(fact.count, *(self._resized or fact.size)) for fact in facts]
        self.labels, self.class_names = labels_of_files(labels, keys, self._root)
        self._decoded: dict[int, NDArray[Any]] = {}
        self._nbytes = sum(map(prod, self.sizes)) * self.channels * self._dtype.itemsize
        self._values = find_values(self.name, self._dtype, value_range, self._nbytes, self._chunks)
        self.bits = self._values.bits
        milliseconds = _milliseconds(self.name, facts)
        encoding = _encoding(facts, self.channels)
        self.form = Form("clip", self._values, encoding=encoding, milliseconds=milliseconds)

    def __getstate__(self) -> dict[str, Any]:
        """Leave what was decoded behind."""
        return {**self.__dict__, "_decoded": {}}

    def key(self, index: int) -> str:
        """Return the path relative to the folder."""
        return self._keys[index]

    def read_box(self, index: int, start: tuple[int, ...], size: tuple[int, ...]) -> NDArray[Any]:
        """Return a part ``[C, *size]``."""
        raw = self._raw(index, start, size)[None]
        part: NDArray[Any] = self._values.read(raw, self._keys[index], [index])[0]
        return part

    def _raw(self, index: int, start: tuple[int, ...], size: tuple[int, ...]) -> NDArray[Any]:
        (first, top, left), (count, height, width) = start, size
        clip = self._whole(index) if self._nbytes <= _KEPT else None
        frames = self._decode(index, first, count) if clip is None else clip[:, first:][:, :count]
        return frames[..., top : top + height, left : left + width]

    def _whole(self, index: int) -> NDArray[Any]:
        clip = self._decoded.get(index)
        if clip is None:
            clip = self._decoded[index] = self._decode(index, 0, self.sizes[index][0])
        return clip

    def _decode(self, index: int, first: int, count: int) -> NDArray[Any]:
        shape = (self.channels, count, *self.sizes[index][1:])
        clip = np.empty(shape, self._dtype)
        frames = self._frames(index, first, count)
        for place, (title, image) in enumerate(frames):
            clip[:, place] = self._pixels(index, title, image)
        return clip

    @abstractmethod
    def _frames(self, index: int, first: int, count: int) -> Iterator[tuple[str, Image.Image]]:
        """Yield some frames of a clip and what messages call them."""

    def _pixels(self, index: int, title: str, image: Image.Image) -> NDArray[Any]:
        """Return a frame ``[C, H, W]``; refuse what would be lost."""
        size = self._facts[index].size
        if (image.height, image.width) != size:
            raise ValueError(
                f"{title} has {image.height}x{image.width} pixels and the first frame of its "
                f"clip {size[0]}x{size[1]}: resize them to one size"
            )
        if self._dtype == np.float32:
            fitted = image if self._resized is None else fit(image, self._resized)
            return np.asarray(fitted, np.float32)[None]
        if self._dtype == np.uint8 and not self._channels_stated:
            self._refuse_loss(title, image)
        bits = 8 * self._dtype.itemsize
        return to_array(image, channels=self.channels, size=self._resized, bits=bits)

    def _refuse_loss(self, title: str, image: Image.Image) -> None:
        if image.has_transparency_data:
            opacity: Any = image.convert("RGBA").getchannel("A").getextrema()
            if opacity[0] < 255:
                raise ValueError(
                    f"{title} has transparent pixels: keep them with -s data.channels=4, or "
                    "composite them on white with data.channels=3"
                )
        if self.channels == 1 and image.mode not in GRAY_MODES:
            colors = np.asarray(image.convert("RGB"))
            if (colors != colors[..., :1]).any():
                raise ValueError(
                    f"{title} is in color while {self.name} looked gray: set data.channels to "
                    "3 to keep color, or to 1 to convert all to gray"
                )

    def _chunks(self, whole: bool) -> Iterator[Chunk]:
        for index, size in enumerate(self.sizes):
            step = max(1, _CHUNK // max(1, prod(size[1:]) * self._dtype.itemsize))
            starts = range(0, size[0], step)
            for first in starts if whole else starts[:1]:
                part = (min(step, size[0] - first), *size[1:])
                yield [index], self._raw(index, (first, 0, 0), part)[None]


class Animations(Clips):
    """The GIF, WebP and TIFF files of several frames below a folder, or one such file.

    Args:
        path: a folder or a file.
        corrupt: ``"skip"`` reads every file once and leaves out those that cannot be read.
        image_size, channels, labels, value_range: as for `Clips`.

    Raises:
        ValueError: a damaged file, a still picture among them, or what cannot be kept.
    """

    def __init__(
        self, path: Path, *, corrupt: Literal["error", "skip"] = "error", **settings: Any
    ) -> None:
        root = path.parent if path.is_file() else path
        keys = find_files(path, tuple(SUFFIXES), skip_links=corrupt == "skip")
        if corrupt == "skip":

            def read(key: str) -> None:
                for _ in read_frames(root / key, 0, read_facts(root / key).count):
                    pass

            keys = whole_files(str(path), keys, read, UnreadablePictureError)
        super().__init__(path, keys, [read_facts(root / key) for key in keys], **settings)

    def stamps(self) -> Iterator[Stamp]:
        """Yield a stamp of each file."""
        return (Stamp.of(self._root / key, key) for key in self._keys)

    def _frames(self, index: int, first: int, count: int) -> Iterator[tuple[str, Image.Image]]:
        path = self._root / self._keys[index]
        for number, image in enumerate(read_frames(path, first, count), first + 1):
            yield f"{path}, frame {number}", image


class FrameFolders(Clips):
    """Folders of pictures, each the frames of a clip in the order of the numbers in their names.

    Args:
        path: the folder of such folders, which may lie in folders of classes; or one of them.
        image_size, channels, labels, value_range: as for `Clips`.

    Raises:
        FileNotFoundError: no picture below the folder.
        ValueError: frames or clips that do not go together.
    """

    def __init__(self, path: Path, **settings: Any) -> None:
        folders: dict[str, list[str]] = {}
        for file in find_files(path, tuple(SUFFIXES)):
            folders.setdefault(Path(file).parent.as_posix(), []).append(file)
        if not folders:
            raise FileNotFoundError(
                f"{path} has no picture, and so no frame of a clip: {describe(path)}"
            )
        if "." in folders and len(folders) > 1:
            raise ValueError(
                f"{path} holds pictures beside folders of frames, such as {folders['.'][0]}: "
                "put each clip into its own folder"
            )
        keys = sorted(folders)
        self._names = [sorted(folders[key], key=_by_numbers) for key in keys]
        super().__init__(path, keys, [_folder_facts(path, names) for names in self._names],
                         **settings)  # fmt: skip

    def stamps(self) -> Iterator[Stamp]:
        """Yield a stamp of each frame."""
        return (Stamp.of(self._root / name, name) for names in self._names for name in names)

    def _frames(self, index: int, first: int, count: int) -> Iterator[tuple[str, Image.Image]]:
        for name in self._names[index][first : first + count]:
            title = str(self._root / name)
            yield title, load_picture(self._root / name)[0]


def _folder_facts(root: Path, names: list[str]) -> Facts:
    headers = [read_header(root / name) for name in names]
    first = headers[0]
    for name, header in zip(names, headers, strict=True):
        if (header.size, header.bits) != (first.size, first.bits):
            raise ValueError(
                f"{root / name} has {header.size[0]}x{header.size[1]} pixels of {header.bits} "
                f"bits and {names[0]} {first.size[0]}x{first.size[1]} of {first.bits}: the "
                "frames of a clip must have one size and depth"
            )
    gray = all(header.mode in GRAY_MODES for header in headers)
    return Facts(len(names), first.size, f"uint{first.bits}", gray, "frames")


def _by_numbers(name: str) -> list[tuple[int, str]]:
    """Return a key by which frame2 comes before frame10."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part) if part.isdigit() else 0, part) for part in parts]


def _milliseconds(name: str, facts: list[Facts]) -> float | None:
    times = Counter(time for fact in facts for time in fact.milliseconds)
    if not times:
        return None
    usual = times.most_common(1)[0][0]
    if len(times) > 1:
        warnings.warn(
            f"{name} shows its frames for {min(times):g} to {max(times):g} ms; the model does not "
            f"learn this, and samples show each frame for {usual:g} ms",
            stacklevel=4,
        )
    return usual


def _encoding(facts: list[Facts], channels: int) -> str:
    """Return how samples are written: as the data, or as WebP where a GIF could not keep them."""
    formats = {fact.format for fact in facts}
    if len(formats) == 1 and formats <= {"TIFF", "frames"}:
        return formats.pop()
    if formats == {"MP4"} and channels < 4:
        return "MP4" if facts[0].dtype == "uint8" else "TIFF"
    return "GIF" if formats == {"GIF"} and channels == 1 else "WEBP"
