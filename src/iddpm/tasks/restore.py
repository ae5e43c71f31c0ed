"""Restoring what a known linear operator has measured: files in, files out."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from iddpm.builders import SamplingPlan, build_sample_tiling
from iddpm.builders.linear_operator import OperatorRequest
from iddpm.builders.sampling_plan import settings_for_inpainting
from iddpm.data.conditioning.requested import RequestedConditions
from iddpm.data.upscaling.low_res import LowRes
from iddpm.data.upscaling.measured_items import Measurements
from iddpm.data.writers.comparison import save_side_by_side
from iddpm.runs.restored import Restoration
from iddpm.runs.run import Run
from iddpm.runtime.atomic_files import write_atomically
from iddpm.runtime.console import open_console, progress_bar
from iddpm.runtime.made_files import RESTORED, MadeFiles, read_made
from iddpm.sampling import OVERLAP
from iddpm.sampling.spectral_operators import Matrix
from iddpm.tasks.file_labels import labels_of
from iddpm.tasks.measured_files import Measured, measure_files, open_files
from iddpm.tasks.restoration_report import Quality, baselines, joined, qualities, table

COMPARISON = "comparison.png"
SHOWN = 8
"""Items in the comparison."""


def restore(
    run: Run,
    files: Iterable[Path | str],
    operator: OperatorRequest,
    *,
    method: str | None = None,
    noise: float | None = None,
    simulate: bool = False,
    n: int = 1,
    seed: int = 0,
    class_name: str | int | None = None,
    conditions: RequestedConditions | None = None,
    overlap: float = OVERLAP,
    out: Path | None = None,
    console: Console | None = None,
    **settings: Any,
) -> list[Path]:
    """Restore measured files and write files of the same kind; return and print the paths.

    All files are looked at before the first is restored. None is overwritten but those that the
    same call has left when it was interrupted.

    Args:
        run: a model of the data itself, of any size.
        files: measured files, and folders of them. To ``simulate``: clean files, or numbers of
            held-out items.
        operator: what has measured them.
        method: ``"pigdm"`` (the default), ``"mmps"`` or ``"ddnm"``; see
            :mod:`iddpm.sampling.restoration`.
        noise: standard deviation of the measurement's noise, where the data spans -1 to 1. By
            default that of rounding to the levels of the data, and 0 for a mask, for subsampling
            and to simulate.
        simulate: measure the files first, with that noise, and report the PSNR of what is restored.
        n: samples of each item. Of several, each is written, their mean, and their standard
            deviation in the units of the file.
        seed: sample j of item k, counted over all files, depends on ``seed`` + j and k alone.
        class_name: the class of all; by default the labels of the files, or none.
        conditions: what the items have, as for :meth:`~iddpm.runs.run.Run.sample`.
        overlap: share of a tile that neighbors share, at the least.
        out: the directory, ``RUN/restored`` by default.
        console: where progress is shown.
        settings: of sampling, as for :meth:`~iddpm.runs.run.Run.plan`. By default DDIM with fresh
            noise (eta 1) at even timesteps, which fits the rest to the measurement best.

    Returns:
        The restored files, ``comparison.png`` (of the first of one size the measurement, an
        estimate without a model, the restored item and the truth where it is known), and
        ``restoration.json`` (how, and what was measured).

    Raises:
        ValueError, FileNotFoundError: a file, operator or setting that does not fit the model.
        FileExistsError: a file that would be overwritten.
    """
    if n < 1:
        raise ValueError(f"cannot draw {n} samples of each item: use 1 or more")
    console = console or open_console()
    run.task.check_edits(run.directory)
    how = Restoration(method, 0.0, overlap)
    opened = open_files(run, files, operator, simulate)
    jobs = measure_files(run, opened, operator, noise, simulate, seed)
    directory = out or run.directory / "restored"
    names = [name for job in jobs for name in job.names(n)]
    conditioning = _conditioning(run, opened, class_name, conditions)
    settings = settings_for_inpainting(settings)
    plan = run.plan(**_unguided(run, conditioning, class_name, settings))
    items = sum(job.file.count for job in jobs)
    what = f"{items} item{'' if items == 1 else 's'}" + (f", {n} samples of each" if n > 1 else "")
    facts = {
        "operator": {k: None if v is None else str(v) for k, v in asdict(operator).items()},
        "method": how.name,
        "walk": str(plan),
        "noise": [job.noise for job in jobs],
        "simulated": simulate,
        "samples": n,
        "seed": seed,
        "class": None if class_name is None else str(class_name),
        "conditions": {name: str(value) for name, value in (conditions or {}).items()},
        "overlap": overlap,
    }
    made = MadeFiles(facts, (*names, COMPARISON), complete=False)
    _refuse_existing(directory, made)
    console.print(f"{what}: {how.name}, {plan}", markup=False)
    for text in dict.fromkeys(f"measured by {job.operator}, noise {job.noise:.3g}" for job in jobs):
        console.print(text, markup=False)
    draw = _Drawing(run, how, seed, class_name, conditioning, settings)
    shown, found = list[tuple[Tensor, ...]](), list[dict[str, Quality]]()
    with progress_bar(console, "restoring") as progress:
        task = progress.add_task("", total=sum(draw.evaluations(job, plan) * n for job in jobs))
        start = 0
        for job in jobs:
            x = draw.samples(job, start, n, lambda: progress.advance(task))
            made.save(directory / RESTORED)
            _write(job, x, directory, console)
            estimates = baselines(job.operator, job.measured, job.noise)
            if job.truth is not None:
                estimates |= {"one sample": x[0]} | ({f"mean of {n}": x.mean(0)} if n > 1 else {})
                found.append(qualities(estimates, job.truth, job.operator, job.measured))
            shown += _shown(job, x, estimates)
            start += job.file.count
    rows = joined(found) if found else {}
    for line in table(rows, items) if rows else []:
        console.print(line, markup=False)
    paths = [_compare(shown, directory / COMPARISON)]
    paths.append(
        replace(made, facts=facts | {"quality": rows}, complete=True).save(directory / RESTORED)
    )
    for path in paths:
        console.print(f"wrote {path}", markup=False)
    return [*(directory / name for name in names), *paths]


def _compare(shown: list[tuple[Tensor, ...]], path: Path) -> Path:
    """Write the comparison of the first items of one size."""
    same = [row for row in shown if row[0].shape == shown[0][0].shape][:SHOWN]
    first, *others = (torch.stack(part) for part in zip(*same, strict=True))
    return save_side_by_side(path, first, *others)


def _refuse_existing(directory: Path, made: MadeFiles) -> None:
    """Raise for files that would be overwritten, unless the same call left them unfinished."""
    names = [*made.files, RESTORED]
    if len(set(names)) < len(names):
        twice = min(name for name in names if names.count(name) > 1)
        raise ValueError(f"two files would become {twice}: rename one of them, or give another -n")
    try:
        found = read_made(directory / RESTORED)
    except ValueError:
        found = None
    if found == made:
        return
    for name in names:
        if (directory / name).exists():
            raise FileExistsError(
                f"{directory / name} exists and would be overwritten: remove it, or give another "
                "--out"
            )


def _conditioning(
    run: Run,
    opened: dict[str, LowRes],
    class_name: str | int | None,
    conditions: RequestedConditions | None,
) -> dict[str, Tensor]:
    """Return the conditioning of all items."""
    items = sum(file.count for file in opened.values())
    conditioning = (
        {"conditions": run.ask(items, conditions)} if run.conditions or conditions else {}
    )
    y = labels_of(run, opened, class_name)
    return conditioning if y is None else conditioning | {"y": y}


def _unguided(
    run: Run,
    conditioning: dict[str, Tensor],
    class_name: str | int | None,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Return the settings, without the run's guidance if there is no class."""
    if run.classes is None or class_name is not None or "y" in conditioning:
        return settings
    return {**settings, "guidance": settings.get("guidance") or 1.0}


