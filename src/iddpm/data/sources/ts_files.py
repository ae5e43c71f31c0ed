"""Time series in the .ts format of the UEA and UCR archives.

Format: https://www.aeon-toolkit.org/en/latest/api_reference/file_specifications/ts.html. Lines that
start with ``@`` describe the set; after ``@data`` each line is an item: its channels, separated by
colons, each of numbers separated by commas, and then its class.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iddpm.data.file_format import Form
from iddpm.data.sources.label_tables import class_table
from iddpm.data.sources.opened_files import box
from iddpm.data.sources.source import Stamp
from iddpm.data.sources.windows import Recordings
from iddpm.data.values import Chunk, Wanted, find_values

TS = (".ts",)
_MISSING = ("?", "nan", "NaN")
_AT_ONCE = 64


@dataclass
class _Header:
    """What the lines before ``@data`` say."""

    labels: bool = False
    targets: bool = False
    timestamps: bool = False
    classes: list[str] = field(default_factory=list)


class TimeSeries(Recordings):
    """The series of one .ts file as ``[C, L]``; a missing number is NaN.

    Args:
        path: the file.
        labels: ``"auto"`` takes the classes in it, ``"none"`` leaves them.
        value_range: see `iddpm.data.values.find_values`.
        image_size: None; series are not resized.
        channels: None, or the number the series must have.

    Raises:
        ValueError: a line that does not follow the format; names it.
    """

    def __init__(
        self,
        path: Path,
        *,
        labels: str = "auto",
        value_range: Wanted = None,
        image_size: int | tuple[int, int] | None = None,
        channels: int | None = None,
    ) -> None:
        if labels not in ("auto", "none"):
            raise ValueError(
                f"labels={labels!r} does not go with {path}; use 'auto' (the classes in it) or "
                "'none'"
            )
        self.name, self._path = path.name, path
        self._series: list[NDArray[np.float32]] = []
        words: list[str] = []
        for line, series, label in _read(path):
            if self._series and len(series) != len(self._series[0]):
                raise ValueError(
                    f"{path}, line {line} has {len(series)} channels and the first "
                    f"{len(self._series[0])}"
                )
            self._series.append(series)
            words.append(label)
        if not self._series:
            raise ValueError(f"{path} holds no series")
        self.labels, self.class_names = None, ()
        if labels == "auto" and words[0]:
            self.labels, self.class_names = class_table(words)
        self.channels = len(self._series[0])
        if channels not in (None, self.channels) or image_size is not None:
            raise ValueError(
                f"{self.name} holds series of {self.channels} channels, which are neither resized "
                "nor converted: leave data.image_size and data.channels out"
            )
        self.sizes = [series.shape[1:] for series in self._series]
        nbytes = sum(series.nbytes for series in self._series)
        dtype = np.dtype(np.float32)
        self._values = find_values(self.name, dtype, value_range, nbytes, self._chunks)
        self.bits = self._values.bits
        self.form = Form(values=self._values)

    def key(self, index: int) -> str:
        """Return the number of the series."""
        return str(index)

    def stamps(self) -> Iterator[Stamp]:
        """Yield the stamp of the file."""
        yield Stamp.of(self._path, self._path.name)

    def read_box(self, index: int, start: tuple[int, ...], size: tuple[int, ...]) -> NDArray[Any]:
        """Return a part ``[C, *size]``."""
        part = self._series[index][(slice(None), *box(start, size))]
        found: NDArray[Any] = self._values.read(part[None], self.name, [index])[0]
        return found

    def _chunks(self, whole: bool) -> Iterator[Chunk]:
        for index, series in enumerate(self._series):
            yield [index], series[None]


def _read(path: Path) -> Iterator[tuple[int, NDArray[np.float32], str]]:
    """Yield the line number, the series ``[C, L]`` and the class of each item."""
    header: _Header | None = None
    with path.open(encoding="utf-8", errors="replace") as file:
        known = _Header()
        for number, text in enumerate(file, 1):
            line = text.strip()
            if not line or line.startswith(("#", "%")):
                continue
            if header is not None:
                yield number, *_item(f"{path}, line {number}", line, header)
            elif line.startswith("@"):
                if _tag(line, known) == "@data":
                    header = known
            else:
                raise ValueError(f"{path}, line {number} stands before @data: it is no .ts file")
    if header is None:
        raise ValueError(f"{path} has no line @data: it is no .ts file, or it is truncated")


def _tag(line: str, header: _Header) -> str:
    """Take what a line of the header says, and return its name in small letters."""
    name, *words = line.split()
    name = name.lower()
    true = words[:1] != [] and words[0].lower() == "true"
    if name == "@classlabel":
        header.labels, header.classes = true, words[1:] if true else []
    elif name == "@targetlabel":
        header.targets = true
    elif name == "@timestamps":
        header.timestamps = true
    return name


def _item(where: str, line: str, header: _Header) -> tuple[NDArray[np.float32], str]:
    if header.timestamps:
        raise ValueError(f"{where}: series with time stamps are not read; sample them evenly")
    *channels, last = line.split(":")
    label = ""
    if header.labels:
        label = last.strip()
        if header.classes and label.lower() not in map(str.lower, header.classes):
            raise ValueError(
                f"{where} ends with {label[:40]!r}, which is none of the classes "
                f"{', '.join(header.classes[:20])}: the line may be truncated"
            )
    elif not header.targets:  # which are numbers and no classes
        channels.append(last)
    rows = []
    for number, cells in enumerate(channels, 1):
        try:
            row = [np.nan if c.strip() in _MISSING else float(c) for c in cells.split(",")]
        except ValueError as error:
            raise ValueError(f"{where}, channel {number}: {error}") from None
        rows.append(row)
    if not rows or len({len(row) for row in rows}) > 1:
        lengths = ", ".join(str(len(row)) for row in rows) or "none"
        raise ValueError(f"{where} has channels of several lengths ({lengths})")
    return np.array(rows, dtype=np.float32), label
