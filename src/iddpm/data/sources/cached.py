"""Items decoded, cropped and resized once, then read from a memory-mapped array."""

import copy
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from iddpm.data.cache import built_once, digest
from iddpm.data.sources.arrays import ArraySource
from iddpm.data.sources.npy import map_npy
from iddpm.data.sources.source import DerivedSource, Source
from iddpm.runtime.atomic_files import fsync_file
from iddpm.runtime.console import open_console, progress_bar
from iddpm.runtime.processor import usable_cores

ITEMS = "items.npy"
_LAYOUTS = {1: "NCL", 2: "NCHW", 3: "NCDHW"}
_CHUNK = 32  # items that a thread decodes at a time
_WAITING = 4  # chunks for each thread that may wait to be written


class CachedSource(DerivedSource, ArraySource):
    """Another source's items, out of the array that they were written to.

    Args:
        items: the array, as `cached` writes it.
        source: where the keys and the labels come from.
    """

    def __init__(self, items: NDArray[Any], source: Source) -> None:
        super().__init__(items, name=source.name, layout=_LAYOUTS[items.ndim - 2])
        self.labels, self.class_names = source.labels, source.class_names
        self.bits, self.form = source.bits, source.form
        self._source = source


def cached(
    source: Source,
    folder: Path,
    *settings: object,
    console: Console | None = None,
    threads: int | None = None,
) -> Source:
    """Return ``source`` with its items read from a cache in ``folder``, written if need be.

    Items come out bit for bit as from the source itself. A cache is made again when a key, or the
    size or the time of a file, is another than when it was made. Of several processes one writes;
    see `iddpm.data.cache.built_once`. What lies ready in an array is returned as it is.

    Args:
        source: what to read from.
        folder: holds one directory for each source.
        settings: what distinguishes sources of one name, such as their paths.
        console: for messages about written files; standard error by default.
        threads: that decode; by default as many as the machine has processors for this process.

    Raises:
        ValueError: an item is damaged.
        OSError: the folder cannot be written, or has no room.
    """
    if source.ready:
        return source
    console = console or open_console(stderr=True)
    keys = digest(*(source.key(index) for index in range(len(source))))
    stamps = source.stamps()
    facts = {
        "version": 1,
        "items": len(source),
        "shape": source.shape,
        "bits": source.bits,
        "keys": keys,
        # As a stamp was written before it held a path: caches of earlier versions stay valid.
        "files": digest(*(f"Stamp(name={n!r}, size={s}, time={t})" for n, s, t, _ in stamps)),
    }
    name = re.sub(r"[^\w.-]+", "_", source.name).strip("_.") or "data"
    values = source.form.values
    filled = () if values is None or values.fill is None else (values.fill,)
    directory = folder / f"{name}-{digest(source.shape, source.bits, values, *filled, *settings)}"
    build = partial(_write, source, console=console, threads=threads or usable_cores())
    return CachedSource(map_npy(built_once(directory, facts, build, console.print) / ITEMS), source)


def _write(source: Source, directory: Path, *, console: Console, threads: int) -> None:
    reader = copy.copy(source)  # what it keeps decoded in memory goes with it
    first = reader.read(0)
    size, free = first.nbytes * len(source), shutil.disk_usage(directory).free
    if size > free:
        raise OSError(
            f"a cache of {source.name} takes {size / 1e9:.1f} GB and {directory.parent} has "
            f"{free / 1e9:.1f} GB left: name another folder with -s data.cache=FOLDER"
        )
    console.print(
        f"decoding {len(source)} items of {source.name} once into {directory.parent} "
        f"({size / 1e9:.2g} GB)"
    )
    header = {
        "descr": np.lib.format.dtype_to_descr(first.dtype),
        "fortran_order": False,
        "shape": (len(source), *first.shape),
    }
    # Written, not mapped: a full disk raises an error here and would kill a process there.
    with (
        open(directory / ITEMS, "wb") as file,
        progress_bar(console, "decoding") as progress,
        ThreadPoolExecutor(threads) as pool,  # Pillow decodes and resizes outside the GIL
    ):
        np.lib.format.write_array_header_2_0(file, header)
        task = progress.add_task("decoding", total=len(source))
        for rows in _in_order(pool, reader, _WAITING * threads):
            file.write(np.ascontiguousarray(rows, first.dtype).data)
            progress.advance(task, len(rows))
    fsync_file(directory / ITEMS)


def _in_order(pool: ThreadPoolExecutor, source: Source, ahead: int) -> Iterator[NDArray[Any]]:
    """Yield all items in chunks, while at most ``ahead`` chunks are in memory."""
    chunks = [range(i, min(i + _CHUNK, len(source))) for i in range(0, len(source), _CHUNK)]
    read: Callable[[range], NDArray[Any]] = source.read_many
    for first in range(0, len(chunks), ahead):
        yield from pool.map(read, chunks[first : first + ahead])
