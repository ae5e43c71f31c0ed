"""Measuring the likelihood of data under a trained model."""

import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from iddpm.builders.run_data import on_device, open_other
from iddpm.data.batches import held_out_batches
from iddpm.data.sources.source import Source
from iddpm.diffusion import AnalyticVariance, Denoise
from iddpm.diffusion.prediction import VarianceKind
from iddpm.evaluation.bound_terms import (
    ItemNoise,
    Process,
    Terms,
    joined,
    process,
    terms_at,
    whole_bounds,
)
from iddpm.evaluation.continuous_bound import continuous_process
from iddpm.evaluation.sampled_bound import (
    inclusion,
    item_offsets,
    pilot_positions,
    sizes_from_pilot,
    systematic,
    warn_of_heavy_tails,
)
from iddpm.evaluation.step_costs import StepTable
from iddpm.runs.run import Run
from iddpm.runs.step_tables import TABLE_ITEMS, in_precision, spread, step_table, weights_digest
from iddpm.runtime.console import open_console, progress_bar
from iddpm.runtime.processes import ALONE, Ranks
from iddpm.sampling import even_timesteps
from iddpm.tasks.likelihood_report import Likelihood, estimate, per_step
from iddpm.training.precision import PrecisionName

Method = Literal["steps", "continuous"]
Stride = Literal["even", "optimal"]
FewSteps = Literal["importance", "stratified"]
PILOT_ITEMS = 16
PILOT_STEPS = 32
OFF_GRID = 0.02
"""Distance from a level, in levels, up to which float32 may have rounded it."""


