"""Time series in text files to upscale."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from iddpm.data.sources.series import read_series
from iddpm.data.upscaling.low_res import LowRes, Target
from iddpm.data.writers.data_files import save_table


class Table(LowRes):
    """A text file of series, one a row; the upscaled one is a .csv with the class last.

    Raises:
        ValueError: a file that is no such table, or numbers that are not the model's.
    """

    output = ".csv"

    def __init__(self, path: Path, target: Target) -> None:
        series = read_series(path, target.labels)
        target.check(path, 1, "a table")
        values = series.values
        if target.values.bits is not None:
            if not (values == np.trunc(values)).all():
                target.check_numbers(path, values.dtype)
            values = values.astype(target.values.dtype)
        self.path, self._target, self._values = path, target, values
        if series.labels is not None:
            self.classes = [series.class_names[k] for k in series.labels]
        self.count, self.shape = len(values), (1, values.shape[1])

    def read(self, start: int, stop: int) -> Tensor:
        """Return rows."""
        return self._target.to_model(self.path, self._values[start:stop, None])

    def write(self, x: Tensor, path: Path) -> None:
        """Write a table."""
        form = replace(self._target.form, kind="table")
        labels = None if self.classes is None else [str(name) for name in self.classes]
        if labels is not None and self.drawn_as is not None:
            labels = [self.drawn_name] * len(labels)
        save_table(x, path, form, labels=labels)
