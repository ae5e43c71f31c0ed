"""Sound files (WAV, FLAC, AIFF, MP3, Ogg) as signals, resampled where one rate is wanted."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from iddpm.data.file_format import Form
from iddpm.data.sources.extras import needed
from iddpm.data.sources.folder import RecordingFiles
from iddpm.data.sources.label_tables import labels_of_files
from iddpm.data.sources.sound_lengths import is_estimated, missing_bytes
from iddpm.data.values import Chunk, Values, Wanted, find_values

SOUNDS = (".wav", ".flac", ".aif", ".aiff", ".aifc", ".mp3", ".ogg", ".oga", ".opus")
_LOSSY = frozenset(("MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III", "VORBIS", "OPUS"))
"""Codings that would change samples, which are written as floats."""
_WHOLE = Values("int16", -32768.0, 32767.0)
_FRAMES = 1 << 20  # looked at at a time
_DENSEST = 4096  # frames that a byte of the densest coding can hold
_FINEST = 100  # samples that one may become
_KEPT = 1 << 28  # bytes of resampled sounds that stay in memory


class Sounds(RecordingFiles):
    """The sound files below a folder, or one file, as ``[C, L]``.

    Of 16 bits they stay integers, full scale being -1 to 1; others are floats.

    Args:
        path: a folder or a file.
        sample_rate: Hz to resample to; None when all files have one rate.
        channels: 1 mixes the channels of each sound to their mean, with a warning; None keeps them.
        labels: a rule of `iddpm.data.sources.label_tables.labels_of_files`.
        value_range: see `iddpm.data.values.find_values`.
        corrupt: see `iddpm.data.sources.folder.RecordingFiles`.

    Raises:
        ValueError: a damaged file, or rates or channels that differ.
    """

    def __init__(
        self,
        path: Path,
        *,
        sample_rate: int | None = None,
        channels: int | None = None,
        labels: str = "auto",
        value_range: Wanted = None,
        corrupt: Literal["error", "skip"] = "error",
    ) -> None:
        needed("soundfile", "audio", f"reading {path}")
        super().__init__(path, SOUNDS, corrupt)
        facts = [self._facts(key) for key in self._keys]
        rates = sorted({fact.samplerate for fact in facts})
        if sample_rate is None and len(rates) > 1:
            raise ValueError(
                f"{self.name} holds sounds of {', '.join(map(str, rates))} Hz: resample them to "
                f"one rate with -s data.sample_rate={rates[0]}"
            )
        rate = sample_rate or rates[0]
        if rate > rates[0] * _FINEST:
            raise ValueError(
                f"{self.name} holds sounds of {rates[0]} Hz, and data.sample_rate={rate} would "
                f"make more than {_FINEST} samples out of one"
            )
        if rates != [rate]:
            needed("soxr", "audio", f"resampling {path}")
        counts = sorted({fact.channels for fact in facts})
        self.channels = _mixed(self.name, counts, channels)
        self._rates = [fact.samplerate for fact in facts]
        self._rate = rate
        self.sizes = [(-(-fact.frames * rate // fact.samplerate),) for fact in facts]
        codings = {fact.subtype for fact in facts}
        self._dtype = np.dtype(np.int16 if codings == {"PCM_16"} else np.float32)
        self._resampled: dict[int, NDArray[Any]] = {}
        self.labels, self.class_names = labels_of_files(labels, self._keys, self._root)
        nbytes = sum(n for (n,) in self.sizes) * self.channels * self._dtype.itemsize
        known = _WHOLE if self._dtype == np.int16 else Values("float32", -1, 1)
        self._values = find_values(self.name, self._dtype, value_range, nbytes, self._chunks, known)
        self.bits = self._values.bits
        coding = codings.pop() if len(codings) == 1 and not codings & _LOSSY else "FLOAT"
        containers = {fact.format for fact in facts}
        kept = containers == {"AIFF"} or (containers == {"FLAC"} and coding != "FLOAT")
        self.form = Form(
            "signal",
            self._values,
            sample_rate=rate,
            encoding=coding,
            container=containers.pop() if kept else None,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave resampled sounds behind."""
        return {**self.__dict__, "_resampled": {}}

    def _read_whole(self, key: str) -> None:
        path, frames = self._root / key, self._facts(key).frames
        read = self._count(path)
        if read != frames:
            raise ValueError(f"{path} is truncated: {read} of {frames} frames are there")

    def _count(self, path: Path) -> int:
        try:
            with _soundfile().SoundFile(path) as file:  # its blocks are as long as is promised
                return sum(iter(lambda: len(file.read(_FRAMES)), 0))
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({_reason(error)})") from None

    def _raw(self, index: int, start: tuple[int, ...], size: tuple[int, ...]) -> NDArray[Any]:
        (first,), (length,) = start, size
        path = self._root / self._keys[index]
        if self._rates[index] == self._rate:
            return self._decode(path, first, length)
        if index not in self._resampled:
            soxr: Any = needed("soxr", "audio", f"resampling {path}")
            sound = self._decode(path, 0, -1)
            # In floats: to integers it adds a noise (dither) that is another one each time.
            exact = soxr.resample(sound.T.astype(np.float64), self._rates[index], self._rate).T
            if sound.dtype.kind == "i":
                limits = np.iinfo(sound.dtype)
                exact = exact.round().clip(limits.min, limits.max)
            sound = exact.astype(sound.dtype)
            if sum(s.nbytes for s in self._resampled.values()) + sound.nbytes > _KEPT:
                self._resampled.clear()
            self._resampled[index] = sound
        part = self._resampled[index][:, first : first + length]
        return np.pad(part, ((0, 0), (0, length - part.shape[1])))

    def _decode(self, path: Path, start: int, length: int) -> NDArray[Any]:
        try:
            with _quiet() if start and path.suffix.lower() == ".mp3" else nullcontext():
                sound, _ = _soundfile().read(
                    path, length, start, dtype=self._dtype.name, always_2d=True
                )
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({_reason(error)})") from None
        if 0 < length != len(sound):
            raise ValueError(f"{path} is truncated: {length} frames were promised at {start}")
        if sound.shape[1] > self.channels:
            mean = sound.mean(axis=1, keepdims=True, dtype=np.float64)
            sound = (mean.round() if sound.dtype.kind == "i" else mean).astype(sound.dtype)
        return np.ascontiguousarray(sound.T)

    def _facts(self, key: str) -> Any:
        path = self._root / key
        try:
            facts = _soundfile().info(path)
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{path} is not a sound that can be read ({_reason(error)})") from None
        if facts.format == "MP3" and is_estimated(path):
            facts.frames = self._count(path)
        missing = missing_bytes(path)
        if missing > 0:
            raise ValueError(
                f"{path} is truncated: {missing} of the bytes that it promises are missing; "
                "copy it again"
            )
        if facts.frames <= 0:
            raise ValueError(f"{path} holds no sound")
        if facts.frames * facts.channels > path.stat().st_size * _DENSEST:
            raise ValueError(f"{path} promises {facts.frames} frames, which it cannot hold")
        return facts

    def _chunks(self, whole: bool) -> Iterator[Chunk]:
        for index, (length,) in enumerate(self.sizes):
            starts = range(0, length, _FRAMES)
            for start in starts if whole else starts[:1]:
                yield [index], self._raw(index, (start,), (min(_FRAMES, length - start),))[None]


def _mixed(name: str, counts: list[int], wanted: int | None) -> int:
    """Return how many channels sounds of these numbers of channels are read with."""
    found = " and ".join(map(str, counts))
    if wanted not in (None, 1, *counts) or (wanted not in (None, 1) and len(counts) > 1):
        raise ValueError(
            f"{name} holds sounds of {found} channels, and data.channels={wanted} does not "
            "fit: leave it out, or average the channels with data.channels=1"
        )
    if wanted is None and len(counts) > 1:
        raise ValueError(
            f"{name} holds sounds of {found} channels: average the channels with -s "
            "data.channels=1, or convert all sounds to one number of channels"
        )
    if wanted == 1 and counts != [1]:
        warnings.warn(f"{name}: the {found} channels of sounds are averaged to one", stacklevel=4)
    return wanted or counts[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep off the terminal what libmpg123 says of frames before the one that is sought.

    They lack bits of others before them, and are not used.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _soundfile() -> Any:
    return needed("soundfile", "audio", "reading sounds")


def _reason(error: Exception) -> str:
    """Return what libsndfile says, without the path that it repeats."""
    return str(getattr(error, "error_string", error)).rstrip(".")