def likelihood(
    run: Run,
    data: Any = None,
    *,
    conditions: Path | str | None = None,
    given: Path | str | None = None,
    method: str = "steps",
    steps: int | None = None,
    stride: str = "even",
    variance: str | None = None,
    samples_per_item: int | None = None,
    few_steps: str = "importance",
    bits: int | None = None,
    clip: bool = True,
    max_items: int | None = None,
    table_items: int = TABLE_ITEMS,
    seed: int = 0,
    batch_size: int | None = None,
    precision: str = "float32",
    console: Console | None = None,
    ranks: Ranks = ALONE,
) -> Likelihood:
    """Measure the variational bound on a run's held-out items, or on other data.

    The noise of an item at a step is a function of (seed, item, step), so the result does not
    depend on the batch size beyond the last bits, and strides and models meet the same noise.

    Args:
        run: the model.
        data: other data, read as the run's own, also in memory; None for the items held out of its
            training. A run that was trained on data in memory and was opened without it is given
            that data here.
        conditions: a table of what is known of the items of other data, as data.conditions; for
            models that are told it.
        given: the data that goes with other data, as data.given; for models that are given it.
        method: ``"steps"``, the bound of a process of so many steps; ``"continuous"``, that of
            infinitely many between the ends of the schedule (Kingma et al. 2021), each look at a
            random place of a stretch between two steps.
        steps: K, how many of the T steps the reverse process takes; by default all.
        stride: ``"even"``, or ``"optimal"``: those with the least bound (Watson et al. 2021).
        variance: ``"learned"``, ``"fixed_small"``, ``"fixed_large"`` or ``"analytic"`` (Bao et al.
            2022); by default what the model was trained with.
        samples_per_item: network evaluations per item for an unbiased estimate; None for all K.
        few_steps: which ones those are: ``"importance"`` draws them in proportion to the size of
            their terms in a pilot, ``"stratified"`` evenly.
        bits: depth of data that is stored as floats although it has levels.
        clip: keep the estimate of x0 within [-1, 1].
        max_items: measure that many items, evenly spread.
        table_items: training items for the table behind ``optimal`` and ``analytic``.
        seed: of all noise.
        batch_size: items at a time; by default that of sampling.
        precision: how the network computes.
        console: where progress is shown.
        ranks: who shares the work, whole batches each; all return the same.

    Raises:
        ValueError: an unknown choice, a number out of range, data of another shape or depth, no
            held-out items, or bits per dimension of continuous data.
    """
    if run.trained_on(data) is not run:
        run, data = run.trained_on(data), None
    console = console or open_console(ranks.first)
    started = time.monotonic()
    with ranks.together():
        _check(method, Method, "method")
        _check(stride, Stride, "stride")
        _check(few_steps, FewSteps, "few_steps")
        _check(precision, PrecisionName, "precision")
        size = run.config.sampling.batch_size if batch_size is None else batch_size
        for name, number in (("max_items", max_items), ("batch_size", size)):
            if number is not None and number < 1:
                raise ValueError(f"{name}={number} must be 1 or more")
        depth = _depth(run, bits)
        kind = _variance(run, variance)
        whole = run.denoiser.diffusion.schedule
        if method == "continuous":
            _check_continuous(run, {"steps": steps, "stride": stride, "variance": variance})
        continuous = continuous_process(whole, kind) if method == "continuous" else None
        count = len(continuous.kept) if continuous else steps or len(whole)
        even = even_timesteps(len(whole), count)  # refuses a count out of range
        looks = count if samples_per_item is None else samples_per_item
        if not min(2, count) <= looks <= count:
            raise ValueError(
                f"samples_per_item={looks} does not fit a process of {count} steps: use "
                f"{min(2, count)} to {count}, the decoder among them"
            )
        source, items = _items(run, data, conditions, given)
        items = spread(items, max_items)

    table = None
    choosing = stride == "optimal" and 1 < count < len(whole)
    if choosing or kind == "analytic":
        table = step_table(
            run.directory,
            run.config,
            run.denoiser,
            run.device,
            items=table_items,
            bits=depth,
            clip=clip,
            seed=seed,
            batch_size=size,
            precision=precision,
            console=console,
            ranks=ranks,
            data=run.data,
        )
    kept = ranks.by_first(lambda: table.optimal(kind, count) if choosing and table else even)
    each = continuous or process(whole, kept, kind, analytic_of(table, kind))

    with progress_bar(console, "measuring") as progress:
        task = progress.add_task("likelihood", total=None)
        job = _Job(
            run,
            in_precision(run.denoiser, precision, run.device),
            source,
            each,
            {"bits": depth, "clip": clip, "on_step": lambda: progress.advance(task)},
            size,
            seed,
            bits,
            ranks,
        )
        probability = None
        if looks < count:
            sizes = torch.ones(count, dtype=torch.float64)
            if few_steps == "importance":
                some = spread(items, PILOT_ITEMS)
                sizes = ranks.by_first(lambda: job.pilot(some))
            probability = inclusion(sizes, looks)
        batches = -(-len(items) // size)
        progress.reset(task, total=looks * -(-batches // ranks.count))
        shared = ranks.in_rounds(job.terms(items, probability), batches)
        parts = [part for part in shared if ranks.first]
    factor = 1.0 if depth is not None else math.log(2)
    facts = {
        "run": str(run.directory),
        "weights": weights_digest(run.denoiser),
        "ema": run.ema,
        "checkpoint": run.checkpoint,
        "ema_length": run.ema_length,
        "data": source.name if data is not None else f"held-out items of {source.name}",
        "items": len(items),
        "given": _beside(run),
        "bits": depth,
        "method": method,
        "trained_steps": len(whole),
        "steps": count,
        "stride": stride,
        "variance": kind,
        "samples_per_item": samples_per_item,
        "few_steps": None if looks == count else few_steps,
        "table_items": table_items if table else None,
        "clip": clip,
        "seed": seed,
        "precision": precision,
        "seconds": round(time.monotonic() - started, 3),
        "kept": list(each.kept),
    }

    def result() -> Likelihood:
        terms = joined(parts)
        drawn = looks < count
        said = warn_of_heavy_tails(terms.total) if drawn else None
        if said:
            warnings.warn(said, stacklevel=2)
        return Likelihood(
            unit="nats/dim" if depth is None else "bits/dim",
            total=estimate(factor * terms.total, drawn=drawn),
            prior=estimate(factor * terms.prior),
            steps=estimate(factor * terms.steps, drawn=drawn),
            decoder=estimate(factor * terms.decoder),
            per_step=per_step(terms, each, factor),
            facts=facts,
        )

    return ranks.by_first(result)


def analytic_of(table: StepTable | None, variance: VarianceKind) -> AnalyticVariance | None:
    """Return the table's analytic variance where that is the kind wanted."""
    return table.analytic if table is not None and variance == "analytic" else None


@dataclass(frozen=True, eq=False)
class _Job:
    """What stays the same from batch to batch."""

    run: Run
    denoise: Denoise
    source: Source
    process: Process
    options: dict[str, Any]
    batch_size: int
    seed: int
    stated_bits: int | None
    ranks: Ranks

    def terms(self, items: NDArray[np.int64], probability: Tensor | None) -> Iterator[Terms]:
        """Measure the bound of this rank's batches: whole, or at steps that are drawn."""
        for x0, noise, conditioning in self._batches(items, "likelihood", self.ranks.turns):
            given = {**self.options, "uniform": noise.uniform, **conditioning}
            if probability is None:
                yield whole_bounds(self.denoise, [self.process], x0, noise, **given)[0]
                continue
            drawn = systematic(probability, item_offsets(self.seed, noise.items))
            weights = 1 / probability[drawn]
            yield terms_at(self.denoise, self.process, x0, noise, drawn, weights, **given)

    def pilot(self, items: NDArray[np.int64]) -> Tensor:
        """Return what to draw steps in proportion to, from a few items with noise of their own."""
        count = len(self.process.kept)
        places = pilot_positions(count, PILOT_STEPS)
        parts = []
        for x0, noise, conditioning in self._batches(items, "likelihood pilot", slice(None)):
            given = {**self.options, "uniform": noise.uniform, **conditioning}
            same = torch.tensor(places).expand(len(x0), -1)
            unused = torch.ones(same.shape, dtype=torch.float64)
            parts.append(terms_at(self.denoise, self.process, x0, noise, same, unused, **given))
        return sizes_from_pilot(places, joined(parts).vb.square().mean(dim=0), count)

    def _batches(
        self, items: NDArray[np.int64], purpose: str, turns: slice
    ) -> Iterator[tuple[Tensor, ItemNoise, dict[str, Any]]]:
        run, source = self.run, self.source
        for batch in held_out_batches(source, items, batch_size=self.batch_size, turns=turns):
            noise = ItemNoise(self.seed, batch.items.tolist(), source.shape, run.device, purpose)
            for x0, conditioning in on_device([batch], run.config, run.device):
                if self.stated_bits is not None:
                    _check_levels(batch.to(run.device).x, self.stated_bits, source.name)
                yield x0, noise, conditioning


def _items(
    run: Run, data: Any, conditions: Path | str | None, given: Path | str | None
) -> tuple[Source, NDArray[np.int64]]:
    """Open what is to be measured."""
    config = run.config
    for path, known in (
        (conditions, config.model.conditions),
        (given, config.model.given_channels),
    ):
        if path is not None and (data is None or not known):
            why = "no other data" if data is None else f"{run.directory}, which takes none"
            raise ValueError(f"{path} goes with data, and came with {why}: leave it out")
    if data is None:
        source, _, held_out = run.open_split()
        if not len(held_out):
            raise ValueError(
                f"{run.directory} holds no items out of its training "
                f"(data.held_out={config.data.held_out:g}): name data to measure"
            )
        return source, held_out
    where: str | Sequence[str] | None = None
    if conditions is not None:
        where = str(conditions)
    elif config.model.conditions and isinstance(config.data.conditions, tuple):
        where = config.data.conditions  # members of the data itself
    elif config.model.conditions:
        raise ValueError(
            f"{run.directory} is conditioned on {', '.join(config.model.conditions)}: give a "
            f"table of what is known of those of {data} by --conditions"
        )
    if config.model.given_channels and given is None:
        raise ValueError(
            f"{run.directory} is given data with its items: say what goes with {data} by --given"
        )
    source = open_other(config, data, where, given)
    if config.model.class_conditional:
        if source.labels is None:
            raise ValueError(
                f"{source.name} has no labels, and {run.directory} is a model of classes"
            )
        if source.class_names != config.class_names:
            raise ValueError(
                f"{source.name} has the classes {', '.join(source.class_names)}, and "
                f"{run.directory} was trained on {', '.join(config.class_names)}"
            )
    return source, np.arange(len(source))


def _beside(run: Run) -> str | None:
    """Return what items are likely or unlikely given, if anything but their class."""
    low_res = ["low resolution"] if run.task.takes_low_res else []
    beside = ["data that goes with them"] if run.config.model.given_channels else []
    return ", ".join([*low_res, *(run.config.model.conditions or ()), *beside]) or None


def _depth(run: Run, stated: int | None) -> int | None:
    """Return the bit depth to measure with; None for continuous data."""
    known = run.config.bits
    if stated is None or stated == known:
        return known
    if known is not None:
        raise ValueError(
            f"bits={stated} was stated, and the data of {run.directory} has {known} bits"
        )
    if not 1 <= stated <= 16:
        raise ValueError(f"bits={stated} must be 1 to 16")
    return stated


def _check_levels(x0: Tensor, bits: int, name: str) -> None:
    levels = (x0.double() + 1) * (2**bits - 1) / 2
    if float((levels - levels.round()).abs().max()) > OFF_GRID:
        raise ValueError(
            f"{name} has values between the levels of {bits} bits, so bits per dimension have no "
            "meaning for it: leave bits out for nats per dimension of a density, or state the "
            "depth that it has"
        )


def _check_continuous(run: Run, stated: Mapping[str, Any]) -> None:
    """Raise ValueError for what the limit of infinitely many steps has not."""
    usual = {"steps": None, "stride": "even", "variance": None}
    for name, value in stated.items():
        if value != usual[name]:
            raise ValueError(
                f"method=continuous is the limit of infinitely many steps, which no {name} "
                f"changes, and {name}={value} was stated: leave it out, or use method=steps"
            )
    if run.denoiser.predicts == "previous":
        raise ValueError(
            f"method=continuous looks between steps, and {run.directory} predicts the mean of the "
            "step before: use method=steps"
        )


def _variance(run: Run, asked: str | None) -> VarianceKind:
    own = run.denoiser.diffusion.variance
    if asked is None or asked == own:
        return own
    if asked == "learned":
        if not own.startswith("learned"):
            raise ValueError(
                f"{run.directory} was trained with variance={own}, so none is learned: use "
                "analytic, fixed_small or fixed_large"
            )
        return own
    kinds: dict[str, VarianceKind] = {
        "analytic": "analytic",
        "fixed_small": "fixed_small",
        "fixed_large": "fixed_large",
    }
    if asked not in kinds:
        raise ValueError(f"variance {asked!r} is unknown: use learned, {', '.join(kinds)}")
    return kinds[asked]


def _check(value: str, known: Any, what: str) -> None:
    if value not in get_args(known):
        raise ValueError(f"{what} {value!r} is unknown: use {' or '.join(get_args(known))}")