@dataclass(frozen=True, eq=False)
class _Drawing:
    """How all items are drawn; as for :meth:`~iddpm.runs.run.Run.restore`."""

    run: Run
    how: Restoration
    seed: int
    class_name: str | int | None
    conditioning: dict[str, Tensor]
    settings: dict[str, Any]

    def evaluations(self, job: Measured, plan: SamplingPlan) -> int:
        """Return how many batches one sample of each item of a file takes."""
        tiling = build_sample_tiling(self.run.config, job.operator.shape[1:], self.how.overlap)
        return tiling.batches(job.file.count, plan.sampling.batch_size) * plan.sampling.steps

    def samples(self, job: Measured, start: int, n: int, on_batch: Callable[[], None]) -> Tensor:
        """Return samples [n, N, C, *spatial] of the items of a file, the first number ``start``."""
        rows = slice(start, start + job.file.count)
        drawn = [
            self.run.restore(
                job.measured,
                job.operator,
                method=self.how.method,
                noise=job.noise,
                seed=self.seed + number,
                classes=self.class_name,
                given={name: value[rows] for name, value in self.conditioning.items()},
                overlap=self.how.overlap,
                start=start,
                on_batch=on_batch,
                **self.settings,
            )
            for number in range(n)
        ]
        x = torch.stack(drawn)
        if not x.isfinite().all():
            raise ValueError(
                f"the result for {job.name} holds NaN or infinity and was not written: try another "
                "checkpoint"
            )
        return x


def _write(job: Measured, x: Tensor, directory: Path, console: Console) -> None:
    """Write samples [n, N, C, *spatial] of a file, and of several their mean and spread."""
    parts = {job.name: x[0]}
    if len(x) > 1:
        x = x.clamp(-1, 1)
        parts = {job.part(str(number)): one for number, one in enumerate(x)}
        parts[job.part("mean")] = x.mean(dim=0)
        spread = x.double().std(dim=0).float()
    for name, one in parts.items():
        path = write_atomically(directory / name, partial(job.file.write, one))
        console.print(f"wrote {path}", markup=False)
    if len(x) > 1:
        path = directory / job.spread_name
        write_atomically(path, partial(job.file.write_spread, spread))
        console.print(f"wrote {path}", markup=False)


def _shown(job: Measured, x: Tensor, estimates: dict[str, Tensor]) -> list[tuple[Tensor, ...]]:
    """Return what is shown of the first items: measurement, estimate, sample, mean, truth."""
    known = [name for name in estimates if name not in ("measured", "one sample")]
    best = estimates[next(name for name in reversed(known) if not name.startswith("mean of"))]
    image = not isinstance(job.file, Measurements) and not isinstance(job.operator, Matrix)
    columns = [job.measured] if image else []
    columns += [best, x[0]] + ([x.mean(dim=0)] if len(x) > 1 else [])
    columns += [] if job.truth is None else [job.truth]
    return list(zip(*(column[:SHOWN] for column in columns), strict=True))
