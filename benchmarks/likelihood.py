"""Bits per dimension of trained runs at few steps: strides and variances in one table.

python benchmarks/likelihood.py runs/simple runs/hybrid runs/vlb --items 128

Every bound of a run is measured on the same held-out items with the same noise, so one pass of T
evaluations per item gives all of them, and differences between two have a far smaller error than
either. The optimal steps and the analytic variance are chosen on training items (`--table-items`).

Each batch of items is written when it is done (`--out`/RUN/batch_NUMBER.json) and not measured
again: the command can be interrupted and repeated, or repeated with more items.
"""

import argparse
import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from iddpm.builders.run_data import on_device, open_split
from iddpm.data.batches import Batch, held_out_batches
from iddpm.evaluation.bound_terms import ItemNoise, Process, process, whole_bounds
from iddpm.runs.run import Run, load
from iddpm.runs.step_tables import Measuring, in_precision, step_table, weights_digest
from iddpm.runtime.atomic_files import write_json, write_text
from iddpm.runtime.console import progress_bar
from iddpm.sampling import even_timesteps
from iddpm.tasks.likelihood_report import Estimate, estimate

COUNTS = (10, 25, 32, 50, 100)
GOAL = 32
"""Steps of the optimal stride that are held against all T."""
Cell = tuple[str, str, int]
"""Variance, stride and number of steps."""


def processes(run: Run, arguments: argparse.Namespace, console: Console) -> dict[Cell, Process]:
    """Return every process that is measured; the table of steps is made when there is none."""
    diffusion = run.denoiser.diffusion
    whole = diffusion.schedule
    how = Measuring(
        run.config.bits, True, arguments.seed, arguments.batch_size, arguments.precision
    )
    table = step_table(run, how, items=arguments.table_items, console=console)
    own = [diffusion.variance] if diffusion.learns_variance else ["fixed_small", "fixed_large"]
    cells: dict[Cell, Process] = {}
    for variance in (*own, "analytic"):
        analytic = table.analytic if variance == "analytic" else None
        for count in (*(c for c in arguments.counts if c < len(whole)), len(whole)):
            even = even_timesteps(len(whole), count)
            cells[variance, "even", count] = process(whole, even, variance, analytic)
            best = even if count == len(whole) else table.optimal(variance, count)
            cells[variance, "optimal", count] = process(whole, best, variance, analytic)
    return cells


def measure(run: Run, arguments: argparse.Namespace, console: Console) -> dict[Cell, torch.Tensor]:
    """Return the bound of each held-out item [N] in every cell, in bits or nats per dimension."""
    cells = processes(run, arguments, console)
    source, _, held_out = open_split(run.config)
    items = held_out_order(held_out, arguments.items)
    key = {
        "weights": weights_digest(run.denoiser),
        "seed": arguments.seed,
        "precision": arguments.precision,
        "batch_size": arguments.batch_size,
        "kept": [["/".join(map(str, cell)), list(each.kept)] for cell, each in cells.items()],
    }
    name = hashlib.blake2b(json.dumps(key).encode(), digest_size=6).hexdigest()
    folder = arguments.out / f"{run.directory.name}_{name}"
    denoise = in_precision(run.denoiser, arguments.precision, run.device)
    factor = 1.0 if run.config.bits is not None else math.log(2)
    totals: dict[Cell, list[float]] = {cell: [] for cell in cells}
    batches = list(numbered(source, items, arguments.batch_size))
    with progress_bar(console, str(run.directory)) as progress:
        steps = len(run.denoiser.diffusion.schedule)
        task = progress.add_task("items", total=steps * len(batches))
        for number, batch in batches:
            path = folder / f"batch_{number:04d}.json"
            stored = json.loads(path.read_text()) if path.is_file() else {}
            if stored.get("items") != batch.items.tolist():
                noise = ItemNoise(arguments.seed, batch.items.tolist(), source.shape, run.device)
                ((x0, conditioning),) = on_device([batch], run.config, run.device)
                bounds = whole_bounds(
                    denoise,
                    list(cells.values()),
                    x0,
                    noise,
                    bits=run.config.bits,
                    on_step=lambda: progress.advance(task),
                    **conditioning,
                )
                measured = {
                    "/".join(map(str, cell)): (factor * bound.total).tolist()
                    for cell, bound in zip(cells, bounds, strict=True)
                }
                stored = {"items": batch.items.tolist(), "totals": measured}
                write_json(path, stored)
            progress.update(task, completed=steps * (number + 1))
            for cell in cells:
                totals[cell] += stored["totals"]["/".join(map(str, cell))]
    return {cell: torch.tensor(values, dtype=torch.float64) for cell, values in totals.items()}


def held_out_order(items: Any, count: int | None) -> Any:
    """Shuffle once, so that more items later begin with those measured before."""
    shuffled = np.random.default_rng(0).permutation(items)
    return shuffled[:count]


def numbered(source: Any, items: Any, size: int) -> Iterator[tuple[int, Batch]]:
    """Yield batches with their numbers."""
    yield from enumerate(held_out_batches(source, items, batch_size=size))


def table_of(run: Run, totals: dict[Cell, torch.Tensor]) -> list[str]:
    """Return one run's part of the table and what the goal says, in Markdown."""
    steps = len(run.denoiser.diffusion.schedule)
    counts = sorted({count for _, _, count in totals})
    variances = list(dict.fromkeys(variance for variance, _, _ in totals))
    items = len(next(iter(totals.values())))
    unit = "bits/dim" if run.config.bits is not None else "nats/dim"
    config = run.config.diffusion
    lines = [
        f"**{run.directory.name}**: loss {config.loss.kind}, predicts {config.predicts}, "
        f"{config.schedule}, T = {steps}; {unit} of {items} held-out items",
        "",
        "| variance | stride | " + " | ".join(map(str, counts)) + " |",
        "|---|---|" + "---|" * len(counts),
    ]
    for variance in variances:
        for stride in ("even", "optimal"):
            cells = [shown(estimate(totals[variance, stride, count])) for count in counts]
            lines.append(f"| {variance} | {stride} | " + " | ".join(cells) + " |")
    lines.append("")
    for variance in variances:
        if (variance, "optimal", GOAL) in totals:
            best, whole = totals[variance, "optimal", GOAL], totals[variance, "even", steps]
            lines.append(
                f"- {variance}: {GOAL} optimal steps cost {shown(estimate(best - whole))} {unit} "
                f"more than all {steps}."
            )
    return lines


def shown(value: Estimate) -> str:
    """Return a value with its standard error."""
    return f"{value.mean:.3f} ± {value.error:.3f}"


def main() -> None:
    """Measure what is missing and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/likelihood"))
    parser.add_argument("--items", type=int, default=128, help="held-out items per run")
    parser.add_argument("--table-items", type=int, default=64, help="training items per run")
    parser.add_argument("--counts", nargs="*", type=int, default=list(COUNTS))
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--ema", default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=None)
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    console = Console(highlight=False, soft_wrap=True)
    sections = []
    for directory in arguments.runs:
        run = load(directory, ema=arguments.ema)
        sections.append("\n".join(table_of(run, measure(run, arguments, console))))
        print(f"\n{sections[-1]}\n", flush=True)
    path = write_text(arguments.out / "likelihood.md", "\n\n".join(sections) + "\n")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
