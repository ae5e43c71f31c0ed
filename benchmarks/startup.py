"""Time how long the command line takes to answer ``--help``.

python benchmarks/startup.py

The goal is half a second: torch is imported inside the commands, not before.
"""

import argparse
import statistics
import subprocess
import sys
import time


def seconds(command: list[str]) -> float:
    """Return how long a command takes."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Print the median of some runs, and that of an empty Python for comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=9, help="how often each command is run")
    runs = parser.parse_args().runs
    program = "import sys; from iddpm.cli.main import run; sys.exit(run(['--help']))"
    ours, empty = [], []
    for _ in range(runs):
        ours.append(seconds([sys.executable, "-c", program]))
        empty.append(seconds([sys.executable, "-c", "pass"]))
    print(f"iddpm --help  {statistics.median(ours):.3f} s (median of {runs}, goal 0.5)")
    print(f"empty Python  {statistics.median(empty):.3f} s")


if __name__ == "__main__":
    main()
