"""From what a user typed to a `Source`."""

import difflib
from pathlib import Path
from typing import Literal

from iddpm.data.embedded import EMBEDDED, embedded
from iddpm.data.sources.arrays import open_array
from iddpm.data.sources.images import ImageFolder
from iddpm.data.sources.picture import SUFFIXES
from iddpm.data.sources.source import Source

_WORKS = f"a folder of images, a .npy or .npz file, or one of {', '.join(EMBEDDED)}"


def open_source(
    path_or_name: str | Path,
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    labels: str = "auto",
    corrupt: Literal["error", "skip"] = "error",
    layout: str | None = None,
) -> Source:
    """Open a folder of pictures, a .npy or .npz file, or an embedded data set by name.

    A path that exists comes before an embedded name. ``corrupt`` is for folders, ``layout`` for
    arrays; the other arguments are those of `ImageFolder`, `open_array` and `embedded`.

    Raises:
        FileNotFoundError: nothing there, with the nearest embedded name.
        ValueError: there is something, but it cannot be used.
    """
    path = Path(path_or_name).expanduser()
    if path.is_dir():
        _refuse_arrays_only(path)
        if layout is not None:
            raise ValueError(f"layout={layout!r} is for arrays, but {path} is a folder of images")
        return ImageFolder(
            path, image_size=image_size, channels=channels, labels=labels, corrupt=corrupt
        )
    if path.is_file():
        if path.suffix.lower() not in (".npy", ".npz"):
            raise ValueError(f"{path} is a {path.suffix or 'nameless'} file; data is {_WORKS}")
        return open_array(
            path, layout=layout, labels=labels, image_size=image_size, channels=channels
        )
    if str(path_or_name) in EMBEDDED:
        return _open_embedded(str(path_or_name), image_size, channels, labels)
    near = difflib.get_close_matches(str(path_or_name), EMBEDDED, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise FileNotFoundError(f"there is no {path_or_name}{hint}; data is {_WORKS}")


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


def _refuse_arrays_only(folder: Path) -> None:
    """Point from a folder to the array in it, when it holds arrays and no picture beside them."""
    files = [entry for entry in sorted(folder.iterdir()) if entry.is_file()]
    arrays = [file for file in files if file.suffix.lower() in (".npy", ".npz")]
    folders = any(entry.is_dir() for entry in folder.iterdir())
    if arrays and not folders and not any(file.suffix.lower() in SUFFIXES for file in files):
        raise ValueError(
            f"{folder} holds no images but the array file {arrays[0].name}; give the file itself: "
            f"{arrays[0]}"
        )
