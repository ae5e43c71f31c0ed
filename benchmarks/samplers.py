"""Compare samplers and spacings on four trained networks and two exact denoisers.

python -m benchmarks.samplers                    # trains what is missing, draws, writes the tables
python -m benchmarks.samplers --minutes 15       # a part of it; repeat until nothing is missing
python -m benchmarks.samplers --networks digits --samples 1000

Every row has the same noise. Whatever was trained, drawn or measured is kept beside the runs, and
samples of a smaller ``--samples`` are the first of a larger one. The report, with the goals, is
``OUT/samplers.md`` and is also printed: after every network, of what is there.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.exact_denoisers import FITTED_UP_TO, exact_tables
from benchmarks.four_networks import (
    HEAD,
    NETWORKS,
    Row,
    Ruler,
    Teacher,
    cells,
    chosen,
    draw,
    ratio,
    stop_after,
    teacher_of,
    verdict,
)
from benchmarks.runs.common import table
from iddpm.builders.sampling_plan import Method, choose_method
from iddpm.config import SamplingConfig
from iddpm.runtime.atomic_files import write_text
from iddpm.tasks.tune import GRID

EVALUATIONS = (10, 5, 8, 15, 20, 50)
"""The most telling first."""
METHODS = (*GRID, Method("ddim", "even"), Method("ddpm", "even"))
GOAL_AT_10 = 1.05
GOAL_ON_ALL = 1.15
GOAL_AUTOMATIC = 1.10


def row_of(teacher: Teacher, ruler: Ruler, method: Method, evaluations: int, count: int) -> Row:
    """Return the measures of a method, after drawing what is missing."""
    how = {"sampler": method.sampler, "spacing": method.spacing, "steps": evaluations}
    name = f"{teacher.run.config.training.steps}_{'_'.join(method)}_{evaluations}_{count}"
    return ruler.row(name, lambda: draw(teacher.run, how, count, teacher.network.part))


def network_report(teacher: Teacher, evaluations: Sequence[int], count: int) -> tuple[str, float]:
    """Return the tables and goals of a network, and the best ratio at ten evaluations."""
    ruler, dims = Ruler(teacher), len(teacher.run.config.model.size)
    steps = min(teacher.network.ancestral, teacher.run.config.diffusion.num_steps)
    mark = row_of(teacher, ruler, Method("ddpm", "even"), steps, count)
    rows = [["evaluations", "method", *HEAD], [str(steps), "ddpm, even", *cells(mark, mark)]]
    goals, at_ten = [], float("nan")
    for n in evaluations:
        automatic = choose_method(SamplingConfig(steps=n), dims)
        methods = [m for m in METHODS if m.spacing != "fitted" or n <= FITTED_UP_TO]
        methods = list(dict.fromkeys([automatic, *methods]))
        found = {method: row_of(teacher, ruler, method, n, count) for method in methods}
        best = min(found, key=lambda method: found[method].distance)
        for method, row in sorted(found.items(), key=lambda item: item[1].distance):
            said = ", ".join(method) + (" (automatic)" if method == automatic else "")
            rows.append([str(n), said, *cells(row, mark)])
        behind = ratio(found[automatic], found[best])
        goals.append(verdict(f"automatic choice at {n}, of the best", behind, GOAL_AUTOMATIC))
        if n == 10:
            at_ten = ratio(found[best], mark).value
            goals.append(verdict("best at 10, of ancestral", ratio(found[best], mark), GOAL_AT_10))
    head = f"## {teacher.name}: {count} samples, {ruler.extractor.distance_name}"
    return "\n".join([head, "", table(rows), *(f"- {goal}" for goal in goals), ""]), at_ten


def over_all(at_ten: Sequence[float]) -> str:
    """Return the goals over several networks."""
    near = sum(value <= GOAL_AT_10 for value in at_ten)
    worst = max(at_ten)
    return (
        f"Ten evaluations without training: within 5 % on {near} of {len(at_ten)} networks (goal: "
        f"2 of 4), at worst x{worst:.2f} (goal: {GOAL_ON_ALL:.2f} on all).\n"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, draw and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", default=",".join(NETWORKS), help="some of them")
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="of the runs")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--samples", type=int, help="of each row [default: by network]")
    parser.add_argument("--ancestral", type=int, help="steps of ddpm [default: by network]")
    parser.add_argument("--evaluations", default=",".join(map(str, EVALUATIONS)))
    parser.add_argument("--minutes", type=float, help="stop after so many, to be repeated")
    parser.add_argument("-s", dest="settings", action="append", default=[], help="of training")
    parser.add_argument("--exact", action="store_true", help="only the exact denoisers")
    asked = parser.parse_args(arguments)
    networks = [] if asked.exact else chosen(parser, asked.networks, NETWORKS, "network")
    stop_after(asked.minutes)
    evaluations = [int(n) for n in asked.evaluations.split(",")]
    parts, at_ten = [], []
    for name in networks:
        teacher = teacher_of(name, asked.folder, more=asked.settings)
        if asked.ancestral:
            network = replace(teacher.network, ancestral=asked.ancestral)
            teacher = replace(teacher, network=network)
        text, best = network_report(teacher, evaluations, asked.samples or teacher.network.samples)
        print(f"\n{text}", flush=True)
        parts.append(text)
        at_ten += [best] if best == best else []
        write_text(asked.out / "samplers.md", "\n".join(parts))
    if at_ten:
        parts.append(over_all(at_ten))
        print(parts[-1], flush=True)
    parts.append(exact_tables())
    print(parts[-1])
    print(f"wrote {write_text(asked.out / 'samplers.md', chr(10).join(parts))}")


if __name__ == "__main__":
    main()
