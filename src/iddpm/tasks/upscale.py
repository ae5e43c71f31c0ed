"""Making a user's files finer: pictures, arrays, sounds, series and volumes of any size."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from iddpm.builders import Tiling, build_tiling, check_upscaling, form_of, scale_of
from iddpm.data.conditioning.requested import Asked
from iddpm.data.upscaling.find import open_low_res
from iddpm.data.upscaling.low_res import LowRes, Target
from iddpm.data.writers.comparison import save_side_by_side
from iddpm.networks.layers import resize_linear
from iddpm.runs.run import Run
from iddpm.runtime.atomic_files import write_atomically
from iddpm.runtime.console import open_console, progress_bar
from iddpm.sampling import OVERLAP

COMPARISON = "comparison.png"
SHOWN = 8
"""Items in the comparison."""
LARGEST = 256
"""Positions along an axis that it shows of each, about the middle."""


@dataclass(frozen=True)
class _Group:
    """Files of one size that are drawn together, by the names of the finer ones."""

    files: dict[str, LowRes]
    tiling: Tiling

    @property
    def count(self) -> int:
        """Number of items."""
        return sum(file.count for file in self.files.values())

    def read(self) -> Tensor:
        """Return all items."""
        return torch.cat([file.read(0, file.count) for file in self.files.values()])

    def write(self, x: Tensor, directory: Path) -> Iterator[Path]:
        """Write the finer files; refuse what is not finite."""
        if not x.isfinite().all():
            raise ValueError(
                f"what was drawn for {next(iter(self.files))} holds NaN or infinity and was not "
                "written: try another checkpoint"
            )
        parts = x.split([file.count for file in self.files.values()])
        for (name, file), part in zip(self.files.items(), parts, strict=True):
            yield write_atomically(directory / name, partial(file.write, part))


def upscale(
    run: Run,
    files: Iterable[Path | str],
    *,
    seed: int = 0,
    class_name: str | int | None = None,
    conditions: Asked | None = None,
    overlap: float = OVERLAP,
    out: Path | None = None,
    console: Console | None = None,
    **settings: Any,
) -> list[Path]:
    """Make files finer and write them as files of the same kind; return and print the paths.

    All files are looked at before the first is drawn, and none is overwritten but for the
    comparison.

    Args:
        run: a model of super-resolution.
        files: files, and folders whose files keep their places below them.
        seed: item k, counted over all files, depends on the seed and k alone.
        class_name: the class of all; none by default.
        conditions: what the items have, as for :meth:`~iddpm.runs.run.Run.sample`.
        overlap: share of a tile that neighbours share, at the least.
        out: the directory, ``RUN/upscaled`` by default.
        console: where progress is shown.
        settings: of sampling, as for :meth:`~iddpm.runs.run.Run.upscale`.

    Returns:
        The finer files, and ``comparison.png``: of the first of one size the low resolution, its
        linear interpolation and the result.

    Raises:
        ValueError, FileNotFoundError: a file or setting that does not fit the model.
        FileExistsError: a file that would be overwritten.
    """
    console = console or open_console()
    check_upscaling(run.config, run.directory, class_name is not None)
    directory = out or run.directory / "upscaled"
    scale = scale_of(run.config)
    target = Target(run.shape[0], scale, form_of(run.config), run.config.data.labels)
    opened = open_low_res(files, target)
    _refuse_overwriting(directory, opened)
    walk = run.walk(**settings)
    at_once = walk.sampling.batch_size
    groups = list(_groups(run, opened, overlap, at_once))
    items = sum(group.count for group in groups)
    told = {"conditions": run.ask(items, conditions)} if run.conditions or conditions else {}
    tiles = sum(group.count * group.tiling.count for group in groups)
    whole = f"{items} item{'' if items == 1 else 's'}"
    parts = f" in {tiles} tiles" if tiles > items else ""
    console.print(f"{whole}{parts}, each {walk}", markup=False)
    written: list[Path] = []
    shown: list[tuple[Tensor, Tensor]] = []
    with progress_bar(console, "upscaling") as progress:
        total = sum(group.tiling.batches(group.count, at_once) for group in groups)
        task = progress.add_task("", total=total * walk.sampling.steps)
        start = 0
        for group in groups:
            low_res = group.read()
            x = run.upscale(
                low_res,
                seed=seed,
                classes=class_name,
                given={name: value[start : start + group.count] for name, value in told.items()},
                overlap=overlap,
                start=start,
                on_batch=lambda: progress.advance(task),
                **settings,
            )
            start += group.count
            for path in group.write(x, directory):
                console.print(f"wrote {path}", markup=False)
                written.append(path)
            middles = zip(*_middle(low_res, x, scale), strict=True)
            shown += [pair for pair in middles if pair[0].shape == (shown or [pair])[0][0].shape]
            del shown[SHOWN:]
    low_res, x = (torch.stack(part) for part in zip(*shown, strict=True))
    linear = resize_linear(low_res, x.shape[2:])
    written.append(save_side_by_side(directory / COMPARISON, low_res, linear, x))
    console.print(f"wrote {written[-1]}", markup=False)
    return written


def _refuse_overwriting(directory: Path, names: Iterable[str]) -> None:
    for name in names:
        if name == COMPARISON:
            raise ValueError(f"a file cannot become {COMPARISON}, which compares all: rename it")
        if (directory / name).exists():
            raise FileExistsError(
                f"{directory / name} is there already and would be overwritten: remove it, or give "
                "another --out"
            )


def _groups(
    run: Run, opened: Mapping[str, LowRes], overlap: float, at_once: int
) -> Iterator[_Group]:
    """Yield files in their order, together those that follow one another and fit a batch."""
    group: _Group | None = None
    for name, file in opened.items():
        if group is not None:
            other = next(iter(group.files.values()))
            fits = (group.count + file.count) * group.tiling.count <= at_once
            if file.shape == other.shape and fits:
                group.files[name] = file
                continue
            yield group
        group = _Group({name: file}, build_tiling(run.config, file.shape[1:], overlap))
    if group is not None:
        yield group


def _middle(low_res: Tensor, x: Tensor, scale: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return the first few items about their middle, as much as a picture shows."""
    low_res, x = low_res[:SHOWN], x[:SHOWN]
    for axis, factor in enumerate(scale, start=2):
        n = min(low_res.shape[axis], max(1, LARGEST // factor))
        first = (low_res.shape[axis] - n) // 2
        low_res = low_res.narrow(axis, first, n)
        x = x.narrow(axis, first * factor, n * factor)
    return low_res, x
