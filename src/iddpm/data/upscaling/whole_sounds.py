"""Sounds to upscale to a higher sample rate."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from iddpm.data.sources.extras import needed
from iddpm.data.sources.signals import Sounds
from iddpm.data.upscaling.low_res import LowRes, Target
from iddpm.data.writers.sound_files import sound_suffix, write_sound


class Sound(LowRes):
    """One sound file; the upscaled one has a higher sample rate and the same coding.

    Where that is lossy, as in an MP3, it is a .wav file of floats.

    Raises:
        ValueError: a damaged file, or channels, coding or a sample rate that the model does not
            upscale.
    """

    count = 1

    def __init__(self, path: Path, target: Target) -> None:
        sound = Sounds(path, labels="none")  # refuses what is no whole sound
        assert sound.form.sample_rate is not None
        rate, (scale,), made = sound.form.sample_rate, target.scale, target.form.sample_rate
        self._dtype = "int16" if sound.bits and target.values.bits else "float32"
        target.check(path, sound.channels, "a sound")
        target.check_numbers(path, np.dtype(self._dtype))
        if made not in (None, rate * scale):
            raise ValueError(
                f"{path} has {rate} Hz, and the model upscales {made / scale:g} Hz to {made} "
                f"Hz: resample it to {made / scale:g} Hz"
            )
        self._form = replace(sound.form, sample_rate=rate * scale)
        self.path, self._target, self.output = path, target, sound_suffix(self._form)
        self.shape = (sound.channels, *sound.sizes[0])

    def read(self, start: int, stop: int) -> Tensor:
        """Return the sound."""
        soundfile = needed("soundfile", "audio", f"reading {self.path}")
        try:
            sound, _ = soundfile.read(self.path, dtype=self._dtype, always_2d=True)
        except RuntimeError as error:
            raise ValueError(f"{self.path} is damaged ({error})") from None
        return self._target.to_model(self.path, np.ascontiguousarray(sound.T)[None])[start:stop]

    def write(self, x: Tensor, path: Path) -> None:
        """Write a sound of the same coding."""
        write_sound(path, self._target.values.restore(x[0]), self._form)
