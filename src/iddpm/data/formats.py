"""The file formats of data: a row for each that is read, and one for each that is written.

A format is a reader in :mod:`iddpm.data.sources`, a row of `FORMATS` and, where samples are
written as such files, a function in :mod:`iddpm.data.writers` and a row of `WRITERS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from iddpm.data.file_format import Form
from iddpm.data.sources.array_folder import (
    ArrayFolder,
    Opener,
    TableFolder,
    open_array_item,
    open_numpy,
)
from iddpm.data.sources.arrays import open_array
from iddpm.data.sources.dicom import Dicoms
from iddpm.data.sources.dicom_headers import DICOM, may_be_dicom
from iddpm.data.sources.edf import EDF, Recorded, open_edf
from iddpm.data.sources.grids import NETCDF, ZARR, is_zarr, open_grid, open_grid_item
from iddpm.data.sources.hdf5 import HDF5, open_dataset, open_hdf5
from iddpm.data.sources.idx import IDX, open_idx
from iddpm.data.sources.matlab import MAT, open_mat, open_mat_item
from iddpm.data.sources.series import TEXTS, open_item, open_series
from iddpm.data.sources.signals import SOUNDS, Sounds
from iddpm.data.sources.source import Source
from iddpm.data.sources.ts_files import TS, TimeSeries
from iddpm.data.sources.videos import VIDEOS, Videos
from iddpm.data.sources.volumes import VOLUME_PARTS, VOLUMES, Volumes
from iddpm.data.sources.wfdb_records import WFDB, WFDB_PARTS, WfdbRecords
from iddpm.data.sources.windows import Recordings
from iddpm.data.values import Filled, Wanted
from iddpm.data.writers.clip_encoding import SUFFIXES, write_clip
from iddpm.data.writers.raster_files import write_raster
from iddpm.data.writers.sound_files import sound_suffix, write_sound
from iddpm.data.writers.volume_files import write_volume

ARRAYS = (".npy", ".npz")
_CUT: tuple[str, ...] = ("image_size", "channels")
"""Settings of readers that crop, resize and convert items."""
_SIGNAL = ("sample_rate", "channels", "corrupt")


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
        recordings: whether a file holds many recordings, of which windows are cut.
        column: whether ``data.column`` names a part of a file.
        holds: whether a file without a suffix is one, by what it holds.
        folder: opens a folder in which each such file is an item, where ``open`` takes one file.
            Beside files of another format such files are not items, but tables and the like.
        parts: suffixes of files that belong to those with the suffixes, such as their voxels.
    """

    name: str
    suffixes: tuple[str, ...]
    open: Callable[[Path, Reading], Source | Recordings]
    folders: bool = False
    recordings: bool = False
    column: bool = False
    holds: Callable[[Path], bool] | None = None
    folder: Callable[[Path, Reading], Recordings] | None = None
    parts: tuple[str, ...] = ()


def _folder_of(suffixes: tuple[str, ...], opener: Opener) -> Callable[[Path, Reading], Recordings]:
    """Return what opens a folder of files that hold an array each."""

    def folder(path: Path, s: Reading) -> Recordings:
        open_file = partial(open_array_item, opener=opener, layout=s.layout, column=s.column)
        return ArrayFolder(path, suffixes, open_file, **s.of("corrupt", *_CUT))

    return folder


def _folder_of_tables(path: Path, s: Reading) -> Recordings:
    if s.column is not None:
        raise ValueError(f"column={s.column!r} selects one of several arrays, not of tables")
    open_file = partial(open_item, layout=s.layout, missing=isinstance(s.value_range, Filled))
    return TableFolder(path, TEXTS, open_file, **s.of("corrupt", *_CUT))


FORMATS: tuple[Format, ...] = (
    Format(
        "sound",
        SOUNDS,
        lambda path, s: Sounds(path, **s.of(*_SIGNAL)),
        folders=True,
    ),
    Format(
        "video",
        VIDEOS,
        lambda path, s: Videos(path, **s.of(*_CUT, "corrupt")),
        folders=True,
    ),
    Format(
        "volume",
        VOLUMES,
        lambda path, s: Volumes(path, **s.of("corrupt")),
        folders=True,
        parts=VOLUME_PARTS,
    ),
    Format(
        "EDF recording",
        EDF,
        lambda path, s: Recorded(path, EDF, open_edf, **s.of("column", *_SIGNAL)),
        folders=True,
        column=True,
    ),
    Format(
        "WFDB record",
        WFDB,
        lambda path, s: WfdbRecords(path, **s.of("column", *_SIGNAL)),
        folders=True,
        column=True,
        parts=WFDB_PARTS,
    ),
    Format(
        ".ts file of series",
        TS,
        lambda path, s: TimeSeries(path, **s.of(*_CUT)),
        recordings=True,
    ),
    Format(
        "DICOM file",
        DICOM,
        lambda path, s: Dicoms(path, **s.of("column", "corrupt", *_CUT)),
        folders=True,
        column=True,
        holds=may_be_dicom,
    ),
    Format(
        "array",
        ARRAYS,
        lambda path, s: open_array(path, **s.of("layout", "column", *_CUT)),
        column=True,
        folder=_folder_of(ARRAYS, open_numpy),
    ),
    Format(
        "HDF5 file",
        HDF5,
        lambda path, s: open_hdf5(path, **s.of("layout", "column", *_CUT)),
        column=True,
        folder=_folder_of(HDF5, open_dataset),
    ),
    Format(
        "MATLAB file",
        MAT,
        lambda path, s: open_mat(path, **s.of("layout", "column", *_CUT)),
        column=True,
        folder=_folder_of(MAT, open_mat_item),
    ),
    Format(
        "NetCDF file",
        NETCDF,
        lambda path, s: open_grid(path, **s.of("layout", "column", *_CUT)),
        column=True,
        folder=_folder_of(NETCDF, open_grid_item),
    ),
    Format(
        "Zarr store",
        ZARR,
        lambda path, s: open_grid(path, **s.of("layout", "column", *_CUT)),
        column=True,
    ),
    Format("IDX file", IDX, lambda path, s: open_idx(path, **s.of("layout", *_CUT))),
    Format(
        "text table",
        TEXTS,
        lambda path, s: open_series(path, **s.of("layout", *_CUT)),
        folder=_folder_of_tables,
    ),
)
"""Beside pictures and clips, shards and tables, which :mod:`iddpm.data.sources.open` knows."""


def format_of(path: Path) -> Format | None:
    """Return the format of a file by its suffix, or without one by what it holds.

    A folder that is a store has one, too.
    """
    if path.is_dir():
        return next(each for each in FORMATS if each.suffixes == ZARR) if is_zarr(path) else None
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
