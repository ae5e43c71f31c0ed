"""``python -m tests.fuzz COUNT [FIRST]``: run so many hostile cases and print what went wrong.

Then 50 commands of further cases are run in processes of their own.
"""

import faulthandler
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.progress import track

from tests.fuzz.cases import Case, World, build_world, make
from tests.fuzz.judge import fault, fault_of_process

PROCESSES = 50
LAST = Path(tempfile.gettempdir()) / f"iddpm_fuzz_{os.getpid()}"
"""Says which case ran last."""


def commands(first: int, count: int, world: World) -> Iterator[tuple[int, Case]]:
    """Yield so many cases that are commands, with their seeds."""
    seed = first
    while count:
        case = make(seed, world)
        if case.words is not None:
            yield seed, case
            count -= 1
        seed += 1


def main() -> int:
    faulthandler.enable()
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["IDDPM_CACHE"] = folder
        world, faults = build_world(Path(folder)), 0

        def reported(seed: int, case: Case, found: str | None) -> int:
            if found:
                print(f"case {seed}: {found}\n    {ascii(case.name)[:300]}")
            return found is not None

        for seed in track(range(first, first + count), "fuzzing"):
            case = make(seed, world)
            LAST.write_text(f"case {seed}: {case.name!a}")  # where it ends the process
            faults += reported(seed, case, fault(case))
        others = commands(first + count, PROCESSES, world)
        for seed, case in track(others, "processes", total=PROCESSES):
            faults += reported(seed, case, fault_of_process(case))
    LAST.unlink()
    print(f"{count} cases, {PROCESSES} processes, {faults} faults")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
