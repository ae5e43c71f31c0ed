"""Compare samplers on one trained network by the Frechet distance of what they draw.

python benchmarks/samplers_on_digits.py             # trains what is missing, draws, and reports
python benchmarks/samplers_on_digits.py --draw 0/2  # draws every second cell, for two processes
python benchmarks/samplers_on_digits.py --report    # only writes the table of what has been drawn

Every sampler starts from the same noise. Whatever has been trained or drawn is kept, batch by
batch, in --out, so the command can be stopped and repeated at any time; with --minutes it stops by
itself. The table stands in ``benchmarks/samplers.md``.
"""

import argparse
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from judge import Ruler, training_items
from mnist import digits
from numpy.typing import NDArray
from upsampling import SETTINGS  # the same small network

from iddpm.data.levels import to_model_range, to_stored_range
from iddpm.evaluation.distances import Estimate
from iddpm.runs.layout import CONFIG, read_run_config
from iddpm.runs.run import Run, load
from iddpm.runtime.atomic_files import write_atomically, write_text
from iddpm.sampling import SampleNoise
from iddpm.tasks.train import train

N = 5000
PARTS = 4
"""Of the samples of a cell."""
BATCH = 125
MARK = 1000
SPACINGS = {
    "ddpm": "even",
    "ddim": "even",
    "heun": "karras",
    "ipndm": "karras",
    "dpmpp_3m": "log_snr",
    "unipc_3": "log_snr",
    "dpmpp_2m_sde": "karras",
}
EVALUATIONS = (10, 5, 8, 20, 50, 100)
ALSO = (
    ("ddpm", "log_snr"),
    ("ddim", "log_snr"),
    ("ddim", "karras"),
    ("ipndm", "log_snr"),
    ("dpmpp_2m", "log_snr"),
    ("dpmpp_2m", "karras"),
    ("dpmpp_3m", "karras"),
    ("dpmpp_2m_sde", "log_snr"),
    ("dpmpp_2m_sde", "even"),
    ("unipc_2", "log_snr"),
    ("unipc_3", "karras"),
)
"""What else was tried, at ten evaluations from one seed."""
STEPS = 4000
"""Of training: about 20 minutes on two cores."""


class Cell(NamedTuple):
    """One column of samples."""

    sampler: str
    spacing: str
    evaluations: int
    seed: int

    def files(self, folder: Path) -> list[Path]:
        """Return where its samples are kept, in parts that processes can share."""
        name = f"{self.sampler}_{self.spacing}_{self.evaluations}_seed{self.seed}"
        return [folder / f"{name}_part{part}.npy" for part in range(PARTS)]


def cells(seeds: int) -> list[Cell]:
    """Return every cell of the table, the most telling first."""
    quick = [
        Cell(sampler, spacing, evaluations, seed)
        for evaluations in EVALUATIONS[:4]
        for seed in range(seeds)
        for sampler, spacing in SPACINGS.items()
    ]
    tried = [Cell(sampler, spacing, EVALUATIONS[0], 0) for sampler, spacing in ALSO]
    slow = [
        Cell(sampler, spacing, evaluations, seed)
        for seed in range(seeds)
        for evaluations in EVALUATIONS[4:]
        for sampler, spacing in SPACINGS.items()
    ]
    mark = Cell("ddpm", "even", MARK, 0)
    first = quick[: seeds * len(SPACINGS)]  # at ten evaluations
    return [*first, mark, *tried, *quick[len(first) :], *slow]


def draw(run: Run, cell: Cell, part: int, folder: Path, deadline: float) -> None:
    """Draw what is missing of a part of a cell, keeping every batch."""
    path = cell.files(folder)[part]
    done = np.load(path) if path.is_file() else np.empty((0, *run.shape), np.uint8)
    plan = run.plan(sampler=cell.sampler, spacing=cell.spacing, steps=cell.evaluations)
    started, before, size = time.monotonic(), len(done), N // PARTS
    while len(done) < size and time.monotonic() < deadline:
        noise = SampleNoise(cell.seed, (BATCH, *run.shape), part * size + len(done))
        x = noise.initial()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            for state in plan.states(noise):
                x = state.x
        done = np.concatenate([done, to_stored_range(x, 8).numpy()])
        write_atomically(path, partial(_save, done))
    if len(done) > before:
        seconds = time.monotonic() - started
        print(f"{path.stem}: {len(done)} of {size}, {seconds:.0f} s", flush=True)


