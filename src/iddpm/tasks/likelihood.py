"""Measuring the likelihood of data under a trained model."""

import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from iddpm.builders.run_data import on_device
from iddpm.data.batches import held_out_batches
from iddpm.data.sources.source import Source
from iddpm.diffusion import Denoise
from iddpm.evaluation.bound_terms import (
    ItemNoise,
    Process,
    Terms,
    joined,
    terms_at,
    whole_bounds,
)
from iddpm.evaluation.flow_likelihood import (
    Flow,
    dequantized,
    flow_likelihood,
    probes_of,
    refined_flow_likelihood,
    with_width,
)
from iddpm.evaluation.sampled_bound import (
    inclusion,
    item_offsets,
    pilot_positions,
    sizes_from_pilot,
    systematic,
    warn_of_heavy_tails,
)
from iddpm.runs.run import Run
from iddpm.runs.step_tables import (
    TABLE_ITEMS,
    Measuring,
    in_precision,
    spread,
    step_table,
    weights_digest,
)
from iddpm.runtime.console import open_console, progress_bar
from iddpm.runtime.processes import ALONE, Ranks
from iddpm.tasks.chosen_bound import Bound, check_choice, choose_bound
from iddpm.tasks.likelihood_data import Measured, check_levels, conditioning_in_words, depth_of
from iddpm.tasks.likelihood_report import Likelihood, estimate, per_step
from iddpm.training.precision import PrecisionName

