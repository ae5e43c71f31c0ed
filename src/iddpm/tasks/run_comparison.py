"""Several runs measured one after the other, and a table of them."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from iddpm.evaluation.run_table import Report, records, table
from iddpm.runs.layout import read_run_config
from iddpm.runtime.atomic_files import write_json, write_text
from iddpm.runtime.console import open_console
from iddpm.runtime.processes import ALONE, Ranks
from iddpm.tasks.evaluation_report import Evaluation

COMPARISON = "comparison"
"""Name of the files, without their suffix."""


def compare_runs(
    directories: Sequence[Path],
    measure: Callable[[Path, Path | None], Evaluation],
    out: Path | None = None,
    console: Console | None = None,
    ranks: Ranks = ALONE,
) -> str:
    """Measure runs and write ``comparison.json``, ``.csv`` and ``.md``.

    Args:
        directories: of the runs.
        measure: evaluates a run and writes its report to a directory, None for the run's own.
        out: where the table goes, with a directory for each run's report; by default the table goes
            to ``evaluation`` beside the first run, and each report into its run.
        console: where progress is shown.
        ranks: who shares the work.

    Returns:
        The table as Markdown.

    Raises:
        ValueError, FileNotFoundError: one is no run, before any is measured, or cannot be measured.
    """
    console = console or open_console(ranks.first)
    with ranks.together():
        for directory in directories:
            read_run_config(directory)
        names = [directory.resolve().name for directory in directories]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if out is not None and twice:
            raise ValueError(
                f"several runs are called {twice[0]}, and each has its report in {out} by its "
                "name: leave out --out, or give a run once"
            )
    reports: list[Report] = []
    for directory, name in zip(directories, names, strict=True):
        console.print(f"measuring {directory}", markup=False)
        reports.append(measure(directory, None if out is None else out / name).report)
    where = directories[0].parent / "evaluation" if out is None else out
    ranks.by_first(lambda: _write(reports, where, console))
    return table(reports)


def _write(reports: Sequence[Report], directory: Path, console: Console) -> None:
    found = records(reports)
    text = io.StringIO()
    columns = dict.fromkeys(name for record in found for name in record)
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    for path in (
        write_json(directory / f"{COMPARISON}.json", found),
        write_text(directory / f"{COMPARISON}.csv", text.getvalue()),
        write_text(directory / f"{COMPARISON}.md", table(reports)),
    ):
        console.print(f"wrote {path}", markup=False)
