"""``python -m tests.fuzz COUNT [FIRST]``: run so many hostile cases and print what went wrong."""

import os
import sys
import tempfile
from pathlib import Path

from rich.progress import track

from tests.fuzz.cases import build_world, fault, make


def main() -> int:
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["IDDPM_CACHE"] = folder
        world, faults = build_world(Path(folder)), 0
        for seed in track(range(first, first + count), "fuzzing"):
            case = make(seed, world)
            if found := fault(case):
                faults += 1
                print(f"case {seed}: {found}\n    {ascii(case.name)[:300]}")
    print(f"{count} cases, {faults} faults")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
