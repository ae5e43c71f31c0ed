"""From what a user typed to a `Source`."""

import difflib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from iddpm.data.embedded import EMBEDDED, embedded
from iddpm.data.sources.animation import can_be_opened, is_animation
from iddpm.data.sources.array_files import ArrayFiles
from iddpm.data.sources.arrays import open_array
from iddpm.data.sources.arrow import SPLITS, STATE
from iddpm.data.sources.clips import Animations, FrameFolders
from iddpm.data.sources.contents import check_contents
from iddpm.data.sources.folder import find_files, first_file
from iddpm.data.sources.hdf5 import HDF5, open_hdf5
from iddpm.data.sources.images import ImageFolder
from iddpm.data.sources.picture import ANIMATED_SUFFIXES, SUFFIXES
from iddpm.data.sources.pictures import Pictures
from iddpm.data.sources.pixel_limit import limit_pixels
from iddpm.data.sources.ranged import ranged
from iddpm.data.sources.rasters import Rasters, holds_numbers
from iddpm.data.sources.series import TEXTS, open_series
from iddpm.data.sources.shard_paths import is_pattern
from iddpm.data.sources.shards import TarFiles
from iddpm.data.sources.signals import SOUNDS, Sounds
from iddpm.data.sources.source import Source
from iddpm.data.sources.tables import TableFiles
from iddpm.data.sources.tiff_pages import TIFF
from iddpm.data.sources.volumes import NIFTI, Volumes
from iddpm.data.sources.windows import Pieces, Recordings, Rows
from iddpm.data.values import Wanted

_WORKS = (
    "a folder of images, clips (.gif, .webp, .tif), sounds (.wav, .flac) or volumes (.nii, "
    f".nii.gz), a .npy, .npz, .h5 or .csv file, .tar shards, or one of {', '.join(EMBEDDED)}"
)
ARRAYS = (".npy", ".npz")
_COMPRESSED = (".gz", ".tgz", ".bz2", ".xz", ".zst")


def open_source(
    path_or_name: str | Path,
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    labels: str = "auto",
    corrupt: Literal["error", "skip"] = "error",
    layout: str | None = None,
    column: str | None = None,
    value_range: Wanted = None,
    window: int | tuple[int, ...] | None = None,
    stride: int | None = None,
    sample_rate: int | None = None,
    max_pixels: int | None = None,
) -> Source:
    """Open data by its path, whatever it is, or an embedded data set by name.

    A path that exists comes before an embedded name. A folder whose only data are .tar files is a
    set of shards. ``corrupt`` is for files of one item each, ``layout`` for arrays (but
    ``"frames"`` makes clips of folders of pictures, and text tables have ``"rows"`` or
    ``"columns"``), ``column`` for shards and tables; ``value_range`` is that of
    `iddpm.data.values.find_values`; ``max_pixels`` is the most that a picture may have, in this
    process from now on; the other arguments are those of the sources.

    Raises:
        FileNotFoundError: nothing there, with the nearest embedded name.
        ValueError: there is something, but it cannot be used.
    """
    path = Path(path_or_name).expanduser()
    limit_pixels(max_pixels)
    recordings: Recordings
    kind = _kind(path, layout, corrupt)
    if path.is_dir() and not _suffixes_in(path) & {".tar", ".arrow", ".parquet"}:
        check_contents(path)
    if layout == "frames" and kind != "frames" and path.exists():
        raise ValueError(f"layout='frames' is for folders of pictures, and {path} is none")
    if kind in ("animations", "frames", "rasters"):
        _refuse_column(column, path)
        open_clips: Callable[..., Recordings] = Rasters if kind == "rasters" else Animations
        if kind == "frames":
            _refuse_skip(corrupt, f"a clip in {path} would lack frames")
            open_clips = FrameFolders
        else:
            _refuse_layout(layout, path)
            open_clips = partial(open_clips, corrupt=corrupt)
        recordings = open_clips(
            path,
            image_size=image_size,
            channels=channels,
            labels=labels,
            value_range=value_range,
        )
    elif kind == "signals":
        recordings = Sounds(
            path,
            sample_rate=sample_rate,
            channels=channels,
            labels=labels,
            value_range=value_range,
            corrupt=corrupt,
        )
    elif kind == "volumes":
        recordings = Volumes(path, labels=labels, value_range=value_range, corrupt=corrupt)
    else:
        if path.is_file() and path.suffix.lower() in (*TEXTS, *ARRAYS, *HDF5):
            _refuse_skip(corrupt, f"{path} is one file")
        if path.is_file() and path.suffix.lower() in TEXTS:
            _refuse_column(column, path)
            source: Source = open_series(
                path,
                labels=labels,
                layout=layout,
                value_range=value_range,
                channels=channels,
                image_size=image_size,
            )
        elif path.is_file() and path.suffix.lower() in (*ARRAYS, *HDF5):
            open_rows = open_array if path.suffix.lower() in ARRAYS else open_hdf5
            source = open_rows(
                path,
                layout=layout,
                labels=labels,
                image_size=image_size,
                channels=channels,
                column=column,
                value_range=value_range,
            )
        else:
            source = _open_others(
                path_or_name, path, image_size, channels, labels, corrupt, layout, column
            )
            source = ranged(source, value_range)
        if window is None:
            return source
        recordings = Rows(source)
    return Pieces(recordings, window, stride)


