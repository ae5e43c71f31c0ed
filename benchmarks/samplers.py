"""Compare samplers on one trained network by the Frechet distance of what they draw.

python benchmarks/samplers.py                 # trains what is missing, draws, writes the table
python benchmarks/samplers.py --draw 0/2      # draws every second cell: two processes share the work
python benchmarks/samplers.py --report        # only writes the table of what has been drawn

Every cell (sampler, evaluations, seed) starts from the same noise. Whatever has been trained or
drawn is kept, batch by batch, in --out, so the command can be stopped and repeated at any time; with
--minutes it stops by itself. The table stands in ``benchmarks/samplers.md``.
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mnist import digits
from numpy.typing import NDArray
from upsampling import SETTINGS  # the same small network

from iddpm.data.sources.source import to_stored_range
from iddpm.files import write_atomically
from iddpm.recipe import train
from iddpm.run import CONFIG, Run, load
from iddpm.sampling import SampleNoise

N = 5000
BATCH = 125
MARK = 1000
SPACINGS = {
    "ddpm": "even",
    "ddim": "even",
    "heun": "karras",
    "ipndm": "karras",
    "dpmpp_3m": "log_snr",
    "unipc_3": "log_snr",
}
EVALUATIONS = (10, 5, 8, 20, 50, 100)
STEPS = 4000
"""Of training: about 20 minutes on two cores."""


class Cell(NamedTuple):
    """One column of samples."""

    sampler: str
    spacing: str
    evaluations: int
    seed: int

    @property
    def file(self) -> str:
        """Where its samples are kept."""
        return f"{self.sampler}_{self.spacing}_{self.evaluations}_seed{self.seed}.npy"


def cells(seeds: int) -> list[Cell]:
    """Return every cell of the table, the most telling first."""
    quick = [
        Cell(sampler, spacing, evaluations, seed)
        for evaluations in EVALUATIONS[:4]
        for seed in range(seeds)
        for sampler, spacing in SPACINGS.items()
    ]
    slow = [
        Cell(sampler, spacing, evaluations, seed)
        for seed in range(seeds)
        for evaluations in EVALUATIONS[4:]
        for sampler, spacing in SPACINGS.items()
    ]
    return [*quick, Cell("ddpm", "even", MARK, 0), *slow]


def draw(run: Run, cell: Cell, folder: Path, deadline: float) -> None:
    """Draw what is missing of a cell, keeping every batch."""
    path = folder / cell.file
    done = np.load(path) if path.is_file() else np.empty((0, *run.shape), np.uint8)
    walk = run.walk(sampler=cell.sampler, spacing=cell.spacing, steps=cell.evaluations)
    started, before = time.monotonic(), len(done)
    while len(done) < N and time.monotonic() < deadline:
        noise = SampleNoise(cell.seed, (BATCH, *run.shape), len(done))
        x = noise.initial()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            for state in walk.states(noise):
                x = state.x
        done = np.concatenate([done, to_stored_range(x, 8).numpy()])
        whole = done
        write_atomically(path, lambda to, whole=whole: np.save(to, whole))
    if len(done) > before:
        seconds = time.monotonic() - started
        print(f"{cell.file}: {len(done)} of {N}, {seconds:.0f} s", flush=True)


def main() -> None:
    """Train, draw and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/mnist_hybrid"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draw", default="0/1", help="which share of the cells to draw")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    deadline = time.monotonic() + 60 * arguments.minutes
    if not (arguments.out / "model.safetensors").is_file():
        resume = (arguments.out / CONFIG).is_file()
        settings = [] if resume else [*SETTINGS, f"training.steps={STEPS}"]
        train(None if resume else digits(), settings=settings, out=arguments.out, resume=resume)
    folder = arguments.out / "samplers"
    folder.mkdir(exist_ok=True)
    if not arguments.report:
        run = load(arguments.out)
        run.denoiser.network = torch.compile(run.denoiser.network, dynamic=False)
        share, shares = map(int, arguments.draw.split("/"))
        for cell in cells(arguments.seeds)[share::shares]:
            draw(run, cell, folder, deadline)


if __name__ == "__main__":
    main()
