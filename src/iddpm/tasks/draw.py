"""Samples on disk: pictures written as they come."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from iddpm.builders import SamplingPlan, build_sample_tiling, form_of, values_of
from iddpm.data.conditioning.labels import Wanted
from iddpm.data.conditioning.requested import RequestedConditions, describe
from iddpm.data.formats import WRITERS
from iddpm.data.writers.comparison import save_side_by_side
from iddpm.data.writers.data_files import (
    condition_members,
    save_conditions,
    save_files,
    save_labels,
    save_table,
)
from iddpm.data.writers.image_files import (
    fits_picture,
    save_gif,
    save_grid,
    save_images,
    save_npz,
    square_columns,
)
from iddpm.runs.drawing import Requested, SampleBatch, draw_batches, sized
from iddpm.runs.run import Run
from iddpm.runtime.console import open_console, progress_bar
from iddpm.runtime.processes import ALONE, Ranks
from iddpm.sampling import OVERLAP
from iddpm.tasks.pairs import Pairs, held_out_pairs
from iddpm.tasks.sample_set import begin_set, end_set

GRID_ITEMS = 400
"""A grid of more would be too large to look at."""
GIF_ITEMS = 100
GIF_FRAMES = 40
SLICE_MILLISECONDS = 80
"""How long each is shown where the data does not say."""


@dataclass(frozen=True)
class DrawRequest:
    """Which samples are drawn.

    Attributes:
        n, seed, classes, conditions: as in :meth:`Run.sample`.
        given: data to draw for, [M, C, *spatial] in [-1, 1], for models that are given it: sample k
            goes by item k modulo M. By default what goes with the held-out items.
        size: spatial size, as in :meth:`Run.sample`; that of the training by default.
        overlap: of tiles of the trained size.
    """

    n: int
    seed: int = 0
    classes: Wanted = None
    conditions: RequestedConditions | None = None
    given: Tensor | None = None
    size: tuple[int, ...] | None = None
    overlap: float = OVERLAP


@dataclass(frozen=True)
class Written:
    """Which files are written beside the grid, and where.

    Attributes:
        out: the directory, ``RUN/samples/seed_SEED`` by default.
        npz: also write ``samples.npz``.
        gif: also write ``denoising.gif`` of the first samples.
        columns: of the grid.
        files: write a file for each sample.
    """

    out: Path | None = None
    npz: bool = False
    gif: bool = False
    columns: int | None = None
    files: bool = True


AS_USUAL = Written()


def draw(
    run: Run,
    request: DrawRequest,
    plan: SamplingPlan | None = None,
    written: Written = AS_USUAL,
    *,
    console: Console | None = None,
    ranks: Ranks = ALONE,
    on_state: Callable[[int, Tensor], None] | None = None,
) -> list[Path]:
    """Draw samples and write them; return and print the paths.

    A run of super-resolution draws those of its held-out items' low resolutions, and the grid shows
    low resolution, sample and truth; so it does for data that is given. The samples of an earlier
    call in the directory are removed first; ``samples.json`` lists the files and says whether all
    were written.

    Args:
        run: the model.
        request: which samples.
        plan: how to draw them, ``run.plan()`` by default.
        written: what is written.
        console: where progress is shown.
        ranks: who shares the work: each draws whole batches and writes their pictures.
        on_state: called after every step with the number of steps taken and the state of the batch
            [N, C, *spatial]; first with 0 and the noise.

    Raises:
        FileExistsError: the directory holds samples that ``samples.json`` does not list.
    """
    console = console or open_console(ranks.first)
    plan, tiling = plan or run.plan(), None
    if request.size is not None:
        with ranks.together():
            tiling = build_sample_tiling(run.config, request.size, request.overlap)
        plan = tiling.around(plan)
    conditioning = _conditioning(run, request, plan, ranks)
    files = _Files(run, request, written, _Film(written.gif and ranks.first))
    n = request.n
    with progress_bar(console, "sampling") as progress:

        def on_step(number: int, x: Tensor) -> None:
            progress.advance(task, min(number, 1))
            x = x if tiling is None else tiling.crop(x)
            files.film.see(x)
            if on_state is not None:
                on_state(number, x)

        wanted = Requested(n, request.seed, conditioning.classes, conditioning.given)
        wanted = wanted if tiling is None else sized(wanted, tiling)
        with ranks.together():
            batches = draw_batches(run, plan, wanted, turns=ranks.turns, on_step=on_step)
        if tiling is not None:
            batches = (replace(batch, x=tiling.crop(batch.x)) for batch in batches)
        facts = {"samples": n, "seed": request.seed, "walk": str(plan)}
        if request.size is not None:
            facts |= {"size": list(request.size)}
        if written.gif:
            facts |= {"film": _film_layout(n, plan, written)}
        made = ranks.by_first(lambda: begin_set(files.directory, files.parts, facts, console))
        tiles = "" if tiling is None or tiling.count == 1 else f" in {tiling.count} tiles"
        console.print(f"{n} samples, each {plan}{tiles}", markup=False)
        if run.conditions:
            console.print(describe(run.conditions, conditioning.conditions.numpy()), markup=False)
        count = -(-n // plan.sampling.batch_size)
        task = progress.add_task("", total=len(plan.schedule) * -(-count // ranks.count))
        passed = ranks.in_rounds(files.write(batches), count)
        kept = [batch for batch in passed if batch is not None and ranks.first]

    def joined() -> list[Path]:
        paths = files.write_together(kept, conditioning, plan)
        end_set(made, files.directory, files.parts, paths)
        return paths

    paths = ranks.by_first(joined)
    if files.names:
        console.print(f"wrote {n} samples to {files.directory}", markup=False)
    for path in paths:
        console.print(f"wrote {path}", markup=False)
    return paths


@dataclass(frozen=True, eq=False)
class _Conditioning:
    """What the samples are conditioned on.

    Attributes:
        classes: as in :meth:`Run.sample`.
        conditions: float64 [n, K].
        given: a tensor [n, ...] for each other name.
        pairs: the held-out items that the samples are drawn for, where they are.
    """

    classes: Wanted
    conditions: Tensor
    given: dict[str, Tensor]
    pairs: Pairs | None


def _conditioning(
    run: Run, request: DrawRequest, plan: SamplingPlan, ranks: Ranks
) -> _Conditioning:
    """Return what the samples are conditioned on, from the held-out items where it is theirs."""
    n, given, pairs = request.n, request.given, None
    upscales, classes = run.task.takes_low_res, request.classes
    if request.size is not None and run.config.model.given_channels and given is None:
        raise ValueError(
            f"{run.directory} is conditioned on paired data, and its held-out items have the size "
            "of the training: give paired data of that size with --given"
        )
    if upscales and given is not None:
        raise ValueError(
            f"{run.directory} upscales its held-out items, and their low-resolution input is "
            "known: leave --given out"
        )
    with ranks.together():
        if upscales or (run.config.model.given_channels and given is None):
            pairs = held_out_pairs(run, n)
            classes = pairs.classes(plan) if classes is None else classes
        conditioning = dict(pairs.given) if pairs else {}
        if given is not None:
            conditioning["given"] = given[torch.arange(n) % len(given)]
        conditions = conditioning.get("conditions")
        if conditions is None or request.conditions:
            conditions = run.ask(n, request.conditions)
        if run.conditions:
            conditioning["conditions"] = conditions
    return _Conditioning(classes, conditions, conditioning, pairs)


def _film_layout(n: int, plan: SamplingPlan, written: Written) -> dict[str, int]:
    """Return how many samples ``denoising.gif`` shows, of the first batch, and its columns."""
    count = min(n, plan.sampling.batch_size, GIF_ITEMS)
    return {"samples": count, "columns": min(written.columns or square_columns(count), count)}


class _Film:
    """The states of the first batch, for the animation."""

    def __init__(self, on: bool) -> None:
        self.on = on
        self.frames: list[Tensor] = []

    def see(self, x: Tensor) -> None:
        if self.on:
            self.frames.append(x[:GIF_ITEMS].cpu())


class _Files:
    """The files of some samples, of the kind that the data was."""

    def __init__(self, run: Run, request: DrawRequest, written: Written, film: _Film) -> None:
        self.run, self.request, self.written, self.film = run, request, written, film
        self.directory = written.out or run.directory / "samples" / f"seed_{request.seed}"
        self.form, self.values = form_of(run.config), values_of(run.config)
        self.picture = len(run.shape) == 3 and run.shape[0] in (1, 3, 4)
        self.exact = fits_picture(self.values, run.shape[0])
        self.each = self.form.kind in WRITERS
        """Whether each sample has a file like those of the data."""
        self.whole = written.npz or not (self.each or (self.picture and self.exact))
        """Whether all samples are in one file, not only those of the grid."""
        self.names: list[str] = []
        if written.files and (self.each or self.picture):
            suffix = WRITERS[self.form.kind].suffix(self.form) if self.each else ".png"
            self.names = [f"{k:06d}{suffix}" for k in range(request.n)]
        self.parts = self.names
        if self.form.encoding == "frames":
            frames = range((request.size or run.shape[1:])[0])
            self.parts = [f"{name}/{k:04d}.png" for name in self.names for k in frames]

    def write(self, batches: Iterator[SampleBatch]) -> Iterator[SampleBatch | None]:
        """Write the samples of each batch; yield it where it is needed again."""
        values = self.values if self.exact else None
        for batch in batches:
            if self.written.files and self.each:
                save_files(batch.x, self.directory, self.form, start=batch.start)
            elif self.written.files and self.picture:
                save_images(batch.x, self.directory, values=values, start=batch.start)
            self.film.on = False
            yield batch if self.whole or batch.start < GRID_ITEMS else None

    def write_together(
        self, batches: Sequence[SampleBatch], conditioning: _Conditioning, plan: SamplingPlan
    ) -> list[Path]:
        """Write what is made of all samples: grid, tables, one array, the animation."""
        x = torch.cat([batch.x for batch in batches])
        labels = [batch.y for batch in batches if batch.y is not None]
        y = torch.cat(labels) if labels else None
        paths = self._pictures(x, conditioning)
        table = self.form.kind == "table" and x.shape[1] == 1
        if table:
            last = None if y is None else [self.run.config.class_names[int(k)] for k in y]
            paths.append(save_table(x, self.directory / "samples.csv", self.form, labels=last))
        conditions = conditioning.conditions.numpy()
        if self.written.npz or (self.whole and not table):
            members = condition_members(self.run.conditions, conditions[: len(x)])
            path = self.directory / "samples.npz"
            paths.append(save_npz(x, path, labels=y, values=self.values, members=members))
        n, seed = self.request.n, self.request.seed
        if self.names and plan.classes is not None:
            chosen = plan.classes.labels(n, seed, conditioning.classes)
            words = [plan.classes.name(int(k)) for k in chosen]
            paths.append(save_labels(words, self.directory / "labels.csv", self.names))
        if self.run.conditions:
            path, rows = self.directory / "conditions.csv", self.names or list(map(str, range(n)))
            paths.append(save_conditions(self.run.conditions, conditions, path, rows))
        if self.written.gif:
            path = self.directory / "denoising.gif"
            frames = _thinned(self.film.frames)
            paths.append(save_gif(frames, path, columns=self.written.columns))
        return paths

    def _pictures(self, x: Tensor, conditioning: _Conditioning) -> list[Path]:
        """Write the grid, and an animation of what has frames or slices."""
        columns, film = self.written.columns, self.form.kind == "clip"
        grid = self.directory / "grid.png"
        before = conditioning.given.get("low_res", conditioning.given.get("given"))
        if before is None:
            paths = [save_grid(x[:GRID_ITEMS], grid, columns=columns, film=film)]
        else:
            shown = min(len(x), GRID_ITEMS // 3)
            beside = [x[:shown], *([conditioning.pairs.truth(shown)] if conditioning.pairs else [])]
            paths = [save_side_by_side(grid, before[:shown], *beside, film=film)]
        if len(self.run.shape) == 4:  # frame after frame, or slice after slice
            pace = round(self.form.milliseconds or SLICE_MILLISECONDS)
            slices, path = x[:GIF_ITEMS].unbind(2), self.directory / "grid.gif"
            paths.append(save_gif(slices, path, milliseconds=pace, hold=pace, columns=columns))
        return paths


def _thinned(frames: list[Tensor]) -> list[Tensor]:
    """Keep at most this many frames, evenly spread, with the first and the last."""
    stride = max(1, -(-len(frames) // GIF_FRAMES))
    return [*frames[:-1:stride], frames[-1]]