def _kind(path: Path, layout: str | None, corrupt: str) -> str | None:
    """Return what a file or a folder holds, where its suffixes, or its first picture, say so.

    Where damaged files are left out, it is the first that can be opened.
    """
    if path.is_file():
        name = path.name.lower()
        if name.endswith(tuple(ANIMATED_SUFFIXES)):
            return "rasters" if name.endswith(TIFF) and holds_numbers(path) else "animations"
        return "signals" if name.endswith(SOUNDS) else "volumes" if name.endswith(NIFTI) else None
    if not path.is_dir():
        return None
    picture = first_file(path, tuple(SUFFIXES))
    if picture is not None:
        if layout == "frames":
            return "frames"
        if corrupt == "skip":
            every = (path / name for name in find_files(path, tuple(SUFFIXES), skip_links=True))
            picture = next((file for file in every if can_be_opened(file)), picture)
        if picture.suffix.lower() in TIFF and holds_numbers(picture):
            return "rasters"
        animated = picture.suffix.lower() in ANIMATED_SUFFIXES and is_animation(picture)
        return "animations" if animated else None
    if first_file(path, SOUNDS) is not None:
        return "signals"
    return "volumes" if first_file(path, NIFTI) is not None else None


def _refuse_skip(corrupt: str, why: str) -> None:
    if corrupt != "error":
        raise ValueError(
            f"corrupt={corrupt!r} leaves damaged files of one item each out, and {why}: leave the "
            "setting out"
        )


def _refuse_column(column: str | None, where: str | Path) -> None:
    if column is not None:
        raise ValueError(
            f"column={column!r} is for shards, tables, .npz and HDF5, and {where} is none"
        )


def _open_others(
    path_or_name: str | Path,
    path: Path,
    image_size: int | tuple[int, int] | None,
    channels: int | None,
    labels: str,
    corrupt: Literal["error", "skip"],
    layout: str | None,
    column: str | None,
) -> Source:
    files = files_at(path, column)
    if files is not None and not files.arrays:
        _refuse_layout(layout, path)
        return Pictures(
            files, image_size=image_size, channels=channels, labels=labels, corrupt=corrupt
        )
    if files is not None:
        _refuse_skip(corrupt, f"{path} holds arrays")
        return ArrayFiles(
            files, image_size=image_size, channels=channels, labels=labels, layout=layout
        )
    _refuse_column(column, path_or_name)
    if path.is_dir():
        _refuse_folder_of_arrays(path)
        _refuse_layout(layout, path)
        return ImageFolder(
            path, image_size=image_size, channels=channels, labels=labels, corrupt=corrupt
        )
    if path.is_file():
        raise ValueError(_other_file(path))
    if str(path_or_name) in EMBEDDED:
        return _open_embedded(str(path_or_name), image_size, channels, labels)
    near = difflib.get_close_matches(str(path_or_name), EMBEDDED, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise FileNotFoundError(f"there is no {path_or_name}{hint}; data is {_WORKS}")


def files_at(path: Path, column: str | None) -> TarFiles | TableFiles | None:
    """Open what holds many items in few files: shards or tables; None where there are none."""
    if (path / SPLITS).is_file() or (path / STATE).is_file():
        return TableFiles(path, column)
    suffixes = _suffixes_in(path)
    if ".tar" in suffixes:
        return TarFiles(path, column)
    if suffixes & {".arrow", ".parquet"}:
        return TableFiles(path, column)
    return None


def _suffixes_in(path: Path) -> set[str]:
    """Return the suffixes that decide: the path's own, or those of a folder of nothing but files.

    In a folder with pictures or folders beside them, archives are what these were unpacked from.
    """
    if not path.is_dir():
        return {path.suffix.lower()} if path.is_file() or is_pattern(path) else set()
    suffixes = set()
    with os.scandir(path) as entries:
        for entry in entries:
            suffix = os.path.splitext(entry.name)[1].lower()
            if suffix in SUFFIXES or (entry.is_dir() and not entry.name.startswith(".")):
                return set()
            suffixes.add(suffix)
    return suffixes


def _other_file(path: Path) -> str:
    name = path.name.lower()
    if name.endswith(_COMPRESSED):
        return (
            f"{path} is compressed, and items cannot be read out of its middle: unpack it; a plain "
            ".tar need not be unpacked further"
        )
    return f"{path} is a {path.suffix or 'nameless'} file; data is {_WORKS}"


def _refuse_layout(layout: str | None, path: Path) -> None:
    if layout is not None:
        raise ValueError(
            f"layout={layout!r} is for arrays, but {path} holds images; those of clips in a folder "
            "each are read with layout='frames'"
        )


def _open_embedded(
    name: str, image_size: int | tuple[int, int] | None, channels: int | None, labels: str
) -> Source:
    if channels not in (None, 1):
        raise ValueError(f"{name} has 1 channel but channels is {channels}")
    if labels not in ("auto", "none"):
        raise ValueError(f"labels={labels!r} does not go with {name}; use 'auto' or 'none'")
    source = embedded(name, image_size=image_size)
    if labels == "none":
        source.labels, source.class_names = None, ()
    return source


def _refuse_folder_of_arrays(folder: Path) -> None:
    """Point from a folder to what is in it, when that is another kind of data and no picture."""
    if not _suffixes_in(folder) & {".npy", ".npz", *_COMPRESSED}:
        return
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in (".npy", ".npz"):
            raise ValueError(
                f"{folder} holds no images but the array file {file.name}; give the file itself: "
                f"{file}"
            )
        if file.name.lower().endswith(_COMPRESSED):
            raise ValueError(_other_file(file))
