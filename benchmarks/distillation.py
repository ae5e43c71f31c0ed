"""Compare distilled runs at 1, 2 and 4 evaluations with their teachers, on four networks.

python -m benchmarks.distillation                      # all networks, the default method
python -m benchmarks.distillation --minutes 15         # a part of it; repeat until all is there
python -m benchmarks.distillation --networks digits --times 4 --samples 20000  # an hour's teacher
python -m benchmarks.distillation --networks digits --methods all --samples 2000
python -m benchmarks.distillation --networks digits --picture docs/images/few_steps.png

Every row has the same noise. Whatever was trained, drawn or measured is kept beside the runs, so
that the command can be stopped and repeated. The report, with the goals, is printed and written to
``OUT/distillation.md``. The picture shows the same seeds at 1, 2, 4, 10 and 50 evaluations: the
first of the distilled run, the last two of its teacher.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import iddpm
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
from benchmarks.runs.picture import beside
from iddpm.config.choices import DISTILLATIONS
from iddpm.runs.layout import CONFIG
from iddpm.runs.run import Run
from iddpm.runs.step_tables import weights_digest
from iddpm.runtime.atomic_files import write_text
from iddpm.tasks.distill import distillation_request
from iddpm.tasks.train import train_until_stop
from iddpm.tasks.training_setup import TrainRequest

SHOWN = 6
"""Samples of each row of the picture, times two rows."""
GOALS = {2: 1.05, 1: 1.25}
"""Distance at so many evaluations, of that of ancestral sampling."""


def student_of(teacher: Teacher, method: str, settings: Sequence[str]) -> Run:
    """Return a distilled run, after training what is missing of it."""
    out = teacher.run.directory.with_name(f"{teacher.run.directory.name}_{method}")
    going_on = (out / CONFIG).is_file()
    more = [*settings, f"distillation.method={method}"]
    if DISTILLATIONS[method].differences:
        more.append("training.precision=float32")
    wanted = TrainRequest(settings=() if going_on else more, out=out, resume=going_on)
    pca = teacher.features == "pca"
    features = None if pca or going_on else teacher.features
    _, reason = train_until_stop(
        distillation_request(teacher.run.directory, wanted, features=features)
    )
    if reason.exit_status:
        raise SystemExit(reason.exit_status)
    measured = iddpm.load(out).config.training.validate_every
    return iddpm.load(out, checkpoint="best" if measured else None)


def seconds_of(run: Run) -> float:
    """Return how long the sessions of a training took together."""
    total = last = 0.0
    for record in run.log:
        now = record.get("seconds", last)
        total += now - last if now >= last else now
        last = now
    return total


def rows_of(
    teacher: Teacher, students: Mapping[str, Run], count: int
) -> tuple[dict[str, Row], Row, str]:
    """Return the measures by name, those of ancestral sampling, and what the distance is called."""
    ruler = Ruler(teacher)
    steps = min(teacher.network.ancestral, teacher.run.config.diffusion.num_steps)
    ancestral: dict[str, Any] = {"sampler": "ddpm", "spacing": "even", "steps": steps}
    wanted = {f"teacher, ddpm {steps}": (teacher.run, ancestral)}
    wanted |= {f"teacher, {n}": (teacher.run, {"steps": n}) for n in (50, 10, 4, 2, 1)}
    for method, student in students.items():
        made = student.config.distillation
        assert made is not None
        wanted |= {f"{method}, {n}": (student, {"steps": n}) for n in made.steps}
    found = {}
    for name, (run, how) in wanted.items():
        key = f"{weights_digest(run.denoiser)[:12]}_{name.replace(', ', '_')}_{count}"

        def samples(run: Run = run, how: dict[str, Any] = how) -> Any:
            return draw(run, how, count, teacher.network.part)

        found[name] = ruler.row(key.replace(" ", "_"), samples)
    return found, found[f"teacher, ddpm {steps}"], ruler.extractor.distance_name


def network_report(teacher: Teacher, students: Mapping[str, Run], count: int) -> str:
    """Return the table and the goals of a network."""
    found, mark, distance = rows_of(teacher, students, count)
    rows = [["", *HEAD], *([name, *cells(row, mark)] for name, row in found.items())]
    lines = [f"## {teacher.name}: {count} samples, {distance}", "", table(rows)]
    spent = seconds_of(teacher.run)
    lines.append(f"- teacher: {spent / 60:.1f} minutes of training")
    for method, student in students.items():
        share = seconds_of(student) / max(spent, 1e-9)
        lines.append(
            f"- {method}: training took {share:.0%} of the teacher's (goal: at most 100 %)"
        )
        lines += [
            f"- {verdict(f'{method}, {n} evaluations', ratio(found[f'{method}, {n}'], mark), goal)}"
            for n, goal in GOALS.items()
            if f"{method}, {n}" in found
        ]
    return "\n".join([*lines, ""])


def picture(teacher: Teacher, student: Run, path: Path) -> str:
    """Draw the same seeds at several evaluations, and return their times per sample."""
    made = student.config.distillation
    assert made is not None
    rows = dict.fromkeys(made.steps, student) | dict.fromkeys((10, 50), teacher.run)
    drawn = {n: draw(run, {"steps": n}, 2 * SHOWN, 2 * SHOWN) for n, run in rows.items()}
    titles = {str(n): found.x for n, found in drawn.items()}
    beside(titles, path, columns=SHOWN, scale=1)
    times = ", ".join(f"{1000 * found.seconds:.1f} at {n}" for n, found in drawn.items())
    return f"wrote {path}; milliseconds per sample, {2 * SHOWN} at once: {times}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, distill, draw and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", default=",".join(NETWORKS), help="some of them")
    parser.add_argument("--methods", default="consistency_tuning", help="some of them, or all")
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="of the runs")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--times", type=int, default=1, help="so many times the teacher's steps")
    parser.add_argument("--samples", type=int, help="of each row [default: by network]")
    parser.add_argument("--ancestral", type=int, help="steps of ddpm [default: by network]")
    parser.add_argument("--minutes", type=float, help="stop after so many, to be repeated")
    parser.add_argument("--picture", type=Path, help="only draw this, of the first network")
    parser.add_argument("--teacher", dest="teaching", action="append", default=[], help="a setting")
    parser.add_argument("-s", dest="settings", action="append", default=[], help="of distillation")
    asked = parser.parse_args(arguments)
    methods = chosen(parser, asked.methods, DISTILLATIONS, "method")
    networks = chosen(parser, asked.networks, NETWORKS, "network")
    stop_after(asked.minutes)
    parts = []
    for name in networks:
        teacher = teacher_of(name, asked.folder, asked.times, asked.teaching)
        if asked.ancestral:
            network = replace(teacher.network, ancestral=asked.ancestral)
            teacher = replace(teacher, network=network)
        if asked.picture:
            print(picture(teacher, student_of(teacher, methods[0], asked.settings), asked.picture))
            return
        students = {method: student_of(teacher, method, asked.settings) for method in methods}
        parts.append(network_report(teacher, students, asked.samples or teacher.network.samples))
        print(f"\n{parts[-1]}", flush=True)
        print(f"wrote {write_text(asked.out / 'distillation.md', chr(10).join(parts))}")


if __name__ == "__main__":
    main()
