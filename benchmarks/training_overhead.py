"""What saving, logging and a second process cost a training run.

python benchmarks/training_overhead.py

Trains the demo's network on mnist5k at the demo's batch, writes benchmarks/training_overhead.md and
prints it. Some 8 minutes on two cores; nothing else should run.

Saving: a checkpoint every 24 steps, so that twelve steps in which one is copied and written take
turns with twelve steps without. A save costs what the first twelve take longer than those on both
sides of them, which is all that it takes: the copy that the loop waits for, and whatever the thread
that writes takes from the computation. That, against the time of 100 steps, is its share of a run
that saves every 100. Logging is timed where it happens, since it happens in the loop. Two processes
and one take turns as whole runs of the command.
"""

import argparse
import functools
import io
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from common import processor
from rich.console import Console

import iddpm
from iddpm.runtime.atomic_files import write_text
from iddpm.tasks.demo import SETTINGS
from iddpm.training import loop
from iddpm.training.checkpoints.saver import Saver
from iddpm.training.monitoring.log_files import LogFiles, read_log
from iddpm.training.monitoring.records import Meter
from iddpm.training.monitoring.terminal import TerminalReporter

OUT = Path("benchmarks/training_overhead.md")
WINDOW = 12
"""Steps with a save, and as many without."""
LOG_EVERY = 20
"""Steps between records in the run that is spoken of, as in the demo."""
PLAIN = (
    "training.preview_every=0",
    "training.validate_every=0",
    "training.save_minutes=null",
    "training.anneal=none",
)

Seconds = dict[str, list[float]]


def timed(
    seconds: Seconds, name: str, method: Callable[..., Any], clock: Callable[[], float]
) -> Callable[..., Any]:
    """Return a method that notes how long it takes by a clock."""

    @functools.wraps(method)
    def call(*arguments: Any, **options: Any) -> Any:
        start = clock()
        try:
            return method(*arguments, **options)
        finally:
            seconds[name].append(clock() - start)

    return call


class Stopwatch(TerminalReporter):
    """The terminal's reporter, which notes when each step was done and what its threads took."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO(), force_terminal=True, width=120))
        self.times: list[float] = []
        self.helpers = 0.0

    def advance(self, step: int) -> None:
        super().advance(step)
        self.times.append(time.perf_counter())

    def close(self) -> None:
        for thread in threading.enumerate():
            if thread is not threading.main_thread() and thread.name != "checkpoint":
                assert thread.ident is not None
                clock = time.pthread_getcpuclockid(thread.ident)
                self.helpers += time.clock_gettime(clock)
        super().close()


def assignments(settings: dict[str, Any], section: str = "") -> list[str]:
    """Return nested settings as the command line takes them."""
    flat = []
    for name, value in settings.items():
        if isinstance(value, dict):
            flat += assignments(value, f"{section}{name}.")
        else:
            flat.append(f"{section}{name}={json.dumps(value)}")
    return flat


def measure_saving(directory: Path, pairs: int, threads: int) -> tuple[Stopwatch, Seconds]:
    """Train, saving every second window, and return when steps were done and what took how long."""
    seconds: Seconds = defaultdict(list)
    clock = time.perf_counter
    watched = [
        (Saver, "save", "copy", clock),
        (Saver, "_run", "write", clock),
        (Saver, "_run", "write, on its core", time.thread_time),
        (Meter, "add", "step", clock),
        (TerminalReporter, "advance", "bar", clock),
        (loop._Loop, "_measured", "measure", clock),
        (LogFiles, "write", "files", clock),
        (TerminalReporter, "record", "line", clock),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _, _ in watched]
    for owner, name, label, of in watched:
        setattr(owner, name, timed(seconds, label, getattr(owner, name), of))
    watch = Stopwatch()
    try:
        iddpm.train(
            "mnist5k",
            out=directory,
            settings=[
                *assignments(SETTINGS),
                *PLAIN,
                f"training.steps={2 * WINDOW * (pairs + 1) + WINDOW}",
                f"training.save_every={2 * WINDOW}",
                f"training.log_every={WINDOW}",
                f"training.threads={threads}",
                "training.tensorboard=true",
            ],
            reporter=watch,
        )
    finally:
        for owner, name, method in reversed(before):
            setattr(owner, name, method)
    return watch, seconds


def cost_of_saves(times: Sequence[float]) -> tuple[list[float], float]:
    """Return what each save cost in seconds, and the median time of a step without one.

    Args:
        times: when each step was done; the checkpoint of step s is copied right after it.
    """
    windows = [
        times[k + WINDOW - 1] - times[k - 1] for k in range(WINDOW, len(times) - WINDOW + 1, WINDOW)
    ]
    # windows[0] follows step 12 and has no save, windows[1] follows step 24 and has one, ...
    costs = [
        windows[k] - (windows[k - 1] + windows[k + 1]) / 2 for k in range(1, len(windows) - 1, 2)
    ]
    return costs, statistics.median(windows[::2]) / WINDOW


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return order statistics that hold the median with 95 % confidence, whatever the law."""
    ordered = sorted(values)
    n, tail, rank = len(ordered), 0.5 ** len(ordered), 0
    total = tail
    while total <= 0.025 and rank < n // 2:
        rank += 1
        tail *= (n - rank + 1) / rank
        total += tail
    rank = max(rank - 1, 0)
    return ordered[rank], ordered[n - 1 - rank]


