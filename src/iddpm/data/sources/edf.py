"""EDF and BDF recordings in physical units, read by pyedflib."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.extras import needed
from iddpm.data.sources.opened_files import Box, OpenedFiles, Recording

EDF = (".edf", ".bdf")


class Recorded(OpenedFiles):
    """Physiological recordings below a folder, or one, as signals ``[C, L]``.

    Args:
        path: a folder or a file.
        suffixes: of the files.
        opener: of one of them.
        column: names of the signals to read, separated by commas.
        sample_rate, channels: what the recordings must have, where they are stated.
        labels, value_range, corrupt: as for `OpenedFiles`.

    Raises:
        ValueError: as for `OpenedFiles`, and a rate or channels that the recordings have not.
    """

    def __init__(
        self,
        path: Path,
        suffixes: tuple[str, ...],
        opener: Callable[..., Recording],
        *,
        column: str | None = None,
        sample_rate: int | None = None,
        channels: int | None = None,
        **files: Any,
    ) -> None:
        super().__init__(path, suffixes, partial(opener, column=column), kind="signal", **files)
        if sample_rate not in (None, self.form.sample_rate):
            raise ValueError(
                f"{self.name} is sampled at {self.form.sample_rate:g} Hz, and "
                f"data.sample_rate={sample_rate} resamples sounds only: leave it out"
            )
        if channels not in (None, self.channels):
            raise ValueError(
                f"{self.name} holds {self.channels} signals, and data.channels={channels}: name "
                "those to read with data.column"
            )


def open_edf(path: Path, column: str | None = None) -> Recording:
    """Open a recording as ``[C, L]``, a channel for each signal; annotations are not read.

    Args:
        path: the file.
        column: labels of the signals to read, separated by commas, in this order; None for all.

    Raises:
        ValueError: a damaged file, a label that it has not, or signals of several sampling rates.
    """
    with _reader(path) as reader:
        labels = [label.strip() for label in reader.getSignalLabels()]
        numbers = chosen_channels(path, labels, column)
        rates = {labels[k]: float(reader.getSampleFrequency(k)) for k in numbers}
        lengths = {int(reader.getNSamples()[k]) for k in numbers}
        units = tuple(reader.getPhysicalDimension(k).strip() for k in numbers)
    rate = single_rate(path, rates)
    (length,) = lengths
    if not length:
        raise ValueError(f"{path} holds no samples")

    def part(start: Box, size: Box) -> NDArray[Any]:
        (first,), (count,) = start, size
        with _reader(path) as opened:  # not left open: the library's number of files is limited
            try:
                signals = [opened.readSignal(k, first, count) for k in numbers]
            except (OSError, ValueError, RuntimeError) as error:
                raise ValueError(f"{path} is damaged ({error})") from None
        return np.stack(signals)

    names = tuple(labels[k] for k in numbers)
    return recording(length, part, names, units, rate)


def recording(
    length: int, part: Any, names: tuple[str, ...], units: tuple[str, ...], rate: float
) -> Recording:
    """Return a recording of named signals, which others in a folder must agree with."""
    return Recording(
        (len(names), length),
        np.dtype(np.float64),
        part,
        facts={"sampling rate (Hz)": rate, "signals": names, "units": units},
        form={
            "sample_rate": int(rate) if rate == int(rate) else rate,
            "container": "EDF",
            "channel_names": names,
            "units": units,
        },
    )


def chosen_channels(path: Path, labels: list[str], column: str | None) -> list[int]:
    """Return the numbers of the signals that ``data.column`` names; of all without it."""
    if column is None:
        if not labels:
            raise ValueError(f"{path} holds no signals")
        return list(range(len(labels)))
    wanted = [column] if column in labels else [name.strip() for name in column.split(",")]
    for name in wanted:
        if labels.count(name) != 1:
            what = "no signal" if name not in labels else "several signals"
            raise ValueError(
                f"{path} holds {what} {name!r}: name signals of it with data.column, separated by "
                f"commas: {', '.join(labels)}"
            )
    return [labels.index(name) for name in wanted]


def single_rate(path: Path, rates: dict[str, float]) -> float:
    """Return the sampling rate of signals; ValueError where they have several."""
    if len(set(rates.values())) > 1:
        most = max(set(rates.values()), key=list(rates.values()).count)
        alike = ",".join(name for name, rate in rates.items() if rate == most)
        listed = ", ".join(f"{name} {rate:g} Hz" for name, rate in rates.items())
        raise ValueError(
            f"{path} holds signals of several sampling rates ({listed}): read those of one with "
            f"-s 'data.column={alike}'"
        )
    return next(iter(rates.values()))


def _promised_bytes(path: Path) -> int | None:
    """Return the size that a file's header gives; None where it is no such header."""
    with path.open("rb") as file:
        head = file.read(256)
        try:
            count, records = int(head[252:256]), int(head[236:244])
            start = int(head[184:192])
            lengths = file.read(256 * count)[216 * count : 224 * count]
            samples = sum(int(lengths[8 * k : 8 * k + 8]) for k in range(count))
        except ValueError:
            return None
    return start + records * samples * (3 if head[0] == 255 else 2)


def _reader(path: Path) -> Any:
    pyedflib: Any = needed("pyedflib", "edf", f"reading {path}")
    promised, held = _promised_bytes(path), path.stat().st_size
    if promised not in (None, held):  # which the library also prints
        what = "is truncated" if held < (promised or 0) else "holds more than it promises"
        raise ValueError(f"{path} {what}: its header promises {promised} bytes and it has {held}")
    try:
        return pyedflib.EdfReader(str(path), pyedflib.DO_NOT_READ_ANNOTATIONS)
    except (OSError, ValueError, RuntimeError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).replace(f"{path}:", "").split())
        raise ValueError(f"{path} is not an EDF or BDF file that can be read ({reason})") from None
