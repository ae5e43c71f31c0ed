"""From what a user typed to a `Source`."""

import difflib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from iddpm.data.embedded import EMBEDDED, embedded
from iddpm.data.formats import Format, Reading, format_of
from iddpm.data.sources.animation import can_be_opened, is_animation
from iddpm.data.sources.array_files import ArrayFiles
from iddpm.data.sources.arrow import SPLITS, STATE
from iddpm.data.sources.clips import Animations, FrameFolders
from iddpm.data.sources.contents import check_contents
from iddpm.data.sources.folder import every_file, find_files, first_file
from iddpm.data.sources.images import ImageFolder
from iddpm.data.sources.picture import ANIMATED_SUFFIXES, SUFFIXES
from iddpm.data.sources.pictures import Pictures
from iddpm.data.sources.pixel_limit import limit_pixels
from iddpm.data.sources.ranged import ranged
from iddpm.data.sources.rasters import Rasters, holds_numbers
from iddpm.data.sources.shard_paths import is_pattern
from iddpm.data.sources.shards import TarFiles
from iddpm.data.sources.source import Source
from iddpm.data.sources.table_sounds import TableSounds
from iddpm.data.sources.tables import TableFiles
from iddpm.data.sources.windows import Recordings, Rows, Windows
from iddpm.data.sources.zip_files import ZIP, ZipFiles
from iddpm.data.values import Wanted, with_fill

_WORKS = (
    "a folder of images, clips (.gif, .webp, .tif, .mp4), sounds (.wav, .mp3), volumes (.nii, "
    ".nii.gz) or DICOM files, a .npy, .npz, .h5 or .csv file, .tar shards, or one of "
    f"{', '.join(EMBEDDED)}"
)
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
    pad_short: bool = False,
    sample_rate: int | None = None,
    max_pixels: int | None = None,
    fill: float | None = None,
) -> Source:
    """Open data by its path, whatever it is, or an embedded data set by name.

    A path that exists comes before an embedded name. A folder whose only data are .tar files is a
    set of shards. ``corrupt`` is for files of one item each, ``layout`` for arrays (but
    ``"frames"`` makes clips of folders of pictures, and text tables have ``"rows"`` or
    ``"columns"``), ``column`` for shards and tables; ``value_range`` is that of
    `iddpm.data.values.find_values`; ``max_pixels`` is the most that a picture may have, in this
    process from now on; ``fill`` is what NaN is read as; the other arguments are those of the
    sources.

    Raises:
        FileNotFoundError: nothing there, with the nearest embedded name.
        ValueError: there is something, but it cannot be used.
    """
    path = Path(path_or_name).expanduser()
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError(f"{path} is neither a regular file nor a folder: a pipe or a device?")
    limit_pixels(max_pixels)
    wanted = with_fill(value_range, fill)
    reading = Reading(image_size, channels, labels, corrupt, layout, column, wanted, sample_rate)
    found = format_of(path) if path.exists() else None
    if found is None and path.is_dir() and not _suffixes_in(path) & {".tar", ".arrow", ".parquet"}:
        found = check_contents(path)
    recordings = _open_recordings(path, reading, found)
    if recordings is None:
        source = _open_rows(path_or_name, path, reading, found)
        if isinstance(source, Source) and window is None:
            return source
        recordings = Rows(source) if isinstance(source, Source) else source
    return Windows(recordings, window, stride, pad_short=pad_short)


def _open_recordings(path: Path, reading: Reading, found: Format | None) -> Recordings | None:
    """Open a file or a folder whose items are cut from recordings; None for what is none."""
    store = path.is_dir() and format_of(path) is not None  # a folder that is read as a file
    clips = None if store else _clips(path, reading)
    if reading.layout == "frames" and clips is not FrameFolders and path.exists():
        raise ValueError(f"layout='frames' needs a folder of pictures, and {path} is not one")
    if clips is not None:
        _refuse_column(reading.column, path)
        if clips is FrameFolders:
            _refuse_skip(reading, f"a clip in {path} would lack frames")
            return clips(path, **reading.of("image_size", "channels"))
        _refuse_layout(reading.layout, path)
        return clips(path, **reading.of("image_size", "channels", "corrupt"))
    if found is not None and path.is_dir() and not store and found.folder is not None:
        _refuse_single(path, found)
        return found.folder(path, reading)
    if found is None or store or not (found.folders or found.recordings):
        return None
    if not found.column:
        _refuse_column(reading.column, path)
    if reading.layout is not None:
        raise ValueError(
            f"layout={reading.layout!r} is for arrays and tables, but {path} holds the kind "
            f"{found.name}: leave it out"
        )
    if not found.folders:
        _refuse_skip(reading, f"{path} is one file")
    recordings = found.open(path, reading)
    assert isinstance(recordings, Recordings)
    return recordings


