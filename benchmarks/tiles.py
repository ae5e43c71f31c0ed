"""Super-resolution by overlapping tiles: what is left of seams, and how much memory it takes.

python benchmarks/tiles.py

Trains a small model of 32 x 32 crops out of planes full of digits (from 16 x 16), makes planes of
digits that it has not seen 512 x 512, and looks at second differences across the borders of tiles.
Each row of the table of memory is a process of its own. What was trained is used again; a run
of super-resolution can be named instead. The numbers stand in ``benchmarks/tiles.md``.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from common import processor
from torch import Tensor

from iddpm.builders import build_tiling
from iddpm.data.embedded import embedded
from iddpm.data.levels import round_to_levels, to_model_range
from iddpm.data.resample import enlarge_bicubic, shrink_box
from iddpm.data.writers.image_files import save_grid
from iddpm.evaluation.fidelity import psnr_of_all
from iddpm.runs.layout import WEIGHTS
from iddpm.runs.run import Run, load
from iddpm.sampling import tile_starts
from iddpm.tasks.train import train

SETTINGS = [
    "task=super_resolution",
    "scale=2",
    "data.layout=NHWC",
    "model.model_channels=24",
    "model.num_res_blocks=1",
    "model.channel_mult=[1,2,2]",
    "model.attention_downsampling=[4]",
    "diffusion.predicts=v",
    "diffusion.variance=fixed_small",
    "diffusion.loss.kind=simple",
    "training.steps=1000",
    "training.batch_size=32",
    "training.learning_rate=1e-3",
    "training.preview_every=0",
    "training.validate_every=0",
]
TRAINED_ON = 4000
"""Of the 5,000 digits; the planes that are measured are made of the others."""
CROPS = 6000
SIZE = 512
OVERLAPS = (0.0, 0.125, 0.25, 0.5)
STEPS = 10
MEMORY_STEPS = 1


def digits() -> np.ndarray:
    """Return 5,000 digits, uint8 [N, 28, 28]."""
    source = embedded("mnist5k")
    return source.read_many(range(len(source)))[:, 0]


def plane(rows: int, items: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return ``rows`` x ``rows`` digits beside one another."""
    return np.block(
        [[items[k] for k in generator.permutation(len(items))[:rows]] for _ in range(rows)]
    )


def trained(directory: Path) -> Run:
    """Return the model, trained first where it is not."""
    if (directory / WEIGHTS).is_file():
        return load(directory)
    generator = np.random.default_rng(0)
    items = digits()[:TRAINED_ON]
    planes = [plane(24, items, generator) for _ in range(3)]
    crops = []
    for _ in range(CROPS):
        whole = planes[generator.integers(3)]
        top, left = generator.integers(0, whole.shape[0] - 32, 2)
        crops.append(whole[top : top + 32, left : left + 32])
    directory.parent.mkdir(parents=True, exist_ok=True)
    path = directory.with_suffix(".npy")
    np.save(path, np.stack(crops)[..., None])
    return train(path, out=directory, settings=SETTINGS)


def second_differences(x: Tensor, run: Run, overlap: float) -> tuple[float, float]:
    """Return the mean square of second differences of [N, C, H, W] across borders, and elsewhere.

    Borders are where a tile begins or ends; the second differences that look across one count.
    """
    across, inside = [], []
    for axis, size in ((2, x.shape[2]), (3, x.shape[3])):
        tile = run.shape[axis - 1]
        energy = x.double().diff(n=2, dim=axis).square().movedim(axis, 0)
        at = torch.zeros(size - 2, dtype=torch.bool)
        for start in tile_starts(size, tile, overlap, 2):
            for border in (start, start + tile):
                if 0 < border < size:
                    at[border - 2 : border] = True
        across.append(energy[at].flatten())
        inside.append(energy[~at].flatten())
    return float(torch.cat(across).mean()), float(torch.cat(inside).mean())


