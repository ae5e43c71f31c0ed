"""Sounds as .wav, .flac and .aiff files."""

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
    soundfile = needed("soundfile", "audio", f"writing {path.name}")
    coding = form.encoding or ("PCM_16" if item.dtype == np.int16 else "FLOAT")
    kind = form.container or "WAV"
    if coding not in soundfile.available_subtypes(kind):
        coding = "FLOAT"
    soundfile.write(path, item.T, form.sample_rate or 16_000, format=kind, subtype=coding)
