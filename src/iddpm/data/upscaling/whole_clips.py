"""Clips and stacks of pictures to upscale."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from iddpm.data.sources.animation import read_facts
from iddpm.data.sources.clips import Animations
from iddpm.data.sources.videos import VIDEOS, Videos, read_video_facts
from iddpm.data.upscaling.low_res import LowRes, Target
from iddpm.data.writers.clip_encoding import SUFFIXES, write_clip


class Clip(LowRes):
    """One GIF, WebP, PNG or TIFF of several frames, or a video, as [C, T, H, W].

    The upscaled one is a lossless file: a GIF for gray, a TIFF, an MP4, otherwise a WebP.
    With more frames, each is shown for a shorter time.

    Raises:
        ValueError: a damaged file, a single picture, or channels or numbers that are not the
            model's.
    """

    count = 1

    def __init__(self, path: Path, target: Target) -> None:
        video = path.name.lower().endswith(VIDEOS)
        reader: type[Animations | Videos] = Videos if video else Animations
        facts = read_video_facts(path) if video else read_facts(path)
        floats = facts.dtype == "float32"
        target.check_numbers(path, np.dtype(facts.dtype))
        bounds = (target.values.low, target.values.high) if floats else None
        alike = target.channels == 4 or (facts.gray and target.channels == 3)
        self._clip = reader(
            path,
            labels="none",
            channels=target.channels if alike else None,
            value_range=bounds,
        )
        if target.channels == 1 and self._clip.channels == 3:  # a WebP has no other colors
            clip = self._clip.read_box(0, (0, 0, 0), self._clip.sizes[0])
            if (clip == clip[:1]).all():
                self._clip = reader(path, labels="none", channels=1, value_range=bounds)
        target.check(path, self._clip.channels, "a clip")
        self.path, self._target = path, target
        self.shape = (target.channels, *self._clip.sizes[0])
        form = self._clip.form
        self._shown = form.milliseconds
        if self._shown is not None:
            shown = self._shown / target.scale[0]
            self._shown = shown if form.encoding == "MP4" else max(1, round(shown))
        self._encoding = form.encoding or ""
        if self._encoding == "GIF" and (self._shown or 0) % 10:  # which keeps multiples of ten
            self._encoding = "WEBP"
        if self._encoding not in SUFFIXES:
            raise ValueError(f"{path} cannot be written as one file of its kind: give a .npy array")
        self.output = SUFFIXES[self._encoding]

    def read(self, start: int, stop: int) -> Tensor:
        """Return the clip."""
        clip = self._clip.read_box(0, (0, 0, 0), self._clip.sizes[0])[None]
        if self._target.values.bits is None:  # in [-1, 1] already
            return torch.from_numpy(clip)[start:stop]
        return self._target.to_model(self.path, clip)[start:stop]

    def write(self, x: Tensor, path: Path) -> None:
        """Write a clip that takes as long."""
        write_clip(path, self._target.values.restore(x[0]), self._encoding, self._shown)
