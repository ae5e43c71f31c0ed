"""Find the files to upscale from a user's arguments."""

from collections.abc import Callable, Iterable
from pathlib import Path

from iddpm.data.formats import ARRAYS
from iddpm.data.sources.folder import find_files
from iddpm.data.sources.picture import SUFFIXES
from iddpm.data.sources.rasters import holds_numbers
from iddpm.data.sources.series import TEXTS
from iddpm.data.sources.signals import SOUNDS
from iddpm.data.sources.videos import VIDEOS
from iddpm.data.sources.volumes import NIFTI
from iddpm.data.upscaling.low_res import LowRes, Target
from iddpm.data.upscaling.whole_arrays import ArrayFile
from iddpm.data.upscaling.whole_clips import Clip
from iddpm.data.upscaling.whole_pictures import Picture
from iddpm.data.upscaling.whole_rasters import Raster
from iddpm.data.upscaling.whole_sounds import Sound
from iddpm.data.upscaling.whole_tables import Table
from iddpm.data.upscaling.whole_volumes import Volume

_KINDS: dict[int, tuple[tuple[tuple[str, ...], Callable[[Path, Target], LowRes]], ...]] = {
    1: ((SOUNDS, Sound), (TEXTS, Table), (ARRAYS, ArrayFile)),
    2: ((tuple(sorted(SUFFIXES)), Picture), (ARRAYS, ArrayFile)),
    3: ((NIFTI, Volume), (tuple(sorted(SUFFIXES)), Clip), (VIDEOS, Clip), (ARRAYS, ArrayFile)),
}
"""Suffixes and what opens them, by the number of axes."""
_AT_ONCE = 16  # items that are looked at


def open_low_res(paths: Iterable[Path | str], target: Target) -> dict[str, LowRes]:
    """Open files, and those below folders, by the name of the upscaled file of each.

    A file in a folder keeps its place below it. Everything that can be seen without computing is
    looked at: the numbers of all items too.

    Raises:
        FileNotFoundError: no such file, or none below a folder.
        ValueError: a file that the model does not fit, or two that would get one name.
    """
    kinds = _KINDS[target.dims]
    suffixes = tuple(suffix for some, _ in kinds for suffix in some)
    known = ", ".join(suffixes)
    found: dict[str, LowRes] = {}
    for given in map(Path, paths):
        if not given.exists():
            raise FileNotFoundError(f"there is no file {given}")
        keys = find_files(given, suffixes)
        if not keys:
            raise FileNotFoundError(f"{given} has no file of {known}")
        for key in keys:
            path = given if given.is_file() else given / key
            opener: Callable[[Path, Target], LowRes] | None
            opener = next((make for some, make in kinds if path.name.lower().endswith(some)), None)
            if opener is None:
                raise ValueError(
                    f"{path} cannot be read for a model of {target.dims}-D data: give {known}"
                )
            if opener in (Picture, Clip) and holds_numbers(path):
                opener = Raster
            opened = opener(path, target)
            for start in range(0, opened.count, _AT_ONCE):
                opened.read(start, start + _AT_ONCE)
            name = key[: -len(_suffix(key, suffixes))] + opened.output
            if name in found:
                raise ValueError(
                    f"{found[name].path} and {path} would both become {name}: give one of "
                    "them separately, with another --out"
                )
            found[name] = opened
    return found


def _suffix(key: str, suffixes: tuple[str, ...]) -> str:
    """Return the longest of the suffixes that a name ends with."""
    return max((s for s in suffixes if key.lower().endswith(s)), key=len)