def _clips(path: Path, reading: Reading) -> Callable[..., Recordings] | None:
    """Return what opens pictures with several frames, or of any numbers.

    A folder's first picture decides; where damaged files are left out, the first that opens.
    """
    name = path.name.lower()
    if path.is_file():
        if not name.endswith(tuple(SUFFIXES)):
            return None
        if holds_numbers(path):
            return Rasters
        return Animations if name.endswith(tuple(ANIMATED_SUFFIXES)) or is_animation(path) else None
    picture = first_file(path, tuple(SUFFIXES)) if path.is_dir() else None
    if picture is None:
        return None
    if reading.layout == "frames":
        return FrameFolders
    if reading.corrupt == "skip":
        names = (name for name in every_file(path) if name.lower().endswith(tuple(SUFFIXES)))
        picture = next((path / n for n in names if can_be_opened(path / n)), picture)
    if holds_numbers(picture):
        return Rasters
    return Animations if is_animation(picture) else None


def _open_rows(
    path_or_name: str | Path, path: Path, reading: Reading, found: Format | None
) -> Source | Recordings:
    """Open what holds items ready to be used."""
    if found is not None:
        _refuse_file_settings(reading, path, found)
        source = found.open(path, reading)
        assert isinstance(source, Source)
        return source
    other = _open_others(path_or_name, path, reading)
    return ranged(other, reading.value_range) if isinstance(other, Source) else other


def _refuse_file_settings(reading: Reading, path: Path, found: Format) -> None:
    """Refuse settings that say nothing of one file of many items."""
    _refuse_skip(reading, f"{path} is one file")
    if not found.column:
        _refuse_column(reading.column, path)


def _refuse_skip(reading: Reading, why: str) -> None:
    if reading.corrupt != "error":
        raise ValueError(
            f"corrupt={reading.corrupt!r} skips damaged files of one item each, and {why}: "
            "leave the setting out"
        )


def _refuse_column(column: str | None, where: str | Path) -> None:
    if column is not None:
        raise ValueError(
            f"column={column!r} needs shards, tables, .npz, HDF5 or DICOM, and {where} is none of "
            "these"
        )


def _open_others(path_or_name: str | Path, path: Path, reading: Reading) -> Source | Recordings:
    """Open pictures, shards, tables of pictures or arrays, or an embedded data set."""
    image_size, channels, labels = reading.image_size, reading.channels, reading.labels
    files = files_at(path, reading.column)
    if files is not None and files.arrays:
        _refuse_skip(reading, f"{path} holds arrays")
        return ArrayFiles(
            files, image_size=image_size, channels=channels, labels=labels, layout=reading.layout
        )
    if files is None:
        _refuse_column(reading.column, path_or_name)
    of_pictures: dict[str, Any] = {
        "image_size": image_size,
        "channels": channels,
        "labels": labels,
        "corrupt": reading.corrupt,
    }
    if files is not None:
        _refuse_layout(reading.layout, path)
        if isinstance(files, TableFiles) and files.sounds:
            return TableSounds(files, **reading.of("sample_rate", "channels", "corrupt"))
        return Pictures(files, **of_pictures)
    if path.is_dir():
        _refuse_files(path)
        _refuse_layout(reading.layout, path)
        return ImageFolder(path, **of_pictures)
    if path.is_file():
        raise ValueError(_other_file(path))
    if str(path_or_name) in EMBEDDED:
        return _open_embedded(str(path_or_name), image_size, channels, labels)
    near = difflib.get_close_matches(str(path_or_name), EMBEDDED, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise FileNotFoundError(f"there is no {path_or_name}{hint}; data is {_WORKS}")


def files_at(path: Path, column: str | None) -> TarFiles | TableFiles | ZipFiles | None:
    """Open what holds many items in few files: shards, tables, a .zip; None where there is none."""
    if (path / SPLITS).is_file() or (path / STATE).is_file():
        return TableFiles(path, column)
    suffixes = _suffixes_in(path)
    if ".tar" in suffixes:
        return TarFiles(path, column)
    if suffixes & {".arrow", ".parquet"}:
        return TableFiles(path, column)
    if path.is_file() and path.suffix.lower() == ZIP:
        _refuse_column(column, path)
        return ZipFiles(path)
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
            f"{path} is compressed, so items cannot be read individually: unpack it to a plain .tar"
        )
    return f"{path} is a {path.suffix or 'nameless'} file; data is {_WORKS}"


def _refuse_layout(layout: str | None, path: Path) -> None:
    if layout is not None:
        raise ValueError(
            f"layout={layout!r} is for arrays, but {path} holds images; for a folder of frames "
            "per clip use layout='frames'"
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


def _refuse_files(folder: Path) -> None:
    """Point from a folder without items to files in it that hold many, and to archives."""
    if _suffixes_in(folder):
        for file in sorted(folder.iterdir()):
            found = format_of(file)
            if found is not None and found.folder is None and file.is_file():
                raise ValueError(
                    f"{folder} holds no images but the {found.name} {file.name}; give the file "
                    f"itself: {file}"
                )
            if file.name.lower().endswith(_COMPRESSED):
                raise ValueError(_other_file(file))


def _refuse_single(folder: Path, found: Format) -> None:
    """Point from a folder to its only file, which may hold all items or be one of them."""
    names = find_files(folder, found.suffixes)
    if len(names) == 1:
        raise ValueError(
            f"{folder} holds no images but the {found.name} {names[0]}; give the file itself: "
            f"{folder / names[0]}"
        )
