"""Train, measure and compare recipes.

    python -m benchmarks.recipes screen        # all rows, 5 minutes, one seed, two data sets
    python -m benchmarks.recipes finalists     # the four best, 15 minutes, three seeds, five sets
    python -m benchmarks.recipes final         # the best, 60 minutes
    python -m benchmarks.recipes judges        # the judges alone, which the others train first
    python -m benchmarks.recipes table         # the page again, of the records that there are

Run it again after an interruption: finished trials are passed over, others go on.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import processor
from benchmarks.recipes.data_sets import data_sets
from benchmarks.recipes.judges import describe, open_judge
from benchmarks.recipes.rows import read_row
from benchmarks.recipes.stages import ALL, STAGES, Stage, run_stage
from benchmarks.recipes.table import PAGE, write_table
from benchmarks.recipes.trials import Places


def main(arguments: Sequence[str] | None = None, places: Places | None = None) -> int:
    """Run a stage; return 2 for bad input, 0 otherwise: failed rows are results."""
    places = places or Places()
    options = _parser().parse_args(arguments)
    try:
        _check(options)
        if options.stage == "judges":
            for name in options.data or ALL:
                judge = open_judge(data_sets()[name], places.judges)
                print(f"{name}: {describe(judge.facts)} ({judge.directory})")
            return 0
        if options.stage in STAGES:
            print(processor())
            run_stage(_stage(options), places, options.rows, options.settings)
        print(f"wrote {write_table(places, options.page)}")
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.recipes", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("stage", choices=[*STAGES, "judges", "table"])
    parser.add_argument("--rows", nargs="+", help="names of rows, or several joined by +")
    parser.add_argument("--data", nargs="+", help=f"of {', '.join(ALL)}")
    parser.add_argument("--minutes", type=float, help="of each training")
    parser.add_argument("--seeds", nargs="+", type=int, help="of each row")
    parser.add_argument(
        "-s", dest="settings", action="append", default=[], help="another setting for all trials"
    )
    parser.add_argument("--page", type=Path, default=PAGE, help="where the table goes")
    return parser


def _check(options: argparse.Namespace) -> None:
    """Refuse what does not exist before anything takes long."""
    unknown = sorted(set(options.data or ()) - set(data_sets()))
    if unknown:
        raise ValueError(f"there is no data set {unknown[0]!r}: use {', '.join(ALL)}")
    for name in options.rows or ():
        read_row(name)
    if options.minutes is not None and not 0 < options.minutes < 1e6:
        raise ValueError(f"--minutes {options.minutes:g} must be above 0, such as 5")


def _stage(options: argparse.Namespace) -> Stage:
    stage = STAGES[options.stage]
    given = {name: getattr(options, name) for name in ("minutes", "seeds", "data")}
    changed = {name: value for name, value in given.items() if value is not None}
    lists = {k: tuple(v) if isinstance(v, list) else v for k, v in changed.items()}
    return dataclasses.replace(stage, **lists)


if __name__ == "__main__":
    sys.exit(main())
