"""Files of one size that are upscaled together."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from iddpm.builders import Tiling, build_tiling
from iddpm.config import ResolvedConfig
from iddpm.data.upscaling.low_res import LowRes
from iddpm.runtime.atomic_files import write_atomically


@dataclass(frozen=True)
class Group:
    """Files of one size that are upscaled together, by the names of the results."""

    files: dict[str, LowRes]
    tiling: Tiling
    averaged: bool = False
    """Whether a map of the spread of several samples stands beside each."""

    @property
    def names(self) -> list[str]:
        """What is written, by name."""
        return names_of(self.files, self.averaged)

    @property
    def count(self) -> int:
        """Number of items."""
        return sum(file.count for file in self.files.values())

    def read(self) -> Tensor:
        """Return all items."""
        return torch.cat([file.read(0, file.count) for file in self.files.values()])

    def check(self, x: Tensor) -> None:
        """Refuse what is not finite."""
        if not x.isfinite().all():
            raise ValueError(
                f"the result for {next(iter(self.files))} holds NaN or infinity and was not "
                "written: try another checkpoint"
            )

    def write(
        self, x: Tensor, spread: Tensor | None, directory: Path, there: set[str]
    ) -> Iterator[Path]:
        """Write the missing upscaled files and yield their paths."""
        counts = [file.count for file in self.files.values()]
        for (name, file), part in zip(self.files.items(), x.split(counts), strict=True):
            if name not in there:
                yield write_atomically(directory / name, partial(file.write, part))
        if spread is None:
            return
        for (name, file), part in zip(self.files.items(), spread.split(counts), strict=True):
            name = file.spread_name(name)
            if name not in there:
                yield write_atomically(directory / name, partial(file.write_spread, part))


def names_of(opened: Mapping[str, LowRes], averaged: bool) -> list[str]:
    """Return the names of upscaled files and of the maps of their spread.

    Raises:
        ValueError: an upscaled file would have the name of a map.
    """
    maps = [file.spread_name(name) for name, file in opened.items()] if averaged else []
    if twice := sorted(opened.keys() & set(maps)):
        raise ValueError(f"a file cannot become {twice[0]}, the map of the spread: rename it")
    return [*opened, *maps]


def groups_of(
    config: ResolvedConfig,
    opened: Mapping[str, LowRes],
    overlap: float,
    at_once: int,
    averaged: bool = False,
) -> Iterator[Group]:
    """Yield files in their order, together those that follow one another and fit a batch."""
    group: Group | None = None
    for name, file in opened.items():
        if group is not None:
            other = next(iter(group.files.values()))
            fits = (group.count + file.count) * group.tiling.count <= at_once
            if file.shape == other.shape and fits:
                group.files[name] = file
                continue
            yield group
        group = Group({name: file}, build_tiling(config, file.shape[1:], overlap), averaged)
    if group is not None:
        yield group