def saving_and_logging(pairs: int, threads: int) -> str:
    """Return the lines on what saving and logging cost."""
    with tempfile.TemporaryDirectory(prefix="overhead") as folder:
        watch, seconds = measure_saving(Path(folder) / "run", pairs, threads)
        size = sum(p.stat().st_size for p in next(Path(folder).glob("run/checkpoints/*")).iterdir())
    costs, step = cost_of_saves(watch.times)
    hundred = 100 * step
    saving = statistics.median(costs)
    low, high = interval(costs)
    per_step = statistics.median(seconds["step"]) + statistics.median(seconds["bar"])
    per_record = sum(statistics.median(seconds[part]) for part in ("measure", "files", "line"))
    helpers = watch.helpers / (watch.times[-1] - watch.times[0]) * hundred
    logging = 100 * per_step + 100 / LOG_EVERY * per_record + helpers

    copy, core = (statistics.median(seconds[part]) for part in ("copy", "write, on its core"))
    longest, window = max(seconds["write"]), WINDOW * step

    def row(what: str, took: float, many: float) -> str:
        return f"| {what} | {1e3 * took:.3g} ms | {many / hundred:.2%} |"

    return "\n".join(
        [
            f"{step:.3f} s per step, {hundred:.1f} s for 100; checkpoints of {size / 1e6:.1f} MB; "
            f"{len(costs)} saves.",
            "",
            "| | each | of a run that saves every 100 steps |",
            "|---|---|---|",
            row("a save, including everything that it slows down (median)", saving, saving),
            f"| 95 % interval of that median | {1e3 * low:.3g} to {1e3 * high:.3g} ms | "
            f"{low / hundred:.2%} to {high / hundred:.2%} |",
            row("part: the copy that the loop waits for", copy, copy),
            row("part: the writing thread, on its core", core, core),
            row("logging, for every step", per_step, 100 * per_step),
            row(
                f"logging, a record every {LOG_EVERY} steps (JSONL, CSV, TensorBoard, terminal)",
                per_record,
                100 / LOG_EVERY * per_record,
            ),
            f"| the thread of the progress bar, on its core | | {helpers / hundred:.2%} |",
            f"| **saving and logging together** | | **{(saving + logging) / hundred:.2%}** |",
            "",
            f"Goals: saving under 1 %: {_reached(low / hundred, high / hundred, 0.01)}; with "
            f"logging under 3 %: "
            f"{_reached((low + logging) / hundred, (high + logging) / hundred, 0.03)}. "
            f"The longest write took {longest:.2f} s"
            + (
                f" of the {window:.1f} s of its window."
                if longest < window
                else f", longer than its window of {window:.1f} s: the rest was not measured."
            ),
        ]
    )


def _reached(low: float, high: float, goal: float) -> str:
    """Judge by the interval, not by its middle."""
    if high < goal:
        return "reached"
    return "missed" if low >= goal else "not decided, the machine was too restless"


def items_per_second(directory: Path, command: Sequence[str], steps: int, threads: int) -> float:
    """Run the training command and return the median throughput of its log, the first line aside.

    Args:
        directory: where the run goes.
        command: what starts ``iddpm``.
        steps: length of the run.
        threads: of each process.
    """
    chosen = [
        *assignments(SETTINGS),
        *PLAIN,
        f"training.steps={steps}",
        "training.log_every=5",
        f"training.threads={threads}",
    ]
    settings = [part for setting in chosen for part in ("-s", setting)]
    subprocess.run(
        [*command, "train", "mnist5k", "--out", str(directory), *settings],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return statistics.median(r["items_per_second"] for r in read_log(directory)[1:])


def two_ranks(rounds: int, steps: int) -> str:
    """Return the lines on two processes of one thread against one of two."""
    alone = [sys.executable, "-m", "iddpm"]
    many = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    many += ["-m", "iddpm"]
    cases = {"one process, 2 threads": (alone, 2), "2 ranks, 1 thread each": (many, 1)}
    rates: Seconds = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="overhead") as folder:
        for turn in range(rounds):
            order = list(cases.items())
            for name, (command, threads) in order if turn % 2 else order[::-1]:
                directory = Path(folder) / f"{turn}_{threads}"
                rates[name].append(items_per_second(directory, command, steps, threads))
    one, two = rates.values() if next(iter(rates)).startswith("one") else [*rates.values()][::-1]
    ratios = [b / a for a, b in zip(one, two, strict=True)]
    lines = ["| | items/s, median |", "|---|---|"]
    lines += [f"| {name} | {statistics.median(rates[name]):.1f} |" for name in cases]
    lines += [
        "",
        f"Ratio, 2 ranks over one process: {statistics.median(ratios):.3f} (median of {rounds} "
        f"rounds, {min(ratios):.3f} to {max(ratios):.3f}).",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--pairs", type=int, default=20, help="saves that are measured")
    parser.add_argument("--rounds", type=int, default=3, help="runs of one process and of two")
    parser.add_argument("--steps", type=int, default=40, help="steps of each of those")
    parser.add_argument("--out", type=Path, default=OUT, help=f"the table [{OUT}]")
    arguments = parser.parse_args()
    threads = 2
    torch.set_num_threads(threads)
    saving = saving_and_logging(arguments.pairs, threads)
    batch = SETTINGS["training"]["batch_size"]
    text = f"""# Cost of saving and logging in training

`python benchmarks/training_overhead.py --pairs {arguments.pairs} --rounds {arguments.rounds} \\
--steps {arguments.steps}`: the demo's network, batch {batch}. The
script documents the method.

{processor()}.

## Saving and logging

{saving}

## Two processes compared with one, same global batch

{two_ranks(arguments.rounds, arguments.steps)}
"""
    write_text(arguments.out, text)
    print(text)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
