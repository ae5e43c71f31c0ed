"""Samples on disk: pictures written as they come."""

from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from iddpm.builders import SamplingPlan, form_of, values_of
from iddpm.data.conditioning.labels import Wanted
from iddpm.data.conditioning.requested import Asked, describe
from iddpm.data.formats import WRITERS
from iddpm.data.writers.comparison import save_side_by_side
from iddpm.data.writers.data_files import (
    condition_members,
    save_conditions,
    save_files,
    save_labels,
    save_table,
)
from iddpm.data.writers.image_files import fits_picture, save_gif, save_grid, save_images, save_npz
from iddpm.runs.drawing import SampleBatch
from iddpm.runs.run import Run
from iddpm.runtime.console import open_console, progress_bar
from iddpm.runtime.processes import ALONE, Ranks
from iddpm.tasks.pairs import held_out_pairs
from iddpm.tasks.sample_set import begin_set, end_set

GRID_ITEMS = 400
"""A grid of more would be too large to look at."""
GIF_ITEMS = 100
GIF_FRAMES = 40
SLICE_MILLISECONDS = 80
"""How long each is shown where the data does not say."""


def draw(
    run: Run,
    n: int,
    plan: SamplingPlan | None = None,
    *,
    out: Path | None = None,
    seed: int = 0,
    classes: Wanted = None,
    conditions: Asked | None = None,
    given: Tensor | None = None,
    npz: bool = False,
    gif: bool = False,
    columns: int | None = None,
    files: bool = True,
    console: Console | None = None,
    ranks: Ranks = ALONE,
) -> list[Path]:
    """Draw samples and write them; return and print the paths.

    A run of super-resolution draws those of its held-out items' low resolutions, and the grid shows
    low resolution, sample and truth; so it does for data that is given. The samples of an earlier
    call in the directory are removed first; ``samples.json`` lists the files and says whether all
    were written.

    Args:
        run: the model.
        n, seed, classes, conditions: as in :meth:`Run.sample`.
        given: data to draw for, [M, C, *spatial] in [-1, 1], for models that are given it: sample k
            goes by item k modulo M. By default what goes with the held-out items.
        plan: how to draw them, ``run.plan()`` by default.
        out: the directory, ``RUN/samples/seed_SEED`` by default.
        npz: also write ``samples.npz``.
        gif: also write ``denoising.gif`` of the first samples.
        columns: of the grid.
        files: write a file for each sample.
        console: where progress is shown.
        ranks: who shares the work: each draws whole batches and writes their pictures.

    Raises:
        FileExistsError: the directory holds samples that ``samples.json`` does not list.
    """
    console = console or open_console(ranks.first)
    directory = out or run.directory / "samples" / f"seed_{seed}"
    picture = len(run.shape) == 3 and run.shape[0] in (1, 3, 4)
    values = values_of(run.config)
    exact = fits_picture(values, run.shape[0])
    form = form_of(run.config)
    each = form.kind in WRITERS  # a file like those of the data for each sample
    # All samples in one file, not only those of the grid.
    whole = npz or not (each or (picture and exact))
    plan = plan or run.plan()
    pairs = None
    finer = run.task.takes_low_res
    if finer and given is not None:
        raise ValueError(
            f"{run.directory} makes the low resolutions of its held-out items finer, and what goes "
            "with them is given: leave --given out"
        )
    if finer or (run.config.model.given_channels and given is None):
        with ranks.together():
            pairs = held_out_pairs(run, n)
        classes = pairs.classes(plan) if classes is None else classes
    frames: list[Tensor] = []
    first = ranks.first

    with progress_bar(console, "sampling") as progress:

        def on_step(number: int, x: Tensor) -> None:
            progress.advance(task, min(number, 1))
            if gif and first:
                frames.append(x[:GIF_ITEMS].cpu())

        with ranks.together():
            told = dict(pairs.given) if pairs else {}
            if given is not None:
                told["given"] = given[torch.arange(n) % len(given)]
            asked = told.get("conditions")
            if asked is None or conditions:
                asked = run.ask(n, conditions)
            if run.conditions:
                told["conditions"] = asked
            batches = run.sample_batches(
                n,
                plan,
                seed=seed,
                classes=classes,
                given=told,
                turns=ranks.turns,
                on_step=on_step,
            )
        names: list[str] = []
        if files and (each or picture):
            suffix = WRITERS[form.kind].suffix(form) if each else ".png"
            names = [f"{k:06d}{suffix}" for k in range(n)]
        parts = names
        if form.encoding == "frames":
            parts = [f"{name}/{k:04d}.png" for name in names for k in range(run.shape[1])]
        facts = {"samples": n, "seed": seed, "walk": str(plan)}
        made = ranks.by_first(lambda: begin_set(directory, parts, facts, console))
        console.print(f"{n} samples, each {plan}", markup=False)
        if run.conditions:
            console.print(describe(run.conditions, asked.numpy()), markup=False)
        count = -(-n // plan.sampling.batch_size)
        task = progress.add_task("", total=len(plan.schedule) * -(-count // ranks.count))

        def written() -> Iterator[SampleBatch | None]:
            nonlocal first
            for batch in batches:
                if files and each:
                    save_files(batch.x, directory, form, start=batch.start)
                elif files and picture:
                    save_images(
                        batch.x, directory, values=values if exact else None, start=batch.start
                    )
                first = False
                yield batch if whole or batch.start < GRID_ITEMS else None

        passed = ranks.in_rounds(written(), count)
        kept = [batch for batch in passed if batch is not None and ranks.first]

    def joined() -> list[Path]:
        x = torch.cat([batch.x for batch in kept])
        grid = directory / "grid.png"
        film = form.kind == "clip"
        before = told.get("low_res", told.get("given"))
        if before is None:
            paths = [save_grid(x[:GRID_ITEMS], grid, columns=columns, film=film)]
        else:
            shown = min(len(x), GRID_ITEMS // 3)
            beside = [x[:shown], *([pairs.truth(shown)] if pairs else [])]
            paths = [save_side_by_side(grid, before[:shown], *beside, film=film)]
        if len(run.shape) == 4:  # frame after frame, or slice after slice
            pace = form.milliseconds or SLICE_MILLISECONDS
            slices, path = x[:GIF_ITEMS].unbind(2), directory / "grid.gif"
            paths.append(save_gif(slices, path, milliseconds=pace, hold=pace, columns=columns))
        labels = [batch.y for batch in kept if batch.y is not None]
        y = torch.cat(labels) if labels else None
        table = form.kind == "table" and x.shape[1] == 1
        if table:
            last = None if y is None else [run.config.class_names[int(k)] for k in y]
            paths.append(save_table(x, directory / "samples.csv", form, labels=last))
        if npz or (whole and not table):
            members = condition_members(run.conditions, asked[: len(x)].numpy())
            path = directory / "samples.npz"
            paths.append(save_npz(x, path, labels=y, values=values, members=members))
        if names and plan.classes is not None:
            chosen = [plan.classes.name(int(k)) for k in plan.classes.labels(n, seed, classes)]
            paths.append(save_labels(chosen, directory / "labels.csv", names))
        if run.conditions:
            path, rows = directory / "conditions.csv", names or [str(k) for k in range(n)]
            paths.append(save_conditions(run.conditions, asked.numpy(), path, rows))
        if gif:
            path = directory / "denoising.gif"
            paths.append(save_gif(_thinned(frames), path, columns=columns))
        end_set(made, directory, parts, paths)
        return paths

    paths = ranks.by_first(joined)
    if names:
        console.print(f"wrote {n} samples to {directory}", markup=False)
    for path in paths:
        console.print(f"wrote {path}", markup=False)
    return paths


def _thinned(frames: list[Tensor]) -> list[Tensor]:
    """Keep at most so many frames, evenly spread, first and last among them."""
    stride = max(1, -(-len(frames) // GIF_FRAMES))
    return [*frames[:-1:stride], frames[-1]]