def seams(run: Run, planes: int, folder: Path) -> None:
    """Print what seams hold, relative to the insides of tiles."""
    generator = np.random.default_rng(1)
    unseen = digits()[TRAINED_ON:]
    stored = np.stack([plane(19, unseen, generator)[:SIZE, :SIZE] for _ in range(planes)])
    truth = to_model_range(stored[:, None], 8)
    low_res = round_to_levels(shrink_box(truth, (2, 2)), 8)
    print(
        f"{planes} planes of {SIZE} x {SIZE}, {STEPS} evaluations a tile: {run.plan(steps=STEPS)}"
    )
    print("| | tiles | across / inside | truth | error across / inside | bicubic | PSNR |")
    print("|---|---|---|---|---|---|---|")
    bicubic = enlarge_bicubic(low_res, truth.shape[2:])

    def row(name: str, x: Tensor, overlap: float) -> None:
        looked = (x.clamp(-1, 1), truth, x.clamp(-1, 1) - truth, bicubic - truth)
        energies = [second_differences(values, run, overlap) for values in looked]
        fields = " | ".join(f"{across / inside:.3f}" for across, inside in energies)
        count = build_tiling(run.config, low_res.shape[2:], overlap).count
        print(f"| {name} | {count} | {fields} | {psnr_of_all(x, truth):.2f} dB |", flush=True)

    crops = [low_res[:1].repeat_interleave(2, 2).repeat_interleave(2, 3)]
    for overlap in OVERLAPS:
        x = run.upscale(low_res, overlap=overlap, steps=STEPS, batch_size=16)
        row(f"overlap {overlap:g}", x, overlap)
        if overlap in (0.0, 0.25):
            crops.append(x[:1])
    crops.append(truth[:1])
    near = slice(SIZE // 2 - 48, SIZE // 2 + 48)
    print(f"bicubic: {psnr_of_all(bicubic, truth):.2f} dB")
    path = save_grid(torch.cat(crops)[:, :, near, near], folder / "tiles.png", columns=4, scale=2)
    print(f"\nwrote {path}: low resolution, no overlap, overlap 0.25, truth")


def whole(run: Run, low_res: Tensor, steps: int) -> Tensor:
    """Return data upscaled without tiles, as the network's convolutions allow."""
    plan = run.plan(steps=steps, batch_size=1)
    size = [2 * n for n in low_res.shape[2:]]
    given = {"low_res": low_res}
    return torch.cat([b.x for b in run.sample_batches(len(low_res), plan, given=given, size=size)])


def small(run: Run) -> None:
    """Print what becomes of data smaller than a tile: mirrored up to one, or taken as it is."""
    generator = np.random.default_rng(2)
    items = plane(19, digits()[TRAINED_ON:], generator)
    print("\n| size | mirrored | unchanged | bicubic |\n|---|---|---|---|")
    for size in (28, 20, 12):
        corners = generator.integers(0, len(items) - size, (128, 2))
        stored = np.stack([items[a : a + size, b : b + size] for a, b in corners])
        truth = to_model_range(stored[:, None], 8)
        low_res = round_to_levels(shrink_box(truth, (2, 2)), 8)
        plan = run.plan(steps=STEPS)
        batches = run.sample_batches(
            len(truth), plan, given={"low_res": low_res}, size=truth.shape[2:]
        )
        as_it_is = torch.cat([batch.x for batch in batches])
        values = (
            run.upscale(low_res, steps=STEPS), as_it_is, enlarge_bicubic(low_res, truth.shape[2:])
        )  # fmt: skip
        fields = " | ".join(f"{psnr_of_all(x, truth):.2f} dB" for x in values)
        print(f"| {size} x {size} | {fields} |", flush=True)


def memory(directory: Path, size: int, tiles: bool) -> None:
    """Print the peak memory of this process in MB after making one picture of a size."""
    run = load(directory)
    low_res = torch.zeros(1, 1, size // 2, size // 2)
    if tiles:
        run.upscale(low_res, steps=MEMORY_STEPS, batch_size=16)
    else:
        whole(run, low_res, MEMORY_STEPS)
    # Not ru_maxrss, which of a child begins with what its parent had.
    status = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in status if line.startswith("VmHWM"))
    print(int(peak) // 1024)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--run", type=Path, default=Path("runs/benchmarks/tiles/run"))
    parser.add_argument("--planes", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    parser.add_argument("--size", type=int, help="only the memory of one size")
    parser.add_argument("--whole", action="store_true", help="without tiles")
    arguments = parser.parse_args()
    if arguments.size is not None:
        memory(arguments.run, arguments.size, not arguments.whole)
        return
    run = trained(arguments.run)
    print(processor())
    seams(run, arguments.planes, arguments.out)
    small(run)
    print("\n| size | tiles of 32, 16 at a time | without tiles |\n|---|---|---|")
    for size in (32, 128, 256, 512, 1024):
        peaks = []
        for extra in ([], ["--whole"]):
            if extra and size > SIZE:  # attention over all of it would take hours
                peaks.append("-")
                continue
            command = [sys.executable, __file__, "--run", str(arguments.run), "--size", str(size)]
            done = subprocess.run([*command, *extra], capture_output=True, text=True, check=False)
            peaks.append(f"{done.stdout.strip()} MB" if done.returncode == 0 else "failed")
        print(f"| {size} x {size} | {' | '.join(peaks)} |", flush=True)


if __name__ == "__main__":
    main()
