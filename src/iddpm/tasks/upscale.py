"""Upscaling files: pictures, arrays, sounds, series and volumes of any size."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from iddpm.builders import SamplingPlan, form_of, scale_of
from iddpm.data.conditioning.requested import RequestedConditions
from iddpm.data.upscaling.find import open_low_res
from iddpm.data.upscaling.low_res import Target
from iddpm.data.writers.comparison import save_side_by_side
from iddpm.networks.layers import resize_linear
from iddpm.runs.run import Run
from iddpm.runs.upscaled import check_average
from iddpm.runtime.console import open_console, progress_bar
from iddpm.runtime.made_files import UPSCALED, MadeFiles
from iddpm.sampling import OVERLAP
from iddpm.tasks.file_labels import labels_of
from iddpm.tasks.upscale_groups import Group, groups_of
from iddpm.tasks.upscale_manifest import COMPARISON, already_there, manifest_of

SHOWN = 8
"""Items in the comparison."""
LARGEST = 256
"""Positions along an axis that it shows of each, about the middle."""


def upscale(
    run: Run,
    files: Iterable[Path | str],
    *,
    seed: int = 0,
    class_name: str | int | None = None,
    conditions: RequestedConditions | None = None,
    overlap: float = OVERLAP,
    average: int = 1,
    out: Path | None = None,
    console: Console | None = None,
    on_state: Callable[[Tensor], None] | None = None,
    **settings: Any,
) -> list[Path]:
    """Upscale files and write files of the same kind; return and print the paths.

    All files are checked before the first is drawn, and none is overwritten. An interrupted call is
    resumed by the same call: ``upscale.json`` records how the existing files were made, they stay,
    and the missing ones are drawn. A class-conditional model uses the labels of items, if any.

    Args:
        run: a model of super-resolution.
        files: files, and folders whose files keep their places below them.
        seed: item k, counted over all files, depends on the seed and k alone.
        class_name: the class of all, also instead of their labels; by default their labels, and
            none where they have none.
        conditions: of the items, as for :meth:`~iddpm.runs.run.Run.sample`.
        overlap: share of a tile that neighbors share, at the least.
        average: samples of each item, of the seeds ``seed``, ``seed + 1``, ...: their mean is
            written, and beside it their standard deviation, in the units of the file.
        out: the directory, ``RUN/upscaled`` by default.
        console: where progress is shown.
        on_state, settings: as for :meth:`~iddpm.runs.run.Run.upscale`.

    Returns:
        The upscaled files, and ``comparison.png``: for the first ones of one size, the low
        resolution, its linear interpolation and the result.

    Raises:
        ValueError, FileNotFoundError: a file or setting that does not fit the model.
        FileExistsError: a file that would be overwritten.
    """
    console = console or open_console()
    check_average(average)
    run.task.check_upscales(run.directory, True)
    directory = out or run.directory / "upscaled"
    target = Target(run.shape[0], scale_of(run.config), form_of(run.config), run.config.data.labels)
    opened = open_low_res(files, target)
    y = labels_of(run, opened, class_name)
    if y is None and class_name is None and run.classes is not None:
        settings = _unguided(run, conditions, settings)
    plan = run.plan(**settings)
    call = {
        "seed": seed,
        "class": None if class_name is None else str(class_name),
        "conditions": {name: str(value) for name, value in (conditions or {}).items()},
        "overlap": overlap,
    }
    made = manifest_of(run, opened, plan, call, average)
    there = already_there(directory, made)
    at_once = plan.sampling.batch_size
    groups = list(groups_of(run.config, opened, overlap, at_once, average > 1))
    items = sum(group.count for group in groups)
    conditioning = (
        {"conditions": run.ask(items, conditions)} if run.conditions or conditions else {}
    )
    if y is not None:
        conditioning["y"] = y
    paths = [directory / name for name in made.files]
    if there.issuperset(made.files):
        console.print(f"all {len(opened)} are already in {directory}", markup=False)
    else:
        how = {"seed": seed, "classes": class_name, "overlap": overlap, "on_state": on_state}
        how |= settings
        _Drawing(run, plan, directory, made, there, how, conditioning, console, average).all(groups)
    replace(made, complete=True).save(directory / UPSCALED)
    return paths


@dataclass(frozen=True, eq=False)
class _Drawing:
    """The options that all groups share.

    Attributes:
        run, plan: the model and its sampling plan.
        directory: the output directory.
        made: the manifest.
        there: names of the files that exist already.
        how: options of :meth:`~iddpm.runs.run.Run.upscale`.
        conditioning: of all items.
        console: for progress and paths.
        average: samples of each item.
    """

    run: Run
    plan: SamplingPlan
    directory: Path
    made: MadeFiles
    there: set[str]
    how: dict[str, Any]
    conditioning: dict[str, Tensor]
    console: Console
    average: int = 1

    def all(self, groups: list[Group]) -> None:
        """Draw and write the missing files, group after group, and then the comparison."""
        self._say(groups)
        at_once, each = self.plan.sampling.batch_size, self.plan.sampling.steps * self.average
        evaluations = [group.tiling.batches(group.count, at_once) * each for group in groups]
        compared = COMPARISON in self.there
        shown: list[tuple[Tensor, Tensor]] = []
        start = 0
        with progress_bar(self.console, "upscaling") as progress:
            task = progress.add_task("", total=sum(evaluations))
            for group, count in zip(groups, evaluations, strict=True):
                if self.there.issuperset(group.names) and (compared or len(shown) >= SHOWN):
                    progress.advance(task, count)
                else:
                    pairs = self._one(group, start, lambda: progress.advance(task))
                    shown += [p for p in pairs if p[0].shape == (shown or [p])[0][0].shape]
                    del shown[SHOWN:]
                start += group.count
        if not compared:
            low_res, x = (torch.stack(part) for part in zip(*shown, strict=True))
            linear = resize_linear(low_res, x.shape[2:])
            path = save_side_by_side(self.directory / COMPARISON, low_res, linear, x)
            self.console.print(f"wrote {path}", markup=False)

    def _one(
        self, group: Group, start: int, on_batch: Callable[[], None]
    ) -> list[tuple[Tensor, Tensor]]:
        """Draw a group whose first item has the number ``start``; return what is shown of it."""
        low_res = group.read()
        rows = slice(start, start + group.count)
        given = {name: value[rows] for name, value in self.conditioning.items()}
        how = {"given": given, "start": start, "on_batch": on_batch, **self.how}
        spread = None
        if self.average == 1:
            x = self.run.upscale(low_res, **how)
        else:
            x, spread = self.run.upscale_mean(low_res, self.average, **how)
        group.check(x)
        self.made.save(self.directory / UPSCALED)
        for path in group.write(x, spread, self.directory, self.there):
            self.console.print(f"wrote {path}", markup=False)
        return list(zip(*_middle(low_res, x, scale_of(self.run.config)), strict=True))

    def _say(self, groups: list[Group]) -> None:
        items = sum(group.count for group in groups)
        tiles = sum(group.count * group.tiling.count for group in groups)
        parts = f" in {tiles} tiles" if tiles > items else ""
        plural = "" if items == 1 else "s"
        mean = f"the mean of {self.average} samples of " if self.average > 1 else ""
        self.console.print(f"{items} item{plural}{parts}, each {mean}{self.plan}", markup=False)


def _unguided(
    run: Run, conditions: RequestedConditions | None, settings: dict[str, Any]
) -> dict[str, Any]:
    """Return the settings for items without a class, for which guidance has no effect."""
    run.task.check_upscales(run.directory, False)
    guidance = settings.get("guidance")
    if guidance not in (None, 1) and not conditions:
        raise ValueError(
            f"guidance={guidance:g} needs a class: give --class, or leave --guidance out"
        )
    return {**settings, "guidance": guidance or 1.0}


def _middle(low_res: Tensor, x: Tensor, scale: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return the first few items about their middle, as much as a picture shows."""
    low_res, x = low_res[:SHOWN], x[:SHOWN]
    for axis, factor in enumerate(scale, start=2):
        n = min(low_res.shape[axis], max(1, LARGEST // factor))
        first = (low_res.shape[axis] - n) // 2
        low_res = low_res.narrow(axis, first, n)
        x = x.narrow(axis, first * factor, n * factor)
    return low_res, x
