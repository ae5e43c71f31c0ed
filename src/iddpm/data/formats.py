"""The file formats of data: a row for each that is read, and one for each that is written.

A format is a reader in :mod:`iddpm.data.sources`, a row of `FORMATS` and, where samples are
written as such files, a function in :mod:`iddpm.data.writers` and a row of `WRITERS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from iddpm.data.file_format import Form
from iddpm.data.sources.arrays import open_array
from iddpm.data.sources.dicom import Dicoms
from iddpm.data.sources.dicom_headers import DICOM, may_be_dicom
from iddpm.data.sources.hdf5 import HDF5, open_hdf5
from iddpm.data.sources.series import TEXTS, open_series
from iddpm.data.sources.signals import SOUNDS, Sounds
from iddpm.data.sources.source import Source
from iddpm.data.sources.videos import VIDEOS, Videos
from iddpm.data.sources.volumes import NIFTI, Volumes
from iddpm.data.sources.windows import Recordings
from iddpm.data.values import Wanted
from iddpm.data.writers.clip_encoding import SUFFIXES, write_clip
from iddpm.data.writers.raster_files import write_raster
from iddpm.data.writers.sound_files import sound_suffix, write_sound
from iddpm.data.writers.volume_files import write_volume

ARRAYS = (".npy", ".npz")
_CUT: tuple[str, ...] = ("image_size", "channels")
"""Settings of readers that crop, resize and convert items."""


@dataclass(frozen=True)
class Reading:
    """The settings of ``data`` that readers take; each reader takes some of them."""

    image_size: int | tuple[int, int] | None = None
    channels: int | None = None
    labels: str = "auto"
    corrupt: Literal["error", "skip"] = "error"
    layout: str | None = None
    column: str | None = None
    value_range: Wanted = None
    sample_rate: int | None = None

    def of(self, *names: str) -> dict[str, Any]:
        """Return some of them as keyword arguments; labels and range are always among these."""
        return {name: getattr(self, name) for name in ("labels", "value_range", *names)}


@dataclass(frozen=True)
class Format:
    """A format that is read.

    Attributes:
        name: what one file holds, for messages.
        suffixes: of its files, in small letters.
        open: a path and the settings to items, or to recordings that windows are cut from.
        folders: whether a folder of such files is data, a recording each; else a file holds all.
        column: whether ``data.column`` names a part of a file.
        holds: whether a file without a suffix is one, by what it holds.
    """

    name: str
    suffixes: tuple[str, ...]
    open: Callable[[Path, Reading], Source | Recordings]
    folders: bool = False
    column: bool = False
    holds: Callable[[Path], bool] | None = None


FORMATS: tuple[Format, ...] = (
    Format(
        "sound",
        SOUNDS,
        lambda path, s: Sounds(path, **s.of("sample_rate", "channels", "corrupt")),
        folders=True,
    ),
    Format(
        "video",
        VIDEOS,
        lambda path, s: Videos(path, **s.of(*_CUT, "corrupt")),
        folders=True,
    ),
    Format("volume", NIFTI, lambda path, s: Volumes(path, **s.of("corrupt")), folders=True),
    Format(
        "DICOM file",
        DICOM,
        lambda path, s: Dicoms(path, **s.of("column", "corrupt", *_CUT)),
        folders=True,
        column=True,
        holds=may_be_dicom,
    ),
    Format("text table", TEXTS, lambda path, s: open_series(path, **s.of("layout", *_CUT))),
    Format(
        "array",
        ARRAYS,
        lambda path, s: open_array(path, **s.of("layout", "column", *_CUT)),
        column=True,
    ),
    Format(
        "HDF5 file",
        HDF5,
        lambda path, s: open_hdf5(path, **s.of("layout", "column", *_CUT)),
        column=True,
    ),
)
"""Beside pictures and clips, shards and tables, which :mod:`iddpm.data.sources.open` knows."""


def format_of(path: Path) -> Format | None:
    """Return the format of a file by its suffix, or without one by what it holds."""
    name = path.name.lower()
    found = next((each for each in FORMATS if name.endswith(each.suffixes)), None)
    if found is not None or not path.is_file():
        return found
    return next((each for each in FORMATS if each.holds is not None and each.holds(path)), None)


@dataclass(frozen=True)
class Writer:
    """How an item becomes a file like those of the data.

    Attributes:
        suffix: of the file; empty for a folder.
        write: an item ``[C, *spatial]`` as it is stored, to a new file.
    """

    suffix: Callable[[Form], str]
    write: Callable[[Path, NDArray[Any], Form], None]


WRITERS: Mapping[str, Writer] = {
    "signal": Writer(sound_suffix, write_sound),
    "volume": Writer(lambda form: ".nii.gz", write_volume),
    "clip": Writer(
        lambda form: SUFFIXES.get(form.encoding or "", ""),
        lambda path, x, form: write_clip(path, x, form.encoding or "WEBP", form.milliseconds),
    ),
    "raster": Writer(
        lambda form: ".png" if form.container == "PNG" else ".tif",
        write_raster,
    ),
}
"""By the kind of the data's `Form`; data of other kinds is written to one file."""

KINDS = ("array", "picture", "table", *WRITERS)
