"""Compare super-resolution of the data itself with that of its residual, on slices of a brain scan.

python -m benchmarks.residual

Trains the same small network for 250 steps on crops of 32 x 32 voxels, whose resolution is halved,
and prints the PSNR of one sample, of means of several and of one evaluation on crops of a slab that
lies 4 mm from the training's. The table stands in ``docs/super_resolution.md``.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import iddpm
from benchmarks.runs.common import installed, table
from benchmarks.runs.volumes import COMMAND, FILE
from iddpm.builders import held_out_low_res
from iddpm.evaluation.fidelity import psnr
from iddpm.tasks.pairs import interpolated

SIZE, STEPS, EVALUATIONS, AVERAGE, TESTED = 32, 250, 15, 8, 64
TRAINED_SLICES, TEST_SLICES = [*range(30, 56), *range(80, 130)], list(range(60, 76))
BASE = (
    "task=super_resolution", "scale=2", "data.layout=NHW", "data.held_out=0.01",
    "model.model_channels=16", "model.num_res_blocks=1", "model.channel_mult=[1,2]",
    "model.attention_downsampling=[]", "model.group_channels=4", "diffusion.predicts=v",
    "training.batch_size=16", f"training.steps={STEPS}", "training.learning_rate=1e-3",
    "training.warmup_steps=20", "training.anneal=linear", "training.ema_rates=[0.98]",
    "training.timestep_sampler=low_discrepancy", "training.precision=float32",
    "training.preview_every=0", "training.validate_every=0",
)  # fmt: skip
WAYS = {
    "the data": ("diffusion.residual=false",),
    "the residual": ("training.pure_noise_share=0",),
    "the residual, an eighth at pure noise": (),
}


def crops(
    scan: NDArray[np.float32], slices: list[int], count: int, seed: int
) -> NDArray[np.float32]:
    """Return crops [N, 32, 32] that are not mostly air."""
    random, found = np.random.default_rng(seed), list[NDArray[np.float32]]()
    while len(found) < count:
        z = random.choice(slices)
        i, j = (random.integers(0, n - SIZE) for n in scan.shape[:2])
        crop = scan[i : i + SIZE, j : j + SIZE, z]
        if (crop > -0.9).mean() > 0.5:
            found.append(crop)
    return np.stack(found)


def measured(name: str, settings: tuple[str, ...], data: Path, truth: Tensor) -> list[str]:
    """Train a model and return its row."""
    run = iddpm.train(data, out=data.parent / name, settings=[*BASE, *settings])
    low_res = held_out_low_res(run.config, truth, range(len(truth)))
    given, at_once = {"low_res": low_res}, len(truth)

    def draw(seed: int, steps: int) -> Tensor:
        x = run.sample(at_once, seed=seed, given=given, steps=steps, batch_size=at_once)
        return x.clamp(-1, 1)

    samples = torch.stack([draw(seed, EVALUATIONS) for seed in range(AVERAGE)])
    found = [samples[:n].mean(dim=0) for n in (1, 2, 4, 8)]
    bicubic = interpolated(run.config, low_res)["bicubic"]
    ways = [*found, draw(0, 1), bicubic]
    return [name, *(f"{psnr(x, truth).value:.2f}" for x in ways)]


def main() -> None:
    """Print the table."""
    scan = nib.load(installed("nilearn", FILE, COMMAND)).get_fdata().astype(np.float32)
    scan = np.clip(scan / np.percentile(scan, 99.9), 0, 1) * 2 - 1
    truth = torch.from_numpy(crops(scan, TEST_SLICES, TESTED, 1))[:, None]
    with TemporaryDirectory() as folder:
        data = Path(folder) / "crops.npz"
        np.savez(data, arr_0=crops(scan, TRAINED_SLICES, 3000, 0))
        rows = [measured(name, settings, data, truth) for name, settings in WAYS.items()]
    counts = [f"mean of {n}" for n in (2, 4, 8)]
    print(table([["diffused", "one sample", *counts, "one evaluation", "bicubic"], *rows]))


if __name__ == "__main__":
    main()
