"""Records of the WFDB format (PhysioNet) in physical units, read by wfdb."""

import warnings
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.edf import Recorded, chosen_channels, recording
from iddpm.data.sources.extras import needed
from iddpm.data.sources.opened_files import Box, Recording

WFDB = (".hea",)
WFDB_PARTS = (".dat", ".mat", ".atr", ".qrs", ".ecg", ".ari", ".xws", ".apn", ".st", ".xyz")


class WfdbRecords(Recorded):
    """The records below a folder, or one; segments of a record are no records by themselves."""

    def __init__(self, path: Path, **settings: Any) -> None:
        super().__init__(path, WFDB, open_wfdb, **settings)

    def _listed(self, path: Path, keys: list[str]) -> list[str]:
        if path.is_file():
            return keys
        inside = {part for key in keys for part in _segments(path, key)}
        return [key for key in keys if key not in inside]


def _segments(folder: Path, key: str) -> list[str]:
    """Return the headers of the segments that a header names."""
    text = (folder / key).read_text(encoding="ascii", errors="replace")
    first, *others = [x for x in text.splitlines() if x.strip() and not x.startswith("#")] or [""]
    if "/" not in first.split(" ")[0]:
        return []
    names = [line.split()[0] for line in others]
    return [PurePosixPath(key).with_name(f"{n}.hea").as_posix() for n in names if "/" not in n]


def open_wfdb(path: Path, column: str | None = None) -> Recording:
    """Open a record as ``[C, L]`` by its header file; samples that are missing are NaN.

    Signals with several samples in a frame are averaged, as wfdb does by default; annotations are
    not read.

    Args:
        path: the ``.hea`` file, beside the files with its samples.
        column: names of the signals to read, separated by commas, in this order; None for all.

    Raises:
        ValueError: a damaged record, or a name that it has not.
    """
    header = _header(path)
    one = header
    if hasattr(header, "seg_name"):
        segments = [name for name in header.seg_name if name != "~"]
        one = _header(path.with_name(f"{segments[0]}.hea")) if segments else header
    files = one.file_name or ()
    if one.n_sig != len(files) or not files:
        raise ValueError(f"{path} promises {one.n_sig} signals and describes {len(files)}")
    if max(one.samps_per_frame or [1]) > 1:
        warnings.warn(
            f"{path.name} has several samples of some signals in a frame, which are averaged",
            stacklevel=3,
        )
    names = [str(name) for name in one.sig_name]
    numbers = chosen_channels(path, names, column)
    length = int(header.sig_len or _read(path, 0, None).sig_len)
    if length < 1:
        raise ValueError(f"{path} holds no samples")

    def part(start: Box, size: Box) -> NDArray[Any]:
        (first,), (count,) = start, size
        record = _read(path, first, first + count)
        signals = np.asarray(record.p_signal)
        if signals.shape != (count, len(names)) or list(record.sig_name) != names:
            raise ValueError(f"{path} is truncated: {count} samples were promised at {first}")
        return np.ascontiguousarray(signals.T[numbers])

    part((length - 1,), (1,))  # refuses promises of more than is there
    chosen, units = (tuple(str(x[k]) for k in numbers) for x in (names, one.units))
    return recording(length, part, chosen, units, float(header.fs))


def _header(path: Path) -> Any:
    wfdb: Any = needed("wfdb", "wfdb", f"reading {path}")
    try:
        return wfdb.rdheader(str(path.with_suffix("")))
    except Exception as error:  # wfdb raises HeaderSyntaxError, ValueError, IndexError, ...
        raise ValueError(f"{path} is not a WFDB header that can be read ({_line(error)})") from None


def _read(path: Path, first: int, stop: int | None) -> Any:
    wfdb: Any = needed("wfdb", "wfdb", f"reading {path}")
    try:
        return wfdb.rdrecord(str(path.with_suffix("")), sampfrom=first, sampto=stop)
    except MemoryError:
        raise
    except Exception as error:  # as above, and FileNotFoundError for a file of samples
        raise ValueError(f"{path} is damaged ({_line(error)})") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
