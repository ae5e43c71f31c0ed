"""Sounds as .wav, .flac and .aiff files, physiological recordings as .edf files."""

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iddpm.data.file_format import Form
from iddpm.data.sources.extras import needed


def sound_suffix(form: Form) -> str:
    """Return how sound files of that form end."""
    return ".wav" if form.container is None else f".{form.container.lower()}"


def write_sound(path: Path, item: NDArray[Any], form: Form) -> None:
    """Write a sound ``[C, L]`` at the rate and in the coding of the data."""
    if form.container == "EDF":
        write_edf(path, item, form)
        return
    soundfile = needed("soundfile", "audio", f"writing {path.name}")
    coding = form.encoding or ("PCM_16" if item.dtype == np.int16 else "FLOAT")
    kind = form.container or "WAV"
    if coding not in soundfile.available_subtypes(kind):
        coding = "FLOAT"
    soundfile.write(path, item.T, int(form.sample_rate or 16_000), format=kind, subtype=coding)


def write_edf(path: Path, item: NDArray[Any], form: Form) -> None:
    """Write a recording ``[C, L]`` with the names, units and rate of the data, in 16 bits.

    The numbers are those of 65,536 levels between the data's lowest and highest. Where no record of
    whole samples lasts a multiple of 10 microseconds, the rate is off by as much.
    """
    pyedflib: Any = needed("pyedflib", "edf", f"writing {path.name}")
    rate, length = form.sample_rate or 1, item.shape[1]
    values = form.values
    low, high = (values.low, values.high) if values is not None else (item.min(), item.max())
    names = form.channel_names or tuple(f"channel {k}" for k in range(len(item)))
    units = form.units or ("",) * len(item)
    count = _samples_in_record(length, rate)
    bottom, top = _outward(low, -1), _outward(high, 1)
    step = (top - bottom) / 65535
    inside = item.clip(low + step, high - step)  # where a level lies within the data's range
    with pyedflib.EdfWriter(str(path), len(item), file_type=pyedflib.FILETYPE_EDF) as file:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the duration is stated
            file.setDatarecordDuration(count / rate)
        for k, (name, unit) in enumerate(zip(names, units, strict=True)):
            file.setSignalHeader(k, {
                "label": name[:16], "dimension": unit[:8], "sample_frequency": rate,
                "physical_min": bottom, "physical_max": top,
                "digital_min": -32768, "digital_max": 32767, "transducer": "", "prefilter": "",
            })  # fmt: skip
        file.writeSamples([np.ascontiguousarray(x, dtype=np.float64) for x in inside])


def _samples_in_record(length: int, rate: float) -> int:
    """Return the most samples of a record of up to 60 s, of which the length is a multiple.

    Those whose duration has five decimals, all that a header keeps, come first.
    """
    counts = [n for n in range(1, length + 1) if length % n == 0 and 0.001 <= n / rate <= 60]
    exact = [n for n in counts if abs(n / rate * 1e5 - round(n / rate * 1e5)) < 1e-6]
    if not counts:
        raise ValueError(f"{length} samples of {rate:g} Hz cannot be divided into records of EDF")
    return max(exact or counts)


def _outward(value: float, sign: int) -> float:
    """Return the next number of four digits, which a field of EDF's header has room for."""
    step = 10.0 ** (math.floor(math.log10(abs(value) or 1)) - 3)
    return float(f"{(math.floor if sign < 0 else math.ceil)(value / step) * step:.4g}")
