"""What the likelihood is measured of: the items held out of a run's training, or other data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from iddpm.builders.run_data import open_other
from iddpm.data.sources.source import Source
from iddpm.runs.run import Run

OFF_GRID = 0.02
"""Distance from a level, in levels, up to which float32 may have rounded it."""


@dataclass(frozen=True)
class Measured:
    """Data as a caller names it.

    Attributes:
        data: other data; None for the held-out items.
        conditions: a table of what is known of its items.
        given: the data that goes with it.
    """

    data: Any
    conditions: Path | str | None
    given: Path | str | None

    def open(self, run: Run) -> tuple[Source, NDArray[np.int64]]:
        """Open what is to be measured, and return it with the numbers of its items."""
        config = run.config
        for path, known in (
            (self.conditions, config.model.conditions),
            (self.given, config.model.given_channels),
        ):
            if path is not None and (self.data is None or not known):
                why = "no other data" if self.data is None else f"{run.directory}, which takes none"
                raise ValueError(f"{path} needs data, and came with {why}: leave it out")
        if self.data is not None:
            return self._open_other(run)
        source, _, held_out = run.open_split()
        if not len(held_out):
            raise ValueError(
                f"{run.directory} has no held-out items "
                f"(data.held_out={config.data.held_out:g}): name data to measure"
            )
        return source, held_out

    def _open_other(self, run: Run) -> tuple[Source, NDArray[np.int64]]:
        config, data = run.config, self.data
        where: str | Sequence[str] | None = None
        if self.conditions is not None:
            where = str(self.conditions)
        elif config.model.conditions and isinstance(config.data.conditions, tuple):
            where = config.data.conditions  # members of the data itself
        elif config.model.conditions:
            raise ValueError(
                f"{run.directory} is conditioned on {', '.join(config.model.conditions)}: give "
                f"a table for {data} with --conditions"
            )
        if config.model.given_channels and self.given is None:
            raise ValueError(
                f"{run.directory} is conditioned on paired data: give that of {data} with --given"
            )
        source = open_other(config, data, where, self.given)
        if config.model.class_conditional:
            if source.labels is None:
                raise ValueError(
                    f"{source.name} has no labels, and {run.directory} is a class-conditional model"
                )
            if source.class_names != config.class_names:
                raise ValueError(
                    f"{source.name} has the classes {', '.join(source.class_names)}, and "
                    f"{run.directory} was trained on {', '.join(config.class_names)}"
                )
        return source, np.arange(len(source))


def conditioning_in_words(run: Run) -> str | None:
    """Return what items are likely or unlikely given, if anything but their class."""
    low_res = ["low resolution"] if run.task.takes_low_res else []
    beside = ["data that goes with them"] if run.config.model.given_channels else []
    return ", ".join([*low_res, *(run.config.model.conditions or ()), *beside]) or None


def depth_of(run: Run, stated: int | None) -> int | None:
    """Return the bit depth to measure with; None for continuous data."""
    known = run.config.bits
    if stated is None or stated == known:
        return known
    if known is not None:
        raise ValueError(f"bits={stated} is set, and the data of {run.directory} has {known} bits")
    if not 1 <= stated <= 16:
        raise ValueError(f"bits={stated} must be 1 to 16")
    return stated


def check_levels(x0: Tensor, bits: int, name: str) -> None:
    """Raise ValueError where data in [-1, 1] has values between the levels of a depth."""
    levels = (x0.double() + 1) * (2**bits - 1) / 2
    if float((levels - levels.round()).abs().max()) > OFF_GRID:
        raise ValueError(
            f"{name} has values between the levels of {bits} bits, so bits per dimension are "
            "undefined: leave bits out for nats per dimension of a density, or set the actual "
            "depth"
        )
