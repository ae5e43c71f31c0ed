"""Restoration: what each method draws of Gaussian data, and how near digits come to the truth.

iddpm demo --out runs/demo                   # a small model of digits
python benchmarks/restoration.py             # restores its held-out digits
python benchmarks/restoration.py --gaussian  # exact numbers for Gaussian data alone

The numbers stand in ``docs/restoration.md``.
"""

import argparse
import math
import time
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from iddpm.builders.load_choice import load as load_choice
from iddpm.builders.run_data import shuffled
from iddpm.builders.sampling_plan import settings_for_inpainting
from iddpm.config.choices import RESTORATIONS
from iddpm.data.levels import to_model_range
from iddpm.data.writers.image_files import save_grid
from iddpm.diffusion import Denoise, Level, Prediction, cosine
from iddpm.evaluation.fidelity import psnr
from iddpm.runs.run import Run, load
from iddpm.sampling import DPMSolverPP, log_snr_timesteps, sample
from iddpm.sampling.operators import Downscale, Mask, Operator, Subsample
from iddpm.sampling.restoration import mmps
from iddpm.sampling.spectral_operators import Convolution, gaussian_kernel
from iddpm.tasks.restoration_report import baselines

LENGTH = 16
STEPS = 100


def exact(mean: Tensor, covariance: Tensor) -> Denoise:
    """Return E[x0 | x_t] of Gaussian data [N, 1, L]."""
    eye = torch.eye(len(mean), dtype=torch.float64)

    def denoise(x_t: Tensor, level: Level, /) -> Prediction:
        alpha_bar = level.alpha_bar.reshape(-1, 1, 1)
        gain = alpha_bar.sqrt() * torch.linalg.solve(
            alpha_bar * covariance + (1 - alpha_bar) * eye, covariance
        )
        x0 = mean + (x_t - alpha_bar.sqrt() * mean) @ gain
        return Prediction(x0, (x_t - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt())

    return denoise


def gaussian(correlation: float, noise: float) -> None:
    """Print how far mean and variance of what is drawn are from the posterior's, exactly.

    A deterministic sampler is affine in its noise, also with the gradients of an affine model, so
    that its mean and covariance are read off its values at 0 and at the unit vectors.
    """
    place = torch.arange(LENGTH, dtype=torch.float64)
    covariance = 0.25 * correlation ** (place[:, None] - place).abs()
    mean = 0.5 * torch.sin(place)
    generator = torch.Generator().manual_seed(0)
    truth = mean + torch.linalg.cholesky(covariance) @ torch.randn(
        LENGTH, generator=generator, dtype=torch.float64
    )
    shape = (1, LENGTH)
    operators: dict[str, Operator] = {
        "half missing": Mask(shape, torch.rand(shape, generator=generator) < 0.5),
        "every 2nd": Subsample(shape, (2,)),
        "blur of 1": Convolution(shape, gaussian_kernel(1.0, 1)),
    }
    whole = cosine(1000)
    schedule = whole.respace(log_snr_timesteps(whole, STEPS, sigma_max=80.0))
    start = torch.cat([torch.zeros(1, LENGTH), torch.eye(LENGTH)]).double()[:, None]
    for name, operator in operators.items():
        y = operator.forward(truth.reshape(1, *shape))
        basis = torch.eye(LENGTH, dtype=torch.float64)[:, None]
        a = operator.forward(basis).flatten(1).T
        middle = a @ covariance @ a.T + noise**2 * torch.eye(len(a), dtype=torch.float64)
        gain = covariance @ a.T @ torch.linalg.pinv(middle)
        wanted, spread = mean + gain @ (y.flatten() - a @ mean), covariance - gain @ a @ covariance
        variants = {method: load_choice(row.home) for method, row in RESTORATIONS.items()}
        variants["mmps, solved exactly"] = partial(mmps, solves=LENGTH, ridge=0.0)
        for method, restored in variants.items():
            model = restored(exact(mean, covariance), operator, noise)
            rows = y.expand(len(start), *y.shape[1:])
            ends = sample(DPMSolverPP(2), model, schedule, start, measured=rows)[:, 0]
            slopes = ends[1:] - ends[:1]
            # In units of the posterior's own deviation, over all positions.
            scale = spread.trace()
            error = math.sqrt(float((ends[0] - wanted).square().sum() / scale))
            variance = float((slopes.T @ slopes).trace() / scale)
            print(
                f"| {correlation:g} | {name} | {method} | {error:.3f} | {variance:.3f} |",
                flush=True,
            )


def digits(run: Run, items: int, samples: int, folder: Path, **settings: object) -> None:
    """Print the PSNR of restored held-out digits beside that of estimates without a model."""
    split = run.open_split()
    chosen = shuffled(split.held_out)[:items]  # they are in the order of their classes
    truth = to_model_range(split.source.read_many(chosen), split.source.bits)
    generator = torch.Generator().manual_seed(0)
    shape = run.shape
    half = Mask(shape, torch.rand(shape[1:], generator=generator)[None] < 0.5)
    cases: dict[str, tuple[Operator, float]] = {
        "half of the pixels missing": (half, 0.0),
        "blur of width 1.5, noise 0.05": (Convolution(shape, gaussian_kernel(1.5, 2)), 0.05),
        "every 2nd pixel": (Subsample(shape, (2, 2)), 0.0),
        "means of 4 x 4": (Downscale(shape, (4, 4)), 0.0),
    }
    plan = run.plan(**settings_for_inpainting(settings))
    print(f"{items} held-out digits, {samples} samples of each: {plan}")
    names = [f"{m}, {k}" for m in RESTORATIONS for k in ("one", f"mean of {samples}")]
    print("| measured | without a model | " + " | ".join(names) + " |")
    print("| --- " * (2 + len(names)) + "|", flush=True)
    pictures = []
    for name, (operator, noise) in cases.items():
        y = operator.forward(truth)
        y = y + noise * torch.randn(y.shape, generator=generator)
        known = baselines(operator, y, noise)
        best, value = max(
            ((k, psnr(x, truth).value) for k, x in known.items()), key=lambda pair: pair[1]
        )
        fields, drawn = [f"{value:.2f} ({best})"], []
        for method in RESTORATIONS:
            start = time.perf_counter()
            x = torch.stack(
                [
                    run.restore(y, operator, method=method, noise=noise, seed=k, **settings)
                    for k in range(samples)
                ]
            )
            seconds = time.perf_counter() - start
            fields += [f"{psnr(x[0], truth).value:.2f}", f"{psnr(x.mean(0), truth).value:.2f}"]
            drawn.append(x[0])
            print(f"# {name}, {method}: {seconds:.1f} s", flush=True)
        print(f"| {name} | " + " | ".join(fields) + " |", flush=True)
        shown = operator.inverse(y) if y.shape != truth.shape else y
        pictures += [shown[:6], drawn[0][:6]]
    pictures.append(truth[:6])
    folder.mkdir(parents=True, exist_ok=True)
    path = save_grid(torch.cat(pictures), folder / "restoration.png", columns=6, scale=2)
    print(f"\nwrote {path}: measured and restored by the default in turn, truth last")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--gaussian", action="store_true")
    parser.add_argument("--run", type=Path, default=Path("runs/demo"))
    parser.add_argument("--items", type=int, default=20)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    options = parser.parse_args()
    print("| correlation | measured | method | error of the mean | variance |")
    print("| --- | --- | --- | --- | --- |")
    for correlation in (0.0, 0.9):
        gaussian(correlation, 0.05)
    if not options.gaussian:
        print()
        digits(load(options.run), options.items, options.samples, options.out, steps=options.steps)


if __name__ == "__main__":
    main()