def _save(x: NDArray[np.uint8], path: Path) -> None:
    np.save(path, x)


def measure(cells: list[Cell], ruler: Ruler, folder: Path, count: int) -> dict[Cell, Estimate]:
    """Return the Frechet distance of the first parts of every cell that has as many."""
    found = {}
    for cell in cells:
        parts = [np.load(path) for path in cell.files(folder)[:count] if path.is_file()]
        if sum(map(len, parts)) == count * N // PARTS:
            found[cell] = ruler.distance(to_model_range(np.concatenate(parts), 8))
    return found


def table(found: dict[Cell, Estimate]) -> str:
    """Return the Markdown tables: distances by sampler and evaluations, and what else was tried."""
    mark = found.get(Cell("ddpm", "even", MARK, 0))
    counts = sorted(EVALUATIONS)
    lines = []
    if mark is not None:
        lines += [
            f"DDPM, {MARK} steps: **{mark.value:.3f}** (standard error {mark.error:.3f}).",
            "",
        ]
    lines += [
        f"| sampler, spacing | {' | '.join(map(str, counts))} |",
        f"|---|{'---|' * len(counts)}",
    ]
    for sampler, spacing in SPACINGS.items():
        entries = [_entry(found, sampler, spacing, count, mark) for count in counts]
        lines.append(f"| {sampler}, {spacing} | {' | '.join(entries)} |")
    lines += ["", f"| also tried, {EVALUATIONS[0]} evaluations | distance |", "|---|---|"]
    for sampler, spacing in ALSO:
        entry = _entry(found, sampler, spacing, EVALUATIONS[0], mark)
        lines.append(f"| {sampler}, {spacing} | {entry} |")
    return "\n".join(lines)


def _entry(
    found: dict[Cell, Estimate], sampler: str, spacing: str, count: int, mark: Estimate | None
) -> str:
    """Return the mean over seeds, half its 95 % interval, the seeds, and the ratio to the mark."""
    chosen = [e for cell, e in found.items() if cell[:3] == (sampler, spacing, count)]
    if not chosen:
        return "-"
    mean = sum(each.value for each in chosen) / len(chosen)
    # The seeds draw different samples, so their errors are independent.
    error = sum(each.error**2 for each in chosen) ** 0.5 / len(chosen)
    times = "" if mark is None else f", x{mean / mark.value:.2f}"
    return f"{mean:.3f} ± {1.96 * error:.3f}{times} ({len(chosen)})"


def main() -> None:
    """Train, draw and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/mnist_hybrid"))
    parser.add_argument("--classifier", type=Path, default=Path("runs/mnist_classifier"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draw", default="0/1", help="which share of the cells to draw")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--parts", type=int, default=PARTS, help="parts of each cell to compare")
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    deadline = time.monotonic() + 60 * arguments.minutes
    if not (arguments.out / "model.safetensors").is_file():
        resume = (arguments.out / CONFIG).is_file()
        settings = (
            [] if resume else [*SETTINGS, "training.batch_size=128", f"training.steps={STEPS}"]
        )
        train(None if resume else digits(), settings=settings, out=arguments.out, resume=resume)
    folder = arguments.out / "samplers"
    folder.mkdir(exist_ok=True)
    if not arguments.report:
        run = load(arguments.out)
        run.denoiser.network = torch.compile(run.denoiser.network, dynamic=False)
        share, shares = map(int, arguments.draw.split("/"))
        work = [(cell, part) for cell in cells(arguments.seeds) for part in range(PARTS)]
        for cell, part in work[share::shares]:
            draw(run, cell, part, folder, deadline)
    if arguments.draw == "0/1":
        real, held_out = training_items(read_run_config(arguments.out))
        ruler = Ruler(arguments.classifier, real)
        text = table(measure(cells(arguments.seeds), ruler, folder, arguments.parts))
        mark = ruler.distance(held_out)
        text += f"\n\n{len(held_out)} digits held out: {mark.value:.3f} ± {1.96 * mark.error:.3f}\n"
        print(text)
        print(f"wrote {write_text(arguments.out / 'samplers.md', text)}")


if __name__ == "__main__":
    main()