NO_BOUND = (
    "method=ode is no bound: it is the likelihood under the probability-flow ODE of an estimated "
    "score, up to the error of its steps and of its divergences"
)
PILOT_ITEMS = 16
PILOT_STEPS = 32


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
    tolerance: float | None = None,
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
        conditions: a table of the conditions of other data, as data.conditions; for models with
            conditions.
        given: the paired data of other data, as data.given; for models with paired data.
        method: ``"steps"``, the bound of a process with ``steps`` steps; ``"continuous"``, that of
            infinitely many steps between the ends of the schedule (Kingma et al. 2021), evaluated
            at random times between two steps; ``"ode"``, no bound but the likelihood
            under the probability-flow ODE (Song et al. 2021), levels dequantized.
        steps: K, how many of the T steps the reverse process takes; by default all. Of the
            ODE: steps of Heun's method, 100 by default.
        stride: ``"even"``, or ``"optimal"``: those with the least bound (Watson et al. 2021).
        variance: ``"learned"``, ``"fixed_small"``, ``"fixed_large"`` or ``"analytic"`` (Bao et al.
            2022); by default what the model was trained with.
        samples_per_item: network evaluations per item for an unbiased estimate; None for all K.
            Of the ODE: random vectors behind each divergence, 1 by default.
        few_steps: which ones those are: ``"importance"`` draws them in proportion to the size of
            their terms in a pilot, ``"stratified"`` evenly.
        tolerance: of the ODE: halve the steps of each item until the error that they leave in its
            value is at most this, in the unit of the result; None for the stated steps alone.
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

    >>> import tempfile
    >>> import numpy as np
    >>> from iddpm import likelihood, train
    >>> from rich.console import Console
    >>> from iddpm.training.monitoring.terminal import SilentReporter
    >>> images = np.random.default_rng(0).integers(0, 256, (8, 8, 8), np.uint8)
    >>> tiny = ["model.model_channels=8", "model.channel_mult=[1]", "model.num_res_blocks=1"]
    >>> tiny += ["training.steps=2", "training.preview_every=0"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = train(images, settings=tiny, out=f"{folder}/run", reporter=SilentReporter())
    ...     bound = likelihood(run, images, steps=3, console=Console(quiet=True))
    >>> bound.unit, len(bound.per_step), bound.total.mean > 0
    ('bits/dim', 3, True)
    """
    opened = run.trained_on(data)
    if opened is not run:
        run, data = opened, None
    console = console or open_console(ranks.first)
    started = time.monotonic()
    measured = Measured(data, conditions, given)
    with ranks.together():
        check_choice(precision, PrecisionName, "precision")
        size = run.config.sampling.batch_size if batch_size is None else batch_size
        for name, number in (("max_items", max_items), ("batch_size", size)):
            if number is not None and number < 1:
                raise ValueError(f"{name}={number} must be 1 or more")
        computes = cast(PrecisionName, precision)
        how = Measuring(depth_of(run, bits), clip, seed, size, computes)
        bound = choose_bound(run, method, steps, stride, variance, samples_per_item, few_steps)
        bound = bound.to_tolerance(tolerance, how.bits)
        source, items = measured.open(run)
        items = spread(items, max_items)
    table = None
    if bound.chooses or bound.variance == "analytic":
        table = step_table(run, how, items=table_items, console=console, ranks=ranks)
    each = bound.process(table, ranks)
    with progress_bar(console, "measuring") as progress:
        task = progress.add_task("likelihood", total=None)
        job = _Job(run, source, each, how, lambda: progress.advance(task), bits, ranks, bound)
        probability = job.probability(items, bound)
        batches = -(-len(items) // size)
        progress.reset(task, total=bound.looks * -(-batches // ranks.count))
        shared = ranks.in_rounds(job.terms(items, probability), batches)
        parts = [part for part in shared if ranks.first]
    facts = {
        "run": str(run.directory),
        "weights": weights_digest(run.denoiser),
        "ema": run.ema,
        "checkpoint": run.checkpoint,
        "ema_length": run.ema_length,
        "data": source.name if data is not None else f"held-out items of {source.name}",
        "items": len(items),
        "given": conditioning_in_words(run),
        "bits": how.bits,
        **bound.facts(samples_per_item),
        "tolerance": tolerance,
        "table_items": table_items if table else None,
        "clip": clip,
        "seed": seed,
        "precision": precision,
        "seconds": round(time.monotonic() - started, 3),
        "kept": list(each.kept),
    }
    return ranks.by_first(lambda: _result(joined(parts), each, bound, facts))


def _result(terms: Terms, each: Process, bound: Bound, facts: dict[str, Any]) -> Likelihood:
    """Return what was measured, in bits or nats, and warn where few items decide it."""
    factor = 1.0 if facts["bits"] is not None else math.log(2)
    said = warn_of_heavy_tails(terms.total) if bound.draws else None
    said = NO_BOUND if bound.method == "ode" else said
    if said:
        warnings.warn(said, stacklevel=4)
    return Likelihood(
        unit="nats/dim" if facts["bits"] is None else "bits/dim",
        total=estimate(factor * terms.total, drawn=bound.draws),
        prior=estimate(factor * terms.prior),
        steps=estimate(factor * terms.steps, drawn=bound.draws),
        decoder=estimate(factor * terms.decoder),
        per_step=per_step(terms, each, factor),
        facts=facts,
    )


@dataclass(frozen=True, eq=False)
class _Job:
    """What stays the same from batch to batch."""

    run: Run
    source: Source
    process: Process
    how: Measuring
    on_step: Callable[[], None]
    stated_bits: int | None
    ranks: Ranks
    bound: Bound

    @cached_property
    def denoise(self) -> Denoise:
        """The model, in the requested precision."""
        return in_precision(self.run.denoiser, self.run.precision(self.how.precision))

    @property
    def options(self) -> dict[str, Any]:
        """How a batch is measured."""
        return {"bits": self.how.bits, "clip": self.how.clip, "on_step": self.on_step}

    def probability(self, items: NDArray[np.int64], bound: Bound) -> Tensor | None:
        """Return how probable each step is to be drawn; None where all are measured."""
        if not bound.draws:
            return None
        sizes = torch.ones(bound.count, dtype=torch.float64)
        if bound.few_steps == "importance":
            some = spread(items, PILOT_ITEMS)
            sizes = self.ranks.by_first(lambda: self.pilot(some))
        return inclusion(sizes, bound.looks)

    def terms(self, items: NDArray[np.int64], probability: Tensor | None) -> Iterator[Terms]:
        """Measure the bound of this rank's batches: whole, or at steps that are drawn."""
        for x0, noise, conditioning in self._batches(items, "likelihood", self.ranks.turns):
            if isinstance(self.process, Flow):
                yield self._flow(self.process, x0, noise, conditioning)
                continue
            given = {**self.options, "uniform": noise.uniform, **conditioning}
            if probability is None:
                yield whole_bounds(self.denoise, [self.process], x0, noise, **given)[0]
                continue
            drawn = systematic(probability, item_offsets(self.how.seed, noise.items))
            weights = 1 / probability[drawn]
            yield terms_at(self.denoise, self.process, x0, noise, drawn, weights, **given)

    def _flow(
        self, flow: Flow, x0: Tensor, noise: ItemNoise, conditioning: dict[str, Any]
    ) -> Terms:
        """Measure a batch by the ODE; levels get uniform noise of an item's own, and its width."""
        options, bits, count = self.options, self.how.bits, self.bound.probes
        del options["bits"]
        drawn = [noise(torch.full((len(x0),), number)) for number in range(count + 1)]
        if bits is not None:
            x0 = dequantized(x0, torch.special.ndtr(drawn[0]), bits)
        probes = probes_of(torch.stack(drawn[1:]), count)
        measure: Callable[..., Terms] = partial(flow_likelihood, self.denoise, **options)
        if self.bound.tolerance is not None:
            measure = partial(refined_flow_likelihood, measure, tolerance=self.bound.tolerance)
        terms = measure(flow, x0, probes, **conditioning)
        return terms if bits is None else with_width(terms, bits)

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
        for batch in held_out_batches(source, items, batch_size=self.how.batch_size, turns=turns):
            noise = ItemNoise(
                self.how.seed, batch.items.tolist(), source.shape, run.device, purpose
            )
            for x0, conditioning in on_device([batch], run.config, run.device):
                if self.stated_bits is not None:
                    check_levels(batch.to(run.device).x, self.stated_bits, source.name)
                yield x0, noise, conditioning
